"""Arithmetic of planes `(h, w)` and pictures `(h, w, 3)` that layout, sources and blending share."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from styletryon.generator import GeneratorOutput

Plane = NDArray[np.float32]
"""`(h, w)` float32."""

WORK_PIXELS = 1 << 20
"""The most pixels of a photograph that are looked at; of a larger one they are made smaller."""

LEAST_KNOWN = 50
"""Pixels from which colours are estimated; from fewer, nothing is."""

_EDGE = 2.5
"""How much steeper an enlarged edge is made: drawn edges are as soft as a pixel of the drawing is large."""


def chance_of(drawing: GeneratorOutput, classes: Collection[int]) -> Tensor:
    """The probability of some classes, `(H, W)` on the CPU."""
    known = sorted(int(label) for label in classes if int(label) < drawing.logits.shape[1])
    return drawing.probabilities[0, known].sum(dim=0).detach().cpu()


def steeper(edge: Plane) -> Plane:
    """Make an edge as sharp as a photograph's."""
    return np.asarray((edge - 0.5) * _EDGE + 0.5, dtype=np.float32).clip(0, 1)


def apart(one: NDArray[np.float32], other: NDArray[np.float32]) -> Plane:
    """Say how far the colours of two pictures `(h, w, 3)` lie apart, in the channel where they do most."""
    red, green, blue = np.abs(one - other).transpose(2, 0, 1)
    return np.asarray(np.maximum(np.maximum(red, green), blue))


def frequencies(picture: NDArray[np.float32], chosen: NDArray[np.bool_], bins: int = 16) -> NDArray[np.float64]:
    """Say how frequent the colour of each pixel of `(h, w, 3)` is among the chosen ones, `(h, w)`, above 0."""
    cells = np.ravel_multi_index(tuple((picture * bins).astype(int).clip(0, bins - 1).transpose(2, 0, 1)), (bins,) * 3)
    counts = np.bincount(cells[chosen], minlength=bins**3).reshape((bins,) * 3)
    smooth = ndimage.gaussian_filter(counts / max(1, int(chosen.sum())), 1.0)
    return np.asarray(smooth.ravel()[cells] + 1e-6)


def spread(drawn: Tensor, sure: Tensor) -> Tensor:
    """Let what is not sure take its neighbours' colour, up to four pixels away; `(1, C, H, W)` and `(1, 1, H, W)`."""
    known = sure.float()
    colours = drawn * known
    for _ in range(4):  # a ring of pixels each
        around, count = (functional.avg_pool2d(plane, 3, 1, 1) for plane in (colours, known))
        fresh = (known == 0) & (count > 0)
        colours = torch.where(fresh, around / count.clamp_min(1e-6), colours)
        known = torch.where(fresh, torch.ones_like(known), known)
    return torch.where(known > 0, colours, drawn)


def diffused(picture: NDArray[np.float32], known: NDArray[np.bool_], *, keep: bool = True) -> NDArray[np.float32]:
    """Spread the colours of the known pixels over all: a pyramid of means, coarse where nothing is near.

    Args:
        picture: `(h, w, 3)`.
        known: `(h, w)`.
        keep: Whether known pixels keep their colour; otherwise they get the mean around them.
    """
    colours = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None].float()
    weight = torch.from_numpy(known)[None, None].float()
    levels = [(colours * weight, weight)]
    while min(levels[-1][1].shape[2:]) > 1:
        sums, share = (functional.avg_pool2d(p, 2, ceil_mode=True, count_include_pad=False) for p in levels[-1])
        levels.append((sums, share))
    sums, share = levels[-1]
    # A long picture ends in several cells, of which one may know nothing: it takes the mean of the others.
    mean = sums.sum((2, 3), keepdim=True) / share.sum((2, 3), keepdim=True).clamp_min(1e-6)
    found = torch.where(share > 0, sums / share.clamp_min(1e-6), mean)
    for number, (sums, share) in reversed(list(enumerate(levels[:-1]))):
        coarse = functional.interpolate(found, share.shape[2:], mode="bilinear", align_corners=False)
        # Of a cell that is known in part, its own mean counts by that part.
        own = sums / share.clamp_min(1e-6)
        trust = share.clamp(0, 1) if keep or number >= 3 else torch.zeros_like(share)
        found = trust * own + (1 - trust) * coarse
    return np.asarray(found[0].permute(1, 2, 0).numpy(), dtype=np.float32)
