"""What a training leaves to look at: a log of numbers, and a line of progress."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from torch import Tensor

from styletryon._files import append_line, write_text
from styletryon.errors import DataError, SaveError

LOG_NAME = "metrics.jsonl"

_REFRESH = 0.2  # Seconds between two refreshes of the line on a terminal.


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


class ProgressLine:
    """One line that says how a training goes: rewritten in place on a terminal, now and then a new one elsewhere.

    Args:
        total: Steps of the whole training.
        start: Steps that were done before.
        stream: Where to write. Default: standard error, as it is at this moment.
        interval: Seconds between two lines where the stream is no terminal.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        total: int,
        *,
        start: int = 0,
        stream: TextIO | None = None,
        interval: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total = total
        self._stream = sys.stderr if stream is None else stream
        self._live = bool(getattr(self._stream, "isatty", lambda: False)())
        self._pause = _REFRESH if self._live else interval
        self._clock = clock
        self._shown_at = -math.inf
        self._shown = ""
        self._pending = ""
        # (time, step, pictures) of the last updates: the speed is that of the last minute, not since the start.
        self._trace: deque[tuple[float, int, int]] = deque([(clock(), start, -1)])

    def update(self, step: int, *, pictures: int, losses: Mapping[str, float] | None = None) -> None:
        """Say how far it is.

        Args:
            step: Steps done.
            pictures: Pictures seen, those before `start` included.
            losses: Name -> value, the few that matter.
        """
        now = self._clock()
        if self._trace[0][2] < 0:  # How many pictures the steps before `start` saw is known only from the first update.
            began, first, _ = self._trace[0]
            share = first / step if step else 0.0
            self._trace[0] = (began, first, round(pictures * share))
        self._trace.append((now, step, pictures))
        while len(self._trace) > 2 and (now - self._trace[0][0] > 60 or len(self._trace) > 512):
            self._trace.popleft()
        self._pending = self._text(step, pictures, losses or {})
        if now - self._shown_at >= self._pause:
            self._show(now)

    def close(self) -> None:
        """Write the last state, if it was not written, and end the line."""
        if self._pending and self._pending != self._shown:
            self._show(self._clock())
        if self._live and self._shown:
            self._write("\n")
        self._pending = self._shown = ""

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _text(self, step: int, pictures: int, losses: Mapping[str, float]) -> str:
        began, first, seen = self._trace[0]
        now = self._trace[-1][0]
        seconds = max(now - began, 1e-9)
        pace, speed = (step - first) / seconds, (pictures - seen) / seconds
        left = _duration((self.total - step) / pace) if pace > 0 else "?"
        share = step / self.total if self.total else 1.0
        parts = [
            f"step {step}/{self.total} {share:4.0%}",
            f"{_count(pictures)} pictures",
            f"{speed:.1f} img/s",
            f"{left} left",
        ]
        if losses:
            parts.append(" ".join(f"{name} {value:.3g}" for name, value in losses.items()))
        return " | ".join(parts)

    def _show(self, now: float) -> None:
        if self._live:
            self._write("\r" + self._pending.ljust(len(self._shown)))
        else:
            self._write(self._pending + "\n")
        self._shown, self._shown_at = self._pending, now

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # A closed terminal is no reason to stop a training.
            self._pause = math.inf


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


def _count(number: int) -> str:
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if number >= limit:
            return f"{number / (1e3 if unit == 'k' else limit):.1f}{unit}"
    return str(number)


def _duration(seconds: float) -> str:
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    days, hours = divmod(hours, 24)
    clock = f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
    return f"{days}d {clock}" if days else clock
