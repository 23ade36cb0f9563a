"""Pictures and names that explain a try-on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from styletryon.app.room import Fitting
from styletryon.labels import PALETTE, Label
from styletryon.photo import labels_to_image
from styletryon.tryon.layers import Shows, TryOnLayers

Colour = tuple[int, int, int]

KINDS: dict[Shows, tuple[str, Colour]] = {
    Shows.CLOTH: ("cloth", (214, 79, 79)),
    Shows.SKIN: ("bared skin", (240, 170, 90)),
    Shows.OWN: ("own clothes", (62, 104, 178)),
    Shows.BACKGROUND: ("background", (92, 148, 112)),
    Shows.FRONT: ("what lies in front", (132, 72, 142)),
}
"""Name and colour of what a try-on shows, other than the photograph's own."""

_STRONG = 0.75
"""How much of a colour that is laid over a picture is seen."""

_LAYERS = {"rgb": "colour", "seg": "labels"}


def show_labels(fitting: Fitting) -> Image.Image:
    """Lay the segmentation over the try-on."""
    picture = fitting.result.image.convert("RGB")
    return Image.blend(picture, labels_to_image(fitting.result.segmentation).convert("RGB"), _STRONG)


def label_names(fitting: Fitting) -> list[tuple[str, Colour]]:
    """Name and colour of each class that the try-on shows, the background left out."""
    shown = [Label(int(number)) for number in np.unique(fitting.result.segmentation) if number]
    return [(label.name.lower(), PALETTE[label]) for label in shown]


def show_layout(layers: TryOnLayers, picture: Image.Image) -> Image.Image:
    """Lay what each pixel shows over the try-on, a colour of `KINDS` each; nothing over what stays of the photograph.

    Args:
        layers: The parts of the try-on.
        picture: The try-on, of the photograph's size.
    """
    colours = np.zeros((len(Shows), 4), np.uint8)
    for what, (_, colour) in KINDS.items():
        colours[what] = *colour, round(255 * _STRONG)
    left, top, right, bottom = layers.box
    over = Image.fromarray(colours[layers.layout]).resize((right - left, bottom - top), Image.Resampling.NEAREST)
    shown = picture.convert("RGB")
    shown.paste(over.convert("RGB"), (left, top), over.getchannel("A"))
    return shown


def layout_names(layers: TryOnLayers) -> list[tuple[str, Colour]]:
    """Name and colour of each kind that a layout has."""
    return [named for what, named in KINDS.items() if layers.shows(what).any()]


def layer_pictures(layers: TryOnLayers) -> list[tuple[str, Image.Image]]:
    """Make a picture of each layer, with its name: what it is taken from, whether or not it is seen there."""
    parts: list[tuple[str, NDArray[np.float32]]] = [
        (KINDS[Shows.CLOTH][0], layers.cloth),
        (KINDS[Shows.SKIN][0], layers.skin),
        (KINDS[Shows.OWN][0], layers.own),
        (KINDS[Shows.BACKGROUND][0], layers.background),
        ("how much is replaced", layers.alpha),
    ]
    return [(name, Image.fromarray((part.clip(0, 1) * 255).round().astype(np.uint8))) for name, part in parts]


def layer_title(name: str) -> str:
    """Say in words what a layer draws: "32.rgb" is "32 px colour"."""
    size, _, kind = name.partition(".")
    return f"{size} px {_LAYERS.get(kind, kind)}"
