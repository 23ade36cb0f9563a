"""Writing our generators in another project's layout."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from styletryon import ops
from styletryon._files import write_atomically
from styletryon.errors import ConfigError
from styletryon.interop._layouts import flip_doubling, rosinality_names
from styletryon.models import UnconditionalStyleGAN2


def export_stylegan2(model: UnconditionalStyleGAN2, path: str | os.PathLike[str]) -> Path:
    """Write a generator in the layout of rosinality/stylegan2-pytorch, which most tools of the field read.

    The file holds "g_ema", the state dict of that project's `Generator`, and "latent_avg", the mean of w, and nothing
    but tensors: `torch.load(path, weights_only=True)` reads it.

    Args:
        model: The generator.
        path: Where the file shall stand, such as "generator.pt".

    Returns:
        The path.

    Raises:
        ConfigError: If that layout cannot hold the generator: a clamp, another upsampling than "fir", or another rate
            of the mapping than 0.01.
        SaveError: If the file cannot be written. What stood there before still stands.
    """
    config = model.config
    if config.clamp or config.upsampling != "fir" or config.mapping_rate != 0.01:
        raise ConfigError(
            "expected clamp 0.0, upsampling 'fir' and mapping_rate 0.01, which rosinality's layout takes for "
            f"granted, got {config.clamp}, {config.upsampling!r} and {config.mapping_rate}; use save_pretrained",
            argument="model",
        )
    own = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
    flip_doubling(own, config)
    names = rosinality_names(config)
    tensors = {theirs: _shaped(theirs, own[ours]) for ours, theirs in names.items()}
    mean = tensors.pop("latent_avg")
    for level in range(len(config.channels) - 1):
        tensors[f"convs.{2 * level}.conv.blur.kernel"] = 4 * ops.setup_filter(config.filter)
        tensors[f"to_rgbs.{level}.upsample.kernel"] = 4 * ops.setup_filter(config.picture_filter)
    return write_atomically(path, lambda file: torch.save({"g_ema": tensors, "latent_avg": mean}, file))


def _shaped(name: str, tensor: Tensor) -> Tensor:
    """Give a tensor the dimensions of 1 that it has there."""
    if name.endswith(".conv.weight"):
        return tensor[None].contiguous()
    if name.endswith(".noise.weight"):
        return tensor.reshape(1)
    if name.startswith("to_rgb") and name.count(".") == name.startswith("to_rgbs") + 1 and name.endswith(".bias"):
        return tensor.reshape(1, 3, 1, 1)
    return tensor.contiguous()
