"""Runs what docs/tutorials.md says, as somebody would who has nothing but the page."""

from __future__ import annotations

import re
from pathlib import Path

from tests._support.process import ROOT, run_python

PAGE = ROOT / "docs" / "tutorials.md"


def follow(title: str, folder: Path) -> list[str]:
    """Run the Python blocks of a section one after another in a folder; return what each printed."""
    sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    section = next(section for section in sections if section.startswith(title))
    printed = []
    for block in re.findall(r"^```python\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL):
        result = run_python("-W", "error", "-c", block, folder=folder, timeout=600)
        assert result.returncode == 0, result.stderr
        printed.append(result.stdout)
    return printed
