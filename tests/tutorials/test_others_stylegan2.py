"""Somebody else's StyleGAN2: read the file, give it a parser, try on with it, and keep it without the pickle.

The file is written here, in the layout of rosinality's `stylegan2-pytorch`; yours comes from whoever trained it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import styletryon
from styletryon import PoseStyleGAN2
from styletryon.interop import ParsedDrawer, export_stylegan2, load_stylegan2
from styletryon.labels import NUM_LABELS, Label
from styletryon.models import StyleGAN2Config, UnconditionalStyleGAN2


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as it is passed around."""
    path = tmp_path_factory.mktemp("others") / "generator.pt"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        numbers = StyleGAN2Config((64, 32), (16, 16, 16, 16, 16), z_dim=32, w_dim=32, mapping_layers=2)
        export_stylegan2(UnconditionalStyleGAN2(numbers), path)
    return path


def parser(images: Tensor) -> Tensor:
    """Stands for a network that parses people: a top in the middle of every picture, differentiable."""
    logits = torch.zeros(len(images), NUM_LABELS, *images.shape[2:])
    logits[:, Label.TOP, 16:40, 8:24] = 5.0
    return logits + images.mean(dim=1, keepdim=True)


def test_from_a_strangers_file_to_a_try_on(file: Path) -> None:
    # 1. Reading runs nothing: the pickle is interpreted as data, and whatever is not data is refused.
    generator = load_stylegan2(file)
    picture = generator(torch.randn(1, generator.z_dim, generator=torch.Generator().manual_seed(1))).image
    assert picture.shape == (1, 3, 64, 32)

    # 2. It draws no segmentation; with a parser it stands wherever a model does.
    model = ParsedDrawer(generator, parser)
    person, garment = (styletryon.generate(seed=seed, model=model) for seed in (1, 2))
    result = styletryon.try_on(person, garment, model=model, preset="fast")
    assert result.image.size == (32, 64)
    assert result.history["garment"][-1] < result.history["garment"][0]


def test_kept_without_the_pickle(file: Path, tmp_path: Path) -> None:
    generator = load_stylegan2(file)
    generator.save_pretrained(tmp_path / "model")
    again = UnconditionalStyleGAN2.from_pretrained(tmp_path / "model")
    z = torch.randn(1, generator.z_dim, generator=torch.Generator().manual_seed(1))
    assert torch.equal(again(z).image, generator(z).image)


def test_trained_on_with_poses(file: Path, tmp_path: Path) -> None:
    # `styletryon train DATA --start start` goes on from here, with pictures, labels and keypoints.
    generator, report = PoseStyleGAN2.from_stylegan2(load_stylegan2(file))
    assert report
    generator.save_pretrained(tmp_path / "start")
    assert styletryon.load_model(tmp_path / "start").image_size == (64, 32)
