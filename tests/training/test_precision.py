"""Formats, and the loss scale of float16."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from styletryon.data.folder import FolderDataset
from styletryon.errors import ConfigError, TrainingDivergedError
from styletryon.training import Stage, Trainer
from styletryon.training.precision import Precision, resolve_precision
from tests.training.test_trainer import SIZE, assert_same, config, data  # noqa: F401

CPU = torch.device("cpu")


def test_names() -> None:
    assert [resolve_precision(name, CPU) for name in ("fp32", "bf16", "fp16")] == ["fp32", "bf16", "fp16"]
    assert resolve_precision("auto", CPU) in ("fp32", "bf16")
    for use in (lambda: resolve_precision("fp8", CPU), lambda: Precision("auto", CPU)):
        with pytest.raises(ConfigError, match="precision: expected one of"):
            use()


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@pytest.mark.parametrize("name", sorted(DTYPES))
def test_networks_run_in_the_format(name: str) -> None:
    precision, dtype = Precision(name, CPU), DTYPES[name]
    with precision.autocast():
        assert torch.nn.functional.linear(torch.ones(1, 2), torch.ones(3, 2)).dtype == dtype
    assert name in repr(precision)


def test_a_step_that_overflows_is_left_out_and_lowers_the_scale() -> None:
    precision = Precision("fp16", CPU)
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([weight], lr=0.1, fused=True)
    before = precision.state()["scaler"]["scale"]
    (precision.scaled(weight.sum()) * float("inf")).backward()
    precision.step(optimizer)
    precision.update()
    assert torch.equal(weight, torch.ones(3))
    assert precision.state()["scaler"]["scale"] == before / 2
    optimizer.zero_grad()
    precision.scaled(weight.sum()).backward()
    assert weight.grad is not None
    assert torch.equal(precision.unscaled(weight.grad), torch.ones(3))
    precision.step(optimizer)
    precision.update()
    assert torch.allclose(weight, torch.full((3,), 0.9))
    other = Precision("fp16", CPU)
    other.load(precision.state())
    assert other.state() == precision.state()
    assert not precision.exhausted


def run16(data: Path, out: Path) -> Trainer:  # noqa: F811
    settings = config(stages=(Stage(8), Stage(16, adversarial=0.1)))
    return Trainer(settings, FolderDataset(data, size=SIZE), out, precision="fp16")


def test_a_run_in_float16_resumes_with_its_scale(data: Path, tmp_path: Path) -> None:  # noqa: F811
    whole = run16(data, tmp_path / "whole")
    assert whole.train()
    assert all(torch.isfinite(parameter).all() for parameter in whole.generator.parameters())
    first = run16(data, tmp_path / "parts")
    first.train(steps=5)  # the scale falls at first
    assert first.state()["precision"]["scaler"]["_growth_tracker"] > 0
    second = Trainer(first.config, first.dataset, tmp_path / "parts")  # precision "auto": what the run had
    assert second.resume()
    assert second.precision == "fp16"
    assert second.train()
    assert_same(whole.state(), second.state())


def test_a_scale_that_is_exhausted_ends_the_run(data: Path, tmp_path: Path) -> None:  # noqa: F811
    run = run16(data, tmp_path)
    scale = run.state()["precision"]["scaler"]
    run._precision.load({"scaler": scale | {"scale": 0.5}})
    with pytest.raises(TrainingDivergedError, match=r"float16 overflows .*precision='fp32'"):
        run.train(log_every=1)


def test_a_checkpoint_without_a_format_is_taken_over(data: Path, tmp_path: Path) -> None:  # noqa: F811
    run, other = run16(data, tmp_path / "one"), run16(data, tmp_path / "other")
    run.train_step()
    state = run.state()
    del state["precision"]
    other.load(state)
    assert other.step == 1
