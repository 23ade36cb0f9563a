"""Two pictures in, one picture out: the person in the other's garment.

Run `python examples/quickstart.py --out out/`. The pictures are rendered here, so nothing is downloaded; put the paths
of your own in their place.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import styletryon
from styletryon.data import paperdoll


def main() -> None:
    """Render a person and a garment, try it on, and save what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--preset", default="balanced")
    arguments = parser.parse_args()

    person = paperdoll.render(paperdoll.sample_figure(20_000_010), (512, 384))
    garment = paperdoll.render(paperdoll.sample_figure(20_000_008), (512, 384))

    result = styletryon.try_on(person.image, garment.image, region="top", preset=arguments.preset)

    result.save(arguments.out / "tryon.png")
    result.figure().save(arguments.out / "figure.png")  # person | garment | try-on
    for name, value in result.report.items():
        print(f"{name:>32}  {value}")


if __name__ == "__main__":
    main()
