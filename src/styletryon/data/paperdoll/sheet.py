"""A contact sheet of drawn figures: ``python -m styletryon.data.paperdoll.sheet OUT.png``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import count, islice

import numpy as np
from numpy.typing import NDArray

from styletryon.data.paperdoll.factors import Figure
from styletryon.data.paperdoll.render import Rendering, dress, render, wears
from styletryon.data.paperdoll.sampling import sample_figure
from styletryon.labels import PALETTE

Picture = NDArray[np.uint8]
BONES = (
    (5, 6),
    (5, 7),
    (7, 9),
    (6, 8),
    (8, 10),
    (5, 11),
    (6, 12),
    (11, 12),
    (11, 13),
    (12, 14),
    (0, 1),
    (0, 2),
    (1, 3),
    (2, 4),
)


def _stamp(picture: Picture, x: float, y: float, radius: float, colour: tuple[int, int, int]) -> None:
    rows, columns = np.ogrid[: picture.shape[0], : picture.shape[1]]
    picture[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = colour


def label_picture(rendering: Rendering) -> Picture:
    """The labels in colour with the skeleton drawn on them, (H, W, 3) uint8."""
    picture = np.asarray(PALETTE, dtype=np.uint8)[rendering.labels]
    points, size = rendering.keypoints, rendering.labels.shape[0] / 256
    for start, stop in BONES:
        if points[start, 2] > 0 and points[stop, 2] > 0:
            for share in np.linspace(0.0, 1.0, 60):
                x, y, _ = points[start] * (1 - share) + points[stop] * share
                _stamp(picture, float(x), float(y), 0.75 * size, (20, 20, 24))
    for x, y, score in points:
        if score > 0:
            _stamp(picture, float(x), float(y), 2.6 * size, (255, 255, 255) if score == 1 else (150, 150, 160))
            _stamp(picture, float(x), float(y), 1.7 * size, (215, 30, 60))
    return picture


def contact_sheet(seeds: Sequence[int], person: int, size: tuple[int, int] = (256, 192)) -> Picture:
    """Three rows of pictures: the figures, their labels and keypoints, and one person in the figures' tops.

    Args:
        seeds: The figures. Where one wears a dress, the third row takes the next seed that does not.
        person: Seed of the person of the third row, who must wear a top.
        size: Height and width of each picture.

    Returns:
        The sheet, (H, W, 3) uint8.
    """
    renderings = [render(sample_figure(seed), size) for seed in seeds]
    model = sample_figure(person)
    tops = islice((figure for figure in _figures(seeds) if wears(figure, "top")), len(seeds) - 1)
    dressed = [render(dress(model, top, "top"), size).image for top in tops]
    rows = [
        [rendering.image for rendering in renderings],
        [label_picture(rendering) for rendering in renderings],
        [render(model, size).image, *dressed],
    ]
    gap = 4
    framed = [
        np.concatenate([np.pad(p, ((0, gap), (0, gap), (0, 0)), constant_values=255) for p in row], axis=1)
        for row in rows
    ]
    return np.concatenate(framed, axis=0)[:-gap, :-gap]


def _figures(seeds: Sequence[int]) -> Sequence[Figure]:
    extra = islice(count(max(seeds) + 1), 200)
    return [sample_figure(seed) for seed in (*seeds, *extra)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the sheet."""
    from PIL import Image

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", help="where to write the PNG")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1000, 820, 703, 1003, 814, 822, 413, 1002])
    parser.add_argument("--person", type=int, default=1001)
    parsed = parser.parse_args(arguments)
    Image.fromarray(contact_sheet(parsed.seeds, parsed.person)).save(parsed.out)


if __name__ == "__main__":
    main()
