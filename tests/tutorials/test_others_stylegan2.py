"""Somebody else's StyleGAN2: read the file, give it a parser, try on with it, and keep it without the pickle."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

import styletryon
from styletryon.interop import load_stylegan2
from styletryon.models import UnconditionalStyleGAN2
from tests.tutorials.pages import follow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("others")
    follow("Try on with somebody else's StyleGAN2", folder)
    return folder


def test_it_tries_on(folder: Path) -> None:
    with Image.open(folder / "tryon.png") as tryon:
        assert tryon.size == (32, 64)
        assert len(tryon.getcolors(32 * 64) or []) > 100


def test_it_is_kept_without_the_pickle(folder: Path) -> None:
    generator = load_stylegan2(folder / "somebodys.pt")
    again = UnconditionalStyleGAN2.from_pretrained(folder / "kept")
    z = torch.randn(1, generator.z_dim, generator=torch.Generator().manual_seed(1))
    assert torch.equal(again(z).image, generator(z).image)


def test_it_starts_a_generator_with_poses(folder: Path) -> None:
    assert styletryon.load_model(folder / "start").image_size == (64, 32)
