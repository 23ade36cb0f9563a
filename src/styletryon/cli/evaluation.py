"""`styletryon evaluate`: numbers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import styletryon
from styletryon.cli._common import (
    WORN,
    Commands,
    add_command,
    add_garment_worn,
    add_try_on_options,
    shown_stages,
    use_threads,
)
from styletryon.cli._paths import Results, check_inputs, check_outputs
from styletryon.errors import ConfigError
from styletryon.labels import region_name

_USES = {
    "--pose-transfer": {"data", "split"},
    "--pairs-table": {"methods", "features", "feature_weights", "cycle", "garment_worn"},
    "--metrics": {"data", "split", "samples", "features", "feature_weights"},
    "--data": {"data", "split", "methods", "features", "feature_weights", "cycle"},
    "rendered pairs": {"methods", "estimate_poses"},
}
"""What is evaluated -> the options that it knows beside those of every evaluation; the first one asked for wins."""


_ANSWERS = {"cycle", "garment_worn"}
"""Options whose False was given, and is not their absence."""


def add_commands(commands: Commands) -> None:
    """Add the commands of this module."""
    _add_evaluate(commands)


def _add_evaluate(commands: Commands) -> None:
    parser = add_command(
        commands, "evaluate", _evaluate, "measure try-on against rendered truth, baselines and ceilings"
    )
    parser.add_argument("--pairs", default=64, type=int, help="how many pairs (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything as JSON")
    what = parser.add_argument_group("what is evaluated (default: pairs of rendered figures)")
    what.add_argument("--data", type=Path, metavar="DATA", help="pairs of photographs from a folder or zip")
    what.add_argument(
        "--metrics",
        metavar="LIST",
        help="the generator itself against the photographs of --data: some of fid,kid,reconstruction,pose",
    )
    what.add_argument("--pairs-table", type=Path, metavar="CSV", help="pairs of photographs out of a table")
    what.add_argument(
        "--pose-transfer", "--pose-following", action="store_true", help="new poses, of figures or of --data"
    )
    how = parser.add_argument_group("how")
    how.add_argument("--split", help="split of --data (default: val)")
    how.add_argument("--methods", metavar="LIST", help="names of methods or groups (default: all that can be had)")
    networks = "efficientnet, keypoints, vgg16, inception"
    how.add_argument("--features", metavar="NAME", help=f"network of fid and kid: {networks}")
    how.add_argument("--feature-weights", type=Path, metavar="FILE", help="weights of vgg16 or inception")
    how.add_argument("--samples", type=int, help="people to make up for --metrics (default: one per photograph)")
    how.add_argument(
        "--cycle", action=argparse.BooleanOptionalAction, help="put the own garment on again (a table does it anyway)"
    )
    how.add_argument("--estimate-poses", action="store_true", help="estimate the poses of figures instead")
    add_garment_worn(how, of="of rows of a table that do not say: ")
    how.add_argument("--batch-size", default=16, type=int, help="default: %(default)s")
    add_try_on_options(parser)


def _evaluate(arguments: argparse.Namespace) -> int:
    region_name(arguments.region)  # before anything is loaded: a benchmark has no other regions
    what = _what(arguments)
    given = _given(arguments, what)
    tables = {"--pairs-table": arguments.pairs_table, "--feature-weights": arguments.feature_weights}
    check_inputs({"--data": arguments.data, **tables})
    check_outputs(files={"--json": arguments.json}, inputs=tables)
    with shown_stages(arguments) as stages:
        use_threads(arguments)
        model = styletryon.load_model(arguments.model, device=arguments.device)
        report = _measure(what, model, {**given, "progress": stages}, arguments)
    print(report.table())
    results = Results(arguments.command)
    if arguments.json is not None:
        results.write(arguments.json, report.save)
    return 1 if report.settings.get("faults") else results.status


def _what(arguments: argparse.Namespace) -> str:
    asked = {
        "--pose-transfer": arguments.pose_transfer,
        "--pairs-table": arguments.pairs_table is not None,
        "--metrics": arguments.metrics is not None,
        "--data": arguments.data is not None,
    }
    if asked["--metrics"] and not asked["--data"]:
        raise ConfigError("expected --data with photographs to compare with, got none", argument="--metrics")
    chosen = [name for name, wanted in asked.items() if wanted]
    alone = [name for name in chosen if name != "--data"]
    if len(alone) > 1:
        raise ConfigError(
            f"expected one kind of evaluation, got {' and '.join(alone)}; run them in turn", argument=alone[0]
        )
    return chosen[0] if chosen else "rendered pairs"


def _given(arguments: argparse.Namespace, what: str) -> dict[str, Any]:
    """Return the options of one kind of evaluation that were given; raise for those of another kind."""
    given: dict[str, Any] = {}
    for name in sorted(set().union(*_USES.values())):
        value = getattr(arguments, name)
        value = WORN[value] if name == "garment_worn" else value
        if value is None or (value is False and name not in _ANSWERS):
            continue
        if name not in _USES[what]:
            option = "--" + name.replace("_", "-")
            raise ConfigError(
                f"expected an option that {what} uses, got one that it does not; leave it out", argument=option
            )
        given[name] = value
    if "methods" in given:
        given["methods"] = given["methods"].split(",")
    return given


def _measure(what: str, model: Any, given: dict[str, Any], arguments: argparse.Namespace) -> Any:
    from styletryon import metrics

    options = {**given, **{name: getattr(arguments, name) for name in ("seed", "preset", "batch_size")}}
    weights = options.pop("feature_weights", None)
    if weights is not None or "features" in options:
        options["features"] = metrics.find_set_network(options.get("features", "efficientnet"), weights=weights)
    if what == "--pairs-table":
        return metrics.evaluate_table(model, arguments.pairs_table, **options)
    options["pairs"] = arguments.pairs
    if what == "--pose-transfer":
        return metrics.pose_transfer(model, **options)
    if what == "--metrics":
        return metrics.evaluate_generator(model, metrics=arguments.metrics.split(","), **options)
    options["region"] = arguments.region
    if what == "--data":
        return metrics.evaluate_folder(model, **options)
    if options.pop("estimate_poses", False):
        options["estimate_pose"] = styletryon.estimate_pose
    return metrics.evaluate(model, **options)
