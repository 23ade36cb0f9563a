"""The styled layer as a whole: the fast way against the plain one, with every gradient, frozen and not."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch.autograd import forward_ad

from styletryon import ops
from styletryon.models.layers import EqualConv2d, StyledConv
from styletryon.ops import _cpu
from styletryon.ops._layer import channels_last_gradient, equal_conv, halve, styled_layer
from tests._support.stub_backend import StubFused

FIR = ops.setup_filter([1, 3, 3, 1])
# Batch, channels in and out, kernel, height and width: filters smaller than the images, and larger.
FORMS = {
    "folded": (2, 1, 2, 3, 5, 4),
    "folded alone": (1, 1, 2, 3, 5, 4),
    "common": (2, 3, 2, 3, 2, 3),
    "common alone": (1, 3, 2, 3, 2, 3),
    "pixel": (2, 2, 7, 1, 2, 3),
}
NAMES = ("x", "weight", "styles", "bias", "noise", "residual")


def arguments(form, up, generator, dtype=torch.float64, noises=None):
    batch, inputs, outputs, size, height, width = form
    shapes = {
        "x": (batch, inputs, height, width),
        "weight": (outputs, inputs, size, size),
        "styles": (batch, inputs),
        "bias": (outputs,),
        "noise": (noises or batch, 1, height * up, width * up),
        "residual": (batch, outputs, height * up, width * up),
    }
    numbers = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes.values())
    return {name: number.to(dtype) for name, number in zip(shapes, numbers, strict=True)}


def plain(x, weight, styles, bias, noise, residual, up, demodulate, activation, gain):
    y = ops.modulated_conv2d(x, weight, styles, up=up, filter=FIR, demodulate=demodulate)
    y = ops.bias_act(y, bias, noise=noise, activation="linear", gain=gain)
    y = y if residual is None else y + residual
    return ops.bias_act(y, activation=activation, gain=1.0)


@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("activation", ["lrelu", "linear"])
def test_is_its_parts_and_so_are_its_gradients(form, up, demodulate, activation, generator):
    for wanted, missing in (
        (NAMES, ()),
        (("x", "styles"), ()),
        (("styles",), ("bias", "residual")),
        (("weight", "bias", "noise"), ("residual",)),
        (("x", "residual"), ("noise",)),
        (("weight", "styles"), ("bias", "noise", "residual")),
        ((), ("noise",)),
    ):
        given = {
            name: None if name in missing else value.requires_grad_(name in wanted)
            for name, value in arguments(form, up, generator, noises=1 if "noise" in wanted else None).items()
        }
        expected = plain(**given, up=up, demodulate=demodulate, activation=activation, gain=1.3)
        y = styled_layer(**given, up=up, filter=FIR, demodulate=demodulate, activation=activation, gain=1.3)
        torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)
        if wanted:
            leaves = [given[name] for name in wanted]
            grad = torch.randn(y.shape, generator=generator, dtype=y.dtype)
            actual = torch.autograd.grad(y, leaves, grad)
            # The parts differentiate themselves by PyTorch's own rules under create_graph.
            exact = torch.autograd.grad(expected, leaves, grad, create_graph=True)
            for name, one, other in zip(wanted, actual, exact, strict=True):
                assert one.shape == other.shape
                torch.testing.assert_close(one, other.detach(), rtol=1e-8, atol=1e-8, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.parametrize("form", [FORMS["folded"], FORMS["common"]], ids=["folded", "common"])
def test_second_order(form, up, generator):
    leaves = [value.requires_grad_() for value in arguments(form, up, generator).values()]

    def call(*tensors):
        named = dict(zip(NAMES, tensors, strict=True))
        return styled_layer(**named, up=up, filter=FIR, activation="lrelu", gain=1.3)

    assert torch.autograd.gradcheck(call, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(call, leaves, fast_mode=True)


@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.parametrize("form", [(2, 8, 8, 3, 12, 10), (2, 64, 64, 3, 4, 3)], ids=["folded", "common"])
@pytest.mark.parametrize("frozen", [True, False])
def test_bfloat16_is_close(form, up, frozen, generator):
    given = {
        name: value.requires_grad_(not frozen or name in ("x", "styles"))
        for name, value in arguments(form, up, generator, torch.float32).items()
    }
    leaves = [value for value in given.values() if value.requires_grad]
    settings = {"up": up, "filter": FIR, "activation": "lrelu", "gain": 1.4}
    expected = styled_layer(**given, **settings)
    exact = torch.autograd.grad(expected.square().sum(), leaves)
    with torch.autocast("cpu", torch.bfloat16):
        y = styled_layer(**given, **settings)
    assert y.dtype == torch.bfloat16
    for actual, wanted in zip(
        (y, *torch.autograd.grad(y.float().square().sum(), leaves)), (expected, *exact), strict=True
    ):
        assert (actual.float() - wanted).norm() < 0.03 * wanted.norm()


@pytest.mark.parametrize("grad", [True, False])
def test_inputs_are_not_written_to(grad, generator):
    for form, up in itertools.product(FORMS.values(), (1, 2)):
        given = {name: value.requires_grad_(grad) for name, value in arguments(form, up, generator).items()}
        before = {name: value.detach().clone() for name, value in given.items()}
        y = styled_layer(**given, up=up, filter=FIR, activation="lrelu")
        if grad:
            upstream = torch.randn(y.shape, generator=generator, dtype=y.dtype)
            kept = upstream.clone()
            torch.autograd.grad(y, list(given.values()), upstream)
            assert torch.equal(upstream, kept)
        for name, value in given.items():
            assert torch.equal(value, before[name]), name


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")  # torch's own forward mode compiles
@pytest.mark.parametrize("up", [1, 2])
def test_transforms_and_forward_mode_see_through_it(up, generator):
    form = FORMS["folded"]
    given = arguments(form, up, generator)
    names = ("x", "styles", "weight")

    def call(x, styles, weight):
        return styled_layer(**{**given, "x": x, "styles": styles, "weight": weight}, up=up, filter=FIR).square().sum()

    tensors = [given[name].clone().requires_grad_() for name in names]
    expected = torch.autograd.grad(call(*tensors), tensors)
    actual = torch.func.grad(call, argnums=(0, 1, 2))(*[given[name] for name in names])
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other)
    with forward_ad.dual_level():
        tangent = torch.randn(given["styles"].shape, generator=generator, dtype=torch.float64)
        dual = forward_ad.make_dual(given["styles"], tangent)
        derivative = forward_ad.unpack_dual(call(given["x"], dual, given["weight"])).tangent
    torch.testing.assert_close(derivative, (expected[1] * tangent).sum())


def test_what_a_frozen_layer_keeps_follows_its_weight(generator):
    x, style = torch.randn(1, 8, 4, 4, generator=generator), torch.randn(1, 8, generator=generator)
    for up in (1, 2):
        layer = StyledConv(8, 8, 3, up=up).requires_grad_(False)

        def fresh(layer=layer):
            other = StyledConv(8, 8, 3, up=layer.up)
            other.load_state_dict(layer.state_dict())
            return other(x, style).detach()

        torch.testing.assert_close(layer(x, style), fresh())
        kept = layer._kept
        layer(x, style)
        assert layer._kept is kept
        with torch.no_grad():
            layer.weight.mul_(torch.rand(layer.weight.shape, generator=generator))
        torch.testing.assert_close(layer(x, style), fresh())
        torch._foreach_lerp_([layer.weight], [torch.ones_like(layer.weight)], 0.3)
        torch.testing.assert_close(layer(x, style), fresh())
        layer.load_state_dict(StyledConv(8, 8, 3, up=up).state_dict())
        torch.testing.assert_close(layer(x, style), fresh())
        layer.load_state_dict(StyledConv(8, 8, 3, up=up).state_dict(), assign=True)
        layer.requires_grad_(False)
        torch.testing.assert_close(layer(x, style), fresh())
        layer.weight.data = torch.randn(layer.weight.shape, generator=generator)
        torch.testing.assert_close(layer(x, style), fresh())
        assert copy.deepcopy(layer)._kept is None
        assert layer.double()._kept is None
        layer.float()
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x, style).dtype == torch.bfloat16
        torch.testing.assert_close(layer(x, style), fresh())
        with torch.inference_mode():
            layer(x, style)
        styles = style.clone().requires_grad_()
        torch.autograd.grad(layer(x, styles).sum(), styles)


def test_filters_lie_as_feature_maps_do():
    for layer in (StyledConv(4, 6, 3), EqualConv2d(4, 6, 3)):
        assert layer.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("activation", ["lrelu", "linear"])
@pytest.mark.parametrize("size", [(2, 2), (9, 9)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_the_plain_convolution_is_its_parts(activation, size, with_bias, generator):
    x = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64).requires_grad_()
    weight = torch.randn(4, 3, 3, 3, generator=generator, dtype=torch.float64).requires_grad_()
    bias = torch.randn(4, generator=generator, dtype=torch.float64).requires_grad_() if with_bias else None
    y = equal_conv(x, weight, bias, 0.3, activation)
    expected = ops.bias_act(torch.nn.functional.conv2d(x, 0.3 * weight, padding=1), bias, activation=activation)
    torch.testing.assert_close(y, expected)
    leaves = [leaf for leaf in (x, weight, bias) if leaf is not None]

    def call(*tensors):
        return equal_conv(*tensors[:2], tensors[2] if with_bias else None, 0.3, activation)

    assert torch.autograd.gradgradcheck(call, leaves, fast_mode=True)


def test_gradients_are_put_in_order(generator):
    x = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64).requires_grad_()
    seen = []
    (y := x * 1).register_hook(lambda grad: seen.append(grad.is_contiguous(memory_format=torch.channels_last)))
    channels_last_gradient(y).backward(torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64))
    assert seen == [True]
    assert torch.autograd.gradgradcheck(channels_last_gradient, x)


def test_the_choice_of_the_form():
    assert _cpu._prefers_folding(torch.zeros(1, 4, 9, 9), torch.zeros(4, 4, 3, 3))
    assert not _cpu._prefers_folding(torch.zeros(4, 4, 3, 3), torch.zeros(4, 4, 3, 3))


def test_halving_is_an_average_with_gradients_to_second_order(generator):
    x = torch.randn(2, 3, 4, 6, generator=generator, dtype=torch.float64).requires_grad_()
    torch.testing.assert_close(halve(x), torch.nn.functional.avg_pool2d(x, 2))
    assert torch.autograd.gradcheck(halve, x)
    assert torch.autograd.gradgradcheck(halve, x)


def test_a_scaled_weight_is_cast_once_and_its_gradient_back(generator):
    x = torch.randn(2, 3, 9, 9, generator=generator)
    weight = torch.randn(4, 3, 3, 3, generator=generator).requires_grad_()
    expected = equal_conv(x, weight, None, 0.3, "lrelu")
    with torch.autocast("cpu", torch.bfloat16):
        y = equal_conv(x, weight, None, 0.3, "lrelu")
    assert y.dtype == torch.bfloat16
    assert (y.float() - expected).norm() < 0.02 * expected.norm()
    for create_graph in (True, False):
        (grad,) = torch.autograd.grad(y.float().square().sum(), weight, create_graph=create_graph)
        (exact,) = torch.autograd.grad(expected.square().sum(), weight, retain_graph=True)
        assert grad.dtype == torch.float32
        assert (grad - exact).norm() < 0.02 * exact.norm()


def test_a_fused_path_computes_the_layer_as_a_whole(monkeypatch, generator):
    """One pass behind the convolution, not one for each op."""
    monkeypatch.setattr("styletryon.ops._layer.choose", lambda x: StubFused())
    given = arguments(FORMS["folded"], 1, generator)
    assert styled_layer(**given, activation="lrelu", gain=1.4) == "fused styled_layer"
