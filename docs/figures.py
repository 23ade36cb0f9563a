"""Makes the pictures of the documentation: ``python docs/figures.py [--model NAME] [NAME ...]``.

Every picture comes from the bundled weights and the renderer, so it can be made again when either gets better.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

import styletryon
from styletryon.data import paperdoll
from styletryon.metrics.rendered_pairs import sample_pairs
from styletryon.models import PoseStyleGAN2
from styletryon.photo import contact_sheet, save_image, to_pil

IMAGES = Path(__file__).parent / "images"
SIZE = (256, 192)
UNSEEN = 2_000_000_000  # neither training nor the benchmark draws these figures


def _show(model: PoseStyleGAN2, latent: styletryon.Latent) -> Image.Image:
    return to_pil(model.draw(latent).image[0]).resize(SIZE[::-1], Image.Resampling.LANCZOS)


def _figure(seed: int) -> tuple[paperdoll.Rendering, styletryon.Pose]:
    rendering = paperdoll.render(paperdoll.sample_figure(UNSEEN + seed), SIZE)
    return rendering, styletryon.Pose(torch.from_numpy(rendering.keypoints), SIZE)


def demo(model: PoseStyleGAN2) -> None:
    """Person, garment and try-on of the two photographs that `styletryon demo` uses."""
    samples = Path(styletryon.__file__).parent / "samples"
    result = styletryon.try_on(samples / "person.jpg", samples / "garment.jpg", model=model)
    save_image(result.figure(height=720), IMAGES / "demo.jpg")


def poses(model: PoseStyleGAN2) -> None:
    """One style in five poses: a row per person, the projected picture first."""
    stances = [paperdoll.sample_stance(UNSEEN + 900 + index) for index in range(5)]
    pictures: list[object] = []
    for seed in (3, 8, 21):
        rendering, pose = _figure(seed)
        latent = styletryon.project(rendering.image, pose=pose, model=model)
        pictures.append(_picture(rendering))
        for stance in stances:
            figure = paperdoll.restyle(paperdoll.sample_figure(UNSEEN + seed), stance=stance)
            keypoints = torch.from_numpy(paperdoll.render(figure, SIZE).keypoints)
            pictures.append(_show(model, latent.with_pose(styletryon.Pose(keypoints, SIZE).resized(model.image_size))))
    captions = ["picture", *("the same style, new pose" for _ in stances)]
    save_image(contact_sheet(pictures, 6, captions=captions), IMAGES / "poses.png")  # type: ignore[arg-type]


def tryons(model: PoseStyleGAN2) -> None:
    """Person, garment, try-on and rendered truth of the benchmark's first pairs."""
    pictures: list[object] = []
    for pair in sample_pairs(6, 7, SIZE):
        person, garment, truth = pair.person, pair.garment, pair.truth
        keypoints = [styletryon.Pose(torch.from_numpy(item.keypoints), SIZE) for item in (person, garment)]
        result = styletryon.try_on(
            person.image, garment.image, model=model, person_pose=keypoints[0], garment_pose=keypoints[1]
        )
        pictures += [_picture(person), _picture(garment), result.image, _picture(truth)]
    captions = ["person", "garment", "try-on", "rendered truth"] * 2
    save_image(contact_sheet(pictures, 8, captions=captions), IMAGES / "tryons.png")  # type: ignore[arg-type]


def people(model: PoseStyleGAN2) -> None:
    """Random people, and their segmentations."""
    latents = [styletryon.generate(seed=seed, model=model) for seed in range(8)]
    drawings = [model.draw(latent) for latent in latents]
    pictures: list[object] = [drawing.image[0].clamp(-1, 1) for drawing in drawings]
    pictures += [styletryon.photo.labels_to_image(drawing.labels[0]) for drawing in drawings]
    save_image(contact_sheet(pictures, 8), IMAGES / "people.png")  # type: ignore[arg-type]


def _picture(rendering: paperdoll.Rendering) -> torch.Tensor:
    return styletryon.photo.from_uint8(torch.from_numpy(rendering.image).permute(2, 0, 1))


FIGURES: dict[str, Callable[[PoseStyleGAN2], None]] = {
    "demo": demo, "poses": poses, "tryons": tryons, "people": people,
}  # fmt: skip


def main() -> None:
    """Make the figures that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*FIGURES, []], help="which (default: all)")
    parser.add_argument("--model", default="default")
    arguments = parser.parse_args()
    model = styletryon.load_model(arguments.model)
    for name in arguments.names or FIGURES:
        FIGURES[name](model)


if __name__ == "__main__":
    main()
