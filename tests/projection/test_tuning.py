from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from styletryon.compositing import show
from styletryon.errors import ConfigError, RangeError, ShapeError
from styletryon.generator import adapt
from styletryon.latent import Latent, stack
from styletryon.models import PoseStyleGAN2
from styletryon.projection import LatentProjector
from styletryon.tryon import TryOnOptimizer, make_targets
from styletryon.tryon.baselines import blend
from tests._support.fake_generator import FakeGenerator, fake_latent
from tests._support.tiny import tiny_generator, tiny_latent

ANYTHING = range(1, 12)


@pytest.fixture(scope="module")
def generator() -> PoseStyleGAN2:
    return tiny_generator()


@pytest.fixture(scope="module")
def picture() -> Tensor:
    """Something that the tiny generator does not draw."""
    return torch.rand(1, 3, 8, 6, generator=torch.Generator().manual_seed(0)).repeat_interleave(4, 2).repeat_interleave(
        4, 3
    ) * 1.6 - 0.8  # fmt: skip


def projector(generator: PoseStyleGAN2, **settings: object) -> LatentProjector:
    options = {"steps": 3, "noise": False, "tuning_steps": 20, "tuning_rate": 0.02} | settings
    return LatentProjector(generator, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def tuned(generator: PoseStyleGAN2, picture: Tensor) -> Latent:
    return projector(generator).tune(tiny_latent(generator), picture)


def fields(latent: Latent) -> Mapping[str, Tensor]:
    assert latent.tuning is not None
    return latent.tuning


def test_the_picture_comes_nearer_and_the_report_says_how_near(
    generator: PoseStyleGAN2, picture: Tensor, tuned: Latent
) -> None:
    pivot = tiny_latent(generator)
    assert all(map(torch.equal, tuned.styles, pivot.styles))
    distances = []
    for latent in (pivot, tuned):
        square = (generator.draw(latent).image.clamp(-1, 1) - picture).square().mean()
        distances.append(float(10 * torch.log10(4 / square)))
    assert distances[1] > distances[0] + 1
    assert tuned.report["pivot_psnr"] == pytest.approx(distances[0], abs=1e-3)
    assert tuned.report["reconstruction_psnr"] == pytest.approx(distances[1], abs=1e-3)
    assert tuned.report["tuning_steps"] == 20


def test_the_generator_is_left_as_it_was_bit_for_bit(picture: Tensor) -> None:
    generator = tiny_generator()
    generator.mapper.requires_grad_(True)
    before = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    flags = {name: parameter.requires_grad for name, parameter in generator.named_parameters()}
    fingerprint = generator.fingerprint
    latent = projector(generator, tune=True).project(picture, tiny_latent(generator).pose)
    generator.draw(latent)
    TryOnOptimizer(generator, steps=2).optimize(latent, tiny_latent(generator, seed=1), region=ANYTHING)
    assert latent.tuning is not None
    assert latent.model == fingerprint == generator.fingerprint
    for name, tensor in generator.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert flags == {name: parameter.requires_grad for name, parameter in generator.named_parameters()}
    assert all(parameter.grad is None for parameter in generator.parameters())


def test_only_tunable_weights_move(generator: PoseStyleGAN2, tuned: Latent) -> None:
    assert set(fields(tuned)) == set(generator.tunable)
    assert all(name.startswith(("synthesis.blocks.2.", "synthesis.blocks.3.")) for name in generator.tunable)
    copy = adapt(generator, tuned)
    before = generator.state_dict()
    moved = {name for name, tensor in copy.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved
    assert moved <= set(generator.tunable)
    assert not any(parameter.requires_grad for parameter in copy.parameters())
    assert copy.fingerprint != generator.fingerprint
    # What was found with the plain generator stands for the same styles.
    w = torch.randn(2, generator.w_dim, generator=torch.Generator().manual_seed(1))
    assert all(map(torch.equal, copy.affine(w), generator.affine(w)))


def test_others_are_drawn_as_before(generator: PoseStyleGAN2) -> None:
    changes = []
    pivot = tiny_latent(generator)
    picture = (generator.draw(pivot).image * 0.6 + 0.2).clamp(-1, 1)
    for weight in (0.0, 20.0):
        latent = projector(generator, locality_weight=weight, tuning_rate=0.01).tune(pivot, picture)
        others = replace(tiny_latent(generator, 6, seed=9), pose=stack([pivot] * 6).pose)
        with torch.no_grad():
            apart = adapt(generator, latent).draw(others).image - generator.draw(others).image
        changes.append(float(apart.abs().mean()))
    assert changes[1] < 0.85 * changes[0]


def test_repeats_bit_for_bit(generator: PoseStyleGAN2, picture: Tensor, tuned: Latent) -> None:
    again = projector(generator).tune(tiny_latent(generator), picture)
    assert all(torch.equal(change, fields(again)[name]) for name, change in fields(tuned).items())
    other = projector(generator).tune(tiny_latent(generator), picture, seed=5)
    assert not all(torch.equal(change, fields(other)[name]) for name, change in fields(tuned).items())


def test_bfloat16_finds_much_the_same_weights(generator: PoseStyleGAN2, picture: Tensor, tuned: Latent) -> None:
    half = projector(generator, autocast=torch.bfloat16).tune(tiny_latent(generator), picture)
    changes = [torch.cat([change.flatten() for change in fields(latent).values()]) for latent in (tuned, half)]
    assert not torch.equal(*changes)
    assert float(torch.nn.functional.cosine_similarity(*changes, dim=0)) > 0.8
    assert all(change.dtype == torch.float32 for change in fields(half).values())
    assert half.report["reconstruction_psnr"] == pytest.approx(tuned.report["reconstruction_psnr"], abs=0.5)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off(generator: PoseStyleGAN2, picture: Tensor, tuned: Latent, mode) -> None:  # type: ignore[no-untyped-def]
    with mode():
        latent = tiny_latent(generator)
        again = projector(generator).tune(latent, picture.clone())
        generator.draw(again)
    assert all(torch.equal(change, fields(again)[name]) for name, change in fields(tuned).items())
    assert not any(change.requires_grad or change.is_inference() for change in fields(again).values())


def test_pixels_outside_the_mask_do_not_count(generator: PoseStyleGAN2, picture: Tensor) -> None:
    mask = torch.ones(1, 32, 24)
    mask[:, 16:] = 0
    other = picture.clone()
    other[:, :, 16:] *= -1
    first, second = (
        projector(generator, feature_weight=0.0, tuning_steps=4).tune(tiny_latent(generator), images, mask=mask)
        for images in (picture, other)
    )
    for name, change in fields(first).items():
        torch.testing.assert_close(change, fields(second)[name])


def test_one_set_of_weights_for_several_pictures(generator: PoseStyleGAN2, picture: Tensor) -> None:
    pivots = tiny_latent(generator, 2)
    images = torch.cat([picture, -picture])
    both = projector(generator).tune(pivots, images)
    with torch.no_grad():
        before = (generator.draw(pivots).image - images).abs().mean(dim=(1, 2, 3))
        after = (generator.draw(both).image - images).abs().mean(dim=(1, 2, 3))
        apart = torch.cat([generator.draw(both[index]).image for index in range(2)])
        whole = generator.draw(both).image
    assert bool((after < before).all())
    torch.testing.assert_close(apart, whole, rtol=1e-4, atol=1e-4)
    assert stack([both[0], both[1]]).tuning is both.tuning


def test_project_tunes_to_one_picture_and_project_each_to_each(generator: PoseStyleGAN2, picture: Tensor) -> None:
    images = torch.cat([picture, -picture])
    pose = tiny_latent(generator, 2).pose
    told = []
    latents = projector(generator, tune=True, tuning_steps=2).project_each(images, pose, callback=told.append)
    assert len(told) == 3 + 2 * 2
    assert not torch.equal(fields(latents[0])["synthesis.blocks.3.rgb_bias"],
                           fields(latents[1])["synthesis.blocks.3.rgb_bias"])  # fmt: skip
    with pytest.raises(ShapeError, match="images: expected one picture to tune to, got 2"):
        projector(generator, tune=True).project(images, pose)
    with pytest.raises(ShapeError, match="latents: expected latents of one tuning"):
        stack(latents)


def test_a_try_on_is_drawn_with_the_persons_weights(generator: PoseStyleGAN2, tuned: Latent) -> None:
    garment = tiny_latent(generator, seed=4)
    copy = adapt(generator, tuned)
    plain = replace(tuned, tuning=None, model="")
    expected = TryOnOptimizer(copy, steps=2).optimize(plain, replace(garment, model=""), region=ANYTHING)
    batch = TryOnOptimizer(generator, steps=2).optimize(tuned, garment, region=ANYTHING)
    assert torch.equal(batch.drawing.image, expected.drawing.image)
    assert batch.latent.tuning is tuned.tuning
    torch.testing.assert_close(generator.draw(batch.latent).image, batch.drawing.image)
    assert show(batch).latent.tuning is tuned.tuning
    targets = make_targets(generator, tuned, garment, ANYTHING)  # type: ignore[arg-type]
    assert torch.equal(targets.garment.image, batch.targets.garment.image)
    assert torch.equal(blend(generator, tuned, garment, 0.0).image, batch.targets.person.image)
    # The garment's own tuning does not matter.
    again = TryOnOptimizer(generator, steps=2).optimize(garment, tuned, region=ANYTHING)
    other = TryOnOptimizer(generator, steps=2).optimize(garment, replace(tuned, tuning=None), region=ANYTHING)
    assert torch.equal(again.drawing.image, other.drawing.image)
    assert again.latent.tuning is None


def test_what_cannot_be_tuned_says_so(generator: PoseStyleGAN2, picture: Tensor, tuned: Latent) -> None:
    drawer = FakeGenerator()
    with pytest.raises(ConfigError, match="tune: FakeGenerator cannot be tuned"):
        LatentProjector(drawer, tune=True)
    with pytest.raises(ConfigError, match="tune: FakeGenerator cannot be tuned"):
        LatentProjector(drawer).tune(fake_latent(drawer, 1), picture)
    with pytest.raises(ConfigError, match="latent: expected one without tuning, for FakeGenerator has no method"):
        adapt(drawer, replace(fake_latent(drawer, 1), tuning=tuned.tuning))
    with pytest.raises(ShapeError, match="changes: expected tensors of the shapes of the tunable weights, got 'what'"):
        generator.tuned({"what": torch.zeros(3)})
    with pytest.raises(ShapeError, match="was the latent tuned with another model"):
        adapt(tiny_generator((64, 48)), replace(tuned, tuning={"synthesis.blocks.3.rgb_bias": torch.zeros(2)}))
    with pytest.raises(ShapeError, match="images: expected"):
        projector(generator).tune(tiny_latent(generator), picture[..., :8])


def test_settings_are_checked(generator: PoseStyleGAN2, picture: Tensor) -> None:
    for settings in ({"tuning_steps": -1}, {"tuning_rate": 0.0}, {"locality_weight": -1.0}):
        with pytest.raises(ConfigError, match=rf"^{next(iter(settings))}: expected a .*number .* got"):
            projector(generator, **settings)
    with pytest.raises(RangeError, match="tuning_rate: expected one under which the weights stay finite"):
        projector(generator, tuning_rate=1e30).tune(tiny_latent(generator), picture)
