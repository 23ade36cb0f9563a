"""How good a target the garment's wearer is, drawn perfectly in the person's pose.

    python -m tests.benchmarks.targets [--pairs N] [--seed S]

The renderer draws the wearer in the person's stance, without any network, and it is compared with the truth of the
try-on inside the garment. What is missing comes from the wearer's body and light alone.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np

from styletryon.data.paperdoll import dress, render, sample_figure
from styletryon.labels import REGIONS
from styletryon.metrics import sample_pairs
from styletryon.metrics.measures import class_mask, masked_psnr


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    size = (128, 96)
    rows: dict[str, list[float]] = {}
    for pair in sample_pairs(arguments.pairs, arguments.seed, size, selection=True):
        person, wearer = sample_figure(pair.person_seed), sample_figure(pair.garment_seed)
        inside = class_mask(pair.truth.labels, REGIONS["top"])
        posed = render(replace(wearer, stance=person.stance), size)
        lit = render(replace(wearer, stance=person.stance, light=person.light), size)
        dressed = render(replace(dress(person, wearer, "top"), light=wearer.light), size)
        both = inside & class_mask(posed.labels, REGIONS["top"])
        for name, picture, mask in (
            ("wearer's body and light", posed, inside),
            ("wearer's body, person's light", lit, inside),
            ("person's body, wearer's light", dressed, inside),
            ("wearer's body and light, where both show the garment", posed, both),
            ("wearer's body, person's light, where both show it", lit, both),
        ):
            # A garment that comes out exactly right counts 60 dB.
            rows.setdefault(name, []).append(min(masked_psnr(picture.image, pair.truth.image, mask), 60.0))
    print(f"{arguments.pairs} pairs, {size[0]}x{size[1]}: PSNR inside the garment of the truth, dB")
    for name, values in rows.items():
        print(f"{name:55s} {np.mean(values):5.1f}")


if __name__ == "__main__":
    main()
