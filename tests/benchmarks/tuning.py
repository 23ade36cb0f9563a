"""What pivotal tuning brings and costs: ``python -m tests.benchmarks.tuning [--photos PHOTOS] [--figures N]``.

With PHOTOS, a folder of `images/`, `labels/` and `split.json`: how nearly photographs of its validation split are drawn
at the encoder's guess, after the projection, and after the tuning; inside the person of `labels/`. "apart" is the
distance of `PixelFeatures`, which needs no weights.

With figures: try-ons of rendered pairs whose truth is known, by the plain generator, by one that was tuned to the
person, and by one that was tuned to both pictures; PSNR over the person of the truth.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import styletryon
from styletryon.data import paperdoll
from styletryon.errors import StyleTryOnError
from styletryon.features import PixelFeatures
from styletryon.features.base import perceptual_distance
from styletryon.images import Source, crop, to_tensor
from styletryon.latent import Latent, stack
from styletryon.projection import LatentProjector
from styletryon.tryon import TryOnOptimizer


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--count", type=int, default=8, help="photographs")
    parser.add_argument("--figures", type=int, default=0, help="rendered pairs")
    parser.add_argument("--projection", type=int, default=60, help="steps of the projection")
    parser.add_argument("--steps", type=int, default=300, help="steps of the tuning")
    parser.add_argument("--rate", type=float, default=0.03)
    parser.add_argument("--locality", type=float, default=1.0)
    arguments = parser.parse_args()
    projector = LatentProjector(
        styletryon.load_model(),
        steps=arguments.projection,
        noise=False,
        tuning_steps=arguments.steps,
        tuning_rate=arguments.rate,
        locality_weight=arguments.locality,
    )
    if arguments.photos is not None:
        measure_photographs(projector, arguments.photos, arguments.count)
    if arguments.figures:
        measure_figures(projector, arguments.figures)


def psnr(drawn: Tensor, wanted: Tensor, mask: Tensor) -> float:
    """PSNR in dB of pictures `(1, 3, H, W)` in [-1, 1] under a mask `(1, 1, H, W)`."""
    square = ((drawn.clamp(-1, 1) - wanted).square() * mask).sum() / (3 * mask.sum())
    return float(10 * torch.log10(4 / square.clamp_min(1e-10)))


def measure_photographs(projector: LatentProjector, folder: Path, count: int) -> None:
    """Print a line per photograph and their mean."""
    rows = []
    for name in sorted(json.loads((folder / "split.json").read_text())["val"]):
        try:
            found = styletryon.project(folder / "images" / f"{name}.jpg", preset="fast")
        except StyleTryOnError as error:
            print(f"{name}: {error}")
            continue
        source = (found.source or ())[0]
        assert isinstance(source, Source)
        picture, inside = crop(source.photo, source.frame)
        labels = np.asarray(Image.open(folder / "labels" / f"{name}.png"))
        person, _ = crop(Image.fromarray((labels > 0).astype(np.uint8) * 255).convert("RGB"), source.frame)
        mask = ((person[:1] > 0) * (inside > 0.99)).float()[None]
        rows.append(measure_photograph(projector, picture[None], inside, mask, found))
        print(name, json.dumps(rows[-1]), flush=True)
        if len(rows) == count:
            break
    print("mean", json.dumps({key: round(sum(row[key] for row in rows) / len(rows), 4) for key in rows[0]}))


def measure_photograph(
    projector: LatentProjector, picture: Tensor, inside: Tensor, mask: Tensor, found: Latent
) -> dict[str, float]:
    """Measure one photograph after each stage."""
    model = styletryon.load_model()
    start = LatentProjector(model, steps=0, noise=False).project(picture, found.pose, mask=inside)
    pivot = projector.project(picture, found.pose, mask=inside)
    tuned = projector.tune(pivot, picture, mask=inside)
    row = {}
    for stage, latent in (("encoder", start), ("projected", pivot), ("tuned", tuned)):
        with torch.no_grad():
            image = model.draw(latent).image.clamp(-1, 1)
        row[f"{stage}_psnr"] = round(psnr(image, picture, mask), 2)
        row[f"{stage}_apart"] = round(float(perceptual_distance(PixelFeatures(), image, picture, mask)), 4)
    row["projection_s"] = round(pivot.report["projection_seconds"], 1)
    row["tuning_s"] = round(tuned.report["tuning_seconds"], 1)
    return row


def measure_figures(projector: LatentProjector, count: int) -> None:
    """Print the PSNR of try-ons without tuning, tuned to the person, and tuned to both."""
    model = styletryon.load_model()
    size = model.image_size
    rows: list[dict[str, float]] = []
    for seed in range(30_000_000, 30_001_000, 2):
        if len(rows) == count:
            break
        person, wearer = (paperdoll.sample_figure(seed + index) for index in range(2))
        if not (paperdoll.wears(person, "top") and paperdoll.wears(wearer, "top")):
            continue
        dressed = paperdoll.render(paperdoll.dress(person, wearer, "top"), size)
        pictures = [paperdoll.render(figure, size) for figure in (person, wearer)]
        images = torch.stack([to_tensor(Image.fromarray(picture.image)) for picture in pictures])
        points = torch.stack([torch.from_numpy(picture.keypoints) for picture in pictures]).float()
        pivots = projector.project_each(images, styletryon.Pose(points, size))
        began = time.perf_counter()
        alone = projector.tune(pivots[0], images[:1])
        between = time.perf_counter()
        both = projector.tune(stack(pivots), images)
        ended = time.perf_counter()
        truth = to_tensor(Image.fromarray(dressed.image))[None]
        mask = torch.from_numpy(dressed.labels > 0).float()[None, None]
        row = {"alone_s": round(between - began, 1), "both_s": round(ended - between, 1)}
        for name, latents in (("plain", pivots), ("alone", (alone, pivots[1])), ("both", (both[0], both[1]))):
            try:
                tried = TryOnOptimizer(model).optimize(*latents)
            except StyleTryOnError as error:
                print(f"{seed}: {name}: {error}")
                continue
            row[name] = round(psnr(tried.drawing.image, truth, mask), 2)
        rows.append(row)
        print(seed, json.dumps(row), flush=True)
    whole = [row for row in rows if {"plain", "alone", "both"} <= set(row)]
    print("mean", json.dumps({key: round(sum(row[key] for row in whole) / len(whole), 2) for key in whole[0]}))


if __name__ == "__main__":
    main()
