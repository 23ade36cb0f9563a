"""What the garment's own pixels bring: ``python -m tests.benchmarks.detail [--pairs 24] [--size 512x384] [--seed 7]``.

Rendered pairs whose truth is known, as photographs larger than the generator draws: each is tried on once, and shown
with and without the detail of the garment's photograph. Keypoints are the exact ones, or with --estimate those that
`estimate_pose` finds. Prints means over the pairs: PSNR and SSIM over the whole person and over the garment (of the
truth), and of patterned garments how much contrast the pattern has, and how much of it is drawn where it belongs (see
`styletryon.metrics.texture`). With --out, writes person | garment | without | with | truth of each pair.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import styletryon
from styletryon.compositing import show
from styletryon.errors import RegionError
from styletryon.labels import REGIONS
from styletryon.metrics import measures
from styletryon.metrics.rendered_pairs import Pair, sample_pairs
from styletryon.photo import save_image
from styletryon.tryon import TryOnOptimizer, TryOnResult


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--size", default="512x384")
    parser.add_argument("--region", default="top")
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--estimate", action="store_true", help="estimate the keypoints")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    height, width = (int(side) for side in arguments.size.split("x"))
    rows: dict[str, list[Mapping[str, float]]] = defaultdict(list)
    seconds = []
    for index, pair in enumerate(sample_pairs(arguments.pairs, arguments.seed, (height, width), arguments.region)):
        try:
            shown = try_on_both(pair, arguments.preset, estimate=arguments.estimate)
        except RegionError as error:  # estimated labels may call a top a dress
            print(f"pair {index} is left out: {error}", flush=True)
            continue
        for name, (result, took) in shown.items():
            rows[name].append(score(pair, np.asarray(result.image)))
            seconds += [took] if name == "with detail" else []
        if arguments.out is not None:
            pictures = [pair.person.image, pair.garment.image]
            pictures += [np.asarray(result.image) for result, _ in shown.values()]
            sheet = np.concatenate([*pictures, pair.truth.image], axis=1)
            save_image(Image.fromarray(sheet), arguments.out / f"{index:03d}.png")
    columns = list(dict.fromkeys(name for found in rows.values() for row in found for name in row))
    print(f"{arguments.pairs} pairs of {arguments.size}, {sum(seconds) / len(seconds):.2f} s a picture for the detail")
    print("| |", " | ".join(columns), "|")
    for name, found in rows.items():
        means = [np.mean([row[column] for row in found if column in row]) for column in columns]
        print(f"| {name} |", " | ".join(f"{mean:.3f}" for mean in means), "|", flush=True)


def try_on_both(pair: Pair, preset: str, *, estimate: bool) -> dict[str, tuple[TryOnResult, float]]:
    """Optimise once; show without and with detail, and say how long each took."""
    latents = []
    for picture in (pair.person, pair.garment):
        pose = styletryon.Pose(torch.from_numpy(picture.keypoints), picture.image.shape[:2])
        latents.append(styletryon.project(picture.image, pose=None if estimate else pose, preset=preset))
    batch = TryOnOptimizer(styletryon.load_model(), preset=preset).optimize(*latents, region=pair.region)
    shown = {}
    for name, detail in (("without", False), ("with detail", True)):
        start = time.perf_counter()
        result = show(batch, detail=detail)
        shown[name] = (result, time.perf_counter() - start)
    return shown


def score(pair: Pair, image: np.ndarray) -> dict[str, float]:
    """Compare a try-on with the truth."""
    truth = pair.truth.image
    garment = measures.class_mask(pair.truth.labels, REGIONS[pair.region])
    person = measures.foreground(pair.truth.labels)
    row = {
        "fg_psnr": measures.masked_psnr(image, truth, person),
        "garment_psnr": measures.masked_psnr(image, truth, garment),
        "garment_ssim": measures.masked_ssim(image, truth, garment),
    }
    texture = measures.texture(image, truth, pair.pattern_mask, plain=pair.plain) if pair.patterned else None
    if texture is not None:
        row |= {"contrast": texture.contrast, "drawn": texture.drawn}
    return row


if __name__ == "__main__":
    main()
