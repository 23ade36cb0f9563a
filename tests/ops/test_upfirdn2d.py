"""`upfirdn2d`, its two short forms and `setup_filter`: against the literal definition, gradients, errors."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.signal import convolve2d

from styletryon import ops
from styletryon.errors import ConfigError, RangeError, ShapeError
from tests._support import oracles


def numbers(generator: torch.Generator, *shape: int, grad: bool = False) -> torch.Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_(grad)


SIDES = st.tuples(*[st.integers(-3, 5)] * 4)
FILTER_SHAPES = st.tuples(st.integers(1, 5)) | st.tuples(st.integers(1, 5), st.integers(1, 5))


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    shape=st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(1, 5), st.integers(1, 5)),
    filter_shape=FILTER_SHAPES,
    up=st.integers(1, 3),
    down=st.integers(1, 3),
    padding=SIDES,
    flip=st.booleans(),
    gain=st.sampled_from([1.0, 4.0, -0.5]),
    channels_last=st.booleans(),
)
def test_is_the_definition_and_its_gradient_the_transpose(
    seed, shape, filter_shape, up, down, padding, flip, gain, channels_last
):
    kh, kw = filter_shape[0], filter_shape[-1]
    assume(shape[2] * up + padding[2] + padding[3] >= kh)
    assume(shape[3] * up + padding[0] + padding[1] >= kw)
    generator = torch.Generator().manual_seed(seed)
    x = numbers(generator, *shape)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    taps = numbers(generator, *filter_shape)
    y = ops.upfirdn2d(x, taps, up=up, down=down, padding=padding, flip_filter=flip, gain=gain)
    expected = oracles.upfirdn2d(x.detach().numpy(), taps.numpy(), up, down, padding, flip, gain)
    np.testing.assert_allclose(y.detach().numpy(), expected, rtol=1e-10, atol=1e-10)

    # The op is linear: its gradient is right if it moves over in every inner product.
    cotangent = numbers(generator, *y.shape)
    (grad,) = torch.autograd.grad(y, x, cotangent)
    other = numbers(generator, *shape)
    image = oracles.upfirdn2d(other.numpy(), taps.numpy(), up, down, padding, flip, gain)
    assert math.isclose((grad * other).sum().item(), (cotangent.numpy() * image).sum(), rel_tol=1e-9, abs_tol=1e-9)


@pytest.mark.parametrize(
    ("up", "down", "padding"), [(1, 1, 1), (2, 1, (2, 1, 2, 1)), (1, 2, (1, 1, 2, 0)), (3, 2, (-1, 4, 3, -1))]
)
def test_gradients_to_second_order(up, down, padding, generator):
    x = numbers(generator, 1, 2, 3, 4, grad=True)
    taps = numbers(generator, 2, 3)

    def call(x):
        return ops.upfirdn2d(x, taps, up=up, down=down, padding=padding)

    assert torch.autograd.gradcheck(call, x)
    # A linear op has no second derivative of its own, so let what follows be curved.
    assert torch.autograd.gradgradcheck(lambda x: call(x) ** 3, x)


def test_is_the_convolution_of_scipy(generator):
    x, taps = numbers(generator, 1, 1, 6, 5), numbers(generator, 3, 2)
    y = ops.upfirdn2d(x, taps, padding=(1, 1, 2, 2))
    np.testing.assert_allclose(y[0, 0].numpy(), convolve2d(x[0, 0].numpy(), taps.numpy(), mode="full"), rtol=1e-12)


def test_a_number_pads_all_four_sides(generator):
    x, taps = numbers(generator, 1, 1, 4, 4), numbers(generator, 3)
    assert torch.equal(ops.upfirdn2d(x, taps, padding=2), ops.upfirdn2d(x, taps, padding=[2, 2, 2, 2]))


def test_layouts_agree(generator):
    x = numbers(generator, 2, 3, 6, 5).float()
    taps = ops.setup_filter([1, 3, 3, 1])
    expected = ops.upsample2d(x, taps)
    assert torch.equal(ops.upsample2d(x.contiguous(memory_format=torch.channels_last), taps), expected)
    strided = torch.empty(2, 3, 12, 10)[:, :, ::2, ::2].copy_(x)
    assert torch.equal(ops.upsample2d(strided, taps), expected)


@pytest.mark.parametrize("op", [ops.upsample2d, ops.downsample2d])
def test_bfloat16_is_close_and_autocast_changes_nothing(op, generator):
    x = numbers(generator, 2, 3, 6, 8).float()
    taps = ops.setup_filter([1, 3, 3, 1])
    expected = op(x, taps)
    half = op(x.bfloat16(), taps)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, rtol=2e-2, atol=2e-2)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(op(x, taps), expected)


@pytest.mark.parametrize("op", [ops.upsample2d, ops.downsample2d])
def test_an_empty_batch_stays_empty(op):
    x = torch.zeros(0, 3, 4, 6, requires_grad=True)
    y = op(x, ops.setup_filter([1, 3, 3, 1]))
    assert y.shape[:2] == (0, 3)
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert grad.shape == x.shape


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(1, 4),
    width=st.integers(1, 4),
    taps=st.sampled_from([[1.0], [1.0, 1.0], [1.0, 2.0, 1.0], [1.0, 3.0, 3.0, 1.0], [1.0, 2.0, 3.0, 2.0, 1.0]]),
)
def test_up_and_down_change_the_size_by_exactly_two(height, width, taps):
    small, large = torch.ones(1, 2, height, width), torch.ones(1, 2, 2 * height, 2 * width)
    filter = ops.setup_filter(taps)
    assert ops.upsample2d(small, filter).shape == large.shape
    assert ops.downsample2d(large, filter).shape == small.shape


def test_up_and_down_keep_the_brightness_and_the_centre():
    filter = ops.setup_filter([1, 3, 3, 1])
    image = torch.ones(1, 1, 8, 6)
    for y in (ops.upsample2d(image, filter), ops.downsample2d(image, filter)):
        torch.testing.assert_close(y[:, :, 1:-1, 1:-1], torch.ones_like(y[:, :, 1:-1, 1:-1]))
        torch.testing.assert_close(y, y.flip(2, 3))


@pytest.mark.filterwarnings("ignore:.torch.jit.script:FutureWarning")
def test_forward_mode_and_functional_gradients(generator):
    x, tangent = numbers(generator, 1, 2, 4, 4), numbers(generator, 1, 2, 4, 4)
    taps = numbers(generator, 4)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, tangent)
        y = torch.autograd.forward_ad.unpack_dual(ops.upsample2d(dual, taps))
    torch.testing.assert_close(y.tangent, ops.upsample2d(tangent, taps))
    grad = torch.func.grad(lambda x: (ops.upsample2d(x, taps) * y.primal).sum())(x)
    x.requires_grad_()
    torch.testing.assert_close(grad, torch.autograd.grad(ops.upsample2d(x, taps), x, y.primal)[0])


def test_setup_filter_normalises():
    filter = ops.setup_filter([1, 3, 3, 1])
    assert filter.shape == (4, 4)
    assert filter.dtype == torch.float32
    assert filter.sum().item() == pytest.approx(1)
    np.testing.assert_allclose(filter.numpy(), np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64)
    table = torch.tensor([[1.0, 2.0], [3.0, 4.0], [0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(ops.setup_filter(table), table.float() / 10)


@pytest.mark.parametrize(
    ("taps", "error", "message"),
    [
        ([], ShapeError, "taps: expected numbers, (n,) or (kh, kw), got (0,)"),
        (["a"], ShapeError, "taps: expected numbers, (n,) or (kh, kw), got ['a']"),
        ([[[1.0]]], ShapeError, "taps: expected numbers, (n,) or (kh, kw), got (1, 1, 1)"),
        ([1.0, -1.0], RangeError, "taps: expected a finite sum other than 0, got 0.0"),
        ([math.inf], RangeError, "taps: expected a finite sum other than 0, got inf"),
    ],
)
def test_setup_filter_errors(taps, error, message):
    with pytest.raises(error, match="^" + re.escape(message)):
        ops.setup_filter(taps)


IMAGE = torch.zeros(1, 2, 4, 5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": IMAGE[0]}, ShapeError, "x: expected feature maps of shape (B, C, H, W), got (2, 4, 5) float32"),
        ({"x": IMAGE.int()}, ShapeError, "x: expected a floating point tensor"),
        ({"x": IMAGE[:, :, :0]}, ShapeError, "x: expected at least one channel, row and column, got (1, 2, 0, 5)"),
        ({"filter": [1.0]}, ShapeError, "filter: expected a floating point tensor, got [1.0] (list)"),
        ({"filter": torch.ones(1, 1, 2)}, ShapeError, "filter: expected the shape (n,) or (kh, kw), got (1, 1, 2)"),
        ({"filter": torch.ones(0)}, ShapeError, "filter: expected the shape (n,) or (kh, kw), got (0,)"),
        ({"filter": torch.ones(2, requires_grad=True)}, ConfigError, "filter: expected a constant"),
        ({"filter": torch.ones(2, device="meta")}, ConfigError, "filter: expected the device of x, cpu, got meta"),
        ({"up": 0}, RangeError, "up: expected a whole number >= 1, got 0 (int)"),
        ({"up": True}, RangeError, "up: expected a whole number >= 1, got True (bool)"),
        ({"down": 1.5}, RangeError, "down: expected a whole number >= 1, got 1.5 (float)"),
        ({"gain": math.inf}, RangeError, "gain: expected a finite number, got inf"),
        ({"padding": (1, 2)}, ShapeError, "padding: expected a whole number or four, (left, right, top, bottom)"),
        ({"padding": 0.5}, ShapeError, "padding: expected a whole number or four"),
        ({"padding": (0, 0, -3, 0)}, ShapeError, "padding: expected the padded image to cover the filter, 2 x 2, got"),
    ],
)
def test_errors_name_the_argument(arguments, error, message):
    with pytest.raises(error, match="^" + re.escape(message)) as caught:
        ops.upfirdn2d(**{"x": IMAGE, "filter": torch.ones(2), **arguments})
    assert "; " in str(caught.value), "the message offers no mend"


def test_downsample_demands_an_even_size():
    with pytest.raises(ShapeError, match=re.escape("x: expected an even height and width, got (1, 2, 4, 5)")):
        ops.downsample2d(IMAGE, torch.ones(2))
