"""Whether what was found in a photograph is there: a person, upright, and not clothes by themselves.

A network that looks for people finds one in much that shows none. Keypoints and labels come from different parts of it,
so each says whether to believe the other. The bounds were set by photographs; `python -m tests.benchmarks.presence`
counts what they refuse.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from styletryon.errors import PersonNotFoundError
from styletryon.labels import IDENTITY, Label
from styletryon.pose._pose import Pose

_SURE = 0.4
"""The score from which a found keypoint is held to the labels."""

_BESIDE, _MOST_BESIDE = 0.06, 0.15
"""How far from the person, in lengths of the person, a keypoint lies beside them, and which share of all may."""

_FROM_HEAD = 0.05
"""How far from face and hair, in lengths of the person, eyes, ears and nose may lie."""

_BODY = (Label.HAIR, Label.FACE, Label.SKIN, Label.SHOES)
"""What somebody in clothes shows beside them."""

_HEAD_SCORE, _HEAD_SHARE = 0.5, 0.05
"""A head is there from this score of a keypoint of it, and this share of hair and face among what is no background."""

_LIMBS = 6
"""How many of the surest keypoints below the head are asked: half a person has as many."""

_SLOPE, _LEVEL, _TRACE = 0.14, 0.39, 0.005
"""The line between clothes that somebody wears and others, over the limbs' mean score and the logarithm of the share of
skin, hair and shoes."""


def shows_somebody(pose: Pose, labels: NDArray[np.uint8]) -> bool:
    """Say whether somebody wears the clothes of a picture, or they lie or hang by themselves.

    Somebody has a head, or limbs that are surely there and skin, hair or shoes beside the clothes: the less is seen of
    the one, the more of the other it takes.

    Args:
        pose: One person's keypoints, as they were found; their scores count.
        labels: `(H, W)` uint8 classes of the same picture.

    Returns:
        False for clothes that nobody wears, and for a picture of background.
    """
    counts = np.bincount(_some(labels)[0].ravel(), minlength=max(Label) + 1)
    shown = int(counts[1:].sum())
    if shown == 0:
        return False
    scores = np.sort(pose.keypoints[0, 5:, 2].detach().cpu().double().numpy())[-_LIMBS:]
    head = float(pose.keypoints[0, :5, 2].max())
    if head >= _HEAD_SCORE and counts[[int(label) for label in IDENTITY]].sum() >= _HEAD_SHARE * shown:
        return True
    share = counts[list(_BODY)].sum() / shown
    return bool(scores.mean() + _SLOPE * math.log(share + _TRACE) >= _LEVEL)


def check_somebody(pose: Pose, labels: NDArray[np.uint8]) -> None:
    """Refuse clothes that nobody wears; see `shows_somebody`.

    Args:
        pose: One person's, as it was found.
        labels: `(H, W)` uint8 classes of the same picture.

    Raises:
        PersonNotFoundError: If nobody wears them.
    """
    if not shows_somebody(pose, labels):
        raise PersonNotFoundError(
            "expected a photograph that shows a person, got one that shows clothes alone; use a photograph of somebody "
            "who wears them, show more of the person, or pass a pose",
            argument="image",
        )


def check_agreement(pose: Pose, labels: NDArray[np.uint8]) -> None:
    """Refuse keypoints that were found where the labels see something else: an upright person who is not there.

    Args:
        pose: One person's, as it was found.
        labels: `(H, W)` uint8 classes of the same picture.

    Raises:
        PersonNotFoundError: If keypoints lie beside the person, or those of the head where no head is.
    """
    seen, step = _some(labels)
    points = pose.keypoints[0].detach().cpu().double().numpy()
    sure = points[:, 2] > _SURE
    if not sure.any():
        return
    places = (points[:, :2] / step).astype(np.int64).clip(0, np.array(seen.shape[::-1]) - 1)
    extent = max(16.0, float(np.ptp(points[sure, :2], axis=0).max())) / step
    beside = _distances(seen != Label.BACKGROUND, places) > _BESIDE * extent
    from_head = _distances(np.isin(seen, [int(label) for label in IDENTITY]), places)[:5]
    if beside[sure].mean() > _MOST_BESIDE:
        found = f"{int(beside[sure].sum())} of {int(sure.sum())} keypoints beside what is seen of one"
    elif (from_head[sure[:5]] > _FROM_HEAD * extent).any():
        found = "keypoints of a head where no face and no hair is seen"
    else:
        return
    raise PersonNotFoundError(
        f"expected a photograph of an upright person, got {found}; turn the photograph upright, show the person from "
        "head to knee, or pass a pose",
        argument="image",
    )


def _some(labels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int]:
    """Return about a quarter of a million of the labels, and that each is one of so many along a side."""
    step = max(1, math.isqrt(labels.size // 250_000))
    return labels[::step, ::step], step


def _distances(shown: NDArray[np.bool_], places: NDArray[np.int64]) -> NDArray[np.float64]:
    """How far places `(N, 2)`, x and y, lie from where something is shown, in pixels; infinite where nothing is."""
    from scipy import ndimage  # here, because it costs more to import than all else

    if not shown.any():
        return np.full(len(places), np.inf)
    return np.asarray(ndimage.distance_transform_edt(~shown)[places[:, 1], places[:, 0]])
