"""Threads that dress people, and a queue of bounded length before them. Nothing here knows HTTP."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar, final

from styletryon._arguments import whole

Answer = TypeVar("Answer")

_FIRST_GUESS = 2.0
"""How many seconds a piece of work is taken to last before any was done."""

_NEWEST = 0.2
"""How much the newest piece of work counts in what is known of how long they last."""

_LONGEST_WAIT = 600
"""The most seconds that anybody is told to wait."""


class Full(Exception):
    """There is no room for another request.

    Attributes:
        seconds: After how many there probably is.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Stopping(Exception):
    """The workers take no more work, for they are told to end."""


class Stopped(Exception):
    """A piece of work was ended before it was done, because nobody waits for it."""


@final
class Workers:
    """Threads that work off a bounded queue.

    A request first takes a place, then sends its work, then gives the place back. Places are what bounds the memory:
    nothing of a request is read before it has one.

    Args:
        count: How many threads.
        queue: How many requests may have a place beside those that are worked on.

    Raises:
        RangeError: If a number makes no sense.
    """

    def __init__(self, count: int, queue: int) -> None:
        self.count = whole(count, "workers", least=1)
        self.places = self.count + whole(queue, "queue", least=0)
        self._threads = ThreadPoolExecutor(self.count, thread_name_prefix="styletryon-worker")
        self._lock = threading.Lock()
        self._taken: set[Place] = set()
        self._running = 0
        self._seconds = _FIRST_GUESS
        self._stopping = False

    @property
    def stopping(self) -> bool:
        """Whether they take no more work."""
        return self._stopping

    def load(self) -> tuple[int, int]:
        """Return how many requests are worked on, and how many others have a place."""
        with self._lock:
            return self._running, len(self._taken) - self._running

    def enter(self) -> Place:
        """Take a place.

        Raises:
            Full: If there is none.
            Stopping: If no more work is taken.
        """
        with self._lock:
            if self._stopping:
                raise Stopping
            if len(self._taken) >= self.places:
                # By then those that wait now have been worked off.
                waiting = len(self._taken) / self.count
                raise Full(min(_LONGEST_WAIT, max(1, math.ceil(self._seconds * waiting))))
            place = Place(self)
            self._taken.add(place)
            return place

    def stop(self) -> None:
        """Take no more work, and let go of what waits; what runs goes on. The futures of what waits are cancelled."""
        with self._lock:
            self._stopping = True
        self._threads.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """End what runs at its next step, and the threads."""
        self.stop()
        with self._lock:
            taken = list(self._taken)
        for place in taken:
            place.abandon()
        self._threads.shutdown(wait=True)

    def _submit(self, work: Callable[[], Answer]) -> Future[Answer]:
        with self._lock:
            if self._stopping:
                raise Stopping
            return self._threads.submit(self._timed, work)

    def _timed(self, work: Callable[[], Answer]) -> Answer:
        began = time.monotonic()
        with self._lock:
            self._running += 1
        try:
            answer = work()
            with self._lock:  # of what fails or is ended, it would say too little
                self._seconds += _NEWEST * (time.monotonic() - began - self._seconds)
            return answer
        finally:
            with self._lock:
                self._running -= 1

    def _leave(self, place: Place) -> None:
        with self._lock:
            self._taken.discard(place)


@final
class Place:
    """A request's place at the workers; `Workers.enter` gives it. Leave the `with` block to give it back."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._ended = threading.Event()
        self._future: Future[Any] | None = None

    def __enter__(self) -> Place:
        """Return the place."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the work if it still runs, and give the place back."""
        self.abandon()
        self._workers._leave(self)

    def start(self, work: Callable[[], Answer]) -> Future[Answer]:
        """Send work.

        Args:
            work: What is to be done. It calls `check` at each of its steps.

        Returns:
            What it returns, or raises.

        Raises:
            Stopping: If no more work is taken.
        """
        future = self._workers._submit(work)
        self._future = future
        return future

    def abandon(self) -> None:
        """End the work: before it begins if it waits, at its next step if it runs."""
        self._ended.set()
        if self._future is not None:
            self._future.cancel()

    def check(self) -> None:
        """Let the work go on.

        Raises:
            Stopped: If it was abandoned.
        """
        if self._ended.is_set():
            raise Stopped
