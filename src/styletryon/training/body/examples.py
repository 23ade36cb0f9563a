"""The examples of the network of the body: photographs and rendered figures, held in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter
from scipy import ndimage

from styletryon.errors import DataError
from styletryon.labels import Label
from styletryon.pose._pose import NUM_KEYPOINTS

Floats = npt.NDArray[np.float32]

IGNORED = 255
"""The label of pixels of which nobody knows what they show."""

LONG_SIDE = 576
"""Photographs are held in memory with their long side at this many pixels."""

_MIDDLE = 0.5
"""Half-way down the trunk, where 0 is the shoulders and 1 the hips."""


@dataclass(frozen=True, eq=False)
class Example:
    """A picture with the keypoints of its one person, and perhaps what its pixels show.

    Attributes:
        image: RGB.
        keypoints: `(17, 3)` x, y in its pixels and a score; None if the picture shows nobody.
        labels: 8-bit classes, a picture of the same size, `IGNORED` where they are not known; None if all are not.
        mask: The person as an 8-bit picture of the same size, if it is known: such a person can change background.
        cut: How often they do, if the mask is known.
    """

    image: Image.Image
    keypoints: Floats | None
    labels: Image.Image | None = None
    mask: Image.Image | None = None
    cut: float = 0.35

    def trunk(self) -> tuple[float, float, float, float] | None:
        """Return the heights of nose, shoulders, hips and knees; None unless they are known and in this order."""
        if self.keypoints is None or self.keypoints[[0, 5, 6, 11, 12], 2].min() <= 0:
            return None
        y = self.keypoints[:, 1]
        nose, shoulders, hips = float(y[0]), float(y[5:7].mean()), float(y[11:13].mean())
        knees = self.keypoints[13:15]
        knee = float(knees[:, 1].mean()) if knees[:, 2].min() > 0 else hips + 0.85 * (hips - shoulders)
        return (nose, shoulders, hips, knee) if nose < shoulders < hips < knee else None

    def torso(self) -> float:
        """Return the distance from the middle of the shoulders to the middle of the hips, at least 8 pixels."""
        if self.keypoints is None:
            return 8.0
        middle = self.keypoints[5:7, :2].mean(0) - self.keypoints[11:13, :2].mean(0)
        return max(8.0, float(np.hypot(*middle)))

    def reach(self) -> tuple[float, float, float, float]:
        """Return the box around the person: left, top, right, bottom."""
        box = None if self.mask is None else self.mask.point([0] * 128 + [255] * 128).getbbox()
        if box is not None:
            return float(box[0]), float(box[1]), float(box[2]), float(box[3])
        if self.keypoints is None or not (self.keypoints[:, 2] > 0.05).any():
            return 0.0, 0.0, float(self.image.width), float(self.image.height)
        shown = self.keypoints[self.keypoints[:, 2] > 0.05, :2]
        room = 0.22 * self.torso()  # keypoints end at the eyes, the wrists and the ankles
        (left, top), (right, bottom) = shown.min(0) - room, shown.max(0) + room
        return float(left), float(top - room), float(right), float(bottom)


@dataclass(frozen=True, eq=False)
class Cutout:
    """Something that can lie before a person.

    Attributes:
        image: `(H, W, 3)` uint8.
        mask: `(H, W)` uint8, how much of a pixel belongs to it.
        label: Its class.
        torso: The length of the torso of the person that it belongs to, in its pixels.
    """

    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8]
    label: int
    torso: float


def find_faults(meta: Mapping[str, object]) -> set[Label]:
    """Say which classes of a photograph's labels are painted wrongly, by how high on the trunk they reach.

    A dress that starts below the middle of the trunk is a skirt; trousers that start above it are a top.

    Args:
        meta: What the data set's `meta.json` says of the photograph: `dress_top` and `bottom_top`, None if unknown.

    Returns:
        None, one or both of `Label.DRESS` and `Label.BOTTOM`.
    """
    dress, bottom = meta.get("dress_top"), meta.get("bottom_top")
    faults = set()
    if isinstance(dress, (int, float)) and dress > _MIDDLE:
        faults.add(Label.DRESS)
    if isinstance(bottom, (int, float)) and bottom < _MIDDLE:
        faults.add(Label.BOTTOM)
    return faults


def read_labels(path: Path, faults: set[Label]) -> Image.Image:
    """Read a picture of label classes; the pixels of classes that are painted wrongly become `IGNORED`.

    Args:
        path: An 8-bit picture of classes, with or without a palette.
        faults: The classes, of `find_faults`.

    Returns:
        The labels, of mode "L".
    """
    with Image.open(path) as file:
        labels = np.array(file)
    labels[np.isin(labels, list(faults))] = IGNORED
    return Image.fromarray(labels.astype(np.uint8))


def read_examples(
    images: Path,
    keypoints: Mapping[str, Sequence[Sequence[float]]],
    labels: Path | None = None,
    meta: Mapping[str, Mapping[str, object]] | None = None,
    *,
    side: int | None = LONG_SIDE,
) -> list[Example]:
    """Read photographs with keypoints into memory, reduced.

    Args:
        images: Folder of `ID.jpg` or `ID.png`.
        keypoints: ID -> 17 x [x, y, score] in that picture's pixels; exactly these pictures are read.
        labels: Folder of `ID.png`, 8-bit classes of which 0 is the background.
        meta: ID -> what `find_faults` reads.
        side: The long side of what is kept, in pixels. None keeps the photographs' own size.

    Returns:
        The examples in the order of `keypoints`.

    Raises:
        DataError: If a picture is missing.
    """
    examples = []
    for name, points in keypoints.items():
        paths = [path for path in (images / f"{name}.jpg", images / f"{name}.png") if path.is_file()]
        if not paths:
            raise DataError(f"expected a picture {name}.jpg or .png in {images}, got none", argument="keypoints")
        with Image.open(paths[0]) as file:
            full = file.size
            if side is not None:
                file.draft("RGB", (side, side))
            image = file.convert("RGB")
        scale = 1.0 if side is None else side / max(full)
        size = (max(1, round(full[0] * scale)), max(1, round(full[1] * scale)))
        if image.size != size:
            image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
        array = np.asarray(points, dtype=np.float32).reshape(NUM_KEYPOINTS, 3).copy()
        array[:, 0] *= size[0] / full[0]
        array[:, 1] *= size[1] / full[1]
        classes = mask = None
        if labels is not None:
            classes = read_labels(labels / f"{name}.png", find_faults((meta or {}).get(name, {})))
            mask = _person(classes).resize(size, Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(0.7))
            classes = classes.resize(size, Image.Resampling.NEAREST)
        examples.append(Example(image, array, classes, mask))
    return examples


def read_split(folder: Path, split: str, *, side: int | None = LONG_SIDE) -> list[Example]:
    """Read the photographs of one split of a folder of `images/`, `labels/`, `keypoints.json` and `split.json`.

    Args:
        folder: The folder. If it holds a `meta.json`, labels that are painted wrongly are ignored.
        split: A name in `split.json`.
        side: Of `read_examples`.

    Returns:
        The examples.

    Raises:
        DataError: If there is no such split, or a picture is missing.
    """
    known = json.loads((folder / "keypoints.json").read_text(encoding="utf-8"))
    splits = json.loads((folder / "split.json").read_text(encoding="utf-8"))
    if split not in splits:
        raise DataError(f"expected one of {sorted(splits)} of {folder / 'split.json'}, got {split!r}", argument="split")
    faults = folder / "meta.json"
    meta = json.loads(faults.read_text(encoding="utf-8")) if faults.is_file() else {}
    chosen = {name: known[name] for name in splits[split]}
    return read_examples(folder / "images", chosen, folder / "labels", meta, side=side)


def render_examples(seeds: Sequence[int], size: tuple[int, int] = (256, 192)) -> list[Example]:
    """Render paperdoll figures as examples with labels and masks.

    Args:
        seeds: One figure each.
        size: Height and width of the pictures.

    Returns:
        The examples in the order of the seeds.
    """
    from styletryon.data.paperdoll import render, sample_figure

    examples = []
    for seed in seeds:
        picture = render(sample_figure(seed), size)
        points = np.asarray(picture.keypoints, dtype=np.float32).reshape(NUM_KEYPOINTS, 3)
        labels = Image.fromarray(np.asarray(picture.labels))
        mask = _person(labels).filter(ImageFilter.GaussianBlur(0.7))
        examples.append(Example(Image.fromarray(np.asarray(picture.image)), points, labels, mask, cut=0.75))
    return examples


def background_strips(examples: Sequence[Example], least: int = 36) -> list[Image.Image]:
    """Cut what lies left and right of the people out of their photographs: real scenery with nobody in it.

    Args:
        examples: Those with a mask are used.
        least: Width in pixels under which a strip is not worth keeping.

    Returns:
        The strips, RGB.
    """
    strips = []
    for example in examples:
        if example.mask is None:
            continue
        columns = np.flatnonzero((np.asarray(example.mask) > 40).any(0))
        if not len(columns):
            continue
        width, height = example.image.size
        left, right = int(columns[0]) - 4, int(columns[-1]) + 5
        if left >= least:
            strips.append(example.image.crop((0, 0, left, height)))
        if width - right >= least:
            strips.append(example.image.crop((right, 0, width, height)))
    return strips


def cutouts(examples: Sequence[Example]) -> list[Cutout]:
    """Cut bags and other accessories, forearms and hands out of labelled photographs."""
    found = []
    for example in examples:
        if example.labels is None or example.keypoints is None:
            continue
        labels, torso = np.asarray(example.labels), example.torso()
        y, x = np.ogrid[: labels.shape[0], : labels.shape[1]]
        hands = np.zeros(labels.shape, bool)
        for wrist in example.keypoints[9:11]:
            if wrist[2] > 0.5:
                hands |= np.hypot(x - wrist[0], y - wrist[1]) < 0.4 * torso
        kinds = {Label.ACCESSORY: labels == Label.ACCESSORY, Label.SKIN: (labels == Label.SKIN) & hands}
        for label, where in kinds.items():
            parts, _ = ndimage.label(where)
            for number, box in enumerate(ndimage.find_objects(parts), start=1):
                mask = parts[box] == number
                if 0.02 * torso**2 < mask.sum() < 0.6 * torso**2:
                    soft = Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(0.7))
                    pixels = np.asarray(example.image)[box].copy()
                    found.append(Cutout(pixels, np.asarray(soft).copy(), int(label), torso))
    return found


def _person(labels: Image.Image) -> Image.Image:
    return labels.point([0] + [255] * 255)
