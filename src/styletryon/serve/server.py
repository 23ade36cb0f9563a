"""Running the service until it is told to end. Needs Uvicorn."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, final

import uvicorn

from styletryon._addresses import check_address
from styletryon.serve.workers import Workers

if TYPE_CHECKING:
    from fastapi import FastAPI

MAX_HEADERS = 32 * 1024
"""Bytes of a request's first line and headers together."""

MAX_CONNECTIONS = 512
"""How many connections there may be; one more is answered 503."""


def make_server(app: FastAPI, *, host: str, port: int, grace: int, log_level: str = "info") -> Server:
    """Make the server that `styletryon.serve.run` runs, for the same arguments; `log_level` is Uvicorn's."""
    check_address(host, port)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http="h11",  # bounds the headers; the other parser does not
        h11_max_incomplete_event_size=MAX_HEADERS,
        ws="none",
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=grace,
        server_header=False,
        log_level=log_level,
    )
    return Server(config, app.state.workers)


@final
class Server(uvicorn.Server):
    """Uvicorn's server, whose shutdown lets go of what waits."""

    def __init__(self, config: uvicorn.Config, workers: Workers) -> None:
        super().__init__(config)
        self.workers = workers

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what waits, finish what runs, and end."""
        self.workers.stop()
        await super().shutdown(sockets)
