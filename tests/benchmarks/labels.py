"""Do labels help projection? ``python -m tests.benchmarks.labels [--ccp DIR] [--pictures 8] [--preset balanced]``.

Projects rendered figures, or photographs of the validation split, without labels, with estimated and with true ones;
prints how close the picture comes over the person, and how far the drawn clothes agree with the true ones.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from styletryon import Pose, load_model
from styletryon.labels import GARMENTS
from styletryon.models import PoseStyleGAN2
from styletryon.photo import crop, crop_labels, frame_person
from styletryon.pose import BodyEstimator
from styletryon.projection import LatentProjector
from styletryon.training.body.examples import IGNORED, Example, read_split, render_examples
from styletryon.training.body.measures import class_iou, confusion
from styletryon.tryon import find_preset

KINDS = ("none", "estimated", "true")


def project(
    model: PoseStyleGAN2, example: Example, pose: Pose, guide: np.ndarray | None, preset: str
) -> tuple[float, np.ndarray]:
    """Project one photograph: PSNR over the true person in dB, and which label was drawn for which."""
    chosen = find_preset(preset)
    steps, rate, noise = chosen.projection_steps, chosen.projection_rate, chosen.projection_noise
    projector = LatentProjector(model, steps=steps, learning_rate=rate, noise=noise, seed=0)
    frame = frame_person(pose, (example.image.height, example.image.width), model.image_size)
    picture, inside = crop(example.image, frame)
    truth = np.where(inside[0].numpy() > 0.5, crop_labels(np.asarray(example.labels), frame), IGNORED)
    labels = None if guide is None else torch.from_numpy(crop_labels(guide, frame)).long()[None]
    latent = projector.project(picture[None], frame.to_model(pose), labels=labels, mask=inside)
    with torch.no_grad():
        drawing = model.draw(latent)
    person = torch.from_numpy((truth > 0) & (truth != IGNORED))
    error = (drawing.image[0].clamp(-1, 1) - picture).square().mean(0)[person].mean()
    return float(10 * torch.log10(4 / error)), confusion(drawing.logits[0].argmax(0).numpy().astype(np.uint8), truth)


def garment_iou(counts: np.ndarray) -> float:
    """Intersection over union of clothes against everything else."""
    clothes = np.isin(np.arange(12), list(GARMENTS))
    both = counts[clothes][:, clothes].sum()
    return float(both / (counts[clothes].sum() + counts[:, clothes].sum() - both))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ccp", type=Path, help="folder of photographs; without it, rendered figures")
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--labels", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    model, estimator = load_model(device="cpu"), BodyEstimator.from_pretrained()
    if options.ccp is None:
        examples = render_examples(range(70_000, 70_000 + options.pictures), (512, 384))
    else:
        examples = read_split(options.ccp, "val", side=None)[: options.pictures]
    print(f"{'labels':12s}{'PSNR person':>14s}{'garment IoU':>14s}{'mIoU':>8s}{'seconds':>10s}")
    for name in options.labels:
        values, counts, start = [], np.zeros((12, 12), np.int64), time.perf_counter()
        for example in examples:
            pose, found = estimator.parse(example.image)
            known = np.asarray(example.labels)
            true = np.where(known == IGNORED, found, known).astype(np.uint8)
            guide = {"none": None, "estimated": found, "true": true}[name]
            psnr, pairs = project(model, example, pose, guide, options.preset)
            values.append(psnr)
            counts += pairs
        seconds = (time.perf_counter() - start) / len(examples)
        miou = float(np.nanmean(class_iou(counts)))
        print(f"{name:12s}{np.mean(values):14.2f}{garment_iou(counts):14.3f}{miou:8.3f}{seconds:10.1f}", flush=True)


if __name__ == "__main__":
    main()
