"""Poses and heatmaps."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from styletryon.errors import PoseError
from styletryon.pose import BONES, FLIP_ORDER, KEYPOINT_NAMES, NUM_KEYPOINTS, Pose, keypoint_heatmaps

SIZE = (64, 48)


def some_pose(batch: int = 2, size: tuple[int, int] = SIZE, seed: int = 0) -> Pose:
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(batch, NUM_KEYPOINTS, 3, generator=generator)
    return Pose(points * torch.tensor([size[1], size[0], 1.0]), size)


def test_names_and_order_are_cocos() -> None:
    assert len(KEYPOINT_NAMES) == NUM_KEYPOINTS == 17
    assert KEYPOINT_NAMES[0] == "nose"
    for index, name in enumerate(KEYPOINT_NAMES):
        mirrored = name.replace("left", "?").replace("right", "left").replace("?", "right")
        assert KEYPOINT_NAMES[FLIP_ORDER[index]] == mirrored


def test_bones_join_keypoints_and_mirror_to_bones() -> None:
    bones = {frozenset(bone) for bone in BONES}
    assert len(bones) == len(BONES)
    assert {frozenset(FLIP_ORDER[end] for end in bone) for bone in bones} == bones
    assert {end for bone in bones for end in bone} == set(range(NUM_KEYPOINTS))


@pytest.mark.parametrize("kind", ["tensor", "float64", "list", "array", "integers", "frozen"])
def test_keypoints_of_any_kind(kind: str) -> None:
    points = np.arange(51, dtype=np.float64).reshape(17, 3)
    frozen = points.copy()
    frozen.flags.writeable = False
    given = {
        "tensor": torch.from_numpy(points).float(),
        "float64": torch.from_numpy(points),
        "list": points.tolist(),
        "array": points,
        "integers": points.astype(int),
        "frozen": frozen,  # An array that may not be written must not make torch warn.
    }[kind]
    pose = Pose(given, [64, 48])
    assert pose.keypoints.shape == (1, 17, 3)
    assert pose.keypoints.dtype == torch.float32
    assert pose.size == (64, 48)
    assert pose.keypoints[0, 16, 2] == 50


def test_a_pose_does_not_follow_the_callers_array() -> None:
    points = np.zeros((17, 3), np.float32)
    pose = Pose(points, SIZE)
    points[:] = 9
    assert not pose.keypoints.any()


def test_a_pose_keeps_the_graph() -> None:
    points = torch.rand(1, 17, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    Pose(points, SIZE).heatmaps((16, 12)).sum().backward()
    assert points.grad is not None
    assert bool(points.grad[..., :2].any())


@pytest.mark.parametrize(
    ("points", "said"),
    [
        (torch.zeros(16, 3), r"expected \(17, 3\) or \(B, 17, 3\).*got shape \(1, 16, 3\)"),
        (torch.zeros(17, 2), "got shape"),
        (torch.zeros(51), "got shape"),
        (torch.zeros(1, 1, 17, 3), "got shape"),
        (torch.full((17, 3), float("nan")), "mark a missing one by score 0"),
        (torch.full((17, 3), float("inf")), "expected finite numbers"),
        ("keypoints", "COCO order"),
        (None, "COCO order"),
        ([[1, 2, 3], [4]], "COCO order"),
    ],
)
def test_keypoints_that_are_none(points: object, said: str) -> None:
    with pytest.raises(PoseError, match=f"^keypoints: .*{said}"):
        Pose(points, SIZE)


@pytest.mark.parametrize("size", [(0, 4), (4, -1), 64, (1, 2, 3), None, ("a", "b")])
def test_sizes_that_are_none(size: object) -> None:
    with pytest.raises(PoseError, match=r"^size: expected"):
        Pose(torch.zeros(17, 3), size)


def test_a_pose_is_a_batch() -> None:
    pose = some_pose(3)
    assert len(pose) == 3
    assert [len(one) for one in pose] == [1, 1, 1]
    assert torch.equal(pose[-1].keypoints[0], pose.keypoints[2])
    assert len(pose[1:]) == 2
    assert len(pose[:0]) == 0
    with pytest.raises(IndexError):
        pose[3]
    assert pose.to("cpu").size == SIZE
    with pytest.raises(AttributeError):
        pose.size = (1, 1)


def test_resizing_scales_places_only() -> None:
    pose = some_pose()
    double = pose.resized((128, 96))
    assert torch.allclose(double.keypoints[..., :2], pose.keypoints[..., :2] * 2)
    assert torch.equal(double.keypoints[..., 2], pose.keypoints[..., 2])
    assert torch.allclose(double.resized(SIZE).keypoints, pose.keypoints)
    assert torch.allclose(double.heatmaps((16, 12)), pose.heatmaps((16, 12)), atol=1e-5)


def test_flipping() -> None:
    pose = some_pose()
    flipped = pose.flipped()
    left, right = KEYPOINT_NAMES.index("left_wrist"), KEYPOINT_NAMES.index("right_wrist")
    assert torch.allclose(flipped.keypoints[:, left, 0], SIZE[1] - pose.keypoints[:, right, 0])
    assert torch.equal(flipped.keypoints[:, left, 1:], pose.keypoints[:, right, 1:])
    assert torch.allclose(flipped.flipped().keypoints, pose.keypoints, atol=1e-5)


def test_heatmaps_of_the_mirrored_pose_are_the_mirrored_heatmaps() -> None:
    pose = some_pose()
    wanted = pose.heatmaps((32, 24))[:, FLIP_ORDER].flip(-1)
    assert torch.allclose(pose.flipped().heatmaps((32, 24)), wanted, atol=1e-5)


def test_heatmaps_against_loops() -> None:
    pose = some_pose(1)
    maps = keypoint_heatmaps(pose.keypoints, SIZE, (16, 12), sigma=0.7)
    assert maps.shape == (1, 17, 16, 12)
    points = pose.keypoints.double().numpy()
    for number in (0, 5, 16):
        x, y = points[0, number, 0] / 4, points[0, number, 1] / 4
        for row in range(16):
            for column in range(12):
                distance = (column + 0.5 - x) ** 2 + (row + 0.5 - y) ** 2
                assert maps[0, number, row, column].item() == pytest.approx(np.exp(-distance / (2 * 0.49)), abs=1e-5)


def test_heatmaps_peak_at_one() -> None:
    points = torch.zeros(1, 17, 3)
    points[..., 0], points[..., 1], points[..., 2] = 10.5, 20.5, 0.3  # The centre of a pixel; the score is no height.
    maps = Pose(points, SIZE).heatmaps()
    assert maps.shape == (1, 17, *SIZE)
    assert bool((maps[:, :, 20, 10] == 1).all())
    assert maps.max() == 1
    assert maps.min() >= 0


def test_a_missing_keypoint_is_a_zero_map() -> None:
    points = some_pose(1).keypoints.clone()
    points[0, 3, 2] = 0.0
    points[0, 4, 2] = -1.0
    maps = Pose(points, SIZE).heatmaps()
    assert not maps[0, 3:5].any()
    assert bool(maps[0, 5].any())


def test_a_keypoint_far_outside_is_dark_and_finite() -> None:
    points = torch.full((1, 17, 3), 1e6)
    maps = Pose(points, SIZE).heatmaps()
    assert not maps.any()


def test_default_spread_follows_the_height() -> None:
    points = torch.tensor([24.0, 32.0, 1.0]).expand(1, 17, 3)
    assert torch.equal(Pose(points, SIZE).heatmaps((32, 24)), Pose(points, SIZE).heatmaps((32, 24), sigma=1.0))


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan")])
def test_impossible_spreads(sigma: float) -> None:
    with pytest.raises(PoseError, match=r"^sigma: expected more than 0"):
        some_pose().heatmaps(sigma=sigma)


def test_an_empty_batch_has_empty_heatmaps() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Pose(torch.zeros(0, 17, 3), SIZE).heatmaps((8, 6)).shape == (0, 17, 8, 6)
