"""What a training leaves to look at: a log of numbers, a line of progress, and pictures of samples."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from PIL import Image
from torch import Tensor

from styletryon._files import append_line, write_text
from styletryon.errors import DataError, RangeError, SaveError, ShapeError
from styletryon.images import labels_to_image, save_image, to_uint8

_REFRESH = 0.2  # Seconds between two refreshes of the line on a terminal.


class MetricsLog:
    """Numbers of a training, one JSON object a line (``pandas.read_json(path, lines=True)`` reads it).

    Args:
        path: The file; it and its folder are made at the first row.
        resume: The step at which a training goes on: rows of later steps are dropped, since they will come again. None
            drops none.

    Raises:
        DataError: If the file is there and holds something else.
        SaveError: If the file cannot be read or rewritten.
    """

    def __init__(self, path: str | os.PathLike[str], *, resume: int | None = None) -> None:
        self.path = Path(path)
        rows, whole = self._read()
        kept = [row for row in rows if resume is None or row["step"] <= resume]
        if len(kept) < len(rows) or not whole:
            text = "".join(_line(row) + "\n" for row in kept)
            write_text(self.path, text)

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

    def rows(self) -> list[dict[str, Any]]:
        """Return all rows, oldest first.

        Raises:
            DataError: If the file holds something else.
            SaveError: If the file cannot be read.
        """
        return self._read()[0]

    def _read(self) -> tuple[list[dict[str, Any]], bool]:
        """Return the rows, and whether the last line is whole: a machine that stops may leave half of one."""
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return [], True
        except OSError as error:
            raise SaveError(f"path: cannot read {str(self.path)!r}: {error.strerror or error}") from error
        rows = []
        for number, line in enumerate(lines[:-1], start=1):
            try:
                row = json.loads(line)
                row["step"] = int(row["step"])
            except (ValueError, TypeError, KeyError) as error:
                raise DataError(
                    f"path: expected a log of metrics, got {str(self.path)!r}, whose line {number} is no row: {error}"
                ) from error
            rows.append(row)
        return rows, lines[-1] == b""


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


def save_sample_grid(
    path: str | os.PathLike[str],
    rows: Sequence[Tensor],
    *,
    margin: int = 2,
    scale: int = 1,
) -> None:
    """Save pictures side by side, a row for each tensor, as a PNG or whatever the name's ending says.

    Args:
        path: Name of the file; its folder is made where it does not exist.
        rows: Each `(B, 3, H, W)` pictures in [-1, 1] (floating) or `(B, H, W)` label maps (whole numbers), which are
            drawn in `styletryon.labels.PALETTE`. All of one height and width; a shorter row leaves room at its end.
        margin: White pixels between pictures.
        scale: By what whole factor small pictures are enlarged.

    Raises:
        ShapeError: If there are no rows, or they do not fit each other.
        RangeError: If a label map holds an unknown class, or a number makes no sense.
        SaveError: If the file cannot be written.
    """
    if margin < 0 or scale < 1:
        raise RangeError(f"margin, scale: expected at least 0 and at least 1, got {margin} and {scale}")
    drawn = [_draw(row, index) for index, row in enumerate(rows)]
    pictures = [picture for row in drawn for picture in row]
    if len({picture.size for picture in pictures}) != 1:
        raise ShapeError(f"rows: expected pictures of one height and width, got {[tuple(row.shape) for row in rows]}")
    width, height = (scale * side for side in pictures[0].size)
    columns = max(len(row) for row in drawn)
    size = (columns * (width + margin) - margin, len(drawn) * (height + margin) - margin)
    sheet = Image.new("RGB", size, (255, 255, 255))
    for down, row in enumerate(drawn):
        for across, picture in enumerate(row):
            enlarged = picture.resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(enlarged, (across * (width + margin), down * (height + margin)))
    save_image(sheet, path)


def _draw(row: Tensor, index: int) -> list[Image.Image]:
    if row.ndim == 4 and row.shape[1] == 3 and row.is_floating_point():
        pixels = to_uint8(row.nan_to_num(0.0)).permute(0, 2, 3, 1).cpu().contiguous().numpy()
        return [Image.fromarray(picture) for picture in pixels]
    if row.ndim == 3 and not row.is_floating_point():
        return [labels_to_image(classes) for classes in row]
    raise ShapeError(
        f"rows[{index}]: expected (B, 3, H, W) floating or (B, H, W) whole numbers, got {tuple(row.shape)} {row.dtype}"
    )


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
