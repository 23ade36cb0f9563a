"""Saying whether the fitting room can be served, before anything is loaded for it."""

from __future__ import annotations

from styletryon._addresses import check_address, check_packages


def check_can_serve(host: str, port: int) -> None:
    """Complain where the fitting room cannot be served.

    Args:
        host: The address to listen at.
        port: The port.

    Raises:
        DependencyError: If Gradio is not installed.
        ConfigError: If the server cannot listen there.
    """
    check_packages(("gradio",), "app", "the fitting room")
    check_address(host, port)
