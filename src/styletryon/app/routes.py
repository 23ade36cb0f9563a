"""What the page asks the server for. Needs FastAPI."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import logging
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from importlib import resources
from typing import Annotated, Any, Literal, final

from fastapi import Body, Depends, FastAPI, Header, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from starlette.middleware import Middleware

from styletryon._version import __version__
from styletryon.app import wardrobe
from styletryon.app.figures import (
    Colour,
    label_names,
    layer_pictures,
    layer_title,
    layout_names,
    show_labels,
    show_layout,
)
from styletryon.app.guard import Guard
from styletryon.app.room import Fitting, FittingRoom
from styletryon.app.visits import Visits
from styletryon.app.wardrobe import Choice
from styletryon.errors import StyleTryOnError
from styletryon.serve.workers import Full, Stopped, Stopping, Workers
from styletryon.tryon import PRESETS

MAX_WAITING = 64
"""How many try-ons may wait for their turn; more are told to come back."""

MAX_SHOWN = 768
"""Pixels of the longest side as shown; downloads have them all."""

MAX_PART = 384
"""Pixels of the longest side of a layer's picture as shown."""

SWEEP_SECONDS = 10.0
"""How often visits are looked through for those whose time is over."""

GONE = "There is no try-on to work on any more. Press “Try on” first."
BUSY = "Too many people are trying on at the moment; wait a little and try again."
CLOSING = "The fitting room is closing."
NO_LAYERS = (
    "It has no layers: it is shown as drawn. Layers are made between two photographs of people whose bodies and "
    "clothes are recognised."
)
FAULT = "Something went wrong here; the server's log says what. Please try again."

REGION_NAMES = {"top": "Top", "outerwear": "Jacket", "bottom": "Bottom", "dress": "Dress", "full": "Everything"}
PRESET_NAMES = {"fast": "Fast", "balanced": "Balanced", "quality": "Best"}

Look = Literal["photograph", "drawn", "segmentation", "layers"]
"""What a visitor looks at."""

LOOK_NAMES: dict[Look, str] = {
    "photograph": "In the photograph",
    "drawn": "As drawn",
    "segmentation": "Segmentation",
    "layers": "Layers",
}

ROLES = ("person", "garment")
PAGE = {"page.html": "text/html", "page.css": "text/css", "page.js": "text/javascript"}

_VISIT = re.compile(r"[0-9a-f]{48}")

_log = logging.getLogger(__name__)


class Told(Exception):
    """What cannot be done, as a sentence for the visitor."""


class Asked(BaseModel):
    """What a visitor chose. A picture is a place in the wardrobe, or the key of what was uploaded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    person: int | str
    garment: int | str
    region: str = Field("top", max_length=100)
    preset: str = Field("balanced", max_length=100)
    keep: bool = False
    worn: bool | None = Field(None, description="Of an uploaded garment; None to tell by the picture.")
    look: Look = "photograph"


class Change(BaseModel):
    """What a visitor changed by hand."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scales: list[Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]] = Field(max_length=32)
    look: Look = "photograph"


def build(room: FittingRoom) -> FastAPI:
    """Make the application: the page, and what it asks for.

    Args:
        room: What dresses people.

    Returns:
        An ASGI application. Its thread ends when its lifespan does.
    """
    routes = Routes(room, Visits(), Workers(1, MAX_WAITING))

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        sweeping = asyncio.ensure_future(routes.sweep())
        yield
        sweeping.cancel()
        await asyncio.to_thread(routes.workers.close)

    app = FastAPI(title="styletryon fitting room", version=__version__, docs_url=None, redoc_url=None,
                  openapi_url=None, lifespan=lifespan, middleware=[Middleware(Guard)])  # fmt: skip
    app.state.workers, app.state.visits = routes.workers, routes.visits
    for method, path, handler in (
        ("GET", "/", routes.page),
        ("GET", "/people/{index}", routes.person),
        ("GET", "/people/{index}/small", routes.thumbnail),
        ("POST", "/leave", routes.leave),
        ("GET", "/room", routes.room_told),
        ("PUT", "/pictures/{role}", routes.upload),
        ("POST", "/try-on", routes.try_on),
        ("POST", "/redraw", routes.redraw),
        ("POST", "/poses", routes.poses),
        ("GET", "/result.png", routes.result),
        ("GET", "/report.json", routes.report),
        ("GET", "/{name}", routes.page),
    ):
        app.add_api_route(path, handler, methods=[method], response_model=None)
    for kind in (Told, StyleTryOnError, RequestValidationError, Exception):
        app.add_exception_handler(kind, _tell)
    return app


def visit_of(x_visit: Annotated[str, Header()] = "") -> str:
    """What the page calls its visit: no other site can have a browser send this header."""
    if not _VISIT.fullmatch(x_visit):
        raise Told("This needs the page; open it in a browser.")
    return x_visit


Visit = Annotated[str, Depends(visit_of)]


@final
class Routes:
    """What the routes call. Those that are no coroutines run in threads.

    Args:
        room: What dresses people.
        visits: What remembers them.
        workers: Dresses one after another.
    """

    def __init__(self, room: FittingRoom, visits: Visits, workers: Workers) -> None:
        self.room, self.visits, self.workers = room, visits, workers
        self._thumbnails = [_webp(picture) for picture in wardrobe.thumbnails()]

    async def sweep(self) -> None:
        """Let go of what visitors have left behind, again and again."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            await asyncio.to_thread(self.visits.forget)

    async def page(self, name: str = "page.html") -> Response:
        """A file of the page."""
        if name not in PAGE:
            return JSONResponse({"message": "There is no such page."}, 404)
        content = resources.files("styletryon.app").joinpath(name).read_bytes()
        return Response(content, media_type=PAGE[name], headers={"Cache-Control": "no-cache"})

    def person(self, index: int) -> Response:
        """Somebody of the wardrobe."""
        return Response(_webp(wardrobe.rendered(index).picture), media_type="image/webp")

    async def thumbnail(self, index: int) -> Response:
        """Somebody of the wardrobe, small."""
        if not 0 <= index < len(self._thumbnails):
            return JSONResponse({"message": "There is nobody there."}, 404)
        return Response(self._thumbnails[index], media_type="image/webp", headers={"Cache-Control": "max-age=3600"})

    async def room_told(self, visit: Visit) -> dict[str, Any]:
        """What the page lets a visitor choose."""
        groups = self.room.groups
        notes = {0: " (coarsest)", len(groups) - 1: " (finest)"}
        return {
            "regions": list(REGION_NAMES.items()),
            "presets": [(name, PRESET_NAMES.get(name, name)) for name in PRESETS],
            "looks": list(LOOK_NAMES.items()),
            "groups": [(group, f"{group} pixels{notes.get(index, '')}") for index, group in enumerate(groups)],
            "people": len(self._thumbnails),
        }

    async def upload(self, role: str, request: Request, visit: Visit) -> Response:
        """Read an uploaded picture; answer it as it is shown, and the key to choose it by."""
        if role not in ROLES:
            return JSONResponse({"message": "There is no such picture."}, 404)
        content = await request.body()
        if not content:
            raise Told("The uploaded file is empty; choose a picture.")

        def read() -> tuple[str, bytes]:
            choice = wardrobe.uploaded(content, role)
            self.visits.upload(visit, role, choice)
            return choice.key, _webp(choice.picture)

        key, picture = await asyncio.to_thread(read)
        return Response(picture, media_type="image/webp", headers={"X-Key": key})

    async def try_on(self, asked: Asked, visit: Visit) -> Response:
        """Try on; answer a line of JSON for each step, and at the end one with what to show."""
        return StreamingResponse(self._dressing(asked, visit), media_type="application/x-ndjson")

    async def _dressing(self, asked: Asked, visit: str) -> AsyncIterator[str]:
        """Lines of JSON. Whoever goes before they end lets go of the try-on: the place is left."""
        loop, news = asyncio.get_running_loop(), asyncio.Queue[dict[str, Any] | None]()
        try:
            with self.workers.enter() as place:

                def tell(share: float, text: str) -> None:
                    place.check()
                    loop.call_soon_threadsafe(news.put_nowait, {"share": share, "text": text})

                work = asyncio.wrap_future(place.start(lambda: self._dress(asked, visit, tell)))

                def end(done: asyncio.Future[dict[str, Any]]) -> None:
                    if not done.cancelled():
                        done.exception()  # looked at, so that nobody is told that nobody did
                    news.put_nowait(None)

                work.add_done_callback(end)
                while (told := await news.get()) is not None:
                    yield json.dumps(told) + "\n"
                if work.cancelled():
                    raise Stopping
                yield json.dumps({"view": work.result()}) + "\n"
        except Exception as error:
            yield json.dumps({"message": _sentence(error)[1]}) + "\n"

    def _dress(self, asked: Asked, visit: str, tell: Any) -> dict[str, Any]:
        fitting = self.room.dress(
            self._choice(visit, "person", asked.person),
            self._choice(visit, "garment", asked.garment, asked.worn),
            region=asked.region,
            preset=asked.preset,
            worn=self.visits.find(visit) if asked.keep else None,
            tell=tell,
        )
        if asked.look == "drawn":
            fitting = self.room.redraw(fitting, list(fitting.scales.values()), as_drawn=True)
        self.visits.keep(visit, fitting)
        return view(fitting, asked.look)

    def redraw(self, change: Change, visit: Visit) -> dict[str, Any]:
        """Scale the coefficients, or look at something else; answer what to show."""
        fitting, as_drawn = self.find(visit), change.look == "drawn"
        if (list(fitting.scales.values()), fitting.as_drawn) != (change.scales, as_drawn):
            fitting = self.room.redraw(fitting, change.scales, as_drawn=as_drawn)
            self.visits.keep(visit, fitting)
        return view(fitting, change.look)

    def poses(self, visit: Visit) -> dict[str, Any]:
        """The outfit in other poses."""
        return {"pictures": [_data_url(picture) for picture in self.room.in_poses(self.find(visit))]}

    def result(self, visit: Visit) -> Response:
        """The picture to download."""
        file = io.BytesIO()
        self.find(visit).result.save(file)
        return Response(file.getvalue(), media_type="image/png")

    def report(self, visit: Visit) -> Response:
        """The report to download."""
        return Response(json.dumps(self.find(visit).report, indent=2) + "\n", media_type="application/json")

    async def leave(self, visit: Annotated[bytes, Body(media_type="text/plain")] = b"") -> Response:
        """The page was closed. Browsers send this without headers of ours."""
        self.visits.leave(visit.decode("ascii", "replace"))
        return Response(status_code=204)

    def find(self, visit: str) -> Fitting:
        """The visitor's try-on."""
        fitting = self.visits.find(visit)
        if fitting is None:
            raise Told(GONE)
        return fitting

    def _choice(self, visit: str, role: str, choice: int | str, worn: bool | None = None) -> Choice:
        if isinstance(choice, int):
            return wardrobe.rendered(choice)
        found = self.visits.uploaded(visit, role)
        if found is None or found.key != choice:
            raise Told(f"The uploaded {role} is not kept any more; upload the picture again.")
        return replace(found, worn=worn)


def view(fitting: Fitting, look: Look) -> dict[str, Any]:
    """What the page shows of a try-on."""
    after, outermost = fitting.result.image, fitting.result.layers()
    legend: list[tuple[str, Colour]] = []
    if look == "segmentation":
        after, legend = show_labels(fitting), label_names(fitting)
    elif look == "layers" and outermost is not None:
        after, legend = show_layout(outermost, after), layout_names(outermost)
    return {
        "before": _data_url(fitting.result.person_image),
        "after": _data_url(after),
        "legend": [(name, ", ".join(map(str, colour))) for name, colour in legend],
        "parts": _parts(fitting) if look == "layers" else [],
        "status": status(fitting),
        "bars": [(layer_title(name), value) for name, value in fitting.layer_means.items()],
    }


def _parts(fitting: Fitting) -> list[dict[str, Any]]:
    """Of each garment its name, and the pictures of its layers or the sentence that there are none."""
    parts = []
    for name, layers in fitting.layers.items():
        pictures = [] if layers is None else layer_pictures(layers)
        parts.append(
            {
                "title": REGION_NAMES.get(name, name),
                "note": NO_LAYERS if layers is None else "",
                "pictures": [(title, _data_url(picture, MAX_PART)) for title, picture in pictures],
            }
        )
    return parts


def status(fitting: Fitting) -> str:
    """One line about a try-on."""
    report = fitting.report
    share = sum(fitting.layer_means.values()) / len(fitting.layer_means)
    line = f"{share:.0%} of the style comes from the garment's picture."
    if len(fitting.garments) > 1:
        names = [REGION_NAMES.get(name, name).lower() for name in fitting.garments]
        line = f"Worn: {', '.join(names)}. Of the {names[-1]}, {line}"
    how = "Changed by hand" if report["changed_by_hand"] else f"Found in {float(report['seconds']):.1f} s"
    return f"{line} {how}{', and shown as drawn' if fitting.as_drawn else ''}."


def _webp(picture: Image.Image, most: int = MAX_SHOWN) -> bytes:
    """A picture as it is shown: of at most so many pixels a side, without loss and quickly."""
    small = picture.convert("RGB")
    if max(small.size) > most:
        small.thumbnail((most, most), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "webp", lossless=True, quality=0, method=0)
    return file.getvalue()


def _data_url(picture: Image.Image, most: int = MAX_SHOWN) -> str:
    return "data:image/webp;base64," + base64.b64encode(_webp(picture, most)).decode("ascii")


def _sentence(error: Exception) -> tuple[int, str]:
    """The status and the sentence that an error is answered by; what is nobody's fault goes into the log."""
    if isinstance(error, Told):
        return 422, str(error)
    if isinstance(error, StyleTryOnError):
        return 422, " ".join(str(error).split())
    if isinstance(error, RequestValidationError):
        first: Sequence[Any] = error.errors()
        return 422, f"{'.'.join(map(str, first[0]['loc'][1:]))}: {first[0]['msg']}"
    if isinstance(error, Full):
        return 429, BUSY
    if isinstance(error, (Stopping, Stopped)):
        return 503, CLOSING
    _log.error("the fitting room failed", exc_info=error)
    return 500, FAULT


async def _tell(request: Request, error: Exception) -> Response:
    code, text = _sentence(error)
    return JSONResponse({"message": text}, code)
