"""The compiled kernels of this process: each source loaded once per device, compiled or read from the cache."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from styletryon.errors import BackendUnavailableError
from styletryon.ops import _kernels, _nvrtc

_modules: dict[tuple[str, int], _nvrtc.Module] = {}
_modules_lock = threading.Lock()


def _sources() -> dict[str, _nvrtc.Source]:
    return {source.name: source for source in _kernels.sources()}


def module(source_name: str, device: torch.device) -> _nvrtc.Module:
    """Returns a source ready to launch from on a device: compiled or read from the cache, and loaded, once.

    Args:
        source_name: The name of one of `_kernels.sources()`.
        device: A CUDA device.

    Returns:
        The same object for the same source and device, on every thread.

    Raises:
        BackendUnavailableError: It cannot be had; the first line says why.
    """
    key = source_name, _nvrtc.device_index(device)
    if key not in _modules:
        _load((source_name,), key[1])
    return _modules[key]


def warm_up(device: torch.device, source_names: Sequence[str] | None = None) -> None:
    """Loads sources on a device, so that no op compiles later. What has to be compiled is, on several threads at once.

    Args:
        device: A CUDA device.
        source_names: Names of `_kernels.sources()`; None takes all.

    Raises:
        BackendUnavailableError: One cannot be had; the first line says why.
    """
    _load(tuple(_sources()) if source_names is None else tuple(source_names), _nvrtc.device_index(device))


def _load(names: Sequence[str], index: int) -> None:
    with _modules_lock:
        missing = [name for name in names if (name, index) not in _modules]
        if not missing:
            return
        if _nvrtc.is_capturing():
            raise BackendUnavailableError(
                f"the kernels of {missing[0]!r} are not loaded, and none can be while a CUDA graph is captured; "
                "call styletryon.ops.warm_up(device) before the capture"
            )
        arch, sources = _nvrtc.find_nvrtc().arch_for(_nvrtc.capability(index)), _sources()
        with ThreadPoolExecutor(min(len(missing), os.cpu_count() or 1)) as pool:
            images = list(pool.map(lambda name: _nvrtc.cached_cubin(sources[name], arch), missing))
        for name, image in zip(missing, images, strict=True):
            _modules[name, index] = _nvrtc.Module(image, index)
