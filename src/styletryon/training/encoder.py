"""Training of an image encoder for a generator that stays as it is, so that its projections start from a good guess."""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from styletryon._files import write_text
from styletryon.errors import CheckpointError, ConfigError
from styletryon.generator import GeneratorOutput
from styletryon.labels import NUM_LABELS
from styletryon.models import EncoderConfig, GeneratorConfig, ImageEncoder, PoseStyleGAN2
from styletryon.models.config import level_sizes, to_dict
from styletryon.photo import from_uint8, save_image
from styletryon.pose import Pose
from styletryon.training import objectives
from styletryon.training.augmentation import Augmentation, draw_change
from styletryon.training.checkpoints import load_optimizer
from styletryon.training.ema import WeightAverage, decay_of_half_life
from styletryon.training.loading import Dataset, Examples, cross_pose_sources, read, read_splits
from styletryon.training.loop import BaseTrainer
from styletryon.training.precision import Precision, prefers_bf16
from styletryon.training.randomness import stream
from styletryon.training.schedule import Schedule
from styletryon.training.sheets import held_out_sheet
from styletryon.training.validation import foreground_psnr, held_out_examples

_SHOWN = 12  # pictures on a sheet
_SAMPLE_EVERY = 1000  # steps from one measurement of held-out pictures to the next
_DEVIATION_SAMPLES = 4096  # random z that tell the spread of w
_CHANNELS = (8, 12, 16, 24, 48, 96, 128, 160, 160)  # from 1024 pixels of height downwards


@dataclass(frozen=True)
class EncoderTrainingConfig:
    """The settings of the training of an encoder.

    Attributes:
        pictures: How many pictures of the data set are seen.
        batch_size: Pictures a step.
        learning_rate: Adam's, at its highest.
        schedule: How the learning rate falls over the run, "cosine" or "linear".
        final_rate: Share of the learning rate that is left at the end.
        warmup: Steps over which the learning rate rises at the start.
        cross_pose: Probability that a picture is reconstructed from another pose of the same style, where the data set
            has such.
        drawings: Drawings of the generator from random z beside each picture of a batch. What w they have is known, so
            the encoder learns it outright. 0 for none.
        codes: Weight of the error of these w, as a share of the variance of w.
        flip: Probability of mirroring.
        ema: Pictures after which the average of the weights has forgotten half.
        seed: Seeds weights, order, augmentation and z.

    Raises:
        ConfigError: If a number has no meaning.
    """

    pictures: int = 100_000
    batch_size: int = 8
    learning_rate: float = 2e-3
    schedule: Literal["cosine", "linear"] = "cosine"
    final_rate: float = 0.02
    warmup: int = 50
    cross_pose: float = 0.7
    drawings: float = 0.25
    codes: float = 0.5
    flip: float = 0.5
    ema: float = 2000.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.schedule not in ("cosine", "linear"):
            raise ConfigError(f"expected 'cosine' or 'linear', got {self.schedule!r}", argument="schedule")
        if self.batch_size < 1 or self.pictures < self.batch_size:
            raise ConfigError(
                f"expected at least 1, and pictures for one batch, got {self.batch_size} and "
                f"{self.pictures}",
                argument="batch_size, pictures",
            )
        for name in ("cross_pose", "drawings", "flip", "final_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"expected a share in [0, 1], got {getattr(self, name)}", argument=name)
        for name in ("codes", "ema", "warmup", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"expected 0 or more, got {getattr(self, name)}", argument=name)
        if not 0 < self.learning_rate < math.inf:
            raise ConfigError(f"expected a number above 0, got {self.learning_rate}", argument="learning_rate")

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return -(-self.pictures // self.batch_size)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, which counts from 0."""
        schedule = Schedule(
            self.steps * self.batch_size, self.batch_size, self.warmup, self.schedule, final_rate=self.final_rate
        )
        return schedule.rate(self.learning_rate, step * self.batch_size)


def encoder_config(generator: GeneratorConfig) -> EncoderConfig:
    """Return the numbers of an encoder for a generator: those of the bundled one at its size.

    Args:
        generator: The generator's numbers.
    """
    levels = len(level_sizes(generator.image_size))
    channels = (_CHANNELS[0],) * (levels - len(_CHANNELS)) + _CHANNELS[-levels:]
    return EncoderConfig(generator.image_size, channels, w_dim=generator.w_dim)


@final
class EncoderTrainer(BaseTrainer):
    """Trains an image encoder for a generator whose weights stay as they are.

    Pictures are reconstructed through the generator; beside them the encoder learns the known w of the generator's own
    drawings. What a step does follows from the settings and the number of the step alone, so a run that was stopped
    and resumed ends, on one CPU, with the very weights of a run that was not. One process trains.

    Args:
        generator: The generator; a copy of it is used.
        config: The settings.
        dataset: Pictures to train on.
        out: Folder for checkpoints, log, samples and the finished model.
        encoder: The encoder's numbers. None for those of the generator's encoder, or of the bundled one if it has none.
        fresh: Whether to start anew where the generator has an encoder of these numbers. Otherwise it is trained on.
        held_out: Pictures to validate on; None for none.
        device: "cpu" or "cuda".
        bf16: Whether networks run in bfloat16 where it is safe.

    Attributes:
        generator: The generator without an encoder, frozen.
        encoder: The encoder being trained.
        average: The exponential moving average of its weights: what is saved.
        continued: Whether the training began with the generator's own encoder.
        step: Steps done.

    Raises:
        ConfigError: If the data set's pictures or the encoder's numbers do not fit the generator.
    """

    def __init__(
        self,
        generator: PoseStyleGAN2,
        config: EncoderTrainingConfig,
        dataset: Dataset,
        out: str | os.PathLike[str],
        *,
        encoder: EncoderConfig | None = None,
        fresh: bool = False,
        held_out: Dataset | None = None,
        device: str | torch.device = "cpu",
        bf16: bool = True,
    ) -> None:
        own = generator.encoder
        numbers = encoder or (encoder_config(generator.config) if own is None else own.config)
        _check_fit(generator, numbers, dataset)
        super().__init__(out, config.steps * config.batch_size)
        self.config = config
        self.dataset = dataset
        self.held_out = held_out
        self.device = torch.device(device)
        self._precision = Precision("bf16" if bf16 else "fp32", self.device)
        self.generator = copy.deepcopy(generator).to(self.device).eval().requires_grad_(False)
        self.generator.encoder = None
        self._fingerprint = self.generator.fingerprint
        self._deviation = self._measure_deviation()
        self.continued = own is not None and own.config == numbers and not fresh
        self.encoder = copy.deepcopy(own) if own is not None and self.continued else self._new_encoder(numbers)
        self.encoder = self.encoder.to(self.device).to(memory_format=torch.channels_last).train().requires_grad_(True)
        self.networks = {"encoder": self.encoder}
        self._ema = WeightAverage(self.encoder)
        self.average = self._ema.model
        # One pass over the weights instead of seven.
        self.optimizer = torch.optim.Adam(self.encoder.parameters(), lr=1.0, betas=(0.9, 0.99), fused=True)

    # ------------------------------------------------------------------ a step

    def train_step(self) -> dict[str, Tensor]:
        """Do one step; return its losses."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.rate(self.step)
        rng = stream(self.config.seed, self.step, 0)
        target, source = self._batches(rng)
        known = self._draw_known(target.pose, rng)
        images, pose = source.images, source.pose
        if known is not None:
            images = torch.cat([images, known.images])
            pose = Pose(torch.cat([pose.keypoints, known.pose.keypoints]), pose.size)
        with self._precision.autocast():
            codes = self.encoder(images, pose)
            drawing = self.generator.synthesize(self.generator.affine(codes[: len(source.pose)]), target.pose)
        losses = objectives.reconstruction(drawing, target.images, target.labels, target.pose)
        if known is not None:
            losses["codes"] = self.config.codes * self._code_error(codes[len(source.pose) :], known.w)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(list(losses.values()))
        self.optimizer.step()
        self.step += 1
        self.pictures += self.config.batch_size
        decay = decay_of_half_life(self.config.ema, seen=self.pictures, batch_size=self.config.batch_size)
        self._ema.update(self.encoder, decay)
        return {name: loss.detach() for name, loss in losses.items()}

    # ------------------------------------------------------------------ pictures and drawings

    def _batches(self, rng: torch.Generator) -> tuple[Examples, Examples]:
        """Return what is drawn, and the pictures to read: mostly the same people and clothes in other poses."""
        config = self.config
        targets = self.dataset.drawn(config.batch_size, config.seed, self.step)
        draw = np.random.default_rng([config.seed, self.step])
        sources = cross_pose_sources(self.dataset, targets, config.cross_pose, draw)
        change = draw_change(len(targets), Augmentation(flip=config.flip), generator=rng)
        target, source = (read(self.dataset, chosen, change).to(self.device) for chosen in (targets, sources))
        return target, source

    @torch.no_grad()
    def _draw_known(self, pose: Pose, rng: torch.Generator) -> _Known | None:
        """Draw random people in the first poses."""
        count = math.ceil(self.config.drawings * len(pose)) if self.config.codes else 0
        if count == 0:
            return None
        z = torch.randn(count, self.generator.z_dim, generator=rng).to(self.device)
        w = self.generator.mapping(z).float()
        with self._precision.autocast():
            drawing = self.generator.synthesize(self.generator.affine(w), pose[:count])
        return _Known(drawing.image.float().clamp(-1, 1), pose[:count], w)

    def _code_error(self, codes: Tensor, w: Tensor) -> Tensor:
        """Return the squared error of w as a share of its variance."""
        return (codes.float() - w).square().sum(dim=1).mean() / self._deviation.square().sum()

    @torch.no_grad()
    def _measure_deviation(self) -> Tensor:
        """Return the standard deviation of each number of w, `(w_dim,)`."""
        z = torch.randn(_DEVIATION_SAMPLES, self.generator.z_dim, generator=torch.Generator().manual_seed(0))
        return self.generator.mapping(z.to(self.device)).float().std(dim=0).clamp(min=1e-8)

    def _new_encoder(self, numbers: EncoderConfig) -> ImageEncoder:
        """Make an encoder whose first guesses lie where the generator's w do."""
        with torch.random.fork_rng(devices=[]):  # weights come from the seed; the caller's random state stays
            torch.default_generator.manual_seed(self.config.seed)
            encoder = ImageEncoder(numbers)
        with torch.no_grad():
            encoder.out.weight.mul_(self._deviation.cpu()[:, None])
            if encoder.out.bias is not None:
                encoder.out.bias.copy_(self.generator.w_mean)
        return encoder

    # ------------------------------------------------------------------ validation

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Reconstruct held-out pictures.

        Returns:
            `val_fg_psnr` over the person and `val_frame_psnr` over the frame, in dB; nothing without such pictures.
        """
        if self.held_out is None:
            return {}
        examples = held_out_examples(self.held_out, self.device)
        drawing = self._reconstruct(examples.images, examples.pose)
        return {
            "val_fg_psnr": foreground_psnr(drawing, examples.images, examples.labels),
            "val_frame_psnr": foreground_psnr(drawing, examples.images, torch.ones_like(examples.labels)),
        }

    @torch.no_grad()
    def draw_samples(self) -> None:
        """Write a sheet: held-out pictures, what the generator draws from the encoder's guesses, and labels of both."""
        dataset = self.dataset if self.held_out is None else self.held_out
        batch = dataset.batch(np.arange(min(_SHOWN, len(dataset))))
        drawing = self._reconstruct(from_uint8(batch.images.to(self.device)), batch.pose.to(self.device))
        save_image(held_out_sheet(batch, drawing), self.out / "samples" / f"step-{self.step:07d}.png")

    def _reconstruct(self, images: Tensor, pose: Pose) -> GeneratorOutput:
        return self.generator.synthesize(self.generator.affine(self.average(images, pose)), pose)

    # ------------------------------------------------------------------ checkpoints and model

    def state(self) -> dict[str, Any]:
        """Return everything that the next step depends on, but for the generator and the data."""
        return {
            "settings": self._settings(),
            "step": self.step,
            "encoder": self.encoder.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over a state that `state` returned.

        Raises:
            CheckpointError: If it belongs to another generator, or to a run of other settings.
        """
        try:
            theirs, ours = state["settings"], self._settings()
            wrong = sorted(name for name in {*theirs, *ours} if theirs.get(name) != ours.get(name))
            if wrong:
                raise CheckpointError(
                    f"expected that of a run with the same settings, got another {', '.join(wrong)}; "
                    "repeat the options of the run, or choose another folder",
                    argument="checkpoint",
                )
            self.encoder.load_state_dict(state["encoder"])
            self.average.load_state_dict(state["average"])
            load_optimizer(self.optimizer, state["optimizer"])
            self.step = int(state["step"])
            self.pictures = self.step * self.config.batch_size
        except (KeyError, AttributeError, RuntimeError, TypeError) as error:
            raise CheckpointError(f"expected that of an encoder's training: {error}", argument="checkpoint") from error

    def model(self) -> PoseStyleGAN2:
        """Return the generator, bit for bit as it came, with the encoder as it stands, on the CPU."""
        model = copy.deepcopy(self.generator).cpu()
        model.encoder = copy.deepcopy(self.average).cpu().to(memory_format=torch.contiguous_format)
        return model

    def finish(self) -> None:
        """Write the model: `out / "model"`, which `PoseStyleGAN2.from_pretrained` loads."""
        self.model().save_pretrained(self.out / "model")

    def _settings(self) -> dict[str, Any]:
        return {
            **asdict(self.config),
            "encoder": to_dict(self.encoder.config),
            "continued": self.continued,
            "generator": self._fingerprint,
        }

    def save_settings(self) -> None:
        """Write the settings: `out / "encoder.json"`."""
        write_text(self.out / "encoder.json", json.dumps(self._settings(), indent=2) + "\n")


class _Known(NamedTuple):
    """Drawings whose w is known."""

    images: Tensor
    pose: Pose
    w: Tensor


def _check_fit(generator: PoseStyleGAN2, numbers: EncoderConfig, dataset: Dataset) -> None:
    if (numbers.image_size, numbers.w_dim) != (generator.image_size, generator.w_dim):
        raise ConfigError(
            f"expected image_size {generator.image_size} and w_dim {generator.w_dim}, the generator's, got "
            f"{numbers.image_size} and {numbers.w_dim}",
            argument="encoder",
        )
    if dataset.size != generator.image_size:
        raise ConfigError(
            f"expected pictures of {generator.image_size}, the generator's, got {dataset.size}", argument="dataset"
        )
    if generator.num_labels < NUM_LABELS:
        raise ConfigError(
            f"expected one that draws the {NUM_LABELS} classes of the data set's labels, got "
            f"{generator.num_labels}",
            argument="generator",
        )


def train_encoder(
    model: str | os.PathLike[str] | PoseStyleGAN2,
    data: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    config: EncoderTrainingConfig | None = None,
    encoder: EncoderConfig | None = None,
    fresh: bool = False,
    resume: bool = False,
    minutes: float | None = None,
    device: str | torch.device = "cpu",
    precision: str = "auto",
    progress: bool = True,
) -> bool:
    """Train an image encoder for a generator, which stays bit for bit as it is.

    Args:
        model: The generator: the name of bundled weights, a folder of `save_pretrained`, or itself. With or without an
            encoder.
        data: Folder or zip of pictures; see `styletryon.data.FolderDataset`.
        out: Folder for checkpoints, log, samples and the finished model.
        config: The settings; `EncoderTrainingConfig()` if None.
        encoder: The encoder's numbers. None for those of the generator's encoder, or of the bundled one if it has none.
        fresh: Whether to start anew where the generator has an encoder of these numbers. Otherwise it is trained on.
        resume: Go on from the newest checkpoint in `out`; everything else must be as it was.
        minutes: Stop after this long, with a checkpoint.
        device: "cpu" or "cuda".
        precision: "bf16", "fp32", or "auto" for what is faster here.
        progress: Whether a progress bar is shown on standard error.

    Returns:
        Whether the run is complete; the generator with its encoder then stands in `out/model`.

    Raises:
        DataError: If the data set is incomplete, or has fewer pictures than a batch.
        ConfigError: If `out` holds a run already and `resume` is false, a setting has no meaning, or the encoder's
            numbers do not fit the generator.
        CheckpointError: If the generator cannot be loaded, or no checkpoint of the same run can be resumed.
        TrainingDivergedError: If a loss is not finite.
        KeyboardInterrupt: After an interrupt; a checkpoint stands.
    """
    if precision not in ("auto", "bf16", "fp32"):
        raise ConfigError(f"expected 'auto', 'bf16' or 'fp32', got {precision!r}", argument="precision")
    settings = config if config is not None else EncoderTrainingConfig()
    generator = model if isinstance(model, PoseStyleGAN2) else PoseStyleGAN2.from_pretrained(model)
    dataset, held_out = read_splits(data, size=generator.image_size, batch_size=settings.batch_size)
    bf16 = prefers_bf16(device) if precision == "auto" else precision == "bf16"
    trainer = EncoderTrainer(
        generator, settings, dataset, out, encoder=encoder, fresh=fresh, held_out=held_out, device=device, bf16=bf16
    )
    trainer.begin(resume=resume)
    return trainer.train(minutes=minutes, progress=progress, sample_every=_SAMPLE_EVERY)
