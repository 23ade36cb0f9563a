"""The fused kernels as PyTorch ops: their shapes without data, and their derivatives, to any order.

``torch.ops.styletryon.bias_act``, ``bias_act_backward`` and ``upfirdn2d``: a family that is closed under
differentiation. The derivative of `bias_act` is `bias_act_backward` of first order, its derivative by the features is
that of second order, and further ones are plain PyTorch; `bias_act_backward` is linear in the gradient, so by that it
is its own derivative. The derivative of `upfirdn2d` is `upfirdn2d`. Nothing here asks `_dispatch`: autograd runs
backwards on threads of its own.

Importing this registers the ops and neither compiles nor touches a GPU.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from styletryon.ops import _kernels, _modules
from styletryon.ops._arguments import Activation
from styletryon.ops._kernels import Launch

# As Any: the class has no annotations.
_Library: Any = torch.library.Library
_registration = _Library("styletryon", "DEF")
_registration.define(
    "bias_act(Tensor x, Tensor? bias, Tensor? noise, Tensor? scale, str activation, float gain, float? clamp) -> Tensor"
)
_registration.define(
    "bias_act_backward(Tensor grad, Tensor x, Tensor? bias, Tensor? noise, Tensor? scale, str activation, float gain, "
    "float? clamp, int order, bool from_output) -> Tensor"
)
_registration.define(
    "upfirdn2d(Tensor x, Tensor taps, int up, int down, SymInt left, SymInt top, SymInt rows, SymInt columns, "
    "bool flip_filter, float gain) -> Tensor"
)


def launch(plan: Launch, device: torch.device) -> None:
    """Puts a kernel on the current stream of a device."""
    with torch.cuda.device(device):
        stream = torch.cuda.current_stream(device).cuda_stream
        module = _modules.module(plan.source, device)
        module.launch(plan.kernel, plan.grid, plan.block, plan.shared, stream, plan.args)


# --- bias_act ---------------------------------------------------------------------------------------------------------
# The kernels and the fakes take what the schemas above say, one argument after the other; behind them it is bundled.


class Terms(NamedTuple):
    """What the activation of `bias_act` gets, in parts: ``u = scale * x + noise + bias``.

    Attributes:
        x: Features `(B, C, ...)`; the result of `bias_act` where a derivative is told by that.
        bias: `(C,)`, or None.
        noise: Anything that broadcasts to `x`, or None.
        scale: `(B, C)`, or None.
    """

    x: Tensor
    bias: Tensor | None = None
    noise: Tensor | None = None
    scale: Tensor | None = None


def bias_act(*arguments: Any) -> Tensor:
    """``clamp(gain * act(scale * x + noise + bias))`` in one pass.

    Args:
        *arguments: The `Terms`, then the `Activation`.

    Returns:
        A dense tensor of the shape, dtype and order of `x`.
    """
    return _bias_act(Terms(*arguments[:4]), Activation(*arguments[4:]))


def bias_act_backward(grad: Tensor, *arguments: Any) -> Tensor:
    """`grad` times the derivative of `bias_act` by what its activation gets, of the order 1 or 2.

    Args:
        grad: Of the shape of `x`.
        *arguments: The `Terms`; the `Activation`; the order, of which 2 is for the smooth activations alone (the others
            have a second derivative of zero); and whether `x` is the result of `bias_act`, for linear, and for lrelu
            and relu with a gain > 0.

    Returns:
        A dense tensor of the shape, dtype and order of `x`.
    """
    order, from_output = arguments[7:]
    return _bias_act(Terms(*arguments[:4]), Activation(*arguments[4:7]), grad, order, from_output)


def _bias_act(
    terms: Terms, activation: Activation, grad: Tensor | None = None, order: int = 0, from_output: bool = False
) -> Tensor:
    x, last = _kernels.arrange(terms.x)
    out = _kernels.empty(x.shape, x, last=last)
    if x.numel() == 0:
        return out
    if grad is not None:
        grad = _kernels.as_order(grad.to(x.dtype), last=last)
    real = _kernels.real(x.dtype)
    bias = None if terms.bias is None else terms.bias.to(real).contiguous()
    scale = None if terms.scale is None else terms.scale.to(real).contiguous()
    # A plan holds addresses; what it points to has to live until the launch.
    shift = None if terms.noise is None else _kernels.arrange_noise(terms.noise, x, last=last)
    plan = _kernels.bias_act(
        out, x, bias, shift, scale, activation, last=last, grad=grad, order=order, from_output=from_output
    )
    launch(plan, x.device)
    return out


def _like(x: Tensor) -> Tensor:
    x, last = _kernels.arrange(x)
    return _kernels.empty(x.shape, x, last=last)


def _fake_bias_act(x: Tensor, *_: object) -> Tensor:
    return _like(x)


def _fake_bias_act_backward(grad: Tensor, x: Tensor, *_: object) -> Tensor:
    return _like(x)


def _save_bias_act(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    terms, ctx.activation = Terms(*inputs[:4]), Activation(*inputs[4:])
    ctx.bias_like, ctx.noise_like = _Like.of(terms.bias), _Like.of(terms.noise)
    # What is saved costs memory until the backward. The result is needed by the next layer anyway.
    ctx.constant = ctx.activation.name == "linear" and ctx.activation.clamp is None
    ctx.from_output = not ctx.constant and _is_told_by_output(ctx.activation)
    whole = not (ctx.from_output or ctx.constant)
    ctx.save_for_backward(
        terms.x if whole or ctx.needs_input_grad[3] else None,
        terms.bias if whole else None,
        terms.noise if whole else None,
        terms.scale,
        output if ctx.from_output else None,
    )


def _is_told_by_output(activation: Activation) -> bool:
    """Whether the result shows on which side of its kink the activation was, and where it was limited."""
    return activation.name == "linear" or (activation.name in _kernels.SLOPES and activation.gain > 0)


def _derive_bias_act(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    *tensors, output = ctx.saved_tensors
    terms = Terms(*tensors)
    if ctx.constant:
        slope = grad if ctx.activation.gain == 1.0 else grad * ctx.activation.gain
    else:
        told = Terms(output) if ctx.from_output else terms
        slope = torch.ops.styletryon.bias_act_backward.default(grad, *told, *ctx.activation, 1, ctx.from_output)
    return *_share(ctx, slope, terms, ctx.needs_input_grad[:4]), None, None, None


def _save_bias_act_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    grad, terms = inputs[0], Terms(*inputs[1:5])
    ctx.activation = Activation(*inputs[5:8])
    ctx.order, ctx.from_output = inputs[8:]
    ctx.bias_like, ctx.noise_like = _Like.of(terms.bias), _Like.of(terms.noise)
    ctx.curved = ctx.activation.name not in _kernels.SLOPES
    ctx.save_for_backward(grad if ctx.curved else None, *terms)


def _derive_bias_act_backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
    grad, *tensors = ctx.saved_tensors
    terms = Terms(*tensors)
    function = torch.ops.styletryon.bias_act_backward.default
    by_grad = None
    if ctx.needs_input_grad[0]:
        by_grad = function(outer, *terms, *ctx.activation, ctx.order, ctx.from_output)
    parts: tuple[Tensor | None, ...] = (None,) * 4
    if ctx.curved and any(ctx.needs_input_grad[1:5]):
        weight = outer * grad
        if ctx.order == 1:
            slope = function(weight, *terms, *ctx.activation, 2, False)
        else:
            slope = weight * _third_derivative(terms, ctx.activation)
        parts = _share(ctx, slope, terms, ctx.needs_input_grad[1:5])
    return by_grad, *parts, *(None,) * 5


class _Like:
    """Shape and dtype of a tensor that is not worth keeping."""

    def __init__(self, x: Tensor) -> None:
        self.shape, self.dtype = x.shape, x.dtype

    @staticmethod
    def of(x: Tensor | None) -> _Like | None:
        return None if x is None else _Like(x)

    def reduce(self, x: Tensor) -> Tensor:
        """Sums `x` over the dimensions along which such a tensor was repeated, in float32 at least."""
        shape = (1,) * (x.ndim - len(self.shape)) + tuple(self.shape)
        dims = [d for d, size in enumerate(shape) if size == 1 and x.shape[d] != 1]
        if dims:
            x = x.sum(dims, keepdim=True, dtype=_kernels.real(x.dtype))
        return x.reshape(self.shape).to(self.dtype)


def _share(ctx: Any, slope: Tensor, terms: Terms, needed: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    """From the gradient by ``u = scale * x + noise + bias`` to those by x, bias, noise and scale, as far as needed."""
    x, scale, bias_like, noise_like = terms.x, terms.scale, ctx.bias_like, ctx.noise_like
    by_x = by_bias = by_noise = by_scale = None
    if needed[0]:
        by_x = slope
        if scale is not None:
            by_x = torch.ops.styletryon.bias_act.default(slope, None, None, scale, "linear", 1.0, None)
    if needed[1] and bias_like is not None:
        dims = [0, *range(2, slope.ndim)]
        by_bias = slope.sum(dims, dtype=_kernels.real(slope.dtype)).to(bias_like.dtype)
    if needed[2] and noise_like is not None:
        by_noise = noise_like.reduce(slope)
    if needed[3] and scale is not None and x is not None:
        product = slope * x
        dims = list(range(2, product.ndim))
        by_scale = product.sum(dims, dtype=_kernels.real(product.dtype)) if dims else product
        by_scale = by_scale.to(scale.dtype)
    return by_x, by_bias, by_noise, by_scale


def _third_derivative(terms: Terms, activation: Activation) -> Tensor:
    """The third derivative of `bias_act` by ``u``, in PyTorch's own ops: whoever wants more of them has them."""
    x, bias, noise, scale = terms
    name, gain, clamp = activation
    along = (-1, *[1] * (x.ndim - 2))
    u = x if scale is None else x * scale.reshape(*scale.shape, *along[1:]).to(x.dtype)
    u = u if noise is None else u + noise.to(x.dtype)
    u = u if bias is None else u + bias.reshape(along).to(x.dtype)
    s = torch.sigmoid(u)
    first = s * (1 - s)
    second = first * (1 - 2 * s)
    if name == "tanh":
        t = torch.tanh(u)
        value, third = t, (1 - t * t) * (6 * t * t - 2)
    elif name == "sigmoid":
        value, third = s, first * (1 - 6 * first)
    elif name == "softplus":
        value, third = torch.nn.functional.softplus(u), second
    else:
        value, third = u * s, 3 * second + u * first * (1 - 6 * first)
    third = gain * third
    return third if clamp is None else torch.where((gain * value).abs() < clamp, third, torch.zeros_like(third))


# --- upfirdn2d --------------------------------------------------------------------------------------------------------


def upfirdn2d(
    x: Tensor,
    taps: Tensor,
    up: int,
    down: int,
    left: int,
    top: int,
    rows: int,
    columns: int,
    flip_filter: bool,
    gain: float,
) -> Tensor:
    """Zero insertion, padding at the left and the top, a FIR filter, decimation; zeros as far as `rows` x `columns` go.

    Args:
        x: Feature maps `(B, C, H, W)`.
        taps: `(kh, kw)`, constant.
        up: Factor of the zero insertion.
        down: Factor of the decimation.
        left: Columns of zeros to the left; negative crops.
        top: Rows of zeros above; negative crops.
        rows: Height of the result.
        columns: Width of the result.
        flip_filter: Whether to correlate instead of convolve.
        gain: Factor on the result.

    Returns:
        A dense tensor `(B, C, rows, columns)` of the dtype and in the order of `x`.
    """
    x = _arrange_images(x)
    out = _resized(x, rows, columns)
    if out.numel() == 0:
        return out
    taps = taps.to(_kernels.real(x.dtype)).contiguous()
    launch(_kernels.upfirdn2d(out, x, taps, up, down, left, top, flip_filter, gain), x.device)
    return out


def _arrange_images(x: Tensor) -> Tensor:
    return x if _kernels.is_dense(x) else _kernels.as_order(x, last=x.shape[1] > 1 and x.stride(1) == 1).contiguous()


def _resized(x: Tensor, rows: int, columns: int) -> Tensor:
    return _kernels.empty((*x.shape[:2], rows, columns), x, last=not x.is_contiguous())


def _fake_upfirdn2d(
    x: Tensor, taps: Tensor, up: int, down: int, left: int, top: int, rows: int, columns: int, *_: object
) -> Tensor:
    return _resized(_arrange_images(x), rows, columns)


def _save_upfirdn2d(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, taps, *ctx.arguments = inputs
    ctx.size = x.shape[2:]
    ctx.save_for_backward(taps)


def _derive_upfirdn2d(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (taps,) = ctx.saved_tensors
    up, down, left, top, _, _, flip_filter, gain = ctx.arguments
    by_x = None
    if ctx.needs_input_grad[0]:
        height, width = taps.shape
        # A filter f that correlates gives y[p] = sum over m of x[m] f[m up + top - p down]. Its transpose is that with
        # p and m, up and down exchanged, the filter turned around, and kh - 1 - top for top.
        by_x = torch.ops.styletryon.upfirdn2d.default(
            grad, taps, down, up, width - 1 - left, height - 1 - top, *ctx.size, not flip_filter, gain
        )
    return by_x, *(None,) * 9


# --- registration -----------------------------------------------------------------------------------------------------

KERNELS = {"bias_act": bias_act, "bias_act_backward": bias_act_backward, "upfirdn2d": upfirdn2d}
"""What runs on a GPU, by the name of the op."""

for _name, _function in KERNELS.items():
    _registration.impl(_name, _function, "CUDA")
for _name, _fake in (
    ("bias_act", _fake_bias_act),
    ("bias_act_backward", _fake_bias_act_backward),
    ("upfirdn2d", _fake_upfirdn2d),
):
    torch.library.register_fake(f"styletryon::{_name}", _fake, lib=_registration)
for _name, _derive, _save in (
    ("bias_act", _derive_bias_act, _save_bias_act),
    ("bias_act_backward", _derive_bias_act_backward, _save_bias_act_backward),
    ("upfirdn2d", _derive_upfirdn2d, _save_upfirdn2d),
):
    torch.library.register_autograd(f"styletryon::{_name}", _derive, setup_context=_save, lib=_registration)
