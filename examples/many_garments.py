"""A person is projected once and tries on many garments.

Run `python examples/many_garments.py --out out/`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import styletryon
from styletryon.data import paperdoll
from styletryon.pose import Pose

SIZE = (512, 384)


def rendered_latent(seed: int, pipeline: styletryon.TryOnPipeline) -> styletryon.Latent:
    """Render a figure and find it in the model's latent space; the pose is known, so none is estimated."""
    figure = paperdoll.render(paperdoll.sample_figure(seed), SIZE)
    return pipeline.project(figure.image, pose=Pose(torch.from_numpy(figure.keypoints), SIZE))


def main() -> None:
    """Project one person and a few garments, then try each on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--garments", type=int, default=3)
    arguments = parser.parse_args()

    pipeline = styletryon.TryOnPipeline(preset=arguments.preset)
    person = rendered_latent(20_000_010, pipeline)
    for seed in (20_000_027, 20_000_008, 20_000_009, 20_000_018)[: arguments.garments]:
        result = pipeline(person, rendered_latent(seed, pipeline))
        result.save(arguments.out / f"garment-{seed}.png")
        print(f"garment {seed}: {result.report['seconds']:.1f} s")


if __name__ == "__main__":
    main()
