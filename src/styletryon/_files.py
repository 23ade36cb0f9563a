"""Writing files so that a reader never meets half of one, and lines so that none is glued to half of another."""

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
        raise SaveError(f"expected the path of a file, got the folder {str(path)!r}; add a file name", argument="path")
    # Not `tempfile`: its files are readable by their owner alone, and the move would keep that.
    temporary = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex[:12]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        os.replace(temporary, path)
    except (OSError, ValueError) as error:
        raise SaveError(
            f"cannot write {str(path)!r} ({error}); check the folder and the free space", argument="path"
        ) from error
    finally:
        with contextlib.suppress(OSError, ValueError):  # The failure that matters is already on its way.
            temporary.unlink(missing_ok=True)
    return path


def write_bytes(path: str | os.PathLike[str], data: bytes) -> Path:
    """Write a file as `write_atomically` does.

    Raises:
        SaveError: If it cannot be written. What stood at `path` before still stands.
    """

    def write(temporary: Path) -> None:
        temporary.write_bytes(data)

    return write_atomically(path, write)


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write a text file, UTF-8, as `write_atomically` does.

    Raises:
        SaveError: If it cannot be written. What stood at `path` before still stands.
    """
    return write_bytes(path, text.encode())


def append_line(path: str | os.PathLike[str], line: str) -> None:
    """Add a line to a text file; it is on its way to the disk when this returns.

    Args:
        path: The file; it and its folder are made if missing.
        line: The text, without a line break.

    Raises:
        SaveError: If it cannot be written; the file then ends as before.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            try:
                file.write(line.encode() + b"\n")
            except OSError:
                file.truncate(end)  # The next line must not be glued to half of this one.
                raise
    except OSError as error:
        raise SaveError(f"cannot write {str(path)!r}: {error.strerror or error}", argument="path") from error
