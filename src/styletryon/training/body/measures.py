"""Measures of a network of the body: percentage of correct keypoints, intersection over union of labels."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from styletryon.errors import ConfigError, ShapeError
from styletryon.labels import NUM_LABELS


def pck(
    found: Tensor,  # (N, 17, 2)
    truth: Tensor,  # (N, 17, 3)
    threshold: float,
    *,
    by: str = "torso",
    least_score: float = 0.3,
) -> float:
    """Measure the percentage of correct keypoints: how many lie within a share of the person's size of the truth.

    Args:
        found: `(N, 17, 2)` estimates in pixels.
        truth: `(N, 17, 3)` the truth and its score.
        threshold: Share of the person's size.
        by: The size: "torso" is the distance from the middle of the shoulders to the middle of the hips, "box" the
            height of the box around the keypoints that count.
        least_score: Keypoints whose score in the truth is lower do not count.

    Returns:
        A share in [0, 1] over all keypoints of all people; NaN if none counts.

    Raises:
        ConfigError: If `by` is neither.
    """
    counts = truth[..., 2] >= least_score
    if by == "torso":
        scale = (truth[:, 5:7, :2].mean(1) - truth[:, 11:13, :2].mean(1)).norm(dim=-1)
    elif by == "box":
        y = truth[..., 1]
        high = torch.where(counts, y, y.new_full((), -math.inf)).amax(1)
        scale = high - torch.where(counts, y, y.new_full((), math.inf)).amin(1)
    else:
        raise ConfigError(f"expected 'torso' or 'box', got {by!r}", argument="by")
    near = (found - truth[..., :2]).norm(dim=-1) <= threshold * scale[:, None]
    return float(near[counts].float().mean())


def boundary_score(
    found: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8], *, tolerance: float = 2.0
) -> float:
    """Measure how well outlines agree: the F-score of pixels at which the class changes.

    Args:
        found: `(H, W)` estimated classes.
        truth: `(H, W)` true ones; outlines beside values from 12 up do not count.
        tolerance: How far an outline may lie from the other's and be right, in pixels.

    Returns:
        The harmonic mean of two shares in [0, 1]: of the found outlines that are right, and of the true ones that are
        found. NaN if there are neither.
    """
    unknown = ndimage.binary_dilation(truth >= NUM_LABELS, iterations=math.ceil(tolerance) + 1)
    lines = [_outlines(labels) & ~unknown for labels in (found, truth)]
    counts = [int(line.sum()) for line in lines]
    if not any(counts):
        return math.nan
    if not all(counts):
        return 0.0
    shares = []
    for line, other, count in zip(lines, reversed(lines), counts, strict=True):
        distance = ndimage.distance_transform_edt(~other)
        shares.append(float((distance[line] <= tolerance).sum()) / count)
    return 2 * shares[0] * shares[1] / max(sum(shares), 1e-9)


def _outlines(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Mark the pixels whose class differs from that of the one to the right or below."""
    lines = np.zeros(labels.shape, bool)
    lines[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    lines[:-1] |= labels[:-1] != labels[1:]
    return lines


def confusion(found: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Count which class was taken for which.

    Args:
        found: Estimated classes, of any shape.
        truth: The true ones, of that shape; values from 12 up do not count.

    Returns:
        `(12, 12)` pixels: the row is the true class, the column the estimated one. Sums over pictures make sense.

    Raises:
        ShapeError: If the shapes differ.
    """
    if found.shape != truth.shape:
        raise ShapeError(f"expected the shape of the truth, {truth.shape}, got {found.shape}", argument="found")
    known = truth < NUM_LABELS
    pairs = truth[known].astype(np.int64) * NUM_LABELS + found[known]
    return np.bincount(pairs, minlength=NUM_LABELS**2).reshape(NUM_LABELS, NUM_LABELS)


def class_iou(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Divide the intersection by the union, class by class.

    Args:
        counts: `(12, 12)` of `confusion`.

    Returns:
        `(12,)` shares in [0, 1]; NaN for a class that does not occur in the truth.
    """
    hits = np.diag(counts).astype(np.float64)
    truth = counts.sum(1)
    union = truth + counts.sum(0) - hits
    return np.where(truth > 0, hits / np.maximum(union, 1), np.nan)
