"""A try-on as it is shown: put into the person's photograph, with all that led to it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageChops
from torch import Tensor

from styletryon.compositing.blending import compose
from styletryon.compositing.drawn.composer import Composer
from styletryon.compositing.drawn.layout import covered_share
from styletryon.generator import GeneratorOutput
from styletryon.labels import title
from styletryon.latent import Latent
from styletryon.photo import Frame, Photograph, paste_back, to_pil
from styletryon.tryon import TryOnBatch, TryOnResult, change_mask
from styletryon.tryon.layers import TryOnLayers

_UNCHANGED, _FADES_IN = 0.02, 0.1
"""A drawing that went less far from the person than this, in parts of the way to the garment, shows none of it, and how
soon all of it."""


_VISIBLE = 8
"""By how much of 255 a channel must differ for a change to be seen."""

_LOOKED_AT = 512
"""About how many pixels of the short side of the frame are compared."""


def show(
    batch: TryOnBatch,
    index: int = 0,
    *,
    composite: bool = True,
    detail: bool = True,
    composer: Composer | None = None,
    layers: TryOnLayers | None = None,
) -> TryOnResult:
    """Show one pair of a batch in the person's photograph; of an outfit, one garment over the other.

    Args:
        batch: What `TryOnOptimizer.optimize` or `TryOnPipeline.optimize` returned.
        index: Which pair.
        composite: Whether the person's own pixels are put back outside `change_mask`; otherwise the whole frame is as
            the generator drew it.
        detail: Whether the garment is shown as its photograph shows it, where both pictures are photographs whose poses
            and labels are known, and the person's pixels are put back; otherwise the drawing is shown.
        composer: What `make_composer` made for this person and region; that it has shown them before saves time. It
            shows one garment. Default: a new one.
        layers: What `TryOnResult.layers()` was of this pair, of one garment, with other coefficients. Where they show
            the change whole, nothing is composed anew: they are faded as far as this drawing asks for. Default: the
            pair is composed.

    Returns:
        The result. "seconds" in its report is the sum of the pair's share of the optimisation and of what came before
        it, and of what showing it took.

    Raises:
        IndexError: If there is no such pair.
    """
    at = range(len(batch))[index]
    worn: dict[str, TryOnResult] = {}
    for layer in batch.outfit:
        below = list(worn.values())[-1:]
        one = layer if not below else replace(layer, person=_in_photograph(layer.person, at, below[0].latent))
        worn[title(layer.targets.region)] = _show(
            one, at, composite=composite, detail=detail, composer=composer, known=layers
        )
    return next(iter(worn.values())) if len(worn) == 1 else _together(batch, at, worn)


def _show(
    batch: TryOnBatch, at: int, *, composite: bool, detail: bool, composer: Composer | None, known: TryOnLayers | None
) -> TryOnResult:
    """Show one garment."""
    began = time.perf_counter()
    person, garment, targets = batch.person[at], batch.garment[at], batch.targets
    drawn = batch.drawing.image[at].detach().float().clamp(-1, 1)
    allowed = change_mask(targets, batch.drawing)[at]
    before = targets.person.image[at].float().clamp(-1, 1)
    photo, theirs = _person_photograph(batch, at), _photograph(garment)
    layers = _layers(batch, at, photo, theirs, known) if composite and detail else None
    if layers is not None and photo.labels is not None:
        image = layers.laid_over(photo.picture)
        work = Frame(tuple(map(float, layers.box)), photo.frame.photo_size, layers.layout.shape)  # type: ignore[arg-type]
        mask = covered_share(layers.alpha, work, photo.frame).to(drawn.device)
        segmentation = layers.labels_over(photo.labels)
        dressed = replace(photo, picture=image, labels=segmentation)
    else:
        if composite:
            image, mask = (composer or make_composer(batch, at)).compose(_one(batch.drawing, at), allowed.cpu())
            mask = mask.to(drawn.device)
        else:
            mask = torch.ones_like(allowed)
            # Its feather softens the frame's own edge too, which a garment may cross.
            image = paste_back(photo.picture, drawn, mask, photo.frame)
        labels = torch.where(mask > 0.5, batch.drawing.labels[at], targets.person.labels[at]).cpu().numpy()
        segmentation, dressed = _to_photo(labels, photo.frame), _dressed(photo, image, labels, mask)
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
        "changed_share": changed_share(photo, image),
        "coefficient_mean": float(torch.cat([layer[at] for layer in batch.coefficients]).mean()),
    }
    if layers is not None:
        report["confidence"] = layers.confidence
    report.update({f"loss_{name}": values[best] for name, values in history.items()})
    for role, latent in (("person", batch.person), ("garment", batch.garment)):
        report.update({f"{role}_{name}": value for name, value in latent.report.items()})
    names = batch.layer_names or tuple(str(layer) for layer in range(len(batch.coefficients)))
    return TryOnResult(
        image=image,
        segmentation=segmentation,
        coefficients={name: q[at].clone() for name, q in zip(names, batch.coefficients, strict=True)},
        history=history,
        person=person,
        garment=garment,
        report=report,
        latent=replace(batch.latent[at], photograph=(dressed,)),
        drawn=drawn,
        mask=mask,
        person_image=photo.picture,
        garment_image=to_pil(targets.garment.image[at].float()) if theirs is None else theirs.picture,
        _layers=layers,
    )


def _in_photograph(people: Latent, at: int, dressed: Latent) -> Latent:
    """Give one of some people the photograph that shows them dressed."""
    photographs: list[Photograph | None] = [None] * len(people)
    photographs[at] = _photograph(dressed)
    return replace(people, photograph=tuple(photographs))


def _together(batch: TryOnBatch, at: int, worn: Mapping[str, TryOnResult]) -> TryOnResult:
    """Make one result of the try-ons of an outfit, of which each lies over those before it."""
    first, last = (list(worn.values())[place] for place in (0, -1))
    before = batch.outfit[0].targets.person.image[at].float().clamp(-1, 1)
    allowed = torch.stack([change_mask(layer.targets, layer.drawing)[at] for layer in batch.outfit]).amax(dim=0)
    stages: dict[str, float] = {}
    report: dict[str, float | str] = {}
    for name, one in worn.items():
        for key, value in one.report.items():
            if key.startswith("seconds_"):
                stages[key] = stages.get(key, 0.0) + float(value)
            elif key.startswith("person_"):
                report.setdefault(key, value)
            elif key != "seconds":
                report[f"{name}_{key}"] = value
    if all("confidence" in one.report for one in worn.values()):
        report["confidence"] = min(float(one.report["confidence"]) for one in worn.values())
    report |= {
        "seconds": sum(stages.values()),
        **stages,
        "status": ", ".join(f"{name}: {one.report['status']}" for name, one in worn.items()),
        "outside_change": _outside(last.drawn, before, allowed),
        "changed_share": changed_share(_photograph(first.person) or Photograph.whole(first.person_image), last.image),
    }
    return replace(
        last,
        person=first.person,
        person_image=first.person_image,
        mask=torch.stack([one.mask for one in worn.values()]).amax(dim=0),
        report=report,
        outfit=dict(worn),
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


def changed_share(photo: Photograph, image: Image.Image) -> float:
    """Say how much of what the generator sees of a photograph a try-on has changed so that one sees it.

    Args:
        photo: The photograph.
        image: The try-on in it.

    Returns:
        The share of the pixels of the frame, in [0, 1], of which a channel differs by more than `_VISIBLE`.
    """
    left, top, right, bottom = photo.frame.box
    width, height = image.size
    box = (max(0, round(left)), max(0, round(top)), min(width, round(right)), min(height, round(bottom)))
    if box[0] >= box[2] or box[1] >= box[3]:
        return 0.0
    factor = max(1, round(min(box[2] - box[0], box[3] - box[1]) / _LOOKED_AT))
    apart = ImageChops.difference(image.reduce(factor, box=box), photo.picture.reduce(factor, box=box))
    return float((np.asarray(apart).max(axis=2) > _VISIBLE).mean())


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


def _layers(
    batch: TryOnBatch, index: int, person: Photograph, garment: Photograph | None, known: TryOnLayers | None
) -> TryOnLayers | None:
    """Compose a pair from its two photographs, as far as the drawing went from one to the other.

    How far is all that the drawing says, so layers that are known and show the change whole are faded.
    """
    if garment is None:
        return None
    targets = batch.targets
    before, wanted, after = (
        output.image[index].detach().float() for output in (targets.person, targets.redrawn, batch.drawing)
    )
    went = _share_of_change(before, wanted, after)
    opacity = min(1.0, max(0.0, (went - _UNCHANGED) / _FADES_IN))
    if known is not None and known.alpha.max() >= 1:
        return replace(known, alpha=known.alpha * np.float32(opacity))
    return compose(person, garment, targets.region, opacity=opacity)


def _share_of_change(before: Tensor, wanted: Tensor, after: Tensor) -> float:
    """Say how far a drawing went from the person before, 0, in parts of how far the garment redrawn in their pose is.

    It may have gone in another direction: of two garments that look alike to the generator, little is the redrawing's.
    """
    return float((after - before).norm() / (wanted - before).norm().clamp_min(1e-6))


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
