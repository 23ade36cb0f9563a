"""How many figures paperdoll draws a second on one core: ``python -m tests.benchmarks.paperdoll``."""

from __future__ import annotations

import argparse
import sys
import time

from styletryon.data.paperdoll import render, sample_figure


def measure(count: int, size: tuple[int, int]) -> tuple[float, float]:
    """Pictures a second by the wall clock and by processor time."""
    figures = [sample_figure(seed) for seed in range(count)]
    render(figures[0], size)
    wall, processor = time.perf_counter(), time.process_time()
    for figure in figures:
        render(figure, size)
    return count / (time.perf_counter() - wall), count / (time.process_time() - processor)


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parsed = parser.parse_args()
    for size in ((128, 96), (256, 192)):
        wall, processor = measure(parsed.count, size)
        sys.stdout.write(f"{size[0]}x{size[1]}: {wall:.1f} pictures/s (wall), {processor:.1f} pictures/s (processor)\n")


if __name__ == "__main__":
    main()
