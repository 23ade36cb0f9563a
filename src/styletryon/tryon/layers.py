"""TryOnLayers: the parts of a try-on between two photographs, so that they can be looked at and changed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from styletryon._reprs import one_line


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
        left, top, right, bottom = self.box
        size = (right - left, bottom - top)
        opacity = Image.fromarray((self.alpha.clip(0, 1) * 255).round().astype(np.uint8))
        change = Image.fromarray((self.picture.clip(0, 1) * 255).round().astype(np.uint8))
        whole = photograph.copy()
        over = change.resize(size, Image.Resampling.BICUBIC)
        whole.paste(over, (left, top), opacity.resize(size, Image.Resampling.BILINEAR))
        return whole

    def labels_over(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Lay the labels of the change over those of the photograph, `(H, W)` uint8."""
        left, top, right, bottom = self.box
        size = (right - left, bottom - top)
        changed = Image.fromarray((self.alpha > 0.5).astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
        new = Image.fromarray(self.labels).resize(size, Image.Resampling.NEAREST)
        after = labels.copy()
        part = after[top:bottom, left:right]
        after[top:bottom, left:right] = np.where(np.asarray(changed) > 0, np.asarray(new), part)
        return after
