"""Whether people are drawn in the pose that was asked for: rendered figures and photographs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from styletryon.data.paperdoll import sample_stance
from styletryon.errors import ConfigError, DataError, RangeError
from styletryon.metrics import EvaluationReport, pose_transfer
from styletryon.metrics.rendered_pairs import FIRST_EVALUATION_SEED, SEEDS_PER_STREAM
from styletryon.models import PoseStyleGAN2

POSES = {"keypoint_error", "pck_10", "pck_20"}
PICTURES = {"label_iou", "fg_psnr", "fg_ssim"}


@pytest.fixture(scope="module")
def report(model: PoseStyleGAN2) -> EvaluationReport:
    return pose_transfer(model, pairs=3, seed=1, preset="fast", batch_size=2)


def test_figures_are_compared_with_their_rendered_truth(report: EvaluationReport) -> None:
    assert report.what == "pose"
    assert set(report.methods) == {"own_pose", "new_pose", "photo", "truth"}
    for row in ("own_pose", "new_pose", "photo"):
        assert set(report[row]) > POSES | PICTURES
        assert report[row]["label_iou"].n == 3
    # What a generator that draws the first picture again would get: the same person, in another pose.
    assert 0.2 < report["photo"]["label_iou"].mean < 0.95


def test_the_truth_says_how_far_the_estimator_errs(report: EvaluationReport) -> None:
    assert set(report["truth"]) == POSES
    assert report["truth"]["keypoint_error"].mean < 0.75 * report["photo"]["keypoint_error"].mean
    assert report["truth"]["pck_20"].mean > report["photo"]["pck_20"].mean
    # A generator that was never trained draws nobody, and that counts.
    assert report["new_pose"]["keypoint_error"].n == 3
    assert report["new_pose"]["keypoint_error"].mean > 2 * report["truth"]["keypoint_error"].mean
    assert report.settings["pose_estimator"]["fingerprint"]


def test_classes_are_broken_down_and_average_to_the_whole(report: EvaluationReport) -> None:
    by_class = {name: row for name, row in report.values["photo"].items() if name.startswith("iou_")}
    assert {"iou_hair", "iou_face", "iou_top", "iou_other"} <= set(by_class)
    means = np.nanmean(np.array(list(by_class.values())), axis=0)
    assert means == pytest.approx(report.values["photo"]["label_iou"])
    assert "label classes" in report.table()
    assert "other" not in report.table()  # no figure shows it
    json.loads(report.to_json())


def test_photographs_are_compared_by_their_poses(model: PoseStyleGAN2, folder: Path) -> None:
    found = pose_transfer(model, data=folder, pairs=3, preset="fast", batch_size=2)
    assert found.what == "pose_folder"
    assert set(found["own_pose"]) > POSES | PICTURES
    for row in ("new_pose", "photo", "truth"):
        assert set(found[row]) == POSES, row
    assert found["truth"]["keypoint_error"].mean < found["photo"]["keypoint_error"].mean
    assert found.settings["data"] == {"name": folder.name, "split": "val", "photographs": 7}
    assert all(person != other for person, other in found.settings["ids"])
    again = pose_transfer(model, data=folder, pairs=2, preset="fast", batch_size=2)
    assert again.settings["ids"] == found.settings["ids"][:2]
    assert again.values["truth"]["keypoint_error"] == pytest.approx(found.values["truth"]["keypoint_error"][:2])


def test_the_estimator_is_the_callers(model: PoseStyleGAN2, folder: Path, known_pose) -> None:
    found = pose_transfer(model, data=folder, pairs=1, preset="fast", estimate_pose=known_pose)
    assert known_pose.seen == [model.image_size] * 4
    assert found.settings["pose_estimator"] == {"name": "KnownPose()", "weights": "the caller's", "fingerprint": ""}


def test_it_keeps_to_the_figures_of_the_benchmark(model: PoseStyleGAN2) -> None:
    assert sample_stance(FIRST_EVALUATION_SEED) != sample_stance(FIRST_EVALUATION_SEED + SEEDS_PER_STREAM // 2)
    with pytest.raises(RangeError, match="seed: expected a number from 0"):
        pose_transfer(model, pairs=1, seed=-1)
    with pytest.raises(RangeError, match="pairs: expected at most 50000"):
        pose_transfer(model, pairs=50_001)


def test_wrong_arguments_are_named(model: PoseStyleGAN2, folder: Path) -> None:
    with pytest.raises(RangeError, match="batch_size: expected at least 1, got 0"):
        pose_transfer(model, batch_size=0)
    with pytest.raises(ConfigError, match="preset: expected one of"):
        pose_transfer(model, preset="best")
    with pytest.raises(DataError, match="data: expected at least two photographs in split 'one', got 1"):
        pose_transfer(model, data=folder, split="one")
