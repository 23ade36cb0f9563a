"""The ops in plain PyTorch: the path of the CPU, of forward mode, and of every device without fused kernels.

Arguments are trusted here; `styletryon.ops` has checked them. Feature maps are computed in channels-last memory on the
CPU, where depthwise filters are several times faster in it; the first op converts and the rest find it so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad
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
    return styled_layer(x, weight, styles, None, None, None, up, taps, demodulate, "linear", 1.0)


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
    prepared: Filters | None = None,
) -> Tensor:
    """A modulated convolution and what follows it: ``act(gain * (conv + noise + bias) + residual)``.

    Args:
        x: Feature maps `(B, Cin, H, W)`.
        weight: Filters `(Cout, Cin, k, k)`.
        styles: One factor per image and input channel, `(B, Cin)`.
        bias: One number per output channel, or None.
        noise: `(B or 1, 1, H * up, W * up)`, or None.
        residual: A tensor of the shape of the result that joins in front of the activation, or None.
        up: 1 or 2.
        taps: The low-pass filter, 2-D, if `up` is 2.
        demodulate: Whether the filters are brought to unit length.
        activation: "linear" or "lrelu".
        gain: More than 0 for "lrelu".
        prepared: What was derived from `weight` before, if that is the same still.
    """
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    with torch.autocast(device, enabled=False):
        pointwise = weight.shape[2] == 1 and weight.shape[0] <= x.shape[2] * x.shape[3]
        if device != "cpu" or pointwise or x.numel() == 0 or is_traced(x, weight, styles, bias, noise, residual):
            layer = _plain_layer
        elif torch.is_grad_enabled() and any(
            t is not None and t.requires_grad for t in (x, weight, styles, bias, noise, residual)
        ):
            layer = _StyledLayer.apply
        else:
            layer = _fast_layer
        return layer(x, weight, styles, bias, noise, residual, up, taps, demodulate, activation, gain, dtype, prepared)


def is_traced(*tensors: Tensor | None) -> bool:
    """Whether a tracer or a transform watches: then every step must be an op of PyTorch, none of them in place."""
    if torch.compiler.is_compiling():
        return True
    transforms = getattr(torch._C, "_are_functorch_transforms_active", None)
    if transforms is not None and transforms():
        return True
    return any(
        t is not None and forward_ad.unpack_dual(t).tangent is not None  # type: ignore[no-untyped-call]
        for t in tensors
    )


def _plain_layer(
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
    dtype: torch.dtype,
    prepared: Filters | None = None,
) -> Tensor:
    """`styled_layer`, every step an op that PyTorch differentiates."""
    demodulation = demodulation_factor(kernel_energy(weight), styles) if demodulate else None
    x = _dense(x).to(dtype)
    pointwise = weight.shape[2] == 1 and weight.shape[0] <= x.shape[2] * x.shape[3]
    if pointwise or (len(x) == 1 and weight.numel() < x.numel()):
        # The filters are smaller than the images: scale them, not the images.
        filters = weight * styles[:, None, :, None, None]
        if demodulation is not None:
            filters = filters * demodulation[:, :, None, None, None]
        if pointwise:
            y = _resample(_mix_channels(x, filters[..., 0, 0].to(dtype)), 1, up, taps)
        else:
            y = _convolve(x, filters[0].to(dtype), up, taps)
    else:
        # One convolution with the common filters, between a scale of its input and one of its output.
        y = _convolve(x * styles.to(dtype)[:, :, None, None], weight.to(dtype), up, taps)
        if demodulation is not None:
            y = y * demodulation.to(dtype)[:, :, None, None]
    if residual is None:
        return bias_act(y, bias, noise, activation, gain, None)
    return bias_act(bias_act(y, bias, noise, "linear", gain, None), None, residual, activation, 1.0, None)


class Filters:
    """What layers derive from a weight alone, each made when it is first asked for.

    A layer makes its own for every call; a network whose weights are frozen keeps them.

    Args:
        weight: Filters `(Cout, Cin, k, k)`.
        up: 1 or 2.
    """

    def __init__(self, weight: Tensor, up: int) -> None:
        self._weight = weight.detach()
        self.size = weight.shape[2]
        self.swapped = up == 2 and self.size > 1
        self._energy: Tensor | None = None
        self._turned: Tensor | None = None
        self._cast: Tensor | None = None

    @property
    def energy(self) -> Tensor:
        """The squared length of each kernel `(Cout, Cin)`, in float32 or better."""
        if self._energy is None:
            with torch.inference_mode(False), torch.no_grad():
                self._energy = kernel_energy(self._weight)
        return self._energy

    @property
    def turned(self) -> Tensor:
        """The filters as convolutions take them: turned around, Cin first, if it is a transposed one."""
        if self._turned is None:
            with torch.inference_mode(False), torch.no_grad():
                turned = self._weight.flip(2, 3).transpose(0, 1) if self.swapped else self._weight
                # oneDNN takes twice as long to rearrange large filters that do not lie so.
                self._turned = turned.contiguous(memory_format=torch.channels_last)
        return self._turned

    def cast(self, dtype: torch.dtype) -> Tensor:
        """`turned` in another dtype."""
        if dtype == self.turned.dtype:
            return self.turned
        if self._cast is None or self._cast.dtype != dtype:
            with torch.inference_mode(False), torch.no_grad():
                self._cast = self.turned.to(dtype)
        return self._cast


def kernel_energy(weight: Tensor) -> Tensor:
    """The squared length of each kernel `(Cout, Cin)`, in float32 or better."""
    return weight.to(torch.promote_types(weight.dtype, torch.float32)).square().sum(dim=(2, 3))


def demodulation_factor(energy: Tensor, styles: Tensor) -> Tensor:
    """The factor `(B, Cout)` that gives each modulated filter unit length; in float32 or better."""
    dtype = torch.promote_types(styles.dtype, energy.dtype)
    return (styles.to(dtype).square() @ energy.to(dtype).t() + DEMODULATION_EPSILON).rsqrt()


def _prefers_folding(x: Tensor, weight: Tensor) -> bool:
    """Whether to scale the filters, image by image, rather than the images: the filters are the smaller of the two."""
    return weight.numel() * len(x) < x.numel()


def _fold(turned: Tensor, inner: Tensor | None, outer: Tensor | None, swapped: bool, dtype: torch.dtype) -> Tensor:
    """Filters `(B, *turned.shape)`: times `inner` `(B, Cin)` and `outer` `(B, Cout)`, in one pass."""
    factor = _factor(inner, outer, swapped)
    first, second, height, width = turned.shape
    filters = turned.new_empty((len(factor), first, height, width, second), dtype=dtype).permute(0, 1, 4, 2, 3)
    return torch.mul(turned, factor, out=filters)


def _factor(inner: Tensor | None, outer: Tensor | None, swapped: bool) -> Tensor:
    """What scales the filters of each image, `(B, Cout or 1, Cin or 1, 1, 1)`, the channels as in `_turn`."""
    columns = None if inner is None else inner[:, None, :]
    rows = None if outer is None else outer[:, :, None]
    factor = columns if rows is None else rows if columns is None else rows * columns
    if factor is None:
        raise ValueError("nothing scales the filters")
    return (factor.transpose(1, 2) if swapped else factor)[..., None, None]


def _epilogue_(
    y: Tensor,
    noise: Tensor | None,
    residual: Tensor | None,
    activation: str,
    out: Tensor | None = None,
) -> Tensor:
    """Ends a layer in the memory of `y`, or in `out`; `noise` has the gain and the bias already."""
    if noise is not None:
        y.add_(noise)
    if residual is not None:
        y.add_(residual)
    if activation == "lrelu":
        if out is None:
            return functional.leaky_relu_(y, LRELU_SLOPE)
        return torch.ops.aten.leaky_relu.out(y, LRELU_SLOPE, out=out)  # type: ignore[no-any-return]
    return y if out is None else out.copy_(y)


def _correlate(
    x: Tensor,
    filters: Tensor,  # flipped and transposed for up=2, as conv_transpose2d takes them
    size: int,
    up: int,
    taps: Tensor | None,
    bias: Tensor | None,
) -> Tensor:
    """`_convolve` with prepared filters; a bias rides along with the last convolution."""
    if up == 1 or taps is None:
        return functional.conv2d(x, filters, bias, padding=size // 2)
    if size == 1:
        y = _resample(functional.conv2d(x, filters), size, up, taps)
        return y if bias is None else y.add_(bias[:, None, None])
    y = _resample(functional.conv_transpose2d(x, filters, stride=2), size, up, taps)
    return y if bias is None else y.add_(bias[:, None, None])


def _fast_layer(
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
    dtype: torch.dtype,
    prepared: Filters | None = None,
) -> Tensor:
    """`styled_layer` without gradients, in as little memory and as few passes as there are."""
    prepared = Filters(weight, up) if prepared is None else prepared
    demodulation = demodulation_factor(prepared.energy, styles) if demodulate else None
    return _run_layer(x, prepared, styles, demodulation, bias, noise, residual, up, taps, activation, gain, dtype)


def _run_layer(
    x: Tensor,
    filters: Filters,
    styles: Tensor,
    demodulation: Tensor | None,
    bias: Tensor | None,
    noise: Tensor | None,
    residual: Tensor | None,
    up: int,
    taps: Tensor | None,
    activation: str,
    gain: float,
    dtype: torch.dtype,
) -> Tensor:
    x = _dense(x).to(dtype)
    size, batch = filters.size, len(x)
    channels = filters.turned.shape[1 if filters.swapped else 0]
    late = None if bias is None else (bias * gain).to(dtype)
    scaled = None if noise is None else (noise * gain).to(dtype)
    if residual is not None:
        residual = residual.to(dtype)
    outer = _times(demodulation, gain, styles, channels)
    if _prefers_folding(x, filters.turned):
        folded = _fold(filters.turned, styles, outer, filters.swapped, dtype)
        if batch == 1:
            return _epilogue_(_correlate(x, folded[0], size, up, taps, late), scaled, residual, activation)
        out = x.new_empty((batch, x.shape[2] * up, x.shape[3] * up, channels)).permute(0, 3, 1, 2)
        added = zip(_images(scaled, batch), _images(residual, batch), strict=True)
        parts = zip(torch.split(x, 1), folded, added, torch.split(out, 1), strict=True)
        for image, own, (maps, rest), place in parts:
            # While one image is in the cache.
            _epilogue_(_correlate(image, own, size, up, taps, late), maps, rest, activation, place)
        return out
    y = _correlate(x * styles.to(dtype)[:, :, None, None], filters.cast(dtype), size, up, taps, None)
    if outer is not None:
        y.mul_(outer.to(dtype)[:, :, None, None])
    if late is not None:
        offset = late[:, None, None]
        if scaled is not None and len(scaled) < batch:
            # One map for all images: noise and bias are added in one go.
            scaled = scaled.expand(1, *y.shape[1:]).contiguous(memory_format=torch.channels_last) + offset
        else:
            y.add_(offset)
    return _epilogue_(y, scaled, residual, activation)


def _times(demodulation: Tensor | None, gain: float, styles: Tensor, channels: int) -> Tensor | None:
    """The factor of each output channel, `(B, Cout)`; None for 1."""
    if gain == 1.0:
        return demodulation
    return styles.new_full((len(styles), channels), gain) if demodulation is None else demodulation * gain


def _images(x: Tensor | None, batch: int) -> Sequence[Tensor | None]:
    """One tensor per image; a single one is for all."""
    return [x] * batch if x is None or len(x) != batch else torch.split(x, 1)


class _StyledLayer(torch.autograd.Function):
    """`styled_layer` with the gradient written out.

    The forward works in place, and what the backward needs beyond inputs and output it derives from them: the product
    of the gradient with the convolution's result, from which that of the styles follows, is
    ``sum(grad * out) - sum(h * (noise + bias + residual))``, because the activation is homogeneous; ``h`` is the
    gradient behind the activation. Under `create_graph` it differentiates the plain layer instead.
    """

    @staticmethod
    def forward(
        ctx: Any,
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
        dtype: torch.dtype,
        prepared: Filters | None = None,
    ) -> Tensor:
        filters = Filters(weight, up) if prepared is None else prepared
        demodulation = demodulation_factor(filters.energy, styles) if demodulate else None
        out = _run_layer(x, filters, styles, demodulation, bias, noise, residual, up, taps, activation, gain, dtype)
        ctx.save_for_backward(x, weight, styles, bias, noise, residual, taps, out, demodulation)
        ctx.settings = up, demodulate, activation, gain, dtype
        ctx.filters = filters
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(grad.device.type, enabled=False):
            if torch.is_grad_enabled():
                return _differentiate(ctx, grad)
            return _Backward(ctx, grad).gradients()


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """The gradient as a differentiable function: that of the plain layer."""
    x, weight, styles, bias, noise, residual, taps, *_ = ctx.saved_tensors
    up, demodulate, activation, gain, dtype = ctx.settings
    inputs = x, weight, styles, bias, noise, residual
    y = _plain_layer(*inputs, up, taps, demodulate, activation, gain, dtype)
    wanted = [i for i in range(6) if ctx.needs_input_grad[i]]
    found = torch.autograd.grad(y, [inputs[i] for i in wanted], grad, create_graph=True)
    grads: list[Tensor | None] = [None] * 13
    for i, gradient in zip(wanted, found, strict=True):
        grads[i] = gradient
    return tuple(grads)


class _Wanted(NamedTuple):
    """Which inputs of a styled layer need a gradient."""

    x: bool
    weight: bool
    styles: bool
    bias: bool
    noise: bool
    residual: bool


@dataclass
class _Gradients:
    x: Tensor | None = None
    filters: Tensor | None = None  # of one image, or of all together
    styles: Tensor | None = None
    bias: Tensor | None = None  # (B, Cout), without the gain
    noise: Tensor | None = None  # (B, 1, H, W), without the gain
    residual: Tensor | None = None
    product: Tensor | None = None  # (B, Cout): of the logarithm of the demodulation


class _Backward:
    """The gradients of one call of `styled_layer`, computed image by image where the filters are scaled."""

    def __init__(self, ctx: Any, grad: Tensor) -> None:
        x, self.weight, self.styles, self.bias, self.noise, self.residual, self.taps, self.out, self.demodulation = (
            ctx.saved_tensors
        )
        self.up, _, self.activation, self.gain, self.dtype = ctx.settings
        self.filters: Filters = ctx.filters
        self.wanted = wanted = _Wanted(*ctx.needs_input_grad[:6])
        self.exact = torch.promote_types(self.dtype, torch.float32)
        self.grad, self.x, self.x_dtype = _dense(grad), _dense(x).to(self.dtype), x.dtype
        self.outer = _times(self.demodulation, self.gain, self.styles, self.weight.shape[0])
        self.scale = self.styles.to(self.dtype)[:, :, None, None]
        folding = _prefers_folding(x, self.weight)
        # The filters' gradients, image by image, give those of all factors at the cost of small tensors.
        self.by_filters = wanted.weight and folding
        self.folded: Sequence[Tensor] | None = None
        if folding and (wanted.weight or self.outer is not None):
            # Where the weight is frozen, the style stays outside: its gradient is read where it multiplies.
            inner = self.styles if self.by_filters else None
            self.folded = _fold(self.filters.turned, inner, self.outer, self.filters.swapped, self.dtype).unbind()
        # The gradient of the logarithm of the demodulation comes from the output, unless from the filters'.
        self.offsets: _Offsets | None = None
        if self.demodulation is not None and (wanted.styles or wanted.weight) and not self.by_filters:
            self.offsets = _Offsets(self.bias, self.noise, self.residual, self.gain, len(x))
        self.place = torch.empty_like(self.x) if wanted.x and len(x) > 1 and self.folded is not None else None

    def gradients(self) -> tuple[Tensor | None, ...]:
        """What `torch.autograd.Function.backward` returns."""
        if self.folded is not None:
            got = _join([self._of(slice(i, i + 1)) for i in range(len(self.x))], self.place)
        else:
            got = self._of(slice(0, len(self.x)))
        if self.by_filters:
            self._part_filters(got)
        if got.filters is not None:
            got.filters = _turn_back(got.filters, self.filters.swapped).to(self.exact)
        self._add_demodulation(got)
        return self._of_inputs(got)

    def _of(self, part: slice) -> _Gradients:
        """What one image gives, or all together."""
        h = self.grad[part]
        if self.activation == "lrelu":
            h = torch.ops.aten.leaky_relu_backward(h, self.out[part], LRELU_SLOPE, True)
        got = self._of_terms(h, part)
        if self.wanted.x or self.wanted.weight or self.wanted.styles:
            self._through_convolution(h, part, got)
        return got

    def _of_terms(self, h: Tensor, part: slice) -> _Gradients:
        """The gradients of what joins behind the convolution; `h` is the gradient behind the activation."""
        got = _Gradients()
        if self.wanted.residual:
            got.residual = h
        if self.wanted.bias or (self.offsets is not None and self.bias is not None):
            got.bias = h.sum((2, 3)).to(self.exact)
        if self.wanted.noise:
            ones = h.new_ones(h.shape[1], 1)
            got.noise = (h.permute(0, 2, 3, 1).reshape(-1, h.shape[1]) @ ones).reshape(len(h), 1, *h.shape[2:])
        if self.offsets is not None:
            whole = _pixel_products(self.grad[part], self.out[part], self.exact)
            got.product = whole - self.offsets.product(h, part, got.bias, self.exact)
        return got

    def _through_convolution(self, h: Tensor, part: slice, got: _Gradients) -> None:
        """Adds the gradients of what the convolution takes."""
        wanted, its_x = self.wanted, self.x[part]
        if self.up == 2 and self.taps is not None:
            h = _unresample(h, self.filters.size, self.taps)
        if self.folded is not None:
            filters = self.folded[part.start]
        else:
            filters = self.filters.cast(self.dtype)
            if self.outer is not None:
                h = h * self.outer[part].to(self.dtype)[:, :, None, None]
            if wanted.weight:
                its_x = its_x * self.scale[part]
        for_x = wanted.x or (wanted.styles and not self.by_filters)
        grad_x, got.filters = _convolution_backward(
            h, its_x, filters, self.filters.size, self.filters.swapped, for_x, wanted.weight
        )
        if wanted.styles and not self.by_filters:
            got.styles = _pixel_products(grad_x, self.x[part], self.exact)
        if wanted.x:
            got.x = self._unscaled(grad_x, part)

    def _unscaled(self, grad_x: Tensor, part: slice) -> Tensor:
        """The gradient in front of the styles; filters that hold them have passed it already."""
        if self.place is None:
            return grad_x if self.by_filters else grad_x.mul_(self.scale[part])
        if self.by_filters:
            return self.place[part].copy_(grad_x)
        return torch.mul(grad_x, self.scale[part], out=self.place[part])

    def _part_filters(self, got: _Gradients) -> None:
        """Parts the gradients of the images' own filters into those of weight, styles and demodulation."""
        if got.filters is None:
            return
        swapped, turned = self.filters.swapped, self.filters.turned
        per_image = got.filters.to(self.exact)  # (B, *turned.shape)
        got.filters = (per_image * _factor(self.styles, self.outer, swapped)).sum(0)
        matched = (per_image * turned).sum((3, 4))
        matched = matched.transpose(1, 2) if swapped else matched  # (B, Cout, Cin)
        got.styles = (matched if self.outer is None else matched * self.outer[:, :, None]).sum(1)
        if self.demodulation is not None and self.outer is not None:
            got.product = (matched * self.styles[:, None, :]).sum(2) * self.outer

    def _add_demodulation(self, got: _Gradients) -> None:
        """Adds what reaches weight and styles by way of the demodulation."""
        if self.demodulation is None or got.product is None:
            return
        # d = (energy . s^2 + eps)^-1/2, so the gradient of the sum inside is -1/2 product * d^2.
        inner = got.product * self.demodulation.square()
        if self.wanted.styles and got.styles is not None:
            energy = self.filters.energy
            got.styles = got.styles - self.styles * (inner.to(energy.dtype) @ energy)
        if self.wanted.weight and got.filters is not None:
            change = (inner.t() @ self.styles.to(inner.dtype).square())[..., None, None].to(self.exact)
            got.filters = torch.addcmul(got.filters, self.weight.to(self.exact), change, value=-1)

    def _of_inputs(self, got: _Gradients) -> tuple[Tensor | None, ...]:
        """The gradients of the inputs, each in its dtype; None for one that none was asked for."""
        wanted, gain = self.wanted, self.gain
        return (
            got.x.to(self.x_dtype) if got.x is not None else None,
            got.filters.to(self.weight.dtype) if wanted.weight and got.filters is not None else None,
            got.styles.to(self.styles.dtype) if wanted.styles and got.styles is not None else None,
            (got.bias.sum(0) * gain).to(self.bias.dtype) if wanted.bias and got.bias is not None else None,
            (got.noise * gain).sum_to_size(self.noise.shape).to(self.noise.dtype) if got.noise is not None else None,
            got.residual.to(self.residual.dtype) if got.residual is not None else None,
            *[None] * 7,
        )


def _join(parts: list[_Gradients], grad_x: Tensor | None) -> _Gradients:
    """Puts the images' gradients together; those of the filters stay apart, stacked."""

    def together(name: str) -> Tensor | None:
        found = [getattr(part, name) for part in parts]
        if name == "x" and grad_x is not None:
            return grad_x
        if found[0] is None:
            return None
        if name == "filters":
            return torch.stack(found)
        return found[0] if len(found) == 1 else torch.cat(found)

    return _Gradients(*(together(item.name) for item in fields(_Gradients)))


def _pixel_products(a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    """The sum over the pixels of ``a * b``, `(B, C)`."""
    if a.numel() <= 1 << 20:
        return (a * b).sum((2, 3), dtype=dtype)
    # Row by row of pixels through a scratch that stays in the cache: fresh memory costs more than the arithmetic.
    batch, channels, height, width = a.shape
    pixels = [x.permute(0, 2, 3, 1).reshape(batch, height * width, channels) for x in (a, b)]
    step = max(1, (1 << 18) // (batch * channels))
    scratch = a.new_empty((batch, step, channels))
    total = a.new_zeros((batch, channels), dtype=dtype)
    for one, other in zip(*(torch.split(x, step, dim=1) for x in pixels), strict=True):
        total += torch.mul(one, other, out=scratch[:, : one.shape[1]]).sum(1, dtype=dtype)
    return total


class _Offsets:
    """What a layer adds behind its convolution, to be taken off a sum over its output."""

    def __init__(
        self, bias: Tensor | None, noise: Tensor | None, residual: Tensor | None, gain: float, batch: int
    ) -> None:
        self._bias = None if bias is None else gain * bias
        self._noise = None if noise is None else (gain * noise).expand(batch, *noise.shape[1:]).flatten(1)[..., None]
        self._residual = residual

    def product(self, h: Tensor, part: slice, total: Tensor | None, exact: torch.dtype) -> Tensor:
        """The sum over the pixels of `h` times all of it, `(B, Cout)`; `total` is the sum of `h` alone."""
        product = h.new_zeros((), dtype=exact)
        if self._bias is not None and total is not None:
            product = product + self._bias.to(exact) * total
        if self._noise is not None:
            product = product + torch.bmm(h.flatten(2), self._noise[part].to(h.dtype))[..., 0].to(exact)
        if self._residual is not None:
            product = product + _pixel_products(h, self._residual[part].to(h.dtype), exact)
        return product


def _turn_back(grad: Tensor, swapped: bool) -> Tensor:
    return grad.transpose(0, 1).flip(2, 3) if swapped else grad


def _convolution_backward(
    grad: Tensor, x: Tensor, filters: Tensor, size: int, transposed: bool, for_x: bool, for_filters: bool
) -> tuple[Tensor, Tensor]:
    """The gradients of `_correlate` without its low-pass filter; what is not asked for is undefined."""
    stride, padding = (2, 0) if transposed else (1, size // 2)
    mask = [for_x, for_filters, False]
    grad_x, grad_filters, _ = torch.ops.aten.convolution_backward(
        grad, x, filters, None, [stride] * 2, [padding] * 2, [1, 1], transposed, [0, 0], 1, mask
    )
    return grad_x, grad_filters


def _unresample(grad: Tensor, size: int, taps: Tensor) -> Tensor:
    """The transpose of `_resample` with `up=2`."""
    height, width = taps.shape
    left, top = (width + 1) // 2 - size // 2, (height + 1) // 2 - size // 2
    right, bottom = width + 1 - size - left, height + 1 - size - top
    # The transpose of a filter pads by what the filter cropped.
    if size == 1:
        sides = Padding(width - 1 - left, width - 1 - right + 1, height - 1 - top, height - 1 - bottom + 1)
        return upfirdn2d(grad, taps, 1, 2, sides, True, 4.0)
    sides = Padding(width - 1 - left, width - 1 - right, height - 1 - top, height - 1 - bottom)
    return upfirdn2d(grad, taps, 1, 1, sides, True, 4.0)


def _mix_channels(x: Tensor, filters: Tensor) -> Tensor:
    """Convolves `(B, Cin, H, W)` with filters of one pixel, `(B, Cout, Cin)`, of each image's own."""
    batch, channels, height, width = x.shape
    # Pixels first: the result and the gradient then lie in memory as `x` does, channels last.
    pixels = x.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
    y = torch.bmm(pixels, filters.transpose(1, 2))
    return y.reshape(batch, height, width, filters.shape[1]).permute(0, 3, 1, 2)


def _convolve(x: Tensor, weight: Tensor, up: int, taps: Tensor | None) -> Tensor:
    """Same-padded correlation, at twice the size if `up` is 2."""
    return _resample(correlate(x, weight, up), weight.shape[2], up, taps)


def correlate(x: Tensor, weight: Tensor, up: int) -> Tensor:
    """Same-padded correlation; with ``up=2`` of the image with zeros between its pixels, not yet filtered."""
    size = weight.shape[2]
    if up == 2 and size > 1:
        # The transposed convolution skips the inserted zeros; the filter, being the same for every channel, may follow.
        return functional.conv_transpose2d(x, weight.flip(2, 3).transpose(0, 1), stride=2)
    return functional.conv2d(x, weight, padding=size // 2)


def resampling(size: int, taps: Tensor) -> tuple[int, Padding]:
    """What ends an upsampling convolution with kernels of `size`: zeros to insert still, and the filter's padding."""
    height, width = taps.shape
    left, top = (width + 1) // 2 - size // 2, (height + 1) // 2 - size // 2
    right, bottom = width + 1 - size - left, height + 1 - size - top
    return (2, Padding(left, right - 1, top, bottom - 1)) if size == 1 else (1, Padding(left, right, top, bottom))


def _resample(x: Tensor, size: int, up: int, taps: Tensor | None) -> Tensor:
    if up == 1 or taps is None:
        return x
    zeros, padding = resampling(size, taps)
    return upfirdn2d(x, taps, zeros, 1, padding, False, 4.0)
