"""`styletryon train` and `train-encoder`: generators, and encoders for them, from one's own pictures."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace
from pathlib import Path

from styletryon.cli._common import Commands, add_command


def add_commands(commands: Commands) -> None:
    """Add the commands of this module."""
    _add_train(commands)
    _add_train_encoder(commands)


def _add_train(commands: Commands) -> None:
    parser = add_command(commands, "train", _train, "train a generator from labelled pictures with keypoints")
    parser.add_argument("data", type=Path, metavar="DATA", help="folder or zip; see docs/training.md")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, samples and the trained model")
    parser.add_argument("--preset", default="paperdoll", help="name of a training preset (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --out")
    parser.add_argument("--pictures", type=int, help="stretch or shorten the preset to so many pictures seen")
    parser.add_argument("--minutes", type=float, help="stop after so many minutes, with a checkpoint")
    parser.add_argument("--threads", type=int, help="CPU threads (default: half of what torch would take)")
    parser.add_argument("--seed", default=0, type=int, help="default: %(default)s")
    parser.add_argument("--precision", default="auto", choices=["auto", "bf16", "fp32"], help="default: %(default)s")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 (default: cuda where there is one)")
    parser.add_argument("--quiet", action="store_true", help="no progress line")


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
        resume=arguments.resume,
        minutes=arguments.minutes,
        device=arguments.device or ("cuda" if torch.cuda.is_available() else "cpu"),
        precision=arguments.precision,
        progress=not arguments.quiet,
    )
    if complete:
        print(f"complete; the model is in {arguments.out / 'model'}")
    else:
        again = f"styletryon train {arguments.data} --out {arguments.out} --preset {arguments.preset} --resume"
        print(f"stopped with a checkpoint; go on with: {again}")


def _add_train_encoder(commands: Commands) -> None:
    parser = add_command(
        commands, "train-encoder", _train_encoder, "train the encoder that starts a generator's projections"
    )
    parser.add_argument("model", metavar="MODEL", help="the generator: name of bundled weights or folder; it stays")
    parser.add_argument("data", type=Path, metavar="DATA", help="folder or zip; see docs/training.md")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, samples and the model")
    parser.add_argument("--fresh", action="store_true", help="start anew, though the model has an encoder")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --out")
    parser.add_argument("--pictures", default=100_000, type=int, help="pictures seen (default: %(default)s)")
    parser.add_argument("--batch-size", default=8, type=int, help="pictures a step (default: %(default)s)")
    parser.add_argument("--learning-rate", default=2e-3, type=float, help="its highest (default: %(default)s)")
    parser.add_argument("--schedule", default="cosine", choices=["cosine", "linear"], help="default: %(default)s")
    parser.add_argument(
        "--drawings", default=0.25, type=float, help="random drawings beside each picture (default: %(default)s)"
    )
    parser.add_argument("--minutes", type=float, help="stop after so many minutes, with a checkpoint")
    parser.add_argument("--threads", type=int, help="CPU threads (default: half of what torch would take)")
    parser.add_argument("--seed", default=0, type=int, help="default: %(default)s")
    parser.add_argument("--precision", default="auto", choices=["auto", "bf16", "fp32"], help="default: %(default)s")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 (default: cuda where there is one)")
    parser.add_argument("--quiet", action="store_true", help="no progress line")


def _train_encoder(arguments: argparse.Namespace) -> None:
    import torch

    from styletryon import training

    names = ("pictures", "batch_size", "learning_rate", "schedule", "drawings", "seed")
    complete = training.train_encoder(
        arguments.model,
        arguments.data,
        out=arguments.out,
        config=training.EncoderTrainingConfig(**{name: getattr(arguments, name) for name in names}),
        fresh=arguments.fresh,
        resume=arguments.resume,
        minutes=arguments.minutes,
        device=arguments.device or ("cuda" if torch.cuda.is_available() else "cpu"),
        precision=arguments.precision,
        progress=not arguments.quiet,
    )
    if complete:
        print(f"complete; the generator with its encoder is in {arguments.out / 'model'}")
        return
    again = ["styletryon", "train-encoder", arguments.model, str(arguments.data), "--out", str(arguments.out)]
    again += [part for name in names for part in (f"--{name.replace('_', '-')}", str(getattr(arguments, name)))]
    again += ["--precision", arguments.precision, *(["--fresh"] if arguments.fresh else []), "--resume"]
    print(f"stopped with a checkpoint; go on with: {shlex.join(again)}")
