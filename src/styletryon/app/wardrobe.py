"""The people that the fitting room comes with: rendered, so that it works with nothing at hand."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import torch
from PIL import Image

from styletryon._reprs import one_line
from styletryon.data import paperdoll
from styletryon.errors import RangeError
from styletryon.photo import decode_image
from styletryon.pose import Pose

SEEDS = (
    20_000_010, 20_000_008, 20_000_006, 20_000_027, 20_000_009, 20_000_013,
    20_000_018, 20_000_001, 20_000_019, 20_000_003, 20_000_024, 20_000_004,
)  # fmt: skip
"""Figures whom no training saw. Some wear dresses: "dress" needs two of those."""

SIZE = (512, 384)
THUMBNAIL = (256, 192)

MAX_SIDE = 1024
"""Uploaded pictures are made smaller than this, so that visitors' pictures do not fill the memory."""


@dataclass(frozen=True, eq=False)
class Choice:
    """A picture of a person that a visitor chose.

    Attributes:
        picture: The picture, mode "RGB".
        key: Equal exactly when picture and pose are.
        pose: The keypoints where they are known; None where they have to be estimated.
        worn: Whether somebody wears the garment that it shows. None to tell by the picture.
    """

    picture: Image.Image
    key: str
    pose: Pose | None = None
    worn: bool | None = None

    __repr__ = one_line


@lru_cache(maxsize=len(SEEDS))
def rendered(index: int) -> Choice:
    """Return one of the wardrobe.

    Args:
        index: Which, from 0.

    Raises:
        RangeError: If there is no such figure.
    """
    if not 0 <= index < len(SEEDS):
        raise RangeError(f"expected 0 to {len(SEEDS) - 1}, got {index}", argument="index")
    figure = paperdoll.render(paperdoll.sample_figure(SEEDS[index]), SIZE)
    pose = Pose(torch.from_numpy(figure.keypoints), SIZE)
    return Choice(Image.fromarray(figure.image), f"rendered {index}", pose)


def thumbnails() -> list[Image.Image]:
    """Render the wardrobe small."""
    figures = [paperdoll.render(paperdoll.sample_figure(seed), THUMBNAIL) for seed in SEEDS]
    return [Image.fromarray(figure.image) for figure in figures]


def uploaded(content: bytes, name: str) -> Choice:
    """Read an uploaded picture.

    Args:
        content: What the file holds.
        name: "person" or "garment", for messages.

    Raises:
        ImageError: If it is no picture, damaged, or of a size that cannot be used.
    """
    picture = decode_image(content, name=name)
    picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    return Choice(picture, key_of(picture))


def key_of(picture: Image.Image) -> str:
    """A text that is equal exactly when the pictures, mode "RGB", are."""
    return hashlib.sha256(picture.tobytes() + repr(picture.size).encode()).hexdigest()
