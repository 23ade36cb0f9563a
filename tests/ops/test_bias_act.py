"""`bias_act` against its literal definition, its gradients and its errors."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from styletryon import ops
from styletryon.errors import RangeError, ShapeError, StyleTryOnError
from tests._support import oracles

ACTIVATIONS = ("linear", "lrelu", "relu", "sigmoid", "softplus", "swish", "tanh")
GAINS = dict(zip(ACTIVATIONS, (1, math.sqrt(2), math.sqrt(2), 1, 1, math.sqrt(2), 1), strict=True))


def numbers(generator: torch.Generator, *shape: int, grad: bool = False) -> torch.Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_(grad)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    shape=st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)),
    activation=st.sampled_from(ACTIVATIONS),
    gain=st.none() | st.sampled_from([-1.5, 0.0, 0.5, 1.0, 2.0]),
    clamp=st.none() | st.sampled_from([0.0, 0.3, 10.0]),
    with_bias=st.booleans(),
    noise_kind=st.sampled_from(["none", "one", "image", "batch", "full", "number"]),
    grad=st.booleans(),
)
def test_is_the_definition(seed, shape, activation, gain, clamp, with_bias, noise_kind, grad):
    generator = torch.Generator().manual_seed(seed)
    batch, channels, height, width = shape
    x = numbers(generator, *shape, grad=grad)
    before = x.detach().clone()
    bias = numbers(generator, channels) if with_bias else None
    noise_shape = {
        "one": (height, width),
        "image": (1, 1, height, width),
        "batch": (batch, 1, height, width),
        "full": shape,
        "number": (),
    }
    noise = None if noise_kind == "none" else numbers(generator, *noise_shape[noise_kind])
    with torch.set_grad_enabled(grad):
        y = ops.bias_act(x, bias, noise=noise, activation=activation, gain=gain, clamp=clamp)
    expected = oracles.bias_act(
        before.numpy(),
        None if bias is None else bias.numpy(),
        None if noise is None else noise.numpy(),
        activation,
        GAINS[activation] if gain is None else gain,
        clamp,
    )
    np.testing.assert_allclose(y.detach().numpy(), expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(x.detach(), before), "the input was written to"


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (1, 2, 2, 3), (1, 2, 1, 2, 2)])
def test_takes_any_number_of_dimensions(shape, generator):
    x, bias = numbers(generator, *shape), numbers(generator, shape[1])
    expected = oracles.bias_act(x.numpy(), bias.numpy(), gain=math.sqrt(2))
    np.testing.assert_allclose(ops.bias_act(x, bias).numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_to_second_order(activation, generator):
    x = numbers(generator, 2, 3, 2, 2, grad=True)
    bias = numbers(generator, 3, grad=True)
    noise = numbers(generator, 2, 1, 2, 2, grad=True)

    def call(x, bias, noise):
        return ops.bias_act(x, bias, noise=noise, activation=activation, gain=1.3, clamp=0.9)

    assert torch.autograd.gradcheck(call, (x, bias, noise))
    assert torch.autograd.gradgradcheck(call, (x, bias, noise), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_keeps_dtype_and_layout(dtype, generator):
    x = numbers(generator, 2, 3, 4, 5).to(dtype).contiguous(memory_format=torch.channels_last)
    bias, noise = numbers(generator, 3).float(), numbers(generator, 2, 1, 4, 5).float()
    y = ops.bias_act(x, bias, noise=noise)
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=torch.channels_last)
    expected = oracles.bias_act(x.double().numpy(), bias.numpy(), noise.numpy(), gain=math.sqrt(2))
    tolerance = {torch.float32: 1e-6, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]
    np.testing.assert_allclose(y.double().numpy(), expected, rtol=tolerance, atol=tolerance)


def test_passes_the_input_through_when_nothing_is_asked(generator):
    x = numbers(generator, 1, 2, 3, 3)
    assert torch.equal(ops.bias_act(x, activation="linear"), x)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": [1.0]}, ShapeError, "x: expected a floating point tensor, got [1.0] (list)"),
        (
            {"x": torch.zeros(1, 3, dtype=torch.long)},
            ShapeError,
            "x: expected a floating point tensor, got (1, 3) int64",
        ),
        ({"x": torch.zeros(3)}, ShapeError, "x: expected features of shape (B, C, ...), got (3,) float32"),
        ({"bias": torch.zeros(2)}, ShapeError, "bias: expected one number per channel of x, shape (3,), got (2,)"),
        ({"bias": torch.zeros(1, 3, 1, 1)}, ShapeError, "bias: expected one number per channel"),
        ({"bias": 1.0}, ShapeError, "bias: expected a floating point tensor"),
        ({"bias": torch.zeros(3, device="meta")}, StyleTryOnError, "bias: expected the device of x, cpu, got meta"),
        (
            {"noise": torch.zeros(2, 2)},
            ShapeError,
            "noise: expected a shape that broadcasts to that of x, (1, 3, 4, 5)",
        ),
        ({"noise": torch.zeros(1, 1, 1, 4, 5)}, ShapeError, "noise: expected a shape"),
        ({"noise": torch.zeros(2, 3, 4, 5)}, ShapeError, "noise: expected a shape"),
        ({"activation": "elu"}, StyleTryOnError, "activation: expected one of 'linear', 'lrelu'"),
        ({"gain": math.nan}, RangeError, "gain: expected a finite number, got nan"),
        ({"gain": "big"}, RangeError, "gain: expected a finite number, got 'big' (str)"),
        ({"clamp": -1.0}, RangeError, "clamp: expected a number >= 0, got -1.0"),
        ({"clamp": math.inf}, RangeError, "clamp: expected a finite number, got inf"),
    ],
)
def test_errors_name_the_argument(arguments, error, message):
    with pytest.raises(error, match="^" + re.escape(message)) as caught:
        ops.bias_act(**{"x": torch.zeros(1, 3, 4, 5), **arguments})
    assert isinstance(caught.value, ValueError)
    assert "; " in str(caught.value), "the message offers no mend"
