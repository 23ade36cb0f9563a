from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from styletryon.data.paperdoll import render, sample_figure
from styletryon.errors import CheckpointError, CheckpointNotFoundError, ConfigError, ShapeError, WeightsUnavailableError
from styletryon.features import (
    EfficientNetFeatures,
    PixelFeatures,
    VGG16Features,
    feature_weights,
    frozen,
    perceptual_distance,
)
from styletryon.features import vgg as vgg_module
from styletryon.pose.trunk import EfficientNetLite
from tests._support.trunk import published

EARLY = ("relu1_2", "relu2_2")


def pictures(seed: int, batch: int = 2, size: tuple[int, int] = (32, 24)) -> torch.Tensor:
    return torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_pixel_distance_equals_the_formula_written_out() -> None:
    a, b = pictures(1), pictures(2)
    expected = torch.zeros(2)
    for level in range(3):
        x, y = (functional.interpolate(t, (32 >> level, 24 >> level), mode="area") for t in (a, b))
        difference = x - y
        expected += difference.abs().mean(dim=(1, 2, 3)) / 3
        across = (difference[..., 1:] - difference[..., :-1]).abs().sum(dim=(1, 2, 3))
        down = (difference[..., 1:, :] - difference[..., :-1, :]).abs().sum(dim=(1, 2, 3))
        expected += 0.5 * (across + down) / (6 * x[0, 0].numel()) / 3
    torch.testing.assert_close(perceptual_distance(PixelFeatures(levels=3), a, b), expected)


def test_distances_under_parts_of_a_mask_add_up() -> None:
    a, b = pictures(1), pictures(2)
    part = (torch.rand(2, 1, 32, 24, generator=torch.Generator().manual_seed(3)) > 0.7).float()
    whole = torch.ones_like(part)
    network = PixelFeatures()
    parts = [perceptual_distance(network, a, b, mask, total=whole) for mask in (part, 1 - part)]
    torch.testing.assert_close(parts[0] + parts[1], perceptual_distance(network, a, b))
    assert perceptual_distance(network, a, b, torch.zeros_like(part)).tolist() == [0, 0]


def test_a_pixel_outside_the_mask_does_not_count() -> None:
    a, mask = pictures(1), torch.ones(2, 32, 24)
    mask[:, :16] = 0
    b = a.clone()
    b[:, :, :8] = 0
    network = PixelFeatures(levels=2, gradient=0)
    assert perceptual_distance(network, a, b, mask).tolist() == [0, 0]
    assert bool((perceptual_distance(network, a, b, 1 - mask) > 0.1).all())


def test_shapes_are_checked() -> None:
    with pytest.raises(ShapeError, match="two equal shapes"):
        perceptual_distance(PixelFeatures(), pictures(1), pictures(1, 1))
    with pytest.raises(ShapeError, match="mask: expected"):
        perceptual_distance(PixelFeatures(), pictures(1), pictures(1), torch.ones(2, 5, 5))
    with pytest.raises(ConfigError, match="levels >= 1"):
        PixelFeatures(levels=0)


def test_weights_sum_to_one() -> None:
    features = PixelFeatures()(pictures(1))
    for mask in (None, torch.rand(2, 1, 32, 24)):
        for weight in feature_weights(features, mask):
            torch.testing.assert_close(weight.sum(dim=(1, 2, 3)).expand(2), torch.ones(2))


def test_frozen_restores_the_flags() -> None:
    module = torch.nn.Linear(2, 2)
    module.bias.requires_grad_(False)
    with frozen(module, None):
        assert not module.weight.requires_grad
    assert module.weight.requires_grad
    assert not module.bias.requires_grad


@pytest.fixture(scope="module")
def network() -> VGG16Features:
    return VGG16Features(EARLY, weights=None)


class TestVGG16:
    def test_layers_have_their_sizes(self) -> None:
        shapes = [tuple(feature.shape) for feature in VGG16Features(weights=None)(pictures(1, 1))]
        assert shapes == [(1, 64, 32, 24), (1, 128, 16, 12), (1, 256, 8, 6), (1, 512, 4, 3)]

    def test_frozen_and_in_evaluation_mode(self, network: VGG16Features) -> None:
        torch.nn.Sequential(network).train()
        assert not any(module.training for module in network.modules())
        assert not any(parameter.requires_grad for parameter in network.parameters())

    def test_pictures_are_normalised_and_shrunk(self, network: VGG16Features) -> None:
        small = VGG16Features(EARLY, weights=None, largest=16)
        large = pictures(1)
        shrunk = functional.interpolate(large, (16, 12), mode="area")
        for ours, theirs in zip(small(large), network(shrunk), strict=True):
            torch.testing.assert_close(ours, theirs)
        mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
        first = network.network[0](torch.zeros(1, 3, 8, 8))
        torch.testing.assert_close(network((mean * 2 - 1).expand(1, 3, 8, 8))[0],
                                   network.network[3](network.network[2](network.network[1](first))))  # fmt: skip

    def test_deep_distance_ignores_the_length_of_features(self, network: VGG16Features) -> None:
        a, b = pictures(1), pictures(2)

        class Louder:
            deep = True

            def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
                return tuple(100 * feature for feature in network(images))

        distance = perceptual_distance(network, a, b)
        assert bool((distance > 0).all())
        torch.testing.assert_close(perceptual_distance(Louder(), a, b), distance, rtol=1e-3, atol=1e-4)

    @pytest.mark.parametrize("ending", [".pth", ".safetensors"])
    def test_the_weights_of_a_file_are_really_loaded(self, tmp_path: Path, network: VGG16Features, ending: str) -> None:
        from safetensors.torch import save_file

        state = {f"features.{key}": 1.5 * value for key, value in network.network.state_dict().items()}
        path = tmp_path / f"vgg{ending}"
        save_file(state, path) if ending == ".safetensors" else torch.save(state, path)
        loaded = VGG16Features(EARLY, weights=path)
        for key, value in loaded.network.state_dict().items():
            assert torch.equal(value, state[f"features.{key}"])
        images = pictures(1, 1)
        assert float((loaded(images)[1] - network(images)[1]).abs().max()) > 0.01

    def test_wrong_files_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointNotFoundError, match="expected 'imagenet', None or the path of a file"):
            VGG16Features(EARLY, weights=tmp_path / "none.pth")
        torch.save({"features.0.weight": torch.zeros(2)}, tmp_path / "other.pth")
        with pytest.raises(CheckpointError, match=r"missing or misshaped: 0\.weight"):
            VGG16Features(EARLY, weights=tmp_path / "other.pth")
        (tmp_path / "text.pth").write_text("no weights")
        with pytest.raises(CheckpointError, match=r"expected a state dict in .*text\.pth, got "):
            VGG16Features(EARLY, weights=tmp_path / "text.pth")
        torch.save([1], tmp_path / "list.pth")
        with pytest.raises(CheckpointError, match="got a list"):
            VGG16Features(EARLY, weights=tmp_path / "list.pth")

    def test_without_a_network_connection_the_remedy_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from torchvision.models import VGG16_Weights

        def offline(self: object, *arguments: object, **keywords: object) -> None:
            raise OSError("no route to host")

        monkeypatch.setattr(VGG16_Weights, "get_state_dict", offline)
        with pytest.raises(WeightsUnavailableError, match=r"pass weights=PATH, or use PixelFeatures"):
            VGG16Features(EARLY)

    def test_an_unknown_layer_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="layers: expected some of relu1_1"):
            VGG16Features(("relu9_9",), weights=None)

    @pytest.mark.usefixtures("global_randomness_stays")
    def test_random_weights_are_always_the_same(self, network: VGG16Features) -> None:
        other = VGG16Features(EARLY, weights=None)
        assert torch.equal(other.network[0].weight, network.network[0].weight)

    def test_names_match_torchvision(self) -> None:
        from torchvision.models import vgg16

        with torch.device("meta"):
            features = vgg16(weights=None, init_weights=False).features
        assert all(isinstance(features[index], torch.nn.ReLU) for index in vgg_module._LAYERS.values())
        assert len(vgg_module._LAYERS) == 13


# EfficientNet


@pytest.fixture(scope="module")
def efficient() -> EfficientNetFeatures:
    return EfficientNetFeatures()


def test_efficientnet_gives_maps_at_the_strides_asked_for(efficient: EfficientNetFeatures) -> None:
    maps = efficient(pictures(1, size=(64, 96)))
    assert [tuple(m.shape) for m in maps] == [(2, 16, 32, 48), (2, 24, 16, 24), (2, 40, 8, 12), (2, 112, 4, 6)]
    assert tuple(EfficientNetFeatures(["stride8", "stride4"], None)(pictures(1))[0].shape) == (2, 24, 8, 6)
    with pytest.raises(ConfigError, match="layers: expected some of stride2"):
        EfficientNetFeatures(["stride3"])


def test_efficientnet_shrinks_large_pictures_and_fills_up_others(efficient: EfficientNetFeatures) -> None:
    large = pictures(1, 1, (512, 320))
    small = functional.interpolate(large, (256, 160), mode="area")
    for a, b in zip(efficient(large), efficient(small), strict=True):
        torch.testing.assert_close(a, b)
    odd = pictures(1, 1, (50, 70))
    filled = torch.zeros(1, 3, 64, 96)
    filled[..., :50, :70] = odd
    assert torch.equal(efficient(odd)[0], efficient.network(filled)[0][..., :25, :35])
    assert tuple(efficient(odd)[3].shape) == (1, 112, 4, 5)


def test_the_bundled_efficientnet_tells_a_blur_from_a_change_of_light(efficient: EfficientNetFeatures) -> None:
    figure = render(sample_figure(7), (256, 192)).image
    image = torch.from_numpy(figure).permute(2, 0, 1)[None].float() / 127.5 - 1
    blurred = functional.avg_pool2d(functional.pad(image, (2,) * 4, mode="replicate"), 5, 1)
    darker = image - 0.1
    assert perceptual_distance(efficient, image, blurred) > 2 * perceptual_distance(efficient, image, darker)
    assert perceptual_distance(efficient, image, image).item() == 0


def test_efficientnet_is_frozen_and_hands_gradients_through(efficient: EfficientNetFeatures) -> None:
    assert not any(parameter.requires_grad for parameter in efficient.parameters())
    assert not efficient.train().training
    image = pictures(1).requires_grad_()
    perceptual_distance(efficient, image, pictures(2)).sum().backward()
    assert image.grad is not None
    assert bool(image.grad.any())


def test_efficientnet_takes_the_published_file(tmp_path: Path) -> None:
    state = published(torch.Generator().manual_seed(0))
    torch.save(state, tmp_path / "published.pth")
    network = EfficientNetFeatures(weights=tmp_path / "published.pth")
    again = EfficientNetLite(folded=True)
    again.load_imagenet(state)
    assert torch.equal(network.network.stem.weight, again.stem.weight)
    with pytest.raises(CheckpointNotFoundError):
        EfficientNetFeatures(weights=tmp_path / "other.pth")
