"""What the container starts is a command of ours. `.ci/run lint` looks at the files themselves."""

from __future__ import annotations

import json
import re

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
