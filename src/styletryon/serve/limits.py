"""Limits: how much a request and all of them together may ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from styletryon._arguments import number, whole


@final
@dataclass(frozen=True)
class Limits:
    """Bounds of the service. What is beyond them is refused before it costs memory or time.

    Attributes:
        queue: How many requests may wait beside those that are worked on; from 0. One more is answered 429.
        body: Bytes of a request's body. A larger one is answered 413.
        pixels: Pixels of a photograph, known before it is decoded.
        upload_seconds: How long a body may take to arrive. A slower one is answered 408.
    """

    queue: int = 16
    body: int = 20 * 2**20
    pixels: int = 16_000_000
    upload_seconds: float = 30.0

    def __post_init__(self) -> None:
        whole(self.queue, "queue", least=0)
        whole(self.body, "body", least=1)
        whole(self.pixels, "pixels", least=1)
        number(self.upload_seconds, "upload_seconds", above=0)
