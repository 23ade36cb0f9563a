"""The choice of the path that an op takes; nothing else decides it.

Asked for in this order: the innermost `use_backend` of the calling thread, the environment variable `STYLETRYON_OPS`,
``"auto"``. The choice is made once, in the forward; a backward never comes here, because autograd may run it on
another thread.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import torch
from torch import Tensor

from styletryon.errors import BackendUnavailableError, ConfigError
from styletryon.ops import _composite
from styletryon.ops._arguments import Padding

Backend: TypeAlias = Literal["auto", "reference", "fused"]

ENVIRONMENT_VARIABLE = "STYLETRYON_OPS"
_BACKENDS: tuple[Backend, ...] = ("auto", "reference", "fused")
_NO_FUSED_PATH = "this version of styletryon has no fused kernels"


class Implementation(Protocol):
    """What a path offers: each op with every argument given and checked."""

    def bias_act(
        self,
        x: Tensor,
        bias: Tensor | None,
        noise: Tensor | None,
        activation: str,
        gain: float,
        clamp: float | None,
    ) -> Tensor:
        """See `styletryon.ops.bias_act`."""

    def upfirdn2d(
        self,
        x: Tensor,
        taps: Tensor,
        up: int,
        down: int,
        padding: Padding,
        flip_filter: bool,
        gain: float,
    ) -> Tensor:
        """See `styletryon.ops.upfirdn2d`."""

    def modulated_conv2d(
        self,
        x: Tensor,
        weight: Tensor,
        styles: Tensor,
        up: int,
        taps: Tensor | None,
        demodulate: bool,
    ) -> Tensor:
        """See `styletryon.ops.modulated_conv2d`."""


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
        active: The path in use, ``"reference"`` or ``"fused"``; None when every op would raise.
        reason: Why, in one sentence.
    """

    requested: Backend
    requested_by: str
    active: Literal["reference", "fused"] | None
    reason: str


def _parse(name: str, value: object) -> Backend:
    for backend in _BACKENDS:
        if value == backend:
            return backend
    raise ConfigError(
        f"{name}: expected one of 'auto', 'reference', 'fused', got {value!r}; 'auto' is right for nearly everyone"
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


def backend_status() -> BackendStatus:
    """Tells which path the ops of the calling thread take, and why.

    Returns:
        What was requested, by whom, what is in use, and the reason. It never compiles anything.

    Raises:
        ConfigError: the environment variable `STYLETRYON_OPS` holds an unknown name.
    """
    requested, requested_by = _requested()
    if requested == "reference":
        return BackendStatus(requested, requested_by, "reference", "plain PyTorch was asked for")
    if requested == "fused":
        return BackendStatus(requested, requested_by, None, f"the fused path was asked for, but {_NO_FUSED_PATH}")
    return BackendStatus(requested, requested_by, "reference", f"plain PyTorch on every device: {_NO_FUSED_PATH}")


def choose(x: Tensor) -> Implementation:
    """Picks the implementation for an op whose main input is `x`.

    Raises:
        BackendUnavailableError: the fused path was asked for and cannot run.
        ConfigError: the environment variable `STYLETRYON_OPS` holds an unknown name.
    """
    requested, requested_by = _requested()
    if requested == "fused":
        raise BackendUnavailableError(
            f"{requested_by}: expected fused kernels for a tensor on {x.device}, got none: {_NO_FUSED_PATH}; "
            "choose 'auto' or 'reference'"
        )
    return _composite
