"""Callbacks: methods that the loop calls at its landmarks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from styletryon.training.loop import BaseTrainer

_LOGGER = logging.getLogger(__name__)


class TrainingCallback:
    """A listener to a training; every method does nothing unless a sub-class says otherwise.

    Of several processes the first alone calls. What is raised stops the run, after its checkpoint was written. A
    callback may read the trainer; it must leave it as it is, or a resumed run no longer ends with the same weights.
    """

    def on_start(self, trainer: BaseTrainer) -> None:
        """Training starts or goes on; `trainer.step` steps are done."""

    def on_log(self, trainer: BaseTrainer, row: Mapping[str, float | int | str]) -> None:
        """A row of the log is complete.

        Args:
            trainer: The trainer.
            row: "step", "pictures", "stage" (its number), "rate" (pictures a second), the means of the losses since the
                row before, and now and then measures of held-out pictures, "val_...".
        """

    def on_sample(self, trainer: BaseTrainer) -> None:
        """A step is reached at which samples are drawn, before the `on_log` of the same step."""

    def on_checkpoint(self, trainer: BaseTrainer, path: Path) -> None:
        """A checkpoint stands in the file `path`."""

    def on_end(self, trainer: BaseTrainer, complete: bool) -> None:
        """Training stops, for whatever reason.

        Args:
            trainer: The trainer.
            complete: Whether the whole run is done; the finished model then stands in ``trainer.out / "model"``.
        """


class Callbacks:
    """Several callbacks as one, which keeps the first error for the loop to raise when it is safe.

    Args:
        callbacks: What to call, in this order.
    """

    def __init__(self, callbacks: Iterable[TrainingCallback]) -> None:
        self.callbacks = tuple(callbacks)
        self.error: Exception | None = None

    def call(self, hook: Callable[[TrainingCallback], None]) -> None:
        """Call a hook of each callback.

        Args:
            hook: Calls it, such as ``lambda callback: callback.on_start(trainer)``.
        """
        for callback in self.callbacks:
            try:
                hook(callback)
            except Exception as error:  # of any kind: it is the caller's code
                _LOGGER.warning("the callback %s stops the training: %r", type(callback).__name__, error)
                self.error = self.error or error
