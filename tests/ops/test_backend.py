"""Who may choose how the ops are computed, in which order, and what happens when the choice cannot run."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import gc
import sys
import threading
import types
import warnings
import weakref

import pytest
import torch
from torch.autograd import forward_ad

from styletryon import ops
from styletryon.errors import BackendUnavailableError, ConfigError
from styletryon.ops import _dispatch, _modules, _nvrtc, _reference
from styletryon.ops._arguments import Activation
from tests._support.stub_backend import StubFused, StubLoader, StubNvrtc, on_cuda

X = torch.ones(1, 2, 4, 4)
FILTER = ops.setup_filter([1, 1])
CALLS = {
    "bias_act": lambda: ops.bias_act(X),
    "upfirdn2d": lambda: ops.upfirdn2d(X, FILTER),
    "upsample2d": lambda: ops.upsample2d(X, FILTER),
    "downsample2d": lambda: ops.downsample2d(X, FILTER),
    "modulated_conv2d": lambda: ops.modulated_conv2d(X, torch.ones(2, 2, 3, 3), torch.ones(1, 2)),
}


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    monkeypatch.delenv("STYLETRYON_OPS", raising=False)


def test_auto_is_the_default_and_runs_everywhere():
    status = ops.backend_status()
    assert (status.requested, status.requested_by, status.active) == ("auto", "default", "reference")
    assert status.reason
    with pytest.raises(dataclasses.FrozenInstanceError):
        status.active = "fused"


@pytest.mark.parametrize("name", ["auto", "reference"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_every_op_runs_on_plain_pytorch(name, call):
    with ops.use_backend(name):
        assert call().isfinite().all()
        assert ops.backend_status().active == "reference"


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_fused_raises_rather_than_running_something_slower(call):
    with ops.use_backend("fused"):
        with pytest.raises(BackendUnavailableError, match=r"^use_backend: expected fused kernels for a tensor on cpu"):
            call()
        assert ops.backend_status().active is None
    assert call().isfinite().all()


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_the_environment_asks_too(call, monkeypatch):
    monkeypatch.setenv("STYLETRYON_OPS", "fused")
    assert ops.backend_status().requested_by == "STYLETRYON_OPS"
    with pytest.raises(BackendUnavailableError, match=r"^STYLETRYON_OPS: expected fused kernels"):
        call()
    with ops.use_backend("reference"):
        assert call().isfinite().all()


def test_an_empty_environment_variable_asks_for_nothing(monkeypatch):
    monkeypatch.setenv("STYLETRYON_OPS", "")
    assert ops.backend_status().requested_by == "default"


def test_unknown_names_raise(monkeypatch):
    with pytest.raises(ConfigError, match=r"^name: expected one of 'auto', 'reference', 'fused', got 'cuda'; "):
        ops.use_backend("cuda").__enter__()
    monkeypatch.setenv("STYLETRYON_OPS", "fast")
    for call in (ops.backend_status, CALLS["bias_act"]):
        with pytest.raises(ConfigError, match=r"^STYLETRYON_OPS: expected one of"):
            call()


def test_blocks_nest_and_restore_also_after_an_error():
    with ops.use_backend("reference"):
        with ops.use_backend("auto"):
            assert ops.backend_status().requested == "auto"
        with pytest.raises(ZeroDivisionError), ops.use_backend("fused"):
            raise ZeroDivisionError
        assert ops.backend_status().requested == "reference"
    assert ops.backend_status().requested_by == "default"


def test_a_choice_holds_on_its_own_thread_only():
    seen = []
    with ops.use_backend("fused"):
        thread = threading.Thread(target=lambda: seen.append((ops.backend_status().requested_by, CALLS["bias_act"]())))
        thread.start()
        thread.join()
    assert seen[0][0] == "default"


def test_a_backward_does_not_choose_again():
    x = X.clone().requires_grad_()
    y = ops.upsample2d(x, FILTER).square().sum()
    with ops.use_backend("fused"):
        (grad,) = torch.autograd.grad(y, x, create_graph=True)
        torch.autograd.grad(grad.sum(), x)


# ------------------------------------------------------------------------------------- with CUDA devices that are none

BROKEN = BackendUnavailableError("no NVRTC could be loaded: none was found; install one\nline of a log")


@pytest.fixture
def machine(monkeypatch):
    """Returns a function that makes this a machine with CUDA devices, where loading kernels ends as told."""
    monkeypatch.setattr(_dispatch, "_outcomes", {})
    monkeypatch.setattr(_dispatch, "_told", set())
    monkeypatch.setattr(_dispatch, "_fused", None)
    monkeypatch.setattr(_dispatch, "_no_device", lambda: None)
    monkeypatch.setattr(_nvrtc, "_notes", [])
    monkeypatch.setattr(_nvrtc, "_find_nvrtc", StubNvrtc)
    monkeypatch.setattr(torch.version, "hip", None)
    stub = StubFused()
    monkeypatch.setitem(sys.modules, "styletryon.ops._fused", stub)
    monkeypatch.setattr(ops, "_fused", stub, raising=False)

    def make(failures=None, seconds=0.0):
        loader = StubLoader(failures, seconds)
        monkeypatch.setattr(_modules, "warm_up", loader)
        return loader

    return make


@pytest.fixture
def told():
    """The warnings so far."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


class TestAuto:
    def test_the_first_tensor_on_a_device_loads_the_kernels(self, machine, told):
        loader = machine()
        assert loader.loads == []
        for _ in range(3):
            assert ops.bias_act(on_cuda(0)) == "fused bias_act"
        assert ops.bias_act(on_cuda(1)) == "fused bias_act"
        assert ops.bias_act(X).isfinite().all()
        assert loader.loads == [0, 1]
        assert told == []

    def test_each_dtype_loads_its_own_kernels(self, machine):
        loader = machine()
        for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float16):
            assert ops.bias_act(on_cuda(dtype=dtype)) == "fused bias_act"
        assert loader.loads == [0, 0, 0]
        assert len(loader.names) == len(set(loader.names))
        assert {name.rpartition("_")[2] for name in loader.names} == {"f32", "f16", "bf16"}

    def test_what_has_no_kernels_takes_plain_pytorch_without_a_word(self, machine, told, monkeypatch):
        loader = machine({0: BROKEN})
        x = on_cuda()
        assert _dispatch.choose(on_cuda(dtype=torch.float8_e5m2)) is _reference
        seen = []
        torch.func.grad(lambda t: (seen.append(_dispatch.choose(x)), t.sum())[1])(X)
        torch.func.vmap(lambda t: (seen.append(_dispatch.choose(x)), t)[1])(X)
        with forward_ad.dual_level():
            seen.append(_dispatch.choose(x))
        monkeypatch.setattr(torch.version, "hip", "6.0")
        seen.append(_dispatch.choose(x))
        assert seen == [_reference] * 4
        assert loader.loads == []
        assert told == []

    def test_a_failure_is_tried_once_told_once_and_remembered(self, machine, told):
        loader = machine({0: BROKEN})
        for _ in range(3):
            assert _dispatch.choose(on_cuda(0)) is _reference
        assert loader.loads == [0]
        (warning,) = told
        assert warning.category is ops.FusedOpsWarning
        assert str(warning.message) == (
            "The ops run on plain PyTorch, which is slower, because no NVRTC could be loaded: none was found; "
            "install one."
        )
        assert ops.backend_status().active == "reference"
        assert ops.backend_status().reason.endswith("no NVRTC could be loaded: none was found; install one")

    def test_the_warning_names_the_line_that_called_the_op(self, machine, told):
        machine({0: BROKEN})
        with pytest.raises(AssertionError, match="only claims to be there"):
            ops.bias_act(on_cuda(0))
        assert told[0].filename == __file__

    def test_devices_fail_apart_and_the_same_reason_is_told_once(self, machine, told):
        loader = machine({0: BROKEN, 1: BROKEN, 2: BackendUnavailableError("the device is too old; replace it")})
        chosen = [_dispatch.choose(on_cuda(index)) for index in (0, 1, 2, 3, 0, 1, 2, 3)]
        assert [choice is _reference for choice in chosen] == [True, True, True, False] * 2
        assert loader.loads == [0, 1, 2, 3]
        assert len(told) == 2
        assert [ops.backend_status(index).active for index in range(4)] == ["reference"] * 3 + ["fused"]

    def test_an_unexpected_error_falls_back_too_and_keeps_no_tensor_alive(self, machine, told):
        machine({0: ZeroDivisionError("integer\ndivision")})
        x = on_cuda(0)
        kept = weakref.ref(x)
        assert _dispatch.choose(x) is _reference
        assert "an unexpected ZeroDivisionError: integer division; please report it" in str(told[0].message)
        del x
        gc.collect()
        assert kept() is None

    def test_warnings_made_errors_raise_once(self, machine):
        machine({0: BROKEN})
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(ops.FusedOpsWarning, match="plain PyTorch"):
                _dispatch.choose(on_cuda(0))
            assert _dispatch.choose(on_cuda(0)) is _reference

    def test_what_costs_time_is_told_once_though_the_kernels_run(self, machine, told):
        machine()
        _nvrtc._note("every process compiles the kernels anew, because /x cannot be written (no); set STYLETRYON_CACHE")
        for index in (0, 0, 1):
            assert ops.bias_act(on_cuda(index)) == "fused bias_act"
        (warning,) = told
        assert str(warning.message).startswith("The ops run fused, but every process compiles")
        assert ops.backend_status().notes == _nvrtc.notes()

    @pytest.mark.parametrize("failures", [{}, {0: BROKEN}], ids=["loads", "fails"])
    def test_threads_that_come_together_load_once(self, machine, told, failures):
        loader = machine(failures, seconds=0.2)
        barrier = threading.Barrier(8)

        def first_op(_):
            barrier.wait()
            return _dispatch.choose(on_cuda(0)) is _reference

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            assert set(pool.map(first_op, range(8))) == {bool(failures)}
        assert loader.loads == [0]
        assert len(told) == len(failures)

    def test_compiled_code_chooses_while_it_is_traced(self, machine, told, monkeypatch):
        loader = machine({None: BROKEN})  # The index of the CPU, which stands for a device here.
        monkeypatch.setattr(_dispatch, "_not_made_for", lambda x: None if not _dispatch._is_transformed() else "no")
        inner = _reference.bias_act(X, None, None, Activation("lrelu", 2.0))
        expected = _reference.bias_act(inner, None, None, Activation("relu", 1, 1))
        for _ in range(2):
            step = torch.compile(
                lambda x: ops.bias_act(ops.bias_act(x, gain=2.0), activation="relu", gain=1.0, clamp=1.0),
                fullgraph=True, backend="eager",
            )  # fmt: skip
            torch.testing.assert_close(step(X), expected)
        # The oldest torch leaves the answers among the globals of what it compiles, which may be these.
        code = (lambda x: choose(x).bias_act(x, None, None, Activation("linear")) + 1).__code__  # noqa: F821
        inside = types.FunctionType(code, vars(_dispatch))
        torch.compile(inside, fullgraph=True, backend="eager")(X)
        assert callable(_dispatch._obstacle_on)
        assert callable(_dispatch._is_transformed)
        assert len(loader.loads) == 1
        assert len(told) == 1


class TestFused:
    def test_runs_where_it_can(self, machine):
        loader = machine()
        with ops.use_backend("fused"):
            assert ops.bias_act(on_cuda()) == "fused bias_act"
        assert loader.loads == [0]

    def test_raises_the_reason_with_the_log_and_warns_of_nothing(self, machine, told):
        loader = machine({0: BROKEN})
        with ops.use_backend("fused"):
            for _ in range(2):
                with pytest.raises(BackendUnavailableError) as error:
                    ops.bias_act(on_cuda())
            assert ops.backend_status().active is None
        first, *log = str(error.value).splitlines()
        assert first == (
            "use_backend: expected fused kernels for a tensor on cuda:0, got none: no NVRTC could be loaded: "
            "none was found; install one; choose 'auto' or 'reference'"
        )
        assert log == ["line of a log"]
        assert loader.loads == [0]
        assert told == []

    def test_says_what_the_kernels_are_not_made_for(self, machine, monkeypatch):
        machine()
        monkeypatch.setenv("STYLETRYON_OPS", "fused")
        x = on_cuda()
        with pytest.raises(BackendUnavailableError, match=r"^STYLETRYON_OPS: .* on cpu, got none: .* CUDA tensors"):
            ops.bias_act(X)
        with pytest.raises(BackendUnavailableError, match=r"exist for float32, .* alone"):
            ops.bias_act(on_cuda(dtype=torch.float8_e5m2))
        with pytest.raises(BackendUnavailableError, match=r"transforms of torch\.func"):
            torch.func.vmap(lambda t: (ops.bias_act(x), t)[1])(X)
        with forward_ad.dual_level(), pytest.raises(BackendUnavailableError, match="forward-mode"):
            ops.bias_act(x)
        monkeypatch.setattr(torch.version, "hip", "6.0")
        with pytest.raises(BackendUnavailableError, match="ROCm"):
            ops.bias_act(x)


class TestCapture:
    def test_nothing_is_loaded_while_a_graph_is_captured(self, machine, told, monkeypatch):
        loader = machine()
        monkeypatch.setattr(_nvrtc, "is_capturing", lambda: True)
        for _ in range(2):
            assert _dispatch.choose(on_cuda()) is _reference
        with ops.use_backend("fused"), pytest.raises(BackendUnavailableError, match=r"call styletryon\.ops\.warm_up"):
            ops.bias_act(on_cuda())
        assert loader.loads == []
        (warning,) = told
        assert "call styletryon.ops.warm_up(device) before the capture" in str(warning.message)
        monkeypatch.setattr(_nvrtc, "is_capturing", lambda: False)
        assert ops.bias_act(on_cuda()) == "fused bias_act"  # The capture's failure is not the device's.

    def test_after_warm_up_it_captures_the_fused_kernels(self, machine, monkeypatch):
        machine()
        assert ops.warm_up("cuda:0").active == "fused"
        monkeypatch.setattr(_nvrtc, "is_capturing", lambda: True)
        assert ops.bias_act(on_cuda()) == "fused bias_act"

    def test_the_loader_itself_refuses(self, monkeypatch):
        monkeypatch.setattr(_nvrtc, "is_capturing", lambda: True)
        with pytest.raises(BackendUnavailableError, match=r"call styletryon\.ops\.warm_up\(device\) before"):
            _modules.module("no such source", torch.device("cuda", 5))


class TestWarmUp:
    def test_loads_one_device(self, machine):
        loader = machine()
        for device in (1, "cuda:1", torch.device("cuda", 1)):
            status = ops.warm_up(device, dtypes=[torch.float16])
            assert (status.active, status.device) == ("fused", "cuda:1")
            assert "are loaded" in status.reason
        assert loader.loads == [1]
        ops.warm_up(1)
        assert loader.loads == [1, 1, 1]
        assert "will be loaded" in ops.backend_status("cuda:0").reason

    def test_does_nothing_where_nothing_is_to_be_done(self, machine, monkeypatch):
        loader = machine()
        with ops.use_backend("reference"):
            assert ops.warm_up().active == "reference"
        monkeypatch.setattr(_dispatch, "_no_device", lambda: "torch finds no CUDA device")
        assert ops.warm_up().active == "reference"
        assert loader.loads == []

    def test_failure(self, machine, told):
        machine({0: BROKEN})
        with ops.use_backend("fused"), pytest.raises(BackendUnavailableError, match=r"^use_backend: .* for cuda:0"):
            ops.warm_up("cuda:0")
        assert told == []
        assert ops.warm_up("cuda:0").active == "reference"
        assert len(told) == 1

    def test_fused_without_a_device(self, machine, monkeypatch):
        machine()
        monkeypatch.setattr(_dispatch, "_no_device", lambda: "torch finds no CUDA device")
        with ops.use_backend("fused"), pytest.raises(BackendUnavailableError, match="torch finds no CUDA device"):
            ops.warm_up()

    def test_other_devices_raise(self):
        for call in (ops.warm_up, ops.backend_status):
            for device in ("cpu", "gpu"):
                with pytest.raises(ConfigError, match=rf"^device: .* such as 'cuda:0', got '{device}'; leave it out$"):
                    call(device)

    def test_other_dtypes_raise(self):
        with pytest.raises(ConfigError, match=r"^dtypes: expected some of float32, .*, got torch\.int32; leave "):
            ops.warm_up(dtypes=[torch.int32])


class TestStatus:
    @pytest.mark.parametrize(
        ("hip", "cuda", "reason"),
        [("6.0", None, "ROCm"), (None, None, "without CUDA"), (None, "13.0", "no CUDA device")],
    )
    def test_says_why_no_device_can(self, hip, cuda, reason, monkeypatch):
        monkeypatch.setattr(torch.version, "hip", hip)
        monkeypatch.setattr(torch.version, "cuda", cuda)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        status = ops.backend_status()
        assert status.active == "reference"
        assert reason in status.reason
        assert status.device is None

    def test_foresees_that_there_is_no_compiler(self, machine, monkeypatch):
        machine()
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(_nvrtc, "_find_nvrtc", lambda: "no NVRTC could be loaded: none was found; install one")
        status = ops.backend_status()
        assert (status.active, status.device) == ("reference", "cuda:0")
        assert status.nvrtc == "none: no NVRTC could be loaded: none was found; install one"
        assert status.reason.endswith(status.nvrtc.removeprefix("none: "))

    def test_names_the_compiler(self, machine):
        machine()
        assert ops.backend_status().nvrtc == "13.0 (libnvrtc-stub.so)"

    def test_starts_nothing(self, machine):
        loader = machine()
        ops.backend_status()
        assert loader.loads == []
        assert not torch.cuda.is_initialized() or torch.cuda.is_available()

    def test_without_a_home(self, monkeypatch):
        def nowhere():
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(_nvrtc, "cache_folder", nowhere)
        status = ops.backend_status()
        assert status.cache_folder == "none: Could not determine home directory."
        assert (status.cache_files, status.cache_bytes) == (0, 0)
