"""Rows a second of a table of try-ons by the local engine and by Ray with one worker and more, in one run.

    python -m tests.benchmarks.batch_engines [--rows 60] [--people 9] [--model tiny] [--workers 1,2] [--json FILE]

Rendered people with their poses try on each other's clothes, each engine in a folder of its own, with one thread to a
process. `whole` counts from the call to its return, with the loading of models and, for Ray, the start of workers for
each of the two stages; the cluster is there before. `dressing` counts from the first finished batch to the last. Two
workers can only be twice as fast where two cores are free.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import islice, permutations
from pathlib import Path

import torch

from styletryon._files import write_text
from styletryon.batch import BatchRow, BatchSummary, try_on_table
from tests._support.people import photographed
from tests._support.process import ROOT, SOURCE

ANYTHING = "+".join(str(number) for number in range(1, 12))
"""A region that an untrained generator's segmentation is sure to show."""

Tick = Callable[[int], None]


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--people", type=int, default=9)
    parser.add_argument("--model", default="tiny", help="name or folder (default: the tiny one of the tests)")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(argv)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            measured = _measure(Path(folder), arguments)
    finally:
        torch.set_num_threads(threads)
    if arguments.json:
        write_text(arguments.json, json.dumps(measured, indent=1) + "\n")


def _measure(folder: Path, arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    photographed(folder, arguments.people)
    tiny = arguments.model == "tiny"
    region = ANYTHING if tiny else "top"
    pairs = islice(permutations(range(arguments.people), 2), arguments.rows)
    rows = [
        BatchRow(
            line, folder / f"{a}.png", folder / f"{b}.png", region, f"{line}.png", folder / f"{a}.json",
            folder / f"{b}.json",
        )
        for line, (a, b) in enumerate(pairs, 2)
    ]  # fmt: skip
    options = {
        "model": folder / "model" if tiny else arguments.model,
        "preset": arguments.preset,
        "batch_size": arguments.batch_size,
    }
    measured: dict[str, dict[str, float]] = {}

    def side(name: str, call: Callable[[Path, Tick], BatchSummary]) -> None:
        ticks: list[tuple[float, int]] = []
        start = time.perf_counter()
        summary = call(folder / name.replace(" ", "-"), lambda done: ticks.append((time.perf_counter(), done)))
        whole = time.perf_counter() - start
        (first, some), (last, most) = ticks[0], ticks[-1]
        measured[name] = {
            "done": summary.done,
            "whole": len(rows) / whole,
            "dressing": (most - some) / (last - first) if last > first else float("nan"),
        }
        one, local = measured[name], measured["local"]
        ratios = f"{one['whole'] / local['whole']:8.2f} {one['dressing'] / local['dressing']:8.2f}"
        print(f"{name:15s} {summary.done:5d} {one['whole']:9.3f} {one['dressing']:9.3f} {ratios}", flush=True)

    print(f"{len(rows)} rows, {arguments.people} people, model {arguments.model}, preset {arguments.preset}, "
          f"batches of {arguments.batch_size}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")  # fmt: skip
    print(f"{'rows a second':15s} {'done':>5s} {'whole':>9s} {'dressing':>9s} {'to local':>8s} {'to local':>8s}")
    side("local", lambda out, tick: try_on_table(
        rows, out, device="cpu", progress=lambda done, _: tick(done), **options))  # type: ignore[arg-type]  # fmt: skip
    _measure_ray(rows, options, [int(count) for count in arguments.workers.split(",")], side)
    return measured


def _measure_ray(
    rows: Sequence[BatchRow],
    options: dict[str, object],
    counts: Sequence[int],
    side: Callable[[str, Callable[[Path, Tick], BatchSummary]], None],
) -> None:
    os.environ["PYTHONPATH"] = f"{SOURCE}{os.pathsep}{ROOT}"  # workers see this tree
    import ray

    from styletryon.batch.ray import try_on_dataset

    ray.init(num_cpus=max(counts), include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False)
    for count in counts:

        def call(out: Path, tick: Tick, count: int = count) -> BatchSummary:
            def progress(stage: str, done: int, _: int) -> None:
                if stage == "dressing":
                    tick(done)

            return try_on_dataset(rows, out, workers=count, num_gpus=0, progress=progress, **options)  # type: ignore[arg-type]

        side(f"ray {count} workers", call)
    ray.shutdown()


if __name__ == "__main__":
    main()
