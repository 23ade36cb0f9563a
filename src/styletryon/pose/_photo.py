"""Parts of photographs, and keypoints in them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from styletryon.errors import ImageError, RangeError

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of a photograph; it may reach beyond it."""

_FILL = (128, 128, 128)  # beyond the photograph; the training fills with the same grey


def as_rgb(image: Image.Image) -> Image.Image:
    if not isinstance(image, Image.Image):
        raise ImageError(
            f"expected a PIL image, got {type(image).__name__}; read it with PIL.Image.open", argument="image"
        )
    return image.convert("RGB")


def as_box(box: Sequence[float], photo: Image.Image) -> Box:
    """Return what lies in a photograph of a box that a caller gave.

    Raises:
        RangeError: If it is not four numbers, is empty, or lies beside the photograph.
    """
    try:
        edges = tuple(float(edge) for edge in box)
    except (TypeError, ValueError):  # no numbers, or not several
        edges = ()
    if len(edges) != 4 or not all(math.isfinite(edge) for edge in edges):
        raise RangeError(f"expected four numbers (left, top, right, bottom), got {box!r}", argument="box")
    left, top, right, bottom = edges
    if not (max(left, 0) < min(right, photo.width) and max(top, 0) < min(bottom, photo.height)):
        raise RangeError(
            f"expected left < right and top < bottom within a picture of {photo.width}x{photo.height} pixels "
            f"(width x height), got {edges}",
            argument="box",
        )
    return max(left, 0.0), max(top, 0.0), min(right, float(photo.width)), min(bottom, float(photo.height))


def within(points: Tensor, photo: Image.Image) -> Tensor:
    """Move keypoints that are outside a photograph to its edge, and say by score 0 that they are not in it."""
    limit = points.new_tensor([photo.width, photo.height])
    inside = ((points[:, :2] >= 0) & (points[:, :2] <= limit)).all(1)
    place = torch.minimum(points[:, :2].clamp(min=0), limit)
    return torch.cat([place, (points[:, 2] * inside).clamp(0, 1)[:, None]], dim=1)


def cut(photo: Image.Image, box: Box, size: tuple[int, int]) -> Tensor:
    """Resample a box of a photograph, which may reach beyond it, to `(3, H, W)` in [-1, 1]."""
    height, width = size
    left, top, right, bottom = box
    step_x, step_y = (right - left) / width, (bottom - top) / height
    # Whole pixels of the result that lie inside the photograph, so that no rounding moves the picture.
    x0, x1 = max(0, math.ceil(-left / step_x)), min(width, math.floor((photo.width - left) / step_x))
    y0, y1 = max(0, math.ceil(-top / step_y)), min(height, math.floor((photo.height - top) / step_y))
    result = Image.new("RGB", (width, height), _FILL)
    if x1 > x0 and y1 > y0:
        inside = (
            max(0.0, left + x0 * step_x),
            max(0.0, top + y0 * step_y),
            min(float(photo.width), left + x1 * step_x),
            min(float(photo.height), top + y1 * step_y),
        )
        part = photo.resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR, box=inside)
        result.paste(part, (x0, y0))
    array = torch.from_numpy(np.array(result)).permute(2, 0, 1)
    return array.float() / 127.5 - 1
