"""What projection costs and buys, by space, steps and noise: ``python -m tests.benchmarks.projection [--figures 8]``.

Rendered figures outside the training's seeds are projected. A row says how close the drawing comes to the picture (in
its own pose) and to the rendered truth in a pose that the projection never saw: what fits one pose too tightly shows
in the other.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor

from styletryon import LatentProjector, Pose, load_model
from styletryon.data import paperdoll
from styletryon.images import from_uint8

FIRST_SEED = 1_500_000_000


def _stack(renderings: list[paperdoll.Rendering]) -> tuple[Tensor, Tensor, Pose]:
    images = torch.stack([from_uint8(torch.from_numpy(item.image)).permute(2, 0, 1) for item in renderings])
    people = torch.stack([torch.from_numpy(item.labels) for item in renderings]) != 0
    keypoints = torch.stack([torch.from_numpy(item.keypoints) for item in renderings])
    return images, people, Pose(keypoints, (images.shape[2], images.shape[3]))


def _psnr(drawn: Tensor, images: Tensor, people: Tensor) -> float:
    error = ((drawn.clamp(-1, 1) - images) / 2).square().mean(dim=1)
    mean = (error * people).sum(dim=(1, 2)) / people.sum(dim=(1, 2))
    return float((-10 * mean.log10()).mean())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figures", type=int, default=8)
    parser.add_argument("--model", default="default")
    parser.add_argument("--spaces", default="z+,w,w+,s")
    parser.add_argument("--steps", default="0,60,150")
    parser.add_argument("--noise", action="store_true", help="also with noise maps")
    parser.add_argument("--rates", default="0.05")
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    figures = [paperdoll.sample_figure(FIRST_SEED + index) for index in range(arguments.figures)]
    moved = [
        paperdoll.restyle(figure, stance=paperdoll.sample_stance(FIRST_SEED + 5000 + index))
        for index, figure in enumerate(figures)
    ]
    own = _stack([paperdoll.render(figure, model.image_size) for figure in figures])
    new = _stack([paperdoll.render(figure, model.image_size) for figure in moved])
    print(
        f"{'space':8s}{'steps':>8s}{'rate':>8s}{'noise':>8s}{'own pose dB':>14s}{'new pose dB':>14s}{'s/picture':>12s}"
    )
    for space in arguments.spaces.split(","):
        for noise in (False, True) if arguments.noise else (False,):
            for steps in map(int, arguments.steps.split(",")):
                for rate in map(float, arguments.rates.split(",")):
                    projector = LatentProjector(model, space=space, steps=steps, noise=noise, learning_rate=rate)
                    began = time.perf_counter()
                    latent = projector.project(own[0], own[2])
                    seconds = (time.perf_counter() - began) / len(figures)
                    with torch.no_grad():
                        drawn = model.draw(latent).image
                        redrawn = model.draw(latent.with_pose(new[2])).image
                    row = (_psnr(drawn, own[0], own[1]), _psnr(redrawn, new[0], new[1]))
                    print(
                        f"{space:8s}{steps:8d}{rate:8.3f}{noise!s:>8s}{row[0]:14.2f}{row[1]:14.2f}{seconds:12.2f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
