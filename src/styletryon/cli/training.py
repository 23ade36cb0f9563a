"""`styletryon train` and `curves`: generators from one's own pictures."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from styletryon.cli._common import Commands, add_command


def add_commands(commands: Commands) -> None:
    """Add the commands of this module."""
    _add_train(commands)
    _add_curves(commands)


def _add_train(commands: Commands) -> None:
    parser = add_command(commands, "train", _train, "train a generator from labelled pictures with keypoints")
    parser.add_argument("data", type=Path, metavar="DATA", help="folder or zip; see docs/training.md")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, samples and the trained model")
    parser.add_argument("--preset", default="paperdoll", help="name of a training preset (default: %(default)s)")
    parser.add_argument("--start", metavar="MODEL", help="weights to start from where they fit: a folder, or 'default'")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --out")
    parser.add_argument("--pictures", type=int, help="stretch or shorten the preset to so many pictures seen")
    parser.add_argument("--minutes", type=float, help="stop after so many minutes, with a checkpoint")
    parser.add_argument("--threads", type=int, help="CPU threads (default: half of what torch would take)")
    parser.add_argument("--seed", default=0, type=int, help="default: %(default)s")
    parser.add_argument("--precision", default="auto", choices=["auto", "bf16", "fp32"], help="default: %(default)s")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 (default: cuda where there is one)")
    parser.add_argument("--quiet", action="store_true", help="no progress line")
    parser.add_argument(
        "--tensorboard", action="store_true", help="write events into OUT/tensorboard (styletryon[tensorboard])"
    )
    parser.add_argument(
        "--log-every", default=100, type=int, metavar="STEPS", help="from row to row of the log (default: %(default)s)"
    )
    parser.add_argument(
        "--sample-every",
        default=2000,
        type=int,
        metavar="STEPS",
        help="from one measurement, with sheets of samples, to the next (default: %(default)s)",
    )


def _train(arguments: argparse.Namespace) -> None:
    import torch

    from styletryon import training

    config = replace(training.preset(arguments.preset), seed=arguments.seed)
    if arguments.pictures is not None:
        config = config.scaled(arguments.pictures)
    complete = training.train(
        arguments.data,
        arguments.out,
        config=config,
        start=arguments.start,
        resume=arguments.resume,
        minutes=arguments.minutes,
        device=arguments.device or ("cuda" if torch.cuda.is_available() else "cpu"),
        precision=arguments.precision,
        progress=not arguments.quiet,
        log_every=arguments.log_every,
        sample_every=arguments.sample_every,
        callbacks=[training.TensorBoardCallback()] if arguments.tensorboard else [],
    )
    if complete:
        print(f"complete; the model is in {arguments.out / 'model'}")
    else:
        again = f"styletryon train {arguments.data} --out {arguments.out} --preset {arguments.preset} --resume"
        print(f"stopped with a checkpoint; go on with: {again}")


def _add_curves(commands: Commands) -> None:
    parser = add_command(commands, "curves", _curves, "draw the curves of a training from its log")
    parser.add_argument("folder", type=Path, metavar="RUN", help="what styletryon train wrote, or its metrics.jsonl")
    parser.add_argument("-o", "--out", type=Path, metavar="PNG", help="default: curves.png beside the log")


def _curves(arguments: argparse.Namespace) -> None:
    from styletryon import training

    print(training.save_curves(arguments.folder, arguments.out))
