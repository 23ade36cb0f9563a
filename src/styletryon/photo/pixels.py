"""Ranges, layouts and dtypes of pixels: the only place where they change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from styletryon.errors import (
    RangeError,
    ShapeError,
)
from styletryon.labels import PALETTE

Colour = tuple[int, int, int]


def to_tensor(picture: Image.Image) -> Tensor:
    """Turn an RGB picture into a `(3, H, W)` float32 tensor in [-1, 1]."""
    array = np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))
    return from_uint8(torch.from_numpy(array).permute(2, 0, 1)).contiguous()


def from_uint8(pixels: Tensor) -> Tensor:
    """Turn uint8 values 0..255 of any shape into float32 values in [-1, 1]."""
    return pixels.to(torch.float32) / 127.5 - 1


def to_uint8(pixels: Tensor) -> Tensor:
    """Turn float values in [-1, 1] of any shape into uint8 values 0..255; values outside are clamped."""
    return to_bytes(pixels.detach().to(torch.float32)).round().clamp(0, 255).to(torch.uint8)


def to_unit_array(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Turn uint8 values 0..255 of any shape into float64 values in [0, 1]."""
    return pixels.astype(np.float64) / 255


def to_bytes(pixels: Tensor) -> Tensor:
    """Turn values in [-1, 1] into values in 0..255 that are neither rounded nor clamped; differentiable."""
    return (pixels + 1) * 127.5


def from_unit(pixels: Tensor) -> Tensor:
    """Turn values in [0, 1] into values in [-1, 1]; differentiable."""
    return pixels * 2 - 1


def to_unit(pixels: Tensor) -> Tensor:
    """Turn values in [-1, 1] into values in [0, 1]; values outside are clamped; differentiable inside."""
    return ((pixels + 1) / 2).clamp(0, 1)


def to_pil(pixels: Tensor) -> Image.Image:
    """Turn a drawn picture into a PIL image.

    Args:
        pixels: `(3, H, W)` or `(1, 3, H, W)` float tensor, nominally in [-1, 1]; values outside are clamped.

    Returns:
        A picture of mode "RGB".

    Raises:
        ShapeError: If the shape is another one.
        RangeError: If a value is NaN.
    """
    if pixels.ndim == 4 and pixels.shape[0] == 1:
        pixels = pixels[0]
    if pixels.ndim != 3 or pixels.shape[0] != 3:
        raise ShapeError(
            f"expected shape (3, H, W), got {tuple(pixels.shape)}; pass one picture at a time", argument="pixels"
        )
    if bool(torch.isnan(pixels).any()):
        raise RangeError("expected values in [-1, 1], got NaN", argument="pixels")
    return Image.fromarray(to_uint8(pixels).permute(1, 2, 0).cpu().contiguous().numpy())


def labels_to_image(labels: Tensor | NDArray[Any], palette: Sequence[Colour] = PALETTE) -> Image.Image:
    """Colour a segmentation.

    Args:
        labels: `(H, W)` integers: the label class of each pixel.
        palette: An sRGB colour per label class.

    Returns:
        A picture of mode "RGB".

    Raises:
        ShapeError: If the shape or dtype is another one.
        RangeError: If a class has no colour.
    """
    classes = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if classes.ndim != 2 or not np.issubdtype(classes.dtype, np.integer):
        raise ShapeError(f"expected (H, W) integers, got {classes.shape} {classes.dtype}", argument="labels")
    if classes.size and (classes.min() < 0 or classes.max() >= len(palette)):
        raise RangeError(
            f"expected classes 0..{len(palette) - 1}, got {classes.min()} to {classes.max()}", argument="labels"
        )
    return Image.fromarray(np.asarray(palette, dtype=np.uint8)[classes])
