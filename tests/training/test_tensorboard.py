"""What the real package reads of the events, and what is said where it is missing."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from styletryon.errors import DependencyError, StyleTryOnError
from styletryon.training import TensorBoardCallback
from styletryon.training.sheets import sheet_files


def read(folder: Path) -> Any:
    """Everything that TensorBoard itself would show of a folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package's own
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(folder))
        events.Reload()
    return events


def curve(events: Any, name: str) -> list[tuple[int, float]]:
    return [(event.step, round(event.value, 6)) for event in events.Scalars(name)]


def test_numbers_and_sheets_are_shown(tmp_path: Path) -> None:
    trainer: Any = SimpleNamespace(out=tmp_path, step=0)
    callback = TensorBoardCallback()
    callback.on_start(trainer)
    for trainer.step in (100, 200):
        callback.on_log(trainer, {"step": trainer.step, "pictures": 8 * trainer.step, "pixel": 0.5, "note": "text",
                                  "wave": float("nan")})  # fmt: skip
    file = sheet_files(tmp_path, 200)["poses"]
    file.parent.mkdir()
    Image.new("RGB", (30, 20), (255, 0, 0)).save(file)
    callback.on_sample(trainer)
    callback.on_end(trainer, True)
    callback.on_end(trainer, True)
    events = read(tmp_path / "tensorboard")
    assert set(events.Tags()["scalars"]) == {"pictures", "pixel"}
    assert curve(events, "pixel") == [(100, 0.5), (200, 0.5)]
    assert [(image.step, image.width, image.height) for image in events.Images("poses")] == [(200, 30, 20)]


def test_a_resumed_run_goes_on_in_the_same_curves(tmp_path: Path) -> None:
    for start, value in ((0, 1.0), (200, 2.0)):
        trainer: Any = SimpleNamespace(out=tmp_path, step=start)
        callback = TensorBoardCallback(tmp_path / "events")
        callback.on_start(trainer)
        for trainer.step in (start + 100, start + 200, start + 300):
            callback.on_log(trainer, {"step": trainer.step, "pixel": value})
        callback.on_end(trainer, False)
    expected = [(100, 1.0), (200, 1.0), (300, 2.0), (400, 2.0), (500, 2.0)]
    assert curve(read(tmp_path / "events"), "pixel") == expected


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(DependencyError, match=r"pip install 'styletryon\[tensorboard\]'") as caught:
        TensorBoardCallback()
    assert isinstance(caught.value, ImportError)
    assert isinstance(caught.value, StyleTryOnError)
