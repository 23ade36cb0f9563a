"""Evaluation of a generator by itself: the people that it makes up, and photographs that it draws again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from os import PathLike
from typing import Any

import numpy as np
import torch

from styletryon.data.folder import FolderDataset
from styletryon.errors import ConfigError, DataError, RangeError
from styletryon.features import FeatureNetwork
from styletryon.generator import Generator
from styletryon.metrics._evaluation import (
    Evaluation,
    PoseScorer,
    Progress,
    batches,
    check_counts,
    describe_data,
    photos,
    stack_images,
)
from styletryon.metrics.distances import Array, frechet_distance, kernel_distance, subset_kernel_distance
from styletryon.metrics.measures import Statistic
from styletryon.metrics.methods import Bench
from styletryon.metrics.networks import SetNetwork, find_set_network
from styletryon.metrics.report import EvaluationReport
from styletryon.metrics.scoring import Picture, pictures, score_labels, score_reconstruction
from styletryon.photo import frame_person, from_uint8
from styletryon.pose import PoseEstimator

GENERATOR_METRICS = ("fid", "kid", "reconstruction", "pose")
"""The measures that `evaluate_generator` knows."""


def evaluate_generator(
    model: Generator,
    data: str | PathLike[str],
    *,
    metrics: Collection[str] = GENERATOR_METRICS,
    split: str = "val",
    samples: int | None = None,
    pairs: int = 64,
    seed: int = 0,
    truncation: float = 1.0,
    preset: str = "balanced",
    batch_size: int = 16,
    features: str | FeatureNetwork | SetNetwork = "efficientnet",
    estimate_pose: PoseEstimator | None = None,
    progress: Progress | None = None,
) -> EvaluationReport:
    """Compare the people that a generator makes up with photographs, and draw photographs again.

    People are made up from random z in the poses of the photographs. Rows of the report: `generated`; `halves`, two
    random halves of the photographs against each other, which is what distances of so few pictures come to when nothing
    differs; `reconstruction`; and `photographs`, whose poses are estimated too: the estimator's own error.

    Args:
        model: The generator.
        data: A data set of photographs, see `styletryon.data.FolderDataset`.
        metrics: Some of `GENERATOR_METRICS`: "fid" and "kid" (distances of the sets), "reconstruction" (photographs
            projected and drawn again), "pose" (the pose in what was made up, against the pose that was asked for).
        split: Which split of the data set: one that the model did not train on.
        samples: How many people to make up. None: as many as there are photographs.
        pairs: How many photographs to draw again, and to estimate poses in; at most all of them.
        seed: Of the people, of the choice of photographs, of subsets and of the bootstrap.
        truncation: How far from the mean the people are: 0 is the mean, 1 all variety.
        preset: Preset of the projection.
        batch_size: Pictures that are worked on at once.
        features: The network whose features "fid" and "kid" compare, see `find_set_network`; the report says which.
        estimate_pose: Finds the poses in what was drawn; None for the bundled network.
        progress: Called after each batch.

    Returns:
        The report: `fid` (no interval), `kid` (its interval is the jackknife's), `fg_psnr`, `fg_ssim`, `frame_psnr`,
        `frame_ssim`, `label_iou` and `iou_CLASS`, `keypoint_error`, `pck_10`, `pck_20`. `settings["kid_subsets"]` holds
        the kernel distance over subsets.

    Raises:
        ConfigError: If a metric, the network or the preset is unknown.
        RangeError: If a number is out of range.
        DataError: If the data set cannot be read, or holds too few photographs.
        WeightsUnavailableError: If the weights of the network are not at hand.
    """
    wanted = _check_metrics(metrics)
    check_counts(pairs=pairs, batch_size=batch_size, samples=1 if samples is None else samples)
    if not 0 <= truncation <= 1:
        raise RangeError(f"expected a number in [0, 1], got {truncation}", argument="truncation")
    distances = [name for name in wanted if name in ("fid", "kid")]
    network = find_set_network(features) if distances else None
    evaluation = Evaluation(model, seed=seed, progress=progress, preset=preset, batch_size=batch_size)
    dataset = FolderDataset(data, size=model.image_size, split=split, frame=frame_person)
    if distances and len(dataset) < 6:
        raise DataError(f"expected at least six photographs in split {split!r}, got {len(dataset)}", argument="data")
    if distances and samples is not None and samples < 3:
        raise RangeError(f"expected at least 3 for {' and '.join(distances)}, got {samples}", argument="samples")
    run = _Run(evaluation, Bench(model, preset=preset, batch_size=batch_size), dataset)
    count = (len(dataset) if samples is None else samples) if distances or "pose" in wanted else 0
    scorer = PoseScorer(estimate_pose) if "pose" in wanted else None
    again = run.order[:pairs]
    scored = again[:count]
    if count:
        run.make_up(count, truncation, network, scorer, len(scored))
    if network is not None:
        run.compare_sets(network, distances)
    if scorer is not None:
        run.score_photographs(scorer, scored)
    if "reconstruction" in wanted:
        run.draw_again(again)
    return run.report(
        pairs=len(again),
        metrics=list(wanted),
        data=describe_data(dataset),
        samples=count,
        truncation=truncation,
        features=None if network is None else {**network.describe(), "real": len(dataset)},
        pose_estimator=None if scorer is None else scorer.account,
    )


@dataclass(eq=False)
class _Run:
    """An evaluation of a generator, part by part."""

    evaluation: Evaluation
    bench: Bench
    dataset: FolderDataset
    sets: dict[str, dict[str, Statistic]] = field(default_factory=dict)
    subsets: dict[str, Any] | None = None
    generated: list[Array] = field(default_factory=list)

    def __post_init__(self) -> None:
        # Photographs in an order of the seed's: more of them begin with the fewer.
        self.order = np.random.default_rng(self.evaluation.seed).permutation(len(self.dataset))

    @torch.no_grad()
    def make_up(
        self, count: int, truncation: float, network: SetNetwork | None, scorer: PoseScorer | None, scored: int
    ) -> None:
        """Draw people from random z in the poses of the photographs, and measure them."""
        model = self.bench.model
        device = model.w_mean.device
        # On the CPU, so that a seed is the same on every device.
        rng = torch.Generator().manual_seed(self.evaluation.seed)
        done = 0
        for part in batches(np.resize(self.order, count), self.bench.batch_size):
            pose = self.dataset.batch(part).pose
            w = model.mapping(torch.randn(len(part), model.z_dim, generator=rng).to(device))
            styles = model.affine(torch.lerp(model.w_mean.expand_as(w), w, truncation))
            drawn = pictures(model.synthesize(styles, pose.to(device)))
            if network is not None:
                self.generated.append(network(stack_images(drawn).to(device)))
            if scorer is not None:
                self._score("generated", scorer, drawn[: max(0, scored - done)], pose.keypoints.numpy())
            done += len(part)
            self.evaluation.progress("generated", done, count)

    def compare_sets(self, network: SetNetwork, distances: Collection[str]) -> None:
        """Hold what was made up against the photographs, and their halves against each other."""
        device = self.bench.model.w_mean.device
        parts = batches(self.order, self.bench.batch_size)
        real = np.concatenate([network(from_uint8(self.dataset.batch(part).images).to(device)) for part in parts])
        drawn = np.concatenate(self.generated)
        half = len(real) // 2
        for row, first, second in (("generated", drawn, real), ("halves", real[:half], real[half:])):
            found = self.sets.setdefault(row, {})
            if "fid" in distances:
                found["fid"] = Statistic(frechet_distance(first, second), np.nan, np.nan, len(first))
            if "kid" in distances:
                value, error = kernel_distance(first, second)
                found["kid"] = Statistic(value, value - 1.96 * error, value + 1.96 * error, len(first))
        if "kid" in distances:
            self.subsets = asdict(subset_kernel_distance(drawn, real, seed=self.evaluation.seed))

    def score_photographs(self, scorer: PoseScorer, indices: Array) -> None:
        """Estimate the poses in the photographs themselves."""
        for part in batches(indices, self.bench.batch_size):
            batch = self.dataset.batch(part)
            self._score("photographs", scorer, photos(batch), batch.keypoints.numpy())

    def draw_again(self, indices: Array) -> None:
        """Project photographs and draw them again."""
        done = 0
        for part in batches(indices, self.bench.batch_size):
            batch = self.dataset.batch(part)
            drawn = self.bench.draw(self.bench.project(from_uint8(batch.images), batch.pose))
            for picture, photo in zip(drawn, photos(batch), strict=True):
                found = {**score_reconstruction(picture, photo), **score_labels(picture, photo.labels)}
                self.evaluation.add("reconstruction", found)
            done += len(part)
            self.evaluation.progress("reconstruction", done, len(indices))

    def report(self, **account: Any) -> EvaluationReport:
        """Put the numbers together."""
        table = self.evaluation.table()
        rows = ("generated", "halves", "reconstruction", "photographs")
        methods = {row: {**self.sets.get(row, {}), **table.get(row, {})} for row in rows}
        return self.evaluation.report(
            "generator",
            (("generated", "photographs"),),
            methods={row: found for row, found in methods.items() if found},
            **account,
            kid_subsets=self.subsets,
            projection_seconds=self.bench.projection_seconds,
        )

    def _score(self, row: str, scorer: PoseScorer, drawn: Sequence[Picture], asked: Array) -> None:
        for index, picture in enumerate(drawn):
            self.evaluation.add(row, scorer.score(picture, asked[index]))


def _check_metrics(metrics: Collection[str]) -> list[str]:
    asked = [metrics] if isinstance(metrics, str) else list(metrics)
    unknown = [name for name in asked if name not in GENERATOR_METRICS]
    if unknown or not asked:
        raise ConfigError(
            f"expected some of {', '.join(GENERATOR_METRICS)}, got {', '.join(unknown) or 'none'}",
            argument="metrics",
        )
    return [name for name in GENERATOR_METRICS if name in asked]
