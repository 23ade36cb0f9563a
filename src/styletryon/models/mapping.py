"""The mapping network: z to w."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from styletryon.models.layers import EqualLinear


class MappingNetwork(nn.Module):
    """Map z to w (Karras et al. 2019, arXiv 1812.04948).

    Args:
        z_dim: Width of z.
        w_dim: Width of w.
        num_layers: Fully connected layers.
        rate: Factor on their learning rate.
        last: The activation of the last layer, "linear" or "lrelu"; that of the others is "lrelu".
    """

    def __init__(
        self, z_dim: int, w_dim: int, num_layers: int, *, rate: float = 0.01, last: str = "linear"
    ) -> None:
        super().__init__()
        widths = [z_dim] + [w_dim] * num_layers
        self.layers = nn.Sequential(
            *(
                EqualLinear(before, after, activation="lrelu" if i < num_layers - 1 else last, rate=rate)
                for i, (before, after) in enumerate(pairwise(widths))
            )
        )

    def forward(self, z: Tensor) -> Tensor:
        """Map `(B, z_dim)` to `(B, w_dim)`. Only the direction of z matters: its length is normalised away."""
        z = z * (z.square().mean(dim=-1, keepdim=True) + 1e-8).rsqrt()
        out: Tensor = self.layers(z)
        return out
