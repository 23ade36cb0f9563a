"""Times a whole training step at 128x128, ours and peers' in turns.

    python -m tests.benchmarks.training_step [--peer PATH ...] [--size 128] [--batch 4] [--threads 1 2] [--device cuda]

A step is one of the generator and one of the discriminator: drawing with fresh noise, logistic losses, Adam. The peers
draw again for the discriminator, as their own loops do; ours lets it judge the drawings of the generator's step, and
once, as `Trainer` does. Left out
on all sides are the lazy penalties (R1, path length), style mixing, augmentation, the average of the weights and the
data. All have the same channels (`--channel-base`, 512 at most). Ours draws the segmentation and encodes the pose
besides, and its discriminator sees both. It trains in what precision is faster (`bf16` on a processor that has it);
the peers have float32 alone on a CPU.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from tests.benchmarks import peers


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--peer", type=Path, action="append", default=[], help="a peer's folder; may be repeated")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, nargs="+", default=[4])
    parser.add_argument("--channel-base", type=int, default=16384)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--precision", choices=peers.PRECISIONS, nargs="+", default=["fp32", "bf16"], help="of ours")
    parser.add_argument("--peer-precision", choices=peers.PRECISIONS, default="fp32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--quick", action="store_true", help="tiny numbers, to see that it runs")
    arguments = parser.parse_args(argv)
    size, base, rounds = arguments.size, arguments.channel_base, arguments.rounds
    if arguments.quick:
        size, base, rounds = 16, 256 if not arguments.peer else base, 1
    torch.manual_seed(0)
    numbers = size, base, 512, arguments.device
    contestants = [
        peers.ours(*numbers, precision=precision, discriminator=True) for precision in arguments.precision
    ]
    num_ours = len(contestants)
    contestants += [
        peers.peer(folder, *numbers, precision=arguments.peer_precision, discriminator=True)
        for folder in arguments.peer
    ]
    print(f"torch {torch.__version__}, {arguments.device}, {size}x{size}, channel base {base}")
    names = [contestant.name for contestant in contestants]
    before = torch.get_num_threads()
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        peers.header(names[num_ours:])
        for batch in arguments.batch:
            calls = [peers.training_step(contestant, batch) for contestant in contestants]
            title = f"training step, batch {batch}, {threads} threads"
            peers.report(title, names, peers.race(calls, rounds, arguments.device), num_ours)
    torch.set_num_threads(before)


if __name__ == "__main__":
    main()
