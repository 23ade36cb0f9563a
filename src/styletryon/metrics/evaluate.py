"""The benchmark that decides: try-on of rendered pairs against their truth, beside baselines and ceilings."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor

from styletryon.data.folder import Batch, FolderDataset
from styletryon.data.paperdoll import Rendering, render, restyle, sample_figure, sample_stance
from styletryon.drawing import Drawer
from styletryon.errors import ConfigError, DataError, RangeError, WeightsUnavailableError
from styletryon.features import FeatureNetwork, PixelFeatures, VGG16Features
from styletryon.images import frame_person, from_uint8, to_pil
from styletryon.labels import REGIONS, resolve_region
from styletryon.latent import Latent
from styletryon.metrics import measures
from styletryon.metrics.measures import Array, Statistic
from styletryon.metrics.methods import DEFAULT_METHODS, GROUPS, METHODS, PHOTO_METHODS, Bench, Losses, ProjectedPairs
from styletryon.metrics.pairs import FIRST_EVALUATION_SEED, SEEDS_PER_STREAM, Pair, check_seed, pair_seeds, render_pair
from styletryon.metrics.report import EvaluationReport, compare, summarise, versions
from styletryon.metrics.scoring import Picture, pooled_features, score_pair, score_photographs
from styletryon.pose import Pose

Progress = Callable[[str, int, int], None]
"""Is called with the name of a stage, how many pairs it has done, and of how many."""

PoseEstimator = Callable[[Any], Pose]
"""Finds the pose in a PIL image, in that image's pixels."""

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

MIN_REGION_SHARE = 0.02
"""A photograph shows a region when this share of its pixels does."""

Values = dict[str, dict[str, list[float]]]


def evaluate(
    model: Drawer,
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
        ConfigError: If a method, the region or the preset is unknown.
        RangeError: If a number is out of range.
        PersonNotFoundError: If `estimate_pose` finds nobody.
    """
    _check_counts(pairs=pairs, batch_size=batch_size, selection_pairs=selection_pairs)
    chosen = _check_methods(methods, METHODS)
    if "shares" not in methods and model.shares(resolve_region(region)) is None:
        chosen = [name for name in chosen if name != "shares"]  # a group asked for it
    seeds = pair_seeds(pairs, seed, region)
    started = time.perf_counter()
    report_progress = progress if progress is not None else _silent
    bench = Bench(model, region=region, preset=preset, losses=losses, batch_size=batch_size)

    tuned = [method.tune for name, method in METHODS.items() if name in chosen and method.tune is not None]
    if tuned:
        others = pair_seeds(selection_pairs, seed, region, selection=True)
        parts = []
        for part in _batches(others, batch_size):
            parts.append(_project(bench, _render(bench, part), estimate_pose, with_truth=False))
            report_progress("selection", sum(map(len, parts)), selection_pairs)
        for tune in tuned:
            tune(bench, parts)

    values: Values = {}
    done = 0
    for part in _batches(seeds, batch_size):
        batch = _render(bench, part)
        projected = _project(bench, batch, estimate_pose, with_truth="oracle" in chosen)
        report_progress("projection", done + len(batch), pairs)
        for name in chosen:
            before = time.perf_counter()
            drawn = METHODS[name].draw(bench, projected)
            seconds = (time.perf_counter() - before) / len(batch)
            for variant, results in drawn.items():
                for picture, pair in zip(results, batch, strict=True):
                    _append(values, variant, {**score_pair(picture, pair), "seconds": seconds})
            report_progress(name, done + len(batch), pairs)
        done += len(batch)
    return EvaluationReport(
        what="pairs",
        settings={
            **_settings(model, pairs=pairs, seed=seed, region=region, preset=preset, batch_size=batch_size),
            "losses": {name: float(entry[0]) for name, entry in bench.losses.items()},
            "poses": "known" if estimate_pose is None else "estimated",
            "selection_pairs": selection_pairs if tuned else 0,
            "chosen": dict(bench.chosen),
            "failed": dict(bench.failed),
            "projection_seconds": bench.projection_seconds,
            "pair_seeds": seeds,
            "seconds": time.perf_counter() - started,
        },
        methods=summarise(values, seed=seed),
        gaps=compare(values, COMPARISONS, seed=seed),
        values=values,
    )


def pose_following(
    model: Drawer,
    *,
    pairs: int = 64,
    seed: int = 0,
    preset: str = "balanced",
    batch_size: int = 16,
    progress: Progress | None = None,
) -> EvaluationReport:
    """Draw people in poses that they were not seen in, and compare with the rendered truth.

    A figure is projected from one picture and drawn in the stance of another one, which is rendered for comparison.
    Three rows tell apart what is lost where: `own_pose` (the projection itself, in its own pose), `new_pose` (the
    question), and `photo` (the first picture held against the second: what a generator that ignores the pose would get
    at best).

    Args:
        model: The generator.
        pairs: How many figures, each with one new stance.
        seed: Which figures. Also the seed of the bootstrap.
        preset: Preset of the projection.
        batch_size: Figures that are worked on at once.
        progress: Called after each batch.

    Returns:
        The report: `label_iou` (mean over the foreground classes that the truth shows, see `mean_iou`), `fg_psnr`,
        `fg_ssim`.

    Raises:
        ConfigError: If the preset is unknown.
        RangeError: If a number is out of range.
    """
    _check_counts(pairs=pairs, batch_size=batch_size)
    check_seed(seed)
    if pairs > SEEDS_PER_STREAM // 2:
        raise RangeError(f"pairs: expected at most {SEEDS_PER_STREAM // 2}, got {pairs}")
    started = time.perf_counter()
    report_progress = progress if progress is not None else _silent
    bench = Bench(model, preset=preset, batch_size=batch_size)
    values: Values = {}
    first = FIRST_EVALUATION_SEED + seed * SEEDS_PER_STREAM
    done = 0
    for part in _batches(range(first, first + pairs), batch_size):
        figures = [sample_figure(number) for number in part]
        # The stance of another figure, from the far half of the same stream of seeds.
        stances = [sample_stance(number + SEEDS_PER_STREAM // 2) for number in part]
        moved = [restyle(figure, stance=stance) for figure, stance in zip(figures, stances, strict=True)]
        own, new = ([render(figure, model.image_size) for figure in group] for group in (figures, moved))
        latent = bench.project(_stack_images(own), _stack_poses(own))
        here, there = bench.draw(latent), bench.draw(latent.with_pose(_stack_poses(new)))
        photos = [Picture(rendering.image, rendering.labels) for rendering in own]
        for row, drawn, truths in (("own_pose", here, own), ("new_pose", there, new), ("photo", photos, new)):
            for picture, truth in zip(drawn, truths, strict=True):
                inside = measures.foreground(truth.labels)
                _append(
                    values,
                    row,
                    {
                        "label_iou": measures.mean_iou(picture.labels, truth.labels),
                        "fg_psnr": measures.masked_psnr(picture.image, truth.image, inside),
                        "fg_ssim": measures.masked_ssim(picture.image, truth.image, inside),
                    },
                )
        done += len(part)
        report_progress("pose", done, pairs)
    return EvaluationReport(
        what="pose",
        settings={
            **_settings(model, pairs=pairs, seed=seed, preset=preset, batch_size=batch_size),
            "projection_seconds": bench.projection_seconds,
            "seconds": time.perf_counter() - started,
        },
        methods=summarise(values, seed=seed),
        gaps=compare(values, (("own_pose", "new_pose"), ("new_pose", "photo")), seed=seed),
        values=values,
    )


def evaluate_folder(
    model: Drawer,
    data: str | PathLike[str],
    *,
    pairs: int = 64,
    seed: int = 0,
    region: str = "top",
    split: str = "val",
    methods: Collection[str] = ("noop_photo", "noop", "swap", "ours"),
    preset: str = "balanced",
    losses: Losses | None = None,
    batch_size: int = 16,
    features: FeatureNetwork | None = None,
    progress: Progress | None = None,
) -> EvaluationReport:
    """Try garments on people of a folder of photographs and measure what needs no truth.

    Args:
        model: The generator.
        data: A data set: folder or zip, see `styletryon.data.FolderDataset`.
        pairs: How many pairs.
        seed: Which pairs. Also the seed of the bootstrap.
        region: Name of the region; only photographs whose labels show it are used.
        split: Which split of the data set: one that the model did not train on.
        methods: Names out of `PHOTO_METHODS`.
        preset: Preset of the projection and the optimisation.
        losses: The losses of our method, name -> (weight, loss); None for `losses.defaults()`.
        batch_size: Pairs that are worked on at once.
        features: The network whose features the kernel distance compares. None: VGG-16 if its weights can be had, else
            the pixels; the report says which.
        progress: Called after each batch.

    Returns:
        The report: for each method the measures of `score_photographs`, `reconstruction_psnr` (both photographs,
        foreground, each against its projection) and `kid` (its interval is that of the jackknife).

    Raises:
        ConfigError: If a method, the region or the preset is unknown.
        RangeError: If a number is out of range.
        DataError: If the folder cannot be read, or fewer than two of its photographs show the region.
    """
    _check_counts(pairs=pairs, batch_size=batch_size)
    if region not in REGIONS:
        raise ConfigError(f"region: expected one of {', '.join(REGIONS)}, got {region!r}")
    chosen = _check_methods(methods, PHOTO_METHODS)
    started = time.perf_counter()
    report_progress = progress if progress is not None else _silent
    dataset = FolderDataset(data, size=model.image_size, split=split, frame=frame_person)
    everything = dataset.batch(range(len(dataset)))
    usable = _showing(everything, region)
    if len(usable) < 2:
        raise DataError(
            f"data: expected at least two photographs of split {split!r} that show the region {region!r}, got "
            f"{len(usable)}; choose another region or split"
        )
    network, network_name = _feature_network(features)
    bench = Bench(model, region=region, preset=preset, losses=losses, batch_size=batch_size)
    rng = np.random.default_rng(seed)
    couples = [tuple(int(i) for i in rng.choice(usable, size=2, replace=False)) for _ in range(pairs)]
    values: Values = {}
    drawn_features: dict[str, list[Array]] = {}
    device = model.w_mean.device
    done = 0
    for part in _batches(couples, batch_size):
        people, garments = (dataset.batch([couple[side] for couple in part]) for side in (0, 1))
        projected = ProjectedPairs(
            person=bench.project(from_uint8(people.images), people.pose),
            garment=bench.project(from_uint8(garments.images), garments.pose),
            photos=_photos(people),
        )
        wearers = _photos(garments)
        rebuilt = _reconstruction(bench, projected.person, projected.photos)
        rebuilt_garments = _reconstruction(bench, projected.garment, wearers)
        for name in chosen:
            before = time.perf_counter()
            results = METHODS[name].draw(bench, projected)
            seconds = (time.perf_counter() - before) / len(part)
            for variant, row in results.items():
                images = _stack_images(row).to(device)
                drawn_features.setdefault(variant, []).append(pooled_features(network, images))
                for i, picture in enumerate(row):
                    found = score_photographs(picture, projected.photos[i], wearers[i], REGIONS[region])
                    found["reconstruction_psnr"] = (rebuilt[i] + rebuilt_garments[i]) / 2
                    _append(values, variant, {**found, "seconds": seconds})
        done += len(part)
        report_progress("pairs", done, pairs)
    table = summarise(values, seed=seed)
    real = np.concatenate(
        [
            pooled_features(network, from_uint8(everything.images[torch.from_numpy(part)]).to(device))
            for part in _batches(usable, batch_size)
        ]
    )
    for variant, parts in drawn_features.items():
        drawn = np.concatenate(parts)
        if min(len(drawn), len(real)) >= 3:
            value, error = measures.kernel_distance(drawn, real)
            table[variant]["kid"] = Statistic(value, value - 1.96 * error, value + 1.96 * error, len(drawn))
    return EvaluationReport(
        what="folder",
        settings={
            **_settings(model, pairs=pairs, seed=seed, region=region, preset=preset, batch_size=batch_size),
            "split": split,
            "failed": dict(bench.failed),
            "photographs": len(usable),
            "kid_features": network_name,
            "kid_real": len(real),
            "ids": [[dataset.ids[i] for i in couple] for couple in couples],
            "projection_seconds": bench.projection_seconds,
            "seconds": time.perf_counter() - started,
        },
        methods=table,
        gaps=compare(values, (("ours", "noop_photo"), ("ours", "swap")), seed=seed),
        values=values,
    )


# ------------------------------------------------------------------------------------------------------- helpers
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
        images = _stack_images(pictures_)
        if estimate_pose is None:
            return bench.project(images, _stack_poses(pictures_))
        found = [estimate_pose(to_pil(image)) for image in images]
        return bench.project(images, Pose(torch.cat([pose.keypoints for pose in found]), found[0].size))

    return ProjectedPairs(
        person=project([pair.person for pair in pairs]),
        garment=project([pair.garment for pair in pairs]),
        truth=project([pair.truth for pair in pairs]) if with_truth else None,
        photos=tuple(Picture(pair.person.image, pair.person.labels) for pair in pairs),
        targets=tuple(Picture(pair.truth.image, pair.truth.labels) for pair in pairs),
    )


def _stack_images(shown: Sequence[Rendering | Picture]) -> Tensor:
    pixels = torch.from_numpy(np.stack([each.image for each in shown]))
    return from_uint8(pixels.permute(0, 3, 1, 2)).contiguous()


def _stack_poses(renderings: Sequence[Rendering]) -> Pose:
    keypoints = np.stack([np.asarray(rendering.keypoints, dtype=np.float32) for rendering in renderings])
    height, width = renderings[0].labels.shape
    return Pose(torch.from_numpy(keypoints), (height, width))


def _photos(batch: Batch) -> tuple[Picture, ...]:
    images, labels = batch.images.permute(0, 2, 3, 1).numpy(), batch.labels.numpy()
    return tuple(Picture(image, classes) for image, classes in zip(images, labels, strict=True))


def _showing(batch: Batch, region: str) -> Array:
    shares = [measures.class_mask(labels, REGIONS[region]).mean() for labels in batch.labels.numpy()]
    return np.flatnonzero(np.asarray(shares) >= MIN_REGION_SHARE)


def _reconstruction(bench: Bench, latent: Latent, photos: Sequence[Picture]) -> list[float]:
    drawn = bench.draw(latent)
    return [
        measures.masked_psnr(picture.image, photo.image, measures.foreground(photo.labels))
        for picture, photo in zip(drawn, photos, strict=True)
    ]


def _feature_network(features: FeatureNetwork | None) -> tuple[FeatureNetwork, str]:
    if features is not None:
        return features, repr(features)
    try:
        return VGG16Features(layers=("relu5_3",)), "VGG16Features imagenet relu5_3"
    except WeightsUnavailableError:
        return PixelFeatures(), "PixelFeatures (the weights of VGG-16 are unavailable)"


def _batches(items: Any, size: int) -> Iterator[Any]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _append(values: Values, method: str, found: dict[str, float]) -> None:
    row = values.setdefault(method, {})
    for measure, number in found.items():
        row.setdefault(measure, []).append(number)


def _silent(stage: str, done: int, total: int) -> None:
    del stage, done, total


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise RangeError(f"{name}: expected at least 1, got {count}")


def _check_methods(methods: Collection[str], known: Collection[str]) -> list[str]:
    asked = [methods] if isinstance(methods, str) else list(methods)
    names = [name for entry in asked for name in GROUPS.get(entry, (entry,))]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ConfigError(
            f"methods: expected some of {', '.join(known)}, or of the groups {', '.join(GROUPS)}, got "
            f"{', '.join(unknown) or 'none'}"
        )
    return [name for name in known if name in names]


def _settings(model: Drawer, **rest: Any) -> dict[str, Any]:
    return {
        **rest,
        "model": model.fingerprint,
        "size": list(model.image_size),
        "device": str(model.w_mean.device),
        "versions": versions(),
    }
