"""The command line: `styletryon COMMAND`; `styletryon --help` lists the commands."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from styletryon._version import __version__
from styletryon.cli import app, batch, data, evaluation, info, training, tryon
from styletryon.cli._common import use_threads
from styletryon.errors import StyleTryOnError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments after the program's name. Default: those of the process.

    Returns:
        The exit status: 0; 2 for input that cannot be used; 130 when stopped with Ctrl-C.
    """
    parser = build_parser()
    arguments = parser.parse_args(argv)
    run: Callable[[argparse.Namespace], None] = arguments.run
    try:
        use_threads(arguments)
        run(arguments)
        sys.stdout.flush()
    except StyleTryOnError as error:
        if arguments.debug:
            raise
        _complain(f"styletryon {arguments.command}: {' '.join(str(error).split())}")
        return 2
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
    )
    parser.add_argument("--version", action="version", version=f"styletryon {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for part in (tryon, app, batch, training, evaluation, data, info):
        part.add_commands(commands)
    return parser


def _complain(text: str) -> None:
    print(text, file=sys.stderr)
