"""The body as a trunk and limbs: straight parts, each with coordinates along and across it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from styletryon.compositing.view import LEAST_SCORE, Mask, Points, View
from styletryon.labels import Label

Bone = tuple[int, int]
"""The keypoints at the two ends of a part; the trunk's are those of the left shoulder and hip."""

TRUNK_BONE: Bone = (5, 11)
UPPER: Mapping[Bone, Bone] = MappingProxyType({(7, 9): (5, 7), (8, 10): (6, 8), (13, 15): (11, 13), (14, 16): (12, 14)})
"""Forearm -> upper arm, shin -> thigh."""
LIMBS: tuple[Bone, ...] = ((5, 7), (7, 9), (6, 8), (8, 10), (11, 13), (13, 15), (12, 14), (14, 16))
OTHER_SIDE: Mapping[Bone, Bone] = MappingProxyType(
    {(5, 7): (6, 8), (7, 9): (8, 10), (11, 13): (12, 14), (13, 15): (14, 16),
     (6, 8): (5, 7), (8, 10): (7, 9), (12, 14): (11, 13), (14, 16): (13, 15)}
)  # fmt: skip

_LIMB_RADIUS, _TRUNK_RADIUS = 0.06, 0.75  # In lengths of the trunk; in half widths of the shoulders.
_FAR = 1.0  # What is added to the distance of a part that cannot own a pixel, in lengths of the trunk.

_STEPS = 21  # Places along a bone at which cloth and skin are looked for.
_UNLIKE = 0.5  # By how much of a bone the sleeves of one garment may differ.

COVERED = 2.0
"""How far a sleeve goes that ends nowhere along its bone; bones are 1 long."""


@dataclass(frozen=True, eq=False)
class Part:
    """A straight part of the body.

    Attributes:
        bone: Its name.
        start: Where it begins, in pixels.
        end: Where it ends.
        radius: How far from its axis what certainly belongs to it lies, in pixels.
        side: 1, or -1 where across is counted to the other side, as in a mirror.
    """

    bone: Bone
    start: Points
    end: Points
    radius: float
    side: float = 1.0

    @property
    def is_trunk(self) -> bool:
        """Whether it is the trunk."""
        return self.bone == TRUNK_BONE

    @property
    def is_arm(self) -> bool:
        """Whether it belongs to an arm."""
        return self.bone in LIMBS[:4]

    @cached_property
    def length(self) -> float:
        """From start to end in pixels."""
        return max(float(np.linalg.norm(self.end - self.start)), 1e-6)

    @cached_property
    def direction(self) -> Points:
        """From start to end, of length 1."""
        return np.asarray((self.end - self.start) / self.length)

    @cached_property
    def normal(self) -> Points:
        """Across it, of length 1."""
        return self.side * np.array([-self.direction[1], self.direction[0]])

    def locate(self, places: Points) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return how far along (0 start, 1 end) and across (in pixels) places lie."""
        right, down = places[..., 0] - self.start[0], places[..., 1] - self.start[1]
        (x, y), (across_x, across_y) = self.direction, self.normal
        return (right * x + down * y) / self.length, right * across_x + down * across_y

    def place(self, along: NDArray[np.floating[Any]], across: NDArray[np.floating[Any]]) -> Points:
        """Return the places `(..., 2)` that lie so far along and across."""
        down = along * self.length
        found = np.empty((*down.shape, 2), dtype=np.result_type(down, across, self.start))
        for axis in (0, 1):
            found[..., axis] = self.start[axis] + down * self.direction[axis] + across * self.normal[axis]
        return found

    def distance(self, places: Points) -> NDArray[np.float64]:
        """Return how far beyond the radius places lie, in pixels."""
        along, across = self.locate(places)
        return np.asarray((np.hypot((along - along.clip(0, 1)) * self.length, across) - self.radius).clip(0))


def parts_of(view: View, *, legs: bool) -> dict[Bone, Part]:
    """Return the parts of the body whose keypoints are seen, the trunk first, with legs or without."""
    points, unit = view.points, view.unit
    shoulders, hips = points[[5, 6], :2].mean(axis=0), points[[11, 12], :2].mean(axis=0)
    parts = {TRUNK_BONE: Part(TRUNK_BONE, shoulders, hips, _TRUNK_RADIUS * view.half_width)}
    for bone in LIMBS if legs else LIMBS[:4]:
        first, second = points[bone[0]], points[bone[1]]
        if min(first[2], second[2]) > LEAST_SCORE:
            parts[bone] = Part(bone, first[:2], second[:2], _LIMB_RADIUS * unit)
    return parts


def sleeves(parts: Mapping[Bone, Part], view: View, worn: Mask) -> dict[Bone, float | None]:
    """Say how far along each limb a garment reaches.

    Args:
        parts: The body.
        view: Where it is seen.
        worn: Which pixels show the garment.

    Returns:
        Bone -> where it ends: 0 at the start or before, 1 at the end; `COVERED` if it goes on; None where neither the
        garment nor bare skin is seen along the bone.
    """
    found: dict[Bone, float | None] = {}
    seen: dict[Bone, int] = {}
    for bone, part in parts.items():
        if part.is_trunk:
            continue
        steps = np.linspace(0, 1, _STEPS)
        x, y = part.place(steps, np.zeros_like(steps)).astype(int).T
        inside = (x >= 0) & (x < view.shape[1]) & (y >= 0) & (y < view.shape[0])
        cloth, bare = np.zeros(_STEPS, dtype=bool), np.zeros(_STEPS, dtype=bool)
        cloth[inside] = worn[y[inside], x[inside]]
        bare[inside] = view.labels[y[inside], x[inside]] == Label.SKIN
        seen[bone] = int(cloth.sum() + bare.sum())
        found[bone] = _end(cloth, bare, steps) if seen[bone] else None
    for lower, upper in UPPER.items():
        end = found.get(upper)
        if lower in found and end is not None and end < 1:
            found[lower] = -1.0  # Below a bare piece no sleeve goes on.
    return _alike(found, seen)


def _end(cloth: Mask, bare: Mask, steps: NDArray[np.float64]) -> float:
    """Return where cloth ends along a bone: the split that most of its pixels agree with."""
    wrong = [int(bare[:k].sum() + cloth[k:].sum()) for k in range(len(steps) + 1)]
    split = int(np.argmin(wrong[::-1]))  # Of equals the longest.
    at = len(steps) - split
    return COVERED if at == len(steps) else float(steps[at])


def _alike(found: Mapping[Bone, float | None], seen: Mapping[Bone, int]) -> dict[Bone, float | None]:
    """Let both sides of a garment be alike where they seem not to be: as the side is of which more is seen."""
    alike = dict(found)
    for upper in ((5, 7), (11, 13)):
        lower = next(low for low, up in UPPER.items() if up == upper)
        sides = [(upper, lower), (OTHER_SIDE[upper], OTHER_SIDE[lower])]
        reach = [[found.get(bone) for bone in side] for side in sides]
        if any(value is None for side in reach for value in side):
            continue
        ends = [sum(min(max(value or 0.0, 0.0), 1.0) for value in side) for side in reach]
        if abs(ends[0] - ends[1]) > _UNLIKE:
            better = int(sum(seen[bone] for bone in sides[1]) > sum(seen[bone] for bone in sides[0]))
            for bone, model in zip(sides[1 - better], sides[better], strict=True):
                alike[bone] = found[model]
    return alike


def distances(
    parts: Mapping[Bone, Part],
    view: View,
    worn: Mask,
    ends: Mapping[Bone, float | None],
    wanted: Mapping[Bone, float | None],
) -> NDArray[np.float64]:
    """Return how far each pixel lies from each part, in lengths of the trunk.

    A limb that is bare from somewhere on owns no cloth there, and the trunk owns no bare arm.

    Args:
        parts: The body.
        view: Where it is seen.
        worn: Which pixels show the old garment.
        ends: How far along each limb it reaches; see `sleeves`.
        wanted: The same of the new garment.

    Returns:
        `(parts, h, w)`.
    """
    bones, pixels = list(parts), view.pixels
    found = np.stack([part.distance(pixels) for part in parts.values()]) / view.unit
    trunk, skin = bones.index(TRUNK_BONE), view.labels == Label.SKIN
    for index, (bone, part) in enumerate(parts.items()):
        end = ends.get(bone)
        if part.is_trunk or end is None or end >= COVERED:
            continue
        along, _ = part.locate(pixels)
        new = wanted.get(bone)
        below = along > end + 0.08
        bare_too = (along > (COVERED if new is None else new) + 0.08) & ~skin
        found[index] += _FAR * (below & (worn | bare_too))
        if part.is_arm:
            found[trunk] += _FAR * (below & skin & (found[index] < 0.12) & (along < 1.6))
    return np.asarray(found)
