"""The fitting room over HTTP: a real server on a free port, and visitors who ask as the page does."""

from __future__ import annotations

import base64
import gc
import http.client
import io
import json
import re
import resource
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import styletryon.app
from styletryon import cli
from styletryon.app import FittingRoom, serve
from styletryon.app import room as rooms
from styletryon.app.room import Fitting
from styletryon.app.wardrobe import Choice, rendered, uploaded
from styletryon.errors import ConfigError, DependencyError, RangeError
from tests._support.process import SOURCE, run_python
from tests._support.tiny import tiny_generator
from tests.app.conftest import choice, png, write_png

PATIENCE = 900.0
"""Seconds that a busy machine may take: nothing here is about time."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_importing_it_imports_no_server() -> None:
    code = "import sys, styletryon, styletryon.app, styletryon.cli; sys.exit('fastapi' in sys.modules)"
    assert run_python("-c", code).returncode == 0


def test_a_missing_extra_is_named(
    room: FittingRoom, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DependencyError, match=r'pip install "styletryon\[app\]"'):
        serve(room)
    assert cli.main(["app", "--port", "1"]) == 2
    assert 'pip install "styletryon[app]"' in capsys.readouterr().err


class Refused(Exception):
    """The room answered with a sentence."""


class Visitor:
    """A tab of a browser."""

    def __init__(self, port: int, visit: str | None = None) -> None:
        self.port, self.visit = port, visit or secrets.token_hex(24)

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        given = {"X-Visit": self.visit, **({} if body is None else {"Content-Type": "application/json"}), **headers}
        try:
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def ask(self, method: str, path: str, body: Any = None) -> bytes:
        status, _, content = self.send(method, path, body)
        if status != 200:
            raise Refused(json.loads(content)["message"])
        return content

    def upload(self, role: str, content: bytes) -> str:
        status, headers, answer = self.send("PUT", f"/pictures/{role}", content)
        if status != 200:
            raise Refused(json.loads(answer)["message"])
        with Image.open(io.BytesIO(answer)) as picture:
            assert picture.format == "WEBP"
        return str(headers["X-Key"])

    def dress(self, region: str, person: int | str = 0, garment: int | str = 1, **options: Any) -> dict[str, Any]:
        """Press "Try on"; return what is shown."""
        asked = {"person": person, "garment": garment, "region": region, "preset": "fast", **options}
        lines = [json.loads(line) for line in self.ask("POST", "/try-on", json.dumps(asked)).splitlines()]
        if "message" in lines[-1]:
            raise Refused(lines[-1]["message"])
        shares = [line["share"] for line in lines[:-1]]
        assert shares == sorted(shares)
        assert shares
        return dict(lines[-1]["view"])

    def redraw(self, scales: list[float], look: str = "photograph") -> dict[str, Any]:
        return dict(json.loads(self.ask("POST", "/redraw", json.dumps({"scales": scales, "look": look}))))

    def leave(self) -> None:
        assert self.send("POST", "/leave", self.visit.encode(), **{"Content-Type": "text/plain"})[0] == 204


def picture(url: str) -> Image.Image:
    kind, _, text = url.partition(",")
    assert kind == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(text))) as shown:
        return shown.convert("RGB")


class Running:
    """A server, and visitors for it."""

    def __init__(self, room: FittingRoom) -> None:
        self.port = free_port()
        self.server = serve(room, port=self.port)
        self.visits = self.server.app.state.visits
        self.visitors: list[Visitor] = []

    def visitor(self) -> Visitor:
        self.visitors.append(Visitor(self.port))
        return self.visitors[-1]

    def empty(self) -> None:
        """Let all visitors go, and the server of what they left, as it does by itself once their time is over."""
        while self.visitors:
            self.visitors.pop().leave()
        patch = pytest.MonkeyPatch()
        patch.setattr(self.visits, "grace", -1.0)
        self.visits.forget()
        patch.undo()
        assert len(self.visits) == 0


@pytest.fixture(scope="module")
def running(room: FittingRoom) -> Iterator[Running]:
    for name in ("fastapi", "uvicorn"):
        pytest.importorskip(name, reason='the extra is not installed: pip install "styletryon[app]"')
    running = Running(room)
    yield running
    running.server.close()


FILES = ("/", "/page.css", "/page.js")


@pytest.mark.parametrize("path", FILES)
def test_the_page_names_no_other_machine(running: Running, path: str) -> None:
    status, headers, content = Visitor(running.port).send("GET", path)
    assert status == 200
    assert b"//" not in re.sub(rb"(?m)^\s*// .*$", b"", content.replace(b"/* ", b""))
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]


def test_the_page_has_all_that_its_script_looks_for() -> None:
    folder = SOURCE / "styletryon" / "app"
    script, page = ((folder / name).read_text(encoding="utf-8") for name in ("page.js", "page.html"))
    for name in re.findall(r'find\("([\w-]+)"\)', script):
        assert f'id="{name}"' in page, name
    for role in ("person", "garment"):
        for part in re.findall(r"find\(`\$\{role\}-([\w-]+)`\)", script):
            assert f'id="{role}-{part}"' in page
    assert "style=" not in page, "the policy would not let it"
    assert "onclick" not in page


def test_the_script_asks_for_what_there_is(running: Running) -> None:
    script = (SOURCE / "styletryon" / "app" / "page.js").read_text(encoding="utf-8")
    asked = re.findall(r'ask\("(\w+)", [`"]([^`"]+)[`"]', script)
    routes = {(method, re.sub(r"\{\w+\}", "*", route.path)) for route in running.server.app.routes
              for method in route.methods}  # fmt: skip
    assert len(asked) >= 5
    for method, path in asked:
        assert (method, "/" + re.sub(r"\$\{\w+\}", "*", path)) in routes


def test_it_listens_on_this_machine_alone_and_describes_nothing(running: Running) -> None:
    assert running.server.url.startswith("http://127.0.0.1:")
    for path in ("/docs", "/redoc", "/openapi.json", "/room.py", "/..%2froom.py", "/nothing"):
        assert Visitor(running.port).send("GET", path)[0] == 404


def test_the_wardrobe_is_shown(running: Running) -> None:
    visitor = running.visitor()
    told = json.loads(visitor.ask("GET", "/room"))
    assert [name for name, _ in told["presets"]] == ["fast", "balanced", "quality"]
    for path, size in (("/people/0", (384, 512)), (f"/people/{told['people'] - 1}/small", (192, 256))):
        with Image.open(io.BytesIO(visitor.ask("GET", path))) as shown:
            assert shown.size == size
    for path in (f"/people/{told['people']}", "/people/-1/small", "/people/x"):
        assert visitor.send("GET", path)[0] in (404, 422)


@pytest.mark.parametrize(("content", "words"), [
    (b"no picture", "not a picture"), (b"", "empty"), (png(5)[:200], "damaged"),
])  # fmt: skip
def test_a_bad_upload_is_answered_by_a_sentence(running: Running, content: bytes, words: str) -> None:
    visitor = running.visitor()
    with pytest.raises(Refused, match=words):
        visitor.upload("person", content)
    assert visitor.send("PUT", "/pictures/other", png(5))[0] == 404
    assert json.loads(visitor.ask("GET", "/room"))["people"], "and the server goes on"


def test_an_address_in_the_place_of_a_picture_is_not_fetched(running: Running, region: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap:
        address = f"http://127.0.0.1:{trap.getsockname()[1]}/picture.png"
        for text in (address, str(write_png(5, tmp_path))):
            with pytest.raises(Refused, match="not a picture"):
                running.visitor().upload("person", text.encode())
            with pytest.raises(Refused, match="not kept any more"):
                running.visitor().dress(region, person=text)
        trap.setblocking(False)
        with pytest.raises(BlockingIOError):  # nobody knocked
            trap.accept()


def test_what_cannot_be_done_is_answered_by_a_sentence(running: Running, region: str) -> None:
    visitor = running.visitor()
    for method, path in (("POST", "/poses"), ("GET", "/result.png"), ("GET", "/report.json")):
        with pytest.raises(Refused, match="no try-on"):
            visitor.ask(method, path, b"" if method == "POST" else None)
    with pytest.raises(Refused, match="hat"):
        visitor.dress("hat")
    with pytest.raises(Refused, match="preset"):
        visitor.dress(region, preset="slow")
    with pytest.raises(Refused, match="index"):
        visitor.dress(region, person=99)
    for body in (b"{", b"[]", b'{"person": 1}', b'{"person": 0, "garment": 1, "hat": 2}'):
        status, _, content = visitor.send("POST", "/try-on", body)
        assert (status, set(json.loads(content))) == (422, {"message"})
    with pytest.raises(Refused, match="look"):
        visitor.dress(region, look="mirror")
    with pytest.raises(Refused, match="look"):
        visitor.redraw([1.0], "mirror")
    assert visitor.send("POST", "/redraw", b'{"scales": [NaN]}')[0] == 422
    assert visitor.send("POST", "/redraw", b"x" * 100_000)[0] == 413


@pytest.mark.parametrize("visit", ["x", "", "a" * 47 + "/", "../" * 16])
def test_who_does_not_come_by_the_page_is_refused(running: Running, visit: str) -> None:
    stranger = Visitor(running.port)
    stranger.visit = visit
    for method, path in (("GET", "/room"), ("POST", "/poses"), ("GET", "/result.png")):
        assert stranger.send(method, path, b"" if method == "POST" else None)[0] == 422


def test_a_visit_from_try_on_to_download(running: Running, room: FittingRoom, region: str) -> None:
    visitor = running.visitor()
    shown = visitor.dress(region)
    assert "Found in" in shown["status"]
    assert shown["legend"] == []
    assert next(title for title, _ in shown["bars"]).startswith("4 px")
    found = picture(shown["after"])
    changed = visitor.redraw([0.0] * len(room.groups))
    assert "Changed by hand" in changed["status"]
    assert len(json.loads(visitor.ask("POST", "/poses", b""))["pictures"]) == 6
    with Image.open(io.BytesIO(visitor.ask("GET", "/result.png"))) as downloaded:
        assert downloaded.size == found.size == (384, 512)
        assert np.array_equal(np.asarray(downloaded), np.asarray(picture(changed["after"]))), "nothing is lost"
    assert json.loads(visitor.ask("GET", "/report.json"))["changed_by_hand"]
    again = visitor.redraw([1.0] * len(room.groups), "segmentation")
    assert again["legend"]
    assert picture(again["after"]).tobytes() != found.tobytes()
    assert picture(visitor.redraw([1.0] * len(room.groups))["after"]).tobytes() == found.tobytes()
    with pytest.raises(Refused, match="no try-on"):
        running.visitor().ask("GET", "/result.png")


def test_a_visitor_chooses_what_to_look_at(running: Running, room: FittingRoom, region: str) -> None:
    visitor = running.visitor()
    looks = [name for name, _ in json.loads(visitor.ask("GET", "/room"))["looks"]]
    assert looks == ["photograph", "drawn", "segmentation", "layers"]
    shown = visitor.dress(region, look="drawn")
    assert "shown as drawn" in shown["status"]
    assert json.loads(visitor.ask("GET", "/report.json"))["as_drawn"]
    ones, halves = [1.0] * len(room.groups), [0.5] * len(room.groups)
    for scales in (ones, halves):
        for look in looks:
            seen = visitor.redraw(scales, look)
            assert ("shown as drawn" in seen["status"]) == (look == "drawn")
            assert bool(seen["legend"]) == (look in ("segmentation", "layers"))
            assert bool(seen["parts"]) == (look == "layers")
            assert json.loads(visitor.ask("GET", "/report.json"))["as_drawn"] == (look == "drawn")


def test_where_there_are_no_layers_a_sentence_says_so(room: FittingRoom, region: str) -> None:
    routes = pytest.importorskip("styletryon.app.routes", reason='needs the extra: pip install "styletryon[app]"')
    fitting = room.dress(choice(1), choice(2), region=region, preset="fast", tell=lambda share, text: None)
    assert fitting.layers == {region: None}
    seen = routes.view(fitting, "layers")
    (part,) = seen["parts"]
    assert (part["title"], part["pictures"], seen["legend"]) == ("Everything", [], [])
    assert "no layers" in part["note"]
    assert seen["after"] == routes.view(fitting, "photograph")["after"]


def test_what_the_layers_are_reaches_the_page() -> None:
    """Of each garment of an outfit by name, with the layout of the outermost over the picture."""
    routes = pytest.importorskip("styletryon.app.routes", reason='needs the extra: pip install "styletryon[app]"')
    room = FittingRoom()
    fitting = room.dress(rendered(4), rendered(9), region="top", preset="fast", tell=lambda share, text: None)
    fitting = room.dress(
        rendered(4), rendered(0), region="bottom", preset="fast", worn=fitting, tell=lambda share, text: None
    )
    seen = routes.view(fitting, "layers")
    assert [part["title"] for part in seen["parts"]] == ["Bottom", "Top"]
    for part in seen["parts"]:
        assert part["note"] == ""
        names = [name for name, _ in part["pictures"]]
        assert names == ["cloth", "bared skin", "own clothes", "background", "how much is replaced"]
        assert all(picture(url).size for _, url in part["pictures"])
    assert "cloth" in dict(seen["legend"])
    assert picture(seen["after"]).tobytes() != picture(routes.view(fitting, "photograph")["after"]).tobytes()


def test_what_is_worn_is_kept_where_it_is_asked_for(running: Running, room: FittingRoom) -> None:
    asked: list[Any] = []
    visitor = running.visitor()
    patch = pytest.MonkeyPatch()
    fitting = room.dress(uploaded(png(1), "person"), uploaded(png(2), "garment"), region="full", preset="fast",
                         tell=lambda share, text: None)  # fmt: skip

    def dress(room: FittingRoom, person: Choice, garment: Choice, **options: Any) -> Fitting:
        options["tell"](0.5, "half")
        asked.append(options["worn"])
        return fitting

    patch.setattr(FittingRoom, "dress", dress)
    for keep in (False, True):
        visitor.dress("full", keep=keep)
    patch.undo()
    assert asked == [None, fitting]


def test_what_the_visitor_says_of_a_garment_is_passed_on(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Choice] = []

    def dress(room: FittingRoom, person: Choice, garment: Choice, **_: Any) -> Fitting:
        seen.append(garment)
        raise RangeError("enough")

    monkeypatch.setattr(FittingRoom, "dress", dress)
    visitor = running.visitor()
    key = visitor.upload("garment", png(2))
    for garment, worn in ((key, True), (key, False), (key, None), (1, False)):
        with pytest.raises(Refused, match="enough"):
            visitor.dress("full", garment=garment, worn=worn)
    assert [choice.worn for choice in seen] == [True, False, None, None], "of the wardrobe it is known"
    with pytest.raises(Refused, match="worn"):
        visitor.dress("full", garment=key, worn="perhaps")


def test_who_goes_in_the_middle_ends_the_try_on(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    began, ended = threading.Event(), threading.Event()

    def dress(room: FittingRoom, *_: Any, tell: Any, **__: Any) -> Fitting:
        began.set()
        try:
            while True:
                tell(0.5, "half")
                time.sleep(0.002)
        finally:
            ended.set()

    monkeypatch.setattr(FittingRoom, "dress", dress)
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=PATIENCE)
    connection.request("POST", "/try-on", json.dumps({"person": 0, "garment": 1}),
                       {"X-Visit": secrets.token_hex(24), "Content-Type": "application/json"})  # fmt: skip
    assert began.wait(PATIENCE)
    assert json.loads(connection.getresponse().readline()) == {"share": 0.5, "text": "half"}
    connection.close()
    assert ended.wait(PATIENCE)


def test_too_many_at_once_are_told_so(running: Running, region: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running.server.app.state.workers, "places", 0)
    with pytest.raises(Refused, match="Too many people"):
        running.visitor().dress(region)


def test_a_fault_of_ours_is_told_without_what_it_was(
    running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> Fitting:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(FittingRoom, "dress", fail)
    with pytest.raises(Refused, match="went wrong here") as refused:
        running.visitor().dress("top")
    assert "secret" not in str(refused.value)
    assert "secret" in caplog.text


def memory() -> float:
    """MB that this process holds now."""
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def remembered() -> int:
    """How many try-ons and uploaded pictures there are in this process."""
    gc.collect()
    return sum(type(item) in (Fitting, Choice) for item in gc.get_objects())


def test_an_upload_that_is_not_kept_any_more_is_told(running: Running, region: str) -> None:
    visitor = running.visitor()
    key = visitor.upload("person", png(5))
    running.visits._visits.clear()
    with pytest.raises(Refused, match="person is not kept any more; upload"):
        visitor.dress(region, person=key)


@pytest.mark.slow
def test_ten_visitors_at_once_are_answered_and_none_mixed_up(
    running: Running, region: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each asks for two try-ons, of one person and two garments that no other visitor asks for."""
    monkeypatch.setattr(rooms, "MAX_LATENTS", 64)  # so that the second time nothing is projected anew
    files = {seed: png(60 + seed) for seed in range(30)}
    asked = [(3 * visitor, 3 * visitor + garment) for visitor in range(10) for garment in (1, 2)]

    def visit(number: int) -> list[tuple[Image.Image, Image.Image]]:
        """The pictures that are shown, and those that are downloaded."""
        visitor = running.visitor()
        pictures = []
        for person, garment in asked[2 * number : 2 * number + 2]:
            keys = visitor.upload("person", files[person]), visitor.upload("garment", files[garment])
            after = picture(visitor.dress(region, *keys)["after"])
            with Image.open(io.BytesIO(visitor.ask("GET", "/result.png"))) as kept:
                pictures.append((after, kept.convert("RGB")))
        return pictures

    def everybody() -> list[tuple[Image.Image, Image.Image]]:
        with ThreadPoolExecutor(10) as pool:
            return [pair for pictures in pool.map(visit, range(10)) for pair in pictures]

    everybody()  # fills what is kept of pictures
    running.empty()
    before, kept_before = memory(), remembered()
    answers = everybody()
    assert 10 <= len(running.visits) <= running.visits.capacity
    assert remembered() > kept_before
    running.empty()
    after = memory()
    assert remembered() == kept_before, "nothing holds on to the try-ons and uploads of those who have gone"
    alone = FittingRoom(tiny_generator())  # which shares nothing with the server's
    for (person, garment), (shown, kept) in zip(asked, answers, strict=True):
        choices = (uploaded(files[seed], "person") for seed in (person, garment))
        expected = alone.dress(*choices, region=region, preset="fast", tell=lambda share, text: None).result.image
        assert np.array_equal(np.asarray(kept), np.asarray(expected)), (person, garment)
        assert np.array_equal(np.asarray(shown), np.asarray(expected)), (person, garment)
    assert after - before < 100, f"{after - before:.0f} MB more than before"


def test_a_port_in_use_is_told(running: Running, room: FittingRoom) -> None:
    with pytest.raises(ConfigError, match="port"):
        serve(room, port=running.port)


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 0), ("127.0.0.1", 70000), ("192.0.2.1", 7860)])
def test_addresses_that_are_not_ours_are_refused(running: Running, room: FittingRoom, host: str, port: int) -> None:
    with pytest.raises(ConfigError, match="port"):
        serve(room, host=host, port=port)


def test_the_module_names_what_it_offers() -> None:
    assert set(styletryon.app.__all__) == {"Fitting", "FittingRoom", "serve"}
