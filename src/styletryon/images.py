"""Old name of `styletryon.photo`."""

from __future__ import annotations

from styletryon._deprecated import deprecated_names
from styletryon.photo import __all__ as _names

__getattr__ = deprecated_names(
    __name__,
    {**{name: f"styletryon.photo.{name}" for name in _names}, "Source": "styletryon.photo.Photograph"},
    until="0.4",
)
