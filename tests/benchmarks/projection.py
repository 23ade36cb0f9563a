"""What projection costs and buys, by start, space, steps and noise.

    python -m tests.benchmarks.projection [--figures 8] [--spaces s,w+ --starts encoder,mean --steps 0,50,500 --noise]

Rendered figures outside the training's seeds are projected. A row says how close the drawing comes to the picture, over
the person and over the frame, and over the person to the rendered truth in a pose that the projection never saw: what
fits one pose too tightly shows in the other. Without options the settings are those of the preset "balanced", and the
rows its two starts by steps: what the encoder is worth. Seconds are those of the processor, so that other programs on
it count little.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from styletryon import LatentProjector, Pose, load_model
from styletryon.data import paperdoll
from styletryon.models import PoseStyleGAN2
from styletryon.photo import from_uint8
from styletryon.tryon import PRESETS

FIRST_SEED = 1_500_000_000
_COLUMNS = ("start", "space", "noise", "rate", "steps", "person dB", "frame dB", "new pose dB", "s/picture")

Figures = tuple[Tensor, Tensor, Pose]


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--figures", type=int, default=8)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--model", default="default")
    parser.add_argument("--starts", default="encoder,mean")
    parser.add_argument("--spaces", default="s")
    parser.add_argument("--steps", default="0,10,25,50,100,200,500")
    parser.add_argument("--noise", action="store_true", help="also with noise maps")
    parser.add_argument("--rates", default=str(PRESETS["balanced"].projection_rate))
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args(argv)
    model = load_model(arguments.model, device="cpu")
    own, new = render_figures(model.image_size, arguments.figures, arguments.first_seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.threads} threads, {arguments.figures} figures of {model.image_size}")
    print("".join(f"{name:>12s}" for name in _COLUMNS))
    for start, space, noise, rate, steps in product(
        arguments.starts.split(","),
        arguments.spaces.split(","),
        (False, True) if arguments.noise else (False,),
        map(float, arguments.rates.split(",")),
        map(int, arguments.steps.split(",")),
    ):
        projector = LatentProjector(model, start=start, space=space, noise=noise, learning_rate=rate, steps=steps)
        measured = measure(projector, model, own, new)
        print(f"{start:>12s}{space:>12s}{noise!s:>12s}{rate:12.3f}{steps:12d}", end="")
        print("".join(f"{number:12.2f}" for number in measured), flush=True)
    torch.set_num_threads(threads)


def render_figures(size: tuple[int, int], count: int, first_seed: int) -> tuple[Figures, Figures]:
    """Return figures, and the same people in other stances, as pictures, who is where, and poses."""
    figures = [paperdoll.sample_figure(first_seed + index) for index in range(count)]
    moved = [
        paperdoll.restyle(figure, stance=paperdoll.sample_stance(first_seed + 5000 + index))
        for index, figure in enumerate(figures)
    ]
    own, new = (_stack([paperdoll.render(figure, size) for figure in group]) for group in (figures, moved))
    return own, new


@torch.no_grad()
def measure(projector: LatentProjector, model: PoseStyleGAN2, own: Figures, new: Figures) -> tuple[float, ...]:
    """Project; return the PSNR over the person, over the frame and in the new pose, and seconds a picture."""
    images, people, pose = own
    began = time.process_time()
    latent = projector.project(images, pose)
    seconds = (time.process_time() - began) / len(images)
    drawn = model.draw(latent).image
    redrawn = model.draw(latent.with_pose(new[2])).image
    frame = torch.ones_like(people)
    return _psnr(drawn, images, people), _psnr(drawn, images, frame), _psnr(redrawn, new[0], new[1]), seconds


def _stack(renderings: list[paperdoll.Rendering]) -> Figures:
    images = torch.stack([from_uint8(torch.from_numpy(item.image)).permute(2, 0, 1) for item in renderings])
    people = torch.stack([torch.from_numpy(item.labels) for item in renderings]) != 0
    keypoints = torch.stack([torch.from_numpy(item.keypoints) for item in renderings])
    return images, people, Pose(keypoints, (images.shape[2], images.shape[3]))


def _psnr(drawn: Tensor, images: Tensor, people: Tensor) -> float:
    error = ((drawn.clamp(-1, 1) - images) / 2).square().mean(dim=1)
    mean = (error * people).sum(dim=(1, 2)) / people.sum(dim=(1, 2))
    return float((-10 * mean.log10()).mean())


if __name__ == "__main__":
    main()
