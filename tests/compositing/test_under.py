"""Jackets over clothes that are wider than they are."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from styletryon.compositing.blending import compose
from styletryon.compositing.skeleton import TRUNK_BONE, parts_of
from styletryon.compositing.under import covered_by_outerwear
from styletryon.compositing.view import View, grown, look_at
from styletryon.data import paperdoll
from styletryon.labels import Label
from styletryon.photo import Frame, Photograph
from styletryon.pose import Pose

SIZE, GREEN, OUTERWEAR = (256, 192), (0, 200, 0), frozenset({Label.OUTERWEAR})


def photograph(figure: paperdoll.Figure) -> Photograph:
    """A figure as a photograph of which all is known."""
    drawn = paperdoll.render(figure, SIZE)
    frame = Frame((0.0, 0.0, float(SIZE[1]), float(SIZE[0])), SIZE, (128, 96))
    pose = Pose(torch.from_numpy(drawn.keypoints.astype(np.float32))[None], SIZE)
    return Photograph(Image.fromarray(drawn.image), frame, pose, drawn.labels.astype(np.uint8))


@cache
def figures() -> list[paperdoll.Figure]:
    """Figures in a top."""
    found = (paperdoll.sample_figure(seed) for seed in range(1_000_000_000, 1_000_000_060))
    return [figure for figure in found if paperdoll.wears(figure, "top")]


@cache
def somebody() -> Photograph:
    """Somebody in a wide green top with long sleeves."""
    person = photograph(next(figure for figure in figures() if figure.outfit.outerwear is None))
    assert person.labels is not None
    top = grown(person.labels == Label.TOP, 7) & np.isin(person.labels, (Label.TOP, Label.BACKGROUND, Label.SKIN))
    picture = np.where(top[..., None], np.uint8(GREEN), np.asarray(person.picture))
    labels = np.where(top, np.uint8(Label.TOP), person.labels)
    return replace(person, picture=Image.fromarray(picture), labels=labels)


@cache
def wearer(kind: str) -> Photograph:
    """Somebody in open outerwear of a kind."""
    worn = ((figure, figure.outfit.outerwear) for figure in figures())
    return photograph(next(figure for figure, outer in worn if outer is not None and outer.kind == kind))


def view(shown: Photograph) -> View:
    found = look_at(shown, {Label.TOP, Label.OUTERWEAR}, legs=False, pixels=SIZE[0] * SIZE[1])
    assert found is not None
    return found


def on_arms(shown: View) -> NDArray[np.bool_]:
    """Which pixels are nearer to an arm than to the trunk."""
    parts = parts_of(shown, legs=False)
    nearest = np.stack([part.distance(shown.pixels) for part in parts.values()]).argmin(axis=0)
    return np.asarray(nearest != list(parts).index(TRUNK_BONE))


def green(picture: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray(np.abs(picture * 255 - GREEN).max(axis=-1) < 30)


def test_a_wider_top_does_not_show_beside_a_jacket() -> None:
    person, jacket = somebody(), wearer("blazer")
    layers = compose(person, jacket, OUTERWEAR)
    assert layers is not None
    after = replace(person, picture=layers.laid_over(person.picture), labels=layers.labels_over(person.labels))
    before = view(person)
    left, top, right, bottom = before.box
    picture, labels = (np.asarray(one)[top:bottom, left:right] for one in (after.picture, after.labels))
    beside, stays = green(before.picture) & on_arms(before), green(picture / np.float32(255))
    assert beside.sum() > 300
    assert (stays & beside).sum() < 0.03 * beside.sum()
    assert (labels[beside] == Label.TOP).sum() < 0.03 * beside.sum()
    assert (stays & (labels == Label.TOP)).sum() > 100  # where the jacket is open


def test_sleeves_stay_beside_a_jacket_that_has_none() -> None:
    shown = view(somebody())
    covered = {
        kind: (covered_by_outerwear(shown, view(wearer(kind))).labels == Label.OUTERWEAR)
        for kind in ("vest", "blazer")
    }
    arms = on_arms(shown)
    assert not (covered["vest"] & arms).any()
    assert (covered["blazer"] & arms).sum() > 300
    assert all((mask & ~arms).sum() > 100 for mask in covered.values())  # the sides of the trunk


def test_what_shows_below_the_hem_stays() -> None:
    short = wearer("blazer")
    labels, jacket = np.array(short.labels), view(short)
    left, top, right, bottom = jacket.box
    along, _ = parts_of(jacket, legs=False)[TRUNK_BONE].locate(jacket.pixels)
    part = labels[top:bottom, left:right]
    part[(along > 0.5) & (part == Label.OUTERWEAR)] = Label.TOP
    shown = view(somebody())
    found = covered_by_outerwear(shown, view(replace(short, labels=labels))).labels
    along, _ = parts_of(shown, legs=False)[TRUNK_BONE].locate(shown.pixels)
    trunk = ~on_arms(shown) & (shown.labels == Label.TOP)
    assert (found[trunk & (along > 0.5)] == Label.TOP).all()
    assert (found[trunk & (along < 0.4)] == Label.OUTERWEAR).any()


def test_without_a_jacket_nothing_is_covered() -> None:
    shown = view(somebody())
    np.testing.assert_array_equal(covered_by_outerwear(shown, shown).labels, shown.labels)
