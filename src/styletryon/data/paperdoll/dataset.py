"""Writing rendered figures as a folder data set."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from styletryon._files import write_atomically, write_text
from styletryon.data.paperdoll.factors import Figure
from styletryon.data.paperdoll.render import dress, render, restyle, wears
from styletryon.data.paperdoll.sampling import sample_figure, sample_stance, stream
from styletryon.errors import RangeError

Keypoints = list[list[float]]
Drawn = list[tuple[str, Keypoints]]
_STANCE_STRIDE = 1_000_003
_TRYON_REGIONS = ("top", "bottom", "full")  # of people in a separate top and bottom; who wears a dress gets another


def figure_of(seed: int, style: int, stance: int) -> Figure:
    """The figure of one picture of a data set: a style in another stance is the same person in the same clothes."""
    figure = sample_figure(seed + style)
    return figure if stance == 0 else restyle(figure, stance=sample_stance(seed + style + stance * _STANCE_STRIDE))


def identifier(style: int, stance: int) -> str:
    """Name of a picture in a data set."""
    return f"{style:06d}_{stance}"


def _write_png(path: Path, array: np.ndarray) -> None:
    from PIL import Image

    picture = Image.fromarray(array)
    write_atomically(path, lambda temporary: picture.save(temporary, format="PNG", compress_level=4))


def _write_json(path: Path, value: object) -> None:
    write_text(path, json.dumps(value))


@dataclass(frozen=True)
class TryOn:
    """A picture of a data set that shows the truth of a try-on.

    Attributes:
        person: Number of the style whose person is shown.
        garment: Number of the style whose clothes they wear.
        region: Which of its clothes: "top", "bottom", "dress" or "full".
        stance: Which of the person's stances they stand in.
    """

    person: int
    garment: int
    region: str
    stance: int

    @property
    def name(self) -> str:
        """Name of the picture."""
        return f"{identifier(self.person, self.stance)}_{self.region}_{self.garment:06d}"


def choose_tryons(seed: int, counts: Sequence[int], held_out: Set[int], tryons: int) -> list[TryOn]:
    """Chooses who wears whose clothes.

    The wearer of the garment is on the person's side of the split, so that nothing of the one side is seen on the
    other.

    Args:
        seed: The data set's.
        counts: Pictures per style.
        held_out: The styles kept for validation.
        tryons: How many to choose.
    """
    rng = stream(seed, "tryons")
    dressed = [wears(sample_figure(seed + style), "dress") for style in range(len(counts))]
    sides = {side: [style for style in range(len(counts)) if (style in held_out) == side] for side in (True, False)}
    chosen: list[TryOn] = []
    names: set[str] = set()
    # A style may have nobody to exchange clothes with: then another is drawn, but not for ever.
    for _ in range(20 * tryons + 100):
        if len(chosen) == tryons:
            break
        person = int(rng.integers(0, len(counts)))
        garment = int(rng.choice(sides[person in held_out]))
        region = str(rng.choice(_TRYON_REGIONS, p=(0.45, 0.35, 0.2)))
        region = "dress" if dressed[person] and region != "full" else region
        tryon = TryOn(person, garment, region, int(rng.integers(0, counts[person])))
        fits = region == "full" or dressed[person] == dressed[garment]
        if fits and person != garment and tryon.name not in names:
            chosen.append(tryon)
            names.add(tryon.name)
    return chosen


def _draw(folder: Path, name: str, figure: Figure, size: tuple[int, int]) -> tuple[str, Keypoints]:
    rendering = render(figure, size)
    _write_png(folder / "images" / f"{name}.png", rendering.image)
    _write_png(folder / "labels" / f"{name}.png", rendering.labels)
    return name, [[round(float(value), 3) for value in joint] for joint in rendering.keypoints]


def _draw_style(style: int, *, folder: Path, seed: int, size: tuple[int, int], counts: list[int]) -> Drawn:
    """Draws all pictures of one style and returns their keypoints."""
    return [
        _draw(folder, identifier(style, stance), figure_of(seed, style, stance), size)
        for stance in range(counts[style])
    ]


def _draw_tryon(tryon: TryOn, *, folder: Path, seed: int, size: tuple[int, int]) -> Drawn:
    person, garment = figure_of(seed, tryon.person, tryon.stance), figure_of(seed, tryon.garment, 0)
    return [_draw(folder, tryon.name, dress(person, garment, tryon.region), size)]


@contextmanager
def _pool(workers: int) -> Iterator[Callable[[Callable[[Any], Drawn], Sequence[Any]], Iterator[Drawn]]]:
    if workers <= 1:
        yield map
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield lambda job, parts: pool.imap(job, parts, chunksize=max(1, min(64, len(parts) // (4 * workers))))


def write_dataset(
    folder: str | Path,
    count: int,
    *,
    seed: int = 0,
    size: tuple[int, int] = (128, 96),
    stances: int = 2,
    tryons: int = 0,
    val_fraction: float = 0.02,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes a folder data set of rendered figures.

    The folder holds ``images/ID.png``, ``labels/ID.png`` (8-bit classes), ``keypoints.json`` (ID -> 17 x [x, y,
    score]), ``split.json`` ({"train": [...], "val": [...]}, all pictures of a style on one side), ``styles.json``
    (ID -> style number; the same number is the same person in the same clothes and light) and, with `tryons`,
    ``tryons.json`` (ID -> {"person", "garment": style numbers, "region"}: the person in the clothes of the other). The
    JSON files are written last, so a folder that has them is complete. The same arguments give the same files, whatever
    the number of workers.

    Args:
        folder: Where to write; made if missing.
        count: Number of pictures, the try-ons not counted.
        seed: First figure's seed. Data sets with seeds further apart than the number of their styles share no style.
        size: Height and width in pixels.
        stances: How many pictures each style is drawn in (the last may have fewer).
        tryons: How many pictures to add in which one style's person wears another style's clothes.
        val_fraction: Share of the styles that is kept for validation.
        workers: Processes. With more than one, call from a main module that guards its entry.
        progress: Called with (pictures done, pictures in all) after each style.

    Raises:
        RangeError: A number lies outside its range.
        ShapeError: The size cannot be used.
        SaveError: A file cannot be written.
    """
    if count < 1 or stances < 1 or seed < 0 or tryons < 0:
        raise RangeError(
            "expected at least 1, 1, 0 and 0, "
            f"got {count}, {stances}, {seed} and {tryons}",
            argument="count, stances, seed, tryons",
        )
    if not 0.0 <= val_fraction < 1.0:
        raise RangeError(f"expected a share in [0, 1), got {val_fraction}", argument="val_fraction")
    root = Path(folder)
    styles = -(-count // stances)
    counts = [min(stances, count - style * stances) for style in range(styles)]
    held_out = _held_out(seed, styles, val_fraction)
    exchanged = choose_tryons(seed, counts, held_out, tryons)
    keypoints: dict[str, Keypoints] = {}
    draw_style = partial(_draw_style, folder=root, seed=seed, size=size, counts=counts)
    draw_tryon = partial(_draw_tryon, folder=root, seed=seed, size=size)
    with _pool(workers) as run:
        for written in chain(run(draw_style, range(styles)), run(draw_tryon, exchanged)):
            keypoints.update(written)
            if progress is not None:
                progress(len(keypoints), count + len(exchanged))
    _write_records(root, keypoints, exchanged, styles, held_out)


def _held_out(seed: int, styles: int, share: float) -> set[int]:
    """Choose the styles that are kept for validation."""
    order = stream(seed, "split").permutation(styles)
    return {int(style) for style in order[: round(share * styles)]}


def _write_records(
    root: Path, keypoints: dict[str, Keypoints], exchanged: Sequence[TryOn], styles: int, held_out: Set[int]
) -> None:
    """Write what is known of the pictures, when all of them are there."""
    numbers = {name: int(name.split("_")[0]) for name in keypoints}
    split: dict[str, list[str]] = {"train": [], "val": []}
    for name, style in numbers.items():
        split["val" if style in held_out else "train"].append(name)
    # A person in other clothes is another style.
    numbers |= {tryon.name: styles + place for place, tryon in enumerate(exchanged)}
    _write_json(root / "keypoints.json", keypoints)
    _write_json(root / "styles.json", numbers)
    if exchanged:
        relations = {t.name: {"person": t.person, "garment": t.garment, "region": t.region} for t in exchanged}
        _write_json(root / "tryons.json", relations)
    _write_json(root / "split.json", split)
