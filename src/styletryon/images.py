"""Pictures: reading, framing, cropping and pasting back; the only place where pixels change range, layout or dtype.

A picture at the public boundary is a file, a PIL image, an `(H, W, 3)` uint8 array or a `(3, H, W)` tensor in [0, 1].
Inside the networks it is a `(B, 3, H, W)` float tensor in [-1, 1]. A position is in pixels, x to the right and y down;
the centre of the top left pixel is (0.5, 0.5).
"""

from __future__ import annotations

import io
import math
import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageDraw, ImageFont, UnidentifiedImageError
from torch import Tensor

from styletryon._files import write_atomically
from styletryon.errors import (
    ImageError,
    ImageNotFoundError,
    PersonNotFoundError,
    PoseError,
    RangeError,
    SaveError,
    ShapeError,
)
from styletryon.labels import PALETTE, Label
from styletryon.pose import Pose

ImageLike = str | os.PathLike[str] | Image.Image | NDArray[Any] | Tensor
"""What stands for a picture: a path, a PIL image, an `(H, W, 3)` uint8 array, or a `(3, H, W)` tensor in [0, 1]."""

MIN_SIDE = 16
"""The fewest pixels that a side of a picture may have."""

MAX_PIXELS = 100_000_000
"""The most pixels that a picture may have; checked before it is decoded."""

MAX_ASPECT = 8.0
"""How many times as long as the short side the long side of a picture may be."""

MIN_SCORE = 0.2
"""A keypoint of this score or less counts as missing when a person is framed."""

Colour = tuple[int, int, int]

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

_COLOUR_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}


# --------------------------------------------------------------------------------------------------------- reading


def read_image(image: ImageLike, *, name: str = "image") -> Image.Image:
    """Read a picture of any kind as an upright 8-bit sRGB picture.

    EXIF orientation is honoured, transparency is laid on white, a colour profile is converted to sRGB (and ignored if
    it is broken), 16-bit and floating-point greys are scaled to 8 bits, and of an animation the first picture is taken.

    Args:
        image: A path, a PIL image of any mode, an `(H, W, 3)` uint8 array, or a `(3, H, W)` float tensor in [0, 1].
        name: The argument's name for error messages.

    Returns:
        A new picture of mode "RGB" without metadata.

    Raises:
        ImageError: If it is no picture, damaged, too small, too large, too long and thin, or of another shape, dtype
            or range than those above.
        ImageNotFoundError: If a path leads to no file.

    Example:
        >>> import numpy as np
        >>> from styletryon.images import read_image
        >>> read_image(np.zeros((64, 48, 3), dtype=np.uint8)).size
        (48, 64)
    """
    if isinstance(image, (str, os.PathLike)):
        return _read_file(image, name)
    if isinstance(image, Image.Image):
        return _read_pil(image, name)
    if isinstance(image, np.ndarray):
        return _read_array(image, name)
    if isinstance(image, Tensor):
        return _read_tensor(image, name)
    raise ImageError(
        "expected a path, a PIL image, an (H, W, 3) uint8 array or a (3, H, W) tensor in [0, 1], "
        f"got {type(image).__name__}",
        argument=name,
    )


def _read_file(source: str | os.PathLike[str], name: str) -> Image.Image:
    text = os.fspath(source)
    if not isinstance(text, str):
        raise ImageError(f"expected a path as text, got {type(text).__name__}; use os.fsdecode(path)", argument=name)
    try:
        path = Path(text)
        found, folder, regular = path.exists(), path.is_dir(), path.is_file()
    except (OSError, ValueError) as error:
        raise ImageError(f"expected the path of a picture, got {text[:200]!r} ({error})", argument=name) from error
    if not found:
        mend = "download the picture first" if "://" in text else f"check the path (relative to {str(Path.cwd())!r})"
        raise ImageNotFoundError(f"no such file: {text!r}; {mend}", argument=name)
    if folder:
        raise ImageError(f"expected the path of a picture, got the folder {text!r}", argument=name)
    if not regular:
        raise ImageError(f"expected the path of a picture, got {text!r}, which is no regular file", argument=name)
    return _decode(path, repr(text), name)


def decode_image(content: bytes, *, name: str = "image") -> Image.Image:
    """Read a picture from the bytes of its file, as `read_image` reads the file.

    Args:
        content: What the file holds.
        name: What error messages call the picture.

    Returns:
        A new picture of mode "RGB" without metadata.

    Raises:
        ImageError: If it is no picture, damaged, too small, too large, or too long and thin.
    """
    return _decode(io.BytesIO(content), "the file", name)


def _decode(source: Path | io.BytesIO, shown: str, name: str) -> Image.Image:
    with _quietly():
        Image.init()
        formats = [kind for kind in Image.ID if kind not in _BARRED_FORMATS]
        try:
            with Image.open(source, formats=formats) as picture:
                _check_size(picture.width, picture.height, name)
                return _to_rgb(picture, name)
        except ImageError:
            raise
        except Image.DecompressionBombError as error:
            raise ImageError(f"{shown} is too large ({error}); make it smaller first", argument=name) from error
        except UnidentifiedImageError as error:
            raise ImageError(
                f"{shown} is not a picture that Pillow can read; save it as PNG or JPEG",
                argument=name,
            ) from error
        except PermissionError as error:
            raise ImageError(f"{shown} may not be read ({error}); check its permissions", argument=name) from error
        except Exception as error:  # Decoders of damaged files raise nearly anything: SyntaxError, struct.error, ...
            raise ImageError(
                f"{shown} is damaged or incomplete ({_reason(error)}); get it anew", argument=name
            ) from error


def _read_pil(picture: Image.Image, name: str) -> Image.Image:
    _check_size(picture.width, picture.height, name)
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


def _read_array(array: NDArray[Any], name: str) -> Image.Image:
    shape = array.shape
    if array.ndim == 3 and shape[2] == 3 and array.dtype == np.uint8:
        _check_size(shape[1], shape[0], name)
        return Image.fromarray(np.array(array, order="C"))  # A copy: the picture must not follow the caller's array.
    if array.ndim == 2:
        mend = "stack a grey picture thrice: np.stack([image] * 3, axis=-1)"
    elif array.ndim == 4:
        mend = "pass one picture at a time: image[0]"
    elif array.ndim != 3:
        mend = "pass one picture"
    elif shape[2] == 4:
        mend = "let PIL.Image.fromarray(image) lay the transparency on white"
    elif shape[2] == 1:
        mend = "stack a grey picture thrice: np.repeat(image, 3, axis=-1)"
    elif shape[2] != 3 and shape[0] == 3:
        mend = "put the channels last: image.transpose(1, 2, 0)"
    elif shape[2] != 3:
        mend = "pass the three channels red, green and blue"
    elif np.issubdtype(array.dtype, np.floating):
        mend = "for values in [0, 1] pass (image * 255).round().astype(np.uint8)"
    else:
        mend = "for values in 0..255 pass image.astype(np.uint8)"
    raise ImageError(f"expected an (H, W, 3) uint8 array, got {shape} {array.dtype}; {mend}", argument=name)


def _read_tensor(tensor: Tensor, name: str) -> Image.Image:
    shape = tuple(tensor.shape)
    if tensor.ndim == 4:
        mend = "pass one picture at a time: image[0]"
    elif tensor.ndim == 2 or (tensor.ndim == 3 and shape[0] == 1):
        mend = "repeat a grey picture thrice: image.expand(3, -1, -1)"
    elif tensor.ndim != 3:
        mend = "pass one picture"
    elif shape[0] != 3 and shape[2] == 3:
        mend = "put the channels first: image.permute(2, 0, 1)"
    elif shape[0] == 4:
        mend = "lay the transparency on white first"
    elif shape[0] != 3:
        mend = "pass the three channels red, green and blue"
    elif not tensor.is_floating_point():
        mend = "for values in 0..255 pass image.float() / 255"
    else:
        _check_size(shape[2], shape[1], name)
        pixels = tensor.detach().to("cpu", torch.float32)
        if not bool(torch.isfinite(pixels).all()):
            raise ImageError("expected finite values in [0, 1], got NaN or infinity", argument=name)
        low, high = pixels.min().item(), pixels.max().item()
        if low < -1e-3 or high > 1 + 1e-3:  # The slack is for what rounding in half precision and resizing leave.
            raise ImageError(
                f"expected values in [0, 1], got {low:.4g} to {high:.4g}; did you pass 0..255 or [-1, 1]? "
                f"Then pass image / 255 or (image + 1) / 2",
                argument=name,
            )
        array = (pixels.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
        return Image.fromarray(array)
    raise ImageError(f"expected a (3, H, W) float tensor in [0, 1], got {shape} {tensor.dtype}; {mend}", argument=name)


@contextmanager
def _quietly() -> Iterator[None]:
    """Hold back the warnings of decoders, which say nothing that a caller could mend, whatever the filters are."""
    with _decoding, warnings.catch_warnings(record=True):
        warnings.resetwarnings()  # Else a filter "error" would turn a warning into a failure to read.
        yield


def _check_size(width: int, height: int, name: str) -> None:
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"expected at least {MIN_SIDE} pixels a side, got {width}x{height}: too small", argument=name)
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"expected at most {MAX_PIXELS // 1_000_000} megapixels, got {width}x{height}: too large; "
            f"make it smaller first",
            argument=name,
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(
            f"expected sides of at most {MAX_ASPECT:g} to 1, got {width}x{height}; cut out the person first",
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
    rgb = rgb.transpose(turn) if turn is not None else rgb.copy()
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


# ----------------------------------------------------------------------------------------- range, layout and dtype


def to_tensor(picture: Image.Image) -> Tensor:
    """Turn an RGB picture into a `(3, H, W)` float32 tensor in [-1, 1]."""
    array = np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))
    return from_uint8(torch.from_numpy(array).permute(2, 0, 1)).contiguous()


def from_uint8(pixels: Tensor) -> Tensor:
    """Turn uint8 values 0..255 of any shape into float32 values in [-1, 1]."""
    return pixels.to(torch.float32) / 127.5 - 1


def to_uint8(pixels: Tensor) -> Tensor:
    """Turn float values in [-1, 1] of any shape into uint8 values 0..255; values outside are clamped."""
    return ((pixels.detach().to(torch.float32) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def from_unit(pixels: Tensor) -> Tensor:
    """Turn values in [0, 1] into values in [-1, 1]; differentiable."""
    return pixels * 2 - 1


def to_unit(pixels: Tensor) -> Tensor:
    """Turn values in [-1, 1] into values in [0, 1]; values outside are clamped; differentiable inside."""
    return ((pixels + 1) / 2).clamp(0, 1)


def to_pil(pixels: Tensor) -> Image.Image:
    """Turn a drawn picture into a PIL image.

    Args:
        pixels: `(3, H, W)` or `(1, 3, H, W)` float tensor, nominally in [-1, 1]; values outside are clamped.

    Returns:
        A picture of mode "RGB".

    Raises:
        ShapeError: If the shape is another one.
        RangeError: If a value is NaN.
    """
    if pixels.ndim == 4 and pixels.shape[0] == 1:
        pixels = pixels[0]
    if pixels.ndim != 3 or pixels.shape[0] != 3:
        raise ShapeError(
            f"expected shape (3, H, W), got {tuple(pixels.shape)}; pass one picture at a time", argument="pixels"
        )
    if bool(torch.isnan(pixels).any()):
        raise RangeError("expected values in [-1, 1], got NaN", argument="pixels")
    return Image.fromarray(to_uint8(pixels).permute(1, 2, 0).cpu().contiguous().numpy())


def labels_to_image(labels: Tensor | NDArray[Any], palette: Sequence[Colour] = PALETTE) -> Image.Image:
    """Colour a segmentation.

    Args:
        labels: `(H, W)` integers: the label class of each pixel.
        palette: An sRGB colour per label class.

    Returns:
        A picture of mode "RGB".

    Raises:
        ShapeError: If the shape or dtype is another one.
        RangeError: If a class has no colour.
    """
    classes = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if classes.ndim != 2 or not np.issubdtype(classes.dtype, np.integer):
        raise ShapeError(f"expected (H, W) integers, got {classes.shape} {classes.dtype}", argument="labels")
    if classes.size and (classes.min() < 0 or classes.max() >= len(palette)):
        raise RangeError(
            f"expected classes 0..{len(palette) - 1}, got {classes.min()} to {classes.max()}", argument="labels"
        )
    return Image.fromarray(np.asarray(palette, dtype=np.uint8)[classes])


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


# --------------------------------------------------------------------------------------------------------- framing


@dataclass(frozen=True)
class Frame:
    """The part of a photograph that a model looks at.

    Attributes:
        box: Left, top, right and bottom in the photograph's pixels; may reach outside the photograph.
        photo_size: Height and width of the photograph.
        size: Height and width of the model's picture.
    """

    box: tuple[float, float, float, float]
    photo_size: tuple[int, int]
    size: tuple[int, int]

    def __post_init__(self) -> None:
        left, top, right, bottom = self.box
        if not (all(math.isfinite(edge) for edge in self.box) and left < right and top < bottom):
            raise RangeError(f"expected left < right and top < bottom, got {self.box}", argument="box")

    @property
    def scale(self) -> tuple[float, float]:
        """Model pixels per photograph pixel, down and across."""
        left, top, right, bottom = self.box
        return self.size[0] / (bottom - top), self.size[1] / (right - left)

    def to_model(self, pose: Pose) -> Pose:
        """Take a pose from the photograph's pixels to the model's.

        A keypoint outside the frame keeps its place but gets score 0, missing, as in the training data.

        Raises:
            PoseError: If the pose belongs to a picture of another size than the photograph.
        """
        _check_pose_size(pose, self.photo_size)
        down, across = self.scale
        offset = pose.keypoints.new_tensor([self.box[0], self.box[1], 0.0])
        points = (pose.keypoints - offset) * pose.keypoints.new_tensor([across, down, 1.0])
        limits = points.new_tensor([self.size[1], self.size[0]])
        inside = ((points[..., :2] >= 0) & (points[..., :2] <= limits)).all(dim=-1, keepdim=True)
        return Pose(torch.cat([points[..., :2], points[..., 2:] * inside], dim=-1), self.size)

    def to_photo(self, pose: Pose) -> Pose:
        """Take a pose from the model's pixels to the photograph's.

        Raises:
            PoseError: If the pose belongs to a picture of another size than the model's.
        """
        _check_pose_size(pose, self.size)
        down, across = self.scale
        offset = pose.keypoints.new_tensor([self.box[0], self.box[1], 0.0])
        return Pose(pose.keypoints / pose.keypoints.new_tensor([across, down, 1.0]) + offset, self.photo_size)


@dataclass(frozen=True, eq=False)
class Source:
    """Where a latent's picture came from.

    Attributes:
        photo: The photograph, mode "RGB".
        frame: The part of it that was projected.
        pose: The person's keypoints in the photograph's pixels, those outside the frame too, if they are known.
        labels: `(H, W)` uint8: what the photograph's pixels show, if it is known.
    """

    photo: Image.Image
    frame: Frame
    pose: Pose | None = None
    labels: NDArray[np.uint8] | None = None


def _check_pose_size(pose: Pose, size: tuple[int, int]) -> None:
    if pose.size != tuple(size):
        raise PoseError(
            f"expected keypoints in a picture of {size[0]}x{size[1]} (height x width), got {pose.size[0]}x"
            f"{pose.size[1]}; use pose.resized if it is the same picture at another scale",
            argument="pose",
        )


# The framing of the training data, measured on rendered figures: heights are shares of the length from the top of the
# head (0) to the knees (1), and so are widths. They vary by 3 to 8 per cent between people.
_HEIGHTS = {"eyes": 0.108, "nose": 0.135, "ears": 0.116, "shoulders": 0.262, "hips": 0.661, "knees": 1.0}
_SHOULDER_WIDTH, _HIP_WIDTH, _RAISED_KNEE = 0.248, 0.140, 0.5
_TOP_LINE, _KNEE_LINE = 0.055, 0.935  # Where head and knees stand in the frame, as shares of its height.
_LEAST_WIDTH = 0.742  # A frame narrower than this would cut off the arms, so a narrow format shows more of the legs.
_HAND = 0.37  # The middle of the hand lies this share of a forearm beyond the wrist.

_PAIRS = {"eyes": (1, 2), "ears": (3, 4), "shoulders": (5, 6), "hips": (11, 12), "knees": (13, 14)}
_ARMS = ((5, 7, 9), (6, 8, 10))


def frame_person(pose: Pose, photo_size: tuple[int, int], size: tuple[int, int]) -> Frame:
    """Choose the part of a photograph that shows a person as the training data do: from head to knee.

    The height follows from the keypoints of head, shoulders, hips and knees, as far as they are there; a person of whom
    only shoulders or hips are seen is measured by their width. The width follows from the model's format, and the frame
    is centred between trunk and arms. It may reach outside the photograph.

    Args:
        pose: One person's keypoints in the photograph's pixels; those of score 0.2 or less count as missing.
        photo_size: Height and width of the photograph.
        size: Height and width of the model's picture.

    Returns:
        The frame, of the proportions of `size`.

    Raises:
        PoseError: If the pose holds not one person, or belongs to a picture of another size.
        PersonNotFoundError: If neither shoulders nor hips were found, or the person does not stand or sit upright.
    """
    if len(pose) != 1:
        raise PoseError(f"expected one person, got {len(pose)}; pass pose[i]", argument="pose")
    _check_pose_size(pose, photo_size)
    points = pose.keypoints[0].detach().cpu().double().numpy()
    seen = (pose.keypoints[0, :, 2] > MIN_SCORE).cpu().numpy()  # In single precision: there, 0.2 is not above 0.2.

    middles: dict[str, NDArray[Any]] = {}
    for part, pair in _PAIRS.items():
        known = [points[index, :2] for index in pair if seen[index]]
        if known:
            middles[part] = np.mean(known, axis=0)
    if seen[0]:
        middles["nose"] = points[0, :2]
    if "shoulders" not in middles and "hips" not in middles:
        raise PersonNotFoundError(
            "expected shoulders or hips with a score above 0.2, got neither; use a photograph that shows the "
            "person from head to knee, or pass the keypoints yourself",
            argument="pose",
        )
    top, length = _fit_body(middles, points, seen)

    height = max(length / (_KNEE_LINE - _TOP_LINE), _LEAST_WIDTH * length * size[0] / size[1])
    width = height * size[1] / size[0]
    trunk, reach = _trunk(middles, seen), _reach(points, seen)
    centre = 0.45 * trunk + 0.55 * 0.5 * (min(reach) + max(reach)) if reach else trunk
    left, upper = centre - width / 2, top - _TOP_LINE * height
    return Frame((left, upper, left + width, upper + height), photo_size, size)


def _fit_body(
    middles: dict[str, NDArray[Any]],
    points: NDArray[Any],
    seen: NDArray[Any],
) -> tuple[float, float]:
    """The height of the top of the head and the length from there to the knees, in pixels."""
    levels = {part: float(middle[1]) for part, middle in middles.items() if part not in ("nose", "ears")}
    if "eyes" not in levels:  # Nose and ears move more with a nod, so they only stand in.
        stand_in = next((part for part in ("ears", "nose") if part in middles), None)
        if stand_in is not None:
            levels[stand_in] = float(middles[stand_in][1])
    torso = 0.0  # The length of the trunk at any angle: what an upright person's heights must agree with.
    if "shoulders" in middles and "hips" in middles:
        torso = float(np.linalg.norm(middles["hips"] - middles["shoulders"]))
        usual = torso * (_HEIGHTS["knees"] - _HEIGHTS["hips"]) / (_HEIGHTS["hips"] - _HEIGHTS["shoulders"])
        if "knees" in levels and levels["knees"] - levels["hips"] < _RAISED_KNEE * usual:
            del levels["knees"]  # Raised, as when sitting: they do not tell how long the body is.

    if len(levels) > 1:
        shares = np.array([_HEIGHTS[part] for part in levels])
        places = np.array(list(levels.values()))
        weights = np.array([1.0 if part in ("shoulders", "hips") else 2.0 for part in levels])
        length, top = (float(value) for value in np.polyfit(shares, places, 1, w=weights))
    else:
        part, place = next(iter(levels.items()))
        first, second = _PAIRS[part]
        share = _SHOULDER_WIDTH if part == "shoulders" else _HIP_WIDTH
        apart = float(np.linalg.norm(points[first, :2] - points[second, :2]))
        length = apart / share if seen[first] and seen[second] else 0.0
        top = place - _HEIGHTS[part] * length
        torso = 0.0
    if length <= 0 or length < 0.5 * torso / (_HEIGHTS["hips"] - _HEIGHTS["shoulders"]):
        raise PersonNotFoundError(
            "expected an upright person, head above hips, of whom at least both shoulders or both hips are seen; "
            "turn the photograph upright, or use one that shows the person from head to knee",
            argument="pose",
        )
    return top, length


def _trunk(middles: dict[str, NDArray[Any]], seen: NDArray[Any]) -> float:
    """The x of the trunk: from shoulders and hips of which both sides are seen, else from the head."""
    known = [part for part in ("shoulders", "hips") if part in middles]
    whole = [part for part in known if all(seen[index] for index in _PAIRS[part])]
    head = [part for part in ("nose", "eyes", "ears") if part in middles]
    return float(np.mean([middles[part][0] for part in whole or head or known]))


def _reach(points: NDArray[Any], seen: NDArray[Any]) -> list[float]:
    """How far both arms reach: x of shoulders whose elbow is missing, of elbows and of hands."""
    reach: list[float] = []
    for shoulder, elbow, wrist in _ARMS:
        if not (seen[shoulder] or seen[elbow]):
            return []  # One side alone would pull the frame towards itself.
        if seen[elbow]:
            reach.append(float(points[elbow, 0]))
            if seen[wrist]:
                reach.append(float(points[wrist, 0] + _HAND * (points[wrist, 0] - points[elbow, 0])))
        elif seen[shoulder]:
            reach.append(float(points[shoulder, 0]))
    return reach


# -------------------------------------------------------------------------------------------- cropping and pasting


def border_colour(photo: Image.Image) -> Colour:
    """The median colour of a picture's left, top and right border: most often the background's."""
    pixels = np.asarray(photo.convert("RGB"))
    margin = max(1, min(pixels.shape[:2]) // 50)
    border = np.concatenate([
        pixels[:margin].reshape(-1, 3),
        pixels[:, :margin].reshape(-1, 3),
        pixels[:, -margin:].reshape(-1, 3),
    ])  # fmt: skip
    red, green, blue = (int(value) for value in np.median(border, axis=0))
    return red, green, blue


def crop(
    photo: Image.Image, frame: Frame, *, background: Colour | Literal["edge"] | None = None
) -> tuple[Tensor, Tensor]:
    """Cut a frame out of a photograph at the model's size, without aliasing.

    Args:
        photo: The photograph, mode "RGB".
        frame: The part to cut out.
        background: The colour outside the photograph; "edge" lets the pixels of its edge go on. Default:
            `border_colour(photo)`.

    Returns:
        The picture `(3, H, W)` in [-1, 1], and `(1, H, W)` in [0, 1]: the share of each pixel inside the photograph.

    Raises:
        ImageError: If the photograph is not of the frame's size, or the frame is unreasonably large.
    """
    _check_photo(photo, frame)
    left, top, right, bottom = frame.box
    x0, y0, x1, y1 = _whole_box(frame)
    height, width = frame.size
    if x0 >= 0 and y0 >= 0 and x1 <= photo.width and y1 <= photo.height:
        canvas, box = photo, frame.box
    else:
        if background == "edge":
            rows, columns = _nearest(y0, y1, photo.height), _nearest(x0, x1, photo.width)
            canvas = Image.fromarray(np.asarray(photo)[np.ix_(rows, columns)])
        else:
            canvas = Image.new("RGB", (x1 - x0, y1 - y0), border_colour(photo) if background is None else background)
            canvas.paste(photo, (-x0, -y0))
        box = (left - x0, top - y0, right - x0, bottom - y0)
    picture = canvas.resize((width, height), Image.Resampling.LANCZOS, box=box)
    across = _coverage(left, right, width, photo.width)
    down = _coverage(top, bottom, height, photo.height)
    return to_tensor(picture), torch.from_numpy(np.outer(down, across)).to(torch.float32)[None]


def crop_labels(labels: NDArray[np.uint8], frame: Frame) -> NDArray[np.uint8]:
    """Cut a frame out of a segmentation: each pixel takes the class that covers most of it, and none is blended.

    Args:
        labels: `(H, W)` uint8, label classes at the photograph's size.
        frame: The part to cut out.

    Returns:
        `(H, W)` uint8 of the frame's size; background outside the photograph.

    Raises:
        ShapeError: If the labels are not of the frame's photograph's size, or not uint8.
        ImageError: If the frame is unreasonably large.
    """
    if labels.shape != tuple(frame.photo_size) or labels.dtype != np.uint8:
        raise ShapeError(
            f"expected {tuple(frame.photo_size)} uint8, got {labels.shape} {labels.dtype}", argument="labels"
        )
    x0, y0, x1, y1 = _whole_box(frame)
    height, width = labels.shape
    inside = labels[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
    across, down = (max(-x0, 0), max(x1 - max(x0, width), 0)), (max(-y0, 0), max(y1 - max(y0, height), 0))
    if not inside.size:
        return np.full(frame.size, int(Label.BACKGROUND), np.uint8)
    classes = np.pad(inside, (down, across), constant_values=int(Label.BACKGROUND))
    left, top, right, bottom = frame.box
    box, extent = (left - x0, top - y0, right - x0, bottom - y0), frame.size[::-1]
    present = np.unique(classes)
    best = np.zeros(frame.size, np.float32)
    majority = np.full(frame.size, int(Label.BACKGROUND), np.uint8)
    for label in present:
        share = _resample((classes == label), extent, box, Image.Resampling.BOX)
        majority[share > best] = label
        best = np.maximum(best, share)
    return majority


def _whole_box(frame: Frame) -> tuple[int, int, int, int]:
    """The whole pixels that a frame touches."""
    left, top, right, bottom = frame.box
    x0, y0, x1, y1 = math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)
    if (x1 - x0) * (y1 - y0) > 4 * MAX_PIXELS:
        raise ImageError(
            f"expected a part of the photograph, got a box of {x1 - x0}x{y1 - y0} pixels", argument="frame"
        )
    return x0, y0, x1, y1


def _nearest(start: int, stop: int, limit: int) -> NDArray[np.int64]:
    """The pixels of 0..limit-1 that are nearest to start..stop-1."""
    return np.clip(np.arange(start, stop), 0, limit - 1)


def _coverage(start: float, stop: float, count: int, limit: int) -> NDArray[np.float64]:
    """The share of each of `count` equal cells of [start, stop] that lies in [0, limit]."""
    edges = np.linspace(start, stop, count + 1)
    inside = np.clip(edges, 0, limit)
    shares: NDArray[np.float64] = np.diff(inside) / np.diff(edges)
    return np.clip(np.where(shares > 1 - 1e-9, 1.0, shares), 0.0, 1.0)


def paste_back(
    photo: Image.Image,
    drawing: Tensor,
    mask: Tensor,
    frame: Frame,
    *,
    feather: float = 1.0,
) -> Image.Image:
    """Blend what a model drew into the photograph that it was drawn from.

    Only what the mask covers changes: every pixel of the photograph that lies under mask 0, or outside the frame, stays
    bit for bit. The feather therefore runs inwards from the mask's edge, and from the frame's edge where that crosses
    the photograph.

    Args:
        photo: The photograph, mode "RGB".
        drawing: `(3, H, W)` in [-1, 1] of the frame's size; values outside are clamped.
        mask: `(H, W)` or `(1, H, W)` in [0, 1] of the frame's size: how much of the drawing to show.
        frame: Where in the photograph the drawing belongs.
        feather: Width of the soft edge in pixels of the drawing (the standard deviation of a blur); 0 keeps the mask's
            own edge. Parts of the mask narrower than the feather fade.

    Returns:
        A new picture of the photograph's own size.

    Raises:
        ImageError: If the photograph is not of the frame's size.
        ShapeError: If drawing or mask are not.
        RangeError: If drawing or mask hold NaN, or the feather is negative.
    """
    _check_photo(photo, frame)
    height, width = frame.size
    mask = mask[0] if mask.ndim == 3 and mask.shape[0] == 1 else mask
    for argument, tensor, shape in (("drawing", drawing, (3, height, width)), ("mask", mask, (height, width))):
        if tuple(tensor.shape) != shape:
            raise ShapeError(f"expected shape {shape} of the frame, got {tuple(tensor.shape)}", argument=argument)
        if bool(torch.isnan(tensor).any()):
            raise RangeError("expected numbers, got NaN", argument=argument)
    if not feather >= 0:
        raise RangeError(f"expected a width of 0 or more, got {feather}", argument="feather")

    result = np.array(photo.convert("RGB"))
    opacity = mask.detach().cpu().float().clamp(0, 1).numpy()
    region = _region_to_paste(opacity, frame)
    if region is None:
        return Image.fromarray(result)
    (x0, y0, x1, y1), box = region
    covered = (opacity > 0).astype(np.float32)
    support = _feathered(opacity > 0, frame, feather)
    colours = ((drawing.detach().cpu().float().clamp(-1, 1) + 1) * 127.5).numpy()

    # In strips, because a dozen planes of a large photograph would fill the memory.
    rows = max(1, _STRIP // (x1 - x0))
    for start in range(y0, y1, rows):
        stop = min(start + rows, y1)
        extent = (x1 - x0, stop - start)
        step = (box[3] - box[1]) / (y1 - y0)
        part = (box[0], box[1] + (start - y0) * step, box[2], min(box[1] + (stop - y0) * step, float(height)))
        alpha = _resample(opacity, extent, part, Image.Resampling.BILINEAR)
        if feather > 0:
            alpha = alpha * np.clip(2 * _resample(support, extent, part, Image.Resampling.BILINEAR) - 1, 0, 1)
        # Interpolation spreads the mask by half a pixel; the box filter says where it is truly zero.
        alpha = alpha * (_resample(covered, extent, part, Image.Resampling.BOX) > 0)
        changed = alpha > 0
        if not changed.any():
            continue
        strip = result[start:stop, x0:x1]
        for channel, colour in enumerate(colours):
            drawn = np.clip(_resample(colour, extent, part, Image.Resampling.LANCZOS), 0, 255)
            below = strip[..., channel]
            blended = (below + alpha * (drawn - below)).round().astype(np.uint8)
            strip[..., channel] = np.where(changed, blended, below)
    return Image.fromarray(result)


Box = tuple[float, float, float, float]

_STRIP = 1 << 18  # Pixels that are blended at a time.


def _region_to_paste(opacity: NDArray[Any], frame: Frame) -> tuple[tuple[int, int, int, int], Box] | None:
    """The whole pixels of the photograph that the mask may touch, and the same region in the drawing's pixels."""
    rows, columns = np.flatnonzero(opacity.any(axis=1)), np.flatnonzero(opacity.any(axis=0))
    if not rows.size:
        return None
    left, top, right, bottom = frame.box
    down, across = frame.scale
    slack = 1e-6  # So that a frame on whole pixels does not lose its last one to rounding.
    x0 = max(0, math.ceil(left - slack), math.floor(left + columns[0] / across))
    y0 = max(0, math.ceil(top - slack), math.floor(top + rows[0] / down))
    x1 = min(frame.photo_size[1], math.floor(right + slack), math.ceil(left + (columns[-1] + 1) / across))
    y1 = min(frame.photo_size[0], math.floor(bottom + slack), math.ceil(top + (rows[-1] + 1) / down))
    if x0 >= x1 or y0 >= y1:
        return None
    height, width = frame.size
    return (x0, y0, x1, y1), (
        min(max((x0 - left) * across, 0.0), width),
        min(max((y0 - top) * down, 0.0), height),
        min(max((x1 - left) * across, 0.0), width),
        min(max((y1 - top) * down, 0.0), height),
    )


def _feathered(support: NDArray[Any], frame: Frame, feather: float) -> NDArray[np.float32]:
    """Blur where the mask is, as if it went on beyond the photograph's edge but not beyond the frame's."""
    margin = math.ceil(3 * feather) + 1
    left, top, right, bottom = frame.box
    height, width = frame.photo_size
    padded = np.pad(support, margin, mode="edge").astype(np.float32)
    half = 0.5  # A frame that ends within half a pixel of the photograph's edge ends there.
    if left > half:
        padded[:, :margin] = 0
    if top > half:
        padded[:margin] = 0
    if right < width - half:
        padded[:, -margin:] = 0
    if bottom < height - half:
        padded[-margin:] = 0
    if feather > 0:
        # Two passes of a one-dimensional Gaussian: Pillow's own blur keeps only eight bits.
        offsets = np.arange(-margin, margin + 1)
        kernel = np.exp(-0.5 * (offsets / feather) ** 2)
        kernel /= kernel.sum()
        for axis in (0, 1):
            padded = np.apply_along_axis(np.convolve, axis, padded, kernel, mode="same")
    blurred: NDArray[np.float32] = padded[margin:-margin, margin:-margin].astype(np.float32)
    # What lies deeper inside than the blur reaches is whole in spite of rounding.
    return np.where(blurred > 1 - 1e-3, np.float32(1), blurred)


def _resample(
    values: NDArray[Any],
    extent: tuple[int, int],
    box: Box,
    method: Image.Resampling,
) -> NDArray[np.float32]:
    plane = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    return np.asarray(plane.resize(extent, method, box=box))


def _check_photo(photo: Image.Image, frame: Frame) -> None:
    if (photo.height, photo.width) != tuple(frame.photo_size):
        raise ImageError(
            f"expected the photograph of the frame, {frame.photo_size[1]}x{frame.photo_size[0]}, "
            f"got {photo.width}x{photo.height}",
            argument="photo",
        )


# ----------------------------------------------------------------------------------------------------- cutting out


def matte(picture: Image.Image, person: NDArray[np.bool_], *, band: int) -> NDArray[np.float32]:
    """Turn a rough mask of a person into soft coverage whose edge follows the picture's.

    Within a band on both sides of the mask's edge the coverage is a linear function of the colours nearby (a guided
    filter: He, Sun and Tang, PAMI 2013); beyond it the mask holds. So a jagged edge is smoothed and drawn to the true
    one where that lies within the band, and what the mask says elsewhere is never overruled.

    Args:
        picture: The picture, mode "RGB".
        person: `(H, W)` bool: where the mask sees the person.
        band: How far the mask's edge may be wrong, in pixels; at least 1.

    Returns:
        `(H, W)` float32 in [0, 1]: how much of each pixel the person covers.

    Raises:
        ShapeError: If the mask is not of the picture's size.
        RangeError: If the band is less than a pixel.
    """
    from scipy import ndimage  # Here, because it costs more to import than all else in this module.

    if person.shape != (picture.height, picture.width):
        raise ShapeError(
            f"expected {(picture.height, picture.width)} as the picture, got {person.shape}", argument="person"
        )
    if band < 1:
        raise RangeError(f"expected at least 1 pixel, got {band}", argument="band")
    if person.all() or not person.any():
        return person.astype(np.float32)
    colours = np.asarray(picture.convert("RGB"), dtype=np.float64) / 255
    # The edge of the smoothed mask has no corners of superpixels; the guide then moves it to the picture's own edge.
    smooth = np.asarray(ndimage.gaussian_filter(person.astype(np.float64), 0.5 * band, mode="nearest"))
    guided = _guided(colours, smooth, radius=2 * band)
    sharp = np.clip((guided - 0.5) * 2.2 + 0.5, 0, 1)
    depth = ndimage.distance_transform_edt(np.pad(person, 1, mode="edge"))[1:-1, 1:-1]
    height = ndimage.distance_transform_edt(np.pad(~person, 1, mode="edge"))[1:-1, 1:-1]
    # Beyond the band the mask holds; a ramp of a pixel leads there.
    least = np.clip(depth - band, 0, 1)
    most = 1 - np.clip(height - band, 0, 1)
    coverage: NDArray[np.float32] = np.clip(sharp, least, most).astype(np.float32)
    return coverage


def _guided(guide: NDArray[np.float64], values: NDArray[np.float64], radius: int) -> NDArray[np.float64]:
    """Fit values by the colours of the guide in each window, and average the fits that meet in a pixel."""
    from scipy import ndimage

    size, epsilon = 2 * radius + 1, 1e-4

    def mean(plane: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(ndimage.uniform_filter(plane, size, mode="nearest"))

    planes = [guide[..., channel] for channel in range(3)]
    centres = [mean(plane) for plane in planes]
    level = mean(values)
    cross = [mean(plane * values) - centre * level for plane, centre in zip(planes, centres, strict=True)]
    # The covariance of the colours is symmetric: six entries, solved by cofactors for all windows at once.
    (rr, rg, rb), (gg, gb), (bb,) = (
        [
            mean(planes[row] * planes[column]) - centres[row] * centres[column] + (epsilon if row == column else 0)
            for column in range(row, 3)
        ]
        for row in range(3)
    )
    first, second, third = gg * bb - gb * gb, rb * gb - rg * bb, rg * gb - rb * gg
    determinant = rr * first + rg * second + rb * third
    slopes = (
        (first * cross[0] + second * cross[1] + third * cross[2]) / determinant,
        (second * cross[0] + (rr * bb - rb * rb) * cross[1] + (rb * rg - rr * gb) * cross[2]) / determinant,
        (third * cross[0] + (rb * rg - rr * gb) * cross[1] + (rr * gg - rg * rg) * cross[2]) / determinant,
    )
    fitted = mean(level - sum(slope * centre for slope, centre in zip(slopes, centres, strict=True)))
    for slope, plane in zip(slopes, planes, strict=True):
        fitted = fitted + mean(slope) * plane
    return fitted


def cut_out(picture: Image.Image, coverage: NDArray[np.float32], background: Colour, *, band: int) -> Image.Image:
    """Lay what a matte covers on a plain colour, without a seam of the old background.

    Where a pixel is covered in part, its colour is a mixture of the person's and of the old background's; the person's
    own is taken from the nearby pixels that are covered wholly.

    Args:
        picture: The picture, mode "RGB".
        coverage: `(H, W)` in [0, 1]; see `matte`.
        background: The new colour.
        band: How far pixels that are covered in part reach, in pixels.

    Returns:
        A new picture of mode "RGB".

    Raises:
        ShapeError: If the coverage is not of the picture's size.
        RangeError: If the coverage is not in [0, 1].
    """
    from scipy import ndimage

    if coverage.shape != (picture.height, picture.width):
        raise ShapeError(
            f"expected {(picture.height, picture.width)} as the picture, got {coverage.shape}", argument="coverage"
        )
    if not (coverage.min() >= 0 and coverage.max() <= 1):
        raise RangeError(f"expected values in [0, 1], got {coverage.min()} to {coverage.max()}", argument="coverage")
    colours = np.asarray(picture.convert("RGB"), dtype=np.float32)
    inner = ndimage.minimum_filter(coverage, 3, mode="nearest") ** 4  # The outermost whole pixels are mixed as well.
    weight = ndimage.gaussian_filter(inner, 0.75 * band, mode="nearest", truncate=6)[..., None]
    near = np.stack(
        [ndimage.gaussian_filter(colours[..., c] * inner, 0.75 * band, mode="nearest", truncate=6) for c in range(3)],
        axis=-1,
    ) / np.maximum(weight, 1e-9)
    trust = np.clip(weight * 1e4, 0, 1) * (1 - inner[..., None])  # Where nothing whole is near, the colour is its own.
    own = colours + trust * (near - colours)
    share = coverage[..., None]
    mixed = own * share + np.asarray(background, dtype=np.float32) * (1 - share)
    return Image.fromarray(np.clip(mixed, 0, 255).round().astype(np.uint8))


# --------------------------------------------------------------------------------------------------------- figures

_INK, _PAPER = (45, 45, 52), (255, 255, 255)


def contact_sheet(
    images: Sequence[Image.Image | Tensor],
    columns: int,
    *,
    captions: Sequence[str] | None = None,
    scale: float | None = None,
) -> Image.Image:
    """Lay pictures out in rows on white, for figures.

    Args:
        images: PIL images, or `(3, H, W)` tensors in [-1, 1]; at least one. Row by row.
        columns: How many stand in a row.
        captions: One per picture, set below it; or, where there are several rows, one per column, set above the column.
        scale: Enlargement of the pictures. Default: so much that the tallest has at least 256 pixels.

    Returns:
        A picture of mode "RGB". Pictures of unequal size are centred in cells of equal size.

    Raises:
        ImageError: If there is no picture or an entry is none.
        ShapeError: If the number of columns or captions does not fit.
        RangeError: If the scale is not positive.
    """
    if not images:
        raise ImageError("expected at least one picture, got none", argument="images")
    if columns < 1:
        raise ShapeError(f"expected at least 1, got {columns}", argument="columns")
    rows = math.ceil(len(images) / columns)
    columns = min(columns, len(images))
    if captions is not None and len(captions) not in (len(images), columns):
        raise ShapeError(
            f"expected {len(images)}, one per picture, or {columns}, one per column, got {len(captions)}",
            argument="captions",
        )
    if scale is not None and not (math.isfinite(scale) and scale > 0):
        raise RangeError(f"expected a positive number, got {scale}", argument="scale")
    pictures = [_as_picture(image) for image in images]
    factor = scale if scale is not None else max(1.0, 256 / max(picture.height for picture in pictures))
    pictures = [_enlarged(picture, factor) for picture in pictures]

    cell_width = max(picture.width for picture in pictures)
    cell_height = max(picture.height for picture in pictures)
    gutter = max(6, round(min(cell_width, cell_height) / 24))
    texts: Sequence[str] = captions or ()
    over_columns = bool(texts) and len(texts) != len(images)
    blocks = _Captions(texts, cell_width)
    head = blocks.height + gutter // 2 if over_columns else 0
    foot = blocks.height + gutter // 2 if texts and not over_columns else 0

    width = columns * cell_width + (columns + 1) * gutter
    sheet = Image.new("RGB", (width, gutter + head + rows * (cell_height + foot + gutter)), _PAPER)
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        x = gutter + column * (cell_width + gutter)
        y = gutter + head + row * (cell_height + foot + gutter)
        sheet.paste(picture, (x + (cell_width - picture.width) // 2, y + (cell_height - picture.height) // 2))
        if foot:
            blocks.draw(sheet, index, x + cell_width / 2, y + cell_height + gutter // 2)
        elif head and row == 0:
            blocks.draw(sheet, column, x + cell_width / 2, gutter)
    return sheet


class _Captions:
    """Texts that are broken into lines no wider than a cell."""

    def __init__(self, texts: Sequence[str], width: int) -> None:
        self.size = min(28, max(12, round(width / 13)))
        self.font = ImageFont.load_default(size=self.size)
        self.lines = [self._broken(text, width) for text in texts]
        self.line_height = round(self.size * 1.3)
        self.height = self.line_height * max((len(lines) for lines in self.lines), default=0)

    def _broken(self, text: str, width: int) -> list[str]:
        lines = [""]
        for number, paragraph in enumerate(text.split("\n")):
            if number:
                lines.append("")
            for word in paragraph.split():
                longer = f"{lines[-1]} {word}".strip()
                if lines[-1] and self.font.getlength(longer) > width:
                    lines.append(word)
                else:
                    lines[-1] = longer
        return lines

    def draw(self, sheet: Image.Image, index: int, centre: float, top: float) -> None:
        pen = ImageDraw.Draw(sheet)
        for number, line in enumerate(self.lines[index]):
            place = (centre, top + (number + 0.5) * self.line_height)
            pen.text(place, line, fill=_INK, font=self.font, anchor="mm")


def _as_picture(image: Image.Image | Tensor) -> Image.Image:
    if isinstance(image, Tensor):
        return to_pil(image)
    if not isinstance(image, Image.Image):
        raise ImageError(f"expected PIL images or (3, H, W) tensors, got {type(image).__name__}", argument="images")
    if image.has_transparency_data:
        paper = Image.new("RGB", image.size, _PAPER)
        rgba = image.convert("RGBA")
        paper.paste(rgba.convert("RGB"), mask=rgba.getchannel("A"))
        return paper
    return image.convert("RGB")


def _enlarged(picture: Image.Image, factor: float) -> Image.Image:
    if factor == 1:
        return picture
    extent = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
    return picture.resize(extent, Image.Resampling.LANCZOS)
