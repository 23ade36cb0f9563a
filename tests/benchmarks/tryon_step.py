"""Times one step of an optimisation of styles: a projection's, ours and peers' in turns, and of our whole try-on.

    python -m tests.benchmarks.tryon_step [--peer PATH ...] [--size 256] [--threads 1 2] [--device cuda]

"projection step": draw one picture from one w per layer, square its difference from a target, one step of Adam; frozen
weights, equal channels (`--channel-base`, 512 at most). The peers have no try-on; this is what their projectors repeat,
without the feature network. Ours draws the segmentation besides; the pose is encoded once, as our optimisations do.

"try-on step" is ours alone: `TryOnOptimizer` with its default losses, its time divided by its steps; on CUDA replayed
as a graph and, for comparison, step by step.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from styletryon.generator import draw_in
from styletryon.latent import Latent
from styletryon.models import PoseStyleGAN2
from styletryon.tryon import TryOnOptimizer
from tests.benchmarks import peers


def projection_step(contestant: peers.Contestant, size: int) -> Callable[[], object]:
    w = contestant.styles(1).requires_grad_()
    target = torch.rand(1, 3, size, size, device=w.device) * 2 - 1
    optimizer = torch.optim.Adam([w], lr=0.05)
    draw = contestant.draw
    if isinstance(contestant.generator, PoseStyleGAN2):
        drawn_in, affine = draw_in(contestant.generator, peers.standing(1, size, w.device)), contestant.generator.affine

        def draw(w: Tensor) -> tuple[Tensor, ...]:
            drawing = drawn_in(affine(w))
            return drawing.image, drawing.logits

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss: Tensor = (draw(w)[0] - target).square().mean()
        loss.backward()
        optimizer.step()

    return step


def tryon(generator: PoseStyleGAN2, size: int, device: torch.device, steps: int, graph: bool) -> Callable[[], object]:
    optimizer = TryOnOptimizer(generator, steps=steps, initial=0.5, patience=0, graph=graph, learning_rate=0.05)
    pose = peers.standing(1, size, device)
    with torch.no_grad():
        person, garment = (
            Latent(generator.affine(torch.randn(1, peers.LATENT, device=device)), pose) for _ in range(2)
        )
    return lambda: optimizer.optimize(person, garment, region=tuple(range(1, generator.num_labels)))


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--peer", type=Path, action="append", default=[], help="a peer's folder; may be repeated")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--channel-base", type=int, default=16384)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=20, help="of a try-on")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--quick", action="store_true", help="tiny numbers, to see that it runs")
    arguments = parser.parse_args(argv)
    size, base, rounds, steps = arguments.size, arguments.channel_base, arguments.rounds, arguments.steps
    if arguments.quick:
        size, base, rounds, steps = 32, 512 if not arguments.peer else base, 1, 2
    torch.manual_seed(0)
    device = arguments.device
    numbers = size, base, 512, device
    mine = peers.ours(*numbers)
    contestants = [mine, *(peers.peer(folder, *numbers) for folder in arguments.peer)]
    for contestant in contestants:
        contestant.generator.eval().requires_grad_(False)
    print(f"torch {torch.__version__}, {device}, {size}x{size}, channel base {base}")
    names = [contestant.name for contestant in contestants]
    before = torch.get_num_threads()
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        peers.header(names[1:])
        calls = [projection_step(contestant, size) for contestant in contestants]
        peers.report(f"projection step, {threads} threads", names, peers.race(calls, rounds, device), 1)
        if isinstance(mine.generator, PoseStyleGAN2):
            ways = {"ours, replayed": True, "ours, step by step": False} if device.type == "cuda" else {"ours": False}
            calls = [tryon(mine.generator, size, device, steps, graph) for graph in ways.values()]
            taken = peers.race(calls, max(rounds // 4, 1), device)
            # An optimisation of n steps draws n + 1 times, and each parent once.
            taken = [[ms / (steps + 1) for ms in times] for times in taken]
            peers.report(f"try-on step, {threads} threads", list(ways), taken, 1)
    torch.set_num_threads(before)


if __name__ == "__main__":
    main()
