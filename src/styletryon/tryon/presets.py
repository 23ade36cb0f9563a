"""Presets: the time that projection and try-on may take, one table."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from styletryon._arguments import choice


@dataclass(frozen=True)
class Preset:
    """Settings of projection and try-on.

    Attributes:
        projection_steps: Steps of the projector.
        projection_rate: Its learning rate.
        projection_noise: Whether it optimises noise maps.
        steps: Steps of the try-on.
        learning_rate: Their learning rate.
        initial: Where the coefficients start if the generator has not learnt which channels belong to the region: a
            number in [0, 1], "attribution" (the region's share of each channel) or "greedy" (`greedy_query`).
        patience: How many steps without progress end the try-on of a pair; 0: never.
    """

    projection_steps: int
    projection_rate: float
    projection_noise: bool
    steps: int
    learning_rate: float
    initial: float | str
    patience: int


PRESETS = MappingProxyType(
    {
        "fast": Preset(10, 0.3, False, 6, 0.8, "greedy", 0),
        "balanced": Preset(28, 0.2, False, 26, 0.35, 0.3, 8),
        "quality": Preset(180, 0.08, True, 150, 0.15, 0.3, 30),
    }
)
"""Name -> settings."""


def find_preset(name: str) -> Preset:
    """Look a preset up.

    Args:
        name: "fast", "balanced" or "quality".

    Raises:
        ConfigError: If the name is unknown.
    """
    return PRESETS[choice(name, "preset", PRESETS)]
