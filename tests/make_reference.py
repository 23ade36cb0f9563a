"""Write `docs/reference.md`, the list of public names, from the docstrings: `python -m tests.make_reference`."""

from __future__ import annotations

import importlib
import inspect
import re
from types import ModuleType

from tests._support.process import ROOT

PAGE = ROOT / "docs" / "reference.md"

SECTIONS = {
    "styletryon": "The calls, the classes that they build, and the parts of the library.",
    "styletryon.pipeline": "The road from photographs to a try-on, and the parts of it.",
    "styletryon.batch": "A table of many try-ons.",
    "styletryon.batch.ray": "The same on the machines of a Ray cluster.",
    "styletryon.losses": "What a try-on minimises, and what a loss of one's own keeps to.",
    "styletryon.features": "The networks in whose eyes pictures are compared.",
    "styletryon.ops": "The operations of the networks.",
    "styletryon.pose": "Keypoints, heatmaps and estimators.",
    "styletryon.photo": "Reading, framing, cropping, pasting back and saving.",
    "styletryon.tryon": "The optimisation over coefficients.",
    "styletryon.projection": "From a picture to a latent.",
    "styletryon.compositing": "A try-on shown in its photograph.",
    "styletryon.generator": "The protocol of a generator, and what a generator may have beside it.",
    "styletryon.models": "The networks and their numbers.",
    "styletryon.interop": "Other projects' generators, and the Hugging Face hub.",
    "styletryon.training": "Training of generators and encoders.",
    "styletryon.data": "Data sets.",
    "styletryon.data.paperdoll": "Drawn people of whom everything is known.",
    "styletryon.metrics": "The benchmark.",
    "styletryon.serve": "Try-on as a service over HTTP.",
    "styletryon.app": "The fitting room in the browser.",
    "styletryon.errors": "The exceptions; the root is `StyleTryOnError`.",
}


def names(module: ModuleType) -> list[str]:
    """The public names of a module: its `__all__`, or the functions and classes that it defines."""
    if hasattr(module, "__all__"):
        return [name for name in module.__all__ if not name.startswith("__")]
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    ]


def summary(value: object) -> str:
    """The first sentence of what an object says of itself."""
    documented = isinstance(value, ModuleType) or inspect.isclass(value) or inspect.isfunction(value)
    text = (inspect.getdoc(value) or "").split("\n\n")[0] if documented else "constant"
    return re.sub(r"\s+", " ", re.sub(r":\w+:`([^`]+)`", r"`\1`", text)).replace("|", "\\|").replace("``", "`")


def write() -> str:
    """The page."""
    lines = [
        "# Reference",
        "",
        "The public names. `help(name)` shows arguments, shapes, ranges and errors. What is recorded in",
        "`tests/public_api.json` changes only as [CONTRIBUTING](../CONTRIBUTING.md#compatibility) says.",
        "Written by `python -m tests.make_reference`.",
    ]
    for name, text in SECTIONS.items():
        module = importlib.import_module(name)
        lines += ["", f"## {name}", "", text, "", "| name | what |", "|---|---|"]
        prefix = name.removeprefix("styletryon").lstrip(".")
        for public in names(module):
            path = f"{prefix}.{public}" if prefix else public
            lines.append(f"| `{path}` | {summary(getattr(module, public))} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(write(), encoding="utf-8")
