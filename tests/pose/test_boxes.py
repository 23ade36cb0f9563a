"""Boxes: how they meet the edges of a picture, and pictures of any shape."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

import styletryon
from styletryon.data import paperdoll
from styletryon.errors import ImageError
from styletryon.pipeline import TryOnPipeline
from styletryon.pose import Pose
from tests._support.tiny import tiny_generator

SIZE = (256, 192)


@pytest.fixture(scope="module")
def figure() -> paperdoll.Rendering:
    return paperdoll.render(paperdoll.sample_figure(3), SIZE)


def far(one: Pose, other: Pose) -> float:
    """The mean distance of keypoints that both see, in pixels."""
    both = (one.keypoints[0, :, 2] > 0.5) & (other.keypoints[0, :, 2] > 0.5)
    assert int(both.sum()) >= 8
    return float((one.keypoints - other.keypoints)[0, both, :2].norm(dim=-1).mean())


@pytest.mark.parametrize("box", [(-5000, -5000, 6000, 6000), (0, 0, 192, 256), (-40, -1, 1e9, 256.5)])
def test_a_box_beyond_the_picture_ends_at_its_edges(
    figure: paperdoll.Rendering, box: tuple[float, float, float, float]
) -> None:
    assert far(styletryon.estimate_pose(figure.image, box=box), styletryon.estimate_pose(figure.image)) == 0


def test_a_box_cuts_a_person_out_of_a_picture_of_any_shape(figure: paperdoll.Rendering) -> None:
    page = Image.new("RGB", (200, 2300), "white")
    page.paste(Image.fromarray(figure.image), (0, 1000))
    box = (0, 1000, 192, 1256)
    with pytest.raises(ImageError, match="by a box"):
        styletryon.estimate_pose(page)
    moved = torch.tensor([0.0, 1000.0, 0.0])
    seen = Pose(styletryon.estimate_pose(page, box=box).keypoints - moved, SIZE)
    assert far(seen, Pose(torch.from_numpy(figure.keypoints), SIZE)) < 8
    assert styletryon.estimate_labels(page, box=box)[1000:1256].any()
    pose = Pose(torch.from_numpy(figure.keypoints).float() + moved, (2300, 200))
    for known in ({"box": box}, {"pose": pose}):
        assert TryOnPipeline(tiny_generator()).read(page, **known).picture.size == (200, 2300)  # type: ignore[arg-type]
