"""Reasons to leave a photograph out: its pose, its labels, or a twin."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import numpy as np
import numpy.typing as npt
from PIL import Image

from styletryon.labels import GARMENTS, IDENTITY
from styletryon.photo import MIN_SCORE, Frame, resize
from styletryon.pose import Pose


class Reason(str, Enum):
    """Reasons why a photograph is not in the data set. The first are failures, which the next run tries again."""

    UNREADABLE = "unreadable"
    NO_LABELS = "no labels"
    BAD_LABELS = "unusable labels"
    BAD_KEYPOINTS = "unusable keypoints"
    ESTIMATE_FAILED = "estimate failed"
    NO_PERSON = "no person"
    FEW_KEYPOINTS = "too few keypoints"
    TOO_SMALL = "too small"
    SIDE_VIEW = "side view"
    BACK_VIEW = "back view"
    CUT_OFF = "cut off"
    OTHER_LABELS = "labels beside the pose"
    NO_CLOTHES = "no clothes"
    DUPLICATE = "duplicate"
    IN_NO_SPLIT = "in no split"


FAILURES = frozenset(
    {Reason.UNREADABLE, Reason.NO_LABELS, Reason.BAD_LABELS, Reason.BAD_KEYPOINTS, Reason.ESTIMATE_FAILED}
)

LEAST_KEYPOINTS = 8
"""Number of the 15 keypoints from head to knee that must have been found."""

MOST_ENLARGED = 2.0
"""Largest number of pixels of the data set that show one pixel of the photograph, along a side."""

LEAST_TURN = 0.25
"""Shoulders closer together than this share of the trunk's length are seen from the side."""

MOST_BEYOND = {"top": 0.08, "left": 0.2, "right": 0.2, "bottom": 0.25}
"""Share of the frame that may lie beyond an edge that cuts the person. `strict` allows a hundredth."""

TWIN_DISTANCE = 16.0
"""Two prepared pictures whose thumbnails differ by less (root mean square of 8-bit values) are twins."""

_LEAST_ON_PERSON = 0.5  # of the keypoints in the frame
_LEAST_CLOTHES = 0.02  # of the frame
_NOSE, _EYES, _SHOULDERS, _HIPS, _ELBOWS = 0, (1, 2), (5, 6), (11, 12), (7, 8)


def refuse_pose(pose: Pose, *, keep_side: bool) -> tuple[Reason, str] | None:
    """Say why a pose cannot be used, or None."""
    points = pose.keypoints[0].numpy()
    seen = points[:, 2] > MIN_SCORE
    if not seen.any():
        return Reason.NO_PERSON, "no keypoint was found"
    count = int(seen[:15].sum())
    if count < LEAST_KEYPOINTS or not seen[[*_SHOULDERS]].any() or not seen[[*_HIPS]].any():
        return Reason.FEW_KEYPOINTS, f"{count} of 15 from head to knee; a shoulder, a hip and {LEAST_KEYPOINTS} needed"
    if keep_side or not seen[[*_SHOULDERS, *_HIPS]].all():
        return None
    left, right = points[5, :2], points[6, :2]
    trunk = float(np.linalg.norm((left + right - points[11, :2] - points[12, :2]) / 2))
    turn = float(left[0] - right[0]) / max(trunk, 1e-6)
    if turn <= -LEAST_TURN or (turn >= LEAST_TURN and not seen[[_NOSE, *_EYES]].any()):
        return Reason.BACK_VIEW, f"shoulders {turn:.2f} trunks apart, left of right"
    if turn < LEAST_TURN:
        return Reason.SIDE_VIEW, f"shoulders {turn:.2f} trunks apart"
    return None


def refuse_frame(frame: Frame, pose: Pose, *, strict: bool) -> tuple[Reason, str] | None:
    """Say why a frame cannot be used, or None."""
    enlarged = max(frame.scale)
    if enlarged > MOST_ENLARGED:
        return Reason.TOO_SMALL, f"would be enlarged {enlarged:.1f} times, {MOST_ENLARGED:g} are allowed"
    if strict:
        before, after = pose.keypoints[0, :, 2], frame.to_model(pose).keypoints[0, :, 2]
        if any(before[elbow] > MIN_SCORE and after[elbow] == 0 for elbow in _ELBOWS):
            return Reason.CUT_OFF, "an elbow is beyond the frame"
    return None


def refuse_labels(
    labels: npt.NDArray[np.uint8], frame: Frame, pose: Pose, *, strict: bool
) -> tuple[Reason, str] | None:
    """Say why the labels of a frame, `(H, W)` in any resolution, cannot be used, or None."""
    person = labels > 0
    height, width = labels.shape
    points = frame.to_model(pose).keypoints[0].numpy()
    points = points[points[:, 2] > MIN_SCORE, :2] * np.array([width / frame.size[1], height / frame.size[0]])
    at = np.clip(points.astype(int), 0, [width - 1, height - 1])
    share = float(person[at[:, 1], at[:, 0]].mean()) if len(at) else 0.0
    if share < _LEAST_ON_PERSON:
        return Reason.OTHER_LABELS, f"{share:.0%} of the keypoints lie on labels"
    clothes = float(np.isin(labels, [int(label) for label in GARMENTS]).mean())
    if clothes < _LEAST_CLOTHES:
        return Reason.NO_CLOTHES, f"clothes cover {clothes:.1%} of the frame"
    for edge, beyond in cut_edges(person, frame).items():
        if beyond > (0.01 if strict else MOST_BEYOND[edge]):
            return Reason.CUT_OFF, f"by the photograph's {edge}, {beyond:.0%} of the frame lie beyond"
    if strict and np.isin(labels[0], [int(label) for label in IDENTITY]).any():
        return Reason.CUT_OFF, "the head by the top of the frame"
    return None


def cut_edges(person: npt.NDArray[np.bool_], frame: Frame) -> dict[str, float]:
    """Find the photograph's edges inside a frame that cut a person, `(H, W)` in the frame.

    Returns:
        Edge -> share of the frame that lies beyond it.
    """
    left, top, right, bottom = frame.box
    height, width = frame.photo_size
    rows, columns = person.shape
    beyond = {
        "left": -left / (right - left),
        "top": -top / (bottom - top),
        "right": (right - width) / (right - left),
        "bottom": (bottom - height) / (bottom - top),
    }
    found = {}
    for edge, share in beyond.items():
        if share <= 0:
            continue
        length = columns if edge in ("left", "right") else rows
        first = min(length - 1, int(np.ceil(share * length)))  # The first whole pixel inside the photograph.
        at = first if edge in ("left", "top") else length - 1 - first
        line = person[:, at] if edge in ("left", "right") else person[at]
        if line.any():
            found[edge] = share
    return found


_SIDE = 16


def thumbnail(picture: Image.Image, labels: Image.Image) -> bytes:
    """Shrink a prepared picture to what twins have in common: the person on white, in 16x16 pixels.

    Prepared, twins are framed alike even where one is another cut of the photograph.
    """
    person = Image.new("RGB", picture.size, (255, 255, 255))
    person.paste(picture, mask=labels.point(lambda label: 255 if label else 0))
    return resize(person, (_SIDE, _SIDE), filter="box").tobytes()


def find_twins(thumbnails: Sequence[bytes], *, block: int = 256) -> dict[int, int]:
    """Find pictures that look like an earlier one, upright or mirrored.

    Args:
        thumbnails: From `thumbnail`; of twins the first stays.
        block: How many are compared with all others at a time.

    Returns:
        Number of a picture -> number of the one that it repeats, which itself repeats none.
    """
    if not thumbnails:
        return {}
    flat = np.frombuffer(b"".join(thumbnails), np.uint8).reshape(len(thumbnails), _SIDE, _SIDE, 3)
    pictures = flat.reshape(len(flat), -1).astype(np.float32)
    mirrored = flat[:, :, ::-1].reshape(len(flat), -1).astype(np.float32)
    norms = (pictures**2).sum(axis=1)
    limit = pictures.shape[1] * TWIN_DISTANCE**2
    twins: dict[int, int] = {}
    for start in range(0, len(pictures), block):
        rows = slice(start, min(start + block, len(pictures)))
        base = norms[rows, None] + norms[None, : rows.stop]
        near = np.minimum(
            base - 2 * pictures[rows] @ pictures[: rows.stop].T, base - 2 * mirrored[rows] @ pictures[: rows.stop].T
        )
        for row, column in zip(*np.nonzero(near < limit), strict=True):
            one, other = start + int(row), int(column)
            if other < one and one not in twins and other not in twins:
                twins[one] = other
    return twins
