"""The generator with a constant input by itself, and as the start of a pose-conditioned one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from styletryon.errors import CheckpointError, ConfigError, ShapeError
from styletryon.models import GeneratorConfig, PoseStyleGAN2, StyleGAN2Config, UnconditionalStyleGAN2
from styletryon.pose import Pose
from tests._support.tiny import tiny_pose

CONFIG = StyleGAN2Config((32, 16), (8, 8, 6, 5), 6, 7, 2)


def make(config: StyleGAN2Config = CONFIG, seed: int = 0) -> UnconditionalStyleGAN2:
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        model = UnconditionalStyleGAN2(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("upsampling", ["fir", "bilinear"])
@pytest.mark.parametrize("size", [(16, 16), (16, 8), (16, 12)])
def test_drawing(upsampling: str, size: tuple[int, int]) -> None:
    model = make(StyleGAN2Config(size, (5, 4, 3), 6, 7, 2, upsampling=upsampling))
    w = model.mapping(torch.randn(2, 6))
    drawing = model.synthesize(model.affine(w), activations=True)
    assert drawing.image.shape == (2, 3, *size)
    assert drawing.activations is not None
    assert [part.shape[1] for part in drawing.activations] == list(model.style_channels)
    assert len(model.noise_shapes) == (6 if upsampling == "bilinear" else 5)
    noise = tuple(torch.randn(1, 1, *shape) for shape in model.noise_shapes)
    assert not torch.equal(model.synthesize(model.affine(w), noise=noise).image, drawing.image)
    assert not torch.equal(drawing.image[0], drawing.image[1])
    each = w[:, None].expand(-1, len(model.style_names), -1)
    assert torch.equal(model.synthesize(model.affine(each)).image, drawing.image)


def test_clamp_limits_every_level() -> None:
    model = make(StyleGAN2Config((8, 8), (4, 4), 4, 4, 1, clamp=0.05))
    styles = model.affine(model.mapping(torch.randn(1, 4)))
    drawing = model.synthesize(tuple(50 * style for style in styles), activations=True)
    assert drawing.activations is not None
    assert float(drawing.activations[1].abs().max()) == pytest.approx(0.05)
    assert float(drawing.image.abs().max()) <= 0.05 * 2.5


def test_gradients_reach_every_weight() -> None:
    for config in (CONFIG, replace(CONFIG, upsampling="bilinear")):
        model = make(config).requires_grad_(True)
        model(torch.randn(2, 6)).image.square().mean().backward()
        assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]


def test_round_trip(tmp_path: Path) -> None:
    model = make(replace(CONFIG, clamp=2.0, filter=(1.0, 2.0, 2.0, 1.0)))
    model.save_pretrained(tmp_path)
    again = UnconditionalStyleGAN2.from_pretrained(tmp_path)
    assert again.config == model.config
    assert again.fingerprint == model.fingerprint
    with pytest.raises(CheckpointError, match="of a UnconditionalStyleGAN2; load it by the class that wrote it"):
        PoseStyleGAN2.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="unknown"):
        UnconditionalStyleGAN2.from_pretrained("default")


def test_wrong_shapes() -> None:
    model = make()
    styles = model.affine(torch.zeros(1, 7))
    with pytest.raises(ShapeError, match="styles"):
        model.synthesize(styles[1:])
    with pytest.raises(ShapeError, match="noise"):
        model.synthesize(styles, noise=(torch.zeros(1, 1, 4, 4),))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"upsampling": "nearest"}, "upsampling: expected one of"),
        ({"mapping_rate": 0.0}, "mapping_rate"),
        ({"clamp": -1.0}, "clamp"),
        ({"filter": (1.0, 2.0, 1.0)}, "filter: expected an even number"),
        ({"filter": (1.0, 2.0)}, "filter: expected an even number of symmetric"),
        ({"picture_filter": (-1.0, -1.0)}, "picture_filter"),
        ({"image_size": (30, 30)}, "image_size"),
        ({"w_dim": 0}, "w_dim"),
    ],
)
def test_numbers_without_meaning(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(CONFIG, **change)


@pytest.mark.parametrize("conditioning", ["concat", "input"])
def test_a_warm_start_draws_what_the_source_draws(conditioning: str) -> None:
    source = make()
    config = GeneratorConfig(
        (32, 16), CONFIG.channels, z_dim=6, w_dim=7, mapping_layers=3, pose_conditioning=conditioning, pose_channels=4
    )
    model, report = PoseStyleGAN2.from_stylegan2(source, config=config)
    model.eval()
    z = torch.randn(2, 6)
    torch.testing.assert_close(model.mapping(z), source.mapping(z), atol=1e-5, rtol=1e-5)
    pose = model.encode_pose(tiny_pose(2, (32, 16)))
    constant = source.constant.expand(2, -1, -1, -1)
    start = pose._replace(features=(constant, *pose.features[1:]))
    drawing = model.synthesize(model.affine(model.mapping(z)), start)
    torch.testing.assert_close(drawing.image, source(z).image, atol=2e-5, rtol=1e-4)
    assert not [name for name in report.fresh if name.startswith("mapper.") or ".up" in name or "rgb" in name]
    assert {name.split(".")[0] for name in report.fresh} == {"pose_encoder", "synthesis", "affines"}
    assert set(report.taken) | set(report.extended) | set(report.fresh) == set(model.state_dict())
    assert str(report).startswith(f"{len(report.taken)} tensors taken")
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_pose_gets_its_say_by_training() -> None:
    source = make()
    model, report = PoseStyleGAN2.from_stylegan2(source)
    assert model.config.mapping_layers == 3
    assert model.image_size == source.image_size
    model(torch.randn(2, 6), tiny_pose(2, (32, 16))).image.square().mean().backward()
    for name, parameter in model.named_parameters():
        if name in report.extended and name.startswith("synthesis"):
            assert parameter.grad is not None
            # Some coordinates are 0 everywhere, where limbs are not seen.
            assert float((parameter.grad != 0).float().mean()) > 0.5, name


def test_what_does_not_fit_stays_random_and_is_told() -> None:
    source = make()
    config = GeneratorConfig((32, 24), (8, 8, 9, 5), z_dim=5, w_dim=7, mapping_layers=3, pose_channels=4)
    model, report = PoseStyleGAN2.from_stylegan2(source, config=config, seed=4)
    untouched, _ = PoseStyleGAN2.from_stylegan2(make(seed=1), config=config, seed=4)
    before = untouched.state_dict()
    for name, tensor in model.state_dict().items():
        if name in report.fresh:
            assert torch.equal(tensor, before[name]), name
    fresh = set(report.fresh)
    assert {"w_mean", "mapper.layers.0.weight"} <= fresh
    assert {f"synthesis.blocks.2.{layer}.weight" for layer in ("up", "conv", "to_rgb")} <= fresh
    assert "synthesis.blocks.1.up_bias.noise" in fresh, "another base grid has other noise maps"
    assert "synthesis.blocks.1.up.weight" in report.taken


def test_a_warm_start_repeats() -> None:
    first, _ = PoseStyleGAN2.from_stylegan2(make(), seed=3)
    state = torch.random.get_rng_state()
    second, _ = PoseStyleGAN2.from_stylegan2(make(), seed=3)
    assert first.fingerprint == second.fingerprint
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("change", [{"upsampling": "bilinear"}, {"filter": (1.0, 1.0)}, {"picture_filter": (1.0, 1.0)}])
def test_a_source_that_upsamples_otherwise(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="source: expected upsampling by 'fir'"):
        PoseStyleGAN2.from_stylegan2(make(replace(CONFIG, **change)))


def test_a_mapping_of_another_rate_maps_alike() -> None:
    source = make(replace(CONFIG, mapping_rate=0.1))
    model, _ = PoseStyleGAN2.from_stylegan2(source)
    z = torch.randn(3, 6)
    torch.testing.assert_close(model.mapping(z), source.mapping(z), atol=1e-5, rtol=1e-5)


def test_the_pose_argument_is_there_for_the_protocol() -> None:
    model = make()
    styles = model.affine(torch.zeros(1, 7))
    pose = Pose(torch.zeros(1, 17, 3), (32, 16))
    assert torch.equal(model.synthesize(styles, pose).image, model.synthesize(styles).image)
