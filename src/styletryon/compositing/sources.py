"""Sources: what the pixels of a try-on are taken from. Each is known somewhere in a photograph and continued beyond.

What is continued keeps its texture: piece by piece it is a copy of what is known elsewhere, of that which fits its
surroundings best, with its colours moved smoothly until they meet those around (in the spirit of seamless cloning,
Perez et al. 2003).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn import functional

from styletryon.compositing.drawn.planes import diffused
from styletryon.compositing.view import Mask, Picture, Points, apart, shrunk
from styletryon.photo.colours import from_lab, to_lab

_GRAIN = 0.05
"""What is finer than this is texture, in lengths of the trunk."""

_PIECE, _SEARCH_UNIT = 0.25, 64
"""The side of a copied piece in lengths of the trunk, and the length of the trunk where copies are looked for."""

_RING, _MEETS = 2, 12
"""How wide the surroundings are that a copy must fit, in pixels there; and whose colours it takes, in the picture's."""

_FADES, _MOST = 0.12, 0.15
"""How far the colours around a copy reach into it, in lengths of the trunk, and by how much they change it at most."""

_SEAM = 0.03
"""How far a copy passes over into the copies beside it, in lengths of the trunk, so that no seam shows."""

_CLEAN, _CLEAN_SHARE = 0.02, 0.5
"""Nothing is copied from this near to the edge of what is known, in lengths of the trunk, unless that leaves less of it
than the second number."""

_WHOLE = 0.99
"""A pixel of the smaller picture is known if more than this of it is."""

_UNKNOWN = 1.0
"""What it costs if all of a copy is unknown; a difference of colours from black to white costs 3."""

_PLAIN = 0.25
"""What it costs if a copy's own colours differ from those around it, beside what it costs if its surroundings do."""

_LEAST_SKIN = 200
"""Pixels of skin from which its colours are measured."""

_LEAST_RIM = 50
"""Pixels of a rim from which what is beside it is brought to its colours."""

_SPREAD = (0.8, 1.25)
"""Bounds of how much more or less skin of one person varies than another's."""


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


def continued(picture: Picture, known: Mask, wanted: Mask, unit: float) -> Picture:
    """Continue what is known of a picture.

    Args:
        picture: The picture.
        known: Which pixels are known; they stay as they are.
        wanted: Which pixels are needed; others may be anything.
        unit: The length of the trunk in pixels, which says how large the copied pieces are.
    """
    missing = wanted & ~known
    if not missing.any() or not known.any():
        return picture
    found, done = picture.copy(), known.copy()
    clean = shrunk(known, _CLEAN * unit)  # Along its edge lie colours of what is beside it.
    source = clean if int(clean.sum()) > _CLEAN_SHARE * int(known.sum()) else known
    small = _Reduced.of(picture, source, max(1, round(unit / _SEARCH_UNIT)))
    for piece in _pieces(missing, known, _PIECE * unit):
        step = small.best_step(found, done, piece)
        if step is not None:
            _copy(found, done, known, picture, source, piece, step, unit)
    # What no copy reaches has the colours around it alone.
    rest = missing & ~done
    return np.where(rest[..., None], _smooth(diffused(found, done), _GRAIN * unit), found) if rest.any() else found


@dataclass(frozen=True, eq=False)
class _Piece:
    """A part of what is missing: a mask in a window of the picture, with its upper left corner."""

    top: int
    left: int
    mask: Mask

    def window(self, edge: int, shape: tuple[int, ...]) -> tuple[slice, slice]:
        """Return the window, wider by an edge, within a picture."""
        height, width = self.mask.shape
        return (
            slice(max(0, self.top - edge), min(shape[0], self.top + height + edge)),
            slice(max(0, self.left - edge), min(shape[1], self.left + width + edge)),
        )

    def within(self, window: tuple[slice, slice]) -> Mask:
        """Return the mask in a wider window."""
        whole = np.zeros([side.stop - side.start for side in window], dtype=bool)
        top, left = self.top - window[0].start, self.left - window[1].start
        whole[top : top + self.mask.shape[0], left : left + self.mask.shape[1]] = self.mask
        return whole


@dataclass(frozen=True, eq=False)
class _Reduced:
    """A picture made smaller, in which the best copy of a piece is looked for.

    Attributes:
        factor: How much smaller.
        colours: `(1, 3, h, w)`, 0 where unknown.
        known: `(1, 1, h, w)`: 1 where all of a pixel is known.
    """

    factor: int
    colours: Tensor
    known: Tensor

    @classmethod
    def of(cls, picture: Picture, known: Mask, factor: int) -> _Reduced:
        """Reduce a picture by a whole factor."""
        colours, share = _reduced(picture, known, factor)
        return cls(factor, colours, (share > _WHOLE).float())

    def best_step(self, found: Picture, done: Mask, piece: _Piece) -> tuple[int, int] | None:
        """Return from how far down and to the right the copy of a piece fits best; None where too little is known."""
        factor = self.factor
        window = piece.window(_RING * factor, done.shape)
        # The window starts at a whole pixel of the smaller picture.
        window = tuple(slice(side.start // factor * factor, side.stop) for side in window)  # type: ignore[assignment]
        mask = piece.within(window)
        colours, share = _reduced(found[window], done[window] & ~mask, factor)
        inside = functional.max_pool2d(_plane(mask), factor, ceil_mode=True)
        around = (share > _WHOLE).float() * functional.max_pool2d(inside, 2 * _RING + 1, 1, _RING)
        if not around.any():
            return None
        # Sums over the piece and the ring around it, for every place where they could lie.
        height, width = inside.shape[2:]
        pad = (width - 1, width - 1, height - 1, height - 1)
        known, theirs = functional.pad(self.known, pad), functional.pad(self.colours, pad)
        ours, ring = colours * around, (colours**2).sum(1, keepdim=True) * around
        covered = _slid(known, inside) / inside.sum()
        count = _slid(known, around).round()
        planes = torch.cat([known, theirs, (theirs**2).sum(1, keepdim=True)], 1)
        unlike = _slid(planes, torch.cat([ring, -2 * ours, around], 1)).clamp_min(0) / count.clamp_min(1)
        # How far the copy's own colours lie from those around it on average: a plain garment has no buttons anywhere.
        mean = (colours * around).sum((2, 3), keepdim=True) / around.sum()
        far = _slid(planes, torch.cat([(mean**2).sum(1, keepdim=True) * inside, -2 * mean * inside, inside], 1))
        unlike = unlike + _PLAIN * far.clamp_min(0) / inside.sum()
        cost = unlike + _UNKNOWN * (1 - covered) + _UNKNOWN * (count < 0.5 * around.sum())
        at = int(cost.argmin())
        if float(covered.flatten()[at]) < 0.5:
            return None
        row, column = divmod(at, cost.shape[3])
        top, left = window[0].start // factor, window[1].start // factor
        return (row - height + 1 - top) * factor, (column - width + 1 - left) * factor


def _pieces(missing: Mask, known: Mask, side: float) -> Iterator[_Piece]:
    """Cut what is missing into pieces, those nearest to what is known first."""
    size = max(8, int(side))
    areas, _ = ndimage.label(missing)
    rows, columns = np.nonzero(missing)
    cells = (areas[missing] * 1000 + rows // size) * 1000 + columns // size
    _, numbers = np.unique(cells, return_inverse=True)
    names = np.zeros(missing.shape, dtype=np.int64)
    names[missing] = 1 + numbers
    away = ndimage.mean(ndimage.distance_transform_edt(~known), names, np.arange(1, names.max() + 1))
    places = ndimage.find_objects(names)
    for index in np.argsort(away):
        window = places[index]
        yield _Piece(window[0].start, window[1].start, names[window] == index + 1)


def _copy(
    found: Picture,
    done: Mask,
    known: Mask,
    picture: Picture,
    source: Mask,
    piece: _Piece,
    step: tuple[int, int],
    unit: float,
) -> None:
    """Copy a piece from where a step leads, with the colours around it; into copies beside it, it passes over."""
    window = piece.window(_MEETS, done.shape)
    mask = piece.within(window)
    places = [np.arange(side.start, side.stop) + by for side, by in zip(window, step, strict=True)]
    clipped = [line.clip(0, size - 1) for line, size in zip(places, done.shape, strict=True)]
    colours = picture[np.ix_(*clipped)]
    usable = source[np.ix_(*clipped)] & np.outer(*(line == kept for line, kept in zip(places, clipped, strict=True)))
    meets, target = done[window] & usable & ~mask, mask & usable
    offset = np.zeros_like(colours)
    if meets.any():
        # The colours around fade into the copy's own, so that a shadow at the rim stays there.
        near = np.exp(-((ndimage.distance_transform_edt(~meets) / (_FADES * unit)) ** 2))[..., None]
        unlike = (found[window] - colours).clip(-_MOST, _MOST)
        offset = near * _smooth(diffused(unlike, meets), _MEETS / 3)
    share = (1 - apart(target) / (_SEAM * unit)).clip(0, 1) * (target | (meets & ~known[window]))
    found[window] += share[..., None] * ((colours + offset).clip(0, 1) - found[window])
    done[window] |= target


def _slid(planes: Tensor, kernel: Tensor) -> Tensor:
    """Return the sums of products of planes `(1, c, h, w)` and a kernel at every place, by Fourier transforms."""
    height, width = planes.shape[2:]
    size = [next_fast_len(side, real=True) for side in (height, width)]
    product = torch.fft.rfft2(planes, s=size) * torch.fft.rfft2(kernel, s=size).conj()
    sums: Tensor = torch.fft.irfft2(product.sum(1, keepdim=True), s=size)
    return sums[:, :, : height - kernel.shape[2] + 1, : width - kernel.shape[3] + 1]


def _plane(mask: Mask) -> Tensor:
    return torch.from_numpy(mask.astype(np.float32))[None, None]


def _reduced(picture: Picture, known: Mask, factor: int) -> tuple[Tensor, Tensor]:
    """Average what is known of each square of pixels, and say how much of it is known."""
    share = functional.avg_pool2d(_plane(known), factor, ceil_mode=True, count_include_pad=False)
    planes = torch.from_numpy(np.ascontiguousarray((picture * known[..., None]).transpose(2, 0, 1)))[None]
    colours = functional.avg_pool2d(planes, factor, ceil_mode=True, count_include_pad=False) / share.clamp_min(1e-6)
    return colours * (share > _WHOLE), share


def meeting(source: Picture, picture: Picture, beside: Mask, reach: float) -> Picture:
    """Move the colours of a source smoothly until they meet a picture's.

    Args:
        source: What is moved.
        picture: What it meets.
        beside: Where both are known: the rim along which they meet.
        reach: How far from it the change fades, in pixels.
    """
    if int(beside.sum()) < _LEAST_RIM:
        return source
    offset = _smooth(diffused(picture - source, beside), reach / 12)
    near = np.exp(-((ndimage.distance_transform_edt(~beside) / reach) ** 2))[..., None]
    return np.asarray((source + near * offset).clip(0, 1), dtype=np.float32)


def recoloured(picture: Picture, theirs: Picture, ours: Picture) -> Picture:
    """Give skin the colours of another person's: the median and the spread of each axis of CIELAB.

    Args:
        picture: What is to be changed.
        theirs: `(n, 3)` colours of the skin that it shows.
        ours: `(n, 3)` colours of the skin that it shall look like.
    """
    if min(len(theirs), len(ours)) < _LEAST_SKIN:
        return picture
    before, after = to_lab(theirs), to_lab(ours)
    spread = (after.std(axis=0) / before.std(axis=0).clip(1.0)).clip(*_SPREAD)
    moved = (to_lab(picture) - np.median(before, axis=0)) * spread + np.median(after, axis=0)
    return np.asarray(from_lab(moved), dtype=np.float32)


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
