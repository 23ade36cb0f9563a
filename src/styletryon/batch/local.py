"""A table of try-ons on one machine: batch after batch, once each, whatever happens on the way."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from styletryon._arguments import check_seed, whole
from styletryon._files import append_line
from styletryon._loading import ModelLike
from styletryon.batch.dressing import parts, try_rows
from styletryon.batch.settings import claim
from styletryon.batch.storage import Folder, is_url, path_of
from styletryon.batch.table import BatchRow, BatchSummary, RowOutcome, read_table, summarize, unfinished, with_worn
from styletryon.batch.wardrobe import Wardrobe
from styletryon.errors import ConfigError
from styletryon.losses import TryOnLoss, TryOnState
from styletryon.pipeline import TryOnPipeline

Progress = Callable[[int, int], None]
"""Is called with how many rows are finished, and of how many that were not before."""


def try_on_table(
    table: str | os.PathLike[str] | Sequence[BatchRow],
    out: str | os.PathLike[str],
    *,
    region: str = "top",
    model: ModelLike | None = None,
    losses: Mapping[str, tuple[float, TryOnLoss | Callable[[TryOnState], Tensor]]] | None = None,
    preset: str = "balanced",
    seed: int = 0,
    device: torch.device | str | None = None,
    batch_size: int = 8,
    detail: bool = True,
    retry_failed: bool = False,
    garment_worn: bool | None = None,
    progress: Progress | None = None,
) -> BatchSummary:
    """Try on every row of a table.

    What is done is never done twice: call it again after an interruption, and it goes on. A row that fails does not
    stop the others. For several GPUs or machines there is `styletryon.batch.ray`.

    Args:
        table: A CSV or Parquet file, see `read_table`, or its rows.
        out: Folder for the pictures and what is needed to go on.
        region: The region of rows that name none.
        model: The generator: name, folder or object. None for the bundled one.
        losses: As for `try_on`.
        preset: "fast", "balanced" or "quality".
        seed: As for `try_on`.
        device: Where to compute. None for the model's own device, or for a CUDA device where there is one.
        batch_size: Pairs that are tried on at once.
        detail: As for `try_on`.
        retry_failed: Whether rows that failed before are tried again.
        garment_worn: Of rows that do not say: whether somebody wears the garment in its picture, or it lies or hangs by
            itself. None to tell by the picture.
        progress: Called after each batch.

    Returns:
        What became of the rows.

    Raises:
        DataError: If the table cannot be read.
        ConfigError: If the folder holds results of other settings or is a URL, or a setting is unknown.
        DependencyError: If a package is missing that the table needs.
        RangeError: If a number makes no sense.
        SaveError: If the folder cannot be written to.
    """
    batch_size, seed = whole(batch_size, "batch_size", least=1), check_seed(seed)
    if is_url(out):
        raise ConfigError(
            f"expected a folder of this machine, got {os.fspath(out)!r}; styletryon.batch.ray writes to object stores",
            argument="out",
        )
    rows = read_table(table, region=region) if isinstance(table, str | os.PathLike) else tuple(table)
    rows = with_worn(rows, garment_worn)
    pipeline = TryOnPipeline(
        model, preset=preset, device=device, seed=seed, losses=losses, batch_size=batch_size, remember=0
    )
    _ = pipeline.optimizer  # so that losses that are none are told now, not row by row
    folder = Folder(out)
    wardrobe = Wardrobe(folder / "latents", pipeline)
    claim(folder, {"model": pipeline.model.fingerprint, "preset": preset, "seed": seed, "detail": detail})
    journal = _Journal(path_of(out) / "rows.jsonl")
    waiting = unfinished(rows, journal.read(), folder.has, retry_failed=retry_failed)
    finished = 0
    for part in parts(waiting, batch_size):
        for outcome in try_rows(part, pipeline, wardrobe, folder, detail=detail):
            journal.add(outcome)
        finished += len(part)
        if progress is not None:
            progress(finished, len(waiting))
    return summarize(rows, journal.read())


class _Journal:
    """What became of each row, a line as soon as it is known."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def add(self, outcome: RowOutcome) -> None:
        append_line(self.file, json.dumps(asdict(outcome)))

    def read(self) -> dict[str, RowOutcome]:
        """Return the last outcome of each row; half a line, which a killed process leaves, is passed over."""
        found: dict[str, RowOutcome] = {}
        if not self.file.is_file():
            return found
        for line in self.file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                outcome = RowOutcome(**json.loads(line))
            except (ValueError, TypeError):
                continue
            found[outcome.key] = outcome
        return found
