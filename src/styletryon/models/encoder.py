"""The image encoder: a picture and its pose in, a latent w out. It starts projections and trains the generator."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from styletryon.errors import ShapeError
from styletryon.models.config import EncoderConfig, level_sizes
from styletryon.models.layers import EqualConv2d, EqualLinear
from styletryon.ops._layer import halve
from styletryon.pose import NUM_BODY_MAPS, Pose, body_maps

_MIDPOINTS = ((5, 7), (7, 9), (6, 8), (8, 10), (11, 13), (12, 14), (5, 6), (11, 12), (5, 11), (6, 12), (5, 12), (6, 11))
_NUM_POINTS = 17 + len(_MIDPOINTS)
# They bring waves and the whole picture to the spread of the points, so that one learning rate suits all.
_WAVE_GAIN = 16.0
_WHOLE_GAIN = 3.0


class ImageEncoder(nn.Module):
    """Predict w from a picture and its pose.

    Not in the paper, which starts its projection from the mean latent. Three readings are joined: features at points
    of the body (what is worn there, in any pose), the waves of picture and features along the body (frequency,
    direction and phase of a pattern), and the picture as a whole.

    Args:
        config: The encoder's numbers; `EncoderConfig()` if None.
    """

    def __init__(self, config: EncoderConfig | None = None) -> None:
        super().__init__()
        self.config = config if config is not None else EncoderConfig()
        sizes = level_sizes(self.config.image_size)[::-1]
        channels = self.config.channels
        self.entry = EqualConv2d(3, channels[0], 3)
        self.blocks = nn.ModuleList(
            EqualConv2d(before, after, 3) for before, after in pairwise(channels)
        )
        self._wave_level = next(i for i, size in enumerate(sizes) if size[0] <= self.config.pose_height)
        self._point_level = next(i for i, size in enumerate(sizes) if size[0] <= max(sizes[0][0] // 4, 4))
        self.to_waves = EqualConv2d(channels[self._wave_level], self.config.wave_channels, 1)
        self.to_points = EqualConv2d(channels[self._point_level], self.config.point_channels, 1)
        base = sizes[-1]
        width = (
            _NUM_POINTS * (self.config.point_channels + 3)
            + NUM_BODY_MAPS * (self.config.wave_channels + 3)
            + channels[-1] * base[0] * base[1]
        )
        self.hidden = EqualLinear(width, self.config.hidden, activation="lrelu")
        self.out = EqualLinear(self.config.hidden, self.config.w_dim)

    def forward(self, images: Tensor, pose: Pose) -> Tensor:
        """Predict w.

        Args:
            images: `(B, 3, H, W)` in [-1, 1], of the encoder's size or 2, 4, 8, ... times that, which is made smaller:
                so a generator of larger pictures goes on with the encoder of smaller ones.
            pose: B poses in the same pictures.

        Returns:
            `(B, w_dim)` float32.

        Raises:
            ShapeError: If the pictures have another size or number.
        """
        images = self._fit(images, len(pose))
        keypoints = pose.keypoints.to(images.device)
        x = self.entry(images.to(memory_format=torch.channels_last))
        readings: list[Tensor] = []
        for level in range(len(self.config.channels)):
            if level > 0:
                x = self.blocks[level - 1](halve(x))
            if level == self._wave_level:
                readings.append(_read_waves(torch.cat([_shrink(images, x), self.to_waves(x)], dim=1), keypoints, pose))
            if level == self._point_level:
                readings.append(_read_points(torch.cat([_shrink(images, x), self.to_points(x)], 1), keypoints, pose))
        readings.append(x.flatten(1).float() * _WHOLE_GAIN)
        out: Tensor = self.out(self.hidden(torch.cat(readings, dim=1)))
        return out.float()

    def _fit(self, images: Tensor, count: int) -> Tensor:
        """Return pictures at the encoder's size, by the mean of 2 x 2, 4 x 4, ... pixels where they are larger."""
        height, width = self.config.image_size
        factor = max(images.shape[2] // height, 1) if images.ndim == 4 else 1
        if tuple(images.shape) != (count, 3, height * factor, width * factor) or factor & (factor - 1):
            raise ShapeError(
                f"expected ({count}, 3, {height}, {width}), or height and width 2, 4, 8, ... times as large, "
                f"got {tuple(images.shape)}",
                argument="images",
            )
        return images if factor == 1 else F.avg_pool2d(images, factor)


def _shrink(images: Tensor, like: Tensor) -> Tensor:
    factor = images.shape[-1] // like.shape[-1]
    return F.avg_pool2d(images, factor).to(like.dtype)


def _read_waves(x: Tensor, keypoints: Tensor, pose: Pose) -> Tensor:
    """Measure channels `(B, C, h, w)` against the waves along the body; return `(B, NUM_BODY_MAPS * C)`."""
    maps = body_maps(keypoints, pose.size, (x.shape[-2], x.shape[-1])).flatten(2)  # (B, M, h * w)
    weight: Tensor = (torch.linalg.vector_norm(maps, dim=-1, keepdim=True).square() + 1.0) / _WAVE_GAIN
    return (torch.bmm(maps, x.float().flatten(2).transpose(1, 2)) / weight).flatten(1)


def _read_points(x: Tensor, keypoints: Tensor, pose: Pose) -> Tensor:
    """Read channels `(B, C, h, w)` at points of the body; a missing one reads zero; return `(B, points * C)`."""
    first, second = (list(ends) for ends in zip(*_MIDPOINTS, strict=True))
    middle = (keypoints[:, first] + keypoints[:, second]) / 2
    present = (keypoints[..., 2] > 0).float()
    score = torch.cat([present, present[:, first] * present[:, second]], dim=1)
    points = torch.cat([keypoints, middle], dim=1)[..., :2]
    grid = points / points.new_tensor([pose.size[1], pose.size[0]]) * 2 - 1
    read = F.grid_sample(x.float(), grid[:, :, None], align_corners=False, padding_mode="border")  # (B, C, P, 1)
    return (read[..., 0] * score[:, None]).flatten(1)
