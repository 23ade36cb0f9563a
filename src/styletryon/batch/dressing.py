"""Rows become try-ons: several at once, each with its own fate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from styletryon.batch.table import BatchRow, RowOutcome
from styletryon.batch.wardrobe import Wardrobe
from styletryon.errors import DataError, StyleTryOnError
from styletryon.latent import Latent, stack
from styletryon.pipeline import TryOnPipeline, wears_dress

_Pair = tuple[BatchRow, Latent, Latent]
"""A row, its person and its garment's wearer."""


def parts(rows: Iterable[BatchRow], size: int) -> Iterator[list[BatchRow]]:
    """Group rows of one region, which can be tried on at once."""
    groups: dict[str, list[BatchRow]] = {}
    for row in rows:
        group = groups.setdefault(row.region, [])
        group.append(row)
        if len(group) == size:
            yield groups.pop(row.region)
    yield from groups.values()


def try_rows(
    rows: Sequence[BatchRow], pipeline: TryOnPipeline, wardrobe: Wardrobe, folder: Path, *, detail: bool
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
