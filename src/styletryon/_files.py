"""Writing files so that a reader never meets half of one, and lines so that none is glued to half of another."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import uuid
from collections.abc import Callable
from pathlib import Path

from styletryon.errors import SaveError

LONGEST_NAME = 255
"""Bytes that the name of a file may have on the file systems in use."""


def find_target(path: str | os.PathLike[str], *, argument: str = "path") -> Path:
    """Say which file writing to a path would replace, without writing anything.

    Args:
        path: Where a file shall stand. Where that is a symbolic link, what it leads to is meant.
        argument: The argument's name for error messages.

    Returns:
        The real path.

    Raises:
        SaveError: If no file may stand there: it is no path, a folder, a pipe or a device, or the name is too long.
    """
    try:
        text = os.fspath(path)
    except TypeError as error:
        raise SaveError(f"expected the path of a file, got {type(path).__name__}", argument=argument) from error
    try:
        target = Path(os.path.realpath(text))
        mode = target.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        mode = None
    except (OSError, ValueError) as error:
        raise _cannot_write(text, error, argument) from error
    if mode is not None and stat.S_ISDIR(mode):
        raise SaveError(
            f"expected the path of a file, got the folder {str(path)!r}; add a file name", argument=argument
        )
    if mode is not None and not stat.S_ISREG(mode):
        raise SaveError(
            f"expected the path of a file, got {str(path)!r}, which is no regular file; choose another name",
            argument=argument,
        )
    return target


def check_writable(path: str | os.PathLike[str], *, argument: str = "path") -> None:
    """Complain where a file cannot be written, as far as that can be known without writing it.

    Args:
        path: Where the file shall stand. Its folders may be missing.
        argument: The argument's name for error messages.

    Raises:
        SaveError: If no file may stand there, its folder cannot be made, or it may not be written to.
    """
    check_folder(find_target(path, argument=argument).parent, argument=argument)


def check_folder(path: str | os.PathLike[str], *, argument: str = "out") -> None:
    """Complain where a folder cannot be made or written to, as far as that can be known without making it.

    Args:
        path: The folder, which may be missing.
        argument: The argument's name for error messages.

    Raises:
        SaveError: If something else stands there or on the way there, or it may not be written to.
    """
    folder = Path(os.path.realpath(path))
    standing = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if not standing.is_dir():
        raise SaveError(
            f"expected a folder that can be made, got {os.fspath(path)!r}, but {str(standing)!r} is a file; choose "
            "another name",
            argument=argument,
        )
    if not os.access(standing, os.W_OK | os.X_OK):
        raise SaveError(
            f"expected a folder that can be written to, got {os.fspath(path)!r}, but {str(standing)!r} may not be "
            "changed; choose another folder",
            argument=argument,
        )


def write_atomically(path: str | os.PathLike[str], write: Callable[[Path], None]) -> Path:
    """Let `write` fill a temporary file beside `path`, then move it there in one step.

    A symbolic link stays one, and what it leads to is replaced. A file that is replaced keeps its permissions, and its
    owner where that is allowed.

    Args:
        path: Where the file shall stand. Its folder is made if it is missing.
        write: Writes the whole file at the path it is given.

    Returns:
        The path.

    Raises:
        SaveError: If `path` is no path of a regular file, or the file cannot be written. What stood at `path` before
            still stands.
    """
    target = find_target(path)
    # Not `tempfile`: its files are readable by their owner alone, and the move would keep that.
    temporary = target.with_name(f".{shortened(target.name, 100)}.{uuid.uuid4().hex[:12]}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        known = _status(target)
        if known is not None:  # Before anything is in it: nobody may read it who could not read the old one.
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        write(temporary)
        if known is not None:
            _make_alike(temporary, known)
        os.replace(temporary, target)
    except (OSError, ValueError) as error:
        raise _cannot_write(path, error, "path") from error
    finally:
        with contextlib.suppress(OSError, ValueError):  # The failure that matters is already on its way.
            temporary.unlink(missing_ok=True)
    return Path(path)


def shortened(name: str, most: int) -> str:
    """Cut a name to so many bytes, which are what file systems count, and to whole characters."""
    return os.fsencode(name)[:most].decode(errors="ignore")


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _make_alike(path: Path, known: os.stat_result) -> None:
    """Give a file the permissions, and if it may be the owner, of another."""
    if hasattr(os, "chown"):
        with contextlib.suppress(OSError):  # Only root may give files away.
            os.chown(path, known.st_uid, known.st_gid)
    path.chmod(stat.S_IMODE(known.st_mode))


def _cannot_write(path: object, error: Exception, argument: str) -> SaveError:
    mend = "check the folder and the free space"
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        mend = f"a name may have {LONGEST_NAME} bytes: shorten it"
    reason = getattr(error, "strerror", None) or error
    return SaveError(f"cannot write {str(path)!r} ({reason}); {mend}", argument=argument)


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
    target = find_target(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target, "ab", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            try:
                file.write(line.encode() + b"\n")
            except OSError:
                file.truncate(end)  # The next line must not be glued to half of this one.
                raise
    except OSError as error:
        raise _cannot_write(path, error, "path") from error
