"""TryOnLayers: the parts of a try-on between two photographs, so that they can be looked at and changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
        width = self.box[2] - self.box[0]
        opacity, change = (
            np.asarray(Image.fromarray((part.clip(0, 1) * 255).round().astype(np.uint8)).resize((width, len(part)), by))
            for part, by in ((self.alpha, Image.Resampling.BILINEAR), (self.picture, Image.Resampling.BICUBIC))
        )
        whole = photograph.copy()
        for place, rows in self._strips():
            over = _resampled(change, rows, _cubic)
            whole.paste(Image.fromarray(over), place, Image.fromarray(_resampled(opacity, rows, _linear)))
        return whole

    def labels_over(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Lay the labels of the change over those of the photograph, `(H, W)` uint8."""
        left, top, right, bottom = self.box
        rows, columns = (
            (2 * np.arange(size) + 1) * count // (2 * size)  # the nearest one's
            for size, count in zip((bottom - top, right - left), self.labels.shape, strict=True)
        )
        after = labels.copy()
        for (_, first), middles in self._strips():
            where = np.ix_(rows[first - top : first - top + len(middles)], columns)
            strip = after[first : first + len(middles), left:right]
            np.copyto(strip, self.labels[where], where=self.alpha[where] > 0.5)
        return after

    def _strips(self) -> Iterator[tuple[tuple[int, int], NDArray[np.float64]]]:
        """Yield strips of the photograph's part: left and top, and the middles of its rows in rows of the layers."""
        left, top, right, bottom = self.box
        middles = (np.arange(bottom - top, dtype=np.float64) + 0.5) * (len(self.layout) / (bottom - top))
        rows = max(1, _STRIP // (right - left))
        for first in range(0, bottom - top, rows):
            yield (left, top + first), middles[first : first + rows]


def _linear(rest: NDArray[np.float32]) -> list[tuple[int, NDArray[np.float32]]]:
    """Weigh the rows around places that lie `rest` of a row below one: offset and weight of each."""
    return [(0, 1 - rest), (1, rest)]


def _cubic(rest: NDArray[np.float32]) -> list[tuple[int, NDArray[np.float32]]]:
    """Weigh four rows (Keys, *Cubic convolution interpolation*, 1981), as `_linear` weighs two."""
    square, cube = rest**2, rest**3
    return [
        (-1, -0.5 * rest + square - 0.5 * cube),
        (0, 1 - 2.5 * square + 1.5 * cube),
        (1, 0.5 * rest + 2 * square - 1.5 * cube),
        (2, 0.5 * cube - 0.5 * square),
    ]


def _resampled(
    picture: NDArray[np.uint8],  # (h, w) or (h, w, 3)
    middles: NDArray[np.float64],  # (n,)
    weigh: Callable[[NDArray[np.float32]], list[tuple[int, NDArray[np.float32]]]],
) -> NDArray[np.uint8]:
    """Interpolate between rows. What a row becomes rests on its own place alone, so strips meet without a seam."""
    above = np.floor(middles - 0.5)
    rest = (middles - 0.5 - above).astype(np.float32)
    found: NDArray[np.float32] = np.zeros((len(middles), *picture.shape[1:]), np.float32)
    for offset, weight in weigh(rest):
        rows = picture[(above.astype(int) + offset).clip(0, len(picture) - 1)]
        found += weight.reshape(-1, *[1] * (picture.ndim - 1)) * rows
    return found.round().clip(0, 255).astype(np.uint8)
