"""The training loop: the same for reconstruction, adversarial training, and one after the other."""

from __future__ import annotations

import copy
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import torch
from torch import Tensor

from styletryon.data import Batch, FolderDataset, JoinedDataset
from styletryon.errors import CheckpointError, ConfigError, ProcessGroupError, TrainingDivergedError
from styletryon.generator import GeneratorOutput
from styletryon.models import PoseDiscriminator, PoseStyleGAN2
from styletryon.photo import from_uint8
from styletryon.training import objectives
from styletryon.training.adaptive import Steering
from styletryon.training.callbacks import Callbacks, TrainingCallback
from styletryon.training.checkpoints import CheckpointFolder, load_state
from styletryon.training.config import Stage, TrainingConfig
from styletryon.training.distributed import Division, Group
from styletryon.training.divergence import Losses, Watch, means
from styletryon.training.feeding import Exchange, Feeder, Share, read
from styletryon.training.interrupts import interrupts
from styletryon.training.learning import Learner, encode
from styletryon.training.logging import LOG_NAME, MetricsLog, ProgressLine
from styletryon.training.precision import Precision, choose
from styletryon.training.randomness import stream
from styletryon.training.sheets import save_sheets
from styletryon.training.starting import take_over

_LOGGER = logging.getLogger(__name__)
_CODES = 4096  # pictures whose codes the mapping is fitted to
_HELD_OUT = 32  # pictures on which a run is judged while it goes on
_MAPPING = 1  # what random numbers are for; see `stream`


class Trainer:
    """Trains a generator, and everything that it takes to go on after an interruption.

    What a step does follows from the settings and the number of the step alone: random numbers are drawn afresh from
    both. So a run that was stopped and resumed ends, on one CPU, with the very weights of a run that was not.

    Where `torch.distributed` is initialised, the processes share each batch and sum their gradients; the first process
    alone writes files. Neither the number of processes nor `accumulate` changes what a step does, but for rounding.

    Args:
        config: The settings.
        dataset: Pictures to train on.
        out: Folder for checkpoints, log, samples and the finished model.
        held_out: Pictures to judge by; None for none.
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
        average: The exponential moving average of its weights: what is saved as the model.
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
        dataset: FolderDataset | JoinedDataset,
        out: str | os.PathLike[str],
        *,
        held_out: FolderDataset | JoinedDataset | None = None,
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
        self.config = config
        self.dataset = dataset
        self.held_out = held_out
        self.out = Path(out)
        self.device = torch.device(device)
        self.checkpoints = CheckpointFolder(self.out / "checkpoints", keep=keep)
        self.group = Group()
        self._division = Division(config.batch_size, config.unit, self.group.world * accumulate)
        self._check_agreement(accumulate)
        with torch.random.fork_rng(devices=[]):  # weights come from the seed; the caller's random state stays
            torch.default_generator.manual_seed(config.seed)
            generator = PoseStyleGAN2(config.generator, config.encoder)
            discriminator = PoseDiscriminator(config.discriminator)
        self.generator = generator.to(self.device).to(memory_format=torch.channels_last)
        self.discriminator = discriminator.to(self.device).to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.generator).eval().requires_grad_(False)
        # One pass over the weights instead of seven.
        self.optimizer = torch.optim.Adam(self.generator.parameters(), lr=1.0, betas=(0.5, 0.99), fused=True)
        self.discriminator_optimizer = torch.optim.Adam(
            self.discriminator.parameters(), lr=1.0, betas=(0.0, 0.99), fused=True
        )
        self.step = 0
        self.pictures = 0
        self.path_mean = torch.zeros((), device=self.device)
        self.steering = None if config.adaptive is None else Steering(config.adaptive, self.device)
        self._precision_asked, self._compile = precision, compile
        # The first process measures for all.
        self._use_precision(self.group.from_first(lambda: choose(precision, self.device).encode()).decode())
        first = self.group.rank * accumulate
        on_cuda = self.device.type == "cuda"
        self._feeder = Feeder(
            dataset, config, self._division, range(first, first + accumulate),
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
        self._learner = Learner(
            self.generator, self.discriminator, self.config, self._division, self._precision, compile=self._compile
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
            self.group.from_first(lambda: json.dumps(take_over(self.generator, source)).encode())
        )
        self.group.share(list(self.generator.state_dict().values()))
        self.average.load_state_dict(self.generator.state_dict())
        return left

    # ------------------------------------------------------------------ the loop

    def train(
        self,
        *,
        minutes: float | None = None,
        steps: int | None = None,
        progress: ProgressLine | None = None,
        callbacks: Iterable[TrainingCallback] = (),
        log_every: int = 100,
        save_minutes: float = 5.0,
        sample_every: int = 2000,
    ) -> bool:
        """Go on until the run is complete, time or steps are up, or the user interrupts.

        A checkpoint stands at the end in every case but an error. An interrupt (Ctrl-C, SIGTERM) ends the step in hand
        first.

        Args:
            minutes: Stop after this long; None for no limit.
            steps: Stop after this many steps more; None for no limit.
            progress: Where progress is shown; None for nowhere.
            callbacks: What else is told of it; of several processes in the first alone.
            log_every: Steps from one line of the log to the next.
            save_minutes: Minutes from one checkpoint to the next; 0 saves after every step.
            sample_every: Steps from one sample sheet to the next.

        Returns:
            Whether the run is complete; the finished model then stands in `out / "model"`.

        Raises:
            TrainingDivergedError: If a loss is not finite, or the discriminator has collapsed (see
                `styletryon.training.divergence.Watch`); the last good checkpoint still stands.
            ProcessGroupError: If another process has died or fallen silent.
            SaveError: If a file cannot be written.
            KeyboardInterrupt: After an interrupt, once the checkpoint is written.
        """
        hooks = Callbacks(callbacks if self.group.first else ())
        run = self._prepare(hooks, progress)
        last_step = None if steps is None else self.step + steps
        deadline = None if minutes is None else time.monotonic() + 60 * minutes
        complete = False
        hooks.call(lambda callback: callback.on_start(self))
        try:
            with interrupts() as interrupted:
                while self.pictures < self.config.pictures and (last_step is None or self.step < last_step):
                    late = deadline is not None and time.monotonic() > deadline
                    due = run.clock.since_save() > 60 * save_minutes
                    stop, save = self.group.any(interrupted() or late or hooks.error is not None, due)
                    if stop:
                        break
                    if save:
                        self._keep(run, when_suspicious=False)
                    run.losses.add(self.step + 1, self.train_step())
                    if self.step % log_every == 0:
                        self._look(run)
                        self._tell(run, sample=self.step % sample_every < log_every)
                        run.losses.clear()
                self._keep(run, when_suspicious=True)
                complete = self.pictures >= self.config.pictures
                if complete:
                    self.finish()
                if interrupted():
                    raise KeyboardInterrupt
        finally:
            self._feeder.close()
            hooks.call(lambda callback: callback.on_end(self, complete))
        if hooks.error is not None:
            raise hooks.error
        return complete

    def _prepare(self, hooks: Callbacks, progress: ProgressLine | None) -> _Run:
        log = None
        if self.group.first:
            log = MetricsLog(self.out / LOG_NAME, resume=self.step)
            self.config.save(self.out / "training.json")
        watch = Watch(skips=self.precision == "fp16")
        return _Run(hooks, log, progress, Losses(), watch, _Clock(self.pictures))

    def _look(self, run: _Run) -> None:
        """Give the run up if it is no longer well."""
        fault = run.watch.look(run.losses.rows())
        if fault is None and self._precision.exhausted:
            fault = f"float16 overflows at every loss scale down to 1, at step {self.step}"
        if fault is not None:
            self._give_up(fault)

    def _keep(self, run: _Run, *, when_suspicious: bool) -> None:
        """Save a checkpoint, if the weights are good."""
        self._look(run)
        if run.watch.suspicious and not when_suspicious:
            _LOGGER.warning("step %d is not saved: the discriminator may have collapsed", self.step)
            run.clock.saved()
            return
        for name, network in (("generator", self.generator), ("discriminator", self.discriminator)):
            if not all(bool(torch.isfinite(norm)) for norm in torch._foreach_norm(list(network.parameters()))):
                self._give_up(f"a weight of the {name} is not finite at step {self.step}")
        self.save(replace=not run.watch.suspicious)
        run.clock.saved()
        path = self.checkpoints.file(self.step)
        run.hooks.call(lambda callback: callback.on_checkpoint(self, path))

    def _tell(self, run: _Run, *, sample: bool) -> None:
        """Add a row to the log, and samples where they are due."""
        if run.log is None:
            return
        found = means(run.losses.rows())
        row = {"pictures": self.pictures, "stage": self.stage_index, "rate": run.clock.rate(self.pictures), **found}
        if sample:
            row |= self.judge()
            self.draw_samples()
            run.hooks.call(lambda callback: callback.on_sample(self))
        run.log.append(self.step, row)
        if run.progress is not None:
            run.progress.update(self.step, pictures=self.pictures, losses=found)
        told = {"step": self.step, **row}
        run.hooks.call(lambda callback: callback.on_log(self, told))

    def _give_up(self, fault: str) -> NoReturn:
        stage = self.config.stages[self.stage_index]
        advice = f"a lower learning_rate (now {stage.learning_rate:g})"
        if stage.adversarial:
            advice += f", a lower discriminator_rate (now {stage.discriminator_rate:g}), a higher r1 (now "
            advice += f"{self.config.r1:g})"
        if self.precision != "fp32":
            advice += f", or precision='fp32' (now {self.precision!r})"
        saved = self.checkpoints.steps()
        again = "there is no checkpoint yet; start again"
        if saved:
            again = f"the last good checkpoint is that of step {saved[-1]} in {self.checkpoints.path}; resume it"
        raise TrainingDivergedError(f"{fault}; {again} with {advice}", argument="training")

    # ------------------------------------------------------------------ a step

    def train_step(self) -> dict[str, Tensor]:
        """Do one step; return its losses, of the whole batch."""
        stage = self.config.stages[self.stage_index]
        if stage.adversarial and self._pictures_into_stage < self.config.batch_size and self.config.mapping_steps:
            if self.group.first:
                self._fit_mapping(self.generator)
            self.group.share([*self.generator.mapper.parameters(), self.generator.w_mean])
        self._set_rates(stage)
        self.optimizer.zero_grad(set_to_none=True)
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        shares = self._feeder.take(self.step)
        penalise = self.step % self.config.r1_interval == 0
        strength = 0.0 if self.steering is None else self.steering.strength
        lessons = [
            self._learner.learn(share.to(self.device), stage, self.step, penalise=penalise, strength=strength)
            for share in shares
        ]
        losses = {name: _sum([lesson.losses[name] for lesson in lessons]) for name in lessons[0].losses}
        values = torch.stack([loss.float() for loss in losses.values()])
        code = _sum([lesson.code for lesson in lessons if lesson.code is not None])
        weights = [*self.generator.parameters(), *self.discriminator.parameters()]
        self.group.sum_gradients(weights, [values, code])
        self._precision.step(self.optimizer)
        if stage.adversarial:
            self._precision.step(self.discriminator_optimizer)
        self._precision.update()
        losses = dict(zip(losses, values, strict=True))
        if stage.adversarial and self.steering is not None:
            losses["augmentation"] = values.new_tensor(self.steering.strength)
            self.steering.see(losses["real_sign"], batch_size=self.config.batch_size)
        if stage.adversarial and self.config.path_length and self.step % self.config.path_interval == 0:
            losses["path_length"] = self._regularise_paths(shares)
        self._update_average(code)
        self.step += 1
        self.pictures += self.config.batch_size
        return losses

    def _regularise_paths(self, shares: list[Share]) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        taught = [self._learner.learn_paths(share.to(self.device), self.step, self.path_mean) for share in shares]
        values = torch.stack([_sum([penalty for penalty, _ in taught]), _sum([length for _, length in taught])])
        self.group.sum_gradients(list(self.generator.parameters()), [values])
        self.optimizer.step()
        self.path_mean = self.path_mean.lerp(values[1], 0.01)
        return values[0]

    @torch.no_grad()
    def _update_average(self, code: Tensor) -> None:
        # Where a step may be left out, so may its code.
        if self.precision != "fp16" or bool(torch.isfinite(code).all()):
            self.generator.w_mean.lerp_(code, 0.005)
        # A short memory at the start, so that the average is not held back by the random weights.
        half_life = min(self.config.ema, 0.05 * self.pictures)
        keep = 0.5 ** (self.config.batch_size / max(half_life, 1e-6))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.generator.parameters()), 1 - keep)
        for target, value in zip(self.average.buffers(), self.generator.buffers(), strict=True):
            target.copy_(value)

    # ------------------------------------------------------------------ where the run stands

    @property
    def stage_index(self) -> int:
        """Number of the stage that the next step belongs to."""
        return self.config.stage_at(self.pictures)

    @property
    def _pictures_into_stage(self) -> int:
        return self.pictures - sum(stage.pictures for stage in self.config.stages[: self.stage_index])

    def _set_rates(self, stage: Stage) -> None:
        into = self._pictures_into_stage
        warm = min(1.0, (into / self.config.batch_size + 1) / max(self.config.warmup, 1))
        left = (stage.pictures - into) / stage.pictures
        fall = 1.0
        if stage.decay and left < stage.decay:
            fall = stage.final_rate + (1 - stage.final_rate) * left / stage.decay
        for optimizer, rate in (
            (self.optimizer, stage.learning_rate),
            (self.discriminator_optimizer, stage.discriminator_rate),
        ):
            for group in optimizer.param_groups:
                group["lr"] = rate * warm * fall

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

    # ------------------------------------------------------------------ looking at it

    @torch.no_grad()
    def judge(self) -> dict[str, float]:
        """Reconstruct held-out pictures, and try on; return foreground PSNR in dB and mean label IoU."""
        if self.held_out is None or self.average.encoder is None:
            return {}
        batch = self._held_out_batch()
        drawing = self._reconstruct(batch)
        images = from_uint8(batch.images.to(self.device))
        labels = batch.labels.to(self.device)
        drawn = drawing.labels
        overlaps = [
            ((drawn == label) & (labels == label)).sum() / ((drawn == label) | (labels == label)).sum()
            for label in torch.unique(labels)
        ]
        found = {
            "val_fg_psnr": _foreground_psnr(drawing, images, labels),
            "val_label_iou": float(torch.stack(overlaps).mean()),
        }
        if self.config.tryons and self.held_out.has_tryons:
            chosen = self.held_out.tryons(_HELD_OUT, np.random.default_rng(self.config.seed))
            truth, person, garment = (
                read(self.held_out, part).to(self.device) for part in (chosen.truths, chosen.people, chosen.garments)
            )
            exchange = Exchange(torch.arange(_HELD_OUT, device=self.device), garment, chosen.regions)
            _, styles = encode(self.average, person, exchange)
            worn = self.average.synthesize(styles, truth.pose)
            found["val_tryon_psnr"] = _foreground_psnr(worn, truth.images, truth.labels)
        return found

    def draw_samples(self) -> None:
        """Write the sample sheets of this step; see `styletryon.training.sheets.draw_sheets`."""
        save_sheets(self.average, self._held_out_batch(), self.out, self.step)

    def _held_out_batch(self) -> Batch:
        dataset = self.dataset if self.held_out is None else self.held_out
        return dataset.batch(np.arange(min(_HELD_OUT, len(dataset))))

    def _styles(self, batch: Batch) -> tuple[Tensor, ...]:
        if self.average.encoder is None:
            raise ConfigError("the generator has no encoder", argument="encoder")
        images = from_uint8(batch.images.to(self.device))
        return self.average.affine(self.average.encoder(images, batch.pose))

    def _reconstruct(self, batch: Batch) -> GeneratorOutput:
        return self.average.synthesize(self._styles(batch), batch.pose)

    # ------------------------------------------------------------------ keeping it

    def state(self) -> dict[str, Any]:
        """Return everything that the next step depends on.

        There is no state of a random number generator: the numbers of a step follow from the seed and its number.
        """
        return {
            "config": self.config.to_dict(),
            "step": self.step,
            "pictures": self.pictures,
            "path_mean": self.path_mean,
            "adaptive": None if self.steering is None else self.steering.state(),
            "precision": self._precision.state(),
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
        }

    def save(self, *, replace: bool = True) -> None:
        """Write a checkpoint.

        Args:
            replace: Whether old ones may go for it.

        Raises:
            SaveError: If it cannot be written; the earlier ones still stand.
        """
        if self.group.first:
            self.checkpoints.save(self.step, self.state(), replace=replace)

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over a state that `state` returned.

        Raises:
            CheckpointError: If it belongs to other networks.
        """
        try:
            self.generator.load_state_dict(state["generator"])
            self.discriminator.load_state_dict(state["discriminator"])
            self.average.load_state_dict(state["average"])
            _load_optimizer(self.optimizer, state["optimizer"])
            _load_optimizer(self.discriminator_optimizer, state["discriminator_optimizer"])
            self.step, self.pictures = int(state["step"]), int(state["pictures"])
            self.path_mean = state["path_mean"].to(self.device)
            if self.steering is not None and state.get("adaptive") is not None:
                self.steering.load(state["adaptive"])
            precision = state.get("precision")  # none in checkpoints of version 0.1
            if precision is not None:
                if self._precision_asked == "auto" and precision["name"] != self.precision:
                    self._use_precision(precision["name"])
                self._precision.load(precision)
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"it does not fit the settings of this run: {error}", argument="checkpoint"
            ) from error

    def resume(self) -> bool:
        """Go on from the newest whole checkpoint in `out`; return whether there was one.

        The first process reads it for all, so that all go on from the same step, whichever files they see.

        Raises:
            CheckpointError: If all are damaged, or belong to other networks.
            ProcessGroupError: In the other processes, if the first met an error.
        """
        found: list[tuple[int, dict[Any, Any]]] = []

        def newest() -> bytes:
            latest = self.checkpoints.latest()
            if latest is None:
                return b""
            found.append(latest)
            return self.checkpoints.file(latest[0]).read_bytes() if self.group.world > 1 else b""

        content = self.group.from_first(newest)
        if self.group.first:
            if found:
                self.load(found[0][1])
            return bool(found)
        if content:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "state.safetensors"
                file.write_bytes(content)
                self.load(load_state(file))
        return bool(content)

    def finish(self) -> None:
        """Write the averaged weights as a model: `out / "model"`, which `PoseStyleGAN2.from_pretrained` loads."""
        if not self.group.first:
            return
        model = copy.deepcopy(self.average)
        if self.config.mapping_steps:
            self._fit_mapping(model)
        model.to(memory_format=torch.contiguous_format)
        model.save_pretrained(self.out / "model")


class _Clock:
    """When what was done last."""

    def __init__(self, pictures: int) -> None:
        self._saved = self._logged = time.monotonic()
        self._pictures = pictures

    def since_save(self) -> float:
        return time.monotonic() - self._saved

    def saved(self) -> None:
        self._saved = time.monotonic()

    def rate(self, pictures: int) -> float:
        """Return the pictures a second since the last call."""
        now = time.monotonic()
        rate = (pictures - self._pictures) / max(now - self._logged, 1e-9)
        self._logged, self._pictures = now, pictures
        return rate


class _Run(NamedTuple):
    """What a call of `Trainer.train` keeps at hand."""

    hooks: Callbacks
    log: MetricsLog | None
    progress: ProgressLine | None
    losses: Losses
    watch: Watch
    clock: _Clock


def _sum(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.stack(parts).sum(dim=0)


def _load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load a state, which may come from an optimizer that was not fused, into one that is."""
    groups = [{**group, "fused": True} for group in state["param_groups"]]
    optimizer.load_state_dict({**state, "param_groups": groups})
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if value.shape == parameter.shape:
                # The fused step walks through memory: moments must lie there as their weights do, or they would be
                # mixed up without a word.
                values[name] = torch.empty_like(parameter).copy_(value)


def _foreground_psnr(drawing: GeneratorOutput, images: Tensor, labels: Tensor) -> float:
    """Return the mean over pictures of the PSNR in dB where the labels show the person."""
    person = (labels != 0)[:, None].float()
    error = ((drawing.image.clamp(-1, 1) - images) / 2).square().mean(dim=1, keepdim=True)
    error = (error * person).sum(dim=(1, 2, 3)) / person.sum(dim=(1, 2, 3)).clamp(min=1)
    return float((-10 * error.clamp(min=1e-8).log10()).mean())
