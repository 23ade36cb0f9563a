"""What training an encoder for the bundled generator reaches, from nothing, in minutes.

    python -m tests.benchmarks.encoder DATA [--pictures 30000] [--model default] [--out DIR] [--continue]

DATA is a folder of rendered figures (`styletryon paperdoll DATA --size 128x96`). The encoder is trained on it while the
generator stays. A row says how close the drawing from its guess alone comes to the pictures of rendered figures that
no training saw, over the person and over the frame, and over the person to the truth in another pose; the last rows
are the model's own encoder and the mean latent. Minutes are those of the processor, so that other programs on it count
little.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from styletryon import LatentProjector, load_model
from styletryon.data import FolderDataset
from styletryon.models import PoseStyleGAN2
from styletryon.training import EncoderTrainer, EncoderTrainingConfig
from styletryon.training.precision import prefers_bf16
from tests.benchmarks.projection import FIRST_SEED, Figures, measure, render_figures


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--model", default="default")
    parser.add_argument("--pictures", type=int, default=30_000)
    parser.add_argument("--rows", type=int, default=10, help="how often the encoder is measured")
    parser.add_argument("--figures", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--drawings", type=float, default=0.25)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--continue", dest="fresh", action="store_false", help="go on from the model's own encoder")
    parser.add_argument("--out", type=Path, help="folder of the run; default: one that is deleted at the end")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args(argv)
    threads = torch.get_num_threads()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        _run(arguments, Path(folder) if arguments.out is None else arguments.out)
    torch.set_num_threads(threads)


def _run(arguments: argparse.Namespace, out: Path) -> None:
    model = load_model(arguments.model, device="cpu")
    own, new = render_figures(model.image_size, arguments.figures, FIRST_SEED)
    names = ("pictures", "batch_size", "learning_rate", "drawings")
    config = EncoderTrainingConfig(**{name: getattr(arguments, name) for name in names})
    dataset = FolderDataset(arguments.data, size=model.image_size)
    bf16 = prefers_bf16("cpu")
    trainer = EncoderTrainer(model, config, dataset, out, fresh=arguments.fresh, bf16=bf16)
    print(
        f"torch {torch.__version__}, {arguments.threads} threads, {'bf16' if bf16 else 'fp32'}, {len(dataset)} "
        f"pictures, measured on {arguments.figures} figures"
    )
    print(f"{'encoder':>12s}{'pictures':>12s}{'minutes':>12s}{'person dB':>12s}{'frame dB':>12s}{'new pose dB':>12s}")
    minutes = 0.0
    for row in range(arguments.rows + 1):
        began = time.process_time()
        if row:
            trainer.train(steps=row * config.steps // arguments.rows - trainer.step)
        minutes += (time.process_time() - began) / 60
        name = "fresh" if not trainer.continued else "continued"
        _print_row(name, f"{trainer.pictures}", f"{minutes:.1f}", trainer.model(), own, new)
    if model.encoder is not None:
        _print_row("the model's", "", "", model, own, new)
    _print_row("mean latent", "", "", model, own, new, start="mean")


def _print_row(
    name: str, pictures: str, minutes: str, model: PoseStyleGAN2, own: Figures, new: Figures, start: str = "encoder"
) -> None:
    projector = LatentProjector(model, start=start, steps=0, noise=False)  # type: ignore[arg-type]
    numbers = "".join(f"{number:12.2f}" for number in measure(projector, model, own, new)[:3])
    print(f"{name:>12s}{pictures:>12s}{minutes:>12s}{numbers}", flush=True)


if __name__ == "__main__":
    main()
