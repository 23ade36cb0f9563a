"""Showing how far a long call is, on standard error: a bar in a terminal, elsewhere a line per stage."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import Any, TextIO, final

EVERY = 60.0
"""Seconds from one line of a stage to the next, where there is no terminal."""

_UNKNOWN = "{desc}: {elapsed}"
"""How a bar looks whose end is not known yet."""


@final
class Stages:
    """Shows the stages of a call as they go on.

    In a terminal the present stage has a bar. Elsewhere, as in a log, each stage of known length has a line when it
    begins, and one that takes long another now and then. Nothing is shown where there is no console; one that goes away
    costs nothing.

    Args:
        shown: Whether anything is shown at all.
        every: Seconds from one line of a stage to the next.
    """

    def __init__(self, *, shown: bool = True, every: float = EVERY) -> None:
        self._stream = sys.stderr if shown else None
        self._every = every
        self._begun: set[str] = set()
        self._stage = ""
        self._bar: Any = None
        self._told = 0.0

    def __enter__(self) -> Stages:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, stage: str, done: int = 0, total: int = 0) -> None:
        """Show how far a stage is.

        Args:
            stage: What is being done.
            done: How many of its steps are done.
            total: How many there are; 0 while that is unknown.
        """
        stream = self._stream
        if stream is None:
            return
        with suppress(OSError, ValueError):
            if stream.isatty():
                self._draw(stream, stage, done, total)
            else:
                self._write(stream, stage, done, total)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            with suppress(OSError, ValueError):
                self._bar.close()
            self._bar = None

    def _draw(self, stream: TextIO, stage: str, done: int, total: int) -> None:
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                desc=stage, total=total or None, file=stream, leave=False, unit="step", bar_format=_UNKNOWN
            )
        elif stage != self._stage:
            self._bar.reset(total=total or None)
            self._bar.set_description_str(stage, refresh=False)
        self._bar.bar_format = None if total else _UNKNOWN
        self._bar.total = total or None
        self._bar.update(min(done, total) - self._bar.n)
        if stage != self._stage:
            self._bar.refresh()
        self._stage = stage

    def _write(self, stream: TextIO, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if not total or (stage in self._begun and (now - self._told < self._every or done >= total)):
            return
        far = f": {done} of {total}" if stage in self._begun else ""
        stream.write(f"{stage}{far}\n")
        stream.flush()
        self._begun.add(stage)
        self._told = now
