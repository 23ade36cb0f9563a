"""The generator itself against photographs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from styletryon.data import FolderDataset
from styletryon.errors import ConfigError, DataError, RangeError
from styletryon.features import PixelFeatures
from styletryon.metrics import EvaluationReport, evaluate_generator, find_set_network, frechet_distance, kernel_distance
from styletryon.metrics.distances import subset_kernel_distance
from styletryon.models import PoseStyleGAN2
from styletryon.photo import frame_person, from_uint8, to_uint8
from tests.metrics.conftest import PEOPLE, SIZE

POSES = {"keypoint_error", "pck_10", "pck_20"}


@pytest.fixture(scope="module")
def report(model: PoseStyleGAN2, folder: Path) -> EvaluationReport:
    return evaluate_generator(model, folder, samples=9, pairs=2, seed=3, preset="fast", batch_size=4)


def test_rows_and_measures(report: EvaluationReport, model: PoseStyleGAN2) -> None:
    assert report.what == "generator"
    assert set(report["generated"]) == {"fid", "kid", *POSES}
    assert set(report["halves"]) == {"fid", "kid"}
    assert set(report["photographs"]) == POSES
    assert {"fg_psnr", "fg_ssim", "frame_psnr", "frame_ssim", "label_iou"} < set(report["reconstruction"])
    assert report["generated"]["fid"].n == 9
    assert report["generated"]["keypoint_error"].n == report["reconstruction"]["fg_psnr"].n == 2
    assert report.settings["samples"] == 9
    assert report.settings["features"]["real"] == PEOPLE
    assert report.settings["model"] == model.fingerprint
    assert report.settings["kid_subsets"].keys() == {"mean", "std", "subsets", "size"}
    # An untrained generator draws no people; the photographs show some.
    assert report["generated"]["fid"].mean > report["halves"]["fid"].mean
    assert report["generated"]["keypoint_error"].mean > report["photographs"]["keypoint_error"].mean
    document = json.loads(report.to_json())
    assert document["methods"]["generated"]["fid"]["low"] is None
    assert "±nan" not in report.table()


def test_numbers_are_those_of_the_pictures(report: EvaluationReport, model: PoseStyleGAN2, folder: Path) -> None:
    dataset = FolderDataset(folder, size=SIZE, split="val", frame=frame_person)
    order = np.random.default_rng(3).permutation(PEOPLE)
    z = torch.randn(4, model.z_dim, generator=(rng := torch.Generator().manual_seed(3)))
    z = torch.cat([z, torch.randn(4, model.z_dim, generator=rng), torch.randn(1, model.z_dim, generator=rng)])
    pose = dataset.batch(np.resize(order, 9)).pose
    with torch.no_grad():
        drawn = model.synthesize(model.affine(model.mapping(z)), pose).image
    network = find_set_network()
    made, real = network(from_uint8(to_uint8(drawn))), network(from_uint8(dataset.batch(range(PEOPLE)).images))
    assert report["generated"]["fid"].mean == pytest.approx(frechet_distance(made, real), rel=1e-3)
    assert report["generated"]["kid"].mean == pytest.approx(kernel_distance(made, real)[0], rel=1e-3)
    subsets = subset_kernel_distance(made, real[order], seed=3)
    assert report.settings["kid_subsets"]["mean"] == pytest.approx(subsets.mean, rel=1e-3)


def test_only_what_is_asked_for_is_done(model: PoseStyleGAN2, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("not asked for")

    monkeypatch.setattr("styletryon.metrics.methods.Bench.project", refuse)
    monkeypatch.setattr("styletryon.metrics.generator.PoseScorer", refuse)
    found = evaluate_generator(model, folder, metrics="kid", features=PixelFeatures())
    assert {row: set(measures) for row, measures in found.methods.items()} == {"generated": {"kid"}, "halves": {"kid"}}
    assert found.settings["pose_estimator"] is None
    assert found.settings["samples"] == PEOPLE


def test_reconstruction_alone_needs_no_network(
    model: PoseStyleGAN2, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("styletryon.metrics.generator.find_set_network", None)
    found = evaluate_generator(model, folder, metrics=["reconstruction"], pairs=1, preset="fast")
    assert set(found.methods) == {"reconstruction"}
    assert found.settings["features"] is None
    assert found.settings["samples"] == 0


def test_no_variety_is_one_picture_a_pose(model: PoseStyleGAN2, folder: Path) -> None:
    class Kept:
        deep = True

        def __init__(self) -> None:
            self.pictures: list[torch.Tensor] = []

        def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
            self.pictures.append(images)
            return (images,)

    kept = Kept()
    evaluate_generator(model, folder, metrics="kid", samples=2 * PEOPLE, batch_size=PEOPLE, truncation=0, features=kept)
    assert torch.equal(kept.pictures[0], kept.pictures[1])


def test_fewer_people_than_pairs(model: PoseStyleGAN2, folder: Path, known_pose) -> None:
    found = evaluate_generator(model, folder, metrics=["pose"], samples=2, pairs=5, estimate_pose=known_pose)
    assert len(found.values["generated"]["pck_10"]) == len(found.values["photographs"]["pck_10"]) == 2
    assert found.settings["pose_estimator"]["name"] == "KnownPose()"


def test_wrong_arguments_are_named(model: PoseStyleGAN2, folder: Path) -> None:
    with pytest.raises(ConfigError, match="metrics: expected some of fid, kid, reconstruction, pose, got lpips"):
        evaluate_generator(model, folder, metrics=["fid", "lpips"])
    with pytest.raises(ConfigError, match=r"metrics: expected some of .*, got none"):
        evaluate_generator(model, folder, metrics=[])
    with pytest.raises(RangeError, match=r"truncation: expected a number in \[0, 1\], got 2"):
        evaluate_generator(model, folder, truncation=2)
    with pytest.raises(RangeError, match="samples: expected at least 1, got 0"):
        evaluate_generator(model, folder, samples=0)
    with pytest.raises(RangeError, match="samples: expected at least 3 for fid, got 2"):
        evaluate_generator(model, folder, metrics="fid", samples=2)
    with pytest.raises(DataError, match="data: expected at least six photographs in split 'one', got 1"):
        evaluate_generator(model, folder, metrics="fid", split="one")
