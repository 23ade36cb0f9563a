"""Public names that are imported when they are first used (PEP 562)."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def lazy_names(
    package: str, names: Mapping[str, Iterable[str]], modules: Iterable[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make the `__getattr__` and the `__dir__` of a package whose names are imported on first use.

    The package lists the names in its `__all__` too, and shows them to type checkers with imports under
    `if TYPE_CHECKING`.

    Args:
        package: Its `__name__`.
        names: Module of the package, such as "api" -> the names that it gives.
        modules: Modules and packages inside it that are served under their own name.

    Returns:
        What to assign to `__getattr__` and `__dir__`.
    """
    homes = {name: f"{package}.{module}" for module, given in names.items() for name in given}
    inside = frozenset(modules)

    def find(name: str) -> Any:
        if name in homes:
            value = getattr(importlib.import_module(homes[name]), name)
        elif name in inside:
            value = importlib.import_module(f"{package}.{name}")
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, value)  # the next look finds it without coming here
        return value

    def listed() -> list[str]:
        own = vars(sys.modules[package])
        return sorted({*own["__all__"], *inside, *(name for name in own if name.startswith("__"))})

    return find, listed
