"""The training loop: it learns, it resumes exactly, it stops well."""

from __future__ import annotations

import copy
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from styletryon.data.folder import FolderDataset
from styletryon.data.paperdoll import write_dataset
from styletryon.errors import CheckpointError, ConfigError, DataError, TrainingDivergedError
from styletryon.labels import REGIONS, Label
from styletryon.models import PoseStyleGAN2
from styletryon.training import Stage, Trainer, TrainingConfig, preset, train
from tests._support.tiny import tiny_pose

SIZE = (32, 24)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight styles in two poses each: a coloured block where the torso is."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for part in ("images", "labels"):
        (folder / part).mkdir()
    poses = tiny_pose(16).keypoints
    colours = rng.integers(0, 255, (8, 3))
    names = [f"{index:02d}" for index in range(16)]
    for index, name in enumerate(names):
        image = np.full((*SIZE, 3), 230, np.uint8)
        labels = np.zeros(SIZE, np.uint8)
        x, y = poses[index, 6, :2].int().tolist()
        image[y : y + 10, x : x + 7] = colours[index // 2]
        labels[y : y + 10, x : x + 7] = 4
        Image.fromarray(image).save(folder / "images" / f"{name}.png")
        Image.fromarray(labels).save(folder / "labels" / f"{name}.png")
    keypoints = {name: poses[index].tolist() for index, name in enumerate(names)}
    (folder / "keypoints.json").write_text(json.dumps(keypoints))
    (folder / "styles.json").write_text(json.dumps({name: index // 2 for index, name in enumerate(names)}))
    (folder / "split.json").write_text(json.dumps({"train": names[:12], "val": names[12:]}))
    return folder


def config(**changes: object) -> TrainingConfig:
    """Every objective within sixteen steps."""
    stages = (Stage(16, num_levels=-1), Stage(16), Stage(32, adversarial=0.1, decay=0.5))
    return replace(
        preset("tiny"), **({"stages": stages, "r1_interval": 2, "path_interval": 2, "mapping_steps": 3} | changes)
    )


def trainer(data: Path, out: Path, **changes: object) -> Trainer:
    return Trainer(config(**changes), FolderDataset(data, size=SIZE), out, precision="fp32")


def assert_same(first: object, second: object) -> None:
    """Compare nested states bit for bit."""
    if isinstance(first, dict):
        assert isinstance(second, dict)
        assert first.keys() == second.keys()
        for key in first:
            assert_same(first[key], second[key])
    elif isinstance(first, list | tuple):
        assert isinstance(second, list | tuple)
        for a, b in zip(first, second, strict=True):
            assert_same(a, b)
    elif isinstance(first, torch.Tensor):
        assert isinstance(second, torch.Tensor)
        assert torch.equal(first, second)
    else:
        assert first == second


@pytest.mark.parametrize("stop", [pytest.param(3, marks=pytest.mark.slow), 9, pytest.param(13, marks=pytest.mark.slow)])
def test_resumed_run_ends_with_the_same_weights(data: Path, tmp_path: Path, stop: int) -> None:
    whole = trainer(data, tmp_path / "whole")
    assert whole.train()
    first = trainer(data, tmp_path / "parts")
    assert not first.train(steps=stop)
    second = trainer(data, tmp_path / "parts")
    assert second.resume()
    assert second.step == stop
    assert second.train()
    assert_same(whole.state(), second.state())
    models = [PoseStyleGAN2.from_pretrained(tmp_path / run / "model").fingerprint for run in ("whole", "parts")]
    assert models[0] == models[1]


def test_a_state_from_before_the_fused_step_is_taken_over(data: Path, tmp_path: Path) -> None:
    run, other = (trainer(data, tmp_path / name, stages=(Stage(32, adversarial=0.1),)) for name in ("run", "other"))
    run.train_step()
    state = copy.deepcopy(run.state())
    for name in ("optimizer", "discriminator_optimizer"):
        for group in state[name]["param_groups"]:
            group["fused"] = None
        for moments in state[name]["state"].values():
            moments |= {key: value.contiguous() for key, value in moments.items()}
    other.load(state)
    run.train_step()
    other.train_step()
    assert_same(run.state(), other.state())


def test_global_random_state_is_untouched(data: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - the state that must stay
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    trainer(data, tmp_path).train(steps=9)
    assert torch.equal(states[0], torch.get_rng_state())
    assert (states[1] == np.random.get_state()[1]).all()  # noqa: NPY002


@pytest.mark.slow
def test_reconstruction_learns(data: Path, tmp_path: Path) -> None:
    run = trainer(data, tmp_path, stages=(Stage(480),))
    losses = [float(sum(run.train_step().values())) for _ in range(120)]
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:10])
    assert set(run.validate()) == set()  # no held-out pictures were given


def test_adversarial_training_alone(data: Path, tmp_path: Path) -> None:
    run = trainer(data, tmp_path, encoder=None, stages=(Stage(16, reconstruction=0.0, adversarial=1.0),))
    before = [parameter.detach().clone() for parameter in run.generator.parameters()]
    losses = run.train_step()
    assert {"adversarial", "discriminator", "r1", "path_length"} <= set(losses)
    changed = [not torch.equal(a, b) for a, b in zip(before, run.generator.parameters(), strict=True)]
    assert np.mean(changed) > 0.9
    assert run.train()
    assert PoseStyleGAN2.from_pretrained(tmp_path / "model").encoder is None


def test_a_run_leaves_what_it_says(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(data, tmp_path / "run", config=config(), precision="fp32", progress=False)
    assert capsys.readouterr() == ("", "")
    assert json.loads((tmp_path / "run" / "training.json").read_text())["batch_size"] == 4
    assert TrainingConfig.from_dict(json.loads((tmp_path / "run" / "training.json").read_text())) == config()
    with pytest.raises(ConfigError, match="holds a run already"):
        train(data, tmp_path / "run", config=config(), progress=False)
    with pytest.raises(CheckpointError, match="got none"):
        train(data, tmp_path / "other", config=config(), progress=False, resume=True)


def test_samples_and_log(data: Path, tmp_path: Path) -> None:
    held_out = FolderDataset(data, size=SIZE, split="val")
    run = Trainer(config(), FolderDataset(data, size=SIZE), tmp_path, held_out=held_out)
    run.train(log_every=4, sample_every=8, steps=9)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [4, 8]
    assert rows[1]["val_fg_psnr"] > 0
    assert 0 <= rows[1]["val_label_iou"] <= 1
    assert {path.name for path in (tmp_path / "samples").iterdir()} == {
        f"step-0000008-{kind}.png" for kind in ("held-out", "poses", "styles", "random")
    }


def test_try_ons_teach_which_channels_belong_to_a_region(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", 24, size=SIZE, tryons=12, val_fraction=0.3)
    train, val = (FolderDataset(tmp_path / "data", size=SIZE, split=name) for name in ("train", "val"))
    generator = replace(preset("tiny").generator, garment_shares=True)
    settings = config(generator=generator, tryons=0.5, stages=(Stage(160),), mapping_steps=0)
    run = Trainer(settings, train, tmp_path / "run", held_out=val, precision="fp32")
    before = run.generator.share_logits.detach().clone()  # type: ignore[union-attr]
    first = run.validate()
    run.train()
    after = run.generator.share_logits.detach()  # type: ignore[union-attr]
    moved = (after - before).abs().amax(dim=1)
    assert (moved[[int(Label.TOP), int(Label.BOTTOM), int(Label.SHOES)]] > 0).all()
    assert (moved[[int(Label.BACKGROUND), int(Label.FACE), int(Label.ACCESSORY)]] == 0).all()  # in no region
    assert run.validate()["val_tryon_psnr"] > first["val_tryon_psnr"] + 1
    loaded = PoseStyleGAN2.from_pretrained(tmp_path / "run" / "model")
    shares = loaded.channel_masks(REGIONS["top"])
    assert shares is not None
    assert all(0 <= float(share.min()) <= float(share.max()) <= 1 for share in shares)


def test_try_ons_need_shares_and_truths(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="garment_shares"):
        config(tryons=0.5)
    generator = replace(preset("tiny").generator, garment_shares=True)
    trainer(data, tmp_path / "few", generator=generator, tryons=0.1).train_step()  # a tenth of four is none
    run = trainer(data, tmp_path, generator=generator, tryons=0.5)
    with pytest.raises(DataError, match=r"tryons\.json"):
        run.train_step()


def test_average_follows_the_weights(data: Path, tmp_path: Path) -> None:
    run = trainer(data, tmp_path)
    for _ in range(3):
        run.train_step()
    for average, weight in zip(run.average.parameters(), run.generator.parameters(), strict=True):
        assert not average.requires_grad
        assert (average - weight).abs().max() < 0.1


def test_interrupt_leaves_a_checkpoint(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trainer(data, tmp_path)
    step = run.train_step

    def interrupted() -> dict[str, torch.Tensor]:
        if run.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return step()

    monkeypatch.setattr(run, "train_step", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run.train()
    assert signal.getsignal(signal.SIGINT) is handler
    again = trainer(data, tmp_path)
    assert again.resume()
    assert again.step == 3  # the step in hand was finished


def test_divergence_stops_with_the_last_good_checkpoint(data: Path, tmp_path: Path) -> None:
    run = trainer(data, tmp_path)
    run.train(steps=2)
    with torch.no_grad():
        next(run.generator.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingDivergedError, match="not finite at step 3"):
        run.train(steps=1)
    again = trainer(data, tmp_path)
    assert again.resume()
    assert again.step == 2


def test_bad_settings(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="preset"):
        preset("best")
    with pytest.raises(ConfigError, match="encoder"):
        config(encoder=None)
    with pytest.raises(ConfigError, match="neither"):
        config(stages=(Stage(16, reconstruction=0.0),))
    with pytest.raises(ConfigError, match="whole pictures"):
        config(stages=(Stage(16, num_levels=-1, adversarial=1.0),))
    with pytest.raises(ConfigError, match="dataset: expected pictures"):
        Trainer(config(), FolderDataset(data, size=(64, 48)), tmp_path)
    with pytest.raises(ConfigError, match="log_every"):
        train(data, tmp_path, config=config(), log_every=0)
    with pytest.raises(ConfigError, match="precision"):
        train(data, tmp_path, config=config(), precision="fp8")
    with pytest.raises(DataError, match="a batch"):
        train(data, tmp_path, config=config(batch_size=13), progress=False)
    with pytest.raises(ConfigError, match="stranger"):
        TrainingConfig.from_dict({**config().to_dict(), "stranger": 1})


def test_other_networks_checkpoint_is_refused(data: Path, tmp_path: Path) -> None:
    run = trainer(data, tmp_path)
    state = run.state()
    del state["optimizer"]
    with pytest.raises(CheckpointError, match="does not fit"):
        run.load(state)
