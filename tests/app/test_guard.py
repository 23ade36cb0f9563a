"""What the server refuses, and what it tells browsers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from styletryon.app.guard import MAX_BODY, Guard


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
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    await send({"type": "http.response.body", "body": b"whole"})


def test_browsers_are_told_to_ask_no_other_machine() -> None:
    status, headers, body = ask(Guard(page))
    assert (status, body) == (200, b"halfwhole")
    assert b"default-src 'self'" in headers[b"content-security-policy"]
    assert b"unsafe" not in headers[b"content-security-policy"]
    assert headers[b"referrer-policy"] == b"no-referrer"


@pytest.mark.parametrize(("length", "status"), [(None, 411), ("x", 411), (101, 413), ("9" * 5000, 413), (100, 200)])
def test_uploads_are_bounded_in_size(length: object, status: int) -> None:
    assert ask(Guard(page, max_upload=100), "/pictures/person", "PUT", length)[0] == status


@pytest.mark.parametrize(("length", "status"), [(None, 411), (MAX_BODY + 1, 413), (MAX_BODY, 200)])
def test_other_requests_are_bounded_in_size(length: object, status: int) -> None:
    assert ask(Guard(page), "/try-on", "POST", length)[0] == status


def test_uploads_are_bounded_in_number_for_a_while() -> None:
    now = [0.0]
    guard = Guard(page, max_uploads=2, clock=lambda: now[0])
    assert [ask(guard, "/pictures/person", "PUT", 10)[0] for _ in range(3)] == [200, 200, 429]
    assert ask(guard)[0] == ask(guard, "/try-on", "POST", 10)[0] == 200
    now[0] = 601.0
    assert ask(guard, "/pictures/person", "PUT", 10)[0] == 200
