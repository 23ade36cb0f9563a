"""A discriminator on pretrained features (Sauer et al. 2021, *Projected GANs Converge Faster*, arXiv 2111.01007)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from styletryon.features import EfficientNetFeatures
from styletryon.models.config import ProjectedDiscriminatorConfig
from styletryon.pose import NUM_KEYPOINTS, Pose, keypoint_heatmaps
from styletryon.pose.trunk import TRUNK_WIDTHS

_STRIDES = (4, 8, 16, 32)
_LAYERS = tuple(f"stride{stride}" for stride in _STRIDES)
_SLOPE = 0.2


class SpectralConv(nn.Module):
    """A convolution whose weight, taken as a matrix, is divided by its largest singular value (Miyato et al. 2018).

    The singular value is computed and not tracked from step to step, so there is no state, and neither the number of
    micro-batches nor that of processes changes it.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel: Side of the kernel.
        stride: Of the convolution.
        padding: Zeros around the input.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        nn.init.kaiming_normal_(self.weight)
        self.stride, self.padding = stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, in_channels, H, W)` to `(B, out_channels, h, w)`."""
        return F.conv2d(x, self.weight / self.largest(), self.bias, self.stride, self.padding)

    def largest(self) -> Tensor:
        """Return the largest singular value; its gradient is that of u^T W v, u and v held still."""
        with torch.autocast(self.weight.device.type, enabled=False):
            matrix = self.weight.flatten(1)
            with torch.no_grad():
                left = torch.linalg.eigh(matrix @ matrix.T).eigenvectors[:, -1]
                right = F.normalize(matrix.T @ left, dim=0)
            largest: Tensor = (left @ matrix @ right).clamp(min=1e-8)
            return largest


class RandomMixing(nn.Module):
    """Feature maps of several scales mixed by fixed random convolutions, so that no map can be looked at alone.

    Across channels by 1x1 convolutions (the paper's CCM), and across scales, from the coarsest down, by 3x3
    convolutions and bilinear enlargement (CSM). Differs from the paper: all scales get the same number of channels,
    which is what a CPU can pay for.

    Args:
        widths: Channels of the maps, the finest first.
        channels: Channels of each mixed map.
        seed: Of the filters.
    """

    def __init__(self, widths: Sequence[int], channels: int, seed: int) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        self.across_channels = nn.ParameterList(_random_filters(channels, width, 1, rng) for width in widths)
        self.across_scales = nn.ParameterList(_random_filters(channels, channels, 3, rng) for _ in widths)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Mix maps `(B, C_l, h_l, w_l)`, the finest first, into one `(B, channels, h_l, w_l)` each."""
        mixed: list[Tensor] = []
        above: Tensor | None = None
        for map_, channel, scale in reversed(list(zip(maps, self.across_channels, self.across_scales, strict=True))):
            own = F.conv2d(map_, channel)
            if above is not None:
                own = own + F.interpolate(above, own.shape[2:], mode="bilinear", align_corners=False)
            above = F.conv2d(own, scale, padding=1)
            mixed.append(above)
        return mixed[::-1]


class ProjectedDiscriminator(nn.Module):
    """Tell drawn people from real ones by what a frozen network, trained on photographs, sees in them.

    A small head judges each of four scales of mixed features, beside the keypoints' heatmaps and the segmentation:
    if they were not there, the generator would be free to ignore the pose (arXiv 2101.02285, section 3.1). The heads'
    judgements are many numbers, of which losses take the mean. It is trained with the hinge loss and without the R1
    penalty, as the paper does. Differs from the paper: heads are normalised by their spectral norm alone, without
    batch normalisation, which would tie the samples of a batch together.

    Args:
        config: The discriminator's numbers; `ProjectedDiscriminatorConfig()` if None.

    Attributes:
        features: The feature network, frozen.

    Raises:
        CheckpointNotFoundError: If there is no file of the name.
        CheckpointError: If the file holds no such weights.
    """

    def __init__(self, config: ProjectedDiscriminatorConfig | None = None) -> None:
        super().__init__()
        self.config = config if config is not None else ProjectedDiscriminatorConfig()
        weights = self.config.weights
        # The larger side as it is: what is drawn shall be judged at its own size.
        self.features = EfficientNetFeatures(
            _LAYERS, None if weights == "random" else weights, largest=max(self.config.image_size)
        )
        self.mixing = RandomMixing(TRUNK_WIDTHS[1:], self.config.channels, self.config.seed)
        # The maps' strengths differ tenfold: each is brought to one, so that all scales and the pose are heard.
        self.register_buffer("strength", self._measure())
        self.strength: Tensor
        inputs = self.config.channels + self.config.num_labels + NUM_KEYPOINTS
        self.heads = nn.ModuleList(
            _head(inputs, self.config.hidden, -(-min(self.config.image_size) // stride), len(_STRIDES) - level)
            for level, stride in enumerate(_STRIDES)
        )

    def forward(self, images: Tensor, labels: Tensor, pose: Pose, *, group_size: int | None = None) -> Tensor:
        """Judge drawings.

        Args:
            images: `(B, 3, H, W)` in [-1, 1].
            labels: `(B, K, H, W)` probabilities, or one-hot classes of a real segmentation.
            pose: B poses.
            group_size: Of no account: samples are judged one by one.

        Returns:
            `(B, N)` float32 logits of all heads, high for real.
        """
        del group_size
        maps = [
            map_ / strength.to(map_.dtype) for map_, strength in zip(self.features(images), self.strength, strict=True)
        ]
        heat = keypoint_heatmaps(pose.keypoints.to(images.device), pose.size, self.config.image_size)
        beside = torch.cat([labels * 2 - 1, heat.to(labels.dtype)], dim=1)
        logits = []
        for mixed, head in zip(self.mixing(maps), self.heads, strict=True):
            shown = F.adaptive_avg_pool2d(beside, mixed.shape[2:])
            logits.append(head(torch.cat([mixed, shown.to(mixed.dtype)], dim=1)).flatten(1).float())
        return torch.cat(logits, dim=1)

    @torch.no_grad()
    def _measure(self) -> Tensor:
        """Return the deviation of each map on cloudy noise, `(4,)`."""
        rng = torch.Generator().manual_seed(0)
        noise = torch.zeros(4, 3, 64, 64)
        for side in (4, 8, 16, 32, 64):
            clouds = torch.rand(4, 3, side, side, generator=rng) * 2 - 1
            noise += F.interpolate(clouds, (64, 64), mode="bilinear", align_corners=False) / 2
        return torch.stack([map_.std() for map_ in self.features(noise.clamp(-1, 1))]).clamp(min=1e-6)


def _random_filters(outputs: int, inputs: int, kernel: int, rng: torch.Generator) -> nn.Parameter:
    """Make Kaiming's filters for no activation: they keep the variance."""
    filters = torch.randn(outputs, inputs, kernel, kernel, generator=rng) / (inputs * kernel * kernel) ** 0.5
    return nn.Parameter(filters, requires_grad=False)


def _head(inputs: int, hidden: int, side: int, halvings: int) -> nn.Sequential:
    """Make a head: halvings down to what the coarsest head ends at, as far as the map reaches, then the logits."""
    halvings = min(halvings, max(side.bit_length() - 1, 0))
    widths = [inputs, *[hidden] * max(halvings, 1)]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        shape = {"kernel": 4, "stride": 2, "padding": 1} if halvings else {"kernel": 3, "padding": 1}
        layers += [SpectralConv(before, after, **shape), nn.LeakyReLU(_SLOPE)]
    return nn.Sequential(*layers, SpectralConv(hidden, 1, 3, padding=1))
