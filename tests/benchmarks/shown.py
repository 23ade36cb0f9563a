"""What try-ons between photographs look like, in numbers: ``python -m tests.benchmarks.shown PAIRS OUT``.

PAIRS is a CSV table with the columns person, garment and region; paths are relative to the table. Poses and labels are
found once a photograph; the composing alone is measured, with the whole change shown. Prints a row a pair and their
means, and writes person | garment | try-on into OUT.

- blot: share of the changed pixels whose local contrast is under 0.4 of the 20th percentile of that of the photograph
  that they are taken from (the garment's for cloth, the person's for all else), at 800 pixels of height;
- rest: share of the old garment's pixels, by the labels, that are neither covered nor lie under what is in front, and
  still have their colour;
- colour: median CIEDE2000 between the cloth of the try-on and the garment's photograph, their colours sorted by
  lightness;
- seam: mean gradient along the border of the change, divided by that just inside and outside;
- outside: the largest change of a pixel outside the change; must be 0;
- confidence: the report's;
- seconds: processor's, for composing.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from styletryon.compositing.blending import compose
from styletryon.errors import StyleTryOnError
from styletryon.labels import replaced_classes, resolve_region
from styletryon.photo import Frame, Photograph, read_image
from styletryon.photo.colours import to_lab
from styletryon.pose.estimator import BodyEstimator
from styletryon.tryon.layers import Shows, TryOnLayers

HEIGHT = 800


def main() -> None:
    """Try on and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    estimator, seen, rows = BodyEstimator.from_pretrained(), {}, []
    with arguments.pairs.open(encoding="utf-8") as table:
        pairs = list(csv.DictReader(table))
    for number, pair in enumerate(pairs):
        paths = [arguments.pairs.parent / pair[role] for role in ("person", "garment")]
        try:
            for path in paths:
                if path not in seen:
                    seen[path] = photograph(estimator, path)
        except StyleTryOnError as error:
            print(f"{number:02} {paths[0].stem} <- {paths[1].stem}: {error}", flush=True)
            continue
        person, garment = (seen[path] for path in paths)
        began = time.process_time()
        layers = compose(person, garment, resolve_region(pair["region"]))
        seconds = time.process_time() - began
        if layers is None:
            print(f"{number:02} {paths[0].stem} <- {paths[1].stem}: not composed", flush=True)
            continue
        row = {**measured(person, garment, pair["region"], layers), "seconds": seconds}
        rows.append(row)
        sheet(person, garment, layers).save(arguments.out / f"{number:02}.png")
        numbers = " ".join(f"{name} {value:.3f}" for name, value in row.items())
        print(f"{number:02} {paths[0].stem} <- {paths[1].stem} {pair['region']}: {numbers}", flush=True)
    print(f"mean of {len(rows)}:", " ".join(f"{k} {np.mean([row[k] for row in rows]):.3f}" for k in rows[0]))


def photograph(estimator: BodyEstimator, path: Path) -> Photograph:
    """Read a photograph and find the body in it."""
    picture = read_image(path)
    pose, labels = estimator.parse(picture)
    size = (picture.height, picture.width)
    return Photograph(picture, Frame((0.0, 0.0, float(size[1]), float(size[0])), size, (128, 96)), pose, labels)


def measured(person: Photograph, garment: Photograph, region: str, layers: TryOnLayers) -> dict[str, float]:
    """Return the numbers of one try-on."""
    before, after = np.asarray(person.picture), np.asarray(layers.laid_over(person.picture))
    alpha = ndimage.zoom(layers.alpha, [(layers.box[3] - layers.box[1]) / layers.alpha.shape[0],
                                        (layers.box[2] - layers.box[0]) / layers.alpha.shape[1]], order=1)  # fmt: skip
    changed = np.zeros(before.shape[:2])
    left, top = layers.box[:2]
    changed[top : top + alpha.shape[0], left : left + alpha.shape[1]] = alpha
    outside = ndimage.maximum_filter(changed, 5) == 0
    classes = [int(label) for label in replaced_classes(resolve_region(region))]
    old = np.isin(person.labels, classes)
    worn = np.isin(garment.labels, [*classes, 7])
    kinds = np.zeros(before.shape[:2], dtype=np.uint8)
    size = (layers.box[2] - left, layers.box[3] - top)
    kinds[top : top + size[1], left : left + size[0]] = np.asarray(
        Image.fromarray(layers.layout).resize(size, Image.Resampling.NEAREST)
    )
    cloth = kinds == Shows.CLOTH
    open_ = old & ~cloth & (kinds != Shows.FRONT)
    same = np.abs(after.astype(int) - before).max(axis=-1) < 8
    return {
        "blot": blot(before, after, np.asarray(garment.picture), kinds, old, worn),
        "rest": float((open_ & same).sum() / max(int(old.sum()), 1)),
        "colour": colour(after[cloth], np.asarray(garment.picture)[worn]),
        "seam": seam(after, changed > 0.5),
        "outside": float(np.abs(after.astype(int) - before)[outside].max(initial=0)),
        "confidence": layers.confidence,
    }


def blot(
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    garment: NDArray[np.uint8],
    kinds: NDArray[np.uint8],
    old: NDArray[np.bool_],
    worn: NDArray[np.bool_],
) -> float:
    """Return the share of the changed pixels that are smeared."""
    shown, own = contrast(after), contrast(before)
    changed = (kinds > Shows.PERSON) & (kinds < Shows.FRONT)
    limit = np.full(kinds.shape, np.percentile(own[~old], 20) if (~old).any() else 0.0)
    limit[kinds == Shows.CLOTH] = np.percentile(contrast(garment)[worn], 20) if worn.any() else 0.0
    smeared = changed & (shown < 0.4 * limit)
    return float(smeared.sum() / max(int(changed.sum()), 1))


def contrast(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the local contrast of the finest detail that a picture has at `HEIGHT`."""
    grey = picture.astype(np.float64).mean(axis=-1)
    sigma = max(1.0, picture.shape[0] / HEIGHT)
    fine = ndimage.gaussian_filter(grey, sigma / 2) - ndimage.gaussian_filter(grey, 2 * sigma)
    return np.sqrt(ndimage.gaussian_filter(fine**2, 3 * sigma))


def seam(picture: NDArray[np.uint8], changed: NDArray[np.bool_]) -> float:
    """Return how much stronger gradients are along the border of a change than beside it."""
    grey = ndimage.gaussian_filter(picture.astype(np.float64).mean(axis=-1), 1.0)
    strength = np.hypot(ndimage.sobel(grey, 0), ndimage.sobel(grey, 1))
    away = np.where(changed, ndimage.distance_transform_edt(changed), ndimage.distance_transform_edt(~changed))
    border, beside = away <= 2, (away > 4) & (away < 14)
    return float(strength[border].mean() / max(float(strength[beside].mean()), 1e-6))


def colour(shown: NDArray[np.uint8], true: NDArray[np.uint8], steps: int = 64) -> float:
    """Return the median CIEDE2000 between two sets of colours `(n, 3)`, sorted by lightness."""
    if min(len(shown), len(true)) < steps:
        return float("nan")
    sorted_ = []
    for colours in (shown, true):
        lab = to_lab(colours)
        lab = lab[np.argsort(lab[:, 0])]
        sorted_.append(np.stack([part.mean(axis=0) for part in np.array_split(lab, steps)]))
    return float(np.median(ciede2000(*sorted_)))


def ciede2000(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the colour difference of Sharma, Wu and Dalal 2005 between CIELAB colours `(n, 3)`."""
    (l1, a1, b1), (l2, a2, b2) = one.T, other.T
    mean = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    g = 0.5 * (1 - np.sqrt(mean**7 / (mean**7 + 25.0**7)))
    a1, a2 = (1 + g) * a1, (1 + g) * a2
    c1, c2 = np.hypot(a1, b1), np.hypot(a2, b2)
    h1, h2 = np.degrees(np.arctan2(b1, a1)) % 360, np.degrees(np.arctan2(b2, a2)) % 360
    turn = (h2 - h1 + 180) % 360 - 180
    turn = np.where(c1 * c2 == 0, 0, turn)
    light, chroma = l2 - l1, c2 - c1
    hue = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2))
    lm, cm = (l1 + l2) / 2, (c1 + c2) / 2
    hm = np.where(c1 * c2 == 0, h1 + h2, (h1 + turn / 2) % 360)
    t = (
        1 - 0.17 * np.cos(np.radians(hm - 30)) + 0.24 * np.cos(np.radians(2 * hm))
        + 0.32 * np.cos(np.radians(3 * hm + 6)) - 0.2 * np.cos(np.radians(4 * hm - 63))
    )  # fmt: skip
    sl = 1 + 0.015 * (lm - 50) ** 2 / np.sqrt(20 + (lm - 50) ** 2)
    sc, sh = 1 + 0.045 * cm, 1 + 0.015 * cm * t
    rotation = -2 * np.sqrt(cm**7 / (cm**7 + 25.0**7)) * np.sin(np.radians(60 * np.exp(-(((hm - 275) / 25) ** 2))))
    dl, dc, dh = light / sl, chroma / sc, hue / sh
    return np.sqrt(np.maximum(dl**2 + dc**2 + dh**2 + rotation * dc * dh, 0))


def sheet(person: Photograph, garment: Photograph, layers: TryOnLayers) -> Image.Image:
    """Lay person, garment and try-on side by side, at the same height."""
    shown = layers.laid_over(person.picture)
    panels = [person.picture.crop(layers.box), garment.picture, shown.crop(layers.box)]
    sized = [p.resize((round(p.width * HEIGHT / p.height), HEIGHT), Image.Resampling.LANCZOS) for p in panels]
    whole = Image.new("RGB", (sum(p.width for p in sized) + 16, HEIGHT), "white")
    left = 0
    for panel in sized:
        whole.paste(panel, (left, 0))
        left += panel.width + 8
    return whole


if __name__ == "__main__":
    main()
