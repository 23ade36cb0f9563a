"""Which photographs are refused: ``python -m tests.benchmarks.presence PEOPLE [...] [--unworn GARMENTS ...]``.

Each folder holds photographs, or `images/` and `split.json`, of whose validation split they are then. Those of people
are read as they are, turned by 90, 180 and 270 degrees (`--turns`), and cut to the torso, from the waist down and to
the legs (`--cut`), by their own keypoints. Prints how many are taken, and why the others are not.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from styletryon.errors import PersonNotFoundError
from styletryon.models import PoseStyleGAN2
from styletryon.photo import read_image
from styletryon.pipeline import TryOnPipeline, body_estimator

REASONS = {
    "on its side": "turned",
    "on its head": "turned",
    "clothes alone": "clothes alone",
    "mean score": "nobody",
    "beside what is seen": "disagreement",
    "no face and no hair": "disagreement",
    "upright person": "not upright",
    "shoulders or hips": "no trunk",
}
"""Words of a message -> the reason that the table names."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("people", type=Path, nargs="*")
    parser.add_argument("--unworn", type=Path, nargs="+", default=[])
    parser.add_argument("--turns", action="store_true", help="also turned")
    parser.add_argument("--cut", action="store_true", help="also parts of people")
    parser.add_argument("--every", type=int, default=1, help="take every so many of a folder")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", default="default")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    pipeline = TryOnPipeline(PoseStyleGAN2.from_pretrained(options.model))
    print(f"{'':28s}{'pictures':>9s}{'taken':>7s}  refused")
    for folder in options.people:
        rows: dict[str, Counter[str]] = {}
        for path in photographs(folder)[:: options.every]:
            for kind, picture in variants(read_image(path), turns=options.turns, cut=options.cut):
                rows.setdefault(kind, Counter())[verdict(pipeline, picture)] += 1
        for kind, counts in rows.items():
            show(f"{folder.name}{kind}", counts)
    for folder in options.unworn:
        paths = photographs(folder)[:: options.every]
        show(f"{folder.name}, worn by nobody", Counter(verdict(pipeline, read_image(path)) for path in paths))


def photographs(folder: Path) -> list[Path]:
    """The photographs of a folder, or of the validation split of a data set."""
    if (folder / "split.json").exists():
        names = json.loads((folder / "split.json").read_text(encoding="utf-8"))["val"]
        return [folder / "images" / f"{name}.jpg" for name in sorted(names)]
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))


def variants(picture: Image.Image, *, turns: bool, cut: bool) -> Iterator[tuple[str, Image.Image]]:
    """Yield the photograph, and what was asked for of it, with names."""
    yield "", picture
    for degrees in (90, 180, 270) if turns else ():
        yield f", turned by {degrees}", picture.rotate(degrees, expand=True)
    if not cut:
        return
    points = body_estimator(torch.device("cpu"))(picture).keypoints[0].numpy()
    x, y = points[:, 0], points[:, 1]
    head, shoulders, hips, knees = (float(y[part].mean()) for part in (slice(0, 5), [5, 6], [11, 12], [13, 14]))
    arms, trunk = x[[5, 6, 7, 8, 9, 10, 11, 12]], hips - shoulders
    room = 0.35 * max(float(np.ptp(arms)), 1.0)
    left, right = max(0, int(arms.min() - room)), min(picture.width, int(arms.max() + room))
    for kind, top, bottom in (
        ("torso", head + 0.35 * (shoulders - head), hips + 0.25 * trunk),
        ("waist down", hips - 0.2 * trunk, picture.height),
        ("legs", hips + 0.4 * (knees - hips), picture.height),
    ):
        box = (left, max(0, int(top)), right, min(picture.height, int(bottom)))
        if min(box[2] - box[0], box[3] - box[1]) >= 32:
            yield f", {kind}", picture.crop(box)


def verdict(pipeline: TryOnPipeline, picture: Image.Image) -> str:
    """Return "taken", or why a photograph is not."""
    try:
        pipeline.read(picture)
    except PersonNotFoundError as error:
        return next((reason for words, reason in REASONS.items() if words in str(error)), str(error))
    return "taken"


def show(name: str, counts: Counter[str]) -> None:
    """Print a row."""
    refused = ", ".join(f"{count} {reason}" for reason, count in counts.most_common() if reason != "taken")
    print(f"{name:28s}{counts.total():9d}{counts['taken']:7d}  {refused}", flush=True)


if __name__ == "__main__":
    main()
