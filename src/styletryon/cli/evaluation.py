"""`styletryon evaluate`: numbers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import styletryon
from styletryon.cli._common import Commands, Stages, add_command, add_try_on_options, wants_progress
from styletryon.errors import ConfigError
from styletryon.labels import REGIONS


def add_commands(commands: Commands) -> None:
    """Add the commands of this module."""
    _add_evaluate(commands)


def _add_evaluate(commands: Commands) -> None:
    parser = add_command(
        commands, "evaluate", _evaluate, "measure try-on against rendered truth, baselines and ceilings"
    )
    parser.add_argument("--pairs", default=64, type=int, help="how many pairs (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything as JSON")
    parser.add_argument("--data", type=Path, metavar="DATA", help="pairs of photographs from a folder or zip")
    parser.add_argument("--split", default="val", help="split of --data (default: %(default)s)")
    parser.add_argument("--pose-following", action="store_true", help="measure new poses instead of try-on")
    parser.add_argument("--methods", help="names, separated by commas (default: all)")
    parser.add_argument("--estimate-poses", action="store_true", help="estimate the poses rather than know them")
    parser.add_argument("--batch-size", default=16, type=int, help="default: %(default)s")
    add_try_on_options(parser)


def _evaluate(arguments: argparse.Namespace) -> None:
    from styletryon import metrics

    if not isinstance(arguments.region, str):
        raise ConfigError(f"--region: expected one of {', '.join(REGIONS)}, got a set of classes")
    model = styletryon.load_model(arguments.model, device=arguments.device)
    options: dict[str, Any] = {name: getattr(arguments, name) for name in ("pairs", "seed", "preset", "batch_size")}
    if arguments.methods is not None and not arguments.pose_following:
        options["methods"] = arguments.methods.split(",")
    with Stages(shown=wants_progress(arguments)) as stages:
        if arguments.pose_following:
            report = metrics.pose_following(model, progress=stages, **options)
        elif arguments.data is not None:
            report = metrics.evaluate_folder(
                model, arguments.data, region=arguments.region, split=arguments.split, progress=stages, **options
            )
        else:
            estimate = styletryon.estimate_pose if arguments.estimate_poses else None
            report = metrics.evaluate(
                model, region=arguments.region, estimate_pose=estimate, progress=stages, **options
            )
    if arguments.json is not None:
        report.save(arguments.json)
    print(report.table())
