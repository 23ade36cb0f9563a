"""The benchmark that decides: try-on of rendered pairs against their truth, beside baselines and ceilings."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

import torch

from styletryon.data.paperdoll import Rendering
from styletryon.generator import Generator
from styletryon.labels import REGIONS, region_name
from styletryon.latent import Latent
from styletryon.metrics._evaluation import (
    Evaluation,
    Progress,
    batches,
    check_counts,
    check_methods,
    stack_images,
    stack_poses,
)
from styletryon.metrics.methods import DEFAULT_METHODS, METHODS, Bench, Losses, ProjectedPairs
from styletryon.metrics.rendered_pairs import Pair, pair_seeds, render_pair
from styletryon.metrics.report import EvaluationReport
from styletryon.metrics.scoring import Picture, score_pair
from styletryon.photo import to_pil
from styletryon.pose import Pose, PoseEstimator

COMPARISONS = (
    ("oracle", "best_q"),
    ("best_q", "ours"),
    ("ours", "noop_photo"),
    ("ours", "swap"),
    ("ours", "layer_split"),
    ("ours", "greedy_query"),
    ("ours", "ours_per_layer"),
)
"""Differences that a report states: oracle - best_q is what interpolation cannot do, best_q - ours what losses miss."""


def evaluate(
    model: Generator,
    *,
    pairs: int = 64,
    seed: int = 0,
    region: str = "top",
    methods: Collection[str] = DEFAULT_METHODS,
    preset: str = "balanced",
    losses: Losses | None = None,
    batch_size: int = 16,
    selection_pairs: int = 16,
    estimate_pose: PoseEstimator | None = None,
    progress: Progress | None = None,
) -> EvaluationReport:
    """Try garments on rendered figures that training never saw and compare with the rendered truth.

    Every method works on the same latents. What a baseline may choose (where to split the layers, how large a budget)
    is chosen on figures of its own.

    Args:
        model: The generator.
        pairs: How many pairs.
        seed: Which pairs; see `sample_pairs`. Also the seed of the bootstrap.
        region: Name of the region.
        methods: Names out of `METHODS`, or "default", "ablations" or "all"; the guide to the evaluation says what each
            is.
        preset: Preset of the projection and the optimisation.
        losses: The losses of our method, name -> (weight, loss); None for `losses.defaults()`.
        batch_size: Pairs that are worked on at once.
        selection_pairs: Pairs on which the baselines choose.
        estimate_pose: Finds the poses in the pictures; None for the exact poses that the renderer knows.
        progress: Called after each batch of each stage.

    Returns:
        The report: measures of each method, and their differences on the same pairs. `seconds` are those of the try-on
        of one pair after projection; `settings["projection_seconds"]` are those of projecting one picture.

    Raises:
        ConfigError: If a method or the preset is unknown.
        RegionError: If the region is unknown.
        RangeError: If a number is out of range.
        PersonNotFoundError: If `estimate_pose` finds nobody.
    """
    check_counts(pairs=pairs, batch_size=batch_size, selection_pairs=selection_pairs)
    region = region_name(region)
    seeds = pair_seeds(pairs, seed, region)
    chosen = check_methods(methods, METHODS, model, REGIONS[region])
    run = Evaluation(
        model, seed=seed, progress=progress, pairs=pairs, region=region, preset=preset, batch_size=batch_size
    )
    bench = Bench(model, region=region, preset=preset, losses=losses, batch_size=batch_size)
    tuned = [name for name in chosen if METHODS[name].tune is not None]
    if tuned:
        others = pair_seeds(selection_pairs, seed, region, selection=True)
        _tune(bench, tuned, others, estimate_pose, run)
    done = 0
    for part in batches(seeds, batch_size):
        batch = _render(bench, part)
        projected = _project(bench, batch, estimate_pose, with_truth="oracle" in chosen)
        run.progress("projection", done + len(batch), pairs)
        for name in chosen:
            _score(run, bench, name, projected, batch)
            run.progress(name, done + len(batch), pairs)
        done += len(batch)
    return run.report(
        "pairs",
        COMPARISONS,
        losses={name: float(entry[0]) for name, entry in bench.losses.items()},
        poses="known" if estimate_pose is None else "estimated",
        selection_pairs=selection_pairs if tuned else 0,
        chosen=dict(bench.chosen),
        failed=dict(bench.failed),
        projection_seconds=bench.projection_seconds,
        pair_seeds=seeds,
    )


# ------------------------------------------------------------------------------------------------------- helpers
def _score(run: Evaluation, bench: Bench, name: str, projected: ProjectedPairs, batch: Sequence[Pair]) -> None:
    """Draw pairs by a method, and add how good each is, and the seconds that a pair took."""
    before = time.perf_counter()
    drawn = METHODS[name].draw(bench, projected)
    seconds = (time.perf_counter() - before) / len(batch)
    for variant, results in drawn.items():
        for picture, pair in zip(results, batch, strict=True):
            run.add(variant, {**score_pair(picture, pair), "seconds": seconds})


def _tune(
    bench: Bench,
    names: Sequence[str],
    seeds: Sequence[tuple[int, int]],
    estimate_pose: PoseEstimator | None,
    run: Evaluation,
) -> None:
    """Let baselines choose their one setting on pairs of their own."""
    parts: list[ProjectedPairs] = []
    for part in batches(seeds, bench.batch_size):
        parts.append(_project(bench, _render(bench, part), estimate_pose, with_truth=False))
        run.progress("selection", sum(map(len, parts)), len(seeds))
    for name in names:
        tune = METHODS[name].tune
        if tune is not None:
            tune(bench, parts)


def _render(bench: Bench, seeds: Sequence[tuple[int, int]]) -> list[Pair]:
    size, region = bench.model.image_size, str(bench.region)
    return [render_pair(person, garment, size, region) for person, garment in seeds]


def _project(
    bench: Bench,
    pairs: Sequence[Pair],
    estimate_pose: PoseEstimator | None,
    *,
    with_truth: bool,
) -> ProjectedPairs:
    def project(pictures_: Sequence[Rendering]) -> Latent:
        images = stack_images(pictures_)
        if estimate_pose is None:
            return bench.project(images, stack_poses(pictures_))
        found = [estimate_pose(to_pil(image)) for image in images]
        return bench.project(images, Pose(torch.cat([pose.keypoints for pose in found]), found[0].size))

    return ProjectedPairs(
        person=project([pair.person for pair in pairs]),
        garment=project([pair.garment for pair in pairs]),
        truth=project([pair.truth for pair in pairs]) if with_truth else None,
        photos=tuple(Picture(pair.person.image, pair.person.labels) for pair in pairs),
        targets=tuple(Picture(pair.truth.image, pair.truth.labels) for pair in pairs),
    )
