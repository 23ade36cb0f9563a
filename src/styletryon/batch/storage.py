"""Files of this machine and of object stores, by one road: paths, and URLs that fsspec knows (`s3://bucket/name`)."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from styletryon.errors import ConfigError, DependencyError, SaveError

Place = str | os.PathLike[str]
"""A path of this machine, or a URL."""


def is_url(place: Place) -> bool:
    """Tell whether something other than a path of this machine is meant."""
    text = os.fspath(place)
    return "://" in text and not text.startswith("file://")


def path_of(place: Place) -> Path:
    """Return a place of this machine as a path."""
    return Path(os.fspath(place).removeprefix("file://"))


def joined(folder: Place, name: str) -> Place:
    """Return the place that a name means to what stands in a folder; a URL or a whole path means itself."""
    if is_url(name) or not is_url(folder):
        return name if is_url(name) else path_of(folder) / path_of(name)
    return name if PurePosixPath(name).is_absolute() else f"{os.fspath(folder).rstrip('/')}/{name}"


def folder_of(place: Place) -> Place:
    """Return the folder that a file stands in."""
    return os.fspath(place).rpartition("/")[0] if is_url(place) else path_of(place).parent


@contextmanager
def fetched(place: Place) -> Iterator[Path]:
    """Give a file as one of this machine: itself, or a copy for as long as the context lasts.

    Raises:
        ConfigError: If the URL's protocol is unknown.
        DependencyError: If the package that knows it is not installed.
        OSError: If it cannot be had.
    """
    if not is_url(place):
        yield path_of(place)
        return
    system, root = _find(place)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / (PurePosixPath(root).name or "file")
        system.get_file(root, os.fspath(copy))
        yield copy


class Folder:
    """A folder of this machine or of an object store, in which a reader never meets half a file.

    Args:
        place: Where it is. It is made with the first file.

    Raises:
        ConfigError: If the URL's protocol is unknown.
        DependencyError: If the package that knows it is not installed.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self._system: Any = None
        self._root = os.fspath(path_of(place))
        if is_url(place):
            self._system, self._root = _find(place)

    def __truediv__(self, name: str) -> Folder:
        return Folder(joined(self.place, name))

    def has(self, name: str) -> bool:
        """Tell whether there is such a file."""
        if self._system is None:
            return Path(self._at(name)).is_file()
        self._system.invalidate_cache()  # others write there too
        return bool(self._system.isfile(self._at(name)))

    def names(self) -> set[str]:
        """Return the names of all files, those in folders inside it too, with slashes."""
        if self._system is None:
            return {path.relative_to(self._root).as_posix() for path in Path(self._root).rglob("*") if path.is_file()}
        self._system.invalidate_cache()
        found = self._system.find(self._root) if self._system.isdir(self._root) else ()
        return {str(name).removeprefix(f"{self._root}/") for name in found}

    def read(self, name: str) -> bytes:
        """Read a file.

        Raises:
            OSError: If that cannot be done; `FileNotFoundError` where there is none.
        """
        return bytes(self._system.cat_file(self._at(name))) if self._system else Path(self._at(name)).read_bytes()

    def fetched(self, name: str) -> Any:
        """Give a file as `fetched` does."""
        return fetched(joined(self.place, name))

    def write(self, name: str, save: Callable[[Path], object]) -> None:
        """Write a file.

        Args:
            name: Its name.
            save: Writes it at the path that it is given, in one step or not at all.

        Raises:
            SaveError: If it cannot be written.
        """
        if self._system is None:
            save(Path(self._at(name)))
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / PurePosixPath(name).name
            save(path)
            try:
                self._system.pipe_file(self._at(name), path.read_bytes())  # which object stores do as one
            except OSError as error:
                raise SaveError(
                    f"cannot write {self._at(name)!r} ({error}); check the address and the rights", argument="out"
                ) from error

    def remove(self, name: str) -> None:
        """Remove a file."""
        if self._system is None:
            Path(self._at(name)).unlink(missing_ok=True)
        else:
            self._system.rm_file(self._at(name))

    def _at(self, name: str) -> str:
        return os.path.join(self._root, name) if self._system is None else f"{self._root}/{name}"


def _find(place: Place) -> tuple[Any, str]:
    """Return the file system of a URL, and what it calls the place."""
    try:
        system, root = importlib.import_module("fsspec.core").url_to_fs(os.fspath(place))
    except ValueError as error:
        raise ConfigError(
            f"expected a path, or a URL of a file system that fsspec knows, got {os.fspath(place)!r} ({error})"
        ) from error
    except ImportError as error:
        raise DependencyError(f"{os.fspath(place)!r} needs a package that is not installed: {error}") from error
    return system, str(root).rstrip("/")
