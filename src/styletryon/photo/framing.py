"""The frame around a person that becomes the generator's picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from styletryon.errors import (
    ImageError,
    PersonNotFoundError,
    PoseError,
    RangeError,
)
from styletryon.pose import Pose
from styletryon.pose._photo import Box

MIN_SCORE = 0.2
"""A keypoint of this score or less counts as missing when a person is framed."""


@dataclass(frozen=True)
class Frame:
    """The part of a photograph that a model looks at.

    Attributes:
        box: Left, top, right and bottom in the photograph's pixels; may reach outside the photograph.
        photo_size: Height and width of the photograph.
        size: Height and width of the model's picture.
    """

    box: Box
    photo_size: tuple[int, int]
    size: tuple[int, int]

    def __post_init__(self) -> None:
        left, top, right, bottom = self.box
        if not (all(math.isfinite(edge) for edge in self.box) and left < right and top < bottom):
            raise RangeError(f"expected left < right and top < bottom, got {self.box}", argument="box")

    @property
    def scale(self) -> tuple[float, float]:
        """Model pixels per photograph pixel, down and across."""
        left, top, right, bottom = self.box
        return self.size[0] / (bottom - top), self.size[1] / (right - left)

    def to_model(self, pose: Pose) -> Pose:
        """Take a pose from the photograph's pixels to the model's.

        A keypoint outside the frame keeps its place but gets score 0, missing, as in the training data.

        Raises:
            PoseError: If the pose belongs to a picture of another size than the photograph.
        """
        _check_pose_size(pose, self.photo_size)
        down, across = self.scale
        offset = pose.keypoints.new_tensor([self.box[0], self.box[1], 0.0])
        points = (pose.keypoints - offset) * pose.keypoints.new_tensor([across, down, 1.0])
        limits = points.new_tensor([self.size[1], self.size[0]])
        inside = ((points[..., :2] >= 0) & (points[..., :2] <= limits)).all(dim=-1, keepdim=True)
        return Pose(torch.cat([points[..., :2], points[..., 2:] * inside], dim=-1), self.size)

    def to_photo(self, pose: Pose) -> Pose:
        """Take a pose from the model's pixels to the photograph's.

        Raises:
            PoseError: If the pose belongs to a picture of another size than the model's.
        """
        _check_pose_size(pose, self.size)
        down, across = self.scale
        offset = pose.keypoints.new_tensor([self.box[0], self.box[1], 0.0])
        return Pose(pose.keypoints / pose.keypoints.new_tensor([across, down, 1.0]) + offset, self.photo_size)


def _check_pose_size(pose: Pose, size: tuple[int, int]) -> None:
    if pose.size != tuple(size):
        raise PoseError(
            f"expected keypoints in a picture of {size[0]}x{size[1]} (height x width), got {pose.size[0]}x"
            f"{pose.size[1]}; use pose.resized if it is the same picture at another scale",
            argument="pose",
        )


# The framing of the training data, measured on rendered figures: heights are shares of the length from the top of the
# head (0) to the knees (1), and so are widths. They vary by 3 to 8 per cent between people.
_HEIGHTS = {"eyes": 0.108, "nose": 0.135, "ears": 0.116, "shoulders": 0.262, "hips": 0.661, "knees": 1.0}
_SHOULDER_WIDTH, _HIP_WIDTH, _RAISED_KNEE = 0.248, 0.140, 0.5
_TOP_LINE, _KNEE_LINE = 0.055, 0.935  # Where head and knees stand in the frame, as shares of its height.
_LEAST_WIDTH = 0.742  # A frame narrower than this would cut off the arms, so a narrow format shows more of the legs.
_HAND = 0.37  # The middle of the hand lies this share of a forearm beyond the wrist.
_PAIRS = {"eyes": (1, 2), "ears": (3, 4), "shoulders": (5, 6), "hips": (11, 12), "knees": (13, 14)}
_ARMS = ((5, 7, 9), (6, 8, 10))


def frame_person(pose: Pose, photo_size: tuple[int, int], size: tuple[int, int]) -> Frame:
    """Choose the part of a photograph that shows a person as the training data do: from head to knee.

    The height follows from the keypoints of head, shoulders, hips and knees, as far as they are there; a person of whom
    only shoulders or hips are seen is measured by their width. The width follows from the model's format, and the frame
    is centred between trunk and arms. It may reach outside the photograph.

    Args:
        pose: One person's keypoints in the photograph's pixels; those of score 0.2 or less count as missing.
        photo_size: Height and width of the photograph.
        size: Height and width of the model's picture.

    Returns:
        The frame, of the proportions of `size`.

    Raises:
        PoseError: If the pose holds not one person, or belongs to a picture of another size.
        PersonNotFoundError: If neither shoulders nor hips were found, or the person does not stand or sit upright.
    """
    if len(pose) != 1:
        raise PoseError(f"expected one person, got {len(pose)}; pass pose[i]", argument="pose")
    _check_pose_size(pose, photo_size)
    points = pose.keypoints[0].detach().cpu().double().numpy()
    seen = (pose.keypoints[0, :, 2] > MIN_SCORE).cpu().numpy()  # In single precision: there, 0.2 is not above 0.2.

    middles: dict[str, NDArray[Any]] = {}
    for part, pair in _PAIRS.items():
        known = [points[index, :2] for index in pair if seen[index]]
        if known:
            middles[part] = np.mean(known, axis=0)
    if seen[0]:
        middles["nose"] = points[0, :2]
    if "shoulders" not in middles and "hips" not in middles:
        raise PersonNotFoundError(
            "expected shoulders or hips with a score above 0.2, got neither; use a photograph that shows the "
            "person from head to knee, or pass the keypoints yourself",
            argument="pose",
        )
    top, length = _fit_body(middles, points, seen)

    height = max(length / (_KNEE_LINE - _TOP_LINE), _LEAST_WIDTH * length * size[0] / size[1])
    width = height * size[1] / size[0]
    trunk, reach = _trunk(middles, seen), _reach(points, seen)
    centre = 0.45 * trunk + 0.55 * 0.5 * (min(reach) + max(reach)) if reach else trunk
    left, upper = centre - width / 2, top - _TOP_LINE * height
    return Frame((left, upper, left + width, upper + height), photo_size, size)


def _fit_body(
    middles: dict[str, NDArray[Any]],
    points: NDArray[Any],
    seen: NDArray[Any],
) -> tuple[float, float]:
    """The height of the top of the head and the length from there to the knees, in pixels."""
    levels = {part: float(middle[1]) for part, middle in middles.items() if part not in ("nose", "ears")}
    if "eyes" not in levels:  # Nose and ears move more with a nod, so they only stand in.
        stand_in = next((part for part in ("ears", "nose") if part in middles), None)
        if stand_in is not None:
            levels[stand_in] = float(middles[stand_in][1])
    torso = 0.0  # The length of the trunk at any angle: what an upright person's heights must agree with.
    if "shoulders" in middles and "hips" in middles:
        torso = float(np.linalg.norm(middles["hips"] - middles["shoulders"]))
        usual = torso * (_HEIGHTS["knees"] - _HEIGHTS["hips"]) / (_HEIGHTS["hips"] - _HEIGHTS["shoulders"])
        if "knees" in levels and levels["knees"] - levels["hips"] < _RAISED_KNEE * usual:
            del levels["knees"]  # Raised, as when sitting: they do not tell how long the body is.

    if len(levels) > 1:
        shares = np.array([_HEIGHTS[part] for part in levels])
        places = np.array(list(levels.values()))
        weights = np.array([1.0 if part in ("shoulders", "hips") else 2.0 for part in levels])
        length, top = (float(value) for value in np.polyfit(shares, places, 1, w=weights))
    else:
        part, place = next(iter(levels.items()))
        first, second = _PAIRS[part]
        share = _SHOULDER_WIDTH if part == "shoulders" else _HIP_WIDTH
        apart = float(np.linalg.norm(points[first, :2] - points[second, :2]))
        length = apart / share if seen[first] and seen[second] else 0.0
        top = place - _HEIGHTS[part] * length
        torso = 0.0
    if length <= 0 or length < 0.5 * torso / (_HEIGHTS["hips"] - _HEIGHTS["shoulders"]):
        raise PersonNotFoundError(
            "expected an upright person, head above hips, of whom at least both shoulders or both hips are seen; "
            "turn the photograph upright, or use one that shows the person from head to knee",
            argument="pose",
        )
    return top, length


def _trunk(middles: dict[str, NDArray[Any]], seen: NDArray[Any]) -> float:
    """The x of the trunk: from shoulders and hips of which both sides are seen, else from the head."""
    known = [part for part in ("shoulders", "hips") if part in middles]
    whole = [part for part in known if all(seen[index] for index in _PAIRS[part])]
    head = [part for part in ("nose", "eyes", "ears") if part in middles]
    return float(np.mean([middles[part][0] for part in whole or head or known]))


def _reach(points: NDArray[Any], seen: NDArray[Any]) -> list[float]:
    """How far both arms reach: x of shoulders whose elbow is missing, of elbows and of hands."""
    reach: list[float] = []
    for shoulder, elbow, wrist in _ARMS:
        if not (seen[shoulder] or seen[elbow]):
            return []  # One side alone would pull the frame towards itself.
        if seen[elbow]:
            reach.append(float(points[elbow, 0]))
            if seen[wrist]:
                reach.append(float(points[wrist, 0] + _HAND * (points[wrist, 0] - points[elbow, 0])))
        elif seen[shoulder]:
            reach.append(float(points[shoulder, 0]))
    return reach


def check_photo(photo: Image.Image, frame: Frame) -> None:
    """Raise an `ImageError` unless a photograph has the size that its frame was made for."""
    if (photo.height, photo.width) != tuple(frame.photo_size):
        raise ImageError(
            f"expected the photograph of the frame, {frame.photo_size[1]}x{frame.photo_size[0]}, "
            f"got {photo.width}x{photo.height}",
            argument="photo",
        )
