"""Training states on disk: exact, atomic, and without pickle.

A state is whatever a trainer needs to go on as if it had never stopped: nested dictionaries, lists and tuples of
tensors (modules, optimizers, averages, `torch.Generator.get_state()`) and of plain values. It becomes one
``.safetensors`` file: the tensors as they are, and a JSON skeleton of everything else in the file's metadata. Loading
executes nothing.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import re
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from styletryon._files import write_atomically
from styletryon.errors import CheckpointError, CheckpointNotFoundError, RangeError

_LOGGER = logging.getLogger(__name__)
_FORMAT = "styletryon-training-state"
_VERSION = "1"
_FILE_NAME = re.compile(r"step-(\d+)\.safetensors")


def save_state(path: str | os.PathLike[str], state: Mapping[Any, Any]) -> None:
    """Save a training state so that either the whole new file stands at `path`, or whatever stood there before.

    Args:
        path: Name of the file; its folder is made where it does not exist.
        state: Nested dictionaries (keys: str, int, float, bool or None), lists and tuples of tensors, numbers, strings,
            booleans and None. Tensors may live on any device and share memory; each is written on its own.

    Raises:
        CheckpointError: If the state holds something else; the message says where.
        SaveError: If the file cannot be written (full disk, no permission).
    """
    tensors: dict[str, Tensor] = {}
    skeleton = json.dumps(_encode(state, "state", tensors), separators=(",", ":"), allow_nan=False)
    metadata = {
        "format": _FORMAT,
        "version": _VERSION,
        "skeleton": skeleton,
        "skeleton_crc32": str(zlib.crc32(skeleton.encode())),
    }
    try:
        payload = safetensors.torch.save(tensors, metadata)
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"expected tensors of a dtype that safetensors knows, got {error}", argument="state"
        ) from error
    written = write_atomically(path, lambda temporary: _write_through(temporary, payload))
    _flush_folder(written.parent)


def load_state(path: str | os.PathLike[str]) -> dict[Any, Any]:
    """Load what `save_state` saved: equal values of the same types, tensors on the CPU and owning their memory.

    Args:
        path: Name of the file.

    Returns:
        The state. Sub-classes of dict come back as dict.

    Raises:
        CheckpointNotFoundError: If there is no such file.
        CheckpointError: If the file is cut short, damaged, or no training state.
    """
    if not os.path.isfile(path):
        raise CheckpointNotFoundError(
            f"expected a saved training state, got {os.fspath(path)!r}: no such file", argument="path"
        )
    try:
        with safetensors.safe_open(os.fspath(path), framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise CheckpointError(
                    f"expected a training state, got {os.fspath(path)!r}: a safetensors file of something else; "
                    "models are loaded by load_model",
                    argument="path",
                )
            if metadata.get("version") != _VERSION:
                raise CheckpointError(
                    f"expected a training state of version {_VERSION}, got version "
                    f"{metadata.get('version')!r} in {os.fspath(path)!r}; it was written by another styletryon",
                    argument="path",
                )
            skeleton = metadata.get("skeleton", "")
            if str(zlib.crc32(skeleton.encode())) != metadata.get("skeleton_crc32"):
                raise ValueError("the skeleton's checksum is wrong")
            # A clone, because a tensor that maps the file would keep it open, and Windows deletes no open file.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        state = _decode(json.loads(skeleton), tensors)
    except CheckpointError:
        raise
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError, IndexError, RuntimeError) as error:
        raise CheckpointError(
            f"expected a whole training state, got {os.fspath(path)!r}, which is damaged or unreadable "
            f"({error}); use an earlier one",
            argument="path",
        ) from error
    if not isinstance(state, dict):
        raise CheckpointError(
            f"expected a training state, got {os.fspath(path)!r} holding {type(state).__name__}",
            argument="path",
        )
    return state


class CheckpointFolder:
    """A folder that holds the last few training states, ``step-00012000.safetensors`` and so on.

    Args:
        path: The folder; made at the first save.
        keep: How many states to keep, at least 1. With 2, a state damaged after it was written costs one interval.

    Raises:
        RangeError: If `keep` is below 1.
    """

    def __init__(self, path: str | os.PathLike[str], *, keep: int = 2) -> None:
        if keep < 1:
            raise RangeError(f"expected at least 1, got {keep}", argument="keep")
        self.path = Path(path)
        self.keep = keep

    def __repr__(self) -> str:
        return f"CheckpointFolder({str(self.path)!r}, keep={self.keep})"

    def steps(self) -> list[int]:
        """Return the steps of the states in the folder, lowest first."""
        if not self.path.is_dir():
            return []
        found = (_FILE_NAME.fullmatch(name) for name in os.listdir(self.path))
        return sorted(int(match[1]) for match in found if match)

    def file(self, step: int) -> Path:
        """Return the name of the file of a step, whether or not it exists."""
        return self.path / f"step-{step:08d}.safetensors"

    def save(self, step: int, state: Mapping[Any, Any], *, replace: bool = True) -> Path:
        """Save the state of a step, then delete all but the newest `keep` up to this step.

        States of later steps (of a run that was started again from an earlier one) are never deleted.

        Args:
            step: Steps done, at least 0.
            state: See `save_state`.
            replace: False deletes none of the earlier states: this one may be bad.

        Returns:
            The name of the file.

        Raises:
            RangeError: If `step` is negative.
            CheckpointError: If the state holds something that cannot be saved.
            SaveError: If the file cannot be written; the earlier states still stand.
        """
        if step < 0:
            raise RangeError(f"expected at least 0, got {step}", argument="step")
        file = self.file(step)
        self._delete(self.path.glob(".step-*.part"))  # What a killed process left; they would fill the disk in time.
        save_state(file, state)
        earlier = [known for known in self.steps() if known <= step] if replace else []
        self._delete(self.file(old) for old in earlier[: -self.keep])
        return file

    def latest(self) -> tuple[int, dict[Any, Any]] | None:
        """Load the newest state that is whole; each damaged one is passed over with a warning in the log.

        Returns:
            The step and the state, or None if the folder holds no state.

        Raises:
            CheckpointError: If the folder holds states and every one is damaged: starting again from nothing without a
                word would be worse.
        """
        damaged: CheckpointError | None = None
        for step in reversed(self.steps()):
            try:
                return step, load_state(self.file(step))
            except CheckpointError as error:
                _LOGGER.warning("passing over the training state of step %d: %s", step, error)
                damaged = error
        if damaged is not None:
            raise CheckpointError(
                f"expected a whole training state in {str(self.path)!r}, got only damaged ones; "
                f"move them away to start from nothing ({damaged})",
                argument="path",
            ) from damaged
        return None

    def _delete(self, files: Iterable[Path]) -> None:
        for file in files:
            try:
                file.unlink(missing_ok=True)
            except OSError as error:  # A file too many is no reason to stop a training.
                _LOGGER.warning("cannot delete the old training state %s: %s", file, error)


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load a state, which may come from an optimizer that was not fused, into one that is.

    Args:
        optimizer: A fused optimizer; changed in place.
        state: What its `state_dict` returned.
    """
    groups = [{**group, "fused": True} for group in state["param_groups"]]
    optimizer.load_state_dict({**state, "param_groups": groups})
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if value.shape == parameter.shape:
                # The fused step walks through memory: moments must lie there as their weights do, or they would be
                # mixed up without a word.
                values[name] = torch.empty_like(parameter).copy_(value)


def _write_through(path: Path, payload: bytes) -> None:
    """Write a file and wait until it is on the disk: a rename alone may outrun what it names."""
    with open(path, "wb") as file:
        file.write(payload)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where the system lets a folder be flushed."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


# The skeleton: None, bool, int, str and finite float are themselves; a list is a list; the rest is an object with one
# key ("dict", "tuple", "float", "tensor"). A dictionary is a list of pairs: keys keep their types and their order.


def _encode(value: Any, where: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        return _encode_tensor(value, where, tensors)
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": str(float(value))}
    if isinstance(value, Mapping):
        pairs = []
        for key, item in value.items():
            if not (key is None or isinstance(key, (bool, int, float, str))):
                raise CheckpointError(
                    f"expected keys that are str or numbers, got {type(key).__name__}: {key!r}",
                    argument=where,
                )
            pairs.append([_encode(key, where, tensors), _encode(item, f"{where}[{key!r}]", tensors)])
        return {"dict": pairs}
    if isinstance(value, (list, tuple)):
        items = [_encode(item, f"{where}[{index}]", tensors) for index, item in enumerate(value)]
        return items if isinstance(value, list) else {"tuple": items}
    raise CheckpointError(
        "expected tensors, numbers, strings, None, and dicts, lists and tuples of them, "
        f"got {type(value).__name__}",
        argument=where,
    )


def _encode_tensor(value: Tensor, where: str, tensors: dict[str, Tensor]) -> dict[str, list[Any]]:
    if value.layout != torch.strided or value.is_quantized or value.is_meta:
        raise CheckpointError(
            f"expected a dense tensor, got {value.layout} {value.dtype} on {value.device}", argument=where
        )
    # Memory of its own: safetensors refuses tensors that share it, and tied weights do. The name's number keeps names
    # unique; the rest of it is for people who look into the file.
    plain = value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
    name = f"{len(tensors)}:{where}"
    tensors[name] = plain
    return {"tensor": [name, _checksum(plain)]}


def _checksum(tensor: Tensor) -> int:
    """Return the CRC-32 of the bytes: a power cut can leave a file of the right length that is full of zeros."""
    return zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data)


def _decode(node: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(node, list):
        return [_decode(item, tensors) for item in node]
    if not isinstance(node, dict):
        return node
    ((kind, content),) = node.items()
    if kind == "dict":
        return {_decode(key, tensors): _decode(item, tensors) for key, item in content}
    if kind == "tuple":
        return tuple(_decode(item, tensors) for item in content)
    if kind == "float":
        return float(content)
    if kind == "tensor":
        name, checksum = content
        if _checksum(tensors[name]) != checksum:
            raise ValueError(f"the checksum of {name!r} is wrong")
        return tensors[name]
    raise ValueError(f"unknown kind {kind!r} in the skeleton")
