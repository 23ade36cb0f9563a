"""Small generators in other projects' layouts, written here, and the literal drawing that they stand for.

Names, shapes and opcodes are those that the projects' own code was seen to write; `tests.benchmarks.interop` compares
with that code itself.
"""

from __future__ import annotations

import contextlib
import pickle
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tests._support import oracles

Array = oracles.Array


@dataclass
class Layer:
    """A styled layer as StyleGAN2 stores it; the filters of one that doubles are those of a transposed convolution."""

    weight: Tensor  # (O, I, k, k)
    bias: Tensor  # (O,)
    affine: tuple[Tensor, Tensor]  # (I, w_dim), (I,)
    strength: Tensor  # ()
    noise: Tensor  # (h, w)


@dataclass
class Net:
    """A generator."""

    mapping: list[tuple[Tensor, Tensor]]
    constant: Tensor  # (C, h, w)
    levels: list[dict[str, Layer]]
    mean: Tensor
    taps: tuple[float, ...]
    picture_taps: tuple[float, ...]
    rate: float = 0.01
    clamp: float | None = None


def random_net(
    grid: tuple[int, int] = (4, 2),
    channels: tuple[int, ...] = (4, 3, 5),
    *,
    z_dim: int = 6,
    w_dim: int = 7,
    depth: int = 2,
    taps: tuple[float, ...] = (1, 3, 3, 1),
    picture_taps: tuple[float, ...] = (1, 3, 3, 1),
    rate: float = 0.01,
    clamp: float | None = None,
    seed: int = 0,
) -> Net:
    """Draw every number, none of them where a new generator has it."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(shape, generator=rng)

    def layer(out: int, into: int, kernel: int, size: tuple[int, int]) -> Layer:
        affine = normal(into, w_dim), 1 + normal(into, scale=0.2)
        bias, strength = normal(out, scale=0.3), normal(scale=0.4)
        return Layer(normal(out, into, kernel, kernel), bias, affine, strength, normal(*size))

    levels, below = [], channels[0]
    for level, count in enumerate(channels):
        size = (grid[0] << level, grid[1] << level)
        layers = {"up": layer(count, below, 3, size)} if level else {}
        levels.append(layers | {"conv": layer(count, count, 3, size), "rgb": layer(3, count, 1, size)})
        below = count
    mapping = [
        (normal(w_dim, w_dim if i else z_dim, scale=1 / rate), normal(w_dim, scale=0.3 / rate)) for i in range(depth)
    ]
    return Net(mapping, normal(channels[0], *grid), levels, normal(w_dim), taps, picture_taps, rate, clamp)


def draw_literally(net: Net, z: Tensor, truncation: float = 1.0) -> Array:
    """Draw by the formulas of the papers, in float64 and with the oracles of the ops."""
    x = z.double().numpy()
    x = x / np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-8)
    for weight, bias in net.mapping:
        x = x @ (weight.double().numpy().T * net.rate / np.sqrt(weight.shape[1])) + bias.double().numpy() * net.rate
        x = np.where(x >= 0, x, 0.2 * x) * np.sqrt(2)
    w = net.mean.double().numpy() + truncation * (x - net.mean.double().numpy())
    features = np.repeat(net.constant.double().numpy()[None], len(z), axis=0)
    image: Array | None = None
    for layers in net.levels:
        for name, layer in layers.items():
            weight = layer.weight.double().numpy() / np.sqrt(layer.weight[0].numel())
            if name == "up":
                weight = weight[:, :, ::-1, ::-1]
            matrix, offset = (part.double().numpy() for part in layer.affine)
            style = w @ (matrix.T / np.sqrt(w.shape[1])) + offset
            up, taps = (2, _filter(net.taps)) if name == "up" else (1, None)
            y = oracles.modulated_conv2d(features, weight, style, up, taps, demodulate=name != "rgb")
            if name != "rgb":
                noise = (layer.strength * layer.noise).double().numpy()
                features = oracles.bias_act(y, layer.bias.double().numpy(), noise, "lrelu", np.sqrt(2), net.clamp)
                continue
            colours = oracles.bias_act(y, layer.bias.double().numpy(), None, "linear", 1.0, net.clamp)
            if image is not None:
                n = len(net.picture_taps)
                sides = ((n + 1) // 2, n // 2 - 1) * 2
                image = oracles.upfirdn2d(image, _filter(net.picture_taps), up=2, padding=sides, gain=4.0)
            image = colours if image is None else image + colours
    assert image is not None
    return image


def _filter(taps: tuple[float, ...]) -> Array:
    values = np.asarray(taps, dtype=np.float64) / sum(taps)
    return np.outer(values, values)


def rosinality_state(net: Net) -> dict[str, Tensor]:
    """The state dict of a generator of rosinality/stylegan2-pytorch."""
    state = {"input.input": net.constant[None]}
    for i, (weight, bias) in enumerate(net.mapping):
        state |= {f"style.{i + 1}.weight": weight, f"style.{i + 1}.bias": bias}
    number = 0
    for level, layers in enumerate(net.levels):
        for name, layer in layers.items():
            if name == "rgb":
                prefix = f"to_rgbs.{level - 1}" if level else "to_rgb1"
                state[f"{prefix}.bias"] = layer.bias.reshape(1, 3, 1, 1)
                if level:
                    state[f"{prefix}.upsample.kernel"] = 4 * torch.from_numpy(_filter(net.picture_taps)).float()
            else:
                prefix = f"convs.{number - 1}" if number else "conv1"
                state |= {f"{prefix}.noise.weight": layer.strength.reshape(1), f"{prefix}.activate.bias": layer.bias}
                state[f"noises.noise_{number}"] = layer.noise[None, None]
                if name == "up":
                    state[f"{prefix}.conv.blur.kernel"] = 4 * torch.from_numpy(_filter(net.taps)).float()
                number += 1
            state[f"{prefix}.conv.weight"] = layer.weight[None]
            state |= {f"{prefix}.conv.modulation.weight": layer.affine[0]}
            state |= {f"{prefix}.conv.modulation.bias": layer.affine[1]}
    return state


class Persistent:
    """An object that is pickled as NVIDIA's are: by a function of theirs, with the source of its class beside it."""

    source = "class Generator: pass"

    def __init__(self, name: str, modules: dict[str, Any] | None = None, **tensors: Any) -> None:
        self.name = name
        parameters = {key: value for key, value in tensors.items() if isinstance(value, Tensor)}
        plain = {key: value for key, value in tensors.items() if not isinstance(value, Tensor)}
        self.state = {
            "training": False,
            "_parameters": {key: torch.nn.Parameter(value) for key, value in parameters.items() if "filter" not in key},
            "_buffers": {key: value for key, value in parameters.items() if "filter" in key},
            "_non_persistent_buffers_set": set(),
            "_modules": modules or {},
            "_weight_gain": np.float64(0.5),
            **plain,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        meta = {"type": "class", "version": 6, "module_src": self.source, "class_name": self.name, "state": self.state}
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (meta,)


@contextlib.contextmanager
def persistence() -> Iterator[None]:
    """A module of the name that NVIDIA's pickles ask for, as long as one is written."""

    def _reconstruct_persistent_obj(meta: Any) -> None:
        raise AssertionError("a pickle was run")

    package, module = types.ModuleType("torch_utils"), types.ModuleType("torch_utils.persistence")
    _reconstruct_persistent_obj.__module__ = module.__name__
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    module._reconstruct_persistent_obj = _reconstruct_persistent_obj  # type: ignore[attr-defined]
    package.persistence = module  # type: ignore[attr-defined]
    sys.modules |= {"torch_utils": package, "torch_utils.persistence": module}
    try:
        yield
    finally:
        del sys.modules["torch_utils"], sys.modules["torch_utils.persistence"]


def nvidia_generator(net: Net, **changes: Any) -> Persistent:
    """The generator of NVIDIA's pickles; `changes` are attributes of its blocks."""
    blocks: dict[str, Any] = {}
    for level, layers in enumerate(net.levels):
        modules: dict[str, Any] = {}
        for name, layer in layers.items():
            weight, bias = layer.affine
            affine = Persistent("FullyConnectedLayer", weight=weight, bias=bias, activation="linear")
            extra: dict[str, Any] = {"weight": layer.weight, "bias": layer.bias, "conv_clamp": net.clamp}
            if name != "rgb":
                extra |= {"noise_strength": layer.strength, "noise_const": layer.noise, "activation": "lrelu"}
                extra["resample_filter"] = torch.from_numpy(_filter(net.taps)).float()
            kind = {"up": "conv0", "conv": "conv1", "rgb": "torgb"}[name]
            modules[kind] = Persistent("SynthesisLayer", {"affine": affine}, **extra)
        extra = {"architecture": "skip", "img_channels": 3, **changes}
        extra["resample_filter"] = torch.from_numpy(_filter(net.picture_taps)).float()
        if not level:
            extra["const"] = net.constant
        blocks[f"b{4 << level}"] = Persistent("SynthesisBlock", modules, **extra)
    layers = {
        f"fc{i}": Persistent(
            "FullyConnectedLayer", weight=weight, bias=bias, activation="lrelu", bias_gain=net.rate
        )
        for i, (weight, bias) in enumerate(net.mapping)
    }
    parts = {
        "synthesis": Persistent("SynthesisNetwork", blocks, img_channels=3),
        "mapping": Persistent("MappingNetwork", layers, w_avg=net.mean, c_dim=0),
    }
    return Persistent("Generator", parts, c_dim=0)


def write_nvidia(net: Net, path: Path, protocol: int = 4, **changes: Any) -> Path:
    """Write a pickle as NVIDIA's training does."""
    with persistence():
        content = {"training_set_kwargs": {"max_size": 5}, "G": None, "G_ema": nvidia_generator(net, **changes)}
        path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def lucidrains_state(
    size: int = 16, *, width: int = 6, depth: int = 3, channels: tuple[int, ...] = (5, 4, 3), seed: int = 0
) -> dict[str, Tensor]:
    """The state dict of lucidrains/stylegan2-pytorch's networks, as far as a generator goes."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(shape, generator=rng)

    first = channels[0]
    state = {"GE.initial_block": normal(1, first, 4, 4)}
    state |= {"GE.initial_conv.weight": normal(first, first, 3, 3), "GE.initial_conv.bias": normal(first)}
    for i in range(depth):
        state |= {f"SE.net.{2 * i}.weight": normal(width, width, scale=5), f"SE.net.{2 * i}.bias": normal(width)}
    below = channels[0]
    for level, count in enumerate(channels):
        block = f"GE.blocks.{level}"
        for number, into in (("1", below), ("2", count)):
            state |= {
                f"{block}.to_style{number}.weight": normal(into, width, scale=0.5),
                f"{block}.to_style{number}.bias": normal(into, scale=0.2),
                f"{block}.to_noise{number}.weight": normal(count, 1),
                f"{block}.to_noise{number}.bias": normal(count, scale=0.3),
                f"{block}.conv{number}.weight": normal(count, into, 3, 3),
            }
        state |= {
            f"{block}.to_rgb.to_style.weight": normal(count, width, scale=0.5),
            f"{block}.to_rgb.to_style.bias": normal(count, scale=0.2),
            f"{block}.to_rgb.conv.weight": normal(3, count, 1, 1, scale=0.3),
        }
        if level + 1 < len(channels):
            state[f"{block}.to_rgb.upsample.1.f"] = torch.tensor([1.0, 2.0, 1.0])
        below = count
    state["D.final_conv.weight"] = normal(2, 2)
    return state


def draw_lucidrains(state: dict[str, Tensor], z: Tensor, noises: list[Tensor]) -> Tensor:
    """Draw in [0, 1] by the formulas of that project's networks, with plain PyTorch."""
    state = {name.removeprefix("GE."): tensor.double() for name, tensor in state.items()}
    w = z.double() / z.double().norm(dim=1, keepdim=True)
    depth = sum(name.startswith("SE.") for name in state) // 2
    for i in range(depth):
        weight, bias = state[f"SE.net.{2 * i}.weight"], state[f"SE.net.{2 * i}.bias"]
        w = F.leaky_relu(F.linear(w, 0.1 * weight, 0.1 * bias), 0.2)

    def styled(x: Tensor, weight: Tensor, style: str, demodulate: bool) -> Tensor:
        factors = F.linear(w, state[f"{style}.weight"], state[f"{style}.bias"]) + 1
        out = []
        for image, factor in zip(x, factors, strict=True):
            own = weight * factor[None, :, None, None]
            if demodulate:
                own = own * (own.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).rsqrt()
            out.append(F.conv2d(image[None], own, padding=weight.shape[-1] // 2))
        return torch.cat(out)

    def double(x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    x = F.conv2d(state["initial_block"], state["initial_conv.weight"], state["initial_conv.bias"], padding=1)
    x, image, left = x.expand(len(z), -1, -1, -1), None, list(noises)
    for level in range(len(noises) // 2):
        block = f"blocks.{level}"
        x = double(x) if level else x
        for number in ("1", "2"):
            x = styled(x, state[f"{block}.conv{number}.weight"], f"{block}.to_style{number}", True)
            scale, offset = state[f"{block}.to_noise{number}.weight"], state[f"{block}.to_noise{number}.bias"]
            x = F.leaky_relu(x + left.pop(0).double() * scale[None, :, :, None] + offset[None, :, None, None], 0.2)
        colours = styled(x, state[f"{block}.to_rgb.conv.weight"], f"{block}.to_rgb.to_style", False)
        if image is not None:
            taps = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64)
            kernel = (torch.outer(taps, taps) / 16).expand(3, 1, 3, 3)
            image = F.conv2d(F.pad(double(image), (1, 1, 1, 1), mode="reflect"), kernel, groups=3)
        image = colours if image is None else image + colours
    assert image is not None
    return image
