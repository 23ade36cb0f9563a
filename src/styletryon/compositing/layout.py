"""Layout: what each pixel of a try-on shows, before any pixel is made. No pixel of the old garment is left without."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from styletryon.compositing.correspondence import CENTRES, Correspondence, stands_in, widths_of
from styletryon.compositing.hems import below_hem
from styletryon.compositing.skeleton import COVERED, TRUNK_BONE, UPPER, Bone, Part
from styletryon.compositing.sources import look_up
from styletryon.compositing.view import FRONT, LEAST_SCORE, Mask, View, apart, blurred, grown, largest, reached, shrunk
from styletryon.labels import GARMENTS, Label, replaced_classes

_OUTLINE = 0.02  # How much outlines are smoothed, in lengths of the trunk.
_SLIVER = 0.07  # What the old garment shows beside the new one, up to this far, is covered by it.
_HALO = 0.012  # How far the old garment's colours reach beyond its labels.
_SHOULDERS = 0.4  # How far down the trunk shoulders may be bare.
_SHADOW = 0.035  # How far the old garment's shadow falls on the skin beside it, in lengths of the trunk.
_GLOW = 0.025  # How far its colours shine onto the skin of the neck.
_COLLAR = 0.1  # How high a collar stands above the shoulders, and how far below them it goes around the neck.
_NECK, _THICK = 0.45, 0.03  # How wide the neck is in half widths of the shoulders; how thick cloth on them is.
_NECKLINE = 0.6  # How far down the trunk necklines go.
_ARMS = 1.4  # Farther from the trunk's axis than so many half widths of the shoulders there are arms alone.
_MIXED = 0.008  # How far the old garment's colours reach into skin before it.
_CUFF = 0.06  # How far beyond its sleeve's end, along the bone, a new garment may reach.
_ANKLE = 1.08  # How far along shins trousers go.
_SLEEVELESS = 0.25  # A garment that ends before this much of the upper arm has no sleeves.
_LOOSE, _SLACK = 1.3, 0.03  # How much wider than its photograph's a sleeve may be, and in lengths of the trunk.
_REACH = {"trunk": 0.4, "arm": 0.22, "leg": 0.35}
"""How far from the parts of the body a new garment may reach, in lengths of the trunk."""
_HIPS = 0.12  # The same of a bottom at the hips.
_HAND, _PALM = 0.4, 0.1  # How far a hand reaches beyond its wrist, and to its sides.
_RADII = {True: (0.11, 0.095, 0.08, 0.05), False: (0.16, 0.145, 0.13, 0.1)}
"""Of bare arms (True) and legs: at the start and end of the upper, and of the lower limb, in lengths of the trunk."""
_BODY = 0.9  # How wide a body is under clothes at least, in half widths of the shoulders.
_AS_WIDE = 1.05  # How much wider than where they are seen clothes go on.
_HOLE = 0.08  # The side of the least hole in cloth, in lengths of the trunk.
_WIDER = 0.05  # So far from bare skin a limb goes on as wide as it is there.
_WEARER, _USUAL, _EVEN = 0.2, 0.02, 2.0
"""What the wearer's and the usual width of a limb count beside the person's own; how evenly widths go, in pieces."""
_STOUT = 2.0  # How much stouter or slimmer than usual a wearer's limb may be.
_WAIST, _BELT = 0.7, 0.25  # Where belts lie down the trunk, and how high they are.
_SPECK = 0.06  # The side of the least thing that stays before a garment, in lengths of the trunk.

_UPPER = frozenset({Label.TOP, Label.OUTERWEAR, Label.DRESS})
"""What has sleeves."""


@dataclass(frozen=True, eq=False)
class Layout:
    """What each pixel of the person's view shows; every mask is `(h, w)` bool, and no two of them meet.

    Attributes:
        cloth: The new garment.
        skin: Skin that is uncovered.
        own: Clothes of the person that are uncovered.
        background: Background that is uncovered.
        front: What lies before the new garment.
    """

    cloth: Mask
    skin: Mask
    own: Mask
    background: Mask
    front: Mask

    @property
    def changed(self) -> Mask:
        """Every pixel that does not stay as it is."""
        return np.asarray(self.cloth | self.skin | self.own | self.background)


def lay_out(person: View, garment: View, found: Correspondence, old: Mask, region: Collection[Label]) -> Layout:
    """Say what each pixel of a try-on shows.

    Args:
        person: The person.
        garment: The garment's wearer.
        found: Where the pixels of one lie in the other.
        old: What shows the person's old garment.
        region: The label classes that change.
    """
    upper = bool(_UPPER & set(region))
    trunk = found.owned(trunk=True)
    top = old if upper else person.shows({Label.TOP, Label.OUTERWEAR})
    beneath = below_hem(found.person[TRUNK_BONE], person, top & trunk) & trunk
    below = beneath if Label.BOTTOM not in region else np.zeros_like(old)
    beyond = _beyond_sleeves(person, found)
    within = _within_sleeves(person, found, arms=upper) & ~beyond
    new = _outline(person, garment, found, old, below, upper=upper)
    front = _front(person, garment, found, old, new | within, region)
    new &= ~front
    neck, limbs = _neck(person, found, new, person.unit), _limbs(person, garment, found)
    core = (old | (within & person.shows({Label.SKIN}))) & ~front & ~below
    cloth = new | (core & _covered(garment, found, new, neck, limbs, beyond, person.unit))
    cloth = _without_holes(cloth, neck, _HOLE * person.unit)
    cloth = (blurred(cloth, _OUTLINE * person.unit) > 0.5) & ~front
    neckline = _neckline(garment, found)
    cloth = largest(cloth & ~neckline)
    uncovered = grown(old, max(1.0, _HALO * person.unit)) & ~cloth & ~front
    skin = uncovered & (neckline | _skin(person, garment, found, old, neck, limbs, beyond))
    own = uncovered & ~skin & _beside_clothes(person, found, replaced_classes(region))
    if not upper:  # Below its hem no top goes on.
        own &= ~beneath
    background = uncovered & ~skin & ~own
    skin |= _shaded(person, found, skin & old) & ~cloth
    return Layout(cloth, skin, own & ~skin, background & ~skin, front & ~skin)


def _outline(person: View, garment: View, found: Correspondence, old: Mask, below: Mask, *, upper: bool) -> Mask:
    """Say where the new garment lies by its own outline."""
    new = _new(person, found, old, below, person.unit) & ~_gaps(person, found)
    if not upper:
        new &= old | ~found.owned(arms=True)
        new &= (found.nearest < _HIPS) | ~found.owned(trunk=True) | old
        if garment.worn:  # Hands in pockets push trousers outwards.
            new = largest(new & (old | ~_at_hands(garment, found)))
    else:
        new &= ~_above_shoulders(person, found)
    if not garment.worn:  # What lies above the shoulders is a hood or the inner back, which hang behind a neck.
        new &= (found.along > -_COLLAR) | (np.abs(found.across) > _ARMS)
    return new


def _above_shoulders(person: View, found: Correspondence) -> Mask:
    """Say what lies above the shoulders, beside the neck: cloth lies on them and stands up at the neck alone."""
    body = ~person.shows({Label.BACKGROUND, Label.HAIR})
    beside = (np.abs(found.across) > _NECK) & (found.along < _COLLAR)
    return np.asarray(beside & (apart(body) > _THICK * person.unit))


def _covered(
    garment: View, found: Correspondence, new: Mask, neck: Mask, limbs: Mask, beyond: Mask, unit: float
) -> Mask:
    """Say where the new garment covers what its outline does not reach.

    No skin can be there, or the garment's photograph does not show how far it reaches.
    """
    columns, rows = found.places.astype(int).transpose(2, 0, 1)
    shown = garment.labels[rows.clip(0, garment.shape[0] - 1), columns.clip(0, garment.shape[1] - 1)]
    hidden = np.isin(shown, (Label.HAIR, Label.ACCESSORY)) | ~found.inside
    return (_beside(found, new, unit) | _trunk(found) | (hidden & ~beyond)) & ~neck | (limbs & ~beyond)


def _skin(
    person: View, garment: View, found: Correspondence, old: Mask, neck: Mask, limbs: Mask, beyond: Mask
) -> Mask:
    """Say where skin is, of what the new garment does not cover."""
    theirs = look_up(blurred(garment.shows({Label.SKIN}), 1.0), found.places) * found.inside > 0.5
    skin = neck | _bare(person, found, beyond & old, limbs) | person.shows({Label.SKIN, Label.FACE})
    skin |= old & (found.along < _SHOULDERS) & theirs
    return np.asarray(blurred(skin, _OUTLINE * person.unit) > 0.5)


def _shaded(person: View, found: Correspondence, bared: Mask) -> Mask:
    """Say which of the person's skin lies in the old garment's shadow, or at the neck in its light."""
    reach, glow = _SHADOW * person.unit, _GLOW * person.unit
    near = apart(shrunk(bared, reach)) < 2 * reach  # Narrow rims cast no shadow.
    near |= apart(bared & found.owned(trunk=True) & (found.along < _SHOULDERS)) < glow
    return person.shows({Label.SKIN}) & near


def _new(person: View, found: Correspondence, old: Mask, below: Mask, unit: float) -> Mask:
    """Say where the new garment lies, as its photograph has its outline; where that is hidden, as the old one has."""
    share = look_up(blurred(found.worn, 0.7), found.places) * found.inside
    hidden = look_up(found.unknown.astype(np.float32), found.places) * found.inside > 0.5
    new = ((blurred(share, 0.5 * _OUTLINE * unit) > 0.5) | (hidden & old)) & found.same
    if found.lengthened:  # It ends where the old garment does.
        new &= ~below
    for index, bone in enumerate(found.bones):
        along, across = found.person[bone].locate(person.pixels)
        owned = found.owner == index
        end = found.ends.get(bone, COVERED)
        if bone in UPPER:  # No sleeve goes beyond the wrist, and no trousers far beyond the ankle.
            end = min(end, 1.0 if found.person[bone].is_arm else _ANKLE)
        if end < COVERED:
            new &= ~(owned & (along > end + _CUFF))
        if bone in found.reach:
            new &= ~(owned & ~old & (np.abs(across) > _LOOSE * found.reach[bone] + _SLACK * unit))
    for limit, owned in (
        (_REACH["trunk"], found.owned(trunk=True)),
        (_REACH["arm"], found.owned(arms=True)),
        (_REACH["leg"], found.owned(legs=True)),
    ):
        new &= ~owned | (found.nearest < limit)
    return largest(np.asarray(new))


def _front(
    person: View, garment: View, found: Correspondence, old: Mask, new: Mask, region: Collection[int]
) -> Mask:
    """Say what stays before the new garment: face and hair, hands, bare arms, and a top over new trousers."""
    # A rim of the skin has colours of the old garment in it.
    skin, arms = person.shows({Label.SKIN}) & ~grown(old, _MIXED * person.unit), found.owned(arms=True)
    front = person.shows(FRONT - {Label.ACCESSORY}) | _carried(person, found, new)
    for elbow, wrist in ((7, 9), (8, 10)):
        if min(person.points[elbow, 2], person.points[wrist, 2]) > LEAST_SCORE:
            forearm = person.points[wrist, :2] - person.points[elbow, :2]
            offset = person.pixels - person.points[wrist, :2]
            beyond = offset @ (forearm / max(float(np.linalg.norm(forearm)), 1e-6))
            near = np.hypot(offset[..., 0], offset[..., 1]) < _HAND * person.unit
            front |= skin & arms & near & (beyond > -0.03 * person.unit)
            side = np.abs(offset @ np.array([-forearm[1], forearm[0]])) / max(float(np.linalg.norm(forearm)), 1e-6)
            front |= skin & near & (beyond > 0) & (side < _PALM * person.unit)  # Fingers before a thigh.
    front |= skin & arms & ~new
    if not _UPPER & set(region):
        front |= person.shows({Label.TOP, Label.OUTERWEAR})
    front = _without_specks(blurred(front, 0.005 * person.unit) > 0.5, person.unit)
    if not garment.worn:  # The neck, behind which its inner back hangs.
        front |= person.shows({Label.SKIN}) & ~old & found.owned(trunk=True) & (found.along < _COLLAR)
    return front


def _gaps(person: View, found: Correspondence) -> Mask:
    """Say where one sees through between an arm and the trunk: a garment leaves that open."""
    body = ~person.shows({Label.BACKGROUND})
    pieces, count = ndimage.label(ndimage.binary_fill_holes(body) & ~body)
    if not count:
        return np.zeros_like(body)
    numbers = np.arange(1, count + 1)
    large = ndimage.sum_labels(body == 0, pieces, numbers) > (_HOLE * person.unit) ** 2
    return np.asarray(np.isin(pieces, numbers[large & (ndimage.median(found.along, pieces, numbers) < 1)]))


def _at_hands(garment: View, found: Correspondence) -> Mask:
    """Say what lies at the wearer's hands."""
    near = np.zeros(garment.shape, dtype=bool)
    for wrist in garment.points[[9, 10]]:
        if wrist[2] > LEAST_SCORE:
            offset = garment.pixels - wrist[:2]
            near |= np.hypot(offset[..., 0], offset[..., 1]) < _HAND * garment.unit
    return np.asarray(look_up(near.astype(np.float32), found.places) > 0.5)


def _without_specks(mask: Mask, unit: float) -> Mask:
    """Leave out pieces of a mask that are too small to be anything."""
    pieces, _ = ndimage.label(mask)
    sizes = np.bincount(pieces.ravel())
    return np.asarray(mask & (sizes[pieces] >= (_SPECK * unit) ** 2))


def _carried(person: View, found: Correspondence, new: Mask) -> Mask:
    """Say which accessories stay before the garment: not specks, and no belt that the new garment hangs over."""
    carried = person.shows({Label.ACCESSORY})
    pieces, count = ndimage.label(carried)
    for index in range(1, count + 1):
        piece = pieces == index
        low, high = np.percentile(found.along[piece], (5, 95))
        belt = low > _WAIST and high - low < _BELT and float(new[piece].mean()) > 0.3
        if belt or int(piece.sum()) < (_SPECK * person.unit) ** 2:
            carried &= ~piece
    return carried


def _neck(person: View, found: Correspondence, new: Mask, unit: float) -> Mask:
    """Say where a neckline shows skin."""
    worn = look_up(found.worn.astype(np.float32), found.places) > 0.5
    neck = found.owned(trunk=True) & (found.along < 0.5) & (np.abs(found.across) < 0.5) & ~worn & ~new
    neck &= apart(person.shows({Label.SKIN, Label.FACE})) < person.from_background
    return np.asarray(ndimage.binary_opening(neck, iterations=max(1, round(0.02 * unit))))


def _neckline(garment: View, found: Correspondence) -> Mask:
    """Say what the garment's neckline shows of its wearer, sharply: a smoothed neckline has no point."""
    along, across = found.wearer[TRUNK_BONE].locate(garment.pixels)
    skin = garment.shows({Label.SKIN}) & (found.their_owner == found.bones.index(TRUNK_BONE))
    bare = reached(skin, skin & (along < 0) & (np.abs(across) < garment.half_width))  # Hands are none.
    upper = found.owned(trunk=True) & (found.along < _NECKLINE) & (np.abs(found.across) < 1) & found.inside
    return np.asarray(upper & (look_up(blurred(bare, 0.7), found.places) > 0.5))


def _beside(found: Correspondence, new: Mask, unit: float) -> Mask:
    """Say where only a sliver of the old garment would show beside the new one."""
    reach = np.where(found.owned(arms=True), _SLIVER / 2, _SLIVER) * unit
    # Of a shorter sleeve that flares, nothing is left beside a longer one.
    reach[np.isin(found.owner, [index for index, bone in enumerate(found.bones) if bone in found.longer])] = 0
    return np.asarray(apart(new) < reach)


def _trunk(found: Correspondence) -> Mask:
    """Say where the trunk is covered whatever the garment's outline."""
    return np.asarray(found.owned(trunk=True) & (found.along > 0.3) & (np.abs(found.across) < _BODY))


def _beyond_sleeves(person: View, found: Correspondence) -> Mask:
    """Say where limbs lie beyond the ends of the new garment's sleeves or legs."""
    beyond = np.zeros(person.shape, dtype=bool)
    for index, bone in enumerate(found.bones):
        if bone in found.ends:
            along, _ = found.person[bone].locate(person.pixels)
            sleeveless = found.person[bone].is_arm and found.ends[bone] < _SLEEVELESS
            beyond |= (found.owner == index) & (along > (-1.0 if sleeveless else found.ends[bone]))
    return beyond


def _within_sleeves(person: View, found: Correspondence, *, arms: bool) -> Mask:
    """Say where limbs lie within the new garment's sleeves or legs, which no bare limb can stand out of."""
    within = np.zeros(person.shape, dtype=bool)
    for index, bone in enumerate(found.bones):
        end = found.ends.get(bone, 0.0)
        part = found.person[bone]
        if not part.is_trunk and (arms or not part.is_arm) and end >= _SLEEVELESS:
            along, _ = found.person[bone].locate(person.pixels)
            within |= (found.owner == index) & (along < min(end, 1.0) - 0.02)
    return within & (found.nearest < _REACH["arm"])


def _limbs(person: View, garment: View, found: Correspondence) -> Mask:
    """Say where the limbs are, as wide as `_limb_widths` says."""
    limbs = np.zeros(person.shape, dtype=bool)
    for index, bone in enumerate(found.bones):
        part = found.person[bone]
        if not part.is_trunk:
            along, across = part.locate(person.pixels)
            right, left = (np.interp(along, CENTRES, row) for row in _limb_widths(person, garment, found, bone))
            owned = (found.owner == index) & (along > -0.3) & (along < 1.1)
            limbs |= owned & (np.abs(across) < np.where(across < 0, right, left) * person.unit)
    return limbs


def _limb_widths(person: View, garment: View, found: Correspondence, bone: Bone) -> NDArray[np.float64]:
    """Return how wide a limb is on both sides: as it is where it is bare, else as the wearer's, else as limbs are.

    Returns:
        `(2, bins)` in lengths of the trunk.
    """
    radii = _RADII[found.person[bone].is_arm]
    first, second = radii[2:] if bone in UPPER else radii[:2]
    usual = first + (second - first) * CENTRES.clip(0, 1)
    ours, theirs = (
        _bare_widths(view, part, owned) / usual
        for view, part, owned in (
            (person, found.person[bone], found.owner == found.bones.index(bone)),
            (garment, found.wearer[bone], found.their_owner == stands_in(found.wearer, bone)),
        )
    )
    usually = _median(ours, _median(theirs, 1.0))  # Where neither is bare.
    theirs = theirs * _median(ours / theirs, 1.0)
    known = np.where(np.isfinite(ours), ours, theirs)
    weight = np.isfinite(known) * np.where(np.isfinite(ours), 1.0, _WEARER) + _USUAL
    value = np.where(np.isfinite(known), known, usually) * weight
    value, weight = (ndimage.gaussian_filter1d(row, _EVEN, axis=1) for row in (value, weight))
    return np.asarray(usual * value / weight)


def _bare_widths(view: View, part: Part, owned: Mask) -> NDArray[np.float64]:
    """Return how wide a bare limb is on both sides, in lengths of the trunk; NaN where that is not seen."""
    widths = widths_of(part, view, view.shows({Label.SKIN}) & owned) / view.unit
    usual = np.mean(_RADII[part.is_arm])
    likely = (widths < _STOUT * usual) & (widths > usual / _STOUT) & (CENTRES > 0.1) & (CENTRES < 1)
    return np.where(likely, widths, np.nan)


def _median(values: NDArray[np.float64], other: float) -> float:
    """Return the median of the known values; another where there is none."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else other


def _bare(person: View, found: Correspondence, uncovered: Mask, limbs: Mask) -> Mask:
    """Say where uncovered arms and legs lie."""
    # Next to where the limb shows, it goes on as wide as it is there.
    away = apart(person.shows({Label.SKIN}))
    goes_on = (away < _WIDER * person.unit) & (away < person.from_background)
    return uncovered & (limbs | (found.owned(arms=True, legs=True) & goes_on))


def _without_holes(cloth: Mask, neck: Mask, side: float) -> Mask:
    """Fill holes that no garment has."""
    holes, count = ndimage.label(~cloth & ~neck)
    sizes = np.bincount(holes.ravel(), minlength=count + 1)
    small = np.flatnonzero(sizes < side**2)
    return cloth | np.isin(holes, small[small > 0])


def _beside_clothes(person: View, found: Correspondence, taken_off: Collection[int]) -> Mask:
    """Say where clothes that stay go on: nearer to them than to the background, and not wider than they are."""
    clothes = largest(person.shows(GARMENTS - set(taken_off)))
    trunk = found.person[TRUNK_BONE]
    widest = np.nanmax(widths_of(trunk, person, clothes), initial=0.0)
    _, across = trunk.locate(person.pixels)
    # Beside a hand they may go on behind it.
    within = (np.abs(across) < _AS_WIDE * widest) | (apart(person.shows({Label.SKIN})) < person.from_background)
    return np.asarray(within & (apart(clothes) < person.from_background))
