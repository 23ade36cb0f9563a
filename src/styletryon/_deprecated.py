"""Old names, which work with a warning until the version that they leave in."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any


def deprecated_names(module: str, names: Mapping[str, str], *, until: str) -> Callable[[str], Any]:
    """Make a module's `__getattr__` that serves old names.

    Args:
        module: The module that had the names.
        names: Old name -> the full path of the new one.
        until: The version in which the old names leave.
    """

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        home, _, new = names[name].rpartition(".")
        warnings.warn(
            f"{module}.{name} is now {names[name]}; the old name leaves in styletryon {until}",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(importlib.import_module(home), new)

    return find
