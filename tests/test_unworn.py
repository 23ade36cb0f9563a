"""Garments that nobody wears: drawn, found, completed to an invisible wearer, and tried on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import styletryon
from styletryon import unworn
from styletryon.compositing.blending import _own_skin
from styletryon.compositing.layout import Layout
from styletryon.compositing.view import View
from styletryon.data import paperdoll
from styletryon.errors import ImageError, PersonNotFoundError, RegionError, StyleTryOnError
from styletryon.labels import Label
from styletryon.latent import Latent
from styletryon.photo import Photograph
from styletryon.pose import Pose
from styletryon.pose.garment import GarmentEstimator, SeenGarment
from styletryon.unworn import complete, photograph_of, reduced, worn_as, worn_by_model, worn_label
from tests._support.tiny import tiny_generator

SIZE = (320, 320)
STRAIGHT = replace(
    paperdoll.sample_lie(1), folded=False, turn=0.0, fills=0.85, shift_x=0.0, shift_y=0.0, left=0.5, right=0.5,
    ground="white", hanger=False,
)  # fmt: skip


def figure(dress: bool = False, sleeve: str = "long", first: int = 900) -> paperdoll.Figure:
    """A figure in a dress, or in a top with such sleeves."""
    for seed in range(first, first + 400):
        found = paperdoll.sample_figure(seed)
        if dress and found.outfit.dress is not None:
            return found
        if not dress and found.outfit.dress is None and found.outfit.top.sleeve == sleeve:
            return found
    raise AssertionError("no such figure")


@pytest.fixture(scope="module")
def estimator() -> GarmentEstimator:
    return GarmentEstimator.from_pretrained()


@pytest.fixture(scope="module")
def model() -> styletryon.PoseStyleGAN2:
    return styletryon.load_model()


class TestLayFlat:
    def test_a_garment_lies_where_its_keypoints_say(self) -> None:
        drawing = paperdoll.lay_flat(figure(), "top", SIZE, lie=STRAIGHT)
        assert set(np.unique(drawing.labels)) <= {Label.BACKGROUND, Label.SKIN, Label.TOP}
        x, y, score = drawing.keypoints[[5, 6, 7, 8]].T
        assert (score == 1).all()
        assert (drawing.labels[y.astype(int), x.astype(int)] == Label.TOP).all()
        assert drawing.keypoints[5, 0] > drawing.keypoints[6, 0]  # the wearer's left is to the right
        assert not drawing.keypoints[[0, 1, 2, 3, 4, 13, 14, 15, 16], 2].any()

    def test_the_same_arguments_give_the_same_picture(self) -> None:
        one, two = (paperdoll.lay_flat(figure(), "top", SIZE, lie=paperdoll.sample_lie(4)) for _ in range(2))
        assert np.array_equal(one.image, two.image)
        assert np.array_equal(one.keypoints, two.keypoints)

    def test_short_sleeves_show_no_wrists(self) -> None:
        drawing = paperdoll.lay_flat(figure(sleeve="short"), "top", SIZE, lie=STRAIGHT)
        assert not drawing.keypoints[7:11, 2].any()

    def test_turning_turns_the_keypoints_about_the_middle(self) -> None:
        turned = replace(STRAIGHT, turn=0.4, fills=0.5)
        upright = paperdoll.lay_flat(figure(), "top", SIZE, lie=replace(turned, turn=0.0))
        drawing = paperdoll.lay_flat(figure(), "top", SIZE, lie=turned)

        def trunk(points: np.ndarray) -> np.ndarray:
            return points[[11, 12], :2].mean(axis=0) - points[[5, 6], :2].mean(axis=0)

        one, two = trunk(upright.keypoints), trunk(drawing.keypoints)
        angle = np.arctan2(two[1], two[0]) - np.arctan2(one[1], one[0])
        assert angle == pytest.approx(0.4, abs=0.02)

    def test_a_garment_that_the_figure_has_not_is_refused(self) -> None:
        with pytest.raises(RegionError, match="garment: expected a garment that the figure has"):
            paperdoll.lay_flat(figure(dress=True), "top", SIZE)


class TestComplete:
    @given(turn=st.floats(-0.5, 0.5), scale=st.floats(0.5, 2.0))
    def test_a_sleeveless_top_gets_arms_of_a_body(self, turn: float, scale: float) -> None:
        points = np.zeros((17, 3))
        points[[5, 6, 11, 12]] = [[60, -100, 1], [-60, -100, 1], [35, 100, 1], [-35, 100, 1]]
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        points[:, :2] = scale * points[:, :2] @ rotation.T + 300
        whole = complete(points, np.zeros((600, 600), dtype=bool), Label.TOP)
        assert (whole[5:13, 2] > 0.5).all()
        assert not whole[:5, 2].any()
        back = (whole[:, :2] - 300) @ rotation / scale
        for left, right in ((5, 6), (7, 8), (9, 10), (11, 12)):  # upright, the two sides mirror each other
            np.testing.assert_allclose(back[left], back[right] * [-1, 1], atol=1e-6)
        assert np.linalg.norm(back[7] - back[5]) == pytest.approx(0.58 * 200, rel=1e-6)

    def test_the_side_that_is_not_shown_mirrors_the_other(self) -> None:
        points = np.zeros((17, 3))
        points[[5, 6, 11, 12]] = [[260, 100, 1], [140, 100, 1], [235, 300, 1], [165, 300, 1]]
        points[[7, 9]] = [[320, 180, 0.9], [360, 270, 0.9]]
        whole = complete(points, np.zeros((400, 400), dtype=bool), Label.TOP)
        np.testing.assert_allclose(whole[8, :2], [80, 180], atol=1e-6)
        np.testing.assert_allclose(whole[10, :2], [40, 270], atol=1e-6)

    def test_trousers_get_a_trunk_above_their_hips(self) -> None:
        cloth = np.zeros((500, 400), dtype=bool)
        cloth[100:450, 100:300] = True
        points = np.zeros((17, 3))
        points[[11, 12, 13, 14]] = [[240, 140, 1], [160, 140, 1], [245, 320, 1], [155, 320, 1]]
        whole = complete(points, cloth, Label.BOTTOM)
        assert (whole[[5, 6], 1] < 0).all()
        assert whole[5, 0] > whole[6, 0]


def test_regions_that_are_not_a_garments_are_refused() -> None:
    assert worn_as(Label.OUTERWEAR, {Label.TOP, Label.OUTERWEAR}) == Label.OUTERWEAR
    assert worn_as(Label.TOP, {Label.DRESS}) == Label.DRESS
    assert worn_as(Label.TOP, {Label.OUTERWEAR}) == Label.OUTERWEAR
    with pytest.raises(RegionError, match="trousers or a skirt; use region='bottom'"):
        worn_as(Label.BOTTOM, {Label.TOP, Label.OUTERWEAR})
    with pytest.raises(RegionError, match="whole outfit"):
        worn_as(Label.TOP, styletryon.labels.REGIONS["full"])


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        ({"shoes": 0.9}, ImageError, "shoes"),
        ({"labels": np.zeros((100, 100), np.uint8)}, PersonNotFoundError, "neither"),
        ({"pieces": 0.8}, ImageError, "several"),
        ({"pose": Pose(torch.zeros(1, 17, 3), (100, 100))}, ImageError, "folded"),
    ],
)
def test_what_cannot_be_tried_on_is_refused_with_its_reason(change: dict, kind: type[Exception], said: str) -> None:
    labels = np.full((100, 100), Label.TOP, np.uint8)
    sound = SeenGarment(Label.TOP, labels, Pose(torch.ones(1, 17, 3), (100, 100)), worn=0.0, shoes=0.0, pieces=0.0)
    sound.check()
    with pytest.raises(kind, match=said):
        replace(sound, **change).check()


def test_large_photographs_are_made_smaller() -> None:
    assert reduced(Image.new("RGB", (3000, 4000))).size == (1500, 2000)
    assert reduced(Image.new("RGB", (30, 40))).size == (30, 40)


class TestFound:
    def test_drawn_garments_are_found(self, estimator: GarmentEstimator) -> None:
        near = []
        for one, kind in ((figure(), "top"), (figure(dress=True), "dress"), (figure(), "bottom")):
            drawing = paperdoll.lay_flat(one, kind, SIZE, lie=STRAIGHT)
            seen = estimator(Image.fromarray(drawing.image))
            assert not seen.is_worn
            cloth, truth = seen.labels > 0, drawing.labels > 0
            assert (cloth & truth).sum() > 0.85 * (cloth | truth).sum()
            counts = drawing.keypoints[:, 2] > 0
            height = np.ptp(np.flatnonzero(truth.any(axis=1)))
            apart = np.hypot(*(seen.pose.keypoints[0].numpy() - drawing.keypoints)[counts, :2].T)
            near += (apart < 0.1 * height).tolist()
        assert np.mean(near) > 0.75

    def test_a_person_wears_what_they_wear(self, estimator: GarmentEstimator) -> None:
        picture = paperdoll.render(figure(), (512, 384)).image
        assert estimator(Image.fromarray(picture)).is_worn

    def test_a_photograph_of_it_reaches_beyond_the_picture(
        self, estimator: GarmentEstimator, model: styletryon.PoseStyleGAN2, tmp_path: Path
    ) -> None:
        drawing = paperdoll.lay_flat(figure(), "bottom", SIZE, lie=STRAIGHT)
        picture = Image.fromarray(drawing.image)
        photograph = photograph_of(picture, estimator(picture, expected=(Label.BOTTOM,)), model)
        assert not photograph.worn
        assert worn_label(photograph) == Label.BOTTOM
        assert photograph.pose is not None
        assert photograph.picture.height > picture.height
        assert (photograph.pose.keypoints[0, [5, 6, 11, 12], :2] >= 0).all()
        worn = worn_by_model(photograph, model)
        assert worn.labels is not None
        assert (worn.labels == Label.BOTTOM).mean() > 0.05
        latent = replace(styletryon.generate(seed=1), photograph=(photograph,))
        latent.save(tmp_path / "garment.safetensors")
        loaded = Latent.load(tmp_path / "garment.safetensors").photograph
        assert loaded is not None
        assert isinstance(loaded[0], Photograph)
        assert not loaded[0].worn


@pytest.mark.slow
def test_a_garment_by_itself_is_tried_on() -> None:
    wearer, owner = figure(sleeve="short"), figure(sleeve="short", first=1500)
    pipeline = styletryon.TryOnPipeline(preset="fast", remember=4)
    person = paperdoll.render(wearer, (512, 384))
    pose = Pose(torch.from_numpy(person.keypoints)[None], (512, 384))
    alone = paperdoll.lay_flat(owner, "top", (384, 384), lie=STRAIGHT).image
    result = pipeline(person.image, alone, region="top", person_pose=pose)
    truth = paperdoll.render(paperdoll.dress(wearer, owner, "top"), (512, 384))
    there = truth.labels == Label.TOP
    shown, true = np.asarray(result.image)[there].mean(axis=0), truth.image[there].mean(axis=0)
    before = person.image[there].mean(axis=0)
    assert np.abs(shown - true).max() < 40
    assert np.abs(shown - true).mean() < np.abs(before - true).mean()
    mine = np.isin(result.segmentation, (Label.TOP, Label.OUTERWEAR))
    assert (mine & there).sum() > 0.7 * (mine | there).sum()
    assert result.garment.photograph is not None
    assert not result.garment.photograph[0].worn
    with pytest.raises(RegionError):
        pipeline(person.image, alone, region="bottom", person_pose=pose)


def test_what_is_in_doubt_is_told_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What may be worn by somebody, and shows nobody, lies by itself: in the first call, the next, and each region."""
    pipeline = styletryon.TryOnPipeline(tiny_generator(), remember=0)
    shirt = Image.fromarray(paperdoll.lay_flat(figure(), "top", (320, 320), lie=STRAIGHT).image)
    look, chances = GarmentEstimator.__call__, [0.7]

    def doubtful(*arguments: object, **options: object) -> SeenGarment:
        return replace(look(*arguments, **options), worn=chances[0])  # type: ignore[arg-type]

    monkeypatch.setattr(GarmentEstimator, "__call__", doubtful)
    for region, label in (("top", Label.TOP), ("top", Label.TOP), ("outerwear", Label.OUTERWEAR)):
        read = pipeline.read(shirt, worn=None, region=region, name="garment")
        assert not read.worn
        assert worn_label(read) == label
    assert not pipeline.is_worn(shirt)
    with pytest.raises(RegionError):
        pipeline.read(shirt, worn=None, region="bottom", name="garment")
    chances[0] = 0.95
    with pytest.raises(PersonNotFoundError, match="found nobody in it"):
        styletryon.TryOnPipeline(tiny_generator()).read(shirt, worn=None, name="garment")


@pytest.mark.slow
def test_a_picture_of_nothing_is_neither_worn_nor_a_garment() -> None:
    grey = np.full((256, 256, 3), 128, np.uint8)
    with pytest.raises(StyleTryOnError, match="garment: "):
        styletryon.try_on(styletryon.generate(seed=1), grey, preset="fast")


def test_a_face_is_no_skin_to_copy() -> None:
    """Where no other skin of the person is seen, limbs get the tone of the face, and no piece of it."""
    labels = np.zeros((80, 60), np.uint8)
    labels[5:35, 15:45] = Label.FACE
    picture = np.random.default_rng(0).random((80, 60, 3)).astype(np.float32)
    view = View(picture, labels, np.ones((17, 3), np.float32), (0, 0, 60, 80))
    none = np.zeros((80, 60), bool)
    limb = none.copy()
    limb[50:75, 20:40] = True
    shown = _own_skin(view, labels == Label.FACE, Layout(none, limb, none, none, none))
    assert np.ptp(shown[limb], axis=0).max() == 0


def test_legs_whose_knees_are_not_seen_go_where_the_cloth_goes() -> None:
    cloth = np.zeros((400, 400), bool)
    for row in range(100, 380):  # legs that lie apart
        for side in (-1, 1):
            middle = 200 + side * (25 + (row - 100) * 0.4)
            cloth[row, int(middle) - 30 : int(middle) + 30] = True
    points = np.zeros((17, 3))
    points[11], points[12] = (225, 120, 0.9), (175, 120, 0.9)
    whole = unworn.complete(points, cloth, Label.BOTTOM)
    for knee, side in ((13, 1), (14, -1)):
        assert cloth[int(whole[knee, 1]), int(whole[knee, 0])]
        assert side * (whole[knee, 0] - 200) > 45


def test_an_arm_without_a_sleeve_lies_beside_the_cloth() -> None:
    cloth = np.zeros((500, 400), bool)
    for row in range(100, 450):  # a sleeveless dress that grows wider downwards
        half = 60 + (row - 100) * 0.35
        cloth[row, int(200 - half) : int(200 + half)] = True
    points = np.zeros((17, 3))
    for number, place in {5: (255, 105), 6: (145, 105), 11: (240, 270), 12: (160, 270)}.items():
        points[number] = (*place, 0.9)
    whole = unworn.complete(points, cloth, Label.DRESS)
    for shoulder, elbow in ((5, 7), (6, 8)):
        way = np.linspace(whole[shoulder, :2], whole[elbow, :2], 20)[8:].astype(int)
        assert cloth[way[:, 1], way[:, 0]].mean() < 0.4


def test_a_sleeve_beside_the_trunk_is_seen_by_the_ground_between_them() -> None:
    cloth = np.zeros((400, 400), bool)
    cloth[100:320, 130:270] = True  # the trunk
    for row in range(100, 300):  # long sleeves, from the shoulders down
        for side in (-1, 1):
            middle = 200 + side * (70 + 10 + (row - 100) * 0.18)
            cloth[row, int(middle) - 14 : int(middle) + 14] = True
    points = np.zeros((17, 3))
    for number, place in {5: (265, 110), 6: (135, 110), 11: (235, 290), 12: (165, 290)}.items():
        points[number] = (*place, 0.9)
    whole = complete(points, cloth, Label.TOP)
    for elbow in (7, 8):
        assert cloth[int(whole[elbow, 1]), int(whole[elbow, 0])]
        assert abs(whole[elbow, 0] - 200) > 80
