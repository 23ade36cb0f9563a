"""Try-on as a service: `POST /try-on` over HTTP, with nothing kept from one request to the next.

.. code-block:: text

    limits     how much a request and all of them together may ask for
    workers    threads that dress people with one model, and a queue of bounded length; knows nothing of HTTP
    asking     what a request asks for: JSON or a form, checked (needs pydantic, which FastAPI brings)
    answering  what it is answered: a picture, JSON or an error (needs Starlette, which FastAPI brings)
    service    the application (needs FastAPI)
    server     running it until it is told to end (needs Uvicorn)

Nothing here imports FastAPI before `create_app` is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from styletryon._addresses import check_packages
from styletryon._loading import ModelLike
from styletryon.serve.limits import Limits

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["Limits", "create_app", "run"]


def create_app(
    model: ModelLike = "default",
    *,
    device: torch.device | str | None = None,
    workers: int = 1,
    limits: Limits | None = None,
) -> FastAPI:
    """Make the application that answers `POST /try-on`, `GET /health` and `GET /openapi.json`.

    It is an ASGI application: any server of those runs it, and a larger one can mount it. It keeps no picture, opens no
    path and fetches no address that a request names.

    Args:
        model: The generator: name, folder or object.
        device: Where to compute. None for the model's own device, or for a CUDA device where there is one.
        workers: How many try-ons are made at once, by as many threads with the one model.
        limits: How much may be asked for. None for the defaults.

    Returns:
        The application. Its threads end when its lifespan does.

    Raises:
        DependencyError: If FastAPI or python-multipart is not installed.
        CheckpointError: If the model cannot be loaded.
        ConfigError: If the device is not there.
        RangeError: If `workers` makes no sense.

    Example:
        >>> from styletryon.serve import create_app
        >>> sorted(create_app().openapi()["paths"])
        ['/health', '/try-on']
    """
    check_packages(("fastapi", "python_multipart"), "serve", "the service")
    from styletryon.serve.service import build

    return build(model, device=device, workers=workers, limits=Limits() if limits is None else limits)


def run(app: FastAPI, *, host: str = "127.0.0.1", port: int = 8000, grace: int = 60) -> None:
    """Serve an application until the process is told to end by SIGTERM or SIGINT.

    Then what runs is finished and answered, what waits is answered 503, and what comes is refused.

    Args:
        app: What `create_app` returned.
        host: The address to listen at; "0.0.0.0" lets every machine in that can reach this one.
        port: The port, 1 to 65535.
        grace: How many seconds what runs may take to finish; then it is ended at its next step.

    Raises:
        DependencyError: If Uvicorn is not installed.
        ConfigError: If the server cannot listen there.
    """
    check_packages(("uvicorn",), "serve", "the service")
    from styletryon.serve.server import make_server

    make_server(app, host=host, port=port, grace=grace).run()
