"""Requests that the server refuses, and a page that leads no browser to another machine."""

from __future__ import annotations

import re
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

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
"""The Content-Security-Policy: a browser that keeps it asks no other machine for anything."""

_FOREIGN = re.compile(rb"<(?:meta|link)\b[^>]*\bhttps?://[^>]*>|<script\b[^>]*\bsrc=\"https?://[^>]*>\s*</script>")
_EXAMPLES = re.compile(rb"https?://(?:github\.com|raw\.githubusercontent\.com)/gradio-app/[\w./-]*")
"""The addresses that Gradio's description of its interface names as examples."""


def strip_foreign(page: bytes) -> bytes:
    """Take out of a page what names other machines."""
    return _EXAMPLES.sub(b"", _FOREIGN.sub(b"", page))


@final
class Guard:
    """ASGI middleware: bounds uploads, and keeps pages from naming other machines.

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
        if scope["method"] == "POST" and scope["path"].rstrip("/").endswith("/upload"):
            refusal = self._refuse_upload(dict(scope["headers"]))
            if refusal is not None:
                status, text = refusal
                await _answer(send, status, text)
                return
        await self.app(scope, receive, _Outlet(send))

    def _refuse_upload(self, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        length = headers.get(b"content-length", b"")
        if not length.isdigit():
            return 411, "The upload does not say how large it is."
        # The form around the file takes a little more.
        if int(length) > self.max_upload + 65536:
            return 413, f"The file is too large: at most {self.max_upload >> 20} MB can be uploaded."
        with self._lock:
            now = self.clock()
            while self._uploads and self._uploads[0] < now - UPLOAD_SECONDS:
                self._uploads.popleft()
            if len(self._uploads) >= self.max_uploads:
                return 429, "Too many pictures were uploaded in the last minutes; wait a little and try again."
            self._uploads.append(now)
        return None


class _Outlet:
    """Adds the policy to each answer and strips pages."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.start: Message | None = None
        self.body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [*message["headers"], (b"content-security-policy", POLICY.encode()),
                       (b"referrer-policy", b"no-referrer")]  # fmt: skip
            message = {**message, "headers": headers}
            if dict(headers).get(b"content-type", b"").startswith(b"text/html"):
                self.start = message
                return
        elif message["type"] == "http.response.body" and self.start is not None:
            self.body += message.get("body", b"")
            if message.get("more_body"):
                return
            page = strip_foreign(self.body)
            kept = [(name, value) for name, value in self.start["headers"] if name != b"content-length"]
            kept.append((b"content-length", str(len(page)).encode()))
            await self.send({**self.start, "headers": kept})
            self.start = None
            message = {"type": "http.response.body", "body": page}
        await self.send(message)


async def _answer(send: Send, status: int, text: str) -> None:
    content = text.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
