"""Saying whether a server can be started, before anything is loaded for it."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Iterable

from styletryon.errors import ConfigError, DependencyError


def check_packages(names: Iterable[str], extra: str, purpose: str) -> None:
    """Complain where packages of an extra are not installed.

    Args:
        names: What they are imported as.
        extra: The extra of this package that brings them.
        purpose: What needs them, in words.

    Raises:
        DependencyError: If one is missing. It names the first.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise DependencyError(
                f'{purpose} needs it, but it is not installed; run pip install "styletryon[{extra}]"', argument=name
            )


def check_address(host: str, port: int) -> None:
    """Complain where nothing can be served.

    Args:
        host: The address to listen at.
        port: The port.

    Raises:
        ConfigError: If the server cannot listen there.
    """
    if not 0 < port < 65536:
        raise ConfigError(f"expected 1 to 65535, got {port}", argument="port")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, UnicodeError) as error:
            raise ConfigError(
                f"expected an address and a free port of this machine, got {host!r} and {port} ({error}); "
                "choose another port",
                argument="host, port",
            ) from error


def url_of(host: str, port: int) -> str:
    """Where a browser of this machine finds a server that listens at an address."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/"
