"""The styled layer of the CPU: in place, in few passes, with its gradient written out.

`bias_act` and `upfirdn2d` are those of `_reference`, and so is a layer that something traces. Arguments are trusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional

from styletryon.ops._arguments import LayerInputs, LayerSettings, Padding, Resampling
from styletryon.ops._reference import (
    LRELU_SLOPE,
    bias_act,
    demodulation_factor,
    dense,
    is_pointwise,
    kernel_energy,
    layer_of_dtype,
    resample,
    upfirdn2d,
    upsampling,
    working_dtype,
)

__all__ = ["Filters", "bias_act", "is_traced", "styled_layer", "upfirdn2d"]


def styled_layer(inputs: LayerInputs, settings: LayerSettings, prepared: Filters | None = None) -> Tensor:
    """`styletryon.ops._layer.styled_layer` for tensors on the CPU."""
    dtype = working_dtype(inputs.x)
    with torch.autocast("cpu", enabled=False):
        if is_pointwise(inputs) or inputs.x.numel() == 0 or is_traced(*inputs):
            return layer_of_dtype(inputs, settings, dtype)
        filters = Filters(inputs.weight, settings.up) if prepared is None else prepared
        if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs):
            y: Tensor = _StyledLayer.apply(*inputs, settings, filters, dtype)
            return y
        return _run_layer(inputs, settings, filters, filters.demodulation(inputs, settings), dtype)


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

    def demodulation(self, inputs: LayerInputs, settings: LayerSettings) -> Tensor | None:
        """The factor `(B, Cout)` that gives each filter of a layer unit length; None for no demodulation."""
        return demodulation_factor(self.energy, inputs.styles) if settings.demodulate else None


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


def _correlate(x: Tensor, filters: Tensor, settings: LayerSettings, bias: Tensor | None) -> Tensor:
    """Convolves with filters that lie as `Filters.turned`; a bias rides along with the last convolution."""
    size, up, taps = filters.shape[2], settings.up, settings.taps
    if up == 1 or taps is None:
        return functional.conv2d(x, filters, bias, padding=size // 2)
    if size == 1:
        y = resample(functional.conv2d(x, filters), size, up, taps)
        return y if bias is None else y.add_(bias[:, None, None])
    y = resample(functional.conv_transpose2d(x, filters, stride=2), size, up, taps)
    return y if bias is None else y.add_(bias[:, None, None])


def _run_layer(
    inputs: LayerInputs,
    settings: LayerSettings,
    filters: Filters,
    demodulation: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    """The layer without gradients, in as little memory and as few passes as there are."""
    x, _, styles, bias, noise, residual = inputs
    up, activation, gain = settings.up, settings.activation, settings.gain
    x = dense(x).to(dtype)
    batch = len(x)
    channels = filters.turned.shape[1 if filters.swapped else 0]
    late = None if bias is None else (bias * gain).to(dtype)
    scaled = None if noise is None else (noise * gain).to(dtype)
    if residual is not None:
        residual = residual.to(dtype)
    outer = _times(demodulation, gain, styles, channels)
    if _prefers_folding(x, filters.turned):
        folded = _fold(filters.turned, styles, outer, filters.swapped, dtype)
        if batch == 1:
            return _epilogue_(_correlate(x, folded[0], settings, late), scaled, residual, activation)
        out = x.new_empty((batch, x.shape[2] * up, x.shape[3] * up, channels)).permute(0, 3, 1, 2)
        added = zip(_images(scaled, batch), _images(residual, batch), strict=True)
        parts = zip(torch.split(x, 1), folded, added, torch.split(out, 1), strict=True)
        for image, own, (maps, rest), place in parts:
            # While one image is in the cache.
            _epilogue_(_correlate(image, own, settings, late), maps, rest, activation, place)
        return out
    y = _correlate(x * styles.to(dtype)[:, :, None, None], filters.cast(dtype), settings, None)
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
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        *tensors, settings, filters, dtype = arguments
        inputs = LayerInputs(*tensors)
        demodulation = filters.demodulation(inputs, settings)
        out = _run_layer(inputs, settings, filters, demodulation, dtype)
        ctx.save_for_backward(*inputs, out, demodulation)
        ctx.settings, ctx.filters, ctx.dtype = settings, filters, dtype
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast("cpu", enabled=False):
            found = _differentiate(ctx, grad) if torch.is_grad_enabled() else _Backward(ctx, grad).gradients()
        return *found, None, None, None


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients as differentiable functions: those of the plain layer."""
    inputs = LayerInputs(*ctx.saved_tensors[:6])
    y = layer_of_dtype(inputs, ctx.settings, ctx.dtype)
    wanted = [tensor if needed else None for tensor, needed in zip(inputs, ctx.needs_input_grad[:6], strict=True)]
    found = iter(torch.autograd.grad(y, [tensor for tensor in wanted if tensor is not None], grad, create_graph=True))
    return tuple(None if tensor is None else next(found) for tensor in wanted)


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
        *tensors, self.out, self.demodulation = ctx.saved_tensors
        self.inputs = inputs = LayerInputs(*tensors)
        self.settings: LayerSettings = ctx.settings
        self.filters: Filters = ctx.filters
        self.dtype: torch.dtype = ctx.dtype
        self.wanted = wanted = _Wanted(*ctx.needs_input_grad[:6])
        self.exact = torch.promote_types(self.dtype, torch.float32)
        self.grad, self.x = dense(grad), dense(inputs.x).to(self.dtype)
        self.outer = _times(self.demodulation, self.settings.gain, inputs.styles, inputs.weight.shape[0])
        self.scale = inputs.styles.to(self.dtype)[:, :, None, None]
        folding = _prefers_folding(inputs.x, inputs.weight)
        # The filters' gradients, image by image, give those of all factors at the cost of small tensors.
        self.by_filters = wanted.weight and folding
        self.folded: Sequence[Tensor] | None = None
        if folding and (wanted.weight or self.outer is not None):
            # Where the weight is frozen, the style stays outside: its gradient is read where it multiplies.
            inner = inputs.styles if self.by_filters else None
            self.folded = _fold(self.filters.turned, inner, self.outer, self.filters.swapped, self.dtype).unbind()
        # The gradient of the logarithm of the demodulation comes from the output, unless from the filters'.
        self.offsets: _Offsets | None = None
        if self.demodulation is not None and (wanted.styles or wanted.weight) and not self.by_filters:
            self.offsets = _Offsets(inputs, self.settings.gain)
        self.place = torch.empty_like(self.x) if wanted.x and len(self.x) > 1 and self.folded is not None else None

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
        if self.settings.activation == "lrelu":
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
        if self.wanted.bias or (self.offsets is not None and self.inputs.bias is not None):
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
        if self.settings.up == 2 and self.settings.taps is not None:
            h = upfirdn2d(h, _transpose(upsampling(self.filters.size, self.settings.taps)))
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
        got.filters = (per_image * _factor(self.inputs.styles, self.outer, swapped)).sum(0)
        matched = (per_image * turned).sum((3, 4))
        matched = matched.transpose(1, 2) if swapped else matched  # (B, Cout, Cin)
        got.styles = (matched if self.outer is None else matched * self.outer[:, :, None]).sum(1)
        if self.demodulation is not None and self.outer is not None:
            got.product = (matched * self.inputs.styles[:, None, :]).sum(2) * self.outer

    def _add_demodulation(self, got: _Gradients) -> None:
        """Adds what reaches weight and styles by way of the demodulation."""
        if self.demodulation is None or got.product is None:
            return
        # d = (energy . s^2 + eps)^-1/2, so the gradient of the sum inside is -1/2 product * d^2.
        inner = got.product * self.demodulation.square()
        if self.wanted.styles and got.styles is not None:
            energy = self.filters.energy
            got.styles = got.styles - self.inputs.styles * (inner.to(energy.dtype) @ energy)
        if self.wanted.weight and got.filters is not None:
            change = (inner.t() @ self.inputs.styles.to(inner.dtype).square())[..., None, None].to(self.exact)
            got.filters = torch.addcmul(got.filters, self.inputs.weight.to(self.exact), change, value=-1)

    def _of_inputs(self, got: _Gradients) -> tuple[Tensor | None, ...]:
        """The gradients of the inputs, each in its dtype; None for one that none was asked for."""
        wanted, inputs, gain = self.wanted, self.inputs, self.settings.gain
        bias = (got.bias.sum(0) * gain) if wanted.bias and got.bias is not None else None
        noise = None
        if got.noise is not None and inputs.noise is not None:
            noise = (got.noise * gain).sum_to_size(inputs.noise.shape)
        filters = got.filters if wanted.weight else None
        found = got.x, filters, got.styles if wanted.styles else None, bias, noise, got.residual
        return tuple(
            None if gradient is None or tensor is None else gradient.to(tensor.dtype)
            for gradient, tensor in zip(found, inputs, strict=True)
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

    def __init__(self, inputs: LayerInputs, gain: float) -> None:
        bias, noise, batch = inputs.bias, inputs.noise, len(inputs.x)
        self._bias = None if bias is None else gain * bias
        self._noise = None if noise is None else (gain * noise).expand(batch, *noise.shape[1:]).flatten(1)[..., None]
        self._residual = inputs.residual

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


def _transpose(resampling: Resampling) -> Resampling:
    """The transpose of what ends an upsampling convolution: it pads by what that cropped."""
    height, width = resampling.taps.shape
    left, right, top, bottom = resampling.padding
    sides = Padding(width - 1 - left, width - 1 - right, height - 1 - top, height - 1 - bottom)
    return resampling._replace(padding=sides, up=1, down=resampling.up, flip_filter=True)
