"""The ops in plain PyTorch: the path of every device without fused kernels, of forward mode and of tracers.

Arguments are trusted here; `styletryon.ops` has checked them. Feature maps are computed in channels-last memory on the
CPU, where depthwise filters are several times faster in it; the first op converts and the rest find it so. A CPU's
styled layers, where nothing traces, are those of `_cpu`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from styletryon.ops._arguments import Activation, LayerInputs, LayerSettings, Padding, Resampling

LRELU_SLOPE = 0.2
DEMODULATION_EPSILON = 1e-8


def bias_act(x: Tensor, bias: Tensor | None, noise: Tensor | None, activation: Activation) -> Tensor:
    """`styletryon.ops.bias_act` with every argument given."""
    kind, gain, clamp = activation
    # relu and lrelu are positively homogeneous: the gain moves in front of them, where it rides along with an
    # addition instead of costing a pass of its own.
    early = gain if kind in ("lrelu", "relu", "linear") and gain > 0 else 1.0
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
    y = _activate(y, kind, reuse)
    if late != 1.0:
        y = y * late
    if clamp is not None:
        y = y.clamp(-clamp, clamp)
    return y


def _activate(x: Tensor, kind: str, reuse: bool) -> Tensor:
    if kind == "lrelu":
        return functional.leaky_relu(x, LRELU_SLOPE, reuse)
    if kind == "relu":
        return functional.relu(x, reuse)
    if kind == "tanh":
        return torch.tanh(x)
    if kind == "sigmoid":
        return torch.sigmoid(x)
    if kind == "softplus":
        return functional.softplus(x)
    if kind == "swish":
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
            dense(grad), taps, ctx.stride, ctx.padding, ctx.output_padding, transposed=not ctx.transposed
        )
        return grad_x, None, None, None, None, None


def dense(x: Tensor) -> Tensor:
    return x.to(memory_format=torch.channels_last) if x.device.type == "cpu" else x


def upfirdn2d(x: Tensor, resampling: Resampling) -> Tensor:
    """`styletryon.ops.upfirdn2d` with every argument given and a 2-D filter."""
    taps, padding, up, down, flip_filter, gain = resampling
    height, width = taps.shape
    taps = taps.to(x.dtype) * gain
    x = dense(x)
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


def styled_layer(inputs: LayerInputs, settings: LayerSettings, prepared: object = None) -> Tensor:
    """`styletryon.ops._layer.styled_layer`, every step an op that PyTorch differentiates; `prepared` is not used."""
    del prepared
    with torch.autocast(inputs.x.device.type, enabled=False):
        return layer_of_dtype(inputs, settings, working_dtype(inputs.x))


def working_dtype(x: Tensor) -> torch.dtype:
    """The dtype that a layer computes in: that of autocast where that is on, or that of `x`."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def is_pointwise(inputs: LayerInputs) -> bool:
    """Whether a layer multiplies single pixels with filters that are no more than the pixels are."""
    x, weight = inputs.x, inputs.weight
    return weight.shape[2] == 1 and weight.shape[0] <= x.shape[2] * x.shape[3]


def layer_of_dtype(inputs: LayerInputs, settings: LayerSettings, dtype: torch.dtype) -> Tensor:
    """`styled_layer` in a dtype of the caller's choice, under no autocast."""
    x, weight, styles, bias, noise, residual = inputs
    up, taps, demodulate, kind, gain = settings
    demodulation = demodulation_factor(kernel_energy(weight), styles) if demodulate else None
    x = dense(x).to(dtype)
    pointwise = is_pointwise(inputs)
    if pointwise or (len(x) == 1 and weight.numel() < x.numel()):
        # The filters are smaller than the images: scale them, not the images.
        filters = weight * styles[:, None, :, None, None]
        if demodulation is not None:
            filters = filters * demodulation[:, :, None, None, None]
        if pointwise:
            y = resample(_mix_channels(x, filters[..., 0, 0].to(dtype)), 1, up, taps)
        else:
            y = _convolve(x, filters[0].to(dtype), up, taps)
    else:
        # One convolution with the common filters, between a scale of its input and one of its output.
        y = _convolve(x * styles.to(dtype)[:, :, None, None], weight.to(dtype), up, taps)
        if demodulation is not None:
            y = y * demodulation.to(dtype)[:, :, None, None]
    if residual is None:
        return bias_act(y, bias, noise, Activation(kind, gain))
    return bias_act(bias_act(y, bias, noise, Activation("linear", gain)), None, residual, Activation(kind))


def kernel_energy(weight: Tensor) -> Tensor:
    """The squared length of each kernel `(Cout, Cin)`, in float32 or better."""
    return weight.to(torch.promote_types(weight.dtype, torch.float32)).square().sum(dim=(2, 3))


def demodulation_factor(energy: Tensor, styles: Tensor) -> Tensor:
    """The factor `(B, Cout)` that gives each modulated filter unit length; in float32 or better."""
    dtype = torch.promote_types(styles.dtype, energy.dtype)
    return (styles.to(dtype).square() @ energy.to(dtype).t() + DEMODULATION_EPSILON).rsqrt()


def _mix_channels(x: Tensor, filters: Tensor) -> Tensor:
    """Convolves `(B, Cin, H, W)` with filters of one pixel, `(B, Cout, Cin)`, of each image's own."""
    batch, channels, height, width = x.shape
    # Pixels first: the result and the gradient then lie in memory as `x` does, channels last.
    pixels = x.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
    y = torch.bmm(pixels, filters.transpose(1, 2))
    return y.reshape(batch, height, width, filters.shape[1]).permute(0, 3, 1, 2)


def _convolve(x: Tensor, weight: Tensor, up: int, taps: Tensor | None) -> Tensor:
    """Same-padded correlation, at twice the size if `up` is 2."""
    return resample(correlate(x, weight, up), weight.shape[2], up, taps)


def correlate(x: Tensor, weight: Tensor, up: int) -> Tensor:
    """Same-padded correlation; with ``up=2`` of the image with zeros between its pixels, not yet filtered."""
    size = weight.shape[2]
    if up == 2 and size > 1:
        # The transposed convolution skips the inserted zeros; the filter, being the same for every channel, may follow.
        return functional.conv_transpose2d(x, weight.flip(2, 3).transpose(0, 1), stride=2)
    return functional.conv2d(x, weight, padding=size // 2)


def upsampling(size: int, taps: Tensor) -> Resampling:
    """The resampling that ends an upsampling convolution with kernels of `size`."""
    height, width = taps.shape
    left, top = (width + 1) // 2 - size // 2, (height + 1) // 2 - size // 2
    right, bottom = width + 1 - size - left, height + 1 - size - top
    if size == 1:
        return Resampling(taps, Padding(left, right - 1, top, bottom - 1), up=2, gain=4.0)
    return Resampling(taps, Padding(left, right, top, bottom), gain=4.0)


def resample(x: Tensor, size: int, up: int, taps: Tensor | None) -> Tensor:
    """Ends an upsampling convolution with kernels of `size`; returns `x` as it is where nothing is upsampled."""
    return x if up == 1 or taps is None else upfirdn2d(x, upsampling(size, taps))
