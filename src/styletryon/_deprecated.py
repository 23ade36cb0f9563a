"""Old names, which work with a warning until the version that they leave in."""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

_Class = TypeVar("_Class", bound=type)


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


def warn_renamed(old: str, new: str, *, until: str) -> None:
    """Warn the caller of a function that was called by an old name.

    Args:
        old: The old name.
        new: The new one.
        until: The version in which the old name leaves.
    """
    warnings.warn(f"{old} is now {new}; the old name leaves in styletryon {until}", DeprecationWarning, stacklevel=3)


def deprecated_argument(old: str, new: str, *, until: str) -> Callable[[_Class], _Class]:
    """Let the constructor of a class, and `dataclasses.replace`, take an argument by its old name too.

    Args:
        old: The old name.
        new: The new one.
        until: The version in which the old name leaves.
    """

    def wrap(cls: _Class) -> _Class:
        plain = cls.__init__  # type: ignore[misc]

        @functools.wraps(plain)
        def init(self: Any, *arguments: Any, **named: Any) -> None:
            if old in named:
                warn_renamed(f"{cls.__name__}({old}=)", new, until=until)
                named[new] = named.pop(old)
            plain(self, *arguments, **named)

        cls.__init__ = init  # type: ignore[misc]
        return cls

    return wrap
