"""Writing rendered figures as a folder data set."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from styletryon.data.paperdoll.factors import Figure
from styletryon.data.paperdoll.render import render, restyle
from styletryon.data.paperdoll.sampling import sample_figure, sample_stance, stream
from styletryon.errors import RangeError

Keypoints = list[list[float]]
_STANCE_STRIDE = 1_000_003


def figure_of(seed: int, style: int, stance: int) -> Figure:
    """The figure of one picture of a data set: a style in another stance is the same person in the same clothes."""
    figure = sample_figure(seed + style)
    return figure if stance == 0 else restyle(figure, stance=sample_stance(seed + style + stance * _STANCE_STRIDE))


def identifier(style: int, stance: int) -> str:
    """Name of a picture in a data set."""
    return f"{style:06d}_{stance}"


def _write_png(path: Path, array: np.ndarray) -> None:
    from PIL import Image

    temporary = path.with_name(path.name + ".part")
    Image.fromarray(array).save(temporary, format="PNG", compress_level=4)
    os.replace(temporary, path)


def _write_json(path: Path, value: object) -> None:
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(value), encoding="utf-8")
    os.replace(temporary, path)


def _draw_style(
    style: int, *, folder: Path, seed: int, size: tuple[int, int], counts: list[int]
) -> list[tuple[str, Keypoints]]:
    """Draws all pictures of one style and returns their keypoints."""
    written = []
    for stance in range(counts[style]):
        name = identifier(style, stance)
        rendering = render(figure_of(seed, style, stance), size)
        _write_png(folder / "images" / f"{name}.png", rendering.image)
        _write_png(folder / "labels" / f"{name}.png", rendering.labels)
        written.append((name, [[round(float(value), 3) for value in joint] for joint in rendering.keypoints]))
    return written


@contextmanager
def _pool(
    job: Callable[[int], list[tuple[str, Keypoints]]], styles: int, workers: int
) -> Iterator[Iterator[list[tuple[str, Keypoints]]]]:
    if workers <= 1:
        yield map(job, range(styles))
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield pool.imap(job, range(styles), chunksize=max(1, min(64, styles // (4 * workers))))


def write_dataset(
    folder: str | Path,
    count: int,
    *,
    seed: int = 0,
    size: tuple[int, int] = (128, 96),
    stances: int = 2,
    val_fraction: float = 0.02,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes a folder data set of rendered figures.

    The folder holds ``images/ID.png``, ``labels/ID.png`` (8-bit classes), ``keypoints.json`` (ID -> 17 x [x, y,
    score]), ``split.json`` ({"train": [...], "val": [...]}, all pictures of a style on one side) and ``styles.json``
    (ID -> style number; the same number is the same person in the same clothes and light). The JSON files are written
    last, so a folder that has them is complete. The same arguments give the same files, whatever the number of workers.

    Args:
        folder: Where to write; made if missing.
        count: Number of pictures.
        seed: First figure's seed. Data sets with seeds further apart than the number of their styles share no style.
        size: Height and width in pixels.
        stances: How many pictures each style is drawn in (the last may have fewer).
        val_fraction: Share of the styles that is kept for validation.
        workers: Processes. With more than one, call from a main module that guards its entry.
        progress: Called with (pictures done, pictures in all) after each style.

    Raises:
        RangeError: A number lies outside its range.
        ShapeError: The size cannot be used.
    """
    if count < 1 or stances < 1 or seed < 0:
        raise RangeError(f"count, stances, seed: expected at least 1, 1 and 0, got {count}, {stances} and {seed}")
    if not 0.0 <= val_fraction < 1.0:
        raise RangeError(f"val_fraction: expected a share in [0, 1), got {val_fraction}")
    root = Path(folder)
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True, exist_ok=True)
    styles = -(-count // stances)
    counts = [min(stances, count - style * stances) for style in range(styles)]
    job = partial(_draw_style, folder=root, seed=seed, size=size, counts=counts)
    keypoints: dict[str, Keypoints] = {}
    with _pool(job, styles, workers) as results:
        for written in results:
            keypoints.update(written)
            if progress is not None:
                progress(len(keypoints), count)
    order = stream(seed, "split").permutation(styles)
    held_out = {int(style) for style in order[: round(val_fraction * styles)]}
    numbers = {name: int(name.split("_")[0]) for name in keypoints}
    split: dict[str, list[str]] = {"train": [], "val": []}
    for name, style in numbers.items():
        split["val" if style in held_out else "train"].append(name)
    _write_json(root / "keypoints.json", keypoints)
    _write_json(root / "styles.json", numbers)
    _write_json(root / "split.json", split)
