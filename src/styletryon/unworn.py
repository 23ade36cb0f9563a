"""Garments that nobody wears, made ready for the road of everything else.

A garment that lies flat is worn by somebody invisible. `photograph_of` completes the pose of that somebody by the
proportions of a body, and makes a `Photograph` of it; `worn_by_model` puts it on a neutral person whom the generator
draws, which is what a projector can find.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from styletryon.errors import ConfigError, ImageError, RegionError
from styletryon.generator import Generator, background_of
from styletryon.labels import NUM_LABELS, REGIONS, Label
from styletryon.photo import Photograph, frame_person, to_pil
from styletryon.pose import Pose
from styletryon.pose.garment import GARMENT_CLASSES, SHOWN, SeenGarment

Array = NDArray[np.float64]

_SHOULDERS, _HIPS = 0.68, 0.36
"""How far the shoulders, and the hips, lie apart, in lengths of the trunk."""

_LIMBS = {(5, 7): 0.58, (7, 9): 0.50, (11, 13): 0.90, (13, 15): 0.86}
"""How long the bones of the left side are, in lengths of the trunk."""

_TRUNK_BY_SHOULDERS = (1.05, 1.9)
"""Between which bounds the trunk is longer than the shoulders are wide."""

_INFERRED = 0.6
"""The score of a keypoint that follows from the others."""

_CHEST, _LEAST_SLEEVE = (0.55, 0.75), 0.008
"""Where the trunk is as wide as under its sleeves, in its lengths; the share of the cloth that is a sleeve at least."""

_ARM, _ON_CLOTH = (0.3, 0.5, 0.7, 0.9, 1.1, 1.3), 0.25
"""How far from the trunk an arm without a sleeve points, in radians, the first at which less of it lies on cloth."""

_BESIDE_TRUNK = tuple(np.arange(0.4, 0.85, 0.05))
"""How far below the shoulder sleeves are looked for beside the trunk, in its lengths."""

_LOWER = 0.8
"""Where the lower end of trousers or a skirt begins, in parts of its length below the hips."""

_TURNED = 0.6
"""How far an elbow may lie beside its sleeve, in radians."""

_SURE_WRIST = 0.3
"""The score from which a wrist, and with it a long sleeve, is not doubted."""

_LEAST_ARM, _BENT = 0.72, 0.75
"""How far at least a wrist is from its shoulder, in lengths of the trunk; the score from which an elbow is sure."""

_GAP, _BARE = 0.03, 0.05
"""How far from the cloth bare limbs begin, and how wide they are drawn in the labels, in lengths of the trunk."""

_LARGEST = 4_000_000
"""The most pixels of a photograph of a garment; a larger one is made smaller."""


def reduced(picture: Image.Image) -> Image.Image:
    """Make a large photograph smaller: more pixels are never shown."""
    factor = int(np.ceil(np.sqrt(picture.width * picture.height / _LARGEST)))
    return picture.reduce(factor) if factor > 1 else picture


def worn_as(label: Label, region: Collection[int]) -> Label:
    """Say as what a garment is worn in a region: a hoodie that shall be tried on as outerwear is outerwear.

    Args:
        label: What the garment is.
        region: The label classes that change.

    Raises:
        RegionError: If it belongs elsewhere, or the region needs a whole outfit.
    """
    own = region_of(label)
    if REGIONS["full"] <= set(region):
        raise RegionError(
            f"expected somebody who wears a whole outfit, got a garment that nobody wears; use region={own!r}",
            argument="region",
        )
    alike = (label,) if label == Label.BOTTOM else (label, Label.TOP, Label.DRESS, Label.OUTERWEAR)
    for one in alike:
        if one in region:
            return one
    raise RegionError(
        f"expected a garment for {', '.join(sorted(Label(one).name.lower() for one in region))}, got a picture of "
        f"{_WORDS[label]}; use region={own!r}",
        argument="region",
    )


_WORDS = {
    Label.TOP: "a top",
    Label.OUTERWEAR: "a jacket or coat",
    Label.BOTTOM: "trousers or a skirt",
    Label.DRESS: "a dress",
}


def region_of(label: Label) -> str:
    """Return the region to which a garment belongs."""
    return {Label.BOTTOM: "bottom", Label.DRESS: "dress"}.get(label, "top")


def photograph_of(
    picture: Image.Image, seen: SeenGarment, model: Generator, *, label: Label | None = None, pose: Pose | None = None
) -> Photograph:
    """Make a photograph of a garment that nobody wears, as if somebody invisible did.

    Args:
        picture: What shows it.
        seen: What was seen in it.
        model: The generator for which it is framed.
        label: As what it is worn; see `worn_as`. None for what was seen.
        pose: The keypoints of the invisible wearer, where they are known.

    Returns:
        The photograph, on a larger ground where limbs of the invisible wearer reach beyond it. Its labels show bare
        skin where limbs would be bare.

    Raises:
        ImageError: If the garment is too small.
        PersonNotFoundError: If it is turned upside down.
    """
    from styletryon.compositing.ground import off_ground  # here, because it brings scipy

    label = seen.label if label is None else label
    shown = off_ground(picture, seen.labels == seen.label)
    known = (seen.pose if pose is None else pose).keypoints[0].double().cpu().numpy()
    points = complete(known, shown, label)
    unit = float(np.linalg.norm(points[[5, 6], :2].mean(axis=0) - points[[11, 12], :2].mean(axis=0)))
    if unit < 24:
        raise ImageError(
            f"expected a garment of at least some 100 pixels, got one for a trunk of {unit:.0f}; use a larger picture, "
            "or crop it closer",
            argument="image",
        )
    used = [5, 6, 7, 8, 9, 10, 11, 12] + ([13, 14, 15, 16] if label in (Label.BOTTOM, Label.DRESS) else [])
    low = np.floor(points[used, :2].min(axis=0) - 0.15 * unit).astype(int)
    high = np.ceil(points[used, :2].max(axis=0) + 0.15 * unit).astype(int)
    left, top = (max(0, int(-edge)) for edge in low)
    size = (left + max(picture.width, int(high[0])), top + max(picture.height, int(high[1])))
    ground = _ground_colour(picture, seen.labels)
    whole = Image.new("RGB", size, ground)
    whole.paste(picture.convert("RGB"), (left, top))
    labels = np.zeros((size[1], size[0]), dtype=np.uint8)
    cloth = np.zeros(labels.shape, dtype=bool)
    cloth[top : top + picture.height, left : left + picture.width] = shown
    points[:, :2] += [left, top]
    labels[_bare(points, cloth, unit, label)] = Label.SKIN
    labels[cloth] = label
    placed = Pose(torch.from_numpy(points.astype(np.float32))[None], (size[1], size[0]))
    frame = frame_person(placed, (size[1], size[0]), model.image_size)
    return Photograph(whole, frame, placed, labels, background_of(model), worn=False)


def worn_by_model(garment: Photograph, model: Generator) -> Photograph:
    """Let a neutral person whom the generator draws wear a garment.

    Args:
        garment: Of `photograph_of`.
        model: The generator.

    Returns:
        The person in it, of the generator's size, with pose and labels.

    Raises:
        ConfigError: If the generator draws no labels.
        ImageError: If the garment cannot be laid on a body.
    """
    from styletryon.compositing.blending import compose  # here, because it brings scipy

    if model.num_labels != NUM_LABELS:
        raise ConfigError(
            f"expected a generator that draws {NUM_LABELS} label classes, got {model.num_labels}; use a photograph of "
            "somebody who wears the garment",
            argument="model",
        )
    person = neutral(model)
    layers = compose(person, garment, REGIONS[region_of(worn_label(garment))])
    if layers is None or person.labels is None:
        raise ImageError(
            "expected a garment that can be laid on a body, got one whose shoulders and hips are not seen; spread it "
            "out and show all of it",
            argument="garment",
        )
    return replace(person, picture=layers.laid_over(person.picture), labels=layers.labels_over(person.labels))


def worn_label(garment: Photograph) -> Label:
    """Return what a garment of `photograph_of` is."""
    shown = np.bincount(garment.labels.ravel(), minlength=NUM_LABELS) if garment.labels is not None else np.ones(12)
    return max(GARMENT_CLASSES, key=lambda label: int(shown[label]))


def neutral(model: Generator) -> Photograph:
    """Draw the mean person of a generator, upright, frontal, arms a little away from the body."""
    height, width = model.image_size
    points = np.ones((17, 3), dtype=np.float32)
    points[0, :2], sides = (0.0, 0.177), np.array(_NEUTRAL, dtype=np.float32)
    points[1::2, :2], points[2::2, :2] = sides, sides * [-1, 1]
    points[:, :2] = points[:, :2] * height + [width / 2, 0]
    points[15:, 2] = 0  # ankles are below the frame
    pose = Pose(torch.from_numpy(points)[None], (height, width))
    device = model.w_mean.device
    with torch.no_grad():
        styles = model.affine(model.w_mean[None])
        drawn = model.synthesize(styles, Pose(pose.keypoints.to(device), pose.size))
    picture = to_pil(drawn.image[0].float().clamp(-1, 1))
    labels = drawn.labels[0].cpu().numpy()
    return replace(Photograph.whole(picture), pose=pose, labels=labels)


def complete(points: Array, cloth: NDArray[np.bool_], label: Label) -> Array:
    """Complete the keypoints of an invisible wearer by the proportions of a body.

    Args:
        points: `(17, 3)` as they were found, with scores; `SHOWN` says which are shown.
        cloth: `(H, W)`: which pixels show the garment.
        label: What it is.

    Returns:
        `(17, 3)`: shoulders, hips, arms and legs; those of the head are missing.
    """
    whole = points.astype(np.float64).copy()
    whole[:5, 2] = 0
    _forget_unlikely(whole)
    shown = _shown(whole)
    if label == Label.BOTTOM:
        _trunk_above(whole, cloth, shown)
    else:
        _trunk_below(whole)
    shoulders, hips = whole[[5, 6], :2].mean(axis=0), whole[[11, 12], :2].mean(axis=0)
    unit = float(np.linalg.norm(hips - shoulders))
    down = (hips - shoulders) / max(unit, 1e-6)
    right = np.array([down[1], -down[0]])  # Towards the wearer's left, which is to the right in the picture.
    if label != Label.BOTTOM:
        for elbow, wrist, side in ((7, 9, 1.0), (8, 10, -1.0)):
            if shown[elbow] and whole[wrist, 2] < _SURE_WRIST:  # or the edge of a wide trunk passes for a sleeve
                sleeve = _sleeve(whole[elbow - 2, :2], down, side * right, unit, cloth)
                way = whole[elbow, :2] - whole[elbow - 2, :2]
                likely = shown[wrist] if sleeve is None else _angle(sleeve, way) < _TURNED
                shown[elbow], shown[wrist] = likely, likely and shown[wrist]
    for index, side in ((0, 1.0), (1, -1.0)):
        for (first, second), length in _LIMBS.items():
            start, end = first + index, second + index
            arm = first in (5, 7)
            if shown[end] and not (arm and label == Label.BOTTOM):
                continue
            other = (first + 1 - index, second + 1 - index)
            if shown[list(other)].all() and not (arm and label == Label.BOTTOM):
                seen = whole[other[1], :2] - whole[other[0], :2]  # the other side, mirrored
                whole[end, :2] = whole[start, :2] + (seen @ down) * down - (seen @ right) * right
                whole[end, 2] = _INFERRED
                continue
            if start in (7, 8, 13, 14):
                before = {7: 5, 8: 6, 13: 11, 14: 12}[start]
                way = whole[start, :2] - whole[before, :2]
            elif arm:
                sleeve = _sleeve(whole[start, :2], down, side * right, unit, cloth)
                way = _beside(whole[start, :2], down, side * right, length * unit, cloth) if sleeve is None else sleeve
            else:
                way = down + 0.05 * side * right
                if label == Label.BOTTOM:
                    way = _leg(whole[start, :2], hips, down, side * right, cloth)
            whole[end, :2] = whole[start, :2] + way / max(float(np.linalg.norm(way)), 1e-6) * length * unit
            whole[end, 2] = _INFERRED
    return whole


def _forget_unlikely(points: Array) -> None:
    """Take wrists that are too near to their shoulders for what they are, the ends of short sleeves, in place."""
    unit = float(np.linalg.norm(points[[5, 6], :2].mean(axis=0) - points[[11, 12], :2].mean(axis=0)))
    for shoulder, elbow, wrist in ((5, 7, 9), (6, 8, 10)):
        reach = float(np.linalg.norm(points[wrist, :2] - points[shoulder, :2]))
        if reach < _LEAST_ARM * unit and points[elbow, 2] < _BENT:
            points[wrist, 2] = 0.0


def _shown(points: Array) -> NDArray[np.bool_]:
    """Say which keypoints a garment shows: both sides of it alike, and none beyond one that it does not show."""
    shown = np.zeros(17, dtype=bool)
    for left, least in SHOWN.items():
        shown[[left, left + 1]] = points[[left, left + 1], 2].mean() >= least and points[[left, left + 1], 2].min() > 0
        one_side = points[[left, left + 1], 2] >= 2 * least
        shown[[left, left + 1]] |= one_side & (points[[left, left + 1], 2].min() <= 0)
    for before, after in ((7, 9), (13, 15)):
        shown[[after, after + 1]] &= shown[[before, before + 1]]
    return shown


def _trunk_below(points: Array) -> None:
    """Let the trunk begin at the shoulders that are seen, and be as long as a body's, in place."""
    left, right = points[5, :2], points[6, :2]
    shoulders, wide = (left + right) / 2, float(np.linalg.norm(left - right))
    across = (left - right) / max(wide, 1e-6)
    square = np.array([-across[1], across[0]])
    hips = points[[11, 12], :2].mean(axis=0) - shoulders
    long = float(np.linalg.norm(hips))
    low, high = _TRUNK_BY_SHOULDERS
    middle = shoulders + hips
    if points[[11, 12], 2].min() < 0.25 or not low * wide < long < high * wide or hips @ square < 0.7 * long:
        long = wide / _SHOULDERS
        middle = shoulders + square * long
    for number, side in ((11, 0.5), (12, -0.5)):
        points[number, :2] = middle + side * _HIPS * long * across
    points[[5, 6, 11, 12], 2] = np.maximum(points[[5, 6, 11, 12], 2], _INFERRED)


def _trunk_above(points: Array, cloth: NDArray[np.bool_], shown: NDArray[np.bool_]) -> None:
    """Put a trunk above the hips of trousers or a skirt, in place."""
    left, right = points[11, :2], points[12, :2]
    hips = (left + right) / 2
    across = (left - right) / max(float(np.linalg.norm(left - right)), 1e-6)
    square = np.array([-across[1], across[0]])
    if shown[[13, 14]].all():
        way = points[[13, 14], :2].mean(axis=0) - hips
        down = 0.5 * square + 0.5 * way / max(float(np.linalg.norm(way)), 1e-6)
        down /= np.linalg.norm(down)
    else:
        down = square
    # Half the cloth around the hips is as wide as the trunk is long.
    units = [_width_at(hips, np.array([down[1], -down[0]]), cloth)]
    if shown[[13, 14]].all():
        thigh = float(np.linalg.norm(points[[13, 14], :2].mean(axis=0) - hips))
        units.append(thigh / _LIMBS[11, 13])
    unit = float(np.mean([value for value in units if value > 0] or [1.0]))
    middle = hips - down * unit
    for number, side in ((5, 0.5), (6, -0.5)):
        points[number, :2] = middle + side * _SHOULDERS * unit * np.array([down[1], -down[0]])
    points[[5, 6, 11, 12], 2] = np.maximum(points[[5, 6, 11, 12], 2], _INFERRED)


def _width_at(place: Array, way: Array, cloth: NDArray[np.bool_]) -> float:
    """Return how wide cloth is along a line through a place."""
    steps = np.arange(-max(cloth.shape), max(cloth.shape))
    x, y = (place[:, None] + way[:, None] * steps).astype(int)
    inside = (x >= 0) & (x < cloth.shape[1]) & (y >= 0) & (y < cloth.shape[0])
    hit = steps[inside][cloth[y[inside], x[inside]]]
    return float(np.percentile(hit, 98) - np.percentile(hit, 2)) if len(hit) else 0.0


def _sleeve(shoulder: Array, down: Array, out: Array, unit: float, cloth: NDArray[np.bool_]) -> Array | None:
    """Return the direction of a short sleeve: from the shoulder to the middle of the cloth beside the trunk.

    None where there is no such cloth.
    """
    apart = _sleeve_apart(shoulder, down, out, unit, cloth)
    if apart is not None:
        return apart
    rows, columns = np.nonzero(cloth)
    step = max(1, len(rows) // 20_000)
    offset = np.stack([columns[::step], rows[::step]], axis=-1) - shoulder
    along, beside = offset @ down / unit, offset @ out / unit
    trunk = beside[(along > _CHEST[0]) & (along < _CHEST[1]) & (beside < 0.6)]
    wide = float(np.percentile(trunk, 98)) if len(trunk) > 50 else 0.1
    sleeve = (along > -0.1) & (along < _CHEST[0]) & (beside > max(wide, 0.02) + 0.02)
    if sleeve.sum() <= _LEAST_SLEEVE * len(sleeve):
        return None
    return np.asarray(along[sleeve].mean() * down + beside[sleeve].mean() * out)


def _sleeve_apart(
    shoulder: Array, down: Array, out: Array, unit: float, cloth: NDArray[np.bool_]
) -> Array | None:
    """Return the direction of a sleeve that hangs beside the trunk with ground between them; None if there is none."""
    way = np.arange(-0.35, 0.9, 0.02)
    middles = []
    for along in _BESIDE_TRUNK:
        columns, rows = (shoulder + (along * down + way[:, None] * out) * unit).astype(int).T
        inside = (rows >= 0) & (rows < cloth.shape[0]) & (columns >= 0) & (columns < cloth.shape[1])
        shown = np.zeros(len(way), dtype=bool)
        shown[inside] = cloth[rows[inside], columns[inside]]
        starts = np.flatnonzero(np.diff(shown.astype(int), prepend=0) == 1)
        if len(starts) > 1:  # trunk, ground, sleeve
            sleeve = way[starts[-1] :][: int(np.argmin(np.append(shown[starts[-1] :], False)))]
            middles.append((along, float(sleeve.mean())))
    if len(middles) < len(_BESIDE_TRUNK) // 2:
        return None
    along, beside = np.mean(middles, axis=0)
    return np.asarray(along * down + beside * out)


def _leg(hip: Array, hips: Array, down: Array, out: Array, cloth: NDArray[np.bool_]) -> Array:
    """Return the direction of a leg of which no knee is seen: from the hip to the middle of its side's lower end."""
    rows, columns = np.nonzero(cloth)
    step = max(1, len(rows) // 20_000)
    places = np.stack([columns[::step], rows[::step]], axis=-1)
    along, beside = (places - hips) @ down, (places - hips) @ out
    lower = (along > _LOWER * np.percentile(along, 98)) & (beside > 0) & (along > 0)
    return down if not lower.any() else np.asarray(places[lower].mean(axis=0) - hip)


def _beside(shoulder: Array, down: Array, out: Array, length: float, cloth: NDArray[np.bool_]) -> Array:
    """Return the direction of an arm without a sleeve: as far from the trunk as it takes to lie beside the cloth."""
    steps = np.linspace(0.3, 1.0, 15)[:, None] * length
    for angle in (*_ARM, np.pi / 2):
        way = np.asarray(np.cos(angle) * down + np.sin(angle) * out)
        columns, rows = (shoulder + steps * way).astype(int).T
        inside = (rows >= 0) & (rows < cloth.shape[0]) & (columns >= 0) & (columns < cloth.shape[1])
        if cloth[rows[inside], columns[inside]].sum() < _ON_CLOTH * len(steps):
            break
    return way


def _angle(one: Array, other: Array) -> float:
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(np.arccos(np.clip(one @ other / max(lengths, 1e-6), -1, 1)))


def _bare(points: Array, cloth: NDArray[np.bool_], unit: float, label: Label) -> NDArray[np.bool_]:
    """Say where the limbs of an invisible wearer are bare."""
    from scipy import ndimage  # here, because it costs more to import than all else

    drawn = Image.new("L", cloth.shape[::-1])
    draw = ImageDraw.Draw(drawn)
    arms = [(5, 7), (7, 9), (6, 8), (8, 10)] if label != Label.BOTTOM else []
    legs = [(11, 13), (13, 15), (12, 14), (14, 16)] if label in (Label.BOTTOM, Label.DRESS) else []
    for start, end in arms + legs:
        line = [tuple(points[start, :2]), tuple(points[end, :2])]
        draw.line(line, fill=1, width=max(1, round(_BARE * unit)))
    away = ndimage.distance_transform_edt(~cloth) > _GAP * unit
    return np.asarray((np.asarray(drawn) > 0) & away)


def _ground_colour(picture: Image.Image, labels: NDArray[np.uint8]) -> tuple[int, int, int]:
    pixels = np.asarray(picture.convert("RGB"))[labels == Label.BACKGROUND]
    if not len(pixels):
        return (200, 200, 200)
    red, green, blue = (int(value) for value in np.median(pixels[:: max(1, len(pixels) // 20_000)], axis=0))
    return (red, green, blue)


_NEUTRAL = (
    (0.025, 0.154), (0.052, 0.160), (0.102, 0.279), (0.135, 0.467), (0.150, 0.620), (0.055, 0.603), (0.066, 0.897),
    (0.070, 1.180),
)  # fmt: skip
"""Left eye, ear, shoulder, elbow, wrist, hip, knee and ankle of a neutral person: beside the middle, and down, in
heights of the picture."""
