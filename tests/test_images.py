"""Reading pictures of every kind, framing a person, cropping, pasting back, and figures."""

from __future__ import annotations

import io
import itertools
import math
import os
import stat
import tempfile
import threading
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFile

from styletryon import photo as images
from styletryon.data import paperdoll
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
from styletryon.photo import (
    Frame,
    ImageLike,
    Photograph,
    border_colour,
    contact_sheet,
    crop,
    crop_labels,
    cut_out,
    decode_image,
    frame_person,
    from_uint8,
    from_unit,
    labels_to_image,
    matte,
    paste_back,
    read_image,
    resize,
    resize_plane,
    save_image,
    to_pil,
    to_tensor,
    to_uint8,
    to_unit,
)
from styletryon.pose import Pose
from tests.benchmarks import fuzz_images

HEIGHT, WIDTH = 24, 20


def smooth(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """An (H, W, 3) uint8 picture with a different gradient per channel."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [x * 255 / (width - 1), y * 255 / (height - 1), (x + y) * 255 / (height + width - 2)]
    return np.stack(planes, axis=-1).round().astype(np.uint8)


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return buffer.getvalue()


# ---------------------------------------------------------------------------------------------------- read_image


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "GIF", "JPEG"])
@pytest.mark.parametrize("as_text", [True, False])
def test_reads_files(tmp_path: Path, kind: str, as_text: bool) -> None:
    path = tmp_path / "picture.bin"  # The contents decide, not the ending.
    path.write_bytes(encoded(Image.fromarray(smooth()), kind, **({"lossless": True} if kind == "WEBP" else {})))
    picture = read_image(str(path) if as_text else path)
    assert (picture.mode, picture.size, picture.info) == ("RGB", (WIDTH, HEIGHT), {})
    exact = kind in ("PNG", "BMP", "TIFF", "WEBP")
    error = np.abs(np.asarray(picture).astype(int) - smooth()).mean()
    assert error == 0 if exact else error < 12


def test_reads_arrays_and_tensors_alike() -> None:
    array = smooth()
    tensor = torch.from_numpy(array).permute(2, 0, 1) / 255
    for image in (
        array,
        Image.fromarray(array),
        tensor,
        tensor.double(),
        np.asfortranarray(array),
        array[:, ::-1][:, ::-1],
    ):
        assert np.array_equal(np.asarray(read_image(image)), array)
    assert np.abs(np.asarray(read_image(tensor.half())).astype(int) - array).max() <= 1
    assert np.array_equal(np.asarray(read_image(tensor.requires_grad_())), array)
    assert read_image(tensor.detach() * 1.0009).size == (WIDTH, HEIGHT)  # What rounding leaves is no fault.


def test_the_result_is_a_copy() -> None:
    array = smooth()
    read = read_image(array)
    array[:] = 0
    assert np.asarray(read).any()
    original = Image.fromarray(smooth())
    read_image(original).putpixel((0, 0), (9, 9, 9))
    assert original.getpixel((0, 0)) == (0, 0, 0)


def test_the_bytes_of_a_file_are_read_as_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(path)
    assert decode_image(path.read_bytes()).tobytes() == read_image(path).tobytes()
    with pytest.raises(ImageError, match="mine: the file is not a picture that Pillow can read"):
        decode_image(b"text", name="mine")
    with pytest.raises(ImageError, match="mine: the file is damaged or incomplete"):
        decode_image(path.read_bytes()[:-300], name="mine")


def test_reading_twice_changes_nothing() -> None:
    once = read_image(Image.fromarray(smooth()))
    assert np.array_equal(np.asarray(read_image(once)), np.asarray(once))


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"]
)
def test_reads_every_mode(mode: str) -> None:
    base = Image.fromarray(smooth())
    steps = {"La": ["LA", "La"], "PA": ["P", "PA"], "RGBa": ["RGBA", "RGBa"]}.get(mode, [mode])
    picture = base
    for step in steps:
        picture = picture.convert(step)
    assert picture.mode == mode
    read = np.asarray(read_image(picture)).astype(int)
    wanted = np.asarray(base.convert("L" if mode in ("1", "L", "LA", "La") else "RGB").convert("RGB")).astype(int)
    assert read.shape == (HEIGHT, WIDTH, 3)
    if mode not in ("1", "P", "PA"):
        assert np.abs(read - wanted).max() <= 12


def test_lab_becomes_srgb() -> None:
    base = Image.fromarray(smooth())
    lab = ImageCms.profileToProfile(
        base, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab.mode == "LAB"
    assert np.abs(np.asarray(read_image(lab)).astype(int) - smooth()).mean() < 4


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    array = np.dstack([smooth(), np.zeros((HEIGHT, WIDTH), np.uint8)])
    array[:, :10, 3] = 255
    read = np.asarray(read_image(Image.fromarray(array)))
    assert (read[:, 10:] == 255).all()
    assert np.array_equal(read[:, :10], smooth()[:, :10])
    array[..., 3] = 128
    half = np.asarray(read_image(Image.fromarray(array))).astype(int)
    assert np.abs(half - (smooth() * 128.0 + 255 * 127) / 255).max() <= 1

    palette = Image.new("P", (WIDTH, HEIGHT), 1)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.paste(0, (0, 0, 10, HEIGHT))
    path = tmp_path / "p.png"
    for transparency in (0, bytes([0, 255])):
        palette.save(path, transparency=transparency)
        read = np.asarray(read_image(path))
        assert tuple(read[0, 0]) == (255, 255, 255)
        assert tuple(read[0, -1]) == (0, 0, 255)
    grey = Image.new("L", (WIDTH, HEIGHT), 7)
    grey.save(path, transparency=7)
    assert (np.asarray(read_image(path)) == 255).all()


def test_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    wanted = (values / 257).round()
    for name in ("deep.png", "deep.tif"):
        Image.fromarray(values.astype(np.uint16)).save(tmp_path / name)
        read = np.asarray(read_image(tmp_path / name))
        assert np.abs(read[..., 0] - wanted).max() <= 1
        assert read.min() == 0
        assert read.max() == 255
    big = Image.frombytes("I;16B", (WIDTH, HEIGHT), values.astype(">u2").tobytes())
    wide = Image.fromarray(values.astype(np.int32))
    shallow = Image.fromarray(wanted.astype(np.int32))
    assert (big.mode, wide.mode) == ("I;16B", "I")
    for picture in (big, wide, shallow):
        assert np.abs(np.asarray(read_image(picture))[..., 1] - wanted).max() <= 1
    for values_out in (-1, 65536):
        with pytest.raises(ImageError, match=r"expected grey values in 0\.\.65535"):
            read_image(Image.fromarray(np.full((HEIGHT, WIDTH), values_out, np.int32)))


def test_floating_grey(tmp_path: Path) -> None:
    unit = np.linspace(0, 1, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
    wanted = (unit * 255).round()
    for values in (unit, unit * 255):
        assert np.abs(np.asarray(read_image(Image.fromarray(values)))[..., 2] - wanted).max() <= 1
    for wrong, said in ((unit - 0.5, "expected grey values"), (unit * 300, "expected grey"), (unit * np.nan, "NaN")):
        with pytest.raises(ImageError, match=said):
            read_image(Image.fromarray(wrong))


def exif(orientation: int) -> bytes:
    data = Image.Exif()
    data[0x0112] = orientation
    return data.tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_exif_orientation(tmp_path: Path, orientation: int, kind: str) -> None:
    upright = smooth()
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation](upright)
    path = tmp_path / "turned"
    options = {"lossless": True} if kind == "WEBP" else {}
    Image.fromarray(np.ascontiguousarray(stored)).save(path, format=kind, exif=exif(orientation), **options)
    assert np.array_equal(np.asarray(read_image(path)), upright)
    with Image.open(path) as opened:
        read = read_image(opened)
    assert np.array_equal(np.asarray(read), upright)
    assert np.array_equal(np.asarray(read_image(read)), upright)  # It is not turned a second time.


def test_broken_exif_does_not_spoil_a_picture() -> None:
    for junk in (b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"junk" * 9):
        picture = Image.fromarray(smooth())
        picture.info["exif"] = junk
        assert np.array_equal(np.asarray(read_image(picture)), smooth())


def test_colour_profiles() -> None:
    """Channels swapped by a profile come back; a broken or foreign profile is ignored."""
    picture = Image.fromarray(smooth())
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    picture.info["icc_profile"] = srgb.tobytes()
    assert np.array_equal(np.asarray(read_image(picture)), smooth())  # sRGB itself stays bit for bit.

    swapped = bytearray(srgb.tobytes())
    count = int.from_bytes(swapped[128:132], "big")
    entries = {bytes(swapped[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, blue = entries[b"rXYZ"], entries[b"bXYZ"]
    swapped[red : red + 4], swapped[blue : blue + 4] = b"bXYZ", b"rXYZ"
    name = bytes(swapped).replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be")).replace(b"sRGB", b"swap")
    picture.info["icc_profile"] = name
    read = np.asarray(read_image(picture)).astype(int)
    assert np.abs(read - smooth()[..., ::-1]).mean() < 3

    with_alpha = picture.convert("RGBA")
    with_alpha.info["icc_profile"] = name
    assert np.abs(np.asarray(read_image(with_alpha)).astype(int) - read).max() <= 1

    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for bad in (b"", b"junk", bytes(swapped[:200]), lab, "text"):
        picture.info["icc_profile"] = bad
        assert np.array_equal(np.asarray(read_image(picture)), smooth())
    grey = picture.convert("L")
    grey.info["icc_profile"] = name  # A profile for RGB says nothing of grey.
    assert np.array_equal(np.asarray(read_image(grey))[..., 0], np.asarray(picture.convert("L")))


def test_first_picture_of_an_animation(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (20, 20), (255, 0, 0)), Image.new("RGB", (20, 20), (0, 0, 255))
    for name in ("a.gif", "a.png", "a.tif"):
        first.save(tmp_path / name, save_all=True, append_images=[second])
        assert read_image(tmp_path / name).getpixel((3, 3)) == (255, 0, 0)


# ------------------------------------------------------------------------------------------------ read_image: errors


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ImageNotFoundError, match=r"^person: no such file: .*check the path") as caught:
        read_image(tmp_path / "missing.jpg", name="person")
    assert isinstance(caught.value, FileNotFoundError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/picture.jpg",
        "HTTP://example.org/a.png?b=c",
        "s3://bucket/a.png",
        "file:///home/me/a.png",
        Path("https://example.org/picture.jpg"),  # as the command line hands it on: with one slash
        "data:image/png;base64," + "A" * 9000,  # longer than a path may be
    ],
)
def test_an_url_is_refused_and_nothing_is_fetched(url: str | Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("something was fetched"))
    with pytest.raises(ImageNotFoundError, match=r"^me: .*got the URL .*nothing is fetched.*download the picture"):
        read_image(url, name="me")


@pytest.mark.skipif(os.name != "posix", reason="Windows knows no such names")
def test_a_file_whose_name_looks_like_an_url_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a:").mkdir()
    (tmp_path / "data:x").mkdir()
    for name in ("a:/b.png", "data:x/b.png"):
        Image.fromarray(smooth()).save(tmp_path / name)
        assert np.array_equal(read_image(name), smooth())


def test_paths_that_are_no_pictures(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"^garment: .*got the folder"):
        read_image(tmp_path, name="garment")
    with pytest.raises(ImageError, match="got the folder"):
        read_image("")
    text = tmp_path / "notes.txt"
    text.write_text("no picture")
    with pytest.raises(ImageError, match="is not a picture that Pillow can read"):
        read_image(text)
    text.write_bytes(b"")
    with pytest.raises(ImageError, match="is not a picture"):
        read_image(text)
    for name in ("nul\0byte", "long" * 2000):
        with pytest.raises(ImageError):
            read_image(name)
    with pytest.raises(ImageError, match="expected a path as text"):
        read_image(BytesPath())


class BytesPath:
    """A path of bytes, which `os.fspath` allows."""

    def __fspath__(self) -> bytes:
        return b"picture.png"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageError, match="no regular file"):
        read_image(tmp_path / "pipe")


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.png"
    Image.fromarray(smooth()).save(path)

    def refuse(*_: object, **__: object) -> None:  # a mode of 0 would not stop root
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("styletryon.photo.reading.Image.open", refuse)
    with pytest.raises(ImageError, match="may not be read"):
        read_image(path)


def test_postscript_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "picture.eps"
    Image.fromarray(smooth()).save(path)
    with pytest.raises(ImageError, match="is not a picture"):
        read_image(path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_truncated_files(tmp_path: Path, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    path = tmp_path / "cut"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match=r"^image: .*(damaged or incomplete|not a picture)"):
        read_image(path)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_a_closed_picture(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(smooth()).save(path)
    opened = Image.open(path)
    opened.close()
    with pytest.raises(ImageError, match="already closed"):
        read_image(opened)


@pytest.mark.parametrize(
    ("size", "said"),
    [((15, 40), "too small"), ((40, 1), "too small"), ((200, 24), "8 to 1"), ((24, 200), "8 to 1")],
)
def test_odd_sizes(size: tuple[int, int], said: str) -> None:
    picture = Image.new("RGB", size)
    array = np.asarray(picture)
    for image in (picture, array, torch.from_numpy(array.copy()).permute(2, 0, 1) / 255):
        with pytest.raises(ImageError, match=f"^me: .*{said}"):
            read_image(image, name="me")
    assert read_image(Image.new("RGB", (128, 16))).size == (128, 16)


def test_empty_pictures() -> None:
    with pytest.raises(ImageError, match="too small"):
        read_image(np.zeros((0, 20, 3), np.uint8))
    with pytest.raises(ImageError, match="too small"):
        read_image(torch.zeros(3, 20, 0))
    with pytest.raises(ImageError, match="too small"):
        read_image(Image.new("RGB", (0, 0)))


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header promises a size and whose body is empty."""
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9_700, 10_001, 30_000, 2**31 - 1])
def test_decompression_bombs_are_refused_before_decoding(tmp_path: Path, side: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_of_size(side, side))
    said = "damaged or incomplete" if side < 10_000 else "too large"  # The smallest is allowed, but its body is not.
    with pytest.raises(ImageError, match=said):
        read_image(path)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((20, 20)), "stack a grey picture thrice"),
        (np.zeros((20, 20, 1), np.uint8), "np.repeat"),
        (np.zeros((20, 20, 4), np.uint8), "transparency"),
        (np.zeros((3, 20, 20), np.uint8), r"transpose\(1, 2, 0\)"),
        (np.zeros((2, 20, 20, 3), np.uint8), r"one picture at a time: image\[0\]"),
        (np.zeros((20, 20, 3), np.int64), r"astype\(np.uint8\)"),
        (np.zeros((20, 20, 3), object), "uint8"),
        (np.zeros((20, 20, 5), np.uint8), "three channels"),
        (np.zeros(20, np.uint8), "one picture"),
    ],
)
def test_wrong_arrays(array: np.ndarray, said: str) -> None:
    kinds = r"an \(H, W, 3\) array of uint8 or of floats in \[0, 1\]"
    with pytest.raises(ImageError, match=rf"^image: expected {kinds}, got .*{said}"):
        read_image(array)


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (torch.zeros(20, 20), "expand"),
        (torch.zeros(1, 20, 20), "expand"),
        (torch.zeros(4, 20, 20), "transparency"),
        (torch.zeros(20, 20, 3), r"permute\(2, 0, 1\)"),
        (torch.zeros(2, 3, 20, 20), r"image\[0\]"),
        (torch.zeros(5, 20, 20), "three channels"),
        (torch.zeros(3), "one picture"),
        (torch.zeros(3, 20, 20, dtype=torch.int64), r"image.to\(torch.uint8\)"),
    ],
)
def test_wrong_tensors(tensor: torch.Tensor, said: str) -> None:
    kinds = r"a \(3, H, W\) tensor of floats in \[0, 1\] or of uint8"
    with pytest.raises(ImageError, match=rf"^image: expected {kinds}, got .*{said}"):
        read_image(tensor)


def test_wrong_values() -> None:
    for value in (-1.0, 1.01, 255.0):
        with pytest.raises(ImageError, match=r"did you pass 0..255 or \[-1, 1\]"):
            read_image(torch.full((3, 20, 20), value))
        with pytest.raises(ImageError, match=r"did you pass 0..255 or \[-1, 1\]"):
            read_image(np.full((20, 20, 3), value))
    for value in (float("nan"), float("inf")):
        with pytest.raises(ImageError, match="NaN or infinity"):
            read_image(torch.full((3, 20, 20), value))


def png_file() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(smooth()).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, io.BytesIO])
def test_the_bytes_of_a_picture_are_read(kind: Callable[[bytes], ImageLike]) -> None:
    assert np.array_equal(read_image(kind(png_file())), smooth())


def test_open_files_are_read_from_their_start_and_left_open(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_file())
    written = io.BytesIO()
    written.write(png_file())  # stands at its end
    with (
        open(tmp_path / "a.png", "rb") as buffered,
        open(tmp_path / "a.png", "rb", buffering=0) as raw,
        tempfile.SpooledTemporaryFile() as spooled,
    ):
        spooled.write(png_file())
        for stream in (written, buffered, raw, spooled):
            for _ in range(2):
                assert np.array_equal(read_image(stream), smooth())
            assert not stream.closed


def test_a_stream_that_cannot_be_rewound_is_read() -> None:
    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.left = png_file()

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
            part, self.left = self.left[: len(buffer)], self.left[len(buffer) :]
            buffer[: len(part)] = part
            return len(part)

    assert np.array_equal(read_image(Pipe()), smooth())


def test_files_that_give_no_picture(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_file())
    with open(tmp_path / "a.png", encoding="latin-1") as text, pytest.raises(ImageError, match=r"open.*'rb'"):
        read_image(text)  # type: ignore[arg-type]
    closed = io.BytesIO(png_file())
    closed.close()
    with pytest.raises(ImageError, match=r"cannot be read .*closed"):
        read_image(closed)
    for nothing in (b"bytes", io.BytesIO(), io.BytesIO(png_file()[:60])):
        with pytest.raises(ImageError, match=r"^image: what the .*(not a picture|damaged)"):
            read_image(nothing)


@given(
    kind=st.sampled_from([np.float16, np.float32, np.float64]),
    order=st.sampled_from("CF"),
    batched=st.booleans(),
)
def test_float_arrays_are_read_as_the_bytes_they_stand_for(kind: type, order: str, batched: bool) -> None:
    array = np.array(smooth() / 255, dtype=kind, order=order)  # type: ignore[call-overload]
    assert np.array_equal(read_image(array[None] if batched else array), smooth())


@pytest.mark.parametrize("batched", [True, False])
def test_tensors_of_one_picture_and_of_bytes_are_read(batched: bool) -> None:
    pixels = torch.from_numpy(smooth()).permute(2, 0, 1)
    for tensor in (pixels, pixels / 255, (pixels / 255).double(), (pixels / 255).requires_grad_()):
        assert np.array_equal(read_image(tensor[None] if batched else tensor), smooth())


def test_long_pictures_are_read_where_something_else_says_what_is_meant() -> None:
    with pytest.raises(ImageError, match="by a box"):
        read_image(np.zeros((200, 20, 3), np.uint8))
    assert read_image(np.zeros((200, 20, 3), np.uint8), max_aspect=math.inf).size == (20, 200)


@pytest.mark.parametrize("thing", [None, 3, [smooth()]])
def test_things_that_are_no_pictures(thing: object) -> None:
    with pytest.raises(ImageError, match=f"^image: expected a path, .* got {type(thing).__name__}$"):
        read_image(thing)


# -------------------------------------------------------------------------------------------------- damaged files


def _seeds() -> list[bytes]:
    noisy = smooth(40, 36).astype(int) + np.random.default_rng(1).integers(-9, 10, (40, 36, 3))
    picture = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    grey, alpha = picture.convert("L"), picture.convert("RGBA")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return [
        encoded(picture, "JPEG", exif=exif(6), icc_profile=profile),
        encoded(picture, "JPEG", progressive=True),
        encoded(picture.convert("CMYK"), "JPEG"),
        encoded(picture, "PNG", exif=exif(8), icc_profile=profile),
        encoded(picture.quantize(16), "PNG", transparency=bytes([0, 9, 255])),
        encoded(grey, "PNG", transparency=3),
        encoded(alpha, "WEBP", exif=exif(3)),
        encoded(picture, "WEBP", lossless=True),
        encoded(picture.quantize(16), "GIF", save_all=True, append_images=[grey], transparency=2),
        encoded(picture, "TIFF", exif=exif(5)),
        encoded(picture, "TIFF", compression="tiff_lzw"),
        encoded(picture, "TIFF", compression="jpeg"),
        encoded(picture, "BMP"),
        encoded(picture.quantize(16), "BMP"),
    ]


SEEDS = _seeds()


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, len(SEEDS) - 1),
    cut=st.one_of(st.just(1.0), st.floats(0, 1)),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), max_size=12),
    early=st.booleans(),
)
def test_damaged_files_give_a_picture_or_an_image_error(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    cut: float,
    flips: list[tuple[float, int]],
    early: bool,
) -> None:
    data = bytearray(SEEDS[seed][: round(cut * len(SEEDS[seed]))])
    for place, bit in flips:
        if data:  # Half of the damage falls on the first bytes, where the headers are.
            data[int(place * (min(len(data), 120) if early else len(data)))] ^= 1 << bit
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(data)
    with warnings.catch_warnings(record=True) as heard:
        warnings.resetwarnings()
        try:
            outcome = read_image(path).mode
        except ImageError as error:
            outcome = str(error)
    assert outcome == "RGB" or outcome.startswith("image: ")
    assert not heard


def test_fuzzed_files_of_every_format(tmp_path: Path) -> None:
    outcomes, growth = fuzz_images.fuzz(tmp_path, 210, seed=1)
    assert sum(outcomes.values()) == 210
    assert outcomes["renamed: a picture"] > 15  # The damage is not so bad that nothing is read.
    assert outcomes["bomb: ImageError"] > 15
    assert growth < 1000  # MiB: the largest picture that is let through takes 300


def test_warnings_of_decoders_are_held_back_and_filters_stay(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(png_of_size(9_700, 9_700))  # Pillow warns of a possible bomb at this size.
    before = list(warnings.filters)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match="damaged"):
            read_image(path)
    assert warnings.filters == before


def test_reading_in_threads_leaves_the_filters(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(smooth(200, 200)).save(path)
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [read_image(path) for _ in range(10)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before


# --------------------------------------------------------------------------------- range, layout, dtype, saving


def test_to_tensor_and_back_is_exact() -> None:
    every = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture = Image.fromarray(np.dstack([every, every[::-1], every.T]))
    tensor = to_tensor(picture)
    assert (tensor.shape, tensor.dtype) == ((3, 16, 16), torch.float32)
    assert (tensor.min().item(), tensor.max().item()) == (-1.0, 1.0)
    assert tensor[0, 0, 1].item() == pytest.approx(1 / 127.5 - 1)
    assert np.array_equal(np.asarray(to_pil(tensor)), np.asarray(picture))
    assert torch.equal(from_uint8(to_uint8(tensor)), tensor)
    assert to_tensor(picture.convert("L")).shape == (3, 16, 16)


def test_units() -> None:
    values = torch.tensor([-3.0, -1.0, 0.0, 1.0, 2.0], requires_grad=True)
    assert to_unit(values).tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert from_unit(torch.tensor([0.0, 0.5, 1.0])).tolist() == [-1.0, 0.0, 1.0]
    assert to_uint8(values).tolist() == [0, 0, 128, 255, 255]
    assert to_unit(values).requires_grad


def test_to_pil_clamps_and_refuses() -> None:
    assert to_pil(torch.full((1, 3, 4, 5), 7.0)).getpixel((0, 0)) == (255, 255, 255)
    assert to_pil(torch.zeros(3, 4, 5, dtype=torch.bfloat16)).size == (5, 4)
    for shape in ((2, 3, 4, 4), (4, 4), (1, 4, 4)):
        with pytest.raises(ShapeError, match="pixels: expected shape"):
            to_pil(torch.zeros(shape))
    with pytest.raises(RangeError, match="NaN"):
        to_pil(torch.full((3, 4, 4), float("nan")))


def test_labels_to_image() -> None:
    labels = torch.arange(12, dtype=torch.uint8).reshape(3, 4)
    picture = labels_to_image(labels)
    assert picture.getpixel((1, 1)) == PALETTE[5]
    assert (
        labels_to_image(labels.numpy().astype(np.int64), [(c, c, c) for c in range(12)]).getpixel((3, 2)) == (11,) * 3
    )
    with pytest.raises(RangeError, match=r"expected classes 0..11"):
        labels_to_image(labels + 1)
    for wrong in (labels[None], labels.float()):
        with pytest.raises(ShapeError, match=r"labels: expected \(H, W\) integers"):
            labels_to_image(wrong)


@pytest.mark.parametrize("name", ["a.png", "new/folder/a.PNG", "a.jpg", "a.webp", "a.bmp", "a.tiff"])
def test_save_image(tmp_path: Path, name: str) -> None:
    picture = Image.fromarray(smooth())
    save_image(picture, tmp_path / name)
    save_image(picture, str(tmp_path / name))
    assert np.abs(np.asarray(read_image(tmp_path / name)).astype(int) - smooth()).mean() < 3
    assert [path.name for path in (tmp_path / name).parent.iterdir()] == [Path(name).name]
    if os.name == "posix":
        plain = tmp_path / "plain"
        plain.touch()
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_save_image_with_transparency_as_jpeg(tmp_path: Path) -> None:
    save_image(Image.new("RGBA", (20, 20), (1, 2, 3, 255)), tmp_path / "a.jpeg")
    assert read_image(tmp_path / "a.jpeg").size == (20, 20)


def test_a_failed_save_leaves_what_stood_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"precious")

    def half(self: Path, _: bytes) -> int:
        with open(self, "wb") as file:
            file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(SaveError, match="disk full"):
        save_image(Image.fromarray(smooth()), path)
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def test_save_errors(tmp_path: Path) -> None:
    picture = Image.fromarray(smooth())
    for name in ("a", "a.xyz", "a.txt", "a.gif", "a.eps"):  # A GIF has 256 colours.
        with pytest.raises(SaveError, match=r"ends in \.png, \.jpg, .* or \.tiff, got"):
            save_image(picture, tmp_path / name)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(SaveError, match="got the folder"):
        save_image(picture, tmp_path / "folder.png")
    (tmp_path / "file").touch()
    with pytest.raises(SaveError, match="cannot write") as caught:
        save_image(picture, tmp_path / "file" / "a.png")
    assert isinstance(caught.value, OSError)


@pytest.mark.parametrize(("format", "kind"), [(None, "PNG"), ("jpg", "JPEG"), ("WEBP", "WEBP"), ("tiff", "TIFF")])
def test_pictures_are_saved_to_open_files(tmp_path: Path, format: str | None, kind: str) -> None:
    stream = io.BytesIO(b"before ")
    stream.seek(0, os.SEEK_END)
    save_image(Image.fromarray(smooth()), stream, format=format)
    assert not stream.closed
    assert stream.getvalue().startswith(b"before ")
    with Image.open(io.BytesIO(stream.getvalue()[7:])) as written:
        assert written.format == kind
    save_image(Image.fromarray(smooth()), tmp_path / "named.any", format=format or "png")
    with Image.open(tmp_path / "named.any") as written:
        assert written.format == kind


def test_open_files_that_cannot_be_written(tmp_path: Path) -> None:
    picture = Image.fromarray(smooth())
    with open(tmp_path / "text", "w") as text, pytest.raises(SaveError, match="'wb'"):
        save_image(picture, text)  # type: ignore[arg-type]
    closed = io.BytesIO()
    closed.close()
    with pytest.raises(SaveError, match="closed"):
        save_image(picture, closed)
    with pytest.raises(SaveError, match=r"^path: expected a path or a file .*, got int$"):
        save_image(picture, 3)  # type: ignore[arg-type]
    with pytest.raises(SaveError, match=r"^format: expected png, .*, got 'gif'"):
        save_image(picture, io.BytesIO(), format="gif")
    with pytest.raises(SaveError, match="70000x16"):  # JPEG's largest side is 65535
        save_image(Image.new("RGB", (70_000, 16)), tmp_path / "a.jpg")
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


# ---------------------------------------------------------------------------------------------------------- framing

STANDING = {
    "nose": (100, 62), "left_eye": (105, 56), "right_eye": (95, 56), "left_ear": (112, 58), "right_ear": (88, 58),
    "left_shoulder": (128, 92), "right_shoulder": (72, 92), "left_elbow": (136, 140), "right_elbow": (64, 140),
    "left_wrist": (138, 180), "right_wrist": (62, 180), "left_hip": (116, 182), "right_hip": (84, 182),
    "left_knee": (116, 258), "right_knee": (84, 258), "left_ankle": (116, 330), "right_ankle": (84, 330),
}  # fmt: skip
PHOTO = (400, 300)
MODEL = (256, 192)


def standing(*missing: str, scale: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)) -> Pose:
    rows = [
        [x * scale + shift[0], y * scale + shift[1], 0.2 if any(part in name for part in missing) else 0.9]
        for name, (x, y) in STANDING.items()
    ]
    return Pose(torch.tensor(rows), PHOTO)


def overlap(first: Frame, second: Frame) -> float:
    """Intersection over union of two boxes."""
    a, b = first.box, second.box
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / (sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)) - shared)


def test_frame_shows_head_to_knee() -> None:
    frame = frame_person(standing(), PHOTO, MODEL)
    left, top, right, bottom = frame.box
    assert (right - left) / (bottom - top) == pytest.approx(192 / 256)
    assert (left + right) / 2 == pytest.approx(100)
    keypoints = frame.to_model(standing()).keypoints[0]
    assert keypoints[13, 1].item() / 256 == pytest.approx(0.935, abs=0.01)
    assert 0.13 < keypoints[1, 1].item() / 256 < 0.17  # Eyes: the top of the head is a tenth of the body higher.


@pytest.mark.parametrize("size", [(64, 48), (64, 32)])
def test_frame_agrees_with_the_training_data(size: tuple[int, int]) -> None:
    """A rendered picture's own keypoints frame nearly the whole picture; its zoom varies by 5 per cent."""
    whole = Frame((0.0, 0.0, size[1], size[0]), size, size)
    frames = []
    for seed in range(30):
        keypoints = paperdoll.render(paperdoll.sample_figure(seed), size, supersample=1).keypoints
        frames.append(frame_person(Pose(keypoints, size), size, size))
    assert np.mean([overlap(frame, whole) for frame in frames]) > 0.9
    middle = np.mean([frame.box for frame in frames], axis=0)
    assert np.abs(middle - whole.box).max() < 0.02 * size[0]


def test_frame_moves_and_grows_with_the_person() -> None:
    frame = frame_person(standing(), PHOTO, MODEL)
    moved = frame_person(standing(scale=0.5, shift=(40.0, -30.0)), PHOTO, MODEL)
    wanted = [edge * 0.5 + shift for edge, shift in zip(frame.box, (40, -30, 40, -30), strict=True)]
    assert moved.box == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize(
    ("missing", "least"),
    [
        (("knee", "ankle"), 0.9),
        (("hip", "knee", "ankle"), 0.75),
        (("nose", "eye", "ear"), 0.9),
        (("eye",), 0.95),
        (("eye", "ear"), 0.95),
        (("eye", "nose"), 0.95),
        (("shoulder",), 0.9),
        (("left",), 0.85),
        (("elbow", "wrist"), 0.95),
        (("left_elbow", "left_wrist"), 0.9),
        (("knee", "nose", "eye", "ear"), 0.85),
        (("hip", "knee", "nose", "eye", "ear"), 0.6),
        (("shoulder", "knee", "nose", "eye", "ear"), 0.6),
        (("knee", "hip", "left_shoulder"), 0.75),
    ],
)
def test_frame_falls_back_when_keypoints_are_missing(missing: tuple[str, ...], least: float) -> None:
    whole = frame_person(standing(), PHOTO, MODEL)
    assert overlap(frame_person(standing(*missing), PHOTO, MODEL), whole) > least


def test_frame_of_a_sitting_person() -> None:
    whole = frame_person(standing(), PHOTO, MODEL)
    points = standing().keypoints.clone()
    points[0, 13:15, 1] = 190.0
    assert overlap(frame_person(Pose(points, PHOTO), PHOTO, MODEL), whole) > 0.9


@pytest.mark.parametrize("size", [(256, 192), (512, 512), (256, 128)])
def test_frame_has_the_format_of_the_model(size: tuple[int, int]) -> None:
    frame = frame_person(standing(), PHOTO, size)
    left, top, right, bottom = frame.box
    assert (right - left) / (bottom - top) == pytest.approx(size[1] / size[0])
    assert right - left > 138 - 62  # The arms are in it.
    eyes, knees = frame.to_model(standing()).keypoints[0, 1, 1], frame.to_model(standing()).keypoints[0, 13, 1]
    assert 0 < eyes < knees < size[0]


def test_too_little_of_a_person() -> None:
    for missing in (("shoulder", "hip"), ("",), ("hip", "knee", "nose", "eye", "ear", "left_shoulder")):
        with pytest.raises(PersonNotFoundError, match=r"^pose: expected"):
            frame_person(standing(*missing), PHOTO, MODEL)


def test_people_who_are_not_upright() -> None:
    upright = standing().keypoints
    turned = upright.clone()
    turned[..., 0], turned[..., 1] = upright[..., 1], 250 - upright[..., 0]
    head_down = upright.clone()
    head_down[..., 1] = 390 - upright[..., 1]
    for points in (turned, head_down):
        with pytest.raises(PersonNotFoundError, match="turn the photograph upright"):
            frame_person(Pose(points, PHOTO), PHOTO, MODEL)


def test_frame_person_refuses_foreign_poses() -> None:
    with pytest.raises(PoseError, match="expected one person, got 2"):
        frame_person(Pose(standing().keypoints.repeat(2, 1, 1), PHOTO), PHOTO, MODEL)
    with pytest.raises(PoseError, match="expected keypoints in a picture of 100x100"):
        frame_person(standing(), (100, 100), MODEL)


def test_frame_takes_poses_there_and_back() -> None:
    frame = Frame((10.0, -20.0, 106.0, 108.0), PHOTO, MODEL)
    pose = standing()
    there = frame.to_model(pose)
    assert there.size == MODEL
    assert there.keypoints[0, 0].tolist() == pytest.approx([180.0, 164.0, 0.9])
    back = frame.to_photo(there)
    assert back.size == PHOTO
    assert torch.allclose(back.keypoints[..., :2], pose.keypoints[..., :2], atol=1e-4)
    x, y = pose.keypoints[0, :, 0], pose.keypoints[0, :, 1]
    inside = (x >= 10) & (x <= 106) & (y >= -20) & (y <= 108)
    assert 0 < inside.sum() < 17
    assert torch.equal(there.keypoints[0, :, 2], torch.where(inside, pose.keypoints[0, :, 2], 0.0))
    for wrong in (frame.to_photo, lambda _: frame.to_model(there)):
        with pytest.raises(PoseError, match="pose: expected keypoints in a picture of"):
            wrong(pose)


@pytest.mark.parametrize("box", [(0, 0, 0, 4), (4, 0, 0, 4), (0, 5, 4, 4), (0, 0, float("nan"), 4)])
def test_impossible_frames(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(RangeError, match="box: expected left < right"):
        Frame(box, PHOTO, MODEL)


# ------------------------------------------------------------------------------------------------------------- crop


def test_crop_of_the_whole_photo_is_the_photo() -> None:
    photo = Image.fromarray(smooth())
    picture, inside = crop(photo, Frame((0, 0, WIDTH, HEIGHT), (HEIGHT, WIDTH), (HEIGHT, WIDTH)))
    assert torch.equal(picture, to_tensor(photo))
    assert inside.shape == (1, HEIGHT, WIDTH)
    assert bool((inside == 1).all())


def test_crop_puts_pixels_where_the_frame_says() -> None:
    photo = Image.fromarray(smooth(60, 80))
    picture, _ = crop(photo, Frame((10, 20, 40, 50), (60, 80), (30, 30)))
    assert torch.equal(picture, to_tensor(photo)[:, 20:50, 10:40])
    enlarged, _ = crop(photo, Frame((10.5, 20.25, 40.5, 50.25), (60, 80), (60, 60)))
    x = 10.5 + (np.arange(60) + 0.5) / 2 - 0.5
    wanted = np.interp(x, np.arange(80), smooth(60, 80)[0, :, 0] / 127.5 - 1)
    assert np.abs(enlarged[0, 30].numpy() - wanted).max() < 0.03


def test_crop_does_not_alias() -> None:
    stripes = np.zeros((128, 128, 3), np.uint8)
    stripes[:, ::2] = 255
    picture, _ = crop(Image.fromarray(stripes), Frame((0, 0, 128, 128), (128, 128), (16, 16)))
    assert picture[:, :, 2:-2].abs().max().item() < 0.1


def test_crop_pads_outside() -> None:
    array = np.full((40, 40, 3), 200, np.uint8)
    array[10:30, 10:30] = 10
    photo = Image.fromarray(array)
    assert border_colour(photo) == (200, 200, 200)
    frame = Frame((-20, -10, 60, 50), (40, 40), (30, 40))
    picture, inside = crop(photo, frame, background=(255, 0, 0))
    wanted = torch.zeros(30, 40)
    wanted[5:25, 10:30] = 1
    assert torch.equal(inside[0], wanted)
    assert to_pil(picture).getpixel((2, 2)) == (255, 0, 0)
    assert to_pil(picture).getpixel((20, 15)) == (10, 10, 10)
    default, _ = crop(photo, frame)
    assert to_pil(default).getpixel((2, 2)) == (200, 200, 200)
    _, far = crop(photo, Frame((100, 100, 140, 140), (40, 40), (16, 16)))
    assert not far.any()
    _, partly = crop(photo, Frame((-1, 0, 3, 4), (40, 40), (2, 2)))
    assert partly[0].tolist() == [[0.5, 1.0], [0.5, 1.0]]


def test_crop_lets_the_edge_go_on() -> None:
    photo = Image.fromarray(np.random.default_rng(3).integers(0, 256, (20, 24, 3), dtype=np.uint8))
    frame = Frame((-8.0, -6.0, 32.0, 34.0), (20, 24), (40, 40))
    shown = np.asarray(to_pil(crop(photo, frame, background="edge")[0]))
    expected = np.pad(np.asarray(photo), ((6, 14), (8, 8), (0, 0)), mode="edge")
    np.testing.assert_array_equal(shown, expected)
    beside = Frame((30.0, 0.0, 40.0, 20.0), (20, 24), (20, 10))
    shown = np.asarray(to_pil(crop(photo, beside, background="edge")[0]))
    np.testing.assert_array_equal(shown, np.repeat(np.asarray(photo)[:, -1:], 10, axis=1))


@settings(max_examples=40, deadline=None)
@given(
    left=st.integers(-12, 20), top=st.integers(-12, 20), columns=st.integers(1, 6), rows=st.integers(1, 6),
    step=st.integers(1, 5), seed=st.integers(0, 10**6),
)  # fmt: skip
def test_labels_are_cropped_by_majority(left: int, top: int, columns: int, rows: int, step: int, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 4, (16, 18)).astype(np.uint8)
    box = (float(left), float(top), float(left + columns * step), float(top + rows * step))
    shown = crop_labels(labels, Frame(box, (16, 18), (rows, columns)))
    padded = np.zeros((80, 80), np.uint8)
    padded[20:36, 20:38] = labels
    for row in range(rows):
        for column in range(columns):
            y, x = 20 + top + row * step, 20 + left + column * step
            counts = np.bincount(padded[y : y + step, x : x + step].ravel(), minlength=4)
            assert counts[shown[row, column]] == counts.max()


def test_labels_of_another_photo_are_refused() -> None:
    frame = Frame((0.0, 0.0, 10.0, 10.0), (16, 18), (4, 4))
    for labels in (np.zeros((18, 16), np.uint8), np.zeros((16, 18), np.int64)):
        with pytest.raises(ShapeError, match=r"labels: expected .*16, 18.* uint8"):
            crop_labels(labels, frame)
    huge = Frame((0.0, 0.0, 1e6, 1e6), (16, 18), (4, 4))
    with pytest.raises(ImageError, match="frame: expected a part of the photograph"):
        crop_labels(np.zeros((16, 18), np.uint8), huge)


def test_crop_refuses() -> None:
    photo = Image.fromarray(smooth())
    with pytest.raises(ImageError, match="photo: expected the photograph of the frame, 9x8, got 20x24"):
        crop(photo, Frame((0, 0, 4, 4), (8, 9), (4, 4)))
    with pytest.raises(ImageError, match="frame: expected a part of the photograph"):
        crop(photo, Frame((-1e6, -1e6, 1e6, 1e6), (HEIGHT, WIDTH), (4, 4)))


# ------------------------------------------------------------------------------------------------------- paste_back


def noise_photo(height: int, width: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_paste_back_of_everything_is_the_drawing() -> None:
    photo, drawing = noise_photo(48, 36), noise_photo(48, 36, 1)
    frame = Frame((0, 0, 36, 48), (48, 36), (48, 36))
    for feather in (0.0, 1.0, 3.0):
        pasted = paste_back(photo, to_tensor(drawing), torch.ones(48, 36), frame, feather=feather)
        assert np.array_equal(np.asarray(pasted), np.asarray(drawing))


def test_paste_back_of_nothing_is_the_photo() -> None:
    photo = noise_photo(60, 50)
    frame = Frame((3.3, 4.7, 30.3, 40.7), (60, 50), (48, 36))
    assert np.array_equal(np.asarray(paste_back(photo, torch.zeros(3, 48, 36), torch.zeros(48, 36), frame)), photo)
    away = Frame((500.0, 0.0, 536.0, 48.0), (60, 50), (48, 36))
    assert np.array_equal(np.asarray(paste_back(photo, torch.zeros(3, 48, 36), torch.ones(48, 36), away)), photo)


@pytest.mark.parametrize(
    "box", [(3.3, 4.7, 30.3, 40.7), (-8.2, 5.0, 64.3, 101.7), (10.0, 10.0, 190.0, 250.0), (0.0, 0.0, 18.0, 24.0)]
)
@pytest.mark.parametrize("feather", [0.0, 1.0, 2.5])
def test_pixels_under_mask_zero_and_outside_the_frame_stay(
    box: tuple[float, float, float, float], feather: float, rng: np.random.Generator
) -> None:
    photo = noise_photo(120, 100)
    frame = Frame(box, (120, 100), (48, 36))
    blobs = rng.random((6, 4)).repeat(8, 0).repeat(9, 1)
    mask = torch.from_numpy(np.where(blobs > 0.5, blobs, 0.0)).float()
    pasted = np.asarray(paste_back(photo, torch.full((3, 48, 36), 0.9), mask, frame, feather=feather))
    changed = (pasted != np.asarray(photo)).any(axis=-1)
    assert changed.any()
    for y, x in np.argwhere(changed):
        left, top, right, bottom = frame.box
        assert left - 1e-6 <= x
        assert x + 1 <= right + 1e-6
        assert top - 1e-6 <= y
        assert y + 1 <= bottom + 1e-6
        rows = slice(int((y - top) * frame.scale[0]), int(np.ceil((y + 1 - top) * frame.scale[0])))
        columns = slice(int((x - left) * frame.scale[1]), int(np.ceil((x + 1 - left) * frame.scale[1])))
        assert mask[rows, columns].max() > 0


def test_paste_back_is_feathered_and_whole_inside() -> None:
    photo = Image.new("RGB", (192, 256), (0, 0, 0))
    frame = Frame((0, 0, 192, 256), (256, 192), (128, 96))
    mask = torch.zeros(1, 128, 96)
    mask[:, 32:96, 24:72] = 1
    pasted = np.asarray(paste_back(photo, torch.ones(3, 128, 96), mask, frame, feather=2.0))[..., 0]
    row = pasted[128, 40:100].astype(int)
    assert (np.diff(row) >= 0).all()  # From outside to inside it only grows,
    assert np.diff(row).max() < 90  # in small steps,
    assert row[0] == 0
    assert pasted[128, 96] == 255  # to the full drawing.


def test_the_frames_edge_is_feathered_too() -> None:
    photo = Image.new("RGB", (200, 200), (0, 0, 0))
    frame = Frame((50, 40, 146, 168), (200, 200), (128, 96))
    pasted = np.asarray(paste_back(photo, torch.ones(3, 128, 96), torch.ones(128, 96), frame, feather=2.0))[..., 0]
    assert 0 < pasted[100, 50] < 128
    assert pasted[100, 98] == 255
    assert pasted[39].max() == 0


def test_cropping_and_pasting_back_returns_the_photo() -> None:
    photo = Image.fromarray(smooth(300, 220))
    frame = Frame((20.4, 30.6, 164.4, 222.6), (300, 220), (256, 192))
    picture, inside = crop(photo, frame)
    pasted = np.asarray(paste_back(photo, picture, inside, frame)).astype(int)
    assert np.abs(pasted - smooth(300, 220)).max() <= 3


def test_half_a_mask_blends_half() -> None:
    photo = Image.new("RGB", (36, 48), (0, 0, 0))
    frame = Frame((0, 0, 36, 48), (48, 36), (48, 36))
    pasted = paste_back(photo, torch.full((3, 48, 36), 5.0), torch.full((48, 36), 0.5), frame)
    assert set(np.unique(np.asarray(pasted))) <= {127, 128}


def test_pasting_in_strips_changes_nothing(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    photo = noise_photo(120, 100)
    frame = Frame((3.3, 4.7, 81.3, 108.7), (120, 100), (48, 36))
    drawing = torch.from_numpy(rng.uniform(-1, 1, (3, 48, 36))).float()
    mask = torch.from_numpy((rng.random((6, 4)) > 0.5).repeat(8, 0).repeat(9, 1)).float()
    whole = np.asarray(paste_back(photo, drawing, mask, frame)).astype(int)
    monkeypatch.setattr("styletryon.photo.pasting._STRIP", 500)
    strips = np.asarray(paste_back(photo, drawing, mask, frame)).astype(int)
    assert np.abs(whole - strips).max() <= 1


def test_paste_back_refuses() -> None:
    photo = noise_photo(48, 36)
    frame = Frame((0, 0, 36, 48), (48, 36), (24, 18))
    drawing, mask = torch.zeros(3, 24, 18), torch.ones(24, 18)
    with pytest.raises(ImageError, match="photo: expected the photograph"):
        paste_back(noise_photo(20, 20), drawing, mask, frame)
    with pytest.raises(ShapeError, match="drawing: expected shape"):
        paste_back(photo, drawing[None], mask, frame)
    with pytest.raises(ShapeError, match="mask: expected shape"):
        paste_back(photo, drawing, mask[1:], frame)
    with pytest.raises(RangeError, match="drawing: expected numbers, got NaN"):
        paste_back(photo, drawing * float("nan"), mask, frame)
    for feather in (-1.0, float("nan")):
        with pytest.raises(RangeError, match="feather"):
            paste_back(photo, drawing, mask, frame, feather=feather)


def disc_on_texture() -> tuple[Image.Image, np.ndarray, np.ndarray]:
    """A red person with a soft edge before a green backdrop, the true coverage, and a mask with jagged edges."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :96] + 0.5
    truth = np.clip(30 - np.hypot(x - 48, y - 48) + 0.5, 0, 1)
    person = np.array([200, 40, 40]) + rng.normal(0, 6, (96, 96, 1))
    backdrop = np.array([40, 140, 60]) + rng.normal(0, 6, (96, 96, 1))
    picture = backdrop + truth[..., None] * (person - backdrop)
    blocks = rng.integers(-3, 4, (24, 24)).repeat(4, axis=0).repeat(4, axis=1)
    mask = np.hypot(x - 48, y - 48) < 30 + blocks
    return Image.fromarray(np.clip(picture, 0, 255).round().astype(np.uint8)), truth, mask


def test_a_matte_finds_the_true_edge() -> None:
    picture, truth, mask = disc_on_texture()
    coverage = matte(picture, mask, band=5)
    assert coverage.dtype == np.float32
    assert np.abs(mask - truth).mean() > 0.02
    assert np.abs(coverage - truth).mean() < 0.2 * np.abs(mask - truth).mean()


def test_a_matte_keeps_to_the_mask_beyond_the_band() -> None:
    rng = np.random.default_rng(1)
    picture = Image.fromarray(rng.integers(0, 256, (60, 50, 3), dtype=np.uint8))
    mask = np.zeros((60, 50), np.bool_)
    mask[20:, 15:35] = True
    coverage = matte(picture, mask, band=3)
    assert (coverage[24:, 19:31] == 1).all()
    assert (coverage[:16] == 0).all()
    assert (coverage[:, :11] == 0).all()
    assert (coverage[59, 19:31] == 1).all(), "the lower edge of the picture is no edge of the person"


def test_a_matte_of_all_or_nothing() -> None:
    picture = Image.new("RGB", (20, 20), (9, 9, 9))
    assert (matte(picture, np.ones((20, 20), np.bool_), band=2) == 1).all()
    assert (matte(picture, np.zeros((20, 20), np.bool_), band=2) == 0).all()


def test_cutting_out_leaves_no_seam() -> None:
    picture, truth, _ = disc_on_texture()
    cut = np.asarray(cut_out(picture, truth.astype(np.float32), (255, 255, 255), band=4)).astype(float)
    share = truth[..., None]
    expected = share * np.array([200, 40, 40]) + (1 - share) * 255
    edge = (truth > 0.05) & (truth < 0.95)
    naive = share * np.asarray(picture) + (1 - share) * 255
    assert np.abs(cut - expected)[edge].mean() < 0.35 * np.abs(naive - expected)[edge].mean()
    np.testing.assert_array_equal(cut[truth == 0], 255)
    inside = np.hypot(*(np.mgrid[:96, :96] - 47.5)) < 26
    np.testing.assert_array_equal(cut[inside], np.asarray(picture)[inside])


def test_cutting_out_refuses() -> None:
    picture = Image.new("RGB", (20, 16))
    with pytest.raises(ShapeError, match="person: expected"):
        matte(picture, np.zeros((20, 16), np.bool_), band=2)
    with pytest.raises(RangeError, match="band: expected at least 1"):
        matte(picture, np.zeros((16, 20), np.bool_), band=0)
    with pytest.raises(ShapeError, match="coverage: expected"):
        cut_out(picture, np.zeros((20, 16), np.float32), (0, 0, 0), band=2)
    with pytest.raises(RangeError, match="coverage: expected values in"):
        cut_out(picture, np.full((16, 20), 2, np.float32), (0, 0, 0), band=2)


def test_a_photograph_is_a_value() -> None:
    photograph = Photograph(noise_photo(20, 20), Frame((0, 0, 4, 4), (20, 20), (4, 4)))
    with pytest.raises(AttributeError):
        photograph.frame = None
    assert repr(photograph) == "Photograph(20x20, frame (0, 0, 4, 4) as 4x4, no pose, no labels)"
    with pytest.raises(ImageError, match="photo: expected the photograph of the frame, 20x20, got 20x21"):
        replace(photograph, picture=noise_photo(21, 20))
    with pytest.raises(ShapeError, match=r"labels: expected \(20, 20\) uint8, got \(20, 21\) uint8"):
        replace(photograph, labels=np.zeros((20, 21), np.uint8))


def test_the_old_name_of_a_photographs_picture_still_works() -> None:
    photograph = Photograph.whole(noise_photo(20, 20))
    with pytest.warns(DeprecationWarning, match=r"Photograph\.photo is now picture; .* leaves in styletryon 0\.4"):
        assert photograph.photo is photograph.picture


def test_a_photograph_makes_what_follows_once() -> None:
    labels = np.zeros((20, 20), np.uint8)
    labels[5:, 5:15] = Label.TOP
    photo, frame = noise_photo(20, 20), Frame((2.0, 1.0, 22.0, 21.0), (20, 20), (10, 10))
    photograph = Photograph(photo, frame, labels=labels)
    cropped, inside = crop(photo, frame)
    assert torch.equal(photograph.crop, cropped)
    assert torch.equal(photograph.inside, inside[0])
    assert np.array_equal(photograph.frame_labels, crop_labels(labels, frame))
    assert photograph.target is photograph.crop
    assert photograph.target_labels is photograph.frame_labels
    red = replace(photograph, background=(255, 0, 0))
    assert red.target is red.target
    picture, cut = red.cut_out((255, 0, 0))
    assert np.array_equal(np.asarray(to_pil(red.target)), np.asarray(picture))
    assert np.array_equal(red.target_labels, cut)
    with pytest.raises(ShapeError, match="labels: expected a photograph whose labels are known"):
        replace(photograph, labels=None).cut_out((255, 0, 0))


@pytest.mark.parametrize("filter", ["nearest", "box", "bilinear", "bicubic", "lanczos"])
def test_the_filter_is_pillows(filter: str) -> None:
    photo, box = noise_photo(20, 20), (1.5, 2.0, 17.0, 19.25)
    pillows = Image.Resampling[filter.upper()]
    shown = resize(photo, (7, 9), filter=filter, box=box)
    assert np.array_equal(np.asarray(shown), np.asarray(photo.resize((9, 7), pillows, box=box)))
    plane = np.asarray(photo)[..., 0].astype(np.float32)
    expected = Image.fromarray(plane).resize((9, 7), pillows, box=box)
    assert np.array_equal(resize_plane(plane, (7, 9), filter=filter, box=box), np.asarray(expected))


# ---------------------------------------------------------------------------------------------------- contact_sheet


def test_contact_sheet_lays_out_rows_on_white() -> None:
    tiles = [Image.new("RGB", (96, 128), (index * 20, 0, 0)) for index in range(5)]
    sheet = contact_sheet(tiles, 3, scale=1)
    gutter = 6
    assert sheet.size == (3 * 96 + 4 * gutter, 2 * 128 + 3 * gutter)
    for index, (row, column) in zip(range(5), itertools.product(range(2), range(3)), strict=False):
        place = (gutter + column * (96 + gutter), gutter + row * (128 + gutter))
        assert sheet.getpixel(place) == (index * 20, 0, 0)
        assert sheet.getpixel((place[0] - 1, place[1])) == (255, 255, 255)
    assert sheet.getpixel((sheet.width - 60, sheet.height - 60)) == (255, 255, 255)


def test_contact_sheet_enlarges_small_pictures_and_takes_tensors() -> None:
    sheet = contact_sheet([torch.zeros(3, 64, 48), Image.new("RGBA", (48, 32), (0, 0, 0, 0))], 2)
    assert sheet.height > 256
    assert sheet.getpixel((sheet.width // 4, sheet.height // 2)) == (128, 128, 128)
    assert sheet.getpixel((3 * sheet.width // 4, sheet.height // 2)) == (255, 255, 255)


def test_captions_are_drawn_below_or_above() -> None:
    tiles = [Image.new("RGB", (120, 160), (200, 0, 0))] * 4
    plain = contact_sheet(tiles, 2, scale=1)
    below = contact_sheet(tiles, 2, captions=["one", "two", "three", "four"], scale=1)
    above = contact_sheet(tiles, 2, captions=["person", "garment"], scale=1)
    assert below.height - plain.height == 2 * (above.height - plain.height)
    assert np.asarray(above)[: above.height - plain.height].min() < 100
    assert np.asarray(below)[-(above.height - plain.height) :].min() < 100
    assert np.asarray(above)[-6:].min() == 255


def test_long_captions_are_broken_and_kept_in_their_cells() -> None:
    tiles = [Image.new("RGB", (120, 160), (255, 255, 255))] * 2
    long = "several words that do not stand on one line\nand more"
    sheet = np.asarray(contact_sheet(tiles, 2, captions=[long, ""], scale=1))
    assert (sheet[:, 6 + 120 + 3 :] == 255).all()
    assert (sheet[-100:] < 128).any()


def test_contact_sheet_refuses() -> None:
    tile = Image.new("RGB", (20, 20))
    with pytest.raises(ImageError, match="at least one"):
        contact_sheet([], 2)
    with pytest.raises(ImageError, match="expected PIL images"):
        contact_sheet(["a.png"], 2)
    with pytest.raises(ShapeError, match="columns"):
        contact_sheet([tile], 0)
    with pytest.raises(ShapeError, match="captions: expected 3, one per picture, or 2, one per column, got 1"):
        contact_sheet([tile] * 3, 2, captions=["a"])
    with pytest.raises(RangeError, match="scale"):
        contact_sheet([tile], 1, scale=0)


def test_limits_are_what_the_messages_say() -> None:
    assert (images.MIN_SIDE, images.MAX_PIXELS, images.MAX_ASPECT) == (16, 100_000_000, 8.0)
