"""Hems: where tops end. A hem is a smooth line, though labels take trousers of its colour for a top."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from styletryon.compositing.skeleton import Part
from styletryon.compositing.view import Mask, View

_SIDE, _BINS = 0.8, 24  # How far from the trunk's axis hems are measured, in half widths; in how many pieces.
_QUANTILE = 0.25  # Of how far down a garment reaches in each piece: labels reach too far more often than not.
_FLAP = 0.01  # How far below the line of its hem a garment may reach, in lengths of the trunk.


def below_hem(trunk: Part, view: View, cloth: Mask) -> Mask:
    """Say what lies below the hem of a top.

    Args:
        trunk: The trunk of its wearer.
        view: Where it is seen.
        cloth: What labels call the top.

    Returns:
        `(h, w)`; nothing where too little of the top is seen.
    """
    along, across = trunk.locate(view.pixels)
    across = across / view.half_width
    known = cloth & (np.abs(across) < _SIDE)
    at = ((across[known] / _SIDE + 1) / 2 * _BINS).astype(int).clip(0, _BINS - 1)
    lowest = np.full(_BINS, -np.inf)
    np.maximum.at(lowest, at, along[known])
    places, seen = (np.arange(_BINS) + 0.5) / _BINS * 2 - 1, np.isfinite(lowest)
    if int(seen.sum()) < _BINS // 2:
        return np.zeros_like(cloth)
    line = _curve(places[seen], lowest[seen])
    return np.asarray(along > line((across / _SIDE).clip(-1, 1)) + _FLAP)


def _curve(x: NDArray[np.float64], y: NDArray[np.float64]) -> np.polynomial.Polynomial:
    """Fit a parabola to a low quantile of y. Hems hang lower in the middle than at the sides, or are straight."""
    curve = _quantile_curve(x, y, 2)
    return curve if curve.coef[2] <= 0 else _quantile_curve(x, y, 1)


def _quantile_curve(x: NDArray[np.float64], y: NDArray[np.float64], degree: int) -> np.polynomial.Polynomial:
    weights = np.ones_like(x)
    for _ in range(12):
        curve = np.polynomial.Polynomial.fit(x, y, degree, domain=[-1, 1], w=weights**0.5)
        rest = y - curve(x)
        weights = np.where(rest > 0, _QUANTILE, 1 - _QUANTILE) / np.maximum(np.abs(rest), 0.01)
    return curve
