"""`styletryon paperdoll | prepare`: data sets."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import styletryon
from styletryon.cli._common import Commands, add_command, shown_stages, size, use_threads
from styletryon.cli._paths import check_inputs, check_outputs
from styletryon.errors import DataError


def add_commands(commands: Commands) -> None:
    """Add the commands of this module."""
    _add_paperdoll(commands)
    _add_prepare(commands)


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
    check_outputs(folders={"out": arguments.out})
    with shown_stages(arguments) as stages:
        from styletryon.data import paperdoll

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


def _add_prepare(commands: Commands) -> None:
    parser = add_command(
        commands, "prepare", _prepare, "make a data set for training out of photographs; run again to go on"
    )
    parser.add_argument("photos", type=Path, metavar="PHOTOS", help="folder or zip of photographs, or a data set")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write, or to go on with")
    parser.add_argument("--size", default="256x192", type=size, help="HEIGHTxWIDTH in pixels (default: %(default)s)")
    parser.add_argument(
        "--background", default="white", help="white, black, RRGGBB, or keep the photograph's own (default: white)"
    )
    parser.add_argument("--labels", type=Path, metavar="DIR", help="folder or zip of label PNGs, classes 0..11")
    parser.add_argument("--keypoints", type=Path, metavar="JSON", help="name -> 17 x [x, y, score]")
    parser.add_argument("--strict", action="store_true", help="leave out whom the photograph or the frame cuts")
    parser.add_argument("--keep-side", action="store_true", help="keep people seen from the side or from behind")
    parser.add_argument("--val", type=float, help="share for validation (default: the given split, else 0.1)")
    parser.add_argument("--seed", default=0, type=int, help="chooses those for validation (default: %(default)s)")
    parser.add_argument("--workers", default=1, type=int, help="threads that share the photographs (default: 1)")
    parser.add_argument("--threads", type=int, help="CPU threads of the networks (default: half of torch's)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no summary")


def _prepare(arguments: argparse.Namespace) -> None:
    check_inputs({"photos": arguments.photos, "--labels": arguments.labels})
    keypoints = None if arguments.keypoints is None else _read_keypoints(arguments.keypoints)
    check_outputs(folders={"out": arguments.out})
    names = ("size", "background", "labels", "strict", "keep_side", "val", "seed", "workers")
    options = {name: getattr(arguments, name) for name in names}
    with shown_stages(arguments) as stages:
        use_threads(arguments)
        from styletryon.data import prepare

        result = prepare(
            arguments.photos,
            arguments.out,
            keypoints=keypoints,
            parser=lambda image, pose: styletryon.estimate_labels(image, pose=pose),
            progress=stages,
            **options,
        )
    if not arguments.quiet:
        print(result.table())
        print(arguments.out)


def _read_keypoints(file: Path) -> dict[str, Any]:
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"expected a JSON file, got {str(file)!r} ({error})", argument="--keypoints") from error
    if not isinstance(table, dict):
        raise DataError(
            f"expected an object of name -> keypoints in {str(file)!r}, got another", argument="--keypoints"
        )
    return table
