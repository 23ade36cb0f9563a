"""A service on a tiny generator, at a free port of this machine, and clients for it."""

from __future__ import annotations

import base64
import http.client
import io
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from PIL import Image

from styletryon.pose import Pose
from tests._support.tiny import tiny_generator, tiny_pose

PATIENCE = 600.0
"""Seconds that a busy machine may take: nothing here is about time."""

SIZE = (32, 24)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def png(seed: int, size: tuple[int, int] = SIZE) -> bytes:
    """A file of a picture in colours of its own."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def points(seed: int) -> list[list[float]]:
    """The keypoints of somebody who stands in such a picture."""
    pose: Pose = tiny_pose(1, SIZE, seed)
    return pose.keypoints[0].tolist()


def order(**changes: Any) -> dict[str, Any]:
    """A request that is fine, with changes; None leaves a field out."""
    whole = {
        "person": base64.b64encode(png(1)).decode(),
        "garment": base64.b64encode(png(2)).decode(),
        "region": "full",
        "preset": "fast",
        "person_pose": points(1),
        "garment_pose": points(2),
    }
    return {name: value for name, value in {**whole, **changes}.items() if value is not None}


def form(fields: Mapping[str, str | bytes], boundary: str = "b0undary") -> tuple[bytes, dict[str, str]]:
    """A form's body and headers; bytes are files."""
    parts = b""
    for name, value in fields.items():
        file = '; filename="x.png"\r\nContent-Type: image/png' if isinstance(value, bytes) else ""
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
        parts += head.encode() + (value if isinstance(value, bytes) else value.encode()) + b"\r\n"
    return parts + f"--{boundary}--\r\n".encode(), {"Content-Type": f"multipart/form-data; boundary={boundary}"}


@dataclass
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def image(self) -> Image.Image:
        return Image.open(io.BytesIO(self.body))


class Running:
    """A service that runs in a thread."""

    def __init__(self, **options: Any) -> None:
        from styletryon.serve import Limits, create_app
        from styletryon.serve.server import make_server

        limits = Limits(**{name: options.pop(name) for name in list(options) if name in Limits.__dataclass_fields__})
        self.app = create_app(tiny_generator(), limits=limits, **options)
        self.port = free_port()
        self.server = make_server(self.app, host="127.0.0.1", port=self.port, grace=60)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        wait_until(lambda: self.server.started)

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def send(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Reply:
        connection = self.connect()
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return Reply(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def ask(self, content: Any, **headers: str) -> Reply:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return self.send("POST", "/try-on", body, {"Content-Type": "application/json", **headers})

    def ask_form(self, fields: Mapping[str, str | bytes], **headers: str) -> Reply:
        body, own = form(fields)
        return self.send("POST", "/try-on", body, {**own, **headers})

    def health(self) -> dict[str, Any]:
        return self.send("GET", "/health").json()

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


def wait_until(true: Any) -> None:
    until = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < until, "it does not come true"
        time.sleep(0.005)


@contextmanager
def running(**options: Any) -> Iterator[Running]:
    service = Running(**options)
    try:
        yield service
    finally:
        service.close()


@pytest.fixture(scope="session")
def service() -> Iterator[Running]:
    for name in ("fastapi", "uvicorn", "python_multipart"):
        pytest.importorskip(name, reason='the extra is not installed: pip install "styletryon[serve]"')
    with running(workers=2, body=2**20, pixels=1_000_000) as service:
        yield service
