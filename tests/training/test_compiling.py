"""Compiled where it works, plain where not."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from styletryon.data.folder import FolderDataset
from styletryon.training import Stage, Trainer
from styletryon.training.compiling import compiled
from tests.training.test_trainer import SIZE, config, data  # noqa: F401


def double(x: torch.Tensor) -> torch.Tensor:
    return x * 2


def test_off_is_the_function_itself() -> None:
    assert compiled(double, "doubling", enabled=False) is double


def test_a_failure_is_told_once_and_the_plain_function_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls = []

    def broken(*_: Any) -> Any:
        calls.append(1)
        raise RuntimeError("no compiler\nand many lines more")

    monkeypatch.setattr(torch, "compile", lambda function: broken)
    run = compiled(double, "doubling")
    with caplog.at_level(logging.WARNING, logger="styletryon"):
        assert [float(run(torch.tensor(float(n)))) for n in (1, 2, 3)] == [2.0, 4.0, 6.0]
    assert calls == [1]
    assert [record.getMessage() for record in caplog.records] == [
        "compile: doubling runs without it: RuntimeError: no compiler"
    ]


def test_where_nothing_can_be_compiled(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(function: Callable[..., Any]) -> Any:
        raise RuntimeError("not on this Python")

    monkeypatch.setattr(torch, "compile", refuse)
    assert float(compiled(double, "doubling")(torch.tensor(1.0))) == 2.0
    assert "not on this Python" in caplog.text


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's tracer looks at it
@pytest.mark.filterwarnings("ignore:.*should not be instantiated")  # torch 2.4's tracer does, and hides the warning
def test_a_compiled_run_learns_the_same(
    data: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    real, used = torch.compile, []

    def traced(function: Callable[..., Any]) -> Any:
        used.append(function)
        return real(function, backend="aot_eager")  # everything but the code generator

    monkeypatch.setattr(torch, "compile", traced)
    losses = []
    for compile in (False, True):
        settings = config(stages=(Stage(16),))
        run = Trainer(settings, FolderDataset(data, size=SIZE), tmp_path, precision="fp32", compile=compile)
        losses.append([{name: float(loss) for name, loss in run.train_step().items()} for _ in range(2)])
    assert len(used) == 2
    assert "runs without it" not in caplog.text
    for plain, quick in zip(*losses, strict=True):
        assert quick == pytest.approx(plain, rel=1e-3, abs=1e-5)
