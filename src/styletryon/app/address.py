"""Saying whether a server can be started, before anything is loaded for it."""

from __future__ import annotations

import importlib.util
import socket

from styletryon.errors import ConfigError, DependencyError


def check_can_serve(host: str, port: int) -> None:
    """Complain where the fitting room cannot be served.

    Args:
        host: The address to listen at.
        port: The port.

    Raises:
        DependencyError: If Gradio is not installed.
        ConfigError: If the server cannot listen there.
    """
    if importlib.util.find_spec("gradio") is None:
        raise DependencyError(
            'the fitting room needs it, but it is not installed; run pip install "styletryon[app]"',
            argument="gradio",
        )
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
