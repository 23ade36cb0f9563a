"""The settings of a training run, plain data that `training.json` holds."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from styletryon._files import write_text
from styletryon.errors import ConfigError
from styletryon.models import DiscriminatorConfig, EncoderConfig, GeneratorConfig, ProjectedDiscriminatorConfig
from styletryon.models.config import from_dict, to_dict
from styletryon.training.adaptive import AdaptiveAugmentation
from styletryon.training.perceptual import PerceptualReconstruction
from styletryon.training.schedule import Schedule


@dataclass(frozen=True)
class Stage:
    """A part of a training run with objectives of its own.

    Attributes:
        pictures: How many pictures it sees.
        num_levels: Levels of the generator that draw; 0 for all, -1 for all but the last.
        reconstruction: Weight of the reconstruction through the encoder; 0 for none.
        adversarial: Weight of the generator's adversarial loss; 0 for no discriminator.
        learning_rate: Of generator and encoder.
        discriminator_rate: Of the discriminator.
        decay: The last share of the stage over which the learning rates fall linearly.
        final_rate: Share of the learning rates that is left at the end of the stage.
    """

    pictures: int
    num_levels: int = 0
    reconstruction: float = 1.0
    adversarial: float = 0.0
    learning_rate: float = 2e-3
    discriminator_rate: float = 1e-3
    decay: float = 0.0
    final_rate: float = 0.05

    def schedule(self, batch_size: int, warmup: int) -> Schedule:
        """Return how the learning rates rise and fall over the stage.

        Args:
            batch_size: Pictures a step.
            warmup: Steps over which they rise.
        """
        return Schedule(self.pictures, batch_size, warmup, decay=self.decay, final_rate=self.final_rate)


@dataclass(frozen=True)
class TrainingConfig:
    """The settings of a training run.

    Attributes:
        generator: The generator's numbers.
        encoder: The encoder's numbers; None trains by the adversarial loss alone, as the paper does.
        discriminator: The discriminator's numbers.
        projected: The numbers of a discriminator on pretrained features, which then stands in its place; None for none.
        perceptual: How pretrained features take part in the reconstruction; None for not at all.
        stages: What is done one after another.
        batch_size: Pictures a step.
        cross_pose: Probability that a picture is reconstructed from another pose of the same style.
        tryons: Share of each batch that is drawn as a try-on: a person's style, moved towards another's by the
            generator's channel masks, against a picture of the person in the other's clothes. Needs a data set with
            ``tryons.json`` and a generator with `garment_shares`.
        flip: Probability of mirroring.
        geometry: Probability of turning, scaling and shifting what is reconstructed, a little and in stages without a
            discriminator; see `styletryon.training.augmentation.Augmentation`.
        colour: Probability of changing its colours, likewise.
        adaptive: How much what the discriminator sees is changed at random, so that it does not learn a small set by
            heart; None for not at all.
        r1: Weight of the R1 penalty.
        r1_interval: Steps from one R1 penalty to the next (lazy regularisation).
        path_length: Weight of the path-length penalty.
        path_interval: Steps from one path-length penalty to the next.
        style_mixing: Probability that a drawing judged by the discriminator mixes two styles.
        ema: Pictures after which the average of the weights has forgotten half.
        warmup: Steps over which the learning rate rises at the start of each stage.
        mapping_steps: Steps that fit the mapping to the encoder's codes; 0 leaves the mapping to the adversarial loss.
        seed: Seeds weights, order, augmentation and noise.
    """

    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    encoder: EncoderConfig | None = field(default_factory=EncoderConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    projected: ProjectedDiscriminatorConfig | None = None
    perceptual: PerceptualReconstruction | None = None
    stages: tuple[Stage, ...] = (Stage(pictures=100_000),)
    batch_size: int = 8
    cross_pose: float = 0.7
    tryons: float = 0.0
    flip: float = 0.5
    geometry: float = 0.0
    colour: float = 0.0
    adaptive: AdaptiveAugmentation | None = None
    r1: float = 2.0
    r1_interval: int = 16
    path_length: float = 0.0
    path_interval: int = 8
    style_mixing: float = 0.5
    ema: float = 4000.0
    warmup: int = 50
    mapping_steps: int = 1500
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.stages:
            raise ConfigError("expected at least one stage, got none", argument="stages")
        if not 0 <= self.tryons <= 1:
            raise ConfigError(f"expected a share in [0, 1], got {self.tryons}", argument="tryons")
        for name in ("flip", "geometry", "colour"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"expected a probability in [0, 1], got {getattr(self, name)}", argument=name)
        if self.tryons and not (self.generator.garment_shares and self.encoder is not None):
            raise ConfigError(
                "they need an encoder and a generator with garment_shares=True; or set tryons=0", argument="tryons"
            )
        if self.projected is not None and self.projected.image_size != self.generator.image_size:
            raise ConfigError(
                f"expected the generator's size, {self.generator.image_size}, got {self.projected.image_size}",
                argument="projected.image_size",
            )
        for stage in self.stages:
            if stage.pictures < self.batch_size:
                raise ConfigError(
                    f"expected at least {self.batch_size} pictures each, got {stage.pictures}", argument="stages"
                )
            if stage.reconstruction and self.encoder is None:
                raise ConfigError(
                    "a reconstruction needs an encoder; set reconstruction=0 or encoder", argument="stages"
                )
            if not stage.reconstruction and not stage.adversarial:
                raise ConfigError("expected a reconstruction or an adversarial weight, got neither", argument="stages")
            if stage.adversarial and stage.num_levels:
                raise ConfigError("the discriminator judges whole pictures; set num_levels=0", argument="stages")

    @property
    def unit(self) -> int:
        """Samples of a batch that belong together: the discriminator compares them, or someone computes them alone."""
        return self.discriminator.group_size if any(stage.adversarial for stage in self.stages) else 1

    def stage_at(self, pictures: int) -> int:
        """Return the number of the stage that a step belongs to, after so many pictures."""
        end = 0
        for index, stage in enumerate(self.stages):
            end += stage.pictures
            if pictures < end:
                return index
        return len(self.stages) - 1

    @property
    def pictures(self) -> int:
        """Pictures seen in the whole run."""
        return sum(stage.pictures for stage in self.stages)

    def scaled(self, pictures: int) -> TrainingConfig:
        """Return the same run stretched or shortened to a number of pictures."""
        factor = pictures / self.pictures
        stages = tuple(
            replace(stage, pictures=max(round(stage.pictures * factor), self.batch_size)) for stage in self.stages
        )
        return replace(self, stages=stages)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        plain = {item.name: getattr(self, item.name) for item in fields(self)}
        plain["generator"] = to_dict(self.generator)
        plain["encoder"] = None if self.encoder is None else to_dict(self.encoder)
        plain["discriminator"] = to_dict(self.discriminator)
        plain["projected"] = None if self.projected is None else to_dict(self.projected)
        plain["perceptual"] = None if self.perceptual is None else asdict(self.perceptual)
        plain["adaptive"] = None if self.adaptive is None else asdict(self.adaptive)
        plain["stages"] = [asdict(stage) for stage in self.stages]
        return plain

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the settings as JSON, atomically; `load` reads them.

        Args:
            path: Name of the file; its folder is made where it does not exist.

        Raises:
            SaveError: If it cannot be written.
        """
        write_text(path, json.dumps(self.to_dict(), indent=2) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TrainingConfig:
        """Read settings that `save` wrote, or the ``training.json`` of a run.

        Args:
            path: Name of the file.

        Raises:
            ConfigError: If there is no such file, it is no JSON, a key is unknown or missing, or a value has no
                meaning.
        """
        try:
            data: Any = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"expected a JSON file of settings, got {os.fspath(path)!r}: {error}", argument="config"
            ) from error
        if not isinstance(data, dict):
            raise ConfigError(
                f"expected a JSON object in {os.fspath(path)!r}, got {type(data).__name__}", argument="config"
            )
        return cls.from_dict(data)

    def changed(self, **values: Any) -> TrainingConfig:
        """Return the settings with some values changed, as plain data: ``changed(**{"generator.w_dim": 256})``.

        Args:
            **values: Name -> value; a dot leads into a part, and a number into the stages (``"stages.0.pictures"``).

        Raises:
            ConfigError: If a name is unknown or a value has no meaning.
        """
        plain = json.loads(json.dumps(self.to_dict()))
        for name, value in values.items():
            *path, last = name.split(".")
            part = plain
            for key in path:
                part = _inside(part, key, name)
            _inside(part, last, name)
            part[int(last) if isinstance(part, list) else last] = value
        return type(self).from_dict(plain)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TrainingConfig:
        """Build the settings from plain data.

        Raises:
            ConfigError: If a key is unknown or a value has no meaning.
        """
        unknown = sorted(set(data) - {item.name for item in fields(cls)})
        if unknown:
            raise ConfigError(f"training settings: unknown {unknown}; was the file written by a newer styletryon?")
        values = dict(data)
        try:
            values["generator"] = from_dict(GeneratorConfig, data["generator"])
            values["encoder"] = None if data["encoder"] is None else from_dict(EncoderConfig, data["encoder"])
            values["discriminator"] = from_dict(DiscriminatorConfig, data["discriminator"])
            projected, perceptual = data.get("projected"), data.get("perceptual")
            values["projected"] = None if projected is None else from_dict(ProjectedDiscriminatorConfig, projected)
            values["perceptual"] = None if perceptual is None else PerceptualReconstruction(**perceptual)
            adaptive = data.get("adaptive")
            values["adaptive"] = None if adaptive is None else AdaptiveAugmentation(**adaptive)
            values["stages"] = tuple(Stage(**stage) for stage in data["stages"])
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise ConfigError(f"training settings: expected what to_dict returns: {error}") from error


def _inside(part: Any, key: str, name: str) -> Any:
    """Return what stands at a key of plain data."""
    try:
        return part[int(key) if isinstance(part, list) else key]
    except (KeyError, ValueError, IndexError, TypeError) as error:
        known = f"one of {sorted(part)}" if isinstance(part, dict) else f"a number below {len(part)}" \
            if isinstance(part, list) else "nothing below a plain value"  # fmt: skip
        raise ConfigError(f"expected {known}, got {key!r}", argument=name) from error


def _reconstruction_then_adversarial(half: int, full: int, adversarial: int) -> tuple[Stage, ...]:
    """Half size, full size, then the adversarial finish: what measured best at small compute."""
    return (
        Stage(half, num_levels=-1),
        Stage(full, decay=0.4, final_rate=0.05),
        Stage(adversarial, adversarial=0.04, learning_rate=4e-4, discriminator_rate=6e-4, decay=0.5),
    )


def _tiny() -> TrainingConfig:
    return TrainingConfig(
        generator=GeneratorConfig((32, 24), (16, 16, 16, 8), z_dim=16, w_dim=16, mapping_layers=2, pose_channels=8),
        encoder=EncoderConfig((32, 24), (8, 8, 16, 16), w_dim=16, hidden=16, point_channels=4, wave_channels=2),
        discriminator=DiscriminatorConfig((32, 24), (16, 16, 16, 8), group_size=2),
        stages=_reconstruction_then_adversarial(800, 900, 300),
        batch_size=4,
        path_length=2.0,
        path_interval=4,
        r1_interval=4,
        ema=100.0,
        warmup=5,
        mapping_steps=20,
    )


PRESETS: Mapping[str, TrainingConfig] = {
    "paperdoll": TrainingConfig(
        generator=GeneratorConfig(garment_shares=True),
        stages=_reconstruction_then_adversarial(52_000, 285_000, 8_000),
        tryons=0.5,
    ),
    "pictures": TrainingConfig(stages=_reconstruction_then_adversarial(52_000, 285_000, 8_000)),
    "street": TrainingConfig(
        generator=GeneratorConfig(garment_shares=True),
        stages=(
            Stage(60_000, learning_rate=1e-3, decay=0.4),
            Stage(20_000, adversarial=0.04, learning_rate=4e-4, discriminator_rate=6e-4, decay=0.5),
        ),
        geometry=0.5,
        colour=0.3,
        adaptive=AdaptiveAugmentation(pictures=10_000),
    ),
    "large": TrainingConfig(
        generator=GeneratorConfig(
            (256, 192), (160, 160, 128, 96, 64, 32, 16), garment_shares=True, background=(255, 255, 255)
        ),
        projected=ProjectedDiscriminatorConfig((256, 192)),
        perceptual=PerceptualReconstruction(weight=0.2, finest=1),
        stages=(
            Stage(64_000, num_levels=-1, learning_rate=8e-4, decay=0.4),
            Stage(53_500, learning_rate=6e-4, decay=0.4),
            Stage(9_200, adversarial=0.04, learning_rate=4e-4, discriminator_rate=2e-3, decay=0.4),
        ),
        tryons=0.375,
        geometry=0.3,
        colour=0.2,
        adaptive=AdaptiveAugmentation(pictures=10_000),
    ),
    "adversarial": TrainingConfig(
        encoder=None,
        stages=(Stage(pictures=1_000_000, reconstruction=0.0, adversarial=1.0),),
        path_length=2.0,
        mapping_steps=0,
        ema=10_000.0,
    ),
    "tiny": _tiny(),
}
"""Settings by name.

"paperdoll": reconstruction through an encoder and try-ons of known truth (where the bundled weights end), then an
adversarial finish. "pictures": the same for pictures of which no try-on is known. "street": "pictures" for a small set
of photographs, about a thousand, that starts from other weights: shorter, and with augmentation of what is
reconstructed and, adaptively, of what the discriminator sees. "large": 256x192, grown from the bundled weights, on
figures and photographs, finished against a discriminator on pretrained features. "adversarial": the adversarial loss
alone, as the paper trains. "tiny": seconds long, to try the machinery.
"""


def preset(name: str) -> TrainingConfig:
    """Return the settings of a name.

    Raises:
        ConfigError: If the name is unknown.
    """
    if name not in PRESETS:
        raise ConfigError(f"expected one of {sorted(PRESETS)}, got {name!r}", argument="preset")
    return PRESETS[name]
