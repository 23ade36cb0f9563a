"""A folder of photographs as a caller has them, with a tiny generator beside them."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from styletryon.data import paperdoll
from tests._support.tiny import tiny_generator

SIZE = (96, 72)
"""Height and width of the photographs."""


def photographed(folder: Path, count: int) -> Path:
    """Write rendered people `N.png` with their poses `N.json`, a `broken.png` that is no picture, and a `model`."""
    for number in range(count):
        figure = paperdoll.render(paperdoll.sample_figure(40 + number), SIZE)
        Image.fromarray(figure.image).save(folder / f"{number}.png")
        (folder / f"{number}.json").write_text(json.dumps(figure.keypoints.tolist()))
    (folder / "broken.png").write_bytes(b"no picture")
    tiny_generator().save_pretrained(folder / "model")
    return folder
