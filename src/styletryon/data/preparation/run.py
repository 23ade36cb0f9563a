"""`prepare`: all photographs of a folder."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from styletryon._files import write_text
from styletryon.data.files import open_files
from styletryon.data.folder import read_labels
from styletryon.data.preparation.gates import Reason, find_twins, thumbnail
from styletryon.data.preparation.journal import Journal
from styletryon.data.preparation.one import (
    FrameChooser,
    Outcome,
    Parser,
    PhotographPreparer,
    Settings,
)
from styletryon.data.preparation.photographs import Given, Photographs
from styletryon.errors import ConfigError, DataError, RangeError
from styletryon.photo import MIN_SIDE, Colour, decode_image, frame_person
from styletryon.pose import BodyEstimator, Pose, PoseEstimator

_VAL = 0.1
_COLOURS = {"white": (255, 255, 255), "black": (0, 0, 0)}

Progress = Callable[[str, int, int], None]
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Preparation:
    """The result of `prepare`.

    Attributes:
        outcomes: What became of each photograph, sorted by name.
        split: Name of the split -> IDs.
    """

    outcomes: tuple[Outcome, ...]
    split: Mapping[str, tuple[str, ...]]

    @property
    def prepared(self) -> tuple[Outcome, ...]:
        """The photographs that are in the data set."""
        return tuple(outcome for outcome in self.outcomes if not outcome.reason)

    def counts(self) -> dict[str, int]:
        """Return how many photographs were prepared, and how many were left out for each reason."""
        counts = Counter(outcome.reason or "prepared" for outcome in self.outcomes)
        order = ["prepared", *(reason.value for reason in Reason)]
        return {name: counts[name] for name in order if counts[name]}

    def table(self) -> str:
        """Return the counts as lines of text, with an example of each reason."""
        rows = []
        for name, count in self.counts().items():
            example = next(o for o in self.outcomes if (o.reason or "prepared") == name)
            shares = ", ".join(f"{split} {len(ids)}" for split, ids in self.split.items())
            text = shares if name == "prepared" else f"such as {example.source}: {' '.join(example.detail.split())}"
            rows.append(f"{count:>7}  {name:<22}  {text[:160]}")
        return "\n".join(rows)


def prepare(
    photos: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    size: tuple[int, int] = (256, 192),
    background: str | Colour = "white",
    labels: str | os.PathLike[str] | None = None,
    keypoints: Mapping[str, Any] | None = None,
    pose: PoseEstimator | None = None,
    parser: Parser | None = None,
    frame: FrameChooser = frame_person,
    strict: bool = False,
    keep_side: bool = False,
    val: float | None = None,
    seed: int = 0,
    workers: int = 1,
    progress: Progress | None = None,
) -> Preparation:
    """Make a data set for training out of photographs of people.

    Each photograph is read upright and in sRGB, its person found and framed from head to knee, its background replaced,
    and picture, labels and keypoints are written at one size. What cannot be used is left out, with the reason in
    ``prepared.json``. Of photographs that look alike one stays, so none stands in both training and validation.

    A run that was stopped goes on where it stood: what is done is kept, what failed is tried again. The files do not
    depend on the number of workers, nor on how often the run was stopped. ``split.json`` is written last. A worker
    holds one photograph at a time.

    Args:
        photos: A folder or zip of photographs, of any names, in folders within it too; or a folder data set, with or
            without labels.
        out: The folder to write; new, or begun by an earlier run with the same settings. Callables are not compared.
        size: Height and width of the pictures.
        background: "white", "black", six hexadecimal digits RRGGBB or a colour of three numbers: what stands behind the
            person; "keep" for the photograph's own.
        labels: A folder or zip of label pictures: 8-bit PNGs of classes 0..11, named as the photographs and of their
            size. Default: the data set's own.
        keypoints: Name of the photograph without ending -> 17 x [x, y, score], or several people's, of whom the largest
            is taken. Default: ``keypoints.json`` beside the photographs, if there is one.
        pose: Finds the pose of a photograph for which no keypoints are given. Default: the bundled estimator. With
            several workers it is called from several threads.
        parser: Finds the labels of a photograph for which none are given: called with the RGB picture and its `Pose`,
            it returns `(H, W)` classes 0..11. With several workers it is called from several threads.
        frame: Chooses the part of a photograph to show, as `FolderDataset` takes it.
        strict: Leave out everyone whom the photograph or the frame cuts above the knee, be it a strand of hair.
        keep_side: Keep people who are seen from the side or from behind.
        val: Share of the photographs for validation. Default: the data set's own split, else 0.1.
        seed: Chooses which photographs are for validation.
        workers: Threads.
        progress: Called with (stage, photographs done, photographs in all).

    Returns:
        What became of each photograph.

    Raises:
        DataError: If there is no photograph, none can be used, a table cannot be read, or `out` holds something else.
        RangeError: If a number lies outside its range.
        ConfigError: If the background is unknown, or `out` lies within `photos`.
        SaveError: If `out` cannot be written.
    """
    _check_numbers(size, val, workers)
    colour, place = parse_background(background), Path(out)
    _check_outside(place, Path(photos))
    written = {"size": list(size), "background": colour and list(colour), "strict": strict, "keep_side": keep_side}
    journal = Journal(place, written)
    photographs = Photographs(photos, labels=labels, keypoints=keypoints, known=journal.ids)
    finder, source = (_Bundled(), "estimated") if pose is None else (pose, "callable")
    settings = Settings((size[0], size[1]), colour, strict, keep_side, frame, finder, source, parser)
    try:
        _check_labels(photographs, parser)
        if val is not None:
            photographs.drop_split()
        with journal:
            outcomes = _Run(photographs, settings, place, journal, workers, progress or _silent).outcomes()
    finally:
        photographs.close()
    split = _split(_usable(outcomes), photographs, _VAL if val is None else val, seed)
    result = Preparation(tuple(outcomes), split)
    _write_tables(place, result, written, {given.source: given.style for given in photographs.given})
    return result


def _check_numbers(size: tuple[int, int], val: float | None, workers: int) -> None:
    if len(size) != 2 or min(size) < MIN_SIDE:
        raise RangeError(f"expected a height and width of at least {MIN_SIDE} pixels, got {size}", argument="size")
    if val is not None and not 0 <= val < 1:
        raise RangeError(f"expected a share in [0, 1), got {val}", argument="val")
    if workers < 1:
        raise RangeError(f"expected at least 1, got {workers}", argument="workers")


def _check_outside(place: Path, photos: Path) -> None:
    if photos.resolve() in (place.resolve(), *place.resolve().parents):
        raise ConfigError(
            f"expected a folder outside the photographs', got {str(place)!r}; choose another", argument="out"
        )


def _check_labels(photographs: Photographs, parser: Parser | None) -> None:
    if parser is None and not photographs.has_labels:
        raise DataError(
            "expected label pictures or a parser, got neither; training needs the labels of every photograph: "
            "8-bit PNGs of classes 0..11, named as the photographs",
            argument="labels",
        )


def _usable(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes of the photographs that can be used, at least one."""
    done = [outcome for outcome in outcomes if not outcome.reason]
    if not done:
        seen = Preparation(tuple(outcomes), {}).table()
        raise DataError(f"expected at least one photograph that can be used, got none:\n{seen}", argument="photos")
    return done


def parse_background(background: str | Colour) -> Colour | None:
    """Turn the name of a background into a colour, None for the photograph's own.

    Raises:
        ConfigError: If it is neither a known name, nor RRGGBB, nor three numbers 0..255.
    """
    if background == "keep":
        return None
    if isinstance(background, str):
        digits = background.removeprefix("#")
        if background in _COLOURS:
            return _COLOURS[background]
        try:
            if len(digits) == 6:
                red, green, blue = bytes.fromhex(digits)
                return red, green, blue
        except ValueError:
            pass
    elif len(background) == 3 and all(isinstance(value, int) and 0 <= value <= 255 for value in background):
        return background
    raise ConfigError(
        f"expected 'keep', 'white', 'black', RRGGBB or three numbers, got {background!r}", argument="background"
    )


class _Bundled:
    """The bundled estimator, loaded when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._estimator: BodyEstimator | None = None

    def __call__(self, image: Image.Image) -> Pose:
        with self._lock:
            if self._estimator is None:
                self._estimator = BodyEstimator.from_pretrained()
        return self._estimator(image)


@dataclass(frozen=True)
class _Run:
    photographs: Photographs
    settings: Settings
    place: Path
    journal: Journal
    workers: int
    progress: Progress

    def outcomes(self) -> list[Outcome]:
        """Deal with every photograph that the journal does not know; return what became of all, sorted by name."""
        found: dict[str, Outcome] = {}
        rest = []
        for one in self.photographs.given:
            known = self.journal.outcome(one.source, one.stamp)
            if self.photographs.has_split and one.split is None:
                found[one.source] = _left_out(one, Reason.IN_NO_SPLIT, "")
            elif known is not None:
                found[one.source] = known
            else:
                rest.append(one)
        total = len(self.photographs.given)
        self.progress("photographs", len(found), total)
        for one, outcome in _in_order(self._prepare, rest, self.workers):
            self.journal.add_outcome(outcome, one.stamp)
            found[one.source] = outcome
            self.progress("photographs", len(found), total)
        return self._without_twins(found)

    def _without_twins(self, found: Mapping[str, Outcome]) -> list[Outcome]:
        """Leave out whom another photograph shows as well; the files stay, so that nothing is lost if that one goes."""
        done = [one for one in self.photographs.given if not found[one.source].reason]
        # Of twins the one stays of which most is known.
        done.sort(key=lambda one: (one.labels is None, one.keypoints is None, one.source))
        looks = [look for _, look in _in_order(self._look, done, self.workers)]
        twins = {done[twin].source: done[first].source for twin, first in find_twins(looks).items()}
        return [
            replace(found[one.source], reason=Reason.DUPLICATE.value, detail=f"of {twins[one.source]}")
            if one.source in twins
            else found[one.source]
            for one in self.photographs.given
        ]

    def _look(self, one: Given) -> bytes:
        files = open_files(self.place)
        labels = read_labels(files, f"labels/{one.id}.png", one.id)
        return thumbnail(decode_image(files.read(f"images/{one.id}.png"), name=one.id), labels)

    def _prepare(self, one: Given) -> Outcome:
        return PhotographPreparer(self.photographs, one, self.settings).prepare(self.place)


def _left_out(one: Given, reason: Reason, detail: str) -> Outcome:
    return Outcome(one.source, one.id, reason.value, detail)


def _in_order(job: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[tuple[T, R]]:
    """Do a job for each item, several at a time, and return the results in the items' order; few wait in memory."""
    if workers == 1:
        yield from ((item, job(item)) for item in items)
        return
    waiting: deque[tuple[T, Future[R]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(job, item)))
                if len(waiting) > 2 * workers:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


def _split(
    done: Sequence[Outcome], photographs: Photographs, share: float, seed: int
) -> dict[str, tuple[str, ...]]:
    """Return the split that was given, or draw one: pictures of one style stand on one side."""
    given = {one.source: one for one in photographs.given}
    if photographs.has_split:
        names = list(dict.fromkeys(str(given[outcome.source].split) for outcome in done))
        return {
            name: tuple(outcome.id for outcome in done if given[outcome.source].split == name) for name in sorted(names)
        }
    groups: dict[str, list[str]] = {}
    for outcome in done:
        style = given[outcome.source].style
        groups.setdefault(f"photograph {outcome.source}" if style is None else f"style {style}", []).append(outcome.id)
    # By a digest rather than a shuffle: when photographs are added, the others mostly stay on their side.
    order = sorted(groups, key=lambda key: hashlib.sha256(f"{seed} {key}".encode("utf-8", "surrogateescape")).digest())
    count = round(share * len(order))
    if share > 0 and len(order) > 1:
        count = min(max(count, 1), len(order) - 1)
    held_out = {name for key in order[:count] for name in groups[key]}
    ids = [outcome.id for outcome in done]
    return {
        "train": tuple(name for name in ids if name not in held_out),
        "val": tuple(name for name in ids if name in held_out),
    }


def _write_tables(
    place: Path, result: Preparation, settings: Mapping[str, Any], styles: Mapping[str, str | None]
) -> None:
    prepared = result.prepared
    photographs = []
    for outcome in result.outcomes:
        entry = asdict(outcome)
        del entry["keypoints"]
        photographs.append(entry)
    _write_json(place / "keypoints.json", {outcome.id: outcome.keypoints for outcome in prepared})
    known = {outcome.id: styles[outcome.source] for outcome in prepared if styles[outcome.source] is not None}
    if known:
        _write_json(place / "styles.json", known)
    report = {"settings": dict(settings), "counts": result.counts(), "photographs": photographs}
    _write_json(place / "prepared.json", report)
    # Last: a folder that has it is complete.
    _write_json(place / "split.json", {name: list(ids) for name, ids in result.split.items()})


def _write_json(path: Path, data: Any) -> None:
    write_text(path, json.dumps(data, indent=1) + "\n")


def _silent(stage: str, done: int, total: int) -> None:
    """Say nothing."""


__all__ = ["Preparation", "parse_background", "prepare"]
