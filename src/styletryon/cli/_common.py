"""What the commands share: options, progress, and the values that options take."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import styletryon
from styletryon._files import write_text
from styletryon._progress import Stages
from styletryon.errors import RangeError, StyleTryOnError
from styletryon.labels import ALIASES, REGIONS, resolve_region
from styletryon.tryon.presets import PRESETS

if TYPE_CHECKING:
    from styletryon.pipeline import PipelineProgress

Commands = Any  # argparse keeps the class of `add_subparsers` to itself


def add_command(commands: Commands, name: str, run: Callable[[argparse.Namespace], int | None], text: str) -> Any:
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(run=run)
    return parser


def use_threads(arguments: argparse.Namespace) -> None:
    """Give torch as many CPU threads as were asked for.

    Threads wait for each other after every operation. Where another program holds one of the cores, a small network is
    many times slower on all cores than on one, so the commands that draw leave half of them alone.
    """
    threads: int | None = arguments.threads
    if threads is not None and threads < 1:
        raise RangeError(f"expected at least 1, got {threads}", argument="--threads")
    import torch  # here, so that a command that cannot be done says so before

    torch.set_num_threads(threads or max(1, torch.get_num_threads() // 2))


SEED_HELP = "of the noise maps of --preset quality; the other presets draw nothing at random (default: %(default)s)"


def add_model_options(parser: Any) -> None:
    parser.add_argument("--threads", type=int, help="CPU threads (default: half of what torch would take)")
    parser.add_argument("--model", default="default", help="name, folder or hf://user/name (default: %(default)s)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: cuda where there is one)")


def add_try_on_options(parser: Any) -> None:
    parser.add_argument(
        "--region",
        default="top",
        type=region,
        help=f"what changes: {', '.join(REGIONS)} (or {', '.join(ALIASES)}), or label classes such as 'top,legwear' "
        "(default: %(default)s)",
    )
    parser.add_argument("--preset", default="balanced", choices=list(PRESETS), help="default: %(default)s")
    parser.add_argument("--seed", default=0, type=int, help=SEED_HELP)
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no summary")
    add_model_options(parser)


WORN = {"auto": None, "yes": True, "no": False}
"""What `--garment-worn` takes, and what it stands for."""


def add_garment_worn(parser: Any, *, of: str = "") -> None:
    parser.add_argument(
        "--garment-worn",
        default="auto",
        choices=list(WORN),
        help=f"{of}whether somebody wears the garment, or it lies or hangs by itself (default: tell by the picture)",
    )


class Explain(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, text: str, **options: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, **options)
        self.text = text

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        print(self.text)
        parser.exit()


def region(text: str) -> str:
    try:
        resolve_region(text)
    except StyleTryOnError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH such as 512x384, got {text!r}")
    return int(height), int(width)


@contextmanager
def shown_stages(arguments: argparse.Namespace) -> Iterator[Stages]:
    """Show the stages of a command, unless it shall be quiet; the first is the loading of what it takes."""
    with Stages(shown=not arguments.quiet) as stages:
        stages("loading")
        yield stages


def shown_progress(stages: Stages) -> Callable[[PipelineProgress], None]:
    """Return what shows the progress of a pipeline."""
    return lambda now: stages(now.text, now.step, now.steps)


def summary(result: styletryon.TryOnResult) -> str:
    report = result.report
    shown = {name: report[name] for name in ("seconds", "status", "outside_change") if name in report}
    shown |= {name: value for name, value in report.items() if name.endswith("_psnr")}
    return ", ".join(f"{k} {v if isinstance(v, str) else format(v, '.3g')}" for k, v in shown.items())


def write_json(data: Mapping[str, Any], path: Path) -> None:
    write_text(path, json.dumps(dict(data), indent=2, default=float) + "\n")
