"""Blending: the layers of a try-on laid over the photograph, from back to front, and the change brought into it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from styletryon.compositing.confidence import confidence_in
from styletryon.compositing.correspondence import Correspondence, bare_places, correspond
from styletryon.compositing.drawn.planes import diffused
from styletryon.compositing.hems import below_hem
from styletryon.compositing.layout import Layout, lay_out
from styletryon.compositing.skeleton import TRUNK_BONE, parts_of
from styletryon.compositing.sources import colours_of, continued, look_up, meeting, recoloured
from styletryon.compositing.under import covered_by_outerwear
from styletryon.compositing.view import (
    Mask,
    Picture,
    Points,
    View,
    apart,
    blurred,
    closed,
    grown,
    largest,
    look_at,
    odds,
    reached,
    shrunk,
    soft,
)
from styletryon.labels import GARMENTS, Label, replaced_classes
from styletryon.photo import Photograph
from styletryon.tryon.layers import Shows, TryOnLayers

WORK_PIXELS = 700_000
"""The most pixels of a view: of a larger photograph they are made smaller."""

_EDGE = 1.2  # How much an outline's stairs are smoothed, in pixels of the view.
_SAME_LIMB = 0.06  # How much wider the person's limbs may be than the wearer's, in lengths of the trunk.
_SKIN_RIM = 0.012  # How far labels take for skin what lies beside it.
_ROUND, _DARKER = 0.08, 0.3  # How far from their outlines round limbs are darker, and by how much there.
_BESIDE = 0.04  # Beside uncovered skin, up to here, its colours are those of the person's own.
_SAME_LIGHT = 0.3  # How far into uncovered skin the colours of the skin beside it reach.
_DRESS_WAIST = 0.75  # Down the trunk: from here on trousers take the place of a dress.
_AS_LIKELY = -0.7  # Colours of bottoms: the logarithm of how much more frequent they are there than in the top.
_SLIVER, _GROUND = 0.03, -1.5  # Ground between cloths: how wide, and the logarithm of the odds of its colours.
_TOPS = frozenset({Label.TOP, Label.OUTERWEAR})
_BARE = frozenset({Label.SKIN, Label.FACE})
_HAIR = 0.06  # How far single hairs lie beside what labels call hair, in lengths of the trunk.
_LEAST_COPIED = 400  # Pixels of skin from which pieces of it are copied.


def compose(
    person: Photograph, garment: Photograph, region: Collection[Label], *, opacity: float = 1.0
) -> TryOnLayers | None:
    """Show a person in the garment of another photograph.

    Args:
        person: The person, with pose and labels.
        garment: The garment's wearer, likewise.
        region: The label classes that change.
        opacity: How much of the change to show, in [0, 1].

    Returns:
        The layers; None where one of the two bodies is not known well enough, or the garment is not seen.
    """
    before, worn = replaced_classes(region), _worn_classes(region)
    legs = Label.BOTTOM in before
    view = look_at(person, before, legs=legs, pixels=WORK_PIXELS)
    other = look_at(garment, worn, legs=legs, pixels=WORK_PIXELS)
    if view is None or other is None:
        return None
    view = view.between_strands(before).without_strays(before, {Label.BACKGROUND})
    other = other.without_strays(worn)
    view, other = _parted(view, before), _parted(other, worn)
    if not _TOPS & before:
        view = _untucked(view, before)
    if before == {Label.OUTERWEAR}:
        view = covered_by_outerwear(view, other)
    old, seen = view.garment(before) | largest(view.shows(before)), other.garment(worn)
    if not seen.any():
        return None
    view, other = view.wearing(old, before), other.wearing(seen, worn)
    found = correspond(view, other, old, seen, legs=legs)
    layout = lay_out(view, other, found, old, region)
    return _blended(view, other, found, layout, GARMENTS - before, opacity)


def _worn_classes(region: Collection[Label]) -> frozenset[Label]:
    """Say which classes show the garment of a region in its photograph: labels mix up a dress with its two halves."""
    one_piece = {Label.DRESS} if Label.TOP in region else set()
    return replaced_classes(region) | one_piece


def _parted(view: View, classes: Collection[Label]) -> View:
    """Return the view with a dress in two halves, where a top or a bottom shall change and the other half stay."""
    dress = view.shows({Label.DRESS})
    if Label.DRESS in classes or not {Label.TOP, Label.BOTTOM} & set(classes) or not dress.any():
        return view
    along, _ = parts_of(view, legs=False)[TRUNK_BONE].locate(view.pixels)
    upper = dress & (along < (1.0 if Label.TOP in classes else _DRESS_WAIST))
    labels = np.where(upper, np.uint8(Label.TOP), view.labels)
    return replace(view, labels=np.where(dress & ~upper, np.uint8(Label.BOTTOM), labels))


def _untucked(view: View, classes: Collection[Label]) -> View:
    """Return the view with bottoms where labels go on with a top below its hem: white trousers beside a white top."""
    top, bottoms = view.shows(_TOPS), largest(view.shows(classes))
    below = below_hem(parts_of(view, legs=False)[TRUNK_BONE], view, top) & top
    inner, outer = shrunk(bottoms, _SKIN_RIM * view.unit), shrunk(top & ~below, _SKIN_RIM * view.unit)
    if not below.any() or min(int(inner.sum()), int(outer.sum())) < _LEAST_COPIED:
        return view
    alike = below & (blurred(odds(view.picture, inner, outer).astype(np.float32), 2.0) > _AS_LIKELY)
    labels = np.where(reached(alike | bottoms, bottoms) & alike, np.uint8(Label.BOTTOM), view.labels)
    return replace(view, labels=labels)


def _blended(
    view: View, other: View, found: Correspondence, layout: Layout, kept: Collection[Label], opacity: float
) -> TryOnLayers:
    picture = view.picture
    skin, cloth = _skin(view, other, found, layout), _cloth(other, found, layout)
    background, own = _background(view, layout), _own(view, layout, kept)
    shown = picture
    for source, mask in ((background, layout.background), (own, layout.own), (skin, layout.skin)):
        if mask.any():
            # A layer goes on a little below the one before it, so that no rim of the old picture shows between.
            below = grown(mask, 1.0) & ~layout.front
            alpha = (soft(below, _EDGE) * _fading(view, below))[..., None]
            shown = alpha * source + (1 - alpha) * shown
    alpha = soft(layout.cloth, _EDGE)[..., None]
    shown = np.where(layout.front[..., None], picture, alpha * cloth + (1 - alpha) * shown)
    changed = np.where(layout.front, 0.0, soft(grown(layout.changed, 2.0), _EDGE)).astype(np.float32)
    visible = look_up(found.seen.astype(np.float32), found.places)[layout.cloth] > 0.5
    seen = float(visible.mean()) if visible.size else 0.0
    uncovered = 1 - float(layout.cloth.sum()) / max(int(layout.changed.sum()), 1)
    confidence = confidence_in(view, other, seen=seen, uncovered=uncovered)
    kinds = np.zeros(view.shape, dtype=np.uint8)
    for what, mask in (
        (Shows.BACKGROUND, layout.background),
        (Shows.OWN, layout.own),
        (Shows.SKIN, layout.skin),
        (Shows.CLOTH, layout.cloth),
        (Shows.FRONT, layout.front),
    ):
        kinds[mask] = what
    return TryOnLayers(
        box=view.box,
        layout=kinds,
        cloth=cloth,
        skin=skin,
        own=own,
        background=background,
        picture=shown.astype(np.float32),
        alpha=changed * np.float32(opacity),
        labels=_labels(view, other, found, layout, kept),
        seen=seen,
        confidence=confidence.value,
        doubts=confidence.doubts,
    )


def _cloth(other: View, found: Correspondence, layout: Layout) -> Picture:
    """Lay the new garment as its photograph shows it; what is hidden there is continued."""
    hidden = grown(other.shows({Label.SKIN, Label.ACCESSORY}), 0.03 * other.unit)
    hidden |= grown(other.shows({Label.HAIR}), _HAIR * other.unit)
    known = shrunk(found.seen, max(2.0, 0.015 * other.unit)) & ~hidden
    slivers = _slivers(other, found.seen)
    known &= ~(slivers & _beside_limbs(other, found) if other.worn else slivers)  # On the trunk these are buttons.
    wanted = _met(found.places[layout.cloth], other.shape)
    garment = continued(other.picture, known if known.any() else found.seen, wanted, other.unit)
    return look_up(garment, found.places, mode="bicubic", beyond="reflection").clip(0, 1)


def _own(view: View, layout: Layout, kept: Collection[Label]) -> Picture:
    """Continue the person's other clothes."""
    return continued(view.picture, shrunk(view.shows(kept), 0.02 * view.unit), _around(layout.own), view.unit)


def _background(view: View, layout: Layout) -> Picture:
    """Continue what stands behind the person."""
    behind = shrunk(view.shows({Label.BACKGROUND}), max(2.0, 0.02 * view.unit))
    return continued(view.picture, behind, _around(layout.background), view.unit)


def _slivers(view: View, cloth: Mask) -> Mask:
    """Say where thin ground shows through cloth, as between a sleeve and the trunk."""
    reach = _SLIVER * view.unit
    inner, outer = shrunk(cloth, reach), apart(cloth) > reach
    if min(int(inner.sum()), int(outer.sum())) < _LEAST_COPIED:
        return np.zeros_like(cloth)
    strange = odds(view.picture, inner, outer) < _GROUND
    return grown(cloth & strange & ~grown(shrunk(strange, reach), reach), 2.0)


def _beside_limbs(view: View, found: Correspondence) -> Mask:
    """Say where limbs of the garment's wearer lie beside the trunk."""
    trunk, reach = found.their_owner == found.bones.index(TRUNK_BONE), 2 * _SLIVER * view.unit
    return grown(trunk, reach) & grown(~trunk, reach)


def _labels(
    view: View, other: View, found: Correspondence, layout: Layout, kept: Collection[Label]
) -> NDArray[np.uint8]:
    """Return the label class of each pixel of a try-on."""
    labels = view.labels.copy()
    labels[layout.background], labels[layout.skin] = Label.BACKGROUND, Label.SKIN
    for mask, source, places in (
        (layout.own, np.where(view.shows(kept), view.labels, 0), view.pixels),
        (layout.cloth, np.where(found.seen & other.shows(GARMENTS), other.labels, 0), found.places),
    ):
        if mask.any() and source.any():
            near = ndimage.distance_transform_edt(source == 0, return_distances=False, return_indices=True)
            columns, rows = places[mask].astype(int).T
            rows, columns = rows.clip(0, source.shape[0] - 1), columns.clip(0, source.shape[1] - 1)
            labels[mask] = source[near[0][rows, columns], near[1][rows, columns]]
    return labels


def _skin(view: View, other: View, found: Correspondence, layout: Layout) -> Picture:
    """Show bare skin as the wearer's photograph has it there, in the person's colours; elsewhere the person's own."""
    if not layout.skin.any():
        return view.picture
    ours, theirs = view.shows(_BARE), other.shows(_BARE)
    own = _rounded(_own_skin(view, ours, layout), layout.skin & found.owned(arms=True, legs=True), ours, view.unit)
    if not theirs.any() or not other.worn:
        return own
    warped = recoloured(other.picture, colours_of(other.picture, theirs), colours_of(view.picture, ours))
    beside = ours & ~layout.skin & (apart(layout.skin) < _BESIDE * view.unit)
    bare = shrunk(other.shows({Label.SKIN}), max(2.0, _SKIN_RIM * other.unit))  # A face is no piece to copy.
    known = bare if int(bare.sum()) >= _LEAST_COPIED else shrunk(theirs, 2.0)
    known &= ~grown(other.shows({Label.HAIR}), _HAIR * other.unit)
    places = bare_places(found, view, other, layout.skin | ours, known)
    shown = _around(layout.skin) | beside  # With what edges are mixed from.
    # Beyond the outline of the wearer's limbs colours go on smoothly; a copy would have edges in it.
    warped = np.where(known[..., None], warped, diffused(warped, known))
    laid = look_up(warped, places, mode="bicubic").clip(0, 1)
    laid = meeting(laid, view.picture, beside, _SAME_LIGHT * view.unit)
    broad = reached(layout.skin, shrunk(layout.skin, _SKIN_RIM * view.unit))  # Narrow rims are the person's own.
    there = (look_up(blurred(theirs, 1.0), places) > 0.5) & found.inside & broad
    share = blurred((apart(there) < _SAME_LIMB * view.unit) & shown, 0.02 * view.unit)[..., None]
    return share * laid + (1 - share) * own


def _fading(view: View, mask: Mask) -> NDArray[np.float32]:
    """Let bared skin pass gradually into the skin beside it, on which the old garment's shadow lay."""
    skin = view.shows(_BARE)
    shaded = mask & skin
    if not shaded.any():
        return np.ones(mask.shape, dtype=np.float32)
    bared, kept = apart(mask & ~skin), apart(skin & ~mask)
    return np.where(skin, (1.5 * kept / (kept + bared).clip(1e-6)).clip(0, 1), 1.0).astype(np.float32)


def _rounded(picture: Picture, limbs: Mask, ours: Mask, unit: float) -> Picture:
    """Let skin of bared limbs grow darker towards their outlines, as round things do."""
    if not limbs.any():
        return picture
    rest = (1 - apart(~(limbs | ours)) / (_ROUND * unit)).clip(0, 1)
    shade = np.where(limbs, 1 - _DARKER * rest**2, 1.0)[..., None]
    return np.asarray(picture * shade, dtype=np.float32)


def _own_skin(view: View, ours: Mask, layout: Layout) -> Picture:
    """Continue the person's own skin; a face is no piece to copy, and gives its colour alone."""
    skin = shrunk(view.shows({Label.SKIN}), max(1.0, _SKIN_RIM * view.unit))
    if int(skin.sum()) >= _LEAST_COPIED:
        return continued(view.picture, skin, _around(layout.skin), view.unit)
    if not ours.any():
        return view.picture
    tone = np.median(view.picture[ours], axis=0)
    return np.where(ours[..., None], view.picture, tone).astype(np.float32)


def _around(mask: Mask) -> Mask:
    """Add what an edge is mixed from."""
    return grown(mask, 4.0) if mask.any() else mask


def _met(places: Points, shape: tuple[int, int]) -> Mask:
    """Say at which pixels places lie."""
    mask = np.zeros(shape, dtype=bool)
    columns, rows = places.astype(int).T
    mask[rows.clip(0, shape[0] - 1), columns.clip(0, shape[1] - 1)] = True
    return grown(closed(mask, 3.0), 4.0) if mask.any() else mask
