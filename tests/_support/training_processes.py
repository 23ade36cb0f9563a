"""Trainings in processes of their own, which may be killed; they come from a server that has imported all."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from styletryon.training import TrainingConfig
from styletryon.training.adaptive import AugmentationController
from styletryon.training.checkpoints import CheckpointFolder
from tests._support.process import ROOT, SOURCE

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests._support.training_processes", "styletryon.training.run"])
PATIENCE = 600.0
LOST = 3
"""Exit status of a process that lost another one."""


@contextmanager
def sure_discriminator() -> Iterator[list[float]]:
    """Steer as if the discriminator knew every real picture: the strength rises at each adjustment, whatever the seed.

    Yields:
        The mean signs that were really there, as they come in.
    """
    see, signs = AugmentationController.update, []

    def sure(controller: AugmentationController, sign: torch.Tensor, *, batch_size: int) -> None:
        signs.append(float(sign))
        see(controller, torch.ones_like(sign), batch_size=batch_size)

    with mock.patch.object(AugmentationController, "update", sure):
        yield signs


def start(data: Path, out: Path, config: TrainingConfig, *, processes: int = 1, **options: Any) -> list[BaseProcess]:
    """Start or go on with a training that saves every step and logs every loss.

    Args:
        data: The data set.
        out: The run.
        config: Its settings.
        processes: How many share it.
        **options: For `Trainer`; "timeout" in seconds for the group; "sure" for `sure_discriminator`.
    """
    # The server imports this tree's sources, whatever else is installed.
    with mock.patch.dict(os.environ, PYTHONPATH=f"{SOURCE}{os.pathsep}{ROOT}", OMP_NUM_THREADS="1"):
        forkserver.ensure_running()
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    workers: list[BaseProcess] = []
    for rank in range(processes):
        variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "MASTER_PORT": port}
        arguments = (variables, str(data), str(out), config.to_dict(), options)
        workers.append(_CONTEXT.Process(target=_work, args=arguments, daemon=True))
        workers[-1].start()
    return workers


def finish(workers: list[BaseProcess]) -> list[int | None]:
    """Wait for processes; return their exit statuses, None for one that hangs (and kill it)."""
    until = time.monotonic() + PATIENCE
    for worker in workers:
        worker.join(max(until - time.monotonic(), 0.1))
    statuses = [worker.exitcode for worker in workers]
    for worker in workers:
        worker.kill()
    return statuses


def run_with_kills(
    data: Path, out: Path, config: TrainingConfig, *, kills: int, processes: int, rng: random.Random
) -> list[int]:
    """Run a training to its end, killing one of its processes at random moments and going on each time.

    Returns:
        The steps of the newest checkpoint at each kill.

    Raises:
        AssertionError: If a process hangs or ends otherwise than it should.
    """
    folder, moments = CheckpointFolder(out / "checkpoints"), []
    total = -(-config.pictures // config.batch_size)
    for left in range(kills, 0, -1):
        done = max(folder.steps(), default=0)
        room = (total - done) // (left + 1)  # so that steps are left for the kills to come
        target, began = done + rng.randint(1, max(room, 1)), time.monotonic()
        workers = start(data, out, config, processes=processes)
        while max(folder.steps(), default=0) < target and all(worker.is_alive() for worker in workers):
            assert time.monotonic() - began < PATIENCE, "the training does not get on"
            time.sleep(0.002)
        time.sleep(rng.random() * 0.3)  # somewhere within a step or a save
        victim = rng.randrange(processes)
        workers[victim].kill()
        statuses = finish(workers)
        assert statuses[victim] in (-9, LOST), statuses
        assert all(status in (LOST, -9) for status in statuses), statuses  # none hangs, none goes on alone
        moments.append(max(folder.steps(), default=0))
    assert finish(start(data, out, config, processes=processes)) == [0] * processes
    return moments


def differences(one: Path, other: Path) -> list[str]:
    """Return in what two finished trainings differ: last checkpoint, losses, model. None: bit for bit.

    Args:
        one: The folder of a run.
        other: That of another.
    """
    found = []
    states = [_flat(CheckpointFolder(run / "checkpoints").latest()) for run in (one, other)]
    found += [name for name in states[0].keys() | states[1].keys() if not _same(*(s.get(name) for s in states))]
    logs = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (one, other)]
    losses = [[{name: value for name, value in row.items() if name != "rate"} for row in rows] for rows in logs]
    found += [] if losses[0] == losses[1] else ["metrics.jsonl"]
    for name in ("model.safetensors", "config.json"):
        files = [(run / "model" / name).read_bytes() for run in (one, other)]
        found += [] if files[0] == files[1] else [name]
    return found


def _flat(value: Any, name: str = "state") -> dict[str, Any]:
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list | tuple):
        items = list(enumerate(value))
    else:
        return {name: value}
    return {key: part for inner, item in items for key, part in _flat(item, f"{name}.{inner}").items()}


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return torch.equal(first, second)
    return type(first) is type(second) and bool(first == second)


def _work(variables: dict[str, int], data: str, out: str, config: dict[str, Any], options: dict[str, Any]) -> None:
    from styletryon.data.folder import FolderDataset
    from styletryon.errors import ProcessGroupError
    from styletryon.training import Trainer, distributed

    os.environ |= {"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in variables.items()}}
    torch.set_num_threads(1)
    device = distributed.own_device("cpu")
    timeout = timedelta(seconds=options.pop("timeout", 300.0))
    steered = sure_discriminator() if options.pop("sure", False) else nullcontext()
    try:
        distributed.join(device, timeout=timeout)
        settings = TrainingConfig.from_dict(config)
        dataset = FolderDataset(data, size=settings.generator.image_size)
        run = Trainer(settings, dataset, out, **{"precision": "fp32", **options})
        run.resume()
        with steered:
            run.train(save_minutes=0.0, log_every=1, sample_every=10**9)
        distributed.leave()
    except ProcessGroupError as error:
        print(error, file=sys.stderr)
        sys.stderr.flush()
        os._exit(LOST)  # at once, as a process does that nobody waits for
