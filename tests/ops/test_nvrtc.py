"""From source text to a launched kernel: the compiler, the cache, and a driver that only writes down its calls."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import ctypes.util
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from styletryon import ops
from styletryon.errors import BackendUnavailableError
from styletryon.ops import _nvrtc
from styletryon.ops._nvrtc import CompileError, Source
from tests._support.process import ROOT, SOURCE, run_python
from tests._support.stub_backend import ADD, StubNvrtc

ARCHS = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")

needs_nvrtc = pytest.mark.skipif(isinstance(_nvrtc._find_nvrtc(), str), reason=str(_nvrtc._find_nvrtc()))


@pytest.fixture
def nvrtc(monkeypatch, tmp_path):
    """A compiler that counts, in front of a cache of its own."""
    stub = StubNvrtc()
    monkeypatch.setattr(_nvrtc, "find_nvrtc", lambda: stub)
    monkeypatch.setattr(_nvrtc, "_notes", [])
    monkeypatch.setenv("STYLETRYON_CACHE", str(tmp_path / "cache"))
    return stub


@pytest.fixture
def folder(tmp_path):
    """The folder of that cache."""
    return tmp_path / "cache" / "ops"


# ------------------------------------------------------------------------------------------------------- the compiler


@needs_nvrtc
class TestCompile:
    @pytest.mark.parametrize("arch", ARCHS)
    def test_a_cubin_for_every_architecture_and_no_gpu(self, arch):
        if int(arch[3:]) not in _nvrtc.find_nvrtc().archs:
            pytest.skip(f"older than this architecture: {_nvrtc.find_nvrtc().path}")
        image = _nvrtc.compile_cubin(ADD, arch)
        assert image[:4] == b"\x7fELF"
        assert b"add" in image
        machine = struct.unpack_from("<H", image, 18)[0]
        assert machine == 190  # EM_CUDA

    def test_ptx_for_devices_that_this_compiler_does_not_know(self):
        newest = _nvrtc.find_nvrtc().archs[-1]
        assert _nvrtc.find_nvrtc().arch_for((99, 0)) == f"compute_{newest}"
        image = _nvrtc.compile_cubin(ADD, f"compute_{newest}")
        assert f".target sm_{newest}".encode() in image
        assert image.endswith(b"\0")  # The driver reads a string.

    def test_the_log_is_shown(self):
        with pytest.raises(CompileError) as error:
            _nvrtc.compile_cubin(Source("wrong", 'extern "C" __global__ void f() { undeclared = 1; }'), "sm_90")
        first, *log = str(error.value).splitlines()
        assert first.startswith("NVRTC ")
        assert "rejects the source 'wrong' for sm_90" in first
        assert any('wrong.cu(1): error: identifier "undeclared" is undefined' in line for line in log)

    def test_an_unknown_architecture(self):
        with pytest.raises(CompileError, match="for sm_1;"):
            _nvrtc.compile_cubin(ADD, "sm_1")

    def test_a_library_that_fails_is_no_fault_of_the_source(self):
        # Status 7: it lacks its second half, libnvrtc-builtins.
        class Incomplete:
            def __init__(self, library):
                self.library = library

            def __getattr__(self, name):
                if name != "nvrtcCompileProgram":
                    return getattr(self.library, name)
                return lambda *arguments: self.library.nvrtcCompileProgram(*arguments) or 7

        found = copy.copy(_nvrtc.find_nvrtc())
        found._library = Incomplete(found._library)
        with pytest.raises(BackendUnavailableError, match=r"NVRTC at /.* failed in nvrtcCompileProgram") as error:
            found.compile(ADD, "sm_90")
        assert not isinstance(error.value, CompileError)
        assert str(error.value).splitlines()[0].endswith("NVRTC_ERROR_BUILTIN_OPERATION_FAILURE; reinstall torch")

    def test_threads_compile_at_once(self):
        with ThreadPoolExecutor(4) as pool:
            images = list(pool.map(lambda _: _nvrtc.compile_cubin(ADD, "sm_90"), range(4)))
        assert len(set(images)) == 1

    def test_without_cuda_bindings(self):
        script = """
            import sys
            sys.modules["cuda"] = None
            from styletryon.ops import _nvrtc
            image = _nvrtc.compile_cubin(_nvrtc.Source("f", 'extern "C" __global__ void f() {}'), "sm_90")
            print(image[:4] == b"\\x7fELF")
        """
        result = run_python("-c", textwrap.dedent(script))
        assert result.stdout.strip() == "True", result.stderr


class TestFind:
    @pytest.fixture(autouse=True)
    def _forget(self, monkeypatch):
        monkeypatch.setattr(_nvrtc, "_find_nvrtc", _nvrtc._find_nvrtc.__wrapped__)

    def reason(self):
        with pytest.raises(BackendUnavailableError) as error:
            _nvrtc.find_nvrtc()
        assert "\n" not in str(error.value)
        return str(error.value)

    def test_no_library(self, monkeypatch):
        monkeypatch.setattr(_nvrtc, "_nvrtc_candidates", lambda: iter(["libnvrtc-that-is-nowhere.so"]))
        monkeypatch.setattr(torch.version, "cuda", "13.2")
        assert self.reason() == (
            "no NVRTC of CUDA 13 could be loaded: no library of that name was found; "
            "pip install --force-reinstall 'nvidia-cuda-nvrtc==13.*' brings one"
        )
        monkeypatch.setattr(torch.version, "cuda", "12.6")
        assert "'nvidia-cuda-nvrtc-cu12'" in self.reason()

    def test_a_broken_library(self, monkeypatch, tmp_path):
        broken = tmp_path / "libnvrtc.so.13"
        broken.write_bytes(b"this is no library")
        monkeypatch.setattr(_nvrtc, "_nvrtc_candidates", lambda: iter([str(broken)]))
        assert f"{broken} cannot be used ({broken}: " in self.reason()

    @pytest.mark.skipif(sys.platform == "win32", reason="takes a library of Linux")
    def test_a_library_that_is_another(self, monkeypatch):
        monkeypatch.setattr(_nvrtc, "_nvrtc_candidates", lambda: iter([ctypes.util.find_library("c") or "libc.so.6"]))
        assert "no library of that name was found" in self.reason()

    @needs_nvrtc
    def test_a_library_of_another_cuda_version(self, monkeypatch):
        monkeypatch.setattr(torch.version, "cuda", "11.8")
        assert "no NVRTC of CUDA 11 could be loaded: /" in self.reason()
        assert "is of CUDA 1" in self.reason()

    @needs_nvrtc
    def test_a_broken_library_before_a_good_one(self, monkeypatch):
        good = _nvrtc.find_nvrtc().path
        monkeypatch.setattr(_nvrtc, "_nvrtc_candidates", lambda: iter(["/no/such/libnvrtc.so", good]))
        assert _nvrtc.find_nvrtc().path == good

    def test_places(self, monkeypatch, tmp_path):
        (tmp_path / "lib64").mkdir()
        for name in ("libnvrtc.so.13", "libnvrtc-builtins.so.13", "libnvrtc.alt.so.13"):
            (tmp_path / "lib64" / name).touch()
        monkeypatch.setenv("CUDA_HOME", str(tmp_path))
        found = [path for path in _nvrtc._nvrtc_candidates() if path.startswith(str(tmp_path))]
        assert found == [str(tmp_path / "lib64" / "libnvrtc.so.13")]


class TestArchitecture:
    def nvrtc(self, *archs):
        found = object.__new__(_nvrtc.Nvrtc)
        found.archs, found.version = archs, (13, 0)
        return found

    @pytest.mark.parametrize(
        ("capability", "arch"),
        [((9, 0), "sm_90"), ((12, 0), "sm_120"), ((8, 8), "compute_86"), ((13, 5), "compute_120")],
    )
    def test_own_or_the_newest_that_is_older(self, capability, arch):
        assert self.nvrtc(75, 80, 86, 90, 120).arch_for(capability) == arch

    def test_devices_that_the_compiler_no_longer_knows(self):
        with pytest.raises(BackendUnavailableError, match=r"capability 7\.5 and newer, this device has 6\.1; "):
            self.nvrtc(75, 80).arch_for((6, 1))


# ---------------------------------------------------------------------------------------------------------- the cache


class TestCache:
    def test_compiles_once(self, nvrtc, folder):
        first = _nvrtc.cached_cubin(ADD, "sm_90")
        assert _nvrtc.cached_cubin(ADD, "sm_90") == first
        assert nvrtc.compiled == ["add sm_90"]
        files, size = _nvrtc.cache_content()
        assert files == 1
        assert size > len(first)
        assert not list(folder.glob(".*"))
        assert _nvrtc.notes() == ()

    def test_all_that_matters_is_in_the_key(self, nvrtc, monkeypatch):
        _nvrtc.cached_cubin(ADD, "sm_90")
        _nvrtc.cached_cubin(ADD, "sm_80")
        _nvrtc.cached_cubin(Source("add", ADD.text + " "), "sm_90")
        nvrtc.version = (13, 1)
        _nvrtc.cached_cubin(ADD, "sm_90")
        monkeypatch.setattr(_nvrtc, "_OPTIONS", ("--std=c++20",))
        _nvrtc.cached_cubin(ADD, "sm_90")
        assert len(nvrtc.compiled) == 5
        assert _nvrtc.cache_content()[0] == 5

    @pytest.mark.parametrize("damage", ["empty", "cut", "header", "bit", "other"])
    def test_a_damaged_file_is_compiled_anew(self, nvrtc, folder, damage):
        image = _nvrtc.cached_cubin(ADD, "sm_90")
        (path,) = folder.glob("*.bin")
        data = path.read_bytes()
        if damage == "other":  # A whole file, but of another architecture, under this one's name.
            _nvrtc.cached_cubin(ADD, "sm_80")
            (other,) = set(folder.glob("*.bin")) - {path}
            shutil.copy(other, path)
            nvrtc.compiled.clear()
            nvrtc.compiled.append("add sm_90")
        else:
            path.write_bytes(
                {
                    "empty": b"",
                    "cut": data[:-1],
                    "header": data[:10],
                    "bit": data[:-1] + bytes([data[-1] ^ 1]),
                }[damage]
            )
        assert _nvrtc.cached_cubin(ADD, "sm_90") == image
        assert len(nvrtc.compiled) == 2
        assert path.read_bytes() == data
        assert _nvrtc.cached_cubin(ADD, "sm_90") == image
        assert len(nvrtc.compiled) == 2

    def test_a_process_that_was_killed_while_writing(self, nvrtc, folder):
        script = """
            import os, signal
            from pathlib import Path
            from styletryon.ops import _nvrtc
            from tests._support.stub_backend import ADD, StubNvrtc
            _nvrtc.find_nvrtc = StubNvrtc
            def torn(path, data):
                with open(path, "wb") as file:
                    file.write(data[: len(data) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            Path.write_bytes = torn
            _nvrtc.cached_cubin(ADD, "sm_90")
        """
        result = run_python("-c", textwrap.dedent(script), environment=cache_of(folder))
        assert result.returncode == -9, result.stderr
        (part,) = folder.glob(".*.part")
        assert not list(folder.glob("*.bin"))
        assert _nvrtc.cached_cubin(ADD, "sm_90") == b"%s for sm_90" % ADD.text.encode()
        assert nvrtc.compiled == ["add sm_90"]
        assert part.exists()  # Young: it may be of a process that lives.
        os.utime(part, (0, 0))
        _nvrtc.cached_cubin(ADD, "sm_80")
        assert not part.exists()

    def test_processes_that_start_together_compile_once(self, folder, tmp_path):
        script = """
            import sys, time
            from pathlib import Path
            from styletryon.ops import _nvrtc
            from tests._support.stub_backend import ADD, StubNvrtc
            class Counting(StubNvrtc):
                def compile(self, source, arch):
                    with open(sys.argv[1], "a") as file:
                        file.write("compiled\\n")
                    return super().compile(source, arch)
            _nvrtc.find_nvrtc = lambda: Counting(seconds=1.0)
            Path(sys.argv[2]).touch()
            while len(list(Path(sys.argv[2]).parent.glob("ready*"))) < 2:
                time.sleep(0.005)
            _nvrtc.cached_cubin(ADD, "sm_90")
            print(_nvrtc.notes())
        """
        log = tmp_path / "log"
        with ThreadPoolExecutor(2) as pool:
            results = list(
                pool.map(
                    lambda number: run_python(
                        "-c", textwrap.dedent(script), log, tmp_path / f"ready{number}", environment=cache_of(folder)
                    ),
                    range(2),
                )
            )
        assert [result.stdout.strip() for result in results] == ["()", "()"], results[0].stderr + results[1].stderr
        assert log.read_text() == "compiled\n"

    def test_a_lock_that_never_comes_free(self, nvrtc, folder, monkeypatch):
        monkeypatch.setattr(_nvrtc, "LOCK_SECONDS", 0.3)
        _nvrtc.cached_cubin(ADD, "sm_90")
        (path,) = folder.glob("*.bin")
        path.unlink()
        with _nvrtc._locked(path.with_suffix(".lock")) as held:
            assert held
            for _ in range(2):
                assert _nvrtc.cached_cubin(ADD, "sm_90")
        (note,) = _nvrtc.notes()
        assert note.startswith("the kernels were compiled without the cache, because another process has held")
        assert not path.exists()
        assert _nvrtc.cached_cubin(ADD, "sm_90")
        assert path.exists()

    def test_a_killed_holder_gives_the_lock_back(self, nvrtc, folder):
        folder.mkdir(parents=True)
        script = """
            import sys, time
            from pathlib import Path
            from styletryon.ops import _nvrtc
            with _nvrtc._locked(Path(sys.argv[1])):
                print("held", flush=True)
                time.sleep(60)
        """
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), str(folder / "x.lock")],
            env={**os.environ, "PYTHONPATH": str(SOURCE)}, stdout=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            assert process.stdout.readline() == "held\n"
            process.kill()
            process.wait()
        with _nvrtc._locked(folder / "x.lock") as held:
            assert held

    @pytest.mark.skipif(sys.platform == "win32", reason="flock")
    def test_a_file_system_without_locks(self, nvrtc, folder, monkeypatch):
        import fcntl

        def unsupported(*_):
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr(fcntl, "flock", unsupported)
        for _ in range(2):
            _nvrtc.cached_cubin(ADD, "sm_90")
        assert nvrtc.compiled == ["add sm_90"]
        assert _nvrtc.notes() == ()

    def test_a_folder_that_cannot_be_made(self, nvrtc, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        monkeypatch.setenv("STYLETRYON_CACHE", str(tmp_path / "file"))
        for _ in range(2):
            assert _nvrtc.cached_cubin(ADD, "sm_90")
        (note,) = _nvrtc.notes()
        assert note == (
            f"every process compiles the kernels anew, because {tmp_path / 'file' / 'ops'} cannot be written "
            "(Not a directory); set STYLETRYON_CACHE to a folder that can"
        )
        assert _nvrtc.cache_content() == (0, 0)

    @pytest.mark.skipif(sys.platform == "win32", reason="the permissions of Linux")
    def test_a_read_only_folder(self, nvrtc, monkeypatch):
        with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as undo:
            monkeypatch.setenv("STYLETRYON_CACHE", place)
            os.chmod(place, 0o755)
            _nvrtc.cached_cubin(ADD, "sm_90")
            if os.geteuid() == 0:  # Who may write everywhere, and in a container often runs everything.
                os.seteuid(65534)
                undo.callback(os.seteuid, 0)
            else:
                os.chmod(os.path.join(place, "ops"), 0o555)
                undo.callback(os.chmod, os.path.join(place, "ops"), 0o755)
            _nvrtc.cached_cubin(ADD, "sm_90")
            assert nvrtc.compiled == ["add sm_90"]  # What is there may be read.
            assert _nvrtc.notes() == ()
            for _ in range(2):
                assert _nvrtc.cached_cubin(ADD, "sm_80")
            (note,) = _nvrtc.notes()
            assert f"{place}/ops cannot be written (Permission denied)" in note

    def test_a_disk_that_is_full(self, nvrtc, folder, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("pathlib.Path.write_bytes", full)
        assert _nvrtc.cached_cubin(ADD, "sm_90")
        assert nvrtc.compiled == ["add sm_90"]
        assert "(No space left on device)" in _nvrtc.notes()[0]
        assert not list(folder.glob(".*"))

    def test_no_home(self, nvrtc, monkeypatch):
        def nowhere():
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.delenv("STYLETRYON_CACHE")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr("pathlib.Path.home", nowhere)
        assert _nvrtc.cached_cubin(ADD, "sm_90")
        assert _nvrtc.notes() == (
            "every process compiles the kernels anew, because a cache folder cannot be written "
            "(Could not determine home directory.); set STYLETRYON_CACHE to a folder that can",
        )

    def test_a_wrong_source_is_no_matter_of_the_cache(self, nvrtc, monkeypatch):
        def rejected(*_):
            raise CompileError("NVRTC rejects it")

        monkeypatch.setattr(nvrtc, "compile", rejected)
        with pytest.raises(CompileError):
            _nvrtc.cached_cubin(ADD, "sm_90")
        assert _nvrtc.notes() == ()

    @pytest.mark.skipif(sys.platform == "win32", reason="the variables of Linux")
    def test_places(self, monkeypatch, tmp_path):
        monkeypatch.setenv("HOME", "/home/somebody")
        monkeypatch.delenv("STYLETRYON_CACHE", raising=False)
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        assert str(_nvrtc.cache_folder()) == "/home/somebody/.cache/styletryon/ops"
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")
        assert str(_nvrtc.cache_folder()) == "/home/somebody/.cache/styletryon/ops"
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert _nvrtc.cache_folder() == tmp_path / "styletryon" / "ops"
        monkeypatch.setenv("STYLETRYON_CACHE", "~/ours")
        assert str(_nvrtc.cache_folder()) == "/home/somebody/ours/ops"


def cache_of(folder, **more):
    """The environment of a process that uses the cache in `folder`."""
    return {"STYLETRYON_CACHE": str(folder.parent), "PYTHONPATH": f"{SOURCE}{os.pathsep}{ROOT}", **more}


# --------------------------------------------------------------------------------------------------------- the driver


@pytest.fixture(scope="module")
def libcuda(tmp_path_factory):
    """A folder with a driver that only writes down its calls."""
    if sys.platform != "linux" or shutil.which("gcc") is None:
        pytest.skip("needs Linux and gcc")
    folder = tmp_path_factory.mktemp("driver")
    source = ROOT / "tests" / "_support" / "stub_libcuda.c"
    command = ["gcc", "-shared", "-fPIC", "-o", str(folder / "libcuda.so.1"), str(source), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return folder


DRIVE = """
    import ctypes, json, os, sys, threading
    if sys.argv[1] == "ctypes":
        sys.modules["cuda"] = None
    import torch
    from styletryon.errors import BackendUnavailableError
    from styletryon.ops import _modules, _nvrtc
    from tests._support.stub_backend import ADD, StubNvrtc

    def section(name, **environment):
        global stub
        os.environ.update({"STUB_SIZES": "", "STUB_FAIL": "", "STUB_CAPABILITY": "9 0", **environment})
        _modules._modules.clear()
        _nvrtc.capability.cache_clear()
        stub = StubNvrtc()
        with open(os.environ["STUB_LOG"], "a") as log:
            log.write(f"# {name}\\n")

    def in_thread(work, count=1):
        threads = [threading.Thread(target=work) for _ in range(count)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()

    _modules._sources = lambda: {"add": ADD}
    _nvrtc.find_nvrtc = lambda: stub
    device, one, many = torch.device("cuda", 1), (1, 1, 1), (32, 1, 1)
    out = {}
    enter = lambda: _nvrtc._driver().call("cuCtxSetCurrent", ctypes.c_void_p(0x1001))  # As torch does.

    section("launch", STUB_SIZES="8 8 4 4 8")
    module = _modules.module("add", device)
    out["same"] = module is _modules.module("add", device)
    _modules.warm_up(device)
    enter()
    arguments = [
        (0x7F0000000010, ctypes.c_void_p), (5_000_000_000, ctypes.c_longlong),
        (1.5, ctypes.c_float), (-2, ctypes.c_int), (0.5, ctypes.c_double),
    ]
    for _ in range(2):
        module.launch("add", (3, 2, 1), (256, 1, 2), 1024, 0xABC, arguments)
    out["compiled"] = stub.compiled

    section("thread")
    in_thread(lambda: [module.launch("add", one, many, 0, 0, []) for _ in range(2)])

    section("shared")
    for shared in (100, 49152, 65536, 50000, 65536, 90000):
        module.launch("add", one, many, shared, 0, [])

    section("threads")
    stub.seconds, found = 0.3, []
    in_thread(lambda: found.append(_modules.module("add", device)), 6)
    out["threads"] = [len(found), len(set(found))]

    section("devices")
    out["devices"] = len({_modules.module("add", torch.device("cuda", index)) for index in (0, 1)})

    section("capability", STUB_CAPABILITY="12 1")
    _modules.module("add", device)
    out["capability"] = stub.compiled

    for name, failure in (("load", "cuModuleLoadData 209"), ("launch", "cuLaunchKernel 719")):
        section(f"refused {name}", STUB_FAIL=failure)
        try:
            _modules.module("add", device).launch("add", (1, 2, 3), many, 0, 0, [])
        except BackendUnavailableError as error:
            out[f"refused {name}"] = str(error)
    print(json.dumps(out))
"""


@pytest.fixture(scope="module", params=["cuda.bindings", "ctypes"])
def driven(request, libcuda, tmp_path_factory):
    """What that script printed on that driver, and the calls that the driver saw, section by section."""
    if request.param == "cuda.bindings":
        pytest.importorskip("cuda.bindings.driver")
    folder = tmp_path_factory.mktemp("driven")
    path = os.pathsep.join(filter(None, [str(libcuda), os.environ.get("LD_LIBRARY_PATH")]))
    environment = cache_of(folder / "ops", STUB_LOG=str(folder / "calls"), LD_LIBRARY_PATH=path)
    result = run_python("-W", "error", "-c", textwrap.dedent(DRIVE), request.param, environment=environment)
    assert result.returncode == 0, result.stderr
    calls = {}
    for part in (folder / "calls").read_text().split("# ")[1:]:
        name, *lines = part.splitlines()
        # cuda.bindings starts the driver on its own account too.
        calls[name] = [line for line in lines if not line.startswith("cuInit")]
    return json.loads(result.stdout), calls


class TestDriver:
    def test_loads_into_the_context_of_torch_and_launches(self, driven):
        out, calls = driven
        launch = (
            "cuLaunchKernel 0x3001 grid 3 2 1 block 256 1 2 shared 1024 stream 0xabc arguments "
            "7f0000000010 12a05f200 3fc00000 fffffffe 3fe0000000000000"
        )
        assert out["same"] is True
        assert out["compiled"] == ["add sm_90"]
        assert calls["launch"] == [
            "cuDeviceGet 1",
            "cuDeviceGet 1",
            "cuDevicePrimaryCtxRetain 1",
            f"cuModuleLoadData context 0x1001 mode 2 {len(ADD.text)}",
            "cuFuncLoad 0x3000",
            "cuFuncLoad 0x3001",
            "cuCtxSetCurrent 0x1001",
            "cuModuleGetFunction add",
            launch,
            launch,
        ]

    def test_a_thread_without_a_context_gets_torchs(self, driven):
        _, calls = driven
        assert [call.split(" stream")[0] for call in calls["thread"]] == [
            "cuLaunchKernel without a context",
            "cuCtxSetCurrent 0x1001",
            "cuLaunchKernel 0x3001 grid 1 1 1 block 32 1 1 shared 0",
            "cuLaunchKernel 0x3001 grid 1 1 1 block 32 1 1 shared 0",
        ]

    def test_much_shared_memory_is_asked_for_once(self, driven):
        _, calls = driven
        asked = [call for call in calls["shared"] if "Attribute" in call]
        assert asked == ["cuFuncSetAttribute 0x3001 8 65536", "cuFuncSetAttribute 0x3001 8 90000"]
        assert len(calls["shared"]) == 8

    def test_threads_load_once(self, driven):
        out, calls = driven
        assert out["threads"] == [6, 1]
        assert sum(call.startswith("cuModuleLoadData") for call in calls["threads"]) == 1

    def test_every_device_has_its_own(self, driven):
        out, calls = driven
        assert out["devices"] == 2
        contexts = [call.split()[2] for call in calls["devices"] if call.startswith("cuModuleLoadData")]
        assert contexts == ["0x1000", "0x1001"]

    def test_compiles_for_the_device_that_is_there(self, driven):
        assert driven[0]["capability"] == ["add sm_121"]

    def test_what_the_driver_refuses(self, driven):
        out, _ = driven
        assert out["refused load"] == (
            "the NVIDIA driver refuses cuModuleLoadData with CUDA_ERROR_NO_BINARY_FOR_GPU; update the driver"
        )
        assert out["refused launch"].startswith(
            "the NVIDIA driver refuses to launch add on grid (1, 2, 3), block (32, 1, 1), with CUDA_ERROR_LAUNCH_FAILED"
        )

    def test_no_driver(self):
        if torch.cuda.is_available():
            pytest.skip("there is one")
        with pytest.raises(BackendUnavailableError, match=r"the NVIDIA driver's \S+ cannot be loaded \(.*\); install"):
            _nvrtc._driver()


# ------------------------------------------------------------------------------------------------------- with a device

FIRST_USE = """
    import json, os, sys, time, warnings
    import torch
    from styletryon import ops
    from styletryon.ops import _nvrtc
    torch.zeros(1, device="cuda").add_(1).item()  # Starting CUDA is not ours.
    compiled, compile = [], _nvrtc.Nvrtc.compile
    def counting(self, source, arch):
        compiled.append(source.name)
        return compile(self, source, arch)
    _nvrtc.Nvrtc.compile = counting
    if os.environ.get("BROKEN"):
        _nvrtc._nvrtc_candidates = lambda: iter([os.environ["BROKEN"]])
    x = torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        start = time.perf_counter()
        y = ops.bias_act(x.to("cuda"), torch.ones(8, device="cuda"))
        z = ops.upsample2d(y, ops.setup_filter([1, 3, 3, 1]).to("cuda"))
        torch.cuda.synchronize()
        seconds = time.perf_counter() - start
    expected = ops.upsample2d(ops.bias_act(x, torch.ones(8)), ops.setup_filter([1, 3, 3, 1]))
    print(json.dumps({
        "seconds": seconds, "compiled": compiled, "told": [str(warning.message) for warning in told],
        "active": ops.backend_status().active, "error": (z.cpu() - expected).abs().max().item(),
    }))
"""


@pytest.mark.gpu
class TestOnADevice:
    def first_use(self, folder, **environment):
        result = run_python("-c", textwrap.dedent(FIRST_USE), environment=cache_of(folder, **environment))
        assert result.returncode == 0, result.stderr
        seen = json.loads(result.stdout)
        assert seen["error"] < 1e-5
        return seen

    def test_first_use_compiles_and_the_second_process_reads_the_cache(self, tmp_path, record_property):
        first = self.first_use(tmp_path / "ops")
        second = self.first_use(tmp_path / "ops")
        for name, seen in (("first", first), ("second", second)):
            record_property(f"{name}_use_seconds", seen["seconds"])
            print(f"{name} use: {seen['seconds']:.2f} s, compiled {seen['compiled']}")
            assert (seen["active"], seen["told"]) == ("fused", [])
        assert first["compiled"]
        assert first["seconds"] < 3.0
        assert second["compiled"] == []
        assert second["seconds"] < 1.0

    def test_a_cache_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").touch()  # Root may write into a read-only folder, but into no file as if it were one.
        seen = self.first_use(tmp_path / "file" / "ops")
        assert seen["active"] == "fused"
        assert len(seen["told"]) == 1
        assert "cannot be written" in seen["told"][0]

    def test_a_broken_compiler_library(self, tmp_path):
        broken = tmp_path / "libnvrtc.so.13"
        broken.write_bytes(b"this is no library")
        seen = self.first_use(tmp_path / "ops", BROKEN=str(broken))
        assert seen["active"] == "reference"
        assert len(seen["told"]) == 1
        assert str(broken) in seen["told"][0]

    def test_a_launch_goes_to_the_current_stream(self):
        ops.warm_up()
        x, bias = torch.zeros(4, 8, 64, 64, device="cuda"), torch.zeros(8, device="cuda")
        stream = torch.cuda.Stream()
        torch.cuda.synchronize()
        with ops.use_backend("fused"), torch.cuda.stream(stream):
            torch.cuda._sleep(200_000_000)
            x.fill_(1.0)  # Waits for the sleep; a launch on another stream would overtake it.
            y = ops.bias_act(x, bias, gain=1.0)
        stream.synchronize()
        assert (y == 1).all()

    def test_threads_and_their_streams(self):
        barrier = threading.Barrier(4)

        def work(number):
            x = torch.full((2, 8, 32, 32), float(number), device="cuda", requires_grad=True)
            barrier.wait()
            with ops.use_backend("fused"), torch.cuda.stream(torch.cuda.Stream()):
                torch.cuda.current_stream().wait_stream(torch.cuda.default_stream())
                for _ in range(20):
                    y = ops.bias_act(x, gain=1.0)
                    (grad,) = torch.autograd.grad(y.sum(), x)
                torch.cuda.current_stream().synchronize()
            return (y == number).all().item() and (grad == 1).all().item()

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(work, range(1, 5)))

    def test_a_graph_is_captured_after_warm_up(self):
        assert ops.warm_up().active == "fused"
        x = torch.zeros(2, 8, 16, 16, device="cuda")
        graph = torch.cuda.CUDAGraph()
        with ops.use_backend("fused"), torch.cuda.graph(graph):
            y = ops.bias_act(x, gain=1.0)
        x.fill_(3.0)
        graph.replay()
        torch.cuda.synchronize()
        assert (y == 3).all()

    def test_nothing_compiles_inside_a_capture(self, tmp_path):
        script = """
            import torch
            from styletryon import ops
            from styletryon.errors import BackendUnavailableError
            x = torch.zeros(2, 8, 16, 16, device="cuda")
            torch.cuda.synchronize()
            with torch.cuda.graph(torch.cuda.CUDAGraph()):
                with ops.use_backend("fused"):
                    try:
                        ops.bias_act(x)
                    except BackendUnavailableError as error:
                        print(error)
                x.add_(1)
        """
        result = run_python("-c", textwrap.dedent(script), environment=cache_of(tmp_path / "ops"))
        assert result.returncode == 0, result.stderr
        assert "call styletryon.ops.warm_up(device) before the capture" in result.stdout
        assert not (tmp_path / "ops").exists()

    def test_every_device(self):
        devices = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        with ops.use_backend("fused"):
            for device in devices * 2:
                x = torch.full((2, 8, 16, 16), 2.0, device=device, requires_grad=True)
                y = ops.bias_act(x, gain=1.0)
                y.sum().backward()
                assert y.device == torch.device(device)
                assert (y == 2).all()
                assert (x.grad == 1).all()
