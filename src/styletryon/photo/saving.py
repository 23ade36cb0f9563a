"""Writing of pictures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from PIL import Image

from styletryon._files import write_atomically
from styletryon.errors import (
    SaveError,
)


def save_image(image: Image.Image, path: str | os.PathLike[str]) -> None:
    """Save a picture in the format that the name's ending says; a reader never meets half a file.

    Args:
        image: The picture.
        path: Where it shall stand, such as "tryon.png". Missing folders are made.

    Raises:
        SaveError: If the ending is unknown or the file cannot be written. What stood there before still stands.
    """
    ending = Path(path).suffix.lower()
    kind = Image.registered_extensions().get(ending)
    if kind is None or kind not in Image.SAVE:
        raise SaveError(f"expected a name that ends in .png, .jpg or .webp, got {os.fspath(path)!r}", argument="path")
    if kind in ("JPEG", "MPO") and image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("RGB")
    options: dict[str, Any] = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
    if kind == "JPEG":
        options["subsampling"] = 0  # Halved colour resolution shows at the edges of saturated garments.
    write_atomically(path, lambda temporary: image.save(temporary, format=kind, **options))
