"""Requests that the server refuses before it reads them, and what it tells browsers not to do."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, final

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

MAX_UPLOAD = 20 * 2**20
"""Bytes of an uploaded file."""

MAX_UPLOADS = 120
UPLOAD_SECONDS = 600.0
"""How many uploads all visitors together may make in how many seconds."""

MAX_BODY = 65536
"""Bytes of any other request's body."""

POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""The Content-Security-Policy: a browser that keeps it asks no other machine for anything."""


@final
class Guard:
    """ASGI middleware: bounds requests, and has browsers ask no other machine for anything.

    Args:
        app: What it stands before.
        max_upload: Bytes of an upload.
        max_uploads: How many uploads may come in ten minutes.
        clock: What tells the time, in seconds.
    """

    def __init__(
        self,
        app: App,
        max_upload: int = MAX_UPLOAD,
        max_uploads: int = MAX_UPLOADS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.app, self.max_upload, self.max_uploads, self.clock = app, max_upload, max_uploads, clock
        self._uploads: deque[float] = deque()
        self._lock = threading.Lock()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        upload = scope["method"] == "PUT"
        refusal = self._refuse(dict(scope["headers"]), upload) if scope["method"] in ("PUT", "POST") else None
        if refusal is not None:
            await _answer(send, *refusal)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                told = [(b"content-security-policy", POLICY.encode()), (b"referrer-policy", b"no-referrer"),
                        (b"x-content-type-options", b"nosniff")]  # fmt: skip
                message = {**message, "headers": [*message["headers"], *told]}
            await send(message)

        await self.app(scope, receive, guarded)

    def _refuse(self, headers: dict[bytes, bytes], upload: bool) -> tuple[int, str] | None:
        length, most = headers.get(b"content-length", b""), self.max_upload if upload else MAX_BODY
        if not length.isdigit():
            return 411, "The request does not say how large it is."
        if int(length[:20]) > most:
            return 413, f"The file is too large: at most {self.max_upload >> 20} MB can be uploaded."
        if not upload:
            return None
        with self._lock:
            now = self.clock()
            while self._uploads and self._uploads[0] < now - UPLOAD_SECONDS:
                self._uploads.popleft()
            if len(self._uploads) >= self.max_uploads:
                return 429, "Too many pictures were uploaded in the last minutes; wait a little and try again."
            self._uploads.append(now)
        return None


async def _answer(send: Send, status: int, text: str) -> None:
    content = json.dumps({"message": text}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode()),
               (b"connection", b"close")]  # fmt: skip
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
