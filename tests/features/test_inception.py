from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from styletryon.errors import CheckpointError, CheckpointNotFoundError, WeightsUnavailableError
from styletryon.features import InceptionV3Features


@pytest.fixture(scope="module")
def network() -> InceptionV3Features:
    return InceptionV3Features(weights=None)


@pytest.fixture(scope="module")
def downloaded(network: InceptionV3Features, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What stands in for torchvision's file: a whole state dict, in half precision to be smaller, other values."""
    from torchvision.models import inception_v3

    with torch.device("meta"):
        whole = inception_v3(weights=None, init_weights=False)
    state = {key: torch.zeros(value.shape, dtype=torch.float16) for key, value in whole.state_dict().items()}
    state |= {key: (1.5 * value).half() for key, value in network.network.state_dict().items()}
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(state, path)
    yield path
    path.unlink()


def pictures(batch: int, size: tuple[int, int]) -> torch.Tensor:
    return torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_the_maps_are_those_of_torchvision(network: InceptionV3Features) -> None:
    from torchvision.models import inception_v3

    with torch.device("meta"):
        whole = inception_v3(weights=None, init_weights=False, transform_input=True)
    whole = whole.to_empty(device="cpu").eval()
    missing, unexpected = whole.load_state_dict(network.network.state_dict(), strict=False)
    assert {key.split(".")[0] for key in missing} == {"AuxLogits", "fc"}
    assert not unexpected
    whole.fc = torch.nn.Identity()
    images = pictures(1, (299, 299))
    # torchvision's recipe: ImageNet's mean and deviation, which the network itself undoes.
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.no_grad():
        expected = whole(((images + 1) / 2 - mean) / deviation)
        (maps,) = network(images)
    assert maps.shape == (1, 2048, 8, 8)
    torch.testing.assert_close(maps.mean(dim=(2, 3)), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_pictures_are_brought_to_its_size(network: InceptionV3Features) -> None:
    small = pictures(1, (32, 24))
    large = functional.interpolate(small, (299, 299), mode="bilinear", antialias=True)
    torch.testing.assert_close(network(small)[0], network(large)[0])


def test_frozen_in_evaluation_mode_and_always_the_same(network: InceptionV3Features) -> None:
    torch.nn.Sequential(network).train()
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    other = InceptionV3Features(weights=None)
    for key, value in other.network.state_dict().items():
        assert torch.equal(value, network.network.state_dict()[key])


def test_the_weights_of_a_file_are_really_loaded(network: InceptionV3Features, downloaded: Path) -> None:
    loaded = InceptionV3Features(weights=downloaded)
    for key, value in network.network.state_dict().items():
        expected = (1.5 * value).half().to(value.dtype)
        assert torch.equal(loaded.network.state_dict()[key], expected), key


def test_the_cache_of_torchvision_is_read_and_its_checksum_looked_at(
    downloaded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from styletryon.features import inception

    def refuse(*arguments: object, **keywords: object) -> None:
        raise AssertionError("nothing may be downloaded")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(WeightsUnavailableError, match=r"expected inception_v3_google-0cc3c7bd\.pth in torch's cache"):
        InceptionV3Features()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "inception_v3_google-0cc3c7bd.pth").write_bytes(b"half a file")
    with pytest.raises(CheckpointError, match="begins with 0cc3c7bd; fetch it again"):
        InceptionV3Features()
    sum_ = hashlib.sha256(downloaded.read_bytes()).hexdigest()[:8]
    (tmp_path / "checkpoints" / f"inception-{sum_}.pth").symlink_to(downloaded)
    monkeypatch.setattr(inception, "_url", lambda: f"https://example.org/inception-{sum_}.pth")
    expected = InceptionV3Features(downloaded).network[0].conv.weight
    assert torch.equal(InceptionV3Features().network[0].conv.weight, expected)


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match="expected 'cached', None or the path of a file"):
        InceptionV3Features(tmp_path / "none.pth")
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="torchvision's inception_v3; missing or misshaped: Conv2d_1a_3x3"):
        InceptionV3Features(tmp_path / "other.pth")
