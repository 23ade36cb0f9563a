"""The synthesis network: style blocks that draw a picture and a segmentation at every level."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from styletryon import ops
from styletryon.generator import GeneratorOutput
from styletryon.models.config import GeneratorConfig, StyleGAN2Config, level_sizes
from styletryon.models.layers import StyledConv
from styletryon.ops._layer import channels_last_gradient
from styletryon.pose import NUM_BODY_MAPS

_LRELU_GAIN = math.sqrt(2)  # keeps the variance


class Recorder:
    """Hands each styled layer its style in order and, if asked to, keeps the layer's input."""

    def __init__(self, styles: Sequence[Tensor], keep: bool) -> None:
        self._styles: Iterator[Tensor] = iter(styles)
        self.activations: list[Tensor] | None = [] if keep else None

    def take(self, x: Tensor) -> Tensor:
        """Return the style of the next styled layer, whose input is `x`."""
        if self.activations is not None:
            self.activations.append(x)
        return next(self._styles)


class NoisyBias(nn.Module):
    """Noise of a learnt strength, a bias and the activation, behind a styled convolution.

    Args:
        channels: Channels of the input.
        size: Height and width of the noise map.
        seed: Seeds the fixed noise map.
        clamp: Limits the result to [-clamp, clamp]; 0.0 does not.
        each: Whether each channel has a strength of its own.
    """

    def __init__(
        self, channels: int, size: tuple[int, int], seed: int, *, clamp: float = 0.0, each: bool = False
    ) -> None:
        super().__init__()
        self.clamp = clamp
        self.bias = nn.Parameter(torch.zeros(channels))
        self.strength = nn.Parameter(torch.zeros((channels, 1, 1) if each else ()))
        noise = torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("noise", noise)
        self.noise: Tensor

    def forward(
        self, layer: StyledConv, x: Tensor, style: Tensor, noise: Tensor | None, residual: Tensor | None = None
    ) -> Tensor:
        """Run a styled layer on `(B, C, H, W)`; add noise `(B or 1, 1, H, W)` (the fixed map if None); activate."""
        scaled = (self.noise if noise is None else noise) * self.strength
        chosen: Tensor | None = scaled
        if self.strength.ndim:  # a layer takes one map for all channels, so a map for each joins as features do
            chosen, residual = None, (scaled * _LRELU_GAIN).expand(len(x), -1, -1, -1)
        out: Tensor = layer(
            x, style, bias=self.bias, noise=chosen, residual=residual, activation="lrelu", gain=_LRELU_GAIN
        )
        return out.clamp(-self.clamp, self.clamp) if self.clamp else out


class StyleBlock(nn.Module):
    """One level: up-sampling convolution, the body's coordinates, convolution, ToRGB and ToSeg.

    Args:
        in_channels: Channels of the level below; None for the base grid, which has no up-sampling convolution.
        channels: Channels of this level.
        pose_channels: Channels of the encoded pose that join; 0 for none.
        body_maps: Maps of the body's coordinates that join; 0 for none.
        num_labels: K; 0 for no ToSeg.
        size: Height and width of this level.
        seed: Seeds the fixed noise maps.
        taps: Of the low-pass filter behind the doubling.
        clamp: Limits the features and what joins the picture to [-clamp, clamp]; 0.0 does not.
    """

    def __init__(
        self,
        in_channels: int | None,
        channels: int,
        pose_channels: int,
        body_maps: int,
        num_labels: int,
        size: tuple[int, int],
        seed: int,
        *,
        taps: Sequence[float] = (1, 3, 3, 1),
        clamp: float = 0.0,
    ) -> None:
        super().__init__()
        self.clamp = clamp
        self.up = None if in_channels is None else StyledConv(in_channels, channels, 3, up=2, taps=taps)
        self.up_bias = None if in_channels is None else NoisyBias(channels, size, seed, clamp=clamp)
        self.body = StyledConv(body_maps, channels, 1, demodulate=False) if body_maps else None
        self.conv = StyledConv(channels + pose_channels, channels, 3)
        self.conv_bias = NoisyBias(channels, size, seed + 1, clamp=clamp)
        self.to_rgb = StyledConv(channels, 3, 1, demodulate=False)
        self.to_seg = StyledConv(channels, num_labels, 1, demodulate=False) if num_labels else None
        self.rgb_bias = nn.Parameter(torch.zeros(3))
        self.seg_bias = nn.Parameter(torch.zeros(num_labels)) if num_labels else None
        self.num_noises = 1 if in_channels is None else 2

    def styled_layers(self) -> dict[str, StyledConv]:
        """Return the styled layers by name in the order in which they run."""
        layers = {"up": self.up, "body": self.body, "conv": self.conv, "rgb": self.to_rgb, "seg": self.to_seg}
        return {name: layer for name, layer in layers.items() if layer is not None}

    def forward(
        self,
        x: Tensor,  # (B, in_channels, h / 2, w / 2), or (B, channels, h, w) at the base grid
        recorder: Recorder,
        noises: Sequence[Tensor | None],
        pose: Tensor | None,  # (B, pose_channels, h, w)
        body: Tensor | None,  # (B, body_maps, h, w)
    ) -> tuple[Tensor, Tensor]:
        """Return features `(B, channels, h, w)`, and what this level adds to picture and logits: see `_heads`."""
        if self.up is not None and self.up_bias is not None:
            style = recorder.take(x)
            worn = None
            if self.body is not None and body is not None:
                worn = self.body(body, recorder.take(body), gain=_LRELU_GAIN)
            x = self.up_bias(self.up, x, style, noises[0], worn)
        if pose is not None:
            x = torch.cat([x, pose.to(x.dtype)], dim=1)
        x = self.conv_bias(self.conv, x, recorder.take(x), noises[-1])
        return x, self._heads(x, recorder)

    def _heads(self, x: Tensor, recorder: Recorder) -> Tensor:
        """Run ToRGB and ToSeg as one product, so that the features are read once.

        The channels, 3 and K, are filled up with zeros to a multiple of 8: of 15 they cost twice what 16 do.

        Returns:
            `(B, 3 + K + filling, h, w)` float32.
        """
        batch, channels, height, width = x.shape
        together = self.to_rgb.pointwise_filters(recorder.take(x))
        bias: Tensor = self.rgb_bias
        if self.to_seg is not None and self.seg_bias is not None:
            together = torch.cat([together, self.to_seg.pointwise_filters(recorder.take(x))], dim=1)
            bias = torch.cat([bias, self.seg_bias])
        filling = -len(bias) % 8
        together, bias = F.pad(together, (0, 0, 0, filling)), F.pad(bias, (0, filling))
        pixels = x.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        drawn = torch.bmm(pixels, together.to(x.dtype).transpose(1, 2)).float() + bias
        if self.clamp:
            drawn = drawn.clamp(-self.clamp, self.clamp)
        return drawn.reshape(batch, height, width, -1).permute(0, 3, 1, 2)


class BilinearBlock(StyleBlock):
    """One level of lucidrains' StyleGAN2: bilinear doubling, two convolutions and ToRGB, at the base grid as well.

    Args:
        in_channels: Channels of the level below; at the base grid, of the constant.
        channels: Channels of this level.
        size: Height and width of this level.
        seed: Seeds the fixed noise maps.
    """

    def __init__(self, in_channels: int, channels: int, size: tuple[int, int], seed: int) -> None:
        super().__init__(in_channels, channels, 0, 0, 0, size, seed)
        self.size = size
        self.up = StyledConv(in_channels, channels, 3)
        self.up_bias = NoisyBias(channels, size, seed, each=True)
        self.conv_bias = NoisyBias(channels, size, seed + 1, each=True)

    def forward(
        self,
        x: Tensor,
        recorder: Recorder,
        noises: Sequence[Tensor | None],
        pose: Tensor | None,
        body: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Double `x` unless it has this level's size already; then as `StyleBlock`."""
        x = x if tuple(x.shape[2:]) == self.size else bilinear(x)
        return super().forward(x, recorder, noises, pose, body)


def _make_block(config: GeneratorConfig | StyleGAN2Config, level: int, size: tuple[int, int]) -> StyleBlock:
    """Make the block of a level."""
    below, channels = config.channels[level - 1] if level else None, config.channels[level]
    if isinstance(config, StyleGAN2Config):
        if config.upsampling == "bilinear":
            return BilinearBlock(channels if below is None else below, channels, size, seed=2 * level)
        return StyleBlock(below, channels, 0, 0, 0, size, seed=2 * level, taps=config.filter, clamp=config.clamp)
    joined = level > 0 and size[0] <= config.pose_height
    return StyleBlock(
        below,
        channels,
        config.pose_channels if joined and config.pose_conditioning == "concat" else 0,
        NUM_BODY_MAPS if joined and config.body_maps and size[0] >= 16 else 0,
        config.num_labels,
        size,
        seed=2 * level,
    )


class SynthesisNetwork(nn.Module):
    """Draw styles in an encoded pose, level by level, with skip connections for picture and segmentation.

    StyleGAN2's synthesis network with VOGUE's second output: at every resolution a ToSeg head beside ToRGB
    (arXiv 2101.02285, figure 3).

    Args:
        config: The generator's numbers; those of a `StyleGAN2Config` make it StyleGAN2's own: no pose, no segmentation.
    """

    def __init__(self, config: GeneratorConfig | StyleGAN2Config) -> None:
        super().__init__()
        self.sizes = level_sizes(config.image_size)
        self.concat = isinstance(config, GeneratorConfig) and config.pose_conditioning == "concat"
        self.num_labels = config.num_labels if isinstance(config, GeneratorConfig) else 0
        self.bilinear = isinstance(config, StyleGAN2Config) and config.upsampling == "bilinear"
        self.blocks = nn.ModuleList(_make_block(config, level, size) for level, size in enumerate(self.sizes))
        taps = config.picture_filter if isinstance(config, StyleGAN2Config) else (1, 3, 3, 1)
        self.register_buffer("filter", ops.setup_filter(taps), persistent=False)
        self.filter: Tensor

    def styled_layers(self) -> dict[str, StyledConv]:
        """Return every styled layer by name, such as "32.conv", in the order in which they run."""
        return {
            f"{size[0]}.{name}": layer
            for size, block in zip(self.sizes, self._style_blocks(), strict=True)
            for name, layer in block.styled_layers().items()
        }

    def noise_shapes(self) -> tuple[tuple[int, int], ...]:
        """Return the size of each noise map."""
        return tuple(size for size, block in zip(self.sizes, self._style_blocks(), strict=True)
                     for _ in range(block.num_noises))  # fmt: skip

    def forward(
        self,
        styles: Sequence[Tensor],
        pose: Sequence[Tensor],  # encoded pose per level, the base grid first
        body: Sequence[Tensor | None],  # the body's coordinates per level
        noises: Sequence[Tensor | None],
        *,
        keep: bool = False,
        num_levels: int | None = None,
    ) -> GeneratorOutput:
        """Draw. With `num_levels` the drawing stops early, at that level's smaller size."""
        recorder = Recorder(styles, keep)
        remaining = iter(noises)
        x, drawn = pose[0], None
        for level, block in enumerate(list(self._style_blocks())[:num_levels]):
            joined = pose[level] if self.concat and 0 < level < len(pose) else None
            chosen = [next(remaining) for _ in range(block.num_noises)]
            x, added = block(x, recorder, chosen, joined, body[level] if level < len(body) else None)
            # Picture and logits grow as one tensor: one filter for both.
            drawn = added if drawn is None else self._double(drawn) + added
        if drawn is None:  # only for the type checker: there is always a base grid
            raise RuntimeError("a synthesis network has at least one level")
        sizes = [3, self.num_labels, drawn.shape[1] - 3 - self.num_labels]
        image, logits, _ = torch.split(channels_last_gradient(drawn), sizes, dim=1)
        return GeneratorOutput(image, logits, None if recorder.activations is None else tuple(recorder.activations))

    def _double(self, drawn: Tensor) -> Tensor:
        """Double height and width of what is drawn so far."""
        return smooth(bilinear(drawn)) if self.bilinear else ops.upsample2d(drawn, self.filter)

    def _style_blocks(self) -> Iterator[StyleBlock]:
        for block in self.blocks:
            if isinstance(block, StyleBlock):
                yield block


def bilinear(x: Tensor) -> Tensor:
    """Double height and width of `(B, C, H, W)` by bilinear interpolation between the centres of pixels."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def smooth(x: Tensor) -> Tensor:
    """Blur `(B, C, H, W)` by [1, 2, 1] / 4 in both directions; the picture is mirrored at its edges."""
    taps = ops.setup_filter([1, 2, 1]).to(x.device)
    return ops.upfirdn2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), taps)


def pyramid(maps: Tensor, num_levels: int) -> tuple[Tensor, ...]:
    """Halve maps `(B, C, H, W)` down to the base grid; return one per level, the base grid first."""
    levels = [maps]
    for _ in range(num_levels - 1):
        levels.append(F.avg_pool2d(levels[-1], 2))
    return tuple(reversed(levels))
