"""What the server refuses, and what it keeps from pages."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from styletryon.app.guard import Guard, strip_foreign

PAGE = (
    b'<head><meta property="og:url" content="https://gradio.app/" /><link rel="preconnect" href="https://fonts.x/">'
    b'<script src="https://cdn.x/a.js" async></script><script src="./a.js"></script></head>'
)


def ask(
    guard: Guard, path: str = "/", method: str = "GET", length: object = None
) -> tuple[int, dict[bytes, bytes], bytes]:
    """Send a request; return status, headers and body."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [] if length is None else [(b"content-length", str(length).encode())]
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    asyncio.run(guard(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), b"".join(message.get("body", b"") for message in sent[1:])


async def page(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", str(len(PAGE)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": PAGE[:50], "more_body": True})
    await send({"type": "http.response.body", "body": PAGE[50:]})


def test_pages_name_no_other_machine() -> None:
    status, headers, body = ask(Guard(page))
    assert status == 200
    assert b"https://" not in body
    assert b'<script src="./a.js"></script>' in body
    assert int(headers[b"content-length"]) == len(body)
    assert b"default-src 'self'" in headers[b"content-security-policy"]
    assert strip_foreign(b"<p>https stays</p>") == b"<p>https stays</p>"


@pytest.mark.parametrize(("length", "status"), [(None, 411), ("x", 411), (100 + 65537, 413), (100, 200)])
def test_uploads_are_bounded_in_size(length: object, status: int) -> None:
    assert ask(Guard(page, max_upload=100), "/gradio_api/upload", "POST", length)[0] == status


def test_uploads_are_bounded_in_number_for_a_while() -> None:
    now = [0.0]
    guard = Guard(page, max_uploads=2, clock=lambda: now[0])
    assert [ask(guard, "/gradio_api/upload", "POST", 10)[0] for _ in range(3)] == [200, 200, 429]
    assert ask(guard)[0] == 200
    now[0] = 601.0
    assert ask(guard, "/gradio_api/upload", "POST", 10)[0] == 200
