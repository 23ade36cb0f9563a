"""The table of a network of the body: keypoints and labels of unseen photographs and figures, time and size."""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from styletryon.errors import PersonNotFoundError
from styletryon.labels import NUM_LABELS, Label
from styletryon.pose.estimator import BodyEstimator
from styletryon.training.body.examples import Example
from styletryon.training.body.measures import class_iou, confusion, pck


@dataclass(frozen=True)
class Evaluation:
    """The measures of an estimator on pictures that it was not trained on.

    Attributes:
        pictures: How many.
        pck_10: Share of the keypoints within 0.1 of the torso's length of the truth.
        pck_20: Likewise within 0.2.
        miou: Mean of `iou` over the classes that occur.
        iou: Class -> intersection over union of the labels at the pictures' own size, of the classes that occur.
        pixel_accuracy: Share of the pixels whose label is right.
        least_score: The lowest mean score of a picture's keypoints: how sure it is at least that somebody is there.
        share: Class -> share of the pixels in the truth.
    """

    pictures: int
    pck_10: float
    pck_20: float
    miou: float
    iou: dict[str, float]
    pixel_accuracy: float
    least_score: float
    share: dict[str, float]


def evaluate(estimator: BodyEstimator, examples: Sequence[Example]) -> Evaluation:
    """Run an estimator on whole pictures, as it is run by its users.

    Args:
        estimator: The estimator; one that takes anything for a person (`least_score` 0) misses none.
        examples: Pictures with keypoints and labels. Labels that are `IGNORED` do not count.

    Returns:
        The measures.
    """
    found, truth, scores = [], [], []
    counts = np.zeros((NUM_LABELS, NUM_LABELS), np.int64)
    for example in examples:
        pose, labels = estimator.parse(example.image)
        found.append(pose.keypoints[0, :, :2])
        scores.append(float(pose.keypoints[0, :, 2].mean()))
        truth.append(torch.from_numpy(np.array(example.keypoints)))
        if example.labels is not None:
            counts += confusion(labels, np.asarray(example.labels))
    places, keypoints = torch.stack(found), torch.stack(truth)
    names = {label.name.lower(): float(value) for label, value in zip(Label, class_iou(counts), strict=True)}
    iou = {name: value for name, value in names.items() if np.isfinite(value)}
    pixels = max(1, int(counts.sum()))
    return Evaluation(
        pictures=len(examples),
        pck_10=pck(places, keypoints, 0.1),
        pck_20=pck(places, keypoints, 0.2),
        miou=statistics.fmean(iou.values()) if iou else float("nan"),
        iou=iou,
        pixel_accuracy=float(np.trace(counts)) / pixels,
        least_score=min(scores),
        share={label.name.lower(): int(counts[label].sum()) / pixels for label in Label if label.name.lower() in iou},
    )


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
    sets: dict[str, Sequence[Example]],
    nobody: Mapping[str, Sequence[Image.Image]],
    *,
    timed: int = 20,
) -> dict[str, object]:
    """Evaluate a stored network.

    Args:
        folder: Where `body.json` and `body.safetensors` are. None for the bundled one.
        sets: Name -> pictures; the first of them are also timed.
        nobody: Name -> pictures of nobody, to count in how many of them somebody is found.
        timed: How many.

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
    return {
        "sets": {name: asdict(evaluate(careless, examples)) for name, examples in sets.items()},
        "nobody": {name: (count_people(estimator, pictures), len(pictures)) for name, pictures in nobody.items()},
        "milliseconds": {
            f"{name}, {threads} thread{'s' * (threads > 1)}": milliseconds(call, first, threads)
            for name, call in calls.items()
            for threads in (1, 2)
        },
        "parameters": sum(parameter.numel() for parameter in estimator.network.parameters()),
        "bytes": ((folder or Path(__file__).parents[2] / "weights") / "body.safetensors").stat().st_size,
    }


def table(result: dict[str, object]) -> str:
    """Write what `report` found as Markdown."""
    sets = json.loads(json.dumps(result["sets"]))
    names = list(sets)
    rows = [["", *names], ["---"] + ["---:"] * len(names)]
    rows.append(["pictures", *(str(sets[name]["pictures"]) for name in names)])
    for title, key in (("PCK@0.1 torso", "pck_10"), ("PCK@0.2 torso", "pck_20"), ("mIoU", "miou")):
        rows.append([title, *(f"{sets[name][key]:.3f}" for name in names)])
    rows.append(["pixels right", *(f"{sets[name]['pixel_accuracy']:.3f}" for name in names)])
    rows.append(["least mean score", *(f"{sets[name]['least_score']:.2f}" for name in names)])
    for label in Label:
        key = label.name.lower()
        if any(key in sets[name]["iou"] for name in names):
            cells = [f"{sets[name]['iou'][key]:.3f}" if key in sets[name]["iou"] else "" for name in names]
            rows.append([f"IoU {key}", *cells])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    times = json.loads(json.dumps(result["milliseconds"]))
    lines.append("")
    for name, (found, count) in json.loads(json.dumps(result["nobody"])).items():
        lines.append(f"somebody found in {found} of {count} {name}")
    lines += [f"{name}: {wall:.0f} ms a photograph, {busy:.0f} of a processor" for name, (wall, busy) in times.items()]
    lines.append(f"{result['parameters']} parameters, {int(str(result['bytes'])) / 1e6:.1f} MB")
    return "\n".join(lines)
