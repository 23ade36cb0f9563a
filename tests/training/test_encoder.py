"""Training of an encoder: it learns, the generator stays, it resumes exactly, bad input is told."""

from __future__ import annotations

import json
import math
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from styletryon import LatentProjector, Pose
from styletryon.data.folder import FolderDataset
from styletryon.data.paperdoll import write_dataset
from styletryon.errors import CheckpointError, CheckpointNotFoundError, ConfigError, DataError, TrainingDivergedError
from styletryon.models import EncoderConfig, GeneratorConfig, PoseStyleGAN2
from styletryon.training import EncoderTrainer, EncoderTrainingConfig, train_encoder
from styletryon.training.encoder import encoder_config
from tests._support.tiny import tiny_config, tiny_generator, tiny_pose

SIZE = (32, 24)
SMALL = EncoderConfig(SIZE, (8, 8, 8, 8), w_dim=8, hidden=8, point_channels=2, wave_channels=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve people in two stances each."""
    folder = tmp_path_factory.mktemp("data") / "d"
    write_dataset(folder, 12, size=SIZE, val_fraction=0.25)
    return folder


def config(**changes: Any) -> EncoderTrainingConfig:
    return replace(EncoderTrainingConfig(pictures=32, batch_size=4, warmup=3, ema=20.0), **changes)


def trainer(
    data: Path, out: Path, generator: PoseStyleGAN2 | None = None, *, fresh: bool = False, **changes: Any
) -> EncoderTrainer:
    held_out = FolderDataset(data, size=SIZE, split="val")
    return EncoderTrainer(
        generator or tiny_generator(),
        config(**changes),
        FolderDataset(data, size=SIZE),
        out,
        fresh=fresh,
        held_out=held_out,
        bf16=False,
    )


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("stop", "fresh"), [(1, False), pytest.param(5, True, marks=pytest.mark.slow)])
def test_resumed_run_ends_with_the_same_weights(data: Path, tmp_path: Path, stop: int, fresh: bool) -> None:
    assert trainer(data, tmp_path / "whole", fresh=fresh).train()
    assert not trainer(data, tmp_path / "parts", fresh=fresh).train(steps=stop)
    second = trainer(data, tmp_path / "parts", fresh=fresh)
    assert second.resume()
    assert second.step == stop
    assert second.train()
    files = [(tmp_path / run / "model" / "model.safetensors").read_bytes() for run in ("whole", "parts")]
    assert files[0] == files[1]


@pytest.mark.parametrize("encoder", [True, False])
def test_the_generator_stays_bit_for_bit(data: Path, tmp_path: Path, encoder: bool) -> None:
    generator = tiny_generator(encoder=encoder, shares=True)
    before = weights(generator)
    assert train_encoder(generator, data, out=tmp_path, config=config(), precision="bf16", progress=False)
    assert same(before, weights(generator))
    assert (generator.encoder is not None) == encoder
    assert not any(parameter.requires_grad for parameter in generator.parameters())
    model = PoseStyleGAN2.from_pretrained(tmp_path / "model")
    after = weights(model)
    assert same(*({k: v for k, v in each.items() if not k.startswith("encoder.")} for each in (before, after)))
    assert model.fingerprint == generator.fingerprint
    if encoder:
        moved = [not torch.equal(before[name], after[name]) for name in before if name.startswith("encoder.")]
        assert all(moved)


def test_the_result_starts_projections(data: Path, tmp_path: Path) -> None:
    tiny_generator(encoder=False).save_pretrained(tmp_path / "generator")
    assert train_encoder(tmp_path / "generator", data, out=tmp_path / "run", config=config(), progress=False)
    model = PoseStyleGAN2.from_pretrained(tmp_path / "run" / "model")
    projector = LatentProjector(model, steps=0, noise=False)
    assert projector.start == "encoder"
    batch = FolderDataset(data, size=SIZE, split="val").batch([0])
    images = batch.images.float() / 127.5 - 1
    assert model.encoder is not None
    expected = model.affine(model.encoder(images, batch.pose))
    for style, wanted in zip(projector.project(images, batch.pose).styles, expected, strict=True):
        torch.testing.assert_close(style, wanted)


@pytest.mark.slow
def test_known_codes_are_learnt(data: Path, tmp_path: Path) -> None:
    generator = tiny_generator(encoder=False)
    run = trainer(data, tmp_path, generator, pictures=720, learning_rate=5e-3, drawings=1.0, codes=1.0)
    w = generator.mapping(torch.randn(32, generator.z_dim, generator=torch.Generator().manual_seed(9)))
    pose = tiny_pose(32)
    images = generator.synthesize(generator.affine(w), pose).image.clamp(-1, 1)

    def missed() -> float:
        with torch.no_grad():
            return float((run.average(images, pose) - w).square().sum() / (w - w.mean(dim=0)).square().sum())

    first = missed()
    assert run.train()
    assert missed() < 0.7 * min(first, 1.0)


@pytest.mark.slow
def test_reconstruction_is_learnt(data: Path, tmp_path: Path) -> None:
    run = trainer(data, tmp_path, fresh=True, pictures=240, drawings=0.0, learning_rate=1e-2)
    first, losses = run.validate(), []
    while run.step < run.config.steps:
        terms = run.train_step()
        assert set(terms) == {"pixel", "gradient", "wave", "label"}
        losses.append(float(sum(terms.values())))
    assert np.mean(losses[-20:]) < 0.95 * np.mean(losses[:10])
    assert run.validate()["val_fg_psnr"] > first["val_fg_psnr"]


def test_what_a_run_begins_with(data: Path, tmp_path: Path) -> None:
    generator = tiny_generator()
    assert generator.encoder is not None
    own = weights(generator.encoder)
    continued = trainer(data, tmp_path, generator)
    assert continued.continued
    assert same(own, weights(continued.encoder))
    assert same(own, weights(continued.average))
    fresh = trainer(data, tmp_path, generator, fresh=True)
    assert fresh.encoder.config == generator.encoder.config
    assert not same(own, weights(fresh.encoder))
    assert same(weights(fresh.encoder), weights(trainer(data, tmp_path, generator, fresh=True).encoder))
    assert not same(weights(fresh.encoder), weights(trainer(data, tmp_path, generator, fresh=True, seed=1).encoder))
    dataset = FolderDataset(data, size=SIZE)
    wider = EncoderTrainer(generator, config(), dataset, tmp_path, encoder=replace(SMALL, hidden=12))
    assert not wider.continued
    assert wider.encoder.config.hidden == 12
    without = trainer(data, tmp_path, tiny_generator(encoder=False))
    assert without.encoder.config == encoder_config(generator.config)


def test_the_first_guesses_are_as_spread_as_w(data: Path, tmp_path: Path) -> None:
    generator = tiny_generator(encoder=False)
    generator.w_mean.fill_(7.0)
    for parameter in generator.mapper.parameters():
        parameter.mul_(3.0)
    run = trainer(data, tmp_path, generator, seed=2)
    images = torch.rand(16, 3, *SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        guesses = run.encoder(images, tiny_pose(16))
        w = generator.mapping(torch.randn(500, generator.z_dim, generator=torch.Generator().manual_seed(1)))
    away = (guesses - 7.0).square().mean().sqrt() / w.std(dim=0).square().mean().sqrt()
    assert 0.1 < float(away) < 10


def test_numbers_are_those_of_the_bundled_encoder() -> None:
    assert encoder_config(GeneratorConfig()) == EncoderConfig()
    large = encoder_config(tiny_config((2048, 1024)))
    assert len(large.channels) == 10
    assert large.channels[-6:] == EncoderConfig().channels
    assert encoder_config(tiny_config((8, 8))).channels == EncoderConfig().channels[-2:]


@given(
    step=st.integers(0, 200),
    schedule=st.sampled_from(["cosine", "linear"]),
    final_rate=st.floats(0, 1),
    warmup=st.integers(0, 20),
)
def test_the_rate_rises_and_falls(step: int, schedule: Any, final_rate: float, warmup: int) -> None:
    settings = EncoderTrainingConfig(
        pictures=800, learning_rate=0.5, schedule=schedule, final_rate=final_rate, warmup=warmup
    )
    assert settings.steps == 100
    rate = settings.rate(step)
    assert 0 <= rate <= 0.5
    if warmup and step < warmup:
        assert rate <= 0.5 * (step + 1) / warmup
    if step >= 100:
        assert rate == pytest.approx(0.5 * final_rate, abs=1e-12)
    if step == 50:
        assert rate == pytest.approx(0.5 * (1 + final_rate) / 2)
    if step == 25 and schedule == "cosine":
        high = (1 + math.sqrt(0.5)) / 2
        assert rate == pytest.approx(0.5 * (final_rate + (1 - final_rate) * high))


def test_global_random_state_is_untouched(data: Path, tmp_path: Path, global_randomness_stays: None) -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - the state that must stay
    trainer(data, tmp_path, fresh=True).train(steps=2)
    assert (before == np.random.get_state()[1]).all()  # noqa: NPY002


def test_log_samples_and_settings(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trainer(data, tmp_path)
    run.train(log_every=2, sample_every=4)
    assert capsys.readouterr() == ("", "")
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4, 6, 8]
    assert rows[1]["pictures"] == 16
    assert {"pixel", "codes"} <= set(rows[0])
    assert rows[3]["val_frame_psnr"] == pytest.approx(run.validate()["val_frame_psnr"])
    with Image.open(tmp_path / "samples" / "step-0000008.png") as sheet:
        assert sheet.size[1] > 3 * SIZE[0]
    settings = json.loads((tmp_path / "encoder.json").read_text())
    assert settings["generator"] == tiny_generator().fingerprint
    assert settings["continued"] is True


def test_validation_is_psnr_of_the_average(data: Path, tmp_path: Path) -> None:
    run = trainer(data, tmp_path)
    held_out = FolderDataset(data, size=SIZE, split="val")
    errors = []
    for index in range(len(held_out)):
        batch = held_out.batch([index])
        picture = batch.images.float() / 127.5 - 1
        model = run.model()
        assert model.encoder is not None
        drawn = model.synthesize(model.affine(model.encoder(picture, batch.pose)), batch.pose).image.clamp(-1, 1)
        errors.append(float(((drawn - picture) / 2).square().mean()))
    assert run.validate()["val_frame_psnr"] == pytest.approx(np.mean(-10 * np.log10(errors)), rel=1e-4)


def test_progress_is_shown_on_stderr(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_encoder(tiny_generator(), data, out=tmp_path, config=config(), precision="fp32")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "32.0/32.0" in shown.err


def test_interrupt_leaves_a_checkpoint(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trainer(data, tmp_path)
    step = run.train_step

    def interrupted() -> dict[str, torch.Tensor]:
        if run.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return step()

    monkeypatch.setattr(run, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.train()
    again = trainer(data, tmp_path)
    assert again.resume()
    assert again.step == 3  # the step in hand was finished


def test_time_is_a_limit(data: Path, tmp_path: Path) -> None:
    run = trainer(data, tmp_path)
    assert not run.train(minutes=0.0)
    assert run.step == 0
    assert run.checkpoints.steps() == [0]
    assert not (tmp_path / "model").exists()


def test_divergence_stops_with_the_last_good_checkpoint(data: Path, tmp_path: Path) -> None:
    run = trainer(data, tmp_path)
    run.train(steps=2)
    with torch.no_grad():
        next(run.encoder.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingDivergedError, match="not finite at step 3"):
        run.train(steps=1)
    again = trainer(data, tmp_path)
    assert again.resume()
    assert again.step == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": "steps"},
        {"batch_size": 0},
        {"pictures": 3},
        {"cross_pose": 1.5},
        {"drawings": -0.1},
        {"flip": float("nan")},
        {"final_rate": 2.0},
        {"codes": -1.0},
        {"ema": float("inf")},
        {"warmup": -1},
        {"seed": -1},
        {"learning_rate": 0.0},
    ],
)
def test_bad_settings(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes))):
        config(**changes)


def test_networks_and_data_that_do_not_fit(data: Path, tmp_path: Path) -> None:
    generator = tiny_generator()
    dataset = FolderDataset(data, size=SIZE)
    for wrong in (replace(SMALL, w_dim=9), replace(SMALL, image_size=(64, 48), channels=(8,) * 5)):
        with pytest.raises(ConfigError, match="encoder: expected image_size"):
            EncoderTrainer(generator, config(), dataset, tmp_path, encoder=wrong)
    with pytest.raises(ConfigError, match="dataset: expected pictures"):
        EncoderTrainer(generator, config(), FolderDataset(data, size=(64, 48)), tmp_path)
    few = PoseStyleGAN2(tiny_config(num_labels=5))
    with pytest.raises(ConfigError, match="12 classes"):
        EncoderTrainer(few, config(), dataset, tmp_path)


def test_calls_that_cannot_be_served(data: Path, tmp_path: Path) -> None:
    def run(out: str = "run", model: Any = None, **options: Any) -> bool:
        return train_encoder(
            model or tiny_generator(), data, out=tmp_path / out, progress=False, **({"config": config()} | options)
        )

    with pytest.raises(ConfigError, match="precision"):
        run(precision="fp8")
    with pytest.raises(CheckpointNotFoundError, match="model: expected"):
        run(model="nobody-trained-this")
    with pytest.raises(DataError, match="a batch"):
        run(config=config(pictures=64, batch_size=64))
    with pytest.raises(CheckpointError, match="got none"):
        run(resume=True)
    assert run()
    with pytest.raises(ConfigError, match="holds a run already"):
        run()
    assert run(resume=True)  # complete: nothing is left to do
    with pytest.raises(CheckpointError, match="another learning_rate"):
        run(config=config(learning_rate=0.1), resume=True)
    with pytest.raises(CheckpointError, match="another continued"):
        run(fresh=True, resume=True)
    with pytest.raises(CheckpointError, match="another generator"):
        run(model=tiny_generator(seed=1), resume=True)


@pytest.mark.parametrize("part", ["settings", "optimizer", "step"])
def test_a_state_of_something_else_is_refused(data: Path, tmp_path: Path, part: str) -> None:
    run = trainer(data, tmp_path)
    state = run.state()
    del state[part]
    with pytest.raises(CheckpointError, match="an encoder's training"):
        run.load(state)


def test_data_without_a_held_out_split(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    for name in ("images", "labels", "keypoints.json"):
        (folder / name).symlink_to(data / name)
    splits = json.loads((data / "split.json").read_text())
    (folder / "split.json").write_text(json.dumps({"train": splits["train"]}))
    assert train_encoder(tiny_generator(), folder, out=tmp_path / "run", config=config(), progress=False)
    run = EncoderTrainer(tiny_generator(), config(), FolderDataset(folder, size=SIZE), tmp_path)
    assert run.validate() == {}


def test_drawings_are_in_the_poses_of_the_batch(data: Path, tmp_path: Path) -> None:
    run = trainer(data, tmp_path, drawings=0.6)
    known = run._draw_known(tiny_pose(4), torch.Generator().manual_seed(0))
    assert known is not None
    assert isinstance(known.pose, Pose)
    assert len(known.images) == 3  # 0.6 of four, rounded up
    expected = run.generator.synthesize(run.generator.affine(known.w), tiny_pose(4)[:3]).image.clamp(-1, 1)
    torch.testing.assert_close(known.images, expected)
