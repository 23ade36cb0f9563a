"""What the container starts is a command of ours, and `.ci/run lint` sees what is wrong with the files themselves."""

from __future__ import annotations

import fnmatch
import json
import platform
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from styletryon.cli import build_parser
from tests._support.process import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = (ROOT / "compose.yaml").read_text(encoding="utf-8")


def entry() -> list[str]:
    return json.loads(re.findall(r"^ENTRYPOINT (.*)$", DOCKERFILE, flags=re.MULTILINE)[-1])


def test_what_the_image_starts_parses() -> None:
    program, *arguments = entry()
    assert program == "styletryon"
    parsed = build_parser().parse_args(arguments)
    assert (parsed.command, parsed.host) == ("serve", "0.0.0.0")
    assert f"EXPOSE {parsed.port}" in DOCKERFILE
    assert f"127.0.0.1:{parsed.port}/health" in DOCKERFILE


def test_compose_hands_over_options_that_parse_and_waits_for_what_runs() -> None:
    options = json.loads(re.findall(r"^    command: (.*)$", COMPOSE, flags=re.MULTILINE)[0])
    parsed = build_parser().parse_args([*entry()[1:], *options])
    assert int(re.findall(r"stop_grace_period: (\d+)s", COMPOSE)[0]) > parsed.grace
    assert f'"127.0.0.1:{parsed.port}:{parsed.port}"' in COMPOSE


def test_the_image_does_not_run_as_root() -> None:
    user = re.findall(r"^USER (\S+)$", DOCKERFILE, flags=re.MULTILINE)[-1]
    assert int(user) > 0


def test_the_image_has_versions_of_torch_that_the_project_allows() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for name in ("torch", "torchvision"):
        pinned = re.findall(rf"\b{name}==([\d.]+)", DOCKERFILE)[0]
        least = re.findall(rf'"{name}>=([\d.]+)"', project)[0]
        assert tuple(map(int, pinned.split("."))) >= tuple(map(int, least.split(".")))


def test_what_the_image_is_made_of_is_there_and_handed_over() -> None:
    """A file that `.dockerignore` keeps from the builder cannot be copied."""
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, flags=re.MULTILINE)
    first, *patterns = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert first == "*"
    handed = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    for source in " ".join(copied).split():
        assert (ROOT / source).exists()
        assert any(fnmatch.fnmatch(source, pattern) for pattern in handed), source


class Health(BaseHTTPRequestHandler):
    """Answers as the server's `status` says."""

    def do_GET(self) -> None:
        self.send_response(self.server.status if self.path == "/health" else 404)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def health() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), Health)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(("status", "well"), [(200, True), (503, False)])
def test_the_image_is_well_as_long_as_the_service_is(health: HTTPServer, status: int, well: bool) -> None:
    """A service that ends answers 503."""
    health.status = status  # type: ignore[attr-defined]
    python, *arguments = json.loads(re.findall(r"^HEALTHCHECK .*\\\n +CMD (.*)$", DOCKERFILE, flags=re.MULTILINE)[0])
    assert python == "python"
    assert ":8000/health" in arguments[-1]
    arguments[-1] = arguments[-1].replace(":8000/", f":{health.server_port}/")
    ended = subprocess.run([sys.executable, *arguments], capture_output=True, timeout=60, check=False)
    assert (ended.returncode == 0) == well, ended.stderr


HERE = str(Path(sys.executable).parent)
TOOLS = {name: shutil.which(name, path=HERE) for name in ("ruff", "check-jsonschema", "hadolint")}


@pytest.mark.skipif(
    not all(TOOLS.values()) or (platform.system(), platform.machine()) != ("Linux", "x86_64"),
    reason="the extra 'dev' is not installed, or has no hadolint here",
)
@pytest.mark.parametrize(
    ("name", "before", "after", "said"),
    [
        ("Dockerfile", "", "", ""),
        ("Dockerfile", "FROM python:3.12-slim\n", "FROM python\n", "DL3006"),
        ("Dockerfile", "torch==2", "torch>2", "DL3013"),
        ("Dockerfile", "WORKDIR /source", "WORKDIR source", "DL3000"),
        ("Dockerfile", 'ENTRYPOINT ["styletryon", ', "ENTRYPOINT styletryon ", "DL3025"),
        ("Dockerfile", "EXPOSE 8000", "EXPOES 8000", "unexpected"),
        ("compose.yaml", "mem_limit: 4g", "memory_limit: 4g", "memory_limit"),
        ("compose.yaml", "    read_only: true", "    read_only: [1]", "read_only"),
        ("compose.yaml", "services:", "services", "compose.yaml"),
    ],
)
def test_what_is_wrong_with_the_files_is_seen(tmp_path: Path, name: str, before: str, after: str, said: str) -> None:
    """A copy of the tree with one fault, and the environment's own tools."""
    for file in (".ci/run", "Dockerfile", "compose.yaml"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for tool, place in TOOLS.items():
        assert place is not None
        (tmp_path / ".venv/bin" / tool).symlink_to(place)
    text = (tmp_path / name).read_text(encoding="utf-8")
    assert before in text
    (tmp_path / name).write_text(text.replace(before, after), encoding="utf-8")
    ended = subprocess.run(
        [tmp_path / ".ci/run", "lint"], capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path
    )
    output = ended.stdout + ended.stderr
    assert (ended.returncode == 0) == (not said), output
    assert said in output
