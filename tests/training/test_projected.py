"""Training against a discriminator on pretrained features, and reconstruction in their eyes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from styletryon.data import FolderDataset
from styletryon.errors import ConfigError, RangeError
from styletryon.generator import GeneratorOutput
from styletryon.models import ProjectedDiscriminator, ProjectedDiscriminatorConfig
from styletryon.training import (
    AdaptiveAugmentation,
    PerceptualReconstruction,
    Stage,
    Trainer,
    TrainingConfig,
    objectives,
)
from styletryon.training.perceptual import PerceptualTerm
from tests._support.tiny import tiny_pose
from tests.training.test_processes import config, tryons  # noqa: F401
from tests.training.test_trainer import assert_same

SIZE = (32, 24)
pytestmark = pytest.mark.timeout(1200)  # seconds on a busy machine; the feature network takes most of them
PROJECTED = ProjectedDiscriminatorConfig(SIZE, channels=8, hidden=8, weights="random")
PERCEPTUAL = PerceptualReconstruction(weights="random")


def settings(**changes: object) -> TrainingConfig:
    """Three steps of reconstruction, then three with the discriminator, all at random that there is."""
    both = {"projected": PROJECTED, "perceptual": PERCEPTUAL, "adaptive": AdaptiveAugmentation(pictures=20)}
    stages = (Stage(12, num_levels=-1), Stage(12, adversarial=0.1))
    return config(**({"stages": stages} | both | changes))


def run(data: Path, out: Path, chosen: TrainingConfig, *, accumulate: int = 1) -> Trainer:
    return Trainer(chosen, FolderDataset(data, size=SIZE), out, precision="fp32", accumulate=accumulate)


def test_a_resumed_run_ends_with_the_same_weights(tryons: Path, tmp_path: Path) -> None:  # noqa: F811
    whole = run(tryons, tmp_path / "whole", settings())
    assert whole.train()
    assert not run(tryons, tmp_path / "parts", settings()).train(steps=4)
    second = run(tryons, tmp_path / "parts", TrainingConfig.load(tmp_path / "parts" / "training.json"))
    assert second.resume()
    assert second.train()
    assert_same(whole.state(), second.state())


def test_a_step_is_the_same_in_micro_batches(tryons: Path, tmp_path: Path) -> None:  # noqa: F811
    chosen = settings(stages=(Stage(12, adversarial=0.1),))
    losses = [run(tryons, tmp_path / str(parts), chosen, accumulate=parts).train_step() for parts in (1, 2)]
    assert losses[0].keys() == losses[1].keys()
    assert {"perceptual", "adversarial", "discriminator"} <= losses[0].keys()
    assert "r1" not in losses[0]
    for name, loss in losses[0].items():
        torch.testing.assert_close(loss, losses[1][name], atol=1e-5, rtol=1e-4)


def test_the_frozen_parts_stay(tryons: Path, tmp_path: Path) -> None:  # noqa: F811
    trainer = run(tryons, tmp_path, settings(stages=(Stage(12, adversarial=0.1),)))
    assert isinstance(trainer.discriminator, ProjectedDiscriminator)
    before = {name: tensor.clone() for name, tensor in trainer.discriminator.state_dict().items()}
    trainer.train_step()
    for name, tensor in trainer.discriminator.state_dict().items():
        learnt = name.startswith("heads.") and name.endswith("weight")  # biases may stand still while all are in doubt
        if learnt or not name.startswith("heads."):
            assert torch.equal(tensor, before[name]) == (not learnt), name


def test_hinge() -> None:
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.25, 1.0, -1.0])
    assert objectives.generator_hinge(fake).item() == pytest.approx(0.6875)
    assert objectives.discriminator_hinge(real, fake).item() == pytest.approx(0.25 + (0 + 1.25 + 2 + 0) / 4)


def test_fine_pixels_are_left_out() -> None:
    torch.manual_seed(0)
    images, labels, pose = torch.rand(2, 3, *SIZE) * 2 - 1, torch.randint(0, 12, (2, *SIZE)), tiny_pose(2)
    logits = torch.randn(2, 12, *SIZE)
    fine = torch.ones(1, 1, *SIZE)
    fine[..., ::2] = -1  # nothing of it is left at half the size
    same, other = (GeneratorOutput(images + part, logits) for part in (0 * fine, 0.2 * fine))
    plain, coarse = (objectives.reconstruction(other, images, labels, pose, finest=finest) for finest in (0, 1))
    assert float(plain["pixel"]) > 0.01
    assert float(plain["gradient"]) > 0.1
    weight = objectives.pixel_weights(labels)
    residual, expected = 0.2 * fine.expand(2, 3, -1, -1), 0.0
    for scale in range(4):
        expected += float((residual.abs() * weight).mean()) / 4 if scale >= 1 else 0.0
        residual, weight = F.avg_pool2d(residual, 2), F.avg_pool2d(weight, 2)
    assert float(coarse["pixel"]) == pytest.approx(expected, abs=1e-6)
    assert float(coarse["gradient"]) == pytest.approx(0.0, abs=1e-6)
    assert torch.equal(coarse["label"], plain["label"])
    exact = objectives.reconstruction(same, images, labels, pose, finest=3)
    assert float(exact["pixel"] + exact["gradient"]) == 0.0


def test_features_tell_how_far_a_drawing_is() -> None:
    term = PerceptualTerm(PERCEPTUAL, torch.device("cpu"))
    torch.manual_seed(0)
    images, labels = torch.rand(2, 3, 64, 48) * 2 - 1, torch.full((2, 64, 48), 4)
    near, far = ((images + strength * torch.randn_like(images)).requires_grad_() for strength in (0.05, 0.5))
    distances = [term(drawn, images, labels) for drawn in (images, near, far)]
    same, little, much = (distance.item() for distance in distances)
    assert 0 <= same < 1e-5 < little < much
    distances[2].backward()
    assert far.grad is not None
    assert float(far.grad.abs().sum()) > 0
    twice = PerceptualTerm(replace(PERCEPTUAL, weight=2 * PERCEPTUAL.weight), torch.device("cpu"))
    torch.testing.assert_close(twice(far, images, labels), 2 * distances[2])


def test_settings_go_through_json_and_are_checked() -> None:
    chosen = settings()
    assert TrainingConfig.from_dict(chosen.to_dict()) == chosen
    assert chosen.changed(**{"projected.hidden": 16}).projected == replace(PROJECTED, hidden=16)
    assert config().changed(perceptual={"weight": 0.5}).perceptual == PerceptualReconstruction(0.5)
    with pytest.raises(ConfigError, match="image_size"):
        config(projected=ProjectedDiscriminatorConfig((64, 48)))
    with pytest.raises(RangeError, match="weight"):
        PerceptualReconstruction(weight=0.0)
    with pytest.raises(RangeError, match="finest"):
        PerceptualReconstruction(finest=4)
    with pytest.raises(ConfigError, match="weights"):
        PerceptualReconstruction(weights="")
