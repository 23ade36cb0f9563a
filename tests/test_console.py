"""Consoles that cannot show what is printed, that have gone, or that never were."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from PIL import Image

import styletryon
from styletryon import cli
from styletryon.cli._console import usable_console
from styletryon.data import paperdoll
from styletryon.training.logging import ProgressBar
from tests._support.process import run_python
from tests._support.tiny import tiny_generator


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    tiny_generator().save_pretrained(folder / "model")
    for number in (40, 41):
        figure = paperdoll.render(paperdoll.sample_figure(number), (96, 72))
        Image.fromarray(figure.image).save(folder / f"{number}.png")
    return folder


class Gone(io.StringIO):
    """A console that was closed."""

    def write(self, text: str) -> int:
        raise OSError("the console has gone")

    flush = close = lambda self: (_ for _ in ()).throw(OSError("the console has gone"))  # type: ignore[assignment]

    def __del__(self) -> None:
        pass


@pytest.mark.parametrize("stream", [None, Gone()], ids=["none", "gone"])
def test_progress_without_a_console_costs_no_result(
    stream: io.StringIO | None, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    person, garment = photos / "40.png", photos / "41.png"
    result = styletryon.try_on(
        person, garment, model=photos / "model", region=range(1, 12), preset="fast", progress=True
    )
    assert result.image.size == (72, 96)
    bar = ProgressBar(3)
    bar.update(1)
    bar.close()


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_name_that_the_console_cannot_show_costs_no_result(encoding: str, photos: Path, tmp_path: Path) -> None:
    out, environment = tmp_path / "出力.png", {"PYTHONIOENCODING": encoding}
    ended = run_python("-m", "styletryon", "generate", "--model", photos / "model", "-o", out, environment=environment)
    assert ended.returncode == 0, ended.stderr
    assert out.is_file()
    assert "\\u51fa\\u529b.png" in ended.stdout
    arguments = ("try-on", tmp_path / "無い.png", tmp_path / "無い.png", "-o", out)
    ended = run_python("-m", "styletryon", *arguments, environment=environment)
    assert ended.returncode == 2
    assert "no such file" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_command_line_runs_without_a_console(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    status = cli.main(["generate", "-o", str(tmp_path / "a.png"), "--model", str(photos / "model"), "--threads", "1"])
    assert status == 0
    assert cli.main(["generate", "-o", str(tmp_path / "a.png"), "--count", "0"]) == 2
    assert sys.stdout is sys.stderr is None
    assert (tmp_path / "a.png").is_file()


def test_streams_are_as_before_after_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    monkeypatch.setattr(sys, "stdout", stream)
    with usable_console():
        print("出", end="")
        stream.flush()
    assert stream.buffer.getvalue() == b"\\u51fa"  # type: ignore[attr-defined]
    assert stream.errors == "strict"
    assert sys.stdout is stream
