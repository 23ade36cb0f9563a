"""Checkpoints of other projects as data: pickles, and both file formats of `torch.save`, without running their code."""

from __future__ import annotations

import math
import os
import re
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from styletryon.errors import CheckpointError, CheckpointNotFoundError
from styletryon.interop._pickles import Record, Span, Window, interpret

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_VERSION = 1001
_MAX_ENTRIES = 1_000_000
_DAMAGES = (
    OSError, EOFError, RuntimeError, zipfile.BadZipFile, ValueError, TypeError, LookupError, AttributeError,
    struct.error,
)  # fmt: skip
"""Errors that a damaged or mislabelled file leads to, between its first byte and the generator."""

_DTYPES = {
    "Double": torch.float64, "Float": torch.float32, "Half": torch.float16, "BFloat16": torch.bfloat16,
    "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
    "Bool": torch.bool,
}  # fmt: skip


@dataclass(frozen=True)
class StoredNumbers:
    """The numbers of one or more tensors, still in the file; one object for each place there.

    Attributes:
        dtype: Their type.
        numel: How many there are.
        read: Reads their bytes.
    """

    dtype: torch.dtype
    numel: int
    read: Callable[[], bytes]


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that is still in the file.

    Attributes:
        numbers: What it is a view of.
        offset: Its first number.
        shape: Its shape.
        stride: Its strides, in numbers.
    """

    numbers: StoredNumbers
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def load(self) -> Tensor:
        """Read it: a tensor with memory of its own, float32 if it holds floating point numbers."""
        data = bytearray(self.numbers.read())
        if len(data) != self.numbers.numel * self.numbers.dtype.itemsize:
            raise CheckpointError("damaged: the file ends within a tensor; get it anew")
        flat = torch.frombuffer(data, dtype=self.numbers.dtype) if data else torch.empty(0, dtype=self.numbers.dtype)
        tensor = flat.as_strided(self.shape, self.stride, self.offset)
        return tensor.to(torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True).contiguous()


@contextmanager
def open_checkpoint(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Open a pickle or a file of `torch.save` and give its value; tensors can be loaded while it is open.

    Args:
        path: The file.

    Yields:
        Plain values, `StoredTensor` and `Record`. A `Record` named "persistent" has as its state what NVIDIA's
        pickles say of an object: "class_name", "module_src" (the text of its source, which is never run) and "state".

    Raises:
        CheckpointNotFoundError: If there is no such file.
        CheckpointError: If the file is damaged, of another format, or asks for anything but tensors, arrays and plain
            values; the message says what for.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointNotFoundError(
            f"expected a checkpoint of a generator, got {str(path)!r}: no such file", argument="path"
        )
    try:
        with path.open("rb") as file:
            yield _read(file, path.stat().st_size)
    except CheckpointNotFoundError:
        raise
    except CheckpointError as error:
        raise CheckpointError(f"{str(path)!r}: {error}", argument="path") from error
    except _DAMAGES as error:
        raise CheckpointError(
            f"{str(path)!r} cannot be read ({type(error).__name__}: {error})", argument="path"
        ) from error


def _read(file: BinaryIO, size: int) -> Any:
    start = file.read(4)
    if start == b"PK\x03\x04":
        return _read_zip(file, size)
    window = Window(file, 0, size)
    value = interpret(window, _table(nested=True))
    return _read_legacy(window) if value == _LEGACY_MAGIC else value


def _read_zip(file: BinaryIO, size: int) -> Any:
    """Read the newer format of `torch.save`: an archive of stored, never compressed, files."""
    archive = zipfile.ZipFile(file)
    entries = archive.infolist()
    if len(entries) > _MAX_ENTRIES or sum(entry.file_size for entry in entries) > size:
        raise CheckpointError("refused: the archive says that it holds more than the file has; a zip bomb?")
    packed = [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise CheckpointError(f"refused: {packed[0]!r} is compressed, which torch.save does not do; a zip bomb?")
    names = {entry.filename: entry.file_size for entry in entries}
    pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise CheckpointError("expected an archive that torch.save wrote, with one data.pkl; was it packed again?")
    folder = pickles[0].removesuffix("data.pkl")
    if folder + "byteorder" in names and archive.read(folder + "byteorder") != b"little":
        raise CheckpointError("expected numbers in little-endian order; save the file anew on a usual machine")

    known: dict[tuple[torch.dtype, str, int], StoredNumbers] = {}

    def persistent(identifier: Any) -> StoredNumbers:
        dtype, key, numel = _storage_of(identifier)
        name = f"{folder}data/{key}"
        if names.get(name) != numel * dtype.itemsize:
            raise CheckpointError(f"damaged: {name!r} has {names.get(name)} bytes instead of {numel} of {dtype}")
        return known.setdefault((dtype, key, numel), StoredNumbers(dtype, numel, lambda: archive.read(name)))

    data = archive.read(pickles[0])
    return interpret(Window(BytesIO(data), 0, len(data)), _table(nested=False), persistent)


def _read_legacy(window: Window) -> Any:
    """Read the older format of `torch.save`, behind its magic number: pickles, then the numbers one after another."""
    version = interpret(window, {})
    machine = interpret(window, {})
    if version != _LEGACY_VERSION or not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise CheckpointError(f"expected a little-endian file of version {_LEGACY_VERSION}, got {version!r}")
    places: dict[str, Span] = {}
    wanted: dict[str, StoredNumbers] = {}

    def persistent(identifier: Any) -> StoredNumbers:
        dtype, key, numel = _storage_of(identifier)
        numbers = wanted.setdefault(key, StoredNumbers(dtype, numel, lambda: places[key].read()))
        if (numbers.dtype, numbers.numel) != (dtype, numel):
            raise CheckpointError(f"damaged: two sizes of the storage {key!r}")
        return numbers

    value = interpret(window, _table(nested=False), persistent)
    keys = interpret(window, {})
    if not isinstance(keys, list) or set(keys) != set(wanted) or len(keys) != len(wanted):
        raise CheckpointError("damaged: the list of the storages is not that of the tensors")
    for key in keys:
        numel, itemsize = wanted[key].numel, wanted[key].dtype.itemsize
        (stored,) = struct.unpack("<q", window.read(8))
        if stored != numel:
            raise CheckpointError(f"damaged: the storage {key!r} has {stored} numbers instead of {numel}")
        places[key] = window.take(numel * itemsize)
    return value


def _storage_of(identifier: Any) -> tuple[torch.dtype, str, int]:
    """Return dtype, key and length of a storage from its persistent identifier."""
    if not isinstance(identifier, tuple) or len(identifier) not in (5, 6) or identifier[0] != "storage":
        raise CheckpointError(f"damaged: {str(identifier)[:100]!r} refers to no storage")
    kind, key, _, numel = identifier[1:5]
    dtype = getattr(kind, "meaning", None)
    if not isinstance(dtype, torch.dtype) or not isinstance(key, str) or not isinstance(numel, int) or numel < 0:
        raise CheckpointError(f"damaged: {str(identifier)[:100]!r} refers to no storage")
    if identifier[5:] not in ((), (None,)):
        raise CheckpointError("a file of a version of torch that shares parts of storages; save it anew")
    return dtype, key, numel


def _rebuild_tensor(numbers: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> StoredTensor:
    whole = isinstance(shape, tuple) and isinstance(stride, tuple) and len(shape) == len(stride) <= 8
    if not isinstance(numbers, StoredNumbers) or not whole or not all(
        isinstance(number, int) and number >= 0 for number in (offset, *shape, *stride)
    ):  # fmt: skip
        raise CheckpointError("damaged: a tensor without storage or shape")
    # A tensor that shows its numbers more than once could fill any memory.
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True)) if 0 not in shape else -1
    if last >= numbers.numel or math.prod(shape) > numbers.numel:
        raise CheckpointError(f"damaged: a tensor of shape {shape} reaches beyond its storage of {numbers.numel}")
    return StoredTensor(numbers, offset, shape, stride)


def _rebuild_persistent(meta: Any, *_: Any) -> Record:
    if not isinstance(meta, dict) or not isinstance(meta.get("state"), dict):
        raise CheckpointError("damaged: a persistent object without state")
    return Record("persistent", {key: meta.get(key) for key in ("class_name", "module_src", "state")})


def _load_nested(data: Any) -> Any:
    """Read a storage that is a whole file of `torch.save` inside a pickle, which may hold no further one."""
    if isinstance(data, bytes):
        file: BinaryIO = BytesIO(data)
        data = Span(file, 0, len(data))
    if not isinstance(data, Span):
        raise CheckpointError("damaged: a storage without bytes")
    window = Window(data.file, data.start, data.start + data.length)
    if interpret(window, {}) != _LEGACY_MAGIC:
        raise CheckpointError("damaged: a storage that torch.save did not write")
    return _read_legacy(window)


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise CheckpointError(f"refused: bytes in the encoding {encoding!r}")
    return text.encode("latin-1")


def _numpy_dtype(code: Any, *_: Any) -> Record:
    if not isinstance(code, str) or not re.fullmatch(r"[biuf]\d{1,2}", code):
        raise CheckpointError(f"refused: arrays of the type {code!r}; only numbers are read")
    return Record("numpy.dtype", None) if code is None else Record(f"numpy.dtype:{code}")


def _dtype_of(record: Any) -> np.dtype[Any]:
    if not isinstance(record, Record) or not record.name.startswith("numpy.dtype:"):
        raise CheckpointError("damaged: an array without type")
    order = record.state[1] if isinstance(record.state, tuple) and len(record.state) > 1 else "<"
    return np.dtype((order if order in ("<", ">", "|") else "<") + record.name.split(":")[1])


def _numpy_scalar(dtype: Any, data: Any) -> int | float | bool:
    if not isinstance(data, bytes):
        raise CheckpointError("damaged: a number without bytes")
    value: int | float | bool = np.frombuffer(data, _dtype_of(dtype), count=1)[0].item()
    return value


def _container(kind: Callable[..., Any]) -> Callable[..., Any]:
    def build(*arguments: Any) -> Any:
        if len(arguments) > 1 or not all(isinstance(item, (list, tuple, dict)) for item in arguments):
            raise CheckpointError("damaged: a container that is made from something else")
        return kind(*arguments)

    return build


def _inert(name: str) -> Callable[..., Record]:
    return lambda *arguments: Record(name, arguments)


def array_of(record: Record) -> np.ndarray[Any, Any]:
    """Return the array of a record named "numpy.ndarray".

    Raises:
        CheckpointError: If it is none, or damaged.
    """
    try:
        _, shape, dtype, fortran, data = record.state
        content = data.read() if isinstance(data, Span) else data
        return np.frombuffer(content, _dtype_of(dtype)).reshape(shape, order="F" if fortran else "C").copy()
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"damaged: an array that cannot be read ({error})") from error


def _table(*, nested: bool) -> Mapping[str, Any]:
    """Return what the names that a checkpoint may ask for stand for here; only with `nested` may it hold others."""
    table: dict[str, Any] = {
        "collections.OrderedDict": _container(dict),
        "dnnlib.util.EasyDict": _container(dict),
        "_codecs.encode": _encode,
        "torch._utils._rebuild_tensor": _rebuild_tensor,
        "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
        "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
        "torch.Size": _container(tuple),
        "torch.device": _inert("torch.device"),
        "torch_utils.persistence._reconstruct_persistent_obj": _rebuild_persistent,
        "argparse.Namespace": _inert("argparse.Namespace"),
        "numpy.dtype": _numpy_dtype,
        "numpy.ndarray": None,
    }
    for builtins in ("builtins", "__builtin__"):
        # Items of sets are never looked at, and hashing them could take for ever.
        table[f"{builtins}.set"] = _inert("set")
        table[f"{builtins}.dict"] = _container(dict)
        table[f"{builtins}.list"] = _container(list)
    for numpy in ("numpy.core.multiarray", "numpy._core.multiarray"):
        table[f"{numpy}.scalar"] = _numpy_scalar
        table[f"{numpy}._reconstruct"] = _inert("numpy.ndarray")
    for name, dtype in _DTYPES.items():
        table[f"torch.{name}Storage"] = dtype
        table[f"torch.{str(dtype).removeprefix('torch.')}"] = dtype
    if nested:
        known: dict[tuple[int, int], Any] = {}

        def load_nested(data: Any) -> Any:
            if not isinstance(data, Span):
                return _load_nested(data)
            place = data.start, data.length
            if place not in known:
                known[place] = _load_nested(data)
            return known[place]

        table["torch.storage._load_from_bytes"] = load_nested
    return table
