"""From a folder of pictures to a try-on: prepare, train, try on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from styletryon import load_model
from tests.tutorials.pages import follow

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    *_, report = follow("Train on a folder of 50 pictures", folder)
    assert np.isfinite(float(report.split()[0]))
    return folder


def test_most_pictures_are_prepared(folder: Path) -> None:
    assert len(list((folder / "photos").iterdir())) == 50
    split = json.loads((folder / "data" / "split.json").read_text(encoding="utf-8"))
    assert len(split["train"]) + len(split["val"]) > 40
    assert split["val"]


def test_it_learns(folder: Path) -> None:
    rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert rows[-1]["pictures"] == 600
    assert rows[-1]["pixel"] < 0.8 * rows[0]["pixel"]
    assert (folder / "run" / "curves.png").exists()
    assert list((folder / "run" / "samples").iterdir())


def test_the_result_tries_on(folder: Path) -> None:
    assert load_model(folder / "run" / "model").image_size == (32, 24)
    with Image.open(folder / "tryon.png") as tryon, Image.open(folder / "photos" / "person0.jpg") as person:
        assert tryon.size == person.size == (384, 512)
        assert np.abs(np.asarray(tryon, float) - np.asarray(person, float)).mean() > 1, "something was put on"
