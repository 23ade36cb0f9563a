"""`styletryon paperdoll`: data sets."""

from __future__ import annotations

import argparse
from pathlib import Path

from styletryon.cli._common import Commands, Stages, add_command, size, wants_progress


def add_commands(commands: Commands) -> None:
    """Add the commands of this module."""
    _add_paperdoll(commands)


def _add_paperdoll(commands: Commands) -> None:
    parser = add_command(
        commands, "paperdoll", _paperdoll, "render a data set of figures with exact keypoints and labels"
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    parser.add_argument("--count", required=True, type=int, help="how many figures")
    parser.add_argument("--size", default="256x192", type=size, help="HEIGHTxWIDTH in pixels (default: %(default)s)")
    parser.add_argument("--stances", default=2, type=int, help="pictures per person and outfit (default: %(default)s)")
    parser.add_argument("--tryons", default=0, type=int, help="how many in another's clothes to add (default: none)")
    parser.add_argument("--seed", default=0, type=int, help="seed of the first figure (default: %(default)s)")
    parser.add_argument("--workers", default=1, type=int, help="processes (default: %(default)s)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _paperdoll(arguments: argparse.Namespace) -> None:
    from styletryon.data import paperdoll

    with Stages(shown=wants_progress(arguments)) as stages:
        paperdoll.write_dataset(
            arguments.out,
            arguments.count,
            seed=arguments.seed,
            size=arguments.size,
            stances=arguments.stances,
            tryons=arguments.tryons,
            workers=arguments.workers,
            progress=lambda done, total: stages("figures", done, total),
        )
    print(arguments.out)
