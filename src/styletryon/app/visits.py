"""What the fitting room remembers of its visitors: a bounded number of try-ons for a bounded time."""

from __future__ import annotations

import json
import secrets
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

from styletryon._files import write_text
from styletryon.app.room import Fitting
from styletryon.images import save_image


@dataclass
class _Visit:
    fitting: Fitting
    seen: float


@final
class Visits:
    """The try-ons of the visitors, each behind a name that cannot be guessed.

    Args:
        folder: Where files to download are written; each visit has a folder of its own in it.
        capacity: How many try-ons are kept; the one that was used longest ago goes first.
        seconds: How long one is kept after it was used last.
        clock: What tells the time, in seconds.
    """

    def __init__(
        self,
        folder: Path,
        *,
        capacity: int = 32,
        seconds: float = 1800.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder, self.capacity, self.seconds, self.clock = folder, capacity, seconds, clock
        self._visits: OrderedDict[str, _Visit] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        with self._lock:
            self._forget()
            return len(self._visits)

    def keep(self, fitting: Fitting, name: str | None = None) -> str:
        """Remember a try-on.

        Args:
            fitting: The try-on.
            name: The visit whose try-on it replaces; None or one that is gone for a new one.

        Returns:
            The visit's name.
        """
        with self._lock:
            self._forget()
            if name is None or name not in self._visits:
                name = secrets.token_urlsafe(16)
            self._visits[name] = _Visit(fitting, self.clock())
            self._visits.move_to_end(name)
            while len(self._visits) > self.capacity:
                self._drop(next(iter(self._visits)))
            return name

    def find(self, name: str | None) -> Fitting | None:
        """Return a visit's try-on; None if there is none any more."""
        with self._lock:
            self._forget()
            if name is None or name not in self._visits:
                return None
            visit = self._visits[name]
            visit.seen = self.clock()
            self._visits.move_to_end(name)
            return visit.fitting

    def write(self, name: str, fitting: Fitting) -> tuple[Path, Path]:
        """Write the picture and the report of a visit for download.

        Returns:
            The paths of the PNG and of the JSON file.

        Raises:
            SaveError: If they cannot be written.
        """
        folder = self.folder / name
        picture, report = folder / "tryon.png", folder / "report.json"
        save_image(fitting.result.image, picture)
        write_text(report, json.dumps(fitting.report, indent=2) + "\n")
        return picture, report

    def _forget(self) -> None:
        oldest = self.clock() - self.seconds
        while self._visits and next(iter(self._visits.values())).seen < oldest:
            self._drop(next(iter(self._visits)))

    def _drop(self, name: str) -> None:
        del self._visits[name]
        shutil.rmtree(self.folder / name, ignore_errors=True)
