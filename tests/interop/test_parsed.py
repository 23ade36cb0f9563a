"""A generator of another project, with a parser beside it, projects and tries on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import styletryon
from styletryon.errors import ConfigError, ShapeError
from styletryon.generator import Generator
from styletryon.interop import ParsedGenerator, load_stylegan2
from styletryon.labels import NUM_LABELS, Label
from styletryon.latent import Latent
from styletryon.models import UnconditionalStyleGAN2
from styletryon.projection import LatentProjector
from styletryon.tryon import TryOnOptimizer
from tests._support.stylegan2_files import random_net, write_nvidia
from tests._support.tiny import tiny_pose


class Parser(nn.Module):
    """Sees a person in the middle of each picture: face, top and bottom, more or less by the colours."""

    def __init__(self) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(0.1 * torch.randn(NUM_LABELS, 3, generator=rng))

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        layout = torch.zeros(NUM_LABELS, height, width)
        layout[Label.BACKGROUND] = 2
        middle = slice(width // 4, -(width // 4))
        for label, rows in ((Label.FACE, (0, 4)), (Label.TOP, (4, 8)), (Label.BOTTOM, (8, 12))):
            layout[label, height * rows[0] // 16 : height * rows[1] // 16, middle] = 4
        return torch.einsum("kc,bchw->bkhw", self.weight, images.tanh()) + layout


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> UnconditionalStyleGAN2:
    net = random_net((4, 2), (8, 8, 8, 8), z_dim=8, w_dim=8)
    for layers in net.levels:  # pictures within [-1, 1], as trained generators draw them
        layers["rgb"].weight.mul_(0.2)
        layers["rgb"].bias.mul_(0.2)
    return load_stylegan2(write_nvidia(net, tmp_path_factory.mktemp("net") / "g.pkl"))


def drawn(model: ParsedGenerator, seed: int) -> Latent:
    z = torch.randn(1, model.z_dim, generator=torch.Generator().manual_seed(seed))
    styles = model.affine(model.truncate(model.mapping(z), 0.7))
    return Latent(styles, tiny_pose(1, model.image_size, seed), model=model.fingerprint)


def test_the_segmentation_is_the_parsers(generator: UnconditionalStyleGAN2) -> None:
    parser = Parser()
    model: Generator = ParsedGenerator(generator, parser)
    latent = drawn(model, 1)  # type: ignore[arg-type]
    drawing = model.synthesize(latent.styles, latent.pose, activations=True)
    plain = generator.synthesize(latent.styles, activations=True)
    assert plain.logits.shape == (1, 0, 32, 16)
    assert torch.equal(drawing.image, plain.image)
    assert torch.equal(drawing.logits, parser(plain.image))
    assert drawing.activations is not None
    assert len(drawing.activations) == len(model.style_channels) == len(model.style_names) == 11
    for name in ("image_size", "z_dim", "w_dim", "style_names", "noise_shapes", "fingerprint", "encoder", "device"):
        assert getattr(model, name) == getattr(generator, name)
    assert model.channel_masks([4]) is None
    assert model.w_mean is generator.w_mean


def test_the_pose_is_ignored(generator: UnconditionalStyleGAN2) -> None:
    model = ParsedGenerator(generator, Parser())
    latent = drawn(model, 1)
    other = tiny_pose(1, model.image_size, 9)
    assert torch.equal(model.draw(latent).image, model.synthesize(latent.styles, other).image)


def test_projection_and_try_on(generator: UnconditionalStyleGAN2) -> None:
    model = ParsedGenerator(generator, Parser())
    person, garment = drawn(model, 1), drawn(model, 2)
    wanted = torch.cat([model.draw(latent).image for latent in (person, garment)]).clamp(-1, 1)
    projector = LatentProjector(model, steps=40, noise=False)
    start = LatentProjector(model, steps=0, noise=False).project(wanted, tiny_pose(2, model.image_size))
    found = projector.project(wanted, tiny_pose(2, model.image_size))
    assert found.report["reconstruction_psnr"] > start.report["reconstruction_psnr"] + 3
    batch = TryOnOptimizer(model, steps=10).optimize(found[0], found[1], region="top")
    assert all(torch.isfinite(column).any() for column in batch.history.values())
    change = (batch.drawing.image - model.draw(found[0]).image).abs().mean(dim=(0, 1))
    rows = model.image_size[0] // 16
    assert float(change[4 * rows : 8 * rows].mean()) > 0
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_one_call_takes_it(generator: UnconditionalStyleGAN2) -> None:
    model = ParsedGenerator(generator, Parser())
    assert styletryon.load_model(model) is model
    person = styletryon.generate(tiny_pose(1, model.image_size), seed=1, model=model)
    photo = (np.random.default_rng(0).random((64, 32, 3)) * 255).astype(np.uint8)
    pose = tiny_pose(1, (64, 32))
    result = styletryon.try_on(person, photo, garment_pose=pose, model=model, preset="fast", region="top")
    assert result.image.size == (16, 32)
    assert (result.segmentation == Label.TOP).any()


def test_without_a_parser_nobody_tries_on(generator: UnconditionalStyleGAN2) -> None:
    with pytest.raises(ConfigError, match="got UnconditionalStyleGAN2 with 0 classes; give it one"):
        TryOnOptimizer(generator)
    latent = LatentProjector(generator, steps=2).project(torch.zeros(1, 3, 32, 16), tiny_pose(1, (32, 16)))
    assert latent.model == generator.fingerprint


@pytest.mark.parametrize(
    ("parser", "options", "message"),
    [("no parser", {}, "labels_from: expected a callable"), (Parser(), {"num_labels": 0}, "num_labels: expected at")],
)
def test_parsers_that_are_none(
    parser: Any, options: dict[str, int], message: str, generator: UnconditionalStyleGAN2
) -> None:
    with pytest.raises(ConfigError, match=message):
        ParsedGenerator(generator, parser, **options)


@pytest.mark.parametrize("wrong", [lambda images: images, lambda images: None])
def test_parsers_that_return_something_else(wrong: Any, generator: UnconditionalStyleGAN2) -> None:
    model = ParsedGenerator(generator, wrong)
    latent = drawn(model, 1)
    with pytest.raises(ShapeError, match=r"labels_from: expected it to return logits of shape \(1, 12, 32, 16\)"):
        model.draw(latent)


def test_a_graph_may_replay_both_or_none(generator: UnconditionalStyleGAN2) -> None:
    parser = Parser()
    assert not ParsedGenerator(generator, parser).capturable
    parser.capturable = True  # type: ignore[assignment]
    assert ParsedGenerator(generator, parser).capturable


def test_a_parser_that_is_a_function(generator: UnconditionalStyleGAN2, tmp_path: Path) -> None:
    del tmp_path
    model = ParsedGenerator(generator, lambda images: images.mean(dim=1, keepdim=True).repeat(1, 5, 1, 1), num_labels=5)
    assert model.draw(drawn(model, 1)).probabilities.shape == (1, 5, 32, 16)
    assert set(model.state_dict()) == {f"generator.{name}" for name in generator.state_dict()}
