"""The part of a photograph that shows somebody, at the size at which a try-on is composed."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from styletryon.labels import Label
from styletryon.photo import Photograph

Mask = NDArray[np.bool_]
"""`(h, w)` bool."""

Plane = NDArray[np.float32]
"""`(h, w)` float32."""

Picture = NDArray[np.float32]
"""`(h, w, 3)` float32, sRGB in [0, 1]."""

Points = NDArray[np.floating[Any]]
"""`(..., 2)`: x to the right and y down, in pixels."""

TRUNK = (5, 6, 11, 12)
"""The keypoints of the trunk: shoulders and hips."""

LEAST_SCORE = 0.05
"""A keypoint of this score or less is not there."""

_SHORT = 40
"""Up to this distance, in pixels, what is near a mask is found row by row."""

_AROUND = (0.35, 0.35, 0.25)
"""What a view shows beside, above and below the clothes, in lengths of the trunk."""

_RIM = 0.03
"""How far labels may miss the true outline of clothes, in lengths of the trunk."""

_SURE = 0.5
"""A pixel of the rim is cloth whose colour is as telling, to this part, as that of nearly all of the cloth within."""

_SMOOTH = 0.015
"""How much the outline of clothes is smoothed, in lengths of the trunk."""

_CUFF, _ALIKE = 0.15, 2.0
"""Up to this far from clothes, in lengths of the trunk, labels take them for skin: where the logarithm of how much
more frequent the colour is in them than in skin lies above the second number."""

_STRAND = 0.06
"""How far from clothes they show between strands of hair; half of it is the side of the least piece that does."""

_ISLAND, _HAND = 0.2, 0.4
"""The side of the least skin that clothes surround, and how far hands reach from wrists, in lengths of the trunk."""

_STRAY, _STRANGE, _MOST_STRAY = 0.5, -1.5, 0.12
"""Up to this far from the outline, in lengths of the trunk, labels take for clothes what lies beside them: where the
logarithm of how much more frequent the colour is in clothes lies below the second number, and if it is not more of them
than the third."""


@dataclass(frozen=True, eq=False)
class View:
    """Somebody in a part of their photograph.

    Attributes:
        picture: What it shows.
        labels: `(h, w)` uint8: the label class of each pixel.
        points: `(17, 3)` float32: the keypoints in the view's pixels, with their scores.
        box: Left, top, right and bottom in the photograph's pixels, whole numbers.
        worn: Whether somebody is there; otherwise skin is where that of an invisible wearer would be.
    """

    picture: Picture
    labels: NDArray[np.uint8]
    points: NDArray[np.float32]
    box: tuple[int, int, int, int]
    worn: bool = True

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.labels.shape
        return height, width

    @cached_property
    def pixels(self) -> Points:
        """`(h, w, 2)`: the centre of each pixel."""
        rows, columns = np.mgrid[: self.shape[0], : self.shape[1]]
        return np.stack([columns, rows], axis=-1).astype(np.float32) + np.float32(0.5)

    @cached_property
    def unit(self) -> float:
        """The length of the trunk, from the middle of the shoulders to the middle of the hips, in pixels."""
        shoulders, hips = self.points[[5, 6], :2].mean(axis=0), self.points[[11, 12], :2].mean(axis=0)
        return float(np.linalg.norm(shoulders - hips))

    @cached_property
    def half_width(self) -> float:
        """Half the distance between the shoulders in pixels, at least a quarter of the trunk's length."""
        return max(0.5 * float(np.linalg.norm(self.points[5, :2] - self.points[6, :2])), 0.25 * self.unit)

    @cached_property
    def from_background(self) -> Plane:
        """`(h, w)`: how far each pixel lies from the background, in pixels."""
        return apart(self.shows({Label.BACKGROUND}))

    def shows(self, classes: Collection[int]) -> Mask:
        """Say which pixels belong to some label classes."""
        return np.isin(self.labels, [int(label) for label in classes])

    def wearing(self, cloth: Mask, classes: Collection[int], *, taken_for: Label = Label.SKIN) -> View:
        """Return the view with what has one label among some pixels labelled as the clothes of some classes beside it.

        Args:
            cloth: The pixels.
            classes: The label classes of the clothes.
            taken_for: The label: labels take cuffs for skin.
        """
        taken, worn = cloth & self.shows({taken_for}), self.shows(classes)
        if not taken.any() or not worn.any():
            return self
        rows, columns = ndimage.distance_transform_edt(~worn, return_distances=False, return_indices=True)
        return replace(self, labels=np.where(taken, self.labels[rows, columns], self.labels))

    def between_strands(self, classes: Collection[int]) -> View:
        """Return the view with the clothes of some classes also where they show between strands of hair."""
        reach = _STRAND * self.unit
        pieces, count = ndimage.label(_taken_for(self, self.shows(classes), Label.HAIR, reach))
        large = np.bincount(pieces.ravel(), minlength=count + 1) >= (reach / 2) ** 2
        return self.wearing((pieces > 0) & large[pieces], classes, taken_for=Label.HAIR)

    def without_strays(self, classes: Collection[int], beside: Collection[int] = tuple(Label)) -> View:
        """Return the view with what labels take for clothes of some classes labelled as what is beside it.

        Args:
            classes: The label classes of the clothes.
            beside: What strays may belong to, whose colours they have.
        """
        cloth = self.shows(classes)
        stray = _strays(self.picture, cloth, self.unit)
        if not stray.any():
            return self
        rows, columns = ndimage.distance_transform_edt(cloth, return_distances=False, return_indices=True)
        found = self.labels[rows, columns]
        return replace(self, labels=np.where(stray & np.isin(found, [int(b) for b in beside]), found, self.labels))

    def garment(self, classes: Collection[int]) -> Mask:
        """Say which pixels show a garment: the labels' say, with its rim where the colours change."""
        mask = largest(self.shows(classes))
        if self.worn:
            mask |= _taken_for_skin(self, mask)
        return _along_colours(self.picture, mask, self.unit)


def look_at(photograph: Photograph, classes: Collection[int], *, legs: bool, pixels: int) -> View | None:
    """Take the part of a photograph that shows the clothes of some classes and the body that wears them.

    Args:
        photograph: The photograph, with pose and labels.
        classes: The label classes of the clothes.
        legs: Whether the legs belong to it too.
        pixels: The most pixels of the view.

    Returns:
        The view; None where pose or labels are unknown, or the trunk is not seen.
    """
    pose, labels = photograph.pose, photograph.labels
    if pose is None or labels is None:
        return None
    points = pose.keypoints[0].double().cpu().numpy()
    if points[list(TRUNK), 2].min() <= LEAST_SCORE:
        return None
    unit = float(np.linalg.norm(points[[5, 6], :2].mean(axis=0) - points[[11, 12], :2].mean(axis=0)))
    if unit < 8:
        return None
    left, top, right, bottom = _box(points, labels, classes, unit, legs)
    factor = min(1.0, (pixels / ((right - left) * (bottom - top))) ** 0.5)
    size = max(8, round((right - left) * factor)), max(8, round((bottom - top) * factor))
    box = (left, top, right, bottom)
    picture = photograph.picture.resize(size, Image.Resampling.LANCZOS, box=box)
    reduced = Image.fromarray(labels).resize(size, Image.Resampling.NEAREST, box=box)
    scale = np.array([size[0] / (right - left), size[1] / (bottom - top)])
    moved = (points[:, :2] - [left, top]) * scale
    placed = np.concatenate([moved, points[:, 2:]], axis=1).astype(np.float32)
    colours = np.asarray(picture, dtype=np.float32) / np.float32(255)
    return View(colours, np.asarray(reduced), placed, box, photograph.worn)


def _box(
    points: NDArray[np.float64], labels: NDArray[np.uint8], classes: Collection[int], unit: float, legs: bool
) -> tuple[int, int, int, int]:
    height, width = labels.shape
    rows, columns = np.nonzero(np.isin(labels, [int(label) for label in classes]))
    seen = [point for point in (*TRUNK, *((13, 14, 15, 16) if legs else ())) if points[point, 2] > LEAST_SCORE]
    x, y = np.concatenate([points[seen, 0], columns]), np.concatenate([points[seen, 1], rows])
    beside, above, below = (share * unit for share in _AROUND)
    left, right = int(max(0, x.min() - beside)), int(min(width, x.max() + beside + 1))
    top, bottom = int(max(0, y.min() - above)), int(min(height, y.max() + below + 1))
    return min(left, width - 8), min(top, height - 8), max(right, 8), max(bottom, 8)


def largest(mask: Mask, share: float = 0.08) -> Mask:
    """Leave out pieces of a mask that are small beside its largest."""
    pieces, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(pieces.ravel())[1:]
    return np.asarray(np.isin(pieces, 1 + np.flatnonzero(sizes >= share * sizes.max())))


def apart(mask: Mask) -> Plane:
    """Return how far each pixel lies from a mask; 0 within it, the size of the picture where it is empty."""
    height, width = mask.shape
    if not mask.any():
        return np.full(mask.shape, float(height + width), dtype=np.float32)
    rows, columns = ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)
    rows -= np.arange(height, dtype=np.int32)[:, None]
    columns -= np.arange(width, dtype=np.int32)
    return np.asarray(np.sqrt((rows * rows + columns * columns).astype(np.float32)))


def near(mask: Mask, reach: float) -> Mask:
    """Say which pixels lie within a distance of a mask: `apart(mask) <= reach`, sooner where that is short."""
    if reach < 0 or not mask.any():
        return np.zeros_like(mask)
    if reach > _SHORT:
        return apart(mask) <= reach
    reach = float(np.float32(reach))  # As distances are.
    square = int(reach * reach)
    square += int(np.float32(math.sqrt(square + 1)) <= reach)
    # How far each pixel lies from the mask along its row; a disc is rows of known half widths.
    columns, none = np.arange(mask.shape[1], dtype=np.int16), np.int16(2 * _SHORT)
    left = columns - np.maximum.accumulate(np.where(mask, columns, -none), axis=1)
    right = np.minimum.accumulate(np.where(mask, columns, columns[-1] + none)[:, ::-1], axis=1)[:, ::-1] - columns
    along = np.minimum(np.minimum(left, right), none).astype(np.uint8)
    found = along <= math.isqrt(square)
    for step in range(1, min(math.isqrt(square), mask.shape[0] - 1) + 1):
        half = along <= math.isqrt(square - step * step)
        found[step:] |= half[:-step]
        found[:-step] |= half[step:]
    return found


def shrunk(mask: Mask, reach: float) -> Mask:
    """Take a rim off a mask; the picture's own edge is none."""
    found, window = np.zeros_like(mask), _window(mask, 1)
    found[window] = ~near(~mask[window], reach)
    return found


def grown(mask: Mask, reach: float) -> Mask:
    """Add a rim to a mask."""
    found, window = np.zeros_like(mask), _window(mask, int(reach) + 1)
    found[window] = near(mask[window], reach)
    return found


def _window(mask: Mask, room: int) -> tuple[slice, slice]:
    """Return the part of a picture that holds a mask and some pixels around it."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return slice(0), slice(0)
    return (
        slice(max(0, int(rows[0]) - room), int(rows[-1]) + 1 + room),
        slice(max(0, int(columns[0]) - room), int(columns[-1]) + 1 + room),
    )


def closed(mask: Mask, reach: float) -> Mask:
    """Fill what is narrower than twice `reach`."""
    return shrunk(grown(mask, reach), reach)


def blurred(mask: Mask | Plane, sigma: float) -> Plane:
    """Blur a mask."""
    if mask.dtype != bool:
        return np.asarray(ndimage.gaussian_filter(mask.astype(np.float32), sigma))
    # Beyond the reach of the filter all is 0.
    found, window = np.zeros(mask.shape, dtype=np.float32), _window(mask.astype(bool), int(4 * sigma + 0.5) + 1)
    found[window] = ndimage.gaussian_filter(mask[window].astype(np.float32), sigma)
    return found


def soft(mask: Mask, sigma: float) -> Plane:
    """Return how much of each pixel lies within the smoothed outline of a mask; the edge is a pixel wide."""
    steep = sigma * (2 * np.pi) ** 0.5
    return np.asarray((0.5 + (blurred(mask, sigma) - 0.5) * steep).clip(0, 1))


def _along_colours(picture: Picture, mask: Mask, unit: float) -> Mask:
    """Let the rim of a mask follow the colours: a pixel of it belongs where its colour is more frequent."""
    reach = _RIM * unit
    inwards, outwards = apart(~mask), apart(mask)
    likely = _likely(picture, inwards, outwards, reach)
    if likely is None:
        return mask
    rim = (inwards <= reach) & (outwards <= 0.3 * reach)
    # Cloth of few colours is told from what resembles it by more than from other colours.
    least = max(0.0, _SURE * float(np.percentile(likely[inwards > reach], 5)))
    return largest(np.asarray(blurred(np.where(rim, likely > least, mask), _SMOOTH * unit) > 0.5))


def _strays(picture: Picture, mask: Mask, unit: float) -> Mask:
    """Say which pixels of a mask hang together with what is beside it and have its colours."""
    reach = _RIM * unit
    inwards, outwards = apart(~mask), apart(mask)
    likely = _likely(picture, inwards, outwards, reach)
    if likely is None:
        return np.zeros_like(mask)
    strange = blurred(likely < _STRANGE, reach / 2) > 0.5
    stray = mask & strange & (inwards < _STRAY * unit) & reached(strange | ~mask, ~mask)
    stray = reached(stray, stray & (inwards > reach))  # Thinner ones may be shadows at the rim.
    # A print of many colours is no mistake.
    return stray if int(stray.sum()) <= _MOST_STRAY * int(mask.sum()) else np.zeros_like(mask)


def _likely(picture: Picture, inwards: Plane, outwards: Plane, reach: float) -> NDArray[np.float64] | None:
    """Return the odds of colours within a mask against those beside it; None where too little of one is seen."""
    inner, outer = inwards > reach, (outwards > 0.5 * reach) & (outwards < 6 * reach)
    if min(int(inner.sum()), int(outer.sum())) < 200:
        return None
    return np.asarray(ndimage.gaussian_filter(odds(picture, inner, outer), 1.0))


def _taken_for(view: View, cloth: Mask, label: Label, reach: float) -> Mask:
    """Say what has another label near clothes though its colours say that it is of them."""
    taken, rim = view.shows({label}), _RIM * view.unit
    inner, outer = shrunk(cloth, rim), shrunk(taken, rim)
    if min(int(inner.sum()), int(outer.sum())) < 200:
        return np.zeros_like(cloth)
    like = blurred(odds(view.picture, inner, outer) > _ALIKE, 1.5) > 0.5
    like &= taken & (apart(cloth) < reach)
    return np.asarray(reached(like | cloth, cloth) & like)


def _taken_for_skin(view: View, cloth: Mask) -> Mask:
    """Say what labels call skin though it is of the clothes beside it: by its colours, or an island that is no hand."""
    skin, unit = view.shows({Label.SKIN}), view.unit
    found = _taken_for(view, cloth, Label.SKIN, _CUFF * unit)
    islands, count = ndimage.label(skin & ~found)
    sizes = np.bincount(islands.ravel(), minlength=count + 1)
    for index, (rows, columns) in enumerate(ndimage.find_objects(islands), start=1):
        if sizes[index] < (_ISLAND * unit) ** 2:
            window = slice(max(0, rows.start - 2), rows.stop + 2), slice(max(0, columns.start - 2), columns.stop + 2)
            island = islands[window] == index
            edge = ndimage.binary_dilation(island, iterations=2) & ~island
            middle = np.array([0.5 * (columns.start + columns.stop), 0.5 * (rows.start + rows.stop)])
            is_hand = any(
                point[2] > LEAST_SCORE and np.linalg.norm(middle - point[:2]) < _HAND * unit
                for point in view.points[[9, 10]]
            )
            if not is_hand and float(cloth[window][edge].mean()) > 0.6:
                found[window] |= island
    return found


def reached(within: Mask, start: Mask) -> Mask:
    """Say which pixels of a mask hang together with a part of it."""
    areas, _ = ndimage.label(within)
    return np.asarray(np.isin(areas, np.unique(areas[start & within])))


def odds(picture: Picture, inner: Mask, outer: Mask, bins: int = 12) -> NDArray[np.float64]:
    """Return how much more frequent the colour of each pixel is in one mask than in another, as a logarithm."""
    cells = np.ravel_multi_index(tuple((picture * bins).astype(int).clip(0, bins - 1).transpose(2, 0, 1)), (bins,) * 3)

    def frequencies(mask: Mask) -> NDArray[np.float64]:
        counts = np.bincount(cells[mask], minlength=bins**3).reshape((bins,) * 3)
        return np.asarray(ndimage.gaussian_filter(counts / int(mask.sum()), 0.8) + 1e-5)

    return np.asarray(np.log(frequencies(inner) / frequencies(outer)).ravel()[cells])


FRONT = frozenset({Label.HAIR, Label.FACE, Label.ACCESSORY, Label.SHOES})
"""What lies before any new garment: it stays as the photograph shows it."""
