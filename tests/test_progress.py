"""How far a call is: a bar in a terminal, a line per stage elsewhere, and nothing where nobody looks."""

from __future__ import annotations

import io
from typing import Any

import pytest
from tqdm import tqdm

from styletryon._progress import Stages


@pytest.fixture(autouse=True)
def no_other_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bars that are open elsewhere in the process would move those of these tests down a line."""
    monkeypatch.setattr(tqdm, "_instances", type(tqdm._instances)())


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Gone(io.StringIO):
    """A console that has gone away."""

    def write(self, text: str) -> int:
        raise BrokenPipeError

    def isatty(self) -> bool:
        raise ValueError("I/O operation on closed file")


def work(stages: Stages) -> None:
    stages("loading")
    for step in range(61):
        stages("projecting", step, 60)
    for step in range(2):
        stages("composing", step, 1)


def test_without_a_terminal_a_line_per_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    with Stages() as stages:
        work(stages)
        work(stages)
    assert log.getvalue() == "projecting\ncomposing\n"


def test_a_long_stage_has_more_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    with Stages(every=0.0) as stages:
        for step in range(4):
            stages("rows", step, 3)
    assert log.getvalue() == "rows\nrows: 1 of 3\nrows: 2 of 3\n"


def test_a_terminal_shows_a_bar_from_the_first_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with Stages() as stages:
        stages("loading")
        assert "loading: 00:00" in terminal.getvalue()
        stages("projecting", 0, 60)
        assert "projecting:   0%" in terminal.getvalue()
        stages._bar.mininterval = 0
        stages("projecting", 30, 60)
        assert " 30/60 " in terminal.getvalue()
        stages("composing", 0, 1)
        assert "composing:   0%" in terminal.getvalue()
        assert "0step [" not in terminal.getvalue(), "a bar without an end says nothing"
    assert terminal.getvalue().rstrip(" ").endswith("\r"), "the bar is taken away"


@pytest.mark.parametrize("console", [None, Gone()], ids=["none", "gone"])
def test_no_console_costs_nothing(console: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", console)
    with Stages() as stages:
        work(stages)


def test_nothing_is_shown_that_shall_not_be(capsys: pytest.CaptureFixture[str]) -> None:
    with Stages(shown=False) as stages:
        work(stages)
    assert capsys.readouterr() == ("", "")
