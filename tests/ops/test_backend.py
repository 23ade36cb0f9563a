"""Who may choose how the ops are computed, in which order, and what happens when the choice cannot run."""

from __future__ import annotations

import dataclasses
import threading

import pytest
import torch

from styletryon import ops
from styletryon.errors import BackendUnavailableError, ConfigError

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
