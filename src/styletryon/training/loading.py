"""The pictures of each step, which follow from its number alone; threads read them ahead."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from styletryon.data import FolderDataset, JoinedDataset
from styletryon.errors import DataError, RangeError
from styletryon.photo import from_uint8
from styletryon.pose import Pose
from styletryon.training.augmentation import Augmentation, Change, draw_change
from styletryon.training.config import TrainingConfig
from styletryon.training.distributed import BatchSplit
from styletryon.training.randomness import stream

Dataset = FolderDataset | JoinedDataset
_Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Examples:
    """Pictures with labels and poses.

    Attributes:
        images: `(B, 3, H, W)` float32 in [-1, 1].
        labels: `(B, H, W)` uint8 classes.
        pose: B poses.
    """

    images: Tensor
    labels: Tensor
    pose: Pose

    def to(self, device: torch.device) -> Examples:
        """Return them on a device; from pinned memory the copy goes on while the host does."""
        return Examples(
            self.images.to(device, non_blocking=True), self.labels.to(device, non_blocking=True), self.pose.to(device)
        )

    def pinned(self) -> Examples:
        """Return them in memory that a CUDA device reads by itself."""
        return replace(self, images=self.images.pin_memory(), labels=self.labels.pin_memory())


@dataclass(frozen=True, eq=False)
class GarmentSwap:
    """People of a micro-batch who put on the clothes of others.

    Attributes:
        rows: `(N,)` int64: which people.
        garments: N pictures of the wearers.
        regions: The name of each try-on's region.
    """

    rows: Tensor
    garments: Examples
    regions: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class MicroBatch:
    """The part of a batch that is computed at once.

    Attributes:
        part: Number of the micro-batch among those of all processes; see `BatchSplit`.
        target: What is drawn.
        source: The same styles, mostly in other poses, to read.
        swap: The clothes of others that some of them put on; None if nobody does.
    """

    part: int
    target: Examples
    source: Examples
    swap: GarmentSwap | None = None

    def to(self, device: torch.device) -> MicroBatch:
        """Return it on a device."""
        swap = self.swap
        if swap is not None:
            swap = replace(swap, rows=swap.rows.to(device), garments=swap.garments.to(device))
        return MicroBatch(self.part, self.target.to(device), self.source.to(device), swap)

    def pinned(self) -> MicroBatch:
        """Return it in memory that a CUDA device reads by itself."""
        swap = self.swap
        if swap is not None:
            swap = replace(swap, garments=swap.garments.pinned())
        return MicroBatch(self.part, self.target.pinned(), self.source.pinned(), swap)


class BatchLoader:
    """Reads the micro-batches of this process, step by step.

    Everything that is drawn here is drawn for the whole batch, of which each process then takes its micro-batches.

    Args:
        dataset: The pictures.
        config: The settings.
        split: The split of the batch.
        parts: The micro-batches of this process.
        workers: Threads that read the next steps meanwhile; 0 for none.
        pin: Whether what is read shall lie in pinned memory.

    Raises:
        RangeError: If `workers` is negative.
    """

    def __init__(
        self,
        dataset: Dataset,
        config: TrainingConfig,
        split: BatchSplit,
        parts: Sequence[int],
        *,
        workers: int = 0,
        pin: bool = False,
    ) -> None:
        if workers < 0:
            raise RangeError(f"expected at least 0, got {workers}", argument="workers")
        self._dataset = dataset
        self._config = config
        self._split = split
        self._parts = tuple(parts)
        self._workers = workers
        self._pin = pin
        self._pool: ThreadPoolExecutor | None = None
        self._ahead: dict[int, Future[list[MicroBatch]]] = {}

    def load(self, step: int) -> list[MicroBatch]:
        """Return the micro-batches of a step, on the CPU, and have those of the next steps read.

        Raises:
            DataError: If a picture is read now and is faulty.
        """
        if not self._workers:
            return self._read(step)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="loader")
        wanted = range(step, step + self._workers + 1)
        for old in [known for known in self._ahead if known not in wanted]:
            self._ahead.pop(old).cancel()
        for ahead in wanted:
            if ahead not in self._ahead:
                self._ahead[ahead] = self._pool.submit(self._read, ahead)
        return self._ahead.pop(step).result()

    def close(self) -> None:
        """Let the threads go; the next `load` starts new ones."""
        self._ahead.clear()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _read(self, step: int) -> list[MicroBatch]:
        config, size = self._config, self._config.batch_size
        targets = self._dataset.drawn(size, config.seed, step)
        sources, rows, tryons = targets, np.zeros(0, np.int64), None
        if config.encoder is not None:
            draw = np.random.default_rng([config.seed, step])
            sources = cross_pose_sources(self._dataset, targets, config.cross_pose, draw)
            rows = _spread(round(config.tryons * size), size)
            if len(rows):
                tryons = self._dataset.tryons(len(rows), draw)
                targets, sources = targets.copy(), sources.copy()
                targets[rows], sources[rows] = tryons.truths, tryons.people
        # One change for all that belongs to a sample, so that the mirrored person still wears the mirrored clothes.
        change = draw_change(size, _augmentation(config, step), generator=stream(config.seed, step, 0))
        micro_batches = []
        for part in self._parts:
            own = np.asarray(self._split.rows(part))
            micro_batch = MicroBatch(part, self._examples(targets, own, change), self._examples(sources, own, change))
            here = np.flatnonzero((rows >= own[0]) & (rows <= own[-1]))
            if tryons is not None and len(here):
                garments = read(self._dataset, tryons.garments[here], change.of(rows[here]))
                regions = tuple(tryons.regions[int(place)] for place in here)
                swap = GarmentSwap(torch.from_numpy(rows[here] - own[0]), garments, regions)
                micro_batch = replace(micro_batch, swap=swap)
            micro_batches.append(micro_batch.pinned() if self._pin else micro_batch)
        return micro_batches

    def _examples(self, indices: _Rows, own: _Rows, change: Change) -> Examples:
        return read(self._dataset, indices[own], change.of(own))


def read_splits(
    data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    size: tuple[int, int],
    batch_size: int,
    shares: Sequence[float] | None = None,
    cache: bool = True,
) -> tuple[Dataset, Dataset | None]:
    """Return the pictures to train on, and those to validate on where there are any.

    Args:
        data: Folder or zip, or several that are trained on together.
        size: Height and width of the pictures.
        batch_size: Pictures a step.
        shares: How often each of several data sets is drawn from; see `styletryon.data.JoinedDataset`.
        cache: Whether all pictures are kept in memory.

    Raises:
        DataError: If a data set is incomplete, there are fewer pictures than in a batch, or shares of a single one.
    """
    paths = [data] if isinstance(data, str | os.PathLike) else list(data)
    parts = [FolderDataset(path, size=size, cache=cache) for path in paths]
    if not parts or (shares is not None and len(parts) == 1):
        raise DataError(f"expected several data sets where there are shares, got {paths}", argument="data")
    dataset = parts[0] if len(parts) == 1 else JoinedDataset(parts, shares=shares)
    if len(dataset) < batch_size:
        raise DataError(f"expected at least {batch_size} pictures, a batch, got {len(dataset)}", argument="data")
    held_out = []
    for path in paths:
        with contextlib.suppress(DataError):
            held_out.append(FolderDataset(path, size=size, split="val", cache=cache))
    if len(held_out) > 1:
        return dataset, JoinedDataset(held_out)
    return dataset, held_out[0] if held_out else None


def cross_pose_sources(dataset: Dataset, targets: _Rows, probability: float, draw: np.random.Generator) -> _Rows:
    """Return the pictures that are read for those that are drawn: some show the same style in another pose.

    Args:
        dataset: The pictures.
        targets: `(B,)` numbers of what is drawn.
        probability: That a picture is of another pose, where the data set has such.
        draw: Source of random numbers.
    """
    if not dataset.has_partners:
        return targets
    partners = dataset.partners(targets, draw)
    return np.where(draw.random(len(targets)) < probability, partners, targets)


def read(dataset: Dataset, indices: _Rows, change: Change | None = None) -> Examples:
    """Read pictures of a data set, on the CPU, and change them if asked to."""
    batch = dataset.batch(indices)
    images, labels, keypoints = from_uint8(batch.images), batch.labels, batch.keypoints
    if change is not None:
        images, labels = change.images(images), change.labels(labels)
        keypoints = change.keypoints(keypoints, dataset.size)
    return Examples(images, labels, Pose(keypoints, dataset.size))


def _augmentation(config: TrainingConfig, step: int) -> Augmentation:
    # What the discriminator takes for real is not changed for good: the generator would learn to draw it.
    adversarial = bool(config.stages[config.stage_at(step * config.batch_size)].adversarial)
    geometry, colour = (0.0, 0.0) if adversarial else (config.geometry, config.colour)
    return Augmentation(flip=config.flip, geometry=geometry, colour=colour)


def _spread(count: int, size: int) -> _Rows:
    """Return `count` rows out of `size`, evenly spread, so that equal micro-batches get equally many to within one."""
    edges: Any = np.arange(size + 1) * count // size
    return np.flatnonzero(np.diff(edges)).astype(np.int64)
