"""The ops on fused kernels: the path of CUDA tensors.

Arguments are trusted here; `styletryon.ops` has checked them and `_dispatch` has found the kernels loaded.
"""

from __future__ import annotations

import torch
from torch import Tensor

from styletryon.ops import _library  # noqa: F401  It registers the ops that are called below.
from styletryon.ops._arguments import Padding
from styletryon.ops._composite import correlate, demodulation_factor, kernel_energy, resampling

# Smaller than every number of float16, so that a style or a filter of zeros is divided by no zero.
_LEAST = 1e-30


def bias_act(
    x: Tensor,
    bias: Tensor | None,
    noise: Tensor | None,
    activation: str,
    gain: float,
    clamp: float | None,
) -> Tensor:
    """`styletryon.ops.bias_act` with every argument given: one pass."""
    return _bias_act(x, bias, noise, None, activation, gain, clamp)


def upfirdn2d(
    x: Tensor,
    taps: Tensor,
    up: int,
    down: int,
    padding: Padding,
    flip_filter: bool,
    gain: float,
) -> Tensor:
    """`styletryon.ops.upfirdn2d` with every argument given and a 2-D filter: one pass."""
    rows = (x.shape[2] * up + padding.top + padding.bottom - taps.shape[0]) // down + 1
    columns = (x.shape[3] * up + padding.left + padding.right - taps.shape[1]) // down + 1
    y: Tensor = torch.ops.styletryon.upfirdn2d.default(
        x, taps, up, down, padding.left, padding.top, rows, columns, flip_filter, gain
    )
    return y


def modulated_conv2d(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    up: int,
    taps: Tensor | None,
    demodulate: bool,
) -> Tensor:
    """`styletryon.ops.modulated_conv2d` with every argument given and a 2-D filter if `up` is 2."""
    y, scale = _convolve(x, weight, styles, up, taps, demodulate)
    return y if scale is None else _bias_act(y, None, None, scale, "linear", 1.0, None)


def styled_layer(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    bias: Tensor | None,
    noise: Tensor | None,
    residual: Tensor | None,
    up: int,
    taps: Tensor | None,
    demodulate: bool,
    activation: str,
    gain: float,
) -> Tensor:
    """``act(gain * (modulated_conv2d(x, weight, styles) + noise + bias) + residual)`` for linear or lrelu, `gain` > 0.

    What follows the convolution and its filter is one pass: the scale of the output channels shares that of the rest.
    """
    y, scale = _convolve(x, weight, styles, up, taps, demodulate)
    if residual is not None:
        # The activation is homogeneous, so the gain may come last if the residual is without it.
        residual = residual.to(y.dtype) if gain == 1.0 else residual.to(y.dtype) / gain
        noise = residual if noise is None else residual + noise.to(y.dtype)
    if scale is None and bias is None and noise is None and activation == "linear" and gain == 1.0:
        return y
    return _bias_act(y, bias, noise, scale, activation, gain, None)


def _bias_act(
    x: Tensor,
    bias: Tensor | None,
    noise: Tensor | None,
    scale: Tensor | None,
    activation: str,
    gain: float,
    clamp: float | None,
) -> Tensor:
    y: Tensor = torch.ops.styletryon.bias_act.default(x, bias, noise, scale, activation, gain, clamp)
    return y


def _convolve(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    up: int,
    taps: Tensor | None,
    demodulate: bool,
) -> tuple[Tensor, Tensor | None]:
    """The modulated convolution but for a factor `(B, Cout)` on its result, or None for no factor."""
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    with torch.autocast(device, enabled=False):
        scale = demodulation_factor(kernel_energy(weight), styles) if demodulate else None
        x = x.to(dtype)
        pointwise = weight.shape[2] == 1 and 2 * weight.shape[0] <= weight.shape[1]
        if pointwise or (len(x) == 1 and weight.numel() < x.numel()):
            # The filters are smaller than the images: scale them, not the images.
            filters = weight * styles[:, None, :, None, None]
            if scale is not None:
                filters = filters * scale[:, :, None, None, None]
            if pointwise:
                y = _mix_channels(x, filters[..., 0, 0].to(dtype))
                return _resample(y, 1, up, taps), None
            return _resample(correlate(x, filters[0].to(dtype), up), weight.shape[2], up, taps), None
        # One convolution with the common filters, between a scale of its input and one of its output.
        if dtype == torch.float16:
            weight, styles, scale = _tame(weight, styles, scale)
        x = _bias_act(x, None, None, styles, "linear", 1.0, None)
        return _resample(correlate(x, weight.to(dtype), up), weight.shape[2], up, taps), scale


def _mix_channels(x: Tensor, filters: Tensor) -> Tensor:
    """Convolves `(B, Cin, H, W)` with filters of one pixel, `(B, Cout, Cin)`, of each image's own."""
    batch, channels, height, width = x.shape
    if x.is_contiguous():
        return torch.bmm(filters, x.flatten(2)).reshape(batch, filters.shape[1], height, width)
    # The result then lies in memory as `x` does, channels last.
    pixels = x.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
    y = torch.bmm(pixels, filters.transpose(1, 2))
    return y.reshape(batch, height, width, filters.shape[1]).permute(0, 3, 1, 2)


def _tame(weight: Tensor, styles: Tensor, scale: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Divides filters and styles so that a convolution in float16 stays within its range, and says by how much.

    The scaled image is no larger than the image, and the result of the convolution about as large. Both divisors are
    multiplied back in float32, so they are constants to the gradient. bfloat16 has the range of float32 and needs none.
    """
    largest_style = styles.detach().float().abs().amax(1, keepdim=True).clamp_min(_LEAST)
    fan_in = weight[0].numel()
    largest_tap = (weight.detach().float().abs().amax((1, 2, 3)) * fan_in**0.5).clamp_min(_LEAST)
    back = largest_style * largest_tap
    return (
        weight / largest_tap[:, None, None, None],
        styles / largest_style,
        back if scale is None else scale * back,
    )


def _resample(x: Tensor, size: int, up: int, taps: Tensor | None) -> Tensor:
    if up == 1 or taps is None:
        return x
    zeros, padding = resampling(size, taps)
    return upfirdn2d(x, taps, zeros, 1, padding, False, 4.0)
