"""Other projects' generators become ours: the numbers, and what cannot be drawn is refused."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from styletryon.errors import CheckpointError, CheckpointNotFoundError
from styletryon.interop import load_stylegan2
from styletryon.models import UnconditionalStyleGAN2
from tests._support.stylegan2_files import (
    Net,
    draw_literally,
    draw_lucidrains,
    lucidrains_state,
    random_net,
    rosinality_state,
    write_nvidia,
)

Z = torch.randn(2, 6, generator=torch.Generator().manual_seed(5))


def save_rosinality(net: Net, path: Path, *, legacy: bool = False, **more: Any) -> Path:
    content = {"g_ema": rosinality_state(net), "latent_avg": net.mean, **more}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def check(model: UnconditionalStyleGAN2, net: Net) -> None:
    drawn = model(Z, truncation=0.7).image.double().numpy()
    wanted = draw_literally(net, Z, 0.7)
    assert wanted.std() > 0.3
    np.testing.assert_allclose(drawn, wanted, atol=1e-5 * float(np.abs(wanted).max()), rtol=0)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.training


@pytest.mark.parametrize("grid", [(4, 4), (4, 2), (4, 3)])
@pytest.mark.parametrize("legacy", [False, True])
def test_rosinality(grid: tuple[int, int], legacy: bool, tmp_path: Path) -> None:
    net = random_net(grid)
    model = load_stylegan2(save_rosinality(net, tmp_path / "g.pt", legacy=legacy, args=Namespace(size=5), d={}))
    assert model.image_size == (16, 4 * grid[1])
    assert model.config.channels == (4, 3, 5)
    check(model, net)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_nvidia(protocol: int, tmp_path: Path) -> None:
    net = random_net((4, 2))
    check(load_stylegan2(write_nvidia(net, tmp_path / "g.pkl", protocol)), net)


@pytest.mark.parametrize(
    "numbers",
    [
        {"depth": 8}, {"clamp": 0.5}, {"taps": (1, 2, 2, 1), "picture_taps": (1, 1)}, {"rate": 0.1},
        {"taps": (1, 2, 3, 3, 2, 1), "picture_taps": (1, 2, 2, 1)}, {"channels": (3, 4)},
    ],
    ids=str,
)  # fmt: skip
def test_what_differs_between_files(numbers: dict[str, Any], tmp_path: Path) -> None:
    net = random_net(**numbers)
    model = load_stylegan2(write_nvidia(net, tmp_path / "g.pkl"))
    assert model.config.clamp == (net.clamp or 0.0)
    check(model, net)


def test_a_generator_that_torch_saved_as_an_object(tmp_path: Path) -> None:
    from tests._support.stylegan2_files import nvidia_generator, persistence

    net = random_net()
    with persistence():
        torch.save(nvidia_generator(net), tmp_path / "g.pt")
    check(load_stylegan2(tmp_path / "g.pt"), net)


@pytest.mark.parametrize("legacy", [False, True])
def test_lucidrains(legacy: bool, tmp_path: Path) -> None:
    state = lucidrains_state()
    torch.save({"GAN": state, "version": "1.9.0"}, tmp_path / "g.pt", _use_new_zipfile_serialization=not legacy)
    model = load_stylegan2(tmp_path / "g.pt")
    rng = torch.Generator().manual_seed(1)
    noises = [torch.rand(2, 1, *shape, generator=rng) for shape in model.noise_shapes]
    drawn = model.synthesize(model.affine(model.mapping(Z)), noise=tuple(noises)).image
    wanted = draw_lucidrains(state, Z, noises)
    assert float(wanted.std()) > 0.3
    torch.testing.assert_close((drawn / 2 + 0.5).double(), wanted, atol=1e-5 * float(wanted.abs().max()), rtol=0)
    own = torch.cat([noise.flatten() for name, noise in model.state_dict().items() if name.endswith(".noise")])
    assert 0 <= float(own.min()) < 0.1
    assert 0.9 < float(own.max()) <= 1, "that project's noise is uniform"


def test_lucidrains_without_a_moving_average(tmp_path: Path) -> None:
    state = {name.replace("GE.", "G.").replace("SE.", "S."): tensor for name, tensor in lucidrains_state().items()}
    torch.save({"GAN": state}, tmp_path / "g.pt")
    assert load_stylegan2(tmp_path / "g.pt").image_size == (16, 16)


def test_the_mean_of_w_is_measured_where_the_file_has_none(tmp_path: Path) -> None:
    net = random_net()
    torch.save(rosinality_state(net), tmp_path / "g.pt")  # the bare state dict
    model = load_stylegan2(tmp_path / "g.pt")
    z = torch.randn(20_000, 6, generator=torch.Generator().manual_seed(9))
    torch.testing.assert_close(model.w_mean, model.mapping(z).mean(dim=0), atol=0.05, rtol=0)


def test_noise_maps_that_a_file_lacks_are_made(tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in rosinality_state(random_net()).items() if "noises" not in name}
    torch.save({"g_ema": state}, tmp_path / "g.pt")
    assert len(load_stylegan2(tmp_path / "g.pt").noise_shapes) == 5


def test_half_precision_is_read_as_float32(tmp_path: Path) -> None:
    state = {name: tensor.half() for name, tensor in rosinality_state(random_net()).items()}
    torch.save({"g_ema": state}, tmp_path / "g.pt")
    assert load_stylegan2(tmp_path / "g.pt").constant.dtype == torch.float32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "resnet"}, "architecture: expected 'skip', got 'resnet'"),
        ({"architecture": "orig"}, "architecture: expected 'skip', got 'orig'"),
        ({"img_channels": 1}, "img_channels: expected 3, got 1"),
    ],
)
def test_what_nvidia_can_and_we_cannot(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write_nvidia(random_net(), tmp_path / "g.pkl", **changes)
    with pytest.raises(CheckpointError, match=message):
        load_stylegan2(path)


def test_another_network_of_nvidias(tmp_path: Path) -> None:
    import pickle

    from tests._support.stylegan2_files import Persistent, persistence

    with persistence():
        (tmp_path / "g.pkl").write_bytes(pickle.dumps({"G_ema": Persistent("Generator3")}))
    with pytest.raises(CheckpointError, match="'Generator3' without; StyleGAN3 is another network"):
        load_stylegan2(tmp_path / "g.pkl")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("GE.initial_block"), "no-const"),
        (lambda state: state.update({"GE.attns.0.weight": torch.zeros(3)}), "attention layers"),
        (lambda state: state.update({"GE.blocks.0.to_rgb.conv.weight": torch.zeros(4, 5, 1, 1)}), "transparent"),
    ],
)
def test_what_lucidrains_can_and_we_cannot(change: Any, message: str, tmp_path: Path) -> None:
    state = lucidrains_state()
    change(state)
    torch.save({"GAN": state}, tmp_path / "g.pt")
    with pytest.raises(CheckpointError, match=message):
        load_stylegan2(tmp_path / "g.pt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("convs.1.conv.modulation.bias"), r"missing \['convs.1.conv.modulation.bias'\]"),
        (lambda state: state.update({"style.2.bias": torch.zeros(3)}), r"style.2.bias: expected shape \(7,\)"),
        (lambda state: state.update({"convs.0.conv.blur.kernel": torch.rand(4, 4)}), "low-pass filter"),
        (lambda state: state.update({"input.input": torch.zeros(1, 4, 5, 2)}), "image_size"),
        (lambda state: state.update({"input.input": torch.zeros(4, 5)}), "expected a tensor of 4 dimensions"),
        (lambda state: state.update({f"to_rgbs.{i}.bias": torch.zeros(3) for i in range(20)}), "convs.5.conv.weight"),
    ],
)
def test_files_that_do_not_fit_together(change: Any, message: str, tmp_path: Path) -> None:
    state = rosinality_state(random_net())
    change(state)
    torch.save({"g_ema": state}, tmp_path / "g.pt")
    with pytest.raises(CheckpointError, match=message):
        load_stylegan2(tmp_path / "g.pt")


@pytest.mark.parametrize("content", [{"model": {}, "epoch": 3}, [1, 2], torch.zeros(3)])
def test_files_without_a_generator(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "g.pt")
    with pytest.raises(CheckpointError, match="expected a StyleGAN2 generator of NVIDIA's"):
        load_stylegan2(tmp_path / "g.pt")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match="no such file"):
        load_stylegan2(tmp_path / "nothing.pkl")
