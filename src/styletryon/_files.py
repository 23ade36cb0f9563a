"""Writing files so that a reader never meets half of one."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path

from styletryon.errors import SaveError


def write_atomically(path: str | os.PathLike[str], write: Callable[[Path], None]) -> Path:
    """Let `write` fill a temporary file beside `path`, then move it there in one step.

    Args:
        path: Where the file shall stand. Its folder is made if it is missing.
        write: Writes the whole file at the path it is given.

    Returns:
        The path.

    Raises:
        SaveError: If `path` is a folder or the file cannot be written. What stood at `path` before still stands.
    """
    path = Path(path)
    if path.is_dir():
        raise SaveError(f"path: expected the path of a file, got the folder {str(path)!r}; add a file name")
    # Not `tempfile`: its files are readable by their owner alone, and the move would keep that.
    temporary = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex[:12]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        os.replace(temporary, path)
    except (OSError, ValueError) as error:
        raise SaveError(f"path: cannot write {str(path)!r} ({error}); check the folder and the free space") from error
    finally:
        with contextlib.suppress(OSError, ValueError):  # The failure that matters is already on its way.
            temporary.unlink(missing_ok=True)
    return path
