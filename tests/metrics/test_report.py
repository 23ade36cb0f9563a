"""The report as a table, as JSON and on the disk."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from styletryon._version import __version__
from styletryon.errors import SaveError
from styletryon.metrics.measures import bootstrap
from styletryon.metrics.report import EvaluationReport, compare, summarise, versions

VALUES = {
    "ours": {"fg_psnr": [20.0, 22.0, 24.0], "uncovered_psnr": [math.nan, 18.0, 19.0], "seconds": [1.0, 1.0, 1.0]},
    "swap": {"fg_psnr": [19.0, 20.0, 24.0], "uncovered_psnr": [math.nan, 12.0, 13.0], "seconds": [0.1, 0.1, 0.1]},
    "empty": {"fg_psnr": [math.nan] * 3},
}


@pytest.fixture
def report() -> EvaluationReport:
    return EvaluationReport(
        what="pairs",
        settings={"pairs": 3, "region": "top", "seed": 5, "model": "abc", "size": [32, 24]},
        methods=summarise(VALUES, seed=5),
        gaps=compare(VALUES, (("ours", "swap"), ("ours", "oracle")), seed=5),
        values=VALUES,
    )


def test_summary_counts_what_was_measured(report: EvaluationReport) -> None:
    assert report["ours"]["fg_psnr"] == bootstrap([20.0, 22.0, 24.0], seed=5)
    assert report["ours"]["uncovered_psnr"].n == 2
    assert report.methods["empty"] == {}


def test_differences_are_of_the_same_pairs(report: EvaluationReport) -> None:
    assert list(report.gaps) == ["ours - swap"]
    assert report.gaps["ours - swap"]["fg_psnr"].mean == pytest.approx(1.0)
    assert report.gaps["ours - swap"]["uncovered_psnr"].mean == pytest.approx(6.0)
    assert "seconds" not in report.gaps["ours - swap"]


def test_table_has_a_line_per_method(report: EvaluationReport) -> None:
    lines = report.table().splitlines()
    assert lines[0] == "pairs: pairs 3, region top, seed 5, model abc, 32x24 pixels"
    assert lines[2].split() == ["fg", "uncovered"]
    assert lines[3].split() == ["method", "psnr", "psnr", "seconds"]
    assert lines[4].startswith("ours")
    assert "22.00 ±" in lines[4]
    assert lines[6].split() == ["empty", "-", "-", "-"]
    assert lines[-1].startswith("ours - swap")
    assert max(len(line) for line in lines) < 120


def test_json_holds_everything_and_no_nan(report: EvaluationReport) -> None:
    def refuse(name: str) -> float:
        raise AssertionError(name)

    document = json.loads(report.to_json(), parse_constant=refuse)
    assert document["what"] == "pairs"
    assert document["settings"]["seed"] == 5
    assert document["methods"]["ours"]["fg_psnr"]["mean"] == pytest.approx(22.0)
    assert set(document["methods"]["ours"]["fg_psnr"]) == {"mean", "low", "high", "n"}
    assert document["values"]["ours"]["uncovered_psnr"] == [None, 18.0, 19.0]
    assert document["gaps"]["ours - swap"]["fg_psnr"]["n"] == 3


def test_save_makes_the_folder_and_refuses_one(report: EvaluationReport, tmp_path: Path) -> None:
    report.save(tmp_path / "new" / "report.json")
    assert json.loads((tmp_path / "new" / "report.json").read_text())["format_version"] == 2
    with pytest.raises(SaveError, match="path: expected the path of a file"):
        report.save(tmp_path)


def test_versions_name_the_software() -> None:
    assert {"styletryon", "torch", "numpy", "python", "platform"} <= set(versions())
    assert versions()["styletryon"] == __version__
