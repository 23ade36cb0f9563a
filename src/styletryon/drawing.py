"""Old name of `styletryon.generator`."""

from __future__ import annotations

from styletryon._deprecated import deprecated_names

_NAMES = {
    "Drawer": "Generator",
    "Drawing": "GeneratorOutput",
    "PosedDrawer": "PosedGenerator",
    "TunableDrawer": "TunableGenerator",
    "adapt": "adapt",
    "check_aspect": "check_aspect",
    "draw_in": "draw_in",
}

__getattr__ = deprecated_names(
    __name__, {old: f"styletryon.generator.{new}" for old, new in _NAMES.items()}, until="0.4"
)
