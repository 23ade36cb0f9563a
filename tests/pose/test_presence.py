"""Whether a person is in a photograph, upright, or clothes by themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from styletryon import pipeline
from styletryon.data import paperdoll
from styletryon.errors import PersonNotFoundError
from styletryon.labels import Label
from styletryon.photo import read_image
from styletryon.pipeline import TryOnPipeline
from styletryon.pose import Pose
from styletryon.pose.presence import check_somebody, shows_somebody
from tests._support.process import ROOT
from tests._support.tiny import tiny_generator

SIZE = (40, 30)


def seen(*, head: float = 0.0, limbs: float = 0.0) -> Pose:
    points = torch.full((1, 17, 3), 10.0)
    points[0, :, 2] = limbs
    points[0, :5, 2] = head
    return Pose(points, SIZE)


def cloth(**others: float) -> np.ndarray:
    """A top, of which shares are something else."""
    labels = np.full(SIZE, Label.TOP, np.uint8)
    flat, start = labels.reshape(-1), 0
    for name, share in others.items():
        end = start + round(share * flat.size)
        flat[start:end] = Label[name.upper()]
        start = end
    return labels


@pytest.mark.parametrize(
    ("head", "limbs", "others", "somebody"),
    [
        (1.0, 0.95, {"face": 0.05, "hair": 0.05, "skin": 0.2}, True),
        (0.9, 0.2, {"face": 0.2, "hair": 0.1}, True),  # a portrait
        (0.0, 0.95, {"skin": 0.1}, True),  # cut at the chin
        (0.0, 0.6, {"skin": 0.4}, True),
        (0.0, 0.98, {}, False),  # nothing but cloth
        (0.9, 0.6, {"skin": 0.01}, False),  # a head is claimed, and none is seen
        (0.0, 0.6, {"skin": 0.1}, False),
        (0.0, 0.1, {"skin": 0.4}, False),
    ],
)
def test_the_less_is_seen_the_surer_it_must_be(
    head: float, limbs: float, others: dict[str, float], somebody: bool
) -> None:
    pose, labels = seen(head=head, limbs=limbs), cloth(**others)
    assert shows_somebody(pose, labels) is somebody
    large = labels.repeat(25, axis=0).repeat(25, axis=1)  # of which some are counted
    assert shows_somebody(pose, large) is somebody
    if somebody:
        check_somebody(pose, labels)
    else:
        with pytest.raises(PersonNotFoundError, match=r"^image: expected a photograph that shows a person, got one"):
            check_somebody(pose, labels)


def test_background_is_nobody() -> None:
    assert not shows_somebody(seen(head=1.0, limbs=1.0), np.zeros(SIZE, np.uint8))


@given(limbs=st.floats(0, 1), skin=st.floats(0, 0.9), more=st.floats(0, 0.1))
def test_more_of_somebody_never_makes_them_nobody(limbs: float, skin: float, more: float) -> None:
    if shows_somebody(seen(limbs=limbs), cloth(skin=skin)):
        assert shows_somebody(seen(limbs=min(1.0, limbs + more)), cloth(skin=skin + more))


# ------------------------------------------------------------------------------------------- with the bundled network


@pytest.fixture(scope="module")
def person() -> Image.Image:
    picture = read_image(ROOT / "src" / "styletryon" / "samples" / "person.jpg")
    picture.thumbnail((600, 600))
    return picture


@pytest.fixture(scope="module")
def road() -> TryOnPipeline:
    return TryOnPipeline(tiny_generator())


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_turned_photograph_is_refused_and_the_turn_named(
    person: Image.Image, road: TryOnPipeline, degrees: int
) -> None:
    turned = person.rotate(degrees, expand=True)
    back = 360 - degrees
    assert road.body.turn(turned) == back
    how = "stands on its head" if degrees == 180 else "lies on its side"
    for name in ("person", "garment"):
        with pytest.raises(PersonNotFoundError, match=rf"^{name}: .* {how}; turn the .* by {back} degrees"):
            road.read(turned, name=name)
    wide = Image.new("RGB", (turned.width + 300, turned.height), (90, 120, 90))
    wide.paste(turned, (300, 0))
    with pytest.raises(PersonNotFoundError, match=rf"by {back} degrees"):
        road.read(wide, box=(300, 0, wide.width, wide.height))


def test_upright_photographs_are_taken(person: Image.Image, road: TryOnPipeline) -> None:
    assert road.body.turn(person) == 0
    assert road.read(person).pose is not None
    half = person.crop((0, person.height // 5, person.width, person.height * 3 // 5))
    assert road.body.turn(half) == 0


def test_whoever_is_seen_whole_is_not_looked_at_in_every_turn(
    person: Image.Image, road: TryOnPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "check_upright", lambda *_: pytest.fail("turned for nothing"))
    road.read(person)


def test_a_pose_says_which_way_a_photograph_is_seen(person: Image.Image, road: TryOnPipeline) -> None:
    figure = paperdoll.render(paperdoll.sample_figure(3), (128, 96))
    pose = Pose(torch.from_numpy(figure.keypoints), (128, 96))
    assert road.read(person.rotate(180).resize((96, 128)), pose=pose).pose is not None


def test_a_drawn_shirt_is_neither_person_nor_worn(road: TryOnPipeline) -> None:
    shirt = Image.new("RGB", (240, 320), "white")
    ImageDraw.Draw(shirt).polygon(
        [(60, 60), (100, 50), (140, 50), (180, 60), (225, 120), (195, 140), (175, 115), (175, 280), (65, 280),
         (65, 115), (45, 140), (15, 120)], fill=(30, 80, 160),
    )  # fmt: skip
    for picture in (shirt, shirt.rotate(90, expand=True), shirt.rotate(180)):
        with pytest.raises(PersonNotFoundError, match=r"^person: expected a photograph "):
            road.read(picture, name="person")


def test_legs_alone_are_refused(person: Image.Image, road: TryOnPipeline) -> None:
    with pytest.raises(PersonNotFoundError, match=r"^person: expected .* from head to knee|show more of the person"):
        road.read(person.crop((0, int(0.6 * person.height), person.width, person.height)), name="person")
