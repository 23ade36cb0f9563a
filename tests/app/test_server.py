"""The fitting room over HTTP: a real server on a free port, and visitors of Gradio's own client."""

from __future__ import annotations

import gc
import json
import resource
import socket
import sys
import time
import urllib.error
import urllib.request
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
from styletryon.app.wardrobe import Choice, uploaded
from styletryon.errors import ConfigError, DependencyError, SaveError
from tests._support.process import run_python
from tests._support.tiny import tiny_generator
from tests.app.conftest import png, write_png

# Gradio's client and its server leave sockets and event loops for the garbage collector to close, and its queue asks
# pandas for what pandas 3 deprecates.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting' is deprecated"),
]


@pytest.fixture(autouse=True)
def _nothing_is_left_for_other_tests() -> Iterator[None]:
    """Collect what is left here, where the warnings that it gives are expected, and not in some later test."""
    yield
    gc.collect()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_importing_it_does_not_import_gradio() -> None:
    code = "import sys, styletryon, styletryon.app, styletryon.cli; sys.exit('gradio' in sys.modules)"
    assert run_python("-c", code).returncode == 0


def test_a_missing_extra_is_named(
    room: FittingRoom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DependencyError, match=r'pip install "styletryon\[app\]"'):
        serve(room, folder=tmp_path / "work")
    assert not (tmp_path / "work").exists()
    monkeypatch.setattr("os.environ", {})
    assert cli.main(["app", "--port", "1"]) == 2
    assert 'pip install "styletryon[app]"' in capsys.readouterr().err


class Running:
    """A server, and visitors for it."""

    def __init__(self, room: FittingRoom, folder: Path) -> None:
        self.server = serve(room, port=free_port(), folder=folder)
        self.visitors: list[Any] = []

    def visitor(self) -> Any:
        from gradio_client import Client

        self.visitors.append(Client(self.server.url, verbose=False, analytics_enabled=False))
        return self.visitors[-1]

    def empty(self) -> None:
        """Let all visitors go, and the server of what they left, as it does by itself once their time is over."""
        while self.visitors:
            self.visitors.pop().close()
        visits, until = self.server.visits, time.monotonic() + 600
        while any(not visit.left for visit in visits._visits.values()) and time.monotonic() < until:
            time.sleep(0.05)
        patch = pytest.MonkeyPatch()
        patch.setattr(visits, "grace", -1.0)
        visits.forget()
        patch.undo()
        assert len(visits) == 0

    def page(self) -> tuple[str, Any]:
        with urllib.request.urlopen(self.server.url, timeout=600) as answer:
            return answer.read().decode(), answer.headers


@pytest.fixture(scope="module")
def running(room: FittingRoom, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    pytest.importorskip("gradio", reason='the extra is not installed: pip install "styletryon[app]"')
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("app")
    patch.setenv("GRADIO_TEMP_DIR", str(folder / "gradio"))
    running = Running(room, folder / "work")
    yield running
    running.server.close()
    patch.undo()
    gc.collect()  # while the filter above holds
    assert not (folder / "work").exists()


def dress(client: Any, region: str, labels: bool = False, *, keep: bool = False) -> tuple[Image.Image, str]:
    """Press "Try on"; return the picture after it and the line about it."""
    slider, _, line, *_ = client.predict(region, "fast", keep, labels, api_name="/try_on")
    after = slider[1]
    with Image.open(after if isinstance(after, str) else after["path"]) as picture:
        return picture.convert("RGB"), line


def send(client: Any, path: Path, name: str) -> None:
    from gradio_client import handle_file

    client.predict(handle_file(str(path)), api_name=f"/upload_{name}")


def test_the_page_names_no_other_machine(running: Running) -> None:
    text, headers = running.page()
    assert "Fitting room" in text
    for foreign in ("googleapis", "gstatic", "cdn.", "cdnjs", "unpkg", "jsdelivr", "huggingface.co", "api.gradio.app",
                    "https://"):  # fmt: skip
        assert foreign not in text, foreign
    own = {running.server.url.rstrip("/"), "http://www.w3.org"}
    assert all(any(f"http://{rest}".startswith(mine) for mine in own) for rest in text.split("http://")[1:])
    assert "connect-src 'self'" in headers["Content-Security-Policy"]


def test_it_listens_on_this_machine_alone(running: Running) -> None:
    assert running.server.url.startswith("http://127.0.0.1:")
    app = running.server.blocks
    assert app.server_name == "127.0.0.1"
    assert not app.share
    assert not app.analytics_enabled
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"{running.server.url}docs", timeout=600)


@pytest.mark.parametrize(("name", "content", "words"), [
    ("bad.png", b"no picture", "not a picture"),
    ("empty.png", b"", "empty"),
    ("cut.png", png(5)[:200], "damaged"),
])  # fmt: skip
def test_a_bad_upload_is_answered_by_a_sentence(
    running: Running, tmp_path: Path, region: str, name: str, content: bytes, words: str
) -> None:
    client = running.visitor()
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(Exception, match=words):
        send(client, path, "person")
    assert dress(client, region)[0].size == (384, 512), "and the server goes on"


def test_an_address_in_the_place_of_a_file_is_not_fetched(running: Running) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap:
        address = f"http://127.0.0.1:{trap.getsockname()[1]}/picture.png"
        data = {"path": address, "url": address, "meta": {"_type": "gradio.FileData"}, "orig_name": "picture.png"}
        with pytest.raises(Exception, match="Only files can be uploaded"):
            running.visitor().predict(data, api_name="/upload_person")
        trap.setblocking(False)
        with pytest.raises(BlockingIOError):  # nobody knocked
            trap.accept()


def test_what_cannot_be_done_is_answered_by_a_sentence(running: Running) -> None:
    client = running.visitor()
    for call in ("/poses", "/files"):
        with pytest.raises(Exception, match="no try-on"):
            client.predict(api_name=call)


def test_a_visit_from_try_on_to_download(running: Running, room: FittingRoom, region: str) -> None:
    client = running.visitor()
    found, line = dress(client, region)
    assert "Found in" in line
    _, _, line, _ = client.predict(False, *[0.0] * len(room.groups), api_name="/redraw")
    assert "Changed by hand" in line
    assert len(client.predict(api_name="/poses")) == 6
    picture, report = client.predict(api_name="/files")
    with Image.open(_value(picture)) as downloaded:
        assert downloaded.size == found.size
    assert json.loads(Path(_value(report)).read_text())["changed_by_hand"]
    labelled, _ = dress(client, region, labels=True)
    assert labelled.tobytes() != found.tobytes()
    # What takes the place of all that is worn leaves nothing of it, kept or not.
    again, line = dress(client, region, keep=True)
    assert again.tobytes() == found.tobytes()
    assert "Worn" not in line


def _value(update: Any) -> str:
    return str(update["value"] if isinstance(update, dict) else update)


def memory() -> float:
    """MB that this process holds now."""
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def remembered() -> int:
    """How many try-ons and uploaded pictures there are in this process."""
    gc.collect()
    return sum(type(item) in (Fitting, Choice) for item in gc.get_objects())


def test_an_upload_that_is_not_kept_any_more_is_told(running: Running, region: str, tmp_path: Path) -> None:
    client = running.visitor()
    send(client, write_png(5, tmp_path), "person")
    running.server.visits._visits.clear()
    with pytest.raises(Exception, match="person is not kept any more; upload"):
        dress(client, region)


@pytest.mark.slow
def test_ten_visitors_at_once_are_answered_and_none_mixed_up(
    running: Running, room: FittingRoom, region: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each asks for two try-ons, of one person and two garments that no other visitor asks for."""
    monkeypatch.setattr(rooms, "MAX_LATENTS", 64)  # so that the second time nothing is projected anew
    files = {seed: write_png(60 + seed, tmp_path) for seed in range(30)}
    asked = [(3 * visitor, 3 * visitor + garment) for visitor in range(10) for garment in (1, 2)]

    def visit(number: int) -> list[tuple[Image.Image, Image.Image]]:
        """The pictures that are shown, and those that are downloaded."""
        client = running.visitor()
        pictures = []
        for person, garment in asked[2 * number : 2 * number + 2]:
            send(client, files[person], "person")
            send(client, files[garment], "garment")
            after = dress(client, region)[0]
            with Image.open(_value(client.predict(api_name="/files")[0])) as kept:
                pictures.append((after, kept.convert("RGB")))
        return pictures

    def everybody() -> list[tuple[Image.Image, Image.Image]]:
        with ThreadPoolExecutor(10) as pool:
            return [pair for pictures in pool.map(visit, range(10)) for pair in pictures]

    everybody()  # fills what is kept of pictures
    running.empty()
    before, kept_before = memory(), remembered()
    answers = everybody()
    assert 10 <= len(running.server.visits) <= running.server.visits.capacity
    assert remembered() > kept_before
    running.empty()
    after = memory()
    assert remembered() == kept_before, "nothing holds on to the try-ons and uploads of those who have gone"
    alone = FittingRoom(tiny_generator())  # which shares nothing with the server's
    expected = []
    for pair in asked:
        person, garment = (uploaded(files[seed].read_bytes(), "person") for seed in pair)
        fitting = alone.dress(person, garment, region=region, preset="fast", tell=lambda share, text: None)
        expected.append(np.asarray(fitting.result.image, float))
    for number, (shown, kept) in enumerate(answers):
        assert np.array_equal(np.asarray(kept), expected[number]), f"try-on {number}"
        apart = [np.abs(np.asarray(shown, float) - picture).mean() for picture in expected]  # WebP loses a little
        nearest, second = np.argsort(apart)[:2]
        assert nearest == number
        assert apart[nearest] < 0.4 * apart[second], "no two of the twenty look the same"
    assert after - before < 100, f"{after - before:.0f} MB more than before"


def test_a_port_in_use_is_told_and_its_files_are_left_alone(running: Running, room: FittingRoom) -> None:
    port = int(running.server.url.rstrip("/").rsplit(":", 1)[1])
    with pytest.raises(ConfigError, match="port"):
        serve(room, port=port, folder=running.server.folder)
    assert running.server.folder.exists()


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 0), ("127.0.0.1", 70000), ("192.0.2.1", 7860)])
def test_addresses_that_are_not_ours_are_refused(
    running: Running, room: FittingRoom, tmp_path: Path, host: str, port: int
) -> None:
    with pytest.raises(ConfigError, match="port"):
        serve(room, host=host, port=port, folder=tmp_path / "work")


def test_what_a_killed_server_left_is_cleared(running: Running, room: FittingRoom, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    (folder / "visits" / "old").mkdir(parents=True)
    (folder / "visits" / "old" / "tryon.png").write_bytes(b"half")
    server = serve(room, port=free_port(), folder=folder)
    assert not (folder / "visits" / "old").exists()
    server.close()
    assert not folder.exists()


def test_a_folder_that_is_a_link_is_not_cleared(running: Running, room: FittingRoom, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    with pytest.raises(SaveError, match="folder"):
        serve(room, port=free_port(), folder=tmp_path / "link")
    assert (tmp_path / "mine" / "file").read_text() == "kept"


def test_the_module_names_what_it_offers() -> None:
    assert set(styletryon.app.__all__) == {"Fitting", "FittingRoom", "serve"}
