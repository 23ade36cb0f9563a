"""Measures of one drawing: against the truth of a rendered pair, and without a truth on photographs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from styletryon._reprs import one_line
from styletryon.generator import GeneratorOutput
from styletryon.labels import REGIONS
from styletryon.metrics import measures
from styletryon.metrics.measures import MIN_UNCOVERED, Array
from styletryon.metrics.rendered_pairs import Pair
from styletryon.photo import to_uint8

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

    __repr__ = one_line


def pictures(drawing: GeneratorOutput) -> list[Picture]:
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


def score_labels(drawn: Picture, truth: Array) -> dict[str, float]:
    """Measure a segmentation, class by class.

    Args:
        drawn: What was drawn.
        truth: `(H, W)` the true label classes.

    Returns:
        `label_iou`: see `mean_iou`; and `iou_CLASS` for each foreground class, NaN where the truth does not show it.
    """
    found = {"label_iou": measures.mean_iou(drawn.labels, truth)}
    found |= {f"iou_{label.name.lower()}": iou for label, iou in measures.class_ious(drawn.labels, truth).items()}
    return found


def score_keypoints(found: Array, asked: Array, size: tuple[int, int]) -> dict[str, float]:
    """Measure a pose; see `keypoint_errors`.

    Args:
        found: `(17, 3)` keypoints found in the picture.
        asked: `(17, 3)` keypoints that it was to show.
        size: Height and width of the picture.

    Returns:
        `keypoint_error`, `pck_10` and `pck_20`; NaN where the asked pose gives no measure.
    """
    errors = measures.keypoint_errors(found, asked, size)
    if errors is None:
        return {"keypoint_error": math.nan, "pck_10": math.nan, "pck_20": math.nan}
    return {"keypoint_error": errors.error, "pck_10": errors.pck_10, "pck_20": errors.pck_20}


def score_reconstruction(drawn: Picture, photo: Picture) -> dict[str, float]:
    """Measure how well a picture is drawn again.

    Args:
        drawn: What was drawn.
        photo: The picture itself and its labels.

    Returns:
        `fg_psnr` and `fg_ssim` over the person, `frame_psnr` and `frame_ssim` over the whole frame.
    """
    person = measures.foreground(photo.labels)
    found = {}
    for name, mask in (("fg", person), ("frame", np.ones_like(person))):
        found[f"{name}_psnr"] = measures.masked_psnr(drawn.image, photo.image, mask)
        found[f"{name}_ssim"] = measures.masked_ssim(drawn.image, photo.image, mask)
    return found


def score_cycle(back: Picture, photo: Picture, classes: frozenset[int]) -> dict[str, float]:
    """Measure what is left of a person who put another's garment on and their own on again.

    Args:
        back: What was drawn in the end.
        photo: The photograph that it began with, and its labels.
        classes: The classes of the region.

    Returns:
        `cycle_psnr` over the person, `cycle_region_psnr` over the region.
    """
    person, region = measures.foreground(photo.labels), measures.class_mask(photo.labels, classes)
    return {
        "cycle_psnr": measures.masked_psnr(back.image, photo.image, person),
        "cycle_region_psnr": measures.masked_psnr(back.image, photo.image, region),
    }
