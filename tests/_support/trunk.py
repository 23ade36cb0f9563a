"""Weights in the layout of the published EfficientNet-Lite0."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def published(rng: torch.Generator) -> dict[str, Tensor]:
    """A state dict of the layout of the published weights, its values drawn."""
    shapes: dict[str, tuple[int, ...]] = {"_conv_stem": (32, 3, 3, 3), "_bn0": (32,)}
    number, width = 0, 32
    for repeats, kernel, expand, outputs in (
        (1, 3, 1, 16), (2, 3, 6, 24), (2, 5, 6, 40), (3, 3, 6, 80), (3, 5, 6, 112), (4, 5, 6, 192), (1, 3, 6, 320)
    ):  # fmt: skip
        for _ in range(repeats):
            wide = width * expand
            if expand > 1:
                shapes |= {f"_blocks.{number}._expand_conv": (wide, width, 1, 1), f"_blocks.{number}._bn0": (wide,)}
            shapes |= {
                f"_blocks.{number}._depthwise_conv": (wide, 1, kernel, kernel), f"_blocks.{number}._bn1": (wide,),
                f"_blocks.{number}._project_conv": (outputs, wide, 1, 1), f"_blocks.{number}._bn2": (outputs,),
            }  # fmt: skip
            number, width = number + 1, outputs
    state = {}
    for name, shape in shapes.items():
        if len(shape) == 1:
            state[f"{name}.weight"] = torch.rand(shape, generator=rng) + 0.5
            state[f"{name}.bias"] = torch.randn(shape, generator=rng)
            state[f"{name}.running_mean"] = torch.randn(shape, generator=rng)
            state[f"{name}.running_var"] = torch.rand(shape, generator=rng) + 0.5
        else:
            state[f"{name}.weight"] = torch.randn(shape, generator=rng) / math.sqrt(math.prod(shape[1:]))
    return state
