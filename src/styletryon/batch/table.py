"""Tables of try-ons, and what became of their rows."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from styletryon._files import shortened
from styletryon.data.pairs import PairRow, read_pairs
from styletryon.errors import DataError


@dataclass(frozen=True)
class BatchRow:
    """A row of a table of try-ons.

    Attributes:
        line: Its line in the file, the heading being line 1.
        person: Path of the person's photograph.
        garment: That of somebody who wears the garment; of an outfit, region -> somebody who wears that garment.
        region: What changes, of one garment, as `styletryon.labels.resolve_region` reads it; "+" separates label
            classes in a CSV file.
        out: Name of the picture to write, inside the output folder.
        person_pose: A JSON file with the person's keypoints, or None to estimate them.
        garment_pose: The same for the garment's wearer; for those of an outfit, region -> file.
        fault: Why the row cannot be tried, or empty.
    """

    line: int
    person: str | os.PathLike[str]
    garment: str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]]
    region: str
    out: str
    person_pose: str | os.PathLike[str] | None = None
    garment_pose: str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]] | None = None
    fault: str = ""

    @property
    def garments(self) -> dict[str, tuple[str | os.PathLike[str], str | os.PathLike[str] | None]]:
        """Region -> the photograph and the keypoints of that garment's wearer."""
        if not isinstance(self.garment, Mapping):
            pose = None if isinstance(self.garment_pose, Mapping) else self.garment_pose
            return {self.region: (self.garment, pose)}
        poses = self.garment_pose if isinstance(self.garment_pose, Mapping) else {}
        return {region: (garment, poses.get(region)) for region, garment in self.garment.items()}

    @property
    def key(self) -> str:
        """A text that is equal for equal rows, wherever they stand in the table."""
        garment, pose = _text(self.garment), _text(self.garment_pose)
        parts = [self.person, garment, self.region, self.out, self.person_pose, pose]
        # A second row for the same picture is at fault and fails; that must not count for the first.
        parts += [self.fault] if self.fault else []
        return hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class RowOutcome:
    """What became of a row.

    Attributes:
        key: The row's.
        line: Its line in the table.
        status: "done" or "failed".
        out: Name of the picture in the output folder; empty if it failed.
        reason: Why it failed; empty if it did not.
        report: The numbers of the try-on.
    """

    key: str
    line: int
    status: Literal["done", "failed"]
    out: str = ""
    reason: str = ""
    report: Mapping[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True)
class BatchSummary:
    """What became of a table.

    Attributes:
        outcomes: One per row that is finished, by line.
        waiting: How many rows are not finished yet, after an interruption.
    """

    outcomes: tuple[RowOutcome, ...]
    waiting: int

    @property
    def done(self) -> int:
        """How many try-ons stand."""
        return sum(outcome.status == "done" for outcome in self.outcomes)

    @property
    def failed(self) -> tuple[RowOutcome, ...]:
        """The rows that failed."""
        return tuple(outcome for outcome in self.outcomes if outcome.status == "failed")

    def table(self) -> str:
        """Lay out how many are done, and which rows failed and why."""
        lines = [f"{self.done} done, {len(self.failed)} failed, {self.waiting} waiting"]
        lines += [f"  line {outcome.line}: {outcome.reason}" for outcome in self.failed]
        return "\n".join(lines)


def read_table(path: str | os.PathLike[str], *, region: str = "top") -> tuple[BatchRow, ...]:
    """Read a table of try-ons.

    The file is CSV with a heading, see `styletryon.data.pairs`. Columns `person` and `garment` are needed; `region`,
    `out`, `person_pose` and `garment_pose` are optional. Columns `top`, `bottom`, `outerwear` and `dress` name the
    garments of outfits, in the place of `garment` and `region`. A row with a fault is kept, with the reason.

    Args:
        path: The table.
        region: The region of rows that name none.

    Raises:
        DataError: If the table cannot be read, has no rows, or lacks a column or has one that is unknown.
    """
    path = Path(path)
    rows = [_batch_row(row, path.parent) for row in read_pairs(path, region=region, out=True, outfits=True)]
    if not rows:
        raise DataError(f"expected rows below the heading of {str(path)!r}, got none", argument="table")
    return tuple(_without_doubles(rows))


def _batch_row(row: PairRow, folder: Path) -> BatchRow:
    faults = [row.fault] if row.fault else []
    # The longest name, of 255 bytes, holds two of them.
    names = (row.person, "-".join(row.outfit) or row.garment)
    stems = [shortened(re.sub(r"[^\w.-]+", "_", Path(name).stem), 100) for name in names]
    out = row.out or f"{row.line:06d}-{stems[0]}-{stems[1]}.png"
    if Path(out).is_absolute() or ".." in Path(out).parts:
        faults.append(f"out: expected a name inside the output folder, got {out!r}")
    elif Path(out).suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        faults.append(f"out: expected a name that ends in .png, .jpg or .webp, got {out!r}")
    person_pose, garment_pose = (folder / pose if pose else None for pose in (row.person_pose, row.garment_pose))
    worn = {region: folder / garment for region, garment in row.outfit.items()}
    person, garment, fault = folder / row.person, worn or folder / row.garment, "; ".join(faults)
    return BatchRow(row.line, person, garment, row.region, out, person_pose, garment_pose, fault)


def _text(named: str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]] | None) -> str:
    if not isinstance(named, Mapping):
        return str(named)
    return "\0".join(f"{region}={named[region]}" for region in sorted(named))


def _without_doubles(rows: Sequence[BatchRow]) -> Iterator[BatchRow]:
    """Mark rows whose picture an earlier row writes: one of them would be lost."""
    first: dict[str, int] = {}
    for row in rows:
        earlier = first.setdefault(os.path.normpath(row.out), row.line)
        twice = f"out: expected a name of its own, got {row.out!r}, which line {earlier} writes"
        yield row if row.fault or earlier == row.line else replace(row, fault=twice)
