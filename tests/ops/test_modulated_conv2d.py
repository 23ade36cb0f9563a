"""`modulated_conv2d` against its literal definition, in every form that it takes inside; gradients; errors."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from styletryon import ops
from styletryon.errors import ConfigError, ShapeError
from tests._support import oracles


def numbers(generator: torch.Generator, *shape: int, grad: bool = False) -> torch.Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_(grad)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    batch=st.integers(1, 3),
    channels=st.sampled_from([(1, 1), (2, 1), (4, 2), (2, 3), (3, 4)]),
    image=st.tuples(st.integers(1, 5), st.integers(1, 5)) | st.just((7, 8)),
    size=st.sampled_from([1, 3, 5]),
    up=st.sampled_from([1, 2]),
    filter_shape=st.sampled_from([(4,), (1,), (2,), (3,), (6,), (4, 3), (2, 5)]),
    demodulate=st.booleans(),
    channels_last=st.booleans(),
)
def test_is_the_definition(seed, batch, channels, image, size, up, filter_shape, demodulate, channels_last):
    generator = torch.Generator().manual_seed(seed)
    inputs, outputs = channels
    x = numbers(generator, batch, inputs, *image)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    weight = numbers(generator, outputs, inputs, size, size)
    styles = numbers(generator, batch, inputs)
    filter = numbers(generator, *filter_shape)
    y = ops.modulated_conv2d(x, weight, styles, up=up, filter=filter, demodulate=demodulate)
    expected = oracles.modulated_conv2d(x.numpy(), weight.numpy(), styles.numpy(), up, filter.numpy(), demodulate)
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-9, atol=1e-9)


# The op takes another way for one image, for a few images, and for colours: a pointwise kernel with few outputs.
FORMS = {
    "common filters": (2, 2, 2, 3),
    "one large image": (1, 1, 1, 3),
    "one small image": (1, 2, 2, 3),
    "colours": (2, 4, 2, 1),
    "pointwise": (2, 2, 2, 1),
}


@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_gradients_to_second_order(form, up, generator):
    batch, inputs, outputs, size = form
    height, width = (5, 3) if inputs == 1 else (1, 2)
    arguments = (
        numbers(generator, batch, inputs, height, width, grad=True),
        numbers(generator, outputs, inputs, size, size, grad=True),
        numbers(generator, batch, inputs, grad=True),
    )
    filter = ops.setup_filter([1, 3, 3, 1])

    def call(x, weight, styles):
        return ops.modulated_conv2d(x, weight, styles, up=up, filter=filter)

    assert torch.autograd.gradcheck(call, arguments)
    assert torch.autograd.gradgradcheck(call, arguments, fast_mode=True)


@pytest.mark.parametrize("up", [1, 2])
def test_an_image_does_not_depend_on_its_batch(up, generator):
    x, weight, styles = numbers(generator, 3, 2, 9, 8), numbers(generator, 3, 2, 3, 3), numbers(generator, 3, 2)
    filter = ops.setup_filter([1, 3, 3, 1])
    together = ops.modulated_conv2d(x, weight, styles, up=up, filter=filter)
    for i in range(3):
        alone = ops.modulated_conv2d(x[i : i + 1], weight, styles[i : i + 1], up=up, filter=filter)
        torch.testing.assert_close(alone, together[i : i + 1])


def test_a_pointwise_identity_upsamples_as_upsample2d(generator):
    x, filter = numbers(generator, 2, 3, 4, 5), ops.setup_filter([1, 3, 3, 1])
    identity = torch.eye(3, dtype=torch.float64)[:, :, None, None]
    y = ops.modulated_conv2d(x, identity, torch.ones(2, 3).double(), up=2, filter=filter, demodulate=False)
    torch.testing.assert_close(y, ops.upsample2d(x, filter))


def test_in_the_interior_it_is_upsample_then_same_padded_correlation(generator):
    x, weight = numbers(generator, 2, 3, 6, 5), numbers(generator, 4, 3, 3, 3)
    filter = ops.setup_filter([1, 3, 3, 1])
    y = ops.modulated_conv2d(x, weight, torch.ones(2, 3).double(), up=2, filter=filter, demodulate=False)
    other = torch.nn.functional.conv2d(ops.upsample2d(x, filter), weight, padding=1)
    torch.testing.assert_close(y[:, :, 1:-1, 1:-1], other[:, :, 1:-1, 1:-1])


def test_demodulation_gives_unit_variance(generator):
    x = torch.randn(4, 32, 16, 12, generator=generator)
    weight = torch.randn(32, 32, 3, 3, generator=generator)
    styles = 5 * torch.rand(4, 32, generator=generator) + 1
    y = ops.modulated_conv2d(x, weight, styles)
    assert y[:, :, 1:-1, 1:-1].var().item() == pytest.approx(1, abs=0.1)


def test_styles_of_zero_give_zeros_and_finite_gradients():
    x, weight = torch.ones(2, 3, 4, 4), torch.ones(2, 3, 3, 3, requires_grad=True)
    styles = torch.zeros(2, 3, requires_grad=True)
    y = ops.modulated_conv2d(x, weight, styles)
    assert y.abs().max().item() == 0
    for grad in torch.autograd.grad(y.sum(), (weight, styles)):
        assert grad.isfinite().all()


@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.parametrize("form", [(2, 8, 8, 3), (1, 8, 8, 3), (2, 8, 3, 1)])
@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_bfloat16_by_autocast_and_by_dtype_is_close(up, form, scale, generator):
    batch, inputs, outputs, size = form
    x = torch.randn(batch, inputs, 12, 10, generator=generator, requires_grad=True)
    weight = torch.randn(outputs, inputs, size, size, generator=generator, requires_grad=True)
    styles = (scale * torch.randn(batch, inputs, generator=generator)).requires_grad_()
    filter = ops.setup_filter([1, 3, 3, 1])
    expected = ops.modulated_conv2d(x, weight, styles, up=up, filter=filter)
    expected_grads = torch.autograd.grad(expected.square().sum(), (x, weight, styles))
    with torch.autocast("cpu", torch.bfloat16):
        y = ops.modulated_conv2d(x, weight, styles, up=up, filter=filter)
    assert y.dtype == torch.bfloat16
    grads = torch.autograd.grad(y.float().square().sum(), (x, weight, styles))
    for actual, exact in zip((y, *grads), (expected, *expected_grads), strict=True):
        error = (actual.float() - exact).norm() / exact.norm()
        assert error < 0.02
    direct = ops.modulated_conv2d(x.bfloat16(), weight, styles, up=up, filter=filter)
    assert direct.dtype == torch.bfloat16
    assert (direct.float() - expected).norm() / expected.norm() < 0.02


@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.parametrize("size", [1, 3])
def test_an_empty_batch_stays_empty(up, size):
    x = torch.zeros(0, 4, 3, 2, requires_grad=True)
    weight = torch.ones(2, 4, size, size, requires_grad=True)
    styles = torch.zeros(0, 4, requires_grad=True)
    y = ops.modulated_conv2d(x, weight, styles, up=up, filter=ops.setup_filter([1, 3, 3, 1]))
    assert y.shape == (0, 2, 3 * up, 2 * up)
    grads = torch.autograd.grad(y.sum(), (x, weight, styles))
    assert [grad.shape for grad in grads] == [x.shape, weight.shape, styles.shape]
    assert grads[1].abs().max().item() == 0


@pytest.mark.filterwarnings("ignore")
def test_compiles_without_a_break(generator):
    filter = ops.setup_filter([1, 3, 3, 1])

    def layer(x, weight, styles, bias):
        y = ops.bias_act(ops.modulated_conv2d(x, weight, styles, up=2, filter=filter), bias)
        return ops.downsample2d(y, filter)

    arguments = [
        torch.randn(*shape, generator=generator, requires_grad=True)
        for shape in [(2, 3, 4, 4), (5, 3, 3, 3), (2, 3), (5,)]
    ]
    expected = layer(*arguments)
    actual = torch.compile(layer, backend="aot_eager", fullgraph=True)(*arguments)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(
        torch.autograd.grad(actual.square().sum(), arguments), torch.autograd.grad(expected.square().sum(), arguments)
    )


GOOD = {"x": torch.zeros(2, 3, 4, 5), "weight": torch.zeros(6, 3, 3, 3), "styles": torch.zeros(2, 3)}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": torch.zeros(3, 4, 5)}, ShapeError, "x: expected feature maps of shape (B, C, H, W)"),
        ({"weight": torch.zeros(6, 3)}, ShapeError, "weight: expected feature maps of shape"),
        ({"weight": torch.zeros(6, 4, 3, 3)}, ShapeError, "weight: expected filters of shape (Cout, 3, k, k)"),
        ({"weight": torch.zeros(0, 3, 3, 3)}, ShapeError, "weight: expected filters of shape (Cout, 3, k, k)"),
        ({"weight": torch.zeros(6, 3, 2, 2)}, ShapeError, "weight: expected a square kernel of odd size"),
        ({"weight": torch.zeros(6, 3, 3, 1)}, ShapeError, "weight: expected a square kernel of odd size"),
        (
            {"styles": torch.zeros(1, 3)},
            ShapeError,
            "styles: expected one factor per image and input channel, shape (2, 3)",
        ),
        ({"styles": torch.zeros(2, 3, dtype=torch.int)}, ShapeError, "styles: expected a floating point tensor"),
        ({"styles": torch.zeros(2, 3, device="meta")}, ConfigError, "styles: expected the device of x, cpu, got meta"),
        ({"up": 3}, ConfigError, "up: expected 1 or 2, got 3"),
        ({"up": 2}, ConfigError, "filter: expected a low-pass filter with up=2, got None"),
        ({"up": 2, "filter": torch.ones(1, 1, 1)}, ShapeError, "filter: expected the shape (n,) or (kh, kw)"),
        ({"up": 2, "filter": torch.ones(4, requires_grad=True)}, ConfigError, "filter: expected a constant"),
    ],
)
def test_errors_name_the_argument(arguments, error, message):
    with pytest.raises(error, match="^" + re.escape(message)) as caught:
        ops.modulated_conv2d(**{**GOOD, **arguments})
    assert "; " in str(caught.value), "the message offers no mend"
