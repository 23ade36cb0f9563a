"""Pasting of a drawn frame back into its photograph."""

from __future__ import annotations

import math
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
from styletryon.photo.framing import Frame, check_photo
from styletryon.photo.pixels import to_bytes
from styletryon.photo.resampling import resize_plane
from styletryon.pose._photo import Box


def paste_back(
    photo: Image.Image,
    drawing: Tensor,
    mask: Tensor,
    frame: Frame,
    *,
    feather: float = 1.0,
) -> Image.Image:
    """Blend what a model drew into the photograph that it was drawn from.

    Only what the mask covers changes: every pixel of the photograph that lies under mask 0, or outside the frame, stays
    bit for bit. The feather therefore runs inwards from the mask's edge, and from the frame's edge where that crosses
    the photograph.

    Args:
        photo: The photograph, mode "RGB".
        drawing: `(3, H, W)` in [-1, 1] of the frame's size; values outside are clamped.
        mask: `(H, W)` or `(1, H, W)` in [0, 1] of the frame's size: how much of the drawing to show.
        frame: Where in the photograph the drawing belongs.
        feather: Width of the soft edge in pixels of the drawing (the standard deviation of a blur); 0 keeps the mask's
            own edge. Parts of the mask narrower than the feather fade.

    Returns:
        A new picture of the photograph's own size.

    Raises:
        ImageError: If the photograph is not of the frame's size.
        ShapeError: If drawing or mask are not.
        RangeError: If drawing or mask hold NaN, or the feather is negative.
    """
    check_photo(photo, frame)
    height, width = frame.size
    mask = mask[0] if mask.ndim == 3 and mask.shape[0] == 1 else mask
    _check_numbers("drawing", drawing, (3, height, width))
    _check_numbers("mask", mask, (height, width))
    if not feather >= 0:
        raise RangeError(f"expected a width of 0 or more, got {feather}", argument="feather")

    result = np.array(photo.convert("RGB"))
    opacity = mask.detach().cpu().float().clamp(0, 1).numpy()
    region = _region_to_paste(opacity, frame)
    if region is None:
        return Image.fromarray(result)
    (x0, y0, x1, y1), box = region
    covered = (opacity > 0).astype(np.float32)
    support = _feathered(opacity > 0, frame, feather)
    colours = to_bytes(drawing.detach().cpu().float().clamp(-1, 1)).numpy()
    # In strips, because a dozen planes of a large photograph would fill the memory.
    rows = max(1, _STRIP // (x1 - x0))
    for start in range(y0, y1, rows):
        stop = min(start + rows, y1)
        size = (stop - start, x1 - x0)
        step = (box[3] - box[1]) / (y1 - y0)
        part = (box[0], box[1] + (start - y0) * step, box[2], min(box[1] + (stop - y0) * step, float(height)))
        alpha = resize_plane(opacity, size, filter="bilinear", box=part)
        if feather > 0:
            alpha = alpha * np.clip(2 * resize_plane(support, size, filter="bilinear", box=part) - 1, 0, 1)
        # Interpolation spreads the mask by half a pixel; the box filter says where it is truly zero.
        alpha = alpha * (resize_plane(covered, size, filter="box", box=part) > 0)
        _blend(result[start:stop, x0:x1], colours, alpha, part)
    return Image.fromarray(result)


def _check_numbers(argument: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise ShapeError(f"expected shape {shape} of the frame, got {tuple(tensor.shape)}", argument=argument)
    if bool(torch.isnan(tensor).any()):
        raise RangeError("expected numbers, got NaN", argument=argument)


def _blend(strip: NDArray[np.uint8], colours: NDArray[Any], alpha: NDArray[Any], part: Box) -> None:
    """Blend a part of a drawing `(3, H, W)`, in 0..255, into a strip of the photograph, in place."""
    changed = alpha > 0
    if not changed.any():
        return
    for channel, colour in enumerate(colours):
        drawn = np.clip(resize_plane(colour, alpha.shape, filter="lanczos", box=part), 0, 255)
        below = strip[..., channel]
        blended = (below + alpha * (drawn - below)).round().astype(np.uint8)
        strip[..., channel] = np.where(changed, blended, below)


_STRIP = 1 << 18  # Pixels that are blended at a time.


def _region_to_paste(opacity: NDArray[Any], frame: Frame) -> tuple[tuple[int, int, int, int], Box] | None:
    """The whole pixels of the photograph that the mask may touch, and the same region in the drawing's pixels."""
    rows, columns = np.flatnonzero(opacity.any(axis=1)), np.flatnonzero(opacity.any(axis=0))
    if not rows.size:
        return None
    left, top, right, bottom = frame.box
    down, across = frame.scale
    slack = 1e-6  # So that a frame on whole pixels does not lose its last one to rounding.
    x0 = max(0, math.ceil(left - slack), math.floor(left + columns[0] / across))
    y0 = max(0, math.ceil(top - slack), math.floor(top + rows[0] / down))
    x1 = min(frame.photo_size[1], math.floor(right + slack), math.ceil(left + (columns[-1] + 1) / across))
    y1 = min(frame.photo_size[0], math.floor(bottom + slack), math.ceil(top + (rows[-1] + 1) / down))
    if x0 >= x1 or y0 >= y1:
        return None
    height, width = frame.size
    return (x0, y0, x1, y1), (
        min(max((x0 - left) * across, 0.0), width),
        min(max((y0 - top) * down, 0.0), height),
        min(max((x1 - left) * across, 0.0), width),
        min(max((y1 - top) * down, 0.0), height),
    )


def _feathered(support: NDArray[Any], frame: Frame, feather: float) -> NDArray[np.float32]:
    """Blur where the mask is, as if it went on beyond the photograph's edge but not beyond the frame's."""
    margin = math.ceil(3 * feather) + 1
    left, top, right, bottom = frame.box
    height, width = frame.photo_size
    padded = np.pad(support, margin, mode="edge").astype(np.float32)
    half = 0.5  # A frame that ends within half a pixel of the photograph's edge ends there.
    if left > half:
        padded[:, :margin] = 0
    if top > half:
        padded[:margin] = 0
    if right < width - half:
        padded[:, -margin:] = 0
    if bottom < height - half:
        padded[-margin:] = 0
    if feather > 0:
        # Two passes of a one-dimensional Gaussian: Pillow's own blur keeps only eight bits.
        offsets = np.arange(-margin, margin + 1)
        kernel = np.exp(-0.5 * (offsets / feather) ** 2)
        kernel /= kernel.sum()
        for axis in (0, 1):
            padded = np.apply_along_axis(np.convolve, axis, padded, kernel, mode="same")
    blurred: NDArray[np.float32] = padded[margin:-margin, margin:-margin].astype(np.float32)
    # What lies deeper inside than the blur reaches is whole in spite of rounding.
    return np.where(blurred > 1 - 1e-3, np.float32(1), blurred)
