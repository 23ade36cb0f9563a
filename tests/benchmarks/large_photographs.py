"""A try-on in small and in large photographs: ``python -m tests.benchmarks.large_photographs [--sides 800 8946]``.

Each size is a JPEG file and runs in a process of its own. Prints the processor's seconds of a try-on with the preset
"fast" on one thread, without the loading, and the most memory that the process held.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image

import styletryon
from styletryon.data import paperdoll


def main() -> None:
    """Measure each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", type=int, nargs="+", default=[800, 8946], help="heights of the photographs")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        measure(arguments.one)
        return
    person = Image.fromarray(paperdoll.render(paperdoll.sample_figure(3), (512, 384)).image)
    with tempfile.TemporaryDirectory() as folder:
        for side in arguments.sides:
            path = Path(folder) / f"{side}.jpg"
            person.resize((round(side * 0.67), side), Image.Resampling.BICUBIC).save(path, quality=95)
            command = [sys.executable, "-m", "tests.benchmarks.large_photographs", "--one", str(path)]
            subprocess.run(command, check=True)


def measure(path: Path) -> None:
    """Run one try-on and print what it took."""
    torch.set_num_threads(1)
    person, garment = (Image.fromarray(paperdoll.render(paperdoll.sample_figure(n), (512, 384)).image) for n in (3, 4))
    pipeline = styletryon.TryOnPipeline(preset="fast")
    pipeline(person, garment)  # loads and prepares whatever there is
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    began = time.process_time()
    result = pipeline(path, garment)
    spent = time.process_time() - began
    stages = ", ".join(f"{name[8:]} {result.report[name]:.1f}" for name in result.report if name.startswith("seconds_"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    width, height = result.image.size
    print(f"{width}x{height}: {spent:.1f} s of the processor ({stages} by the clock), {peak:.2f} GiB at most")
    print(f"    {before:.2f} GiB of them before, for a photograph of 384x512")


if __name__ == "__main__":
    main()
