"""The time of `try_on` of two photographs: `python -m tests.benchmarks.try_on [--before SRC] [PERSON GARMENT]`.

Each side is the package in a folder `src`, in a process of its own: this one, and with `--before` that of another
checkout. They take turns in one run, so that what else the machine does falls on both. Printed are the seconds of each
stage as the report has them, the medians of the whole call and of the processor's seconds in it, which other programs
disturb less, and the ratios of the two sides.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from tests._support.process import SOURCE

SIZE = (1024, 768)
FIGURES = (20_000_010, 20_000_008)

CALL = """
import json, sys, time
import torch
torch.set_num_threads(int(sys.argv[4]))
import styletryon
styletryon.load_model()
styletryon.try_on(sys.argv[1], sys.argv[2], region="top", preset="fast")
began, computed = time.perf_counter(), time.process_time()
result = styletryon.try_on(sys.argv[1], sys.argv[2], region="top", preset=sys.argv[3])
seconds, computed = time.perf_counter() - began, time.process_time() - computed
stages = {name: value for name, value in result.report.items() if name.startswith("seconds")}
print(json.dumps({"call": seconds, "processor": computed, **stages}))
"""
"""The child: a quick call first, which loads the networks and wakes the threads; then the one that counts."""


def measure(source: Path, pictures: Sequence[Path], preset: str, threads: int) -> dict[str, float]:
    """Return the seconds of one call, made in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-c", CALL, *map(str, pictures), preset, str(threads)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def enlarged(picture: Path | int, folder: Path, name: str) -> Path:
    """Write a picture, or a rendered figure, at the size that is measured."""
    if isinstance(picture, Path):
        image = Image.open(picture).convert("RGB").resize(SIZE[::-1], Image.Resampling.LANCZOS)
    else:
        from styletryon.data import paperdoll

        image = Image.fromarray(paperdoll.render(paperdoll.sample_figure(picture), SIZE).image)
    image.save(folder / name)
    return folder / name


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="*", type=Path, help="person and garment (default: two rendered figures)")
    parser.add_argument("--before", type=Path, metavar="SRC", help="the folder `src` of another checkout")
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args(argv)
    if len(arguments.pictures) not in (0, 2):
        parser.error("expected two pictures or none")
    sides = {"now": SOURCE} if arguments.before is None else {"before": arguments.before, "now": SOURCE}
    taken: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as folder:
        given = arguments.pictures or FIGURES
        shown = [enlarged(one, Path(folder), name) for one, name in zip(given, ("a.png", "b.png"), strict=True)]
        for _ in range(arguments.repeats):
            for side, source in sides.items():
                found = measure(source, shown, arguments.preset, arguments.threads)
                taken[side].append(found)
                print(side, ", ".join(f"{name} {value:.2f}" for name, value in found.items()), flush=True)
    for what in ("call", "processor"):
        medians = {side: statistics.median(found[what] for found in calls) for side, calls in taken.items()}
        print(f"{what}: " + ", ".join(f"{side} {value:.2f} s" for side, value in medians.items()), end="")
        print(f", ratio {medians['now'] / medians['before']:.2f}" if "before" in medians else "")


if __name__ == "__main__":
    main()
