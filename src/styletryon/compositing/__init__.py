"""A try-on shown in its photograph.

`showing` makes a `TryOnResult`. Between two photographs `blending` makes its picture: `view` is the part of a
photograph that shows somebody, `skeleton` the body in it, `correspondence` which pixel of the garment's photograph
belongs to which of the person's, `layout` what each pixel shows, and `sources` where that is taken from. Where no
photograph shows the garment, `drawn` puts the drawing into the person's photograph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from styletryon._lazy import lazy_names

if TYPE_CHECKING:
    from styletryon.compositing.drawn.composer import Composer
    from styletryon.compositing.showing import make_composer, show
else:
    __getattr__, __dir__ = lazy_names(__name__, {"drawn.composer": ("Composer",), "showing": ("make_composer", "show")})

__all__ = ["Composer", "make_composer", "show"]
