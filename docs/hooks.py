"""What the site has beside the pages of this folder: API pages, model cards, and the files of the repository's root.

MkDocs calls the functions named `on_...`. Pages are written for readers of the repository too, so links lead from file
to file; the site turns those that leave this folder into links to its own pages or to the repository.
"""

from __future__ import annotations

import importlib
import os
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, os.fspath(ROOT))

from tests.make_reference import SECTIONS, names  # noqa: E402

WEIGHTS = "src/styletryon/weights"

COPIES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    **{f"{WEIGHTS}/{name}/README.md": f"cards/{name}.md" for name in ("default", "large")},
    **{f"{WEIGHTS}/{path.name}": f"cards/{path.stem.lower()}.md" for path in sorted((ROOT / WEIGHTS).glob("*.md"))},
}
"""Files of the repository that are pages of the site: where they stand -> the page."""

_LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s#]+)(#[^)\s]*)?\)")


def api_page(module: str) -> str:
    """The page of a public module."""
    lines = [f"# {module}", "", SECTIONS[module], "", f"::: {module}"]
    for name in names(importlib.import_module(module)):
        path = f"{module}.{name}"
        if path in sys.modules and path not in SECTIONS:  # a module has the function's name and would be shown instead
            lines += ["", f"## {name} {{#{path}}}", "", f"::: {path}.{name}", "    options: {heading_level: 3}"]
    return "\n".join(lines) + "\n"


def relink(text: str, source: str, repository: str) -> str:
    """Turn the links of a file of the repository into links of the site.

    Args:
        text: Markdown.
        source: The file's path in the repository.
        repository: Address of the repository, for files that are no pages.

    Raises:
        FileNotFoundError: If a link leads to a file that is not there.
    """
    page = _page(source)

    def replace(match: re.Match[str]) -> str:
        before, target, anchor = match.group(1), match.group(2), match.group(3) or ""
        if re.match(r"[a-z]+:", target):
            return match.group(0)
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if not (ROOT / path).exists():
            raise FileNotFoundError(f"{source}: the link to {target} leads nowhere")
        there = _page(path)
        if there is None:
            return f"{before}{repository}/blob/main/{path}{anchor})"
        return f"{before}{posixpath.relpath(there, posixpath.dirname(page or '') or '.')}{anchor})"

    parts = re.split(r"(^```.*?^```)", text, flags=re.MULTILINE | re.DOTALL)  # every other part is code
    return "".join(part if index % 2 else _LINK.sub(replace, part) for index, part in enumerate(parts))


def _page(path: str) -> str | None:
    """The page of the site that a file of the repository is, or None."""
    return path.removeprefix("docs/") if path.startswith("docs/") else COPIES.get(path)


def link_names(text: str) -> str:
    """Let each name of `reference.md` lead to where it is described."""
    module = ""
    lines = []
    for line in text.splitlines():
        if line.startswith("## "):
            module = line[3:]
        if match := re.match(r"\| `([\w.]+)` \|", line):
            shown = match.group(1)
            name = f"{module}.{shown.split('.')[-1]}"
            target = f"(api/{name}.md)" if name in SECTIONS else f"(api/{module}.md#{name})"
            line = line.replace(f"`{shown}`", f"[`{shown}`]{target}", 1)
        lines.append(line)
    return "\n".join(lines) + "\n"


def on_config(config: Any) -> Any:
    """Leave out of the navigation what `exclude_docs` leaves out of the site."""
    config.nav = [
        entry
        for entry in config.nav
        if not any(isinstance(page, str) and config.exclude_docs.match_file(page) for page in entry.values())
    ]
    return config


def on_files(files: Any, *, config: Any) -> Any:
    """Add the pages that are made rather than written."""
    from mkdocs.structure.files import File

    for module in SECTIONS:
        files.append(File.generated(config, f"api/{module}.md", content=api_page(module)))
    for source, page in COPIES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=relink(text, source, config.extra["repository"])))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Turn the links of a page of this folder."""
    del files
    if page.file.generated_by:
        return markdown
    path = page.file.src_uri
    text = relink(markdown, f"docs/{path}", config.extra["repository"])
    return link_names(text) if path == "reference.md" else text
