"""Keypoints that were found are held to the labels of the same picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from styletryon.data import paperdoll
from styletryon.errors import PersonNotFoundError
from styletryon.labels import Label
from styletryon.pipeline import TryOnPipeline
from styletryon.pose import Pose
from styletryon.pose.presence import check_agreement
from tests._support.tiny import tiny_generator

SIZE = (256, 192)


@pytest.fixture(scope="module")
def figure() -> paperdoll.Rendering:
    return paperdoll.render(paperdoll.sample_figure(3), SIZE)


def pose_of(figure: paperdoll.Rendering, **moved: tuple[float, float]) -> Pose:
    points = torch.from_numpy(figure.keypoints).float()[None].clone()
    for name, (x, y) in moved.items():
        points[0, {"nose": 0, "left_wrist": 9, "right_wrist": 10}[name], :2] = torch.tensor([x, y])
    points[..., 2] = 1.0 * ((points[..., 1] < SIZE[0]) & (points[..., 2] > 0))
    return Pose(points, SIZE)


def test_the_truth_agrees_with_itself(figure: paperdoll.Rendering) -> None:
    check_agreement(pose_of(figure), figure.labels)
    check_agreement(pose_of(figure, left_wrist=(2, 2)), figure.labels)  # one may be wrong
    large = figure.labels.repeat(6, axis=0).repeat(6, axis=1)
    check_agreement(pose_of(figure).resized((6 * SIZE[0], 6 * SIZE[1])), large)


def test_a_head_where_none_is_seen_is_refused(figure: paperdoll.Rendering) -> None:
    hips = tuple(figure.keypoints[11, :2])
    with pytest.raises(PersonNotFoundError, match="keypoints of a head where no face and no hair is seen; turn"):
        check_agreement(pose_of(figure, nose=hips), figure.labels)
    headless = np.where(np.isin(figure.labels, [Label.FACE, Label.HAIR]), np.uint8(Label.TOP), figure.labels)
    with pytest.raises(PersonNotFoundError, match="no face and no hair"):
        check_agreement(pose_of(figure), headless)
    unseen = pose_of(figure).keypoints.clone()
    unseen[:, :5, 2] = 0
    check_agreement(Pose(unseen, SIZE), headless)  # no head is claimed


def test_keypoints_beside_the_person_are_refused(figure: paperdoll.Rendering) -> None:
    aside = pose_of(figure).keypoints + torch.tensor([90.0, 0.0, 0.0])
    with pytest.raises(PersonNotFoundError, match=r"image: .*keypoints beside what is seen of one"):
        check_agreement(Pose(aside, SIZE), figure.labels)
    with pytest.raises(PersonNotFoundError, match=r"got 1\d of 1\d keypoints beside"):
        check_agreement(pose_of(figure), np.zeros(SIZE, np.uint8))


def test_the_road_of_a_photograph_checks_what_it_finds_and_not_what_it_is_given(
    figure: paperdoll.Rendering, monkeypatch: pytest.MonkeyPatch
) -> None:
    road = TryOnPipeline(tiny_generator())
    aside = Pose(pose_of(figure).keypoints + torch.tensor([90.0, 0.0, 0.0]), SIZE)
    monkeypatch.setattr("styletryon.pipeline.find_body", lambda *_: (aside, figure.labels))
    with pytest.raises(PersonNotFoundError, match=r"^garment: expected a photograph of an upright person"):
        road.read(Image.fromarray(figure.image), name="garment")
    monkeypatch.setattr("styletryon.pipeline.find_labels", lambda *_: figure.labels)
    assert road.read(Image.fromarray(figure.image), pose=aside).pose is aside
