"""The public names and their signatures are what `public_api.json` says.

A name or signature that changes there is a change of the contract: it belongs into the change log, and what leaves goes
through a deprecation. `python -m tests.test_public_api` writes the file anew.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import styletryon
from tests._support.process import SOURCE, run_python

SNAPSHOT = Path(__file__).with_name("public_api.json")
MODULES = ("styletryon", "styletryon.errors", "styletryon.features", "styletryon.interop", "styletryon.losses",
           "styletryon.ops", "styletryon.pose", "styletryon.batch", "styletryon.batch.ray",
           "styletryon.serve")  # fmt: skip

CONTRACT = {
    "try_on", "project", "generate", "estimate_pose", "load_model", "PoseEncoder", "PoseStyleGAN2", "LatentProjector",
    "TryOnOptimizer", "TryOnResult", "Latent", "Pose", "TryOnLoss", "TryOnTargets", "TryOnState",
    "EditingLocalizationLoss", "GarmentLoss", "IdentityLoss", "VGG16Features", "losses", "features", "ops", "errors",
}  # fmt: skip
"""The names that other people's code calls, whatever else is public."""


def describe(value: Any) -> Any:
    """Say what a public name is, so that a change of its interface changes what is said."""
    if isinstance(value, ModuleType):
        return "module"
    if inspect.isclass(value):
        if issubclass(value, Exception):
            return "exception " + ", ".join(base.__name__ for base in value.__bases__)
        members = {}
        inherited = [vars(base) for base in reversed(value.__mro__) if base.__module__.startswith("styletryon.")]
        for name, member in sorted({name: item for own in inherited for name, item in own.items()}.items()):
            if name.startswith("_"):
                continue
            if isinstance(member, classmethod | staticmethod):
                members[name] = f"{type(member).__name__} {inspect.signature(member.__func__)}"
            elif inspect.isfunction(member):
                members[name] = str(inspect.signature(member))
            else:
                members[name] = "attribute"
        if dataclasses.is_dataclass(value):
            members |= {field.name: f"field: {field.type}" for field in dataclasses.fields(value) if field.repr}
        made = not (inspect.isabstract(value) or getattr(value, "_is_protocol", False))
        signature = str(inspect.signature(value)) if made else "abstract"
        return {"class": signature, "members": dict(sorted(members.items()))}
    if callable(value):
        return str(inspect.signature(value))
    return "constant"


def public_names(module: ModuleType) -> list[str]:
    """The names that a module offers."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]


def surface() -> dict[str, Any]:
    """Everything public: module -> name -> what it is."""
    modules = {name: importlib.import_module(name) for name in MODULES}
    return {
        name: {public: describe(getattr(module, public)) for public in sorted(public_names(module))}
        for name, module in modules.items()
    }


LAZY = ("styletryon", "styletryon.app", "styletryon.photo", "styletryon.tryon")
"""Packages whose names are imported on first use."""


@pytest.mark.parametrize("name", LAZY)
def test_lazy_names_are_listed_found_and_shown_to_type_checkers(name: str) -> None:
    package = importlib.import_module(name)
    assert package.__file__ is not None
    tree = ast.parse(Path(package.__file__).read_text(encoding="utf-8"))
    (checking,) = [node for node in tree.body if isinstance(node, ast.If)]
    shown = {alias.name: node.module for node in checking.body for alias in node.names}  # type: ignore[attr-defined]
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)} | {"__version__"}
    assert set(package.__all__) <= set(shown) | defined
    assert set(package.__all__) <= set(dir(package))
    for public in set(shown) & set(package.__all__):
        home = importlib.import_module(shown[public])
        assert getattr(package, public) is getattr(home, public)
    with pytest.raises(AttributeError, match="has no attribute 'tryon_on'"):
        _ = package.tryon_on


def test_packages_and_modules_are_there_without_being_imported() -> None:
    script = (
        "import styletryon; print(styletryon.labels.Label.TOP.value, styletryon.metrics.evaluate.__name__,"
        " set(dir(styletryon)) >= {'data', 'losses', 'training', 'try_on'})"
    )
    assert run_python("-c", script).stdout == "4 evaluate True\n"


def test_type_checkers_know_every_name_and_no_other(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    names = "\n".join(f"reveal_type(styletryon.{name})" for name in styletryon.__all__ if name not in LAZY)
    (tmp_path / "user.py").write_text(f"import styletryon\n{names}\nstyletryon.tryon_on\n")
    configuration = tmp_path / "mypy.ini"
    configuration.write_text("[mypy]\nignore_missing_imports = True\nfollow_imports = silent\n")
    result = run_python(
        *("-m", "mypy", "--config-file", configuration, "--cache-dir", tmp_path / "cache", tmp_path / "user.py"),
        environment={"MYPYPATH": str(SOURCE)},
    )
    revealed = [line for line in result.stdout.splitlines() if "Revealed type" in line]
    assert len(revealed) == len(styletryon.__all__), result.stdout + result.stderr
    assert not [line for line in revealed if '"Any"' in line]
    assert 'Module has no attribute "tryon_on"' in result.stdout


def test_the_contract_is_there() -> None:
    assert set(styletryon.__all__) >= CONTRACT
    assert {"use_backend", "backend_status", "bias_act", "upfirdn2d", "modulated_conv2d"} <= set(styletryon.ops.__all__)
    assert {"defaults", "check_loss"} <= set(styletryon.losses.__all__)


def test_star_import_gives_all() -> None:
    names: dict[str, Any] = {}
    exec("from styletryon import *", names)
    assert set(styletryon.__all__) <= set(names)


@pytest.mark.parametrize("module", MODULES)
def test_surface_is_the_recorded_one(module: str) -> None:
    recorded = json.loads(SNAPSHOT.read_text(encoding="utf-8"))[module]
    present = surface()[module]
    gone = sorted(set(recorded) - set(present))
    assert not gone, f"{gone} left {module}: a public name leaves by a deprecation that states the version"
    new = sorted(set(present) - set(recorded))
    assert not new, f"{new} are new in {module}: run python -m tests.test_public_api and add them to docs/reference.md"
    changed = {name: (recorded[name], present[name]) for name in present if recorded[name] != present[name]}
    assert not changed, f"changed; if that is meant, run python -m tests.test_public_api: {changed}"


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(surface(), indent=1) + "\n", encoding="utf-8")
