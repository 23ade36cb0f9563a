"""The numbers that make a generator, an encoder or a discriminator. They are also what `config.json` holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from styletryon.errors import ConfigError

BASE_GRIDS = ((4, 4), (4, 3), (4, 2))
POSE_CONDITIONINGS = ("input", "concat")

UPSAMPLINGS = ("fir", "bilinear")

_Config = TypeVar("_Config", bound="AnyConfig")


@dataclass(frozen=True)
class GeneratorConfig:
    """The shape of a `PoseStyleGAN2`.

    Attributes:
        image_size: Height and width of the picture: a base grid (4, 4), (4, 3) or (4, 2) doubled n times.
        channels: Channels at each level, from the base grid upwards; one more than the doublings.
        num_labels: K, the classes of the segmentation.
        z_dim: Width of the latent z.
        w_dim: Width of the latent w.
        mapping_layers: Layers of the mapping from z to w.
        pose_conditioning: "input": the encoded pose replaces StyleGAN2's constant (VOGUE). "concat": its features also
            join each style block up to `pose_height` (TryOnGAN).
        pose_channels: Channels of the encoded pose at each level.
        pose_height: Height of the heatmaps that are encoded; the paper's are 64.
        body_maps: Whether blocks up to `pose_height` also see the coordinates of the body (see
            `styletryon.pose.body_maps`), each scaled by a style of its own. Not in the paper.
        garment_shares: Whether the generator learns how much of each style channel belongs to each label class, from
            pictures of people in others' clothes. Not in the paper.
        background: Red, green and blue, 0 to 255, of what stands behind the people in its training pictures, on which
            photographs are laid before they are projected; empty where they keep their own background.
    """

    image_size: tuple[int, int] = (128, 96)
    channels: tuple[int, ...] = (160, 160, 128, 96, 64, 32)
    num_labels: int = 12
    z_dim: int = 256
    w_dim: int = 384
    mapping_layers: int = 4
    pose_conditioning: str = "concat"
    pose_channels: int = 16
    pose_height: int = 64
    body_maps: bool = True
    garment_shares: bool = False
    # Not in `repr`, of which fingerprints are made: it changes no drawing, so latents stay those of the same generator.
    background: tuple[int, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        _check_shape(self)
        if len(self.background) not in (0, 3) or not all(0 <= part <= 255 for part in self.background):
            raise ConfigError(
                f"expected three numbers from 0 to 255 or none, got {self.background}", argument="background"
            )
        if self.pose_conditioning not in POSE_CONDITIONINGS:
            raise ConfigError(
                f"expected one of {POSE_CONDITIONINGS}, got {self.pose_conditioning!r}",
                argument="pose_conditioning",
            )


@dataclass(frozen=True)
class StyleGAN2Config:
    """The shape of an `UnconditionalStyleGAN2`: numbers in which other projects' generators differ.

    Attributes:
        image_size: Height and width of the picture: a base grid (4, 4), (4, 3) or (4, 2) doubled n times.
        channels: Channels at each level, from the base grid upwards; one more than the doublings.
        z_dim: Width of the latent z.
        w_dim: Width of the latent w.
        mapping_layers: Layers of the mapping from z to w, each with its activation.
        mapping_rate: Factor on the learning rate of the mapping.
        filter: Taps of the low-pass filter behind the doubling convolutions of "fir", the same in both directions.
        picture_filter: That behind the doubling of the picture so far.
        clamp: Limits features and what each level adds to the picture to [-clamp, clamp]; 0.0 does not.
        upsampling: "fir": zero insertion and `filter`, as in StyleGAN2. "bilinear": as in lucidrains' StyleGAN2, whose
            base grid also has two convolutions and whose noise has a strength per channel.
    """

    image_size: tuple[int, int] = (256, 256)
    channels: tuple[int, ...] = (512, 512, 512, 512, 256, 128, 64)
    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 8
    mapping_rate: float = 0.01
    filter: tuple[float, ...] = (1.0, 3.0, 3.0, 1.0)
    picture_filter: tuple[float, ...] = (1.0, 3.0, 3.0, 1.0)
    clamp: float = 0.0
    upsampling: str = "fir"

    def __post_init__(self) -> None:
        _check_shape(self)
        if self.upsampling not in UPSAMPLINGS:
            raise ConfigError(f"expected one of {UPSAMPLINGS}, got {self.upsampling!r}", argument="upsampling")
        if not (math.isfinite(self.mapping_rate) and self.mapping_rate > 0):
            raise ConfigError(f"expected a number above 0, got {self.mapping_rate}", argument="mapping_rate")
        if not (math.isfinite(self.clamp) and self.clamp >= 0):
            raise ConfigError(f"expected a number above 0, or 0.0 for none, got {self.clamp}", argument="clamp")
        for name, taps in (("filter", self.filter), ("picture_filter", self.picture_filter)):
            if len(taps) % 2 or taps != taps[::-1] or not 0 < sum(taps) < math.inf:
                raise ConfigError(
                    f"expected an even number of symmetric taps, their sum above 0, got {taps}", argument=name
                )


@dataclass(frozen=True)
class EncoderConfig:
    """The shape of an `ImageEncoder`.

    Attributes:
        image_size: Height and width of the pictures.
        channels: Channels after each halving, from the picture downwards to the base grid.
        w_dim: Width of the latent that it predicts.
        hidden: Width of the layer before it.
        point_channels: Channels that are read at each point of the body.
        wave_channels: Learnt channels whose waves along the body are measured.
        pose_height: Height of the level at which waves are measured.
    """

    image_size: tuple[int, int] = (128, 96)
    channels: tuple[int, ...] = (24, 48, 96, 128, 160, 160)
    w_dim: int = 384
    hidden: int = 512
    point_channels: int = 48
    wave_channels: int = 16
    pose_height: int = 64

    def __post_init__(self) -> None:
        _check_shape(self)


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The shape of a `PoseDiscriminator`.

    Attributes:
        image_size: Height and width of the pictures.
        channels: Channels at each level, from the base grid upwards.
        num_labels: K, the classes of the segmentation that it sees beside the picture.
        group_size: Samples whose spread it is told (minibatch standard deviation).
    """

    image_size: tuple[int, int] = (128, 96)
    channels: tuple[int, ...] = (160, 160, 128, 96, 64, 32)
    num_labels: int = 12
    group_size: int = 4

    def __post_init__(self) -> None:
        _check_shape(self)


@dataclass(frozen=True)
class ProjectedDiscriminatorConfig:
    """The shape of a `ProjectedDiscriminator`.

    Attributes:
        image_size: Height and width of the pictures.
        num_labels: K, the classes of the segmentation that it sees beside the picture.
        channels: Channels of the mixed features at each scale.
        hidden: Channels within the heads.
        seed: Of the random mixing.
        weights: Where the feature network's weights come from: "bundled", the path of the published file (see
            `styletryon.features.EfficientNetFeatures`), or "random" for random ones, which are of use to tests alone.
    """

    image_size: tuple[int, int] = (128, 96)
    num_labels: int = 12
    channels: int = 64
    hidden: int = 64
    seed: int = 0
    weights: str = "bundled"

    def __post_init__(self) -> None:
        if len(self.image_size) != 2 or min(self.image_size) < 1:
            raise ConfigError(f"expected a positive height and width, got {self.image_size}", argument="image_size")
        for name in ("num_labels", "channels", "hidden"):
            if getattr(self, name) < 1:
                raise ConfigError(f"expected at least 1, got {getattr(self, name)}", argument=name)
        if not self.weights:
            raise ConfigError('expected "bundled", "random" or a path, got an empty name', argument="weights")


_WithLevels = GeneratorConfig | StyleGAN2Config | EncoderConfig | DiscriminatorConfig
AnyConfig = _WithLevels | ProjectedDiscriminatorConfig


def level_sizes(image_size: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """Return the size of each level, from the base grid to the picture.

    Args:
        image_size: Height and width of the picture.

    Raises:
        ConfigError: If it is not a base grid (4, 4), (4, 3) or (4, 2) doubled n times.
    """
    height, width = image_size
    for base in BASE_GRIDS:
        doublings = (height // base[0]).bit_length() - 1
        if height >= 4 and (base[0] << doublings, base[1] << doublings) == (height, width):
            return tuple((base[0] << level, base[1] << level) for level in range(doublings + 1))
    raise ConfigError(
        f"expected (4, 4), (4, 3) or (4, 2) doubled n times, such as (128, 96), got {image_size}",
        argument="image_size",
    )


def to_dict(config: AnyConfig) -> dict[str, Any]:
    """Return a configuration as plain data for JSON."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(config).items()}


def from_dict(kind: type[_Config], data: Mapping[str, Any]) -> _Config:
    """Build a configuration from plain data.

    Args:
        kind: The configuration's class.
        data: What `to_dict` returned, perhaps through JSON. Missing keys take their defaults.

    Raises:
        ConfigError: If a key is unknown or a value has the wrong type.
    """
    known = {item.name: item for item in fields(kind)}
    unknown = sorted(set(data) - set(known))
    if unknown:
        raise ConfigError(
            f"expected keys among {sorted(known)}, got unknown {unknown}; "
            "was the file written by a newer styletryon?",
            argument=kind.__name__,
        )
    values: dict[str, Any] = {}
    for key, value in data.items():
        default = known[key].default
        restored = tuple(value) if isinstance(default, tuple) and isinstance(value, list) else value
        if type(restored) is not type(default):
            raise ConfigError(f"expected {type(default).__name__}, got {value!r}", argument=f"{kind.__name__}.{key}")
        values[key] = restored
    return kind(**values)


def _check_shape(config: _WithLevels) -> None:
    """Check that every number is positive and that there are channels for each level."""
    for item in fields(config):
        if item.name == "background":  # black is a colour
            continue
        value = getattr(config, item.name)
        numbers = value if isinstance(value, tuple) else (value,)
        for number in numbers:
            if isinstance(number, int) and not isinstance(number, bool) and number < 1:
                raise ConfigError(f"expected positive whole numbers, got {value}", argument=item.name)
    levels = level_sizes(config.image_size)
    if len(config.channels) != len(levels):
        raise ConfigError(
            f"expected {len(levels)} numbers, one per level of {config.image_size}, got {config.channels}",
            argument="channels",
        )
