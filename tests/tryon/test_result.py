from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from styletryon.compositing import show
from styletryon.errors import SaveError
from styletryon.labels import Label
from styletryon.losses import class_mask
from styletryon.photo import Frame, Photograph, to_pil
from styletryon.tryon import TryOnBatch, TryOnOptimizer, TryOnResult, change_mask
from tests._support.fake_generator import FakeGenerator, fake_latent


@pytest.fixture(scope="module")
def batch() -> TryOnBatch:
    drawer = FakeGenerator()
    person = replace(fake_latent(drawer, 2, 1), report={"reconstruction_psnr": 30.0})
    return TryOnOptimizer(drawer, steps=5).optimize(person, fake_latent(drawer, 2, 2))


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def photographed(batch: TryOnBatch, photo: Image.Image) -> TryOnBatch:
    frame = Frame((30.0, -10.0, 96.0, 78.0), (90, 120), (32, 24))
    return replace(batch, person=replace(batch.person, photograph=(Photograph(photo, frame), None)))


def test_everything_is_there(batch: TryOnBatch) -> None:
    result = show(batch, 1)
    assert result.image.size == (24, 32)
    assert result.segmentation.shape == (32, 24)
    assert result.segmentation.dtype == np.uint8
    assert list(result.coefficients) == ["16.conv0", "32.conv1", "32.rgb", "32.seg"]
    assert torch.equal(result.coefficients["32.rgb"], batch.coefficients[2][1])
    assert set(result.history) == {"localization", "garment", "identity", "total"}
    assert len(result.history["total"]) == 6
    assert len(result.person) == len(result.garment) == len(result.latent) == 1
    assert result.report["person_reconstruction_psnr"] == 30.0
    assert result.report["status"] == "step limit"
    assert result.report["loss_total"] == min(result.history["total"])
    assert 0 <= float(result.report["outside_change"]) < 0.5
    json.dumps(dict(result.report), allow_nan=False)


def test_only_the_mask_changes(batch: TryOnBatch) -> None:
    result = show(batch, 0)
    outside = (result.mask == 0).numpy()
    before = np.asarray(result.person_image)
    after = np.asarray(result.image)
    assert outside.any()
    assert np.array_equal(before[outside], after[outside])
    whole = show(batch, 0, composite=False)
    assert np.array_equal(np.asarray(whole.image), np.asarray(to_pil(batch.drawing.image[0])))
    assert np.array_equal(whole.segmentation, batch.drawing.labels[0].numpy())


def test_a_photograph_keeps_its_size_and_its_other_pixels(photographed: TryOnBatch, photo: Image.Image) -> None:
    result = show(photographed, 0)
    assert result.image.size == photo.size
    assert result.segmentation.shape == (90, 120)
    before, after = np.asarray(photo), np.asarray(result.image)
    assert np.array_equal(before[:, :30], after[:, :30])
    assert np.array_equal(before[78:], after[78:])
    assert not np.array_equal(before, after)
    assert result.segmentation[:, :30].max() == 0
    # The photograph's pixel (x, y) lies in the frame's at ((x - 30) * 24 / 66, (y + 10) * 32 / 88).
    labels = torch.where(result.mask > 0.5, photographed.drawing.labels[0], photographed.targets.person.labels[0])
    assert int(result.segmentation[50, 60]) == int(labels[int(60.5 * 32 / 88), int(30.5 * 24 / 66)])
    whole = show(photographed, 0, composite=False)
    assert np.array_equal(np.asarray(whole.image)[78:], before[78:])


def test_the_change_mask_covers_old_and_new_garment_but_no_face(batch: TryOnBatch) -> None:
    mask = change_mask(batch.targets, batch.drawing, dilate=0.07, feather=0.03)
    assert mask.shape == (2, 32, 24)
    assert float(mask.min()) >= 0
    assert float(mask.max()) <= 1
    face = class_mask(batch.targets.person, {Label.FACE, Label.HAIR})[:, 0]
    inside = torch.maximum(batch.targets.person_mask, class_mask(batch.drawing, batch.targets.region))[:, 0]
    deep_face = torch.nn.functional.max_pool2d(1 - face[:, None], 3, 1, 1)[:, 0] == 0
    assert float(mask[deep_face].max()) < 0.01
    below = inside.clone()
    below[:, :14] = 0
    assert float(mask[below > 0].min()) > 0.99
    assert float(mask[:, -1].max()) == 0


def test_saves_and_shows(batch: TryOnBatch, photographed: TryOnBatch, tmp_path: Path) -> None:
    result = show(batch)
    result.save(tmp_path / "new" / "tryon.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "new" / "tryon.png")), np.asarray(result.image))
    with pytest.raises(SaveError, match="path"):
        result.save(tmp_path / "tryon.nothing")
    assert result.figure().size == (3 * 24 + 2 * 8, 32)
    assert result.figure(height=64, gap=0).size == (3 * 48, 64)
    assert show(photographed).figure().size == (120 + round(24 * 90 / 32) + 120 + 16, 90)


def test_the_index_is_checked(batch: TryOnBatch) -> None:
    last, second = ({**show(batch, index).report, "seconds": 0, "seconds_compose": 0} for index in (-1, 1))
    assert last == second
    with pytest.raises(IndexError):
        show(batch, 2)


def test_the_old_way_to_a_result_still_works(batch: TryOnBatch) -> None:
    with pytest.warns(DeprecationWarning, match=r"from_batch is now styletryon\.compositing\.show; .* styletryon 0\.4"):
        result = TryOnResult.from_batch(batch, 1, detail=False)
    assert np.array_equal(np.asarray(result.image), np.asarray(show(batch, 1, detail=False).image))
