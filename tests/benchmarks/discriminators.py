"""What a discriminator adds to reconstruction, for equal minutes of the processor.

    python -m tests.benchmarks.discriminators DATA [--size 64x48] [--minutes 5] [--network PATH] [--out DIR]

DATA are one or several data sets with a validation split. All runs start from the same weights, those of `--model`
after `--warm` minutes of reconstruction at this size. Then each goes on for `--minutes`: with reconstruction alone,
with today's discriminator, with the one on pretrained features, and with that and reconstruction in features. The
columns say, of held-out pictures and their reconstructions, PSNR over the person, mean IoU of the labels, and the
share of the fine contrast that is drawn (1 is as sharp as the truth). With `--network`, the path of a state dict of
torchvision's MobileNetV2, the kernel distance (times 1000) of the reconstructions and of random people from all
pictures: a network that none of the runs saw. Minutes are those of the processor, so that other programs on it count
little.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from styletryon.data import FolderDataset, JoinedDataset
from styletryon.metrics.distances import Array, subset_kernel_distance
from styletryon.models import (
    DiscriminatorConfig,
    PoseStyleGAN2,
    ProjectedDiscriminatorConfig,
)
from styletryon.pose import Pose
from styletryon.training import AdaptiveAugmentation, PerceptualReconstruction, Stage, Trainer, TrainingConfig

Data = FolderDataset | JoinedDataset
_DECODED = 32  # pictures measured at once


def settings(model: PoseStyleGAN2, size: tuple[int, int]) -> TrainingConfig:
    """Reconstruction at one size, with the levels and the encoder's blocks that the model has for it."""
    levels = (size[0] // 4).bit_length()
    assert model.encoder is not None
    channels, encoder = model.config.channels[:levels], model.encoder.config
    blocks = encoder.channels[-levels:]
    return TrainingConfig(
        generator=replace(model.config, image_size=size, channels=channels),
        encoder=replace(encoder, image_size=size, channels=blocks),
        discriminator=DiscriminatorConfig(size, channels),
        stages=(Stage(10**9, learning_rate=1e-3),),
        geometry=0.3,
        colour=0.2,
        mapping_steps=300,
    )


def variants(start: TrainingConfig, weights: str, adversarial: float) -> dict[str, TrainingConfig]:
    """Name -> settings of a run."""
    size = start.generator.image_size
    alone = replace(start, stages=(Stage(10**9, learning_rate=4e-4),))
    both = replace(
        start,
        stages=(Stage(10**9, learning_rate=4e-4, adversarial=adversarial, discriminator_rate=6e-4),),
        adaptive=AdaptiveAugmentation(pictures=10_000),
    )
    faster = replace(both, stages=(replace(both.stages[0], discriminator_rate=2e-3),))
    projected = replace(faster, projected=ProjectedDiscriminatorConfig(size, weights=weights))
    return {
        "reconstruction alone": alone,
        "today's discriminator": both,
        "projected": projected,
        "projected, perceptual": replace(projected, perceptual=PerceptualReconstruction(finest=1, weights=weights)),
    }


def train_for(run: Trainer, minutes: float, least: int) -> float:
    """Train for so many minutes of the processor, and a least number of steps; return the minutes."""
    started = time.process_time()
    steps = 0
    while time.process_time() - started < 60 * minutes or steps < least:
        run.train_step()
        steps += 1
    return (time.process_time() - started) / 60


class Eyes:
    """Torchvision's MobileNetV2, pooled before its classifier."""

    def __init__(self, path: Path) -> None:
        from torchvision.models import mobilenet_v2

        self.network = mobilenet_v2(weights=None)
        self.network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self.network.eval()

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Array:
        mean, deviation = (images.new_tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        large = F.interpolate(images, (256, 192), mode="bilinear", align_corners=False)
        maps = self.network.features(((large + 1) / 2 - mean) / deviation)
        return np.asarray(maps.mean(dim=(2, 3)).double().numpy())


@torch.no_grad()
def measure(model: PoseStyleGAN2, held_out: Data, everyone: Data, eyes: Eyes | None) -> list[float]:
    """Return the columns."""
    errors, overlaps, fine = [], [], []
    drawn, seen = [], []
    for rows in np.array_split(np.arange(len(held_out)), -(-len(held_out) // _DECODED)):
        batch = held_out.batch(rows)
        images, labels = batch.images.float() / 127.5 - 1, batch.labels
        assert model.encoder is not None
        drawing = model.synthesize(model.affine(model.encoder(images, batch.pose)), batch.pose)
        image, person = drawing.image.clamp(-1, 1), (labels != 0)[:, None].float()
        square = ((image - images) / 2).square().mean(dim=1, keepdim=True)
        errors += ((square * person).sum(dim=(1, 2, 3)) / person.sum(dim=(1, 2, 3)).clamp(min=1)).tolist()
        fine += (_contrast(image, person) / _contrast(images, person).clamp(min=1e-6)).tolist()
        overlaps.append(_overlaps(drawing.labels, labels))
        drawn.append(image)
        seen.append(images)
    together = torch.stack(overlaps).sum(dim=0)
    found = [float(np.mean(-10 * np.log10(errors))), float((together[0] / together[1])[together[1] > 0].mean())]
    found.append(float(np.median(fine)))
    if eyes is None:
        return found
    rng = torch.Generator().manual_seed(0)
    some = everyone.batch(np.random.default_rng(0).permutation(len(everyone))[: 4 * _DECODED])
    people = []
    for keypoints in some.keypoints.split(_DECODED):
        z = torch.randn(len(keypoints), model.z_dim, generator=rng)
        people.append(model(z, Pose(keypoints, held_out.size)).image.clamp(-1, 1))
    truth = eyes(torch.cat([*seen, some.images.float() / 127.5 - 1]))
    for images in (torch.cat(drawn), torch.cat(people)):
        found.append(1000 * subset_kernel_distance(eyes(images), truth, size=50).mean)
    return found


def _contrast(images: Tensor, person: Tensor) -> Tensor:
    """Return how strong what is finer than two pixels is, over the person."""
    fine = images - F.interpolate(F.avg_pool2d(images, 2), scale_factor=2.0, mode="bilinear", align_corners=False)
    return ((fine.square().mean(dim=1, keepdim=True) * person).sum(dim=(1, 2, 3)) / person.sum(dim=(1, 2, 3))).sqrt()


def _overlaps(drawn: Tensor, labels: Tensor) -> Tensor:
    """Return intersection and union of each class, `(2, 12)`."""
    classes = range(12)
    both = [((drawn == k) & (labels == k)).sum() for k in classes]
    either = [((drawn == k) | (labels == k)).sum() for k in classes]
    return torch.stack([torch.stack(both), torch.stack(either)]).double()


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data", type=Path, nargs="+", metavar="DATA")
    parser.add_argument("--model", default="default")
    parser.add_argument("--size", default="64x48")
    parser.add_argument("--warm", type=float, default=5.0, help="minutes of reconstruction that all start from")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--least", type=int, default=1, help="steps that each run makes at least")
    parser.add_argument("--adversarial", type=float, default=0.04)
    parser.add_argument("--weights", default="bundled", help="of EfficientNet-Lite0")
    parser.add_argument("--network", type=Path, help="state dict of torchvision's MobileNetV2")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--out", type=Path, help="keeps the models")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    height, _, width = arguments.size.partition("x")
    size = int(height), int(width)
    train, held_out = (
        JoinedDataset([FolderDataset(path, size=size, split=split) for path in arguments.data])
        for split in ("train", "val")
    )
    eyes = None if arguments.network is None else Eyes(arguments.network)
    start = settings(PoseStyleGAN2.from_pretrained(arguments.model), size)
    print(f"{size[0]}x{size[1]}, {len(train)} pictures, {len(held_out)} held out, {arguments.threads} thread")
    columns = ["minutes", "pictures", "person dB", "IoU", "contrast", *(["KID", "KID random"] if eyes else [])]
    print(f"{'run':24}" + "".join(f"{name:>12}" for name in columns), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        out = arguments.out or Path(folder)

        def row(name: str, run: Trainer, minutes: float, before: int) -> None:
            run.finish()
            values = measure(PoseStyleGAN2.from_pretrained(run.out / "model"), held_out, train, eyes)
            numbers = [f"{minutes:12.2f}", f"{run.pictures - before:12d}", *(f"{value:12.3f}" for value in values)]
            print(f"{name:24}" + "".join(numbers), flush=True)

        warm = Trainer(start, train, out / "start", precision=arguments.precision)
        warm.start_from(arguments.model)
        row("start", warm, train_for(warm, arguments.warm, arguments.least), 0)
        for name, config in variants(start, arguments.weights, arguments.adversarial).items():
            run = Trainer(config, train, out / name.replace(" ", "-"), precision=arguments.precision)
            run.start_from(warm.generator)
            row(name, run, train_for(run, arguments.minutes, arguments.least), 0)


if __name__ == "__main__":
    main()
