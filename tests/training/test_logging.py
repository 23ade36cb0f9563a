from __future__ import annotations

import csv
import errno
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from styletryon.errors import DataError, SaveError
from styletryon.training import logging as module
from styletryon.training.logging import MetricsLog, ProgressBar, read_log


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_rows_come_back(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "run" / "metrics.jsonl")
    assert log.rows() == []
    log.append(1, {"loss": 0.1, "name": "a"})
    log.append(2, {"loss": torch.tensor(0.5), "n": np.int64(3), "bad": math.nan, "worse": torch.tensor(math.inf)})
    assert log.rows() == [
        {"step": 1, "loss": 0.1, "name": "a"},
        {"step": 2, "loss": 0.5, "n": 3, "bad": None, "worse": None},
    ]
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]


def test_resume_drops_the_rows_that_will_come_again(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "m.jsonl")
    for step in (10, 20, 30, 40):
        log.append(step, {"x": step})
    resumed = MetricsLog(tmp_path / "m.jsonl", resume=20)
    assert [row["step"] for row in resumed.rows()] == [10, 20]
    resumed.append(30, {"x": -30})
    assert [row["x"] for row in MetricsLog(tmp_path / "m.jsonl").rows()] == [10, 20, -30]
    assert MetricsLog(tmp_path / "m.jsonl", resume=0).rows() == []


def test_half_a_last_line_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"step": 1, "x": 2}\n{"step": 2, "x"')
    log = MetricsLog(tmp_path / "m.jsonl")
    log.append(2, {"x": 3})
    assert log.rows() == [{"step": 1, "x": 2}, {"step": 2, "x": 3}]


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "[1]\n", '{"x": 1}\n'])
def test_another_file_is_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.jsonl").write_text(text)
    with pytest.raises(DataError, match="line 1 is no row"):
        MetricsLog(tmp_path / "m.jsonl", resume=0)
    assert (tmp_path / "m.jsonl").read_text() == text


def test_unwritable_log(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    log = MetricsLog(tmp_path / "new" / "m.jsonl")
    (tmp_path / "new").write_text("in the way")
    with pytest.raises(SaveError, match="path: cannot write"):
        log.append(1, {})
    with pytest.raises(SaveError, match="path: cannot read"):
        MetricsLog(tmp_path)


def test_a_row_that_does_not_fit_on_the_disk_leaves_no_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = MetricsLog(tmp_path / "m.jsonl")
    log.append(1, {"x": 1})

    class Full(io.FileIO):
        def write(self, data: object) -> int:
            super().write(b'{"st')
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", lambda path, mode, buffering: Full(path, mode.replace("b", "")))
        with pytest.raises(SaveError, match="No space left"):
            log.append(2, {"x": 2})
    log.append(2, {"x": 3})
    assert log.rows() == [{"step": 1, "x": 1}, {"step": 2, "x": 3}]


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_holds_the_rows_and_grows_columns(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "m.jsonl")
    assert not (tmp_path / "m.csv").exists()
    log.append(1, {"loss": 0.1, "stage": 0})
    log.append(2, {"loss": math.nan, "stage": 0})
    log.append(3, {"stage": 1, "real": 0.5, "note": 'a "b", c'})
    log.append(4, {"loss": 0.3})
    assert table(tmp_path / "m.csv") == [
        {"step": "1", "loss": "0.1", "stage": "0", "real": "", "note": ""},
        {"step": "2", "loss": "", "stage": "0", "real": "", "note": ""},
        {"step": "3", "loss": "", "stage": "1", "real": "0.5", "note": 'a "b", c'},
        {"step": "4", "loss": "0.3", "stage": "", "real": "", "note": ""},
    ]


def test_after_a_resume_the_table_is_that_of_the_rows_that_stay(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "m.jsonl")
    for step in (10, 20, 30):
        log.append(step, {"x": step, **({"late": 1} if step > 20 else {})})
    with open(tmp_path / "m.csv", "a") as file:
        file.write("40,")  # a machine that stopped while it wrote
    resumed = MetricsLog(tmp_path / "m.jsonl", resume=20)
    assert table(tmp_path / "m.csv") == [{"step": "10", "x": "10"}, {"step": "20", "x": "20"}]
    resumed.append(30, {"x": -30, "other": 2})
    assert table(tmp_path / "m.csv")[2] == {"step": "30", "x": "-30", "other": "2"}
    (tmp_path / "m.csv").unlink()
    MetricsLog(tmp_path / "m.jsonl")  # a run from before there were tables
    assert [row["x"] for row in table(tmp_path / "m.csv")] == ["10", "20", "-30"]


def test_reading_a_log_that_is_being_written_leaves_it_alone(tmp_path: Path) -> None:
    text = '{"step": 1, "x": 2}\n{"step": 2, "x"'
    (tmp_path / "m.jsonl").write_text(text)
    assert read_log(tmp_path / "m.jsonl") == [{"step": 1, "x": 2}]
    assert (tmp_path / "m.jsonl").read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["m.jsonl"]
    assert read_log(tmp_path / "none.jsonl") == []
    with pytest.raises(SaveError, match="cannot read"):
        read_log(tmp_path)
    (tmp_path / "m.jsonl").write_text("a,b\n")
    with pytest.raises(DataError, match="line 1"):
        read_log(tmp_path / "m.jsonl")


def test_the_bar_says_how_far_it_is_and_what_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    bar = ProgressBar(4000, seen=1000)
    bar.update(1008)
    bar.show({"pixel": 0.123456})
    bar.update(3000)
    bar.close()
    last = stream.getvalue().split("\r")[-1]
    assert last.startswith(" 75%")
    assert "3.00k/4.00k" in last
    assert "img/s" in last
    assert "pixel=0.123" in last
    assert last.endswith("\n")


@pytest.mark.parametrize(("stream", "times"), [(Terminal(), range(250, 310)), (io.StringIO(), range(2, 4))])
def test_nobody_is_flooded(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, times: range) -> None:
    now = [0.0]
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    bar = ProgressBar(10_000)
    for seen in range(1, 6001):  # a minute
        now[0] += 0.01
        bar.update(seen)
    assert stream.getvalue().count("\r") in times  # five a second, or two a minute, and the first
    bar.close()


@pytest.mark.parametrize(
    "error", [OSError(errno.EPIPE, "Broken pipe"), OSError(errno.EIO, "gone"), ValueError("closed")]
)
def test_a_closed_stream_stops_nothing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    class Closed(io.StringIO):
        broken = False

        def write(self, text: str) -> int:
            if self.broken:
                raise error
            return super().write(text)

    stream = Closed()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(module, "_ELSEWHERE", 0.0)
    bar = ProgressBar(10)
    stream.broken = True
    for seen in range(1, 5):
        bar.update(seen)
    bar.show({"pixel": 1.0})
    bar.close()
