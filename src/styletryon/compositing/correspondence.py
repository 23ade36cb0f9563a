"""Correspondence: which pixel of the garment's photograph each pixel of the drawn garment shows.

A generator draws nothing finer than its own pixels, each of which may cover thirty of a photograph's. What it draws
says which cloth goes where, in which outline and light; the garment's photograph knows the weave, the buttons and the
folds. Bones first: those of the two poses say where each pixel of the drawing lies in the garment's photograph. Then a
smooth displacement brings outline and colours of what is found there into agreement with the drawing.

The paper has no such step: its generators draw 512 pixels and more.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from styletryon._reprs import one_line
from styletryon.compositing.planes import WORK_PIXELS, Plane
from styletryon.labels import GARMENTS, Label, replaced_classes
from styletryon.photo import Frame, Photograph, crop, crop_labels, matte, to_pil, to_unit

_BONES = ((5, 7), (7, 9), (6, 8), (8, 10), (11, 13), (13, 15), (12, 14), (14, 16))
_TRUNK = (5, 6, 11, 12)
_BONE_RADIUS, _TRUNK_RADIUS = 0.06, 0.75  # in lengths of the torso; in half widths of the shoulders
_BLEND = 0.05  # Over what distance one bone's say passes to another's, in lengths of the torso.
_LEAST_SCORE = 0.05

_GRID = (18, 14)  # The displacement's own points, down and across.
_STEPS = 120
_RATE = 0.3
_STILL = 1e-3
_STIFFNESS = 0.25
_COLOUR = 6.0  # What the colours count beside the outline.

_BAND = 1.5  # How far the photograph's own edges may lie from the labels', in pixels of the drawing.

_LEAST_FOUND = 0.5
"""The share of the drawn garment that the photograph must cover, or the two do not belong together."""


@dataclass(frozen=True, eq=False)
class WarpedGarment:
    """A garment's photograph and where it is to be shown.

    Attributes:
        planes: `(4, h, w)` float32 in [0, 1]: the part of the photograph that shows the wearer, in colour, and which of
            its pixels show the garment.
        frame: The part of the person's photograph that `places` covers: what was drawn, and what is below it.
        places: `(2, H', W)`: x and y in pixels of `planes` of what each pixel of `frame` shows.
    """

    planes: Tensor
    frame: Frame
    places: Tensor

    __repr__ = one_line

    def look_up(self, x: Plane, y: Plane) -> tuple[NDArray[np.float32], Plane]:
        """Return the colours `(..., 3)` at places of `planes`, and how much of the garment is seen there."""
        height, width = self.planes.shape[1:]
        grid = torch.from_numpy(np.stack([2 * x / width - 1, 2 * y / height - 1], axis=-1)).float()[None]
        found = functional.grid_sample(self.planes[None], grid, padding_mode="border", align_corners=False)[0].numpy()
        inside = (x >= 0) & (x <= width) & (y >= 0) & (y <= height)
        return found[:3].transpose(1, 2, 0), np.asarray(found[3] * inside, dtype=np.float32)


def warp_garment(
    person: Photograph, garment: Photograph, drawn: Tensor, shown: Tensor, worn: NDArray[np.bool_]
) -> WarpedGarment | None:
    """Find where the drawn garment lies in its photograph.

    Args:
        person: The photograph of the person, with its pose.
        garment: The photograph of the garment's wearer, with its pose.
        drawn: `(3, H, W)` the try-on in [-1, 1].
        shown: `(H, W)` in [0, 1]: where it shows the garment.
        worn: `(h, w)` bool: which pixels of the garment's photograph show it.

    Returns:
        What to show; None where a pose is missing, or too little of the drawn garment is found in the photograph.
    """
    if person.pose is None or garment.pose is None:
        return None
    with torch.inference_mode(False):  # places are found by gradients, whatever the caller's mode
        return _warp(person, garment, drawn.detach().clone(), shown.detach().clone(), worn)


def _warp(
    person: Photograph, garment: Photograph, drawn: Tensor, shown: Tensor, worn: NDArray[np.bool_]
) -> WarpedGarment | None:
    frame, other = _whole_frame(person), _whole_frame(garment)
    start = _skinned(_in_frame(person), _in_frame(garment), frame.size)
    if start is None:
        return None
    fine = _finer(other)
    picture, _ = crop(garment.picture, fine)
    seen = crop_labels(worn.astype(np.uint8), fine) > 0
    planes = torch.cat([to_unit(picture), torch.from_numpy(seen)[None].float()])
    coarse = functional.adaptive_avg_pool2d(planes, other.size)
    places, found = _agree(start, coarse, to_unit(drawn.float().cpu()), shown)
    if found < _LEAST_FOUND:
        return None
    down, across = fine.size[0] / other.size[0], fine.size[1] / other.size[1]
    along = matte(to_pil(picture), seen, band=max(1, round(_BAND * down)))
    grain = (max(1, round(0.6 * down)),) * 2  # Specks and holes, which no garment has.
    along = ndimage.grey_closing(ndimage.grey_opening(along, grain), grain)
    planes[3] = torch.from_numpy(ndimage.gaussian_filter(along, 0.15 * down))
    return WarpedGarment(planes, frame, places.permute(2, 0, 1) * places.new_tensor([across, down])[:, None, None])


def find_worn(labels: NDArray[np.uint8], drawn: NDArray[np.bool_], classes: Collection[Label]) -> NDArray[np.bool_]:
    """Say which pixels of a photograph show a garment.

    Labels of photographs know the outline of clothes better than their kind, so cloth of another kind counts where the
    drawing shows the garment; and of somebody in a dress, what is taken for a top and a bottom.

    Args:
        labels: `(h, w)` classes of the photograph.
        drawn: `(h, w)` where the drawing of it shows the garment.
        classes: Those of the garment.
    """
    cloth = np.isin(labels, [int(label) for label in GARMENTS - {Label.SHOES}])
    return np.asarray(np.isin(labels, [int(label) for label in replaced_classes(classes)]) | (cloth & drawn))


def _whole_frame(source: Photograph) -> Frame:
    """Return the frame of a photograph, and what lies below it: frames end at the knees, clothes go on."""
    frame = source.frame
    left, top, right, _ = frame.box
    rows = max(frame.size[0], round((frame.photo_size[0] - top) * frame.scale[0]))
    rows = min(rows, 2 * frame.size[0])
    return Frame((left, top, right, top + rows / frame.scale[0]), frame.photo_size, (rows, frame.size[1]))


def _finer(frame: Frame) -> Frame:
    """Return the same frame in about the photograph's own pixels, but at most `WORK_PIXELS` of them."""
    times = min(1 / min(frame.scale), (WORK_PIXELS / (frame.size[0] * frame.size[1])) ** 0.5)
    height, width = (round(max(times, 1.0) * side) for side in frame.size)
    return Frame(frame.box, frame.photo_size, (height, width))


def _in_frame(source: Photograph) -> NDArray[np.float64]:
    """Return `(17, 3)` keypoints in the frame's pixels, those outside it too."""
    down, across = source.frame.scale
    points = source.pose.keypoints[0].double().cpu().numpy() if source.pose is not None else np.zeros((17, 3))
    return np.asarray((points - [*source.frame.box[:2], 0.0]) * [across, down, 1.0])


def _skinned(ours: NDArray[np.float64], theirs: NDArray[np.float64], size: tuple[int, int]) -> Tensor | None:
    """Move each pixel `(H, W, 2)` of one pose's frame with the nearest bones to another pose's.

    Linear blend skinning: each bone, and the trunk, has a map of its own, and near joints they are mixed.
    """
    if min(ours[list(_TRUNK), 2].min(), theirs[list(_TRUNK), 2].min()) <= _LEAST_SCORE:
        return None
    columns, rows = np.meshgrid(np.arange(size[1]) + 0.5, np.arange(size[0]) + 0.5)
    pixels = np.stack([columns, rows], axis=-1).reshape(-1, 2)
    lengths = [float(np.linalg.norm(p[[5, 6], :2].mean(axis=0) - p[[11, 12], :2].mean(axis=0))) for p in (ours, theirs)]
    if min(lengths) < 1:
        return None
    scale = lengths[1] / lengths[0]
    corners = ours[list(_TRUNK), :2]
    affine, *_ = np.linalg.lstsq(np.c_[corners, np.ones(4)], theirs[list(_TRUNK), :2], rcond=None)
    top, bottom = corners[:2].mean(axis=0), corners[2:].mean(axis=0)
    half = 0.5 * max(float(np.linalg.norm(corners[0] - corners[1])), 0.5 * lengths[0])
    maps = [np.c_[pixels, np.ones(len(pixels))] @ affine]
    apart = [(_from_bone(pixels, top, bottom)[2] - _TRUNK_RADIUS * half).clip(0) / lengths[0]]
    for first, second in _BONES:
        if min(*ours[[first, second], 2], *theirs[[first, second], 2]) <= _LEAST_SCORE:
            continue
        along, across, distance = _from_bone(pixels, ours[first, :2], ours[second, :2])
        start, bone = theirs[first, :2], theirs[second, :2] - theirs[first, :2]
        direction = bone / max(float(np.linalg.norm(bone)), 1e-6)
        own = max(float(np.linalg.norm(ours[second, :2] - ours[first, :2])), 1e-6)
        # Bones are as long as the picture shows them; beyond their ends, and across, lengths keep the body's scale.
        beyond = (along - along.clip(0, own)) * scale
        place = start + (along.clip(0, own) / own)[:, None] * bone + beyond[:, None] * direction
        maps.append(place + (across * scale)[:, None] * np.array([-direction[1], direction[0]]))
        apart.append((distance - _BONE_RADIUS * lengths[0]).clip(0) / lengths[0])
    weights = np.exp(-np.stack(apart) / _BLEND)
    mixed = (weights[..., None] * np.stack(maps)).sum(axis=0) / weights.sum(axis=0)[:, None]
    return torch.from_numpy(mixed.reshape(*size, 2)).float()


def _from_bone(
    pixels: NDArray[np.float64], start: NDArray[np.float64], end: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return how far along and across a bone pixels `(N, 2)` lie, and their distance from it."""
    bone = end - start
    length = max(float(np.linalg.norm(bone)), 1e-6)
    direction = bone / length
    offset = pixels - start
    along, across = offset @ direction, offset @ np.array([-direction[1], direction[0]])
    return along, across, np.hypot(along - along.clip(0, length), across)


def _agree(start: Tensor, source: Tensor, wanted: Tensor, shown: Tensor) -> tuple[Tensor, float]:
    """Displace places until what is found there agrees with a drawing.

    Args:
        start: `(H', W, 2)` places in pixels of the source; the drawing is the first `H` rows of it.
        source: `(4, h, w)`: colours and the garment's mask.
        wanted: `(3, H, W)`: the drawing.
        shown: `(H, W)`: where it shows the garment.

    Returns:
        The places `(H', W, 2)`, and which share of the drawn garment shows the source's.
    """
    rows, area, outline = shown.shape[0], shown.sum().clamp_min(1.0), _soft(shown)
    grid = (round(_GRID[0] * start.shape[0] / rows), _GRID[1])
    moves = start.new_zeros(1, 2, *grid).requires_grad_()
    extent = start.new_tensor([2 / source.shape[2], 2 / source.shape[1]])

    def places() -> Tensor:
        fine = functional.interpolate(moves, size=start.shape[:2], mode="bicubic", align_corners=True)
        return start + fine[0].permute(1, 2, 0)

    def look(at: Tensor) -> tuple[Tensor, Tensor]:
        places = (at[:rows] * extent - 1)[None]
        found = functional.grid_sample(source[None], places, padding_mode="border", align_corners=False)[0]
        return found[:3], found[3]

    # The large epsilon keeps points that hardly matter from following rounding errors.
    optimizer = torch.optim.Adam([moves], lr=_RATE, eps=_STILL)
    with torch.enable_grad():
        for _ in range(_STEPS):
            colours, mask = look(places())
            apart = 2 * (_soft(mask) - outline).square().sum() + ((1 - mask) * shown).sum()
            # Where the garment is not seen, its colours would drag what covers it along.
            apart = apart + _COLOUR * ((colours - wanted).abs().mean(dim=0) * shown * mask.detach()).sum()
            bent = moves.diff(dim=2).square().mean() + moves.diff(dim=3).square().mean()
            optimizer.zero_grad()
            torch.autograd.backward(apart / area + _STIFFNESS * bent)
            optimizer.step()
    with torch.no_grad():
        at = places()
        return at, float((look(at)[1] * shown).sum() / area)


def _soft(plane: Tensor) -> Tensor:
    return functional.avg_pool2d(plane[None], 5, 1, 2)[0]
