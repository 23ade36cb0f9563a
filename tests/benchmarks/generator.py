"""Times the generator, drawing alone and with the gradient to the styles, ours and peers' in turns.

    python -m tests.benchmarks.generator [--peer PATH ...] [--size 256] [--batch 1 4] [--threads 1 2] [--device cuda]

All have the same channels (`--channel-base`, 512 at most) and frozen weights, as projectors do; the styles are one w
per layer. Ours draws the segmentation and encodes the pose besides; "picture alone" is ours without either. Each line
gives the best and the median time, and how many times as fast ours is as each peer: by the best times, and the median
over the rounds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from tests.benchmarks import peers


def drawing(contestant: peers.Contestant, batch: int) -> Callable[[], object]:
    w = contestant.styles(batch)

    def call() -> None:
        with torch.no_grad():
            contestant.draw(w)

    return call


def gradient(contestant: peers.Contestant, batch: int) -> Callable[[], object]:
    w = contestant.styles(batch).requires_grad_()

    def call() -> None:
        drawn = contestant.draw(w)
        torch.autograd.grad(drawn, w, [torch.ones_like(part) for part in drawn])

    return call


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--peer", type=Path, action="append", default=[], help="a peer's folder; may be repeated")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--channel-base", type=int, default=16384)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--precision", choices=peers.PRECISIONS, nargs="+", default=["fp32"], help="of ours")
    parser.add_argument("--peer-precision", choices=peers.PRECISIONS, default="fp32")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--quick", action="store_true", help="tiny numbers, to see that it runs")
    arguments = parser.parse_args(argv)
    size, base, rounds = arguments.size, arguments.channel_base, arguments.rounds
    if arguments.quick:
        size, base, rounds = 32, 512 if not arguments.peer else base, 1
    torch.manual_seed(0)
    numbers = size, base, 512, arguments.device
    contestants = [
        peers.ours(*numbers, segmentation=segmentation, precision=precision)
        for precision in arguments.precision
        for segmentation in (True, False)
    ]
    num_ours = len(contestants)
    contestants += [peers.peer(folder, *numbers, precision=arguments.peer_precision) for folder in arguments.peer]
    for contestant in contestants:
        contestant.generator.eval().requires_grad_(False)
    print(f"torch {torch.__version__}, {arguments.device}, {size}x{size}, channel base {base}")
    names = [contestant.name for contestant in contestants]
    before = torch.get_num_threads()
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        peers.header(names[num_ours:])
        for batch in arguments.batch:
            for what, make in (("drawing", drawing), ("drawing and gradient", gradient)):
                calls = [make(contestant, batch) for contestant in contestants]
                title = f"{what}, batch {batch}, {threads} threads"
                peers.report(title, names, peers.race(calls, rounds, arguments.device), num_ours)
    torch.set_num_threads(before)


if __name__ == "__main__":
    main()
