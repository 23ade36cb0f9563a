"""The loop under every trainer: steps, log, checkpoints, limits of time, interrupts and resumption."""

from __future__ import annotations

import logging
import os
import tempfile
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor, nn

from styletryon.errors import CheckpointNotFoundError, ConfigError, TrainingDivergedError
from styletryon.training.callbacks import Callbacks, TrainingCallback
from styletryon.training.checkpoints import CheckpointFolder, load_state
from styletryon.training.distributed import ProcessGroup
from styletryon.training.divergence import DivergenceDetector, LossBuffer, means
from styletryon.training.interrupts import interrupts
from styletryon.training.logging import LOG_NAME, MetricsLog, ProgressBar

_LOGGER = logging.getLogger(__name__)


class BaseTrainer(ABC):
    """A training that goes on until its pictures are seen; a sub-class says what a step does.

    What a step does must follow from the settings, the weights and the number of the step alone, and `state` must hold
    all that the next step depends on. Then a run that was stopped and resumed ends, on one CPU, with the very weights
    of a run that was not.

    Where `torch.distributed` is initialised, the first process alone writes files.

    Args:
        out: Folder for checkpoints, log, samples and the finished model.
        total_pictures: Pictures seen in the whole run.
        keep: Checkpoints to keep, at least 1.

    Attributes:
        out: The folder.
        checkpoints: The checkpoints in it.
        group: The processes that train together.
        step: Steps done.
        pictures: Pictures seen.
        total_pictures: Pictures seen in the whole run.
        networks: The networks that are trained, by name.

    Raises:
        RangeError: If `keep` is below 1.
    """

    networks: Mapping[str, nn.Module]

    def __init__(self, out: str | os.PathLike[str], total_pictures: int, *, keep: int = 2) -> None:
        self.out = Path(out)
        self.total_pictures = total_pictures
        self.checkpoints = CheckpointFolder(self.out / "checkpoints", keep=keep)
        self.group = ProcessGroup()
        self.step = 0
        self.pictures = 0

    # ------------------------------------------------------------------ what a sub-class says

    @abstractmethod
    def train_step(self) -> dict[str, Tensor]:
        """Do one step, which counts `step` and `pictures` up; return its losses, of the whole batch."""

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Return measures of held-out pictures, by name; none where there are no such pictures."""

    def judge(self) -> dict[str, float]:
        """Return what `validate` does; an old name, which leaves in 0.4."""
        warnings.warn("judge is now validate; the old name leaves in styletryon 0.4", DeprecationWarning, stacklevel=2)
        return self.validate()

    def draw_samples(self) -> None:  # noqa: B027 - not every network draws
        """Write the sample sheets of this step."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return everything that the next step depends on."""

    @abstractmethod
    def load(self, state: Mapping[str, Any]) -> None:
        """Take over a state that `state` returned.

        Raises:
            CheckpointError: If it belongs to another run.
        """

    @abstractmethod
    def save_settings(self) -> None:
        """Write the settings of the run into `out`."""

    @abstractmethod
    def finish(self) -> None:
        """Write the finished model into `out`."""

    @property
    def skips_steps(self) -> bool:
        """True where single steps may be left out because their losses are not finite."""
        return False

    def position(self) -> dict[str, int]:
        """Return what a row of the log says, beside the pictures, of where the run stands."""
        return {}

    def fault(self) -> str | None:
        """Return why the run cannot go on, where it is not the losses that show it."""
        return None

    def advice(self) -> str:
        """Return settings with which a run that has diverged may go well."""
        return "a lower learning_rate"

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Let go of what is held between steps; the next step may take it again."""

    # ------------------------------------------------------------------ the loop

    def train(
        self,
        *,
        minutes: float | None = None,
        steps: int | None = None,
        progress: bool = False,
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
            progress: Whether a progress bar is shown on standard error; of several processes by the first alone.
            callbacks: What else is told of it; of several processes in the first alone.
            log_every: Steps from one line of the log to the next.
            save_minutes: Minutes from one checkpoint to the next; 0 saves after every step.
            sample_every: Steps from one measurement of held-out pictures, with sample sheets, to the next.

        Returns:
            Whether the run is complete; the finished model then stands in `out / "model"`.

        Raises:
            TrainingDivergedError: If a loss is not finite, or the discriminator has collapsed (see
                `styletryon.training.divergence.DivergenceDetector`); the last good checkpoint still stands.
            ProcessGroupError: If another process has died or fallen silent.
            SaveError: If a file cannot be written.
            KeyboardInterrupt: After an interrupt, once the checkpoint is written.
        """
        hooks = Callbacks(callbacks if self.group.first else ())
        log = None
        if self.group.first:
            log = MetricsLog(self.out / LOG_NAME, resume=self.step)
            self.save_settings()
        bar = ProgressBar(self.total_pictures, seen=self.pictures) if progress and self.group.first else None
        run = _Run(hooks, log, bar, LossBuffer(), DivergenceDetector(skips=self.skips_steps), _Clock(self.pictures))
        last_step = None if steps is None else self.step + steps
        deadline = None if minutes is None else time.monotonic() + 60 * minutes
        complete = False
        hooks.call(lambda callback: callback.on_start(self))
        try:
            with interrupts() as interrupted:
                while self.pictures < self.total_pictures and (last_step is None or self.step < last_step):
                    late = deadline is not None and time.monotonic() >= deadline
                    due = run.clock.since_save() > 60 * save_minutes
                    stop, save = self.group.any(interrupted() or late or hooks.error is not None, due)
                    if stop:
                        break
                    if save:
                        self._save_checkpoint(run, when_suspicious=False)
                    run.losses.add(self.step + 1, self.train_step())
                    if bar is not None:
                        bar.update(self.pictures)
                    if self.step % log_every == 0:
                        self._raise_on_fault(run)
                        self._log(run, sample=self.step % sample_every < log_every)
                        run.losses.clear()
                self._save_checkpoint(run, when_suspicious=True)
                complete = self.pictures >= self.total_pictures
                if complete and self.group.first:
                    self.finish()
                if interrupted():
                    raise KeyboardInterrupt
        finally:
            self.close()
            if bar is not None:
                bar.close()
            hooks.call(lambda callback: callback.on_end(self, complete))
        if hooks.error is not None:
            raise hooks.error
        return complete

    def _raise_on_fault(self, run: _Run) -> None:
        """Give the run up if it has diverged."""
        fault = run.detector.check(run.losses.rows()) or self.fault()
        if fault is not None:
            self._raise_diverged(fault)

    def _save_checkpoint(self, run: _Run, *, when_suspicious: bool) -> None:
        """Save a checkpoint, if the weights are good."""
        self._raise_on_fault(run)
        if run.detector.suspicious and not when_suspicious:
            _LOGGER.warning("step %d is not saved: the discriminator may have collapsed", self.step)
            run.clock.saved()
            return
        for name, network in self.networks.items():
            if not all(bool(torch.isfinite(norm)) for norm in torch._foreach_norm(list(network.parameters()))):
                self._raise_diverged(f"a weight of the {name} is not finite at step {self.step}")
        self.save(replace=not run.detector.suspicious)
        run.clock.saved()
        path = self.checkpoints.file(self.step)
        run.hooks.call(lambda callback: callback.on_checkpoint(self, path))

    def _log(self, run: _Run, *, sample: bool) -> None:
        """Add a row to the log, and samples where they are due."""
        if run.log is None:
            return
        losses = means(run.losses.rows())
        row = {"pictures": self.pictures, **self.position(), "rate": run.clock.rate(self.pictures), **losses}
        if sample:
            row |= self.validate()
            self.draw_samples()
            run.hooks.call(lambda callback: callback.on_sample(self))
        run.log.append(self.step, row)
        if run.bar is not None:
            run.bar.show(losses)
        told = {"step": self.step, **row}
        run.hooks.call(lambda callback: callback.on_log(self, told))

    def _raise_diverged(self, fault: str) -> NoReturn:
        saved = self.checkpoints.steps()
        again = "there is no checkpoint yet; start again"
        if saved:
            again = f"the last good checkpoint is that of step {saved[-1]} in {self.checkpoints.path}; resume it"
        raise TrainingDivergedError(f"{fault}; {again} with {self.advice()}", argument="training")

    # ------------------------------------------------------------------ checkpoints

    def begin(self, *, resume: bool) -> None:
        """Make sure that a new run begins in a folder without one, or go on with the run that is there.

        Args:
            resume: Whether to go on from the newest checkpoint.

        Raises:
            ConfigError: If the folder holds a run already and `resume` is false.
            CheckpointError: If no checkpoint can be resumed.
            ProcessGroupError: In the other processes, if the first met an error.
        """
        if resume:
            if not self.resume():
                raise CheckpointNotFoundError(
                    f"expected checkpoints to resume from in {str(self.out)!r}, got none", argument="out"
                )
            return

        def check() -> bytes:
            if self.checkpoints.steps():
                raise ConfigError(
                    f"{str(self.out)!r} holds a run already; pass resume=True or choose another folder", argument="out"
                )
            return b""

        self.group.run_on_first(check)

    def save(self, *, replace: bool = True) -> None:
        """Write a checkpoint.

        Args:
            replace: Whether old ones may go for it.

        Raises:
            SaveError: If it cannot be written; the earlier ones still stand.
        """
        if self.group.first:
            self.checkpoints.save(self.step, self.state(), replace=replace)

    def resume(self) -> bool:
        """Go on from the newest whole checkpoint in `out`; return whether there was one.

        The first process reads it for all, so that all go on from the same step, whichever files they see.

        Raises:
            CheckpointError: If all are damaged, or belong to another run.
            ProcessGroupError: In the other processes, if the first met an error.
        """
        found: list[tuple[int, dict[Any, Any]]] = []

        def newest() -> bytes:
            latest = self.checkpoints.latest()
            if latest is None:
                return b""
            found.append(latest)
            return self.checkpoints.file(latest[0]).read_bytes() if self.group.world > 1 else b""

        content = self.group.run_on_first(newest)
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


class _Clock:
    """The times of the last checkpoint and of the last row of the log."""

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
    """The tools of one call of `BaseTrainer.train`."""

    hooks: Callbacks
    log: MetricsLog | None
    bar: ProgressBar | None
    losses: LossBuffer
    detector: DivergenceDetector
    clock: _Clock
