"""The choice of the path that an op takes; nothing else decides it.

Asked for in this order: the innermost `use_backend` of the calling thread, the environment variable `STYLETRYON_OPS`,
``"auto"``. The choice is made once, in the forward; a backward never comes here, because autograd may run it on
another thread.

What fused kernels are not made for (the CPU, ROCm, forward mode) takes plain PyTorch without a word. What should have
worked and did not (no compiler library, a driver that refuses) is tried once per device and dtype, told once, and
remembered.
"""

from __future__ import annotations

import os
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NoReturn, Protocol, TypeAlias, TypeVar, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad

from styletryon.errors import BackendUnavailableError, ConfigError
from styletryon.ops import _cpu, _kernels, _modules, _nvrtc, _reference
from styletryon.ops._arguments import Activation, LayerInputs, LayerSettings, Resampling
from styletryon.ops._cpu import Filters

Function = TypeVar("Function", bound=Callable[..., object])

Backend: TypeAlias = Literal["auto", "reference", "fused"]

ENVIRONMENT_VARIABLE = "STYLETRYON_OPS"
_BACKENDS: tuple[Backend, ...] = ("auto", "reference", "fused")
_WARM = (torch.float32, torch.float16, torch.bfloat16)
_FUSED_DTYPES = ", ".join(str(dtype).removeprefix("torch.") for dtype in _kernels.TYPES)


class FusedOpsWarning(UserWarning):
    """The fused kernels cannot be used, or only at a cost; the message says why and what to do. Told once."""


class Implementation(Protocol):
    """What a path offers: each op with every argument given and checked."""

    def bias_act(self, x: Tensor, bias: Tensor | None, noise: Tensor | None, activation: Activation) -> Tensor:
        """See `styletryon.ops.bias_act`."""

    def upfirdn2d(self, x: Tensor, resampling: Resampling) -> Tensor:
        """See `styletryon.ops.upfirdn2d`."""

    def styled_layer(self, inputs: LayerInputs, settings: LayerSettings, prepared: Filters | None = None) -> Tensor:
        """See `styletryon.ops._layer.styled_layer`; without bias, noise and activation, `modulated_conv2d`."""


class _Forced(threading.local):
    # A ContextVar would do the same, but torch.compile cannot trace through one.
    backend: Backend | None = None


_forced = _Forced()
_environment_at_import = os.environ.get(ENVIRONMENT_VARIABLE)


@dataclass(frozen=True)
class BackendStatus:
    """Which path the ops of the calling thread take, and why.

    Attributes:
        requested: What was asked for: ``"auto"``, ``"reference"`` or ``"fused"``.
        requested_by: Who asked: ``"use_backend"``, ``"STYLETRYON_OPS"`` or ``"default"``.
        active: The path of tensors on `device`, ``"reference"`` or ``"fused"``; None when their ops would raise.
        reason: Why, in one sentence.
        device: The CUDA device that this is about, such as ``"cuda:0"``; None where there is none.
        arch: What the kernels are compiled for there, such as ``"sm_90"``; None as long as nothing has used CUDA.
        nvrtc: Version and file of the library that compiles the kernels, or why there is none.
        cache_folder: Where compiled kernels are kept.
        cache_files: How many files of compiled kernels lie there.
        cache_bytes: Their bytes.
        notes: What costs time, one sentence each: a cache that cannot be written, say.
    """

    requested: Backend
    requested_by: str
    active: Literal["reference", "fused"] | None
    reason: str
    device: str | None
    arch: str | None
    nvrtc: str
    cache_folder: str
    cache_files: int
    cache_bytes: int
    notes: tuple[str, ...]


def _parse(name: str, value: object) -> Backend:
    for backend in _BACKENDS:
        if value == backend:
            return backend
    raise ConfigError(
        f"expected one of 'auto', 'reference', 'fused', got {value!r}; 'auto' is right for nearly everyone",
        argument=name,
    )


def _requested() -> tuple[Backend, str]:
    if _forced.backend is not None:
        return _forced.backend, "use_backend"
    # The oldest torch that we support cannot trace through os.environ; a compiled graph keeps its first choice anyway.
    value = _environment_at_import if torch.compiler.is_compiling() else os.environ.get(ENVIRONMENT_VARIABLE)
    if value:
        return _parse(ENVIRONMENT_VARIABLE, value), ENVIRONMENT_VARIABLE
    return "auto", "default"


@contextmanager
def use_backend(name: Backend) -> Iterator[None]:
    """Chooses the path that the ops take inside a ``with`` block, on the calling thread only.

    Blocks nest; leaving one restores what held before it. The name is checked here, whether the path can run is
    checked by each op.

    Args:
        name: ``"auto"``, the fastest path that can run; ``"reference"``, plain PyTorch on every device; ``"fused"``,
            the fused kernels or an error, so that nothing slower is ever used unnoticed.

    Yields:
        Nothing.

    Raises:
        ConfigError: `name` is none of the three.

    Example:
        >>> from styletryon import ops
        >>> with ops.use_backend("reference"):
        ...     ops.backend_status().requested
        'reference'
    """
    backend = _parse("name", name)
    before = _forced.backend
    _forced.backend = backend
    try:
        yield
    finally:
        _forced.backend = before


# ------------------------------------------------------------------------------------------- what can run, and what ran


@dataclass(frozen=True)
class _Outcome:
    """What came of loading the kernels of one dtype on one device: no reason if they are ready.

    Not the exception itself: its traceback would keep the tensors of the first op alive.
    """

    reason: str | None
    details: str = ""


_load_lock = threading.Lock()
_outcomes: dict[tuple[int, torch.dtype], _Outcome] = {}
_told: set[str] = set()
_fused: Implementation | None = None  # Set by the first device whose kernels are ready.


def _answered_while_tracing(function: Function) -> Function:
    """Has torch.compile call a function while it traces, and rely on the answer, not trace into locks and libraries."""
    # What torch.compiler.assume_constant_result does; that imports the whole compiler, which takes seconds.
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def _tell(reason: str, text: str) -> None:
    """Warns of a reason once in a process, whichever thread and device comes first."""
    if reason in _told:
        return
    with _load_lock:
        if reason in _told:
            return
        _told.add(reason)
    warnings.warn(text, FusedOpsWarning, stacklevel=5)  # The line that called the op, as a rule.


def _try_loading(index: int, dtype: torch.dtype) -> _Outcome:
    global _fused
    try:
        from styletryon.ops import _fused as fused

        tail = f"_{_kernels.TYPES[dtype]}"
        names = [name for name in _kernels.source_names() if name.endswith(tail)]
        _modules.warm_up(torch.device("cuda", index), names)
        _fused = cast(Implementation, fused)
    except Exception as error:  # Whatever it is: the op can still be computed, and one slow op beats one failed run.
        if isinstance(error, BackendUnavailableError):
            reason, _, details = str(error).partition("\n")
            return _Outcome(reason, details)
        told = " ".join(f"{type(error).__name__}: {error}".split())
        return _Outcome(f"loading them met an unexpected {told}; please report it", traceback.format_exc())
    return _Outcome(None)


@_answered_while_tracing
def _obstacle_on(index: int, dtype: torch.dtype, silent: bool) -> str | None:
    """Why the fused kernels cannot run on a device that should run them; None if they are ready, which it sees to."""
    key = index, dtype
    outcome = _outcomes.get(key)
    if outcome is not None and outcome.reason is None:
        return None
    if outcome is not None:
        reason = outcome.reason
    elif _nvrtc.is_capturing():
        # For this call only: after the capture, they may be loaded.
        reason = (
            "a CUDA graph is being captured and the fused kernels are not loaded; "
            "call styletryon.ops.warm_up(device) before the capture"
        )
    else:
        with _load_lock:
            if key not in _outcomes:
                _outcomes[key] = _try_loading(index, dtype)
            reason = _outcomes[key].reason
        for note in _nvrtc.notes() if reason is None else ():
            _tell(note, f"The ops run fused, but {note}.")
    if reason is not None and not silent:
        _tell(reason, f"The ops run on plain PyTorch, which is slower, because {reason}.")
    return reason


@_answered_while_tracing
def _is_transformed() -> bool:
    """Whether a transform of torch.func or forward-mode differentiation is under way."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def _not_made_for(x: Tensor) -> str | None:
    """Why the fused kernels are not made for a tensor, or for what is being done with it; None if they are."""
    if not x.is_cuda:
        return "fused kernels exist for CUDA tensors alone"
    if torch.version.hip is not None:
        return "fused kernels exist for NVIDIA devices alone, and this torch is built for ROCm"
    if x.dtype not in _kernels.TYPES:
        return f"fused kernels exist for {_FUSED_DTYPES} alone"
    # Their derivatives are written for reverse mode.
    if _is_transformed():
        return "the transforms of torch.func and forward-mode differentiation run on plain PyTorch alone"
    return None


def choose(x: Tensor) -> Implementation:
    """Picks the implementation for an op whose main input is `x`.

    The first CUDA tensor of a dtype has the kernels for it compiled or read from the cache, and loaded.

    Raises:
        BackendUnavailableError: the fused path was asked for and cannot run.
        ConfigError: the environment variable `STYLETRYON_OPS` holds an unknown name.
    """
    requested, requested_by = _requested()
    if requested == "reference":
        return _plain(x)
    reason = _not_made_for(x)
    if reason is None:
        reason = _obstacle_on(x.device.index, x.dtype, requested == "fused")
        if reason is None and _fused is not None:
            return _fused
    if requested == "fused":
        _refuse(f"a tensor on {x.device}", requested_by, reason)
    return _plain(x)


def _plain(x: Tensor) -> Implementation:
    return _cpu if x.device.type == "cpu" else _reference


def _refuse(what: str, requested_by: str, reason: str | None) -> NoReturn:
    text = f"{requested_by}: expected fused kernels for {what}, got none: {reason}; choose 'auto' or 'reference'"
    details = next((outcome.details for outcome in list(_outcomes.values()) if outcome.reason == reason), "")
    raise BackendUnavailableError(f"{text}\n{details}" if details else text)


def _no_device() -> str | None:
    """Why no device of this machine can run fused kernels; None if one may."""
    if torch.version.hip is not None:
        return "the fused kernels are for NVIDIA devices, and this torch is built for ROCm"
    if torch.version.cuda is None:
        return "this torch is built without CUDA"
    if not torch.cuda.is_available():
        return "torch finds no CUDA device"
    return None


def warm_up(device: torch.device | str | int | None = None, *, dtypes: Sequence[torch.dtype] = _WARM) -> BackendStatus:
    """Compiles and loads the fused kernels on a device now, so that no op does it later.

    Without it, the first op on a CUDA tensor of each dtype does. Call it before capturing a CUDA graph, in which
    nothing can be compiled, and before timing anything. Where fused kernels are not in use, it does nothing.

    Args:
        device: A CUDA device, such as ``"cuda:1"``; None takes the current one.
        dtypes: The dtypes of the tensors to come; under autocast, that of autocast too.

    Returns:
        What `backend_status` says afterwards.

    Raises:
        BackendUnavailableError: the fused path was asked for and cannot run.
        ConfigError: `device` is no CUDA device, there are no kernels for a dtype, or the environment variable
            `STYLETRYON_OPS` holds an unknown name.
    """
    requested, requested_by = _requested()
    wanted = _parse_device(device)
    for dtype in dtypes:
        if dtype not in _kernels.TYPES:
            raise ConfigError(f"expected some of {_FUSED_DTYPES}, got {dtype}; leave it out", argument="dtypes")
    if requested != "reference":
        reason = _no_device()
        if reason is None:
            index = _nvrtc.device_index(wanted)
            reasons = [_obstacle_on(index, dtype, requested == "fused") for dtype in dtypes]
            reason = next(filter(None, reasons), None)
        if requested == "fused" and reason is not None:
            _refuse(str(wanted), requested_by, reason)
    return backend_status(device)


def _parse_device(device: torch.device | str | int | None) -> torch.device:
    if isinstance(device, int):
        return torch.device("cuda", device)
    try:
        parsed = torch.device("cuda" if device is None else device)
    except RuntimeError:
        parsed = None
    if parsed is None or parsed.type != "cuda":
        raise ConfigError(
            f"expected a CUDA device such as 'cuda:0', got {str(device)!r}; leave it out", argument="device"
        )
    return parsed


def backend_status(device: torch.device | str | int | None = None) -> BackendStatus:
    """Tells which path the ops of the calling thread take, and why.

    Args:
        device: The CUDA device that is asked about, such as ``"cuda:1"``; None takes the current one.

    Returns:
        What was requested, by whom, what is in use, the reason, and with what the kernels are made. It never compiles
        anything; before the first op on a CUDA tensor it says what will be tried.

    Raises:
        ConfigError: `device` is no CUDA device, or the environment variable `STYLETRYON_OPS` holds an unknown name.
    """
    requested, requested_by = _requested()
    wanted = _parse_device(device)
    obstacle = _no_device()
    index = _nvrtc.device_index(wanted) if obstacle is None else None
    arch, nvrtc, found = None, "", None
    try:
        found = _nvrtc.find_nvrtc()
        nvrtc = f"{_nvrtc.format_version(found.version)} ({found.path})"
        if index is not None and _nvrtc.is_initialized():
            arch = found.arch_for(_nvrtc.capability(index))
    except BackendUnavailableError as error:
        obstacle = obstacle or str(error)
        nvrtc = nvrtc or (f"none: {error}" if torch.version.cuda else "none")
    outcomes = [outcome for (where, _), outcome in list(_outcomes.items()) if where == index]
    if outcomes:  # What happened says more than what is to be expected.
        obstacle = next((outcome.reason for outcome in outcomes if outcome.reason is not None), None)
    active: Literal["reference", "fused"] | None
    if requested == "reference":
        active, reason = "reference", "plain PyTorch was asked for"
    elif obstacle is None:
        active = "fused"
        state = "are loaded" if outcomes else "will be loaded by the first op that needs them"
        reason = f"the fused kernels {state}; what they are not made for runs on plain PyTorch"
    elif requested == "fused":
        active, reason = None, f"the fused path was asked for, but {obstacle}"
    else:
        where = "every device" if index is None else f"cuda:{index}"
        active, reason = "reference", f"plain PyTorch on {where}: {obstacle}"
    try:
        folder = str(_nvrtc.cache_folder())
    except RuntimeError as error:
        folder = f"none: {error}"
    return BackendStatus(
        requested,
        requested_by,
        active,
        reason,
        None if index is None else f"cuda:{index}",
        arch,
        nvrtc,
        folder,
        *_nvrtc.cache_content(),
        _nvrtc.notes(),
    )
