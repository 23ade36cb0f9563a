"""Processes that were forked: they lack the threads of their parent, and would wait for them for ever."""

from __future__ import annotations

import logging
import os
import threading

_logger = logging.getLogger(__name__)
_lock = threading.Lock()
_process: int | None = None
"""The process that this library last computed in."""


def note_process() -> None:
    """Note which process computes. In one that was forked from another that did, torch is told to take one thread.

    Torch's threads live in the process that began them. A child that was forked since inherits the belief that they are
    there, and its first operation on several threads would never end.
    """
    global _process
    here = os.getpid()
    if _process == here:
        return
    with _lock:
        forked, _process = _process is not None and _process != here, here
    if forked:
        import torch

        torch.set_num_threads(1)
        _logger.warning(
            "This process was forked from one that had computed already, whose threads it lacks: torch takes one "
            "thread here. For more, start it by the method 'spawn', or load the model after the fork alone."
        )


def _release() -> None:
    """Make the lock anew: in the parent, another thread may have held it."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release)
