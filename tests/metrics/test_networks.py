"""The networks of the set distances, and the account that each gives of itself."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from styletryon.errors import CheckpointError, ConfigError, ShapeError, WeightsUnavailableError
from styletryon.features import EfficientNetFeatures, InceptionV3Features, PixelFeatures, VGG16Features
from styletryon.metrics.networks import SET_NETWORKS, SetNetwork, find_set_network, fingerprint
from styletryon.pose import BodyEstimator


def pictures(batch: int = 3, size: tuple[int, int] = (32, 24)) -> torch.Tensor:
    return torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def refuse(*arguments: object, **keywords: object) -> None:
        raise AssertionError("nothing may be downloaded")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return tmp_path


def test_the_bundled_trunk_is_always_at_hand(empty_cache: Path) -> None:
    found = find_set_network()
    network = EfficientNetFeatures(("stride32",))
    assert found.describe() == {
        "name": "efficientnet",
        "layer": "stride 32, averaged",
        "weights": "bundled",
        "fingerprint": fingerprint(network),
        "size": [256, 256],
        "resize": "bilinear, antialiased, stretched to the size (torch.nn.functional.interpolate)",
    }
    images = pictures()
    large = functional.interpolate(images, (256, 256), mode="bilinear", antialias=True)
    expected = network(large)[0].mean(dim=(2, 3))
    assert np.allclose(found(images), expected.numpy(), atol=1e-6)
    assert found(images).dtype == np.float64
    assert np.allclose(found(large), found(images))
    json.dumps(found.describe())


def test_the_trunk_of_the_network_of_the_body_is_there_too(empty_cache: Path) -> None:
    found, network = find_set_network("keypoints"), BodyEstimator.from_pretrained().network
    assert found.fingerprint == fingerprint(network)
    images = functional.interpolate(pictures(), network.config.size, mode="bilinear", antialias=True)
    expected = network.trunk(images)[3].mean(dim=(2, 3))
    assert np.allclose(found(images), expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("name", ["vgg16", "inception"])
def test_networks_that_are_not_at_hand_are_not_downloaded(name: str, empty_cache: Path) -> None:
    with pytest.raises(WeightsUnavailableError, match=r"in torch's cache, got no file .*; fetch https://.* yourself"):
        find_set_network(name)


def test_a_file_stands_in_for_the_download(tmp_path: Path) -> None:
    whole = VGG16Features(layers=("relu5_3",), weights=None)
    path = tmp_path / "vgg16.pth"
    torch.save({f"features.{key}": value.half() for key, value in whole.network.state_dict().items()}, path)
    found = find_set_network("vgg16", weights=path)
    assert found.describe()["weights"] == "file: vgg16.pth"
    assert found.size == (224, 224)
    assert found.fingerprint != fingerprint(whole)  # half precision is another set of weights
    half = copy.deepcopy(whole)
    half.network.load_state_dict({key: value.half() for key, value in whole.network.state_dict().items()})
    assert found.fingerprint == fingerprint(half)
    assert found(pictures(1)).shape == (1, 512)
    with pytest.raises(CheckpointError, match="inception_v3"):
        find_set_network("inception", weights=path)


def test_inception_gives_2048_numbers(tmp_path: Path) -> None:
    path = tmp_path / "inception.pth"
    torch.save({key: value.half() for key, value in InceptionV3Features(None).network.state_dict().items()}, path)
    found = find_set_network("inception", weights=path)
    assert found.describe() | {"fingerprint": ""} == {
        "name": "inception",
        "layer": "Mixed_7c, averaged",
        "weights": "file: inception.pth",
        "fingerprint": "",
        "size": [299, 299],
        "resize": "bilinear, antialiased, stretched to the size (torch.nn.functional.interpolate)",
    }
    assert found(pictures(1)).shape == (1, 2048)


def test_a_network_of_ones_own() -> None:
    found = find_set_network(PixelFeatures())
    assert found(pictures()).shape == (3, 4 * (3 + 6) * 12)
    assert found.name == "PixelFeatures(levels=4, gradient=0.5, fine=0)"
    assert found.describe()["resize"] is None
    assert found.fingerprint == ""
    assert find_set_network(found) is found

    def deep(batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return batch, batch[:, :2]

    deep.deep = True  # type: ignore[attr-defined]
    images = pictures()
    assert np.allclose(find_set_network(deep)(images), images[:, :2].mean(dim=(2, 3)).numpy())
    module = VGG16Features(("relu1_1",), weights=None)
    assert find_set_network(module).fingerprint == fingerprint(module)


def test_the_fingerprint_is_of_names_and_values() -> None:
    one, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    other.load_state_dict(one.state_dict())
    assert fingerprint(one) == fingerprint(other)
    with torch.no_grad():
        other.bias[0] += 1e-6
    assert fingerprint(one) != fingerprint(other)
    assert fingerprint(torch.nn.Sequential(one)) != fingerprint(one)


def test_wrong_names_and_pictures_are_refused(tmp_path: Path) -> None:
    assert SET_NETWORKS == ("efficientnet", "keypoints", "vgg16", "inception")
    with pytest.raises(ConfigError, match=f"features: expected one of {', '.join(SET_NETWORKS)}, or a network"):
        find_set_network("resnet")
    with pytest.raises(ConfigError, match="weights: expected None for 'keypoints'"):
        find_set_network("keypoints", weights=tmp_path / "x.pth")
    with pytest.raises(ConfigError, match="weights: expected None beside a network of one's own"):
        find_set_network(PixelFeatures(), weights=tmp_path / "x.pth")
    found = SetNetwork("mine", "all", "none", "", None, PixelFeatures())
    with pytest.raises(ShapeError, match=r"images: expected \(B, 3, H, W\), got \(3, 32, 24\)"):
        found(pictures(1)[0])
