"""From a folder of pictures to a try-on: prepare, train, try on.

The 50 pictures are rendered, so that the tutorial needs none of yours, and the settings are tiny: what comes out is a
blot. Take the preset "pictures", some thousand photographs and a night for more.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import styletryon
from styletryon.data import FolderDataset, prepare
from styletryon.data.paperdoll import render, sample_figure
from styletryon.images import save_image
from styletryon.training import preset, train


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as anybody may have it: pictures, their labels, and the keypoints of the people in them."""
    folder = tmp_path_factory.mktemp("photographs")
    keypoints = {}
    for seed in range(50):
        figure = render(sample_figure(seed), (128, 96))
        save_image(Image.fromarray(figure.image), folder / "images" / f"person{seed}.png")
        save_image(Image.fromarray(figure.labels), folder / "labels" / f"person{seed}.png")
        keypoints[f"person{seed}"] = figure.keypoints.tolist()
    (folder / "keypoints.json").write_text(json.dumps(keypoints), encoding="utf-8")
    return folder


def test_from_a_folder_of_pictures_to_a_try_on(photographs: Path, tmp_path: Path) -> None:
    # 1. Frame everybody alike. What cannot be used is left out, with the reason in data/prepared.json.
    prepare(photographs, tmp_path / "data", size=(32, 24), background="keep")
    dataset = FolderDataset(tmp_path / "data", size=(32, 24))
    assert len(dataset) > 30

    # 2. Train. A run that is stopped goes on with resume=True.
    settings = preset("tiny").changed(**{f"stages.{stage}.pictures": 80 for stage in range(3)})
    assert train(tmp_path / "data", tmp_path / "run", config=settings, progress=False)
    assert list((tmp_path / "run").rglob("*.safetensors"))

    # 3. Try on with the result: a folder stands wherever a model is named.
    model = styletryon.load_model(tmp_path / "run" / "model")
    assert model.image_size == (32, 24)
    people = [photographs / "images" / f"person{seed}.png" for seed in (0, 1)]
    known = json.loads((photographs / "keypoints.json").read_text(encoding="utf-8"))
    poses = [styletryon.Pose(torch.tensor([known[path.stem]]), (128, 96)) for path in people]
    region = set(range(1, 12))  # so small a generator may draw a top as something else
    result = styletryon.try_on(
        *people, region=region, model=model, person_pose=poses[0], garment_pose=poses[1], preset="fast"
    )
    result.save(tmp_path / "tryon.png")
    assert result.image.size == (96, 128)
    assert np.isfinite(result.report["person_reconstruction_psnr"])
