"""Visits to the fitting room: a bounded number, remembered for a bounded time."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import final

from styletryon.app.room import Fitting
from styletryon.app.wardrobe import Choice


@dataclass
class _Visit:
    seen: float
    uploads: dict[str, Choice] = field(default_factory=dict)
    fitting: Fitting | None = None
    left: bool = False


@final
class Visits:
    """What each visitor uploaded, and the last try-on.

    Sessions are what the server calls its visitors by: any text that cannot be guessed.

    Args:
        capacity: How many visits are kept; the one that was used longest ago goes first.
        seconds: How long one is kept after it was used last.
        grace: How long one is kept after the visitor has left, who may come back: a telephone that sleeps leaves too.
        clock: What tells the time, in seconds.
    """

    def __init__(
        self,
        *,
        capacity: int = 32,
        seconds: float = 1800.0,
        grace: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.capacity, self.seconds, self.grace, self.clock = capacity, seconds, grace, clock
        self._visits: OrderedDict[str, _Visit] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        with self._lock:
            return len(self._visits)

    def upload(self, session: str, role: str, choice: Choice) -> None:
        """Remember what a visitor uploaded as "person" or as "garment", in the place of what was uploaded before."""
        with self._lock:
            self._enter(session).uploads[role] = choice

    def uploaded(self, session: str, role: str) -> Choice | None:
        """Return what a visitor uploaded last; None if there is nothing any more."""
        with self._lock:
            visit = self._meet(session)
            return None if visit is None else visit.uploads.get(role)

    def keep(self, session: str, fitting: Fitting) -> None:
        """Remember a visitor's try-on in the place of the last one."""
        with self._lock:
            self._enter(session).fitting = fitting

    def find(self, session: str) -> Fitting | None:
        """Return a visitor's try-on; None if there is none any more."""
        with self._lock:
            visit = self._meet(session)
            return None if visit is None else visit.fitting

    def leave(self, session: str) -> None:
        """Note that a visitor has closed the page."""
        with self._lock:
            if session in self._visits:
                visit = self._visits[session]
                visit.left, visit.seen = True, self.clock()

    def forget(self) -> int:
        """Let go of visits whose time is over, and give their memory back; return how many."""
        with self._lock:
            now = self.clock()
            over = [
                session
                for session, visit in self._visits.items()
                if now - visit.seen > (self.grace if visit.left else self.seconds)
            ]
            for session in over:
                del self._visits[session]
        if over:
            _give_back()
        return len(over)

    def _meet(self, session: str) -> _Visit | None:
        visit = self._visits.get(session)
        if visit is not None:
            visit.seen, visit.left = self.clock(), False
            self._visits.move_to_end(session)
        return visit

    def _enter(self, session: str) -> _Visit:
        visit = self._meet(session)
        if visit is None:
            visit = self._visits[session] = _Visit(self.clock())
            while len(self._visits) > self.capacity:
                self._visits.popitem(last=False)
        return visit


def _give_back() -> None:
    """Give memory that is no longer used back to the system, as far as the C library can be told to."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # only the GNU library has it
        ctypes.CDLL("libc.so.6").malloc_trim(0)
