"""The gallery's script: each picture is made, whole and in few colours; people are new and in order."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch
from PIL import Image

from docs import gallery
from styletryon.data.paperdoll import wears
from styletryon.labels import Label
from styletryon.models import PoseStyleGAN2
from tests._support.process import ROOT
from tests._support.tiny import tiny_generator


@pytest.fixture(scope="module")
def model() -> PoseStyleGAN2:
    """A tiny generator that draws some of every garment."""
    generator = tiny_generator(shares=True)
    for name, parameter in generator.named_parameters():
        if "seg" in name and name.endswith("bias") and parameter.numel() == len(Label):
            parameter[[Label.TOP, Label.BOTTOM, Label.DRESS]] += 0.3
    return generator


@pytest.mark.parametrize("name", gallery.FIGURES)
def test_each_picture_is_made(name: str, model: PoseStyleGAN2, tmp_path: Path) -> None:
    studio = gallery.Studio(model, "fast", pairs=2)
    [path] = gallery.write(studio, tmp_path, [name])
    with Image.open(path) as picture:
        assert picture.mode == "P"
        assert picture.width <= 1400
        assert len(picture.convert("RGB").getcolors(256) or ()) > 20


def test_people_are_those_who_wear_what_is_wanted() -> None:
    people = list(islice(gallery.figures(lambda figure: wears(figure, "dress"), 3), 3))
    assert all(figure.outfit.dress is not None for figure in people)
    assert people == list(islice(gallery.figures(lambda figure: wears(figure, "dress"), 3), 3))


def test_coefficients_are_drawn_from_dark_to_light(model: PoseStyleGAN2) -> None:
    studio = gallery.Studio(model, "fast")
    people = studio.render(list(islice(gallery.figures(lambda figure: wears(figure, "top")), 2)))
    result = studio.dress(studio.project(people[:1]), studio.project(people[1:]), "top")[0]
    drawn = gallery.bars(result, 300)
    row = torch.tensor([drawn.getpixel((x, 10))[0] for x in range(100, 290)])
    assert bool((row.diff() >= 0).all())
    assert drawn.height >= 20 * len(result.coefficients)


def test_the_page_shows_every_picture() -> None:
    page = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    shown = [name for name in gallery.FIGURES if f"(images/gallery/{name}.png)" in page]
    assert shown == list(gallery.FIGURES)


def test_the_pictures_are_small_enough_for_the_repository() -> None:
    pictures = list((ROOT / "docs" / "images" / "gallery").glob("*.png"))
    assert sum(path.stat().st_size for path in pictures) <= 3_000_000
    assert {path.stem for path in pictures} <= set(gallery.FIGURES)
