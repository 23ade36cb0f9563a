"""Which measures a drawing earns: with the truth of a rendered pair, and without one on photographs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from styletryon.drawing import Drawing
from styletryon.features import FeatureNetwork
from styletryon.features.base import is_deep
from styletryon.images import to_uint8
from styletryon.labels import REGIONS
from styletryon.metrics import measures
from styletryon.metrics.measures import MIN_UNCOVERED, Array
from styletryon.metrics.pairs import Pair

MEASURES = (
    "fg_psnr",
    "fg_ssim",
    "garment_psnr",
    "garment_iou",
    "identity_psnr",
    "uncovered_psnr",
    "texture_contrast",
    "texture_correlation",
    "texture_drawn",
)
"""The measures of a pair whose truth is known, in the order of the table; `seconds` comes after them."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture as a user would save it.

    Attributes:
        image: `(H, W, 3)` uint8.
        labels: `(H, W)` uint8 label classes.
    """

    image: Array
    labels: Array


def pictures(drawing: Drawing) -> list[Picture]:
    """Turn a batch of drawings into 8-bit pictures: what is judged is what would be saved."""
    images = to_uint8(drawing.image).permute(0, 2, 3, 1).cpu().numpy()
    labels = drawing.labels.cpu().numpy()
    return [Picture(image, classes) for image, classes in zip(images, labels, strict=True)]


def score_pair(drawn: Picture, pair: Pair) -> dict[str, float]:
    """Measure a try-on against its rendered truth.

    Args:
        drawn: What a method drew.
        pair: The pair.

    Returns:
        One number for each of `MEASURES`; NaN where the pair does not have what it measures.
    """
    classes, truth = REGIONS[pair.region], pair.truth
    garment = measures.class_mask(truth.labels, classes)
    identity = measures.identity_mask(truth.labels, pair.person.labels, classes)
    uncovered = measures.uncovered_mask(truth.labels, pair.person.labels, classes)
    found = {
        "fg_psnr": measures.masked_psnr(drawn.image, truth.image, measures.foreground(truth.labels)),
        "fg_ssim": measures.masked_ssim(drawn.image, truth.image, measures.foreground(truth.labels)),
        "garment_psnr": measures.masked_psnr(drawn.image, truth.image, garment),
        "garment_iou": measures.label_iou(drawn.labels, truth.labels, classes),
        "identity_psnr": measures.masked_psnr(drawn.image, truth.image, identity),
        "uncovered_psnr": math.nan,
        "texture_contrast": math.nan,
        "texture_correlation": math.nan,
        "texture_drawn": math.nan,
    }
    if int(uncovered.sum()) >= MIN_UNCOVERED:
        found["uncovered_psnr"] = measures.masked_psnr(drawn.image, truth.image, uncovered)
    texture = (
        measures.texture(drawn.image, truth.image, pair.pattern_mask, plain=pair.plain) if pair.patterned else None
    )
    if texture is not None:
        found["texture_contrast"] = texture.contrast
        found["texture_correlation"] = texture.correlation
        found["texture_drawn"] = texture.drawn
    return found


def score_photographs(drawn: Picture, person: Picture, garment: Picture, classes: frozenset[int]) -> dict[str, float]:
    """Measure a try-on of photographs, whose truth nobody knows.

    Args:
        drawn: What a method drew.
        person: The person's photograph and its labels.
        garment: The photograph of the garment's wearer and its labels.
        classes: The classes of the region.

    Returns:
        `outside_change`: mean absolute difference from the person's photograph, in [0, 1], where neither the photograph
        nor the drawing shows the region. `identity_psnr`: the same place without the background, as a PSNR.
        `garment_colour`: distance of the mean colours (CIELAB). `garment_texture`: see `texture_distance`.
    """
    ours, theirs = (measures.class_mask(picture.labels, classes) for picture in (drawn, garment))
    outside = ~(ours | measures.class_mask(person.labels, classes))
    change = np.abs(drawn.image.astype(np.float64) - person.image.astype(np.float64))[outside] / 255
    kept = outside & measures.foreground(person.labels)
    return {
        "outside_change": float(change.mean()) if change.size else math.nan,
        "identity_psnr": measures.masked_psnr(drawn.image, person.image, kept),
        "garment_colour": measures.colour_distance(drawn.image, ours, garment.image, theirs),
        "garment_texture": measures.texture_distance(drawn.image, ours, garment.image, theirs),
    }


@torch.no_grad()
def pooled_features(network: FeatureNetwork, images: Tensor) -> Array:
    """Summarise pictures for the kernel distance.

    Args:
        network: A deep network, whose last map is averaged over the picture, or another one, whose maps are averaged
            over a grid of 4x3 cells.
        images: `(B, 3, H, W)` in [-1, 1].

    Returns:
        `(B, D)` float64.
    """
    features = network(images)
    if is_deep(network):
        return np.asarray(features[-1].double().mean(dim=(2, 3)).cpu().numpy())
    cells = [torch.nn.functional.adaptive_avg_pool2d(f.double(), (4, 3)).flatten(1) for f in features]
    return np.asarray(torch.cat(cells, dim=1).cpu().numpy())
