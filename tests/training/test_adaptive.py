"""Adaptive augmentation: everything moves together, it leaks into nothing, and it is steered."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from styletryon.data.folder import FolderDataset
from styletryon.errors import CheckpointError, ConfigError, RangeError, ShapeError
from styletryon.generator import GeneratorOutput
from styletryon.pose import Pose
from styletryon.training import Stage, Trainer, TrainingConfig, objectives, preset
from styletryon.training.adaptive import (
    NUMBERS,
    AdaptiveAugmentation,
    AdaptiveChange,
    AugmentationController,
    adaptive_change,
)
from tests._support.tiny import tiny_pose
from tests._support.training_processes import sure_discriminator
from tests.training.test_trainer import SIZE, assert_same, config, data  # noqa: F401

CLASSES = 5


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(batch: int, strength: float, seed: int = 0) -> AdaptiveChange:
    return adaptive_change(torch.randn(batch, NUMBERS, generator=rng(seed)), strength)


def people(batch: int = 6, size: tuple[int, int] = SIZE) -> tuple[Tensor, Tensor, Pose]:
    images = 2 * torch.rand(batch, 3, *size, generator=rng(1)) - 1
    labels = objectives.one_hot(torch.randint(0, CLASSES, (batch, *size), generator=rng(2)), CLASSES)
    return images, labels, tiny_pose(batch, size)


def without_colours(change: AdaptiveChange) -> AdaptiveChange:
    return replace(change, recoloured=torch.zeros_like(change.recoloured))


# ------------------------------------------------------------------ the change


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31), row=st.integers(24, 39), column=st.integers(18, 29))
def test_a_dot_at_a_keypoint_stays_at_the_keypoint(seed: int, row: int, column: int) -> None:
    size = (64, 48)
    images, labels = torch.full((1, 3, *size), -1.0), torch.zeros(1, CLASSES, *size)
    yy, xx = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(48) + 0.5, indexing="ij")
    blob = torch.exp(-((yy - row - 0.5) ** 2 + (xx - column - 0.5) ** 2) / 8)
    images[0] += 2 * blob
    labels[0, 4], labels[0, 0] = blob, 1 - blob
    keypoints = torch.zeros(1, 17, 3)
    keypoints[:, 0] = torch.tensor([column + 0.5, row + 0.5, 1.0])
    change = without_colours(drawn(1, 1.0, seed))
    moved, moved_labels, pose = change.apply(images, labels, Pose(keypoints, size))
    x, y = pose.keypoints[0, 0, :2].tolist()
    if not (12 < x < 36 and 12 < y < 52):  # the dot must lie within the picture to be measured
        return
    for picture in (moved[0, 1] + 1, moved_labels[0, 4]):
        weight = picture / picture.sum()
        assert float((weight * yy).sum()) == pytest.approx(y, abs=0.15)
        assert float((weight * xx).sum()) == pytest.approx(x, abs=0.15)
    heat = pose.heatmaps(size)[0, 0]
    assert divmod(int(heat.argmax()), 48) == pytest.approx((y - 0.5, x - 0.5), abs=0.51)


def test_without_strength_nothing_changes() -> None:
    change = drawn(6, 0.0)
    for before, after in zip(people()[:2], change.apply(*people())[:2], strict=True):
        assert torch.equal(before, after)
    assert torch.equal(change.apply(*people())[2].keypoints, people()[2].keypoints)


def test_each_change_happens_as_often_as_it_should() -> None:
    change = drawn(20_000, 0.3)
    assert float(change.move.moved.float().mean()) == pytest.approx(1 - 0.7**4, abs=0.02)  # turns count as one
    assert float(change.recoloured.float().mean()) == pytest.approx(1 - 0.7**5, abs=0.02)
    shifted = (change.move.shift != 0).any(dim=1)
    assert float(shifted.float().mean()) == pytest.approx(0.3, abs=0.02)
    assert float(change.move.shift[shifted].std()) == pytest.approx(0.125, rel=0.05)
    areas = change.move.matrix.det().log() / 2  # the sides' stretching keeps the area
    scaled = areas.abs() > 1e-5
    assert float(scaled.float().mean()) == pytest.approx(0.3, abs=0.02)
    assert float(areas[scaled].std()) == pytest.approx(0.2 * math.log(2), rel=0.05)
    assert not bool(change.move.flipped.any())
    still = ~change.recoloured
    assert torch.equal(change.colour[still], torch.eye(3, 4).expand(int(still.sum()), 3, 4).to(change.colour))


def colour_oracle(
    colour: Tensor, *, brightness: float, contrast: float, inverted: bool, angle: float, saturation: float
) -> Tensor:
    """One after the other on one colour `(3,)`, as the paper's appendix lists them."""
    colour = (colour + brightness) * contrast
    luma = colour.mean().expand(3)
    if inverted:
        colour = colour - 2 * luma
        luma = -luma
    axis = torch.full((3,), math.sqrt(1 / 3))
    turned = (colour * math.cos(angle) + torch.linalg.cross(axis, colour) * math.sin(angle)
              + axis * (axis @ colour) * (1 - math.cos(angle)))  # Rodrigues' formula  # fmt: skip
    return luma + saturation * (turned - luma)


@pytest.mark.parametrize("inverted", [False, True])
def test_colours_change_as_the_paper_says(inverted: bool) -> None:
    from styletryon.training.adaptive import _colours

    normal = torch.tensor([[0.7, -1.2, 0.4]])
    uniform = torch.tensor([[0.3, 1.0 if inverted else -1.0]])
    matrix = _colours(torch.ones(1, 5, dtype=torch.bool), normal, uniform)[0]
    colour = torch.tensor([0.9, -0.3, 0.2])
    expected = colour_oracle(
        colour, brightness=0.2 * 0.7, contrast=2 ** (0.5 * -1.2), inverted=inverted, angle=0.3 * math.pi,
        saturation=2**0.4,
    )  # fmt: skip
    torch.testing.assert_close(matrix[:, :3] @ colour + matrix[:, 3], expected)


def test_colours_change_pictures_alone() -> None:
    images, labels, pose = people(1)
    change = drawn(1, 0.0)
    colour = torch.tensor([[[0.0, 1.0, 0.0, 0.5], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 2.0, 0.0]]])
    seen, classes, points = replace(change, recoloured=torch.tensor([True]), colour=colour).apply(images, labels, pose)
    torch.testing.assert_close(seen[0], torch.stack([images[0, 1] + 0.5, images[0, 0], 2 * images[0, 2]]))
    assert torch.equal(classes, labels)
    assert torch.equal(points.keypoints, pose.keypoints)


def test_gradients_reach_the_drawing() -> None:
    images, _, pose = people()
    logits = torch.randn(6, CLASSES, *SIZE, generator=rng(3))
    drawing = GeneratorOutput(images.requires_grad_(), logits.requires_grad_())
    change = drawn(6, 0.8, 4)
    seen, classes, _ = change.apply(drawing.image, objectives.hard_labels(drawing.logits), pose)
    weight = torch.randn(seen.shape, generator=rng(5))
    image_gradient, logit_gradient = torch.autograd.grad(
        (seen * weight).sum() + classes.square().sum(), (images, logits)
    )
    assert (image_gradient.flatten(1).abs().sum(dim=1) > 0).all()
    assert (logit_gradient.flatten(1).abs().sum(dim=1) > 0).all()
    step = torch.randn(images.shape, generator=rng(6)) * 1e-2
    with torch.no_grad():
        ahead, _, _ = change.apply(images + step, objectives.hard_labels(logits), pose)
    torch.testing.assert_close(((ahead - seen) * weight).sum(), (image_gradient * step).sum(), rtol=1e-3, atol=1e-3)


def test_bfloat16_around_it_changes_nothing() -> None:
    change = drawn(6, 1.0)
    plain = change.apply(*people())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = drawn(6, 1.0).apply(*people())
    assert torch.equal(plain[0], cast[0])
    assert torch.equal(plain[1], cast[1])
    assert torch.equal(plain[2].keypoints, cast[2].keypoints)


def test_shapes_and_numbers_that_do_not_fit() -> None:
    change = drawn(6, 0.5)
    images, labels, pose = people()
    with pytest.raises(ShapeError, match="images, labels"):
        change.apply(images, labels[..., :-1], pose)
    with pytest.raises(ShapeError, match="images, labels"):
        change.apply(images[:, :2], labels, pose)
    with pytest.raises(ShapeError, match="6 pictures first"):
        change.apply(images[:3], labels[:3], pose)
    with pytest.raises(RangeError, match="strength"):
        drawn(6, 1.1)
    with pytest.raises(ShapeError, match="numbers"):
        adaptive_change(torch.zeros(6, 3), 0.5)
    with pytest.raises(RangeError, match="target"):
        AdaptiveAugmentation(target=float("nan"))
    with pytest.raises(RangeError, match="limit"):
        AdaptiveAugmentation(limit=1.5)
    with pytest.raises(RangeError, match="interval, pictures"):
        AdaptiveAugmentation(interval=0)


# ------------------------------------------------------------------ the controller


def test_it_goes_up_when_real_pictures_are_known_and_down_when_not() -> None:
    controller = AugmentationController(AdaptiveAugmentation(interval=2, pictures=400, limit=0.15))
    known, guessed = torch.tensor(1.0), torch.tensor(0.0)
    heard = []
    for sign in [known] * 10 + [guessed] * 12:
        controller.update(sign, batch_size=8)
        heard.append(round(controller.strength, 6))
    assert heard[:10] == [0, 0.04, 0.04, 0.08, 0.08, 0.12, 0.12, 0.15, 0.15, 0.15]  # up to the limit
    assert heard[10:] == [0.15, 0.11, 0.11, 0.07, 0.07, 0.03, 0.03, 0, 0, 0, 0, 0]


def test_on_target_it_stays() -> None:
    controller = AugmentationController(AdaptiveAugmentation(target=0.5, interval=1, pictures=100))
    for sign, strength in ((1.0, 0.08), (0.5, 0.08), (float("nan"), 0.0)):
        controller.update(torch.tensor(sign), batch_size=8)
        assert controller.strength == pytest.approx(strength)


def test_all_steps_since_the_last_adjustment_count() -> None:
    controller = AugmentationController(AdaptiveAugmentation(interval=4, pictures=100))
    for value in (1.0, 1.0, 1.0, -1.0):  # a mean sign of 0.5, though the last step alone would say -1
        controller.update(torch.tensor(value), batch_size=8)
    assert controller.strength == 0
    for value in (1.0, 1.0, 1.0, 1.0):
        controller.update(torch.tensor(value), batch_size=8)
    assert controller.strength == pytest.approx(0.32)


def test_its_state_is_whole() -> None:
    first, second = (AugmentationController(AdaptiveAugmentation(interval=3, pictures=100)) for _ in range(2))
    for _ in range(4):
        first.update(torch.tensor(1.0), batch_size=8)
    second.load(first.state())
    assert first.strength > 0
    for controller in (first, second):
        for _ in range(2):
            controller.update(torch.tensor(1.0), batch_size=8)
    assert_same(first.state(), second.state())
    with pytest.raises(CheckpointError, match="AugmentationController"):
        second.load({"strength": 0.5})
    with pytest.raises(CheckpointError, match="AugmentationController"):
        second.load({"strength": 0.5, "steps": 1, "signs": torch.zeros(3)})
    assert second.strength == first.strength


# ------------------------------------------------------------------ in a training


@pytest.fixture
def signs() -> Iterator[list[float]]:
    """The strength rises at each adjustment; what the discriminator really said."""
    with sure_discriminator() as signs:
        yield signs


def run(folder: Path, out: Path, adaptive: AdaptiveAugmentation | None, **changes: object) -> Trainer:
    settings = config(stages=(Stage(8), Stage(40, adversarial=0.1)), adaptive=adaptive, **changes)
    return Trainer(settings, FolderDataset(folder, size=SIZE), out, precision="fp32")


RISING = AdaptiveAugmentation(interval=2, pictures=20)


@pytest.mark.usefixtures("signs")
def test_a_resumed_run_ends_with_the_same_weights(data: Path, tmp_path: Path) -> None:  # noqa: F811
    whole = run(data, tmp_path / "whole", RISING)
    assert whole.train()
    first = run(data, tmp_path / "parts", RISING)
    first.train(steps=7)
    assert first.state()["adaptive"]["strength"] > 0
    assert first.state()["adaptive"]["steps"] == 1  # in the middle of an interval
    second = run(data, tmp_path / "parts", RISING)
    assert second.resume()
    assert second.train()
    assert_same(whole.state(), second.state())


@pytest.mark.usefixtures("signs")
def test_a_strength_of_zero_is_no_augmentation(data: Path, tmp_path: Path) -> None:  # noqa: F811
    off, idle, on = (
        run(data, tmp_path / name, adaptive)
        for name, adaptive in (("off", None), ("idle", AdaptiveAugmentation(target=1.0)), ("on", RISING))
    )
    for trainer in (off, idle, on):
        trainer.train(steps=8)
    assert_same(off.generator.state_dict(), idle.generator.state_dict())
    assert_same(off.discriminator.state_dict(), idle.discriminator.state_dict())
    with pytest.raises(AssertionError):
        assert_same(off.discriminator.state_dict(), on.discriminator.state_dict())


def test_the_log_says_how_strong_it_is(data: Path, tmp_path: Path, signs: list[float]) -> None:  # noqa: F811
    trainer = run(data, tmp_path, RISING)
    assert trainer.controller is not None
    logged, expected = [], []
    for step in range(8):
        strength = trainer.controller.strength
        losses = trainer.train_step()
        assert ("augmentation" in losses) == (step > 1)  # before that there is no discriminator
        if step > 1:
            expected.append(strength)
            logged.append(float(losses["augmentation"]))
            assert -1 <= float(losses["real_sign"]) <= 1
            assert signs[-1] == float(losses["real_sign"])
    assert logged == pytest.approx(expected)
    assert logged[0] == 0
    assert logged[-1] > 0


@pytest.mark.usefixtures("signs")
def test_a_run_that_began_without_it_can_go_on_with_it(data: Path, tmp_path: Path) -> None:  # noqa: F811
    run(data, tmp_path, None).train(steps=4)
    later = run(data, tmp_path, RISING)
    assert later.resume()
    assert later.train()
    assert later.controller is not None
    assert later.controller.strength > 0


def test_what_is_reconstructed_is_changed_where_nothing_judges_it(data: Path, tmp_path: Path) -> None:  # noqa: F811
    plain, changed = (
        run(data, tmp_path / name, None, flip=0.0, geometry=share, colour=share)
        for name, share in (("plain", 0.0), ("changed", 1.0))
    )
    for step, differs in ((0, True), (2, False)):  # the second stage has a discriminator
        pairs = [trainer._loader.load(step)[0].target for trainer in (plain, changed)]
        assert torch.equal(pairs[0].images, pairs[1].images) is not differs
        assert torch.equal(pairs[0].labels, pairs[1].labels) is not differs
        assert torch.equal(pairs[0].pose.keypoints, pairs[1].pose.keypoints) is not differs


def test_settings_go_to_json_and_back() -> None:
    settings = preset("street")
    assert settings.adaptive is not None
    assert settings.generator == preset("paperdoll").generator  # so that the bundled weights fit
    assert settings.encoder == preset("paperdoll").encoder
    assert TrainingConfig.from_dict(settings.to_dict()) == settings
    before = {name: value for name, value in preset("tiny").to_dict().items()
              if name not in ("adaptive", "geometry", "colour")}  # fmt: skip
    assert TrainingConfig.from_dict(before) == preset("tiny")  # files from before it
    with pytest.raises(ConfigError, match="geometry"):
        config(geometry=1.5)
