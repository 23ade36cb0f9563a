"""Outfits against their truth: ``python -m tests.benchmarks.outfits [--people 12] [--size 256x192] [--seed 7]``.

Rendered people, each in a top of a second one and a bottom of a third, which the renderer draws outright too. They are
dressed in both at once, as `try_on(person, {"top": a, "bottom": b})` does; in one after the other by two calls, each
of which projects what it is given; and with --orders so in the other order. Prints means over the people: PSNR over the
whole person, over the top and over the bottom of the truth, the intersection over union of each garment's area, and how
far the rows lie from the first. With --out, writes person | top | bottom | both at once | one after the other | truth.

With --variants N it prints instead how far try-ons lie apart that begin at other random coefficients, as drawn and as
shown, which says what seeds would change.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from styletryon import Pose, TryOnPipeline, TryOnResult
from styletryon.data import paperdoll
from styletryon.labels import REGIONS
from styletryon.metrics import measures
from styletryon.metrics.rendered_pairs import pair_seeds
from styletryon.photo import save_image
from styletryon.tryon import TryOnOptimizer

Rendering = paperdoll.Rendering


def main(given: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=12)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--size", default="256x192")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--orders", action="store_true", help="the top before the bottom too")
    parser.add_argument("--variants", type=int, default=0, metavar="N")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args(given)
    height, width = (int(side) for side in arguments.size.split("x"))
    people = sample_people(arguments.people, arguments.seed, (height, width))
    if arguments.variants:
        compare_variants(people, arguments.preset, arguments.variants)
    else:
        compare_outfits(people, arguments)


def sample_people(n: int, seed: int, size: tuple[int, int]) -> list[tuple[Rendering, ...]]:
    """Draw people whom no training saw: who is dressed, who wears the top, who the bottom, and the truth."""
    seeds = [one for pair in pair_seeds(-(-3 * n // 2), seed, "top") for one in pair]
    found = []
    for place in range(n):
        person, top, bottom = map(paperdoll.sample_figure, seeds[3 * place : 3 * place + 3])
        truth = paperdoll.dress(paperdoll.dress(person, top, "top"), bottom, "bottom")
        found.append(tuple(paperdoll.render(figure, size) for figure in (person, top, bottom, truth)))
    return found


def compare_outfits(people: Sequence[tuple[Rendering, ...]], arguments: argparse.Namespace) -> None:
    """Dress each person in the three ways, and print how near the truth each comes."""
    rows: dict[str, list[dict[str, float]]] = defaultdict(list)
    ways = WAYS if arguments.orders else dict(list(WAYS.items())[:2])
    for index, (person, top, bottom, truth) in enumerate(people):
        shown = {name: dress(arguments.preset, person, top, bottom) for name, dress in ways.items()}
        for name, result in shown.items():
            rows[name].append(score(truth, np.asarray(result.image), result.segmentation))
        rows["unchanged"].append(score(truth, person.image, person.labels))
        if arguments.out is not None:
            dressed = [np.asarray(result.image) for result in list(shown.values())[:2]]
            pictures = [person.image, top.image, bottom.image, *dressed, truth.image]
            save_image(Image.fromarray(np.concatenate(pictures, axis=1)), arguments.out / f"{index:03d}.png")
    columns = list(rows["both at once"][0])
    means = {name: {c: float(np.mean([row[c] for row in found])) for c in columns} for name, found in rows.items()}
    print(f"{len(people)} people of {arguments.size}, preset {arguments.preset}")
    print("| |", " | ".join(columns), "| person, beside both at once |")
    print("|---|", "---|" * (len(columns) + 1), sep="")
    for name, mean in means.items():
        apart = mean["person_psnr"] - means["both at once"]["person_psnr"]
        print(f"| {name} |", " | ".join(f"{mean[c]:.3f}" for c in columns), f"| {apart:+.2f} dB |", flush=True)


def _both(preset: str, person: Rendering, top: Rendering, bottom: Rendering) -> TryOnResult:
    poses = {"bottom": pose_of(bottom), "top": pose_of(top)}
    worn = {"top": top.image, "bottom": bottom.image}
    return TryOnPipeline(preset=preset, remember=0)(
        person.image, worn, person_pose=pose_of(person), garment_pose=poses
    )


def _bottom_then_top(preset: str, person: Rendering, top: Rendering, bottom: Rendering) -> TryOnResult:
    pipeline = TryOnPipeline(preset=preset, remember=0)
    first = pipeline(
        person.image, bottom.image, region="bottom", person_pose=pose_of(person), garment_pose=pose_of(bottom)
    )
    return pipeline(first, top.image, region="top", garment_pose=pose_of(top))


def _top_then_bottom(preset: str, person: Rendering, top: Rendering, bottom: Rendering) -> TryOnResult:
    pipeline = TryOnPipeline(preset=preset, remember=0)
    first = pipeline(person.image, top.image, region="top", person_pose=pose_of(person), garment_pose=pose_of(top))
    return pipeline(first, bottom.image, region="bottom", garment_pose=pose_of(bottom))


WAYS: dict[str, Callable[[str, Rendering, Rendering, Rendering], TryOnResult]] = {
    "both at once": _both,
    "bottom, then top": _bottom_then_top,
    "top, then bottom": _top_then_bottom,
}
"""How somebody comes to wear both."""


def pose_of(figure: Rendering) -> Pose:
    """The exact keypoints of a figure."""
    return Pose(torch.from_numpy(figure.keypoints), figure.image.shape[:2])


def score(truth: Rendering, image: NDArray[np.uint8], labels: NDArray[np.uint8]) -> dict[str, float]:
    """Compare a try-on with the truth."""
    masks = {name: measures.class_mask(truth.labels, REGIONS[name]) for name in ("top", "bottom")}
    row = {"person_psnr": measures.masked_psnr(image, truth.image, measures.foreground(truth.labels))}
    row |= {f"{name}_psnr": measures.masked_psnr(image, truth.image, mask) for name, mask in masks.items()}
    for name, mask in masks.items():
        shown = measures.class_mask(labels, REGIONS[name])
        row[f"{name}_iou"] = float((shown & mask).sum() / (shown | mask).sum())
    return row


def compare_variants(people: Sequence[tuple[Rendering, ...]], preset: str, count: int) -> None:
    """Try each person's top on from several random starts, and print how far the outcomes lie apart."""
    pipeline, apart = TryOnPipeline(preset=preset), defaultdict[str, list[float]](list)
    for person, top, *_ in people:
        latents = [pipeline.project(each.image, pose=pose_of(each)) for each in (person, top)]
        found = []
        for seed in range(count):
            optimizer = TryOnOptimizer(pipeline.model, preset=preset, initial="random", seed=seed)
            batch = optimizer.optimize(*latents, region="top")
            shown = (pipeline.show(batch, detail=detail).image for detail in (True, False))
            found.append([np.asarray(batch.drawing.image[0].cpu()) * 127.5, *(np.asarray(one, float) for one in shown)])
        for one in range(count):
            for other in range(one):
                for name, first, second in zip(SHOWN, found[one], found[other], strict=True):
                    apart[name].append(float(np.abs(first - second).mean()))
    print(f"{len(people)} people, preset {preset}, {count} random starts: mean difference of two, of 255")
    for name, values in apart.items():
        print(f"| {name} | {np.mean(values):.4f} | at most {max(values):.4f} |", flush=True)


SHOWN = ("as drawn, 128x96", "as shown", "as shown with detail=False")

if __name__ == "__main__":
    main()
