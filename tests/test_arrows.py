"""The order of imports, and what no module of the library may do: read from the syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests._support.process import SOURCE

PACKAGE = SOURCE / "styletryon"

ORDER = (
    ("__main__",),
    ("cli",),
    ("__init__",),
    ("images", "drawing"),
    ("app", "batch"),
    ("serve",),
    ("api",),
    ("metrics", "training"),
    ("data",),
    ("pipeline",),
    ("unworn",),
    ("_loading",),
    ("interop",),
    ("models",),
    ("ops",),
    ("compositing",),
    ("tryon",),
    ("projection",),
    ("losses",),
    ("features", "generator"),
    ("latent",),
    ("photo",),
    ("pose",),
    ("labels", "_addresses", "_arguments", "_files", "_weights"),
    ("errors", "_deprecated", "_forks", "_graphs", "_lazy", "_progress", "_reprs", "_version"),
)
"""The parts of the package, the highest first: a part may import those in the rows below it, and no other."""

HEIGHT = {part: len(ORDER) - row for row, parts in enumerate(ORDER) for part in parts}

MODULES = sorted(PACKAGE.rglob("*.py"))
IDS = [str(path.relative_to(PACKAGE)) for path in MODULES]
NAMES = {path: ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__") for path in MODULES}


def part_of(path: Path) -> str:
    """The part that a file belongs to: its folder under the package, or its own name."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path, tree: ast.Module | None = None) -> Iterator[tuple[int, str]]:
    """Line and module of each import of ours, wherever in the file it stands; `from package import module` too."""
    folder = path.relative_to(SOURCE).parts[:-1]
    known = set(NAMES.values())
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")) if tree is None else tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(folder[: len(folder) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [base, node.module or ""]))
            full = [f"{module}.{alias.name}" for alias in node.names]
            names = [name if name in known else module for name in full]
        for name in names:
            if name.split(".")[0] == "styletryon":
                yield getattr(node, "lineno", 0), name


def imported_parts(path: Path) -> Iterator[tuple[int, str]]:
    """Line and part of each import of ours; an import of the bare package counts as `__init__`."""
    for line, name in imports(path):
        parts = name.split(".")
        yield line, parts[1] if len(parts) > 1 else "__init__"


def test_the_walk_sees_every_kind_of_import() -> None:
    text = """
from styletryon import metrics, try_on
from . import shared
from ..photo.framing import Frame
if TYPE_CHECKING:
    import styletryon.models.storage
def late():
    from styletryon.api import project
"""
    found = [name for _, name in imports(PACKAGE / "tryon" / "new.py", ast.parse(text))]
    assert sorted(found) == [
        "styletryon", "styletryon.api", "styletryon.metrics", "styletryon.models.storage", "styletryon.photo.framing",
        "styletryon.tryon",
    ]  # fmt: skip
    kept = [name for _, name in imports(PACKAGE / "new.py", without_annotations_only(ast.parse(text)))]
    assert "styletryon.api" in kept
    assert "styletryon.models.storage" not in kept


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_imports_lead_downwards(path: Path) -> None:
    part = part_of(path)
    assert part in HEIGHT, f"{part} is a new part: give it a place in ORDER, and in the table of CONTRIBUTING.md"
    wrong = [
        f"line {line}: {target}"
        for line, target in imported_parts(path)
        if target != part and HEIGHT[target] >= HEIGHT[part]
    ]
    assert not wrong, f"{part} may import what stands below it, but imports " + ", ".join(wrong)


def test_the_table_for_contributors_shows_this_order() -> None:
    text = (SOURCE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.split("## Where things live")[1].split("```text\n")[1].split("```")[0]
    rows = [line.split("  ")[0] for line in table.splitlines()]
    assert tuple(tuple(row.split(", ")) for row in rows) == ORDER


def test_every_part_has_one_place() -> None:
    named = [part for parts in ORDER for part in parts]
    assert sorted(named) == sorted({part_of(path) for path in MODULES})


def without_annotations_only(tree: ast.Module) -> ast.Module:
    """The tree without the imports that type checkers alone follow."""
    for block in [node for node in ast.walk(tree) if isinstance(node, ast.If)]:
        if isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING":
            block.body = [ast.Pass()]
    return tree


def test_modules_form_no_cycle() -> None:
    """Within a part too; there, an import for type checkers alone may lead back."""
    graph = {
        NAMES[path]: {
            name
            for _, name in imports(path, without_annotations_only(ast.parse(path.read_text(encoding="utf-8"))))
            if name != NAMES[path]
        }
        for path in MODULES
    }
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail("these import each other: " + " <- ".join(error.args[1]))


def called_name(node: ast.Call) -> str:
    """The dotted name that a call calls, as far as it is one: `torch.manual_seed`, `x.cuda`."""
    names: list[str] = []
    function: ast.expr = node.func
    while isinstance(function, ast.Attribute):
        names.append(function.attr)
        function = function.value
    names.append(function.id if isinstance(function, ast.Name) else "")
    return ".".join(reversed(names))


GLOBAL_SEEDS = {"torch.manual_seed", "torch.seed", "torch.cuda.manual_seed", "torch.cuda.manual_seed_all",
                "np.random.seed", "numpy.random.seed", "random.seed", "torch.random.manual_seed"}  # fmt: skip
PICKLERS = {"pickle", "dill", "cloudpickle", "joblib", "shelve"}


def faults(path: Path) -> Iterator[str]:
    """What a file of the library does that none may do."""
    part = part_of(path)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    restored = {  # lines whose change of the warning filters is undone at once
        line
        for block in ast.walk(tree)
        if isinstance(block, ast.With)
        and any(isinstance(i.context_expr, ast.Call) and called_name(i.context_expr) == "warnings.catch_warnings"
                for i in block.items)
        for line in range(block.lineno, (block.end_lineno or 0) + 1)
    }  # fmt: skip
    commands = {  # lines of a `main`, whose process is its own
        line
        for block in ast.walk(tree)
        if isinstance(block, ast.FunctionDef) and block.name == "main"
        for line in range(block.lineno, (block.end_lineno or 0) + 1)
    }
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Assert):
            yield f"line {line}: assert vanishes under python -O; raise an error of styletryon.errors"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            for module in modules:
                if module.split(".")[0] in PICKLERS:
                    yield f"line {line}: {module} runs code from files; use safetensors and JSON"
        elif isinstance(node, ast.Call):
            name = called_name(node)
            last = name.rsplit(".", 1)[-1]
            if name == "print" and part not in {"cli"}:
                yield f"line {line}: print; the library is silent, logging or a callback speaks"
            if name in GLOBAL_SEEDS:
                yield f"line {line}: {name} changes the caller's randomness; pass a generator"
            if last == "cuda" and "." in name and name != "torch.version.cuda":
                yield f"line {line}: .cuda() decides the device; use .to(device)"
            if (name in {"logging.basicConfig", "os.putenv"} and line not in commands) or (
                name in {"warnings.simplefilter", "warnings.filterwarnings"} and line not in restored
            ):
                yield f"line {line}: {name} changes the caller's process"
            if name == "torch.load":
                safe = {keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords}
                if safe.get("weights_only") is not True:
                    yield f"line {line}: torch.load without weights_only=True runs code from files"
            if name in {"eval", "exec"}:
                yield f"line {line}: {name}"


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_nothing_forbidden_is_done(path: Path) -> None:
    assert not list(faults(path))


def test_the_walk_sees_what_it_forbids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("import pickle\nassert x\nprint(1)\ntorch.manual_seed(0)\nmodel.cuda()\ntorch.load(f)\n")
    monkeypatch.setattr("tests.test_arrows.part_of", lambda path: "models")
    found = list(faults(bad))
    assert [line.split(":")[0] for line in found] == [f"line {number}" for number in range(1, 7)]


def test_exported_errors_derive_from_the_root() -> None:
    from styletryon import errors

    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert len(classes) > 10
    for error in (one for one in classes if not issubclass(one, Warning)):
        assert issubclass(error, errors.StyleTryOnError)
        builtins = [base for base in error.__mro__ if base.__module__ == "builtins"]
        if error is not errors.StyleTryOnError:
            assert builtins[0] is not Exception, f"{error.__name__} is no builtin exception that one would catch"
