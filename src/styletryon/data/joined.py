"""Several data sets that are trained on together, each with its share of the pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from styletryon.data.folder import Batch, FolderDataset, Indices, TryOnIndices, epoch_order
from styletryon.errors import DataError, RangeError

_PERIOD = 240  # pictures within which the shares are kept; 2, 3, 4, 5, 6, 8, 10 and 12 divide it

_Rows = npt.NDArray[np.int64]


class JoinedDataset:
    """Data sets of one size, used as one.

    Pictures are numbered in turn from every part, in proportion to its length, so that the first few stand for all.

    Args:
        parts: The data sets, at least one.
        shares: How often each part is drawn from, in any unit; None in proportion to its length. Try-ons of known truth
            come from the parts that have some, in proportion to their number.

    Raises:
        DataError: If the parts have pictures of different sizes, or there is none.
        RangeError: If the shares are not one number above 0 for each part, or one is under 1/240 of all.
    """

    def __init__(self, parts: Sequence[FolderDataset], *, shares: Sequence[float] | None = None) -> None:
        self.parts = tuple(parts)
        sizes = {part.size for part in self.parts}
        if len(sizes) != 1:
            raise DataError(f"expected data sets of one size, got {sorted(sizes) or 'none'}", argument="parts")
        self.size = self.parts[0].size
        lengths = [len(part) for part in self.parts]
        self.shares = _normalised(lengths if shares is None else shares, len(self.parts))
        place = np.concatenate([(np.arange(length) + 0.5) / length for length in lengths])
        order = np.argsort(place, kind="stable")
        self._part = np.repeat(np.arange(len(lengths)), lengths)[order]
        self._row = np.concatenate([np.arange(length) for length in lengths])[order]
        self._number = [np.flatnonzero(self._part == part) for part in range(len(lengths))]  # in the order of its rows
        self.ids = tuple(f"{part}/{self.parts[part].ids[row]}" for part, row in zip(self._part, self._row, strict=True))

    def __len__(self) -> int:
        return len(self._part)

    def __repr__(self) -> str:
        told = ", ".join(f"{share:.0%} {part.path}" for part, share in zip(self.parts, self.shares, strict=True))
        return f"JoinedDataset({told}): {len(self)} pictures"

    @property
    def background(self) -> tuple[int, ...]:
        """The colour behind the people of those parts that were cut out; () if there are none, or of several colours.

        Rendered figures need not have it: photographs are what a generator gets to see cut out.
        """
        colours = {part.background for part in self.parts if part.background}
        return colours.pop() if len(colours) == 1 else ()

    @property
    def has_partners(self) -> bool:
        """True if a picture of some part has a partner other than itself."""
        return any(part.has_partners for part in self.parts)

    @property
    def has_tryons(self) -> bool:
        """True if a part has try-ons of known truth."""
        return any(part.has_tryons for part in self.parts)

    def batch(self, indices: Indices) -> Batch:
        """Return some pictures, in the order asked for; see `FolderDataset.batch`."""
        chosen = self._check(indices)
        size = (len(chosen), *self.size)
        images = torch.empty(size[0], 3, *size[1:], dtype=torch.uint8)
        labels, keypoints = torch.empty(size, dtype=torch.uint8), torch.empty(size[0], 17, 3)
        for number, part in enumerate(self.parts):
            at = np.flatnonzero(self._part[chosen] == number)
            if len(at):
                read, rows = part.batch(self._row[chosen[at]]), torch.from_numpy(at)
                images[rows], labels[rows], keypoints[rows] = read.images, read.labels, read.keypoints
        return Batch(images, labels, keypoints, chosen)

    def partners(self, indices: Indices, rng: np.random.Generator) -> _Rows:
        """Draw for each picture another one of the same style in the same part; see `FolderDataset.partners`."""
        chosen = self._check(indices)
        partners = chosen.copy()
        for number, part in enumerate(self.parts):
            at = np.flatnonzero(self._part[chosen] == number)
            if len(at):
                partners[at] = self._number[number][part.partners(self._row[chosen[at]], rng)]
        return partners

    def tryons(self, count: int, rng: np.random.Generator) -> TryOnIndices:
        """Draw pictures that show the truth of a try-on; see `FolderDataset.tryons`."""
        known = np.array([part.num_tryons for part in self.parts])
        if not known.sum():
            raise DataError(f"expected try-ons in one of {[str(part.path) for part in self.parts]}, got none")
        of = rng.choice(len(known), count, p=known / known.sum())
        truths, people, garments = np.empty((3, count), np.int64)
        regions = [""] * count
        for number, part in enumerate(self.parts):
            at = np.flatnonzero(of == number)
            if len(at):
                drawn, own = part.tryons(len(at), rng), self._number[number]
                truths[at], people[at], garments[at] = own[drawn.truths], own[drawn.people], own[drawn.garments]
                for place, region in zip(at, drawn.regions, strict=True):
                    regions[place] = region
        return TryOnIndices(truths, people, garments, tuple(regions))

    def drawn(self, batch_size: int, seed: int, step: int) -> _Rows:
        """Return which pictures a step sees: of each part its share, none twice before all of that part were seen.

        A pure function of its arguments; see `styletryon.data.batch_indices`.
        """
        counts = _per_period(self.shares)
        found = []
        for position in range(step * batch_size, (step + 1) * batch_size):
            period, at = divmod(position, _PERIOD)
            parts, places = _pattern(self.shares, seed, period)
            number = int(parts[at])
            draw, length = period * counts[number] + int(places[at]), len(self.parts[number])
            row = epoch_order(length, seed + number, draw // length)[draw % length]
            found.append(self._number[number][row])
        return np.array(found, dtype=np.int64)

    def _check(self, indices: Indices) -> _Rows:
        chosen = np.asarray(indices, dtype=np.int64)
        if chosen.ndim != 1 or (len(chosen) and not (chosen.min() >= 0 and chosen.max() < len(self))):
            raise RangeError(f"expected numbers from 0 to {len(self) - 1}, got {indices!r}", argument="indices")
        return chosen


def _normalised(shares: Sequence[float], count: int) -> tuple[float, ...]:
    if len(shares) != count or not all(math.isfinite(share) and share > 0 for share in shares):
        raise RangeError(
            f"expected a number above 0 for each of {count} data sets, got {list(shares)}", argument="shares"
        )
    scaled = tuple(share / sum(shares) for share in shares)
    if min(_per_period(scaled)) < 1:
        raise RangeError(
            f"expected at least 1/{_PERIOD} of all for each data set, got {list(shares)}; leave it out or give it more",
            argument="shares",
        )
    return scaled


def _per_period(shares: Sequence[float]) -> list[int]:
    """Return how many pictures of a period each part gives."""
    edges = np.rint(np.concatenate([[0.0], np.cumsum(shares)]) * _PERIOD).astype(int)
    return [int(count) for count in np.diff(edges)]


@lru_cache(maxsize=2)
def _pattern(shares: tuple[float, ...], seed: int, period: int) -> tuple[_Rows, _Rows]:
    """Return the part that each picture of a period comes from, and how many of that part came before it there."""
    counts = _per_period(shares)
    parts = np.random.default_rng((seed, period, 1)).permutation(np.repeat(np.arange(len(counts)), counts))
    places = np.empty(_PERIOD, np.int64)
    for number, count in enumerate(counts):
        places[parts == number] = np.arange(count)
    return parts, places
