"""The table of a network of the body: keypoints and labels of unseen photographs and figures, time and size.

The photographs are measured whole, and cut and turned as people cut and turn them (`VIEWS`).
"""

from __future__ import annotations

import contextlib
import json
import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from styletryon.errors import DataError, PersonNotFoundError
from styletryon.labels import NUM_LABELS, Label
from styletryon.pose._pose import Pose
from styletryon.pose.estimator import BodyEstimator
from styletryon.training.body.examples import IGNORED, Example
from styletryon.training.body.measures import boundary_score, class_iou, confusion, pck

Estimate = Callable[[Image.Image], tuple[Pose, NDArray[np.uint8]]]
"""From a picture to the pose of the person in it and the labels of its pixels, such as `BodyEstimator.parse`."""

LEAST_SHOWN = 0.3
"""Score from which a keypoint of the truth counts."""

_SCORES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 1.0)  # edges of the bins in which scores are compared with errors


@dataclass(frozen=True)
class Evaluation:
    """The measures of an estimator on pictures that it was not trained on.

    Attributes:
        pictures: How many.
        pck_10: Share of the keypoints in the picture that are within 0.1 of the torso's length of the truth.
        pck_20: Likewise within 0.2.
        miou: Mean of `iou` over the classes that occur.
        iou: Class -> intersection over union of the labels at the pictures' own size, of the classes that occur.
        boundary: F-score of the outlines at a tolerance of 2 pixels, mean over the pictures.
        pixel_accuracy: Share of the pixels whose label is right.
        least_sure: The lowest mean of a picture's five highest scores: how sure it is at least that somebody is there.
        score_inside: Mean score of the keypoints that are in the picture and not hidden.
        score_outside: Mean score of those that are outside; NaN where there are none.
        calibration: For bins of the score, from lowest to highest: its bounds, how many keypoints are in it, the share
            of them that are in the picture, and the share that are there and found within 0.1 torso.
        share: Class -> share of the pixels in the truth.
    """

    pictures: int
    pck_10: float
    pck_20: float
    miou: float
    iou: dict[str, float]
    boundary: float
    pixel_accuracy: float
    least_sure: float
    score_inside: float
    score_outside: float
    calibration: list[tuple[float, float, int, float, float]]
    share: dict[str, float]


def evaluate(estimate: Estimate, examples: Iterable[Example]) -> Evaluation:
    """Run an estimator on pictures, as it is run by its users.

    Args:
        estimate: The estimator; one that takes anything for a person (`least_score` 0) misses none.
        examples: Pictures with keypoints, of which those with a score of 0 are not in the picture, and labels, of which
            those that are `IGNORED` do not count.

    Returns:
        The measures.
    """
    found, truth, boundaries = [], [], []
    counts = np.zeros((NUM_LABELS, NUM_LABELS), np.int64)
    for example in examples:
        pose, labels = estimate(example.image)
        found.append(pose.keypoints[0])
        truth.append(torch.from_numpy(np.array(example.keypoints)))
        if example.labels is not None:
            known = np.asarray(example.labels)
            counts += confusion(labels, known)
            boundaries.append(boundary_score(labels, known))
    places, keypoints = torch.stack(found), torch.stack(truth)
    names = {label.name.lower(): float(value) for label, value in zip(Label, class_iou(counts), strict=True)}
    iou = {name: value for name, value in names.items() if np.isfinite(value)}
    pixels = max(1, int(counts.sum()))
    scores, shown, outside = places[..., 2], keypoints[..., 2] >= LEAST_SHOWN, keypoints[..., 2] == 0
    return Evaluation(
        pictures=len(found),
        pck_10=pck(places[..., :2], keypoints, 0.1, least_score=LEAST_SHOWN),
        pck_20=pck(places[..., :2], keypoints, 0.2, least_score=LEAST_SHOWN),
        miou=statistics.fmean(iou.values()) if iou else math.nan,
        iou=iou,
        boundary=float(np.nanmean(boundaries)) if boundaries else math.nan,
        pixel_accuracy=float(np.trace(counts)) / pixels,
        least_sure=float(scores.topk(5).values.mean(1).min()),
        score_inside=float(scores[shown].mean()),
        score_outside=float(scores[outside].mean()) if bool(outside.any()) else math.nan,
        calibration=calibrate(places, keypoints),
        share={label.name.lower(): int(counts[label].sum()) / pixels for label in Label if label.name.lower() in iou},
    )


def calibrate(found: Tensor, truth: Tensor) -> list[tuple[float, float, int, float, float]]:
    """Compare scores with what they promise; see `Evaluation.calibration`.

    Args:
        found: `(N, 17, 3)` x, y, score.
        truth: `(N, 17, 3)` likewise.

    Returns:
        A row for each bin that holds a keypoint.
    """
    torso = (truth[:, 5:7, :2].mean(1) - truth[:, 11:13, :2].mean(1)).norm(dim=-1)
    there = truth[..., 2] >= LEAST_SHOWN
    right = there & ((found[..., :2] - truth[..., :2]).norm(dim=-1) <= 0.1 * torso[:, None])
    rows = []
    for low, high in pairwise(_SCORES):
        chosen = (found[..., 2] >= low) & ((found[..., 2] < high) | (high == _SCORES[-1]))
        if bool(chosen.any()):
            share, hits = float(there[chosen].float().mean()), float(right[chosen].float().mean())
            rows.append((low, high, int(chosen.sum()), share, hits))
    return rows


def cut_example(example: Example, box: tuple[float, float, float, float]) -> Example:
    """Return what a picture shows within a box: keypoints outside score 0, but keep their place."""
    left, top = max(0, round(box[0])), max(0, round(box[1]))
    right, bottom = min(example.image.width, round(box[2])), min(example.image.height, round(box[3]))
    points = np.array(example.keypoints)
    points[:, :2] -= (left, top)
    inside = ((points[:, :2] >= 0) & (points[:, :2] < (right - left, bottom - top))).all(1)
    points[:, 2] *= inside
    labels = None if example.labels is None else example.labels.crop((left, top, right, bottom))
    return Example(example.image.crop((left, top, right, bottom)), points, labels)


def turn_example(example: Example, degrees: float) -> Example:
    """Return a picture turned about its middle, on a larger grey ground whose labels are not known."""
    image = example.image.rotate(degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=(128, 128, 128))
    points = np.array(example.keypoints)
    angle = math.radians(degrees)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    middle, new = np.array(example.image.size) / 2, np.array(image.size) / 2
    points[:, :2] = (points[:, :2] - middle) @ turn.T + new
    labels = None if example.labels is None else example.labels.rotate(degrees, expand=True, fillcolor=IGNORED)
    return Example(image, points, labels)


def _whole(example: Example, _: int) -> Example:
    return example


def _mouth_to_hips(example: Example, _: int) -> Example:
    nose, shoulders, hips, _knees = _heights(example)
    top = nose + 0.5 * (shoulders - nose)
    return cut_example(example, (0.0, top, float(example.image.width), hips + 0.25 * (hips - shoulders)))


def _upper_half(example: Example, _: int) -> Example:
    _nose, shoulders, hips, _knees = _heights(example)
    return cut_example(example, (0.0, 0.0, float(example.image.width), shoulders + 0.8 * (hips - shoulders)))


def _lower_half(example: Example, _: int) -> Example:
    _nose, shoulders, hips, _knees = _heights(example)
    width, height = example.image.size
    return cut_example(example, (0.0, shoulders + 0.8 * (hips - shoulders), float(width), float(height)))


def _portrait(example: Example, _: int) -> Example:
    _nose, shoulders, hips, _knees = _heights(example)
    reach = 0.8 * (hips - shoulders)
    middle = float(np.asarray(example.keypoints)[[0, 5, 6], 0].mean())
    return cut_example(example, (middle - reach, 0, middle + reach, shoulders + 0.4 * (hips - shoulders)))


def _turned(example: Example, number: int) -> Example:
    return turn_example(example, (-20, -13, 13, 20)[number % 4])


def _heights(example: Example) -> tuple[float, float, float, float]:
    heights = example.trunk()
    if heights is None:
        raise DataError("expected people who stand upright, their trunk in the picture", argument="examples")
    return heights


VIEWS: dict[str, Callable[[Example, int], Example]] = {
    "whole": _whole,
    "mouth to hips": _mouth_to_hips,
    "above the waist": _upper_half,
    "below the waist": _lower_half,
    "head and shoulders": _portrait,
    "turned": _turned,
}
"""Name -> what makes of a whole picture and its number one that is cut or turned."""


def milliseconds(call: Callable[[Example], object], examples: Sequence[Example], threads: int) -> tuple[float, float]:
    """Time a call with a number of threads, after one call that does not count.

    Returns:
        Medians over the examples: by the clock, and of the processor's time over all threads, which a busy machine
        changes less.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        call(examples[0])
        times = []
        for example in examples:
            clock, processor = time.perf_counter(), time.process_time()
            call(example)
            times.append((time.perf_counter() - clock, time.process_time() - processor))
    finally:
        torch.set_num_threads(before)
    wall, busy = (1000 * statistics.median(column) for column in zip(*times, strict=True))
    return wall, busy


def count_people(estimator: BodyEstimator, pictures: Sequence[Image.Image]) -> int:
    """Count the pictures in which an estimator finds somebody."""
    count = 0
    for picture in pictures:
        with contextlib.suppress(PersonNotFoundError):
            estimator(picture)
            count += 1
    return count


def report(
    folder: Path | None,
    sets: Mapping[str, Sequence[Example]],
    nobody: Mapping[str, Sequence[Image.Image]],
    *,
    views: Mapping[str, Sequence[str]] | None = None,
    timed: int = 20,
) -> dict[str, object]:
    """Evaluate a stored network.

    Args:
        folder: Where `body.json` and `body.safetensors` are. None for the bundled one.
        sets: Name -> pictures; the first of them are also timed.
        nobody: Name -> pictures of nobody, to count in how many of them somebody is found.
        views: Name of a set -> names of `VIEWS` in which it is measured. Default: whole.
        timed: How many are timed.

    Returns:
        What `table` writes, of plain values.
    """
    estimator = BodyEstimator.from_pretrained(folder)
    careless = BodyEstimator(estimator.network, least_score=0.0)
    first = next(iter(sets.values()))[:timed]
    calls: dict[str, Callable[[Example], object]] = {
        "pose": lambda example: careless(example.image),
        "pose and labels": lambda example: careless.parse(example.image),
    }
    measured = {}
    for name, examples in sets.items():
        for view in (views or {}).get(name, ("whole",)):
            shown = (VIEWS[view](example, number) for number, example in enumerate(examples))
            measured[name if view == "whole" else f"{name}, {view}"] = asdict(evaluate(careless.parse, shown))
    return {
        "sets": measured,
        "nobody": {name: (count_people(estimator, pictures), len(pictures)) for name, pictures in nobody.items()},
        "milliseconds": {
            f"{name}, {threads} thread{'s' * (threads > 1)}": milliseconds(call, first, threads)
            for name, call in calls.items()
            for threads in (1, 2)
        },
        "parameters": sum(parameter.numel() for parameter in estimator.network.parameters()),
        "bytes": ((folder or Path(__file__).parents[2] / "weights") / "body.safetensors").stat().st_size,
    }


_MEASURES = {
    "pictures": "pictures",
    "PCK@0.1 torso": "pck_10",
    "PCK@0.2 torso": "pck_20",
    "mIoU": "miou",
    "boundary F at 2 pixels": "boundary",
    "pixels right": "pixel_accuracy",
    "least sure": "least_sure",
    "score of keypoints shown": "score_inside",
    "score of keypoints outside": "score_outside",
}


def table(result: Mapping[str, object]) -> str:
    """Write what `report` found as Markdown."""
    sets = json.loads(json.dumps(result["sets"]))
    names = list(sets)
    rows = [["", *names], ["---"] + ["---:"] * len(names)]
    for title, key in _MEASURES.items():
        values = [sets[name][key] for name in names]
        rows.append([title, *(str(one) if key == "pictures" else _number(one) for one in values)])
    for label in Label:
        key = label.name.lower()
        if any(key in sets[name]["iou"] for name in names):
            rows.append([f"IoU {key}", *(_number(sets[name]["iou"].get(key, math.nan)) for name in names)])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines += ["", "| score | keypoints | in the picture | there and right |", "| --- | ---: | ---: | ---: |"]
    for low, high, count, there, right in _merged([sets[name]["calibration"] for name in names]):
        lines.append(f"| {low:g} to {high:g} | {count} | {there:.3f} | {right:.3f} |")
    times = json.loads(json.dumps(result["milliseconds"]))
    lines.append("")
    for name, (found, count) in json.loads(json.dumps(result["nobody"])).items():
        lines.append(f"somebody found in {found} of {count} {name}")
    lines += [f"{name}: {wall:.0f} ms a photograph, {busy:.0f} of a processor" for name, (wall, busy) in times.items()]
    lines.append(f"{result['parameters']} parameters, {int(str(result['bytes'])) / 1e6:.1f} MB")
    return "\n".join(lines)


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"


def _merged(tables: Sequence[Sequence[Sequence[float]]]) -> list[tuple[float, float, int, float, float]]:
    """Add up calibrations of several sets of pictures."""
    rows: dict[tuple[float, float], list[tuple[float, float, float]]] = {}
    for one in tables:
        for low, high, count, there, right in one:
            rows.setdefault((low, high), []).append((count, there * count, right * count))
    sums = {bounds: [sum(column) for column in zip(*parts, strict=True)] for bounds, parts in sorted(rows.items())}
    return [(*bounds, int(count), there / count, right / count) for bounds, (count, there, right) in sums.items()]
