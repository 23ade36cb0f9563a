"""Texts of one line for values that hold arrays, whose own texts fill the screen."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

LONGEST = 60
"""Signs of a value's text; of a longer one the beginning is shown."""


def one_line(value: Any) -> str:
    """Describe a dataclass in one line: arrays by dtype and shape, and only fields that are not None.

    A class assigns it to its `__repr__`.
    """
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.repr}
    shown = ", ".join(f"{name}={_brief(item)}" for name, item in fields.items() if item is not None)
    return f"{type(value).__name__}({shown})"


def _brief(value: Any) -> str:
    """Describe a value in a few words."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{str(value.dtype).removeprefix('torch.')}{tuple(value.shape)}"
    if hasattr(value, "mode") and hasattr(value, "size"):  # a picture of Pillow
        return f"{value.mode} {value.width}x{value.height}"
    if isinstance(value, Mapping):
        return "{" + _shortened(", ".join(map(str, value))) + "}"
    if isinstance(value, (list, tuple)) and (len(value) > 4 or any(hasattr(item, "dtype") for item in value)):
        return f"[{len(value)} x {_brief(value[0])}]"
    return repr(value) if dataclasses.is_dataclass(value) else _shortened(repr(value))


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 3] + "..."
