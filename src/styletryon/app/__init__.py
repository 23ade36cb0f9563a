"""The fitting room: try-on in a browser, served from one's own machine.

.. code-block:: text

    wardrobe   the rendered people that it comes with
    room       what is computed: dressing, redrawing, poses; knows nothing of a browser
    visits     what is remembered of each visitor, and for how long
    figures    the pictures that explain a try-on
    guard      what the server refuses, and what it tells browsers not to do
    page.*     what a visitor sees
    routes     what the page asks for (needs FastAPI)
    server     starting and stopping it (needs Uvicorn)

Nothing here imports FastAPI before `serve` is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from styletryon._addresses import check_address, check_packages
from styletryon._lazy import lazy_names

if TYPE_CHECKING:
    from styletryon.app.room import Fitting, FittingRoom
    from styletryon.app.server import Server
else:
    __getattr__, __dir__ = lazy_names(__name__, {"room": ("Fitting", "FittingRoom")})

__all__ = ["Fitting", "FittingRoom", "serve"]


def serve(room: FittingRoom, *, host: str = "127.0.0.1", port: int = 7860) -> Server:
    """Serve a fitting room to browsers, in threads of this process.

    Nothing is asked of the network, nothing is written, and by default no other machine can reach the server.

    Args:
        room: What dresses people.
        host: The address to listen at; "0.0.0.0" lets every machine in that can reach this one.
        port: The port, 1 to 65535.

    Returns:
        The running server; `close()` ends it.

    Raises:
        DependencyError: If FastAPI or Uvicorn is not installed.
        ConfigError: If the server cannot listen there.
    """
    check_packages(("fastapi", "uvicorn"), "app", "the fitting room")
    check_address(host, port)
    from styletryon.app.server import Server

    return Server(room, host=host, port=port)
