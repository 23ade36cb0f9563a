"""A frame that is tied to the body: coordinates along and across torso and limbs, as maps beside the heatmaps.

The paper gives the generator heatmaps alone. Cloth is patterned in the body's own frame, so a network that knows only
pixels must learn that frame before it can draw a stripe. These maps hand it over: style channels then choose the
frequency, the direction and the phase of a pattern.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from styletryon.pose._pose import keypoint_heatmaps
from styletryon.pose._yaw import torso_yaw

FREQUENCIES = (1, 2, 3, 4, 5, 6, 8)
"""Cycles per length of the torso."""

SLANTED_FREQUENCIES = (3, 4, 5, 6)
"""Cycles per length of the torso of waves that run aslant: diagonals, and dots in staggered rows."""

LIMB_FREQUENCIES = (2, 3, 4, 5, 6, 8)

_ARMS = ((5, 7), (7, 9), (6, 8), (8, 10))
_LIMBS = (*_ARMS, (11, 13), (13, 15), (12, 14), (14, 16))
# A limb seen end-on is short in the picture, so lengths along limbs are nominal, in lengths of the torso.
_LIMB_LENGTHS = (0.58, 0.50, 0.58, 0.50, 0.85, 0.80, 0.85, 0.80)
_LIMB_STARTS = (0.0, 0.58, 0.0, 0.58, 0.0, 0.85, 0.0, 0.85)
_LIMB_WIDTH = 0.17
_SHOULDERS_PER_TORSO = 0.72  # the usual width between the shoulders, in lengths of the torso
# Where cloth on a torso shows up, fitted to rendered figures: how far it moves by a yaw of one radian in the middle,
# how that falls off towards the sides, and how it is drawn together there.
_YAW_SHIFT, _YAW_FALL, _SIDE_STRETCH = 0.268, 1.2, 1.2

NUM_TORSO_WAVES = 4 * len(FREQUENCIES) + 8 * len(SLANTED_FREQUENCIES)
"""How many of the maps, the first ones, are waves on the torso."""

NUM_BODY_MAPS = NUM_TORSO_WAVES + 4 * len(LIMB_FREQUENCIES) + 2 + len(_LIMBS)


def body_maps(
    keypoints: Tensor,  # (B, 17, 3)
    image_size: tuple[int, int],
    size: tuple[int, int],
) -> Tensor:
    """Draw the body's own coordinates as maps.

    Args:
        keypoints: `(B, 17, 3)` x, y in pixels of a picture of `image_size`, and a score; score <= 0 means missing.
        image_size: Height and width of that picture.
        size: Height and width of the maps.

    Returns:
        `(B, NUM_BODY_MAPS, H, W)` float32 in [-1, 1]: sine and cosine of `FREQUENCIES` along and across the torso, of
        `SLANTED_FREQUENCIES` in four slants, of `LIMB_FREQUENCIES` along and across the nearest limb, then how much a
        pixel belongs to the torso, the head and each limb. Across the torso, coordinates turn with the person, as the
        cloth does. Where a body part is missing its maps are zero.
    """
    scale = keypoints.new_tensor([size[1] / image_size[1], size[0] / image_size[0]])
    points = keypoints[..., :2] * scale
    present = (keypoints[..., 2] > 0).to(points.dtype)
    pixels = _pixel_centres(size, points)
    along, across, torso, length = _torso_frame(points, present, pixels)
    sideways = _on_cloth(across, _yaw(points, present))
    limb_along, limb_across, limbs = _limb_frames(points, present, pixels, length)
    limb = limbs.amax(dim=1)
    trunk = torso * (1 - limbs[:, : len(_ARMS)].amax(dim=1))  # a sleeve is printed along the arm
    head = keypoint_heatmaps(keypoints[:, :5], image_size, size, sigma=size[0] / 24).amax(dim=1)
    maps = [
        _waves(along, trunk, FREQUENCIES),
        _waves(sideways, trunk, FREQUENCIES),
        *(_waves(slant, trunk, SLANTED_FREQUENCIES) for slant in _slants(along, sideways)),
        _waves(limb_along, limb, LIMB_FREQUENCIES),
        _waves(limb_across, limb, LIMB_FREQUENCIES),
        torso[:, None],
        head[:, None],
        limbs,
    ]
    return torch.cat(maps, dim=1)


def _pixel_centres(size: tuple[int, int], like: Tensor) -> Tensor:
    rows = torch.arange(size[0], device=like.device, dtype=like.dtype) + 0.5
    columns = torch.arange(size[1], device=like.device, dtype=like.dtype) + 0.5
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"))  # (2, H, W): x, y


def _torso_axis(points: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the point between the shoulders `(B, 2)`, the torso's direction and length, and whether it is there."""
    shoulders = (points[:, 5] + points[:, 6]) / 2
    hips = (points[:, 11] + points[:, 12]) / 2
    has_shoulders = present[:, 5] * present[:, 6]
    has_hips = present[:, 11] * present[:, 12]
    width = (points[:, 5] - points[:, 6]).norm(dim=-1)
    down = torch.zeros_like(shoulders)
    down[:, 1] = 1.0
    axis = torch.where(has_hips[:, None] > 0, hips - shoulders, down * width[:, None] / _SHOULDERS_PER_TORSO)
    length = axis.norm(dim=-1).clamp(min=1e-3)
    return shoulders, axis / length[:, None], length, has_shoulders


def _torso_frame(points: Tensor, present: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return along, across, membership `(B, H, W)` and the torso's length in pixels `(B, 1, 1)`."""
    origin, axis, length, there = _torso_axis(points, present)
    offset = pixels - origin[:, :, None, None]
    axis, unit = axis[:, :, None, None], length[:, None, None]
    along = (offset * axis).sum(dim=1) / unit
    across = (offset[:, 0] * axis[:, 1] - offset[:, 1] * axis[:, 0]) / unit
    member = torch.exp(-((across / 0.75) ** 4)) * torch.sigmoid((along + 0.25) * 12) * torch.sigmoid((2.2 - along) * 12)
    return along, across, member * there[:, None, None], unit


def _yaw(points: Tensor, present: Tensor) -> Tensor:
    """Return the yaw of each torso in radians, `(B,)`."""
    origin, axis, length, there = _torso_axis(points, present)
    offset = (points - origin[:, None]) / length[:, None, None]
    across = offset[..., 0] * axis[:, None, 1] - offset[..., 1] * axis[:, None, 0]
    along = (offset * axis[:, None]).sum(dim=-1)
    return torso_yaw(torch.stack([across, along], dim=-1), present) * there


def _on_cloth(across: Tensor, yaw: Tensor) -> Tensor:
    """Return where on the cloth pixels lie that are so far across `(B, H, W)`, for yaws `(B,)`."""
    shift = (_YAW_SHIFT - _YAW_FALL * across.square()).clamp(min=0.0)
    place = across - yaw[:, None, None] * shift
    return place * (1 + _SIDE_STRETCH * place.square().clamp(max=0.25))


def _slants(along: Tensor, across: Tensor) -> list[Tensor]:
    """Return coordinates that run aslant: diagonals, and those of dots, whose rows are staggered by half a cycle."""
    return [along + across, along - across, along / 2 + across, along / 2 - across]


def _limb_frames(points: Tensor, present: Tensor, pixels: Tensor, length: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return along and across of the nearest limb `(B, H, W)` and each limb's membership `(B, 8, H, W)`."""
    first, second = (list(ends) for ends in zip(*_LIMBS, strict=True))
    start, bone = points[:, first], points[:, second] - points[:, first]  # (B, 8, 2)
    squared = bone.square().sum(dim=-1).clamp(min=1e-3)[..., None, None]
    offset_x = pixels[0] - start[..., 0, None, None]
    offset_y = pixels[1] - start[..., 1, None, None]
    bone_x, bone_y = bone[..., 0, None, None], bone[..., 1, None, None]
    fraction = (offset_x * bone_x + offset_y * bone_y) / squared
    across = (offset_x * bone_y - offset_y * bone_x) / squared.sqrt() / length[:, None]
    beyond = (fraction - fraction.clamp(0.0, 1.0)) * squared.sqrt() / length[:, None]
    member = torch.exp(-(across.square() + beyond.square()) / _LIMB_WIDTH**2)
    member = member * (present[:, first] * present[:, second])[..., None, None]
    along = fraction * points.new_tensor(_LIMB_LENGTHS)[:, None, None] + points.new_tensor(_LIMB_STARTS)[:, None, None]
    # On the CPU `max` is five times as fast as `argmax`.
    nearest = member.max(dim=1, keepdim=True).indices
    return along.gather(1, nearest)[:, 0], across.gather(1, nearest)[:, 0], member


def _waves(coordinate: Tensor, member: Tensor, frequencies: tuple[int, ...]) -> Tensor:
    """Return sine and cosine of each frequency in turn, `(B, 2 * frequencies, H, W)`, where `member` is not zero."""
    rates = coordinate.new_tensor([2 * math.pi * frequency for frequency in frequencies])
    angle = coordinate[:, None] * rates[:, None, None]
    waves = torch.stack([torch.sin(angle), torch.cos(angle)], dim=2) * member[:, None, None]
    return waves.flatten(1, 2)
