"""Clothes that go under outerwear: what of them it covers, which would show beside a narrower jacket otherwise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from styletryon.compositing.skeleton import TRUNK_BONE, Part, parts_of, sleeves
from styletryon.compositing.sources import look_up
from styletryon.compositing.view import Mask, View, grown, largest
from styletryon.labels import Label

_UNDER = frozenset({Label.TOP, Label.DRESS})
"""What is worn under outerwear."""

_BELOW = _UNDER | {Label.BOTTOM, Label.ACCESSORY}
"""Clothes that are seen where a jacket is open, and below its hem."""

_SLEEVELESS = 0.25
"""A jacket that ends before this much of the upper arm has no sleeves."""

_OPENING = 0.08
"""How far from the opening clothes count as covered, in lengths of the trunk: outlines decide nearer to it."""


def covered_by_outerwear(person: View, garment: View) -> View:
    """Return the person with the clothes that a jacket covers labelled as outerwear, which the new one replaces.

    A jacket lies over them, so that what stands out beside it does not stay: sleeves along its own, shoulders, and the
    sides of the trunk down to its hem. What shows where it is open stays as it is.

    Args:
        person: The person.
        garment: The wearer of the jacket.
    """
    jacket = largest(garment.shows({Label.OUTERWEAR}))
    ours, theirs = parts_of(person, legs=False), parts_of(garment, legs=False)
    owner, their_owner = (
        np.stack([part.distance(view.pixels) for part in parts.values()]).argmin(axis=0)
        for view, parts in ((person, ours), (garment, theirs))
    )
    bare = np.where(garment.shows(_UNDER), np.uint8(Label.SKIN), garment.labels)  # of the jacket
    ends = sleeves(theirs, replace(garment, labels=bare), jacket)
    covered = np.zeros(person.shape, dtype=bool)
    for index, (bone, part) in enumerate(ours.items()):
        along, _ = part.locate(person.pixels)
        end = ends.get(bone) or 0.0
        if part.is_trunk:
            on_trunk = jacket & (their_owner == list(theirs).index(TRUNK_BONE))
            covered |= (owner == index) & _beside_opening(person, garment, on_trunk, part, theirs[TRUNK_BONE])
        elif end >= _SLEEVELESS:
            covered |= (owner == index) & (along < end)
    under = person.shows(_UNDER)
    return replace(person, labels=np.where(covered & under, np.uint8(Label.OUTERWEAR), person.labels))


def _beside_opening(person: View, garment: View, jacket: Mask, ours: Part, theirs: Part) -> Mask:
    """Say where a jacket lies over a trunk or stands beside it, above its hem and not where it is open."""
    if not jacket.any():
        return np.zeros(person.shape, dtype=bool)
    along, across = ours.locate(person.pixels)
    hem = np.percentile(theirs.locate(garment.pixels[jacket])[0], 97)
    places = theirs.place(along, across * (garment.half_width / person.half_width))
    shown = grown(garment.shows(_BELOW), _OPENING * garment.unit) | garment.shows({Label.SKIN, Label.FACE})
    return (along < hem) & (look_up(shown.astype(np.float32), places) < 0.5)
