"""TryOnResult: the picture, and everything that led to it."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from styletryon._arguments import whole
from styletryon.generator import GeneratorOutput
from styletryon.labels import IDENTITY, Label
from styletryon.latent import Latent
from styletryon.losses import TryOnTargets, class_mask
from styletryon.photo import Frame, Photograph, paste_back, resize, save_image, to_pil
from styletryon.tryon.optimizer import TryOnBatch

if TYPE_CHECKING:
    from styletryon.compositing.composer import Composer
    from styletryon.compositing.correspondence import WarpedGarment


def change_mask(
    targets: TryOnTargets,
    drawing: GeneratorOutput,
    *,
    dilate: float = 0.02,
    feather: float = 0.02,
) -> Tensor:
    """Say which pixels a try-on may change: the old garment, the new one, and a margin.

    Face and hair stay out of it unless the new garment covers them; only the soft edge reaches into them.

    Args:
        targets: What the try-on was compared with.
        drawing: The try-on.
        dilate: The margin, as a share of the picture's height.
        feather: Width of the blur that softens its edge, as a share of the height. Up to `dilate`, the garments
            themselves stay at 1 but beside face and hair.

    Returns:
        `(B, H, W)` float32 in [0, 1]: 1 where the picture is the try-on's, 0 where it stays the photograph's.
    """
    height = drawing.image.shape[2]
    new = class_mask(drawing, targets.region)
    mask = torch.maximum(targets.person_mask, new)
    radius, soft = max(1, round(dilate * height)), max(1, round(feather * height))
    mask = functional.max_pool2d(mask, 2 * radius + 1, 1, radius)
    # Hair that the try-on drew over the old garment is new; the person's own face and hair are not.
    mask = mask * (1 - class_mask(targets.person, IDENTITY) * (1 - new))
    return functional.avg_pool2d(mask, 2 * soft + 1, 1, soft, count_include_pad=False).squeeze(1)


@final
@dataclass(frozen=True, eq=False)
class TryOnResult:
    """A person in another's garment.

    Attributes:
        image: The picture, of the photograph's own size.
        segmentation: `(H, W)` uint8: the label class of each pixel of `image`.
        coefficients: Layer name -> `(C_l,)` in [0, 1]: how much of each style channel comes from the garment's picture.
        history: Loss name -> its value at each step; "total" the weighted sum.
        person: The person's latent.
        garment: The latent of the garment's wearer.
        report: Plain numbers: seconds, the losses at the end, the reconstruction error of each input, the mean change
            outside the region (of values in [0, 1]), the best step, and the status in words.
        latent: The result as a latent, which can be dressed again.
        drawn: `(3, H, W)` float32 in [-1, 1]: what the generator drew, at its own size.
        mask: `(H, W)` float32 in [0, 1]: where `image` is taken from `drawn`.
        person_image: The person as given (the photograph if there is one, else as drawn).
        garment_image: The garment's picture, likewise.
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
        composer: Composer | None = None,
    ) -> TryOnResult:
        """Take one pair out of a batch.

        Args:
            batch: What `TryOnOptimizer.optimize` returned.
            index: Which pair.
            composite: Whether the person's own pixels are put back outside `change_mask`; otherwise the whole frame is
                as the generator drew it.
            detail: Whether cloth is shown as the garment's photograph shows it, where both pictures are photographs
                whose poses and labels are known, and person's pixels are put back; see
                `styletryon.compositing.correspondence`.
            composer: What `styletryon.tryon.result.make_composer` made for this person and region; that it has shown
                them before saves time. Default: a new one.

        Returns:
            The result.
        """
        at = range(len(batch))[index]
        person, garment, targets = batch.person[at], batch.garment[at], batch.targets
        drawn = batch.drawing.image[at].detach().float().clamp(-1, 1)
        allowed = change_mask(targets, batch.drawing)[at]
        before = targets.person.image[at].float().clamp(-1, 1)
        given, theirs = _photograph(person), _photograph(garment)
        photo = _photo(batch, at)
        if composite:
            after = _one(batch.drawing, at)
            cloth = _cloth(photo, theirs, targets.region, after, _one(targets.garment, at)) if detail else None
            image, mask = (composer or make_composer(batch, at)).compose(after, allowed.cpu(), cloth)
            mask = mask.to(drawn.device)
        else:
            mask = torch.ones_like(allowed)
            # Its feather softens the frame's own edge too, which a garment may cross.
            image = paste_back(photo.picture, drawn, mask, photo.frame)
        labels = torch.where(mask > 0.5, batch.drawing.labels[at], targets.person.labels[at]).cpu().numpy()
        if given is not None:
            labels = _to_photo(labels, photo.frame)
        history = {name: [x for x in column[:, at].tolist() if x == x] for name, column in batch.history.items()}
        best = int(batch.best_step[at])
        report: dict[str, float | str] = {
            "seconds": batch.seconds / len(batch),
            "status": batch.status[at].value,
            "best_step": float(best),
            "steps": float(len(history["total"]) - 1),
            "outside_change": _outside(drawn, before, allowed),
            "coefficient_mean": float(torch.cat([layer[at] for layer in batch.coefficients]).mean()),
        }
        report.update({f"loss_{name}": values[best] for name, values in history.items()})
        for role, latent in (("person", batch.person), ("garment", batch.garment)):
            report.update({f"{role}_{name}": value for name, value in latent.report.items()})
        names = batch.layer_names or tuple(str(layer) for layer in range(len(batch.coefficients)))
        return cls(
            image=image,
            segmentation=labels,
            coefficients={name: q[at].clone() for name, q in zip(names, batch.coefficients, strict=True)},
            history=history,
            person=person,
            garment=garment,
            report=report,
            latent=batch.latent[at],
            drawn=drawn,
            mask=mask,
            person_image=photo.picture,
            garment_image=to_pil(targets.garment.image[at].float()) if theirs is None else theirs.picture,
        )

    def save(self, path: str | os.PathLike[str] | IO[bytes], *, format: str | None = None) -> None:
        """Write the picture.

        Args:
            path: Where to, or a file opened in binary mode.
            format: "png", "jpg", "webp", "bmp" or "tiff". None for what the name's ending says; for an open file, PNG.

        Raises:
            SaveError: If it cannot be written. What stood there before still stands.
        """
        save_image(self.image, path, format=format)

    def figure(self, *, height: int | None = None, gap: int = 8) -> Image.Image:
        """Lay person, garment and try-on side by side.

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
        panels = [
            resize(panel, (tall, max(1, round(panel.width * tall / panel.height))), filter="lanczos")
            for panel in (self.person_image, self.garment_image, self.image)
        ]
        sheet = Image.new("RGB", (sum(panel.width for panel in panels) + gap * (len(panels) - 1), tall), "white")
        left = 0
        for panel in panels:
            sheet.paste(panel, (left, 0))
            left += panel.width + gap
        return sheet


def make_composer(batch: TryOnBatch, index: int = 0) -> Composer:
    """Make what shows try-ons of the person of one pair in the photograph, for `TryOnResult.from_batch`.

    Args:
        batch: What `TryOnOptimizer.optimize` returned.
        index: Which pair.
    """
    # Here, because it brings scipy, which costs more to import than all else.
    from styletryon.compositing.composer import Composer

    targets = batch.targets
    expected = change_mask(targets, targets.redrawn)[index].cpu()
    return Composer(_photo(batch, index), _one(targets.person, index), targets.region, expected)


def _photo(batch: TryOnBatch, index: int) -> Photograph:
    """The photograph of a person; what the generator drew where there is none."""
    given = _photograph(batch.person[index])
    if given is not None:
        return given
    drawn = batch.targets.person.image[index].float().clamp(-1, 1)
    return Photograph.whole(to_pil(drawn))


def _photograph(latent: Latent) -> Photograph | None:
    return latent.photograph[0] if latent.photograph else None


def _cloth(
    person: Photograph,
    garment: Photograph | None,
    region: frozenset[Label],
    after: GeneratorOutput,
    worn: GeneratorOutput,
) -> WarpedGarment | None:
    """Lay the garment of a photograph on a drawing, if it is known where it is."""
    from styletryon.compositing.correspondence import find_worn, warp_garment

    if garment is None or garment.labels is None:
        return None
    drawn = np.isin(_to_photo(worn.labels[0].cpu().numpy(), garment.frame), list(region))
    shown = after.probabilities[0, sorted(int(label) for label in region)].sum(dim=0)
    seen = find_worn(garment.labels, drawn, region)
    return warp_garment(person, garment, after.image[0].detach(), shown.detach().cpu(), seen)


def _one(drawing: GeneratorOutput, index: int) -> GeneratorOutput:
    return GeneratorOutput(drawing.image[index : index + 1], drawing.logits[index : index + 1])


def _outside(drawn: Tensor, before: Tensor, allowed: Tensor) -> float:
    free = (allowed <= 0).float()
    change = (drawn - before).abs().mean(dim=0) / 2
    return float((change * free).sum() / free.sum().clamp_min(1))


def _to_photo(labels: NDArray[np.uint8], frame: Frame) -> NDArray[np.uint8]:
    """Lay a segmentation of the frame over the photograph; outside the frame it is background."""
    height, width = frame.photo_size
    down, across = frame.scale
    rows = np.floor((np.arange(height) + 0.5 - frame.box[1]) * down).astype(np.int64)
    columns = np.floor((np.arange(width) + 0.5 - frame.box[0]) * across).astype(np.int64)
    photo = np.zeros((height, width), dtype=np.uint8)
    inside = np.ix_((rows >= 0) & (rows < labels.shape[0]), (columns >= 0) & (columns < labels.shape[1]))
    rows = rows[(rows >= 0) & (rows < labels.shape[0])]
    columns = columns[(columns >= 0) & (columns < labels.shape[1])]
    photo[inside] = labels[np.ix_(rows, columns)]
    return photo
