"""`styletryon try-on-batch`: a table of try-ons."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from functools import partial
from pathlib import Path

from styletryon.cli._common import (
    Commands,
    add_command,
    add_try_on_options,
    shown_stages,
    use_threads,
    write_json,
)
from styletryon.cli._paths import Results, check_inputs, check_outputs


def add_commands(commands: Commands) -> None:
    """Add the commands of this module."""
    parser = add_command(commands, "try-on-batch", _try_on_batch, "try on every row of a table, once, in batches")
    parser.add_argument(
        "table",
        type=Path,
        metavar="TABLE",
        help="CSV with person and garment (region, out, person_pose, garment_pose), or a column per garment: top, "
        "bottom, outerwear, dress",
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help="folder to write")
    parser.add_argument("--batch-size", default=8, type=int, help="pairs at once (default: %(default)s)")
    parser.add_argument("--retry-failed", action="store_true", help="try rows that failed before again")
    parser.add_argument("--no-detail", action="store_true", help="show cloth as drawn, not as in its photograph")
    add_try_on_options(parser)


def _try_on_batch(arguments: argparse.Namespace) -> int:
    check_inputs({"table": arguments.table})
    check_outputs(folders={"--out": arguments.out})
    with shown_stages(arguments) as stages:
        use_threads(arguments)
        from styletryon.batch import try_on_table

        summary = try_on_table(
            arguments.table,
            arguments.out,
            region=arguments.region,
            model=arguments.model,
            preset=arguments.preset,
            seed=arguments.seed,
            device=arguments.device,
            batch_size=arguments.batch_size,
            detail=not arguments.no_detail,
            retry_failed=arguments.retry_failed,
            progress=lambda done, total: stages("rows", done, total),
        )
    results = Results(arguments.command)
    results.write(arguments.out / "summary.json", partial(write_json, asdict(summary)))
    if not arguments.quiet:
        print(summary.table())
        print(arguments.out)
    return 1 if summary.failed else results.status
