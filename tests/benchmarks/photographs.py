"""How far the bundled weights carry on photographs: ``python -m tests.benchmarks.photographs PHOTOS OUT [--pairs 10]``.

PHOTOS holds `images/ID.jpg`, `labels/ID.png` and `split.json`; people and garments are drawn from its validation split,
by turns for a top, a bottom and a dress, which the labels must show on the garment's picture. Poses are estimated.

Writes person | garment | try-on at the photograph's own size for each pair into OUT, and the changed part at 200 %, and
prints each report. Stops if a pixel outside the change differs from the photograph. Prints how much of the change lies
on the photograph's own face and hair, by its labels; and the seconds of each try-on, projections not counted.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import styletryon
from styletryon.errors import StyleTryOnError
from styletryon.labels import IDENTITY, REGIONS
from styletryon.photo import Photograph, read_image, save_image
from styletryon.tryon import TryOnResult

LEAST = 0.03
"""The share of a picture that a garment must cover to be asked for."""


def main() -> None:
    """Try on and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--region", choices=("top", "bottom", "dress"), help="default: each by turns")
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--model", default="default")
    parser.add_argument("--no-detail", action="store_true")
    arguments = parser.parse_args()
    regions = (arguments.region,) if arguments.region else ("top", "bottom", "dress")
    shares = []
    for person, garment, region in pairs(arguments.photos, regions, arguments.pairs):
        title = f"{person}-{garment}-{region}"
        paths = [arguments.photos / "images" / f"{name}.jpg" for name in (person, garment)]
        try:
            result = styletryon.try_on(
                *paths, region=region, preset=arguments.preset, model=arguments.model, detail=not arguments.no_detail
            )
        except StyleTryOnError as error:
            print(f"{title}: {error}")
            continue
        numbers: dict[str, object] = {
            name: round(value, 3) if isinstance(value, float) else value for name, value in result.report.items()
        }
        changed = check_pixels(result, read_image(paths[0]))
        labels = np.asarray(Image.open(arguments.photos / "labels" / f"{person}.png"))
        face = np.isin(labels, [int(label) for label in IDENTITY])
        numbers["changed_share"] = round(float(changed.mean()), 4)
        numbers["face_and_hair_changed"] = round(float(changed[face].mean()), 4) if face.any() else 0.0
        shares.append(numbers["face_and_hair_changed"])
        save_image(result.figure(), arguments.out / f"{title}.png")
        save_image(enlarged(result.image, changed), arguments.out / f"{title}-200.png")
        print(f"{title}:", json.dumps(numbers), flush=True)
    print(f"{len(shares)} pairs, every pixel outside the change identical; of face and hair changed:", shares)


def pairs(folder: Path, regions: tuple[str, ...], count: int) -> Iterator[tuple[str, str, str]]:
    """Yield names of person and garment, and the region, `count` times at most."""
    names = sorted(json.loads((folder / "split.json").read_text())["val"])
    found = 0
    while len(names) > 1 and found < count:
        region = regions[found % len(regions)]
        person = names.pop(0)
        for garment in names:
            labels = np.asarray(Image.open(folder / "labels" / f"{garment}.png"))
            if np.isin(labels, [int(label) for label in REGIONS[region]]).mean() >= LEAST:
                names.remove(garment)
                found += 1
                yield person, garment, region
                break


def check_pixels(result: TryOnResult, photo: Image.Image) -> NDArray[np.bool_]:
    """Return which pixels changed; raise if one did that lies outside the mask, and not below the frame either.

    Below the frame, where the mask ends, a garment that goes on may change the column of the photograph under it.
    """
    changed: NDArray[np.bool_] = (np.asarray(result.image) != np.asarray(photo)).any(axis=-1)
    photograph = (result.person.photograph or ())[0]
    assert isinstance(photograph, Photograph)
    frame, mask = photograph.frame, result.mask.cpu().numpy() > 0
    down, across = frame.scale
    rows, columns = np.nonzero(changed)
    left, top = (columns - frame.box[0]) * across, (rows - frame.box[1]) * down
    height, width = mask.shape
    allowed = np.zeros(len(rows), dtype=bool)
    for y in (top, top + down):
        for x in (left, left + across):  # the four corners of a pixel of the photograph
            allowed |= mask[np.floor(y).astype(int).clip(0, height - 1), np.floor(x).astype(int).clip(0, width - 1)]
    beside = (left > -across) & (left < width)
    inside = beside & (top > -down) & (top < height)
    below = beside & (top >= height - 1) & mask[-2:].any()
    strange = int((~((allowed & inside) | below)).sum())
    if strange:
        raise SystemExit(f"{strange} pixels outside the change differ from the photograph")
    return changed


def enlarged(image: Image.Image, changed: NDArray[np.bool_], margin: int = 20) -> Image.Image:
    """Cut out the changed part at 200 %, pixel by pixel."""
    rows, columns = np.nonzero(changed)
    if not len(rows):
        return image
    box = (
        max(0, int(columns.min()) - margin),
        max(0, int(rows.min()) - margin),
        min(image.width, int(columns.max()) + margin),
        min(image.height, int(rows.max()) + margin),
    )
    part = image.crop(box)
    return part.resize((2 * part.width, 2 * part.height), Image.Resampling.NEAREST)


if __name__ == "__main__":
    main()
