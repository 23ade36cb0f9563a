"""The arguments of the ops: checked here, and handed on as values that every implementation takes and trusts."""

from __future__ import annotations

import math
import operator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from styletryon._graphs import is_traced
from styletryon.errors import ConfigError, RangeError, ShapeError


class Padding(NamedTuple):
    """Rows and columns of zeros around an image; a negative number crops."""

    left: int
    right: int
    top: int
    bottom: int


class Activation(NamedTuple):
    """What ends `bias_act`: ``clamp(gain * act(...))``.

    Attributes:
        name: One of those that `styletryon.ops.bias_act` takes.
        gain: Factor on the activation.
        clamp: The result is limited to `[-clamp, clamp]`; None does not limit it.
    """

    name: str
    gain: float = 1.0
    clamp: float | None = None


class Resampling(NamedTuple):
    """Zero insertion, padding, a FIR filter, decimation: all that `upfirdn2d` does to an image.

    Attributes:
        taps: The filter `(kh, kw)`, a constant.
        padding: Zeros around the image behind the zero insertion.
        up: Factor of the zero insertion.
        down: Factor of the decimation.
        flip_filter: Whether the filter correlates instead of convolving.
        gain: Factor on the result.
    """

    taps: Tensor
    padding: Padding
    up: int = 1
    down: int = 1
    flip_filter: bool = False
    gain: float = 1.0


class LayerInputs(NamedTuple):
    """The tensors of a styled layer, all of which may need a gradient.

    Attributes:
        x: Feature maps `(B, Cin, H, W)`.
        weight: Filters `(Cout, Cin, k, k)`, `k` odd.
        styles: One factor per image and input channel, `(B, Cin)`.
        bias: One number per output channel, `(Cout,)`, or None.
        noise: `(B or 1, 1, H * up, W * up)`, or None.
        residual: `(B, Cout, H * up, W * up)`, joins in front of the activation and has the gain already; or None.
    """

    x: Tensor
    weight: Tensor
    styles: Tensor
    bias: Tensor | None = None
    noise: Tensor | None = None
    residual: Tensor | None = None


class LayerSettings(NamedTuple):
    """How a styled layer computes.

    Attributes:
        up: 1, or 2 to double the size.
        taps: The low-pass filter for ``up=2``, 2-D, a constant.
        demodulate: Whether the filters are brought to unit length.
        activation: "linear" or "lrelu".
        gain: Factor on convolution, noise and bias; above 0.
    """

    up: int = 1
    taps: Tensor | None = None
    demodulate: bool = True
    activation: str = "linear"
    gain: float = 1.0


def describe(value: object) -> str:
    """Says in a few words what came, for the end of an error message."""
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    return f"{value!r} ({type(value).__name__})"


def check_float(name: str, value: object) -> None:
    """Demands a tensor of real floating point numbers.

    Raises:
        ShapeError: `value` is no tensor, or holds integers or complex numbers.
    """
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise ShapeError(
            f"expected a floating point tensor, got {describe(value)}; "
            "convert it, for example with torch.as_tensor(..., dtype=torch.float32)",
            argument=name,
        )


def check_images(name: str, value: Tensor) -> None:
    """Demands floating point feature maps `(B, C, H, W)`; only `B` may be zero.

    Raises:
        ShapeError: the tensor has another number of dimensions, or no channels or pixels.
    """
    check_float(name, value)
    if value.ndim != 4:
        raise ShapeError(
            f"expected feature maps of shape (B, C, H, W), got {describe(value)}; "
            "add the missing dimensions, for example with unsqueeze",
            argument=name,
        )
    if 0 in value.shape[1:]:
        raise ShapeError(
            f"expected at least one channel, row and column, got {describe(value)}; "
            "look for a slice or a crop that left nothing",
            argument=name,
        )


def check_same_device(name: str, value: Tensor, other_name: str, other: Tensor) -> None:
    """Demands that two tensors live on one device.

    Raises:
        ConfigError: they do not.
    """
    if value.device != other.device:
        raise ConfigError(
            f"expected the device of {other_name}, {other.device}, got {value.device}; "
            f"move it with {name}.to({other_name}.device)",
            argument=name,
        )


def check_factor(name: str, value: object) -> None:
    """Demands a whole number of at least one.

    Raises:
        RangeError: `value` is something else.
    """
    if not _is_whole(value) or value < 1:  # type: ignore[operator]
        raise RangeError(
            f"expected a whole number >= 1, got {describe(value)}; use 1 to leave the size alone", argument=name
        )


def check_gain(name: str, value: object) -> None:
    """Demands a finite number.

    Raises:
        RangeError: `value` is infinite, not a number or no number at all.
    """
    real = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not real or not math.isfinite(value):  # type: ignore[arg-type]
        raise RangeError(f"expected a finite number, got {describe(value)}; pass a plain int or float", argument=name)


def check_filter(value: object, image: Tensor, image_name: str) -> Tensor:
    """Demands a FIR filter, 1-D or 2-D, and returns it as a 2-D tensor `(kh, kw)`.

    Raises:
        ShapeError: it is no floating point tensor, or its shape is not `(n,)` or `(kh, kw)` with at least one tap.
        ConfigError: it lives on another device than the image, or requires a gradient.
    """
    check_float("filter", value)
    if not isinstance(value, Tensor) or value.ndim not in (1, 2) or value.numel() == 0:
        raise ShapeError(
            f"expected the shape (n,) or (kh, kw), got {describe(value)}; "
            "build one with styletryon.ops.setup_filter([1, 3, 3, 1])",
            argument="filter",
        )
    check_same_device("filter", value, image_name, image)
    if value.requires_grad:
        raise ConfigError(
            "expected a constant, got a tensor that requires a gradient, which this op does not give; "
            "pass filter.detach()",
            argument="filter",
        )
    return value if value.ndim == 2 else torch.outer(value, value)


def parse_padding(value: object) -> Padding:
    """Reads `padding`: one whole number for all four sides, or `(left, right, top, bottom)`.

    Raises:
        ShapeError: there are neither one nor four whole numbers.
    """
    sides = (value,) * 4 if _is_whole(value) else value
    if not isinstance(sides, (tuple, list)) or len(sides) != 4 or not all(_is_whole(side) for side in sides):
        raise ShapeError(
            f"expected a whole number or four, (left, right, top, bottom), got {describe(value)}; "
            "write (x, x, y, y) for the same padding on opposite sides",
            argument="padding",
        )
    return Padding(*(side if isinstance(side, int) else operator.index(side) for side in sides))


def _is_whole(value: object) -> bool:
    """Whether it is a whole number: Python's, NumPy's, or the size of a tensor as `torch.jit.trace` knows it."""
    # Not by `operator.index` alone, which torch.compile need not know.
    if isinstance(value, int):
        return not isinstance(value, bool)
    return isinstance(value, np.integer) or (isinstance(value, Tensor) and is_traced())
