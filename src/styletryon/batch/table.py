"""Tables of try-ons, and what became of their rows."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import importlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from styletryon._files import shortened
from styletryon.batch.storage import Place, fetched, folder_of, joined
from styletryon.data.pairs import PairRow, read_pairs
from styletryon.errors import DataError, DependencyError, StyleTryOnError


@dataclass(frozen=True)
class BatchRow:
    """A row of a table of try-ons.

    Attributes:
        line: Its line in the file, the heading being line 1.
        person: The person's photograph: a path, or a URL that fsspec knows.
        garment: That of somebody who wears the garment; of an outfit, region -> somebody who wears that garment.
        region: What changes, of one garment, as `styletryon.labels.resolve_region` reads it; "+" separates label
            classes in a CSV file.
        out: Name of the picture to write, inside the output folder.
        person_pose: A JSON file with the person's keypoints, or None to estimate them.
        garment_pose: The same for the garment's wearer; for those of an outfit, region -> file.
        fault: Why the row cannot be tried, or empty.
        garment_worn: Whether somebody wears the row's garments in their pictures, or they lie or hang by themselves.
            None to tell by the picture.
    """

    line: int
    person: Place
    garment: Place | Mapping[str, Place]
    region: str
    out: str
    person_pose: Place | None = None
    garment_pose: Place | Mapping[str, Place] | None = None
    fault: str = ""
    garment_worn: bool | None = None

    @property
    def garments(self) -> dict[str, tuple[Place, Place | None]]:
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
        parts += [] if self.garment_worn is None else [f"worn={self.garment_worn}"]
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


def read_table(path: Place, *, region: str = "top") -> tuple[BatchRow, ...]:
    """Read a table of try-ons.

    The file is CSV with a heading, see `styletryon.data.pairs`, or Parquet with the same columns. Columns `person` and
    `garment` are needed; `region`, `out`, `person_pose`, `garment_pose` and `garment_worn` are optional. Columns `top`,
    `bottom`, `outerwear` and `dress` name the garments of outfits, in the place of `garment` and `region`. A row with a
    fault is kept, with the reason.

    Args:
        path: The table: a path, or a URL that fsspec knows. What it names is looked for beside it.
        region: The region of rows that name none.

    Raises:
        DataError: If the table cannot be read, has no rows, or lacks a column or has one that is unknown.
        ConfigError: If the protocol of a URL is unknown.
        DependencyError: If a package is missing: pyarrow for Parquet, or the one that knows the URL.
    """
    with _as_csv(path) as file:
        pairs = read_pairs(file, region=region, out=True, outfits=True)
    rows = [_batch_row(row, folder_of(path)) for row in pairs]
    if not rows:
        raise DataError(f"expected rows below the heading of {str(path)!r}, got none", argument="table")
    return tuple(_without_doubles(rows))


@contextlib.contextmanager
def _as_csv(path: Place) -> Iterator[Path]:
    """Give a table as a CSV file of this machine."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(fetched(path))
        except OSError as error:
            said = f"cannot read {os.fspath(path)!r} ({error}); check the address"
            raise DataError(said, argument="table") from error
        if file.suffix.lower() == ".parquet":
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            file = _from_parquet(file, Path(folder) / f"{file.stem}.csv")
        yield file


def _from_parquet(file: Path, to: Path) -> Path:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise DependencyError(
            "a Parquet table needs pyarrow: pip install 'styletryon[ray]'", argument="table"
        ) from error
    try:
        columns = parquet.read_table(file).to_pydict()
    except (OSError, ValueError) as error:  # what is no Parquet raises a ValueError of pyarrow's own
        raise DataError(f"expected a Parquet file, got {str(file)!r} ({error})", argument="table") from error
    with open(to, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return to


def _batch_row(row: PairRow, folder: Place) -> BatchRow:
    faults = [row.fault] if row.fault else []
    # The longest name, of 255 bytes, holds two of them.
    names = (row.person, "-".join(row.outfit) or row.garment)
    stems = [shortened(re.sub(r"[^\w.-]+", "_", Path(name).stem), 100) for name in names]
    out = row.out or f"{row.line:06d}-{stems[0]}-{stems[1]}.png"
    if Path(out).is_absolute() or ".." in Path(out).parts:
        faults.append(f"out: expected a name inside the output folder, got {out!r}")
    elif Path(out).suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        faults.append(f"out: expected a name that ends in .png, .jpg or .webp, got {out!r}")
    poses = (row.person_pose, row.garment_pose)
    person_pose, garment_pose = (joined(folder, pose) if pose else None for pose in poses)
    worn = {region: joined(folder, garment) for region, garment in row.outfit.items()}
    person, garment, fault = joined(folder, row.person), worn or joined(folder, row.garment), "; ".join(faults)
    return BatchRow(row.line, person, garment, row.region, out, person_pose, garment_pose, fault, row.garment_worn)


def with_worn(rows: Sequence[BatchRow], garment_worn: bool | None) -> tuple[BatchRow, ...]:
    """Say of the rows that do not whether somebody wears their garments."""
    return tuple(row if row.garment_worn is not None else replace(row, garment_worn=garment_worn) for row in rows)


def _text(named: Place | Mapping[str, Place] | None) -> str:
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


def unfinished(
    rows: Sequence[BatchRow],
    known: Mapping[str, RowOutcome],
    is_there: Callable[[str], bool],
    *,
    retry_failed: bool,
) -> list[BatchRow]:
    """Return the rows that are still to be tried on.

    Args:
        rows: The rows of a table.
        known: Key -> what became of the row.
        is_there: Tells whether a picture stands in the output folder.
        retry_failed: Whether rows that failed are tried again.
    """

    def is_finished(outcome: RowOutcome) -> bool:
        return not retry_failed if outcome.status == "failed" else is_there(outcome.out)

    return [row for row in rows if row.key not in known or not is_finished(known[row.key])]


def summarize(rows: Sequence[BatchRow], known: Mapping[str, RowOutcome]) -> BatchSummary:
    """Say what became of a table, from what is known by the keys of its rows."""
    outcomes = tuple(replace(known[row.key], line=row.line) for row in rows if row.key in known)
    return BatchSummary(outcomes, len(rows) - len(outcomes))


def failure(row: BatchRow, reason: str) -> RowOutcome:
    """Say that a row failed."""
    return RowOutcome(row.key, row.line, "failed", reason=reason)


def reason_of(error: Exception) -> str:
    """Say in one line why something failed."""
    text = " ".join(str(error).split())
    return text if isinstance(error, StyleTryOnError) else f"{type(error).__name__}: {text}"
