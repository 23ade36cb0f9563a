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
from styletryon.training.logging import MetricsLog, ProgressLine, read_log


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


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


def test_line_on_a_terminal_is_rewritten_in_place() -> None:
    stream, clock = Terminal(), Clock()
    with ProgressLine(100, stream=stream, clock=clock) as line:
        for step in range(1, 51):
            clock.now += 1
            line.update(step, pictures=8 * step, losses={"G": 1.23456, "D": 0.5})
    text = stream.getvalue()
    assert text.count("\r") == 50
    assert text.count("\n") == 1
    last = text.split("\r")[-1]
    assert last == "step 50/100  50% | 400 pictures | 8.0 img/s | 0:00:50 left | G 1.23 D 0.5\n"


def test_a_shorter_line_covers_a_longer_one() -> None:
    stream, clock = Terminal(), Clock()
    line = ProgressLine(10, stream=stream, clock=clock)
    clock.now += 1
    line.update(1, pictures=8, losses={"a long name": 123456.0})
    clock.now += 1
    line.update(2, pictures=16)
    first, second = stream.getvalue().split("\r")[1:]
    assert len(second) == len(first)


def test_a_terminal_is_not_flooded() -> None:
    stream, clock = Terminal(), Clock()
    line = ProgressLine(10_000, stream=stream, clock=clock)
    for step in range(1, 1001):
        clock.now += 0.001
        line.update(step, pictures=step)
    assert stream.getvalue().count("\r") <= 7


def test_elsewhere_a_line_every_interval_and_the_last() -> None:
    stream, clock = io.StringIO(), Clock()
    line = ProgressLine(100, stream=stream, interval=30, clock=clock)
    for step in range(1, 101):
        clock.now += 1
        line.update(step, pictures=step)
    line.close()
    line.close()
    lines = stream.getvalue().splitlines()
    assert [int(text.split("/")[0].removeprefix("step ")) for text in lines] == [1, 31, 61, 91, 100]
    assert "\r" not in stream.getvalue()


def test_after_a_resume_the_speed_is_that_of_now() -> None:
    stream, clock = io.StringIO(), Clock()
    line = ProgressLine(2000, start=1000, stream=stream, interval=0, clock=clock)
    for step in range(1001, 1011):
        clock.now += 2
        line.update(step, pictures=16 * step)
    assert "8.0 img/s | 0:33:00 left" in stream.getvalue().splitlines()[-1]


def test_the_speed_follows_the_last_minute() -> None:
    stream, clock = io.StringIO(), Clock()
    line = ProgressLine(1000, stream=stream, interval=0, clock=clock)
    for step in range(1, 101):
        clock.now += 10 if step <= 20 else 1
        line.update(step, pictures=step)
    assert "1.0 img/s | 0:15:00 left" in stream.getvalue().splitlines()[-1]


def test_counts_and_days_read_well() -> None:
    stream, clock = io.StringIO(), Clock()
    line = ProgressLine(1_000_000, stream=stream, interval=0, clock=clock)
    clock.now += 1
    line.update(1, pictures=25_000)
    clock.now += 1
    line.update(2, pictures=3_210_000)
    first, second = stream.getvalue().splitlines()
    assert "| 25.0k pictures |" in first
    assert "11d 13:46:39 left" in first
    assert "| 3.2M pictures |" in second


def test_a_closed_stream_stops_nothing() -> None:
    stream, clock = Terminal(), Clock()
    line = ProgressLine(10, stream=stream, clock=clock)
    stream.close()
    clock.now += 1
    line.update(1, pictures=1)
    line.update(2, pictures=2)
    line.close()


def test_line_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    line = ProgressLine(1)
    line.update(1, pictures=1)
    line.close()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("step 1/1 100% | 1 pictures")
