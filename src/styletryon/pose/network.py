"""The bundled network of the body: a pretrained trunk, and on it 17 keypoints and 12 label classes.

.. code-block:: text

    picture ─ stride 2 ─ stride 4 ─ stride 8 ─ stride 16 ─ stride 32     the trunk (EfficientNet-Lite0, `trunk.py`)
                 │          │          │           │           │
                 │          │          │           │       attention     every part of the body sees every other
                 │          │          │           │           │
                 │          + ──────── + ───────── + ──────────┘         the pyramid, upwards to stride 4
                 │          ├──────── heatmaps (where) and presence (whether)
                 └───────── +                                            the label decoder, at stride 2
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
from styletryon.pose.trunk import TRUNK_WIDTHS, EfficientNetLite, ScaledConv


@dataclass(frozen=True)
class BodyConfig:
    """The shape of a `BodyNetwork`.

    Attributes:
        size: Height and width of the pictures it is trained for, multiples of 32. Other sizes work, less well.
        context_width: Channels of the attention blocks.
        attention_blocks: Attention blocks at stride 32.
        heads: Attention heads; they divide the context's channels.
        pyramid_widths: Channels of the pyramid at strides 4, 8 and 16.
        label_width: Channels of the label decoder at stride 2.
        folded: Whether normalisation is folded into the convolutions: true of stored networks, which only infer.
    """

    size: tuple[int, int] = (384, 256)
    context_width: int = 192
    attention_blocks: int = 2
    heads: int = 6
    pyramid_widths: tuple[int, int, int] = (48, 80, 128)
    label_width: int = 24
    folded: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", tuple(int(n) for n in self.size))
        object.__setattr__(self, "pyramid_widths", tuple(int(n) for n in self.pyramid_widths))
        if len(self.size) != 2 or any(n < 32 or n % 32 for n in self.size):
            raise ConfigError(
                f"expected two multiples of 32 from 32 up, got {self.size}; try (384, 256)", argument="size"
            )
        if len(self.pyramid_widths) != 3 or min(self.pyramid_widths) < 1:
            raise ConfigError(f"expected three positive numbers, got {self.pyramid_widths}", argument="pyramid_widths")
        if self.label_width < 1:
            raise ConfigError(f"expected a positive number, got {self.label_width}; try 24", argument="label_width")
        if self.heads < 1 or self.context_width < 1 or self.context_width % self.heads:
            raise ConfigError(
                f"expected a divisor of context_width {self.context_width}, got {self.heads}", argument="heads"
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
    """What trunk and pyramid say of a batch of pictures.

    Attributes:
        f2: `(B, C, H/2, W/2)`, the trunk's.
        f4: `(B, C, H/4, W/4)` from 0 up, the pyramid's: it knows what all coarser maps know.
        context: `(B, C, H/32, W/32)`, normalised: every position has seen every other.
    """

    f2: Tensor
    f4: Tensor
    context: Tensor


class BodyNetwork(nn.Module):
    """Finds the 17 keypoints of the main person in a picture, whether each is there at all, and what each pixel shows.

    Args:
        config: Its shape.
    """

    def __init__(self, config: BodyConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or BodyConfig()
        f4, f8, f16 = config.pyramid_widths
        wide, fine, folded = config.context_width, config.label_width, config.folded
        self.trunk = EfficientNetLite(folded=folded)
        self.narrow32 = nn.Conv2d(TRUNK_WIDTHS[4], wide, 1)
        grid = (config.size[0] // 32, config.size[1] // 32)
        self.position = nn.Parameter(0.02 * torch.randn(1, wide, *grid))
        self.attention = nn.ModuleList(_Attention(wide, config.heads) for _ in range(config.attention_blocks))
        self.attention_norm = nn.LayerNorm(wide)
        self.up16 = _Upwards(wide, TRUNK_WIDTHS[3], f16, folded)
        self.up8 = _Upwards(f16, TRUNK_WIDTHS[2], f8, folded)
        self.up4 = _Upwards(f8, TRUNK_WIDTHS[1], f4, folded, deep=False)
        self.keypoint4 = ConvNorm(f4, f4, folded=folded)
        self.heatmap = nn.Conv2d(f4, NUM_KEYPOINTS, 1)
        self.presence_here = nn.Parameter(torch.zeros(NUM_KEYPOINTS, f4))
        self.presence_whole = nn.Linear(wide, NUM_KEYPOINTS)
        self.label2 = _Upwards(f4, TRUNK_WIDTHS[0], fine, folded)
        self.label = nn.Conv2d(fine, NUM_LABELS, 1)

    def encode(self, images: Tensor) -> BodyMaps:
        """Run the trunk, the attention and the pyramid, which keypoints and labels share.

        Args:
            images: `(B, 3, H, W)` float in [-1, 1], H and W multiples of 32, best of the configured size.

        Returns:
            The maps.

        Raises:
            ShapeError: If the images are not `(B, 3, H, W)` with multiples of 32.
        """
        if images.ndim != 4 or images.shape[-1] % 32 or images.shape[-2] % 32:
            raise ShapeError(
                f"expected (B, 3, H, W) with multiples of 32, got {tuple(images.shape)}", argument="images"
            )
        f2, f4, f8, f16, f32 = self.trunk(images)
        grid = f32.shape[-2:]
        position: Tensor = self.position
        if position.shape[-2:] != grid:
            position = F.interpolate(position, size=grid, mode="bilinear", align_corners=False)
        tokens = (self.narrow32(f32) + position).flatten(2).transpose(1, 2)  # (B, h*w, C)
        for block in self.attention:
            tokens = block(tokens)
        tokens = self.attention_norm(tokens)
        context = tokens.transpose(1, 2).unflatten(2, grid)
        up = self.up4(self.up8(self.up16(context, f16), f8), f4)
        return BodyMaps(f2, up, context)

    def find(self, maps: BodyMaps) -> tuple[Tensor, Tensor]:
        """Find the keypoints.

        Args:
            maps: Of `encode`.

        Returns:
            Heatmap logits `(B, 17, H/4, W/4)`, whose softmax over the pixels says where each keypoint is if it is in
            the picture, and presence logits `(B, 17)`, whose sigmoid says whether it is.
        """
        up = self.keypoint4(maps.f4)
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
        logits: Tensor = self.label(self.label2(maps.f4, maps.f2)).float()
        return logits

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Find the keypoints and the labels.

        Args:
            images: `(B, 3, H, W)` float in [-1, 1], H and W multiples of 32, best of the configured size.

        Returns:
            Heatmap logits `(B, 17, H/4, W/4)` and presence logits `(B, 17)` of `find`, label logits
            `(B, 12, H/2, W/2)` of `parse`.

        Raises:
            ShapeError: If the images are not `(B, 3, H, W)` with multiples of 32.
        """
        maps = self.encode(images)
        return *self.find(maps), self.parse(maps)

    @torch.no_grad()
    def fold(self) -> BodyNetwork:
        """Return a copy for inference with normalisation folded into the convolutions."""
        if self.config.folded:
            return self
        other = BodyNetwork(BodyConfig.from_dict({**self.config.to_dict(), "folded": True}))
        state = dict(self.state_dict())
        for name, module in self.named_modules():
            if isinstance(module, (ConvNorm, ScaledConv)):
                weight, bias = module.folded_weights()
                for key in [key for key in state if key.startswith(f"{name}.")]:
                    del state[key]
                inner = f"{name}.conv" if isinstance(module, ConvNorm) else name
                state[f"{inner}.weight"], state[f"{inner}.bias"] = weight, bias
        other.load_state_dict(state)
        return other.eval()


class ConvNorm(nn.Module):
    """A 3x3 convolution, batch normalisation (or the bias it folds into) and perhaps a rectifier."""

    def __init__(self, inputs: int, outputs: int, *, rectify: bool = True, folded: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, 1, 1, bias=folded)
        self.norm: nn.Module = nn.Identity() if folded else nn.BatchNorm2d(outputs)
        self.rectify = rectify

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to `(B, C', H, W)`."""
        x = self.norm(self.conv(x))
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


class _Upwards(nn.Module):
    """One level upwards: twice the size, what the trunk knows at that size, a convolution, and if deep another."""

    def __init__(self, inputs: int, skip: int, outputs: int, folded: bool, *, deep: bool = True) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(inputs, outputs, 1)
        self.lateral = nn.Conv2d(skip, outputs, 1)
        self.smooth = ConvNorm(outputs, outputs, folded=folded)
        self.second = ConvNorm(outputs, outputs, rectify=False, folded=folded) if deep else None

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        up = F.interpolate(self.narrow(x), scale_factor=2.0, mode="bilinear", align_corners=False)
        merged: Tensor = self.smooth(up + self.lateral(skip))
        return merged if self.second is None else F.relu(merged + self.second(merged))


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
