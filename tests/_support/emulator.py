"""Runs the CUDA kernels on the CPU: the same text, compiled as C++, launched as `styletryon.ops._kernels` says."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from styletryon.ops import _kernels
from styletryon.ops._kernels import Launch

HEADER = Path(__file__).with_name("emulation.hpp")
SANITIZE = ("-fsanitize=undefined", "-fno-sanitize-recover=all", "-g1")
LETTERS = {
    ctypes.c_void_p: "P",
    ctypes.c_longlong: "q",
    ctypes.c_int: "i",
    ctypes.c_float: "f",
    ctypes.c_double: "d",
}
# What hardware allows, and what __launch_bounds__ of the kernels does.
MOST_BLOCKS = (2**31 - 1, 65535, 65535)


def compiler() -> str:
    """The C++ compiler; where tests have to be complete, a machine without one fails them."""
    found = shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")
    if found is None:
        message = "the kernels are tested on the CPU by a C++ compiler, and there is none: install g++ or set CXX"
        if os.environ.get("CI"):
            pytest.fail(message, pytrace=False)
        pytest.skip(message)
    return found


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="styletryon-emulator-")


@functools.cache
def library(source: str, sanitize: bool = False) -> ctypes.CDLL:
    """One translation unit of the kernels, compiled for the CPU."""
    exports = "\n".join(f"EXPORT({kernel})" for kernel in _kernels.kernel_names(source))
    text = f'#include "{HEADER}"\n{_kernels.source_text(source, conversions="")}\n{exports}\n'
    stem = Path(_folder().name) / f"{source}{'_sanitized' if sanitize else ''}"
    stem.with_suffix(".cpp").write_text(text, encoding="utf-8")
    command = [compiler(), "-std=c++17", "-O1", "-fPIC", "-shared", "-fno-strict-aliasing", "-ffp-contract=off", "-w"]
    command += [*(SANITIZE if sanitize else ()), str(stem.with_suffix(".cpp")), "-o", str(stem.with_suffix(".so"))]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, f"{source} is not C++:\n{outcome.stderr[:4000]}"
    return ctypes.CDLL(str(stem.with_suffix(".so")))


def run(launch: Launch, first: int = 0, end: int | None = None, *, sanitize: bool = False) -> None:
    """Launches a kernel; of the blocks, counted along x first, only those from `first` up to `end`."""
    code = library(launch.source, sanitize)
    check(launch, code)
    shape = (ctypes.c_uint * 6)(*launch.grid, *launch.block)
    values = [kind(value) for value, kind in launch.args]
    pointers = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
    end = launch.grid[0] * launch.grid[1] * launch.grid[2] if end is None else end
    getattr(code, f"run_{launch.kernel}")(shape, ctypes.c_longlong(first), ctypes.c_longlong(end), pointers)


def check(launch: Launch, code: ctypes.CDLL) -> None:
    """What the driver would refuse, and what it would not notice: arguments that are not what the kernel declares."""
    assert all(1 <= n <= most for n, most in zip(launch.grid, MOST_BLOCKS, strict=True)), launch
    assert all(n >= 1 for n in launch.block), launch
    assert launch.block[2] <= 64, launch
    bound = 256 if "bias_act" in launch.kernel or launch.kernel.endswith("_any") else 128
    assert launch.block[0] * launch.block[1] * launch.block[2] <= bound, launch
    describe = getattr(code, f"describe_{launch.kernel}")
    describe.restype = ctypes.c_char_p
    assert "".join(LETTERS[kind] for _, kind in launch.args) == describe().decode(), launch
    for value, kind in launch.args:
        assert type(value) is (float if kind in (ctypes.c_float, ctypes.c_double) else int), (value, launch)
        if kind is ctypes.c_int:
            assert -(2**31) <= value < 2**31, (value, launch)


@contextmanager
def ops_on_the_cpu(*, sanitize: bool = False) -> Iterator[list[Launch]]:
    """Has CPU tensors run through the registered ops and the emulated kernels; yields what is launched.

    The registration is undone at the end: CPU tensors have no fused path in the library.
    """
    from styletryon.ops import _library

    launches: list[Launch] = []

    def launch(plan: Launch, device: torch.device) -> None:
        assert device.type == "cpu"
        launches.append(plan)
        run(plan, sanitize=sanitize)

    registration = torch.library.Library("styletryon", "IMPL")
    before = _library.launch
    _library.launch = launch
    try:
        for name, function in _library.KERNELS.items():
            registration.impl(name, function, "CPU")
        yield launches
    finally:
        _library.launch = before
        registration._destroy()
