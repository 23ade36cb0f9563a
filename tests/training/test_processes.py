"""Several processes, micro-batches and kills: the same training each time."""

from __future__ import annotations

import json
import os
import random
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from styletryon.data.folder import FolderDataset
from styletryon.data.paperdoll import write_dataset
from styletryon.errors import ConfigError, ProcessGroupError, RangeError
from styletryon.training import AdaptiveAugmentation, Stage, Trainer, TrainingConfig, preset
from styletryon.training.checkpoints import CheckpointFolder
from styletryon.training.distributed import ProcessGroup
from tests._support.training_processes import (
    LOST,
    PATIENCE,
    differences,
    finish,
    run_with_kills,
    start,
    sure_discriminator,
)
from tests.training.test_trainer import assert_same

SIZE = (32, 24)


@pytest.fixture(scope="module")
def tryons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tryons")
    write_dataset(folder, 12, size=SIZE, tryons=8, val_fraction=0.0)
    return folder


def config(**changes: Any) -> TrainingConfig:
    """Every objective within eight steps, with three try-ons a batch: more in one share than in the other."""
    tiny = preset("tiny")
    stages = (Stage(8, num_levels=-1), Stage(8), Stage(16, adversarial=0.1, decay=0.5))
    settings: dict[str, Any] = {
        "generator": replace(tiny.generator, garment_shares=True), "tryons": 0.75, "stages": stages,
        "r1_interval": 2, "path_interval": 2, "mapping_steps": 3,
    }  # fmt: skip
    return replace(tiny, **(settings | changes))


def log(out: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "rate"} for row in rows]


def state(out: Path) -> dict[str, Any]:
    found = CheckpointFolder(out / "checkpoints").latest()
    assert found is not None
    return found[1]


def here(data: Path, out: Path, settings: TrainingConfig, **options: Any) -> None:
    """Train in this process."""
    run = Trainer(settings, FolderDataset(data, size=SIZE), out, precision="fp32", **options)
    assert run.train(log_every=1, sample_every=10**9)


def assert_alike(one: Path, other: Path) -> None:
    """The same losses, and the same weights but for what rounding does to Adam's steps."""
    first, second = log(one), log(other)
    assert len(first) == len(second) > 0
    for row, same in zip(first, second, strict=True):
        assert row == pytest.approx(same, rel=1e-4, abs=1e-4)
    for network in ("generator", "discriminator", "average"):
        weights, others = state(one)[network], state(other)[network]
        for name, weight in weights.items():
            assert torch.linalg.norm(weight - others[name]) <= 1e-3 * torch.linalg.norm(weight) + 1e-5, name


ADVERSARIAL = {"encoder": None, "tryons": 0.0, "mapping_steps": 0, "stages": (Stage(16, 0, 0.0, 1.0),)}


ADAPTIVE = {"adaptive": AdaptiveAugmentation(interval=1, pictures=20), "geometry": 0.5, "colour": 0.5}


@pytest.mark.parametrize(
    "changes", [ADAPTIVE, ADVERSARIAL], ids=["reconstruction first, augmented", "adversarial alone"]
)
def test_micro_batches_and_processes_change_nothing(tryons: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    settings = config(**changes)
    with sure_discriminator():
        here(tryons, tmp_path / "whole", settings)
        here(tryons, tmp_path / "parts", settings, accumulate=2)
    assert_alike(tmp_path / "whole", tmp_path / "parts")
    assert finish(start(tryons, tmp_path / "two", settings, processes=2, sure=True)) == [0, 0]
    assert_alike(tmp_path / "whole", tmp_path / "two")
    found = {name for row in log(tmp_path / "two") for name in row}
    assert {"discriminator", "r1", "path_length", "adversarial"} <= found
    if settings.adaptive is not None:
        assert log(tmp_path / "two")[-1]["augmentation"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_run_goes_on_to_the_same_bits(tryons: Path, tmp_path: Path, processes: int) -> None:
    settings = config(stages=(Stage(8), Stage(40, adversarial=0.1)))
    assert finish(start(tryons, tmp_path / "whole", settings, processes=processes)) == [0] * processes
    moments = run_with_kills(
        tryons, tmp_path / "killed", settings, kills=3, processes=processes, rng=random.Random(processes)
    )
    assert len(moments) == 3
    assert differences(tmp_path / "whole", tmp_path / "killed") == []


@pytest.mark.slow
def test_a_silent_process_is_given_up(tryons: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    settings = config(stages=(Stage(40_000),))
    workers = start(tryons, tmp_path, settings, processes=2, timeout=10.0)
    folder = CheckpointFolder(tmp_path / "checkpoints")
    while not folder.steps() and all(worker.is_alive() for worker in workers):
        pass
    pid = workers[1].pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    workers[0].join(PATIENCE)
    assert workers[0].exitcode == LOST
    workers[1].kill()


def test_a_damaged_checkpoint_is_passed_over_by_all(tryons: Path, tmp_path: Path) -> None:
    settings = config(stages=(Stage(16),))
    assert finish(start(tryons, tmp_path, settings, processes=2)) == [0, 0]
    whole = state(tmp_path)
    newest = CheckpointFolder(tmp_path / "checkpoints").file(4)
    newest.write_bytes(newest.read_bytes()[:-100])
    assert finish(start(tryons, tmp_path, settings, processes=2)) == [0, 0]
    assert_same(whole, state(tmp_path))
    for step in (3, 4):
        CheckpointFolder(tmp_path / "checkpoints").file(step).write_bytes(b"")
    # The first process says what is wrong; the other, which waits for it, is told.
    assert finish(start(tryons, tmp_path, settings, processes=2)) == [1, LOST]


def test_processes_with_other_settings_refuse_each_other(
    tryons: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ProcessGroup, "same", lambda *_: False)
    with pytest.raises(ProcessGroupError, match="the same settings and pictures in all processes"):
        Trainer(config(), FolderDataset(tryons, size=SIZE), tmp_path)


def test_micro_batches_that_split_a_group_are_refused(tryons: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch_size: expected a multiple of 8"):
        Trainer(config(), FolderDataset(tryons, size=SIZE), tmp_path, accumulate=4)
    with pytest.raises(ConfigError, match="accumulate: expected at least 1"):
        Trainer(config(), FolderDataset(tryons, size=SIZE), tmp_path, accumulate=0)
    with pytest.raises(RangeError, match="keep"):
        Trainer(config(), FolderDataset(tryons, size=SIZE), tmp_path, keep=0)
