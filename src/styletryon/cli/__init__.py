"""The command line: `styletryon COMMAND`; `styletryon --help` lists the commands."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from styletryon._version import __version__
from styletryon.cli import app, batch, data, evaluation, exporting, info, serve, training, tryon
from styletryon.cli._console import usable_console
from styletryon.errors import ProcessGroupError, StyleTryOnError, TrainingDivergedError


@usable_console()
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments after the program's name. Default: those of the process.

    Returns:
        The exit status: 0 if all is done; 1 if some of it failed; 2 for wrong use and for input that cannot be used;
        130 when stopped with Ctrl-C.
    """
    parser = build_parser()
    arguments = parser.parse_args(argv)
    run: Callable[[argparse.Namespace], int | None] = arguments.run
    try:
        status = run(arguments) or 0
        sys.stdout.flush()
        return status
    except StyleTryOnError as error:
        if arguments.debug:
            raise
        _complain(f"styletryon {arguments.command}: {' '.join(str(error).split())}")
        return 1 if isinstance(error, (ProcessGroupError, TrainingDivergedError)) else 2
    except BrokenPipeError:
        # The reader (`| head`) has gone; Python would complain once more while it shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if arguments.debug:
            raise
        _complain(f"styletryon {arguments.command}: {error}")
        return 2
    except KeyboardInterrupt:
        if arguments.debug:
            raise
        _complain(f"styletryon {arguments.command}: stopped; files that were finished before stand where they belong")
        return 130
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Describe the commands and their options."""
    parser = argparse.ArgumentParser(
        prog="styletryon",
        description="Virtual try-on by style-interpolation optimisation: the person in the other's garment.",
        epilog="Exit status: 0 all done, 1 some of it failed, 2 wrong use or input that cannot be used, 130 stopped.",
    )
    parser.add_argument("--version", action="version", version=f"styletryon {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for part in (tryon, app, serve, batch, training, evaluation, data, exporting, info):
        part.add_commands(commands)
    return parser


def _complain(text: str) -> None:
    print(text, file=sys.stderr)
