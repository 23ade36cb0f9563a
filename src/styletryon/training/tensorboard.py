"""TensorBoard, for those who watch their trainings there: ``pip install styletryon[tensorboard]``."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from styletryon.errors import DependencyError
from styletryon.training.callbacks import TrainingCallback
from styletryon.training.sheets import sheet_files

if TYPE_CHECKING:
    from styletryon.training.loop import BaseTrainer


class TensorBoardCallback(TrainingCallback):
    """Writes every number of the log, and every sample sheet, as events that ``tensorboard --logdir`` shows.

    A resumed run goes on in the same curves: what was written of later steps is hidden, since it comes again.

    Args:
        folder: Where the events go. Default: ``tensorboard`` in the folder of the run.

    Raises:
        DependencyError: If the package tensorboard is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise DependencyError(
                "expected the package tensorboard, which is not installed; "
                f"pip install 'styletryon[tensorboard]' ({error})",
                argument="tensorboard",
            ) from error
        self._make: Any = SummaryWriter
        self._folder = folder
        self._writer: Any = None

    def on_start(self, trainer: BaseTrainer) -> None:
        """Open the events."""
        folder = trainer.out / "tensorboard" if self._folder is None else Path(self._folder)
        self._writer = self._make(str(folder), purge_step=trainer.step + 1)

    def on_log(self, trainer: BaseTrainer, row: Mapping[str, float | int | str]) -> None:
        """Write the numbers of a row."""
        for name, value in row.items():
            if name != "step" and isinstance(value, (int, float)) and math.isfinite(value):
                self._writer.add_scalar(name, value, trainer.step)
        self._writer.flush()

    def on_sample(self, trainer: BaseTrainer) -> None:
        """Write the sample sheets of the step."""
        for kind, file in sheet_files(trainer.out, trainer.step).items():
            if file.is_file():
                with Image.open(file) as sheet:
                    self._writer.add_image(kind, np.asarray(sheet), trainer.step, dataformats="HWC")

    def on_end(self, trainer: BaseTrainer, complete: bool) -> None:
        """Close the events."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
