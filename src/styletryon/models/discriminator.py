"""The discriminator: it sees the picture, the segmentation and the pose together."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from styletryon.models.config import DiscriminatorConfig, level_sizes
from styletryon.models.layers import EqualConv2d, EqualLinear
from styletryon.ops._layer import halve
from styletryon.pose import NUM_KEYPOINTS, Pose, keypoint_heatmaps


class ResidualBlock(nn.Module):
    """Two convolutions and a halving, beside a linear path (StyleGAN2's residual discriminator).

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = EqualConv2d(in_channels, in_channels, 3)
        self.second = EqualConv2d(in_channels, out_channels, 3)
        self.skip = EqualConv2d(in_channels, out_channels, 1, activation="linear", bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, in_channels, H, W)` to `(B, out_channels, H / 2, W / 2)`."""
        skip: Tensor = self.skip(halve(x))
        out: Tensor = self.second(halve(self.first(x)))
        return (out + skip) * math.sqrt(0.5)


class PoseDiscriminator(nn.Module):
    """Tell drawn people from real ones by picture, segmentation and pose.

    If the discriminator did not see the pose, the generator would be free to ignore it; TryOnGAN judges pose and
    segmentation in separate heads whose layers are not published, ours in one network whose input is all three.

    Args:
        config: The discriminator's numbers; `DiscriminatorConfig()` if None.
    """

    def __init__(self, config: DiscriminatorConfig | None = None) -> None:
        super().__init__()
        self.config = config if config is not None else DiscriminatorConfig()
        sizes = level_sizes(self.config.image_size)
        channels = self.config.channels
        self.entry = EqualConv2d(3 + self.config.num_labels + NUM_KEYPOINTS, channels[-1], 1)
        self.blocks = nn.ModuleList(
            ResidualBlock(channels[level], channels[level - 1]) for level in range(len(sizes) - 1, 0, -1)
        )
        self.exit = EqualConv2d(channels[0] + 1, channels[0], 3)
        self.hidden = EqualLinear(channels[0] * sizes[0][0] * sizes[0][1], channels[0], activation="lrelu")
        self.out = EqualLinear(channels[0], 1)

    def forward(self, images: Tensor, labels: Tensor, pose: Pose, *, group_size: int | None = None) -> Tensor:
        """Judge drawings.

        Args:
            images: `(B, 3, H, W)` in [-1, 1].
            labels: `(B, K, H, W)` probabilities, or one-hot classes of a real segmentation.
            pose: B poses.
            group_size: Consecutive samples whose spread it is told; None for the configuration's.

        Returns:
            `(B,)` float32 logits, high for real.
        """
        maps = keypoint_heatmaps(pose.keypoints.to(images.device), pose.size, self.config.image_size)
        # Centred, so that no input starts with a mean that the first layer must unlearn.
        x = torch.cat([images, labels * 2 - 1, maps.to(images.dtype)], dim=1)
        x = self.entry(x.to(memory_format=torch.channels_last))
        for block in self.blocks:
            x = block(x)
        x = self.exit(torch.cat([x, minibatch_deviation(x, group_size or self.config.group_size)], dim=1))
        out: Tensor = self.out(self.hidden(x.flatten(1)))
        return out[:, 0].float()


def minibatch_deviation(x: Tensor, group_size: int) -> Tensor:
    """Return how much samples of a group differ, one map per sample `(B, 1, H, W)` (Karras et al. 2018).

    The last group may be smaller when `group_size` does not divide the batch.
    """
    groups = []
    for group in torch.split(x.float(), group_size):
        deviation = (group - group.mean(dim=0)).square().mean(dim=0).add(1e-8).sqrt().mean()
        groups.append(deviation.expand(group.shape[0], 1, x.shape[2], x.shape[3]))
    return torch.cat(groups).to(x.dtype)
