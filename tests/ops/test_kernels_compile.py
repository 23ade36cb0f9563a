"""Every kernel compiles for every kind of GPU, by the compiler that users have, and is called what its launch says."""

from __future__ import annotations

import os
import re
import sys

import pytest

from styletryon.errors import BackendUnavailableError
from styletryon.ops import _kernels, _nvrtc

ARCHS = (75, 80, 86, 89, 90, 100, 120)


def _compile(name: str, arch: int) -> bytes:
    try:
        nvrtc = _nvrtc.find_nvrtc()
    except BackendUnavailableError as error:
        if os.environ.get("CI") and sys.platform == "linux":
            pytest.fail(f"the kernels cannot be compiled here: {error}", pytrace=False)
        pytest.skip(str(error))
    if arch not in nvrtc.archs:
        pytest.skip(f"NVRTC {_nvrtc.format_version(nvrtc.version)} does not know sm_{arch}")
    return nvrtc.compile({source.name: source for source in _kernels.sources()}[name], f"sm_{arch}")


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("name", _kernels.source_names())
def test_compiles(name, arch):
    cubin = _compile(name, arch)
    kernels = set(re.findall(rb"\.text\.(\w+)", cubin))
    assert kernels == {kernel.encode() for kernel in _kernels.kernel_names(name)}


def test_16_bytes_move_at_a_time():
    """The wide kernels load and store four words at once, and nothing spills from registers to memory."""
    for name in ("bias_act_f16", "upfirdn2d_f16"):
        text = _compile_to_ptx(name)
        for kernel, body in re.findall(r"\.entry (\w+)\((.*?)(?=\.entry|\Z)", text, flags=re.DOTALL):
            if "_wide_" in kernel:
                assert re.search(r"ld\.global(\.nc)?\.v4\.[ubf]32", body), f"{kernel} loads in pieces"
                assert re.search(r"st\.global\.v4\.[ubf]32", body), f"{kernel} stores in pieces"
            assert ".local" not in body, f"{kernel} keeps an array in memory"
            assert ".f64" not in body, f"{kernel} computes in double"


def _compile_to_ptx(name: str) -> str:
    try:
        nvrtc = _nvrtc.find_nvrtc()
    except BackendUnavailableError as error:
        pytest.skip(str(error))
    source = {source.name: source for source in _kernels.sources()}[name]
    return nvrtc.compile(source, "compute_90").decode()


def test_the_sources_include_nothing():
    """Users have no CUDA headers."""
    for source in _kernels.sources():
        assert "#include" not in source.text
