"""A journal of what is done, so that a run that was stopped goes on where it stood."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from styletryon.data.preparation.one import Outcome
from styletryon.errors import DataError, SaveError

NAME = "prepare.jsonl"


class Journal:
    """One line of JSON for each photograph that was dealt with.

    A line is written after the files that it speaks of. A last line that was cut short is as good as none: what it
    would have spoken of is done again.

    Args:
        folder: The data set's folder.
        settings: How photographs are prepared; must be the same in every run into a folder.

    Raises:
        DataError: If the folder was prepared with other settings, or holds pictures but no journal.
        SaveError: If it cannot be written.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._folder, self._path = folder, folder / NAME
        self._settings = json.loads(json.dumps(dict(settings)))
        self._outcomes: dict[tuple[str, str], Outcome] = {}
        self.ids: dict[str, str] = {}
        self._read()
        self._file: Any = None

    def _read(self) -> None:
        images = self._folder / "images"
        if not self._path.is_file():
            if images.is_dir() and any(images.iterdir()):
                raise DataError(
                    f"expected an empty folder or one that an earlier run began, got {str(self._folder)!r} with "
                    f"pictures but no {NAME}; choose another folder",
                    argument="out",
                )
            return
        for line in self._path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
                self._take(entry)
            except DataError:
                raise
            except (ValueError, KeyError, TypeError):  # Cut short when the run was stopped.
                continue

    def _take(self, entry: dict[str, Any]) -> None:
        if "settings" in entry:
            differing = sorted(key for key in self._settings if entry["settings"].get(key) != self._settings[key])
            if differing:
                was = {key: entry["settings"].get(key) for key in differing}
                now = {key: self._settings[key] for key in differing}
                raise DataError(
                    f"{str(self._folder)!r} was begun with {was}, not {now}; choose another folder or repeat those",
                    argument="out",
                )
        else:
            outcome = entry["outcome"]
            box = outcome["box"]
            outcome |= {"cut": tuple(outcome["cut"]), "box": None if box is None else tuple(box)}
            self._outcomes[outcome["source"], entry["stamp"]] = Outcome(**outcome)
            self.ids[outcome["source"]] = outcome["id"]

    def __enter__(self) -> Journal:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            begun = self._path.is_file() and self._path.stat().st_size > 0
            self._file = self._path.open("a", encoding="utf-8")
        except OSError as error:
            raise SaveError(f"cannot write {str(self._path)!r} ({error}); check the folder", argument="out") from error
        # After a line that was cut short a new one begins.
        self._write({"settings": self._settings}, before="\n" if begun else "")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _write(self, entry: Mapping[str, Any], *, before: str = "") -> None:
        try:
            self._file.write(before + json.dumps(entry) + "\n")
            self._file.flush()
        except OSError as error:
            raise SaveError(
                f"cannot write {str(self._path)!r} ({error}); check the free space", argument="out"
            ) from error

    def outcome(self, source: str, stamp: str) -> Outcome | None:
        """Return what became of a photograph, if that still holds: it is the same, did not fail, its files stand."""
        known = self._outcomes.get((source, stamp))
        if known is None or known.failed:
            return None
        files = () if known.reason else (f"images/{known.id}.png", f"labels/{known.id}.png")
        return known if all((self._folder / file).is_file() for file in files) else None

    def add_outcome(self, outcome: Outcome, stamp: str) -> None:
        """Write down what became of a photograph."""
        self._outcomes[outcome.source, stamp] = outcome
        self._write({"stamp": stamp, "outcome": asdict(outcome)})
