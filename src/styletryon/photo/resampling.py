"""Resampling of pictures and labels: to another size, and to the pixels of a frame.

Each call says which filter it uses, for a network that was trained on what one filter made sees worse through another.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from styletryon.errors import (
    ImageError,
    ShapeError,
)
from styletryon.labels import Label
from styletryon.photo.framing import Frame, check_photo
from styletryon.photo.pixels import Colour, to_tensor
from styletryon.photo.reading import MAX_PIXELS
from styletryon.pose._photo import Box

Filter = Literal["nearest", "box", "bilinear", "bicubic", "lanczos"]
"""The name of a filter of Pillow's. When a picture is made smaller, all but "nearest" leave no aliasing."""

_FINEST = 4
"""How many times finer than the generator's picture `finer_frame` is at most: enough for the edge of a person."""


def resize(picture: Image.Image, size: tuple[int, int], *, filter: Filter, box: Box | None = None) -> Image.Image:
    """Bring a picture to another size.

    Args:
        picture: The picture, of any mode that Pillow resamples.
        size: Height and width to bring it to.
        filter: How pixels are weighted.
        box: The part of it to show, left, top, right and bottom in its pixels. None for all of it.

    Returns:
        A new picture of the same mode.
    """
    return picture.resize(size[::-1], Image.Resampling[filter.upper()], box=box)


def resize_plane(
    values: NDArray[Any], size: tuple[int, int], *, filter: Filter, box: Box | None = None
) -> NDArray[np.float32]:
    """Bring a plane of numbers `(h, w)` to another size, as `resize` does, but without rounding to 8 bits.

    Args:
        values: The plane.
        size: Height and width to bring it to.
        filter: How values are weighted.
        box: The part of it to show, left, top, right and bottom in its pixels. None for all of it.

    Returns:
        `(H, W)` float32.
    """
    plane = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    return np.asarray(resize(plane, size, filter=filter, box=box))


def finer_frame(frame: Frame) -> Frame:
    """Return the same frame in about the photograph's own pixels, but a bounded and whole number of times finer."""
    times = min(_FINEST, max(1, math.ceil(1 / min(frame.scale) - 0.1)))
    return Frame(frame.box, frame.photo_size, (frame.size[0] * times, frame.size[1] * times))


def border_colour(photo: Image.Image) -> Colour:
    """The median colour of a picture's left, top and right border: most often the background's."""
    width, height = photo.size
    margin = max(1, min(width, height) // 50)
    edges = ((0, 0, width, margin), (0, 0, margin, height), (width - margin, 0, width, height))
    border = np.concatenate([np.asarray(photo.crop(edge).convert("RGB")).reshape(-1, 3) for edge in edges])
    red, green, blue = (int(value) for value in np.median(border, axis=0))
    return red, green, blue


def crop(
    photo: Image.Image,
    frame: Frame,
    *,
    filter: Filter = "lanczos",
    background: Colour | Literal["edge"] | None = None,
) -> tuple[Tensor, Tensor]:
    """Cut a frame out of a photograph at the model's size, without aliasing.

    Args:
        photo: The photograph, mode "RGB".
        frame: The part to cut out.
        filter: How pixels are weighted.
        background: The colour outside the photograph; "edge" lets the pixels of its edge go on. Default:
            `border_colour(photo)`.

    Returns:
        The picture `(3, H, W)` in [-1, 1], and `(1, H, W)` in [0, 1]: the share of each pixel inside the photograph.

    Raises:
        ImageError: If the photograph is not of the frame's size, or the frame is unreasonably large.
    """
    check_photo(photo, frame)
    left, top, right, bottom = frame.box
    x0, y0, x1, y1 = _whole_box(frame)
    height, width = frame.size
    if x0 >= 0 and y0 >= 0 and x1 <= photo.width and y1 <= photo.height:
        canvas, box = photo, frame.box
    else:
        if background == "edge":
            rows, columns = _nearest(y0, y1, photo.height), _nearest(x0, x1, photo.width)
            canvas = Image.fromarray(np.asarray(photo)[np.ix_(rows, columns)])
        else:
            canvas = Image.new("RGB", (x1 - x0, y1 - y0), border_colour(photo) if background is None else background)
            canvas.paste(photo, (-x0, -y0))
        box = (left - x0, top - y0, right - x0, bottom - y0)
    picture = resize(canvas, frame.size, filter=filter, box=box)
    across = _coverage(left, right, width, photo.width)
    down = _coverage(top, bottom, height, photo.height)
    return to_tensor(picture), torch.from_numpy(np.outer(down, across)).to(torch.float32)[None]


def crop_labels(labels: NDArray[np.uint8], frame: Frame) -> NDArray[np.uint8]:
    """Cut a frame out of a segmentation: each pixel takes the class that covers most of it, and none is blended.

    Args:
        labels: `(H, W)` uint8, label classes at the photograph's size.
        frame: The part to cut out.

    Returns:
        `(H, W)` uint8 of the frame's size; background outside the photograph.

    Raises:
        ShapeError: If the labels are not of the frame's photograph's size, or not uint8.
        ImageError: If the frame is unreasonably large.
    """
    if labels.shape != tuple(frame.photo_size) or labels.dtype != np.uint8:
        raise ShapeError(
            f"expected {tuple(frame.photo_size)} uint8, got {labels.shape} {labels.dtype}", argument="labels"
        )
    x0, y0, x1, y1 = _whole_box(frame)
    height, width = labels.shape
    inside = labels[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
    across, down = (max(-x0, 0), max(x1 - max(x0, width), 0)), (max(-y0, 0), max(y1 - max(y0, height), 0))
    if not inside.size:
        return np.full(frame.size, int(Label.BACKGROUND), np.uint8)
    classes = np.pad(inside, (down, across), constant_values=int(Label.BACKGROUND))
    left, top, right, bottom = frame.box
    box = (left - x0, top - y0, right - x0, bottom - y0)
    # Of a large photograph only some labels are looked at: a dozen planes of all of them would fill the memory.
    step = max(1, min(math.isqrt(classes.size // _LABELS_AT_ONCE), int(1 / max(frame.scale)) // _SAMPLES))
    if step > 1:
        classes = np.ascontiguousarray(classes[step // 2 :: step, step // 2 :: step])
        x, y = classes.shape[1], classes.shape[0]
        box = (box[0] / step, box[1] / step, min(box[2] / step, x), min(box[3] / step, y))
    present = np.unique(classes)
    best = np.zeros(frame.size, np.float32)
    majority = np.full(frame.size, int(Label.BACKGROUND), np.uint8)
    for label in present:
        share = resize_plane(classes == label, frame.size, filter="box", box=box)
        majority[share > best] = label
        best = np.maximum(best, share)
    return majority


_LABELS_AT_ONCE = 4_000_000
_SAMPLES = 4  # at least, that decide about a pixel of the frame, in each direction


def _whole_box(frame: Frame) -> tuple[int, int, int, int]:
    """The whole pixels that a frame touches."""
    left, top, right, bottom = frame.box
    x0, y0, x1, y1 = math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)
    if (x1 - x0) * (y1 - y0) > 4 * MAX_PIXELS:
        raise ImageError(
            f"expected a part of the photograph, got a box of {x1 - x0}x{y1 - y0} pixels", argument="frame"
        )
    return x0, y0, x1, y1


def _nearest(start: int, stop: int, limit: int) -> NDArray[np.int64]:
    """The pixels of 0..limit-1 that are nearest to start..stop-1."""
    return np.clip(np.arange(start, stop), 0, limit - 1)


def _coverage(start: float, stop: float, count: int, limit: int) -> NDArray[np.float64]:
    """The share of each of `count` equal cells of [start, stop] that lies in [0, limit]."""
    edges = np.linspace(start, stop, count + 1)
    inside = np.clip(edges, 0, limit)
    shares: NDArray[np.float64] = np.diff(inside) / np.diff(edges)
    return np.clip(np.where(shares > 1 - 1e-9, 1.0, shares), 0.0, 1.0)
