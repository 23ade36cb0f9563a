"""The discriminator on pretrained features: its parts against plain definitions, and what it sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from styletryon.errors import CheckpointNotFoundError, ConfigError
from styletryon.models import ProjectedDiscriminator, ProjectedDiscriminatorConfig
from styletryon.models.projected_discriminator import RandomMixing, SpectralConv
from styletryon.pose import Pose
from styletryon.training.objectives import one_hot
from tests._support.tiny import tiny_pose
from tests._support.trunk import published

SIZE = (64, 48)


@pytest.fixture(scope="module")
def judge() -> ProjectedDiscriminator:
    torch.manual_seed(0)
    return ProjectedDiscriminator(ProjectedDiscriminatorConfig(SIZE, channels=8, hidden=8, weights="random"))


def drawings(batch: int, size: tuple[int, int] = SIZE) -> tuple[Tensor, Tensor, Pose]:
    rng = torch.Generator().manual_seed(1)
    images = torch.rand(batch, 3, *size, generator=rng) * 2 - 1
    labels = one_hot(torch.randint(0, 12, (batch, *size), generator=rng), 12)
    return images, labels, tiny_pose(batch, size)


@settings(max_examples=20, deadline=None)
@given(outputs=st.integers(1, 9), inputs=st.integers(1, 5), kernel=st.sampled_from([1, 3, 4]), seed=st.integers(0, 99))
def test_the_largest_singular_value(outputs: int, inputs: int, kernel: int, seed: int) -> None:
    torch.manual_seed(seed)
    layer = SpectralConv(inputs, outputs, kernel)
    largest = layer.largest()
    (gradient,) = torch.autograd.grad(largest, layer.weight)
    left, values, right = np.linalg.svd(layer.weight.detach().flatten(1).double().numpy(), full_matrices=False)
    assert float(largest.detach()) == pytest.approx(values[0], rel=1e-4)
    if len(values) == 1 or values[1] < 0.9 * values[0]:  # else the vectors are any
        expected = torch.from_numpy(np.outer(left[:, 0], right[0])).float().view_as(layer.weight)
        torch.testing.assert_close(gradient, expected, atol=2e-3, rtol=0)


def test_mixing_is_that_of_its_definition() -> None:
    mixing = RandomMixing((2, 3), 4, seed=5)
    fine, coarse = torch.randn(1, 2, 4, 6), torch.randn(1, 3, 2, 3)
    (fine_mix, coarse_mix), (fine_scale, coarse_scale) = mixing.across_channels, mixing.across_scales
    below = F.conv2d(torch.einsum("oi,bihw->bohw", coarse_mix[:, :, 0, 0], coarse), coarse_scale, padding=1)
    doubled = F.interpolate(below, scale_factor=2, mode="bilinear", align_corners=False)
    own = torch.einsum("oi,bihw->bohw", fine_mix[:, :, 0, 0], fine) + doubled
    first, second = mixing([fine, coarse])
    torch.testing.assert_close(first, F.conv2d(own, fine_scale, padding=1))
    torch.testing.assert_close(second, below)
    assert not any(filters.requires_grad for filters in mixing.parameters())
    same, other = RandomMixing((2, 3), 4, seed=5), RandomMixing((2, 3), 4, seed=6)
    assert torch.equal(same.across_channels[0], fine_mix)
    assert not torch.equal(other.across_channels[0], fine_mix)


def test_it_sees_picture_segmentation_and_pose(judge: ProjectedDiscriminator) -> None:
    images, labels, pose = drawings(3)
    logits = judge(images, labels, pose)
    assert logits.shape[0] == 3
    assert logits.dtype == torch.float32
    moved = Pose(pose.keypoints * pose.keypoints.new_tensor([1, 0.8, 1]), SIZE)
    for changed in (judge(images.flip(3), labels, pose), judge(images, labels.flip(1), pose),
                    judge(images, labels, moved)):  # fmt: skip
        assert not torch.allclose(changed, logits, atol=1e-4)


def test_samples_are_judged_one_by_one(judge: ProjectedDiscriminator) -> None:
    images, labels, pose = drawings(3)
    alone = [judge(images[i : i + 1], labels[i : i + 1], Pose(pose.keypoints[i : i + 1], SIZE)) for i in range(3)]
    torch.testing.assert_close(torch.cat(alone), judge(images, labels, pose, group_size=2), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [(16, 12), (32, 24), (64, 32), (128, 128)])
def test_any_size(size: tuple[int, int]) -> None:
    numbers = ProjectedDiscriminatorConfig(size, channels=4, hidden=4, weights="random")
    logits = ProjectedDiscriminator(numbers)(*drawings(2, size))
    assert logits.shape[0] == 2
    assert bool(torch.isfinite(logits).all())


def test_gradients_reach_the_drawing_and_the_heads_alone(judge: ProjectedDiscriminator) -> None:
    images, labels, pose = drawings(2)
    judge(images.requires_grad_(), labels.requires_grad_(), pose).mean().backward()
    assert images.grad is not None
    assert labels.grad is not None
    assert float(images.grad.abs().sum()) > 0
    assert float(labels.grad.abs().sum()) > 0
    learnt = {name for name, parameter in judge.named_parameters() if parameter.grad is not None}
    assert learnt == {name for name, _ in judge.named_parameters() if name.startswith("heads.")}


def test_it_learns_to_tell_two_kinds_apart(judge: ProjectedDiscriminator) -> None:
    images, labels, pose = drawings(4)
    optimizer = torch.optim.Adam(judge.heads.parameters(), lr=2e-3, betas=(0.0, 0.99))
    losses = []
    for _ in range(25):
        real, fake = judge(images, labels, pose), judge(images.flip(2), labels, pose)
        loss = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_weights_come_from_a_file(tmp_path: Path) -> None:
    torch.save(published(torch.Generator().manual_seed(3)), tmp_path / "trunk.pth")
    numbers = ProjectedDiscriminatorConfig(SIZE, channels=4, hidden=4, weights=str(tmp_path / "trunk.pth"))
    judge, random = (ProjectedDiscriminator(one) for one in (numbers, ProjectedDiscriminatorConfig(
        SIZE, channels=4, hidden=4, weights="random")))  # fmt: skip
    assert not torch.equal(judge.features.network.stem.weight, random.features.network.stem.weight)
    with pytest.raises(CheckpointNotFoundError, match=r"none\.pth"):
        ProjectedDiscriminator(ProjectedDiscriminatorConfig(SIZE, weights=str(tmp_path / "none.pth")))


@pytest.mark.parametrize("name", ["num_labels", "channels", "hidden"])
def test_refuses_numbers_without_meaning(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        ProjectedDiscriminatorConfig(**{name: 0})
    with pytest.raises(ConfigError, match="weights"):
        ProjectedDiscriminatorConfig(weights="")
    with pytest.raises(ConfigError, match="image_size"):
        ProjectedDiscriminatorConfig((0, 4))
