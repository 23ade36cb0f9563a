"""Measures of what is found of garments that nobody wears, and of the try-ons that come of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from styletryon.compositing.blending import compose
from styletryon.compositing.ground import off_ground
from styletryon.data import paperdoll
from styletryon.labels import REGIONS, Label
from styletryon.models import PoseStyleGAN2
from styletryon.photo import Photograph, read_image
from styletryon.pose import Pose
from styletryon.pose.garment import GarmentEstimator
from styletryon.tryon.layers import TryOnLayers
from styletryon.unworn import photograph_of

LABELLED = Path(__file__).parent / "labelled.json"
"""Photographs that were labelled by hand, and are held back: file -> label, keypoints and outline in shares of width
and height; the person's left shoulder is keypoint 5."""

HELD_SEED = 71_000
"""The seeds of the drawn garments that are measured start here."""

_PAIR_SIZE = (512, 384)

Truth = tuple[Image.Image, Label, NDArray[np.float64], NDArray[np.bool_]]
"""A picture, what the garment is, its keypoints `(17, 3)` and its mask `(H, W)`."""


def labelled_by_hand() -> dict[str, Any]:
    """Return the photographs that were labelled by hand."""
    found: dict[str, Any] = json.loads(LABELLED.read_text(encoding="utf-8"))
    return found


def labelled_truths(folder: Path) -> Iterable[Truth]:
    """Read the photographs that were labelled by hand, with their labels."""
    for name, known in labelled_by_hand().items():
        picture = read_image(folder / name)
        points = np.zeros((17, 3))
        for number, place in known["keypoints"].items():
            points[int(number)] = place[0] * picture.width, place[1] * picture.height, 1
        mask = Image.new("1", picture.size)
        outline = [(x * picture.width, y * picture.height) for x, y in known["outline"]]
        ImageDraw.Draw(mask).polygon(outline, fill=1)
        yield picture, Label[known["label"].upper()], points, np.asarray(mask)


def drawn_truths(count: int) -> Iterable[Truth]:
    """Draw garments whose truth is known."""
    for seed in range(HELD_SEED, HELD_SEED + count):
        figure = paperdoll.sample_figure(seed)
        kind = _kind(figure, seed)
        drawing = paperdoll.lay_flat(figure, kind, (320, 320), lie=paperdoll.sample_lie(seed))
        label = Label[kind.upper()]
        yield Image.fromarray(drawing.image), label, drawing.keypoints.astype(np.float64), drawing.labels == label


def _kind(figure: paperdoll.Figure, seed: int) -> str:
    if figure.outfit.dress is not None:
        return "dress"
    upper = "top" if figure.outfit.outerwear is None else "outerwear"
    return "bottom" if seed % 3 == 0 else upper


def measure(estimator: GarmentEstimator, truths: Iterable[Truth]) -> dict[str, float]:
    """Measure keypoints, outlines and labels.

    Returns:
        `pck@0.1`: the share of the keypoints in the truth that are within 0.1 of the garment's height; `iou` of the
        outlines as a try-on takes them, the mean; `label`: the share of garments called what they are, a top and a
        jacket being alike.
    """
    near: list[bool] = []
    overlaps, right = [], []
    for picture, label, points, mask in truths:
        seen = estimator(picture)
        rows = np.flatnonzero(mask.any(axis=1))
        height = float(rows[-1] - rows[0] + 1)
        counts = points[:, 2] > 0
        found = seen.pose.keypoints[0].double().numpy()
        near += (np.hypot(*(found - points)[counts, :2].T) <= 0.1 * height).tolist()
        cloth = off_ground(picture, seen.labels == seen.label) | (seen.labels == Label.SKIN)
        overlaps.append(float((cloth & mask).sum() / (cloth | mask).sum()))
        right.append(_alike(seen.label) == _alike(label))
    numbers = {"pck@0.1": np.mean(near), "iou": np.mean(overlaps), "label": np.mean(right)}
    return {"pictures": len(right), "keypoints": len(near), **{key: float(value) for key, value in numbers.items()}}


def _alike(label: Label) -> Label:
    return Label.TOP if label == Label.OUTERWEAR else label


def worn_or_not(estimator: GarmentEstimator, alone: Sequence[Path], worn: Sequence[Path]) -> dict[str, float]:
    """Measure how often it is told whether somebody wears a garment."""
    wrong = [estimator(read_image(path)).is_worn for path in alone]
    right = [estimator(read_image(path)).is_worn for path in worn]
    correct = len(wrong) - sum(wrong) + sum(right)
    return {
        "alone": len(wrong),
        "alone_right": 1 - float(np.mean(wrong)),
        "worn": len(right),
        "worn_right": float(np.mean(right)),
        "right": correct / (len(wrong) + len(right)),
    }


def drawn_pairs(estimator: GarmentEstimator, count: int) -> dict[str, float]:
    """Compose pairs of drawn figures with the garment worn, and lying by itself; the truth is drawn.

    The photographs alone are composed, as a try-on shows them; poses and labels of the people are the true ones, those
    of the garment by itself are found.

    Returns:
        `fg_psnr` over the pixels of the person in the truth, and `garment_iou`, of both.
    """
    model = PoseStyleGAN2.from_pretrained("default")
    numbers: dict[str, list[float]] = {}
    seed = HELD_SEED + 10_000
    while min((len(values) for values in numbers.values()), default=0) < count:
        person, garment = paperdoll.sample_figure(seed), paperdoll.sample_figure(seed + 1)
        seed += 2
        region = ("top", "bottom")[seed // 2 % 2] if person.outfit.dress is None else "dress"
        # What lies flat is one garment: a top with a jacket over it is two.
        layered = region == "top" and garment.outfit.outerwear is not None
        if not (paperdoll.wears(person, region) and paperdoll.wears(garment, region)) or layered:
            continue
        truth = paperdoll.render(paperdoll.dress(person, garment, region), _PAIR_SIZE)
        lie = paperdoll.sample_lie(seed)
        flat = paperdoll.lay_flat(garment, region, (512, 512), lie=lie)
        picture = Image.fromarray(flat.image)
        alone = photograph_of(picture, estimator(picture), model)
        wearer, other = _known(person), _known(garment)
        for name, source in (("worn", other), ("alone", alone)):
            layers = compose(wearer, source, REGIONS[region])
            for key, value in _compared(layers, wearer, truth, region).items():
                numbers.setdefault(f"{name}_{key}", []).append(value)
    return {"pairs": float(count), **{name: float(np.mean(values[:count])) for name, values in numbers.items()}}


def _known(figure: paperdoll.Figure) -> Photograph:
    drawing = paperdoll.render(figure, _PAIR_SIZE)
    whole = Photograph.whole(Image.fromarray(drawing.image))
    pose = Pose(torch.from_numpy(drawing.keypoints)[None], _PAIR_SIZE)
    return Photograph(whole.picture, whole.frame, pose, drawing.labels)


def _compared(
    layers: TryOnLayers | None, person: Photograph, truth: paperdoll.Rendering, region: str
) -> dict[str, float]:
    labels = person.labels if person.labels is not None else truth.labels
    picture = person.picture if layers is None else layers.laid_over(person.picture)
    shown = labels if layers is None else layers.labels_over(labels)
    there = truth.labels > 0
    error = (np.asarray(picture, dtype=np.float64) - truth.image)[there] / 255
    classes = [int(label) for label in REGIONS[region]]
    mine, true = np.isin(shown, classes), np.isin(truth.labels, classes)
    return {
        "fg_psnr": float(-10 * np.log10(max(float((error**2).mean()), 1e-10))),
        "garment_iou": float((mine & true).sum() / max(1, (mine | true).sum())),
    }


def evaluate(ccp: Path, flat: Path, weights: Path, *, drawn: int = 96, pairs: int = 64) -> dict[str, Any]:
    """Measure all.

    Args:
        ccp: Folder of photographs of people.
        flat: Folder of photographs of garments.
        weights: Folder of the network.
        drawn: How many drawn garments.
        pairs: How many drawn pairs.
    """
    estimator = GarmentEstimator.from_pretrained(weights)
    splits = json.loads((ccp / "split.json").read_text(encoding="utf-8"))
    people = [ccp / "images" / f"{name}.jpg" for name in splits["val"]]
    return {
        "drawn": measure(estimator, drawn_truths(drawn)),
        "labelled": measure(estimator, labelled_truths(flat)),
        "worn": worn_or_not(estimator, sorted(flat.glob("*.jpg")), people),
        "pairs": drawn_pairs(estimator, pairs),
    }


def table(found: dict[str, Any]) -> str:
    """Lay measures out as text."""
    return "\n".join(
        f"{group}: " + ", ".join(f"{name} {value:.3f}".rstrip("0").rstrip(".") for name, value in numbers.items())
        for group, numbers in found.items()
    )
