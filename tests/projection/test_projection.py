from __future__ import annotations

import pytest
import torch

from styletryon import load_model
from styletryon.data import paperdoll
from styletryon.errors import ConfigError, RangeError, ShapeError
from styletryon.generator import GeneratorOutput
from styletryon.photo import from_uint8
from styletryon.pose import Pose
from styletryon.projection import LatentProjector, noise_correlation, rate_factor, renormalise
from styletryon.tryon import find_preset
from tests._support.fake_generator import FakeGenerator, fake_latent
from tests._support.tiny import tiny_generator, tiny_latent


@pytest.fixture(scope="module")
def drawer() -> FakeGenerator:
    return FakeGenerator()


@pytest.fixture(scope="module")
def truth(drawer: FakeGenerator) -> GeneratorOutput:
    latent = fake_latent(drawer, 3, 5)
    with torch.no_grad():
        drawing = drawer.synthesize(latent.styles, latent.pose)
    return GeneratorOutput(drawing.image.clamp(-1, 1), drawing.logits)


POSE_SEED = 5


def pose(drawer: FakeGenerator, count: int = 3):  # type: ignore[no-untyped-def]
    return fake_latent(drawer, 3, POSE_SEED).pose[:count]


@pytest.mark.parametrize("space", ["z", "z+", "w", "w+", "s"])
def test_every_space_comes_close(drawer: FakeGenerator, truth: GeneratorOutput, space: str) -> None:
    start, end = (
        LatentProjector(drawer, space=space, steps=steps, noise=False, learning_rate=0.1).project(  # type: ignore[arg-type]
            truth.image[:2], pose(drawer, 2), labels=truth.labels[:2]
        )
        for steps in (0, 25)
    )
    assert end.report["projection_loss"] < 0.8 * start.report["projection_loss"]
    assert end.report["reconstruction_psnr"] > start.report["reconstruction_psnr"]
    assert set(end.report) == {"reconstruction_psnr", "reconstruction_l1", "projection_loss", "projection_seconds",
                               "projection_steps"}  # fmt: skip
    assert end.noise is None
    assert end.model == drawer.fingerprint
    assert [style.shape[1] for style in end.styles] == list(drawer.style_channels)


def test_the_report_describes_the_latent_that_is_returned(drawer: FakeGenerator, truth: GeneratorOutput) -> None:
    # A learning rate at which the last step is not the best.
    latent = LatentProjector(drawer, steps=9, learning_rate=1.5).project_each(truth.image[:1], pose(drawer, 1))[0]
    with torch.no_grad():
        again = drawer.synthesize(latent.styles, latent.pose, noise=latent.noise).image.clamp(-1, 1)
    square = (again - truth.image[:1]).square().mean()
    assert float(10 * torch.log10(4 / square)) == pytest.approx(latent.report["reconstruction_psnr"], abs=1e-2)
    start = LatentProjector(drawer, steps=0).project(truth.image[:1], pose(drawer, 1))
    assert latent.report["projection_loss"] <= start.report["projection_loss"]


def test_the_pose_is_encoded_once_however_many_steps_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    generator, encoded = tiny_generator(), []
    encode = type(generator).encode_pose
    monkeypatch.setattr(type(generator), "encode_pose", lambda self, pose: encoded.append(pose) or encode(self, pose))
    latent = tiny_latent(generator, 2)
    LatentProjector(generator, steps=5).project(torch.zeros(2, 3, 32, 24), latent.pose)
    assert len(encoded) == 1


@pytest.mark.usefixtures("global_randomness_stays")
def test_repeats_bit_for_bit_and_by_seed(drawer: FakeGenerator, truth: GeneratorOutput) -> None:
    projector = LatentProjector(drawer, space="z", steps=3)
    first, second, other = (projector.project(truth.image, pose(drawer), seed=seed) for seed in (None, 0, 1))
    for a, b, c in zip(first.styles, second.styles, other.styles, strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


def test_a_picture_does_not_depend_on_its_batch_or_chunk(drawer: FakeGenerator, truth: GeneratorOutput) -> None:
    whole = LatentProjector(drawer, steps=6).project(truth.image, pose(drawer), labels=truth.labels)
    chunked = LatentProjector(drawer, steps=6, batch_size=2).project(truth.image, pose(drawer), labels=truth.labels)
    for index in range(3):
        part = slice(index, index + 1)
        alone = LatentProjector(drawer, steps=6).project(
            truth.image[part], pose(drawer)[part], labels=truth.labels[part]
        )
        for a, b, c in zip(whole[index].styles, alone.styles, chunked[index].styles, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
            torch.testing.assert_close(a, c, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off(drawer: FakeGenerator, truth: GeneratorOutput, mode) -> None:  # type: ignore[no-untyped-def]
    expected = LatentProjector(drawer, steps=4).project(truth.image[:1], pose(drawer, 1))
    with mode():
        image = truth.image[:1].clone()
        latent = LatentProjector(drawer, steps=4).project(image, pose(drawer, 1))
    assert latent.report["projection_loss"] == expected.report["projection_loss"]
    for a, b in zip(latent.styles, expected.styles, strict=True):
        assert torch.equal(a, b)
        assert not a.requires_grad


def test_the_generator_is_left_as_it_was(drawer: FakeGenerator, truth: GeneratorOutput) -> None:
    drawer.map.requires_grad_(False)
    before = {name: (value.clone(), value.requires_grad) for name, value in drawer.named_parameters()}
    images = truth.image.clone()
    LatentProjector(drawer, steps=2).project(images, pose(drawer))
    for name, value in drawer.named_parameters():
        assert torch.equal(value, before[name][0])
        assert value.requires_grad == before[name][1]
        assert value.grad is None
    assert torch.equal(images, truth.image)
    drawer.map.requires_grad_(True)


def test_noise_maps_are_optimised_and_stay_white(drawer: FakeGenerator, truth: GeneratorOutput) -> None:
    start, end = (LatentProjector(drawer, steps=steps, seed=3).project(truth.image, pose(drawer)) for steps in (0, 10))
    assert start.noise is not None
    assert end.noise is not None
    assert any(bool((a != b).any()) for a, b in zip(start.noise, end.noise, strict=True))
    for layer, shape in zip(end.noise, drawer.noise_shapes, strict=True):
        assert layer.shape == (3, 1, *shape)
        assert layer.mean(dim=(1, 2, 3)).tolist() == pytest.approx([0] * 3, abs=0.02)
        assert layer.square().mean(dim=(1, 2, 3)).tolist() == pytest.approx([1] * 3, abs=0.02)


def test_noise_correlation_tells_noise_from_a_picture(generator: torch.Generator) -> None:
    white = torch.randn(2, 1, 64, 48, generator=generator)
    smooth = torch.nn.functional.avg_pool2d(white, 5, 1, 2)
    renormalise([smooth])
    values = noise_correlation([torch.cat([white[:1], smooth[:1]])])
    assert float(values[1]) > 10 * float(values[0])


def test_noise_correlation_by_hand(generator: torch.Generator) -> None:
    layer = torch.randn(1, 1, 16, 12, generator=generator)
    expected = sum(float((level * level.roll(1, d)).mean()) ** 2
                   for level in (layer, torch.nn.functional.avg_pool2d(layer, 2) * 2) for d in (2, 3))  # fmt: skip
    assert float(noise_correlation([layer])) == pytest.approx(expected, rel=1e-4)


def test_masked_pixels_do_not_count(drawer: FakeGenerator, truth: GeneratorOutput) -> None:
    mask = torch.ones(3, 32, 24)
    mask[:, :8] = 0
    spoilt = truth.image.clone()
    spoilt[:, :, :4] = 1.0
    projector = LatentProjector(drawer, steps=4, noise=False)
    projector.features = lambda images: (images,)
    clean, other = (projector.project(images, pose(drawer), mask=mask) for images in (truth.image, spoilt))
    for a, b in zip(clean.styles, other.styles, strict=True):
        torch.testing.assert_close(a, b)
    assert clean.report["reconstruction_l1"] == pytest.approx(other.report["reconstruction_l1"], abs=1e-5)


def test_starts_from_the_encoder_if_there_is_one(truth: GeneratorOutput) -> None:
    drawer = FakeGenerator()
    drawer.encoder = lambda images, pose: images.mean(dim=(2, 3)).repeat(1, 3)[:, :8]
    guess = drawer.affine(truth.image.mean(dim=(2, 3)).repeat(1, 3)[:, :8])
    latent = LatentProjector(drawer, steps=0).project(truth.image, pose(drawer))
    for a, b in zip(latent.styles, guess, strict=True):
        torch.testing.assert_close(a, b)
    moved = LatentProjector(drawer, steps=2).project(truth.image, pose(drawer))
    assert moved.anchor is not None
    for a, b, c in zip(moved.anchor, guess, moved.styles, strict=True):
        torch.testing.assert_close(a, b)
        assert not torch.equal(a, c)
    assert LatentProjector(drawer, steps=0, space="z").project(truth.image, pose(drawer)).anchor is None
    mean = LatentProjector(drawer, steps=0, start="mean").project(truth.image, pose(drawer))
    assert mean.anchor is None
    torch.testing.assert_close(mean.styles[0], drawer.affine(drawer.w_mean[None])[0].expand(3, -1))


def test_a_prior_keeps_the_code_near_its_start(drawer: FakeGenerator, truth: GeneratorOutput) -> None:
    start = [style.detach() for style in drawer.affine(drawer.w_mean[None])]
    far, near = (
        LatentProjector(drawer, steps=15, prior_weight=weight, noise=False).project(truth.image, pose(drawer))
        for weight in (0.0, 10.0)
    )
    distances = [sum(float((a - b).square().sum()) for a, b in zip(x.styles, start, strict=True)) for x in (far, near)]
    assert distances[1] < 0.5 * distances[0]


def test_tells_of_its_progress(drawer: FakeGenerator, truth: GeneratorOutput) -> None:
    told = []
    LatentProjector(drawer, steps=3, batch_size=2).project(truth.image, pose(drawer), callback=told.append)
    assert [(p.first, p.count, p.step) for p in told] == [(0, 2, 1), (0, 2, 2), (0, 2, 3), (2, 1, 1), (2, 1, 2),
                                                          (2, 1, 3)]  # fmt: skip
    assert told[2].loss <= told[0].loss


def test_half_precision_on_request(drawer: FakeGenerator, truth: GeneratorOutput) -> None:
    latent = LatentProjector(drawer, steps=2, autocast=torch.bfloat16).project(truth.image, pose(drawer))
    assert all(style.dtype == torch.float32 for style in latent.styles)


def test_settings_are_checked(drawer: FakeGenerator) -> None:
    with pytest.raises(ConfigError, match="space: expected 'z'"):
        LatentProjector(drawer, space="q")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="start: expected"):
        LatentProjector(drawer, start="here")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="the generator has none"):
        LatentProjector(drawer, start="encoder")
    with pytest.raises(ConfigError, match="steps: expected a whole number of at least 0"):
        LatentProjector(drawer, steps=-1)


def test_inputs_are_checked(drawer: FakeGenerator, truth: GeneratorOutput) -> None:
    projector = LatentProjector(drawer, steps=1)
    with pytest.raises(ShapeError, match=r"images: expected \(B, 3, 32, 24\)"):
        projector.project(truth.image[:, :, :16], pose(drawer))
    with pytest.raises(ShapeError, match="pose: expected 3 poses"):
        projector.project(truth.image, pose(drawer, 2))
    with pytest.raises(ShapeError, match="labels: expected"):
        projector.project(truth.image, pose(drawer), labels=truth.labels[:, :4])
    with pytest.raises(ShapeError, match=r"pose: expected keypoints in a picture of 32x24 .* got 32x32"):
        projector.project(truth.image, Pose(pose(drawer).keypoints, (32, 32)))
    projector.project(truth.image, pose(drawer).resized((1067, 800)))  # the aspect, to a pixel
    with pytest.raises(ShapeError, match="mask: expected"):
        projector.project(truth.image, pose(drawer), mask=torch.ones(3, 4, 4))
    with pytest.raises(RangeError, match="labels: expected classes"):
        projector.project(truth.image, pose(drawer), labels=truth.labels + 12)
    with pytest.raises(RangeError, match="images: expected finite"):
        projector.project(truth.image * 255, pose(drawer))


class Poisoned(FakeGenerator):
    """Draws the second picture of a batch as NaN from some call on."""

    def __init__(self, call: int) -> None:
        super().__init__()
        self.call, self.calls = call, 0

    def synthesize(self, *arguments, **keywords) -> GeneratorOutput:  # type: ignore[no-untyped-def]
        drawing = super().synthesize(*arguments, **keywords)
        self.calls += 1
        return GeneratorOutput(
            drawing.image * torch.tensor([1, torch.nan if self.calls >= self.call else 1, 1])[:, None, None, None],
            drawing.logits,
        )


@pytest.mark.parametrize("steps", [0, 4])
def test_a_projection_that_is_never_finite_is_an_error(truth: GeneratorOutput, steps: int) -> None:
    drawer = Poisoned(1)
    with pytest.raises(RangeError, match=r"images: expected projections that start at a finite loss.* picture 1;"):
        LatentProjector(drawer, steps=steps).project(truth.image, pose(drawer))
    assert drawer.calls == 1  # told at once


def test_a_projection_that_ceases_to_be_finite_ends_alone(drawer: FakeGenerator, truth: GeneratorOutput) -> None:
    clean, result = (LatentProjector(d, steps=6).project(truth.image, pose(d)) for d in (drawer, Poisoned(4)))
    for a, b in zip((*result.styles, *(result.noise or ())), (*clean.styles, *(clean.noise or ())), strict=True):
        assert bool(torch.isfinite(a).all())
        for index in (0, 2):
            assert torch.equal(a[index], b[index])


def test_the_rate_rises_holds_and_falls() -> None:
    rates = [rate_factor(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[10] == rates[60] == 1.0
    assert rates[99] < 0.01
    assert rates[75:] == sorted(rates[75:], reverse=True)
    assert 0 < rate_factor(0, 1) <= 1


def test_style_codes_come_nearer_than_w_plus_in_as_many_steps() -> None:
    model = load_model()
    picture = paperdoll.render(paperdoll.sample_figure(1_500_000_003), model.image_size)
    image = from_uint8(torch.from_numpy(picture.image)).permute(2, 0, 1)[None]
    pose = Pose(torch.from_numpy(picture.keypoints)[None], model.image_size)
    preset = find_preset("balanced")
    default, other = (
        LatentProjector(model, steps=preset.projection_steps, noise=False, **how).project(image, pose)  # type: ignore[arg-type]
        for how in ({"learning_rate": preset.projection_rate}, {"space": "w+", "learning_rate": 0.05})
    )
    assert default.report["projection_loss"] < other.report["projection_loss"]
