"""The public names and their signatures are what `public_api.json` says.

A name or signature that changes there is a change of the contract: it belongs into the change log, and what leaves goes
through a deprecation. `python -m tests.test_public_api` writes the file anew.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import styletryon

SNAPSHOT = Path(__file__).with_name("public_api.json")
MODULES = ("styletryon", "styletryon.errors", "styletryon.features", "styletryon.interop", "styletryon.losses",
           "styletryon.ops", "styletryon.pose", "styletryon.batch")  # fmt: skip

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


def test_all_is_sorted_and_exact() -> None:
    names = styletryon.__all__
    assert list(names) == sorted(names)
    public = {name for name in vars(styletryon) if not name.startswith("_")} | {"__version__"}
    submodules = {name for name in public if isinstance(getattr(styletryon, name), ModuleType)}
    assert set(names) - submodules == public - submodules - {"annotations"}


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
