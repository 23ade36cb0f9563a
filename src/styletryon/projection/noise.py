"""Noise maps under optimisation: kept free of pictures, as in the projector of StyleGAN2 (Karras et al., 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def noise_correlation(noise: Sequence[Tensor]) -> Tensor:
    """Measure how much noise maps resemble themselves shifted by a pixel, at every size down to 8 pixels.

    Args:
        noise: `(B, 1, H_l, W_l)` each.

    Returns:
        `(B,)` the sum of the squared autocorrelations; about zero for white noise, which carries no picture.
    """
    terms = []
    for layer in noise:
        level = layer.float()
        while True:
            for dimension in (2, 3):
                terms.append((level * level.roll(1, dimension)).mean(dim=(1, 2, 3)).square())
            if min(level.shape[2:]) <= 8:
                break
            # Averages of four white pixels have half their deviation.
            level = functional.avg_pool2d(level, 2) * 2
    return torch.stack(terms).sum(dim=0)


@torch.no_grad()
def renormalise(noise: Sequence[Tensor]) -> None:
    """Bring each noise map of each sample to mean 0 and variance 1, in place.

    Args:
        noise: `(B, 1, H_l, W_l)` each.
    """
    for layer in noise:
        layer -= layer.mean(dim=(1, 2, 3), keepdim=True)
        layer *= torch.rsqrt(layer.square().mean(dim=(1, 2, 3), keepdim=True) + 1e-8)
