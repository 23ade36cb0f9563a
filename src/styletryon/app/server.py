"""Starting and stopping the fitting room's server. Needs FastAPI and Uvicorn."""

from __future__ import annotations

import threading
import time
from typing import final

from styletryon._addresses import url_of
from styletryon.app.room import FittingRoom
from styletryon.app.routes import build
from styletryon.errors import ConfigError
from styletryon.serve.server import make_server

GRACE_SECONDS = 10
"""How long what runs may take to finish when the room is closed."""


@final
class Server:
    """A running fitting room. See `styletryon.app.serve`.

    Attributes:
        url: Where a browser of this machine finds it.
    """

    def __init__(self, room: FittingRoom, *, host: str, port: int) -> None:
        self.app = build(room)
        self._server = make_server(self.app, host=host, port=port, grace=GRACE_SECONDS, log_level="warning")
        self._thread = threading.Thread(target=self._server.run, name="styletryon-app", daemon=True)
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise ConfigError(f"expected a free port, got {host!r} and {port}", argument="host, port")
            time.sleep(0.01)
        self.url = url_of(host, port)

    def close(self) -> None:
        """End the server."""
        self._server.should_exit = True
        self._thread.join()
