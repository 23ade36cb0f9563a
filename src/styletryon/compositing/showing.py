"""A try-on as it is shown: put into the person's photograph, with all that led to it."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from styletryon.compositing.composer import Composer
from styletryon.compositing.correspondence import WarpedGarment, find_worn, warp_garment
from styletryon.generator import GeneratorOutput
from styletryon.labels import Label
from styletryon.latent import Latent
from styletryon.photo import Frame, Photograph, paste_back, to_pil
from styletryon.tryon import TryOnBatch, TryOnResult, change_mask


def show(
    batch: TryOnBatch,
    index: int = 0,
    *,
    composite: bool = True,
    detail: bool = True,
    composer: Composer | None = None,
) -> TryOnResult:
    """Show one pair of a batch in the person's photograph.

    Args:
        batch: What `TryOnOptimizer.optimize` returned.
        index: Which pair.
        composite: Whether the person's own pixels are put back outside `change_mask`; otherwise the whole frame is as
            the generator drew it.
        detail: Whether cloth is shown as the garment's photograph shows it, where both pictures are photographs whose
            poses and labels are known, and the person's pixels are put back; see
            `styletryon.compositing.correspondence`.
        composer: What `make_composer` made for this person and region; that it has shown them before saves time.
            Default: a new one.

    Returns:
        The result. "seconds" in its report is the sum of the pair's share of the optimisation and of what came before
        it, and of what showing it took.

    Raises:
        IndexError: If there is no such pair.
    """
    began = time.perf_counter()
    at = range(len(batch))[index]
    person, garment, targets = batch.person[at], batch.garment[at], batch.targets
    drawn = batch.drawing.image[at].detach().float().clamp(-1, 1)
    allowed = change_mask(targets, batch.drawing)[at]
    before = targets.person.image[at].float().clamp(-1, 1)
    photo, theirs = _person_photograph(batch, at), _photograph(garment)
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
    history = {name: [x for x in column[:, at].tolist() if x == x] for name, column in batch.history.items()}
    best = int(batch.best_step[at])
    stages = {name: value / len(batch) for name, value in {**batch.stages, "optimize": batch.seconds}.items()}
    stages["compose"] = time.perf_counter() - began
    report: dict[str, float | str] = {
        "seconds": sum(stages.values()),
        **{f"seconds_{name}": value for name, value in stages.items()},
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
    return TryOnResult(
        image=image,
        segmentation=_to_photo(labels, photo.frame),
        coefficients={name: q[at].clone() for name, q in zip(names, batch.coefficients, strict=True)},
        history=history,
        person=person,
        garment=garment,
        report=report,
        latent=replace(batch.latent[at], photograph=(_dressed(photo, image, labels, mask),)),
        drawn=drawn,
        mask=mask,
        person_image=photo.picture,
        garment_image=to_pil(targets.garment.image[at].float()) if theirs is None else theirs.picture,
    )


def make_composer(batch: TryOnBatch, index: int = 0) -> Composer:
    """Make what shows try-ons of the person of one pair in the photograph, for `show`.

    Args:
        batch: What `TryOnOptimizer.optimize` returned.
        index: Which pair.
    """
    targets = batch.targets
    expected = change_mask(targets, targets.redrawn)[index].cpu()
    return Composer(_person_photograph(batch, index), _one(targets.person, index), targets.region, expected)


def _person_photograph(batch: TryOnBatch, index: int) -> Photograph:
    """The photograph of a person; what the generator drew where there is none."""
    given = _photograph(batch.person[index])
    return Photograph.whole(to_pil(batch.targets.person.image[index].float())) if given is None else given


def _photograph(latent: Latent) -> Photograph | None:
    return latent.photograph[0] if latent.photograph else None


def _dressed(photo: Photograph, image: Image.Image, labels: NDArray[np.uint8], mask: Tensor) -> Photograph:
    """Return what is known of a photograph when its person has been dressed.

    Args:
        photo: The photograph before.
        image: The try-on in it.
        labels: `(H, W)` uint8: the classes of the frame in the try-on.
        mask: `(H, W)` in [0, 1]: what of the frame has changed.
    """
    if photo.labels is None:
        return replace(photo, picture=image)
    changed = _to_photo((mask > 0.5).cpu().numpy().astype(np.uint8), photo.frame) > 0
    # Below the frame a garment goes on that its lower edge cuts, and so do its labels.
    below = max(0, round(photo.frame.box[3]))
    changed[below:] = (np.asarray(image)[below:] != np.asarray(photo.picture)[below:]).any(axis=-1)
    after = np.where(changed, _to_photo(labels, photo.frame, goes_on=True), photo.labels)
    return replace(photo, picture=image, labels=after)


def _cloth(
    person: Photograph,
    garment: Photograph | None,
    region: frozenset[Label],
    after: GeneratorOutput,
    worn: GeneratorOutput,
) -> WarpedGarment | None:
    """Lay the garment of a photograph on a drawing, if it is known where it is."""
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


def _to_photo(labels: NDArray[np.uint8], frame: Frame, *, goes_on: bool = False) -> NDArray[np.uint8]:
    """Lay a segmentation of the frame over the photograph.

    Args:
        labels: `(H, W)` uint8: the classes of the frame.
        frame: The frame.
        goes_on: Whether the last row goes on below the frame. Beyond it there is background otherwise.
    """
    height, width = frame.photo_size
    down, across = frame.scale
    rows = np.floor((np.arange(height) + 0.5 - frame.box[1]) * down).astype(np.int64)
    columns = np.floor((np.arange(width) + 0.5 - frame.box[0]) * across).astype(np.int64)
    if goes_on:
        rows = np.minimum(rows, labels.shape[0] - 1)
    photo = np.zeros((height, width), dtype=np.uint8)
    inside = (rows >= 0) & (rows < labels.shape[0]), (columns >= 0) & (columns < labels.shape[1])
    photo[np.ix_(*inside)] = labels[np.ix_(rows[inside[0]], columns[inside[1]])]
    return photo
