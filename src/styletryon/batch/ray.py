"""A table of try-ons on many machines or GPUs, by Ray Data.

.. code-block:: text

    OUT/NAME.png            a try-on
    OUT/outcomes.parquet    what became of each row, when a run is over
    OUT/rows/*.parquet      the same while it goes on, a file per batch
    OUT/latents/KEY.*       each photograph's projection, so that it is projected once
    OUT/settings.json       what the results were made with

OUT, the table and what it names may stand in an object store. Every machine of the cluster has to see them, and to have
styletryon installed.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import os
import posixpath
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain
from pathlib import PurePosixPath
from typing import Any

from torch import Tensor

from styletryon._arguments import check_seed, number, whole
from styletryon._files import write_atomically, write_text
from styletryon._loading import ModelLike
from styletryon.batch.dressing import parts, shots, try_rows
from styletryon.batch.settings import claim
from styletryon.batch.storage import Folder, Place, is_url, path_of
from styletryon.batch.table import (
    BatchRow,
    BatchSummary,
    RowOutcome,
    failure,
    read_table,
    summarize,
    unfinished,
    with_worn,
)
from styletryon.batch.wardrobe import Shot, Wardrobe
from styletryon.errors import ConfigError, DependencyError, ProcessGroupError
from styletryon.losses import TryOnLoss, TryOnState
from styletryon.pipeline import TryOnPipeline

__all__ = ["try_on_dataset"]

Progress = Callable[[str, int, int], object]
"""Is called with what is done ("projecting", then "dressing"), and how much of how much."""

_OUTCOMES = "outcomes.parquet"

_ROOM_S = 10.0
"""Seconds for workers of an earlier call to leave before a cluster counts as full."""
_START_S = 600.0
"""Seconds for workers to start where there is room: they load a model, which may have to come from the hub."""
_TRIES = 4
"""How many workers may die of a batch. Ray would give it to the next one without end."""


def try_on_dataset(
    table: Place | Sequence[BatchRow],
    out: Place,
    *,
    workers: int | tuple[int, int] = (1, 32),
    num_gpus: float = 1,
    num_cpus: float = 1,
    region: str = "top",
    model: ModelLike | None = None,
    losses: Mapping[str, tuple[float, TryOnLoss | Callable[[TryOnState], Tensor]]] | None = None,
    preset: str = "balanced",
    seed: int = 0,
    batch_size: int = 8,
    detail: bool = True,
    retry_failed: bool = False,
    garment_worn: bool | None = None,
    wait_s: float = 0,
    progress: Progress | None = None,
) -> BatchSummary:
    """Try on every row of a table with the workers of a Ray cluster.

    First every photograph is projected, once however many rows name it; then people are dressed. A worker that dies is
    replaced, and what it had in hand is done again. What is done is never done twice: call it again after an
    interruption, and it goes on. A row that fails does not stop the others.

    The cluster is the one that `ray.init` or `RAY_ADDRESS` names; else one is started on this machine, and ended.

    Args:
        table: A CSV or Parquet file, see `styletryon.batch.read_table`, or its rows.
        out: Folder for the pictures and what is needed to go on: a path that all machines see, or a URL that fsspec
            knows, such as "s3://bucket/tryons".
        workers: The least and the most processes at work, or how many.
        num_gpus: GPUs that each worker holds: 0 to compute on the CPU, 0.5 for two workers to one GPU.
        num_cpus: CPU cores that each worker holds, and with how many threads it computes.
        region: The region of rows that name none.
        model: The generator: name, folder or object. None for the bundled one. A folder must be seen by all machines.
        losses: As for `styletryon.try_on`.
        preset: "fast", "balanced" or "quality".
        seed: As for `styletryon.try_on`.
        batch_size: Pairs that are tried on at once.
        detail: As for `styletryon.try_on`.
        retry_failed: Whether rows that failed before are tried again.
        garment_worn: As for `styletryon.batch.try_on_table`.
        wait_s: Seconds to wait for the least workers, for clusters that start machines when they are asked for. 0 to
            complain at once where there is no room.
        progress: Called after each batch.

    Returns:
        What became of the rows.

    Raises:
        DataError: If the table cannot be read.
        ConfigError: If the folder holds results of other settings, a setting is unknown, or the cluster has no room.
        RangeError: If a number makes no sense.
        SaveError: If the folder cannot be written to.
        DependencyError: If Ray is not installed, or a package that a URL needs.
        ProcessGroupError: If the workers are lost for good. What was finished is kept.
    """
    ray = _ray()
    pool = _Pool.checked(workers, num_gpus, num_cpus, wait_s)
    batch_size, seed = whole(batch_size, "batch_size", least=1), check_seed(seed)
    rows = read_table(table, region=region) if isinstance(table, str | os.PathLike) else table
    rows = [_absolute_row(row) for row in with_worn(rows, garment_worn)]
    folder = Folder(_absolute(out))
    setup = _setup(model, folder, num_gpus, detail, preset=preset, seed=seed, losses=losses, batch_size=batch_size)
    settings = {"model": setup["fingerprint"], "preset": preset, "seed": seed, "detail": detail}
    claim(folder, {**settings, "engine": "ray"})  # the other engine keeps its records elsewhere
    journal = _Journal(folder, rows)
    waiting = _waiting(rows, journal, folder, retry_failed)
    try:
        if waiting:
            with _running(ray, pool):
                _work(waiting, journal, batch_size, partial(_stream, ray, pool, setup), progress)
    finally:
        journal.close()
    return summarize(rows, journal.known)


def _setup(
    model: ModelLike | None, folder: Folder, num_gpus: float, detail: bool, **options: Any
) -> dict[str, Any]:
    """Return what each worker is made with; settings that make no sense are told here, not by a worker."""
    pipeline = TryOnPipeline(model, device="cpu", **options)
    _ = pipeline.optimizer  # so that losses that are none are told
    return {
        "model": _portable(model, pipeline),
        "options": options,
        "fingerprint": pipeline.model.fingerprint,
        "device": "cuda" if num_gpus else "cpu",
        "out": folder.place,
        "detail": detail,
        "run": uuid.uuid4().hex[:12],
    }


def _waiting(rows: Sequence[BatchRow], journal: _Journal, folder: Folder, retry_failed: bool) -> list[BatchRow]:
    """Return the rows that are still to be tried on."""
    there = folder.names()  # at once: asking an object store for a million names takes a million answers
    return unfinished(rows, journal.known, lambda name: posixpath.normpath(name) in there, retry_failed=retry_failed)


def _work(
    waiting: Sequence[BatchRow],
    journal: _Journal,
    size: int,
    stream: Callable[[type[_Worker], Sequence[list[str]]], Iterator[list[str]]],
    progress: Progress | None,
) -> None:
    tell = progress or (lambda *_: None)
    sound = [row for row in waiting if not row.fault]
    wanted = _by_photograph(sound)
    photograph = {text: number for number, texts in enumerate(wanted) for text in texts}
    faults: dict[str, str] = {}
    batches = [list(chain(*wanted[start : start + size])) for start in range(0, len(wanted), size)]
    for batch in stream(_Projecting, batches):
        faults.update(json.loads(text) for text in batch)
        tell("projecting", len({photograph[text] for text in faults}), len(wanted))
    reasons = {row.key: _reason(row, faults) for row in waiting}
    journal.add([failure(row, reasons[row.key]) for row in waiting if reasons[row.key]])
    ready = [row for row in waiting if not reasons[row.key]]
    finished = len(waiting) - len(ready)
    for batch in stream(_Dressing, [[_text(asdict(row)) for row in part] for part in parts(ready, size)]):
        journal.add([RowOutcome(**json.loads(text)) for text in batch])
        finished += len(batch)
        tell("dressing", finished, len(waiting))


def _reason(row: BatchRow, faults: Mapping[str, str]) -> str:
    return row.fault or next(filter(None, (faults[shot] for shot in _photographs(row))), "")


def _by_photograph(rows: Iterable[BatchRow]) -> list[list[str]]:
    """Return as what each photograph is wanted: one worker reads it in all its parts, and projects it once."""
    wanted: dict[tuple[Place, Place | None], dict[str, None]] = {}
    for row in rows:
        person, worn = shots(row)
        for shot in (person, *worn.values()):
            wanted.setdefault((shot.photo, shot.pose), {})[_text(shot)] = None
    return [list(texts) for texts in wanted.values()]


def _photographs(row: BatchRow) -> list[str]:
    person, worn = shots(row)
    return [_text(shot) for shot in (person, *worn.values())]


class _Worker:
    """A process of a pool, which holds the networks."""

    def __init__(self, setup: Mapping[str, Any]) -> None:
        self.pipeline = TryOnPipeline(setup["model"], device=setup["device"], remember=0, **setup["options"])
        if self.pipeline.model.fingerprint != setup["fingerprint"]:
            raise ConfigError(
                f"expected the same model on every machine, got another one at {setup['model']!r}; copy it there, or "
                "name a folder that all of them see",
                argument="model",
            )
        self.folder = Folder(setup["out"])
        self.detail, self.run = setup["detail"], setup["run"]
        self.wardrobe = Wardrobe(self.folder / "latents", self.pipeline)

    def __call__(self, table: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        """Do the batches of a part of Ray's table, each a cell."""
        return {"batch": [_text(self._try(str(cell))) for cell in table["batch"]]}

    def _try(self, cell: str) -> list[str]:
        mark = f"rows/{self.run}-{hashlib.blake2b(cell.encode(), digest_size=8).hexdigest()}.tries"
        tries = int(self.folder.read(mark)) if self.folder.has(mark) else 0
        items = [json.loads(item) for item in json.loads(cell)]
        if tries == _TRIES:
            return list(map(_text, self.refuse(items, f"{tries} workers died of its batch; try it with batch_size=1")))
        self.folder.write(mark, partial(write_text, text=str(tries + 1)))
        made = list(map(_text, self.work(items)))
        self.folder.remove(mark)
        return made

    def work(self, items: list[Any]) -> Iterable[object]:
        """Say what became of each item."""
        raise NotImplementedError

    def refuse(self, items: list[Any], reason: str) -> Iterable[object]:
        """Say so that each item failed."""
        raise NotImplementedError


class _Projecting(_Worker):
    """Projects photographs, and says of each why that failed, if it did."""

    def work(self, items: list[Any]) -> Iterable[object]:
        taken = [Shot(*item) for item in items]
        return zip(map(_text, taken), self.wardrobe.keep(taken), strict=True)

    def refuse(self, items: list[Any], reason: str) -> Iterable[object]:
        return ((_text(item), reason) for item in items)


class _Dressing(_Worker):
    """Dresses people whose photographs are projected, and says what became of each row."""

    def work(self, items: list[Any]) -> Iterable[object]:
        rows = [BatchRow(**item) for item in items]
        return map(asdict, try_rows(rows, self.pipeline, self.wardrobe, self.folder, detail=self.detail))

    def refuse(self, items: list[Any], reason: str) -> Iterable[object]:
        return (asdict(failure(BatchRow(**item), reason)) for item in items)


def _text(value: object) -> str:
    """Write a value as a cell of Ray's tables: text that equal values share."""
    return json.dumps(value, default=os.fspath)


def _stream(
    ray: Any, pool: _Pool, setup: Mapping[str, Any], worker: type[_Worker], batches: Sequence[list[str]]
) -> Iterator[list[str]]:
    """Hand batches out to a pool of workers, and give what they make of each as soon as it is ready."""
    if not batches:
        return
    count = len(batches)
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.wait_for_min_actors_s = pool.wait_s or _START_S
    # A pool grows as soon as all of it is at work: no batch waits at a worker, which is what Ray grows by otherwise.
    context.autoscaling_config.actor_pool_util_upscaling_threshold = 1.0
    with ray.data.DataContext.current(context):
        # The batches are in memory, and outcomes are written here: nothing but workers needs a core. A reader, a writer
        # or Ray's own filter of what is done would wait for ever on a cluster whose cores the workers hold.
        cells = [{"batch": _text(batch)} for batch in batches]
        data = ray.data.from_items(cells, override_num_blocks=count).map_batches(
            worker,
            fn_constructor_args=(setup,),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(
                min_size=min(pool.least, count), max_size=min(pool.most, count), max_tasks_in_flight_per_actor=1
            ),
            num_gpus=pool.num_gpus,
            num_cpus=pool.num_cpus,
        )
    for table in data.iter_batches(batch_size=None):
        for cell in table["batch"]:
            yield json.loads(cell)


@dataclass(frozen=True)
class _Pool:
    """How many workers there are, what each holds, and how long they are waited for."""

    least: int
    most: int
    num_gpus: float
    num_cpus: float
    wait_s: float

    @classmethod
    def checked(cls, workers: int | tuple[int, int], num_gpus: float, num_cpus: float, wait_s: float) -> _Pool:
        least, most = workers if isinstance(workers, tuple | list) else (workers, workers)
        least = whole(least, "workers", least=1)
        return cls(
            least,
            whole(most, "workers", least=least),
            number(num_gpus, "num_gpus", least=0),
            number(num_cpus, "num_cpus", least=0.01),
            number(wait_s, "wait_s", least=0),
        )

    def check_room(self, ray: Any) -> None:
        """Complain where the least workers do not fit into what is free, rather than wait for ever."""
        needed = {"CPU": self.num_cpus, "GPU": self.num_gpus}
        end = time.monotonic() + _ROOM_S
        while (room := _room(ray, needed)) < self.least:
            there, free = ray.cluster_resources(), ray.available_resources()
            if time.monotonic() > end or any(self.least * each > there.get(name, 0) for name, each in needed.items()):
                has = ", ".join(f"{free.get(name, 0):g} of {there.get(name, 0):g} {name}s free" for name in needed)
                raise ConfigError(
                    f"expected a cluster with room for {self.least} workers of {self.num_cpus:g} CPUs and "
                    f"{self.num_gpus:g} GPUs each, got room for {room} ({has}); ask for fewer or smaller workers "
                    "(num_gpus=0 computes on the CPU), or give wait_s where machines start when they are asked for",
                    argument="workers",
                )
            time.sleep(0.2)


def _room(ray: Any, needed: Mapping[str, float]) -> int:
    """Return how many workers fit now: as many as the machines can hold, and no more than what is free."""
    asked = {name: each for name, each in needed.items() if each > 0}

    def fits(resources: Mapping[str, float]) -> int:
        return min(int(resources.get(name, 0) / each + 1e-6) for name, each in asked.items())

    return min(sum(fits(node["Resources"]) for node in ray.nodes() if node["Alive"]), fits(ray.available_resources()))


@contextmanager
def _running(ray: Any, pool: _Pool) -> Iterator[None]:
    """Take the cluster that there is, or start one; say what Ray says of lost workers in our words."""
    own = not ray.is_initialized()
    if own:
        ray.init(log_to_driver=False, logging_level=logging.WARNING)
    try:
        if not pool.wait_s:
            pool.check_room(ray)
        yield
    except ray.exceptions.GetTimeoutError as error:
        raise ConfigError(
            f"expected {pool.least} workers to start within {pool.wait_s or _START_S:g} s, got fewer ({error}); ask "
            "for fewer or smaller ones, or wait longer (wait_s)",
            argument="workers",
        ) from error
    except ray.exceptions.RayError as error:
        raise ProcessGroupError(
            f"the workers are lost: {' '.join(str(error).split())}; what was finished is kept, and the same call goes "
            "on from there"
        ) from error
    finally:
        if own:
            ray.shutdown()


class _Journal:
    """What became of each row: a file of Parquet per batch, and when a run is over one for all.

    Attributes:
        known: Key -> what became of the row.
    """

    def __init__(self, folder: Folder, rows: Iterable[BatchRow]) -> None:
        self._folder = folder
        self._rows = {row.key: row for row in rows}
        self._arrow = importlib.import_module("pyarrow")
        self._parquet = importlib.import_module("pyarrow.parquet")
        self._parts = [f"rows/{name}" for name in sorted((folder / "rows").names()) if name.endswith(".parquet")]
        self._cells: dict[str, dict[str, Any]] = {}
        for name in [*([_OUTCOMES] if folder.has(_OUTCOMES) else []), *self._parts]:
            table = self._parquet.read_table(self._arrow.BufferReader(folder.read(name)))
            self._cells.update((cells["key"], cells) for cells in table.to_pylist())
        self.known = {key: _outcome(cells) for key, cells in self._cells.items()}

    def add(self, outcomes: Sequence[RowOutcome]) -> None:
        """Write down what became of rows."""
        if not outcomes:
            return
        cells = [_cells(self._rows[outcome.key], outcome) for outcome in outcomes]
        last = int(PurePosixPath(self._parts[-1]).stem) if self._parts else 0
        name = f"rows/{last + 1:08d}.parquet"
        self._write(name, cells)
        self._parts.append(name)
        self._cells.update((one["key"], one) for one in cells)
        self.known.update((outcome.key, outcome) for outcome in outcomes)

    def close(self) -> None:
        """Make one file of many."""
        if self._parts:
            self._write(_OUTCOMES, sorted(self._cells.values(), key=lambda cells: int(cells["line"])))
        for name in (self._folder / "rows").names():  # marks of batches that were never finished too
            self._folder.remove(f"rows/{name}")
        self._parts.clear()

    def _write(self, name: str, cells: list[dict[str, Any]]) -> None:
        schema = self._arrow.schema([(column, "int64" if column == "line" else "string") for column in cells[0]])
        table = self._arrow.Table.from_pylist(cells, schema=schema)
        self._folder.write(name, lambda path: write_atomically(path, partial(self._parquet.write_table, table)))


def _cells(row: BatchRow, outcome: RowOutcome) -> dict[str, Any]:
    garment = _text(row.garment) if isinstance(row.garment, dict) else row.garment
    named = {"line": row.line, "person": row.person, "garment": garment, "region": row.region}
    return {**named, **asdict(outcome), "report": _text(dict(outcome.report))}


def _outcome(cells: Mapping[str, Any]) -> RowOutcome:
    report = json.loads(cells["report"])
    return RowOutcome(cells["key"], cells["line"], cells["status"], cells["out"], cells["reason"], report)


def _absolute(place: Place) -> str:
    """Write a place so that a worker with another working directory finds it."""
    return os.fspath(place) if is_url(place) else os.fspath(path_of(place).absolute())


def _absolute_row(row: BatchRow) -> BatchRow:
    def each(named: Place | Mapping[str, Place] | None) -> Any:
        if isinstance(named, Mapping):
            return {region: _absolute(place) for region, place in named.items()}
        return None if named is None else _absolute(named)

    names = ("person", "garment", "person_pose", "garment_pose")
    return replace(row, **{name: each(getattr(row, name)) for name in names})


def _portable(model: ModelLike | None, pipeline: TryOnPipeline) -> Any:
    """Return what a worker loads the model by: a name, a folder, or the object itself."""
    if model is None or isinstance(model, str | os.PathLike):
        return _absolute(model) if model is not None and path_of(model).exists() else model
    return pipeline.model


def _ray() -> Any:
    try:
        importlib.import_module("ray.data")
        return importlib.import_module("ray")
    except ImportError as error:
        raise DependencyError("many machines need Ray: pip install 'styletryon[ray]'", argument="engine") from error
