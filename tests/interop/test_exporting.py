"""Our generators in rosinality's layout: the way there and back changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from styletryon.errors import ConfigError, SaveError
from styletryon.interop import export_stylegan2, load_stylegan2
from styletryon.models import StyleGAN2Config, UnconditionalStyleGAN2
from tests._support.stylegan2_files import random_net, rosinality_state, write_nvidia


@pytest.mark.parametrize("taps", [(1, 3, 3, 1), (1, 1)])
def test_round_trip(taps: tuple[float, ...], tmp_path: Path) -> None:
    model = load_stylegan2(write_nvidia(random_net(taps=taps), tmp_path / "g.pkl"))
    again = load_stylegan2(export_stylegan2(model, tmp_path / "deep" / "g.pt"))
    assert again.config == model.config
    assert again.fingerprint == model.fingerprint
    z = torch.randn(1, 6, generator=torch.Generator().manual_seed(1))
    assert torch.equal(again(z).image, model(z).image)


def test_the_layout_is_theirs_to_the_last_name(tmp_path: Path) -> None:
    net = random_net()
    state = rosinality_state(net)
    torch.save({"g_ema": state, "latent_avg": net.mean}, tmp_path / "g.pt")
    written = torch.load(export_stylegan2(load_stylegan2(tmp_path / "g.pt"), tmp_path / "b.pt"), weights_only=True)
    assert set(written) == {"g_ema", "latent_avg"}
    assert torch.equal(written["latent_avg"], net.mean)
    assert set(written["g_ema"]) == set(state)
    for name, tensor in state.items():
        assert torch.equal(written["g_ema"][name], tensor), name


@pytest.mark.parametrize("change", [{"clamp": 1.0}, {"upsampling": "bilinear"}, {"mapping_rate": 0.1}])
def test_what_the_layout_cannot_hold(change: dict[str, Any], tmp_path: Path) -> None:
    model = UnconditionalStyleGAN2(StyleGAN2Config((8, 8), (4, 4), 4, 4, 1, **change))
    with pytest.raises(ConfigError, match="use save_pretrained"):
        export_stylegan2(model, tmp_path / "g.pt")


def test_a_path_that_cannot_be_written(tmp_path: Path) -> None:
    model = UnconditionalStyleGAN2(StyleGAN2Config((8, 8), (4, 4), 4, 4, 1))
    with pytest.raises(SaveError, match="add a file name"):
        export_stylegan2(model, tmp_path)
