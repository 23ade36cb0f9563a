"""`styletryon serve`: try-on as a service over HTTP."""

from __future__ import annotations

import argparse
import signal
import sys

from styletryon._addresses import check_address, check_packages, url_of
from styletryon.cli._common import Commands, add_command, add_model_options
from styletryon.errors import RangeError


def add_commands(commands: Commands) -> None:
    """Add the commands of this module."""
    parser = add_command(commands, "serve", _serve, "answer POST /try-on over HTTP, by default to this machine alone")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen at; 0.0.0.0 lets other machines in (default: %(default)s)",
    )
    parser.add_argument("--port", default=8000, type=int, help="default: %(default)s")
    parser.add_argument("--workers", type=int, help="try-ons at once (default: half of the cores; 1 on a GPU)")
    parser.add_argument("--queue", default=16, type=int, help="requests that may wait (default: %(default)s)")
    parser.add_argument("--max-body", default=20, type=float, help="MB of a request (default: %(default)s)")
    parser.add_argument(
        "--max-pixels", default=16, type=float, help="megapixels of a photograph (default: %(default)s)"
    )
    parser.add_argument(
        "--grace", default=60, type=int, help="seconds in which what runs may finish at the end (default: %(default)s)"
    )
    add_model_options(parser)
    parser.set_defaults(threads=1)


def _serve(arguments: argparse.Namespace) -> None:
    check_packages(("fastapi", "python_multipart", "uvicorn"), "serve", "the service")
    check_address(arguments.host, arguments.port)
    if arguments.threads < 1:
        raise RangeError(f"expected at least 1, got {arguments.threads}", argument="--threads")
    # Uvicorn hears the signal while it serves, and hands it on when it has finished what ran. Set before anything is
    # loaded, for the first process of a container ignores signals that it has set nothing for.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    import torch  # here, so that a command that cannot be done says so before

    from styletryon._arguments import find_device
    from styletryon.serve import Limits, create_app, run

    device = find_device(arguments.device)
    cores = torch.get_num_threads()
    torch.set_num_threads(arguments.threads)
    workers = arguments.workers
    if workers is None:
        workers = max(1, cores // 2) if device.type == "cpu" else 1
    limits = Limits(
        queue=arguments.queue, body=int(arguments.max_body * 2**20), pixels=int(arguments.max_pixels * 1_000_000)
    )
    app = create_app(arguments.model, device=device, workers=workers, limits=limits)
    print(f"POST pictures to {url_of(arguments.host, arguments.port)}try-on (Ctrl-C ends it)", flush=True)
    run(app, host=arguments.host, port=arguments.port, grace=arguments.grace)
