"""From CUDA source text to kernels that run: find NVRTC, compile, keep what was compiled, load it, launch it.

NVRTC is NVIDIA's compiler as a library; it comes with torch, so the user needs no CUDA toolkit and no C++ compiler.
Compiling needs no GPU. Nothing here runs before it is called, and this module warns of nothing: what fails raises
`BackendUnavailableError` with a reason in its first line, what merely costs time is listed by `notes`. Telling the
user is up to `_dispatch`.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import importlib.util
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch

from styletryon._files import write_bytes
from styletryon.errors import BackendUnavailableError

Arg: TypeAlias = "tuple[float, type[ctypes._SimpleCData[Any]]]"
"""One argument of a kernel: its value and the C type that the kernel declares, such as ``(n, ctypes.c_longlong)``."""

Size: TypeAlias = tuple[int, int, int]

CACHE_VARIABLE = "STYLETRYON_CACHE"
LOCK_SECONDS = 10.0
"""How long to wait for another process that compiles the same. Compiling takes a second; longer, and it is stuck."""

_OPTIONS = ("--std=c++17",)
_MAGIC = b"styletryon op 1\n"
_STALE_SECONDS = 3600.0


@dataclass(frozen=True)
class Source:
    """One translation unit of CUDA C++ that includes nothing.

    Attributes:
        name: What it is called in messages and file names.
        text: The program.
    """

    name: str
    text: str


class CompileError(BackendUnavailableError):
    """NVRTC rejects a source. The first line of the message says so, the compiler's log follows."""


_notes: list[str] = []
_notes_lock = threading.Lock()


def notes() -> tuple[str, ...]:
    """What works but costs the user time, one sentence each: a cache that cannot be written, say."""
    return tuple(_notes)


def _note(text: str) -> None:
    with _notes_lock:
        if text not in _notes:
            _notes.append(text)


# ----------------------------------------------------------------------------------------------------------- NVRTC


class Nvrtc:
    """An NVRTC library, called through ctypes: what is called once in a while needs no faster way.

    Args:
        path: The shared library.

    Raises:
        OSError: It cannot be loaded.
        AttributeError: It is not NVRTC, or one from before CUDA 11.2.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._library = ctypes.CDLL(path)
        self._library.nvrtcGetErrorString.restype = ctypes.c_char_p
        major, minor, count = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        self._call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        self._call("nvrtcGetNumSupportedArchs", ctypes.byref(count))
        numbers = (ctypes.c_int * count.value)()
        self._call("nvrtcGetSupportedArchs", numbers)
        self.version = (major.value, minor.value)
        self.archs = tuple(sorted(numbers))

    def _call(self, name: str, *arguments: object) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            text = self._library.nvrtcGetErrorString(status).decode()
            raise BackendUnavailableError(f"NVRTC at {self.path} failed in {name} with {text}; reinstall torch")

    def _text(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self._call(f"nvrtcGet{what}", program, buffer)
        return buffer.raw

    def arch_for(self, capability: tuple[int, int]) -> str:
        """The target for a device: its own architecture, or PTX that the driver of a newer device translates.

        Args:
            capability: Compute capability of the device, such as (9, 0).

        Returns:
            A name such as ``"sm_90"``, or ``"compute_90"`` for PTX.

        Raises:
            BackendUnavailableError: The device is older than everything this NVRTC compiles for.
        """
        number = 10 * capability[0] + capability[1]
        if number in self.archs:
            return f"sm_{number}"
        older = [arch for arch in self.archs if arch < number]
        if not older:
            raise BackendUnavailableError(
                f"NVRTC {format_version(self.version)} compiles for compute capability {self.archs[0] / 10} and newer, "
                f"this device has {number / 10}; a torch built for an older CUDA may still know it"
            )
        return f"compute_{older[-1]}"

    def compile(self, source: Source, arch: str) -> bytes:
        """Compiles one source: a cubin for ``"sm_90"``, PTX for ``"compute_90"``.

        Raises:
            CompileError: The source is wrong or the architecture unknown.
            BackendUnavailableError: NVRTC itself fails.
        """
        program = ctypes.c_void_p()
        name = f"{source.name}.cu".encode()
        self._call("nvrtcCreateProgram", ctypes.byref(program), source.text.encode(), name, 0, None, None)
        try:
            options = [option.encode() for option in (f"--gpu-architecture={arch}", *_OPTIONS)]
            try:
                self._call("nvrtcCompileProgram", program, len(options), (ctypes.c_char_p * len(options))(*options))
            except BackendUnavailableError as error:
                log = self._text(program, "ProgramLog").rstrip(b"\0").decode(errors="replace").strip()
                if "INVALID_OPTION" not in str(error) and "ERROR_COMPILATION" not in str(error):
                    raise BackendUnavailableError(f"{error}\n{log}") from None
                raise CompileError(
                    f"NVRTC {format_version(self.version)} rejects the source {source.name!r} for {arch}; "
                    f"please report it with this log\n{log}"
                ) from None
            return self._text(program, "CUBIN" if arch.startswith("sm_") else "PTX")
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))


def format_version(version: tuple[int, int]) -> str:
    """A version as NVIDIA writes it."""
    return f"{version[0]}.{version[1]}"


def _torch_major() -> int | None:
    """The CUDA major version that torch was built for; None for one without CUDA."""
    return int(torch.version.cuda.split(".")[0]) if torch.version.cuda else None


def _nvrtc_candidates() -> Iterator[str]:
    """Where an NVRTC library may be, the one that torch brought first."""
    folders: list[Path] = []
    spec = None
    with contextlib.suppress(ImportError, ValueError):
        spec = importlib.util.find_spec("nvidia")  # The namespace under which pip installs NVIDIA's libraries.
    for place in (spec.submodule_search_locations if spec else None) or ():
        folders += sorted(Path(place).glob("*/lib")) + sorted(Path(place).glob("*/bin"))
        folders += sorted(Path(place).glob("*/bin/x86_64"))
    folders += [Path(torch.__file__).parent / "lib", Path(sys.prefix, "lib"), Path(sys.prefix, "Library", "bin")]
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(variable):
            folders += [Path(os.environ[variable], name) for name in ("lib64", "lib", "bin")]
    for folder in folders:
        for pattern in ("libnvrtc.so*", "libnvrtc-*.so*", "nvrtc64_*.dll"):
            for path in sorted(folder.glob(pattern)):
                if "builtins" not in path.name and ".alt." not in path.name:
                    yield str(path)
    major = _torch_major()
    for number in (major,) if major else (13, 12, 11):
        yield f"nvrtc64_{number}0_0.dll" if sys.platform == "win32" else f"libnvrtc.so.{number}"


@functools.cache
def _find_nvrtc() -> Nvrtc | str:
    """An NVRTC of torch's CUDA version, or why there is none; what another version writes, the driver may refuse."""
    major = _torch_major()
    reasons: list[str] = []
    for path in _nvrtc_candidates():
        try:
            nvrtc = Nvrtc(path)
        except (OSError, AttributeError, BackendUnavailableError) as error:
            if os.path.isabs(path):  # That a bare name is not found is no news.
                reasons.append(f"{path} cannot be used ({str(error).splitlines()[0]})")
            continue
        if major is None or nvrtc.version[0] == major:
            return nvrtc
        reasons.append(f"{path} is of CUDA {format_version(nvrtc.version)}")
    wanted = f"NVRTC of CUDA {major}" if major else "NVRTC"
    number = major or 13
    package = f"nvidia-cuda-nvrtc=={number}.*" if number >= 13 else f"nvidia-cuda-nvrtc-cu{number}"
    found = reasons[0] if reasons else "no library of that name was found"
    return f"no {wanted} could be loaded: {found}; pip install --force-reinstall {package!r} brings one"


def find_nvrtc() -> Nvrtc:
    """The NVRTC that compiles the kernels; looked for once.

    Raises:
        BackendUnavailableError: There is none that fits; the message says what was found instead.
    """
    found = _find_nvrtc()
    if isinstance(found, str):
        raise BackendUnavailableError(found)
    return found


def compile_cubin(source: Source, arch: str) -> bytes:
    """Compiles a source without the cache; no GPU is needed.

    Args:
        source: The program.
        arch: ``"sm_90"`` for a cubin, ``"compute_90"`` for PTX.

    Returns:
        What the driver loads.

    Raises:
        CompileError: The source is wrong; the message holds the compiler's log.
        BackendUnavailableError: There is no NVRTC.
    """
    return find_nvrtc().compile(source, arch)


# ----------------------------------------------------------------------------------------------------------- cache


def cache_folder() -> Path:
    """The folder of compiled kernels; it may not exist yet.

    Raises:
        RuntimeError: Neither `STYLETRYON_CACHE` nor the environment of the user says where files may go.
    """
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser().absolute() / "ops"
    base = Path(os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME", ""))
    # The XDG specification has relative paths ignored.
    return (base if base.is_absolute() else Path.home() / ".cache") / "styletryon" / "ops"


def cache_content() -> tuple[int, int]:
    """How many compiled kernel files the cache holds, and their bytes."""
    try:
        sizes = [path.stat().st_size for path in cache_folder().glob("*.bin")]
    except (OSError, RuntimeError):
        return 0, 0
    return len(sizes), sum(sizes)


def cached_cubin(source: Source, arch: str) -> bytes:
    """`compile_cubin`, kept on disk. Processes that start together compile once; one that cannot keep it goes on.

    Raises:
        CompileError: The source is wrong; the message holds the compiler's log.
        BackendUnavailableError: There is no NVRTC.
    """
    nvrtc = find_nvrtc()
    parts = (*_OPTIONS, format_version(nvrtc.version), arch, sys.platform, source.name, source.text)
    key = hashlib.sha256("\0".join(parts).encode()).digest()
    image: bytes | None = None
    folder: object = "a cache folder"
    try:
        folder = cache_folder()
        path = cache_folder() / f"{source.name}-{arch}-{key.hex()[:24]}.bin"
        image = _read(path, key)
        if image is not None:
            return image
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_suffix(".lock")) as held:
            if not held:
                _note(
                    f"the kernels were compiled without the cache, because another process has held "
                    f"{path.with_suffix('.lock')} for {LOCK_SECONDS:.0f} s; end that process if it hangs"
                )
                return nvrtc.compile(source, arch)
            image = _read(path, key)  # Written by the one that held the lock before.
            if image is None:
                image = nvrtc.compile(source, arch)
                _write(path, key, image)
            return image
    except (OSError, RuntimeError) as error:
        if isinstance(error, BackendUnavailableError):
            raise
        _note(
            f"every process compiles the kernels anew, because {folder} cannot be written "
            f"({_in_short(error)}); set {CACHE_VARIABLE} to a folder that can"
        )
    return nvrtc.compile(source, arch) if image is None else image


def _in_short(error: Exception) -> str:
    while isinstance(error.__cause__, OSError):
        error = error.__cause__
    return getattr(error, "strerror", None) or str(error)


def _seal(key: bytes, image: bytes) -> bytes:
    """What stands before an image in its file: a torn or altered file does not fit it."""
    return _MAGIC + hashlib.sha256(key + image).digest()


def _read(path: Path, key: bytes) -> bytes | None:
    """The image in a file; None if there is none or it is damaged, and then it is compiled anew."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    length = len(_seal(key, b""))
    return data[length:] if data[:length] == _seal(key, data[length:]) else None


def _write(path: Path, key: bytes, image: bytes) -> None:
    write_bytes(path, _seal(key, image) + image)
    for part in path.parent.glob(".*.part"):  # Of processes that were killed while they wrote.
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > _STALE_SECONDS:
                part.unlink()


if sys.platform == "win32":
    import msvcrt

    def _try_lock(handle: int) -> bool:
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            # This file system knows no locks. Two processes may then compile the same, and both write it whole.
            return True
        return True

    def _unlock(handle: int) -> None:
        # Closing alone would not do: a child forked meanwhile holds the same lock.
        fcntl.flock(handle, fcntl.LOCK_UN)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Holds a lock of the operating system, which a killed process gives back; False if it could not be had in time.

    The file stays: whoever removed it could remove one that another process has just locked.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        deadline = time.monotonic() + LOCK_SECONDS
        while not (held := _try_lock(handle)) and time.monotonic() < deadline:
            time.sleep(0.02)
        try:
            yield held
        finally:
            if held:
                with contextlib.suppress(OSError):
                    _unlock(handle)
    finally:
        os.close(handle)


# ---------------------------------------------------------------------------------------------------------- driver

_INVALID_CONTEXT = 201
_REFUSED_IMAGES = {"CUDA_ERROR_INVALID_IMAGE", "CUDA_ERROR_NO_BINARY_FOR_GPU", "CUDA_ERROR_UNSUPPORTED_PTX_VERSION"}
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
_MAX_DYNAMIC_SHARED = 8
_PLAIN_SHARED = 48 * 1024
_RELAXED = 2

_Launch: TypeAlias = Callable[[Any, Size, Size, int, int, Sequence[Arg]], int]


class _Driver:
    """The CUDA driver through ctypes, and the quickest way to launch that there is."""

    def __init__(self) -> None:
        name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
        try:
            self.library = ctypes.CDLL(name)
        except OSError as error:
            raise BackendUnavailableError(
                f"the NVIDIA driver's {name} cannot be loaded ({error}); install or mend the driver"
            ) from error
        pointer, unsigned = ctypes.c_void_p, ctypes.c_uint
        self.library.cuLaunchKernel.argtypes = [pointer, *[unsigned] * 7, pointer, pointer, pointer]
        self.call("cuInit", 0)
        self.launch, self.function_type = self._launcher()

    def error(self, status: int) -> str:
        text = ctypes.c_char_p()
        self.library.cuGetErrorName(int(status), ctypes.byref(text))
        return (text.value or b"unknown error").decode()

    def call(self, name: str, *arguments: object) -> None:
        status = getattr(self.library, name)(*arguments)
        if status:
            error = self.error(status)
            remedy = "update the driver" if error in _REFUSED_IMAGES else "see what nvidia-smi says"
            raise BackendUnavailableError(f"the NVIDIA driver refuses {name} with {error}; {remedy}")

    def _launcher(self) -> tuple[_Launch, Callable[[int], Any]]:
        try:
            from cuda.bindings import driver

            works = driver.cuInit(0)[0] == 0
        except Exception:  # Absent (torch before 2.10, Windows), or broken in whatever way.
            works = False
        if not works:
            return self._launch_by_ctypes, int  # Slower by some microseconds, and always there.
        launch_kernel = driver.cuLaunchKernel

        def launch(function: Any, grid: Size, block: Size, shared: int, stream: int, arguments: Sequence[Arg]) -> int:
            packed = tuple(zip(*arguments, strict=True)) or 0
            status: int = launch_kernel(function, *grid, *block, shared, stream, packed, 0)[0]
            return status

        return launch, driver.CUfunction

    def _launch_by_ctypes(
        self, function: Any, grid: Size, block: Size, shared: int, stream: int, arguments: Sequence[Arg]
    ) -> int:
        values = [kind(value) for value, kind in arguments]
        pointers = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
        status: int = self.library.cuLaunchKernel(function, *grid, *block, shared, stream, pointers, None)
        return status


@functools.cache
def _driver() -> _Driver:
    return _Driver()


@functools.cache
def capability(index: int) -> tuple[int, int]:
    """The compute capability of a device, such as (9, 0).

    Raises:
        BackendUnavailableError: The driver does not know the device.
    """
    driver, device, number = _driver(), ctypes.c_int(), ctypes.c_int()
    driver.call("cuDeviceGet", ctypes.byref(device), index)
    numbers = []
    for attribute in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR):
        driver.call("cuDeviceGetAttribute", ctypes.byref(number), attribute, device)
        numbers.append(number.value)
    return numbers[0], numbers[1]


class Module:
    """A compiled source on one device, in the context that torch uses there.

    Args:
        image: A cubin or PTX.
        index: Number of the device.

    Raises:
        BackendUnavailableError: The driver refuses the image.
    """

    def __init__(self, image: bytes, index: int) -> None:
        self._driver = _driver()
        self._functions: dict[str, Any] = {}
        self._shared: dict[str, int] = {}
        self._shared_lock = threading.Lock()
        device, self._context, self._module = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
        self._driver.call("cuDeviceGet", ctypes.byref(device), index)
        # Of the primary context there is one per device and process; torch's is the same.
        self._driver.call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)
        with self._entered():
            self._driver.call("cuModuleLoadData", ctypes.byref(self._module), image)
            self._load_functions()

    @contextlib.contextmanager
    def _entered(self) -> Iterator[None]:
        """Makes the context current, and lets another thread capture a CUDA graph undisturbed."""
        mode, popped = ctypes.c_int(_RELAXED), ctypes.c_void_p()
        self._driver.call("cuCtxPushCurrent_v2", self._context)
        try:
            self._driver.call("cuThreadExchangeStreamCaptureMode", ctypes.byref(mode))
            try:
                yield
            finally:
                self._driver.call("cuThreadExchangeStreamCaptureMode", ctypes.byref(mode))
        finally:
            self._driver.call("cuCtxPopCurrent_v2", ctypes.byref(popped))

    def _load_functions(self) -> None:
        """Has every kernel on the device now, not at its first launch, which may be inside a captured graph."""
        library, count = self._driver.library, ctypes.c_uint()
        names = ("cuModuleGetFunctionCount", "cuModuleEnumerateFunctions", "cuFuncLoad")
        if not all(hasattr(library, name) for name in names):
            return  # A driver from before 12.4.
        if library.cuModuleGetFunctionCount(ctypes.byref(count), self._module) == 0:
            functions = (ctypes.c_void_p * count.value)()
            if library.cuModuleEnumerateFunctions(functions, count, self._module) == 0:
                for function in functions:
                    library.cuFuncLoad(ctypes.c_void_p(function))

    def _function(self, kernel: str) -> Any:
        handle = ctypes.c_void_p()
        with self._entered():
            self._driver.call("cuModuleGetFunction", ctypes.byref(handle), self._module, kernel.encode())
        return self._functions.setdefault(kernel, self._driver.function_type(handle.value or 0))

    def _allow_shared(self, kernel: str, function: Any, shared: int) -> None:
        """Asks for more dynamic shared memory than a kernel gets unasked; never for less than before."""
        with self._shared_lock:
            if shared > self._shared.get(kernel, 0):
                handle = ctypes.c_void_p(int(function))
                with self._entered():
                    self._driver.call("cuFuncSetAttribute", handle, _MAX_DYNAMIC_SHARED, shared)
                self._shared[kernel] = shared

    def launch(self, kernel: str, grid: Size, block: Size, shared: int, stream: int, args: Sequence[Arg]) -> None:
        """Puts a kernel on a stream, under `torch.cuda.device` of this module's device.

        Args:
            kernel: The name of an ``extern "C"`` kernel of the source.
            grid: Blocks in x, y, z; each at least 1.
            block: Threads of a block in x, y, z.
            shared: Bytes of dynamic shared memory of a block.
            stream: The stream's handle, `torch.cuda.current_stream(device).cuda_stream`.
            args: The kernel's arguments, each with its C type.

        Raises:
            BackendUnavailableError: There is no such kernel, or the driver refuses the launch.
        """
        function = self._functions.get(kernel)
        if function is None:
            function = self._function(kernel)
        if shared > _PLAIN_SHARED and shared > self._shared.get(kernel, 0):
            self._allow_shared(kernel, function, shared)
        launch = self._driver.launch
        status = launch(function, grid, block, shared, stream, args)
        if status == _INVALID_CONTEXT:
            # A thread on which neither torch nor anyone else has touched the device yet, such as autograd's.
            self._driver.call("cuCtxSetCurrent", self._context)
            status = launch(function, grid, block, shared, stream, args)
        if status:
            raise BackendUnavailableError(
                f"the NVIDIA driver refuses to launch {kernel} on grid {grid}, block {block}, with "
                f"{self._driver.error(status)}, which may come from an earlier kernel of any library; "
                "run again with CUDA_LAUNCH_BLOCKING=1 to see which, or with STYLETRYON_OPS=reference"
            )


def is_initialized() -> bool:
    """Whether torch has started CUDA in this process; asking must not start it."""
    cuda: Any = torch.cuda  # Partly without types.
    return bool(cuda.is_initialized())


def device_index(device: torch.device) -> int:
    """The number of a CUDA device; of the current one if it names none."""
    if device.index is not None:
        return device.index
    return torch.cuda.current_device() if is_initialized() else 0


def is_capturing() -> bool:
    """Whether a CUDA graph is being captured from the current stream."""
    return is_initialized() and torch.cuda.is_current_stream_capturing()
