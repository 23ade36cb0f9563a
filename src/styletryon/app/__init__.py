"""The fitting room: try-on in a browser, served from one's own machine.

.. code-block:: text

    address    where it can be served, known before anything is loaded
    wardrobe   the rendered people that it comes with
    room       what is computed: dressing, redrawing, poses; knows nothing of a browser
    visits     what is remembered of each visitor, and for how long
    figures    the pictures that explain a try-on
    guard      what the server refuses and what it keeps from the page
    page       what a visitor sees (needs Gradio)
    server     starting and stopping it (needs Gradio)

Nothing here imports Gradio before `serve` is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from styletryon._lazy import lazy_names
from styletryon.app.address import check_can_serve

if TYPE_CHECKING:
    from styletryon.app.room import Fitting, FittingRoom
    from styletryon.app.server import Server
else:
    __getattr__, __dir__ = lazy_names(__name__, {"room": ("Fitting", "FittingRoom")})

__all__ = ["Fitting", "FittingRoom", "serve"]


def serve(room: FittingRoom, *, host: str = "127.0.0.1", port: int = 7860, folder: Path) -> Server:
    """Serve a fitting room to browsers, in threads of this process.

    Nothing is asked of the network, and by default no other machine can reach the server.

    Args:
        room: What dresses people.
        host: The address to listen at; "0.0.0.0" lets every machine in that can reach this one.
        port: The port, 1 to 65535.
        folder: Where pictures are kept while the server runs. What is in it is removed at the start and at the end.

    Returns:
        The running server; `close()` ends it.

    Raises:
        DependencyError: If Gradio is not installed.
        ConfigError: If the server cannot listen there.
        SaveError: If the folder cannot be cleared and made.
    """
    check_can_serve(host, port)
    from styletryon.app.server import Server

    return Server(room, host=host, port=port, folder=folder)
