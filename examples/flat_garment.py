"""Try on a garment that nobody wears: a drawn shirt that lies on a floor.

Run `python examples/flat_garment.py --out out/`. The pictures are drawn here; put the paths of your own in their place.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import styletryon
from styletryon.data import paperdoll


def main() -> None:
    """Lay a shirt on a floor, dress a person in it, and save person, garment and try-on side by side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--preset", default="balanced")
    arguments = parser.parse_args()

    person = paperdoll.render(paperdoll.sample_figure(20_000_010), (512, 384))
    owner, lie = paperdoll.sample_figure(20_000_008), paperdoll.sample_lie(3)
    shirt = paperdoll.lay_flat(owner, "top", (384, 384), lie=lie)

    # Whether somebody wears it would be told by the picture too.
    result = styletryon.try_on(person.image, shirt.image, region="top", preset=arguments.preset, garment_worn=False)

    styletryon.photo.save_image(result.figure(), arguments.out / "figure.png")


if __name__ == "__main__":
    main()
