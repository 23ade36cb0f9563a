"""The objectives against independent formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from styletryon.generator import GeneratorOutput
from styletryon.labels import Label
from styletryon.models.mapping import MappingNetwork
from styletryon.pose import NUM_BODY_MAPS, NUM_TORSO_WAVES, body_maps
from styletryon.training import objectives
from tests._support.tiny import tiny_generator, tiny_pose


def test_hard_labels_are_one_hot_with_the_gradient_of_the_probabilities() -> None:
    logits = torch.randn(2, 5, 3, 4, requires_grad=True)
    weight = torch.randn(2, 5, 3, 4)
    hard = objectives.hard_labels(logits)
    torch.testing.assert_close(hard.detach(), objectives.one_hot(logits.argmax(dim=1), 5))
    (gradient,) = torch.autograd.grad((hard * weight).sum(), logits)
    (expected,) = torch.autograd.grad((logits.softmax(dim=1) * weight).sum(), logits)
    torch.testing.assert_close(gradient, expected)


def test_r1_of_a_linear_function_is_its_squared_weight() -> None:
    weight = torch.randn(3, 4, 4)
    x = torch.randn(2, 3, 4, 4, requires_grad=True)
    penalty = objectives.r1_penalty((x * weight).sum(dim=(1, 2, 3)), [x])
    torch.testing.assert_close(penalty, weight.square().sum())


def test_path_length_of_a_linear_generator() -> None:
    matrix = torch.randn(3 * 4 * 4, 6)
    w = torch.randn(2, 6, requires_grad=True)
    images = (w @ matrix.t()).reshape(2, 3, 4, 4)
    noise = torch.randn(2, 3, 4, 4)
    lengths = objectives.path_lengths(images, w, noise)
    expected = ((noise.flatten(1) / 4.0) @ matrix).norm(dim=1)
    torch.testing.assert_close(lengths, expected)


def test_logistic_losses() -> None:
    real, fake = torch.tensor([2.0, -1.0]), torch.tensor([0.5, 3.0])
    expected = (
        sum(math.log1p(math.exp(-r)) for r in (2.0, -1.0)) / 2 + sum(math.log1p(math.exp(f)) for f in (0.5, 3.0)) / 2
    )
    assert objectives.discriminator_logistic(real, fake).item() == pytest.approx(expected, rel=1e-5)
    assert objectives.generator_logistic(fake).item() == pytest.approx(
        sum(math.log1p(math.exp(-f)) for f in (0.5, 3.0)) / 2, rel=1e-5
    )


def test_reconstruction_is_zero_for_the_picture_itself_and_counts_the_person_more() -> None:
    images = torch.rand(1, 3, 32, 24) * 2 - 1
    labels = torch.zeros(1, 32, 24, dtype=torch.uint8)
    labels[:, 8:24, 6:18] = 4
    sure = 50.0 * objectives.one_hot(labels, 12)
    terms = objectives.reconstruction(GeneratorOutput(images, sure), images, labels, tiny_pose())
    assert all(float(term) == pytest.approx(0.0, abs=1e-6) for term in terms.values())
    wrong = {}
    for name, (row, column) in {"person": (16, 12), "background": (2, 2)}.items():
        drawn = images.clone()
        drawn[:, :, row, column] += 0.5
        terms = objectives.reconstruction(GeneratorOutput(drawn, sure), images, labels, tiny_pose())
        wrong[name] = float(terms["pixel"])
    assert wrong["person"] > 2 * wrong["background"]


def test_label_term_is_the_weighted_cross_entropy() -> None:
    labels = torch.zeros(1, 16, 12, dtype=torch.uint8)
    labels[:, 4:8] = 2
    logits = torch.randn(1, 12, 16, 12)
    images = torch.zeros(1, 3, 16, 12)
    term = objectives.reconstruction(GeneratorOutput(images, logits), images, labels, tiny_pose(size=(16, 12)))["label"]
    weight = torch.where(labels == 2, 6.0, 1.0)
    surprise = -F.log_softmax(logits, dim=1).gather(1, labels.long()[:, None])[:, 0]
    torch.testing.assert_close(term, 0.4 * (surprise * weight).mean())


def test_wave_distance_sees_a_stripe_that_pixels_would_rather_leave_out() -> None:
    pose = tiny_pose(size=(64, 48))
    maps = body_maps(pose.keypoints, pose.size, (64, 48))
    assert maps.shape == (1, NUM_BODY_MAPS, 64, 48)
    stripe = maps[:, 8:9].expand(-1, 3, -1, -1)
    missing = objectives.wave_distance(0.5 * stripe, pose)
    faint = objectives.wave_distance(0.25 * stripe, pose)
    assert float(missing) > 0
    torch.testing.assert_close(faint, missing / 2)


def test_mapping_is_fitted_to_the_codes() -> None:
    rng = torch.Generator().manual_seed(0)
    codes = torch.randn(500, 6, generator=rng) * torch.tensor([0.6, 0.2, 0.2, 0.1, 0.02, 0.02]) + 0.2
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        mapping = MappingNetwork(6, 6, 1)
    missed = objectives.fit_mapping(mapping, list(mapping.parameters()), codes, 6, steps=2500, rng=rng)
    assert missed < 0.1
    w = mapping(torch.randn(2000, 6, generator=rng)).detach()
    torch.testing.assert_close(w.mean(dim=0), codes.mean(dim=0), atol=0.06, rtol=0)
    assert float(w.detach()[:, 0].std()) == pytest.approx(float(codes[:, 0].std()), rel=0.2)


def test_printed_waves_are_the_strengths_of_the_waves_on_the_cloth() -> None:
    pose = tiny_pose(size=(64, 48))
    maps = body_maps(pose.keypoints, pose.size, (64, 48))
    labels = torch.zeros(1, 64, 48, dtype=torch.uint8)
    labels[:, 12:40, 8:40] = int(Label.TOP)
    wave = 16  # across the torso, as are all from 14 to 27
    images = -0.2 + 0.4 * maps[:, wave : wave + 1].expand(-1, 3, -1, -1)
    found = objectives.printed_waves(images, labels, pose)
    assert found.shape == (1, NUM_TORSO_WAVES)
    assert int(found[0].abs().argmax()) == wave
    assert float(found[0, wave]) == pytest.approx(0.4, abs=0.05)
    assert float(objectives.printed_waves(images, torch.zeros_like(labels), pose).abs().max()) == 0.0
    plain = objectives.printed_waves(torch.full_like(images, 0.7), labels, pose)
    torch.testing.assert_close(plain, torch.zeros_like(plain), atol=1e-5, rtol=0)


def test_print_distance_is_zero_where_styles_say_what_is_printed() -> None:
    waves = torch.randn(2, NUM_TORSO_WAVES)
    right = torch.cat([8 * waves, torch.randn(2, NUM_BODY_MAPS - NUM_TORSO_WAVES)], dim=1)
    assert float(objectives.print_distance([right, right], waves)) == pytest.approx(0.0, abs=1e-6)
    nothing = objectives.print_distance([torch.zeros_like(right)], waves)
    torch.testing.assert_close(nothing, waves.square().sum(dim=1).mean())


def test_prints_are_learnt_by_the_encoder() -> None:
    """The gradient reaches the encoder through the styles of waves alone, whatever the layers draw of them."""
    generator = tiny_generator()
    generator.requires_grad_(True)
    assert generator.encoder is not None
    images = torch.rand(2, 3, 32, 24) * 2 - 1
    styles = generator.wave_styles(generator.encoder(images, tiny_pose(2)))
    assert all(style.shape == (2, NUM_BODY_MAPS) for style in styles)
    objectives.print_distance(styles, torch.randn(2, NUM_TORSO_WAVES)).backward()
    assert generator.encoder.out.weight.grad is not None
    assert float(generator.encoder.out.weight.grad.abs().max()) > 0
