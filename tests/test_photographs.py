"""Photographs on their way to latents: the background that a generator knows, and clothes that are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import styletryon
from styletryon._photographs import Prepared, is_dress, prepare
from styletryon.data import paperdoll
from styletryon.errors import ConfigError, PoseError
from styletryon.labels import Label
from styletryon.models import GeneratorConfig, PoseStyleGAN2
from styletryon.pose import Pose
from tests._support.process import ROOT

SIZE = (256, 192)
CONFIG = GeneratorConfig((64, 48), (8, 8, 8, 8, 8), z_dim=8, w_dim=8, mapping_layers=2, pose_channels=4)


@pytest.fixture(scope="module")
def figure() -> paperdoll.Rendering:
    return paperdoll.render(paperdoll.sample_figure(3), SIZE)


def prepared(figure: paperdoll.Rendering, background: tuple[int, ...] = (), *, dressed: bool = False) -> Prepared:
    generator = PoseStyleGAN2(replace(CONFIG, background=background))
    pose = Pose(torch.from_numpy(figure.keypoints), SIZE)
    return prepare(Image.fromarray(figure.image), generator, pose=pose, dressed=dressed)


def test_people_are_cut_out_for_a_generator_that_knows_one_background(figure: paperdoll.Rendering) -> None:
    own, cut = prepared(figure), prepared(figure, (255, 0, 0))
    red = torch.tensor([1.0, -1.0, -1.0])
    assert torch.allclose(cut.picture[0, :, 0, 0], red, atol=0.02)
    assert not torch.allclose(own.picture[0, :, 0, 0], red, atol=0.5)
    assert cut.labels is not None
    middle = cut.labels[0, 30, 24]
    assert int(middle) != Label.BACKGROUND
    assert torch.allclose(cut.picture[0, :, 30, 24], own.picture[0, :, 30, 24], atol=0.1)
    # The photograph itself, into which the result is pasted, keeps its own.
    assert np.array_equal(np.asarray(cut.source.photo), figure.image)


def test_somebody_in_a_dress_wears_no_top(figure: paperdoll.Rendering) -> None:
    plain, dressed = prepared(figure), prepared(figure, dressed=True)
    assert plain.labels is not None
    assert dressed.labels is not None
    assert set(plain.labels.unique().tolist()) & {Label.TOP, Label.BOTTOM}
    assert not set(dressed.labels.unique().tolist()) & {Label.TOP, Label.BOTTOM}
    assert Label.DRESS in dressed.labels
    assert is_dress("dress")
    assert not is_dress("full")
    assert not is_dress("top")


def test_the_source_knows_pose_and_labels(figure: paperdoll.Rendering) -> None:
    source = prepared(figure).source
    assert source.pose is not None
    assert source.pose.size == SIZE
    assert source.labels is not None
    assert source.labels.shape == SIZE


def test_keypoints_that_are_no_pose_are_refused(figure: paperdoll.Rendering) -> None:
    with pytest.raises(PoseError, match=r"person_pose: expected a styletryon.Pose of 17 keypoints, got list"):
        prepare(figure.image, PoseStyleGAN2(CONFIG), pose=figure.keypoints.tolist(), name="person")


def test_a_background_makes_no_other_generator() -> None:
    """Latents of the one are latents of the other: what stands behind people changes no drawing."""
    generator = PoseStyleGAN2(CONFIG)
    known = PoseStyleGAN2(replace(CONFIG, background=(0, 0, 0)))
    known.load_state_dict(generator.state_dict())
    assert known.fingerprint == generator.fingerprint


def test_the_documented_numbers_are_of_the_bundled_weights() -> None:
    results = (ROOT / "docs/evaluation.md").read_text(encoding="utf-8")
    assert f"--seed 7`, model fingerprint {styletryon.load_model().fingerprint}" in results


@pytest.mark.parametrize("background", [(1, 2), (0, 0, 256), (-1, 0, 0)])
def test_a_background_is_a_colour(background: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="background: expected three numbers from 0 to 255 or none"):
        replace(CONFIG, background=background)
