"""What can be known is said before anything is computed, and what is finished is never lost: the command line."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import styletryon
from styletryon import cli
from styletryon.batch import BatchSummary, RowOutcome
from styletryon.cli._paths import Results
from styletryon.errors import ProcessGroupError, SaveError, TrainingDivergedError
from tests._support.process import run_python

MISTAKES: dict[str, tuple[list[str], str]] = {
    "person": (["try-on", "no.jpg", "two.png", "-o", "out.png"], "person: no such file: 'no.jpg'"),
    "garment": (["try-on", "one.png", "no.jpg", "-o", "out.png"], "garment: no such file: 'no.jpg'"),
    "picture": (["project", "no.jpg", "-o", "out.safetensors"], "picture: no such file"),
    "top": (["try-on", "one.png", "--top", "no.jpg", "-o", "out.png"], "--top: no such file: 'no.jpg'"),
    "dress and bottom": (["try-on", "one.png", "--dress", "two.png", "--bottom", "two.png", "-o", "out.png"],
                         "garment: expected garments that can be worn together, got 'bottom' and 'dress', which both"),
    "region of an outfit": (["try-on", "one.png", "--top", "two.png", "--region", "bottom", "-o", "out.png"],
                            "--region: expected none beside an outfit"),
    "pose of an outfit": (["try-on", "one.png", "--top", "two.png", "--garment-pose", "p.json", "-o", "out.png"],
                          "--garment-pose: expected none beside an outfit"),
    "garment as output": (["try-on", "one.png", "--top", "two.png", "-o", "two.png"],
                          "--out: expected another file than that of --top"),
    "no picture": (["try-on", "one.png", "table.csv", "-o", "out.png"], "garment: 'table.csv' is not a picture"),
    "table": (["try-on-batch", "no.csv", "-o", "out"], "table: no such file or folder: 'no.csv'"),
    "data": (["train", "no", "--out", "run"], "data: no such file or folder: 'no'"),
    "config": (["train", ".", "--out", "run", "--config", "no.json"], "--config: no such file or folder"),
    "encoder's data": (["train-encoder", "default", "no", "--out", "run"], "data: no such file or folder: 'no'"),
    "photos": (["prepare", "no", "out"], "photos: no such file or folder: 'no'"),
    "labels": (["prepare", ".", "out", "--labels", "no"], "--labels: no such file or folder: 'no'"),
    "pairs": (["evaluate", "--pairs-table", "no.csv"], "--pairs-table: no such file or folder: 'no.csv'"),
    "photographs": (["evaluate", "--data", "no"], "--data: no such file or folder: 'no'"),
    "gif": (["try-on", "one.png", "two.png", "-o", "out.gif"],
            "--out: expected a name that ends in .png, .jpg, .jpeg, .webp, .bmp, .tif or .tiff, got 'out.gif'"),
    "figure": (["try-on", "one.png", "two.png", "-o", "a.png", "--figure", "b"], "--figure: expected a name that ends"),
    "drawing": (["project", "one.png", "-o", "a", "--drawing", "b.doc"], "--drawing: expected a name that ends"),
    "sheet": (["generate", "-o", "out.gif"], "--out: expected a name that ends"),
    "curves": (["curves", ".", "-o", "out.gif"], "--out: expected a name that ends"),
    "folder as picture": (["try-on", "one.png", "two.png", "-o", "folder.png"], "--out: expected the path of a file"),
    "out": (["try-on", "one.png", "two.png", "-o", "one.png/out.png"], "--out: expected a folder that can be made"),
    "report": (["try-on", "one.png", "two.png", "-o", "a.png", "--report", "one.png/r.json"], "--report: expected a f"),
    "batch's out": (["try-on-batch", "table.csv", "-o", "one.png"], "--out: expected a folder that can be made"),
    "latent": (["project", "one.png", "-o", "one.png/out"], "--out: expected a folder that can be made"),
    "people": (["generate", "-o", "one.png/people"], "--out: expected a folder that can be made"),
    "demo": (["demo", "one.png"], "out: expected a folder that can be made"),
    "run": (["train", ".", "--out", "one.png"], "--out: expected a folder that can be made"),
    "encoder's run": (["train-encoder", "default", ".", "--out", "one.png"], "--out: expected a folder that can be"),
    "figures": (["paperdoll", "one.png", "--count", "1"], "out: expected a folder that can be made"),
    "data set": (["prepare", "pictures", "one.png"], "out: expected a folder that can be made"),
    "json": (["evaluate", "--json", "one.png/e.json"], "--json: expected a folder that can be made"),
    "own picture": (["try-on", "one.png", "two.png", "-o", "./one.png"], "--out: expected another file than that of"),
    "two in one": (["try-on", "one.png", "two.png", "-o", "a.png", "--figure", "a.png"], "--figure: expected another"),
    "own latent": (["project", "one.png", "-o", "one.png"], "--out: expected another file than that of picture"),
    "pose": (["try-on", "one.png", "two.png", "-o", "a.png", "--garment-pose", "no.json"], "--garment-pose: no such"),
    "threads": (["try-on", "one.png", "two.png", "-o", "a.png", "--threads", "0"], "--threads: expected at least 1"),
    "count": (["generate", "-o", "a.png", "--count", "0"], "--count: expected at least 1"),
    "port": (["app", "--port", "70000"], "port: expected 1 to 65535, got 70000"),
    "service's port": (["serve", "--port", "0"], "port: expected 1 to 65535, got 0"),
    "service's host": (["serve", "--host", "not-a-host.invalid"], "host, port: expected an address and a free port"),
    "host": (["app", "--host", "not-a-host.invalid"], "host, port: expected an address and a free port"),
}  # fmt: skip
"""What is wrong -> arguments, and how the sentence begins that says so."""

SCRIPT = """
import contextlib, io, json, sys
from styletryon import cli
said = {}
for name, arguments in json.load(open("mistakes.json")).items():
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        status = cli.main(arguments)
    said[name] = [status, errors.getvalue(), "torch" in sys.modules]
    if "torch" in sys.modules:
        break
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """Name of a mistake -> exit status, what was said, and whether torch was there."""
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    pytest.importorskip("python_multipart")
    folder = tmp_path_factory.mktemp("mistakes")
    for name in ("one", "two"):
        Image.new("RGB", (48, 64)).save(folder / f"{name}.png")
    (folder / "table.csv").write_text("person,garment\none.png,two.png\n")
    (folder / "folder.png").mkdir()
    (folder / "pictures").mkdir()
    standing = sorted(folder.iterdir())
    arguments = {name: given for name, (given, _) in MISTAKES.items()}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        arguments["busy port"] = ["app", "--port", str(taken.getsockname()[1])]
        (folder / "mistakes.json").write_text(json.dumps(arguments))
        result = run_python("-c", SCRIPT, folder=folder)
    assert result.returncode == 0, result.stderr
    (folder / "mistakes.json").unlink()
    assert sorted(folder.iterdir()) == standing
    return json.loads(result.stdout)


@pytest.mark.parametrize("name", [*MISTAKES, "busy port"])
def test_a_mistake_is_told_before_torch_is_there(name: str, said: dict[str, list[Any]]) -> None:
    sentence = MISTAKES[name][1] if name in MISTAKES else "host, port: expected an address and a free port"
    assert name in said, "torch came before this"
    status, errors, torch_is_there = said[name]
    assert not torch_is_there
    assert status == 2
    assert sentence in errors
    assert errors.count("\n") == 1


def test_a_folder_that_may_not_be_written_to_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("styletryon._files.os.access", lambda path, mode: Path(path) != tmp_path)
    assert cli.main(["generate", "-o", str(tmp_path / "new" / "one.png")]) == 2
    assert "--out: expected a folder that can be written to" in capsys.readouterr().err


class TestResults:
    """A finished result is written beside where it cannot be written where it was asked for."""

    @pytest.fixture
    def elsewhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """The folder that the command was called in."""
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        return tmp_path / "here"

    def test_as_asked(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        results = Results("try-on")
        assert results.write(tmp_path / "a.txt", lambda path: path.write_text("it")) == tmp_path / "a.txt"
        assert results.status == 0
        assert capsys.readouterr() == ("", "")

    @pytest.mark.parametrize("working", ["beside", "here", "temporary"])
    def test_the_next_place_that_can_be_written(
        self, working: str, tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        places = {"beside": tmp_path, "here": elsewhere, "temporary": tmp_path / "temporary"}
        places["temporary"].mkdir()
        monkeypatch.setattr("tempfile.gettempdir", lambda: str(places["temporary"]))
        (places[working] / "a-2.png").write_text("somebody's")

        def save(path: Path) -> None:
            if path.parent != places[working] or path.name == "a.png":
                raise SaveError("cannot write: disk full", argument="path")
            path.write_text("it")

        results = Results("try-on")
        written = results.write(tmp_path / "a.png", save)
        assert written == places[working] / "a-3.png"
        assert written.read_text() == "it"
        assert (places[working] / "a-2.png").read_text() == "somebody's"
        assert results.status == 1
        assert capsys.readouterr().err == (
            f"styletryon try-on: path: cannot write: disk full; it is in {str(written)!r} instead\n"
        )

    def test_nowhere(self, tmp_path: Path) -> None:
        def save(path: Path) -> None:
            raise SaveError(f"cannot write {path.name}")

        with pytest.raises(SaveError, match=r"cannot write a.png"):
            Results("try-on").write(tmp_path / "a.png", save)

    def test_a_picture_whose_folder_vanished(
        self, tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "out" / "people.png"

        class Model:
            def draw(self, latent: Any) -> Any:
                out.parent.write_text("a file where the folder was to be")
                return type("Drawing", (), {"image": styletryon.photo.to_tensor(Image.new("RGB", (24, 32)))[None]})

        monkeypatch.setattr(styletryon, "load_model", lambda *_, **__: Model())
        monkeypatch.setattr(styletryon, "generate", lambda **_: None)
        assert cli.main(["generate", "-o", str(out)]) == 1
        assert np.asarray(Image.open(elsewhere / "people-2.png")).shape == (32, 24, 3)
        captured = capsys.readouterr()
        assert captured.out == f"{elsewhere / 'people-2.png'}\n"
        assert "cannot write" in captured.err


class TestExitStatus:
    """0 all done, 1 some of it failed, 2 wrong use."""

    @pytest.mark.parametrize(
        ("statuses", "expected"), [(["done", "done"], 0), (["done", "failed"], 1), (["failed", "failed"], 1)]
    )
    def test_a_table_with_rows_that_failed(
        self, statuses: list[Any], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        outcomes = tuple(RowOutcome(f"k{line}", line, status) for line, status in enumerate(statuses))
        monkeypatch.setattr("styletryon.batch.try_on_table", lambda *_, **__: BatchSummary(outcomes, 0))
        (tmp_path / "table.csv").write_text("person,garment\n")
        arguments = ["try-on-batch", str(tmp_path / "table.csv"), "-o", str(tmp_path / "out"), "--quiet"]
        assert cli.main(arguments) == expected
        assert len(json.loads((tmp_path / "out" / "summary.json").read_text())["outcomes"]) == 2

    @pytest.mark.parametrize("error", [TrainingDivergedError, ProcessGroupError])
    def test_work_that_broke_off(
        self, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        def broken(*_: Any, **__: Any) -> None:
            raise error("no longer learns")

        monkeypatch.setattr("styletryon.training.train", broken)
        assert cli.main(["train", str(tmp_path), "--out", str(tmp_path / "run"), "--preset", "tiny"]) == 1
        assert capsys.readouterr().err == "styletryon train: no longer learns\n"

    def test_it_is_documented(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            cli.main(["--help"])
        assert "Exit status: 0 all done, 1 some of it failed, 2 wrong use" in " ".join(capsys.readouterr().out.split())


@pytest.fixture(autouse=True)
def _threads_stay() -> Iterator[None]:
    """Commands set the threads of their process, which is the tests' own here."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
