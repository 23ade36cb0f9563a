"""Weights of a trained generator are taken over where they fit."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from styletryon.errors import CheckpointError, ConfigError, DataError, ShapeError
from styletryon.models import EncoderConfig, PoseStyleGAN2
from styletryon.ops import setup_filter, upsample2d
from styletryon.training import preset, train
from styletryon.training.transfer import transfer_weights
from tests._support.tiny import tiny_config, tiny_generator, tiny_pose
from tests.training.test_trainer import config, data, trainer  # noqa: F401


def test_the_same_numbers_take_everything(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trained, fresh = tiny_generator(seed=1), tiny_generator(seed=2)
    trained.save_pretrained(tmp_path)
    with caplog.at_level(logging.INFO, logger="styletryon"):
        assert transfer_weights(fresh, tmp_path) == []
    assert fresh.fingerprint == trained.fingerprint
    assert "100.0 % of the weights" in caplog.text
    assert "at random" not in caplog.text


def test_larger_pictures_take_the_levels_that_both_have(caplog: pytest.LogCaptureFixture) -> None:
    trained, fresh = tiny_generator((32, 24), seed=1), tiny_generator((64, 48), seed=2)
    untouched = {name: tensor.clone() for name, tensor in fresh.state_dict().items()}
    left = transfer_weights(fresh, trained)
    names = dict(zip(fresh.style_names, fresh.affines, strict=True))
    others = dict(zip(trained.style_names, trained.affines, strict=True))
    for name, affine in names.items():
        if name in others:
            assert torch.equal(affine.weight, others[name].weight)
    assert torch.equal(fresh.synthesis.blocks[3].conv.weight, trained.synthesis.blocks[3].conv.weight)
    assert fresh.encoder is not None
    assert trained.encoder is not None
    # The encoder's blocks count from the picture downwards: the one that puts out 16 rows is another number.
    assert torch.equal(fresh.encoder.blocks[1].weight, trained.encoder.blocks[0].weight)
    assert {"synthesis.blocks.4.conv.weight", "encoder.blocks.0.weight"} <= set(left)
    assert "synthesis.blocks.3.conv.weight" not in left
    for name in left:
        head = name.endswith(("to_rgb.weight", "to_seg.weight"))
        assert torch.equal(fresh.state_dict()[name], untouched[name] * (not head))
    assert "start at random: " in caplog.text
    assert "synthesis.blocks.4.conv.weight" in caplog.text


def test_affine_layers_are_matched_by_what_they_serve() -> None:
    trained = tiny_generator(seed=1)
    numbers = replace(trained.config, body_maps=False)
    fresh = PoseStyleGAN2(numbers, None)
    transfer_weights(fresh, trained)
    others = dict(zip(trained.style_names, trained.affines, strict=True))
    for name, affine in zip(fresh.style_names, fresh.affines, strict=True):
        assert torch.equal(affine.weight, others[name].weight)


def test_a_generator_knows_the_background_of_its_pictures(data: Path, tmp_path: Path) -> None:  # noqa: F811
    folder = shutil.copytree(data, tmp_path / "data")
    (folder / "prepared.json").write_text(json.dumps({"settings": {"background": [255, 0, 7]}}))
    assert train(folder, tmp_path / "run", config=config(), progress=False)
    assert PoseStyleGAN2.from_pretrained(tmp_path / "run" / "model").config.background == (255, 0, 7)
    (folder / "prepared.json").write_text(json.dumps({"settings": {"background": None}}))
    assert train(folder, tmp_path / "own", config=config(), progress=False)
    assert PoseStyleGAN2.from_pretrained(tmp_path / "own" / "model").config.background == ()
    (folder / "prepared.json").write_text(json.dumps({"settings": 3}))
    with pytest.raises(DataError, match=r"prepared\.json: expected what styletryon prepare writes"):
        train(folder, tmp_path / "broken", config=config(), progress=False)


def test_nothing_that_fits_is_refused() -> None:
    with pytest.raises(ConfigError, match="none of whose convolutions does"):
        transfer_weights(PoseStyleGAN2(preset("tiny").generator, None), tiny_generator())
    with pytest.raises(CheckpointError, match="no such folder"):
        transfer_weights(tiny_generator(), "nowhere")


def test_a_run_starts_there(data: Path, tmp_path: Path) -> None:  # noqa: F811
    first = trainer(data, tmp_path / "first")
    first.train(steps=4)
    first.finish()
    model = PoseStyleGAN2.from_pretrained(tmp_path / "first" / "model")
    second = trainer(data, tmp_path / "second", seed=1)
    assert second.start_from(tmp_path / "first" / "model") == []
    for network in (second.generator, second.average):
        assert network.fingerprint == model.fingerprint
    with pytest.raises(ConfigError, match="not started"):
        first.start_from(model)
    assert train(data, tmp_path / "third", config=config(), start=model, progress=False)
    with pytest.raises(ConfigError, match="start"):
        train(data, tmp_path / "fourth", config=config(), start="default", progress=False)
    # A resumed run has its weights already.
    assert train(data, tmp_path / "third", config=config(), start="default", resume=True, progress=False)


def test_a_grown_generator_goes_on_where_the_smaller_one_stood() -> None:
    numbers = tiny_config((32, 24), pose_height=32, garment_shares=True)
    encoder = EncoderConfig((32, 24), (8,) * 4, w_dim=8, hidden=8, point_channels=2, wave_channels=2)
    trained = PoseStyleGAN2(numbers, encoder)
    grown = PoseStyleGAN2(replace(numbers, image_size=(64, 48), channels=(*numbers.channels, 4)), encoder)
    assert trained.encoder is not None
    assert trained.share_logits is not None
    assert grown.encoder is not None
    torch.nn.init.normal_(trained.share_logits)
    left = transfer_weights(grown, trained)
    assert not [name for name in left if name.startswith("encoder.")]
    assert "share_logits of 64.conv" in left
    assert "share_logits of 32.conv" not in left
    pose, large = tiny_pose(2), tiny_pose(2).resized((64, 48))
    images = torch.rand(2, 3, 64, 48) * 2 - 1
    with torch.no_grad():
        code = grown.encoder(images, large)
        assert torch.allclose(code, trained.encoder(F.avg_pool2d(images, 2), pose), atol=1e-5)
        small = trained.synthesize(trained.affine(code), pose)
        drawn = grown.synthesize(grown.affine(code), large)
        assert torch.allclose(drawn.image, upsample2d(small.image, setup_filter([1, 3, 3, 1])), atol=1e-5)
        assert torch.allclose(drawn.logits, upsample2d(small.logits, setup_filter([1, 3, 3, 1])), atol=1e-5)
        for name, share in zip(grown.style_names, grown.channel_masks([4]) or (), strict=True):
            if not name.startswith("64."):
                assert torch.equal(share, (trained.channel_masks([4]) or ())[trained.style_names.index(name)])
    with pytest.raises(ShapeError, match="2, 4, 8"):
        grown.encoder(torch.zeros(2, 3, 96, 72), large)
