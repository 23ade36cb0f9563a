"""What a request is answered: a picture, JSON, or an error that names the argument. Needs Starlette."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse, Response

from styletryon.errors import ConfigError, ImageError, PoseError, RangeError, RegionError, ShapeError, StyleTryOnError
from styletryon.tryon import TryOnResult

KINDS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "application/json": "json"}
"""Media type of an answer -> what it is, in the order in which they are preferred."""

ASKERS_FAULT = (ImageError, ShapeError, RangeError, RegionError, PoseError, ConfigError)
"""The errors of `styletryon.errors` that what was asked for gives. The others are the service's own."""

UNPROCESSABLE = 422


class Refused(Exception):
    """A request is not done.

    Attributes:
        status: Of HTTP.
        kind: What the error is called.
        message: What was expected, what came, and the mend.
        argument: What is meant; None where no argument is to blame.
        headers: Of the answer.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        *,
        argument: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.message, self.argument = status, kind, message, argument
        self.headers = dict(headers or {})


def answer_error(refused: Refused) -> Response:
    """The answer to a request that is not done."""
    content = {"error": refused.kind, "argument": refused.argument, "message": refused.message}
    return JSONResponse(content, refused.status, refused.headers)


def refused_by(error: StyleTryOnError) -> Refused | None:
    """What an error of the library means to whoever asked; None if it is not their fault."""
    if not isinstance(error, ASKERS_FAULT):
        return None
    return Refused(UNPROCESSABLE, type(error).__name__, error.problem, argument=error.argument)


def choose_kind(accept: str) -> str:
    """Choose the media type of the answer.

    Args:
        accept: The header; empty for any.

    Returns:
        One of `KINDS`: of those with the greatest weight, that which the header names first.

    Raises:
        Refused: 406, if it accepts none of them.
    """
    best, chosen = 0.0, None
    for item in accept[:1000].split(",") if accept.strip() else ["*/*"]:
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        weight = _weight(parameters)
        # "image/*" is the first picture, "*/*" the first of all.
        match = next((kind for kind in KINDS if name in (kind, f"{kind.split('/')[0]}/*", "*/*")), None)
        if match is not None and weight > best:
            best, chosen = weight, match
    if chosen is None:
        raise Refused(406, "NotAcceptable", f"expected one of {', '.join(KINDS)}, got {accept[:100]!r}",
                      argument="Accept")  # fmt: skip
    return chosen


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0


def encode(result: TryOnResult, kind: str) -> bytes:
    """Write a try-on as a media type of `KINDS`."""
    stream = io.BytesIO()
    if kind != "application/json":
        result.save(stream, format=KINDS[kind])
        return stream.getvalue()
    result.save(stream, format="png")
    content: dict[str, Any] = {
        "image": base64.b64encode(stream.getvalue()).decode("ascii"),
        "media_type": "image/png",
        "width": result.image.width,
        "height": result.image.height,
        "report": {name: _plain(value) for name, value in result.report.items()},
    }
    return json.dumps(content, allow_nan=False).encode()


def _plain(value: Any) -> float | str | None:
    """A value of a report as JSON has it, which knows no infinity."""
    if isinstance(value, str):
        return value
    return float(value) if math.isfinite(value) else None
