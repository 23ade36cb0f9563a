"""Rows become try-ons: several at once, each with its own fate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from styletryon.batch.storage import Folder
from styletryon.batch.table import BatchRow, RowOutcome, failure, reason_of
from styletryon.batch.wardrobe import Shot, Wardrobe
from styletryon.errors import DataError
from styletryon.labels import title
from styletryon.latent import Latent, stack
from styletryon.pipeline import TryOnPipeline

_Pair = tuple[BatchRow, Latent, dict[str, Latent]]
"""A row, its person, and the wearer of each region's garment."""


def parts(rows: Iterable[BatchRow], size: int) -> Iterator[list[BatchRow]]:
    """Group rows of the same regions, which can be tried on at once."""
    groups: dict[frozenset[str], list[BatchRow]] = {}
    for row in rows:
        regions = frozenset(row.garments)
        group = groups.setdefault(regions, [])
        group.append(row)
        if len(group) == size:
            yield groups.pop(regions)
    yield from groups.values()


def shots(row: BatchRow) -> tuple[Shot, dict[str, Shot]]:
    """Return the photographs that a row names: the person's, and by region the garments'."""
    worn = {region: Shot(*named, region, row.garment_worn) for region, named in row.garments.items()}
    return Shot(row.person, row.person_pose), worn


def try_rows(
    rows: Sequence[BatchRow], pipeline: TryOnPipeline, wardrobe: Wardrobe, folder: Folder, *, detail: bool
) -> Iterator[RowOutcome]:
    """Try rows of the same regions on; one that fails, fails alone."""
    named = [shots(row) for row in rows if not row.fault]
    wardrobe.fetch([*(person for person, _ in named), *(one for _, worn in named for one in worn.values())])
    ready: list[_Pair] = []
    for row in rows:
        try:
            if row.fault:
                raise DataError(row.fault)
            person, worn = shots(row)
            garments = {region: wardrobe.get(one) for region, one in worn.items()}
            ready.append((row, wardrobe.get(person), garments))
        except Exception as error:
            yield failure(row, reason_of(error))
    yield from _dress(ready, pipeline, folder, detail=detail)


def _dress(
    ready: Sequence[_Pair], pipeline: TryOnPipeline, folder: Folder, *, detail: bool
) -> Iterator[RowOutcome]:
    """Dress people at once if that works, else in halves; each picture is told of as soon as it is written."""
    if not ready:
        return
    people = stack([person for _, person, _ in ready])
    garments = {region: stack([worn[region] for _, _, worn in ready]) for region in ready[0][2]}
    try:
        batch = pipeline.optimize(people, garments)
    except Exception as error:
        if len(ready) == 1:
            yield failure(ready[0][0], reason_of(error))
            return
        for half in (ready[: len(ready) // 2], ready[len(ready) // 2 :]):
            yield from _dress(half, pipeline, folder, detail=detail)
        return
    for place, (row, person, worn) in enumerate(ready):
        try:
            result = pipeline.show(batch, place, detail=detail)
            folder.write(row.out, result.save)
        except Exception as error:
            yield failure(row, reason_of(error))
            continue
        report = dict(result.report)
        roles = {f"{title(region)}_garment" if len(worn) > 1 else "garment": one for region, one in worn.items()}
        for role, latent in {"person": person, **roles}.items():
            report |= {f"{role}_{name}": value for name, value in latent.report.items()}
        yield RowOutcome(row.key, row.line, "done", row.out, report=report)
