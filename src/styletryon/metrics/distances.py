"""Distances between two sets of pictures, by the features of each picture: Frechet and kernel distance.

Features are `(N, D)` arrays, a row per picture. The distances do not know what network the features came from, and
numbers of different networks, picture sizes or preparations cannot be compared: `styletryon.metrics.networks` keeps
account of that. Everything is computed in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from styletryon.errors import RangeError, ShapeError

Array = NDArray[Any]

SUBSETS = 100
"""Number of subsets that the kernel distance is averaged over, as its authors did."""

SUBSET_SIZE = 1000
"""Largest number of pictures in such a subset, as its authors had it."""

_BLOCK = 1024  # rows of the kernel matrix that are held at once


def frechet_distance(first: Array, second: Array) -> float:
    """Compute the Frechet distance of two Gaussians with the means and covariances of two sets (Heusel et al. 2017).

    `|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))` with unbiased covariances. No square root of a matrix is taken: with
    `C1 = A'A` and `C2 = B'B` the trace of the root is the sum of the singular values of `A B'`, which loses no digits
    where covariances are singular, as they are when there are fewer pictures than features.

    The value of finite sets is too large, the more so the fewer pictures there are.

    Args:
        first: `(N, D)` features of the first set, N >= 2.
        second: `(M, D)` features of the second set, M >= 2.

    Returns:
        The squared distance, from 0 up.

    Raises:
        ShapeError: If a set is too small or their widths differ.
        RangeError: If a feature is not finite.
    """
    x, y = _check(first, second, least=2)
    a, b = _root(x), _root(y)
    apart = float(((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum())
    shared = float(np.linalg.svd(a @ b.T, compute_uv=False).sum())
    return max(0.0, apart + float((a**2).sum()) + float((b**2).sum()) - 2 * shared)


def kernel_distance(first: Array, second: Array) -> tuple[float, float]:
    """Compute the kernel distance of two sets with its standard error (KID, Binkowski et al. 2018).

    The unbiased squared maximum mean discrepancy with the kernel `(x . y / D + 1)**3`, over whole sets: its
    mean is that of the usual one over subsets, and it errs less. The error is the jackknife's.

    Args:
        first: `(N, D)` features of the first set, N >= 3.
        second: `(M, D)` features of the second set, M >= 3.

    Returns:
        The distance, which may be below 0 for sets that are alike, and its standard error.

    Raises:
        ShapeError: If a set is too small or their widths differ.
        RangeError: If a feature is not finite.
    """
    x, y = _check(first, second, least=3)
    n, m = len(x), len(y)
    rows_x, rows_y = _sums(x, x) - _self_kernel(x), _sums(y, y) - _self_kernel(y)
    across_x, across_y = _sums(x, y), _sums(y, x)
    inside_x, inside_y, across = rows_x.sum(), rows_y.sum(), across_x.sum()
    term_x, term_y = inside_x / (n * (n - 1)), inside_y / (m * (m - 1))
    value = term_x + term_y - 2 * across / (n * m)
    without_x = (inside_x - 2 * rows_x) / ((n - 1) * (n - 2)) + term_y - 2 * (across - across_x) / ((n - 1) * m)
    without_y = (inside_y - 2 * rows_y) / ((m - 1) * (m - 2)) + term_x - 2 * (across - across_y) / (n * (m - 1))
    variance = (n - 1) * without_x.var() + (m - 1) * without_y.var()
    return float(value), float(math.sqrt(variance))


@dataclass(frozen=True)
class SubsetDistance:
    """A kernel distance as most software states it.

    Attributes:
        mean: Mean over the subsets.
        std: Standard deviation over the subsets. It is no standard error: it does not shrink with more subsets.
        subsets: How many subsets.
        size: Pictures in each subset of either set.
    """

    mean: float
    std: float
    subsets: int
    size: int


def subset_kernel_distance(
    first: Array,
    second: Array,
    *,
    subsets: int = SUBSETS,
    size: int = SUBSET_SIZE,
    seed: int = 0,
) -> SubsetDistance:
    """Compute the kernel distance as Binkowski et al. 2018 state it: the mean over random subsets.

    Args:
        first: `(N, D)` features of the first set, N >= 3.
        second: `(M, D)` features of the second set, M >= 3.
        subsets: How many subsets.
        size: Pictures in each, drawn without replacement; at most the smaller of N and M are taken.
        seed: Of the subsets.

    Returns:
        The distance.

    Raises:
        ShapeError: If a set is too small or their widths differ.
        RangeError: If a number is out of range, or a feature is not finite.
    """
    x, y = _check(first, second, least=3)
    if subsets < 1 or size < 3:
        raise RangeError(f"expected at least 1 and 3, got {subsets} and {size}", argument="subsets, size")
    count = min(size, len(x), len(y))
    rng = np.random.default_rng(seed)
    found = [
        _unbiased(x[rng.choice(len(x), count, replace=False)], y[rng.choice(len(y), count, replace=False)])
        for _ in range(subsets)
    ]
    return SubsetDistance(float(np.mean(found)), float(np.std(found)), subsets, count)


# ------------------------------------------------------------------------------------------------------- helpers
def _check(first: Array, second: Array, *, least: int) -> tuple[Array, Array]:
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < least:
        raise ShapeError(
            f"expected (N, D) and (M, D) features with N, M >= {least}, got {x.shape} and {y.shape}; "
            "ask for more pictures",
            argument="first, second",
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise RangeError(
            "expected finite features, got NaN or infinity; look at the pictures", argument="first, second"
        )
    return x, y


def _root(features: Array) -> Array:
    """Return A, at most square, with `A'A` the unbiased covariance."""
    centred = (features - features.mean(axis=0)) / math.sqrt(len(features) - 1)
    if len(centred) <= centred.shape[1]:
        return np.asarray(centred)
    return np.asarray(np.linalg.qr(centred, mode="r"))


def _kernel(a: Array, b: Array) -> Array:
    return np.asarray((a @ b.T / a.shape[1] + 1) ** 3)


def _self_kernel(a: Array) -> Array:
    return np.asarray(((a**2).sum(axis=1) / a.shape[1] + 1) ** 3)


def _sums(a: Array, b: Array) -> Array:
    """Sum the kernel of each row of a over the rows of b, a block at a time."""
    return np.concatenate([_kernel(a[at : at + _BLOCK], b).sum(axis=1) for at in range(0, len(a), _BLOCK)])


def _unbiased(x: Array, y: Array) -> float:
    n = len(x)
    inside = sum((_kernel(part, part).sum() - _self_kernel(part).sum()) / (n * (n - 1)) for part in (x, y))
    return float(inside - 2 * _kernel(x, y).mean())
