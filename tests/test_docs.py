"""What is written is true: examples and snippets run, commands parse, docstrings and signatures agree."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from styletryon.cli import build_parser
from tests import make_effects
from tests._support.process import ROOT, SOURCE, run_python
from tests.make_reference import PAGE, write

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MODULES = ("styletryon", "styletryon.features", "styletryon.interop", "styletryon.losses", "styletryon.ops",
           "styletryon.pose")  # fmt: skip


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


COMMANDS = [
    pytest.param(line, id=f"{page.name}: {line[:50]}")
    for page in PAGES
    for block in blocks(page, "bash")
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("styletryon ")
]
PLACES = {  # a snippet that two pages show runs once
    block: f"{page.name}-{number}"
    for page in reversed(PAGES)
    if page.name != "tutorials.md"  # whose snippets need each other: tests/tutorials runs them
    for number, block in enumerate(blocks(page, "python"))
}
SNIPPETS = [pytest.param(block, id=place) for block, place in PLACES.items()]


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_that_pages_show_parse(line: str) -> None:
    build_parser().parse_args(shlex.split(line, comments=True)[1:])


def test_the_readme_shows_the_commands() -> None:
    shown = [line for block in blocks(ROOT / "README.md", "bash") for line in block.splitlines()]
    whole = [line for line in shown if line.startswith("python3 -m venv .venv && .venv/bin/pip install ")]
    assert [line.rsplit("/", 1)[-1] for line in whole if line.endswith("pytest")] == ["pytest"]
    assert any(line.endswith(".venv/bin/styletryon demo out/") for line in whole)
    assert any(line.startswith("styletryon try-on out/person.jpg") for line in shown)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pictures that the snippets name."""
    from styletryon.data import paperdoll
    from styletryon.photo import read_image

    folder = tmp_path_factory.mktemp("photographs")
    for name, seed in (("person", 20_000_010), ("garment", 20_000_008)):
        read_image(paperdoll.render(paperdoll.sample_figure(seed), (512, 384)).image).save(folder / f"{name}.jpg")
    return folder


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_snippets_that_pages_show_run(snippet: str, photographs: Path) -> None:
    result = run_python("-W", "error", "-c", snippet, folder=photographs)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "examples").glob("*.py")))
def test_examples_run(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run_python("-W", "error", ROOT / "examples" / name, "--out", out, "--preset", "fast", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    pictures = list(out.glob("*.png"))
    assert pictures
    assert all(picture.stat().st_size > 1000 for picture in pictures)


def public_objects() -> Iterator[Any]:
    """A pytest parameter for each public function and class."""
    seen = set()
    for module in MODULES:
        for name in importlib.import_module(module).__all__:
            value = getattr(importlib.import_module(module), name)
            documented = inspect.isfunction(value) or inspect.isclass(value)
            if documented and value not in seen and value.__module__.startswith("styletryon"):
                seen.add(value)
                yield pytest.param(value, id=f"{module}.{name}")


def section(docstring: str, title: str) -> dict[str, str]:
    """The entries of a Google-style section: name -> text."""
    match = re.search(rf"^{title}:\n((?:[ ]{{4}}.*\n|\s*\n)*)", docstring + "\n", flags=re.MULTILINE)
    return dict(re.findall(r"^ {4}\*{0,2}(\w+): (.*)$", match.group(1), flags=re.MULTILINE)) if match else {}


def parameters(function: Any) -> set[str]:
    """The names of a callable's own parameters."""
    return {name for name in inspect.signature(function).parameters if name not in {"self", "cls", "args", "kwargs"}}


@pytest.mark.parametrize("value", list(public_objects()))
def test_docstrings_and_signatures_agree(value: Any) -> None:
    docstring = inspect.getdoc(value) or ""
    assert docstring, "a public name needs a docstring"
    if inspect.isfunction(value):
        described, expected = set(section(docstring, "Args")), parameters(value)
    elif dataclasses.is_dataclass(value):
        described = set(section(docstring, "Attributes"))
        expected = {field.name for field in dataclasses.fields(value) if not field.name.startswith("_")}
        assert expected <= described, f"not described: {expected - described}"
        return
    elif inspect.isabstract(value) or getattr(value, "_is_protocol", False) or "__init__" not in vars(value):
        return  # nobody makes one, or it is made as its base is
    else:
        described, expected = set(section(docstring, "Args")), parameters(value.__init__)
    assert described == expected, f"not described: {expected - described}; described but gone: {described - expected}"


@pytest.mark.parametrize("value", [item for item in public_objects() if inspect.isclass(item.values[0])])
def test_methods_speak_of_their_parameters(value: type) -> None:
    for name, member in vars(value).items():
        if name.startswith("_") or not inspect.isfunction(member):
            continue
        # An override is spoken of by the method that it overrides.
        told = [vars(base)[name].__doc__ or "" for base in value.__mro__ if inspect.isfunction(vars(base).get(name))]
        docstring = "\n".join(told)
        assert docstring, f"{name} needs a docstring"
        silent = {parameter for parameter in parameters(member) if not re.search(rf"\b{parameter}\b", docstring)}
        assert not silent, f"{name} says nothing about {silent}"


def test_the_reference_is_what_the_docstrings_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == write(), "run python -m tests.make_reference"


def test_every_public_name_says_what_it_is() -> None:
    silent = [line for line in write().splitlines() if line.endswith("|  |")]
    assert not silent


def texts(tree: ast.AST) -> Iterator[str]:
    """The texts of a module as it says them, "\0" where a value is filled in."""
    parts = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts.update(id(part) for part in node.values)
            yield plain(node)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.value
        elif isinstance(node, ast.Call) and node.args:  # an error begins with the argument that it is about
            yield from (f"{plain(key.value)}: {plain(node.args[0])}" for key in node.keywords if key.arg == "argument")


def plain(node: ast.AST) -> str:
    """A text, "\0" where a value is filled in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(map(plain, node.values))
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else "\0"


@pytest.fixture(scope="module")
def said() -> list[str]:
    """Every text in the library."""
    files = sorted(SOURCE.rglob("*.py"))
    return [text for path in files for text in texts(ast.parse(path.read_text(encoding="utf-8")))]


def is_said(message: str, said: list[str]) -> bool:
    """Whether the library says a message; "..." stands for one value or more and what is between them.

    The argument that a message begins with may be no part of its text: an error keeps it apart.
    """
    problem = re.sub(r"^[\w, -]+: ", "", message)
    for asked in (message, problem):
        pattern = re.compile(".*\0.*".join(re.escape(part) for part in re.split(r"\.\.\.", asked) if part), re.DOTALL)
        if any(pattern.search(text) for text in said):
            return True
    return False


MESSAGES = [
    pytest.param(line, id=line[:50])
    for block in blocks(ROOT / "docs" / "troubleshooting.md", "text")
    for line in block.splitlines()
]


@pytest.mark.parametrize("message", MESSAGES)
def test_messages_that_are_quoted_are_those_of_the_library(message: str, said: list[str]) -> None:
    assert is_said(message, said), "the library says nothing like it; look for its present wording"


@pytest.mark.parametrize("message", ["size: got ... of ...", "size: got ..."])
def test_a_quoted_message_is_recognised(message: str) -> None:
    assert is_said(message, ["size: got \0 of \0; take fewer"])


@pytest.mark.parametrize("message", ["size: got more", "size: got ... in ...", "of ... size"])
def test_another_message_is_not(message: str) -> None:
    assert not is_said(message, ["size: got \0 of \0; take fewer"])


def test_the_page_on_the_paper_has_the_numbers_of_the_ablation() -> None:
    page = make_effects.PAGE.read_text(encoding="utf-8")
    written = make_effects.write(page, make_effects.SOURCE.read_text(encoding="utf-8"))
    assert page == written, "run python -m tests.make_effects"
    assert all(f"`{row}`" in page for row in make_effects.ROWS)
