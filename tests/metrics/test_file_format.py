"""The JSON document holds what the guide says, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from styletryon.metrics import (
    EvaluationReport,
    evaluate,
    evaluate_folder,
    evaluate_generator,
    evaluate_table,
    pose_transfer,
)
from styletryon.metrics.report import FORMAT_VERSION
from styletryon.models import PoseStyleGAN2
from tests._support.process import ROOT

GUIDE = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
SECTION = GUIDE.split("## The file\n")[1].split("\n## ")[0]
FIELDS = {
    field: kinds.split(", ")
    for field, kinds in re.findall(r"^\| `([\w.]+)` \| ([\w, ]+) \|", SECTION, flags=re.MULTILINE)
}
KINDS = re.findall(r'"(\w+)"', SECTION.split("\n\n")[0] + SECTION.split("\n\n")[1])


@pytest.fixture(scope="module")
def documents(model: PoseStyleGAN2, folder: Path, table: Path) -> Callable[[str], dict[str, Any]]:
    """The document of a kind of evaluation, made once."""
    made: dict[str, dict[str, Any]] = {}

    def document(kind: str) -> dict[str, Any]:
        if kind not in made:
            made[kind] = json.loads(run(kind, model, folder, table).to_json())
        return made[kind]

    return document


def run(kind: str, model: PoseStyleGAN2, folder: Path, table: Path) -> EvaluationReport:
    quick = {"preset": "fast", "methods": ["noop_photo", "noop"]}
    if kind == "pairs":
        return evaluate(model, pairs=1, **quick)
    if kind == "folder":
        return evaluate_folder(model, folder, pairs=1, **quick)
    if kind == "table":
        return evaluate_table(model, table, **quick)
    if kind == "generator":
        return evaluate_generator(model, folder, pairs=1, preset="fast")
    return pose_transfer(model, pairs=1, preset="fast", data=folder if kind == "pose_folder" else None)


def test_the_guide_lists_every_kind() -> None:
    assert set(KINDS) == {"pairs", "pose", "pose_folder", "folder", "table", "generator"}
    assert {kind for kinds in FIELDS.values() for kind in kinds} == {"all", *KINDS}
    assert f"`format_version` (now {FORMAT_VERSION})" in SECTION


@pytest.mark.parametrize("kind", ["pairs", "pose", "pose_folder", "folder", "table", "generator"])
def test_every_field_is_documented_and_there(kind: str, documents: Callable[[str], dict[str, Any]]) -> None:
    document = documents(kind)
    assert document["what"] == kind
    found = {name for name in document if name != "settings"} | {f"settings.{name}" for name in document["settings"]}
    assert found == {field for field, kinds in FIELDS.items() if kinds == ["all"] or kind in kinds}


@pytest.mark.parametrize(
    ("kind", "field"),
    [("table", "features"), ("table", "faults"), ("table", "rows"), ("generator", "kid_subsets"),
     ("pose", "pose_estimator"), ("folder", "data"), ("folder", "versions")],
)  # fmt: skip
def test_parts_of_a_field_are_documented(kind: str, field: str, documents: Callable[[str], dict[str, Any]]) -> None:
    value = documents(kind)["settings"][field]
    parts = value[0] if isinstance(value, list) else value
    row = next(line for line in SECTION.splitlines() if line.startswith(f"| `settings.{field}`"))
    assert all(re.search(rf"\b{part}\b", row) for part in parts), (parts, row)
