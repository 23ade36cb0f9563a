"""What the tests of the fused kernels share, on a GPU and without one: inputs, calls, tolerances.

Run as a program, it makes every call on the emulated kernels beside forbidden memory, with C++'s undefined behaviour
checked.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch
from hypothesis import strategies as st
from torch import Tensor

from styletryon.ops import _kernels, _reference
from styletryon.ops._arguments import Activation, LayerInputs, LayerSettings, Padding, Resampling

ACTIVATIONS = ("linear", "lrelu", "relu", "sigmoid", "softplus", "swish", "tanh")
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
ORDERS = ("planes", "last", "sliced", "sliced last", "strided", "strided last", "shifted", "shifted last")

Call: TypeAlias = Callable[[Any], Tensor]

# The largest error that is allowed, relative to the largest exact number or to 1: a few times the dtype's epsilon,
# 1.2e-7, 9.8e-4, 7.8e-3 and 2.2e-16. These are derived, not measured: a run on a GPU prints what it saw beside them.
BIAS_ACT_TOLERANCE = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2, torch.float64: 1e-12}


def error(actual: Tensor, exact: Tensor) -> float:
    """The largest error, relative to the largest exact number or to 1."""
    assert actual.shape == exact.shape
    if not exact.numel():
        return 0.0
    difference = (actual.detach().double() - exact.detach().double()).abs().max().item()
    return difference / max(1.0, exact.detach().abs().max().item())


def close(actual: Tensor, exact: Tensor, tolerance: float) -> None:
    assert error(actual, exact) <= tolerance  # False for NaN, too.


def in_order(x: Tensor, order: str) -> Tensor:
    """The same numbers, laid out in memory in one of `ORDERS`; what lies between them is NaN."""
    if order.endswith("last"):
        base = in_order(x.movedim(1, -1), f"{order.removesuffix('last').strip() or 'planes'} inside")
        return base.movedim(-1, 1)
    kind = order.removesuffix(" inside")
    if kind == "planes":
        return x.contiguous()
    if kind == "shifted":
        memory = x.new_full((x.numel() + 1,), math.nan)
        return memory[1:].view(x.shape).copy_(x)
    inside = order.endswith("inside")
    if kind == "sliced":
        # Of the batch and of the channels, which are last inside.
        ends = [1 if d == 0 or d == (x.ndim - 1 if inside else 1) else 0 for d in range(x.ndim)]
        memory = x.new_full([size + 2 * end for size, end in zip(x.shape, ends, strict=True)], math.nan)
        return memory[tuple(slice(end, end + size) for size, end in zip(x.shape, ends, strict=True))].copy_(x)
    memory = x.new_full([2 * size for size in x.shape], math.nan)
    steps = [
        slice(None, size) if inside and d == x.ndim - 1 else slice(None, None, 2) for d, size in enumerate(x.shape)
    ]
    return memory[tuple(steps)].copy_(x)


@st.composite
def bias_act_case(draw: st.DrawFn, *, steps: bool = False) -> tuple[Any, ...]:
    """Inputs of `bias_act`; with `steps`, none whose sum is near the kink of lrelu, in any dtype."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    dtype = draw(st.sampled_from(DTYPES))
    batch, channels = draw(st.integers(0, 3)), draw(st.sampled_from([1, 2, 3, 8, 16, 24, 300]))
    sides = st.integers(1, 4) | st.sampled_from([8, 16])
    spatial = tuple(draw(st.lists(sides, min_size=0, max_size=3)))
    if channels == 300:
        spatial = spatial[:1]
    if draw(st.integers(0, 19)) == 0:
        spatial = (0, *spatial[1:])
    shape = (batch, channels, *spatial)

    def numbers(*size: int, offset: float = 0.0) -> Tensor:
        if steps:
            return torch.randint(-12, 13, size, generator=generator).double() / 4 + offset
        return 2 * torch.randn(size, generator=generator, dtype=torch.float64)

    x = in_order(numbers(*shape, offset=0.125).to(dtype), draw(st.sampled_from(ORDERS)))
    bias = numbers(channels).to(draw(st.sampled_from([dtype, torch.float32]))) if draw(st.booleans()) else None
    noise_shape = draw(
        st.sampled_from(
            [
                None,
                (),
                spatial,
                (1, 1, *spatial),
                (batch, 1, *spatial),
                shape,
                (1, channels, *spatial),
                (batch, channels, *[1] * len(spatial)),
                (batch, 1, *spatial[:-1], *[1] * min(1, len(spatial))),
            ]
        )
    )
    noise = None if noise_shape is None else numbers(*noise_shape).to(draw(st.sampled_from([dtype, torch.float32])))
    if noise is not None and noise.ndim >= 2 and draw(st.booleans()):
        noise = in_order(noise, draw(st.sampled_from(ORDERS)))
    scale = numbers(batch, channels).to(torch.float32) if draw(st.booleans()) else None
    if steps:
        # Half of the cases without a scale are enough to keep.
        scale = None
    gain = draw(st.sampled_from([1.0, math.sqrt(2), 0.5, -1.5]))
    clamp = draw(st.sampled_from([None, None, 0.7, 10.0]))
    return x, bias, noise, scale, draw(st.sampled_from(ACTIVATIONS)), gain, clamp


def every_call(*, place: Callable[[Tensor], Tensor] = lambda x: x) -> Iterator[tuple[Call, Tensor, float]]:
    """Calls that together launch every kernel, their exact results and the tolerance.

    Args:
        place: Brings each input to where it shall be.
    """
    generator = torch.Generator().manual_seed(0)
    for dtype in DTYPES:
        for channels in (16, 3):
            for order in ("planes", "last"):
                size = (9, 8) if channels == 16 else (7, 9)
                x = place(in_order(_draw(generator, dtype, 2, channels, *size), order))
                bias = place(_draw(generator, _kernels.real(dtype), channels))
                noise = place(_draw(generator, dtype, 2, 1, *size))
                for activation in ("lrelu", "swish"):
                    yield _bias_act_call(x, bias, noise, activation, derive=False)
                    yield _bias_act_call(x, bias, noise, activation, derive=True)
                taps = place(_draw(generator, _kernels.real(dtype), 4, 4))
                for up, down in ((1, 1), (2, 1), (1, 2), (3, 2)):
                    yield _upfirdn2d_call(x, taps, up, down)


def _draw(generator: torch.Generator, dtype: torch.dtype, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def _bias_act_call(
    x: Tensor, bias: Tensor, noise: Tensor, activation: str, *, derive: bool
) -> tuple[Call, Tensor, float]:
    def call(path: Any, x: Tensor = x, bias: Tensor = bias, noise: Tensor = noise) -> Tensor:
        leaf = x.detach().requires_grad_(derive)
        y: Tensor = path.bias_act(leaf, bias, noise, Activation(activation, 1.5))
        return torch.autograd.grad(y.sum(), leaf)[0] if derive else y

    return call, call(_reference, x.double(), bias.double(), noise.double()), BIAS_ACT_TOLERANCE[x.dtype]


def modulated_conv2d(path: Any, inputs: LayerInputs, up: int, taps: Tensor, demodulate: bool) -> Tensor:
    """The modulated convolution of an implementation: a styled layer with nothing behind it."""
    y: Tensor = path.styled_layer(inputs, LayerSettings(up, taps, demodulate))
    return y


def _upfirdn2d_call(x: Tensor, taps: Tensor, up: int, down: int) -> tuple[Call, Tensor, float]:
    def call(path: Any, x: Tensor = x, taps: Tensor = taps) -> Tensor:
        y: Tensor = path.upfirdn2d(x, Resampling(taps, Padding(2, 1, 1, 2), up, down, gain=1.5))
        return y

    tolerance = BIAS_ACT_TOLERANCE[x.dtype] * max(1.0, taps.double().abs().sum().item())
    return call, call(_reference, x.double(), taps.double()), tolerance


def guarded(x: Tensor, side: str) -> Tensor:
    """The same numbers beside memory that nobody may touch: right "behind" the last or right "before" the first."""
    page = mmap.PAGESIZE
    extent = 1 + sum((n - 1) * step for n, step in zip(x.shape, x.stride(), strict=True)) if x.numel() else 0
    size = extent * x.element_size()
    room = -(-size // page) * page
    memory = mmap.mmap(-1, room + 2 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    for address in (start, start + page + room):
        if protect(ctypes.c_void_p(address), ctypes.c_size_t(page), 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    offset = page + (room - size if side == "behind" else 0)
    flat = torch.frombuffer(memory, dtype=x.dtype, count=extent, offset=offset)
    return flat.as_strided(x.shape, x.stride()).copy_(x)


def main(kind: str) -> None:
    from tests._support import emulator

    if kind == "wrong":
        x = guarded(torch.ones(1, 1, 4, 4), "behind")
        plan = _kernels.upfirdn2d(torch.ones(1, 1, 4, 4), x, torch.ones(4, 4), 1, 1, 1, 1, True, 1.0)
        arguments = list(plan.args)
        arguments[4] = (5, ctypes.c_int)
        emulator.run(plan._replace(args=tuple(arguments)))
        return
    empty = _kernels.empty
    with emulator.ops_on_the_cpu(sanitize=True):
        for side in ("behind", "before"):

            def place(x: Tensor, side: str = side) -> Tensor:
                return guarded(x, side)

            _kernels.empty = lambda *arguments, place=place, **named: place(empty(*arguments, **named))
            print(f"{_check_calls(place)} calls checked with forbidden memory {side} every tensor")


def _check_calls(place: Callable[[Tensor], Tensor]) -> int:
    from styletryon.ops import _fused

    count = 0
    for call, exact, tolerance in every_call(place=place):
        close(call(_fused), exact, tolerance)
        count += 1
    generator = torch.Generator().manual_seed(0)
    # Borders: images smaller than the filter, crops, and paddings beyond it.
    for padding in (Padding(-2, 3, 4, -1), Padding(5, 5, 5, 5), Padding(3, 0, 0, 3)):
        for (up, down), channels in [((1, 1), 8), ((2, 1), 8), ((1, 2), 3), ((2, 1), 1), ((2, 3), 8)]:
            for order in ("planes", "last"):
                x = place(in_order(_draw(generator, torch.float16, 2, channels, 5, 3), order))
                taps = place(torch.ones(4, 4))
                resampling = Resampling(taps, padding, up, down, flip_filter=True)
                close(_fused.upfirdn2d(x, resampling), _reference.upfirdn2d(x.double(), resampling), 0.05)
                count += 1
    return count


if __name__ == "__main__":
    main(sys.argv[1])
