"""The log of a training, and its progress bar."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from styletryon._files import append_line, write_text
from styletryon.errors import DataError, SaveError

LOG_NAME = "metrics.jsonl"

_LIVE, _ELSEWHERE = 0.2, 30.0  # seconds from one refresh of the bar to the next


class MetricsLog:
    """Numbers of a training: one JSON object a line, and the same rows as comma-separated values beside it.

    ``pandas.read_json(path, lines=True)`` reads the one, any spreadsheet the other, ``metrics.csv``. A column that
    appears later in a training is empty in the rows before.

    Args:
        path: The file of JSON lines; it and its folder are made at the first row.
        resume: The step at which a training goes on: rows of later steps are dropped, since they will come again. None
            drops none.

    Raises:
        DataError: If the file is there and holds something else.
        SaveError: If a file cannot be read or rewritten.
    """

    def __init__(self, path: str | os.PathLike[str], *, resume: int | None = None) -> None:
        self.path = Path(path)
        rows, whole = _read(self.path)
        kept = [row for row in rows if resume is None or row["step"] <= resume]
        if len(kept) < len(rows) or not whole:
            write_text(self.path, "".join(_line(row) + "\n" for row in kept))
        self._table = self.path.with_suffix(".csv")
        self._columns = _columns(kept)
        if kept or self._table.exists():
            write_text(self._table, _csv(kept, self._columns, header=True))

    def append(self, step: int, values: Mapping[str, float | int | str | bool | Tensor | None]) -> None:
        """Add a row; it is on its way to the disk when this returns.

        Args:
            step: Steps done.
            values: Name -> number, text, or tensor of one element. NaN and infinity become null, which JSON can write.

        Raises:
            SaveError: If it cannot be written.
        """
        row = {"step": int(step), **{name: _plain(value) for name, value in values.items()}}
        append_line(self.path, _line(row))
        columns = _columns([dict.fromkeys(self._columns), row])
        if columns == self._columns:
            append_line(self._table, _csv([row], columns).removesuffix("\n"))
        else:  # The head of the table grows, and with it every line.
            write_text(self._table, _csv(self.rows(), columns, header=True))
            self._columns = columns

    def rows(self) -> list[dict[str, Any]]:
        """Return all rows, oldest first.

        Raises:
            DataError: If the file holds something else.
            SaveError: If the file cannot be read.
        """
        return read_log(self.path)


def read_log(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the rows of a log, oldest first, and leave it as it is: a training may be writing it.

    Args:
        path: The file of JSON lines; where there is none, there are no rows.

    Raises:
        DataError: If the file holds something else.
        SaveError: If the file cannot be read.
    """
    return _read(Path(path))[0]


class ProgressBar:
    """A bar on standard error that says how far a training is, by tqdm: pictures, speed, time left and losses.

    On a terminal it is rewritten in place five times a second, elsewhere twice a minute.

    Args:
        total: Pictures of the whole training.
        seen: Pictures that were seen before.
    """

    def __init__(self, total: int, *, seen: int = 0) -> None:
        from tqdm import tqdm  # here, because importing the library shall not import it

        try:
            pause = _LIVE if sys.stderr.isatty() else _ELSEWHERE
            self._bar = tqdm(
                total=total, initial=seen, unit="img", unit_scale=True, dynamic_ncols=True,
                mininterval=pause, maxinterval=max(pause, 10.0), miniters=1,
            )  # fmt: skip
        except (AttributeError, OSError, ValueError):  # A service has no console.
            self._bar = tqdm(disable=True)

    def update(self, seen: int) -> None:
        """Say how many pictures were seen, those before the start included."""
        self._guard(lambda: self._bar.update(seen - self._bar.n))

    def show(self, losses: Mapping[str, float]) -> None:
        """Show the losses from the next refresh on."""
        self._bar.set_postfix(losses, refresh=False)

    def close(self) -> None:
        """Write the last state and end the line."""
        self._guard(self._bar.close)

    def _guard(self, write: Callable[[], object]) -> None:
        try:
            write()
        except (OSError, ValueError):  # A closed terminal is no reason to stop a training.
            self._bar.disable = True


def _read(path: Path) -> tuple[list[dict[str, Any]], bool]:
    """Return the rows of a log, and whether its last line is whole: a machine that stops may leave half of one."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return [], True
    except OSError as error:
        raise SaveError(f"cannot read {str(path)!r}: {error.strerror or error}", argument="path") from error
    rows = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            row = json.loads(line)
            row["step"] = int(row["step"])
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"expected a log of metrics, got {str(path)!r}, whose line {number} is no row: {error}",
                argument="path",
            ) from error
        rows.append(row)
    return rows, lines[-1] == b""


def _columns(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return every name in rows, in the order of appearance."""
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(row))
    return list(names)


def _csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, header: bool = False) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _plain(value: float | int | str | bool | Tensor | None) -> float | int | str | bool | None:
    if isinstance(value, (Tensor, np.generic)):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False)
