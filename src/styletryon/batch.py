"""Many people, many garments: a table of try-ons, done in batches, once each, whatever happens on the way.

.. code-block:: text

    OUT/NAME.png              a try-on
    OUT/rows/RANK.jsonl       what became of each row, a line as soon as it is known
    OUT/latents/KEY.*         each photograph's projection, so that it is projected once
    OUT/settings.json         what the results were made with
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from styletryon._arguments import check_seed, renamed, whole
from styletryon._files import append_line, shortened, write_text
from styletryon._loading import ModelLike
from styletryon.data.pairs import PairRow, read_pairs
from styletryon.errors import ConfigError, DataError, StyleTryOnError
from styletryon.latent import Latent, stack
from styletryon.losses import TryOnLoss, TryOnState
from styletryon.photo import Frame, Photograph, read_image, save_image
from styletryon.pipeline import TryOnPipeline, wears_dress
from styletryon.pose import Pose, read_pose

__all__ = ["BatchRow", "BatchSummary", "RowOutcome", "read_table", "try_on_table"]

Progress = Callable[[int, int], None]
"""Is called with how many of this process's rows are finished, and of how many."""

_Pair = tuple["BatchRow", Latent, Latent]
"""A row, its person and its garment's wearer."""

_HELD_PIXELS = 100_000_000  # of photographs that are kept in memory


@dataclass(frozen=True)
class BatchRow:
    """A row of a table of try-ons.

    Attributes:
        line: Its line in the file, the heading being line 1.
        person: Path of the person's photograph.
        garment: That of somebody who wears the garment.
        region: What changes, as `styletryon.labels.resolve_region` reads it; "+" separates label classes in a CSV file.
        out: Name of the picture to write, inside the output folder.
        person_pose: A JSON file with the person's keypoints, or None to estimate them.
        garment_pose: The same for the garment's wearer.
        fault: Why the row cannot be tried, or empty.
    """

    line: int
    person: str | os.PathLike[str]
    garment: str | os.PathLike[str]
    region: str
    out: str
    person_pose: str | os.PathLike[str] | None = None
    garment_pose: str | os.PathLike[str] | None = None
    fault: str = ""

    @property
    def key(self) -> str:
        """A text that is equal for equal rows, wherever they stand in the table."""
        parts = [self.person, self.garment, self.region, self.out, self.person_pose, self.garment_pose]
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
        waiting: How many rows are not finished yet: those of other processes, or after an interruption.
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
    `out`, `person_pose` and `garment_pose` are optional. A row with a fault is kept, with the reason.

    Args:
        path: The table.
        region: The region of rows that name none.

    Raises:
        DataError: If the table cannot be read, has no rows, or lacks a column or has one that is unknown.
    """
    path = Path(path)
    rows = [_batch_row(row, path.parent) for row in read_pairs(path, region=region, out=True)]
    if not rows:
        raise DataError(f"expected rows below the heading of {str(path)!r}, got none", argument="table")
    return tuple(_without_doubles(rows))


def _batch_row(row: PairRow, folder: Path) -> BatchRow:
    faults = [row.fault] if row.fault else []
    # The longest name, of 255 bytes, holds two of them.
    stems = [shortened(re.sub(r"[^\w.-]+", "_", Path(name).stem), 100) for name in (row.person, row.garment)]
    out = row.out or f"{row.line:06d}-{stems[0]}-{stems[1]}.png"
    if Path(out).is_absolute() or ".." in Path(out).parts:
        faults.append(f"out: expected a name inside the output folder, got {out!r}")
    elif Path(out).suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        faults.append(f"out: expected a name that ends in .png, .jpg or .webp, got {out!r}")
    person_pose, garment_pose = (folder / pose if pose else None for pose in (row.person_pose, row.garment_pose))
    person, garment, fault = folder / row.person, folder / row.garment, "; ".join(faults)
    return BatchRow(row.line, person, garment, row.region, out, person_pose, garment_pose, fault)


def _without_doubles(rows: Sequence[BatchRow]) -> Iterator[BatchRow]:
    """Mark rows whose picture an earlier row writes: one of them would be lost."""
    first: dict[str, int] = {}
    for row in rows:
        earlier = first.setdefault(os.path.normpath(row.out), row.line)
        twice = f"out: expected a name of its own, got {row.out!r}, which line {earlier} writes"
        yield row if row.fault or earlier == row.line else replace(row, fault=twice)


def try_on_table(
    table: str | os.PathLike[str] | Sequence[BatchRow],
    out: str | os.PathLike[str],
    *,
    region: str = "top",
    model: ModelLike | None = None,
    losses: Mapping[str, tuple[float, TryOnLoss | Callable[[TryOnState], Tensor]]] | None = None,
    preset: str = "balanced",
    seed: int = 0,
    device: torch.device | str | None = None,
    batch_size: int = 8,
    detail: bool = True,
    retry_failed: bool = False,
    rank: int = 0,
    world_size: int = 1,
    progress: Progress | None = None,
) -> BatchSummary:
    """Try on every row of a table.

    What is done is never done twice: call it again after an interruption, and it goes on. A row that fails does not
    stop the others. Several processes or machines that see the same folder share the rows: give each its rank.

    Args:
        table: A CSV file, see `read_table`, or its rows.
        out: Folder for the pictures and what is needed to go on.
        region: The region of rows that name none.
        model: The generator: name, folder or object. None for the bundled one.
        losses: As for `try_on`.
        preset: "fast", "balanced" or "quality".
        seed: As for `try_on`.
        device: Where to compute. None for the model's own device, or for a CUDA device where there is one.
        batch_size: Pairs that are tried on at once.
        detail: As for `try_on`.
        retry_failed: Whether rows that failed before are tried again.
        rank: Which share of the rows this process does, from 0.
        world_size: How many processes share the rows.
        progress: Called after each batch.

    Returns:
        What became of the rows, those of other processes included as far as they are finished.

    Raises:
        DataError: If the table cannot be read.
        ConfigError: If the folder holds results of other settings, or a setting is unknown.
        RangeError: If a number makes no sense.
        SaveError: If the folder cannot be written to.
    """
    batch_size, world_size = whole(batch_size, "batch_size", least=1), whole(world_size, "world_size", least=1)
    rank, seed = whole(rank, "rank", least=0, most=world_size - 1), check_seed(seed)
    rows = read_table(table, region=region) if isinstance(table, str | os.PathLike) else tuple(table)
    pipeline = TryOnPipeline(
        model, preset=preset, device=device, seed=seed, losses=losses, batch_size=batch_size, remember=0
    )
    _ = pipeline.optimizer  # so that losses that are none are told now, not row by row
    folder = Path(out)
    wardrobe = _Wardrobe(folder / "latents", pipeline)
    _claim(folder, {"model": pipeline.model.fingerprint, "preset": preset, "seed": seed, "detail": detail})
    journal = _Journal(folder / "rows", rank)
    before = {key: outcome for key, outcome in journal.read().items() if outcome.status == "done" or not retry_failed}
    own = [row for row in rows[rank::world_size] if not _is_finished(before.get(row.key), folder)]
    finished = 0
    for part in _parts(own, batch_size):
        for outcome in _try_rows(part, pipeline, wardrobe, folder, detail=detail):
            journal.add(outcome)
        finished += len(part)
        if progress is not None:
            progress(finished, len(own))
    known = journal.read()
    outcomes = [replace(known[row.key], line=row.line) for row in rows if row.key in known]
    return BatchSummary(tuple(outcomes), len(rows) - len(outcomes))


def _is_finished(outcome: RowOutcome | None, folder: Path) -> bool:
    return outcome is not None and (outcome.status == "failed" or (folder / outcome.out).is_file())


def _parts(rows: Iterable[BatchRow], size: int) -> Iterator[list[BatchRow]]:
    """Group rows of one region, which can be tried on at once."""
    groups: dict[str, list[BatchRow]] = {}
    for row in rows:
        group = groups.setdefault(row.region, [])
        group.append(row)
        if len(group) == size:
            yield groups.pop(row.region)
    yield from groups.values()


def _try_rows(
    rows: Sequence[BatchRow], pipeline: TryOnPipeline, wardrobe: _Wardrobe, folder: Path, *, detail: bool
) -> Iterator[RowOutcome]:
    """Try rows of one region on; one that fails, fails alone."""
    sound = [row for row in rows if not row.fault]
    people = [(row.person, row.person_pose, False) for row in sound]
    wardrobe.fetch([*people, *((row.garment, row.garment_pose, wears_dress(row.region)) for row in sound)])
    ready: list[_Pair] = []
    for row in rows:
        try:
            if row.fault:
                raise DataError(row.fault)
            person = wardrobe.get(row.person, row.person_pose)
            dressed = wears_dress(row.region)
            ready.append((row, person, wardrobe.get(row.garment, row.garment_pose, dressed=dressed)))
        except Exception as error:
            yield _failure(row, error)
    yield from _dress(ready, pipeline, folder, detail=detail)


def _dress(
    ready: Sequence[_Pair], pipeline: TryOnPipeline, folder: Path, *, detail: bool
) -> Iterator[RowOutcome]:
    """Dress people at once if that works, else in halves; each picture is told of as soon as it is written."""
    if not ready:
        return
    people, garments = stack([person for _, person, _ in ready]), stack([garment for _, _, garment in ready])
    try:
        batch = pipeline.optimize(people, garments, region=ready[0][0].region)
    except Exception as error:
        if len(ready) == 1:
            yield _failure(ready[0][0], error)
            return
        for half in (ready[: len(ready) // 2], ready[len(ready) // 2 :]):
            yield from _dress(half, pipeline, folder, detail=detail)
        return
    for place, (row, person, garment) in enumerate(ready):
        try:
            result = pipeline.show(batch, place, detail=detail)
            result.save(folder / row.out)
        except Exception as error:
            yield _failure(row, error)
            continue
        report = dict(result.report)
        for role, latent in (("person", person), ("garment", garment)):
            report |= {f"{role}_{name}": value for name, value in latent.report.items()}
        yield RowOutcome(row.key, row.line, "done", row.out, report=report)


def _failure(row: BatchRow, error: Exception) -> RowOutcome:
    text = " ".join(str(error).split())
    reason = text if isinstance(error, StyleTryOnError) else f"{type(error).__name__}: {text}"
    return RowOutcome(row.key, row.line, "failed", reason=reason)


def _claim(folder: Path, settings: Mapping[str, Any]) -> None:
    """Make the folder these settings', unless it is another's."""
    path = folder / "settings.json"
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        write_text(path, json.dumps(dict(settings), indent=1) + "\n")
        return
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {str(path)!r} ({error}); choose another folder", argument="out") from error
    if known != dict(settings):
        raise ConfigError(
            f"expected a folder of results with {dict(settings)}, got {str(folder)!r} with {known}; choose "
            "another folder, or the same settings",
            argument="out",
        )


class _Journal:
    """What became of each row, a file per process."""

    def __init__(self, folder: Path, rank: int) -> None:
        self.folder = folder
        self.file = folder / f"{rank:05d}.jsonl"

    def add(self, outcome: RowOutcome) -> None:
        append_line(self.file, json.dumps(asdict(outcome)))

    def read(self) -> dict[str, RowOutcome]:
        """Return the last outcome of each row; half a line, which a killed process leaves, is passed over."""
        found: dict[str, RowOutcome] = {}
        for file in sorted(self.folder.glob("*.jsonl")):
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    outcome = RowOutcome(**json.loads(line))
                except (ValueError, TypeError):
                    continue
                if outcome.status == "done" or outcome.key not in found:
                    found[outcome.key] = outcome
        return found


_Photograph = tuple[str | os.PathLike[str], str | os.PathLike[str] | None, bool]
"""A picture's file, its pose's, and whether who is in it is known to wear a dress."""


class _Wardrobe:
    """Projections of photographs: each is made once, and kept on disk."""

    def __init__(self, folder: Path, pipeline: TryOnPipeline) -> None:
        self.folder = folder
        self.pipeline = pipeline
        self.settings = f"{pipeline.model.fingerprint} {pipeline.preset} {pipeline.seed}"
        self._held: OrderedDict[str, Latent | StyleTryOnError] = OrderedDict()

    def fetch(self, wanted: Iterable[_Photograph]) -> None:
        """Project photographs that are not known yet side by side, which takes less time than one by one."""
        waiting: dict[str, Photograph] = {}
        for photo, pose, dressed in dict.fromkeys(wanted):
            try:
                key = self._key(photo, pose, dressed)
                if key not in self._held and key not in waiting and not self._is_kept(key):
                    waiting[key] = self._prepare(photo, pose, dressed)
            except Exception:  # `get` says why, to each row that asks
                continue
            if len(waiting) == self.pipeline.batch_size or sum(map(_pixels, waiting.values())) > _HELD_PIXELS:
                self._try_project(waiting)
                waiting = {}
        self._try_project(waiting)

    def get(
        self, photo: str | os.PathLike[str], pose: str | os.PathLike[str] | None, *, dressed: bool = False
    ) -> Latent:
        """Return the latent of a photograph, with its source; `dressed` as in `prepare`.

        Raises:
            StyleTryOnError: If it cannot be projected; what failed once fails again at once.
        """
        key = self._key(photo, pose, dressed)
        if key not in self._held:
            try:
                known = self._load(key, Path(photo))
                if known is None:
                    self._project({key: self._prepare(photo, pose, dressed)})
                else:
                    self._hold(key, known)
            except StyleTryOnError as error:
                self._hold(key, error)
        self._held.move_to_end(key)
        held = self._held[key]
        if isinstance(held, StyleTryOnError):
            with renamed({"image": Path(photo).name, "pose": Path(pose or photo).name}):
                raise held
        return held

    def _hold(self, key: str, latent: Latent | StyleTryOnError) -> None:
        self._held[key] = latent
        while len(self._held) > 1 and sum(map(_pixels, self._held.values())) > _HELD_PIXELS:
            self._held.popitem(last=False)

    def _key(self, photo: str | os.PathLike[str], pose: str | os.PathLike[str] | None, dressed: bool) -> str:
        try:
            contents = [Path(photo).read_bytes(), b"" if pose is None else Path(pose).read_bytes()]
        except (OSError, ValueError) as error:
            name = getattr(error, "filename", None) or photo
            raise DataError(f"{getattr(error, 'strerror', None) or error}", argument=os.fspath(name)) from error
        digest = hashlib.blake2b(f"{self.settings}{' dress' if dressed else ''}".encode(), digest_size=16)
        for content in contents:
            digest.update(hashlib.blake2b(content).digest())
        return digest.hexdigest()

    def _is_kept(self, key: str) -> bool:
        return (self.folder / f"{key}.json").is_file()

    def _load(self, key: str, photo: Path) -> Latent | None:
        file = self.folder / f"{key}.safetensors"
        try:
            known = json.loads((self.folder / f"{key}.json").read_text(encoding="utf-8"))
            frame = Frame(**{name: tuple(value) for name, value in known["frame"].items()})
            pose = Pose(known["keypoints"], frame.photo_size)
            latent = Latent.load(file, device=self.pipeline.device)
            with Image.open(self.folder / f"{key}.png") as picture:
                labels = np.array(picture, dtype=np.uint8)
        except (OSError, ValueError, TypeError, KeyError):  # not there, or half of it: it is made anew
            return None
        return replace(latent, photograph=(Photograph(read_image(photo), frame, pose, labels),))

    def _prepare(
        self, photo: str | os.PathLike[str], pose: str | os.PathLike[str] | None, dressed: bool
    ) -> Photograph:
        known = None if pose is None else read_pose(pose, read_image(photo).size[::-1])
        return self.pipeline.read(photo, pose=known, dressed=dressed)

    def _try_project(self, photographs: Mapping[str, Photograph]) -> None:
        # One of them may spoil it, or they may be too many at once: `get` then projects each alone.
        with contextlib.suppress(Exception):
            self._project(photographs)

    def _project(self, photographs: Mapping[str, Photograph]) -> None:
        latents = self.pipeline.project_photographs(list(photographs.values()))
        for (key, one), latent in zip(photographs.items(), latents, strict=True):
            latent.save(self.folder / f"{key}.safetensors", photograph=False)
            if one.pose is None or one.labels is None:
                raise DataError("expected a photograph with pose and labels, got one without", argument=key)
            save_image(Image.fromarray(one.labels), self.folder / f"{key}.png")
            keypoints = one.pose.keypoints[0].tolist()
            known = json.dumps({"frame": asdict(one.frame), "keypoints": keypoints})
            write_text(self.folder / f"{key}.json", known)  # last: it says that the others are whole
            self._hold(key, latent)


def _pixels(held: Latent | Photograph | StyleTryOnError) -> int:
    photograph = held.photograph[0] if isinstance(held, Latent) and held.photograph else held
    return photograph.picture.width * photograph.picture.height if isinstance(photograph, Photograph) else 1
