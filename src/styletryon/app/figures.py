"""Pictures and names that explain a try-on."""

from __future__ import annotations

import numpy as np
from PIL import Image

from styletryon.app.room import Fitting
from styletryon.labels import PALETTE, Label
from styletryon.photo import labels_to_image

_KINDS = {"rgb": "colour", "seg": "labels"}


def show_labels(fitting: Fitting) -> Image.Image:
    """Lay the segmentation over the try-on."""
    picture = fitting.result.image.convert("RGB")
    return Image.blend(picture, labels_to_image(fitting.result.segmentation).convert("RGB"), 0.75)


def label_names(fitting: Fitting) -> list[tuple[str, tuple[int, int, int]]]:
    """Name and colour of each class that the try-on shows, the background left out."""
    shown = [Label(int(number)) for number in np.unique(fitting.result.segmentation) if number]
    return [(label.name.lower(), PALETTE[label]) for label in shown]


def layer_title(name: str) -> str:
    """Say in words what a layer draws: "32.rgb" is "32 px colour"."""
    size, _, kind = name.partition(".")
    return f"{size} px {_KINDS.get(kind, kind)}"
