"""How far the bundled weights carry on photographs: ``python -m tests.benchmarks.photographs PHOTOS OUT [--pairs 5]``.

PHOTOS holds `images/ID.jpg` and `split.json`; people and garments are drawn from its validation split. Poses are
estimated. Writes person | garment | try-on for each pair into OUT and prints each report.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import styletryon
from styletryon.errors import StyleTryOnError
from styletryon.images import save_image


def main() -> None:
    """Try on and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--region", default="top")
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--model", default="default")
    arguments = parser.parse_args()
    names = sorted(json.loads((arguments.photos / "split.json").read_text())["val"])
    for index in range(arguments.pairs):
        person, garment = (arguments.photos / "images" / f"{names[2 * index + k]}.jpg" for k in (0, 1))
        title = f"{person.stem} in {garment.stem}"
        try:
            result = styletryon.try_on(
                person, garment, region=arguments.region, preset=arguments.preset, model=arguments.model
            )
        except StyleTryOnError as error:
            print(f"{title}: {error}")
            continue
        save_image(result.figure(height=512), arguments.out / f"{person.stem}-{garment.stem}.png")
        numbers = {name: round(v, 3) if isinstance(v, float) else v for name, v in result.report.items()}
        print(f"{title}:", json.dumps(numbers))


if __name__ == "__main__":
    main()
