"""Parts of every evaluation: counting, batches, and the account of how a number came about."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from styletryon._deprecated import warn_renamed
from styletryon.data.folder import Batch, FolderDataset
from styletryon.data.paperdoll import Rendering
from styletryon.errors import ConfigError, RangeError
from styletryon.generator import Generator
from styletryon.metrics.measures import Array, Statistic
from styletryon.metrics.methods import GROUPS
from styletryon.metrics.networks import fingerprint
from styletryon.metrics.report import EvaluationReport, compare, summarise, versions
from styletryon.metrics.scoring import Picture, score_keypoints
from styletryon.photo import from_uint8, to_pil
from styletryon.pose import BodyEstimator, Pose, PoseEstimator

Progress = Callable[[str, int, int], None]
"""Is called with the name of a stage, how much of it is done, and of how much."""

_OLD_METHODS = {"shares": "channel_masks", "ours_without_shares": "ours_without_masks"}

Values = dict[str, dict[str, list[float]]]
"""Method -> measure -> one number per pair."""


class PoseScorer:
    """Finds the poses in drawn pictures, to compare them with those that were asked for.

    Args:
        estimate_pose: Finds the pose in a picture; None for the bundled network, which is made to answer always: a
            picture in which it finds nobody is to count as wrong, not to be left out.
    """

    def __init__(self, estimate_pose: PoseEstimator | None = None) -> None:
        if estimate_pose is None:
            bundled = BodyEstimator.from_pretrained()
            bundled.least_score = 0.0
            self._estimate: PoseEstimator = bundled
            self.account = {"name": "keypoints", "weights": "bundled", "fingerprint": fingerprint(bundled.network)}
        else:
            self._estimate = estimate_pose
            self.account = {"name": repr(estimate_pose), "weights": "the caller's", "fingerprint": ""}

    def score(self, picture: Picture, asked: Array) -> dict[str, float]:
        """Compare the pose in a picture with the asked `(17, 3)` keypoints; see `score_keypoints`."""
        pixels = from_uint8(torch.from_numpy(picture.image).permute(2, 0, 1))
        found = self._estimate(to_pil(pixels)).keypoints[0].cpu().numpy()
        height, width = picture.image.shape[:2]
        return score_keypoints(found, asked, (height, width))


def batches(items: Any, size: int) -> Iterator[Any]:
    """Cut a sequence into parts of `size`; the last may be smaller."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


class Evaluation:
    """The numbers of an evaluation as they come in, and the report of them.

    Args:
        model: The generator.
        seed: Seed of the bootstrap.
        progress: Called with the name of a stage, how much of it is done, and of how much; None for nobody.
        **known: Further settings that the report names.
    """

    def __init__(self, model: Generator, *, seed: int, progress: Progress | None = None, **known: Any) -> None:
        self.seed = seed
        self.values: Values = {}
        self._model = model
        self._known = known
        self._progress = progress
        self._started = time.perf_counter()

    def progress(self, stage: str, done: int, total: int) -> None:
        """Say how much of a stage is done."""
        if self._progress is not None:
            self._progress(stage, done, total)

    def add(self, method: str, found: Mapping[str, float]) -> None:
        """Add the numbers of a pair."""
        row = self.values.setdefault(method, {})
        for measure, number in found.items():
            row.setdefault(measure, []).append(number)

    def table(self) -> dict[str, dict[str, Statistic]]:
        """Return the statistics of all numbers so far."""
        return summarise(self.values, seed=self.seed)

    def report(
        self,
        what: str,
        comparisons: Sequence[tuple[str, str]],
        *,
        methods: Mapping[str, Mapping[str, Statistic]] | None = None,
        **account: Any,
    ) -> EvaluationReport:
        """Put the report together.

        Args:
            what: The kind of evaluation.
            comparisons: The differences to state; see `compare`.
            methods: The table; None for `table()`.
            **account: Further settings that the report names.
        """
        return EvaluationReport(
            what=what,
            settings={
                **self._known,
                "seed": self.seed,
                "model": self._model.fingerprint,
                "size": list(self._model.image_size),
                "device": str(self._model.w_mean.device),
                "versions": versions(),
                **account,
                "seconds": time.perf_counter() - self._started,
            },
            methods=self.table() if methods is None else methods,
            gaps=compare(self.values, comparisons, seed=self.seed),
            values=self.values,
        )


def check_counts(**counts: int) -> None:
    """Raise a `RangeError` unless every number is at least 1."""
    for name, count in counts.items():
        if count < 1:
            raise RangeError(f"expected at least 1, got {count}", argument=name)


def check_methods(
    methods: Collection[str], known: Collection[str], model: Generator, classes: Collection[int]
) -> list[str]:
    """Resolve groups of methods, and put the methods into the order of the table.

    Args:
        methods: Names of methods and groups. What a group has and is not known here is left out.
        known: The methods that can be had.
        model: The generator; without learnt channel masks, a group has no method "channel_masks".
        classes: The classes of the region.

    Raises:
        ConfigError: If a name is unknown, or none is left.
    """
    asked = [methods] if isinstance(methods, str) else list(methods)
    has_masks = model.channel_masks(classes) is not None
    names: list[str] = []
    for entry in map(_renamed, asked):
        group = [name for name in GROUPS.get(entry, ()) if name in known and (name != "channel_masks" or has_masks)]
        names += group if entry in GROUPS else [entry]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ConfigError(
            f"expected some of {', '.join(known)}, or of the groups {', '.join(GROUPS)}, got "
            f"{', '.join(unknown) or 'none'}",
            argument="methods",
        )
    return [name for name in known if name in names]


def _renamed(method: str) -> str:
    new = _OLD_METHODS.get(method, method)
    if new != method:
        warn_renamed(f"the method {method!r}", repr(new), until="0.4")
    return new


def stack_images(shown: Sequence[Rendering | Picture]) -> Tensor:
    """Bring pictures to `(B, 3, H, W)` in [-1, 1]."""
    pixels = torch.from_numpy(np.stack([each.image for each in shown]))
    return from_uint8(pixels.permute(0, 3, 1, 2)).contiguous()


def stack_poses(renderings: Sequence[Rendering]) -> Pose:
    """Join the poses of rendered figures."""
    keypoints = np.stack([np.asarray(rendering.keypoints, dtype=np.float32) for rendering in renderings])
    height, width = renderings[0].labels.shape
    return Pose(torch.from_numpy(keypoints), (height, width))


def photos(batch: Batch) -> tuple[Picture, ...]:
    """Return the pictures of a data set's batch."""
    images, labels = batch.images.permute(0, 2, 3, 1).numpy(), batch.labels.numpy()
    return tuple(Picture(image, classes) for image, classes in zip(images, labels, strict=True))


def draw_couples(count: int, usable: Sequence[int] | Array, seed: int) -> list[tuple[int, int]]:
    """Draw pairs of different numbers; more pairs begin with the fewer."""
    rng = np.random.default_rng(seed)
    drawn = [rng.choice(usable, size=2, replace=False) for _ in range(count)]
    return [(int(first), int(second)) for first, second in drawn]


def describe_data(dataset: FolderDataset) -> dict[str, Any]:
    """Say which data set it was, and not where it lies."""
    return {"name": dataset.path.name, "split": dataset.split, "photographs": len(dataset)}
