"""Mattes: the person's own edges, and the person without the background."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from styletryon.errors import (
    RangeError,
    ShapeError,
)
from styletryon.labels import Label
from styletryon.photo.pixels import Colour, to_unit_array


def matte(picture: Image.Image, person: NDArray[np.bool_], *, band: int) -> NDArray[np.float32]:
    """Turn a rough mask of a person into soft coverage whose edge follows the picture's.

    Within a band on both sides of the mask's edge the coverage is a linear function of the colours nearby (a guided
    filter: He, Sun and Tang, PAMI 2013); beyond it the mask holds. So a jagged edge is smoothed and drawn to the true
    one where that lies within the band, and what the mask says elsewhere is never overruled.

    Args:
        picture: The picture, mode "RGB".
        person: `(H, W)` bool: where the mask sees the person.
        band: How far the mask's edge may be wrong, in pixels; at least 1.

    Returns:
        `(H, W)` float32 in [0, 1]: how much of each pixel the person covers.

    Raises:
        ShapeError: If the mask is not of the picture's size.
        RangeError: If the band is less than a pixel.
    """
    from scipy import ndimage  # Here, because it costs more to import than all else in this module.

    if person.shape != (picture.height, picture.width):
        raise ShapeError(
            f"expected {(picture.height, picture.width)} as the picture, got {person.shape}", argument="person"
        )
    if band < 1:
        raise RangeError(f"expected at least 1 pixel, got {band}", argument="band")
    if person.all() or not person.any():
        return person.astype(np.float32)
    colours = to_unit_array(np.asarray(picture.convert("RGB")))
    # The edge of the smoothed mask has no corners of superpixels; the guide then moves it to the picture's own edge.
    smooth = np.asarray(ndimage.gaussian_filter(person.astype(np.float64), 0.5 * band, mode="nearest"))
    guided = _guided(colours, smooth, radius=2 * band)
    sharp = np.clip((guided - 0.5) * 2.2 + 0.5, 0, 1)
    depth = ndimage.distance_transform_edt(np.pad(person, 1, mode="edge"))[1:-1, 1:-1]
    height = ndimage.distance_transform_edt(np.pad(~person, 1, mode="edge"))[1:-1, 1:-1]
    # Beyond the band the mask holds; a ramp of a pixel leads there.
    least = np.clip(depth - band, 0, 1)
    most = 1 - np.clip(height - band, 0, 1)
    coverage: NDArray[np.float32] = np.clip(sharp, least, most).astype(np.float32)
    return coverage


def _guided(guide: NDArray[np.float64], values: NDArray[np.float64], radius: int) -> NDArray[np.float64]:
    """Fit values by the colours of the guide in each window, and average the fits that meet in a pixel."""
    from scipy import ndimage

    size, epsilon = 2 * radius + 1, 1e-4

    def mean(plane: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(ndimage.uniform_filter(plane, size, mode="nearest"))

    planes = [guide[..., channel] for channel in range(3)]
    centres = [mean(plane) for plane in planes]
    level = mean(values)
    cross = [mean(plane * values) - centre * level for plane, centre in zip(planes, centres, strict=True)]
    # The covariance of the colours is symmetric: six entries, solved by cofactors for all windows at once.
    (rr, rg, rb), (gg, gb), (bb,) = (
        [
            mean(planes[row] * planes[column]) - centres[row] * centres[column] + (epsilon if row == column else 0)
            for column in range(row, 3)
        ]
        for row in range(3)
    )
    first, second, third = gg * bb - gb * gb, rb * gb - rg * bb, rg * gb - rb * gg
    determinant = rr * first + rg * second + rb * third
    slopes = (
        (first * cross[0] + second * cross[1] + third * cross[2]) / determinant,
        (second * cross[0] + (rr * bb - rb * rb) * cross[1] + (rb * rg - rr * gb) * cross[2]) / determinant,
        (third * cross[0] + (rb * rg - rr * gb) * cross[1] + (rr * gg - rg * rg) * cross[2]) / determinant,
    )
    fitted = mean(level - sum(slope * centre for slope, centre in zip(slopes, centres, strict=True)))
    for slope, plane in zip(slopes, planes, strict=True):
        fitted = fitted + mean(slope) * plane
    return fitted


def cut_out(picture: Image.Image, coverage: NDArray[np.float32], background: Colour, *, band: int) -> Image.Image:
    """Lay what a matte covers on a plain colour, without a seam of the old background.

    Where a pixel is covered in part, its colour is a mixture of the person's and of the old background's; the person's
    own is taken from the nearby pixels that are covered wholly.

    Args:
        picture: The picture, mode "RGB".
        coverage: `(H, W)` in [0, 1]; see `matte`.
        background: The new colour.
        band: How far pixels that are covered in part reach, in pixels.

    Returns:
        A new picture of mode "RGB".

    Raises:
        ShapeError: If the coverage is not of the picture's size.
        RangeError: If the coverage is not in [0, 1].
    """
    from scipy import ndimage

    if coverage.shape != (picture.height, picture.width):
        raise ShapeError(
            f"expected {(picture.height, picture.width)} as the picture, got {coverage.shape}", argument="coverage"
        )
    if not (coverage.min() >= 0 and coverage.max() <= 1):
        raise RangeError(f"expected values in [0, 1], got {coverage.min()} to {coverage.max()}", argument="coverage")
    colours = np.asarray(picture.convert("RGB"), dtype=np.float32)
    inner = ndimage.minimum_filter(coverage, 3, mode="nearest") ** 4  # The outermost whole pixels are mixed as well.
    weight = ndimage.gaussian_filter(inner, 0.75 * band, mode="nearest", truncate=6)[..., None]
    near = np.stack(
        [ndimage.gaussian_filter(colours[..., c] * inner, 0.75 * band, mode="nearest", truncate=6) for c in range(3)],
        axis=-1,
    ) / np.maximum(weight, 1e-9)
    trust = np.clip(weight * 1e4, 0, 1) * (1 - inner[..., None])  # Where nothing whole is near, the colour is its own.
    own = colours + trust * (near - colours)
    share = coverage[..., None]
    mixed = own * share + np.asarray(background, dtype=np.float32) * (1 - share)
    return Image.fromarray(np.clip(mixed, 0, 255).round().astype(np.uint8))


def follow(labels: NDArray[np.uint8], coverage: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Let labels end where a matte does: what it adds gets the nearest class, what it takes away is background.

    Args:
        labels: `(H, W)` uint8 label classes.
        coverage: `(H, W)` in [0, 1]; see `matte`.

    Returns:
        New labels `(H, W)` uint8.
    """
    from scipy import ndimage

    person = labels > 0
    if person.all() or not person.any():
        return labels
    rows, columns = ndimage.distance_transform_edt(~person, return_distances=False, return_indices=True)
    followed: NDArray[np.uint8] = np.where(coverage >= 0.5, labels[rows, columns], int(Label.BACKGROUND))
    return followed.astype(np.uint8)
