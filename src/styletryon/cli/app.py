"""`styletryon app`: the fitting room in a browser."""

from __future__ import annotations

import argparse
import getpass
import os
import signal
import sys
import tempfile
from pathlib import Path
from threading import Event

from styletryon.app.address import check_can_serve
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
    check_can_serve(arguments.host, arguments.port)
    use_threads(arguments)
    # A folder per port, so that the next start clears away what a killed one left behind.
    folder = Path(tempfile.gettempdir()) / f"styletryon-app-{getpass.getuser()}-{arguments.port}"
    # This process is the command's own; Gradio reads these when it is imported and when pages are built.
    os.environ |= {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_TEMP_DIR": str(folder / "gradio"),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    from styletryon.app import FittingRoom, serve

    room = FittingRoom(arguments.model, device=arguments.device, seed=arguments.seed)
    server = serve(room, host=arguments.host, port=arguments.port, folder=folder)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))  # whoever runs it as a service ends it so
    try:
        print(f"The fitting room is open at {server.url} (Ctrl-C closes it)", flush=True)
        Event().wait()
    finally:
        server.close()
