"""The change log, the version and the list of what a wheel holds agree."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import styletryon
from tests._support.process import ROOT, SOURCE

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_newest_entry_of_the_change_log_is_this_version() -> None:
    entries = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d{2}-\d{2}))?$", CHANGELOG, flags=re.MULTILINE)
    released = [(name, day) for name, day in entries if name != "Unreleased"]
    assert released[0][0] == styletryon.__version__
    assert all(day for _, day in released), "a released version states its day"


def test_the_version_is_semantic() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", styletryon.__version__)


def test_every_file_of_the_package_is_of_a_kind_that_a_wheel_carries() -> None:
    known = {".py", ".typed", ".safetensors", ".json", ".md", ".cuh", ".cu", ".jpg", ".html", ".css",
             ".js"}  # fmt: skip
    strange = [
        path.relative_to(SOURCE)
        for path in (SOURCE / "styletryon").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix not in known
        and path.name not in ("py.typed", "LICENSE")
    ]
    assert not strange
    assert (SOURCE / "styletryon" / "py.typed").is_file()


def test_the_licence_is_whole() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert PROJECT["project"]["license"] == "Apache-2.0 AND MIT"  # the second for the photographs in samples


def test_photographs_are_small_and_come_with_their_licence() -> None:
    samples = SOURCE / "styletryon" / "samples"
    assert "MIT License" in (samples / "LICENSE").read_text(encoding="utf-8")
    assert "src/styletryon/samples/LICENSE" in PROJECT["project"]["license-files"]
    assert sum(path.stat().st_size for path in samples.iterdir()) < 1_000_000


def test_every_dependency_states_a_floor() -> None:
    for requirement in PROJECT["project"]["dependencies"]:
        assert re.fullmatch(r"[a-z-]+>=[\d.]+", requirement), requirement


def test_every_dependency_is_imported_somewhere() -> None:
    modules = {"pillow": "PIL", "typing-extensions": "typing_extensions"}
    text = "\n".join(path.read_text(encoding="utf-8") for path in (SOURCE / "styletryon").rglob("*.py"))
    for requirement in PROJECT["project"]["dependencies"]:
        name = requirement.split(">=")[0]
        module = modules.get(name, name)
        assert re.search(rf"^\s*(import|from) {module}\b", text, flags=re.MULTILINE), f"{name} is never imported"


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_between_our_pages_lead_somewhere(name: str) -> None:
    page = ROOT / name
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{name} links to {target}"


def test_links_inside_the_docs_lead_somewhere() -> None:
    waiting = re.findall(r"^  (\w+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), flags=re.MULTILINE)
    for page in sorted((ROOT / "docs").rglob("*.md")):
        if page.name in waiting:  # left out of the site until its pictures are made
            continue
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (Path(page).parent / target).exists(), f"{page.name} links to {target}"


def test_the_citation_is_of_this_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.+)$", citation, flags=re.MULTILINE)[1] == styletryon.__version__  # type: ignore[index]
    code, *_ = PROJECT["project"]["license"].split(" AND ")
    assert re.search(r"^license: (.+)$", citation, flags=re.MULTILINE)[1] == code  # type: ignore[index]


def test_every_python_that_the_package_names_is_tried_by_the_workflow() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    named = [c.rsplit(" ", 1)[-1] for c in PROJECT["project"]["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert named
    assert not [version for version in named if f'"{version}"' not in workflow]
