"""The fused kernels without a GPU: compiled as C++, launched as on a GPU, through the ops that autograd sees.

What this cannot show: that the 16-bit conversions in PTX are those of IEEE 754, that a driver takes the launches, and
how fast they are. `test_fused_gpu.py` does, where there is a GPU.
"""

from __future__ import annotations

import itertools
import math
import mmap
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from styletryon import ops
from styletryon.ops import _kernels, _reference
from styletryon.ops._arguments import Activation, LayerInputs, LayerSettings, Padding, Resampling
from tests._support import emulator, oracles
from tests._support.fused import (
    ACTIVATIONS,
    BIAS_ACT_TOLERANCE,
    DTYPES,
    ORDERS,
    bias_act_case,
    close,
    every_call,
    in_order,
    modulated_conv2d,
)
from tests._support.tiny import tiny_generator, tiny_latent

_fused = pytest.importorskip("styletryon.ops._fused")


@pytest.fixture(autouse=True, scope="module")
def launches() -> Iterator[list[_kernels.Launch]]:
    """CPU tensors run through the emulated kernels while the tests of this module run."""
    with emulator.ops_on_the_cpu() as launched:
        yield launched


def numbers(generator: torch.Generator, *shape: int, grad: bool = False) -> torch.Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_(grad)


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_16_bit_number_is_read_and_written(dtype):
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    x = bits.view(dtype).reshape(1, 1, 256, 256)
    y = _fused.bias_act(x, None, None, Activation("linear"))
    numeric = ~x.isnan()
    assert torch.equal(y.isnan(), x.isnan())
    # Adding the zero that stands for no bias makes -0 a 0.
    assert torch.equal(y[numeric], x[numeric])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounding_to_16_bits_is_that_of_torch(dtype):
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(-(2**31), 2**31, (2**16,), generator=generator).to(torch.int32)
    scale = bits.view(torch.float32)
    halves = torch.arange(0, 2**15, dtype=torch.int32)[:31743]
    # Exactly between two neighbours, where ties go to even, and just beside.
    exact = halves.to(torch.int16).view(torch.float16).double()
    ties = ((exact[1:] + exact[:-1]) / 2).float()
    edge = torch.tensor([65504.0, 65519.99, 65520.0, 1e9, math.inf, 2.0**-24, 2.0**-25, 2.0**-26, 3.4e38, math.nan])
    scale = torch.cat([scale, ties, torch.nextafter(ties, torch.tensor(0.0)), edge, -edge])[None]
    y = _library_scale(torch.ones_like(scale).to(dtype), scale)
    expected = scale.to(dtype)
    assert torch.equal(y.isnan(), expected.isnan())
    assert torch.equal(y[~y.isnan()], expected[~y.isnan()])


def _library_scale(x, scale):
    return torch.ops.styletryon.bias_act(x, None, None, scale, "linear", 1.0, None)


# --- bias_act ---------------------------------------------------------------------------------------------------------


@settings(max_examples=250, deadline=None)
@given(case=bias_act_case())
def test_bias_act_is_the_definition(case):
    x, bias, noise, scale, activation, gain, clamp = case
    y = torch.ops.styletryon.bias_act(x, bias, noise, scale, activation, gain, clamp)
    assert y.dtype == x.dtype
    assert y.shape == x.shape
    u = x.double().numpy()
    if scale is not None:
        u = u * scale.double().reshape(*scale.shape, *[1] * (x.ndim - 2)).numpy()
    expected = oracles.bias_act(
        u,
        None if bias is None else bias.double().numpy(),
        None if noise is None else noise.to(x.dtype).double().numpy(),
        activation,
        gain,
        clamp,
    )
    close(y, torch.from_numpy(expected), BIAS_ACT_TOLERANCE[x.dtype])
    if x.is_contiguous() or (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)):
        assert y.stride() == x.stride() or x.numel() in (0, 1) or min(x.shape) == 1


@settings(max_examples=120, deadline=None)
@given(case=bias_act_case(steps=True))
def test_gradients_of_bias_act_are_those_of_plain_pytorch(case):
    x, bias, noise, scale, activation, gain, clamp = case
    assume(x.numel() and scale is None)
    inputs = [t for t in (x, bias, noise) if t is not None]
    generator = torch.Generator().manual_seed(1)
    cotangent = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.dtype)

    def derive(path, dtype):
        leaves = [t.detach().to(dtype or t.dtype).requires_grad_() for t in inputs]
        rest = iter(leaves)
        arguments = [next(rest) if t is not None else None for t in (x, bias, noise)]
        y = path.bias_act(*arguments, Activation(activation, gain, clamp))
        first = torch.autograd.grad(y, leaves, cotangent.to(y.dtype), create_graph=True)
        total = sum(g.to(torch.float64).square().sum() for g in first)
        second = torch.autograd.grad(total, leaves, allow_unused=True) if total.requires_grad else [None] * len(leaves)
        zero = [torch.zeros_like(t) for t in leaves]
        return first, [z if s is None else s for s, z in zip(second, zero, strict=True)]

    for actual, exact in zip(derive(_fused, None), derive(_reference, torch.float64), strict=True):
        for a, e in zip(actual, exact, strict=True):
            close(a, e, 8 * max(BIAS_ACT_TOLERANCE[t.dtype] for t in inputs))


@pytest.mark.parametrize("clamp", [None, 0.9])
@pytest.mark.parametrize("gain", [1.3, -0.7])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_bias_act_to_third_order(activation, gain, clamp, generator):
    x, bias = numbers(generator, 2, 3, 2, 2, grad=True), numbers(generator, 3, grad=True)
    noise, scale = numbers(generator, 2, 1, 2, 2, grad=True), numbers(generator, 2, 3, grad=True)

    def call(x, bias, noise, scale):
        return torch.ops.styletryon.bias_act(x, bias, noise, scale, activation, gain, clamp)

    assert torch.autograd.gradcheck(call, (x, bias, noise, scale))
    assert torch.autograd.gradgradcheck(call, (x, bias, noise, scale))

    def slope(*inputs):
        (grad,) = torch.autograd.grad(call(*inputs).pow(2).sum(), inputs[0], create_graph=True)
        return grad

    assert torch.autograd.gradgradcheck(slope, (x, bias, noise, scale), fast_mode=True)


def _is_clamp_strict() -> bool:
    x = torch.ones(1, requires_grad=True)
    return torch.autograd.grad(x.clamp(-1, 1), x)[0].item() == 0


STRICT_CLAMP = _is_clamp_strict()  # Older versions of torch let the gradient through at the limit itself.


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_bias_act_at_the_edges_is_plain_pytorch(activation):
    special = [0.0, -0.0, math.inf, -math.inf, math.nan, 0.5, -0.5, 1.0, -1.0, 88.0, -88.0, 1e4, -1e4]
    for gain, clamp in itertools.product([1.0, 2.0, -1.0], [None, 0.5, 1.0, 0.0]):
        for dtype in (torch.float32, torch.float16):
            a, b = (torch.tensor(special, dtype=dtype).reshape(1, 1, -1).requires_grad_() for _ in range(2))
            actual = _fused.bias_act(a, None, None, Activation(activation, gain, clamp))
            expected = _reference.bias_act(b, None, None, Activation(activation, gain, clamp))
            torch.testing.assert_close(actual, expected, equal_nan=True)
            (one,) = torch.autograd.grad(actual.sum(), a)
            (other,) = torch.autograd.grad(expected.sum(), b)
            usual = b.detach().isfinite()
            if clamp is not None and not STRICT_CLAMP:
                usual &= expected.detach().abs() != clamp
            torch.testing.assert_close(one[usual], other[usual])


# --- upfirdn2d --------------------------------------------------------------------------------------------------------

SIDES = st.tuples(*[st.integers(-3, 6)] * 4)
FILTERS = st.just((4, 4)) | st.tuples(st.integers(1, 6), st.integers(1, 6)) | st.sampled_from([(32, 32), (1, 33)])


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    dtype=st.sampled_from(DTYPES),
    batch=st.integers(0, 3),
    channels=st.sampled_from([1, 2, 3, 8, 16, 24]),
    image=st.tuples(st.integers(1, 9), st.integers(1, 9)) | st.tuples(st.integers(10, 40), st.integers(10, 40)),
    filter_shape=FILTERS,
    factors=st.sampled_from([(1, 1), (2, 1), (1, 2), (1, 1), (2, 1), (1, 2), (2, 2), (3, 2), (1, 3), (4, 1)]),
    padding=SIDES,
    flip=st.booleans(),
    order=st.sampled_from(ORDERS),
)
def test_upfirdn2d_and_its_gradient_are_the_definition(
    seed, dtype, batch, channels, image, filter_shape, factors, padding, flip, order
):
    up, down = factors
    kh, kw = filter_shape
    assume(kh * kw <= 36 or image[0] < 10)
    if image[0] >= 10:
        batch, channels = min(batch, 1), min(channels, 16)
    assume(image[0] * up + padding[2] + padding[3] >= kh)
    assume(image[1] * up + padding[0] + padding[1] >= kw)
    generator = torch.Generator().manual_seed(seed)
    x = in_order(numbers(generator, batch, channels, *image).to(dtype), order).requires_grad_()
    taps = numbers(generator, kh, kw).to(_kernels.real(dtype))
    resampling = Resampling(taps, Padding(*padding), up, down, flip, 1.5)
    y = _fused.upfirdn2d(x, resampling)
    assert y.dtype == dtype
    double = x.detach().double().contiguous()
    resampling = resampling._replace(taps=taps.double())
    exact = _reference.upfirdn2d(double, resampling)
    tolerance = BIAS_ACT_TOLERANCE[dtype] * max(1.0, taps.abs().sum().item())
    close(y, exact, tolerance)
    cotangent = numbers(generator, *y.shape).to(dtype)
    (grad,) = torch.autograd.grad(y, x, in_order(cotangent, order))
    leaf = double.requires_grad_()
    exact = _reference.upfirdn2d(leaf, resampling)
    (expected,) = torch.autograd.grad(exact, leaf, cotangent.double())
    close(grad, expected, tolerance)


@pytest.mark.parametrize("order", ["planes", "last"])
@pytest.mark.parametrize("factors", [(1, 1), (2, 1), (1, 2), (3, 2)])
def test_upfirdn2d_is_the_oracle(factors, order, generator):
    up, down = factors
    x = in_order(numbers(generator, 2, 4, 7, 6).float(), order)
    taps = numbers(generator, 4, 4).float()
    y = _fused.upfirdn2d(x, Resampling(taps, Padding(2, 1, 0, 3), up, down, gain=2.0))
    expected = oracles.upfirdn2d(x.double().numpy(), taps.double().numpy(), up, down, (2, 1, 0, 3), False, 2.0)
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("up", "down", "padding"),
    [(1, 1, (1, 1, 1, 1)), (2, 1, (2, 1, 2, 1)), (1, 2, (1, 1, 2, 0)), (3, 2, (-1, 4, 3, -1))],
)
def test_upfirdn2d_to_second_order(up, down, padding, generator):
    x, taps = numbers(generator, 1, 2, 3, 4, grad=True), numbers(generator, 2, 3)

    def call(x):
        return _fused.upfirdn2d(x, Resampling(taps, Padding(*padding), up, down))

    assert torch.autograd.gradcheck(call, x)
    assert torch.autograd.gradgradcheck(lambda x: call(x) ** 3, x)


# --- modulated_conv2d -------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    batch=st.integers(1, 3),
    channels=st.sampled_from([(1, 1), (2, 1), (4, 2), (3, 4), (8, 8)]),
    image=st.tuples(st.integers(1, 5), st.integers(1, 5)) | st.just((7, 8)),
    size=st.sampled_from([1, 3, 5]),
    up=st.sampled_from([1, 2]),
    filter_shape=st.sampled_from([(4, 4), (1, 1), (2, 2), (3, 3), (4, 3)]),
    demodulate=st.booleans(),
    order=st.sampled_from(["planes", "last"]),
)
def test_modulated_conv2d_is_the_definition(seed, batch, channels, image, size, up, filter_shape, demodulate, order):
    generator = torch.Generator().manual_seed(seed)
    inputs, outputs = channels
    x = in_order(numbers(generator, batch, inputs, *image), order)
    weight, styles = numbers(generator, outputs, inputs, size, size), numbers(generator, batch, inputs)
    taps = numbers(generator, *filter_shape)
    y = modulated_conv2d(_fused, LayerInputs(x, weight, styles), up, taps, demodulate)
    expected = oracles.modulated_conv2d(x.numpy(), weight.numpy(), styles.numpy(), up, taps.numpy(), demodulate)
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.parametrize("form", [(2, 2, 2, 3), (1, 1, 1, 3), (2, 4, 2, 1), (2, 2, 2, 1)])
def test_modulated_conv2d_to_second_order(form, up, generator):
    batch, inputs, outputs, size = form
    arguments = (
        numbers(generator, batch, inputs, 2, 3, grad=True),
        numbers(generator, outputs, inputs, size, size, grad=True),
        numbers(generator, batch, inputs, grad=True),
    )
    taps = ops.setup_filter([1, 3, 3, 1])

    def call(x, weight, styles):
        return modulated_conv2d(_fused, LayerInputs(x, weight, styles), up, taps, True)

    assert torch.autograd.gradcheck(call, arguments, fast_mode=True)
    assert torch.autograd.gradgradcheck(call, arguments, fast_mode=True)


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("up", [1, 2])
def test_styled_layer_is_its_parts(up, demodulate, generator):
    x, weight = numbers(generator, 2, 4, 5, 4, grad=True), numbers(generator, 6, 4, 3, 3, grad=True)
    styles, bias = numbers(generator, 2, 4, grad=True), numbers(generator, 6, grad=True)
    noise = numbers(generator, 2, 1, 5 * up, 4 * up, grad=True)
    residual = numbers(generator, 2, 6, 5 * up, 4 * up, grad=True)
    taps = ops.setup_filter([1, 3, 3, 1]).double()
    inputs = LayerInputs(x, weight, styles, bias, noise, residual)
    y = _fused.styled_layer(inputs, LayerSettings(up, taps, demodulate, "lrelu", 1.4))
    inner = modulated_conv2d(_reference, LayerInputs(x, weight, styles), up, taps, demodulate)
    inner = inner + noise + bias[:, None, None]
    expected = torch.nn.functional.leaky_relu(1.4 * inner + residual, 0.2)
    torch.testing.assert_close(y, expected)
    cotangent = numbers(generator, *y.shape)
    for a, e in zip(
        torch.autograd.grad(y, inputs, cotangent), torch.autograd.grad(expected, inputs, cotangent), strict=True
    ):
        torch.testing.assert_close(a, e)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_whole_generator_draws_the_same(dtype, launches, monkeypatch):
    model = tiny_generator()
    latent = tiny_latent(model, 2)

    def draw() -> tuple[torch.Tensor, ...]:
        styles = [style.detach().requires_grad_() for style in latent.styles]
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            drawing = model.synthesize(tuple(styles), latent.pose)
        loss = drawing.image.square().mean() + drawing.logits.square().mean()
        return drawing.image, drawing.logits, *torch.autograd.grad(loss, styles)

    expected = draw()
    for module in ("styletryon.ops", "styletryon.ops._layer"):
        monkeypatch.setattr(f"{module}.choose", lambda x: _fused)
    before = len(launches)
    actual = draw()
    assert len(launches) > before + 2 * len(model.noise_shapes)
    tolerance = 1e-4 if dtype == torch.float32 else 0.05
    for one, other in zip(actual, expected, strict=True):
        assert (one - other).norm() <= tolerance * other.norm()


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("up", [1, 2])
def test_float16_does_not_overflow_on_the_way(up, demodulate, generator):
    x = torch.randn(2, 32, 6, 5, generator=generator).half()
    weight = 1e3 * torch.randn(16, 32, 3, 3, generator=generator)
    styles = 1e4 * torch.randn(2, 32, generator=generator)
    small = 1.0 if demodulate else 1e-8
    styles = styles * small
    taps = ops.setup_filter([1, 3, 3, 1])
    y = modulated_conv2d(_fused, LayerInputs(x, weight, styles), up, taps, demodulate)
    exact = LayerInputs(x.double(), weight.double(), styles.double())
    expected = modulated_conv2d(_reference, exact, up, taps, demodulate)
    assert y.dtype == torch.float16
    assert ((y.double() - expected).norm() / expected.norm()).item() < 5e-3


@pytest.mark.parametrize("form", [(2, 8, 8, 3), (1, 8, 8, 3), (2, 8, 3, 1)])
def test_autocast_decides_the_dtype(form, generator):
    batch, inputs, outputs, size = form
    x = torch.randn(batch, inputs, 12, 10, generator=generator, requires_grad=True)
    weight = torch.randn(outputs, inputs, size, size, generator=generator, requires_grad=True)
    styles = torch.randn(batch, inputs, generator=generator, requires_grad=True)
    taps = ops.setup_filter([1, 3, 3, 1])
    inputs = LayerInputs(x, weight, styles)
    expected = modulated_conv2d(_reference, inputs, 2, taps, True)
    with torch.autocast("cpu", torch.bfloat16):
        y = modulated_conv2d(_fused, inputs, 2, taps, True)
    assert y.dtype == torch.bfloat16
    grads = torch.autograd.grad(y.float().square().sum(), (x, weight, styles))
    exact = torch.autograd.grad(expected.square().sum(), (x, weight, styles))
    for actual, wanted in zip((y, *grads), (expected, *exact), strict=True):
        assert (actual.float() - wanted).norm() / wanted.norm() < 0.02


# --- as ops of PyTorch ------------------------------------------------------------------------------------------------


def _op_calls() -> list[tuple[object, tuple[object, ...]]]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 8, 5, 4, generator=generator)
    last = in_order(x, "last")
    bias, noise = torch.randn(8, generator=generator), torch.randn(2, 1, 5, 4, generator=generator)
    scale, taps = torch.randn(2, 8, generator=generator), torch.randn(4, 4, generator=generator)
    bias_act = torch.ops.styletryon.bias_act.default
    backward = torch.ops.styletryon.bias_act_backward.default
    upfirdn2d = torch.ops.styletryon.upfirdn2d.default
    return [
        (bias_act, (x, bias, noise, scale, "lrelu", 1.4, None)),
        (bias_act, (last, bias, None, None, "swish", 1.4, 2.0)),
        (bias_act, (x[:, :, ::2], None, None, None, "linear", 1.0, None)),
        (bias_act, (x[:, :, 0, 0], bias, None, None, "relu", -1.0, None)),
        (backward, (last, x, bias, noise, scale, "tanh", 1.0, 0.5, 1, False)),
        (backward, (x, last, None, None, None, "lrelu", 1.4, None, 1, True)),
        (upfirdn2d, (x, taps, 2, 1, 2, 2, 10, 8, False, 4.0)),
        (upfirdn2d, (last, taps, 1, 2, 1, 1, 2, 2, True, 1.0)),
        (upfirdn2d, (x[:, :, ::2, ::2], taps, 3, 2, 1, 1, 3, 2, True, 1.0)),
    ]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("call", _op_calls(), ids=lambda call: call[0].name())
def test_opcheck(call):
    function, arguments = call
    leaves = [a.clone().requires_grad_() if isinstance(a, torch.Tensor) and a.shape != (4, 4) else a for a in arguments]
    torch.library.opcheck(function, tuple(arguments))
    torch.library.opcheck(function, tuple(leaves))


@pytest.mark.filterwarnings("ignore")
def test_compiles_without_a_break(generator):
    x, bias = numbers(generator, 2, 3, 4, 4, grad=True), numbers(generator, 3, grad=True)
    taps = ops.setup_filter([1, 3, 3, 1])

    def layer(x, bias):
        y = _fused.bias_act(x, bias, None, Activation("lrelu", 1.4))
        return _fused.upfirdn2d(y, Resampling(taps, Padding(2, 1, 2, 1), up=2, gain=4.0))

    expected = layer(x, bias)
    actual = torch.compile(layer, backend="aot_eager", fullgraph=True)(x, bias)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(
        torch.autograd.grad(actual.square().sum(), (x, bias)), torch.autograd.grad(expected.square().sum(), (x, bias))
    )


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (0, 3), (2, 0)])
def test_nothing_is_launched_for_nothing(shape, launches):
    before = len(launches)
    x = torch.zeros(shape, requires_grad=True)
    y = _fused.bias_act(x, torch.zeros(shape[1], requires_grad=True), None, Activation("lrelu"))
    assert y.shape == shape
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert grad.shape == shape
    if shape[0] == 0 and len(shape) == 4:
        y = _fused.upfirdn2d(x, Resampling(torch.ones(4, 4), Padding(2, 1, 2, 1), up=2))
        assert torch.autograd.grad(y.sum(), x)[0].shape == shape
    assert len(launches) == before


def test_threads_do_not_disturb_each_other(generator):
    # The emulator itself runs one thread at a time; what is tested is the way to it.
    lock, results = threading.Lock(), {}
    x = torch.randn(8, 2, 4, 3, 3, generator=generator)

    def work(i):
        with lock:
            leaf = x[i].clone().requires_grad_()
            y = _fused.bias_act(leaf, None, None, Activation("lrelu"))
            results[i] = torch.autograd.grad(y.square().sum(), leaf)[0]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(8):
        y = torch.nn.functional.leaky_relu(x[i], 0.2)
        torch.testing.assert_close(results[i], 2 * y * torch.where(x[i] > 0, 1.0, 0.2))


# --- launches ---------------------------------------------------------------------------------------------------------


def test_every_kernel_is_launched_and_right_on_any_grid(monkeypatch):
    """On a grid of one block, every loop of every kernel has to walk the whole way itself."""
    from styletryon.ops import _library

    seen = set()

    def launch_small(plan, device):
        seen.add(plan.kernel)
        slides = "upfirdn2d" in plan.kernel and not plan.kernel.endswith("_any")
        emulator.run(plan._replace(grid=(plan.grid[0] if slides else 1, 1, 1)))

    monkeypatch.setattr(_library, "launch", launch_small)
    for call, exact, tolerance in every_call():
        close(call(_fused), exact, tolerance)
    assert seen == {kernel for source in _kernels.source_names() for kernel in _kernels.kernel_names(source)}


def _sparse(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """A tensor of zeros that takes no memory before it is written to."""
    size = math.prod(shape) * dtype.itemsize
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)  # MAP_NORESERVE
    return torch.frombuffer(memory, dtype=dtype).reshape(shape)


@pytest.mark.skipif(sys.platform != "linux", reason="needs memory that is not there until it is used")
@pytest.mark.parametrize("order", ["planes", "last"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_bias_act_beyond_2_to_the_31_elements(dtype, order):
    side = 2**15
    shape = (1, 3 * 8, side, side // 8) if order == "planes" else (1, side, side // 8, 3 * 8)
    x, out = _sparse(shape, dtype), _sparse(shape, dtype)
    assert x.numel() > 2**31
    x.view(-1)[-1] = 3.0
    bias = torch.arange(24.0)
    if order == "last":
        x, out = x.movedim(-1, 1), out.movedim(-1, 1)
    plan = _kernels.bias_act(out, x, bias, None, None, Activation("lrelu"), last=order == "last")
    blocks = math.prod(plan.grid)
    emulator.run(plan, blocks - 1, blocks)
    assert out[0, -1, -1, -1].item() == 26.0
    assert out[0, -1, -1, -2].item() == 23.0


@pytest.mark.skipif(sys.platform != "linux", reason="needs memory that is not there until it is used")
@pytest.mark.parametrize("order", ["planes", "last"])
@pytest.mark.parametrize("size", [4, 3])
def test_upfirdn2d_beyond_2_to_the_31_elements(size, order):
    shape = (1, 24, 2**15, 2**12) if order == "planes" else (1, 2**15, 2**12, 24)
    x, out = _sparse(shape, torch.float16), _sparse(shape, torch.float16)
    assert x.numel() > 2**31
    x.view(-1)[-1] = 3.0
    if order == "last":
        x, out = x.movedim(-1, 1), out.movedim(-1, 1)
    taps = torch.arange(1.0, 1 + size * size).reshape(size, size)
    plan = _kernels.upfirdn2d(out, x, taps, 1, 1, 0, 0, True, 1.0)
    assert plan.kernel.endswith("_same" if size == 4 else "_any")
    blocks = math.prod(plan.grid)
    emulator.run(plan, blocks - 1, blocks)
    assert out[0, -1, -1, -1].item() == 3.0
    assert out[0, -1, -1, -2].item() == 6.0


def test_plans_of_huge_tensors_stay_within_what_a_driver_takes():
    for shape in [(2**20, 3, 8, 8), (3, 2**20, 8, 8), (1, 1, 2**20, 2**20), (1, 8, 2**31, 2), (70000, 1, 4, 4)]:
        x = torch.empty(shape, device="meta", dtype=torch.float16)
        taps = torch.empty(4, 4, device="meta")
        for tensor in (x, torch.empty((shape[0], *shape[2:], shape[1]), device="meta").movedim(-1, 1)):
            last = _kernels.is_last(tensor) is True
            for plan in (
                _kernels.bias_act(tensor, tensor, None, None, None, Activation("lrelu"), last=last),
                _kernels.upfirdn2d(tensor, tensor, taps, 1, 1, 2, 1, False, 1.0),
            ):
                emulator.check(plan, emulator.library(plan.source))


def _run_guarded(kind: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-X", "faulthandler", "-m", "tests._support.fused", kind]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.skipif(sys.platform != "linux", reason="forbids access to pages of memory as Linux does")
def test_no_access_out_of_bounds():
    """The same calls with forbidden memory right beside every tensor, in a process of its own: it would be killed."""
    outcome = _run_guarded("right")
    assert outcome.returncode == 0, outcome.stdout[-2000:] + outcome.stderr[-6000:]
    assert outcome.stdout.count("calls checked") == 2


@pytest.mark.skipif(sys.platform != "linux", reason="forbids access to pages of memory as Linux does")
def test_an_access_out_of_bounds_would_be_seen():
    """As above, with a kernel that is told of one row too many."""
    assert _run_guarded("wrong").returncode == -signal.SIGSEGV
