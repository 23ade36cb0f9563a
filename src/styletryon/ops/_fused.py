"""The ops on fused kernels: the path of CUDA tensors.

Arguments are trusted here; `styletryon.ops` has checked them and `_dispatch` has found the kernels loaded.
"""

from __future__ import annotations

import torch
from torch import Tensor

from styletryon.ops import _library  # noqa: F401  It registers the ops that are called below.
from styletryon.ops._arguments import Activation, LayerInputs, LayerSettings, Resampling
from styletryon.ops._reference import correlate, demodulation_factor, kernel_energy, upsampling, working_dtype

# Smaller than every number of float16, so that a style or a filter of zeros is divided by no zero.
_LEAST = 1e-30
_LINEAR = Activation("linear")


def bias_act(x: Tensor, bias: Tensor | None, noise: Tensor | None, activation: Activation) -> Tensor:
    """`styletryon.ops.bias_act` with every argument given: one pass."""
    return _bias_act(x, bias, noise, None, activation)


def upfirdn2d(x: Tensor, resampling: Resampling) -> Tensor:
    """`styletryon.ops.upfirdn2d` with every argument given and a 2-D filter: one pass."""
    taps, padding, up, down, flip_filter, gain = resampling
    rows = (x.shape[2] * up + padding.top + padding.bottom - taps.shape[0]) // down + 1
    columns = (x.shape[3] * up + padding.left + padding.right - taps.shape[1]) // down + 1
    y: Tensor = torch.ops.styletryon.upfirdn2d.default(
        x, taps, up, down, padding.left, padding.top, rows, columns, flip_filter, gain
    )
    return y


def styled_layer(inputs: LayerInputs, settings: LayerSettings, prepared: object = None) -> Tensor:
    """`styletryon.ops._layer.styled_layer`; `prepared` is not used.

    What follows the convolution and its filter is one pass: the scale of the output channels shares that of the rest.
    """
    del prepared
    y, scale = _convolve(inputs, settings)
    gain, noise = settings.gain, inputs.noise
    if inputs.residual is not None:
        # The activation is homogeneous, so the gain may come last if the residual is without it.
        residual = inputs.residual.to(y.dtype) if gain == 1.0 else inputs.residual.to(y.dtype) / gain
        noise = residual if noise is None else residual + noise.to(y.dtype)
    activation = Activation(settings.activation, gain)
    if scale is None and inputs.bias is None and noise is None and activation == _LINEAR:
        return y
    return _bias_act(y, inputs.bias, noise, scale, activation)


def _bias_act(
    x: Tensor, bias: Tensor | None, noise: Tensor | None, scale: Tensor | None, activation: Activation
) -> Tensor:
    y: Tensor = torch.ops.styletryon.bias_act.default(x, bias, noise, scale, *activation)
    return y


def _convolve(inputs: LayerInputs, settings: LayerSettings) -> tuple[Tensor, Tensor | None]:
    """The modulated convolution but for a factor `(B, Cout)` on its result, or None for no factor."""
    x, weight, styles, *_ = inputs
    up, taps = settings.up, settings.taps
    dtype = working_dtype(x)
    with torch.autocast(x.device.type, enabled=False):
        scale = demodulation_factor(kernel_energy(weight), styles) if settings.demodulate else None
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
        x = _bias_act(x, None, None, styles, _LINEAR)
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
    return x if up == 1 or taps is None else upfirdn2d(x, upsampling(size, taps))
