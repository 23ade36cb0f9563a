"""TryOnLayers: the parts of a try-on between two photographs, so that they can be looked at and changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from styletryon._reprs import one_line

_STRIP = 1_000_000
"""How many of a photograph's pixels are changed at a time: a large one and all that it takes would fill the memory."""


class Shows(IntEnum):
    """What a pixel of a try-on shows."""

    PERSON = 0
    """What the photograph showed there."""
    BACKGROUND = 1
    """Background that the old garment hid, continued from around it."""
    OWN = 2
    """Other clothes of the person that the old garment hid, continued likewise."""
    SKIN = 3
    """Skin that is bared: as the garment's wearer shows it there, in the person's colours, or the person's own."""
    CLOTH = 4
    """The new garment, as its photograph shows it."""
    FRONT = 5
    """What lies before the new garment, as the photograph showed it."""


@final
@dataclass(frozen=True, eq=False, repr=False)
class TryOnLayers:
    """The parts of a try-on, over the part of the person's photograph that shows the person: an immutable value.

    Attributes:
        box: Left, top, right and bottom of that part in the photograph's pixels.
        layout: `(h, w)` uint8: what each pixel shows, a `Shows`.
        cloth: `(h, w, 3)` float32 in [0, 1]: the new garment, continued beyond its outline.
        skin: The skin, likewise.
        own: The person's other clothes, likewise.
        background: The background, likewise.
        picture: The layers, blended.
        alpha: `(h, w)` float32 in [0, 1]: how much of the photograph `picture` replaces.
        labels: `(h, w)` uint8: the label class of each pixel of `picture`.
        seen: The share of the cloth, in [0, 1], that its photograph shows; the rest was hidden there, or is drawn out.
        confidence: How far the try-on can be trusted, in [0, 1]: the product of how much of the cloth is seen, how
            frontally person and wearer stand, how alike they are turned, and how little of what the old garment hid
            must be made up; see `styletryon.compositing.confidence`.
        doubts: What will look wrong, in words.
    """

    box: tuple[int, int, int, int]
    layout: NDArray[np.uint8]
    cloth: NDArray[np.float32]
    skin: NDArray[np.float32]
    own: NDArray[np.float32]
    background: NDArray[np.float32]
    picture: NDArray[np.float32]
    alpha: NDArray[np.float32]
    labels: NDArray[np.uint8]
    seen: float
    confidence: float
    doubts: tuple[str, ...]

    __repr__ = one_line

    def shows(self, what: Shows) -> NDArray[np.bool_]:
        """Say which pixels show something, `(h, w)`."""
        return np.asarray(self.layout == int(what))

    def laid_over(self, photograph: Image.Image) -> Image.Image:
        """Lay the change over the photograph.

        Args:
            photograph: The person's photograph, mode "RGB".

        Returns:
            A new picture, equal to the photograph bit for bit where `alpha` is 0.
        """
        opacity = Image.fromarray((self.alpha.clip(0, 1) * 255).round().astype(np.uint8))
        change = Image.fromarray((self.picture.clip(0, 1) * 255).round().astype(np.uint8))
        whole = photograph.copy()
        for place, size, part in self._strips():
            over = change.resize(size, Image.Resampling.BICUBIC, box=part)
            whole.paste(over, place, opacity.resize(size, Image.Resampling.BILINEAR, box=part))
        return whole

    def labels_over(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Lay the labels of the change over those of the photograph, `(H, W)` uint8."""
        left, top, right, bottom = self.box
        rows, columns = (
            (2 * np.arange(size) + 1) * count // (2 * size)  # the nearest one's
            for size, count in zip((bottom - top, right - left), self.labels.shape, strict=True)
        )
        after = labels.copy()
        for (_, first), (_, height), _ in self._strips():
            where = np.ix_(rows[first - top : first - top + height], columns)
            np.copyto(after[first : first + height, left:right], self.labels[where], where=self.alpha[where] > 0.5)
        return after

    def _strips(self) -> Iterator[tuple[tuple[int, int], tuple[int, int], tuple[float, float, float, float]]]:
        """Yield strips of the photograph's part: left and top, width and height, and the same part of the layers."""
        left, top, right, bottom = self.box
        width, height = right - left, bottom - top
        rows = max(1, _STRIP // width)
        step = self.layout.shape[0] / height
        for first in range(0, height, rows):
            last = min(first + rows, height)
            yield (left, top + first), (width, last - first), (0.0, first * step, self.layout.shape[1], last * step)
