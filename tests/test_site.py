"""The site without building it: what is added to the pages, the navigation, and the check of what was built."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from tests._support.process import ROOT
from tests.make_reference import SECTIONS

REPOSITORY = "https://example.org/repository"


def load(path: str) -> ModuleType:
    """A file of Python that is no part of a package."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hooks = load("docs/hooks.py")
checks = load(".ci/check_docs.py")


# ------------------------------------------------------------------------------------------------------ hooks
@pytest.mark.parametrize(
    ("source", "link", "expected"),
    [
        ("docs/index.md", "ops.md#force-it", "ops.md#force-it"),
        ("docs/index.md", "images/demo.jpg", "images/demo.jpg"),
        ("docs/index.md", "../CONTRIBUTING.md#style", "contributing.md#style"),
        ("docs/cards.md", "../src/styletryon/weights/default/README.md", "cards/default.md"),
        ("docs/index.md", "../examples/quickstart.py", f"{REPOSITORY}/blob/main/examples/quickstart.py"),
        ("CONTRIBUTING.md", "docs/concepts.md", "concepts.md"),
        ("src/styletryon/weights/default/README.md", "../../../../docs/ops.md", "../ops.md"),
        ("docs/index.md", "https://arxiv.org/abs/2101.02285", "https://arxiv.org/abs/2101.02285"),
        ("docs/index.md", "#two-minutes", "#two-minutes"),
    ],
)
def test_links_of_the_repository_become_links_of_the_site(source: str, link: str, expected: str) -> None:
    assert hooks.relink(f"See [this]({link}).", source, REPOSITORY) == f"See [this]({expected})."


def test_a_link_to_nothing_is_refused() -> None:
    with pytest.raises(FileNotFoundError, match=r"docs/index.md: the link to nothing.md"):
        hooks.relink("[x](nothing.md)", "docs/index.md", REPOSITORY)


def test_links_in_code_stay() -> None:
    text = "```python\nx[0](nothing.md)\n```\n"
    assert hooks.relink(text, "docs/index.md", REPOSITORY) == text


def test_names_of_the_reference_lead_to_their_pages() -> None:
    text = "`x` \n## styletryon\n| `errors` | a |\n| `try_on` | b |\n## styletryon.losses\n| `losses.defaults` | c |\n"
    linked = hooks.link_names(text)
    assert "| [`errors`](api/styletryon.errors.md) |" in linked
    assert "| [`try_on`](api/styletryon.md#styletryon.try_on) |" in linked
    assert "| [`losses.defaults`](api/styletryon.losses.md#styletryon.losses.defaults) |" in linked
    assert linked.startswith("`x`")


def test_a_function_that_a_module_hides_is_described_all_the_same() -> None:
    page = hooks.api_page("styletryon.losses")
    assert "::: styletryon.losses\n" in page
    assert "## defaults {#styletryon.losses.defaults}" in page
    assert "::: styletryon.losses.defaults.defaults\n" in page


def test_what_is_left_out_of_the_site_is_left_out_of_the_navigation() -> None:
    left_out = SimpleNamespace(match_file=lambda path: path == "gallery.md")
    nav = [{"Home": "index.md"}, {"Gallery": "gallery.md"}, {"API": ["reference.md"]}]
    config = SimpleNamespace(nav=nav, exclude_docs=left_out)
    assert hooks.on_config(config).nav == [{"Home": "index.md"}, {"API": ["reference.md"]}]


def test_the_navigation_has_every_page_and_only_those() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n")[1].split("\n\n")[0]
    listed = set(re.findall(r"^ *- (?:[^#].*: )?(\S+\.md)$", text, flags=re.MULTILINE))
    written = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert listed == written | set(hooks.COPIES.values()) | {f"api/{module}.md" for module in SECTIONS}


def test_every_recorded_module_has_an_api_page() -> None:
    recorded = json.loads((ROOT / "tests" / "public_api.json").read_text(encoding="utf-8"))
    assert set(recorded) <= set(SECTIONS)


# ------------------------------------------------------------------------------------------------------ check
PUBLIC: dict[str, dict[str, object]] = {"pack": {"name": "", "part": "module", "__version__": ""}}
WHOLE = {
    "index.html": '<a href="api/pack.html#pack.name">x</a><a href="#here">y</a><h1 id="here">z</h1>'
    '<a href="https://example.org/">elsewhere, if one follows it</a><link rel="stylesheet" href="a.css">',
    "api/pack.html": '<h2 id="pack.name">name</h2><a href="../index.html#here">up</a><a href="..">up</a>',
    "api/pack.part.html": "<h1>part</h1>",
    "a.css": "body { background: url(a.png) }",
}


def make_site(folder: Path, **changes: str | None) -> Path:
    """A small site, with some files changed; the name of each without its ending."""
    for name, text in WHOLE.items():
        told = changes.get(Path(name).stem.replace(".", "_"), text)
        if told is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(told, encoding="utf-8")
    return folder


def test_a_whole_site_passes(tmp_path: Path) -> None:
    assert checks.check(make_site(tmp_path), PUBLIC) == []


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"pack": '<h2 id="pack.other">name</h2>', "index": ""}, "no page describes pack.name"),
        ({"pack_part": None}, "no page describes pack.part"),
        ({"index": '<h1 id="here"></h1><a href="nowhere.html">x</a>'}, "leads nowhere: index.html: nowhere.html"),
        ({"index": '<h1 id="here"></h1><a href="api/pack.html#a">x</a>'}, "leads nowhere: index.html: api/pack.html#a"),
        ({"index": '<h1 id="here"></h1><a href="#no">x</a>'}, "leads nowhere: index.html: #no"),
        ({"index": '<h1 id="here"></h1><img src="none.png">'}, "leads nowhere: index.html: none.png"),
        (
            {"index": '<h1 id="here"></h1><script src="https://cdn.example/x.js"></script>'},
            "fetched from elsewhere: index.html: https://cdn.example/x.js",
        ),
        (
            {"index": '<h1 id="here"></h1><link rel="stylesheet" href="//fonts.example/x.css">'},
            "fetched from elsewhere: index.html: //fonts.example/x.css",
        ),
        (
            {"index": '<h1 id="here"></h1><div data-md-component="source"></div>'},
            "fetched from elsewhere: index.html: https://api.github.com",
        ),
        ({"a": '@import "https://fonts.example/y.css";'}, "fetched from elsewhere: a.css: https://fonts.example/y.css"),
    ],
)
def test_each_fault_is_found(tmp_path: Path, changes: dict[str, str | None], fault: str) -> None:
    assert checks.check(make_site(tmp_path, **changes), PUBLIC) == [fault]


def test_a_site_without_pages_is_no_site(tmp_path: Path) -> None:
    assert checks.check(tmp_path, PUBLIC)
