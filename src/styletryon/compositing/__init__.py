"""A try-on shown in its photograph.

`showing` makes a `TryOnResult`, and `composer` its picture; `layout` says what lies where, `correspondence` which pixel
of the garment's photograph belongs to which of the drawing, `sources` what each of them shows, and `blending` how much
of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from styletryon._lazy import lazy_names

if TYPE_CHECKING:
    from styletryon.compositing.composer import Composer
    from styletryon.compositing.showing import make_composer, show
else:
    __getattr__, __dir__ = lazy_names(__name__, {"composer": ("Composer",), "showing": ("make_composer", "show")})

__all__ = ["Composer", "make_composer", "show"]
