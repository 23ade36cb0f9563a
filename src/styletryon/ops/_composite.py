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
    elif early != 1.0:
        y = x * early
    # Without gradients the memory of the first sum serves to the end: for large images, fresh memory costs more than
    # the arithmetic. The caller's own tensor is never written to.
    reuse = y is not x and not torch.is_grad_enabled()
    for term in terms[1:]:
        y = y.add_(term, alpha=early) if reuse else torch.add(y, term, alpha=early)
    y = _activate(y, activation, reuse)
    if late != 1.0:
        y = y * late
    if clamp is not None:
        y = y.clamp(-clamp, clamp)
    return y


def _activate(x: Tensor, activation: str, reuse: bool) -> Tensor:
    if activation == "lrelu":
        return functional.leaky_relu(x, LRELU_SLOPE, reuse)
    if activation == "relu":
        return functional.relu(x, reuse)
    if activation == "tanh":
        return torch.tanh(x)
    if activation == "sigmoid":
        return torch.sigmoid(x)
    if activation == "softplus":
        return functional.softplus(x)
    if activation == "swish":
        return functional.silu(x)
    return x


def _depthwise(
    x: Tensor,
    taps: Tensor,
    stride: int,
    padding: tuple[int, int],
    output_padding: tuple[int, int] = (0, 0),
    *,
    transposed: bool,
) -> Tensor:
    """Correlates every channel with one filter at a stride, or applies the transpose of that."""
    if torch.is_grad_enabled() and x.requires_grad:
        y: Tensor = _Depthwise.apply(x, taps, stride, padding, output_padding, transposed)
        return y
    channels = x.shape[1]
    height, width = taps.shape
    if transposed and stride == 1 and padding[0] < height and padding[1] < width:
        # Without a stride the transpose is a correlation with the filter turned around, which is far faster.
        taps, padding, transposed = taps.flip(0, 1), (height - 1 - padding[0], width - 1 - padding[1]), False
    weight = taps.expand(channels, 1, *taps.shape)
    with torch.autocast(x.device.type, enabled=False):
        if transposed and x.device.type == "cpu" and x.dtype in (torch.bfloat16, torch.float16):
            # PyTorch has no fast depthwise transpose in half precision for the CPU: float32 is over ten times faster.
            y = functional.conv_transpose2d(x.float(), weight.float(), None, stride, padding, output_padding, channels)
            return y.to(x.dtype)
        if transposed:
            return functional.conv_transpose2d(x, weight, None, stride, padding, output_padding, channels)
        return functional.conv2d(x, weight, None, stride, padding, groups=channels)


class _Depthwise(torch.autograd.Function):
    """`_depthwise` with its gradient.

    The convolution and its transpose are each other's gradient, so gradients of any order cost what the forward costs.
    PyTorch's own second derivative of a depthwise convolution goes through the channels one by one.
    """

    @staticmethod
    def forward(
        x: Tensor,
        taps: Tensor,
        stride: int,
        padding: tuple[int, int],
        output_padding: tuple[int, int],
        transposed: bool,
    ) -> Tensor:
        return _depthwise(x.detach(), taps, stride, padding, output_padding, transposed=transposed)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, taps, ctx.stride, ctx.padding, _, ctx.transposed = inputs
        ctx.save_for_backward(taps)
        ctx.output_padding = (0, 0)
        if not ctx.transposed:
            # A stride may leave over the last rows and columns; their gradient is zero, but they have one.
            ctx.output_padding = tuple(
                (size + 2 * crop - length) % ctx.stride
                for size, crop, length in zip(x.shape[2:], ctx.padding, taps.shape, strict=True)
            )

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (taps,) = ctx.saved_tensors
        grad_x = _depthwise(
            _dense(grad), taps, ctx.stride, ctx.padding, ctx.output_padding, transposed=not ctx.transposed
        )
        return grad_x, None, None, None, None, None


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
        demodulation = _demodulation(weight, styles) if demodulate else None
        x = _dense(x).to(dtype)
        pointwise = weight.shape[2] == 1 and 2 * weight.shape[0] <= weight.shape[1]
        if pointwise or (len(x) == 1 and weight.numel() < x.numel()):
            # The filters are smaller than the images: scale them, not the images.
            filters = weight * styles[:, None, :, None, None]
            if demodulation is not None:
                filters = filters * demodulation[:, :, None, None, None]
            if pointwise:
                return _resample(_mix_channels(x, filters[..., 0, 0].to(dtype)), 1, up, taps)
            return _convolve(x, filters[0].to(dtype), up, taps)
        # One convolution with the common filters, between a scale of its input and one of its output.
        y = _convolve(x * styles.to(dtype)[:, :, None, None], weight.to(dtype), up, taps)
        if demodulation is None:
            return y
        demodulation = demodulation.to(dtype)[:, :, None, None]
        return y * demodulation if torch.is_grad_enabled() else y.mul_(demodulation)


def _demodulation(weight: Tensor, styles: Tensor) -> Tensor:
    """The factor `(B, Cout)` that gives each modulated filter unit length; in float32 or better."""
    dtype = torch.promote_types(torch.promote_types(weight.dtype, styles.dtype), torch.float32)
    energy = weight.to(dtype).square().sum(dim=(2, 3))
    return (styles.to(dtype).square() @ energy.t() + DEMODULATION_EPSILON).rsqrt()


def _mix_channels(x: Tensor, filters: Tensor) -> Tensor:
    """Convolves `(B, Cin, H, W)` with filters of one pixel, `(B, Cout, Cin)`, of each image's own."""
    batch, channels, height, width = x.shape
    # Pixels first: the result and the gradient then lie in memory as `x` does, channels last.
    pixels = x.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
    y = torch.bmm(pixels, filters.transpose(1, 2))
    return y.reshape(batch, height, width, filters.shape[1]).permute(0, 3, 1, 2)


def _convolve(x: Tensor, weight: Tensor, up: int, taps: Tensor | None) -> Tensor:
    """Same-padded correlation, at twice the size if `up` is 2."""
    size = weight.shape[2]
    if up == 2 and size > 1:
        # The transposed convolution skips the inserted zeros; the filter, being the same for every channel, may follow.
        y = functional.conv_transpose2d(x, weight.flip(2, 3).transpose(0, 1), stride=2)
    else:
        y = functional.conv2d(x, weight, padding=size // 2)
    return _resample(y, size, up, taps)


def _resample(x: Tensor, size: int, up: int, taps: Tensor | None) -> Tensor:
    """Ends an upsampling convolution with kernels of `size`: the inserted zeros if still missing, filter and crop."""
    if up == 1 or taps is None:
        return x
    height, width = taps.shape
    left, top = (width + 1) // 2 - size // 2, (height + 1) // 2 - size // 2
    right, bottom = width + 1 - size - left, height + 1 - size - top
    if size == 1:
        return upfirdn2d(x, taps, 2, 1, Padding(left, right - 1, top, bottom - 1), False, 4.0)
    return upfirdn2d(x, taps, 1, 1, Padding(left, right, top, bottom), False, 4.0)
