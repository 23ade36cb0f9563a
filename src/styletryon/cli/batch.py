"""`styletryon try-on-batch`: a table of try-ons."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from styletryon.cli._common import (
    WORN,
    Commands,
    add_command,
    add_garment_worn,
    add_try_on_options,
    shown_stages,
    use_threads,
    write_json,
)
from styletryon.cli._paths import Results, check_inputs, check_outputs
from styletryon.errors import ConfigError

if TYPE_CHECKING:
    from styletryon._progress import Stages
    from styletryon.batch import BatchSummary

_FOR_RAY = ("workers", "num_gpus", "num_cpus", "wait")
_FOR_LOCAL = ("device", "threads")


def add_commands(commands: Commands) -> None:
    """Add the commands of this module."""
    parser = add_command(commands, "try-on-batch", _try_on_batch, "try on every row of a table, once, in batches")
    parser.add_argument(
        "table",
        type=_place,
        metavar="TABLE",
        help="CSV or Parquet with person and garment (region, out, person_pose, garment_pose, garment_worn), or a "
        "column per garment: top, bottom, outerwear, dress",
    )
    parser.add_argument("-o", "--out", type=_place, required=True, metavar="OUT", help="folder to write")
    parser.add_argument("--batch-size", default=8, type=int, help="pairs at once (default: %(default)s)")
    add_garment_worn(parser, of="of rows that do not say: ")
    parser.add_argument("--retry-failed", action="store_true", help="try rows that failed before again")
    parser.add_argument("--no-detail", action="store_true", help="show cloth as drawn, not as in its photograph")
    add_try_on_options(parser)
    parser.add_argument(
        "--engine", choices=["local", "ray"], default="local", help="this process, or a Ray cluster (default: local)"
    )
    ray = parser.add_argument_group("with --engine ray")
    ray.add_argument("--workers", type=_workers, metavar="N or LEAST:MOST", help="how many processes (default: 1:32)")
    ray.add_argument("--num-gpus", type=float, help="GPUs that each holds; 0 computes on the CPU (default: 1)")
    ray.add_argument("--num-cpus", type=float, help="cores that each holds (default: 1)")
    ray.add_argument("--wait", type=float, metavar="SECONDS", help="wait for machines to start (default: 0)")


def _try_on_batch(arguments: argparse.Namespace) -> int:
    table, out = arguments.table, arguments.out
    check_inputs({"table": table if isinstance(table, Path) else None})
    check_outputs(folders={"--out": out if isinstance(out, Path) else None})
    foreign = _FOR_LOCAL if arguments.engine == "ray" else _FOR_RAY
    for name in foreign:
        if getattr(arguments, name) is not None:
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(
                f"expected no such option with --engine {arguments.engine}; leave it out, or take the other engine",
                argument=option,
            )
    run = _on_ray if arguments.engine == "ray" else _here
    with shown_stages(arguments) as stages:
        summary = run(arguments, stages)
    results = Results(arguments.command)
    if arguments.engine == "local":
        results.write(out / "summary.json", partial(write_json, asdict(summary)))
    if not arguments.quiet:
        print(summary.table())
        print(out)
    return 1 if summary.failed or summary.waiting else results.status


def _here(arguments: argparse.Namespace, stages: Stages) -> BatchSummary:
    use_threads(arguments)
    from styletryon.batch import try_on_table

    return try_on_table(
        device=arguments.device, progress=lambda done, total: stages("rows", done, total), **_options(arguments)
    )


def _on_ray(arguments: argparse.Namespace, stages: Stages) -> BatchSummary:
    from styletryon.batch.ray import try_on_dataset

    given = {name: getattr(arguments, name) for name in _FOR_RAY if getattr(arguments, name) is not None}
    if "wait" in given:
        given["wait_s"] = given.pop("wait")
    return try_on_dataset(progress=stages, **given, **_options(arguments))


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what both engines take."""
    names = ("table", "out", "region", "model", "preset", "seed", "batch_size", "retry_failed")
    given = {name: getattr(arguments, name) for name in names}
    return {"detail": not arguments.no_detail, "garment_worn": WORN[arguments.garment_worn], **given}


def _place(text: str) -> str | Path:
    return text if "://" in text else Path(text)


def _workers(text: str) -> tuple[int, int]:
    least, _, most = text.partition(":")
    try:
        return int(least), int(most or least)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a number, or two as in 1:32, got {text!r}") from error
