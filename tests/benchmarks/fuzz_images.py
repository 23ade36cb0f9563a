"""Damaged files through the reader: ``python -m tests.benchmarks.fuzz_images [--count 10000] [--seed 0]``.

Sound files of every format that Pillow can write are cut short, flipped bit by bit, spliced with each other, renamed,
and told to be of another size, up to decompression bombs. Each must give a picture or an `ImageError`. Prints how many
gave which, and how far the memory grew.
"""

from __future__ import annotations

import argparse
import io
import resource
import struct
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from styletryon.errors import ImageError
from styletryon.photo import read_image

FORMATS = ("JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP", "PPM", "TGA", "ICO", "ICNS", "PCX", "SGI", "DDS", "JPEG2000",
           "AVIF", "DIB", "IM", "MSP", "SPIDER", "XBM", "EPS", "PDF")  # fmt: skip
ENDINGS = (".jpg", ".png", ".gif", ".tif", ".webp", ".txt", "")


def main() -> None:
    """Read damaged files and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        outcomes, growth = fuzz(Path(folder), arguments.count, arguments.seed)
    for kind, found in sorted(outcomes.items()):
        print(f"{kind}: {found}")
    print(f"memory grew by {growth:.0f} MiB at most; {time.perf_counter() - began:.0f} s")


def fuzz(folder: Path, count: int, seed: int) -> tuple[Counter[str], float]:
    """Read `count` damaged files.

    Returns:
        Kind of damage and outcome -> how many, and by how many MiB the peak of the process's memory grew.

    Raises:
        AssertionError: If one gave neither a picture nor an `ImageError`; the file is kept as `culprit` in `folder`.
    """
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes: Counter[str] = Counter()
    for kind, ending, data in damaged(count, seed):
        path = folder / f"file{ending}"
        path.write_bytes(data)
        try:
            picture = read_image(path)
            assert picture.mode == "RGB"
            outcomes[f"{kind}: a picture"] += 1
        except ImageError:
            outcomes[f"{kind}: ImageError"] += 1
        except BaseException as error:
            path.rename(folder / "culprit")
            raise AssertionError(f"{kind}{ending}: {type(error).__name__}: {error}; {data[:64]!r}") from error
        path.unlink()
    return outcomes, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def damaged(count: int, seed: int) -> Iterator[tuple[str, str, bytes]]:
    """Yield kind of damage, file ending and content."""
    rng = np.random.default_rng(seed)
    seeds = sound_files()
    kinds = ("cut", "flipped", "spliced", "renamed", "resized", "bomb", "noise")
    for number in range(count):
        kind = kinds[number % len(kinds)]
        data = bytearray(seeds[int(rng.integers(len(seeds)))])
        ending = ENDINGS[int(rng.integers(len(ENDINGS)))] if kind == "renamed" else ""
        if kind == "cut":
            data = data[: int(rng.integers(len(data)))]
        elif kind == "flipped":
            reach = len(data) if rng.random() < 0.5 else min(len(data), 128)  # half of it in the headers
            for _ in range(int(rng.integers(1, 24))):
                data[int(rng.integers(reach))] ^= 1 << int(rng.integers(8))
        elif kind == "spliced":
            other = seeds[int(rng.integers(len(seeds)))]
            data = data[: int(rng.integers(len(data)))] + other[int(rng.integers(len(other))) :]
        elif kind == "resized":
            # Any four bytes of the header may be a width or a height.
            place = int(rng.integers(min(len(data), 64)))
            data[place : place + 4] = struct.pack("<>"[number % 2] + "I", int(rng.integers(1, 1 << 32)))
        elif kind == "bomb":
            data = bytearray(bomb(rng))
        elif kind == "noise":
            data = bytearray(rng.bytes(int(rng.integers(1, 2000))))
        yield kind, ending, bytes(data)


def sound_files() -> list[bytes]:
    """A small picture in every format that this Pillow writes."""
    height, width = 40, 36
    waves = np.sin(np.arange(height)[:, None, None] / 5 + np.arange(width)[None, :, None] / 7 + np.arange(3))
    picture = Image.fromarray(((waves + 1) * 127).astype(np.uint8))
    modes = [picture, picture.convert("L"), picture.convert("RGBA"), picture.quantize(16), picture.convert("1")]
    deep = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    files = []
    for kind in FORMATS:
        for mode in [*modes, picture.convert("CMYK"), deep if kind in ("PNG", "TIFF") else picture]:
            buffer = io.BytesIO()
            try:
                mode.save(buffer, format=kind)
            except Exception:  # a format that this Pillow does not write, or not in this mode
                continue
            files.append(buffer.getvalue())
    return files


def bomb(rng: np.random.Generator) -> bytes:
    """A PNG that is small as a file and claims to be large: beyond the limit, or with much less or more in it."""
    width, height = (int(side) for side in 10 ** rng.uniform(2, 5.5, 2))
    rows = zlib.compress(bytes(int(rng.integers(1, 2_000_000))), 9)
    extra = b""
    if rng.random() < 0.3:  # a text or a colour profile that unpacks to a multiple of itself
        name = (b"zTXt", b"iCCP")[int(rng.integers(2))]
        extra = _chunk(name, b"bomb\0\0" + zlib.compress(bytes(8_000_000), 9))
    header = struct.pack(">IIBBBBB", width, height, 8, int(rng.choice([0, 2, 3, 6])), 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + extra + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


if __name__ == "__main__":
    main()
