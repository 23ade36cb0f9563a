"""The pose of a person: 17 COCO keypoints in the pixels of a picture, and their heatmaps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from styletryon._arguments import find_device, whole
from styletryon._graphs import is_traced
from styletryon.errors import PoseError

KEYPOINT_NAMES = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
"""COCO's keypoints in COCO's order. Left and right are the person's own."""

NUM_KEYPOINTS = len(KEYPOINT_NAMES)

FLIP_ORDER = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
"""Keypoint i of a mirrored person is keypoint FLIP_ORDER[i] of the person."""

BONES = (
    (5, 7), (7, 9), (6, 8), (8, 10), (11, 13), (13, 15), (12, 14), (14, 16), (5, 6), (11, 12), (5, 11), (6, 12),
    (0, 1), (0, 2), (1, 3), (2, 4),
)  # fmt: skip
"""Pairs of keypoints that a bone (or a line of the face) joins."""


@dataclass(frozen=True, eq=False)
class Pose:
    """The poses of a batch of people, an immutable value.

    Attributes:
        keypoints: `(B, 17, 3)` float32: x to the right and y down in pixels of a picture of `size` (the centre of the
            top left pixel is (0.5, 0.5)), and a score in [0, 1]. A keypoint of score 0 is missing.
        size: Height and width of that picture in pixels.
    """

    keypoints: Tensor
    size: tuple[int, int]

    def __post_init__(self) -> None:
        try:
            # A tensor keeps its graph; anything else is copied, so that the pose cannot change behind its back.
            given = self.keypoints
            if isinstance(given, Tensor):
                points = given.to(torch.float32)
            else:
                points = torch.tensor(given, dtype=torch.float32, device="cpu")
        except (TypeError, ValueError, RuntimeError) as error:
            raise PoseError(
                f"expected (17, 3) or (B, 17, 3) numbers in COCO order ({error})", argument="keypoints"
            ) from error
        if points.ndim == 2:
            points = points.unsqueeze(0)
        if points.ndim != 3 or points.shape[1:] != (NUM_KEYPOINTS, 3):
            raise PoseError(
                "expected (17, 3) or (B, 17, 3) numbers [x, y, score] in COCO order, "
                f"got shape {tuple(points.shape)}",
                argument="keypoints",
            )
        if not is_traced() and not bool(torch.isfinite(points).all()):
            raise PoseError(
                "expected finite numbers, got NaN or infinity; mark a missing one by score 0", argument="keypoints"
            )
        object.__setattr__(self, "keypoints", points)
        try:
            height, width = (int(side) for side in self.size)
        except (TypeError, ValueError) as error:
            raise PoseError(f"expected (height, width) in pixels, got {self.size!r}", argument="size") from error
        if height < 1 or width < 1:
            raise PoseError(f"expected at least 1x1 pixels, got {height}x{width} (height x width)", argument="size")
        object.__setattr__(self, "size", (height, width))

    def __len__(self) -> int:
        return self.keypoints.shape[0]

    def __repr__(self) -> str:
        height, width = self.size
        people = f"{len(self)} {'person' if len(self) == 1 else 'people'}"
        known = f"{int((self.keypoints[..., 2] > 0).sum())} of {self.keypoints[..., 2].numel()} keypoints"
        return f"Pose({people}, {width}x{height}, {known})"

    def __getitem__(self, index: int | slice) -> Pose:
        if not isinstance(index, slice):
            place = whole(index, "index", kind=PoseError)
            if not -len(self) <= place < len(self):
                raise IndexError(f"index: expected a person among {len(self)}, got {place}")
            index = slice(place, place + 1 or None)
        return replace(self, keypoints=self.keypoints[index])

    def to(self, device: torch.device | str) -> Pose:
        """Return the pose with its keypoints on a device.

        Raises:
            ConfigError: If there is no such device.
        """
        return replace(self, keypoints=self.keypoints.to(find_device(device)))

    def resized(self, size: tuple[int, int]) -> Pose:
        """Return the pose in the pixels of the same picture scaled to `size` (height, width)."""
        scale = self.keypoints.new_tensor([size[1] / self.size[1], size[0] / self.size[0], 1.0])
        return Pose(self.keypoints * scale, size)

    def flipped(self) -> Pose:
        """Return the pose of the mirrored picture: x mirrored, left and right swapped."""
        points = self.keypoints[:, FLIP_ORDER].clone()
        points[..., 0] = self.size[1] - points[..., 0]
        return Pose(points, self.size)

    def heatmaps(self, size: tuple[int, int] | None = None, sigma: float | None = None) -> Tensor:
        """Draw the keypoints as heatmaps of `size` (None: the picture's) and width `sigma`; see `keypoint_heatmaps`."""
        return keypoint_heatmaps(self.keypoints, self.size, size or self.size, sigma)


def keypoint_heatmaps(
    keypoints: Tensor,  # (B, 17, 3)
    image_size: tuple[int, int],
    size: tuple[int, int],
    sigma: float | None = None,
) -> Tensor:
    """Draw keypoints as Gaussian heatmaps of peak 1; a missing keypoint is a zero map.

    The paper conditions on 17 heatmaps of 64x64 pixels from an external estimator (VOGUE, arXiv 2101.02285, figure 3).

    Args:
        keypoints: `(B, P, 3)` x, y in pixels of a picture of `image_size`, and a score; score <= 0 means missing.
        image_size: Height and width of that picture.
        size: Height and width of the heatmaps.
        sigma: Standard deviation in pixels of the heatmaps. Default: 1/32 of their height.

    Returns:
        `(B, P, H, W)` float32 in [0, 1]. A keypoint at the centre of a pixel gives exactly 1 there.

    Raises:
        PoseError: If sigma is not positive.
    """
    height, width = size
    spread = sigma if sigma is not None else height / 32
    if not spread > 0:
        raise PoseError(f"expected more than 0 pixels, got {spread}", argument="sigma")
    x = keypoints[..., 0] * (width / image_size[1])
    y = keypoints[..., 1] * (height / image_size[0])
    columns = torch.arange(width, device=keypoints.device, dtype=torch.float32) + 0.5
    rows = torch.arange(height, device=keypoints.device, dtype=torch.float32) + 0.5
    across = torch.exp(-((columns - x[..., None]) ** 2) / (2 * spread**2))  # (B, P, W)
    down = torch.exp(-((rows - y[..., None]) ** 2) / (2 * spread**2))  # (B, P, H)
    present = (keypoints[..., 2] > 0).to(torch.float32)
    return down[..., :, None] * (across * present[..., None])[..., None, :]  # (B, P, H, W)
