"""The pose encoder: heatmaps in, the generator's 4-pixel input and features at every level out."""

from __future__ import annotations

import math

from torch import Tensor, nn

from styletryon.models.layers import EqualConv2d
from styletryon.ops._layer import halve


class PoseEncoder(nn.Module):
    """Encode the pose.

    The last feature replaces StyleGAN2's constant input (VOGUE, figure 3); the others join the style blocks when the
    generator's `pose_conditioning` is "concat" (TryOnGAN). The paper's own layers are not published.

    Args:
        in_channels: Maps that describe the pose.
        channels: Channels of the features at each level but the lowest.
        out_channels: Channels of the feature at the base grid.
        num_levels: Levels from the base grid to the maps.
    """

    def __init__(self, in_channels: int, channels: int, out_channels: int, num_levels: int) -> None:
        super().__init__()
        self.entry = EqualConv2d(in_channels, channels, 3)
        self.blocks = nn.ModuleList(EqualConv2d(channels, channels, 3) for _ in range(num_levels - 2))
        self.exit = EqualConv2d(channels, out_channels, 3)
        self.residual = EqualConv2d(out_channels, out_channels, 3)

    def forward(self, maps: Tensor) -> tuple[Tensor, ...]:
        """Encode maps `(B, in_channels, h, w)` into one feature per level, the base grid first."""
        x = self.entry(maps)
        features = [x]
        for block in self.blocks:
            x = block(halve(x))
            features.append(x)
        x = self.exit(halve(x))
        x = (x + self.residual(x)) * math.sqrt(0.5)
        return (x, *reversed(features))
