"""The training loop: the same for reconstruction, adversarial training, and one after the other."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed
from torch.nn import functional as F

from styletryon._files import write_atomically
from styletryon.data.folder import Batch, FolderDataset, batch_indices
from styletryon.drawing import Drawing
from styletryon.errors import CheckpointError, ConfigError, DataError, TrainingDivergedError
from styletryon.labels import REGIONS
from styletryon.latent import Styles
from styletryon.models import PoseDiscriminator, PoseStyleGAN2
from styletryon.pose import Pose
from styletryon.training import objectives
from styletryon.training.adaptive import NUMBERS, Steering, adaptive_change
from styletryon.training.augmentation import Augmentation, Change, draw_change
from styletryon.training.callbacks import Callbacks, TrainingCallback
from styletryon.training.checkpoints import CheckpointFolder
from styletryon.training.config import Stage, TrainingConfig
from styletryon.training.curves import CurvesCallback
from styletryon.training.logging import LOG_NAME, MetricsLog, ProgressLine
from styletryon.training.sheets import save_sheets
from styletryon.training.starting import take_over

_LOGGER = logging.getLogger(__name__)
_CODES = 4096  # pictures whose codes the mapping is fitted to
_HELD_OUT = 32  # pictures on which a run is judged while it goes on


class Trainer:
    """Trains a generator, and everything that it takes to go on after an interruption.

    What a step does follows from the settings and the number of the step alone: random numbers are drawn afresh from
    both. So a run that was stopped and resumed ends, on one CPU, with the very weights of a run that was not.

    Where `torch.distributed` is initialised, the processes share each batch and average their gradients; the first
    process alone writes files.

    Args:
        config: The settings.
        dataset: Pictures to train on.
        out: Folder for checkpoints, log, samples and the finished model.
        held_out: Pictures to judge by; None for none.
        device: "cpu" or "cuda".
        bf16: Whether networks run in bfloat16 where it is safe.

    Attributes:
        generator: The generator (and encoder) being trained.
        average: The exponential moving average of its weights: what is saved as the model.
        step: Steps done.
        pictures: Pictures seen.

    Raises:
        ConfigError: If the data set's size is not the generator's.
    """

    def __init__(
        self,
        config: TrainingConfig,
        dataset: FolderDataset,
        out: str | os.PathLike[str],
        *,
        held_out: FolderDataset | None = None,
        device: str | torch.device = "cpu",
        bf16: bool = True,
    ) -> None:
        if dataset.size != config.generator.image_size:
            raise ConfigError(f"dataset: expected pictures of {config.generator.image_size}, got {dataset.size}")
        self.config = config
        self.dataset = dataset
        self.held_out = held_out
        self.out = Path(out)
        self.device = torch.device(device)
        self.bf16 = bf16
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
        self.rank, self.world = 0, 1
        if distributed.is_available() and distributed.is_initialized():
            self.rank, self.world = distributed.get_rank(), distributed.get_world_size()
        if config.batch_size % self.world:
            raise ConfigError(
                f"batch_size: expected a multiple of the {self.world} processes that share it, got {config.batch_size}"
            )
        self.step = 0
        self.pictures = 0
        self.path_mean = torch.zeros((), device=self.device)
        self.steering = None if config.adaptive is None else Steering(config.adaptive, self.device)
        self.checkpoints = CheckpointFolder(self.out / "checkpoints")

    def start_from(self, source: str | os.PathLike[str] | PoseStyleGAN2) -> list[str]:
        """Take over the weights of a trained generator and its encoder wherever names and shapes fit.

        Args:
            source: A folder of `PoseStyleGAN2.save_pretrained`, the name of bundled weights, or a generator.

        Returns:
            Names of what was left at random: `[]` if everything fits. They are logged as well.

        Raises:
            ConfigError: If nothing fits, or steps are done already.
            CheckpointError: If the source cannot be loaded.
        """
        if self.step:
            raise ConfigError(f"start: expected a run that has not started, got one of {self.step} steps")
        left = take_over(self.generator, source)
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

        A checkpoint stands at the end in every case. An interrupt (Ctrl-C, SIGTERM) ends the step in hand first.

        Args:
            minutes: Stop after this long; None for no limit.
            steps: Stop after this many steps more; None for no limit.
            progress: Where progress is shown; None for nowhere.
            callbacks: What else is told of it; of several processes in the first alone.
            log_every: Steps from one line of the log to the next.
            save_minutes: Minutes from one checkpoint to the next.
            sample_every: Steps from one sample sheet to the next.

        Returns:
            Whether the run is complete; the finished model then stands in `out / "model"`.

        Raises:
            TrainingDivergedError: If a loss is not finite; the checkpoint before it still stands.
            KeyboardInterrupt: After an interrupt, once the checkpoint is written.
        """
        log = None
        hooks = Callbacks(callbacks if self.rank == 0 else ())
        if self.rank == 0:
            log = MetricsLog(self.out / LOG_NAME, resume=self.step)
            self._write_settings()
        last_step = None if steps is None else self.step + steps
        started = saved = logged = time.monotonic()
        seen, sums, complete = self.pictures, _Means(), False
        hooks.call(lambda callback: callback.on_start(self))
        try:
            with _interrupts() as interrupted:
                while self.pictures < self.config.pictures and (last_step is None or self.step < last_step):
                    if self._agree(hooks.error is not None):
                        break
                    losses = self.train_step()
                    sums.add(losses)
                    now = time.monotonic()
                    if self.step % log_every == 0:
                        means = sums.take()
                        self._check_finite(means)
                    if log is not None and self.step % log_every == 0:
                        rate = (self.pictures - seen) / (now - logged)
                        row = {"pictures": self.pictures, "stage": self.stage_index, "rate": rate, **means}
                        if self.step % sample_every < log_every:
                            row |= self.judge()
                            self.draw_samples()
                            hooks.call(lambda callback: callback.on_sample(self))
                        log.append(self.step, row)
                        logged, seen = now, self.pictures
                        if progress is not None:
                            progress.update(self.step, pictures=self.pictures, losses=means)
                        told = {"step": self.step, **row}
                        hooks.call(lambda callback, told=told: callback.on_log(self, told))  # type: ignore[misc]
                    if now - saved > 60 * save_minutes:
                        self._check_finite(sums.peek())
                        self._save_and_tell(hooks)
                        saved = now
                    if self._agree(interrupted() or (minutes is not None and now - started > 60 * minutes)):
                        break
                self._check_finite(sums.peek())
                self._save_and_tell(hooks)
                complete = self.pictures >= self.config.pictures
                if complete:
                    self.finish()
                if interrupted():
                    raise KeyboardInterrupt
        finally:
            hooks.call(lambda callback: callback.on_end(self, complete))
        if hooks.error is not None:
            raise hooks.error
        return complete

    def _save_and_tell(self, hooks: Callbacks) -> None:
        self.save()
        path = self.checkpoints.file(self.step)
        hooks.call(lambda callback: callback.on_checkpoint(self, path))

    def train_step(self) -> dict[str, Tensor]:
        """Do one step; return its losses."""
        stage = self.config.stages[self.stage_index]
        if stage.adversarial and self._pictures_into_stage < self.config.batch_size and self.config.mapping_steps:
            self._fit_mapping(self.generator)
        self._set_rates(stage)
        rng = self._rng(0, self.rank)
        target, source, exchange = self._batches(rng)
        disguise = self._rng(3, self.rank)
        losses: dict[str, Tensor] = {}
        drawings: list[tuple[Drawing, Pose]] = []
        codes: Tensor | None = None
        with self._autocast():
            if self.generator.encoder is not None and stage.reconstruction:
                codes, styles = _encode(self.generator, source, exchange)
                drawing = self.generator.synthesize(styles, target.pose, num_levels=stage.num_levels or None)
                drawings.append((drawing, target.pose))
            if stage.adversarial:
                drawings.append(self._imagine(target.pose, codes, rng))
        if codes is not None:
            self.generator.w_mean.lerp_(codes.detach().mean(dim=0), 0.005)
            terms = objectives.reconstruction(drawings[0][0], *_at_level(target, drawings[0][0]), target.pose)
            losses |= {name: stage.reconstruction * term for name, term in terms.items()}
        ends, gradients = [term for term in losses.values() if term.requires_grad], []
        if stage.adversarial:
            # The discriminator judges the drawings once: the generator learns from the gradient at them, and the
            # discriminator, which the generator's step leaves as it is, from that to its weights.
            leaves = [_leaf(drawing) for drawing, _ in drawings]
            with self._autocast():
                fake = torch.cat(
                    [self._judge(leaf, pose, disguise) for leaf, (_, pose) in zip(leaves, drawings, strict=True)]
                )
            losses["adversarial"] = stage.adversarial * objectives.generator_logistic(fake)
            inputs = [part for leaf in leaves for part in (leaf.image, leaf.logits)]
            gradients = list(torch.autograd.grad(losses["adversarial"], inputs, retain_graph=True))
        drawn = [part for drawing, _ in drawings for part in (drawing.image, drawing.logits)][: len(gradients)]
        self._descend(self.optimizer, [*ends, *drawn], [*[None] * len(ends), *gradients])
        if stage.adversarial and self.config.path_length and self.step % self.config.path_interval == 0:
            losses["path_length"] = self._regularise_paths(target.pose, rng)
        if stage.adversarial:
            losses |= self._train_discriminator(target, fake, disguise)
        self._update_average()
        self.step += 1
        self.pictures += self.config.batch_size
        return {name: loss.detach() for name, loss in losses.items()}

    # ------------------------------------------------------------------ where the run stands

    @property
    def stage_index(self) -> int:
        """Number of the stage that the next step belongs to."""
        end = 0
        for index, stage in enumerate(self.config.stages):
            end += stage.pictures
            if self.pictures < end:
                return index
        return len(self.config.stages) - 1

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

    def _rng(self, *purpose: int) -> torch.Generator:
        seed = np.random.SeedSequence([self.config.seed, self.step, *purpose]).generate_state(2)
        return torch.Generator().manual_seed(int(seed[0]) << 31 ^ int(seed[1]))

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)

    # ------------------------------------------------------------------ data

    def _batches(self, rng: torch.Generator) -> tuple[_Examples, _Examples, _Exchange | None]:
        """Return what is drawn, the same styles (mostly in other poses) to read, and whose clothes the first put on."""
        indices = batch_indices(
            len(self.dataset),
            self.config.batch_size // self.world,
            self.config.seed,
            self.step,
            rank=self.rank,
            world_size=self.world,
        )
        sources, chosen = indices, None
        if self.generator.encoder is not None:
            draw = np.random.default_rng([self.config.seed, self.step, self.rank])
            if self.dataset.has_partners:
                partners = self.dataset.partners(indices, draw)
                sources = np.where(draw.random(len(indices)) < self.config.cross_pose, partners, indices)
            count = round(self.config.tryons * len(indices))
            if count:
                chosen = self.dataset.tryons(count, draw)
                indices = np.concatenate([chosen.truths, indices[len(chosen.truths) :]])
                sources = np.concatenate([chosen.people, sources[len(chosen.people) :]])
        # One change for all, so that the mirrored person still wears the mirrored clothes.
        change = draw_change(len(indices), self._augmentation(), generator=rng)
        target, source = self._read(indices, change), self._read(sources, change)
        if chosen is None:
            return target, source, None
        garments = self._read(chosen.garments, change.first(len(chosen.garments)))
        return target, source, _Exchange(garments, chosen.regions)

    def _augmentation(self) -> Augmentation:
        # What the discriminator takes for real is not changed for good: the generator would learn to draw it.
        adversarial = bool(self.config.stages[self.stage_index].adversarial)
        geometry, colour = (0.0, 0.0) if adversarial else (self.config.geometry, self.config.colour)
        return Augmentation(flip=self.config.flip, geometry=geometry, colour=colour)

    def _read(self, indices: np.ndarray, change: Change, dataset: FolderDataset | None = None) -> _Examples:
        batch = (self.dataset if dataset is None else dataset).batch(indices)
        images = change.images(batch.images.float() / 127.5 - 1)
        keypoints = change.keypoints(batch.keypoints, self.dataset.size)
        return _Examples(images, change.labels(batch.labels), Pose(keypoints, self.dataset.size), self.device)

    # ------------------------------------------------------------------ adversarial training

    def _imagine(self, pose: Pose, codes: Tensor | None, rng: torch.Generator) -> tuple[Drawing, Pose]:
        """Draw random people, some of whom mix two styles; beside a reconstruction a quarter of a batch will do."""
        count = len(pose) if codes is None else max(len(pose) // 4, 1)
        first, second = (
            self.generator.mapping(torch.randn(count, self.generator.z_dim, generator=rng).to(self.device))
            for _ in range(2)
        )
        if codes is None:
            self.generator.w_mean.lerp_(first.detach().float().mean(dim=0), 0.005)
        else:
            second = codes.detach()[torch.randperm(len(codes), generator=rng)[:count]]
        layers = len(self.generator.style_names)
        crossover = torch.randint(1, layers, (count, 1), generator=rng)
        mixed = torch.rand(count, 1, generator=rng) < self.config.style_mixing
        take_second = ((torch.arange(layers) >= crossover) & mixed).to(self.device)
        w = torch.where(take_second[..., None], second[:, None].float(), first[:, None].float())
        return self._draw_with_noise(w, pose[:count], rng), pose[:count]

    def _draw_with_noise(self, w: Tensor, pose: Pose, rng: torch.Generator) -> Drawing:
        """Draw with fresh noise maps, so that the generator learns what noise is for."""
        noise = tuple(
            torch.randn(len(pose), 1, *shape, generator=rng).to(self.device) for shape in self.generator.noise_shapes
        )
        return self.generator.synthesize(self.generator.affine(w), pose, noise=noise)

    def _judge(self, drawing: Drawing, pose: Pose, disguise: torch.Generator) -> Tensor:
        seen = self._disguise(drawing.image.float(), objectives.hard_labels(drawing.logits), pose, disguise)
        judged: Tensor = self.discriminator(*seen)
        return judged

    def _disguise(
        self, images: Tensor, labels: Tensor, pose: Pose, rng: torch.Generator
    ) -> tuple[Tensor, Tensor, Pose]:
        """Change at random what the discriminator is about to see, as strongly as the steering says."""
        if self.steering is None or not self.steering.strength:
            return images, labels, pose
        change = adaptive_change(torch.randn(len(pose), NUMBERS, generator=rng), self.steering.strength)
        return change.apply(images, labels, pose)

    def _train_discriminator(
        self, real: _Examples, fake_logits: Tensor, disguise: torch.Generator
    ) -> dict[str, Tensor]:
        one_hot = objectives.one_hot(real.labels, self.generator.num_labels)
        images, labels, pose = self._disguise(real.images, one_hot, real.pose, disguise)
        with self._autocast():
            real_logits = self.discriminator(images, labels, pose)
        losses = {"discriminator": objectives.discriminator_logistic(real_logits, fake_logits)}
        loss = losses["discriminator"]
        if self.step % self.config.r1_interval == 0:
            inputs = (images.detach().requires_grad_(), labels.requires_grad_())
            # In full precision: second derivatives of bfloat16 are mostly rounding.
            losses["r1"] = objectives.r1_penalty(self.discriminator(*inputs, pose), inputs)
            loss = loss + 0.5 * self.config.r1 * self.config.r1_interval * losses["r1"]
        self._descend(self.discriminator_optimizer, [loss])
        losses |= {"real": real_logits.mean(), "fake": fake_logits.mean()}
        if self.steering is not None:
            losses["real_sign"] = real_logits.sign().mean()
            losses["augmentation"] = real_logits.new_tensor(self.steering.strength)
            self.steering.see(real_logits, batch_size=self.config.batch_size)
        return losses

    def _regularise_paths(self, pose: Pose, rng: torch.Generator) -> Tensor:
        count = max(len(pose) // 2, 1)
        w = self.generator.mapping(torch.randn(count, self.generator.z_dim, generator=rng).to(self.device))
        images = self._draw_with_noise(w, pose[:count], rng).image
        noise = torch.randn(images.shape, generator=rng).to(self.device)
        lengths = objectives.path_lengths(images, w, noise)
        mean = lengths.detach().mean()
        if self.world > 1:
            distributed.all_reduce(mean)
            mean = mean / self.world
        self.path_mean = self.path_mean.lerp(mean, 0.01)
        penalty = (lengths - self.path_mean).square().mean()
        self._descend(self.optimizer, [penalty * self.config.path_length * self.config.path_interval])
        return penalty

    # ------------------------------------------------------------------ weights

    def _descend(
        self, optimizer: torch.optim.Optimizer, ends: Sequence[Tensor], gradients: Sequence[Tensor | None] | None = None
    ) -> None:
        """Take a step down the sum of `ends`, numbers, or tensors with the `gradients` of what follows them."""
        optimizer.zero_grad(set_to_none=True)
        inputs = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
        torch.autograd.backward(list(ends), None if gradients is None else list(gradients), inputs=inputs)
        if self.world > 1:
            self._average_gradients(optimizer)
        optimizer.step()

    def _average_gradients(self, optimizer: torch.optim.Optimizer) -> None:
        parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        # One message instead of one per tensor.
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= self.world
        parts = torch.split(flat, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view(gradient.shape))

    def _agree(self, stop: bool) -> bool:
        """Return whether any process wants to stop, so that all stop after the same step."""
        if self.world == 1:
            return stop
        votes = torch.tensor(float(stop), device=self.device)
        distributed.all_reduce(votes)
        return bool(votes > 0)

    def _update_average(self) -> None:
        # A short memory at the start, so that the average is not held back by the random weights.
        half_life = min(self.config.ema, 0.05 * self.pictures)
        keep = 0.5 ** (self.config.batch_size / max(half_life, 1e-6))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average.parameters()), [p.detach() for p in self.generator.parameters()], 1 - keep
            )
            for target, value in zip(self.average.buffers(), self.generator.buffers(), strict=True):
                target.copy_(value)

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
            rng=self._rng(1),
        )
        _LOGGER.info("fitted the mapping to the codes of %d pictures: %.1f %% missed", len(codes), 100 * missed)

    @torch.no_grad()
    def _codes(self, generator: PoseStyleGAN2) -> Tensor:
        """Return the codes of some pictures of the training set, `(N, w_dim)`."""
        chosen = np.random.default_rng(self.config.seed).permutation(len(self.dataset))[:_CODES]
        codes = []
        for part in np.array_split(chosen, max(len(chosen) // 32, 1)):
            batch = self.dataset.batch(part)
            examples = _Examples(batch.images.float() / 127.5 - 1, batch.labels, batch.pose, self.device)
            with self._autocast():
                codes.append(generator.encoder(examples.images, examples.pose))  # type: ignore[misc]
        return torch.cat(codes)

    # ------------------------------------------------------------------ looking at it

    @torch.no_grad()
    def judge(self) -> dict[str, float]:
        """Reconstruct held-out pictures, and try on; return foreground PSNR in dB and mean label IoU."""
        if self.held_out is None or self.average.encoder is None:
            return {}
        batch = self._held_out_batch()
        drawing = self._reconstruct(batch)
        images = batch.images.to(self.device).float() / 127.5 - 1
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
            still = draw_change(_HELD_OUT, Augmentation(flip=0.0), generator=self._rng(2))
            truth, person, garment = (
                self._read(part, still, self.held_out) for part in (chosen.truths, chosen.people, chosen.garments)
            )
            exchange = _Exchange(garment, chosen.regions)
            _, styles = _encode(self.average, person, exchange)
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
            raise ConfigError("encoder: the generator has no encoder")
        images = batch.images.to(self.device).float() / 127.5 - 1
        return self.average.affine(self.average.encoder(images, batch.pose))

    def _reconstruct(self, batch: Batch) -> Drawing:
        return self.average.synthesize(self._styles(batch), batch.pose)

    # ------------------------------------------------------------------ keeping it

    def state(self) -> dict[str, Any]:
        """Return everything that the next step depends on."""
        return {
            "config": self.config.to_dict(),
            "step": self.step,
            "pictures": self.pictures,
            "path_mean": self.path_mean,
            "adaptive": None if self.steering is None else self.steering.state(),
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
        }

    def save(self) -> None:
        """Write a checkpoint.

        Raises:
            SaveError: If it cannot be written; the earlier ones still stand.
        """
        if self.rank == 0:
            self.checkpoints.save(self.step, self.state())

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
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(f"checkpoint: it does not fit the settings of this run: {error}") from error

    def resume(self) -> bool:
        """Go on from the newest whole checkpoint in `out`; return whether there was one."""
        found = self.checkpoints.latest()
        if found is None:
            return False
        self.load(found[1])
        return True

    def finish(self) -> None:
        """Write the averaged weights as a model: `out / "model"`, which `PoseStyleGAN2.from_pretrained` loads."""
        if self.rank != 0:
            return
        model = copy.deepcopy(self.average)
        if self.config.mapping_steps:
            self._fit_mapping(model)
        model.to(memory_format=torch.contiguous_format)
        model.save_pretrained(self.out / "model")

    def _write_settings(self) -> None:
        text = json.dumps(self.config.to_dict(), indent=2) + "\n"
        write_atomically(self.out / "training.json", lambda path: _write_text(path, text))

    def _check_finite(self, losses: Mapping[str, float]) -> None:
        wrong = [name for name, value in losses.items() if not np.isfinite(value)]
        if wrong:
            raise TrainingDivergedError(
                f"training: the loss {', '.join(wrong)} is not finite at step {self.step}; the checkpoints in "
                f"{self.checkpoints.path} are from before; resume with a lower learning rate or a higher r1"
            )


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


class _Examples:
    """Pictures in [-1, 1] with labels and poses, on a device."""

    def __init__(self, images: Tensor, labels: Tensor, pose: Pose, device: torch.device) -> None:
        self.images = images.to(device)
        self.labels = labels.to(device)
        self.pose = pose.to(device)


class _Exchange:
    """Whose clothes the first people of a batch put on, and which.

    Args:
        garments: Pictures of the wearers.
        regions: The name of each try-on's region.
    """

    def __init__(self, garments: _Examples, regions: tuple[str, ...]) -> None:
        self.garments = garments
        self.regions = regions


def _encode(generator: PoseStyleGAN2, source: _Examples, exchange: _Exchange | None) -> tuple[Tensor, Styles]:
    """Return the codes of the people, and their styles, those of the first moved towards their new clothes."""
    if generator.encoder is None:
        raise ConfigError("encoder: the generator has no encoder")
    if exchange is None:
        codes = generator.encoder(source.images, source.pose)
        return codes, generator.affine(codes)
    count, worn = len(source.pose), exchange.garments
    both = Pose(torch.cat([source.pose.keypoints, worn.pose.keypoints]), source.pose.size)
    codes = generator.encoder(torch.cat([source.images, worn.images]), both)
    shares = [generator.shares(REGIONS[region]) or () for region in exchange.regions]
    styles = []
    for style, *share in zip(generator.affine(codes), *shares, strict=True):
        own, other = style[:count], style[count:]
        styles.append(torch.cat([torch.lerp(own[: len(other)], other, torch.stack(share)), own[len(other) :]]))
    return codes[:count], tuple(styles)


def _foreground_psnr(drawing: Drawing, images: Tensor, labels: Tensor) -> float:
    """Return the mean over pictures of the PSNR in dB where the labels show the person."""
    person = (labels != 0)[:, None].float()
    error = ((drawing.image.clamp(-1, 1) - images) / 2).square().mean(dim=1, keepdim=True)
    error = (error * person).sum(dim=(1, 2, 3)) / person.sum(dim=(1, 2, 3)).clamp(min=1)
    return float((-10 * error.clamp(min=1e-8).log10()).mean())


class _Means:
    """Running means of losses, each over the steps that had it."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[Tensor, int]] = {}

    def add(self, losses: Mapping[str, Tensor]) -> None:
        for name, loss in losses.items():
            total, count = self._sums.get(name, (torch.zeros_like(loss), 0))
            self._sums[name] = (total + loss, count + 1)

    def peek(self) -> dict[str, float]:
        return {name: float(total) / count for name, (total, count) in self._sums.items()}

    def take(self) -> dict[str, float]:
        means = self.peek()
        self._sums.clear()
        return means


def _leaf(drawing: Drawing) -> Drawing:
    """Return the same drawing, where gradients end."""
    return Drawing(drawing.image.detach().requires_grad_(), drawing.logits.detach().requires_grad_())


def _at_level(target: _Examples, drawing: Drawing) -> tuple[Tensor, Tensor]:
    """Return pictures and labels at the size of a drawing."""
    factor = target.images.shape[-1] // drawing.image.shape[-1]
    if factor == 1:
        return target.images, target.labels
    return F.avg_pool2d(target.images, factor), target.labels[:, factor // 2 :: factor, factor // 2 :: factor]


@contextlib.contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a flag; a second one interrupts as usual."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def prefers_bf16(device: str | torch.device) -> bool:
    """Measure whether a convolution is faster in bfloat16 than in float32 on a device."""
    device = torch.device(device)
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    x = torch.zeros(4, 64, 48, 36).to(memory_format=torch.channels_last)
    weight = torch.zeros(64, 64, 3, 3).to(memory_format=torch.channels_last)
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = x.to(dtype), weight.to(dtype)
        best = float("inf")
        for _ in range(4):
            start = time.perf_counter()
            F.conv2d(a, b, padding=1)
            best = min(best, time.perf_counter() - start)
        seconds[dtype] = best
    return seconds[torch.bfloat16] < seconds[torch.float32]


def _join_processes(device: str | torch.device) -> None:
    """Join the process group that torchrun describes in the environment, if there is one."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if torch.device(device).type == "cuda" else "gloo")


def train(
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    config: TrainingConfig,
    start: str | os.PathLike[str] | PoseStyleGAN2 | None = None,
    resume: bool = False,
    minutes: float | None = None,
    device: str | torch.device = "cpu",
    precision: str = "auto",
    progress: bool = True,
    callbacks: Iterable[TrainingCallback] = (),
    log_every: int = 100,
    sample_every: int = 2000,
) -> bool:
    """Train a generator on a folder or zip of pictures.

    Under ``torchrun --nproc-per-node N -m styletryon train ...`` N processes share each batch.

    Args:
        data: Folder or zip; see `styletryon.data.FolderDataset`.
        out: Folder for checkpoints, log, samples and the finished model.
        config: The settings; see `styletryon.training.preset`.
        start: What a new run starts its generator and encoder from, wherever names and shapes fit: a folder of
            `PoseStyleGAN2.save_pretrained`, the name of bundled weights ("default"), or a generator. None starts at
            random. A resumed run has its weights already.
        resume: Go on from the newest checkpoint in `out`.
        minutes: Stop after this long, with a checkpoint.
        device: "cpu" or "cuda".
        precision: "bf16", "fp32", or "auto" for what is faster here.
        progress: Whether a progress line is shown on standard error.
        callbacks: What else is told how it goes; see `TrainingCallback`. The curves are drawn in any case.
        log_every: Steps from one line of the log to the next, at least 1.
        sample_every: Steps from one measurement with sample sheets to the next, at least 1.

    Returns:
        Whether the run is complete; the finished model then stands in `out/model`.

    Raises:
        DataError: If the data set is incomplete.
        ConfigError: If `out` holds a run already and `resume` is false, nothing of `start` fits, or a setting has no
            meaning.
        CheckpointError: If no checkpoint can be resumed, or `start` cannot be loaded.
        TrainingDivergedError: If a loss is not finite.
        KeyboardInterrupt: After an interrupt; a checkpoint stands.
    """
    if log_every < 1 or sample_every < 1:
        raise ConfigError(f"log_every, sample_every: expected at least 1, got {log_every} and {sample_every}")
    if precision not in ("auto", "bf16", "fp32"):
        raise ConfigError(f"precision: expected 'auto', 'bf16' or 'fp32', got {precision!r}")
    size = config.generator.image_size
    dataset = FolderDataset(data, size=size)
    if len(dataset) < config.batch_size:
        raise DataError(f"data: expected at least {config.batch_size} pictures, a batch, got {len(dataset)}")
    if config.tryons and not dataset.has_tryons:
        raise DataError(
            "data: the settings train on try-ons of known truth, but there is no tryons.json; render some with "
            "styletryon paperdoll --tryons, or choose the preset 'pictures'"
        )
    try:
        held_out: FolderDataset | None = FolderDataset(data, size=size, split="val")
    except DataError:
        held_out = None
    _join_processes(device)
    bf16 = prefers_bf16(device) if precision == "auto" else precision == "bf16"
    trainer = Trainer(config, dataset, out, held_out=held_out, device=device, bf16=bf16)
    if resume:
        if not trainer.resume():
            raise CheckpointError(f"out: expected checkpoints to resume from in {os.fspath(out)!r}, got none")
    elif trainer.checkpoints.steps():
        raise ConfigError(f"out: {os.fspath(out)!r} holds a run already; pass resume=True or choose another folder")
    elif start is not None:
        trainer.start_from(start)
    watching: dict[str, Any] = {"callbacks": (CurvesCallback(), *callbacks), "log_every": log_every}
    watching["sample_every"] = sample_every
    if not progress or trainer.rank != 0:
        return trainer.train(minutes=minutes, **watching)
    steps = -(-config.pictures // config.batch_size)
    with ProgressLine(steps, start=trainer.step) as line:
        return trainer.train(minutes=minutes, progress=line, **watching)
