"""Try-ons between two photographs: on rendered people, of whom labels, keypoints and the truth are known."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from styletryon.compositing import blending, hems, layout
from styletryon.compositing.blending import compose
from styletryon.compositing.correspondence import correspond
from styletryon.compositing.skeleton import COVERED, LIMBS, Part, parts_of, sleeves
from styletryon.compositing.sources import continued, look_up, meeting, recoloured
from styletryon.compositing.view import View, grown, largest, look_at, shrunk, soft
from styletryon.data.paperdoll import Rendering
from styletryon.labels import REGIONS, Label, replaced_classes
from styletryon.metrics import measures
from styletryon.metrics.rendered_pairs import Pair, sample_pairs
from styletryon.photo import Frame, Photograph
from styletryon.pose import Pose
from styletryon.tryon.layers import Shows

SIZE = (256, 192)
TOP = REGIONS["top"]


@cache
def pairs() -> tuple[Pair, ...]:
    """Rendered pairs whose truth is known."""
    return tuple(sample_pairs(4, 7, SIZE, "top"))


def photograph(rendering: Rendering) -> Photograph:
    """A rendering as a photograph of which all is known."""
    picture = Image.fromarray(np.asarray(rendering.image))
    size = (picture.height, picture.width)
    frame = Frame((0.0, 0.0, float(size[1]), float(size[0])), size, (128, 96))
    pose = Pose(torch.from_numpy(np.asarray(rendering.keypoints, dtype=np.float32))[None], size)
    return Photograph(picture, frame, pose, np.asarray(rendering.labels, dtype=np.uint8))


def apart(one: np.ndarray, other: np.ndarray, mask: np.ndarray) -> float:
    """How far the colours of two pictures lie apart in a mask, whatever the phase of their patterns."""
    soft = [ndimage.gaussian_filter(picture.astype(float), (8, 8, 0)) for picture in (one, other)]
    return float(np.abs(soft[0] - soft[1])[mask].mean())


@pytest.mark.parametrize("index", range(4))
def test_the_garment_arrives(index: int) -> None:
    pair = pairs()[index]
    person = photograph(pair.person)
    layers = compose(person, photograph(pair.garment), TOP)
    assert layers is not None
    garment = measures.class_mask(pair.truth.labels, TOP)
    before = apart(np.asarray(person.picture), pair.truth.image, garment)
    assert apart(np.asarray(layers.laid_over(person.picture)), pair.truth.image, garment) < 0.7 * before


@pytest.mark.parametrize("index", range(4))
def test_nothing_else_changes_and_nothing_of_the_old_garment_stays(index: int) -> None:
    pair = pairs()[index]
    person = photograph(pair.person)
    layers = compose(person, photograph(pair.garment), TOP)
    assert layers is not None
    before, after = np.asarray(person.picture), np.asarray(layers.laid_over(person.picture))
    left, top, right, bottom = layers.box
    assert (right - left, bottom - top) == layers.layout.shape[::-1]
    untouched = np.ones(before.shape[:2], dtype=bool)
    untouched[top:bottom, left:right] = layers.alpha == 0
    np.testing.assert_array_equal(after[untouched], before[untouched])
    there = before[top:bottom, left:right].astype(np.float32) / 255
    old = largest(np.isin(person.labels[top:bottom, left:right], [int(label) for label in replaced_classes(TOP)]))
    assert (layers.layout[old] != Shows.PERSON).all()
    assert not np.isin(layers.layout[old], (Shows.FRONT,)).all()
    face = np.isin(person.labels[top:bottom, left:right], (Label.FACE, Label.HAIR))
    np.testing.assert_array_equal(layers.picture[face], there[face])
    assert (layers.layout[face] == Shows.FRONT).all()


def test_labels_say_what_is_shown() -> None:
    pair = pairs()[1]
    person = photograph(pair.person)
    layers = compose(person, photograph(pair.garment), TOP)
    assert layers is not None
    assert set(np.unique(layers.labels[layers.shows(Shows.CLOTH)])) <= {Label.TOP, Label.OUTERWEAR, Label.DRESS}
    assert (layers.labels[layers.shows(Shows.SKIN)] == Label.SKIN).all()
    assert person.labels is not None
    laid = layers.labels_over(person.labels)
    same = float((laid == pair.truth.labels).mean())
    assert same > 0.95
    assert same > float((person.labels == pair.truth.labels).mean())


def test_opacity_fades_the_change() -> None:
    pair = pairs()[1]
    person, garment = photograph(pair.person), photograph(pair.garment)
    none = compose(person, garment, TOP, opacity=0.0)
    assert none is not None
    np.testing.assert_array_equal(np.asarray(none.laid_over(person.picture)), np.asarray(person.picture))


def test_the_own_garment_changes_hardly_anything() -> None:
    person = photograph(pairs()[1].person)
    layers = compose(person, person, TOP)
    assert layers is not None
    left, top, right, bottom = layers.box
    there = np.asarray(person.picture)[top:bottom, left:right].astype(np.float32) / 255
    change = np.abs(layers.picture - there).mean(axis=-1)
    assert float(change[layers.shows(Shows.CLOTH)].mean()) < 0.03
    assert float(change.mean()) < 0.01


def test_a_person_without_labels_or_pose_is_not_composed() -> None:
    person = photograph(pairs()[0].person)
    unknown = Photograph(person.picture, person.frame)
    assert compose(unknown, person, TOP) is None
    assert compose(person, unknown, TOP) is None
    nobody = Photograph(person.picture, person.frame, person.pose, np.zeros_like(person.labels))
    assert compose(person, nobody, TOP) is None


def test_a_large_photograph_is_composed_at_a_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blending, "WORK_PIXELS", 5_000)
    person = photograph(pairs()[1].person)
    layers = compose(person, photograph(pairs()[1].garment), TOP)
    assert layers is not None
    assert layers.layout.size < 5_500
    assert layers.laid_over(person.picture).size == person.picture.size


@settings(deadline=None)
@given(
    st.lists(st.floats(-50, 50), min_size=4, max_size=4),
    st.sampled_from([1.0, -1.0]),
    st.floats(-1, 2),
    st.floats(-9, 9),
)
def test_along_and_across_is_a_place(ends: list[float], side: float, along: float, across: float) -> None:
    start, end = np.array(ends[:2]), np.array(ends[2:])
    if np.linalg.norm(end - start) < 1:
        return
    part = Part((5, 7), start, end, 1.0, side)
    place = part.place(np.array(along), np.array(across))
    np.testing.assert_allclose(part.locate(place), (along, across), atol=1e-8)
    assert part.distance(part.place(np.array(0.5), np.array(0.0))) == 0


def test_sleeves_are_found_where_skin_begins() -> None:
    view = look_at(photograph(pairs()[0].person), TOP, legs=False, pixels=10**6)
    assert view is not None
    parts = parts_of(view, legs=False)
    labels = np.full(view.shape, int(Label.SKIN), dtype=np.uint8)
    upper = parts[5, 7]
    along, _ = upper.locate(view.pixels)
    labels[along < 0.5] = int(Label.TOP)
    drawn = type(view)(view.picture, labels, view.points, view.box)
    found = sleeves(parts, drawn, labels == int(Label.TOP))
    assert found[5, 7] == pytest.approx(0.5, abs=0.06)
    assert found[7, 9] == -1.0
    covered = sleeves(parts, drawn, np.ones(view.shape, dtype=bool))
    assert {covered[bone] for bone in LIMBS[:4] if bone in covered} == {COVERED}
    assert sleeves(parts, type(view)(view.picture, 0 * labels, view.points, view.box), labels < 0)[5, 7] is None


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_what_is_known_stays_and_the_rest_is_continued(seed: int) -> None:
    rng = np.random.default_rng(seed)
    picture = rng.random((40, 32, 3)).astype(np.float32) * 0.5 + 0.2
    known = ndimage.gaussian_filter(rng.random((40, 32)), 3) > 0.5
    known[0, 0] = True
    found = continued(picture, known, ~known, 40.0)
    np.testing.assert_array_equal(found[known], picture[known])
    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= 1


def test_one_colour_goes_on_as_that_colour() -> None:
    picture = np.random.default_rng(0).random((60, 40, 3)).astype(np.float32)
    known = np.zeros((60, 40), dtype=bool)
    known[10:30, 6:26] = True
    picture[known] = [0.2, 0.4, 0.6]
    expected = np.broadcast_to([0.2, 0.4, 0.6], picture.shape)
    found = continued(picture, known, np.ones_like(known), 60.0)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_what_is_continued_keeps_its_texture_and_meets_the_colours_around() -> None:
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:160, :160]
    plain = np.stack([0.3 + 0.002 * rows, 0.4 + 0.001 * columns, np.full(rows.shape, 0.5)], axis=-1)
    picture = (plain + 0.05 * rng.standard_normal(rows.shape)[..., None]).astype(np.float32)
    known = np.hypot(rows - 80, columns - 80) > 25
    hidden = picture.copy()
    hidden[~known] = 1.0
    found = continued(hidden, known, ~known, 100.0)
    inner = np.hypot(rows - 80, columns - 80) < 20
    assert float(np.abs(ndimage.gaussian_filter(found - plain, (6, 6, 0)))[inner].mean()) < 0.02
    grain = [float((p - ndimage.gaussian_filter(p, (2, 2, 0)))[inner].std()) for p in (found, picture)]
    assert grain[0] == pytest.approx(grain[1], rel=0.15)


def test_a_source_meets_the_picture_beside_it() -> None:
    picture = np.full((60, 60, 3), 0.6, dtype=np.float32)
    beside = np.zeros((60, 60), dtype=bool)
    beside[:, :6] = True
    moved = meeting(picture - 0.2, picture, beside, 10.0)
    np.testing.assert_allclose(moved[:, :6], 0.6, atol=0.01)
    np.testing.assert_allclose(moved[:, -6:], 0.4, atol=0.01)


def test_an_edge_is_a_pixel_wide_and_a_mask_inside_is_whole() -> None:
    mask = np.zeros((40, 40), dtype=bool)
    mask[:, 20:] = True
    edge = soft(mask, 1.2)[20]
    assert edge[:18].max() == 0
    assert edge[22:].min() == 1
    np.testing.assert_allclose(edge[19] + edge[20], 1, atol=1e-6)


def test_skin_of_the_clothes_colours_and_islands_of_skin_are_clothes() -> None:
    rng = np.random.default_rng(0)
    picture = np.full((120, 120, 3), 0.9, dtype=np.float32)
    labels = np.zeros((120, 120), dtype=np.uint8)
    labels[20:90, 30:90], labels[90:115, 30:90] = Label.TOP, Label.SKIN
    picture[20:100, 30:90], picture[100:115, 30:90] = (0.8, 0.7, 0.2), (0.5, 0.3, 0.25)  # The cuff is called skin.
    labels[20:115, :22], picture[20:115, :22] = Label.SKIN, (0.5, 0.3, 0.25)
    labels[20:115, 98:], picture[20:115, 98:] = Label.SKIN, (0.5, 0.3, 0.25)
    labels[50:56, 50:56] = Label.SKIN
    picture += 0.02 * rng.standard_normal(picture.shape).astype(np.float32)
    points = np.zeros((17, 3), dtype=np.float32)
    points[[5, 6, 11, 12]] = (80, 25, 1), (40, 25, 1), (80, 105, 1), (40, 105, 1)
    view = View(picture.clip(0, 1), labels, points, (0, 0, 120, 120))
    found = view.garment({Label.TOP})
    assert found[91:98, 34:86].all()
    assert found[50:56, 50:56].all()
    assert not found[104:].any()
    assert (view.wearing(found, {Label.TOP}).labels[92:98, 34:86] == Label.TOP).all()


def test_clothes_show_between_strands_of_hair() -> None:
    rng = np.random.default_rng(0)
    labels = np.zeros((160, 120), dtype=np.uint8)
    labels[40:150, 20:100], labels[5:60, 40:80] = Label.TOP, Label.HAIR
    picture = np.full((160, 120, 3), (0.5, 0.5, 0.6), dtype=np.float32)
    picture[40:150, 20:100], picture[5:60, 40:80] = (0.9, 0.9, 0.9), (0.3, 0.2, 0.1)
    picture[40:60, 75:80] = (0.9, 0.9, 0.9)
    picture += 0.02 * rng.standard_normal(picture.shape).astype(np.float32)
    points = np.zeros((17, 3), dtype=np.float32)
    points[[5, 6, 11, 12]] = (80, 40, 1), (40, 40, 1), (80, 140, 1), (40, 140, 1)
    found = View(picture.clip(0, 1), labels, points, (0, 0, 120, 160)).between_strands({Label.TOP}).labels
    assert (found[44:56, 77:80] == Label.TOP).all()
    assert (found[5:58, 42:72] == Label.HAIR).all()


def test_ground_that_labels_take_for_clothes_is_ground() -> None:
    rng = np.random.default_rng(0)
    picture = np.full((160, 120, 3), (0.2, 0.5, 0.1), dtype=np.float32)
    labels = np.zeros((160, 120), dtype=np.uint8)
    labels[20:150, 20:100] = Label.BOTTOM
    picture[20:150, 20:52] = picture[20:150, 68:100] = picture[20:60, 20:100] = (0.8, 0.7, 0.6)  # Grass between legs.
    picture[100:110, 28:38] = (0.2, 0.5, 0.1)  # A print of its colour.
    picture += 0.02 * rng.standard_normal(picture.shape).astype(np.float32)
    points = np.zeros((17, 3), dtype=np.float32)
    points[[5, 6, 11, 12]] = (80, 5, 1), (40, 5, 1), (80, 105, 1), (40, 105, 1)
    view = View(picture.clip(0, 1), labels, points, (0, 0, 120, 160))
    found = view.without_strays({Label.BOTTOM}).labels
    assert (found[70:145, 56:64] == Label.BACKGROUND).all()
    assert (found[25:145, 24:48] == Label.BOTTOM).all()
    np.testing.assert_array_equal(view.without_strays({Label.BOTTOM}, {Label.SKIN}).labels, labels)


def test_what_resembles_plain_cloth_beside_it_is_none() -> None:
    rng = np.random.default_rng(0)
    cloth, grass, bush = (0.25, 0.28, 0.4), (0.2, 0.6, 0.15), (0.5, 0.3, 0.1)
    labels = np.zeros((200, 160), dtype=np.uint8)
    labels[20:180, 40:120] = Label.TOP
    chance = rng.random((200, 160))
    ground = np.where((chance < 0.03)[..., None], cloth, np.where((chance > 0.99)[..., None], bush, grass))
    picture = np.where((labels == Label.TOP)[..., None], cloth, ground)
    picture[(labels == Label.TOP) & (chance > 0.985)] = bush
    labels[70:110, 34:40], picture[70:110, 34:40] = Label.TOP, bush  # Labels go beyond the cloth.
    picture = picture.astype(np.float32)
    points = np.zeros((17, 3), dtype=np.float32)
    points[[5, 6, 11, 12]] = (110, 20, 1), (50, 20, 1), (105, 165, 1), (55, 165, 1)
    view = View(picture.clip(0, 1), labels, points, (0, 0, 160, 200))
    found = view.garment({Label.TOP})
    assert not found[:, :37].any()
    assert found[30:170, 43:117].all()


def test_nothing_lies_above_shoulders_but_at_the_neck() -> None:
    person = photograph(pairs()[1].person)
    view = look_at(person, replaced_classes(TOP), legs=False, pixels=10**6)
    assert view is not None
    old = view.shows(replaced_classes(TOP))
    found = correspond(view, view, old, old, legs=False)
    above = layout._above_shoulders(view, found)
    assert above.any()
    assert not (above & old).any()
    assert (view.labels[above] == Label.BACKGROUND).mean() > 0.8


def standing(labels: np.ndarray, picture: np.ndarray | None = None) -> Photograph:
    """Somebody who stands upright, arms down, with given labels `(320, 240)`."""
    points = np.ones((17, 3), dtype=np.float32)
    for number, place in {5: (150, 70), 6: (90, 70), 11: (142, 190), 12: (98, 190)}.items():
        points[number, :2] = place
    for number, place in {7: (166, 130), 8: (74, 130), 9: (178, 190), 10: (62, 190)}.items():
        points[number, :2] = place
    points[:5, :2], points[13:, :2] = (120, 35), (120, 310)
    skin, rest = (215, 165, 135), [(90, 90, 90)] * 7
    colours = np.array([(200, 210, 220), (60, 40, 30), skin, skin, (30, 60, 140), *rest])
    image = Image.fromarray((colours[labels] if picture is None else picture).astype(np.uint8))
    size = (320, 240)
    frame = Frame((0.0, 0.0, 240.0, 320.0), size, (128, 96))
    return Photograph(image, frame, Pose(torch.from_numpy(points)[None], size), labels)


def dressed(*, neck: float, sleeves: float) -> np.ndarray:
    """Labels of somebody in a top: how far down its V goes, and how far along the arm its sleeves do."""
    y, x = np.mgrid[:320, :240]
    labels = np.zeros((320, 240), dtype=np.uint8)
    labels[(np.hypot(x - 120, y - 35) < 26)] = Label.FACE
    labels[(np.abs(x - 120) < 12) & (y > 55) & (y < 75)] = Label.SKIN
    for side in (-1, 1):
        along = (y - 68) / 122
        axis = 120 + side * (30 + 28 * along)
        arm = (along > 0) & (along < 1.15) & (np.abs(x - axis) < 10)
        labels[arm] = np.where(along < sleeves, np.uint8(Label.TOP), np.uint8(Label.SKIN))[arm]
    labels[(np.abs(x - 120) < 32) & (y > 66) & (y < 200)] = Label.TOP
    labels[(np.abs(x - 120) < 30) & (y >= 200)] = Label.BOTTOM
    labels[(np.abs(x - 120) < 22 * (1 - (y - 66) / neck)) & (y > 66) & (y < 66 + neck)] = Label.SKIN
    return labels


def test_a_neckline_keeps_its_point() -> None:
    layers = compose(standing(dressed(neck=8, sleeves=0.4)), standing(dressed(neck=50, sleeves=0.4)), TOP)
    assert layers is not None
    shown = np.zeros((320, 240), dtype=np.uint8)
    left, upper, right, lower = layers.box
    shown[upper:lower, left:right] = layers.layout
    middle = shown[66:150, 120]
    bared = np.flatnonzero(middle != Shows.CLOTH)
    assert 45 <= int(bared.max()) <= 50
    assert (middle[12:46] == Shows.SKIN).all()
    assert int((shown[66 + 46, 100:140] != Shows.CLOTH).sum()) <= 6
    assert (layers.labels[66 - upper + 20 : 66 - upper + 40, 120 - left] == Label.SKIN).all()


def test_a_bared_arm_is_as_wide_as_where_it_was_bare() -> None:
    layers = compose(standing(dressed(neck=8, sleeves=0.8)), standing(dressed(neck=8, sleeves=0.2)), TOP)
    assert layers is not None
    upper = layers.box[1]
    bare = layers.labels == Label.SKIN
    for row in (110, 130, 150):  # The old sleeve went on to 166.
        assert int(bare[row - upper].sum()) == pytest.approx(2 * 20, abs=8)


def test_hems_are_smooth_lines() -> None:
    x = np.linspace(-1, 1, 24)
    true = 1 + 0.05 * x - 0.1 * x**2
    wrong = true.copy()
    wrong[4:8] += 0.1
    np.testing.assert_allclose(hems._curve(x, wrong)(x), true, atol=0.03)
    flared = 1 + 0.2 * x**2
    assert float(np.ptp(hems._curve(x, flared)(x))) < 0.05


def test_skin_gets_the_median_colour_of_the_other() -> None:
    rng = np.random.default_rng(0)
    theirs = (0.6 + 0.05 * rng.standard_normal((400, 3))).clip(0, 1).astype(np.float32)
    ours = (np.array([0.5, 0.35, 0.3]) + 0.05 * rng.standard_normal((400, 3))).clip(0, 1).astype(np.float32)
    found = recoloured(theirs, theirs, ours)
    np.testing.assert_allclose(np.median(found, axis=0), np.median(ours, axis=0), atol=0.02)
    np.testing.assert_allclose(recoloured(theirs, theirs, theirs), theirs, atol=1e-3)
    np.testing.assert_array_equal(recoloured(theirs, theirs[:10], ours), theirs)


def test_look_up_finds_pixels_at_their_centres() -> None:
    picture = np.random.default_rng(0).random((6, 5, 3)).astype(np.float32)
    rows, columns = np.mgrid[:6, :5]
    places = np.stack([columns, rows], axis=-1) + 0.5
    np.testing.assert_allclose(look_up(picture, places), picture, atol=1e-5)
    between = (picture[:, :4, 0] + picture[:, 1:, 0]) / 2
    np.testing.assert_allclose(look_up(picture[..., 0], places + np.array([0.5, 0]))[:, :4], between, atol=1e-5)


def test_half_a_dress_may_change() -> None:
    labels = np.zeros((120, 80), np.uint8)
    labels[20:100, 25:55] = Label.DRESS
    points = np.ones((17, 3), np.float32)
    for number, place in {5: (50, 25), 6: (30, 25), 11: (47, 65), 12: (33, 65)}.items():
        points[number, :2] = place
    view = View(np.zeros((120, 80, 3), np.float32), labels, points, (0, 0, 80, 120))
    assert blending._parted(view, {Label.DRESS, Label.TOP, Label.BOTTOM}) is view
    assert blending._parted(view, {Label.LEGWEAR}) is view
    above = blending._parted(view, {Label.TOP, Label.OUTERWEAR}).labels
    assert (above[25:60, 30:50] == Label.TOP).all()
    assert (above[70:95, 30:50] == Label.BOTTOM).all()
    below = blending._parted(view, {Label.BOTTOM}).labels
    assert (below[25:50, 30:50] == Label.TOP).all()
    assert (below[60:95, 30:50] == Label.BOTTOM).all()
    assert not (below == Label.DRESS).any()
    assert (below[:, :25] == 0).all()


def test_thin_ground_is_no_cloth_and_a_print_is() -> None:
    picture = np.full((200, 160, 3), 0.9, np.float32)
    picture[40:160, 30:130] = (0.1, 0.2, 0.4)
    cloth = np.zeros((200, 160), bool)
    cloth[40:160, 30:130] = True
    picture[60:140, 100:103] = 0.9  # between a sleeve and the trunk
    picture[80:110, 50:80] = 0.9  # a print
    points = np.ones((17, 3), np.float32)
    for number, place in {5: (110, 50), 6: (50, 50), 11: (100, 150), 12: (60, 150)}.items():
        points[number, :2] = place
    view = View(picture, np.where(cloth, np.uint8(Label.TOP), np.uint8(0)), points, (0, 0, 160, 200), worn=False)
    slivers = blending._slivers(view, cloth)
    assert slivers[65:135, 100:103].all()
    assert not slivers[85:105, 55:75].any()
    assert slivers.sum() < 1200


@given(seed=st.integers(0, 10**6), share=st.floats(0, 1), reach=st.integers(0, 72).map(lambda eighths: eighths / 8))
def test_rims_are_those_of_the_whole_picture(seed: int, share: float, reach: float) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((40, 30), bool)
    top, left = rng.integers(0, 25, 2)
    mask[top : top + rng.integers(1, 16), left : left + rng.integers(1, 16)] = rng.random() < 0.9
    mask &= rng.random(mask.shape) < share
    inwards, outwards = (ndimage.distance_transform_edt(part).astype(np.float32) for part in (mask, ~mask))
    np.testing.assert_array_equal(grown(mask, reach), outwards <= reach if mask.any() else mask)
    np.testing.assert_array_equal(shrunk(mask, reach), inwards > reach)
    assert shrunk(np.ones_like(mask), reach).all()
