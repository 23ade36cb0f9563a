"""The bundled network of the body: one small residual trunk, and on it 17 keypoints and 12 label classes.

.. code-block:: text

    picture ─ stem ─ stride 2 ─ stride 4 ─ stride 8 ─ stride 16          the trunk (`features`)
                        │          │          │           │
                        │          │          │       attention          every part of the body sees every other
                        │          │          │           │
                        │          + ──────── + ───────── ┤              the neck, upwards: heatmaps (where)
                        │          │          │           │              and presence (whether) at stride 4
                        + ──────── + ──────── + ──────────┘              the label decoder, upwards to stride 2
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from styletryon.errors import ConfigError, ShapeError
from styletryon.labels import NUM_LABELS
from styletryon.pose._pose import NUM_KEYPOINTS


@dataclass(frozen=True)
class BodyConfig:
    """The shape of a `BodyNetwork`.

    Attributes:
        size: Height and width of the pictures it is trained for, multiples of 16. Other sizes work, less well.
        widths: Channels at strides 2, 4, 8 and 16.
        depths: Residual blocks at strides 4, 8 and 16.
        attention_blocks: Attention blocks at stride 16.
        heads: Attention heads; they divide the channels at stride 16.
        neck_width: Channels of the neck.
        label_widths: Channels of the label decoder at strides 2, 4, 8 and 16.
        folded: Whether batch normalisation is folded into the convolutions: true of stored networks, which only infer.
    """

    size: tuple[int, int] = (192, 144)
    widths: tuple[int, int, int, int] = (32, 48, 96, 160)
    depths: tuple[int, int, int] = (2, 2, 1)
    attention_blocks: int = 3
    heads: int = 5
    neck_width: int = 64
    label_widths: tuple[int, int, int, int] = (24, 48, 96, 128)
    folded: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", tuple(int(n) for n in self.size))
        object.__setattr__(self, "widths", tuple(int(n) for n in self.widths))
        object.__setattr__(self, "depths", tuple(int(n) for n in self.depths))
        object.__setattr__(self, "label_widths", tuple(int(n) for n in self.label_widths))
        if len(self.size) != 2 or any(n < 32 or n % 16 for n in self.size):
            raise ConfigError(
                f"expected two multiples of 16 from 32 up, got {self.size}; try (192, 144)", argument="size"
            )
        if len(self.widths) != 4 or min(self.widths) < 1:
            raise ConfigError(f"expected four positive numbers, got {self.widths}", argument="widths")
        if len(self.label_widths) != 4 or min(self.label_widths) < 1:
            raise ConfigError(f"expected four positive numbers, got {self.label_widths}", argument="label_widths")
        if len(self.depths) != 3 or min(self.depths) < 0:
            raise ConfigError(f"expected three numbers from 0 up, got {self.depths}", argument="depths")
        if self.heads < 1 or self.widths[3] % self.heads:
            raise ConfigError(
                f"expected a divisor of the last width {self.widths[3]}, got {self.heads}", argument="heads"
            )

    def to_dict(self) -> dict[str, object]:
        """Return the settings as plain values for a JSON file."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, settings: Mapping[str, object]) -> BodyConfig:
        """Build a configuration from plain values.

        Raises:
            ConfigError: If a setting is unknown or has no meaning.
        """
        unknown = sorted(set(settings) - {field.name for field in fields(cls)})
        if unknown:
            raise ConfigError(f"expected settings of BodyConfig, got unknown {', '.join(unknown)}", argument="config")
        return cls(**settings)  # type: ignore[arg-type]


class BodyMaps(NamedTuple):
    """What the trunk says of a batch of pictures: feature maps, and what attention made of the last of them.

    Attributes:
        f2: `(B, C, H/2, W/2)`, from 0 up.
        f4: `(B, C, H/4, W/4)`, from 0 up.
        f8: `(B, C, H/8, W/8)`, from 0 up.
        context: `(B, C, H/16, W/16)`, normalised: every position has seen every other.
    """

    f2: Tensor
    f4: Tensor
    f8: Tensor
    context: Tensor


class BodyNetwork(nn.Module):
    """Finds the 17 keypoints of the main person in a picture, whether each is there at all, and what each pixel shows.

    Args:
        config: Its shape.
    """

    def __init__(self, config: BodyConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or BodyConfig()
        w2, w4, w8, w16 = config.widths
        folded = config.folded
        self.stem = ConvNorm(3, w2, stride=2, folded=folded)
        self.stage4 = _stage(w2, w4, config.depths[0], folded)
        self.stage8 = _stage(w4, w8, config.depths[1], folded)
        self.stage16 = _stage(w8, w16, config.depths[2], folded)
        grid = (config.size[0] // 16, config.size[1] // 16)
        self.position = nn.Parameter(0.02 * torch.randn(1, w16, *grid))
        self.attention = nn.ModuleList(_Attention(w16, config.heads) for _ in range(config.attention_blocks))
        self.attention_norm = nn.LayerNorm(w16)
        neck = config.neck_width
        self.lateral16 = nn.Conv2d(w16, neck, 1)
        self.lateral8 = nn.Conv2d(w8, neck, 1)
        self.lateral4 = nn.Conv2d(w4, neck, 1)
        self.smooth8 = ConvNorm(neck, neck, folded=folded)
        self.smooth4 = ConvNorm(neck, neck, folded=folded)
        self.heatmap = nn.Conv2d(neck, NUM_KEYPOINTS, 1)
        # Presence reads the neck where the keypoint was found, beside what the whole picture says.
        self.presence_here = nn.Parameter(torch.zeros(NUM_KEYPOINTS, neck))
        self.presence_whole = nn.Linear(w16, NUM_KEYPOINTS)
        d2, d4, d8, d16 = config.label_widths
        self.label16 = nn.Sequential(ConvNorm(w16, d16, folded=folded), _Residual(d16, folded))
        self.label8 = _Upwards(d16, w8, d8, 2, folded)
        self.label4 = _Upwards(d8, w4, d4, 1, folded)
        self.label2 = _Upwards(d4, w2, d2, 0, folded)
        self.label = nn.Conv2d(d2, NUM_LABELS, 1)

    def features(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Run the trunk alone: purely convolutional, so any size will do.

        Args:
            images: `(B, 3, H, W)` float in [-1, 1].

        Returns:
            Feature maps from 0 up, `(B, C, H/2, W/2)`, `(B, C, H/4, W/4)`, `(B, C, H/8, W/8)` and
            `(B, C, H/16, W/16)`, sizes rounded up.

        Raises:
            ShapeError: If the images are not `(B, 3, H, W)`.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ShapeError(f"expected shape (B, 3, H, W), got {tuple(images.shape)}", argument="images")
        f2: Tensor = self.stem(images)
        f4: Tensor = self.stage4(f2)
        f8: Tensor = self.stage8(f4)
        f16: Tensor = self.stage16(f8)
        return f2, f4, f8, f16

    def encode(self, images: Tensor) -> BodyMaps:
        """Run the trunk and the attention: what `find` and `parse` read.

        Args:
            images: `(B, 3, H, W)` float in [-1, 1], H and W multiples of 16, best of the configured size.

        Returns:
            The maps.

        Raises:
            ShapeError: If the images are not `(B, 3, H, W)` with multiples of 16.
        """
        if images.ndim != 4 or images.shape[-1] % 16 or images.shape[-2] % 16:
            raise ShapeError(
                f"expected (B, 3, H, W) with multiples of 16, got {tuple(images.shape)}", argument="images"
            )
        f2, f4, f8, f16 = self.features(images)
        grid = f16.shape[-2:]
        position: Tensor = self.position
        if position.shape[-2:] != grid:
            position = F.interpolate(position, size=grid, mode="bilinear", align_corners=False)
        tokens = (f16 + position).flatten(2).transpose(1, 2)  # (B, h*w, C)
        for block in self.attention:
            tokens = block(tokens)
        tokens = self.attention_norm(tokens)
        return BodyMaps(f2, f4, f8, tokens.transpose(1, 2).unflatten(2, grid))

    def find(self, maps: BodyMaps) -> tuple[Tensor, Tensor]:
        """Find the keypoints.

        Args:
            maps: Of `encode`.

        Returns:
            Heatmap logits `(B, 17, H/4, W/4)`, whose softmax over the pixels says where each keypoint is if it is in
            the picture, and presence logits `(B, 17)`, whose sigmoid says whether it is.
        """
        up = F.interpolate(self.lateral16(maps.context), scale_factor=2.0, mode="nearest")
        up = self.smooth8(up + self.lateral8(maps.f8))
        up = F.interpolate(up, scale_factor=2.0, mode="nearest")
        up = self.smooth4(up + self.lateral4(maps.f4))
        logits: Tensor = self.heatmap(up).float()
        # The place is looked up, not moved, by the presence: hence detached.
        where = logits.detach().flatten(2).softmax(-1)  # (B, 17, h*w)
        here = where @ up.float().flatten(2).transpose(1, 2)  # (B, 17, C)
        whole = self.presence_whole(maps.context.mean((2, 3))).float()
        return logits, (here * self.presence_here).sum(-1) + whole

    def parse(self, maps: BodyMaps) -> Tensor:
        """Say what the pixels show.

        Args:
            maps: Of `encode`.

        Returns:
            Label logits `(B, 12, H/2, W/2)`.
        """
        up = self.label8(self.label16(maps.context), maps.f8)
        up = self.label4(up, maps.f4)
        up = self.label2(up, maps.f2)
        logits: Tensor = self.label(up).float()
        return logits

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Find the keypoints and the labels.

        Args:
            images: `(B, 3, H, W)` float in [-1, 1], H and W multiples of 16, best of the configured size.

        Returns:
            Heatmap logits `(B, 17, H/4, W/4)` and presence logits `(B, 17)` of `find`, label logits
            `(B, 12, H/2, W/2)` of `parse`.

        Raises:
            ShapeError: If the images are not `(B, 3, H, W)` with multiples of 16.
        """
        maps = self.encode(images)
        return *self.find(maps), self.parse(maps)

    @torch.no_grad()
    def fold(self) -> BodyNetwork:
        """Return a copy for inference with batch normalisation folded into the convolutions."""
        if self.config.folded:
            return self
        settings = {**self.config.to_dict(), "folded": True}
        other = BodyNetwork(BodyConfig.from_dict(settings))
        state = dict(self.state_dict())
        for name, module in self.named_modules():
            if isinstance(module, ConvNorm):
                weight, bias = module.folded_weights()
                for key in [key for key in state if key.startswith(f"{name}.")]:
                    del state[key]
                state[f"{name}.conv.weight"] = weight
                state[f"{name}.conv.bias"] = bias
        other.load_state_dict(state)
        return other.eval()


class ConvNorm(nn.Module):
    """A 3x3 convolution, batch normalisation (or the bias it folds into) and perhaps a rectifier."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        stride: int = 1,
        rectify: bool = True,
        folded: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=folded)
        self.norm: nn.Module = nn.Identity() if folded else nn.BatchNorm2d(outputs)
        self.rectify = rectify

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to `(B, C', H, W)`, or to half the size with stride 2."""
        x = self.conv(x)
        x = self.norm(x)
        return F.relu(x) if self.rectify else x

    def folded_weights(self) -> tuple[Tensor, Tensor]:
        """Return the weight and the bias of the convolution alone that does the same.

        Raises:
            ConfigError: If there is no normalisation to fold.
        """
        norm = self.norm
        if not isinstance(norm, nn.BatchNorm2d) or norm.running_var is None or norm.running_mean is None:
            raise ConfigError(
                "expected batch normalisation to fold, got a network that is folded already", argument="network"
            )
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        return self.conv.weight * gain[:, None, None, None], norm.bias - norm.running_mean * gain

    def extra_repr(self) -> str:
        """Say what `repr` adds."""
        return f"rectify={self.rectify}"


class _Residual(nn.Module):
    """Two 3x3 convolutions beside the identity."""

    def __init__(self, width: int, folded: bool) -> None:
        super().__init__()
        self.first = ConvNorm(width, width, folded=folded)
        self.second = ConvNorm(width, width, rectify=False, folded=folded)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


class _Upwards(nn.Module):
    """One level of the label decoder: twice the size, what the trunk knows at that size, convolutions."""

    def __init__(self, inputs: int, skip: int, outputs: int, depth: int, folded: bool) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(inputs, outputs, 1)
        self.lateral = nn.Conv2d(skip, outputs, 1)
        self.smooth = ConvNorm(outputs, outputs, folded=folded)
        self.blocks = nn.Sequential(*(_Residual(outputs, folded) for _ in range(depth)))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        up = F.interpolate(self.narrow(x), scale_factor=2.0, mode="bilinear", align_corners=False)
        merged: Tensor = self.blocks(self.smooth(up + self.lateral(skip)))
        return merged


class _Attention(nn.Module):
    """Self-attention over the positions of a map, then a two-layer perceptron; both pre-normalised and residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.wide = nn.Linear(width, 2 * width)
        self.narrow = nn.Linear(2 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:  # (B, N, C)
        qkv = self.qkv(self.norm1(tokens)).unflatten(-1, (3, self.heads, -1))  # (B, N, 3, heads, c)
        query, key, value = (part.transpose(1, 2) for part in qkv.unbind(2))  # (B, heads, N, c)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)  # (B, N, C)
        tokens = tokens + self.out(mixed)
        wider = F.gelu(self.wide(self.norm2(tokens)))
        step: Tensor = self.narrow(wider)
        return tokens + step

    def extra_repr(self) -> str:
        return f"heads={self.heads}"


def _stage(inputs: int, outputs: int, depth: int, folded: bool) -> nn.Sequential:
    return nn.Sequential(
        ConvNorm(inputs, outputs, stride=2, folded=folded),
        *(_Residual(outputs, folded) for _ in range(depth)),
    )
