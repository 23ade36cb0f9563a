"""A machine with CUDA devices that is none: tensors that say they are there, kernels that say they ran."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from styletryon.ops._nvrtc import Source

ADD = Source(
    "add",
    """
    extern "C" __global__ void add(float *x, long long n, float value, int step) {
        long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
        if (i < n) x[i * step] += value;
    }
    """,
)


@dataclasses.dataclass
class StubNvrtc:
    """Stands for `_nvrtc.Nvrtc`: compiles by counting."""

    seconds: float = 0.0
    version: tuple[int, int] = (13, 0)
    path: str = "libnvrtc-stub.so"
    compiled: list[str] = dataclasses.field(default_factory=list)

    def compile(self, source: Source, arch: str) -> bytes:
        self.compiled.append(f"{source.name} {arch}")
        time.sleep(self.seconds)
        return f"{source.text} for {arch}".encode()

    def arch_for(self, capability: tuple[int, int]) -> str:
        return f"sm_{10 * capability[0] + capability[1]}"


class OnCuda(torch.Tensor):
    """A tensor without memory that claims to lie on a CUDA device; what computes with it fails."""

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{function} was computed on a tensor that only claims to be there")


def on_cuda(index: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Feature maps (1, 2, 4, 4) that claim to lie on a CUDA device."""
    tensor: torch.Tensor = torch.Tensor._make_wrapper_subclass(
        OnCuda, (1, 2, 4, 4), dtype=dtype, device=torch.device("cuda", index)
    )
    return tensor


class StubFused:
    """An `Implementation` whose every op says its own name."""

    def __getattr__(self, name: str) -> Callable[..., str]:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *arguments: f"fused {name}"


class StubLoader:
    """Stands for `_modules.warm_up`: counts per device, takes its time, fails where it is told to.

    Args:
        failures: Device -> what loading there raises.
        seconds: How long loading takes.
    """

    def __init__(self, failures: dict[int, Exception] | None = None, seconds: float = 0.0) -> None:
        self.failures = failures or {}
        self.seconds = seconds
        self.loads: list[int] = []
        self.names: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, device: torch.device, names: Sequence[str]) -> None:
        with self._lock:
            self.loads.append(device.index)
            self.names += names
        time.sleep(self.seconds)
        if device.index in self.failures:
            failure = self.failures[device.index]
            raise type(failure)(*failure.args)  # Another one each time: a traceback keeps what it passed alive.
