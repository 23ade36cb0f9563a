"""The files of a data set, in a folder or in a zip of it."""

from __future__ import annotations

import builtins
import json
import os
import zipfile
import zlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from styletryon.errors import DataError

_LARGEST = 1 << 30  # Bytes of a file in a zip, unpacked: a few kilobytes can claim to be terabytes.

class Files(ABC):
    """The files of a data set, wherever they lie. Names inside it use forward slashes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def has(self, file: str) -> bool:
        """Say whether there is such a file."""

    @abstractmethod
    def list(self, folder: str) -> set[str]:
        """Return the names of the files in a folder."""

    @abstractmethod
    def walk(self) -> builtins.list[str]:
        """Return the names of all files, sorted, those in folders within folders too."""

    @abstractmethod
    def stamp(self, file: str) -> str:
        """Return a text that changes when the file does, without reading it."""

    @abstractmethod
    def read(self, file: str) -> bytes:
        """Return what a file holds; safe to call from several threads."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what is open."""

    def name(self, file: str) -> str:
        """Return what a message calls a file."""
        return str(self.path / file)

    def read_table(self, file: str, holds: str, *, optional: bool = False) -> dict[str, Any]:
        """Read a JSON object.

        Args:
            file: Its name.
            holds: The keys and values that errors say it should hold.
            optional: Return an empty table if there is no such file.

        Raises:
            DataError: If it cannot be read, or is no object.
        """
        if not self.has(file):
            if optional:
                return {}
            raise DataError("no such file; see styletryon.data.folder for the format", argument=self.name(file))
        try:
            table = json.loads(self.read(file))
        except ValueError as error:  # Wrong JSON or wrong UTF-8.
            raise DataError(f"expected JSON, got {error}", argument=self.name(file)) from error
        if not isinstance(table, dict):
            raise DataError(f"expected an object of {holds}, got {type(table).__name__}", argument=self.name(file))
        return table


class _Folder(Files):
    def has(self, file: str) -> bool:
        return (self.path / file).is_file()

    def list(self, folder: str) -> set[str]:
        try:
            return set(os.listdir(self.path / folder))
        except OSError as error:
            raise DataError(f"expected a folder, got {error.strerror or error}", argument=self.name(folder)) from error

    def walk(self) -> builtins.list[str]:
        files = []
        for folder, _, names in os.walk(self.path):
            place = Path(folder)
            files += [(place / name).relative_to(self.path).as_posix() for name in names if (place / name).is_file()]
        return sorted(files)

    def stamp(self, file: str) -> str:
        try:
            status = (self.path / file).stat()
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror or error}", argument=self.name(file)) from error
        return f"{status.st_size}-{status.st_mtime_ns}"

    def read(self, file: str) -> bytes:
        try:
            return (self.path / file).read_bytes()
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror or error}", argument=self.name(file)) from error

    def close(self) -> None:
        """Nothing is open."""


class _Zip(Files):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            self._zip = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise DataError(
                f"expected a folder or a whole zip file, got {str(path)!r}: {error}; was its copy cut short?",
                argument="path",
            ) from error
        names = self._zip.namelist()
        # The zip may hold the folder or what is in the folder.
        roots = [name.rpartition("/") for name in names if name.rpartition("/")[2] in ("split.json", "keypoints.json")]
        self._root = min((f"{folder}{slash}" for folder, slash, _ in roots), key=len, default="")
        self._members = {name.removeprefix(self._root) for name in names if name.startswith(self._root)}

    def has(self, file: str) -> bool:
        return file in self._members

    def list(self, folder: str) -> set[str]:
        return {name.removeprefix(f"{folder}/") for name in self._members if name.startswith(f"{folder}/")}

    def walk(self) -> builtins.list[str]:
        return sorted(name for name in self._members if name and not name.endswith("/"))

    def stamp(self, file: str) -> str:
        member = self._zip.getinfo(self._root + file)
        return f"{member.file_size}-{member.CRC:08x}"

    def read(self, file: str) -> bytes:
        try:
            if self._zip.getinfo(self._root + file).file_size > _LARGEST:
                raise DataError(
                    f"expected at most {_LARGEST >> 20} MiB, got more; is it a bomb?", argument=self.name(file)
                )
            return self._zip.read(self._root + file)
        except (
            OSError,
            KeyError,
            ValueError,
            EOFError,
            RuntimeError,
            NotImplementedError,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            raise DataError(f"cannot be read from the zip: {error}", argument=self.name(file)) from error

    def close(self) -> None:
        self._zip.close()


def open_files(path: str | os.PathLike[str]) -> Files:
    """Open a folder or a zip; raises DataError where there is neither."""
    place = Path(path)
    if place.is_dir():
        return _Folder(place)
    if place.is_file():
        return _Zip(place)
    raise DataError(f"expected a folder or a zip file, got {str(place)!r}: no such file or folder", argument="path")
