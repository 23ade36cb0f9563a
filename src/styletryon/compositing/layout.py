"""Layout: what each pixel of a try-on shows, before any pixel is made. No pixel of the old garment is left without."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from styletryon.compositing.correspondence import Correspondence
from styletryon.compositing.skeleton import COVERED
from styletryon.compositing.sources import look_up
from styletryon.compositing.view import FRONT, LEAST_SCORE, Mask, View, apart, blurred, grown, largest
from styletryon.labels import GARMENTS, Label, replaced_classes

_OUTLINE = 0.006  # How much the new garment's outline is smoothed, in lengths of the trunk.
_SLIVER = 0.07  # What the old garment shows beside the new one, up to this far, is covered by it.
_HALO = 0.012  # How far the old garment's colours reach beyond its labels.
_FLAP = 0.03  # How far below its hem, in most columns, the old top may reach in some, in lengths of the trunk.
_CUFF = 0.06  # How far beyond its sleeve's end, along the bone, a new garment may reach.
_REACH = {"trunk": 0.4, "arm": 0.22, "leg": 0.35}
"""How far from the parts of the body a new garment may reach, in lengths of the trunk."""
_HAND = 0.4  # How far a hand reaches beyond its wrist.
_RADII = {True: (0.11, 0.095, 0.08, 0.05), False: (0.16, 0.145, 0.13, 0.1)}
"""Of bare arms (True) and legs: at the start and end of the upper, and of the lower limb, in lengths of the trunk."""


_BELOW = frozenset({Label.BOTTOM, Label.LEGWEAR, Label.SKIN})
"""What shows below a top."""


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
    unit = person.unit
    columns, rows = found.places.astype(int).transpose(2, 0, 1)
    shown = garment.labels[rows.clip(0, garment.shape[0] - 1), columns.clip(0, garment.shape[1] - 1)]
    shown = np.where(found.inside, shown, Label.BACKGROUND)
    flaps = _flaps(found, old) if Label.BOTTOM not in region else np.zeros_like(old)
    new = _new(person, found, flaps, unit)
    front = _front(person, found, new, region)
    new &= ~front
    beyond = _beyond_sleeves(person, found)
    neck = _neck(found, new, unit)
    bare = beyond & (shown == Label.SKIN)
    core = old & ~front & ~flaps
    cloth = new | _covered(found, core & ~new, new, neck, beyond, shown, unit)
    cloth = (blurred(cloth, 0.008 * unit) > 0.5) & ~front
    uncovered = grown(old, max(1.0, _HALO * unit)) & ~cloth & ~front
    skin = neck | bare | (beyond & old & _bare_limbs(person, found)) | person.shows({Label.SKIN, Label.FACE})
    skin = uncovered & skin
    own = uncovered & ~skin & _beside_clothes(person, replaced_classes(region))
    return Layout(cloth, skin, own, uncovered & ~skin & ~own, front)


def _flaps(found: Correspondence, old: Mask) -> Mask:
    """Say where the labels of the old top reach below its hem: trousers of its colour that they take for it."""
    trunk = old & found.owned(trunk=True) & (np.abs(found.across) < 1)
    columns = trunk.any(axis=0)
    if int(columns.sum()) < 8:
        return np.zeros_like(old)
    lowest = np.where(trunk, found.along, -np.inf).max(axis=0)[columns]
    return np.asarray(found.owned(trunk=True) & (found.along > float(np.median(lowest)) + _FLAP))


def _new(person: View, found: Correspondence, flaps: Mask, unit: float) -> Mask:
    """Say where the new garment lies, as its photograph has its outline."""
    share = look_up(blurred(found.worn, 0.7), found.places) * found.inside
    new = (blurred(share, _OUTLINE * unit) > 0.5) & found.same
    if found.lengthened:  # It ends where the old garment does.
        new &= ~(found.owned(trunk=True) & (found.along > 0.6) & person.shows(_BELOW)) & ~flaps
    for index, bone in enumerate(found.bones):
        end = found.ends.get(bone, COVERED)
        if end < COVERED:
            along, _ = found.person[bone].locate(person.pixels)
            new &= ~((found.owner == index) & (along > end + _CUFF))
    for limit, owned in (
        (_REACH["trunk"], found.owned(trunk=True)),
        (_REACH["arm"], found.owned(arms=True)),
        (_REACH["leg"], found.owned(legs=True)),
    ):
        new &= ~owned | (found.nearest < limit)
    return largest(np.asarray(new))


def _front(person: View, found: Correspondence, new: Mask, region: Collection[int]) -> Mask:
    """Say what stays before the new garment: face and hair, hands, bare arms, and a top over new trousers."""
    skin, arms = person.shows({Label.SKIN}), found.owned(arms=True)
    front = person.shows(FRONT)
    for elbow, wrist in ((7, 9), (8, 10)):
        if min(person.points[elbow, 2], person.points[wrist, 2]) > LEAST_SCORE:
            forearm = person.points[wrist, :2] - person.points[elbow, :2]
            offset = person.pixels - person.points[wrist, :2]
            beyond = offset @ (forearm / max(float(np.linalg.norm(forearm)), 1e-6))
            near = np.hypot(offset[..., 0], offset[..., 1]) < _HAND * person.unit
            front |= skin & arms & near & (beyond > -0.03 * person.unit)
    front |= skin & arms & ~new
    if not {Label.TOP, Label.DRESS} & set(region):
        front |= person.shows({Label.TOP, Label.OUTERWEAR})
    return np.asarray(front)


def _neck(found: Correspondence, new: Mask, unit: float) -> Mask:
    """Say where a neckline shows skin."""
    worn = look_up(found.worn.astype(np.float32), found.places) > 0.5
    neck = found.owned(trunk=True) & (found.along < 0.5) & (np.abs(found.across) < 0.5) & ~worn & ~new
    return np.asarray(ndimage.binary_opening(neck, iterations=max(1, round(0.02 * unit))))


def _covered(
    found: Correspondence,
    core: Mask,
    new: Mask,
    neck: Mask,
    beyond: Mask,
    shown: NDArray[np.uint8],
    unit: float,
) -> Mask:
    """Say where the old garment is covered by the new one though the new one's outline does not reach there."""
    hidden = np.isin(shown, (Label.HAIR, Label.ACCESSORY)) | ~found.inside
    covered = core & ((apart(new) < _SLIVER * unit) | hidden) & ~neck & ~beyond
    covered |= core & found.owned(arms=True) & ~beyond
    covered |= core & found.owned(trunk=True) & (found.along > 0.3) & ~neck
    return np.asarray(covered)


def _beyond_sleeves(person: View, found: Correspondence) -> Mask:
    """Say where limbs lie beyond the ends of the new garment's sleeves or legs."""
    beyond = np.zeros(person.shape, dtype=bool)
    for index, bone in enumerate(found.bones):
        if bone in found.ends:
            along, _ = found.person[bone].locate(person.pixels)
            beyond |= (found.owner == index) & (along > found.ends[bone])
    return beyond


def _bare_limbs(person: View, found: Correspondence) -> Mask:
    """Say where bare arms and legs would be."""
    limbs = np.zeros(person.shape, dtype=bool)
    for index, bone in enumerate(found.bones):
        part = found.person[bone]
        if part.is_trunk:
            continue
        along, across = part.locate(person.pixels)
        first, second = _RADII[part.is_arm][2:] if bone[0] in (7, 8, 13, 14) else _RADII[part.is_arm][:2]
        radius = (first + (second - first) * along.clip(0, 1)) * person.unit
        limbs |= (found.owner == index) & (np.abs(across) < radius) & (along > -0.1) & (along < 1.1)
    return limbs


def _beside_clothes(person: View, taken_off: Collection[int]) -> Mask:
    """Say which pixels are nearer to clothes that stay than to the background."""
    clothes = largest(person.shows(GARMENTS - set(taken_off)))
    return np.asarray(apart(clothes) < apart(person.shows({Label.BACKGROUND})))
