"""The service over HTTP: what is asked and answered, by a real server on this machine."""

from __future__ import annotations

import base64
import io
import json
import re
import socket
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import styletryon
from styletryon.errors import CheckpointError, DependencyError
from styletryon.pose import Pose
from tests._support.process import run_python
from tests._support.tiny import tiny_generator
from tests.serve.conftest import SIZE, Running, order, png, points, running, wait_until

# The tiny generator is not trained: what it draws may change nothing.
pytestmark = pytest.mark.filterwarnings("ignore::styletryon.TryOnWarning")


@lru_cache
def expected(person: int = 1, garment: int = 2, **options: Any) -> NDArray[np.uint8]:
    """What the library returns for `order()`."""
    result = styletryon.try_on(
        png(person), png(garment), model=tiny_generator(), region="full", preset="fast",
        person_pose=Pose(points(person), SIZE), garment_pose=Pose(points(garment), SIZE), **options,
    )  # fmt: skip
    return np.asarray(result.image)


def test_importing_it_does_not_import_fastapi() -> None:
    code = "import sys, styletryon, styletryon.serve, styletryon.cli; sys.exit('fastapi' in sys.modules)"
    assert run_python("-c", code).returncode == 0


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from styletryon import cli
    from styletryon.serve import create_app

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DependencyError, match=r'pip install "styletryon\[serve\]"'):
        create_app(tiny_generator())
    assert cli.main(["serve"]) == 2
    assert 'pip install "styletryon[serve]"' in capsys.readouterr().err


@pytest.mark.parametrize(("accept", "kind"), [
    ("*/*", "image/png"), ("", "image/png"), ("image/*", "image/png"), ("image/jpeg", "image/jpeg"),
    ("image/webp;q=0.9, text/html", "image/webp"), ("image/png;q=0.1, image/jpeg;q=0.5", "image/jpeg"),
    ("text/html,image/avif,image/webp,*/*;q=0.8", "image/webp"), ("application/json", "application/json"),
    ("application/*", "application/json"), ("IMAGE/PNG ; Q=1", "image/png"),
])  # fmt: skip
def test_accept_chooses_the_media_type(accept: str, kind: str) -> None:
    from styletryon.serve.answering import choose_kind

    assert choose_kind(accept) == kind


@pytest.mark.parametrize(("accept", "kind"), [("*/*", "PNG"), ("image/jpeg", "JPEG")])
def test_the_answer_is_the_picture(service: Running, accept: str, kind: str) -> None:
    answer = service.ask(order(), Accept=accept)
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"] == f"image/{kind.lower()}"
    with answer.image() as picture:
        assert picture.format == kind
        assert picture.size == (24, 32)
        if kind == "PNG":
            assert np.array_equal(np.asarray(picture), expected())


def test_json_holds_the_picture_and_the_report(service: Running) -> None:
    answer = service.ask(order(), Accept="application/json")
    content = answer.json()
    with Image.open(io.BytesIO(base64.b64decode(content["image"]))) as picture:
        assert picture.size == (content["width"], content["height"])
        assert np.array_equal(np.asarray(picture), expected())
    assert content["report"]["seconds"] > 0
    assert "NaN" not in answer.body.decode()


def test_a_form_is_answered_as_json_is(service: Running) -> None:
    texts = {"region": "full", "preset": "fast", "person_pose": json.dumps(points(1)), "seed": "0", "detail": "true",
             "garment_pose": json.dumps(points(2)), "garment_worn": "true"}  # fmt: skip
    answer = service.ask_form({"person": png(1), "garment": png(2), **texts})
    assert answer.status == 200, answer.body
    with answer.image() as picture:
        assert np.array_equal(np.asarray(picture), expected())
    alone = service.ask_form({"person": png(1), "garment": png(2), **texts, "garment_worn": "false"})
    assert "got a garment that nobody wears" in alone.json()["message"]


def test_an_outfit_is_put_on_at_once(service: Running) -> None:
    files = {"person": png(1), "garment.top": png(2), "garment.bottom": png(3), "preset": "fast"}
    poses = {"top": points(2), "bottom": points(3)}
    answer = service.ask_form({**files, "person_pose": json.dumps(points(1)), "garment_pose": json.dumps(poses)})
    assert answer.status == 200, answer.body
    result = styletryon.try_on(
        png(1), {"top": png(2), "bottom": png(3)}, model=tiny_generator(), preset="fast",
        person_pose=Pose(points(1), SIZE), garment_pose={name: Pose(one, SIZE) for name, one in poses.items()},
    )  # fmt: skip
    with answer.image() as picture:
        assert np.array_equal(np.asarray(picture), np.asarray(result.image))
    both = service.ask_form({**files, "garment": png(4)})
    assert (both.status, both.json()["argument"]) == (422, "garment")


def test_a_data_url_is_taken_for_what_it_holds() -> None:
    from styletryon.serve.asking import decode_base64

    assert decode_base64("data:image/png;base64," + text64(png(1)), "person") == png(1)


def test_options_reach_the_try_on(service: Running) -> None:
    with service.ask(order(composite=False, detail=False)).image() as picture:
        shown = np.asarray(picture)
    assert np.array_equal(shown, expected(composite=False, detail=False))
    assert not np.array_equal(shown, expected())


def test_requests_at_once_are_not_mixed_up(service: Running) -> None:
    """Two threads share one model."""
    pairs = [(person, garment) for person in (1, 3) for garment in (2, 4)]

    def ask(pair: tuple[int, int]) -> bytes:
        person, garment = pair
        answer = service.ask(order(
            person=base64.b64encode(png(person)).decode(), garment=base64.b64encode(png(garment)).decode(),
            person_pose=points(person), garment_pose=points(garment),
        ))  # fmt: skip
        assert answer.status == 200, answer.body
        return answer.body

    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(ask, pairs))
    for pair, body in zip(pairs, together, strict=True):
        with Image.open(io.BytesIO(body)) as picture:
            assert np.array_equal(np.asarray(picture), expected(*pair)), pair


def test_health_says_how_it_stands(service: Running) -> None:
    wait_until(lambda: service.health()["running"] == 0)
    told = {"status": "ok", "version": styletryon.__version__, "workers": 2, "running": 0, "waiting": 0}
    assert service.health() == told


def test_the_interface_is_described(service: Running) -> None:
    described = service.send("GET", "/openapi.json").json()
    content = described["paths"]["/try-on"]["post"]["requestBody"]["content"]
    assert set(content) == {"multipart/form-data", "application/json"}
    for one in content.values():
        assert set(one["schema"]["properties"]) >= set(order())
    assert {"200", "413", "422", "429", "503"} <= set(described["paths"]["/try-on"]["post"]["responses"])
    for page in ("/docs", "/redoc"):  # which would have a browser fetch scripts from elsewhere
        assert service.send("GET", page).status == 404


def test_unknown_paths_and_methods_are_answered_in_json(service: Running) -> None:
    assert service.send("GET", "/nothing").json()["error"] == "NotFound"
    answer = service.send("GET", "/try-on")
    assert (answer.status, answer.json()["error"]) == (405, "MethodNotAllowed")


# ------------------------------------------------------------------------------------------------- what is refused
def bomb(width: int, height: int) -> bytes:
    """A small PNG that says that it is large, and is."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes((1 + (width + 7) // 8) * height), 9)
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def text64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def tiff(seed: int) -> bytes:
    file = io.BytesIO()
    Image.open(io.BytesIO(png(seed))).save(file, "tiff")
    return file.getvalue()


@pytest.mark.parametrize(("changes", "argument", "words"), [
    ({"person": text64(b"no picture")}, "person", "not a picture"),
    ({"garment": text64(png(1)[:200])}, "garment", "damaged"),
    ({"garment": text64(tiff(1))}, "garment", "PNG or JPEG"),
    ({"person": text64(bomb(20_000, 20_000))}, "person", "too large"),
    ({"person": text64(bomb(1100, 1000))}, "person", "at most 1 megapixels"),
    ({"person": text64(png(1, (200, 20)))}, "person", "8 to 1"),
    ({"person": "/etc/passwd"}, "person", "not a picture|base64"),
    ({"person": "../../secret.png"}, "person", "paths are not opened"),
    ({"person": "https://example.org/a.png"}, "person", "not fetched"),
    ({"person": "file:///etc/passwd"}, "person", "paths are not opened"),
    ({"person": ""}, "person", "not a picture"),
    ({"person": 5}, "person", "base64"),
    ({"person": ["a"]}, "person", "base64"),
    ({"person": None}, "person", "got none"),
    ({"garment": {"path": "/etc/passwd"}}, "garment['path']", "paths are not opened|base64"),
    ({"garment": {}}, "garment", "got none"),
    ({"garment": {"top": text64(b"x")}, "region": None, "garment_pose": None}, "garment['top']", "not a picture"),
    ({"garment": {"hat": text64(png(2))}, "region": None, "garment_pose": None}, "region", "hat"),
    ({"garment": {"top": text64(png(2)), "dress": text64(png(2))}, "region": None, "garment_pose": None}, "garment",
     "worn together"),
    ({"garment": {f"top{i}": "" for i in range(9)}}, "garment", "at most 6"),
    ({"garment_pose": {"top": points(2)}}, "garment_pose", "without an outfit"),
    ({"region": "hat"}, "region", "hat"),
    ({"region": 5}, "region", "string"),
    ({"region": "x" * 1000}, "region", "200"),
    ({"preset": "slow"}, "preset", "fast"),
    ({"seed": "3"}, "seed", "integer"),
    ({"seed": 2**70}, "seed", "less than or equal"),
    ({"seed": True}, "seed", "integer"),
    ({"detail": "yes"}, "detail", "boolean"),
    ({"person_box": [1, 2, 3]}, "person_box", "4"),
    ({"person_box": [0, 0, 10, 10]}, "person_box", "pose"),
    ({"person_pose": None, "person_box": [5, 5, 5, 5]}, "person_box", "left < right"),
    ({"person_pose": [[0, 0, 1]] * 16}, "person_pose", "17"),
    ({"garment_pose": [[0, 0, "x"]] * 17}, "garment_pose", "number"),
    ({"garment_worn": False}, "region", "got a garment that nobody wears"),
    ({"garment_worn": "no"}, "garment_worn", "boolean"),
    ({"garment_worn": {"top" * 1000: True}}, "garment_worn", "goes with an outfit"),
    ({"model": "/etc"}, "model", "another name"),
    ({"device": "cuda"}, "device", "another name"),
])  # fmt: skip
def test_what_cannot_be_used_is_named(service: Running, changes: dict[str, Any], argument: str, words: str) -> None:
    answer = service.ask(order(**changes))
    told = answer.json()
    assert (answer.status, told["argument"]) == (422, argument), told
    assert set(told) == {"error", "argument", "message"}
    assert re.search(words, told["message"]), told
    assert len(answer.body) < 2000, "what came is not sent back"


@pytest.mark.parametrize(("body", "status"), [
    (b"", 422), (b"{", 422), (b"[]", 422), (b"null", 422), (b"\xff\xfe", 422), (b"[" * 200_000, 422),
    (b'{"seed": ' + b"1" * 100_000 + b"}", 422), (b'{"person_box": [NaN, 0, 1, 1]}', 422), (b"x" * (2**20 + 1), 413),
])  # fmt: skip
def test_bodies_that_are_no_request_are_refused(service: Running, body: bytes, status: int) -> None:
    answer = service.ask(body)
    assert answer.status == status, answer.body
    assert answer.json()["argument"]
    assert service.health()["status"] == "ok"


def test_a_body_that_does_not_say_its_length_is_bounded_all_the_same(service: Running) -> None:
    connection = service.connect()
    headers = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    connection.request("POST", "/try-on", (b"x" * 65536 for _ in range(40)), headers, encode_chunked=True)
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["error"]) == (413, "ContentTooLarge")
    connection.close()


@pytest.mark.parametrize("fields", [
    {"person": "/etc/passwd", "garment": b"x"}, {"person": b"x"}, {"person": png(1), "garment": png(2), "hat": b"x"},
    {"person": png(1), "garment": png(2), "region": b"top"}, {"person": png(1), "garment": png(2), "seed": "many"},
    {"person": png(1), "garment": png(2), "person_box": "["},
    {"person": png(1), "garment": png(2), "garment_worn": "?"},
    {"person": png(1), "garment": png(2), "x" * 5000: "y"},
])  # fmt: skip
def test_forms_that_cannot_be_used_are_refused(service: Running, fields: dict[str, str | bytes]) -> None:
    answer = service.ask_form(fields)
    assert answer.status in (400, 422), answer.body
    assert len(answer.body) < 2000


@pytest.mark.parametrize("body", [
    b"", b"--b\r\n\r\n", b"--b\r\nContent-Disposition: form-data; name=\"person\"\r\n" + b"X: " + b"y" * 500_000,
    b"".join(b'--b\r\nContent-Disposition: form-data; name="a%d"\r\n\r\n1\r\n' % i for i in range(2000)) + b"--b--\r\n",
    b"".join(b'--b\r\nContent-Disposition: form-data; name="seed"\r\n\r\n1\r\n' for i in range(2)) + b"--b--\r\n",
    b'--b\r\nContent-Disposition: form-data; name="region"\r\n\r\n' + b"x" * 100_000 + b"\r\n--b--\r\n",
])  # fmt: skip
def test_forms_that_are_none_are_refused(service: Running, body: bytes) -> None:
    answer = service.send("POST", "/try-on", body, {"Content-Type": "multipart/form-data; boundary=b"})
    assert answer.status in (400, 422), answer.body
    assert len(answer.body) < 2000


@pytest.mark.parametrize(("headers", "status"), [
    ({"Content-Type": "text/plain"}, 415), ({"Content-Type": ""}, 415), ({"Content-Encoding": "gzip"}, 415),
    ({"Accept": "text/html"}, 406), ({"Accept": "image/png;q=0"}, 406), ({"Accept": "," * 5000}, 406),
    ({"Content-Type": "multipart/form-data"}, 400),
])  # fmt: skip
def test_headers_that_cannot_be_met_are_refused(service: Running, headers: dict[str, str], status: int) -> None:
    answer = service.ask(order(), **headers)
    assert answer.status == status, answer.body
    assert set(answer.json()) == {"error", "argument", "message"}


def test_huge_headers_are_refused(service: Running) -> None:
    try:
        status = service.send("GET", "/health", headers={f"X-{number}": "y" * 8000 for number in range(20)}).status
    except ConnectionError:  # while they were still sent
        status = 400
    assert status == 400
    assert service.health()["status"] == "ok"


def test_no_path_is_opened_and_no_address_fetched(
    service: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret.png").write_bytes(png(1))
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as trap:
        address = f"http://127.0.0.1:{trap.getsockname()[1]}/a.png"
        for text in (str(tmp_path / "secret.png"), "secret.png", address, f"file://{tmp_path}/secret.png"):
            for changes in ({"person": text}, {"person": text64(text.encode())}, {"region": text}, {"preset": text},
                            {"person_pose": text}, {"model": text}):  # fmt: skip
                assert service.ask(order(**changes)).status == 422
            assert service.ask_form({"person": text, "garment": png(2)}).status == 422
            named, headers = png(2), {"Content-Type": "multipart/form-data; boundary=b"}
            body = b'--b\r\nContent-Disposition: form-data; name="person"; filename="%s"\r\n\r\n%s\r\n--b--\r\n'
            assert service.send("POST", "/try-on", body % (text.encode(), named), headers).status == 422
        trap.setblocking(False)
        with pytest.raises(BlockingIOError):  # nobody knocked
            trap.accept()
    assert {path.name for path in tmp_path.iterdir()} == {"secret.png"}


def test_what_is_the_services_own_fault_is_not_told(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    from styletryon.serve.service import Service

    faults = iter([CheckpointError("the file /secret is damaged", argument="model"), ZeroDivisionError("secret")])

    def fail(*_: object) -> bytes:
        raise next(faults)

    monkeypatch.setattr(Service, "_dress", fail)
    with running() as service:
        for _ in range(2):
            answer = service.ask(order())
            assert (answer.status, answer.json()["error"]) == (500, "InternalServerError")
            assert b"secret" not in answer.body
        assert service.health()["running"] == 0
    assert "/secret" in caplog.text


# -------------------------------------------------------------------------------------------- queue, end, disconnect
class Slow:
    """A try-on that takes its steps until it may end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from styletryon.pipeline import PipelineProgress
        from styletryon.serve.service import Service

        self.began, self.may_end, self.ended, self.stopped = threading.Semaphore(0), threading.Event(), 0, 0

        def dress(service: Service, order: Any, step: Any) -> bytes:
            self.began.release()
            try:
                while not self.may_end.wait(0.002):
                    step(PipelineProgress("project", 1, 2))
            except BaseException:
                self.stopped += 1
                raise
            self.ended += 1
            return b"done"

        monkeypatch.setattr(Service, "_dress", dress)


def test_more_than_there_is_room_for_are_told_when_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch)
    with running(workers=1, queue=1, body=2**20) as service, ThreadPoolExecutor(2) as pool:
        taken = [pool.submit(service.ask, order()) for _ in range(2)]
        wait_until(lambda: service.health()["running"] == 1 and service.health()["waiting"] == 1)
        for _ in range(3):
            answer = service.ask(order())
            assert (answer.status, answer.json()["error"]) == (429, "TooManyRequests")
            assert int(answer.headers["Retry-After"]) >= 1
        large = service.ask(b"x" * 2**20)  # is read to its end, or the answer would be lost
        assert large.status == 429
        slow.may_end.set()
        assert [one.result().body for one in taken] == [b"done"] * 2
        assert service.ask(order()).status == 200, "there is room again"


def test_a_client_that_goes_ends_its_try_on(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch)
    with running(workers=1, queue=2) as service:
        runs, waits = service.connect(), service.connect()
        for connection in (runs, waits):
            connection.request("POST", "/try-on", json.dumps(order()), {"Content-Type": "application/json"})
            wait_until(lambda: service.health()["running"] == 1)
        wait_until(lambda: service.health()["waiting"] == 1)
        waits.close()
        wait_until(lambda: service.health()["waiting"] == 0)
        assert slow.stopped == 0, "what waited never began, and what runs goes on"
        runs.close()
        wait_until(lambda: service.health()["running"] == 0)
        assert (slow.stopped, slow.ended) == (1, 0)
        slow.may_end.set()
        assert service.ask(order()).status == 200


def test_a_client_that_goes_while_it_sends_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(workers=1, queue=0) as service:
        connection = service.connect()
        connection.putrequest("POST", "/try-on")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", "1000")
        connection.endheaders(b"{")
        wait_until(lambda: service.health()["waiting"] == 1)
        assert service.ask(order()).status == 429
        connection.close()
        wait_until(lambda: service.health()["waiting"] == 0)


def test_a_client_that_sends_too_slowly_is_told_so() -> None:
    with running(upload_seconds=0.3) as service:
        connection = service.connect()
        connection.putrequest("POST", "/try-on")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", "1000")
        connection.endheaders(b"{")
        assert connection.getresponse().status == 408
        connection.close()
        wait_until(lambda: service.health()["waiting"] == 0)


def test_at_the_end_what_runs_is_finished_and_what_waits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch)
    service = Running(workers=1, queue=2)
    with ThreadPoolExecutor(2) as pool:
        runs = pool.submit(service.ask, order())
        wait_until(lambda: service.health()["running"] == 1)
        waits = pool.submit(service.ask, order())
        wait_until(lambda: service.health()["waiting"] == 1)
        service.server.should_exit = True
        refused = waits.result()
        assert (refused.status, refused.json()["error"]) == (503, "ServiceUnavailable")
        assert refused.headers["Retry-After"]
        with pytest.raises(ConnectionError):
            service.ask(order())
        assert not runs.done()
        slow.may_end.set()
        assert runs.result().body == b"done"
    service.close()
    assert not any(thread.is_alive() for thread in service.app.state.workers._threads._threads)


def test_what_does_not_finish_in_time_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch)
    service = Running(workers=1)
    service.server.config.timeout_graceful_shutdown = 1
    with ThreadPoolExecutor(1) as pool:
        runs = pool.submit(service.ask, order())
        wait_until(lambda: service.health()["running"] == 1)
        service.close()
        assert slow.stopped == 1
        assert runs.result().status == 503
