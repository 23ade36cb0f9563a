"""A styled layer as a whole: what plain PyTorch does faster together than op by op."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from styletryon.ops import _cpu, _reference
from styletryon.ops._arguments import Activation, LayerInputs, LayerSettings
from styletryon.ops._cpu import Filters, is_traced
from styletryon.ops._dispatch import choose
from styletryon.ops._reference import LRELU_SLOPE


def styled_layer(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    *,
    bias: Tensor | None = None,
    noise: Tensor | None = None,
    residual: Tensor | None = None,
    up: int = 1,
    filter: Tensor | None = None,
    demodulate: bool = True,
    activation: str = "linear",
    gain: float = 1.0,
    prepared: Filters | None = None,
) -> Tensor:
    """Computes ``act(gain * (modulated_conv2d(x, weight, styles) + noise + bias) + residual)``.

    For networks, which know what they pass: arguments are not checked. Differentiable to any order with respect to
    every tensor but `filter`.

    Args:
        x: Feature maps `(B, Cin, H, W)`.
        weight: Filters `(Cout, Cin, k, k)`, `k` odd.
        styles: One factor per image and input channel, `(B, Cin)`.
        bias: One number per output channel, `(Cout,)`.
        noise: `(B or 1, 1, H * up, W * up)`.
        residual: Joins in front of the activation, `(B, Cout, H * up, W * up)`; it has the gain already.
        up: 1, or 2 to double the size.
        filter: The low-pass filter for ``up=2``, 2-D.
        demodulate: Whether the filters are brought to unit length.
        activation: "linear" or "lrelu".
        gain: A number above 0.
        prepared: ``Filters(weight, up)`` from before, for a weight that has not changed since.

    Returns:
        A tensor `(B, Cout, H * up, W * up)`.
    """
    inputs = LayerInputs(x, weight, styles, bias, noise, residual)
    return choose(x).styled_layer(inputs, LayerSettings(up, filter, demodulate, activation, gain), prepared)


def equal_conv(x: Tensor, weight: Tensor, bias: Tensor | None, factor: float, activation: str) -> Tensor:
    """Computes ``bias_act(conv2d(x, factor * weight), bias, activation)``, the same size out.

    For networks, as `styled_layer`.

    Args:
        x: Feature maps `(B, Cin, H, W)`.
        weight: Filters `(Cout, Cin, k, k)`, `k` odd.
        bias: One number per output channel, or None.
        factor: That of the equalised learning rate.
        activation: "linear" or "lrelu", whose gain is sqrt(2).

    Returns:
        A tensor `(B, Cout, H, W)`.
    """
    path = choose(x)
    padding = weight.shape[-1] // 2
    gain = math.sqrt(2) if activation == "lrelu" else 1.0
    if path is not _cpu and path is not _reference:
        y = functional.conv2d(x, weight * factor, padding=padding)
        return y if bias is None and gain == 1.0 else path.bias_act(y, bias, None, Activation(activation, gain))
    # All factors go where there is least to multiply, the bias into the convolution, the activation in place.
    if weight.numel() < x.numel():
        weight = _scale(weight, factor * gain, x.device.type)
    else:
        x = x * (factor * gain)
    bias = bias if bias is None or gain == 1.0 else bias * gain
    if padding == 0 and x.device.type == "cpu":
        # As a product with the pixels: for kernels of one pixel conv2d is slow in float32.
        y = functional.linear(x.permute(0, 2, 3, 1), weight[:, :, 0, 0], bias).permute(0, 3, 1, 2)
    else:
        y = functional.conv2d(x, weight, bias, padding=padding)
    return functional.leaky_relu(y, LRELU_SLOPE, inplace=True) if activation == "lrelu" else y


def _scale(weight: Tensor, factor: float, device: str) -> Tensor:
    """``factor * weight``, under autocast in its dtype, in one pass."""
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    if device != "cpu" or dtype == weight.dtype or is_traced(weight):
        return weight * factor
    scaled: Tensor = _ScaledCast.apply(weight, factor, dtype)
    return scaled


class _ScaledCast(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, factor: float, dtype: torch.dtype) -> Tensor:
        ctx.factor, ctx.dtype = factor, weight.dtype
        return torch.mul(weight, factor, out=torch.empty_like(weight, dtype=dtype))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        exact = grad.to(ctx.dtype)
        return (exact * ctx.factor if torch.is_grad_enabled() else exact.mul_(ctx.factor)), None, None


def halve(x: Tensor) -> Tensor:
    """Averages squares of 2 x 2 pixels; height and width are even.

    Args:
        x: Feature maps `(B, C, H, W)`.

    Returns:
        A tensor `(B, C, H / 2, W / 2)`.
    """
    if x.device.type != "cpu" or not (torch.is_grad_enabled() and x.requires_grad) or is_traced(x):
        return functional.avg_pool2d(x, 2)
    y: Tensor = _Halve.apply(x)
    return y


class _Halve(torch.autograd.Function):
    """PyTorch's own gradient fills the memory with zeros first and then adds to it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return functional.avg_pool2d(x, 2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        batch, channels, height, width = grad.shape
        spread = (grad * 0.25).permute(0, 2, 3, 1)[:, :, None, :, None]
        spread = spread.expand(batch, height, 2, width, 2, channels)
        return spread.reshape(batch, 2 * height, 2 * width, channels).permute(0, 3, 1, 2)


def channels_last_gradient(x: Tensor) -> Tensor:
    """Returns `x` as it is, whose gradient will lie in channels-last memory.

    Losses that see channels apart hand back gradients in any order, and every product with them is slow until one is
    put in order.
    """
    if not (torch.is_grad_enabled() and x.requires_grad) or torch.compiler.is_compiling():
        return x
    y: Tensor = _ChannelsLastGradient.apply(x)
    return y


class _ChannelsLastGradient(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad.contiguous(memory_format=torch.channels_last)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return tangent.view_as(tangent)
