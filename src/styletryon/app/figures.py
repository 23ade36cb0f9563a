"""The pictures that explain a try-on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from styletryon.app.room import Fitting
from styletryon.images import labels_to_image
from styletryon.labels import PALETTE, Label

_INK, _SOFT, _BAR = (31, 41, 55), (229, 231, 235), (67, 56, 202)
_KINDS = {"rgb": "colour", "seg": "labels"}
_ROW, _LEFT, _WIDTH, _RIGHT = 26, 150, 390, 60


def show_labels(fitting: Fitting) -> Image.Image:
    """Lay the segmentation over the try-on."""
    picture = fitting.result.image.convert("RGB")
    return Image.blend(picture, labels_to_image(fitting.result.segmentation).convert("RGB"), 0.75)


def label_names(fitting: Fitting) -> list[tuple[str, tuple[int, int, int]]]:
    """Name and colour of each class that the try-on shows, the background left out."""
    shown = [Label(int(number)) for number in np.unique(fitting.result.segmentation) if number]
    return [(label.name.lower(), PALETTE[label]) for label in shown]


def draw_bars(means: Mapping[str, float]) -> Image.Image:
    """Draw a bar per layer.

    Args:
        means: Layer -> a number in [0, 1].

    Returns:
        A picture; layers run from the coarsest at the top to the finest.
    """
    font = ImageFont.load_default(size=17)
    sheet = Image.new("RGB", (_LEFT + _WIDTH + _RIGHT, _ROW * len(means) + 8), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (name, value) in enumerate(means.items()):
        top = 4 + row * _ROW
        pen.text((_LEFT - 14, top + _ROW / 2), layer_title(name), _INK, font, anchor="rm")
        pen.rounded_rectangle((_LEFT, top + 5, _LEFT + _WIDTH, top + _ROW - 5), 5, _SOFT)
        if value * _WIDTH >= 1:
            pen.rounded_rectangle((_LEFT, top + 5, _LEFT + value * _WIDTH, top + _ROW - 5), 5, _BAR)
        pen.text((_LEFT + _WIDTH + 12, top + _ROW / 2), f"{value:.2f}", _INK, font, anchor="lm")
    return sheet


def layer_title(name: str) -> str:
    """Say in words what a layer draws: "32.rgb" is "32 px colour"."""
    size, _, kind = name.partition(".")
    return f"{size} px {_KINDS.get(kind, kind)}"
