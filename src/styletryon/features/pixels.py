"""Features without weights: a pyramid of the pixels and of their gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional

from styletryon.errors import ConfigError


@final
@dataclass(frozen=True)
class PixelFeatures:
    """Pixels and gradients at several sizes. Needs no weights, and equal ones are interchangeable.

    The distance that it leads to is the mean over the levels of the absolute difference of the pixels plus `gradient`
    times that of the gradients.

    Attributes:
        levels: How many sizes, each half the one before. A small picture ends earlier.
        gradient: Weight of the gradients against the pixels; 0 leaves them out.
        fine: The finest level used: 0 is the picture itself, 1 half its size, and so on.

    Raises:
        ConfigError: If a number is out of range.
    """

    capturable: ClassVar[bool] = True

    levels: int = 4
    gradient: float = 0.5
    fine: int = 0

    def __post_init__(self) -> None:
        if self.levels < 1 or self.fine < 0 or self.gradient < 0:
            raise ConfigError(
                f"expected levels >= 1, fine >= 0, gradient >= 0, got levels={self.levels}, "
                f"fine={self.fine}, gradient={self.gradient}",
                argument="PixelFeatures",
            )

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return pixels `(B, 3, h, w)` and gradients `(B, 6, h, w)` of each level, finest first."""
        features: list[Tensor] = []
        level = images.float()
        for index in range(self.fine + self.levels):
            if index > 0:
                if min(level.shape[2:]) < 2:
                    break
                level = functional.avg_pool2d(level, 2, ceil_mode=True, count_include_pad=False)
            if index < self.fine:
                continue
            features.append(level)
            if self.gradient:
                features.append(self.gradient * _gradients(level))
        used = max(1, len(features) // (2 if self.gradient else 1))
        return tuple(feature / used for feature in features)


def _gradients(images: Tensor) -> Tensor:
    """Differences to the right and lower neighbour `(B, 2C, H, W)`; zero at the far border."""
    across = functional.pad(images[..., :, 1:] - images[..., :, :-1], (0, 1))
    down = functional.pad(images[..., 1:, :] - images[..., :-1, :], (0, 0, 0, 1))
    return torch.cat([across, down], dim=1)
