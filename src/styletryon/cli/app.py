"""`styletryon app`: the fitting room in a browser."""

from __future__ import annotations

import argparse
import signal
import sys
from threading import Event

from styletryon._addresses import check_address, check_packages
from styletryon.cli._common import Commands, add_command, add_model_options, use_threads


def add_commands(commands: Commands) -> None:
    """Add the commands of this module."""
    parser = add_command(commands, "app", _app, "open a fitting room for the browser, on this machine alone")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen at; 0.0.0.0 lets other machines in (default: %(default)s)",
    )
    parser.add_argument("--port", default=7860, type=int, help="default: %(default)s")
    parser.add_argument("--seed", default=0, type=int, help="default: %(default)s")
    add_model_options(parser)


def _app(arguments: argparse.Namespace) -> None:
    check_packages(("fastapi", "uvicorn"), "app", "the fitting room")
    check_address(arguments.host, arguments.port)
    use_threads(arguments)
    from styletryon.app import FittingRoom, serve

    room = FittingRoom(arguments.model, device=arguments.device, seed=arguments.seed)
    server = serve(room, host=arguments.host, port=arguments.port)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))  # whoever runs it as a service ends it so
    try:
        print(f"The fitting room is open at {server.url} (Ctrl-C closes it)", flush=True)
        Event().wait()
    finally:
        server.close()
