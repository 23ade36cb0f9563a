"""Weights of a StyleGAN2 for a pose-conditioned generator: where transfer learning begins."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from styletryon.errors import ConfigError
from styletryon.models.base import StyleGenerator
from styletryon.models.config import StyleGAN2Config
from styletryon.models.layers import EqualLinear
from styletryon.models.unconditional import UnconditionalStyleGAN2

_RATE = 0.01
"""Of the mapping of a pose-conditioned generator."""


@dataclass(frozen=True)
class WarmStart:
    """What became of each tensor of a generator that was warm-started.

    Attributes:
        taken: Names of those that are the source's.
        extended: Names of those that are the source's for its own channels, with filters of 0 for those of the pose,
            and of those that only pass the source's through. With them the new generator draws as the source does, but
            for the encoded pose in the place of the constant.
        fresh: Names of those that stay as they were: the source has nothing that fits.
    """

    taken: tuple[str, ...]
    extended: tuple[str, ...]
    fresh: tuple[str, ...]

    def __str__(self) -> str:
        """Count them."""
        return f"{len(self.taken)} tensors taken, {len(self.extended)} extended, {len(self.fresh)} fresh"


def check_source(config: StyleGAN2Config) -> None:
    """Raise unless a generator upsamples as the pose-conditioned one does.

    Raises:
        ConfigError: If it does not.
    """
    usual = StyleGAN2Config()
    found = (config.upsampling, config.filter, config.picture_filter)
    if found != (usual.upsampling, usual.filter, usual.picture_filter):
        raise ConfigError(
            f"expected upsampling by 'fir' with the filters {usual.filter}, got {config.upsampling!r} with "
            f"{config.filter} and {config.picture_filter}; a pose-conditioned generator has no other",
            argument="source",
        )


def warm_start(generator: StyleGenerator, source: UnconditionalStyleGAN2) -> WarmStart:
    """Copy what fits, in place: levels by their place above the base grid, layers by their name.

    Args:
        generator: The pose-conditioned generator.
        source: The generator with a constant input.

    Returns:
        What was taken, and what was not.

    Raises:
        ConfigError: If the source upsamples in another way.
    """
    check_source(source.config)
    theirs = {key: tensor for key, _, tensor in _by_key(source)}
    mapped = _mapping_fits(generator, source)
    taken, extended, widened = [], [], set()
    with torch.no_grad():
        for key, name, tensor in _by_key(generator):
            match = theirs.get(key)
            if key.startswith("mapper.") or key == "w_mean":
                if mapped and match is not None:
                    tensor.copy_(match * (source.config.mapping_rate / _RATE if key.startswith("mapper.") else 1))
                    taken.append(name)
            elif match is not None and match.shape == tensor.shape:
                tensor.copy_(match)
                taken.append(name)
            elif match is not None and _extends(tensor, match):
                # The pose's features join behind the source's and have no say at first.
                tensor.zero_()[:, : match.shape[1]].copy_(match)
                widened.add(f"{key.split('.')[2]}.conv.affine")
                extended.append(name)
            elif match is not None and key.rpartition(".")[0] in widened:
                tensor[: len(match)].copy_(match)
                extended.append(name)
            elif key.endswith(".body.weight"):
                tensor.zero_()
                extended.append(name)
        if mapped:
            extended += _end_in_identity(generator, source.config.mapping_layers)
    done = {*taken, *extended}
    return WarmStart(tuple(taken), tuple(extended), tuple(name for name in generator.state_dict() if name not in done))


def _by_key(generator: StyleGenerator) -> list[tuple[str, str, Tensor]]:
    """Return key, name and tensor of all but the input and what encodes the pose; what is alike has the same key."""
    heights = [size[0] for size in generator.synthesis.sizes]
    places = [name.partition(".") for name in generator.style_names]
    layers = [f"{heights.index(int(height))}.{layer}.affine" for height, _, layer in places]
    found = []
    for name, tensor in generator.state_dict().items():
        part, _, rest = name.partition(".")
        if part == "affines":
            index, _, kind = rest.partition(".")
            found.append((f"{layers[int(index)]}.{kind}", name, tensor))
        elif part in ("synthesis", "mapper") or name == "w_mean":
            found.append((name, name, tensor))
    return found


def _extends(tensor: Tensor, match: Tensor) -> bool:
    """Whether filters of a level's second convolution have more input channels than others and are alike else."""
    return tensor.ndim == 4 and tensor.shape[0] == match.shape[0] == match.shape[1] < tensor.shape[1]


def _mapping_fits(generator: StyleGenerator, source: UnconditionalStyleGAN2) -> bool:
    """Whether the source's mapping fits in front of the last layer, behind which ours has no activation."""
    same = (generator.z_dim, generator.w_dim) == (source.z_dim, source.w_dim)
    return same and generator.config.mapping_layers == source.config.mapping_layers + 1


def _end_in_identity(generator: StyleGenerator, layer: int) -> list[str]:
    last = generator.mapper.layers[layer]
    if isinstance(last, EqualLinear) and last.bias is not None:
        last.weight.copy_(torch.eye(generator.w_dim) / last.gain)
        last.bias.zero_()
    return [f"mapper.layers.{layer}.{part}" for part in ("weight", "bias")]
