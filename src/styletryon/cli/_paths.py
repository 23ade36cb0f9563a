"""The files that a command reads and writes: looked at before anything is computed, and never lost afterwards."""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from styletryon import photo
from styletryon._files import check_folder, check_writable
from styletryon.errors import ConfigError, DataError, SaveError


def check_inputs(paths: Mapping[str, Path | None]) -> None:
    """Complain about a file, folder or zip that is not there.

    Args:
        paths: Option -> what it names; None where it was not given.

    Raises:
        DataError: If it is not there.
    """
    for option, path in _given(paths):
        if not path.exists():
            raise DataError(
                f"no such file or folder: {str(path)!r}; check the path (relative to {str(Path.cwd())!r})",
                argument=option,
            )


def check_outputs(
    *,
    pictures: Mapping[str, Path | None] | None = None,
    files: Mapping[str, Path | None] | None = None,
    folders: Mapping[str, Path | None] | None = None,
    inputs: Mapping[str, Path | None] | None = None,
) -> None:
    """Complain about what cannot be written, before anything is computed.

    Args:
        pictures: Option -> the picture that it asks for; None where it was not given.
        files: The same of other files.
        folders: The same of folders.
        inputs: The same of files that are read, which none of the others may replace.

    Raises:
        SaveError: If a picture's ending is unknown, or something cannot be written where it shall stand.
        ConfigError: If two of them are one file.
    """
    for option, path in _given(pictures):
        photo.check_ending(path, argument=option)
    taken = {path.resolve(): option for option, path in _given(inputs)}
    for option, path in itertools.chain(_given(pictures), _given(files)):
        check_writable(path, argument=option)
        other = taken.setdefault(path.resolve(), option)
        if other != option:
            raise ConfigError(
                f"expected another file than that of {other}, got {str(path)!r} for both; choose another name",
                argument=option,
            )
    for option, path in _given(folders):
        check_folder(path, argument=option)


class Results:
    """Writes what was made; where that fails, beside.

    Attributes:
        status: The exit status: 0 while everything stands where it was asked for, else 1.
    """

    def __init__(self, command: str) -> None:
        self.command = command
        self.status = 0

    def write(self, path: Path, save: Callable[[Path], object]) -> Path:
        """Write a file, or say why it cannot stand there and write it elsewhere.

        Args:
            path: Where it shall stand.
            save: Writes it at the path that it is given, or raises a `SaveError`.

        Returns:
            Where it stands.

        Raises:
            SaveError: If it can be written nowhere.
        """
        try:
            save(path)
            return path
        except SaveError as error:
            self.status = 1
            reason = error
        for place in _places_beside(path):
            try:
                save(place)
            except SaveError:
                continue
            print(f"styletryon {self.command}: {reason}; it is in {str(place)!r} instead", file=sys.stderr)
            return place
        raise reason


def _given(paths: Mapping[str, Path | None] | None) -> Iterator[tuple[str, Path]]:
    return ((option, path) for option, path in (paths or {}).items() if path is not None)


def _places_beside(path: Path) -> Iterator[Path]:
    """Names that are free: in the same folder, where the command was called, and among temporary files."""
    for folder in (path.parent, Path.cwd(), Path(tempfile.gettempdir())):
        names = (folder / f"{path.stem}-{number}{path.suffix}" for number in range(2, 100))
        yield from itertools.islice((name for name in names if not name.exists()), 1)
