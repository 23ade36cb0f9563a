"""Correspondence: where each pixel of a person finds its own in the photograph of the garment's wearer.

The trunk and each limb have a map of their own. Along it, lengths are the body's. Across it, they are the old garment's
and the new one's widths, so that the new garment fits the body as the old one does. Near joints the maps are mixed
(linear blend skinning).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from styletryon.compositing.skeleton import (
    COVERED,
    LIMBS,
    OTHER_SIDE,
    TRUNK_BONE,
    UPPER,
    Bone,
    Part,
    distances,
    parts_of,
    sleeves,
)
from styletryon.compositing.view import Mask, Points, View, closed
from styletryon.labels import Label

_BLEND = 0.05  # Over what distance one part's say passes to another's, in lengths of the trunk.
_BINS, _FROM, _TO = 40, -0.4, 1.6  # Pieces of a part in which widths are measured, and from where to where they reach.
CENTRES = _FROM + (np.arange(_BINS) + 0.5) * (_TO - _FROM) / _BINS
_LEAST_PIXELS = 0.01  # Of a row of cloth, in lengths of the trunk, for a width to be measured.
_LOOSER = 1.6  # A new garment that is wider or narrower than the old one by more than this keeps its own width.
_BARE_LOOSER = 3.0  # Bare limbs are as wide as the person's: one within a loose sleeve is drawn as wide as that.
_EVEN = {True: 1.5, False: 5.0}  # How evenly that ratio goes down a trunk (True) or limb, in pieces.
_OWN_WIDTH = 0.005  # The weight of a garment's own width in it, which counts where no old one is.
_FLAT = {True: 1.2, False: 1.4}  # A trunk (True) or limb that lies flat is so many times as wide as it is worn.
_SHOULDERS = 0.08  # The trunk is as wide as its shoulders down to here.
_STRETCHED_FROM = 0.25  # A garment that ends higher than the old one is drawn longer, from here on.
_LEAST_STRETCH = 0.25
_LENGTHENED = 0.95  # What is drawn longer by less than this ends where its own hem does.
_AT_SHOULDER = 0.3  # So far down the upper arm cloth may be the trunk's.
_HEM = 0.04  # Cloth this near to its hem is not drawn out: there it is mixed with what lies below.

_HIDES = frozenset({Label.HAIR, Label.SKIN, Label.FACE, Label.ACCESSORY})
"""What may lie before a garment in its own photograph."""

_DRAPES = frozenset({Label.HAIR, Label.ACCESSORY})
"""What may lie before a garment and beside it."""


@dataclass(frozen=True, eq=False)
class Correspondence:
    """Where each pixel of the person's view lies in the garment's.

    Attributes:
        places: `(h, w, 2)` in pixels of the garment's view.
        owner: `(h, w)`: which part each pixel belongs to, an index of `bones`.
        bones: The names of the parts.
        person: The parts of the person.
        along: `(h, w)`: how far down the trunk each pixel lies, 0 at the shoulders and 1 at the hips.
        across: `(h, w)`: how far beside the trunk's axis, in half widths of the shoulders.
        nearest: `(h, w)`: how far each pixel lies from its part, in lengths of the trunk.
        inside: `(h, w)`: whether its place is in the garment's view.
        ends: Bone -> how far along it the new garment goes; see `sleeves`.
        longer: The limbs along which the new garment goes farther than the old one.
        worn: `(h', w')` of the garment's view: what shows the garment, and what certainly hides it.
        unknown: `(h', w')`: what hides the garment or what lies beside it; nobody knows which.
        seen: `(h', w')`: what shows it.
        same: `(h, w)`: whether the place of each pixel belongs to the same part of the wearer's body, or to the trunk
            beside the shoulder.
        reach: Bone -> how far from the axis of a limb its sleeve or leg goes at most, in pixels of the person's view.
        lengthened: Whether the garment is drawn longer than its photograph shows it.
        wearer: The parts of the garment's wearer.
        their_owner: `(h', w')`: which part each pixel of the garment's view belongs to.
        weights: `(parts, h, w)`: how much say the map of each part has.
    """

    places: Points
    owner: NDArray[np.int64]
    bones: tuple[Bone, ...]
    person: Mapping[Bone, Part]
    along: NDArray[np.float64]
    across: NDArray[np.float64]
    nearest: NDArray[np.float64]
    inside: Mask
    ends: Mapping[Bone, float]
    longer: frozenset[Bone]
    worn: Mask
    unknown: Mask
    seen: Mask
    same: Mask
    reach: Mapping[Bone, float]
    lengthened: bool
    wearer: Mapping[Bone, Part]
    their_owner: NDArray[np.int64]
    weights: NDArray[np.float64]

    def owned(self, *, trunk: bool = False, arms: bool = False, legs: bool = False) -> Mask:
        """Say which pixels belong to the trunk, the arms or the legs."""
        chosen = [
            index
            for index, bone in enumerate(self.bones)
            if (trunk if bone == TRUNK_BONE else arms if self.person[bone].is_arm else legs)
        ]
        return np.isin(self.owner, chosen)


def correspond(person: View, garment: View, old: Mask, seen: Mask, *, legs: bool) -> Correspondence:
    """Find where the pixels of a person lie in the photograph of a garment.

    Args:
        person: The person.
        garment: The garment's wearer.
        old: `(h, w)`: what shows the person's old garment.
        seen: `(h', w')`: what shows the new one.
        legs: Whether the garments cover legs. One that does not, and whose hem lies higher than the old one's, is drawn
            longer: what would be uncovered below it is in no photograph.
    """
    ours, theirs = parts_of(person, legs=legs), parts_of(garment, legs=legs)
    their_ends = sleeves(theirs, garment, seen)
    theirs, ends = _with_other_side(theirs, their_ends)
    ours = {bone: part for bone, part in ours.items() if bone in theirs}
    theirs = {bone: theirs[bone] for bone in ours}
    our_ends = sleeves(ours, person, old)
    apart = distances(ours, person, old, our_ends, ends)
    their_owner = distances(theirs, garment, seen, their_ends, their_ends).argmin(axis=0)
    owner = apart.argmin(axis=0)
    worn = _behind_what_hides(garment, theirs, seen, their_owner == 0)
    scale, between = garment.unit / person.unit, _between_shins(theirs, seen)
    maps, stretches, reach = [], [], {}
    for index, (bone, part) in enumerate(ours.items()):
        other = theirs[bone]
        widths = widths_of(part, person, old & (owner == index))
        target = widths_of(other, garment, worn & (their_owner == stands_in(theirs, bone)))
        stretch = _stretch(part, other, person, garment, old & (owner == 0), worn & (their_owner == 0))
        stretches.append(1.0 if legs else stretch)
        full = 1.0 if garment.worn else _FLAT[part.is_trunk]
        if part.is_arm or not (part.is_trunk or between):
            reach[bone] = _free_width(target) / scale / full
        maps.append(_mapped(part, other, person.pixels, widths, target, scale, stretches[-1], full))
    weights = np.exp(-apart / _BLEND)
    places = _mixed(maps, weights)
    height, width = garment.shape
    trunk = ours[TRUNK_BONE]
    along, across = trunk.locate(person.pixels)
    return Correspondence(
        places=places,
        owner=owner,
        bones=tuple(ours),
        person=ours,
        along=along,
        across=across / person.half_width,
        nearest=apart.min(axis=0),
        inside=(places >= 0).all(axis=-1) & (places[..., 0] <= width) & (places[..., 1] <= height),
        ends={bone: COVERED if ends[bone] is None else float(ends[bone] or 0.0) for bone in ours if bone in ends},
        longer=frozenset(bone for bone in ours if _goes(ends.get(bone)) > _goes(our_ends.get(bone)) + 0.1),
        worn=worn,
        unknown=garment.shows(_DRAPES) & ~worn,
        seen=seen,
        same=_same_part(ours, theirs, person, garment, owner, their_owner, places),
        reach=reach,
        lengthened=stretches[0] < _LENGTHENED,
        wearer=theirs,
        their_owner=their_owner,
        weights=weights,
    )


def bare_places(found: Correspondence, person: View, garment: View, ours: Mask, theirs: Mask) -> Points:
    """Find where bare skin lies in the garment's view: across limbs, lengths are those of their own widths.

    Args:
        found: The correspondence of the clothes, whose lengths across are those of sleeves.
        person: The person.
        garment: The garment's wearer.
        ours: `(h, w)`: what shows bare skin of the person.
        theirs: `(h', w')`: what shows the wearer's.

    Returns:
        `(h, w, 2)` in pixels of the garment's view.
    """
    scale = garment.unit / person.unit
    maps, weights = [], found.weights.copy()
    for index, bone in enumerate(found.bones):
        part, other = found.person[bone], found.wearer[bone]
        if part.is_trunk:
            maps.append(found.places)
            continue
        owned = found.owner == index
        widths = widths_of(part, person, ours & owned)
        target = widths_of(other, garment, theirs & (found.their_owner == stands_in(found.wearer, bone)))
        maps.append(
            _mapped(part, other, person.pixels, widths, target, scale, 1.0, 1.0, looser=_BARE_LOOSER, even=_EVEN[True])
        )
        below = part.locate(person.pixels)[0] / _AT_SHOULDER if bone not in UPPER else np.ones_like(found.along)
        weights[0] *= np.where(owned, 1 - below.clip(0, 1), 1.0)  # The trunk beside a bare limb moves none of it.
    return _mixed(maps, weights)


def _mixed(maps: Sequence[Points], weights: NDArray[np.floating[Any]]) -> Points:
    """Return the mean of maps `(h, w, 2)` by weights `(maps, h, w)`."""
    places = np.zeros_like(maps[0])
    for weight, one in zip(weights / weights.sum(axis=0), maps, strict=True):
        for axis in (0, 1):
            places[..., axis] += weight * one[..., axis]
    return places


def stands_in(wearer: Mapping[Bone, Part], bone: Bone) -> int:
    """Return the index of the part whose widths a part has: a limb in the place of the other side's has that one's."""
    mirrored = wearer[bone].side < 0 and OTHER_SIDE[bone] in wearer
    return list(wearer).index(OTHER_SIDE[bone] if mirrored else bone)


def _goes(end: float | None) -> float:
    """Return how far along a limb a garment goes that ends there, in [0, 1]; one that is not seen goes on."""
    return 1.0 if end is None else min(max(end, 0.0), 1.0)


def _same_part(
    ours: Mapping[Bone, Part],
    theirs: Mapping[Bone, Part],
    person: View,
    garment: View,
    owner: NDArray[np.int64],
    their_owner: NDArray[np.int64],
    places: Points,
) -> Mask:
    columns, rows = places.astype(int).transpose(2, 0, 1)
    rows, columns = rows.clip(0, garment.shape[0] - 1), columns.clip(0, garment.shape[1] - 1)
    there = their_owner[rows, columns]
    same = np.ones(person.shape, dtype=bool)
    bones = list(ours)
    at_shoulder = np.zeros(garment.shape, dtype=bool)
    for index, (bone, part) in enumerate(theirs.items()):
        if part.is_arm and bone not in UPPER:
            at_shoulder |= (their_owner == index) & (part.locate(garment.pixels)[0] < _AT_SHOULDER)
    for index, (bone, part) in enumerate(ours.items()):
        if part.is_trunk:
            same &= (owner != index) | np.isin(there, [0, *_legs(bones)]) | at_shoulder[rows, columns]
        if not part.is_arm:
            continue
        side = OTHER_SIDE[bone] if theirs[bone].side < 0 else bone
        limb = {side, UPPER.get(side, side), *(lower for lower, upper in UPPER.items() if upper == side)}
        along, _ = part.locate(person.pixels)
        fits = np.isin(there, [bones.index(b) for b in limb if b in bones])
        same &= (owner != index) | fits | ((bone not in UPPER) & (along < _AT_SHOULDER))
    return same


def _between_shins(wearer: Mapping[Bone, Part], seen: Mask) -> bool:
    """Say whether cloth hangs between the shins, as that of a skirt does."""
    shins = [part for bone, part in wearer.items() if bone in UPPER and not part.is_arm]
    if len(shins) < 2:
        return True
    x, y = np.mean([0.5 * (part.start + part.end) for part in shins], axis=0).astype(int)
    return bool(seen[y.clip(0, seen.shape[0] - 1), x.clip(0, seen.shape[1] - 1)])


def _legs(bones: list[Bone]) -> list[int]:
    """Return the indices of the legs."""
    return [index for index, bone in enumerate(bones) if bone != TRUNK_BONE and bone not in LIMBS[:4]]


def _with_other_side(
    parts: Mapping[Bone, Part], ends: Mapping[Bone, float | None]
) -> tuple[dict[Bone, Part], dict[Bone, float | None]]:
    """Let a limb whose sleeve is not seen be the mirror image of the other side's."""
    whole, reach = dict(parts), dict(ends)
    for bone, other in OTHER_SIDE.items():
        if ends.get(bone) is None and ends.get(other) is not None:
            whole[bone] = replace(parts[other], bone=bone, side=-1.0)
            reach[bone] = ends[other]
    return whole, reach


def _behind_what_hides(garment: View, parts: Mapping[Bone, Part], seen: Mask, on_trunk: Mask) -> Mask:
    """Add to a garment what the wearer's hair, arms and bag hide of it."""
    unit, hides = garment.unit, garment.shows(_HIDES) & ~seen
    worn = seen | ((closed(seen, 0.05 * unit) | np.asarray(ndimage.binary_fill_holes(seen))) & hides)
    trunk = parts[TRUNK_BONE]
    widths = widths_of(trunk, garment, seen & on_trunk)
    if not np.isfinite(widths).any(axis=1).all():
        return np.asarray(worn)
    # Where an arm or a bag lies before it, the trunk is as wide as above and below.
    known = np.stack([np.interp(CENTRES, CENTRES[np.isfinite(row)], row[np.isfinite(row)]) for row in widths])
    known = ndimage.gaussian_filter1d(ndimage.percentile_filter(known, 75, size=(1, 9)), 1.0, axis=1)
    along, across = trunk.locate(garment.pixels)
    hem = _hem(trunk, garment, seen & on_trunk)
    limit = _looked_up(known, along, across)
    return np.asarray(worn | (hides & (along > 0.2) & (along < hem) & (np.abs(across) < 0.95 * limit)))


def _hem(trunk: Part, view: View, cloth: Mask) -> float:
    """Return how far down the trunk a garment goes."""
    along, _ = trunk.locate(view.pixels[cloth])
    return float(np.percentile(along, 97)) if len(along) > 50 else 1.0


def _stretch(part: Part, other: Part, person: View, garment: View, old: Mask, new: Mask) -> float:
    """Return how much of the new garment's length a length of the old one's shows, below `_STRETCHED_FROM`."""
    if not part.is_trunk or min(int(old.sum()), int(new.sum())) <= 50:
        return 1.0
    ours, theirs = _hem(part, person, old), _hem(other, garment, new)
    ratio = (theirs - _STRETCHED_FROM) / max(ours - _STRETCHED_FROM, 0.05)
    inner = theirs - _HEM * float(np.clip((1 - ratio) / 0.1, 0, 1))
    return min(1.0, max((inner - _STRETCHED_FROM) / max(ours - _STRETCHED_FROM, 0.05), _LEAST_STRETCH))


def widths_of(part: Part, view: View, cloth: Mask) -> NDArray[np.float64]:
    """Return how wide cloth is on both sides of a part, `(2, bins)` in pixels; NaN where there is none."""
    along, across = part.locate(view.pixels[cloth])
    bins = ((along - _FROM) / (_TO - _FROM) * _BINS).astype(int)
    found = np.full((2, _BINS), np.nan)
    for index in range(_BINS):
        row = across[bins == index]
        if len(row) >= max(3.0, _LEAST_PIXELS * view.unit):
            low, high = np.percentile(row, (2, 98))
            found[:, index] = max(1e-3, -low), max(1e-3, high)
    return found


def _free_width(widths: NDArray[np.float64]) -> float:
    """Return how wide a sleeve is on the side where it touches nothing: the side on which it is narrower."""
    within = widths[:, (CENTRES > 0) & (CENTRES < 1)]
    known = within[:, np.isfinite(within).all(axis=0)]
    return float(np.percentile(known.min(axis=0), 90)) if known.size else np.inf


def _mapped(
    part: Part,
    other: Part,
    pixels: Points,
    widths: NDArray[np.float64],
    target: NDArray[np.float64],
    scale: float,
    stretch: float,
    full: float,
    looser: float = _LOOSER,
    even: float | None = None,
) -> Points:
    """Map pixels by one part; cloth of the garment is `full` times as wide as a body of its size would show it."""
    along, across = part.locate(pixels)
    beyond = _drawn_out(CENTRES, stretch)
    wanted = np.stack([np.interp(beyond, CENTRES, np.where(np.isfinite(row), row, -1.0)) for row in target])
    wanted[wanted < 0] = np.nan
    ratio = wanted / (widths * scale)
    known = np.isfinite(ratio) & (ratio > full / looser) & (ratio < full * looser)
    value, weight = np.where(known, ratio, 0.0), known.astype(np.float64)
    if part.is_trunk:
        pinned = CENTRES < 2 * _SHOULDERS
        value[:, pinned], weight[:, pinned] = 0.0, 0.0
        pinned = CENTRES < _SHOULDERS
        value[:, pinned], weight[:, pinned] = other.radius / part.radius / scale, 1.0
    value, weight = (ndimage.gaussian_filter1d(row, even or _EVEN[part.is_trunk], axis=1) for row in (value, weight))
    smooth = (value + _OWN_WIDTH * full) / (weight + _OWN_WIDTH)
    moved = across * scale * _looked_up(smooth, along, across)
    if part.is_trunk:
        return other.place(_drawn_out(along, stretch), moved)
    # Bones are as long as the pictures show them; beyond their ends, lengths keep the body's scale.
    within = along.clip(0, 1)
    return other.place(within + (along - within) * part.length * scale / other.length, moved)


def _drawn_out(along: NDArray[np.floating[Any]], stretch: float) -> NDArray[np.floating[Any]]:
    return np.where(along <= _STRETCHED_FROM, along, _STRETCHED_FROM + (along - _STRETCHED_FROM) * stretch)


def _looked_up(
    rows: NDArray[np.float64], along: NDArray[np.floating[Any]], across: NDArray[np.floating[Any]]
) -> NDArray[np.floating[Any]]:
    """Look up `(2, bins)` at places along and across a part."""
    at = ((along - _FROM) / (_TO - _FROM) * _BINS - 0.5).clip(0, _BINS - 1)
    low = at.astype(np.intp).clip(0, _BINS - 2)
    share, known = at - low.astype(at.dtype), rows.astype(at.dtype).ravel()
    low += _BINS * (across > 0)
    return np.asarray(known[low] * (1 - share) + known[low + 1] * share)
