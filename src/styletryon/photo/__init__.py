"""Pictures and photographs: reading, pixels, framing, resampling, matting, pasting and saving.

A picture at the public boundary is a path, a file's bytes, an open file, a PIL image, an `(H, W, 3)` array or a
`(3, H, W)` tensor; its channels are red, green and blue.
Inside the networks it is a `(B, 3, H, W)` float tensor in [-1, 1]. A position is in pixels, x to the right and y down;
the centre of the top left pixel is (0.5, 0.5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from styletryon._lazy import lazy_names

if TYPE_CHECKING:
    from styletryon.photo.framing import MIN_SCORE, Frame, frame_person
    from styletryon.photo.matting import cut_out, follow, matte
    from styletryon.photo.pasting import paste_back
    from styletryon.photo.photograph import Photograph
    from styletryon.photo.pixels import (
        Colour,
        from_uint8,
        from_unit,
        labels_to_image,
        to_bytes,
        to_pil,
        to_tensor,
        to_uint8,
        to_unit,
        to_unit_array,
    )
    from styletryon.photo.reading import MAX_ASPECT, MAX_PIXELS, MIN_SIDE, ImageLike, decode_image, read_image
    from styletryon.photo.resampling import (
        Filter,
        border_colour,
        crop,
        crop_labels,
        finer_frame,
        resize,
        resize_plane,
    )
    from styletryon.photo.saving import FORMATS, check_ending, save_image
    from styletryon.photo.sheets import contact_sheet
    from styletryon.pose._photo import Box
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "framing": ("MIN_SCORE", "Box", "Frame", "frame_person"),
            "matting": ("cut_out", "follow", "matte"),
            "pasting": ("paste_back",),
            "photograph": ("Photograph",),
            "pixels": (
                "Colour",
                "from_uint8",
                "from_unit",
                "labels_to_image",
                "to_bytes",
                "to_pil",
                "to_tensor",
                "to_uint8",
                "to_unit",
                "to_unit_array",
            ),
            "reading": ("MAX_ASPECT", "MAX_PIXELS", "MIN_SIDE", "ImageLike", "decode_image", "read_image"),
            "resampling": (
                "Filter",
                "border_colour",
                "crop",
                "crop_labels",
                "finer_frame",
                "resize",
                "resize_plane",
            ),
            "saving": ("FORMATS", "check_ending", "save_image"),
            "sheets": ("contact_sheet",),
        },
    )

__all__ = [
    "FORMATS",
    "MAX_ASPECT",
    "MAX_PIXELS",
    "MIN_SCORE",
    "MIN_SIDE",
    "Box",
    "Colour",
    "Filter",
    "Frame",
    "ImageLike",
    "Photograph",
    "border_colour",
    "check_ending",
    "contact_sheet",
    "crop",
    "crop_labels",
    "cut_out",
    "decode_image",
    "finer_frame",
    "follow",
    "frame_person",
    "from_uint8",
    "from_unit",
    "labels_to_image",
    "matte",
    "paste_back",
    "read_image",
    "resize",
    "resize_plane",
    "save_image",
    "to_bytes",
    "to_pil",
    "to_tensor",
    "to_uint8",
    "to_unit",
    "to_unit_array",
]
