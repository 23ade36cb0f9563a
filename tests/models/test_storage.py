"""Generators on disk: round trips, strictness, atomic writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from styletryon.errors import CheckpointError, CheckpointNotFoundError, SaveError
from styletryon.models import PoseStyleGAN2
from tests._support.tiny import tiny_generator, tiny_latent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_generator().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_round_trip(folder: Path) -> None:
    before, after = tiny_generator(), PoseStyleGAN2.from_pretrained(folder)
    assert after.config == before.config
    assert after.fingerprint == before.fingerprint
    assert not any(parameter.requires_grad for parameter in after.parameters())
    latent = tiny_latent(before)
    assert torch.equal(after.draw(latent).image, before.draw(latent).image)
    assert after.encoder is not None
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_half_precision_on_disk(tmp_path: Path) -> None:
    generator = tiny_generator()
    generator.save_pretrained(tmp_path, dtype=torch.float16)
    loaded = PoseStyleGAN2.from_pretrained(tmp_path)
    assert loaded.w_mean.dtype == torch.float32
    latent = tiny_latent(generator)
    torch.testing.assert_close(loaded.draw(latent).image, generator.draw(latent).image, atol=0.05, rtol=0.05)


def test_fingerprint_tells_models_apart() -> None:
    assert tiny_generator(seed=0).fingerprint != tiny_generator(seed=1).fingerprint


def test_missing_folder_or_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match="no such folder"):
        PoseStyleGAN2.from_pretrained(tmp_path / "nothing")
    with pytest.raises(CheckpointNotFoundError, match=r"without config\.json"):
        PoseStyleGAN2.from_pretrained(tmp_path)


@pytest.mark.parametrize("change", ["missing", "unknown", "misshaped"])
def test_keys_are_strict(folder: Path, change: str) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = next(iter(tensors))
    if change == "missing":
        del tensors[name]
    elif change == "unknown":
        tensors["stranger"] = torch.zeros(1)
    else:
        tensors[name] = torch.zeros(1, 2, 3)
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match="stranger" if change == "unknown" else name.replace(".", r"\.")):
        PoseStyleGAN2.from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "format"),
        ({"stranger": 1}, "stranger"),
        ({"generator": {"stranger": 1}}, "stranger"),
        ({"generator": {"w_dim": "many"}}, "w_dim"),
    ],
)
def test_unknown_settings_are_refused(folder: Path, change: dict[str, object], message: str) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=message):
        PoseStyleGAN2.from_pretrained(folder)


def test_damaged_files(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"model: expected safetensors in .*model\.safetensors, got .*; fetch"):
        PoseStyleGAN2.from_pretrained(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="JSON"):
        PoseStyleGAN2.from_pretrained(folder)


def test_a_full_disk_keeps_the_old_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = PoseStyleGAN2.from_pretrained(folder).fingerprint

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(SaveError, match="No space left"):
        tiny_generator(seed=1).save_pretrained(folder)
    monkeypatch.undo()
    assert PoseStyleGAN2.from_pretrained(folder).fingerprint == before
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_a_model_loaded_in_inference_mode_still_passes_gradients(folder: Path) -> None:
    with torch.inference_mode():
        model = PoseStyleGAN2.from_pretrained(folder)
    latent = tiny_latent(model)
    styles = tuple(style.clone().requires_grad_() for style in latent.styles)
    model.synthesize(styles, latent.pose).image.square().mean().backward()
    assert styles[0].grad is not None
