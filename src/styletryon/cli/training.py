"""`styletryon train | train-encoder | curves`: generators and encoders from one's own pictures."""

from __future__ import annotations

import argparse
import json
import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from styletryon.cli._common import Commands, add_command, use_threads
from styletryon.cli._paths import check_inputs, check_outputs

if TYPE_CHECKING:
    from styletryon.training import TrainingConfig


def add_commands(commands: Commands) -> None:
    """Add the commands of this module."""
    _add_train(commands)
    _add_train_encoder(commands)
    _add_curves(commands)


def _add_train(commands: Commands) -> None:
    parser = add_command(commands, "train", _train, "train a generator from labelled pictures with keypoints")
    parser.add_argument(
        "data", type=Path, nargs="+", metavar="DATA", help="folder or zip, or several; see docs/training.md"
    )
    parser.add_argument("--shares", type=float, nargs="+", metavar="SHARE",
                        help="how often each DATA is drawn from (default: by the number of its pictures)")  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, samples and the trained model")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--preset", help="name of a training preset (default: paperdoll; with --resume the run's own)")
    source.add_argument("--config", type=Path, metavar="FILE", help="settings, such as the training.json of a run")
    parser.add_argument("--set", action="append", default=[], type=_setting, metavar="NAME=VALUE",
                        help="change a setting: batch_size=32, generator.w_dim=256, stages.0.decay=0.5")  # fmt: skip
    parser.add_argument("--seed", type=int, help="change the seed (default: that of the settings, 0 in presets)")
    parser.add_argument("--pictures", type=int, help="stretch or shorten the settings to so many pictures seen")
    parser.add_argument("--start", metavar="MODEL", help="weights to start from where they fit: a folder, or 'default'")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --out")
    parser.add_argument("--minutes", type=float, help="stop after so many minutes, with a checkpoint")
    parser.add_argument("--save-minutes", type=float, default=5.0, help="between checkpoints (default: %(default)s)")
    parser.add_argument("--keep", type=int, default=2, help="checkpoints to keep (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: half of what torch would take)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 (default: cuda where there is one)")
    parser.add_argument("--precision", default="auto", choices=["auto", "bf16", "fp16", "fp32"],
                        help="default: %(default)s")  # fmt: skip
    parser.add_argument("--accumulate", type=int, default=1, help="micro-batches a step (default: %(default)s)")
    parser.add_argument("--compile", action="store_true", help="compile drawing and encoding with torch.compile")
    parser.add_argument("--workers", type=int, help="threads that read batches ahead (default: 2 on cuda, else 0)")
    parser.add_argument("--no-cache", action="store_true", help="read pictures when needed instead of all at the start")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
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
    for data in arguments.data:
        check_inputs({"data": data})
    check_inputs({"--config": arguments.config})
    check_outputs(folders={"--out": arguments.out})
    use_threads(arguments)
    import torch

    from styletryon import training

    complete = training.train(
        arguments.data,
        arguments.out,
        config=_config(arguments),
        shares=arguments.shares,
        start=arguments.start,
        resume=arguments.resume,
        minutes=arguments.minutes,
        save_minutes=arguments.save_minutes,
        keep=arguments.keep,
        device=arguments.device or ("cuda" if torch.cuda.is_available() else "cpu"),
        precision=arguments.precision,
        accumulate=arguments.accumulate,
        compile=arguments.compile,
        workers=arguments.workers,
        cache=not arguments.no_cache,
        progress=not arguments.quiet,
        log_every=arguments.log_every,
        sample_every=arguments.sample_every,
        callbacks=[training.TensorBoardCallback()] if arguments.tensorboard else [],
    )
    if os.environ.get("RANK", "0") != "0":  # under torchrun one process speaks for all
        return
    if complete:
        print(f"complete; the model is in {arguments.out / 'model'}")
    else:
        again = ["styletryon", "train", *map(str, arguments.data), "--out", str(arguments.out), "--resume"]
        again += [] if arguments.shares is None else ["--shares", *(f"{share:g}" for share in arguments.shares)]
        print(f"stopped with a checkpoint; go on with: {' '.join(again)}")


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
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _train_encoder(arguments: argparse.Namespace) -> None:
    check_inputs({"data": arguments.data})
    check_outputs(folders={"--out": arguments.out})
    use_threads(arguments)
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


def _add_curves(commands: Commands) -> None:
    parser = add_command(commands, "curves", _curves, "draw the curves of a training from its log (styletryon[plots])")
    parser.add_argument("folder", type=Path, metavar="RUN", help="what styletryon train wrote, or its metrics.jsonl")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="default: curves.png beside the log")


def _curves(arguments: argparse.Namespace) -> None:
    check_outputs(pictures={"--out": arguments.out})
    from styletryon import training

    print(training.save_curves(arguments.folder, arguments.out))


def _config(arguments: argparse.Namespace) -> TrainingConfig:
    from styletryon import training

    own = arguments.out / "training.json"
    if arguments.config is not None:
        config = training.TrainingConfig.load(arguments.config)
    elif arguments.preset is None and arguments.resume and own.is_file():
        config = training.TrainingConfig.load(own)
    else:
        config = training.preset(arguments.preset or "paperdoll")
    config = config.changed(**dict(arguments.set))
    if arguments.seed is not None:
        config = replace(config, seed=arguments.seed)
    return config if arguments.pictures is None else config.scaled(arguments.pictures)


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value  # a word needs no quotes
