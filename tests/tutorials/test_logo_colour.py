"""A loss of one's own: a person's top has a logo, and its colour shall stay whatever they put on.

The class is that of docs/losses.md. Style codes cannot hold the logo's drawing; its mean colour can be asked for.
"""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

import styletryon
from styletryon.data.paperdoll import render, sample_figure
from styletryon.losses import TryOnLoss, check_loss
from tests._support.process import ROOT


class KeepLogoColour(TryOnLoss):
    """Charges a change of the mean colour inside a box, (left, top, right, bottom) as shares of the picture."""

    def __init__(self, box):
        self.box = box

    def mean_colour(self, image):                                  # (B, 3, H, W) -> (B, 3)
        height, width = image.shape[2:]
        left, top, right, bottom = self.box
        rows = slice(round(top * height), round(bottom * height))
        columns = slice(round(left * width), round(right * width))
        return image[:, :, rows, columns].mean(dim=(2, 3))

    def prepare(self, targets):                                    # once per pair
        return self.mean_colour(targets.person.image)

    def forward(self, state, prepared):                            # in each step: (B,)
        return (self.mean_colour(state.image) - prepared).square().mean(dim=1)


BOX = (0.42, 0.32, 0.58, 0.44)


@pytest.fixture(scope="module")
def pair() -> tuple[styletryon.Latent, styletryon.Latent]:
    """Somebody with a red logo on their chest, and somebody in another top, both projected."""
    model = styletryon.load_model()
    height, width = model.image_size
    latents = []
    for seed in (20_000_010, 20_000_008):
        figure = render(sample_figure(seed), (height, width))
        picture = np.array(figure.image)
        if not latents:
            left, top, right, bottom = (round(s * n) for s, n in zip(BOX, (width, height) * 2, strict=True))
            picture[top:bottom, left:right] = 200, 30, 30
        pose = styletryon.Pose(torch.from_numpy(figure.keypoints), (height, width))
        latents.append(styletryon.project(picture, pose=pose, preset="fast"))
    return latents[0], latents[1]


def test_the_loss_is_that_of_the_page() -> None:
    assert inspect.getsource(KeepLogoColour) in (ROOT / "docs" / "losses.md").read_text(encoding="utf-8")


def test_the_loss_keeps_the_contract() -> None:
    assert "its gradient reaches the coefficients" in check_loss(KeepLogoColour(BOX))


def test_the_colour_of_the_logo_stays(pair: tuple[styletryon.Latent, styletryon.Latent]) -> None:
    logo = KeepLogoColour(BOX)
    defaults = styletryon.losses.defaults()
    plain = styletryon.try_on(*pair, losses={**defaults, "logo": (0.0, logo)}, preset="fast")
    kept = styletryon.try_on(*pair, losses={**defaults, "logo": (10.0, logo)}, preset="fast")
    # What the default losses let change, this one lets change less than half as much.
    assert kept.report["loss_logo"] < 0.5 * plain.report["loss_logo"]
    assert kept.history["logo"][-1] < kept.history["logo"][0]
