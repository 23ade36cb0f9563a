"""A data set of pictures with labels and keypoints, in a folder or a zip of it.

.. code-block:: text

    images/ID.png|jpg   the pictures
    labels/ID.png       8-bit classes 0..11, of the picture's size
    keypoints.json      ID -> 17 x [x, y, score] in that picture's pixels
    split.json          name of the split -> [ID, ...]
    styles.json         optional: ID -> style; pictures of one style show one person in the same clothes
"""

from __future__ import annotations

import io
import math
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from styletryon._reprs import one_line
from styletryon.data.files import Files, open_files
from styletryon.errors import DataError, ImageError, RangeError
from styletryon.labels import NUM_LABELS, REGIONS
from styletryon.photo import Box, Frame, crop_labels, read_image, resize
from styletryon.pose import NUM_KEYPOINTS, Pose

_SUFFIXES = (".png", ".jpg", ".jpeg")
_THREADS = min(8, os.cpu_count() or 1)  # Decoding releases the interpreter's lock.

Indices = Sequence[int] | npt.NDArray[np.int64]


class Framed(Protocol):
    """Whatever says which part of a picture is shown, such as `styletryon.photo.Frame`."""

    @property
    def box(self) -> Box:
        """Left, top, right and bottom in pixels of the picture."""


@dataclass(frozen=True, eq=False)
class Item:
    """One picture of a data set.

    Attributes:
        id: Its name.
        image: `(3, H, W)` uint8.
        labels: `(H, W)` uint8, classes 0..11.
        keypoints: `(17, 3)` float32, x and y in pixels of the picture, and a score.
    """

    id: str
    image: Tensor
    labels: Tensor
    keypoints: Tensor

    __repr__ = one_line


@dataclass(frozen=True, eq=False)
class Batch:
    """Some pictures of a data set.

    Attributes:
        images: `(B, 3, H, W)` uint8; `styletryon.photo.from_uint8` takes them to [-1, 1].
        labels: `(B, H, W)` uint8, classes 0..11.
        keypoints: `(B, 17, 3)` float32, x and y in pixels of the pictures, and a score.
        indices: `(B,)` int64, their numbers in the data set.
    """

    images: Tensor
    labels: Tensor
    keypoints: Tensor
    indices: npt.NDArray[np.int64]

    __repr__ = one_line

    def __len__(self) -> int:
        return self.images.shape[0]

    @property
    def pose(self) -> Pose:
        """The keypoints as a `Pose`."""
        return Pose(self.keypoints, (self.images.shape[2], self.images.shape[3]))

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on a device."""
        return replace(
            self,
            images=self.images.to(device),
            labels=self.labels.to(device),
            keypoints=self.keypoints.to(device),
        )


@dataclass(frozen=True, eq=False)
class TryOnIndices:
    """Pictures that show the truth of a try-on, and where its parts come from.

    Attributes:
        truths: `(B,)` int64: pictures of people in others' clothes.
        people: `(B,)` int64: a picture of each person in their own.
        garments: `(B,)` int64: a picture of each other.
        regions: Which clothes are the other's: names of regions.
    """

    truths: npt.NDArray[np.int64]
    people: npt.NDArray[np.int64]
    garments: npt.NDArray[np.int64]
    regions: tuple[str, ...]


class FolderDataset:
    """Pictures, labels and keypoints of one split, brought to one size.

    A picture whose shape is not that of `size` is neither stretched nor cut: it is shown whole, its edge pixels (and
    background in the labels) fill what is missing. Give `frame` to choose another part of it.

    Args:
        path: The folder or zip; see the module's docstring.
        size: Height and width of the pictures to deliver.
        split: Which list of ``split.json`` to read.
        cache: Read everything now and keep it in memory (4 bytes a pixel), so that a batch costs a copy. Without it
            every batch is read from the disk.
        frame: Which part of a picture is shown: called with its `Pose`, its size and `size`, it returns an object with
            a `box` in the picture's pixels, which may reach outside. `styletryon.photo.frame_person` is one.

    Raises:
        DataError: If something is missing, unreadable or contradicts the rest; the message names the file and the ID.
            With ``cache=False`` faults inside the pictures come to light when they are read.
        RangeError: If `size` holds no two positive numbers.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        size: tuple[int, int] = (128, 96),
        split: str = "train",
        cache: bool = True,
        frame: Callable[[Pose, tuple[int, int], tuple[int, int]], Framed] | None = None,
    ) -> None:
        if len(size) != 2 or min(size) < 1:
            raise RangeError(f"expected a positive height and width, got {size}", argument="size")
        self.size = (int(size[0]), int(size[1]))
        self.split = split
        self._frame = frame
        self._files = open_files(path)
        self.path = Path(path)
        self.ids = self._read_split()
        self._picture_files = self._find_files()
        self._photo_keypoints = self._read_keypoints()
        self._groups = self._read_styles()
        self._tryons = self._read_tryons()
        self.background = self._read_background()
        self._cache = self._read_all(np.arange(len(self.ids))) if cache else None
        if cache:
            self._files.close()

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"FolderDataset({str(self.path)!r}, size={self.size}, split={self.split!r}): {len(self)} pictures"

    def item(self, index: int) -> Item:
        """Return one picture.

        Args:
            index: Its number, from 0 to ``len(self) - 1``.

        Raises:
            RangeError: If there is no such number.
            DataError: If it is read now and is faulty.
        """
        batch = self.batch([index])
        return Item(self.ids[index], batch.images[0], batch.labels[0], batch.keypoints[0])

    def batch(self, indices: Indices) -> Batch:
        """Return some pictures, in the order asked for.

        Args:
            indices: Their numbers, from 0 to ``len(self) - 1``; one may come twice.

        Raises:
            RangeError: If there is no such number.
            DataError: If they are read now and one is faulty.
        """
        chosen = self._check_indices(indices)
        if self._cache is None:
            images, labels, keypoints = self._read_all(chosen)
        else:
            rows = torch.from_numpy(chosen)
            images, labels, keypoints = (part.index_select(0, rows) for part in self._cache)
        return Batch(images, labels, keypoints, chosen)

    def partners(self, indices: Indices, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Draw for each picture another one of the same style: the same person and clothes in another pose.

        Args:
            indices: Numbers of pictures.
            rng: Where the random numbers come from; each picture takes one.

        Returns:
            `(B,)` int64: the numbers of the others; a picture that is alone in its style is its own partner.

        Raises:
            RangeError: If there is no such number.
        """
        chosen = self._check_indices(indices)
        order, start, count, place = self._groups
        others = np.maximum(count[chosen] - 1, 1)
        step = np.where(count[chosen] > 1, 1 + rng.integers(0, others), 0)
        return order[start[chosen] + (place[chosen] + step) % count[chosen]]

    @property
    def has_partners(self) -> bool:
        """True if a picture has a partner other than itself."""
        return bool((self._groups[2] > 1).any())

    @property
    def has_tryons(self) -> bool:
        """True if a picture is known to show a person of this split in the clothes of another."""
        return self.num_tryons > 0

    @property
    def num_tryons(self) -> int:
        """Number of pictures that are known to show a try-on."""
        return len(self._tryons.truths)

    def drawn(self, batch_size: int, seed: int, step: int) -> npt.NDArray[np.int64]:
        """Return which pictures a step sees; see `batch_indices`."""
        return batch_indices(len(self), batch_size, seed, step)

    def tryons(self, count: int, rng: np.random.Generator) -> TryOnIndices:
        """Draw pictures that show the truth of a try-on, with a random picture of either part.

        Args:
            count: How many.
            rng: Where the random numbers come from.

        Raises:
            DataError: If the data set has none.
        """
        if not self.has_tryons:
            raise DataError(
                f"expected try-ons of split {self.split!r}, got none", argument=self._files.name('tryons.json')
            )
        known = self._tryons
        chosen = rng.integers(0, len(known.truths), count)
        order, start, size, _ = self._groups

        def of_style(example: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
            same: npt.NDArray[np.int64] = order[start[example] + rng.integers(0, size[example])]
            return same

        regions = tuple(known.regions[int(place)] for place in chosen)
        people, garments = of_style(known.people[chosen]), of_style(known.garments[chosen])
        return TryOnIndices(known.truths[chosen], people, garments, regions)

    def _check_indices(self, indices: Indices) -> npt.NDArray[np.int64]:
        chosen = np.atleast_1d(np.asarray(indices, dtype=np.int64)) if len(indices) else np.zeros(0, np.int64)
        wrong = chosen[(chosen < 0) | (chosen >= len(self))]
        if chosen.ndim != 1 or wrong.size:
            raise RangeError(
                f"expected numbers from 0 to {len(self) - 1}, got {wrong[:5].tolist() or indices!r}",
                argument="indices",
            )
        return chosen

    def _read_split(self) -> tuple[str, ...]:
        splits = self._files.read_table("split.json", "split name -> list of IDs")
        if not all(isinstance(names, list) for names in splits.values()):
            raise DataError("expected an object of split name -> list of IDs", argument=self._files.name('split.json'))
        if self.split not in splits:
            known = ", ".join(repr(name) for name in splits)
            raise DataError(f"expected one of {known or 'none'} as in split.json, got {self.split!r}", argument="split")
        ids = tuple(str(name) for name in splits[self.split])
        if not ids:
            raise DataError(
                f"expected a split with pictures, got {self.split!r}, which is empty in split.json", argument="split"
            )
        if len(set(ids)) != len(ids):
            double = next(name for name in ids if ids.count(name) > 1)
            raise DataError(
                f"ID {double!r} stands twice in split {self.split!r}", argument=self._files.name('split.json')
            )
        return ids

    def _find_files(self) -> list[tuple[str, str]]:
        images, labels = self._files.list("images"), self._files.list("labels")
        files = []
        for name in self.ids:
            found = [f"{name}{suffix}" for suffix in _SUFFIXES if f"{name}{suffix}" in images]
            if len(found) != 1:
                expected = self._files.name(f"images/{name}.png")
                fault = "there is none" if not found else f"there are {' and '.join(found)}"
                raise DataError(f"ID {name!r}: expected one picture, {expected} or .jpg, but {fault}")
            if f"{name}.png" not in labels:
                raise DataError(
                    f"ID {name!r}: expected labels in {self._files.name(f'labels/{name}.png')}; no such file"
                )
            files.append((f"images/{found[0]}", f"labels/{name}.png"))
        return files

    def _read_keypoints(self) -> npt.NDArray[np.float32]:
        file = self._files.name("keypoints.json")
        table = self._files.read_table("keypoints.json", "ID -> 17 x [x, y, score]")
        result = np.empty((len(self.ids), NUM_KEYPOINTS, 3), np.float32)
        for index, name in enumerate(self.ids):
            if name not in table:
                raise DataError(
                    f"ID {name!r} of split {self.split!r} has no keypoints; leave it out of the split",
                    argument=file,
                )
            try:
                points = np.asarray(table[name], dtype=np.float32)
            except (TypeError, ValueError) as error:
                raise DataError(f"ID {name!r}: expected 17 x [x, y, score], got {error}", argument=file) from error
            if points.shape != (NUM_KEYPOINTS, 3):
                raise DataError(
                    f"ID {name!r}: expected 17 x [x, y, score], got an array of shape {points.shape}",
                    argument=file,
                )
            if not np.isfinite(points).all():
                raise DataError(
                    f"ID {name!r}: expected finite numbers, got NaN; mark a missing one by score 0", argument=file
                )
            if points[:, 2].min() < 0 or points[:, 2].max() > 1:
                raise DataError(f"ID {name!r}: expected scores in [0, 1], got {points[:, 2].tolist()}", argument=file)
            result[index] = points
        return result

    def _read_styles(self) -> tuple[npt.NDArray[np.int64], ...]:
        """Return the pictures sorted by style, and for each its style's start and count there and its place within."""
        styles = self._files.read_table("styles.json", "ID -> style", optional=True)
        # A picture that is not listed is a style of its own; the tag keeps it apart from every listed style.
        keys = [("style", str(styles[name])) if name in styles else ("alone", name) for name in self.ids]
        numbers: dict[tuple[str, str], int] = {}
        group = np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)
        order = np.argsort(group, kind="stable").astype(np.int64)
        counts = np.bincount(group)
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        place = np.empty_like(order)
        place[order] = np.arange(len(order)) - starts[group[order]]
        return order, starts[group].astype(np.int64), counts[group].astype(np.int64), place

    def _read_background(self) -> tuple[int, ...]:
        """Return the colour that `styletryon prepare` put behind all people; () if they keep their own, or unknown."""
        known = self._files.read_table("prepared.json", "what styletryon prepare writes", optional=True)
        try:
            colour = tuple(int(part) for part in known["settings"]["background"] or ()) if known else ()
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                "expected what styletryon prepare writes", argument=self._files.name('prepared.json')
            ) from error
        return colour

    def _read_tryons(self) -> TryOnIndices:
        """Return the try-ons of the split; people and garments are an example of their style."""
        file = self._files.name("tryons.json")
        table = self._files.read_table("tryons.json", "ID -> person, garment and region", optional=True)
        styles = self._files.read_table("styles.json", "ID -> style") if table else {}
        numbers = {name: index for index, name in enumerate(self.ids)}
        examples = {str(styles[name]): index for name, index in numbers.items() if name in styles}
        found = []
        for name, parts in table.items():
            if name not in numbers:
                continue
            try:
                row = (numbers[name], examples[str(parts["person"])], examples[str(parts["garment"])], parts["region"])
            except (KeyError, TypeError) as error:
                raise DataError(
                    f"ID {name!r}: expected the styles of a person and a garment of split {self.split!r} and a "
                    f"region, got {parts!r}",
                    argument=file,
                ) from error
            if row[3] not in REGIONS:
                raise DataError(
                    f"ID {name!r}: expected a region among {sorted(REGIONS)}, got {row[3]!r}", argument=file
                )
            found.append(row)
        columns = np.array([row[:3] for row in found], dtype=np.int64).reshape(-1, 3)
        return TryOnIndices(columns[:, 0], columns[:, 1], columns[:, 2], tuple(row[3] for row in found))

    def _read_all(self, indices: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        height, width = self.size
        images = np.empty((len(indices), 3, height, width), np.uint8)
        labels = np.empty((len(indices), height, width), np.uint8)
        keypoints = np.empty((len(indices), NUM_KEYPOINTS, 3), np.float32)

        def read(row: int) -> None:
            image, labels[row], keypoints[row] = self._read_one(int(indices[row]))
            images[row] = image.transpose(2, 0, 1)

        if len(indices) < 4 or _THREADS == 1:
            for row in range(len(indices)):
                read(row)
        else:
            with ThreadPoolExecutor(_THREADS) as pool:
                block = 64  # Small blocks keep the first error near its picture and the queue short.
                for first in range(0, len(indices), block):
                    for _ in pool.map(read, range(first, min(first + block, len(indices)))):
                        pass
        return torch.from_numpy(images), torch.from_numpy(labels), torch.from_numpy(keypoints)

    def _read_one(self, index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
        name, (image_file, label_file) = self.ids[index], self._picture_files[index]
        image = _decode(self._files, image_file, name, _to_rgb)
        labels = read_labels(self._files, label_file, name)
        if image.size != labels.size:
            raise DataError(
                f"ID {name!r}: expected {self._files.name(label_file)} to have the picture's {image.size[0]}x"
                f"{image.size[1]} pixels (width x height), got {labels.size[0]}x{labels.size[1]}"
            )
        highest = int(np.asarray(labels).max())
        if highest >= NUM_LABELS:
            raise DataError(
                f"ID {name!r}: expected classes 0..{NUM_LABELS - 1} in {self._files.name(label_file)}, got {highest}"
            )
        points = self._photo_keypoints[index]
        box = self._box(points, image.size)
        height, width = self.size
        left, top, right, bottom = box
        scale = np.array([width / (right - left), height / (bottom - top)], np.float32)
        keypoints = points.copy()
        keypoints[:, :2] = (points[:, :2] - np.array([left, top], np.float32)) * scale
        return _show(image, box, self.size), _show_labels(labels, box, self.size), keypoints

    def _box(self, points: npt.NDArray[np.float32], photo: tuple[int, int]) -> Box:
        photo_width, photo_height = photo
        if self._frame is not None:
            pose = Pose(torch.from_numpy(points), (photo_height, photo_width))
            left, top, right, bottom = (float(edge) for edge in self._frame(pose, pose.size, self.size).box)
            if not (left < right and top < bottom and math.isfinite(right - left + bottom - top)):
                raise DataError(f"expected a box with an area, got {(left, top, right, bottom)}", argument="frame")
            return left, top, right, bottom
        height, width = self.size
        scale = max(photo_height / height, photo_width / width)  # Pixels of the photograph per pixel delivered.
        across, down = width * scale - photo_width, height * scale - photo_height
        if max(across, down) < scale:  # Less than a pixel to fill: the shapes differ by rounding only.
            across = down = 0.0
        return -across / 2, -down / 2, photo_width + across / 2, photo_height + down / 2


def batch_indices(
    length: int, batch_size: int, seed: int, step: int, *, rank: int = 0, world_size: int = 1
) -> npt.NDArray[np.int64]:
    """Return which pictures the batch of a step holds: every picture once an epoch, in an order shuffled by epoch.

    A pure function of its arguments, so a training that resumes at a step needs no other state. A batch may hold the
    end of one epoch and the beginning of the next.

    Args:
        length: Number of pictures.
        batch_size: Pictures a batch and process.
        seed: Seed of the order.
        step: Number of the batch, from 0.
        rank: Number of this process.
        world_size: Number of processes; together they go through the data set once an epoch.

    Returns:
        `(batch_size,)` int64 in 0..length-1.

    Raises:
        RangeError: If a number makes no sense.
    """
    if length < 1 or batch_size < 1 or step < 0 or seed < 0 or not 0 <= rank < world_size:
        raise RangeError(
            "expected 1 or more, 1 or more, 0 or more, 0 or more, "
            f"and a rank below world_size, got {(length, batch_size, seed, step, rank, world_size)}",
            argument="length, batch_size, seed, step, rank, world_size",
        )
    first = (step * world_size + rank) * batch_size
    positions = range(first, first + batch_size)
    return np.array([epoch_order(length, seed, at // length)[at % length] for at in positions], dtype=np.int64)


@lru_cache(maxsize=16)
def epoch_order(length: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Return the order of all pictures in an epoch."""
    return np.random.default_rng((seed, epoch)).permutation(length).astype(np.int64)


class BatchSource(Protocol):
    """The part of a data set that `endless_batches` needs; `FolderDataset` has it."""

    def __len__(self) -> int: ...

    def batch(self, indices: npt.NDArray[np.int64], /) -> Batch:
        """Return the pictures of these numbers."""


def endless_batches(
    dataset: BatchSource, batch_size: int, seed: int, *, start: int = 0, rank: int = 0, world_size: int = 1
) -> Iterator[Batch]:
    """Return the batches of steps `start`, `start` + 1, ... without end; see `batch_indices`.

    Args:
        dataset: The pictures.
        batch_size: Pictures a batch and process.
        seed: Seed of the order.
        start: The first step; a training that resumes after n steps starts at n and sees the same data.
        rank: Number of this process.
        world_size: Number of processes.

    Returns:
        An iterator over batches of `batch_size` pictures.

    Raises:
        RangeError: If a number makes no sense.
    """

    def read(step: int) -> Batch:
        return dataset.batch(batch_indices(len(dataset), batch_size, seed, step, rank=rank, world_size=world_size))

    batch_indices(len(dataset), batch_size, seed, start, rank=rank, world_size=world_size)  # Complains now, not later.
    return map(read, count(start))


def _decode(files: Files, file: str, name: str, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    content = files.read(file)
    try:
        with Image.open(io.BytesIO(content)) as image:
            return convert(image)
    except (DataError, ImageError) as error:
        raise DataError(f"ID {name!r}: {files.name(file)}: {error}") from error
    # What Pillow's decoders raise on broken files, as far as it is known.
    except (OSError, ValueError, SyntaxError, EOFError, zlib.error, Image.DecompressionBombError) as error:
        raise DataError(f"ID {name!r}: {files.name(file)} cannot be read as a picture: {error}") from error


def read_labels(files: Files, file: str, name: str) -> Image.Image:
    """Read a picture of label classes as one of mode "L" that holds the classes; raises DataError."""
    return _decode(files, file, name, _to_labels)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and not {"exif", "icc_profile", "transparency"} & image.info.keys():
        image.load()
        return image.copy()  # Nothing to convert: not through `read_image`, where threads wait for each other.
    return read_image(image, name="picture")


def _to_labels(image: Image.Image) -> Image.Image:
    if image.mode not in ("L", "P"):
        raise DataError(f"expected labels of 8 bits (grey or palette), got mode {image.mode}")
    return Image.fromarray(np.array(image, dtype=np.uint8))  # The numbers themselves, not the palette's colours.


def _show(image: Image.Image, box: Box, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Return the part of a picture in `box`, `(H, W, 3)`; beyond its edge it goes on with the pixels of the edge."""
    if box == (0, 0, *image.size) and image.size == size[::-1]:
        return np.asarray(image)
    padding, inside = _fit(image, box)
    if any(padding):
        left, top, right, bottom = padding
        image = Image.fromarray(np.pad(np.asarray(image), ((top, bottom), (left, right), (0, 0)), mode="edge"))
    return np.asarray(resize(image, size, filter="bicubic", box=inside))


def _show_labels(labels: Image.Image, box: Box, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Return the classes in `box`, `(H, W)`: in each pixel the one that covers most of it; background outside."""
    classes = np.asarray(labels)
    if box == (0, 0, *labels.size) and labels.size == size[::-1]:
        return classes
    return crop_labels(classes, Frame(box, (labels.height, labels.width), size))


def _fit(image: Image.Image, box: Box) -> tuple[tuple[int, int, int, int], Box]:
    """Return by how much a picture must grow (left, top, right, bottom) to hold a box, and the box in the grown one."""
    width, height = image.size
    left, top, right, bottom = box
    padding = (
        max(0, math.ceil(-left)),
        max(0, math.ceil(-top)),
        max(0, math.ceil(right - width)),
        max(0, math.ceil(bottom - height)),
    )
    return padding, (left + padding[0], top + padding[1], right + padding[0], bottom + padding[1])
