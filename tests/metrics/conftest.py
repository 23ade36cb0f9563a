from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from styletryon.data.paperdoll import render, sample_figure
from styletryon.models import PoseStyleGAN2
from styletryon.pose import Pose
from tests._support.tiny import tiny_generator

SIZE = (32, 24)
PEOPLE = 7


@pytest.fixture(scope="session")
def model() -> PoseStyleGAN2:
    return tiny_generator(SIZE, shares=True)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of figures that stand in for photographs."""
    root = tmp_path_factory.mktemp("people")
    keypoints = {}
    for part in ("images", "labels"):
        (root / part).mkdir()
    for number in range(PEOPLE):
        rendering = render(sample_figure(number), (64, 48))
        Image.fromarray(rendering.image).save(root / "images" / f"{number}.png")
        Image.fromarray(rendering.labels).save(root / "labels" / f"{number}.png")
        keypoints[str(number)] = rendering.keypoints.tolist()
        (root / f"{number}.json").write_text(json.dumps(keypoints[str(number)]))
    (root / "keypoints.json").write_text(json.dumps(keypoints))
    names = [str(number) for number in range(PEOPLE)]
    (root / "split.json").write_text(json.dumps({"train": [], "one": names[:1], "val": names}))
    return root


@pytest.fixture(scope="session")
def table(folder: Path) -> Path:
    """Three good rows and two bad ones; poses are given where the photograph is the person's."""
    path = folder / "pairs.csv"
    path.write_text(
        "person,garment,region,person_pose,garment_pose\n"
        "images/0.png,images/1.png,top,0.json,1.json\n"
        "images/2.png,images/none.png,top,2.json,\n"
        "images/2.png,images/3.png,bottom,2.json,3.json\n"
        "images/2.png,images/3.png,hat,2.json,3.json\n"
        "images/1.png,images/0.png,top,1.json,0.json\n"
    )
    return path


class KnownPose:
    """An estimator that always finds the same standing person."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def __call__(self, image: Image.Image) -> Pose:
        self.seen.append((image.height, image.width))
        points = torch.tensor(render(sample_figure(0), (64, 48)).keypoints)
        points[:, :2] *= torch.tensor([image.width / 48, image.height / 64])
        return Pose(points[None], (image.height, image.width))

    def __repr__(self) -> str:
        return "KnownPose()"


@pytest.fixture
def known_pose() -> KnownPose:
    return KnownPose()
