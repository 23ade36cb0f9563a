"""Which module may import which, and what no module of the library may do: read from the syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests._support.process import SOURCE

PACKAGE = SOURCE / "styletryon"

FOUNDATION = {"errors", "labels", "_files", "_version", "_weights"}
VALUES = FOUNDATION | {"photo", "latent", "pose", "ops", "generator", "_graphs"}
ARROWS: dict[str, set[str]] = {
    "_version": set(),
    "_deprecated": set(),
    "images": {"photo", "_deprecated"},
    "drawing": {"_deprecated"},
    "errors": set(),
    "_files": {"errors"},
    "_weights": {"errors"},
    "_graphs": set(),
    "labels": {"errors"},
    "photo": VALUES,
    "latent": VALUES,
    "pose": VALUES,
    "ops": VALUES,
    "generator": VALUES,
    "models": VALUES,
    "features": FOUNDATION | {"photo"},
    "losses": FOUNDATION | {"features", "latent", "generator", "pose"},
    "projection": VALUES | {"features", "losses"},
    "tryon": VALUES | {"features", "losses", "projection"},
    "training": VALUES | {"features", "losses", "projection", "tryon", "models", "data", "metrics", "interop"},
    "data": VALUES | {"features", "losses", "projection", "tryon", "models", "training", "metrics", "interop"},
    "metrics": VALUES | {"features", "losses", "projection", "tryon", "models", "training", "data", "interop"},
    "interop": VALUES | {"features", "losses", "projection", "tryon", "models", "training", "data", "metrics"},
    "weights": set(),
    "api": VALUES
    | {"features", "losses", "projection", "tryon", "models", "training", "data", "metrics", "interop", "weights"},
}
ARROWS["_cutting"] = {"photo", "labels"}
ARROWS["compositing"] = VALUES | {"losses", "features"}
ARROWS["tryon"] |= {"compositing"}
ARROWS["data"] |= {"_cutting"}
ARROWS["_photographs"] = VALUES | {"_cutting", "models", "features", "losses", "projection", "tryon"}
ARROWS["api"] |= {"_photographs", "_cutting", "compositing"}
ARROWS["interop"] |= {"_deprecated"}
ARROWS["batch"] = ARROWS["app"] = ARROWS["api"] | {"api"}
"""Part -> the parts that it may import. `cli`, `__init__` and `__main__` stand above all."""

TOP = {"__init__", "__main__", "cli"}

MODULES = sorted(PACKAGE.rglob("*.py"))
IDS = [str(path.relative_to(PACKAGE)) for path in MODULES]


def part_of(path: Path) -> str:
    """The part that a file belongs to: its folder under the package, or its own name."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_parts(path: Path) -> Iterator[tuple[int, str]]:
    """Line and part of each import of ours; an import of the bare package counts as `__init__`."""
    folder = path.relative_to(SOURCE).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(folder[: len(folder) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [base, node.module or ""]))
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "styletryon" else [module]
        for name in names:
            parts = name.split(".")
            if parts[0] == "styletryon":
                yield node.lineno, parts[1] if len(parts) > 1 else "__init__"


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_imports_follow_the_arrows(path: Path) -> None:
    part = part_of(path)
    if part in TOP:
        return
    assert part in ARROWS, f"{part} is a new part: say in this file which parts it may import"
    allowed = ARROWS[part] | {part}
    wrong = [f"line {line}: {target}" for line, target in imported_parts(path) if target not in allowed]
    assert not wrong, f"{part} may import {sorted(allowed)}, but imports " + ", ".join(wrong)


def test_the_command_line_is_imported_by_nothing() -> None:
    for path in MODULES:
        if part_of(path) in TOP:
            continue
        assert not [target for _, target in imported_parts(path) if target in {"cli", "__init__"}], path


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
    for error in classes:
        assert issubclass(error, errors.StyleTryOnError)
        builtins = [base for base in error.__mro__ if base.__module__ == "builtins"]
        if error is not errors.StyleTryOnError:
            assert builtins[0] is not Exception, f"{error.__name__} is no builtin exception that one would catch"
