"""The photographs that were given, with their keypoints, labels, styles and splits."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from styletryon.data.files import Files, open_files
from styletryon.errors import DataError, PoseError
from styletryon.pose import NUM_KEYPOINTS

_TABLES = frozenset({"keypoints.json", "split.json", "styles.json", "tryons.json", "prepared.json"})


@dataclass(frozen=True)
class Given:
    """A photograph before anything is done with it.

    Attributes:
        source: Its name in the folder or zip, with forward slashes.
        id: The name that it gets in the data set.
        stamp: Changes when the photograph, its labels or its keypoints do.
        labels: The name of its labels' file, if there is one.
        keypoints: What keypoints.json holds of it, unchecked.
        style: Its style, if that is given.
        split: The name of its split, if that is given.
    """

    source: str
    id: str
    stamp: str
    labels: str | None = None
    keypoints: Any = None
    style: str | None = None
    split: str | None = None


class Photographs:
    """The photographs of a folder, a zip, or a data set, sorted by name.

    Args:
        path: The folder or zip.
        labels: A folder or zip of label pictures. Default: the data set's own.
        keypoints: Name -> keypoints. Default: the data set's `keypoints.json`.
        known: The IDs that photographs have got before, which they keep.

    Raises:
        DataError: If there is no photograph, or a table cannot be read.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        labels: str | PathLike[str] | None = None,
        keypoints: Mapping[str, Any] | None = None,
        known: Mapping[str, str] | None = None,
    ) -> None:
        self.files: Files = open_files(path)
        names = [name for name in self.files.walk() if not _hidden(name)]
        folders = {name.split("/")[0] for name in names if "/" in name}
        self.is_data_set = "images" in folders and (
            "labels" in folders or "keypoints.json" in names or "split.json" in names
        )
        self.label_files: Files | None = None
        label_names: dict[str, str] = {}
        if labels is not None:
            self.label_files = open_files(labels)
            label_names = {_stem(name): name for name in self.label_files.walk() if name.lower().endswith(".png")}
        elif self.is_data_set:
            self.label_files = self.files
            label_names = {_stem(name).removeprefix("labels/"): name for name in names if name.startswith("labels/")}
        folder = "images/" if self.is_data_set else ""
        self.has_labels = bool(label_names)
        tables = {
            name: self.files.read_table(name, holds, optional=True)
            for name, holds in (
                ("keypoints.json", "name -> keypoints"),
                ("split.json", "split name -> list of IDs"),
                ("styles.json", "name -> style"),
            )
        }
        poses = tables["keypoints.json"] if keypoints is None else keypoints
        self.has_split = self.is_data_set and bool(tables["split.json"])
        splits = _split_of_each(tables["split.json"]) if self.has_split else {}
        sources = [name for name in names if name.startswith(folder) and name not in _TABLES]
        bare = Counter(PurePosixPath(name).stem for name in sources)
        self._alone = {name for name, count in bare.items() if count == 1}
        ids = _ids([name.removeprefix(folder) for name in sources], known or {})
        self.given = tuple(
            self._describe(name, name.removeprefix(folder), ids, label_names, poses, splits, tables["styles.json"])
            for name in sources
        )
        if not self.given:
            raise DataError(f"expected photographs in {str(path)!r}, got none; check the folder", argument="photos")

    def _describe(
        self,
        file: str,
        source: str,
        ids: Mapping[str, str],
        labels: Mapping[str, str],
        poses: Mapping[str, Any],
        splits: Mapping[str, str],
        styles: Mapping[str, Any],
    ) -> Given:
        # The bare name does where no other photograph has it.
        names = [_stem(source), *({PurePosixPath(source).stem} & self._alone)]
        found: list[Any] = [
            next((table[name] for name in names if name in table), None) for table in (labels, poses, splits, styles)
        ]
        label, pose, split, style = found
        stamps = [self.files.stamp(file)]
        if label is not None and self.label_files is not None:
            stamps.append(self.label_files.stamp(label))
        if pose is not None:
            stamps.append(hashlib.sha256(repr(pose).encode()).hexdigest()[:16])
        return Given(source, ids[source], " ".join(stamps), label, pose, None if style is None else str(style), split)

    def drop_split(self) -> None:
        """Forget the split that was given."""
        self.has_split = False

    def read(self, given: Given) -> bytes:
        """Return the file of a photograph."""
        return self.files.read(f"images/{given.source}" if self.is_data_set else given.source)

    def close(self) -> None:
        """Let go of what is open."""
        self.files.close()
        if self.label_files is not None:
            self.label_files.close()


def main_person(keypoints: Any) -> npt.NDArray[np.float32]:
    """Check given keypoints, `(17, 3)` or of several people, and return those of the largest person, `(17, 3)`.

    Raises:
        PoseError: If they are no finite numbers of such a shape, or a score is outside [0, 1].
    """
    try:
        points = np.asarray(keypoints, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise PoseError(f"expected 17 x [x, y, score], got {error}", argument="keypoints") from error
    people = points[None] if points.ndim == 2 else points
    if people.ndim != 3 or not len(people) or people.shape[1:] != (NUM_KEYPOINTS, 3) or not np.isfinite(people).all():
        raise PoseError(
            f"expected 17 x [x, y, score], finite, got an array of shape {points.shape}", argument="keypoints"
        )
    if people[..., 2].min() < 0 or people[..., 2].max() > 1:
        raise PoseError(
            "expected scores in [0, 1], got others; a visibility of 2 is a score of 1", argument="keypoints"
        )
    return max(people, key=_extent)


def _extent(points: npt.NDArray[np.float32]) -> float:
    seen = points[points[:, 2] > 0, :2]
    return float(np.prod(np.ptp(seen, axis=0) + 1)) if len(seen) else 0.0


def _hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def _split_of_each(splits: Mapping[str, Any]) -> dict[str, str]:
    if not all(isinstance(names, list) for names in splits.values()):
        raise DataError("expected an object of split name -> list of IDs", argument="split.json")
    return {str(name): split for split, names in splits.items() for name in names}


def _ids(sources: list[str], known: Mapping[str, str]) -> dict[str, str]:
    """Name every photograph by its own name where that can be a file's on every system, else with a digest of it."""
    ids = {source: known[source] for source in sources if source in known}
    taken = {name.lower() for name in known.values()}
    for source in sources:
        if source in ids:
            continue
        stem = _stem(source)
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", stem)[:80]
        if name != stem or name.lower() in taken:
            name += "-" + hashlib.sha256(source.encode("utf-8", "surrogateescape")).hexdigest()[:10]
        taken.add(name.lower())
        ids[source] = name
    return ids
