"""Models of the Hugging Face hub: its own package against a stand-in of its server, which this process runs."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

import styletryon
from styletryon import PoseStyleGAN2
from styletryon.errors import CheckpointNotFoundError, DependencyError, SaveError, WeightsUnavailableError
from styletryon.interop import fetch_model
from tests._support.tiny import tiny_generator

SHA = "0123456789abcdef0123456789abcdef01234567"
NAME = "anna/dresses"


class Hub:
    """What the server holds and was asked for.

    Attributes:
        address: Where it listens.
        files: Repository -> name of a file -> its bytes.
        asked: Method and path of each request.
        commits: What each commit said of itself.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.asked: list[str] = []
        self.commits: list[dict[str, Any]] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                path = unquote(urlsplit(self.path).path)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                hub.asked.append(f"{self.command} {path}")
                status, headers, content = hub.answer(self.command, path.strip("/").split("/"), body)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_HEAD = do_POST = answer

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def answer(self, method: str, path: list[str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        def told(content: object) -> tuple[int, dict[str, str], bytes]:
            return 200, {"Content-Type": "application/json"}, json.dumps(content).encode()

        if path == ["api", "repos", "create"]:
            name = json.loads(body)["name"]
            full = f"{json.loads(body).get('organization') or 'anna'}/{name}"
            self.files.setdefault(full, {})
            return told({"url": f"{self.address}/{full}", "id": full})
        if path == ["api", "validate-yaml"]:
            return told({"errors": [], "warnings": []})
        name = "/".join(path[2:4] if path[0] == "api" else path[:2])
        if name not in self.files:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        if path[0] == "api" and path[4] == "revision":
            if path[5] not in ("main", "v1.0"):
                return 404, {"X-Error-Code": "RevisionNotFound"}, b""
            files = [{"rfilename": file} for file in self.files[name]]
            return told({"id": name, "modelId": name, "sha": SHA, "siblings": files, "private": False, "tags": []})
        if path[0] == "api" and path[4] == "tree":
            return told([{"type": "file", "path": file, "size": len(content), "oid": _digest(content)}
                         for file, content in self.files[name].items()])  # fmt: skip
        if path[0] == "api" and path[4] == "preupload":
            wanted = json.loads(body)["files"]
            return told({"files": [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                                   for one in wanted]})  # fmt: skip
        if path[0] == "api" and path[4] == "commit":
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    value = line["value"]
                    self.files[name][value["path"]] = base64.b64decode(value["content"])
                else:
                    self.commits.append(line["value"])
            return told({"success": True, "commitOid": SHA, "commitUrl": f"{self.address}/{name}/commit/{SHA}"})
        if path[2] == "resolve":
            content = self.files[name].get("/".join(path[4:]))
            if content is None:
                return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": SHA}, b""
            return 200, {"X-Repo-Commit": SHA, "ETag": f'"{_digest(content)}"'}, content
        return 404, {}, b""


def _digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def point_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the package take an address for the hub's, as HF_ENDPOINT does when it is imported."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one repository, which holds a pickle and code as well."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    standing = Hub()
    point_to(standing.address, monkeypatch)
    tiny_generator().save_pretrained(tmp_path / "saved")
    files = {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()}
    others = {"pytorch_model.bin": b"a pickle", "modeling.py": b"code", "README.md": b"# Dresses"}
    standing.files[NAME] = {**files, **others}
    yield standing
    standing.server.shutdown()
    standing.server.server_close()
    standing.thread.join()


def fetched(hub: Hub) -> set[str]:
    return {line.rsplit("/", 1)[-1] for line in hub.asked if line.startswith("GET") and "/resolve/" in line}


@pytest.mark.parametrize("name", [NAME, f"{NAME}@v1.0", f"hf://{NAME}"])
def test_a_model_of_the_hub_without_its_pickles_and_code(name: str, hub: Hub) -> None:
    model = PoseStyleGAN2.from_pretrained(name, token=False)
    assert model.fingerprint == tiny_generator().fingerprint
    assert fetched(hub) == {"config.json", "model.safetensors"}
    assert any(f"/revision/{'v1.0' if '@' in name else 'main'}" in line for line in hub.asked)
    assert sorted(path.name for path in fetch_model(name, local_files_only=True).iterdir()) == [
        "config.json", "model.safetensors",
    ]  # fmt: skip


def test_an_endpoint_may_be_named(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    point_to("http://127.0.0.1:9", monkeypatch)
    model = PoseStyleGAN2.from_pretrained(NAME, endpoint=hub.address, token=False)
    assert model.fingerprint == tiny_generator().fingerprint


def test_loading_by_name_goes_to_the_network_only_when_told_to(hub: Hub) -> None:
    with pytest.raises(CheckpointNotFoundError, match=r"a model of the Hugging Face hub is 'hf://anna/dresses'"):
        styletryon.load_model(NAME)
    assert not hub.asked
    model = styletryon.load_model(f"hf://{NAME}")
    assert model.fingerprint == tiny_generator().fingerprint
    assert styletryon.load_model(f"hf://{NAME}") is model


@pytest.mark.parametrize("name", ["ben/coats", f"{NAME}@v9"])
def test_a_model_that_cannot_be_had(name: str, hub: Hub) -> None:
    with pytest.raises(WeightsUnavailableError, match=f"'{name}' cannot be had .*NotFoundError"):
        PoseStyleGAN2.from_pretrained(name, token=False)


def test_a_damaged_file_is_refused_as_in_a_folder(hub: Hub) -> None:
    config = json.loads(hub.files[NAME]["config.json"])
    hub.files[NAME]["config.json"] = json.dumps({**config, "surprise": 1}).encode()
    with pytest.raises(styletryon.errors.CheckpointError, match="surprise"):
        PoseStyleGAN2.from_pretrained(NAME, token=False)


def test_a_folder_here_comes_first(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_generator(seed=3).save_pretrained(NAME)
    for load in (styletryon.load_model, PoseStyleGAN2.from_pretrained):
        assert load(NAME).fingerprint == tiny_generator(seed=3).fingerprint
    assert not hub.asked


@pytest.mark.parametrize("source", ["nowhere", "a/b/c", "./a/b", "/tmp/nothing-here", "../x", Path("anna/dresses")])
def test_paths_are_not_looked_for_on_the_hub(source: str | Path, hub: Hub) -> None:
    for load in (styletryon.load_model, PoseStyleGAN2.from_pretrained):
        with pytest.raises(CheckpointNotFoundError):
            load(source)
    assert not hub.asked


def test_a_repository_without_a_model(hub: Hub) -> None:
    del hub.files[NAME]["model.safetensors"]
    with pytest.raises(CheckpointNotFoundError, match=r"got 'anna/dresses' without model\.safetensors"):
        PoseStyleGAN2.from_pretrained(NAME, token=False)


def test_what_is_published_is_loaded(hub: Hub) -> None:
    model = tiny_generator(seed=5)
    address = model.push_to_hub("anna/coats", licence="apache-2.0", text="Trained on nothing at all.", token="hf_x")
    assert address.startswith(f"{hub.address}/anna/coats/commit/")
    assert sorted(hub.files["anna/coats"]) == ["README.md", "config.json", "model.safetensors"]
    assert len(hub.commits) == 1
    assert PoseStyleGAN2.from_pretrained("anna/coats", token=False).fingerprint == model.fingerprint
    card = hub.files["anna/coats"]["README.md"].decode()
    assert card.startswith("---\nlibrary_name: styletryon\n")
    height, width = model.image_size
    for text in (
        "license: apache-2.0", "# anna/coats", "Trained on nothing at all.", f"{height}x{width} pixels",
        "million parameters", "--model hf://anna/coats", model.fingerprint,
    ):  # fmt: skip
        assert text in card, text


def test_a_card_that_its_author_wrote_stays(hub: Hub) -> None:
    tiny_generator(seed=5).push_to_hub(NAME, token="hf_x")
    assert hub.files[NAME]["README.md"] == b"# Dresses"
    tiny_generator(seed=5).push_to_hub(NAME, card="# New", token="hf_x")
    assert hub.files[NAME]["README.md"] == b"# New"


def test_what_cannot_be_published_says_so(hub: Hub) -> None:
    with pytest.raises(SaveError, match=r"^repository: cannot write 'anna/coats' on the Hugging Face hub \("):
        tiny_generator().push_to_hub("anna/coats", endpoint=f"{hub.address}/nowhere", token="hf_x")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # what an import of a missing module meets
    for call in (
        lambda: styletryon.load_model("hf://anna/dresses"),
        lambda: PoseStyleGAN2.from_pretrained("anna/dresses"),
        lambda: tiny_generator().push_to_hub("anna/dresses"),
    ):
        with pytest.raises(DependencyError, match=r"pip install 'styletryon\[hub\]'"):
            call()


@pytest.mark.parametrize("name", ["anna", "anna/dresses@", "anna/dresses@v 1", "https://anna/dresses", "hf://anna"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(WeightsUnavailableError, match="expected 'user/name'"):
        fetch_model(name)
