"""What MkDocs does not check about the built site: `python .ci/check_docs.py site`.

That each public name has a place on an API page, that each link within the site leads somewhere, anchors included, and
that no page has a browser fetch anything from elsewhere.
"""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

ROOT = Path(__file__).resolve().parent.parent
_FETCHED_LINKS = {"stylesheet", "icon", "preload", "modulepreload", "preconnect", "dns-prefetch", "manifest"}


class Page(HTMLParser):
    """What a page names and where it leads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note one tag."""
        values = {name: value for name, value in attrs if value is not None}
        if values.get("data-md-component") == "source":  # Material's script asks GitHub about the repository
            self.fetched.append("https://api.github.com")
        self.anchors.update(values[name] for name in ("id", "name") if name in values)
        for name in ("href", "src", "data"):
            if name not in values:
                continue
            self.links.append(values[name])
            # Every src and data is fetched; of links, a page's own are, those to follow are not.
            if name != "href" or (tag == "link" and _FETCHED_LINKS & set(values.get("rel", "").split())):
                self.fetched.append(values[name])


def is_elsewhere(link: str) -> bool:
    """Whether a link leaves the site."""
    return re.match(r"([a-z][a-z0-9+.-]*:|//)", link) is not None


def missing_names(pages: dict[str, Page], public: dict[str, dict[str, object]]) -> list[str]:
    """The public names that no API page describes."""
    anchors = {anchor for name, page in pages.items() if name.startswith("api/") for anchor in page.anchors}
    modules = {Path(name).stem for name in pages if name.startswith("api/")}
    paths = [f"{module}.{name}" for module, names in public.items() for name in names]
    return [path for path in paths if path not in anchors | modules and not path.endswith("__")]


def broken_links(site: Path, pages: dict[str, Page]) -> list[str]:
    """The links within the site that lead nowhere."""
    broken = []
    for name, page in pages.items():
        for link in page.links:
            if is_elsewhere(link):
                continue
            target, anchor = urldefrag(link)
            base = site if target.startswith("/") else (site / name).parent
            path = (base / unquote(target).lstrip("/")).resolve() if target else (site / name).resolve()
            path = path / "index.html" if path.is_dir() else path
            inside = path.is_relative_to(site.resolve())
            there = pages.get(path.relative_to(site.resolve()).as_posix()) if inside else None
            if not path.is_file() or (anchor and there is not None and unquote(anchor) not in there.anchors):
                broken.append(f"{name}: {link}")
    return broken


def fetched_elsewhere(site: Path, pages: dict[str, Page]) -> list[str]:
    """What a browser would fetch from elsewhere to show a page."""
    found = [f"{name}: {link}" for name, page in pages.items() for link in page.fetched if is_elsewhere(link)]
    for sheet in site.rglob("*.css"):
        addresses = re.findall(r"(?:url\(|@import\s+)[\"']?((?:https?:)?//[^\"')]+)", sheet.read_text(encoding="utf-8"))
        found += [f"{sheet.relative_to(site)}: {address}" for address in addresses]
    return found


def check(site: Path, public: dict[str, dict[str, object]]) -> list[str]:
    """All that is wrong with a site."""
    paths = [path for path in site.rglob("*.html") if path.name != "404.html"]
    pages = {path.relative_to(site).as_posix(): Page(path.read_text(encoding="utf-8")) for path in paths}
    if not pages:
        return [f"{site}: there are no pages"]
    return [
        *(f"no page describes {name}" for name in missing_names(pages, public)),
        *(f"leads nowhere: {link}" for link in broken_links(site, pages)),
        *(f"fetched from elsewhere: {link}" for link in fetched_elsewhere(site, pages)),
    ]


if __name__ == "__main__":
    recorded = json.loads((ROOT / "tests" / "public_api.json").read_text(encoding="utf-8"))
    faults = check(Path(sys.argv[1]), recorded)
    print("\n".join(faults) or "every public name has a page, and every link leads somewhere")
    sys.exit(bool(faults))
