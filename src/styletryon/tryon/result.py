"""TryOnResult: the picture, and everything that led to it."""

from __future__ import annotations

import importlib
import io
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from styletryon._arguments import whole
from styletryon._deprecated import warn_renamed
from styletryon.latent import Latent
from styletryon.photo import resize, save_image
from styletryon.tryon.layers import TryOnLayers
from styletryon.tryon.optimizer import TryOnBatch


@final
@dataclass(frozen=True, eq=False)
class TryOnResult:
    """A person in another's garment: an immutable value. `styletryon.compositing.show` makes it.

    Attributes:
        image: The picture, of the photograph's own size.
        segmentation: `(H, W)` uint8: the label class of each pixel of `image`.
        coefficients: Layer name -> `(C_l,)` in [0, 1]: how much of each style channel comes from the garment's picture.
        history: Loss name -> its value at each step; "total" the weighted sum.
        person: The person's latent.
        garment: The latent of the garment's wearer.
        report: Plain numbers: the losses at the end, the reconstruction error of each input, the mean change outside
            the region (of values in [0, 1]), "changed_share" (of the pixels around the person, how many have changed so
            that one sees it), between two photographs "confidence" (in [0, 1]; see `TryOnLayers`), the best step, the
            status in words; and "seconds", which is the sum of the stages' "seconds_optimize", "seconds_compose" and,
            of `try_on`, "seconds_read", "seconds_pose" and "seconds_project".
        latent: The result as a latent, which can be dressed again. Its photograph is `image`, so that what the result
            wears stays.
        drawn: `(3, H, W)` float32 in [-1, 1]: what the generator drew, at its own size.
        mask: `(H, W)` float32 in [0, 1]: where `image` is taken from `drawn`.
        person_image: The person as given (the photograph if there is one, else as drawn).
        garment_image: The garment's picture, likewise.
        outfit: Where several garments were tried on: the name of each one's region -> its try-on, over those that come
            before it, in the order in which they are worn. Empty for one garment. `coefficients`, `history`,
            `garment` and `garment_image` are those of the last; `report` has the numbers of each, called after its
            region ("top_loss_garment"), beside those of the whole.
    """

    image: Image.Image
    segmentation: NDArray[np.uint8]
    coefficients: Mapping[str, Tensor]
    history: Mapping[str, list[float]]
    person: Latent
    garment: Latent
    report: Mapping[str, float | str]
    latent: Latent
    drawn: Tensor
    mask: Tensor
    person_image: Image.Image
    garment_image: Image.Image
    outfit: Mapping[str, TryOnResult] = field(default_factory=dict)
    _layers: TryOnLayers | None = None

    def __repr__(self) -> str:
        told = {"status": "{}", "seconds": "{:.1f} s", "outside_change": "{:.2g} changed outside"}
        parts = [text.format(self.report[name]) for name, text in told.items() if name in self.report]
        return f"TryOnResult({', '.join([f'{self.image.width}x{self.image.height}', *parts])})"

    def _repr_png_(self) -> bytes:
        """The picture as a notebook shows it."""
        stream = io.BytesIO()
        self.save(stream)
        return stream.getvalue()

    @classmethod
    def from_batch(
        cls,
        batch: TryOnBatch,
        index: int = 0,
        *,
        composite: bool = True,
        detail: bool = True,
        composer: Any = None,
    ) -> TryOnResult:
        """Old name of `styletryon.compositing.show`; it leaves in 0.4."""
        warn_renamed("TryOnResult.from_batch", "styletryon.compositing.show", until="0.4")
        show: Callable[..., TryOnResult] = importlib.import_module("styletryon.compositing").show
        return show(batch, index, composite=composite, detail=detail, composer=composer)

    def save(self, path: str | os.PathLike[str] | IO[bytes], *, format: str | None = None) -> None:
        """Write the picture.

        Args:
            path: Where to, or a file opened in binary mode.
            format: "png", "jpg", "webp", "bmp" or "tiff". None for what the name's ending says; for an open file, PNG.

        Raises:
            SaveError: If it cannot be written. What stood there before still stands.
        """
        save_image(self.image, path, format=format)

    def layers(self) -> TryOnLayers | None:
        """Return the parts that `image` is made of.

        Returns:
            What each pixel shows, and the cloth, skin and background that it is taken from. None where the drawing is
            shown: without two photographs of people whose labels are known, with `detail=False`, or with
            `composite=False`. Of an outfit, those of the garment that is worn over the others, which lie over the
            picture that the others made: `outfit[region].layers()` has them for each.
        """
        return self._layers

    def figure(self, *, height: int | None = None, gap: int = 8) -> Image.Image:
        """Lay person, garment and try-on side by side; of an outfit, each garment.

        Args:
            height: Of the panels in pixels. Default: that of the picture.
            gap: White pixels between them.

        Returns:
            A new picture.

        Raises:
            RangeError: If a number makes no sense.
        """
        tall = self.image.height if height is None else whole(height, "height", least=1)
        gap = whole(gap, "gap", least=0)
        garments = [one.garment_image for one in self.outfit.values()] or [self.garment_image]
        panels = [
            resize(panel, (tall, max(1, round(panel.width * tall / panel.height))), filter="lanczos")
            for panel in (self.person_image, *garments, self.image)
        ]
        sheet = Image.new("RGB", (sum(panel.width for panel in panels) + gap * (len(panels) - 1), tall), "white")
        left = 0
        for panel in panels:
            sheet.paste(panel, (left, 0))
            left += panel.width + gap
        return sheet
