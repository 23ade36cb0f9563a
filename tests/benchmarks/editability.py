"""How far projected codes may go into other clothes: `python -m tests.benchmarks.editability [--pairs N]`.

Projected codes, drawn back to the encoder's by different shares, are exchanged by the generator's channel masks with no
optimisation, and the drawing is held against the rendered truth, on figures on which settings are chosen.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

import styletryon
from styletryon.labels import REGIONS
from styletryon.metrics.rendered_pairs import Pair, pair_seeds, render_pair
from styletryon.metrics.scoring import pictures, score_pair
from styletryon.tryon import blend_styles

SHARES = (0.0, 0.25, 0.5, 0.7, 0.85, 1.0)
MEASURES = ("fg_psnr", "garment_psnr", "identity_psnr", "texture_contrast", "texture_drawn")


def measure(
    generator: styletryon.PoseStyleGAN2, pairs: Sequence[Pair], *, steps: int = 60
) -> dict[float, dict[str, float]]:
    """Return, for each share of the projection that is kept, the means of the measures over pairs of one region."""
    projector = styletryon.LatentProjector(generator, steps=steps, learning_rate=0.05, noise=False)
    masks = generator.channel_masks(REGIONS[pairs[0].region])
    if masks is None:
        raise SystemExit("the generator has learnt no channel masks")
    latents = []
    for side in ("person", "garment"):
        shown = [getattr(pair, side) for pair in pairs]
        images = torch.stack([torch.from_numpy(one.image).permute(2, 0, 1) / 127.5 - 1 for one in shown])
        points = torch.stack([torch.from_numpy(one.keypoints) for one in shown])
        latents.append(projector.project(images, styletryon.Pose(points, generator.image_size)))
    person = latents[0]
    table = {}
    for kept in SHARES:
        drawn_back = [
            tuple(torch.lerp(anchor, style, kept) for style, anchor in zip(one.styles, one.anchor or (), strict=True))
            for one in latents
        ]
        dressed = replace(person, styles=blend_styles(*drawn_back, masks), noise=None)
        with torch.no_grad():
            drawing = generator.draw(dressed)
        rows = [score_pair(picture, pair) for picture, pair in zip(pictures(drawing), pairs, strict=True)]
        table[kept] = {name: float(np.nanmean([row[name] for row in rows])) for name in MEASURES}
    return table


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--seed", type=int, default=11)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    generator = styletryon.load_model("default", device="cpu")
    seeds = pair_seeds(arguments.pairs, arguments.seed, "top", selection=True)
    table = measure(generator, [render_pair(*pair, generator.image_size, "top") for pair in seeds])
    print(f"model {generator.fingerprint}, {arguments.pairs} pairs")
    print("| kept | " + " | ".join(MEASURES) + " |")
    print("|---" * (len(MEASURES) + 1) + "|")
    for kept, row in table.items():
        print(f"| {kept} | " + " | ".join(f"{row[name]:.2f}" for name in MEASURES) + " |")


if __name__ == "__main__":
    main()
