"""A fitting room on a tiny generator."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from styletryon.app import FittingRoom
from styletryon.app.wardrobe import Choice
from styletryon.data import paperdoll
from styletryon.labels import GARMENTS, REGIONS
from styletryon.pose import Pose
from tests._support.tiny import tiny_generator, tiny_pose

SIZE = (160, 120)


@pytest.fixture(scope="session")
def room() -> FittingRoom:
    return FittingRoom(tiny_generator())


@pytest.fixture(scope="session")
def region(room: FittingRoom) -> str:
    """A region that the untrained generator draws on everybody of the wardrobe."""
    assert set(REGIONS["full"]) == set(GARMENTS)
    return "full"


def choice(seed: int, name: str = "") -> Choice:
    """A picture in colours of its own, of somebody whose pose is known."""
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 24, 3), dtype=np.uint8)
    pose: Pose = tiny_pose(1, (32, 24), seed)
    return Choice(Image.fromarray(pixels), name or f"random {seed}", pose)


def png(seed: int) -> bytes:
    """The file of a rendered person's picture."""
    file = io.BytesIO()
    Image.fromarray(paperdoll.render(paperdoll.sample_figure(seed), SIZE).image).save(file, "png")
    return file.getvalue()


def write_png(seed: int, folder: Path) -> Path:
    path = folder / f"{seed}.png"
    path.write_bytes(png(seed))
    return path
