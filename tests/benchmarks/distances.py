"""What do the set distances see? ``python -m tests.benchmarks.distances [--data DATA] [--features NAME]``.

One half of the pictures of a data set (without --data: of rendered figures) is damaged in known ways and compared with
the other half; and untouched halves of fewer pictures are compared, which says how much too large the distance of few
pictures is. Prints a line for each.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from styletryon.data import FolderDataset
from styletryon.data.paperdoll import render, sample_figure
from styletryon.metrics import SetNetwork, find_set_network, frechet_distance, kernel_distance
from styletryon.photo import frame_person, from_uint8

SIZE = (128, 96)
FIRST_SEED = 30_000_000


def read_pictures(data: Path | None, split: str, people: int) -> Tensor:
    """Pictures `(N, 3, H, W)` in [-1, 1], in an order that says nothing."""
    if data is None:
        drawn = [render(sample_figure(FIRST_SEED + number), SIZE).image for number in range(people)]
        return from_uint8(torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2))
    dataset = FolderDataset(data, size=SIZE, split=split, frame=frame_person)
    order = np.random.default_rng(0).permutation(len(dataset))[:people]
    return from_uint8(dataset.batch(order).images)


def blurred(radius: int) -> Callable[[Tensor], Tensor]:
    """Average over squares of `2 * radius + 1` pixels."""
    return lambda images: functional.avg_pool2d(
        functional.pad(images, (radius,) * 4, mode="replicate"), 2 * radius + 1, stride=1
    )


def noisy(strength: float) -> Callable[[Tensor], Tensor]:
    """Add white noise."""
    rng = torch.Generator().manual_seed(0)
    return lambda images: (images + 2 * strength * torch.randn(images.shape, generator=rng)).clamp(-1, 1)


def without_the_middle(images: Tensor) -> Tensor:
    """Grey where the trunk is."""
    damaged = images.clone()
    height, width = images.shape[2:]
    damaged[:, :, height // 3 : 2 * height // 3, width // 4 : 3 * width // 4] = 0
    return damaged


DAMAGES: dict[str, Callable[[Tensor], Tensor]] = {
    "untouched": lambda images: images,
    "blur 3 px": blurred(1),
    "blur 7 px": blurred(3),
    "noise 0.05": noisy(0.05),
    "noise 0.15": noisy(0.15),
    "darker by 0.1": lambda images: images - 0.2,
    "upside down": lambda images: images.flip(2),
    "grey trunk": without_the_middle,
    "one half of the people, twice": lambda images: images[: len(images) // 2].repeat(2, 1, 1, 1),
}


def summarise(network: SetNetwork, images: Tensor) -> np.ndarray:
    """Features of many pictures."""
    return np.concatenate([network(part) for part in torch.split(images, 32)])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--split", default="train")
    parser.add_argument("--features", default="efficientnet")
    parser.add_argument("--feature-weights", type=Path)
    parser.add_argument("--people", type=int, default=400)
    arguments = parser.parse_args()
    network = find_set_network(arguments.features, weights=arguments.feature_weights)
    images = read_pictures(arguments.data, arguments.split, arguments.people)
    half = len(images) // 2
    real, others = summarise(network, images[:half]), images[half:]
    untouched = summarise(network, others)
    print(f"{network.name}, fingerprint {network.fingerprint}, {half} pictures against {len(others)}")
    print(f"{'':32}{'fid':>10}{'kid':>12}")
    for name, damage in DAMAGES.items():
        found = summarise(network, damage(others))
        value, error = kernel_distance(found, real)
        print(f"{name:32}{frechet_distance(found, real):10.2f}{value:9.4f} ±{1.96 * error:.4f}")
    print("untouched halves of fewer pictures")
    for count in (half // 8, half // 4, half // 2, half):
        value, error = kernel_distance(untouched[:count], real[:count])
        distance = frechet_distance(untouched[:count], real[:count])
        print(f"{f'{count} against {count}':32}{distance:10.2f}{value:9.4f} ±{1.96 * error:.4f}")


if __name__ == "__main__":
    main()
