"""Poses in files: what is read, and what is said of the rest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from styletryon.errors import PoseError
from styletryon.pose import read_pose

POINTS = [[float(number), float(2 * number), 0.5] for number in range(17)]


def written(folder: Path, content: object) -> Path:
    path = folder / "anna.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_keypoints_are_in_pixels_of_the_picture(tmp_path: Path) -> None:
    pose = read_pose(written(tmp_path, POINTS), (64, 48))
    assert pose.size == (64, 48)
    assert np.array_equal(pose.keypoints[0].numpy(), np.array(POINTS, dtype=np.float32))


def test_an_entry_is_looked_up_by_name(tmp_path: Path) -> None:
    path = written(tmp_path, {"ben": POINTS[::-1], "anna": POINTS})
    assert read_pose(path, (64, 48), entry="anna").keypoints[0, 1].tolist() == POINTS[1]
    with pytest.raises(PoseError, match=r"^--pose: expected an entry 'eve' in .*anna\.json', got none"):
        read_pose(path, (64, 48), entry="eve", argument="--pose")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, r"expected a JSON file of 17 x \[x, y, score\], got .*No such file"),
        ("{", r"expected a JSON file of 17 x \[x, y, score\], got "),
        ({"anna": POINTS}, "expected .* numbers"),
        ([[1, 2]], r"expected \(17, 3\) .* got shape \(1, 1, 2\) \(in .*anna\.json"),
        ([POINTS, POINTS], "expected the keypoints of one person in .*, got 2"),
        ([[float("nan")] * 3] * 17, "expected finite numbers"),
    ],
)
def test_what_is_no_pose_is_said(content: object, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "anna.json" if content is None else written(tmp_path, content)
    with pytest.raises(PoseError, match=f"^pose: {reason}") as caught:
        read_pose(path, (64, 48))
    assert caught.value.argument == "pose"
    assert "anna.json" in str(caught.value)
