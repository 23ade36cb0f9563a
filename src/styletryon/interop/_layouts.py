"""Names and shapes of the weights of a StyleGAN2 in other projects, and ours made from theirs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from styletryon._weights import unfilled
from styletryon.errors import CheckpointError, ConfigError
from styletryon.interop._checkpoints import StoredTensor
from styletryon.interop._pickles import Record
from styletryon.models import StyleGAN2Config, UnconditionalStyleGAN2

Weights = Mapping[str, StoredTensor]

_MAX_LEVELS = 10
"""2048 pixels: noise maps of more would only fill the memory."""
_MAX_MODULES = 10_000
_MEAN_SAMPLES = 10_000
_LRELU_GAIN = math.sqrt(2)


@dataclass(frozen=True)
class Layout:
    """Somebody's generator, found in a checkpoint.

    Attributes:
        config: Its numbers in our words.
        weights: Their name -> a tensor in the file.
        names: Our name -> theirs.
        optional: Those of our names that the file may lack; what is lacking stays as a new generator has it.
        adapt: Changes what our names hold after all is read, in place; None where the two mean the same.
    """

    config: StyleGAN2Config
    weights: Weights
    names: Mapping[str, str]
    optional: frozenset[str] = frozenset()
    adapt: Callable[[dict[str, Tensor], StyleGAN2Config], None] | None = None


def build(layout: Layout) -> UnconditionalStyleGAN2:
    """Make our generator of it: on the CPU, ready to draw.

    Raises:
        CheckpointError: If tensors are missing or of the wrong shape.
    """
    held = sum({id(stored.numbers): stored.numbers.numel for stored in layout.weights.values()}.values())
    if _numbers(layout.config) > held:  # so that the memory is bounded by the file
        raise CheckpointError(
            f"expected the weights of a StyleGAN2; {layout.config} needs more than the {held} numbers that there are"
        )
    with torch.inference_mode(False), torch.no_grad():
        with unfilled():
            model = UnconditionalStyleGAN2(layout.config)
        own = model.state_dict()
        missing = [
            theirs for ours, theirs in layout.names.items()
            if theirs not in layout.weights and ours not in layout.optional
        ]  # fmt: skip
        if missing:
            raise CheckpointError(f"expected the weights of a StyleGAN2; missing {missing[:8]}")
        for ours, theirs in layout.names.items():
            if theirs in layout.weights:
                own[ours] = _fit(layout.weights[theirs], own[ours].shape, theirs)
        if layout.adapt is not None:
            layout.adapt(own, layout.config)
        model.load_state_dict(own)
        if "w_mean" not in layout.names or layout.names["w_mean"] not in layout.weights:
            rng = torch.Generator().manual_seed(0)
            z = torch.randn(_MEAN_SAMPLES, model.z_dim, generator=rng, dtype=torch.float32, device="cpu")
            model.w_mean.copy_(model.mapping(z).mean(dim=0))
    return model.eval().requires_grad_(False)


def _numbers(config: StyleGAN2Config) -> int:
    """Return how many numbers the filters, the affine layers and the mapping of a generator have, at least."""
    channels, w_dim = config.channels, config.w_dim
    filters = 9 * (sum(n * n for n in channels) + sum(a * b for a, b in pairwise(channels)))
    affine = sum(channels[level - 1 if name == "up" and level else level] for level, name, _ in our_names(config))
    return filters + affine * w_dim + w_dim * (config.z_dim + (config.mapping_layers - 1) * w_dim)


def _fit(stored: StoredTensor, shape: torch.Size, name: str) -> Tensor:
    """Load a tensor in our shape, from which theirs differs at most by dimensions of 1."""
    if [n for n in stored.shape if n != 1] != [n for n in shape if n != 1]:
        raise CheckpointError(f"expected shape {tuple(shape)}, got {stored.shape}", argument=name)
    return stored.load().reshape(shape)


def our_names(config: StyleGAN2Config) -> Iterator[tuple[int, str, int]]:
    """Yield level, name ("up", "conv" or "rgb") and place of each styled layer, in the order of the affine layers."""
    place = 0
    for level in range(len(config.channels)):
        first = ("up",) if level or config.upsampling == "bilinear" else ()
        for name in (*first, "conv", "rgb"):
            yield level, name, place
            place += 1


def rosinality_names(config: StyleGAN2Config) -> dict[str, str]:
    """Return our name -> that of rosinality/stylegan2-pytorch, for every tensor of a generator."""
    names = {"constant": "input.input", "w_mean": "latent_avg"}
    for i in range(config.mapping_layers):
        names |= {f"mapper.layers.{i}.{part}": f"style.{i + 1}.{part}" for part in ("weight", "bias")}
    for level, name, place in our_names(config):
        block = f"synthesis.blocks.{level}"
        if name == "rgb":
            theirs = f"to_rgbs.{level - 1}" if level else "to_rgb1"
            names |= {f"{block}.to_rgb.weight": f"{theirs}.conv.weight", f"{block}.rgb_bias": f"{theirs}.bias"}
        else:
            index = 2 * level - (2 if name == "up" else 1)
            theirs = f"convs.{index}" if level else "conv1"
            names |= {
                f"{block}.{name}.weight": f"{theirs}.conv.weight",
                f"{block}.{name}_bias.bias": f"{theirs}.activate.bias",
                f"{block}.{name}_bias.strength": f"{theirs}.noise.weight",
                f"{block}.{name}_bias.noise": f"noises.noise_{index + 1}",
            }
        names |= {f"affines.{place}.{part}": f"{theirs}.conv.modulation.{part}" for part in ("weight", "bias")}
    return names


def flip_doubling(weights: dict[str, Tensor], config: StyleGAN2Config) -> None:
    """Turn the filters of the doubling convolutions around: others transpose a convolution there, we correlate."""
    for level in range(1, len(config.channels)):
        name = f"synthesis.blocks.{level}.up.weight"
        weights[name] = weights[name].flip(2, 3)


def rosinality(value: Any) -> Layout | None:
    """Find a generator of rosinality/stylegan2-pytorch, or of StyleGAN-Human, whose base grid is not square."""
    found = _tensors(value, "conv1.conv.weight", groups=("g_ema",))
    if found is None:
        return None
    weights, mean = dict(found), value.get("latent_avg") if isinstance(value, dict) else None
    if isinstance(mean, StoredTensor):
        weights["latent_avg"] = mean
    levels = 1 + _count(weights, "to_rgbs.{}.bias")
    channels = [_shape(weights, "conv1.conv.weight", 5)[1]]
    channels += [_shape(weights, f"convs.{2 * level + 1}.conv.weight", 5)[1] for level in range(levels - 1)]
    filters = [_taps(weights.get(f"{name}.kernel"), total=4.0) for name in ("convs.0.conv.blur", "to_rgbs.0.upsample")]
    width, z_dim = _shape(weights, "style.1.weight", 2)
    depth = _count(weights, "style.{}.weight", first=1)
    config = _config(_shape(weights, "input.input", 4)[2:], channels, z_dim, width, depth, filters)
    names = rosinality_names(config)
    optional = frozenset(ours for ours in names if ours.endswith(".noise") or ours == "w_mean")
    return Layout(config, weights, names, optional, flip_doubling)


def nvidia(value: Any) -> Layout | None:
    """Find a generator of NVIDIA's PyTorch pickles, or of StyleGAN-Human's, whose base grid is not square."""
    candidates = [value.get("G_ema"), value.get("G")] if isinstance(value, dict) else [value]
    root = next((item for item in candidates if isinstance(item, Record) and item.name == "persistent"), None)
    if root is None:
        return None
    weights: dict[str, StoredTensor] = {}
    settings: dict[str, Mapping[str, Any]] = {}
    _flatten(root, "", weights, settings)
    constant = "synthesis.b4.const"
    if constant not in weights:
        kind = root.state["class_name"]
        raise CheckpointError(
            f"expected a StyleGAN2 with the tensor {constant!r}, got a {kind!r} without; StyleGAN3 is another network"
        )
    levels = 1
    while f"synthesis.b{4 << levels}.conv1.weight" in weights:
        levels += 1
    _check_nvidia(settings, levels)
    channels = [_shape(weights, f"synthesis.b{4 << level}.conv1.weight", 4)[0] for level in range(levels)]
    width, z_dim = _shape(weights, "mapping.fc0.weight", 2)
    config = _config(
        _shape(weights, constant, 3)[1:],
        channels,
        z_dim,
        width,
        _count(weights, "mapping.fc{}.weight"),
        [_taps(weights.get(f"synthesis.b8.{name}resample_filter"), total=1.0) for name in ("conv0.", "")],
        rate=float(settings["mapping.fc0"].get("bias_gain", 0.01)),
        clamp=float(settings["synthesis.b4.conv1"].get("conv_clamp") or 0.0),
    )
    names = _nvidia_names(config)
    optional = frozenset(ours for ours in names if ours.endswith((".noise", ".strength")) or ours == "w_mean")
    return Layout(config, weights, names, optional, flip_doubling)


def _nvidia_names(config: StyleGAN2Config) -> dict[str, str]:
    names = {"constant": "synthesis.b4.const", "w_mean": "mapping.w_avg"}
    for i in range(config.mapping_layers):
        names |= {f"mapper.layers.{i}.{part}": f"mapping.fc{i}.{part}" for part in ("weight", "bias")}
    for level, name, place in our_names(config):
        block, theirs = f"synthesis.blocks.{level}", f"synthesis.b{4 << level}"
        theirs += {"up": ".conv0", "conv": ".conv1", "rgb": ".torgb"}[name]
        if name == "rgb":
            names |= {f"{block}.to_rgb.weight": f"{theirs}.weight", f"{block}.rgb_bias": f"{theirs}.bias"}
        else:
            names |= {
                f"{block}.{name}.weight": f"{theirs}.weight",
                f"{block}.{name}_bias.bias": f"{theirs}.bias",
                f"{block}.{name}_bias.strength": f"{theirs}.noise_strength",
                f"{block}.{name}_bias.noise": f"{theirs}.noise_const",
            }
        names |= {f"affines.{place}.{part}": f"{theirs}.affine.{part}" for part in ("weight", "bias")}
    return names


def _check_nvidia(settings: Mapping[str, Mapping[str, Any]], levels: int) -> None:
    """Refuse what our layers do not compute."""
    wanted: dict[str, Any] = {}
    for level in range(levels):
        block = f"synthesis.b{4 << level}"
        wanted |= {f"{block}.architecture": "skip", f"{block}.img_channels": 3, f"{block}.conv1.activation": "lrelu"}
        if level:
            wanted[f"{block}.conv0.activation"] = "lrelu"
    wanted |= {"mapping.fc0.activation": "lrelu", "mapping.c_dim": 0, "synthesis.img_channels": 3}
    for name, expected in wanted.items():
        module, _, key = name.rpartition(".")
        got = settings.get(module, {}).get(key, expected)
        if got != expected:
            raise CheckpointError(f"expected {expected!r}, got {got!r}, which styletryon does not draw", argument=name)


def _flatten(
    record: Record, prefix: str, weights: dict[str, StoredTensor], settings: dict[str, Mapping[str, Any]]
) -> None:
    """Collect the tensors and the plain attributes of a tree of modules by their dotted names."""
    if len(settings) >= _MAX_MODULES or prefix.count(".") > 16:
        raise CheckpointError("refused: modules within modules without end")
    state = record.state["state"]
    settings[prefix.rstrip(".")] = {
        key: item for key, item in state.items() if isinstance(item, (int, float, str, type(None)))
    }
    for group in ("_parameters", "_buffers"):
        for name, tensor in _items(state.get(group)):
            if isinstance(tensor, StoredTensor):
                weights[f"{prefix}{name}"] = tensor
    for name, module in _items(state.get("_modules")):
        if isinstance(module, Record) and module.name == "persistent":
            _flatten(module, f"{prefix}{name}.", weights, settings)


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    yield from value.items() if isinstance(value, dict) else ()


def lucidrains(value: Any) -> Layout | None:
    """Find a generator of lucidrains/stylegan2-pytorch: its moving average if there is one."""
    group = value.get("GAN") if isinstance(value, dict) else None
    if not isinstance(group, dict):
        return None
    for network, mapping in (("GE.", "SE."), ("G.", "S.")):
        weights = {
            short + name.removeprefix(prefix): tensor
            for prefix, short in ((network, ""), (mapping, "S."))
            for name, tensor in group.items()
            if isinstance(name, str) and name.startswith(prefix) and isinstance(tensor, StoredTensor)
        }
        if "blocks.0.conv1.weight" in weights:
            break
    else:
        return None
    if "initial_block" not in weights:
        raise CheckpointError("expected a learned constant; a generator of --no-const is not drawn by styletryon")
    strange = sorted(name for name in weights if name.startswith("attns."))
    if strange:
        raise CheckpointError(f"attention layers, such as {strange[0]!r}, are not drawn by styletryon")
    levels = _count(weights, "blocks.{}.conv1.weight")
    channels = [_shape(weights, f"blocks.{level}.conv2.weight", 4)[0] for level in range(levels)]
    if _shape(weights, "blocks.0.to_rgb.conv.weight", 4)[0] != 3:
        raise CheckpointError("expected a generator of 3 colours; --transparent is not drawn by styletryon")
    width, z_dim = _shape(weights, "S.net.0.weight", 2)
    grid = _shape(weights, "initial_block", 4)[2:]
    depth = sum(1 for name in weights if name.startswith("S.net.") and name.endswith(".weight"))
    config = replace(_config(grid, channels, z_dim, width, depth), upsampling="bilinear")
    return Layout(
        config,
        weights,
        _lucidrains_names(config),
        frozenset({f"synthesis.blocks.{level}.rgb_bias" for level in range(levels)}),
        lambda own, numbers: _adapt_lucidrains(own, numbers, weights),
    )


def _lucidrains_names(config: StyleGAN2Config) -> dict[str, str]:
    names = {"constant": "initial_block"}
    for i in range(config.mapping_layers):
        names |= {f"mapper.layers.{i}.{part}": f"S.net.{2 * i}.{part}" for part in ("weight", "bias")}
    for level, name, place in our_names(config):
        block, theirs = f"synthesis.blocks.{level}", f"blocks.{level}"
        if name == "rgb":
            names[f"{block}.to_rgb.weight"] = f"{theirs}.to_rgb.conv.weight"
            style = f"{theirs}.to_rgb.to_style"
        else:
            number = 1 if name == "up" else 2
            names |= {
                f"{block}.{name}.weight": f"{theirs}.conv{number}.weight",
                f"{block}.{name}_bias.bias": f"{theirs}.to_noise{number}.bias",
                f"{block}.{name}_bias.strength": f"{theirs}.to_noise{number}.weight",
            }
            style = f"{theirs}.to_style{number}"
        names |= {f"affines.{place}.{part}": f"{style}.{part}" for part in ("weight", "bias")}
    return names


def _adapt_lucidrains(own: dict[str, Tensor], config: StyleGAN2Config, weights: Weights) -> None:
    """Bring weights without equalised learning rates and activations without gain to our convention.

    Each of our activations has a gain of sqrt(2) more than theirs: the features behind the n-th are theirs times
    sqrt(2)^n, so noise and bias grow by as much and the colours shrink. Their pictures are in [0, 1], ours in [-1, 1].
    """
    rate = _LUCIDRAINS_RATE
    for i in range(config.mapping_layers):
        fan_in = config.w_dim if i else config.z_dim
        # Their z is of length 1, ours of mean square 1; the others' length does not matter.
        length = 1.0 if i else math.sqrt(config.z_dim)
        own[f"mapper.layers.{i}.weight"] *= (
            rate * math.sqrt(fan_in) / (config.mapping_rate * _LRELU_GAIN * length)
        )
        own[f"mapper.layers.{i}.bias"] *= rate / (config.mapping_rate * _LRELU_GAIN)
    own["constant"] = torch.nn.functional.conv2d(
        own["constant"], weights["initial_conv.weight"].load(), weights["initial_conv.bias"].load(), padding=1
    )
    growth = 1.0
    for level, name, place in our_names(config):
        block = f"synthesis.blocks.{level}"
        own[f"affines.{place}.weight"] *= math.sqrt(config.w_dim)
        own[f"affines.{place}.bias"] += 1.0
        weight = f"{block}.{'to_rgb' if name == 'rgb' else name}.weight"
        own[weight] = own[weight] * math.sqrt(own[weight][0].numel())
        if name == "rgb":
            own[weight] *= 2.0 / growth
        else:
            own[f"{block}.{name}_bias.bias"] *= growth
            own[f"{block}.{name}_bias.strength"] *= growth
            growth *= _LRELU_GAIN
    own[f"synthesis.blocks.{len(config.channels) - 1}.rgb_bias"] -= 1.0
    rng = torch.Generator().manual_seed(0)
    for name in [name for name in own if name.endswith(".noise")]:
        # Its files hold no noise, which is uniform.
        own[name] = torch.rand(own[name].shape, generator=rng, dtype=torch.float32, device="cpu")


_LUCIDRAINS_RATE = 0.1
"""Its `lr_mlp`, which its files do not hold; the default that is hardly ever changed."""

LAYOUTS: tuple[Callable[[Any], Layout | None], ...] = (nvidia, rosinality, lucidrains)


def find(value: Any) -> Layout:
    """Find a generator in what a checkpoint holds.

    Raises:
        CheckpointError: If there is none that we know, or one that our layers cannot draw.
    """
    try:
        for layout in LAYOUTS:
            found = layout(value)
            if found is not None:
                return found
    except ConfigError as error:
        raise CheckpointError(str(error)) from error
    keys = sorted(str(key) for key in value)[:8] if isinstance(value, dict) else type(value).__name__
    raise CheckpointError(
        f"expected a StyleGAN2 generator of NVIDIA's, rosinality's, lucidrains' or StyleGAN-Human's layout, got {keys}"
    )


def _tensors(value: Any, needed: str, *, groups: tuple[str, ...]) -> dict[str, StoredTensor] | None:
    """Return the tensors of the first of some groups, or of the whole, that has the tensor `needed`."""
    if not isinstance(value, dict):
        return None
    for group in (*(value.get(name) for name in groups), value):
        if isinstance(group, dict) and isinstance(group.get(needed), StoredTensor):
            return {str(name): tensor for name, tensor in group.items() if isinstance(tensor, StoredTensor)}
    return None


def _count(weights: Weights, pattern: str, first: int = 0) -> int:
    """Return how many names of a numbered pattern there are without a gap."""
    number = first
    while pattern.format(number) in weights:
        number += 1
    return number - first


def _shape(weights: Weights, name: str, ndim: int) -> tuple[int, ...]:
    stored = weights.get(name)
    if stored is None or len(stored.shape) != ndim:
        raise CheckpointError(
            f"expected a tensor of {ndim} dimensions, got {None if stored is None else stored.shape}",
            argument=name,
        )
    return stored.shape


def _config(
    grid: tuple[int, ...],
    channels: list[int],
    z_dim: int,
    w_dim: int,
    mapping_layers: int,
    filters: Sequence[tuple[float, ...]] = (StyleGAN2Config.filter, StyleGAN2Config.picture_filter),
    *,
    rate: float = 0.01,
    clamp: float = 0.0,
) -> StyleGAN2Config:
    doublings = len(channels) - 1
    if doublings >= _MAX_LEVELS:
        raise CheckpointError(f"expected pictures of at most 2048 pixels, got {doublings} doublings of {grid}")
    size = (grid[0] << doublings, grid[1] << doublings)
    return StyleGAN2Config(
        size, tuple(channels), z_dim, w_dim, mapping_layers, rate, clamp=clamp,
        filter=filters[0], picture_filter=filters[1],
    )


def _taps(stored: StoredTensor | None, *, total: float) -> tuple[float, ...]:
    """Return the taps of a filter, whose sum is 8 as of (1, 3, 3, 1), from the product with itself or from them."""
    if stored is None:
        return StyleGAN2Config.filter
    kernel = stored.load().double() / total
    taps = kernel.sum(dim=0) if kernel.ndim == 2 else kernel
    whole = torch.outer(taps, taps) if kernel.ndim == 2 and len(taps) == len(kernel) else taps
    if kernel.shape != whole.shape or len(taps) > 64 or not (
        torch.allclose(whole, kernel, atol=1e-6) and torch.allclose(taps, taps.flip(0), atol=1e-6)
    ):  # fmt: skip
        raise CheckpointError(f"expected a low-pass filter that is a symmetric product, got shape {stored.shape}")
    return tuple(float(tap) for tap in (taps + taps.flip(0)) * 4.0)
