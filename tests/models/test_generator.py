"""The generator: shapes, pose conditioning, styles, noise, early stops."""

from __future__ import annotations

import pytest
import torch

from styletryon.errors import ConfigError, ShapeError
from styletryon.generator import Generator, draw_in
from styletryon.models import DiscriminatorConfig, GeneratorConfig, PoseDiscriminator, PoseEncoder, PoseStyleGAN2
from styletryon.models.config import level_sizes
from tests._support.tiny import tiny_config, tiny_generator, tiny_latent, tiny_pose


@pytest.mark.parametrize("size", [(16, 16), (32, 24), (32, 16), (64, 48)])
@pytest.mark.parametrize("conditioning", ["input", "concat"])
@pytest.mark.parametrize("body_maps", [True, False])
def test_draws_picture_and_segmentation_on_any_base_grid(
    size: tuple[int, int], conditioning: str, body_maps: bool
) -> None:
    generator = PoseStyleGAN2(tiny_config(size, pose_conditioning=conditioning, body_maps=body_maps))
    drawing = generator(torch.randn(2, 8), tiny_pose(2, size))
    assert drawing.image.shape == (2, 3, *size)
    assert drawing.logits.shape == (2, 12, *size)
    assert drawing.labels.shape == (2, *size)
    torch.testing.assert_close(drawing.probabilities.sum(dim=1), torch.ones(2, *size))


def test_is_a_drawer() -> None:
    drawer: Generator = tiny_generator()  # the type checker's test as much as this one's
    assert drawer.image_size == (32, 24)
    assert len(drawer.style_channels) == len(drawer.style_names) == len(set(drawer.style_names))


@pytest.mark.parametrize("conditioning", ["input", "concat"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad])
def test_an_encoded_pose_is_drawn_in_bit_for_bit_any_number_of_times(conditioning: str, mode: type) -> None:
    generator = PoseStyleGAN2(tiny_config(pose_conditioning=conditioning)).eval()
    latent = tiny_latent(generator, 2)
    with mode():
        draw = draw_in(generator, latent.pose)
        expected = generator.synthesize(latent.styles, latent.pose, activations=True)
        for _ in range(2):
            drawing = draw(latent.styles, activations=True)
            assert torch.equal(drawing.image, expected.image)
            assert torch.equal(drawing.logits, expected.logits)
            pairs = zip(drawing.activations or (), expected.activations or (), strict=True)
            assert all(torch.equal(a, b) for a, b in pairs)
    assert not any(feature.requires_grad for feature in draw.keywords["pose"].features)  # type: ignore[attr-defined]


def test_activations_are_the_inputs_that_styles_scale() -> None:
    generator = tiny_generator()
    latent = tiny_latent(generator, 2)
    drawing = generator.synthesize(latent.styles, latent.pose, activations=True)
    assert drawing.activations is not None
    channels = tuple(activation.shape[1] for activation in drawing.activations)
    assert channels == generator.style_channels
    # A channel whose style is zero is not seen: scaling it changes nothing, scaling any other does.
    last = len(channels) - 1
    assert generator.style_names[last] == "32.seg"
    layer = generator.synthesis.styled_layers()["32.seg"]
    expected = torch.nn.functional.conv2d(
        drawing.activations[last] * latent.styles[last][:, :, None, None], layer.weight * layer.gain
    )
    added = drawing.logits - generator.synthesize(
        (*latent.styles[:-1], torch.zeros_like(latent.styles[-1])), latent.pose
    ).logits
    torch.testing.assert_close(added, expected, atol=1e-4, rtol=1e-4)


def test_every_style_matters() -> None:
    generator = tiny_generator()
    latent = tiny_latent(generator)
    before = generator.draw(latent)
    for index, name in enumerate(generator.style_names):
        styles = list(latent.styles)
        styles[index] = styles[index] + 1.0
        after = generator.synthesize(tuple(styles), latent.pose)
        changed = not torch.equal(after.image, before.image) or not torch.equal(after.logits, before.logits)
        assert changed, name


@pytest.mark.parametrize("conditioning", ["input", "concat"])
def test_another_pose_draws_another_picture(conditioning: str) -> None:
    generator = PoseStyleGAN2(tiny_config(pose_conditioning=conditioning))
    z = torch.randn(1, 8)
    first, second = (generator(z, tiny_pose(1, seed=seed)) for seed in (0, 1))
    assert (first.image - second.image).abs().max() > 1e-3
    assert (first.logits - second.logits).abs().max() > 1e-3


def test_pose_in_other_pixels_is_the_same_pose() -> None:
    generator = tiny_generator()
    latent = tiny_latent(generator)
    larger = latent.pose.resized((256, 192))
    torch.testing.assert_close(
        generator.synthesize(latent.styles, larger).image, generator.draw(latent).image, atol=1e-4, rtol=1e-4
    )


def test_batch_is_drawn_one_by_one() -> None:
    generator = tiny_generator()
    latent = tiny_latent(generator, 3)
    together = generator.draw(latent).image
    rounding = 1e-5 * float(together.abs().max())  # random weights draw far beyond [-1, 1]
    for index in range(3):
        alone = generator.draw(latent[index]).image
        torch.testing.assert_close(together[index : index + 1], alone, atol=rounding, rtol=1e-5)


def test_same_latent_same_picture_and_noise_is_fixed() -> None:
    generator = tiny_generator()
    latent = tiny_latent(generator)
    assert torch.equal(generator.draw(latent).image, generator.draw(latent).image)
    noise = tuple(torch.zeros(1, 1, *shape) for shape in generator.noise_shapes)
    assert not torch.equal(
        generator.synthesize(latent.styles, latent.pose, noise=noise).image, generator.draw(latent).image
    )


def test_stopping_early_draws_a_smaller_picture() -> None:
    generator = tiny_generator()
    latent = tiny_latent(generator)
    drawing = generator.synthesize(latent.styles, latent.pose, num_levels=-1)
    assert drawing.image.shape == (1, 3, 16, 12)
    assert drawing.logits.shape == (1, 12, 16, 12)


def test_w_and_w_plus_agree() -> None:
    generator = tiny_generator()
    w = torch.randn(2, 8)
    plus = w[:, None].expand(-1, len(generator.style_channels), -1)
    for first, second in zip(generator.affine(w), generator.affine(plus), strict=True):
        torch.testing.assert_close(first, second)


def test_truncation() -> None:
    generator = tiny_generator()
    w = torch.randn(2, 8)
    torch.testing.assert_close(generator.truncate(w, 0.0), generator.w_mean.expand(2, 8))
    torch.testing.assert_close(generator.truncate(w, 1.0), w)


def test_gradients_reach_styles_and_noise() -> None:
    generator = tiny_generator()
    latent = tiny_latent(generator)
    styles = tuple(style.clone().requires_grad_() for style in latent.styles)
    noise = tuple(torch.randn(1, 1, *shape).requires_grad_() for shape in generator.noise_shapes)
    drawing = generator.synthesize(styles, latent.pose, noise=noise)
    (drawing.image.square().mean() + drawing.logits.square().mean()).backward()
    for tensor in (*styles, *noise):
        assert tensor.grad is not None
        assert tensor.grad.abs().sum() > 0


def test_shape_errors() -> None:
    generator = tiny_generator()
    latent = tiny_latent(generator)
    with pytest.raises(ShapeError, match="z: expected"):
        generator.mapping(torch.zeros(2, 7))
    with pytest.raises(ShapeError, match="w: expected"):
        generator.affine(torch.zeros(2, 3, 8))
    with pytest.raises(ShapeError, match=r"styles: expected .* another model"):
        generator.synthesize(latent.styles[:-1], latent.pose)
    with pytest.raises(ShapeError, match="noise: expected"):
        generator.synthesize(latent.styles, latent.pose, noise=(torch.zeros(1, 1, 2, 2),))
    assert generator.encoder is not None
    with pytest.raises(ShapeError, match="images: expected"):
        generator.encoder(torch.zeros(1, 3, 16, 12), latent.pose)


@pytest.mark.parametrize("size", [(100, 75), (128, 100), (3, 3), (0, 0), (24, 32)])
def test_sizes_off_the_grids_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="image_size"):
        level_sizes(size)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": (8, 8)}, "channels"),
        ({"pose_conditioning": "add"}, "pose_conditioning"),
        ({"w_dim": 0}, "w_dim"),
    ],
)
def test_senseless_numbers_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny_config(**changes)  # type: ignore[arg-type]


def test_level_sizes() -> None:
    assert level_sizes((128, 96))[0] == (4, 3)
    assert level_sizes((1024, 512))[0] == (4, 2)
    assert len(level_sizes((512, 512))) == 8
    assert len(GeneratorConfig().channels) == len(level_sizes(GeneratorConfig().image_size))


def test_pose_encoder_gives_a_feature_per_level() -> None:
    features = PoseEncoder(17, 4, 8, num_levels=3)(torch.randn(2, 17, 16, 12))
    assert [tuple(feature.shape) for feature in features] == [(2, 8, 4, 3), (2, 4, 8, 6), (2, 4, 16, 12)]


def test_discriminator_sees_picture_segmentation_and_pose() -> None:
    discriminator = PoseDiscriminator(DiscriminatorConfig((32, 24), (8, 8, 8, 8)))
    image, labels = torch.randn(4, 3, 32, 24), torch.rand(4, 12, 32, 24)
    logits = discriminator(image, labels, tiny_pose(4))
    assert logits.shape == (4,)
    for other in (
        discriminator(image.flip(3), labels, tiny_pose(4)),
        discriminator(image, labels.flip(3), tiny_pose(4)),
        discriminator(image, labels, tiny_pose(4, seed=5)),
    ):
        assert not torch.allclose(logits, other)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("frozen", [True, False])
def test_the_synthesis_compiles_without_a_break(frozen: bool) -> None:
    generator = tiny_generator().requires_grad_(not frozen)
    pose = tiny_pose(2, (32, 24))
    with torch.no_grad():
        styles = generator.affine(torch.randn(2, generator.w_dim, generator=torch.Generator().manual_seed(0)))
        encoded, body = generator.encode_pose(pose)
    styles = tuple(style.requires_grad_() for style in styles)
    noises = [None] * len(generator.noise_shapes)

    def draw(*styles: torch.Tensor) -> torch.Tensor:
        return generator.synthesis(styles, encoded, body, noises).image

    expected = draw(*styles)
    actual = torch.compile(draw, backend="aot_eager", fullgraph=True)(*styles)
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4)
    gradients = (torch.autograd.grad(image.square().sum(), styles, allow_unused=True) for image in (actual, expected))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
