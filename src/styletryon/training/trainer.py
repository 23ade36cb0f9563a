"""Training of a generator: by reconstruction, adversarially, or one after the other."""

from __future__ import annotations

import copy
import json
import logging
import os
from collections.abc import Mapping
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from styletryon.data import Batch
from styletryon.errors import CheckpointError, ConfigError, ProcessGroupError
from styletryon.models import PoseDiscriminator, PoseStyleGAN2, ProjectedDiscriminator
from styletryon.training import objectives
from styletryon.training.adaptive import AugmentationController
from styletryon.training.checkpoints import load_optimizer
from styletryon.training.config import Stage, TrainingConfig
from styletryon.training.distributed import BatchSplit
from styletryon.training.ema import WeightAverage, decay_of_half_life
from styletryon.training.gradients import GradientAccumulator, encode
from styletryon.training.loading import BatchLoader, Dataset, GarmentSwap, MicroBatch, read
from styletryon.training.loop import BaseTrainer
from styletryon.training.precision import Precision, resolve_precision
from styletryon.training.randomness import stream
from styletryon.training.sheets import save_sheets
from styletryon.training.transfer import transfer_weights
from styletryon.training.validation import HELD_OUT, foreground_psnr, held_out_examples, label_iou

_LOGGER = logging.getLogger(__name__)
_CODES = 4096  # pictures whose codes the mapping is fitted to
_MAPPING = 1  # what random numbers are for; see `stream`


@final
class Trainer(BaseTrainer):
    """Trains a generator.

    What a step does follows from the settings and the number of the step alone: random numbers are drawn afresh from
    both. So a run that was stopped and resumed ends, on one CPU, with the very weights of a run that was not.

    Where `torch.distributed` is initialised, the processes share each batch and sum their gradients; the first process
    alone writes files. Neither the number of processes nor `accumulate` changes what a step does, but for rounding.

    Args:
        config: The settings.
        dataset: Pictures to train on.
        out: Folder for checkpoints, log, samples and the finished model.
        held_out: Pictures to validate on; None for none.
        device: "cpu" or "cuda".
        precision: In what format networks run where it is safe: "fp32", "bf16", "fp16", or "auto" for bfloat16 where
            that is faster, and after `resume` for what the run had.
        accumulate: Micro-batches whose gradients make one step: less memory for the same result.
        compile: Whether drawing and encoding are compiled with `torch.compile`; where it fails, the log says why and
            training goes on without.
        keep: Checkpoints to keep, at least 1.
        workers: Threads that read the next batches meanwhile. None for 2 on a CUDA device, else none.

    Attributes:
        generator: The generator (and encoder) being trained.
        discriminator: The discriminator being trained: a `ProjectedDiscriminator` where the settings have `projected`.
        average: The exponential moving average of the generator's weights: what is saved as the model.
        step: Steps done.
        pictures: Pictures seen.
        group: The processes that train together.

    Raises:
        ConfigError: If the data set's size is not the generator's, the batch cannot be shared equally, or a setting has
            no meaning.
        RangeError: If `keep` is below 1 or `workers` below 0.
        ProcessGroupError: If the processes have different settings or data.
    """

    def __init__(
        self,
        config: TrainingConfig,
        dataset: Dataset,
        out: str | os.PathLike[str],
        *,
        held_out: Dataset | None = None,
        device: str | torch.device = "cpu",
        precision: str = "auto",
        accumulate: int = 1,
        compile: bool = False,
        keep: int = 2,
        workers: int | None = None,
    ) -> None:
        if dataset.size != config.generator.image_size:
            raise ConfigError(
                f"expected pictures of {config.generator.image_size}, got {dataset.size}", argument="dataset"
            )
        if accumulate < 1:
            raise ConfigError(f"expected at least 1 micro-batch, got {accumulate}", argument="accumulate")
        super().__init__(out, config.pictures, keep=keep)
        self.config = config
        self.dataset = dataset
        self.held_out = held_out
        self.device = torch.device(device)
        self._split = BatchSplit(config.batch_size, config.unit, self.group.world * accumulate)
        self._check_agreement(accumulate)
        with torch.random.fork_rng(devices=[]):  # weights come from the seed; the caller's random state stays
            torch.default_generator.manual_seed(config.seed)
            generator = PoseStyleGAN2(config.generator, config.encoder)
            discriminator: PoseDiscriminator | ProjectedDiscriminator = (
                PoseDiscriminator(config.discriminator)
                if config.projected is None
                else ProjectedDiscriminator(config.projected)
            )
        self.generator = generator.to(self.device).to(memory_format=torch.channels_last)
        self.discriminator = discriminator.to(self.device).to(memory_format=torch.channels_last)
        self.networks = {"generator": self.generator, "discriminator": self.discriminator}
        self._ema = WeightAverage(self.generator)
        self.average = self._ema.model
        # One pass over the weights instead of seven.
        self.optimizer = torch.optim.Adam(self.generator.parameters(), lr=1.0, betas=(0.5, 0.99), fused=True)
        self.discriminator_optimizer = torch.optim.Adam(
            self.discriminator.parameters(), lr=1.0, betas=(0.0, 0.99), fused=True
        )
        self.path_mean = torch.zeros((), device=self.device)
        self.controller = None if config.adaptive is None else AugmentationController(config.adaptive, self.device)
        self._precision_asked, self._compile = precision, compile
        # The first process measures for all.
        name = self.group.run_on_first(lambda: resolve_precision(precision, self.device).encode()).decode()
        self._use_precision(name)
        first = self.group.rank * accumulate
        on_cuda = self.device.type == "cuda"
        self._loader = BatchLoader(
            dataset, config, self._split, range(first, first + accumulate),
            workers=2 * on_cuda if workers is None else workers, pin=on_cuda,
        )  # fmt: skip

    @property
    def rank(self) -> int:
        """Number of this process; 0 writes files."""
        return self.group.rank

    @property
    def precision(self) -> str:
        """The format in which networks run: "fp32", "bf16" or "fp16"."""
        return self._precision.name

    def _use_precision(self, name: str) -> None:
        self._precision = Precision(name, self.device)
        self._gradients = GradientAccumulator(
            self.generator, self.discriminator, self.config, self._split, self._precision, compile=self._compile
        )

    def _check_agreement(self, accumulate: int) -> None:
        same = json.dumps([self.config.to_dict(), list(self.dataset.ids), accumulate])
        if not self.group.same(same):
            raise ProcessGroupError(
                "expected the same settings and pictures in all processes; copy the data set to every machine",
                argument="training",
            )

    def start_from(self, source: str | os.PathLike[str] | PoseStyleGAN2) -> list[str]:
        """Take over the weights of a trained generator and its encoder wherever names and shapes fit.

        Args:
            source: A folder of `PoseStyleGAN2.save_pretrained`, the name of bundled weights, or a generator.

        Returns:
            Names of what was left at random: `[]` if everything fits. They are logged as well.

        Raises:
            ConfigError: If nothing fits, or steps are done already.
            CheckpointError: If the source cannot be loaded.
            ProcessGroupError: In the other processes, if the first met an error.
        """
        if self.step:
            raise ConfigError(f"expected a run that has not started, got one of {self.step} steps", argument="start")
        left: list[str] = json.loads(
            self.group.run_on_first(lambda: json.dumps(transfer_weights(self.generator, source)).encode())
        )
        self.group.broadcast(list(self.generator.state_dict().values()))
        self.average.load_state_dict(self.generator.state_dict())
        return left

    @property
    def skips_steps(self) -> bool:
        """True in float16, where single steps whose gradients overflow are left out."""
        return self.precision == "fp16"

    def position(self) -> dict[str, int]:
        """Return the stage, for the log."""
        return {"stage": self.stage_index}

    def fault(self) -> str | None:
        """Return why the run cannot go on, where it is not the losses that show it."""
        if self._precision.exhausted:
            return f"float16 overflows at every loss scale down to 1, at step {self.step}"
        return None

    def advice(self) -> str:
        """Return settings with which a run that has diverged may go well."""
        stage = self.config.stages[self.stage_index]
        advice = f"a lower learning_rate (now {stage.learning_rate:g})"
        if stage.adversarial:
            advice += f", a lower discriminator_rate (now {stage.discriminator_rate:g})"
            advice += f", a higher r1 (now {self.config.r1:g})" if self.config.projected is None else ""
        if self.precision != "fp32":
            advice += f", or precision='fp32' (now {self.precision!r})"
        return advice

    def close(self) -> None:
        """Let go of the threads that read ahead."""
        self._loader.close()

    # ------------------------------------------------------------------ a step

    def train_step(self) -> dict[str, Tensor]:
        """Do one step; return its losses, of the whole batch."""
        stage = self.config.stages[self.stage_index]
        if stage.adversarial and self._pictures_into_stage < self.config.batch_size and self.config.mapping_steps:
            if self.group.first:
                self._fit_mapping(self.generator)
            self.group.broadcast([*self.generator.mapper.parameters(), self.generator.w_mean])
        self._set_rates(stage)
        self.optimizer.zero_grad(set_to_none=True)
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        micro_batches = self._loader.load(self.step)
        penalise = self.step % self.config.r1_interval == 0
        strength = 0.0 if self.controller is None else self.controller.strength
        results = [
            self._gradients.accumulate(batch.to(self.device), stage, self.step, penalise=penalise, strength=strength)
            for batch in micro_batches
        ]
        losses = {name: _sum([result.losses[name] for result in results]) for name in results[0].losses}
        values = torch.stack([loss.float() for loss in losses.values()])
        code = _sum([result.code for result in results if result.code is not None])
        weights = [*self.generator.parameters(), *self.discriminator.parameters()]
        self.group.sum_gradients(weights, [values, code])
        self._precision.step(self.optimizer)
        if stage.adversarial:
            self._precision.step(self.discriminator_optimizer)
        self._precision.update()
        losses = dict(zip(losses, values, strict=True))
        if stage.adversarial and self.controller is not None:
            losses["augmentation"] = values.new_tensor(self.controller.strength)
            self.controller.update(losses["real_sign"], batch_size=self.config.batch_size)
        if stage.adversarial and self.config.path_length and self.step % self.config.path_interval == 0:
            losses["path_length"] = self._regularise_paths(micro_batches)
        self._update_average(code)
        self.step += 1
        self.pictures += self.config.batch_size
        return losses

    def _regularise_paths(self, micro_batches: list[MicroBatch]) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        results = [
            self._gradients.accumulate_path_lengths(batch.to(self.device), self.step, self.path_mean)
            for batch in micro_batches
        ]
        values = torch.stack([_sum([penalty for penalty, _ in results]), _sum([length for _, length in results])])
        self.group.sum_gradients(list(self.generator.parameters()), [values])
        self.optimizer.step()
        self.path_mean = self.path_mean.lerp(values[1], 0.01)
        return values[0]

    @torch.no_grad()
    def _update_average(self, code: Tensor) -> None:
        # Where a step may be left out, so may its code.
        if self.precision != "fp16" or bool(torch.isfinite(code).all()):
            self.generator.w_mean.lerp_(code, 0.005)
        decay = decay_of_half_life(self.config.ema, seen=self.pictures, batch_size=self.config.batch_size)
        self._ema.update(self.generator, decay)

    # ------------------------------------------------------------------ where the run stands

    @property
    def stage_index(self) -> int:
        """Number of the stage that the next step belongs to."""
        return self.config.stage_at(self.pictures)

    @property
    def _pictures_into_stage(self) -> int:
        return self.pictures - sum(stage.pictures for stage in self.config.stages[: self.stage_index])

    def _set_rates(self, stage: Stage) -> None:
        schedule, seen = stage.schedule(self.config.batch_size, self.config.warmup), self._pictures_into_stage
        for optimizer, highest in (
            (self.optimizer, stage.learning_rate),
            (self.discriminator_optimizer, stage.discriminator_rate),
        ):
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(highest, seen)

    # ------------------------------------------------------------------ the mapping

    def _fit_mapping(self, generator: PoseStyleGAN2) -> None:
        if generator.encoder is None:
            return
        codes = self._codes(generator)
        generator.w_mean.copy_(codes.mean(dim=0))
        generator.mapper.requires_grad_(True)
        missed = objectives.fit_mapping(
            generator.mapping,
            list(generator.mapper.parameters()),
            codes,
            generator.z_dim,
            steps=self.config.mapping_steps,
            rng=stream(self.config.seed, self.step, _MAPPING),
        )
        _LOGGER.info("fitted the mapping to the codes of %d pictures: %.1f %% missed", len(codes), 100 * missed)

    @torch.no_grad()
    def _codes(self, generator: PoseStyleGAN2) -> Tensor:
        """Return the codes of some pictures of the training set, `(N, w_dim)`."""
        chosen = np.random.default_rng(self.config.seed).permutation(len(self.dataset))[:_CODES]
        codes = []
        for part in np.array_split(chosen, max(len(chosen) // 32, 1)):
            examples = read(self.dataset, part).to(self.device)
            with self._precision.autocast():
                codes.append(encode(generator, examples, None)[0].float())
        return torch.cat(codes)

    # ------------------------------------------------------------------ validation

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Reconstruct held-out pictures, and try on.

        Returns:
            `val_fg_psnr` in dB over the person, `val_label_iou`, and `val_tryon_psnr` where try-ons are trained;
            nothing without held-out pictures or without an encoder.
        """
        if self.held_out is None or self.average.encoder is None:
            return {}
        examples = held_out_examples(self.held_out, self.device)
        drawing = self.average.synthesize(encode(self.average, examples, None)[1], examples.pose)
        found = {
            "val_fg_psnr": foreground_psnr(drawing, examples.images, examples.labels),
            "val_label_iou": label_iou(drawing.labels, examples.labels),
        }
        if self.config.tryons and self.held_out.has_tryons:
            chosen = self.held_out.tryons(HELD_OUT, np.random.default_rng(self.config.seed))
            truth, person, garment = (
                read(self.held_out, part).to(self.device) for part in (chosen.truths, chosen.people, chosen.garments)
            )
            swap = GarmentSwap(torch.arange(HELD_OUT, device=self.device), garment, chosen.regions)
            _, styles = encode(self.average, person, swap)
            worn = self.average.synthesize(styles, truth.pose)
            found["val_tryon_psnr"] = foreground_psnr(worn, truth.images, truth.labels)
        return found

    def draw_samples(self) -> None:
        """Write the sample sheets of this step; see `styletryon.training.sheets.draw_sheets`."""
        save_sheets(self.average, self._held_out_batch(), self.out, self.step)

    def _held_out_batch(self) -> Batch:
        dataset = self.dataset if self.held_out is None else self.held_out
        return dataset.batch(np.arange(min(HELD_OUT, len(dataset))))

    # ------------------------------------------------------------------ checkpoints and model

    def state(self) -> dict[str, Any]:
        """Return everything that the next step depends on.

        There is no state of a random number generator: the numbers of a step follow from the seed and its number.
        """
        return {
            "config": self.config.to_dict(),
            "step": self.step,
            "pictures": self.pictures,
            "path_mean": self.path_mean,
            "adaptive": None if self.controller is None else self.controller.state(),
            "precision": self._precision.state(),
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over a state that `state` returned.

        Raises:
            CheckpointError: If it belongs to other networks.
        """
        try:
            self.generator.load_state_dict(state["generator"])
            self.discriminator.load_state_dict(state["discriminator"])
            self.average.load_state_dict(state["average"])
            load_optimizer(self.optimizer, state["optimizer"])
            load_optimizer(self.discriminator_optimizer, state["discriminator_optimizer"])
            self.step, self.pictures = int(state["step"]), int(state["pictures"])
            self.path_mean = state["path_mean"].to(self.device)
            if self.controller is not None and state.get("adaptive") is not None:
                self.controller.load(state["adaptive"])
            precision = state.get("precision")  # none in checkpoints of version 0.1
            if precision is not None:
                if self._precision_asked == "auto" and precision["name"] != self.precision:
                    self._use_precision(precision["name"])
                self._precision.load(precision)
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"it does not fit the settings of this run: {error}", argument="checkpoint"
            ) from error

    def save_settings(self) -> None:
        """Write the settings: `out / "training.json"`, which `TrainingConfig.load` reads."""
        self.config.save(self.out / "training.json")

    def finish(self) -> None:
        """Write the averaged weights as a model: `out / "model"`, which `PoseStyleGAN2.from_pretrained` loads."""
        model = copy.deepcopy(self.average)
        if self.config.mapping_steps:
            self._fit_mapping(model)
        model.to(memory_format=torch.contiguous_format)
        model.save_pretrained(self.out / "model")


def _sum(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.stack(parts).sum(dim=0)
