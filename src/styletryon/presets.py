"""What "fast", "balanced" and "quality" mean: one table for the calls, the command line and the benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from styletryon.errors import ConfigError


@dataclass(frozen=True)
class Preset:
    """How much time is spent on what.

    Attributes:
        projection: Keyword arguments of `LatentProjector` that differ from its defaults.
        tryon: Keyword arguments of `TryOnOptimizer` that differ from its defaults.
    """

    projection: Mapping[str, Any] = field(default_factory=dict)
    tryon: Mapping[str, Any] = field(default_factory=dict)


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "fast": Preset(projection={"steps": 20}, tryon={"steps": 15}),
        "balanced": Preset(projection={"steps": 100}, tryon={"steps": 50}),
        "quality": Preset(projection={"steps": 400}, tryon={"steps": 150}),
    }
)
"""The presets by name."""


def find_preset(name: str) -> Preset:
    """Look a preset up.

    Args:
        name: "fast", "balanced" or "quality".

    Raises:
        ConfigError: If there is none of this name.
    """
    if name not in PRESETS:
        raise ConfigError(f"preset: expected one of {', '.join(map(repr, PRESETS))}, got {name!r}")
    return PRESETS[name]
