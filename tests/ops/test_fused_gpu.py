"""The fused path on a GPU against plain PyTorch: values, first and second gradients; streams, graphs, threads, size.

Every comparison prints the worst error that it saw beside what is allowed: ``pytest -m gpu -s``. The bounds are derived
from the dtype's epsilon; once a GPU has been seen, they belong a little above what it printed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from styletryon import ops
from styletryon.ops import _reference
from styletryon.ops._arguments import LayerInputs, LayerSettings
from tests._support.fused import ACTIVATIONS, BIAS_ACT_TOLERANCE, DTYPES, ORDERS, error, every_call, in_order

pytestmark = pytest.mark.gpu

# Relative to the largest exact number: values, first gradients, second gradients. Gradients sum over pixels and images;
# a second gradient of a convolution goes through several results that are rounded to the dtype. Derived, not measured:
# with the kernels emulated on a CPU, the worst error was a fifth of the bound.
TOLERANCE = {
    (op, dtype): tuple(factor * BIAS_ACT_TOLERANCE[dtype] for factor in factors)
    for dtype in DTYPES
    for op, factors in {
        "bias_act": (1, 2, 3),
        "upfirdn2d": (1, 1, 1),
        "modulated_conv2d": (4, 4, 8),
    }.items()
}
# Where cuDNN may compute a float32 convolution in TF32, errors are those of TF32: it is turned off below.


@pytest.fixture(autouse=True, scope="module")
def _exact_convolutions() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@pytest.fixture(autouse=True)
def _fused_or_nothing() -> Iterator[None]:
    with ops.use_backend("fused"):
        yield


def numbers(generator: torch.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).cuda()


def steps(generator: torch.Generator, *shape: int, dtype: torch.dtype, offset: float = 0.0) -> Tensor:
    """Quarters: sums of them are exact in every dtype and, with an offset, away from the kink of lrelu."""
    return (torch.randint(-12, 13, shape, generator=generator).double() / 4 + offset).to(dtype).cuda()


def compare(op: str, call, inputs: list[Tensor], generator: torch.Generator) -> None:
    """Compares values, first and second gradients with those of plain PyTorch in float64."""
    results = []
    for exact in (False, True):
        leaves = [(t.double() if exact else t).detach().requires_grad_() for t in inputs]
        with ops.use_backend("reference" if exact else "fused"):
            y = call(*leaves)
        if not results:
            cotangent = torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y.dtype).cuda()
        first = torch.autograd.grad(y, leaves, cotangent.to(y.dtype), create_graph=True)
        curved = sum((g.double().square()).sum() for g in first)
        second = (
            torch.autograd.grad(curved, leaves, allow_unused=True) if curved.requires_grad else [None] * len(leaves)
        )
        second = [torch.zeros_like(t) if s is None else s for t, s in zip(leaves, second, strict=True)]
        results.append(([y], first, second))
    dtype = inputs[0].dtype
    for kind, actual, wanted, allowed in zip(
        ("value", "first gradient", "second gradient"), *results, TOLERANCE[op, dtype], strict=True
    ):
        worst = max(error(a, e) for a, e in zip(actual, wanted, strict=True))
        print(f"{op} {dtype} {kind}: {worst:.2e} of {allowed:.2e}")
        assert worst <= allowed, kind


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("clamp", [None, 0.7])
def test_bias_act(activation, dtype, order, clamp, generator):
    x = in_order(steps(generator, 2, 16, 6, 8, dtype=dtype, offset=0.125), order)
    inputs = [x, steps(generator, 16, dtype=dtype), steps(generator, 2, 1, 6, 8, dtype=dtype)]

    def call(x, bias, noise):
        return ops.bias_act(x, bias, noise=noise, activation=activation, clamp=clamp)

    compare("bias_act", call, inputs, generator)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("factors", [(1, 1), (2, 1), (1, 2), (3, 2)])
def test_upfirdn2d(factors, dtype, order, generator):
    x = in_order(numbers(generator, 2, 16, 33, 20, dtype=dtype), order)
    taps = ops.setup_filter([1, 3, 3, 1]).cuda()

    def call(x):
        return ops.upfirdn2d(x, taps, up=factors[0], down=factors[1], padding=(2, 1, 2, 1), gain=1.5)

    compare("upfirdn2d", call, [x], generator)


@pytest.mark.parametrize("order", ["planes", "last"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.parametrize("form", [(2, 16, 8, 3), (1, 16, 8, 3), (2, 16, 3, 1)])
def test_modulated_conv2d(form, up, dtype, order, generator):
    batch, inputs, outputs, size = form
    x = in_order(numbers(generator, batch, inputs, 12, 8, dtype=dtype), order)
    weight, styles = (
        numbers(generator, outputs, inputs, size, size, dtype=dtype),
        numbers(generator, batch, inputs, dtype=dtype),
    )
    taps = ops.setup_filter([1, 3, 3, 1]).cuda()
    compare("modulated_conv2d", lambda *t: ops.modulated_conv2d(*t, up=up, filter=taps), [x, weight, styles], generator)


def test_every_kernel():
    from styletryon.ops import _fused

    for call, exact, tolerance in every_call(place=lambda x: x.cuda()):
        worst = error(call(_fused).cpu(), exact.cpu())
        assert worst <= tolerance


def test_conversions_of_16_bit_numbers():
    """The two or three lines of PTX that nothing but a GPU can run."""
    for dtype in (torch.float16, torch.bfloat16):
        bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).cuda()
        x = bits.view(dtype).reshape(1, 1, 256, 256)
        y = ops.bias_act(x, activation="linear")
        assert torch.equal(y.isnan(), x.isnan())
        assert torch.equal(y[~x.isnan()], x[~x.isnan()])
        wide = torch.randint(-(2**31), 2**31, (1, 2**20), dtype=torch.int64).to(torch.int32).view(torch.float32).cuda()
        ones = torch.ones_like(wide).to(dtype)
        z = torch.ops.styletryon.bias_act(ones, None, None, wide, "linear", 1.0, None)
        expected = wide.to(dtype)
        assert torch.equal(z.isnan(), expected.isnan())
        assert torch.equal(z[~z.isnan()], expected[~z.isnan()])


def test_gradcheck(generator):
    x, bias = numbers(generator, 2, 3, 3, 2, dtype=torch.float64), numbers(generator, 3, dtype=torch.float64)
    taps = ops.setup_filter([1, 3, 3, 1]).cuda()

    def call(x, bias):
        return ops.upsample2d(ops.bias_act(x, bias, activation="swish"), taps)

    inputs = (x.requires_grad_(), bias.requires_grad_())
    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs)


def _step(x: Tensor, bias: Tensor, taps: Tensor) -> Tensor:
    return ops.upsample2d(ops.bias_act(x, bias), taps)


def test_runs_on_the_current_stream(generator):
    x, bias, taps = numbers(generator, 2, 8, 64, 64), numbers(generator, 8), ops.setup_filter([1, 3, 3, 1]).cuda()
    expected = _step(x, bias, taps)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        # The kernel has to wait for what its own stream does first, and for nothing else.
        torch.cuda._sleep(50_000_000)
        late = x * 1.0
        y = _step(late, bias, taps)
    side.synchronize()
    torch.testing.assert_close(y, expected)


def test_is_captured_in_a_graph(generator):
    x, bias, taps = numbers(generator, 2, 8, 16, 16), numbers(generator, 8), ops.setup_filter([1, 3, 3, 1]).cuda()
    ops.warm_up()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        _step(x, bias, taps)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = _step(x, bias, taps)
    x.copy_(numbers(generator, 2, 8, 16, 16))
    graph.replay()
    torch.testing.assert_close(y, _step(x, bias, taps))


@pytest.mark.filterwarnings("ignore")
def test_opcheck(generator):
    x, bias = numbers(generator, 2, 8, 5, 4), numbers(generator, 8)
    taps = ops.setup_filter([1, 3, 3, 1]).cuda()
    for leaf in (x, x.clone().requires_grad_()):
        torch.library.opcheck(torch.ops.styletryon.bias_act.default, (leaf, bias, None, None, "lrelu", 1.4, None))
        torch.library.opcheck(torch.ops.styletryon.upfirdn2d.default, (leaf, taps, 2, 1, 2, 2, 10, 8, False, 4.0))


def test_several_threads(generator):
    x, bias, taps = numbers(generator, 8, 8, 16, 16), numbers(generator, 8), ops.setup_filter([1, 3, 3, 1]).cuda()
    expected = _step(x, bias, taps)
    results: dict[int, Tensor] = {}

    def work(i: int) -> None:
        with torch.cuda.stream(torch.cuda.Stream()):
            for _ in range(50):
                results[i] = _step(x[i : i + 1], bias, taps)
            torch.cuda.current_stream().synchronize()

    torch.cuda.synchronize()
    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(8):
        torch.testing.assert_close(results[i], expected[i : i + 1])


def test_two_devices(generator):
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    x, bias, taps = numbers(generator, 2, 8, 16, 16), numbers(generator, 8), ops.setup_filter([1, 3, 3, 1]).cuda()
    expected = _step(x, bias, taps)
    leaf = x.to("cuda:1").requires_grad_()
    y = _step(leaf, bias.to("cuda:1"), taps.to("cuda:1"))  # The current device stays cuda:0.
    (grad,) = torch.autograd.grad(y.square().sum(), leaf)
    assert y.device == grad.device == torch.device("cuda:1")
    torch.testing.assert_close(y.cpu(), expected.cpu())


@pytest.mark.parametrize("order", ["planes", "last"])
def test_beyond_2_to_the_31_elements(order):
    # 4.5 GB each: the input, the result, and what the comparison needs.
    free, _ = torch.cuda.mem_get_info()
    if free < 24 * 2**30:
        pytest.skip("needs 24 GB of free GPU memory")
    shape = (1, 24, 2**15, 3000) if order == "planes" else (1, 2**15, 3000, 24)
    x = torch.ones(shape, dtype=torch.float16, device="cuda")
    assert x.numel() > 2**31
    if order == "last":
        x = x.movedim(-1, 1)
    bias = torch.arange(24.0, device="cuda")
    y = ops.bias_act(x, bias, activation="relu", gain=1.0)
    for channel in (0, 23):
        assert (y[:, channel] == 1 + channel).all()
    del y
    y = ops.upfirdn2d(x, torch.ones(4, 4, device="cuda"), padding=(1, 2, 1, 2))
    assert (y[:, :, 8:-8, 8:-8] == 16).all()
    assert y[0, -1, -1, -1].item() == 4


def test_an_empty_batch_launches_nothing():
    x = torch.zeros(0, 3, 4, 5, device="cuda", requires_grad=True)
    taps = ops.setup_filter([1, 3, 3, 1]).cuda()
    y = ops.upsample2d(ops.bias_act(x), taps)
    assert y.shape == (0, 3, 8, 10)
    assert torch.autograd.grad(y.sum(), x)[0].shape == x.shape


def test_a_styled_layer_is_its_parts(generator):
    from styletryon.ops import _fused

    x, weight, styles = numbers(generator, 2, 8, 9, 7), numbers(generator, 6, 8, 3, 3), numbers(generator, 2, 8)
    bias, noise, residual = numbers(generator, 6), numbers(generator, 1, 1, 18, 14), numbers(generator, 2, 6, 18, 14)
    taps = ops.setup_filter([1, 3, 3, 1]).cuda()
    y = _fused.styled_layer(
        LayerInputs(x, weight, styles, bias, noise, residual), LayerSettings(2, taps, True, "lrelu", 1.4)
    )
    inner = _reference.styled_layer(LayerInputs(x, weight, styles), LayerSettings(2, taps)) + noise
    inner = inner + bias[:, None, None]
    torch.testing.assert_close(y, torch.nn.functional.leaky_relu(1.4 * inner + residual, 0.2), rtol=1e-4, atol=1e-4)
