"""Slow, literal definitions of the ops, in NumPy and float64: what `styletryon.ops` has to agree with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def bias_act(
    x: Array,
    bias: Array | None = None,
    noise: Array | None = None,
    activation: str = "lrelu",
    gain: float = 1.0,
    clamp: float | None = None,
) -> Array:
    y = np.array(x, dtype=np.float64)
    if noise is not None:
        y = y + noise
    if bias is not None:
        for channel in range(y.shape[1]):
            y[:, channel] += bias[channel]
    y = {
        "linear": lambda v: v,
        "lrelu": lambda v: np.where(v >= 0, v, 0.2 * v),
        "relu": lambda v: np.maximum(v, 0),
        "sigmoid": lambda v: 1 / (1 + np.exp(-v)),
        "softplus": lambda v: np.log1p(np.exp(v)),
        "swish": lambda v: v / (1 + np.exp(-v)),
        "tanh": np.tanh,
    }[activation](y)
    y = gain * y
    return y if clamp is None else np.clip(y, -clamp, clamp)


def upfirdn2d(
    x: Array,
    filter: Array,
    up: int = 1,
    down: int = 1,
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    flip_filter: bool = False,
    gain: float = 1.0,
) -> Array:
    """Zero insertion, then one window per pixel that is kept; a pixel outside the image is zero."""
    batch, channels, height, width = x.shape
    spread = np.zeros((batch, channels, height * up, width * up))
    spread[:, :, ::up, ::up] = x
    taps = np.outer(filter, filter) if filter.ndim == 1 else filter
    if not flip_filter:
        taps = taps[::-1, ::-1]
    left, right, top, bottom = padding
    rows = (height * up + top + bottom - taps.shape[0]) // down + 1
    columns = (width * up + left + right - taps.shape[1]) // down + 1
    y = np.zeros((batch, channels, rows, columns))
    for row in range(rows):
        for column in range(columns):
            for (i, j), tap in np.ndenumerate(taps):
                source_row, source_column = row * down + i - top, column * down + j - left
                if 0 <= source_row < height * up and 0 <= source_column < width * up:
                    y[:, :, row, column] += gain * tap * spread[:, :, source_row, source_column]
    return y


def modulated_conv2d(
    x: Array,
    weight: Array,
    styles: Array,
    up: int = 1,
    filter: Array | None = None,
    demodulate: bool = True,
) -> Array:
    """Builds each image's own filters and correlates it with them, pixel by pixel."""
    size = weight.shape[2]
    margin = size // 2
    if up == 2:
        kh, kw = (len(filter), len(filter)) if filter.ndim == 1 else filter.shape
        padding = ((kw + 1) // 2, kw // 2 - 1, (kh + 1) // 2, kh // 2 - 1)
        around = upfirdn2d(x, filter, up=2, padding=tuple(side + margin for side in padding), gain=4.0)
    else:
        around = np.pad(x, ((0, 0), (0, 0), (margin, margin), (margin, margin)))
    height, width = x.shape[2] * up, x.shape[3] * up
    y = np.zeros((x.shape[0], weight.shape[0], height, width))
    for image in range(x.shape[0]):
        for output in range(weight.shape[0]):
            own = np.stack([weight[output, channel] * styles[image, channel] for channel in range(x.shape[1])])
            if demodulate:
                own = own / np.sqrt((own**2).sum() + 1e-8)
            for row in range(height):
                for column in range(width):
                    window = around[image, :, row : row + size, column : column + size]
                    y[image, output, row, column] = (window * own).sum()
    return y
