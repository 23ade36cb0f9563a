"""The label classes of a segmentation and the regions that a try-on may change."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from types import MappingProxyType

from styletryon.errors import RegionError


class Label(IntEnum):
    """A class of the segmentation: what a pixel shows."""

    BACKGROUND = 0
    HAIR = 1
    FACE = 2
    SKIN = 3
    TOP = 4
    OUTERWEAR = 5
    BOTTOM = 6
    DRESS = 7
    LEGWEAR = 8
    SHOES = 9
    ACCESSORY = 10
    OTHER = 11


NUM_LABELS = len(Label)

REGIONS = MappingProxyType(
    {
        "top": frozenset({Label.TOP, Label.OUTERWEAR}),
        "bottom": frozenset({Label.BOTTOM}),
        "dress": frozenset({Label.DRESS}),
        "full": frozenset({Label.TOP, Label.OUTERWEAR, Label.BOTTOM, Label.DRESS, Label.LEGWEAR, Label.SHOES}),
    }
)
"""The named regions: name -> the label classes that belong to the garment."""

IDENTITY = frozenset({Label.HAIR, Label.FACE})
"""The classes that say who the person is."""

GARMENTS = REGIONS["full"]
"""Every class that is clothing."""

PALETTE: tuple[tuple[int, int, int], ...] = (
    (244, 244, 246),
    (74, 58, 48),
    (240, 200, 170),
    (222, 166, 132),
    (214, 79, 79),
    (132, 72, 122),
    (62, 104, 178),
    (228, 144, 60),
    (92, 128, 128),
    (40, 40, 48),
    (226, 196, 70),
    (150, 150, 150),
)
"""An sRGB colour per label class, for figures."""

Region = str | Iterable[int | str]
"""The name of a region, or any set of label classes (numbers or names)."""


def resolve_region(region: Region) -> frozenset[Label]:
    """Turn the name of a region, or a set of label classes, into label classes.

    Args:
        region: "top", "bottom", "dress", "full", or label classes as `Label`, number or name ("hair").

    Returns:
        The label classes, at least one, never the background.

    Raises:
        RegionError: If the name or a class is unknown, the set is empty, or it holds the background.
    """
    if isinstance(region, str):
        if region not in REGIONS:
            known = ", ".join(repr(name) for name in REGIONS)
            raise RegionError(f"expected one of {known} or a set of label classes, got {region!r}", argument="region")
        return REGIONS[region]
    try:
        classes = frozenset(_resolve_label(item) for item in region)
    except TypeError as error:
        raise RegionError(
            f"expected a name or a set of label classes, got {type(region).__name__}", argument="region"
        ) from error
    if not classes:
        raise RegionError("expected at least one label class, got an empty set; try region='top'", argument="region")
    if Label.BACKGROUND in classes:
        raise RegionError("the background cannot be tried on; leave class 0 out of the set", argument="region")
    return classes


def _resolve_label(item: int | str) -> Label:
    try:
        return Label[item.upper()] if isinstance(item, str) else Label(item)
    except (KeyError, ValueError) as error:
        known = ", ".join(f"{label.name.lower()}={label.value}" for label in Label)
        raise RegionError(f"expected label classes among {known}, got {item!r}", argument="region") from error
