"""Sources: what the pixels of a try-on are taken from. Each is known somewhere in a photograph and continued beyond.

What is continued keeps its texture: it is reflected at the outline of what is known. Farther from it, its colours are
those of all that is known around.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

from styletryon.compositing.view import Mask, Picture, Points, shrunk

_GRAIN = 0.05
"""What is finer than this is texture, in lengths of the trunk."""

_LEAST_SKIN = 200
"""Pixels of skin from which its colours are measured."""

_SPREAD = (0.8, 1.25)
"""Bounds of how much more or less skin of one person varies than another's."""

_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])


def look_up(
    picture: NDArray[np.float32], places: Points, *, mode: str = "bilinear", beyond: str = "border"
) -> NDArray[np.float32]:
    """Sample a picture `(h, w, 3)` or a plane `(h, w)` at places `(..., 2)`.

    Args:
        picture: The picture or plane.
        places: Where, in its pixels.
        mode: "bilinear" or "bicubic".
        beyond: What lies beyond its edges: "border", what it ends with; "reflection", its mirror image.
    """
    height, width = picture.shape[:2]
    grid = torch.from_numpy(places * [2 / width, 2 / height] - 1).float()[None]
    flat = picture[..., None] if picture.ndim == 2 else picture
    source = torch.from_numpy(np.ascontiguousarray(flat.transpose(2, 0, 1))).float()[None]
    found = functional.grid_sample(source, grid, mode=mode, padding_mode=beyond, align_corners=False)[0]
    sampled = found.permute(1, 2, 0).numpy()
    return np.asarray(sampled[..., 0] if picture.ndim == 2 else sampled, dtype=np.float32)


def continued(picture: Picture, known: Mask, unit: float) -> Picture:
    """Continue what is known of a picture over all of it.

    Args:
        picture: The picture.
        known: Which pixels are known; they stay as they are.
        unit: The length of the trunk in pixels, which says what counts as texture.
    """
    if known.all() or not known.any():
        return picture
    sigma = _GRAIN * unit
    away, (rows, columns) = ndimage.distance_transform_edt(~known, return_indices=True)
    there = [2 * near - at for near, at in zip((rows, columns), np.indices(known.shape), strict=True)]
    clipped = [place.clip(0, side - 1) for place, side in zip(there, known.shape, strict=True)]
    whole = known[clipped[0], clipped[1]] & (clipped[0] == there[0]) & (clipped[1] == there[1])
    reflected = picture[np.where(whole, clipped[0], rows), np.where(whole, clipped[1], columns)]
    texture = reflected - _smooth(reflected, sigma)
    colours = _smooth(_spread(picture, known), sigma / 2)
    near = np.exp(-((away / (2 * sigma)) ** 2))[..., None]
    found = (near * reflected + (1 - near) * (colours + texture)).clip(0, 1)
    return np.where(known[..., None], picture, found).astype(np.float32)


def recoloured(picture: Picture, theirs: Picture, ours: Picture) -> Picture:
    """Give skin the colours of another person's: the median and the spread of each axis of CIELAB.

    Args:
        picture: What is to be changed.
        theirs: `(n, 3)` colours of the skin that it shows.
        ours: `(n, 3)` colours of the skin that it shall look like.
    """
    if min(len(theirs), len(ours)) < _LEAST_SKIN:
        return picture
    before, after = _lab(theirs), _lab(ours)
    spread = (after.std(axis=0) / before.std(axis=0).clip(1.0)).clip(*_SPREAD)
    moved = (_lab(picture) - np.median(before, axis=0)) * spread + np.median(after, axis=0)
    return np.asarray(_rgb(moved), dtype=np.float32)


def colours_of(picture: Picture, mask: Mask) -> Picture:
    """Return the colours `(n, 3)` of a mask, without its rim."""
    return picture[shrunk(mask, 2)]


def _smooth(picture: Picture, sigma: float) -> Picture:
    """Blur a picture, at a size at which that is quick."""
    step = max(1, int(sigma / 2))
    planes = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None]
    small = functional.avg_pool2d(planes, step, ceil_mode=True, count_include_pad=False)[0].numpy()
    soft = torch.from_numpy(ndimage.gaussian_filter(small, (0, sigma / step, sigma / step)))[None]
    return functional.interpolate(soft, picture.shape[:2], mode="bilinear")[0].permute(1, 2, 0).numpy()


def _spread(picture: Picture, known: Mask) -> Picture:
    """Spread known colours over all: a pyramid of means, coarse where nothing is near."""
    colours = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None].float()
    weight = torch.from_numpy(known)[None, None].float()
    levels = [(colours * weight, weight)]
    while min(levels[-1][1].shape[2:]) > 1:
        sums, share = (functional.avg_pool2d(p, 2, ceil_mode=True, count_include_pad=False) for p in levels[-1])
        levels.append((sums, share))
    found = levels[-1][0] / levels[-1][1].clamp_min(1e-6)
    for sums, share in reversed(levels[:-1]):
        coarse = functional.interpolate(found, share.shape[2:], mode="bilinear", align_corners=False)
        trust = share.clamp(0, 1)
        found = trust * (sums / share.clamp_min(1e-6)) + (1 - trust) * coarse
    return np.asarray(found[0].permute(1, 2, 0).numpy(), dtype=np.float32)


def _lab(colours: NDArray[np.floating]) -> NDArray[np.float64]:
    """Take sRGB in [0, 1] to CIELAB (D65), `(..., 3)`."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T / _WHITE
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    light, red, blue = 116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])
    return np.stack([light, red, blue], axis=-1)


def _rgb(lab: NDArray[np.float64]) -> NDArray[np.float64]:
    """Take CIELAB (D65) to sRGB, clipped to [0, 1]."""
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    xyz = np.where(f > 0.20689, f**3, (f - 16 / 116) / 7.787) * _WHITE
    linear = (xyz @ np.linalg.inv(_TO_XYZ).T).clip(0, 1)
    return np.asarray(np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))
