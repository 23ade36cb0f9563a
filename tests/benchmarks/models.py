"""Generators of different sizes compared at the same size.

    python -m tests.benchmarks.models MODEL ... [--data DIR] [--count 16] [--seed 7] [--preset balanced]
                                      [--network PATH]

Each generator is given pictures at its own size; what it draws is held to the truth at 256x192 and at 128x96, to
which it is brought by a bicubic filter. "photographs" are those of the validation split of DIR, projected and drawn
again: PSNR over the person. "pairs" are rendered try-ons of tops: PSNR over the person in the garment. Seconds are
those of the processor for a projection. Sharpness is the mean gradient of a drawing over that of the truth, over the
person.

With `--network`, the path of a state dict of torchvision's MobileNetV2, which no training has seen, a second table has
the kernel distances (times 1000) from the photographs of DIR's training split: of photographs drawn again, of try-ons
between them as they are drawn, before anything of the photographs is put back, and of random people in their poses.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from styletryon import Pose, load_model
from styletryon.data import FolderDataset
from styletryon.metrics import measures
from styletryon.metrics.distances import subset_kernel_distance
from styletryon.metrics.methods import METHODS, Bench, ProjectedPairs
from styletryon.metrics.rendered_pairs import sample_pairs
from styletryon.metrics.scoring import Picture
from styletryon.photo import from_uint8, to_uint8
from tests.benchmarks.discriminators import Eyes

SIZES = ((256, 192), (128, 96))
_TRUTHS = 200  # Photographs that drawings are compared with.
Array = NDArray[np.uint8]


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", type=Path, help="photographs that were prepared")
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--network", type=Path, help="of kernel distances; needs --data")
    parser.add_argument("--out", type=Path, help="also write truth | drawings of each picture there")
    arguments = parser.parse_args(argv)
    print("| pictures | generator | dB at 256x192 | dB at 128x96 | sharpness at 256x192 | s a projection |")
    print("|---|---|---|---|---|---|")
    for kind in ("photographs", "pairs") if arguments.data else ("pairs",):
        drawings = []
        for name in arguments.models:
            bench = Bench(load_model(name, device="cpu"), region="top", preset=arguments.preset, batch_size=1)
            started = time.process_time()
            if kind == "pairs":
                drawn, truths = try_on_pairs(bench, arguments.count, arguments.seed)
            else:
                drawn, truths = draw_again(bench, arguments.data, arguments.count, arguments.seed)
            seconds = (time.process_time() - started) / len(drawn)
            drawings.append(drawn)
            found = [compare(image, truth) for image, truth in zip(drawn, truths, strict=True)]
            cells = " | ".join(f"{number:.2f}" for number in (*np.mean(found, axis=0), seconds))
            print(f"| {kind} | {name} | {cells} |", flush=True)
        if arguments.out is not None:
            arguments.out.mkdir(parents=True, exist_ok=True)
            for index, truth in enumerate(truths):
                row = [truth.image, *(resized(group[index], SIZES[0]) for group in drawings)]
                Image.fromarray(np.concatenate(row, axis=1)).save(arguments.out / f"{kind}-{index:02d}.png")
    if arguments.network is not None:
        print("\n| generator | drawn again | try-ons | random people |\n|---|---|---|---|")
        for name in arguments.models:
            bench = Bench(load_model(name, device="cpu"), region="top", preset=arguments.preset, batch_size=1)
            found = distances(bench, arguments.data, Eyes(arguments.network), arguments.count, arguments.seed)
            print(f"| {name} | " + " | ".join(f"{number:.0f}" for number in found) + " |", flush=True)


@torch.no_grad()
def distances(bench: Bench, data: Path, eyes: Eyes, count: int, seed: int) -> list[float]:
    """Return the kernel distances of photographs drawn again, of try-ons between them, and of random people."""
    given = FolderDataset(data, size=bench.model.image_size, split="val")
    large = FolderDataset(data, size=SIZES[0], split="train")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(given))[:count]
    latents, photos = [], []
    for index in order:
        batch = given.batch([index])
        latents.append(bench.project(from_uint8(batch.images), batch.pose))
        photos.append(Picture(np.asarray(batch.images)[0].transpose(1, 2, 0), np.asarray(batch.labels)[0]))
    pairs = [
        ProjectedPairs(person, garment, (photo,))
        for person, garment, photo in zip(latents, [*latents[1:], latents[0]], photos, strict=True)
    ]
    keypoints = given.batch(order).keypoints
    z = torch.randn(len(order), bench.model.z_dim, generator=torch.Generator().manual_seed(seed))
    people = bench.model(z, Pose(keypoints, bench.model.image_size)).image.clamp(-1, 1)
    truth = large.batch(rng.permutation(len(large))[:_TRUTHS]).images.float() / 127.5 - 1
    drawn = (
        [bench.draw(latent)[0].image for latent in latents],
        [METHODS["ours"].draw(bench, pair)["ours"][0].image for pair in pairs],
        list(to_uint8(people).permute(0, 2, 3, 1).numpy()),
    )
    real = eyes(truth)
    return [1000 * subset_kernel_distance(eyes(together(group)), real, size=count).mean for group in drawn]


def together(images: Sequence[Array]) -> Tensor:
    """Return pictures in [-1, 1] at the larger size."""
    stacked = np.stack([resized(image, SIZES[0]) for image in images]).transpose(0, 3, 1, 2)
    return from_uint8(torch.from_numpy(stacked.copy()))


@torch.no_grad()
def draw_again(bench: Bench, data: Path, count: int, seed: int) -> tuple[list[Array], list[Picture]]:
    """Project photographs and draw them again; return the drawings and the truths at the larger size."""
    given, wanted = (FolderDataset(data, size=size, split="val") for size in (bench.model.image_size, SIZES[0]))
    order = np.random.default_rng(seed).permutation(len(given))[:count]
    drawn, truths = [], []
    for index in order:
        batch, large = given.batch([index]), wanted.batch([index])
        drawn.append(bench.draw(bench.project(from_uint8(batch.images), batch.pose))[0].image)
        labels = np.asarray(large.labels)[0]
        truths.append(Picture(np.asarray(large.images)[0].transpose(1, 2, 0), labels))
    return drawn, truths


def try_on_pairs(bench: Bench, count: int, seed: int) -> tuple[list[Array], list[Picture]]:
    """Try on the tops of rendered pairs; return the drawings and the truths at the larger size."""
    drawn, truths = [], []
    for pair in sample_pairs(count, seed, SIZES[0], "top"):
        latents, shown = [], []
        for picture in (pair.person, pair.garment):
            shown.append(resized(picture.image, bench.model.image_size))
            images = from_uint8(torch.from_numpy(shown[-1].transpose(2, 0, 1).copy())[None])
            latents.append(bench.project(images, Pose(torch.from_numpy(picture.keypoints)[None], SIZES[0])))
        labels = np.asarray(Image.fromarray(pair.person.labels).resize(bench.model.image_size[::-1], 0))
        batch = ProjectedPairs(latents[0], latents[1], (Picture(shown[0], labels),))
        drawn.append(METHODS["ours"].draw(bench, batch)["ours"][0].image)
        truths.append(Picture(pair.truth.image, pair.truth.labels))
    return drawn, truths


def compare(drawn: Array, truth: Picture) -> tuple[float, ...]:
    """Return the PSNR over the person at both sizes, and the sharpness."""
    person = measures.foreground(truth.labels)
    small = np.asarray(Image.fromarray(person).resize(SIZES[1][::-1], 0))
    large = resized(drawn, SIZES[0])
    sharp = [float(np.hypot(*np.gradient(image.mean(axis=-1)))[person].mean()) for image in (large, truth.image)]
    return (
        measures.masked_psnr(large, truth.image, person),
        measures.masked_psnr(resized(drawn, SIZES[1]), resized(truth.image, SIZES[1]), small),
        sharp[0] / max(sharp[1], 1e-6),
    )


def resized(image: Array, size: tuple[int, int]) -> Array:
    """Bring a picture to a size (height, width)."""
    if image.shape[:2] == size:
        return image
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC))


if __name__ == "__main__":
    main()
