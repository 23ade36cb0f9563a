"""The notebooks of `examples/`: they run from top to bottom, show pictures, and are kept without outputs."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests._support.process import ROOT, run_python

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))

SHOWING = '''
def _show(value):
    """Show the value of a cell's last line as a notebook does."""
    if value is None:
        return
    png = getattr(value, "_repr_png_", lambda: None)()
    print("[picture]" if png and png.startswith(b"\\x89PNG") else repr(value))
'''


def cells(path: Path, kind: str) -> list[dict[str, Any]]:
    """The cells of one kind."""
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


def script(path: Path) -> str:
    """The cells of code one after another, each with its last value shown, as a notebook runs them."""
    parts = [ast.parse(SHOWING)]
    for cell in cells(path, "code"):
        tree = ast.parse("".join(cell["source"]))
        last = tree.body[-1] if tree.body else None
        if isinstance(last, ast.Expr):
            shown = ast.Call(ast.Name("_show", ast.Load()), [last.value], [])
            tree.body[-1] = ast.copy_location(ast.Expr(shown), last)
        parts.append(tree)
    return "\n".join(ast.unparse(ast.fix_missing_locations(part)) for part in parts)


def test_there_is_one() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_they_run_and_show_pictures(path: Path, tmp_path: Path) -> None:
    result = run_python("-W", "error", "-c", script(path), folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("[picture]") >= 5
    assert "darker: " in result.stdout
    assert not list(tmp_path.iterdir())  # it leaves nothing behind that nobody asked for


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_they_are_kept_without_outputs_and_of_the_format(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    names = [cell["id"] for cell in notebook["cells"]]
    assert len(set(names)) == len(names)
    for cell in cells(path, "code"):
        assert (cell["outputs"], cell["execution_count"]) == ([], None)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_their_links_lead_somewhere(path: Path) -> None:
    text = "".join("".join(cell["source"]) for cell in cells(path, "markdown"))
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert (path.parent / target).exists(), target
