"""The application. Needs FastAPI."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from styletryon._loading import ModelLike
from styletryon._version import __version__
from styletryon.errors import ConfigError, StyleTryOnError
from styletryon.generator import Generator
from styletryon.pipeline import PipelineProgress, TryOnPipeline, body_estimator
from styletryon.serve.answering import KINDS, Refused, answer_error, choose_kind, encode, refused_by
from styletryon.serve.asking import (
    MAX_GARMENTS,
    Asked,
    check_options,
    decode_base64,
    parse_json,
    read_keypoints,
    read_picture,
)
from styletryon.serve.limits import Limits
from styletryon.serve.workers import Full, Place, Stopping, Workers

PICTURES = ("person", "garment")

_OF_OUTFIT = "garment."
"""What the names of a form's fields begin with that hold the garments of an outfit."""

_WORN = ("top", "bottom", "dress", "outerwear", "legwear")
"""The regions of an outfit that the description names; others are taken too."""

_TEXT_FIELD = 16 * 1024
"""Bytes of a form's field that is no file."""

_RETRY_STOPPED = "5"
"""After how many seconds whoever is refused by a service that ends may ask again, of the one that follows it."""

_DISCARDED = 4
"""How many times the largest body is read and thrown away of a request that is refused."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Order:
    """A request that was read and checked.

    Attributes:
        person: The file of the person's photograph.
        garment: The file of the garment's; of an outfit, region -> file.
        options: What else is asked for.
        kind: The media type of the answer.
    """

    person: bytes
    garment: bytes | dict[str, bytes]
    options: Asked
    kind: str


def build(model: ModelLike, *, device: torch.device | str | None, workers: int, limits: Limits) -> FastAPI:
    """Make the application; see `styletryon.serve.create_app`."""
    service = Service(model, device, Workers(workers, limits.queue), limits)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.workers.close)

    # The pages of documentation that FastAPI can serve fetch their scripts from elsewhere.
    app = FastAPI(
        title="styletryon",
        version=__version__,
        description="Virtual try-on: a person in the garment that somebody else wears.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.workers = service.workers
    app.add_api_route("/try-on", service.try_on, methods=["POST"], **_description())
    app.add_api_route("/health", service.health, methods=["GET"], response_model=None, summary="Say how it stands.",
                      responses={503: {"description": "It is ending."}})  # fmt: skip
    for kind, handler in ((Refused, _tell), (HTTPException, _tell_http), (Exception, _tell_fault)):
        app.add_exception_handler(kind, handler)
    return app


@final
class Service:
    """What the routes call.

    Args:
        model: The generator.
        device: Where to compute.
        workers: What makes the try-ons.
        limits: How much may be asked for.

    Attributes:
        model: The generator as loaded, which the pipelines of all requests share.
        workers: As given.
        limits: As given.
    """

    def __init__(self, model: ModelLike, device: torch.device | str | None, workers: Workers, limits: Limits) -> None:
        pipeline = TryOnPipeline(model, device=device, remember=0)
        body_estimator(pipeline.device)  # loaded now, so that the first request does not wait for it
        self.model: Generator = pipeline.model
        self.workers, self.limits = workers, limits

    async def health(self) -> Response:
        """How it stands: 503 while it ends, so that a balancer sends nothing more."""
        running, waiting = self.workers.load()
        stopping = self.workers.stopping
        content = {
            "status": "stopping" if stopping else "ok",
            "version": __version__,
            "workers": self.workers.count,
            "running": running,
            "waiting": waiting,
        }
        return JSONResponse(content, 503 if stopping else 200)

    async def try_on(self, request: Request) -> Response:
        """Dress a person in the garment that somebody else wears."""
        body = _Body(request.receive, self.limits)
        try:
            with self._place() as place:
                order = await self._read(Request(request.scope, body))
                return await self._work(place, order, request)
        except Refused:
            await body.discard()
            raise
        except _Gone:
            return Response(status_code=499)  # nobody reads it

    def _place(self) -> Place:
        try:
            return self.workers.enter()
        except Full as full:
            text = f"expected to have room, got {self.workers.places} requests already; ask again later"
            raise Refused(429, "TooManyRequests", text, headers={"Retry-After": str(full.seconds)}) from full
        except Stopping as stopping:
            raise _ending() from stopping

    async def _work(self, place: Place, order: Order, request: Request) -> Response:
        """Have a thread make the try-on, and end that if the client goes."""
        try:
            work = asyncio.wrap_future(place.start(lambda: self._dress(order, lambda _: place.check())))
        except Stopping as stopping:
            raise _ending() from stopping
        work.add_done_callback(_retrieve)
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            either: set[asyncio.Future[Any]] = {work, gone}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError as error:
            if not self.workers.stopping:
                raise
            raise _ending() from error  # the time to finish is over
        finally:
            gone.cancel()
        if not work.done():
            place.abandon()
            await asyncio.wait({work})  # so that the place is kept until the thread is free
            raise _Gone
        if work.cancelled():
            raise _ending()
        return Response(_outcome(work), media_type=order.kind)

    def _dress(self, order: Order, step: Callable[[PipelineProgress], None]) -> bytes:
        """Make a try-on, in a thread of the workers."""
        asked, limits = order.options, self.limits
        step(PipelineProgress("read", 0, 1))
        person = read_picture(order.person, "person", limits.pixels)
        person_pose = read_keypoints(asked.person_pose, person, "person_pose")
        garment, garment_pose = self._read_garments(order)
        pipeline = TryOnPipeline(self.model, preset=asked.preset, seed=asked.seed, remember=0)
        result = pipeline(
            person,
            garment,
            region=asked.region,
            person_pose=person_pose,
            garment_pose=garment_pose,
            person_box=asked.person_box,
            garment_box=asked.garment_box,
            garment_worn=asked.garment_worn,
            composite=asked.composite,
            detail=asked.detail,
            progress=step,
        )
        return encode(result, order.kind)

    def _read_garments(self, order: Order) -> tuple[Any, Any]:
        """Return the picture and the pose of the garment, or region -> those of the garments of an outfit."""
        points, pixels = order.options.garment_pose, self.limits.pixels
        if not isinstance(order.garment, dict):
            if isinstance(points, dict):
                raise ConfigError("expected 17 keypoints, got a mapping of regions without an outfit",
                                  argument="garment_pose")  # fmt: skip
            picture = read_picture(order.garment, "garment", pixels)
            return picture, read_keypoints(points, picture, "garment_pose")
        pictures = {name: read_picture(one, f"garment[{name!r}]", pixels) for name, one in order.garment.items()}
        if not isinstance(points, dict):
            return pictures, points  # which the pipeline refuses if there are any
        # Of a region that is not worn, the pipeline says so.
        poses = {name: read_keypoints(one, pictures.get(name, next(iter(pictures.values()))),
                                      f"garment_pose[{name!r}]") for name, one in points.items()}  # fmt: skip
        return pictures, poses

    async def _read(self, request: Request) -> Order:
        kind = choose_kind(",".join(request.headers.getlist("accept")))
        self._check_headers(request)
        media = request.headers.get("content-type", "").split(";")[0].strip().lower()
        readers = {"application/json": self._read_json, "multipart/form-data": self._read_form}
        if media not in readers:
            raise Refused(415, "UnsupportedMediaType", f"expected {' or '.join(readers)}, got {media[:100]!r}",
                          argument="Content-Type")  # fmt: skip
        try:
            files, options = await asyncio.wait_for(readers[media](request), self.limits.upload_seconds)
        except asyncio.TimeoutError as error:
            text = f"expected the whole request within {self.limits.upload_seconds:g} s; send smaller pictures"
            raise Refused(408, "RequestTimeout", text, headers={"Connection": "close"}) from error
        except ClientDisconnect as error:
            raise _Gone from error
        except StyleTryOnError as error:
            raise refused_by(error) or error from error
        return _order(files, options, kind)

    def _check_headers(self, request: Request) -> None:
        length = request.headers.get("content-length", "0")
        # The server before us counts the digits; what it does not bound is counted as it arrives.
        if length.isdigit() and int(length[:20]) > self.limits.body:
            raise _too_large(self.limits.body)
        coding = request.headers.get("content-encoding", "identity")
        if coding.strip().lower() != "identity":
            raise Refused(415, "UnsupportedMediaType", f"expected a body as it is, got {coding[:50]!r}; pictures are "
                          "compressed already", argument="Content-Encoding")  # fmt: skip

    async def _read_json(self, request: Request) -> tuple[dict[str, Any], Asked]:
        body = await request.body()
        return await asyncio.to_thread(_parse_json, body)

    async def _read_form(self, request: Request) -> tuple[dict[str, Any], Asked]:
        files: dict[str, Any] = {}
        texts: dict[str, str] = {}
        try:
            async with request.form(max_files=1 + MAX_GARMENTS, max_fields=len(Asked.model_fields) + 2,
                                    max_part_size=_TEXT_FIELD) as form:  # fmt: skip
                for name, value in form.multi_items():
                    if name in files or name in texts:
                        raise _unusable(name[:60], "expected it once, got it twice")
                    if name in PICTURES or name.startswith(_OF_OUTFIT):
                        if not isinstance(value, UploadFile):
                            raise _unusable(name[:60], "expected a file, got a text; paths are not opened and "
                                            "addresses are not fetched: send the file itself, as curl -F "
                                            "person=@person.jpg does")  # fmt: skip
                        files[name] = await value.read()
                    elif isinstance(value, UploadFile):
                        raise _unusable(name[:60], "expected a text, got a file")
                    else:
                        texts[name] = value
        except HTTPException as error:  # of a form that is none
            raise Refused(400, "BadRequest", f"expected a form, got something else ({error.detail})") from error
        outfit = {name[len(_OF_OUTFIT) :]: files.pop(name) for name in list(files) if name.startswith(_OF_OUTFIT)}
        if outfit and "garment" in files:
            raise _unusable("garment", "expected one garment or those of an outfit, got both")
        return files | ({"garment": outfit} if outfit else {}), check_options(texts, form=True)


class _Gone(Exception):
    """The client has gone."""


class _Body:
    """Receives the body of a request, as far as it is no larger than is allowed.

    Args:
        receive: What the server gives to receive it.
        limits: How large it may be, and how long it may take.
    """

    def __init__(self, receive: Callable[[], Awaitable[Any]], limits: Limits) -> None:
        self.receive, self.limits = receive, limits
        self.taken, self.ended = 0, False

    async def __call__(self) -> Any:
        message = await self._next()
        if self.taken > self.limits.body:
            raise _too_large(self.limits.body)
        return message

    async def discard(self) -> None:
        """Read the rest of a request that is refused, as far as is sensible, and throw it away.

        An answer that is sent while its request still arrives is lost to most clients: the connection is reset.
        """
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._drain(), self.limits.upload_seconds)

    async def _drain(self) -> None:
        while not self.ended and self.taken <= _DISCARDED * self.limits.body:
            await self._next()

    async def _next(self) -> Any:
        message = await self.receive()
        self.taken += len(message.get("body", b""))
        self.ended = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message


def _parse_json(body: bytes) -> tuple[dict[str, Any], Asked]:
    given = parse_json(body, "body")
    if not isinstance(given, dict):
        raise _unusable("body", f"expected an object, got {type(given).__name__}")
    files: dict[str, Any] = {}
    if isinstance(given.get("garment"), dict):
        outfit = given.pop("garment")
        files["garment"] = {str(name)[:60]: decode_base64(one, f"garment[{str(name)[:60]!r}]")
                            for name, one in list(outfit.items())[: MAX_GARMENTS + 1]}  # fmt: skip
    files |= {name: decode_base64(given.pop(name), name) for name in PICTURES if name in given}
    return files, check_options(given, form=False)


def _order(files: dict[str, Any], options: Asked, kind: str) -> Order:
    for name in PICTURES:
        if not files.get(name) and files.get(name) != b"":
            raise _unusable(name, "expected a picture, got none")
    garment = files["garment"]
    if isinstance(garment, dict) and len(garment) > MAX_GARMENTS:
        raise _unusable("garment", f"expected at most {MAX_GARMENTS} garments, got {len(garment)}")
    return Order(files["person"], garment, options, kind)


def _unusable(argument: str, text: str) -> Refused:
    return Refused(422, "ConfigError", text, argument=argument)


def _too_large(most: int) -> Refused:
    text = f"expected a request of at most {most / 2**20:g} MB; make the pictures smaller"
    return Refused(413, "ContentTooLarge", text, argument="body")


def _ending() -> Refused:
    return Refused(503, "ServiceUnavailable", "expected to have time, but the service is ending; ask again",
                   headers={"Retry-After": _RETRY_STOPPED, "Connection": "close"})  # fmt: skip


def _outcome(work: asyncio.Future[bytes]) -> bytes:
    try:
        return work.result()
    except StyleTryOnError as error:
        refused = refused_by(error)
        if refused is None:
            raise
        raise refused from error


def _retrieve(work: asyncio.Future[bytes]) -> None:
    """Look at how a piece of work ended, so that nobody is told that nobody did."""
    if not work.cancelled():
        work.exception()


async def _disconnected(request: Request) -> None:
    """Wait until the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _tell(request: Request, error: Exception) -> Response:
    if not isinstance(error, Refused):
        raise error
    return answer_error(error)


async def _tell_http(request: Request, error: Exception) -> Response:
    """Answer what the routes refuse: unknown paths and methods."""
    if not isinstance(error, HTTPException):
        raise error
    name = "".join(word.capitalize() for word in str(error.detail).split())
    return answer_error(Refused(error.status_code, name, str(error.detail), headers=error.headers))


async def _tell_fault(request: Request, error: Exception) -> Response:
    """Answer what is the service's own fault; the server's log says what it was."""
    _log.error("a try-on failed", exc_info=error)
    text = "expected to do it, but something went wrong here; the log of the service says what"
    return answer_error(Refused(500, "InternalServerError", text))


def _description() -> dict[str, Any]:
    """What OpenAPI says of `POST /try-on`, whose body FastAPI does not read."""
    options = Asked.model_json_schema()
    picture = {"type": "string", "contentEncoding": "base64", "description": "The file of a JPEG, PNG or WebP picture."}
    file = {"type": "string", "format": "binary", "description": "A JPEG, PNG or WebP picture."}

    def body(pictures: dict[str, Any], required: list[str]) -> dict[str, Any]:
        properties = {**pictures, **options["properties"]}
        return {"schema": {"type": "object", "required": required, "properties": properties,
                           "additionalProperties": False}}  # fmt: skip

    outfit = {"type": "object", "additionalProperties": picture, "description": "An outfit: region -> picture."}
    of_form = {"person": file, "garment": file, **{f"{_OF_OUTFIT}{name}": file for name in _WORN}}
    of_json = {"person": picture, "garment": {"oneOf": [picture, outfit]}}

    error = {
        "type": "object",
        "required": ["error", "argument", "message"],
        "properties": {
            "error": {"type": "string", "description": "Its name, such as ImageError."},
            "argument": {"type": ["string", "null"], "description": "What is meant."},
            "message": {"type": "string", "description": "What was expected, what came, and the mend."},
        },
    }
    answer = {
        "type": "object",
        "required": ["image", "media_type", "width", "height", "report"],
        "properties": {
            "image": {"type": "string", "contentEncoding": "base64"},
            "media_type": {"type": "string"},
            "width": {"type": "integer"},
            "height": {"type": "integer"},
            "report": {"type": "object", "description": "Plain numbers about the try-on."},
        },
    }
    pictures = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in KINDS if kind.startswith("image/")}
    refusals = {
        400: "The form is none.",
        406: "None of the accepted media types can be given.",
        408: "The request took too long to arrive.",
        413: "The request is too large.",
        415: "The media type of the request is unknown.",
        422: "What was asked for cannot be done; `argument` says why.",
        429: "There is no room; `Retry-After` says when there may be.",
        500: "The service failed.",
        503: "The service is ending.",
    }
    return {
        "response_model": None,
        "response_class": Response,
        "summary": "Dress a person in the garment that somebody else wears.",
        "openapi_extra": {
            "requestBody": {
                "required": True,
                "content": {
                    "multipart/form-data": body(of_form, ["person"]),
                    "application/json": body(of_json, list(PICTURES)),
                },
            }
        },
        "responses": {
            200: {
                "description": "The try-on, of the photograph's own size, as `Accept` asks for.",
                "content": {**pictures, "application/json": {"schema": answer}},
            },
            **{
                status: {"description": text, "content": {"application/json": {"schema": error}}}
                for status, text in refusals.items()
            },
        },
    }
