"""Reading of pictures of every kind as upright 8-bit sRGB."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import threading
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeGuard, Union, cast

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from styletryon.errors import (
    ImageError,
    ImageNotFoundError,
)

if TYPE_CHECKING:
    from torch import Tensor

ImageLike = Union[
    str, os.PathLike[str], bytes, bytearray, memoryview, IO[bytes], Image.Image, NDArray[Any], "Tensor"
]
"""What stands for a picture: a path, the bytes of a file, a file opened for reading them, a PIL image, an `(H, W, 3)`
array of uint8 or of floats in [0, 1], or a `(3, H, W)` tensor of floats in [0, 1] or of uint8. Channels are red, green
and blue, in this order."""

MIN_SIDE = 16
"""The fewest pixels that a side of a picture may have."""

MAX_PIXELS = 100_000_000
"""The most pixels that a picture may have; checked before it is decoded."""

MAX_ASPECT = 8.0
"""How many times as long as the short side the long side of a picture may be."""

# EPS starts Ghostscript, a program that has been attacked through such files before.
_BARRED_FORMATS = frozenset({"EPS"})

# `warnings.catch_warnings` swaps a global list: two threads inside it at once could leave the warnings switched off.
_decoding = threading.RLock()

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# "https://host/a.png", what `Path` makes of it, and "data:image/png;base64,...". One letter is a drive of Windows.
_URL = re.compile(r"(?:[a-z][a-z0-9+.-]+:/|data:)", re.IGNORECASE)
_KINDS = (
    "a path, bytes, a file opened in binary mode, a PIL image, an (H, W, 3) array or a (3, H, W) tensor in RGB"
)
_COLOUR_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}


def read_image(image: ImageLike, *, name: str = "image", max_aspect: float = MAX_ASPECT) -> Image.Image:
    """Read a picture of any kind as an upright 8-bit sRGB picture.

    EXIF orientation is honoured, transparency is laid on white, a colour profile is converted to sRGB (and ignored if
    it is broken), 16-bit and floating-point greys are scaled to 8 bits, and of an animation the first picture is taken.
    Nothing is fetched from the network.

    Args:
        image: A path, the bytes of a file, a file opened in binary mode (read from its start, and left open), a PIL
            image of any mode, an `(H, W, 3)` array of uint8 or of floats in [0, 1], or a `(3, H, W)` tensor of floats
            in [0, 1] or of uint8; arrays and tensors may have a batch of one in front. Their channels are red, green
            and blue. Those of OpenCV are blue, green and red, which no check can tell: pass `image[..., ::-1]`.
        name: The argument's name for error messages.
        max_aspect: How many times as long as the short side the long side may be. `math.inf` where something else says
            which part of the picture is meant.

    Returns:
        A new picture of mode "RGB" without metadata.

    Raises:
        ImageError: If it is no picture, damaged, too small, too large, too long and thin, or of another shape, dtype
            or range than those above.
        ImageNotFoundError: If a path leads to no file, or is the address of a web page.

    Example:
        >>> import numpy as np
        >>> from styletryon.photo import read_image
        >>> read_image(np.zeros((64, 48, 3), dtype=np.uint8)).size
        (48, 64)
    """
    if isinstance(image, (str, os.PathLike)):
        return _read_file(image, name, max_aspect)
    if isinstance(image, (bytes, bytearray, memoryview)):
        return _decode(io.BytesIO(image), "what the bytes hold", name, max_aspect)
    if isinstance(image, Image.Image):
        return _read_pil(image, name, max_aspect)
    if isinstance(image, np.ndarray):
        return _read_array(image, name, max_aspect)
    if _is_tensor(image):
        return _read_tensor(image, name, max_aspect)
    if callable(getattr(image, "read", None)):
        return _read_stream(cast("IO[bytes]", image), name, max_aspect)
    raise ImageError(f"expected {_KINDS}, got {type(image).__name__}", argument=name)


def _read_file(source: str | os.PathLike[str], name: str, max_aspect: float) -> Image.Image:
    text = os.fspath(source)
    if not isinstance(text, str):
        raise ImageError(f"expected a path as text, got {type(text).__name__}; use os.fsdecode(path)", argument=name)
    try:
        path = Path(text)
        found, folder, regular = path.exists(), path.is_dir(), path.is_file()
    except (OSError, ValueError) as error:
        if _URL.match(text):  # A long one, such as a picture written into its address.
            raise _url_error(text, name) from error
        raise ImageError(f"expected the path of a picture, got {text[:200]!r} ({error})", argument=name) from error
    if not found and _URL.match(text):
        raise _url_error(text, name)
    if not found:
        raise ImageNotFoundError(
            f"no such file: {text!r}; check the path (relative to {str(Path.cwd())!r})", argument=name
        )
    if folder:
        raise ImageError(f"expected the path of a picture, got the folder {text!r}", argument=name)
    if not regular:
        raise ImageError(f"expected the path of a picture, got {text!r}, which is no regular file", argument=name)
    return _decode(path, repr(text), name, max_aspect)


def _url_error(text: str, name: str) -> ImageNotFoundError:
    return ImageNotFoundError(
        f"expected a picture or its path, got the URL {text[:200]!r}; nothing is fetched from the network: download "
        f"the picture first and pass its path or its bytes",
        argument=name,
    )


def _read_stream(stream: IO[bytes], name: str, max_aspect: float) -> Image.Image:
    """Read an open file from its start, wherever it stands: whoever has just written it left it at its end."""
    try:
        with contextlib.suppress(AttributeError, OSError):  # What cannot be rewound is read from where it stands.
            stream.seek(0)
        content = stream.read()
    except Exception as error:  # Anything may call itself a file, and it may be closed.
        raise ImageError(
            f"expected a file opened in binary mode, got {type(stream).__name__} that cannot be read "
            f"({_reason(error)}); open it with open(path, 'rb')",
            argument=name,
        ) from error
    if not isinstance(content, bytes):
        raise ImageError(
            f"expected a file opened in binary mode, got one whose read() gives {type(content).__name__}; open it with "
            f"open(path, 'rb')",
            argument=name,
        )
    return _decode(io.BytesIO(content), "what the open file holds", name, max_aspect)


def decode_image(
    content: bytes,
    *,
    name: str = "image",
    max_aspect: float = MAX_ASPECT,
    max_pixels: int = MAX_PIXELS,
    formats: Collection[str] | None = None,
) -> Image.Image:
    """Read a picture from the bytes of its file, as `read_image` reads the file.

    Args:
        content: What the file holds.
        name: What error messages call the picture.
        max_aspect: As for `read_image`.
        max_pixels: The most pixels that it may have; checked before it is decoded.
        formats: What Pillow calls the formats that are read, such as "PNG". None for all that `read_image` reads.

    Returns:
        A new picture of mode "RGB" without metadata.

    Raises:
        ImageError: If it is no picture of these formats, damaged, too small, too large, or too long and thin.
    """
    return _decode(io.BytesIO(content), "the file", name, max_aspect, max_pixels, formats)


def _decode(
    source: Path | io.BytesIO,
    shown: str,
    name: str,
    max_aspect: float,
    max_pixels: int = MAX_PIXELS,
    formats: Collection[str] | None = None,
) -> Image.Image:
    with _quietly():
        Image.init()
        known = [kind for kind in Image.ID if kind not in _BARRED_FORMATS and (formats is None or kind in formats)]
        try:
            with Image.open(source, formats=known) as picture:
                _check_size(picture.width, picture.height, name, max_aspect, max_pixels)
                return _to_rgb(picture, name)
        except ImageError:
            raise
        except Image.DecompressionBombError as error:
            raise ImageError(f"{shown} is too large ({error}); make it smaller first", argument=name) from error
        except UnidentifiedImageError as error:
            reader = "Pillow" if formats is None else "this"
            raise ImageError(
                f"{shown} is not a picture that {reader} can read; save it as PNG or JPEG",
                argument=name,
            ) from error
        except PermissionError as error:
            raise ImageError(f"{shown} may not be read ({error}); check its permissions", argument=name) from error
        except Exception as error:  # Decoders of damaged files raise nearly anything: SyntaxError, struct.error, ...
            raise ImageError(
                f"{shown} is damaged or incomplete ({_reason(error)}); get it anew", argument=name
            ) from error


def _read_pil(picture: Image.Image, name: str, max_aspect: float) -> Image.Image:
    _check_size(picture.width, picture.height, name, max_aspect)
    with _quietly():
        try:
            return _to_rgb(picture, name)
        except ImageError:
            raise
        except Exception as error:  # The picture may be a file that is yet to be decoded; see _read_file.
            raise ImageError(
                f"the PIL image of mode {picture.mode!r} cannot be read ({_reason(error)}); its file may be "
                f"damaged or already closed",
                argument=name,
            ) from error


def _read_array(array: NDArray[Any], name: str, max_aspect: float) -> Image.Image:
    shape = array.shape
    if array.ndim == 4 and shape[0] == 1:
        array = array[0]
    if array.ndim == 3 and array.shape[2] == 3:
        _check_size(array.shape[1], array.shape[0], name, max_aspect)
        if array.dtype == np.uint8:
            return Image.fromarray(np.array(array, order="C"))  # A copy: it must not follow the caller's array.
        if np.issubdtype(array.dtype, np.floating):
            return _from_unit(array, name)
    if array.ndim == 2:
        mend = "stack a grey picture thrice: np.stack([image] * 3, axis=-1)"
    elif array.ndim == 4:
        mend = "pass one picture at a time: image[0]"
    elif array.ndim != 3:
        mend = "pass one picture"
    elif array.shape[2] == 4:
        mend = "let PIL.Image.fromarray(image) lay the transparency on white"
    elif array.shape[2] == 1:
        mend = "stack a grey picture thrice: np.repeat(image, 3, axis=-1)"
    elif array.shape[2] != 3 and array.shape[0] == 3:
        mend = "put the channels last: image.transpose(1, 2, 0)"
    elif array.shape[2] != 3:
        mend = "pass the three channels red, green and blue"
    else:
        mend = "for values in 0..255 pass image.astype(np.uint8)"
    raise ImageError(
        f"expected an (H, W, 3) array of uint8 or of floats in [0, 1], got {shape} {array.dtype}; {mend}",
        argument=name,
    )


def _is_tensor(image: object) -> TypeGuard[Tensor]:
    """Say whether it is a tensor, without importing torch: who passes one has imported it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(image, torch.Tensor)


def _read_tensor(tensor: Tensor, name: str, max_aspect: float) -> Image.Image:
    import torch

    shape = tuple(tensor.shape)
    if tensor.ndim == 4 and shape[0] == 1:
        tensor = tensor[0]
    if tensor.ndim == 3 and tensor.shape[0] == 3:
        _check_size(tensor.shape[2], tensor.shape[1], name, max_aspect)
        pixels = tensor.detach().cpu().permute(1, 2, 0)
        if tensor.dtype == torch.uint8:
            return Image.fromarray(np.array(pixels.numpy(), order="C"))
        if tensor.is_floating_point():
            return _from_unit(pixels.to(torch.float32).numpy(), name)
    if tensor.ndim == 4:
        mend = "pass one picture at a time: image[0]"
    elif tensor.ndim == 2 or (tensor.ndim == 3 and tensor.shape[0] == 1):
        mend = "repeat a grey picture thrice: image.expand(3, -1, -1)"
    elif tensor.ndim != 3:
        mend = "pass one picture"
    elif tensor.shape[0] != 3 and tensor.shape[2] == 3:
        mend = "put the channels first: image.permute(2, 0, 1)"
    elif tensor.shape[0] == 4:
        mend = "lay the transparency on white first"
    elif tensor.shape[0] != 3:
        mend = "pass the three channels red, green and blue"
    else:
        mend = "for values in 0..255 pass image.to(torch.uint8)"
    raise ImageError(
        f"expected a (3, H, W) tensor of floats in [0, 1] or of uint8, got {shape} {tensor.dtype}; {mend}",
        argument=name,
    )


def _from_unit(values: NDArray[Any], name: str) -> Image.Image:
    """Turn `(H, W, 3)` floats in [0, 1] into a picture."""
    pixels = values.astype(np.float32, order="C")
    if not np.isfinite(pixels).all():
        raise ImageError("expected finite values in [0, 1], got NaN or infinity", argument=name)
    low, high = float(pixels.min()), float(pixels.max())
    if low < -1e-3 or high > 1 + 1e-3:  # The slack is for what rounding in half precision and resizing leave.
        raise ImageError(
            f"expected values in [0, 1], got {low:.4g} to {high:.4g}; did you pass 0..255 or [-1, 1]? "
            f"Then pass image / 255 or (image + 1) / 2",
            argument=name,
        )
    return Image.fromarray((pixels.clip(0, 1) * 255).round().astype(np.uint8))


@contextmanager
def _quietly() -> Iterator[None]:
    """Hold back the warnings of decoders, which say nothing that a caller could mend, whatever the filters are."""
    with _decoding, warnings.catch_warnings(record=True):
        warnings.resetwarnings()  # Else a filter "error" would turn a warning into a failure to read.
        yield


def _check_size(width: int, height: int, name: str, max_aspect: float, max_pixels: int = MAX_PIXELS) -> None:
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"expected at least {MIN_SIDE} pixels a side, got {width}x{height}: too small", argument=name)
    if width * height > max_pixels:
        raise ImageError(
            f"expected at most {max_pixels / 1e6:g} megapixels, got {width}x{height}: too large; make it smaller first",
            argument=name,
        )
    if max(width, height) > max_aspect * min(width, height):
        raise ImageError(
            f"expected sides of at most {max_aspect:g} to 1, got {width}x{height}; cut out the person first, or say "
            f"where they are by a box",
            argument=name,
        )


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"


def _to_rgb(picture: Image.Image, name: str) -> Image.Image:
    """Decode, convert and turn a picture. May raise whatever Pillow raises."""
    picture.load()
    profile = picture.info.get("icc_profile")
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        rgb = _integer_grey(picture, name).convert("RGB")
    elif picture.mode == "F":
        rgb = _float_grey(picture, name).convert("RGB")
    elif picture.has_transparency_data:
        premultiplied = {"La": "LA", "RGBa": "RGBA"}.get(picture.mode)
        rgba = (picture.convert(premultiplied) if premultiplied else picture).convert("RGBA")
        rgb = Image.new("RGB", picture.size, (255, 255, 255))
        rgb.paste(_to_srgb(rgba.convert("RGB"), profile), mask=rgba.getchannel("A"))
    elif picture.mode in ("RGB", "L", "CMYK", "LAB"):
        rgb = _to_srgb(picture, profile)
    else:
        rgb = _to_srgb(picture.convert("RGB"), profile)
    turn = _UPRIGHT.get(_orientation(picture))
    if turn is not None:
        rgb = rgb.transpose(turn)
    elif rgb is picture:
        rgb = rgb.copy()  # else it is a new picture already, and large ones are not copied twice
    rgb.info = {}
    return rgb


def _integer_grey(picture: Image.Image, name: str) -> Image.Image:
    values = np.asarray(picture).astype(np.int64)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ImageError(
            f"expected grey values in 0..65535, got {low} to {high}; scale them to 8 bits first", argument=name
        )
    # Mode "I" does not tell how many bits it means: only values that eight bits cannot hold speak for sixteen.
    deep = picture.mode != "I" or high > 255
    return Image.fromarray(((values + 128) // 257 if deep else values).astype(np.uint8))


def _float_grey(picture: Image.Image, name: str) -> Image.Image:
    values = np.asarray(picture)
    if not np.isfinite(values).all():
        raise ImageError("expected finite grey values, got NaN or infinity", argument=name)
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 255:
        raise ImageError(
            f"expected grey values in [0, 1] or 0..255, got {low:.4g} to {high:.4g}; scale them", argument=name
        )
    return Image.fromarray((values * (255 if high <= 1 else 1)).round().astype(np.uint8))


def _to_srgb(picture: Image.Image, profile: object) -> Image.Image:
    """Turn a picture of mode RGB, L, CMYK or LAB into sRGB by its colour profile if that is usable."""
    if picture.mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        converted = ImageCms.profileToProfile(picture, lab, ImageCms.createProfile("sRGB"), outputMode="RGB")
        return converted if converted is not None else picture
    if isinstance(profile, bytes) and profile:
        try:
            own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            space = str(own.profile.xcolor_space).strip()
            if space == _COLOUR_SPACES[picture.mode] and "srgb" not in ImageCms.getProfileDescription(own).lower():
                converted = ImageCms.profileToProfile(picture, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
                if converted is not None:
                    return converted
        except Exception:
            # A broken profile, or a Pillow built without colour management: the pixels are still a picture.
            pass
    return picture.convert("RGB")


def _orientation(picture: Image.Image) -> int:
    try:
        value = picture.getexif().get(ExifTags.Base.Orientation, 1)
        return value if isinstance(value, int) else 1
    except Exception:  # Broken metadata does not spoil a sound picture.
        return 1
