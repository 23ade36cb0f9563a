"""The ops in plain PyTorch: the path of the CPU, of forward mode, and of every device without fused kernels.

Arguments are trusted here; `styletryon.ops` has checked them. Feature maps are computed in channels-last memory on the
CPU, where depthwise filters are several times faster in it; the first op converts and the rest find it so.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from styletryon.ops._arguments import Padding

LRELU_SLOPE = 0.2
DEMODULATION_EPSILON = 1e-8


def bias_act(
    x: Tensor,
    bias: Tensor | None,
    noise: Tensor | None,
    activation: str,
    gain: float,
    clamp: float | None,
) -> Tensor:
    """`styletryon.ops.bias_act` with every argument given."""
    # relu and lrelu are positively homogeneous: the gain moves in front of them, where it rides along with an
    # addition instead of costing a pass of its own.
    early = gain if activation in ("lrelu", "relu", "linear") and gain > 0 else 1.0
    late = 1.0 if early == gain else gain
    terms = []
    if noise is not None:
        terms.append(noise.to(x.dtype))
    if bias is not None:
        terms.append(bias.to(x.dtype).reshape(-1, *[1] * (x.ndim - 2)))
    y = x
    if terms:
        y = torch.add(terms[0] * early if early != 1.0 else terms[0], x, alpha=early)
        for term in terms[1:]:
            y = torch.add(y, term, alpha=early)
    elif early != 1.0:
        y = x * early
    y = _activate(y, activation)
    if late != 1.0:
        y = y * late
    if clamp is not None:
        y = y.clamp(-clamp, clamp)
    return y


def _activate(x: Tensor, activation: str) -> Tensor:
    if activation == "lrelu":
        return functional.leaky_relu(x, LRELU_SLOPE)
    if activation == "relu":
        return functional.relu(x)
    if activation == "tanh":
        return torch.tanh(x)
    if activation == "sigmoid":
        return torch.sigmoid(x)
    if activation == "softplus":
        return functional.softplus(x)
    if activation == "swish":
        return functional.silu(x)
    return x


class _Depthwise(torch.autograd.Function):
    """One constant filter over every channel, by a strided convolution or its transpose.

    Each of the two is the other's gradient, so gradients of any order cost what the forward costs. PyTorch's own
    second derivative of a depthwise convolution goes through the channels one by one.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor,
        taps: Tensor,
        stride: tuple[int, int],
        padding: tuple[int, int],
        transposed: bool,
        output_padding: tuple[int, int],
    ) -> Tensor:
        channels = x.shape[1]
        weight = taps.expand(channels, 1, *taps.shape)
        with torch.autocast(x.device.type, enabled=False):
            if transposed:
                return functional.conv_transpose2d(x, weight, None, stride, padding, output_padding, groups=channels)
            return functional.conv2d(x, weight, None, stride, padding, groups=channels)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, taps, stride, padding, transposed, _ = inputs
        ctx.save_for_backward(taps)
        ctx.save_for_forward(taps)
        ctx.stride, ctx.padding, ctx.transposed = stride, padding, transposed
        ctx.output_padding = inputs[5]
        # What the transposed convolution must append so that its result has the size of x again.
        ctx.remainder = tuple((x.shape[2 + i] + 2 * padding[i] - taps.shape[i]) % stride[i] for i in range(2))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None, None, None, None]:
        (taps,) = ctx.saved_tensors
        remainder = (0, 0) if ctx.transposed else ctx.remainder
        grad_x = _Depthwise.apply(_dense(grad), taps, ctx.stride, ctx.padding, not ctx.transposed, remainder)
        return grad_x, None, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        (taps,) = ctx.saved_tensors
        result: Tensor = _Depthwise.apply(tangent, taps, ctx.stride, ctx.padding, ctx.transposed, ctx.output_padding)
        return result


def _dense(x: Tensor) -> Tensor:
    return x.to(memory_format=torch.channels_last) if x.device.type == "cpu" else x


def upfirdn2d(
    x: Tensor,
    taps: Tensor,
    up: int,
    down: int,
    padding: Padding,
    flip_filter: bool,
    gain: float,
) -> Tensor:
    """`styletryon.ops.upfirdn2d` with every argument given and a 2-D filter."""
    height, width = taps.shape
    taps = taps.to(x.dtype) * gain
    x = _dense(x)
    if up == 1:
        # conv2d correlates, so a convolution takes the flipped filter.
        taps = taps if flip_filter else taps.flip(0, 1)
        inner, outer = _split(padding.left, padding.right, padding.top, padding.bottom)
        return _depthwise(_pad(x, outer), taps, down, inner, transposed=False)
    # The transposed convolution inserts the zeros and convolves in full; what it appends or lacks at each side is
    # cropped by its own padding as far as that is the same on opposite sides, then by slices.
    taps = taps.flip(0, 1) if flip_filter else taps
    inner, outer = _split(
        width - 1 - padding.left,
        width - up - padding.right,
        height - 1 - padding.top,
        height - up - padding.bottom,
    )
    # The inner crop must leave something to the transposed convolution itself.
    full = [(size - 1) * up + n for size, n in zip(x.shape[2:], (height, width), strict=True)]
    if full[0] <= 2 * inner[0] or full[1] <= 2 * inner[1]:
        inner, outer = (0, 0), Padding(*(side + inner[1 - i // 2] for i, side in enumerate(outer)))
    y = _pad(_depthwise(x, taps, up, inner, transposed=True), Padding(*(-side for side in outer)))
    return y if down == 1 else y[:, :, ::down, ::down]


def _split(left: int, right: int, top: int, bottom: int) -> tuple[tuple[int, int], Padding]:
    """Parts a padding into (vertical, horizontal) that is the same on opposite sides and >= 0, and the rest."""
    horizontal, vertical = max(0, min(left, right)), max(0, min(top, bottom))
    rest = Padding(left - horizontal, right - horizontal, top - vertical, bottom - vertical)
    return (vertical, horizontal), rest


def _pad(x: Tensor, padding: Padding) -> Tensor:
    """Pads first and crops last, so that a crop may be longer than the image itself."""
    left, right, top, bottom = (max(0, side) for side in padding)
    if left or right or top or bottom:
        x = functional.pad(x, (left, right, top, bottom))
    left, right, top, bottom = (max(0, -side) for side in padding)
    return x[:, :, top : x.shape[2] - bottom, left : x.shape[3] - right]


def _depthwise(x: Tensor, taps: Tensor, stride: int, padding: tuple[int, int], *, transposed: bool) -> Tensor:
    y: Tensor = _Depthwise.apply(x, taps, (stride, stride), padding, transposed, (0, 0))
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
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    with torch.autocast(device, enabled=False):
        demodulation = _demodulation(weight, styles).to(dtype)[:, :, None, None] if demodulate else None
        y = _dense(x).to(dtype) * styles.to(dtype)[:, :, None, None]
        y = _convolve(y, weight.to(dtype), up, taps)
        return y if demodulation is None else y * demodulation


def _demodulation(weight: Tensor, styles: Tensor) -> Tensor:
    """The factor `(B, Cout)` that gives each modulated filter unit length; in float32 or better."""
    dtype = torch.promote_types(torch.promote_types(weight.dtype, styles.dtype), torch.float32)
    energy = weight.to(dtype).square().sum(dim=(2, 3))
    return (styles.to(dtype).square() @ energy.t() + DEMODULATION_EPSILON).rsqrt()


def _convolve(x: Tensor, weight: Tensor, up: int, taps: Tensor | None) -> Tensor:
    """Same-padded correlation, after upsampling by zero insertion and `taps` if there are any."""
    size = weight.shape[2]
    if up == 1 or taps is None:
        return functional.conv2d(x, weight, padding=size // 2)
    pad_y, pad_x = ((n + 1) // 2 - size // 2 for n in taps.shape)
    end_y, end_x = (n + 1 - size - pad for n, pad in zip(taps.shape, (pad_y, pad_x), strict=True))
    if size == 1:
        # A filter is the same for every channel, so the pointwise convolution may go first, at the small size.
        y = functional.conv2d(x, weight)
        return upfirdn2d(y, taps, up, 1, Padding(pad_x, end_x - 1, pad_y, end_y - 1), False, float(up**2))
    y = functional.conv_transpose2d(x, weight.flip(2, 3).transpose(0, 1), stride=up)
    return upfirdn2d(y, taps, 1, 1, Padding(pad_x, end_x, pad_y, end_y), False, float(up**2))
