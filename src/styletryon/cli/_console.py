"""The console, or what stands for it: printing never costs a result."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def usable_console() -> Iterator[None]:
    """Let anything be printed while this lasts.

    What the console's encoding does not have is written as an escape. Where there is no console (a service, pythonw),
    what is printed goes nowhere.
    """
    with contextlib.ExitStack() as stack:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is None:
                nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                stack.callback(setattr, sys, name, None)
                setattr(sys, name, nowhere)
            elif hasattr(stream, "reconfigure"):
                stack.callback(_reconfigure, stream, stream.errors)
                _reconfigure(stream, "backslashreplace")
        yield


def _reconfigure(stream: object, errors: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # closed, or its reader has gone
        stream.reconfigure(errors=errors)  # type: ignore[attr-defined]
