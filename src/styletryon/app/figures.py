"""Pictures and pieces of the page that explain a try-on."""

from __future__ import annotations

import html
from collections.abc import Mapping

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


def legend(fitting: Fitting) -> str:
    """The colours of the label classes that the try-on shows, as HTML."""
    entries = [
        f'<span class="entry"><span class="swatch" style="background: rgb{colour}"></span>{html.escape(name)}</span>'
        for name, colour in label_names(fitting)
    ]
    return "<div>" + " ".join(entries) + "</div>"


def bars(means: Mapping[str, float]) -> str:
    """A bar per layer, as HTML.

    Args:
        means: Layer -> a number in [0, 1].

    Returns:
        Three cells a layer, from the coarsest at the top to the finest.
    """
    return "".join(
        f'<span class="name">{html.escape(layer_title(name))}</span>'
        f'<span class="bar"><span style="width: {value:.1%}"></span></span><span>{value:.2f}</span>'
        for name, value in means.items()
    )


def layer_title(name: str) -> str:
    """Say in words what a layer draws: "32.rgb" is "32 px colour"."""
    size, _, kind = name.partition(".")
    return f"{size} px {_KINDS.get(kind, kind)}"
