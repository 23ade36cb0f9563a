"""Photographs on their way to latents: the background that a generator knows, and clothes that are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import styletryon
from styletryon._photographs import helpful_labels, is_dress, prepare
from styletryon.data import paperdoll
from styletryon.errors import ConfigError, PoseError
from styletryon.labels import Label
from styletryon.models import GeneratorConfig, PoseStyleGAN2
from styletryon.photo import Photograph
from styletryon.pose import Pose
from tests._support.process import ROOT

SIZE = (256, 192)
CONFIG = GeneratorConfig((64, 48), (8, 8, 8, 8, 8), z_dim=8, w_dim=8, mapping_layers=2, pose_channels=4)


@pytest.fixture(scope="module")
def figure() -> paperdoll.Rendering:
    return paperdoll.render(paperdoll.sample_figure(3), SIZE)


def prepared(figure: paperdoll.Rendering, background: tuple[int, ...] = (), *, dressed: bool = False) -> Photograph:
    generator = PoseStyleGAN2(replace(CONFIG, background=background))
    pose = Pose(torch.from_numpy(figure.keypoints), SIZE)
    return prepare(Image.fromarray(figure.image), generator, pose=pose, dressed=dressed)


def test_people_are_cut_out_for_a_generator_that_knows_one_background(figure: paperdoll.Rendering) -> None:
    own, cut = prepared(figure), prepared(figure, (255, 0, 0))
    red = torch.tensor([1.0, -1.0, -1.0])
    assert torch.allclose(cut.target[:, 0, 0], red, atol=0.02)
    assert not torch.allclose(own.target[:, 0, 0], red, atol=0.5)
    assert cut.target_labels is not None
    assert cut.target_labels[30, 24] != Label.BACKGROUND
    assert torch.allclose(cut.target[:, 30, 24], own.target[:, 30, 24], atol=0.1)
    # The photograph itself, into which the result is pasted, keeps its own.
    assert np.array_equal(np.asarray(cut.picture), figure.image)
    assert torch.equal(cut.crop, own.crop)


def test_somebody_in_a_dress_wears_no_top(figure: paperdoll.Rendering) -> None:
    plain, dressed = (prepared(figure, dressed=worn).target_labels for worn in (False, True))
    assert plain is not None
    assert dressed is not None
    assert set(np.unique(plain)) & {Label.TOP, Label.BOTTOM}
    assert not set(np.unique(dressed)) & {Label.TOP, Label.BOTTOM}
    assert Label.DRESS in dressed
    assert is_dress("dress")
    assert not is_dress("full")
    assert not is_dress("top")


def test_labels_that_see_nobody_are_no_help(figure: paperdoll.Rendering) -> None:
    generator, photograph = PoseStyleGAN2(CONFIG), prepared(figure)
    helpful = helpful_labels(photograph, generator)
    assert helpful is not None
    assert helpful.dtype == torch.int64
    assert np.array_equal(helpful.numpy(), photograph.target_labels)
    nobody = replace(photograph, labels=np.zeros(SIZE, np.uint8))
    assert helpful_labels(nobody, generator) is None
    assert helpful_labels(replace(photograph, labels=None), generator) is None


def test_a_photograph_knows_pose_and_labels(figure: paperdoll.Rendering) -> None:
    photograph = prepared(figure)
    assert photograph.pose is not None
    assert photograph.pose.size == SIZE
    assert photograph.labels is not None
    assert photograph.labels.shape == SIZE
    assert photograph.frame_pose is not None
    assert photograph.frame_pose.size == (64, 48)


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
