"""Weights from files, strictly: what cannot be read or does not fit is refused with a message that says why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from styletryon.errors import CheckpointError, CheckpointNotFoundError


def read_tensors(path: Path, argument: str) -> dict[str, Tensor]:
    """Read a `.safetensors` file, on the CPU.

    Raises:
        CheckpointError: If it is missing or damaged; the message names the argument that led to it.
    """
    try:
        return load_file(path, device="cpu")
    except Exception as error:  # whatever a foreign file does to a reader, the caller needs one kind of error
        raise CheckpointError(
            f"expected safetensors in {path}, got {error}; fetch the file or train it again",
            argument=argument,
        ) from error


def read_state(path: Path, names: str) -> Mapping[str, Any]:
    """Read a state dict from a `.pth` or `.safetensors` file, on the CPU.

    Args:
        path: What the argument `weights` says.
        names: What else that argument may be, for the message.

    Raises:
        CheckpointNotFoundError: If there is no such file.
        CheckpointError: If it holds no state dict.
    """
    if not path.is_file():
        raise CheckpointNotFoundError(
            f"expected {names} or the path of a file, got {path}; there is none", argument="weights"
        )
    if path.suffix == ".safetensors":
        return read_tensors(path, "weights")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # as above
        raise CheckpointError(
            f"expected a state dict in {path}, got {error}; fetch it again", argument="weights"
        ) from error
    if not isinstance(state, Mapping):
        raise CheckpointError(f"expected a state dict in {path}, got a {type(state).__name__}", argument="weights")
    return state


@contextmanager
def unfilled() -> Iterator[None]:
    """Let networks be built whose weights follow from a file.

    What they would draw at random is left undrawn, so that the global random state stays where it is. They are built in
    float32 on the CPU and can take part in gradients, whatever default dtype, default device or inference mode the
    calling thread has set.
    """
    with torch.inference_mode(False), torch.device("cpu"), _Unfilled():
        yield


class _Unfilled(TorchFunctionMode):
    """Undoes random values and default dtypes of the tensors that are made under it, on this thread alone."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name, seeded = getattr(func, "__name__", ""), kwargs.get("generator") is not None
        if name in _FILLS and not seeded:
            return args[0] if args else kwargs["tensor"]
        made = (torch.empty if name in _DRAWS and not seeded else func)(*args, **kwargs)
        if name in _FACTORIES and kwargs.get("dtype") is None and made.is_floating_point():
            return made.to(torch.float32)
        return made


_FILLS = frozenset({"normal_", "uniform_", "trunc_normal_", "kaiming_normal_", "kaiming_uniform_"})
"""Methods, and functions of `torch.nn.init`, that fill a tensor at random."""

_DRAWS = frozenset({"rand", "randn"})
_FACTORIES = _DRAWS | {"empty", "zeros", "ones", "full", "tensor", "as_tensor", "eye", "linspace", "arange"}


def load_strictly(network: nn.Module, tensors: Mapping[str, Any], argument: str) -> None:
    """Load tensors into a network, which keeps its dtype and its place.

    Raises:
        CheckpointError: If a tensor is missing, unknown or of the wrong shape; the message names the argument (or the
            file) that the tensors came from.
    """
    own = network.state_dict()
    missing, unexpected = sorted(set(own) - set(tensors)), sorted(set(tensors) - set(own))
    misshaped = []
    for key in sorted(set(own) & set(tensors)):
        shape = getattr(tensors[key], "shape", None)
        if shape != own[key].shape:
            misshaped.append(f"{key} {shape and tuple(shape)} for {tuple(own[key].shape)}")
    if missing or unexpected or misshaped:
        raise CheckpointError(
            f"expected the tensors of a {type(network).__name__}, got missing {missing[:8]}, "
            f"unexpected {unexpected[:8]}, of another shape {misshaped[:8]}; they belong to another network",
            argument=argument,
        )
    network.load_state_dict(tensors)
