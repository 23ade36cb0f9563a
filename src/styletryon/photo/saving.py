"""Writing of pictures."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from PIL import Image

from styletryon._files import write_bytes
from styletryon.errors import SaveError

FORMATS: Mapping[str, str] = MappingProxyType(
    {
        ".png": "PNG",
        ".jpg": "JPEG",
        ".jpeg": "JPEG",
        ".webp": "WEBP",
        ".bmp": "BMP",
        ".tif": "TIFF",
        ".tiff": "TIFF",
    }
)
"""Ending of a picture's name -> what Pillow calls the format. Formats of few colours are not among them."""


def check_ending(path: str | os.PathLike[str], *, argument: str = "path") -> str:
    """Say which format a picture's name asks for.

    Args:
        path: The name.
        argument: What error messages call it.

    Returns:
        What Pillow calls the format.

    Raises:
        SaveError: If pictures are not written in it.
    """
    kind = FORMATS.get(Path(path).suffix.lower())
    if kind is None:
        raise SaveError(
            f"expected a name that ends in {_either(FORMATS)}, got {os.fspath(path)!r}", argument=argument
        )
    return kind


def save_image(
    image: Image.Image, path: str | os.PathLike[str] | IO[bytes], *, format: str | None = None
) -> None:
    """Save a picture; a reader never meets half a file.

    Args:
        image: The picture.
        path: Where it shall stand, such as "tryon.png"; missing folders are made. Or a file opened in binary mode,
            such as an `io.BytesIO`, which is written to where it stands and left open.
        format: "png", "jpg", "webp", "bmp" or "tiff". None for what the name's ending says; for an open file, PNG.

    Raises:
        SaveError: If the ending or the format is unknown or the file cannot be written. What stood there before still
            stands.
    """
    stream = path if callable(getattr(path, "write", None)) else None
    if format is not None:
        kind = FORMATS.get(f".{str(format).lower()}")
        if kind is None:
            known = [ending[1:] for ending in FORMATS]
            raise SaveError(f"expected {_either(known)}, got {format!r}", argument="format")
    elif stream is not None:
        kind = "PNG"
    elif isinstance(path, (str, os.PathLike)):
        kind = check_ending(path)
    else:
        raise SaveError(f"expected a path or a file opened in binary mode, got {type(path).__name__}", argument="path")
    data = _encode(image, kind)
    if stream is None:
        write_bytes(path, data)  # type: ignore[arg-type]
        return
    try:
        stream.write(data)  # type: ignore[union-attr]
    except Exception as error:  # Anything may call itself a file: opened as text, closed, full.
        raise SaveError(
            f"expected a file opened in binary mode, got {type(path).__name__} that cannot be written ({error}); open "
            f"it with open(path, 'wb')",
            argument="path",
        ) from error


def _encode(image: Image.Image, kind: str) -> bytes:
    if kind == "JPEG" and image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("RGB")
    options: dict[str, Any] = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
    if kind == "JPEG":
        options["subsampling"] = 0  # Halved colour resolution shows at the edges of saturated garments.
    stream = io.BytesIO()
    try:
        image.save(stream, format=kind, **options)
    except (OSError, ValueError) as error:  # A format has a largest size, and Pillow may be built without it.
        raise SaveError(f"cannot write a {kind} of {image.width}x{image.height} ({error})", argument="path") from error
    return stream.getvalue()


def _either(items: Any) -> str:
    *most, last = items
    return f"{', '.join(most)} or {last}"
