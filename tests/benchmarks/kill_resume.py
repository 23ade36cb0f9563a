"""Kills a training again and again, and looks whether it ends with the same bits as one that was left alone.

    python -m tests.benchmarks.kill_resume [--kills 10] [--processes 2] [--seed 0] [--steps 60]

The preset "tiny" with every objective, try-ons included, on the CPU, with a checkpoint after every step. Each time one
of the processes gets SIGKILL at a random moment; the others must end by themselves, and all are started again. Compared
are the last checkpoint (weights, average, optimisers, counters), every logged loss, and the finished model.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from styletryon.data.paperdoll import write_dataset
from styletryon.training import Stage, TrainingConfig, preset
from tests._support.training_processes import differences, finish, run_with_kills, start


def settings(steps: int) -> TrainingConfig:
    """The preset "tiny" with try-ons: an eighth of the steps at half size, an eighth at full, then adversarial."""
    tiny = preset("tiny")
    part = max(steps // 8, 1) * tiny.batch_size
    stages = (
        Stage(part, num_levels=-1),
        Stage(part),
        Stage(max(steps * tiny.batch_size - 2 * part, tiny.batch_size), adversarial=0.1, decay=0.5),
    )
    return replace(tiny, generator=replace(tiny.generator, garment_shares=True), tryons=0.75, stages=stages)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the steps of the kills and what differs.

    Raises:
        SystemExit: If anything does.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    config, processes = settings(arguments.steps), arguments.processes
    with tempfile.TemporaryDirectory() as folder:
        data, whole, killed = (Path(folder) / name for name in ("data", "whole", "killed"))
        write_dataset(data, 12, size=config.generator.image_size, tryons=8, val_fraction=0.0)
        statuses = finish(start(data, whole, config, processes=processes))
        if statuses != [0] * processes:
            raise SystemExit(f"the training that is left alone failed: {statuses}")
        rng = random.Random(arguments.seed)
        moments = run_with_kills(data, killed, config, kills=arguments.kills, processes=processes, rng=rng)
        found = differences(whole, killed)
    print(f"{arguments.steps} steps, {processes} processes, killed after the checkpoints of steps {moments}")
    if found:
        raise SystemExit(f"{len(found)} differences: {found[:10]}")
    print("no difference: checkpoint, losses and model are the same bit for bit")


if __name__ == "__main__":
    main()
