"""The label classes of a segmentation, the regions that a try-on may change, and what replaces what."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
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

ALIASES = MappingProxyType(
    {
        "tops": "top",
        "upper": "top",
        "upper_body": "top",
        "bottoms": "bottom",
        "lower": "bottom",
        "lower_body": "bottom",
        "dresses": "dress",
        "one_pieces": "dress",
        "overall": "dress",
    }
)
"""What other try-on libraries and data sets call the regions: alias -> region."""

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
"""A region: its name, an alias of it, or label classes; see `resolve_region`."""

_ONE_PIECE = frozenset({Label.TOP, Label.OUTERWEAR, Label.BOTTOM, Label.DRESS})

_WORN = (Label.LEGWEAR, Label.BOTTOM, Label.DRESS, Label.TOP, Label.OUTERWEAR)
"""What is worn over what, the innermost first. All else comes after."""


def resolve_region(region: Region) -> frozenset[Label]:
    """Turn a region into label classes. Upper and lower case, hyphens, underscores and spaces make no difference.

    Args:
        region: "top", "bottom", "dress" or "full"; an alias, such as "upper_body" or "one-pieces", see `ALIASES`; or
            label classes, in a string that separates them by commas or plus signs ("top,legwear") or as a collection,
            each a `Label`, its number or its name. Behind a comma, and in a collection, "top" is the one class.

    Returns:
        The label classes, at least one, never the background.

    Raises:
        RegionError: If the name or a class is unknown, there is none, or the background is among them.
    """
    if isinstance(region, str):
        name = _region_name(region)
        if name is not None:
            return REGIONS[name]
        if not region.strip():
            raise _unknown(region)
        items: Iterable[int | str] = re.split("[,+]", region)
    else:
        items = region
    try:
        classes = frozenset(_label(item, region) for item in items)
    except TypeError as error:
        raise RegionError(
            f"expected a name or a set of label classes, got {type(region).__name__}", argument="region"
        ) from error
    if not classes:
        raise RegionError("expected at least one label class, got an empty set; try region='top'", argument="region")
    if Label.BACKGROUND in classes:
        raise RegionError("the background cannot be tried on; leave class 0 out of the set", argument="region")
    return classes


def region_name(region: str) -> str:
    """Turn the name of a region, or an alias, into the name in `REGIONS`.

    Args:
        region: A name or an alias in any spelling that `resolve_region` takes.

    Returns:
        "top", "bottom", "dress" or "full".

    Raises:
        RegionError: If it is neither.
    """
    name = _region_name(region)
    if name is None:
        raise RegionError(f"expected {_names()}, got {region!r}", argument="region")
    return name


def replaced_classes(region: Collection[Label]) -> frozenset[Label]:
    """Say which garments a person takes off for a region: the region's, and all of top and bottom under a dress.

    Args:
        region: The label classes of the new garment.
    """
    return frozenset(region) | (_ONE_PIECE if Label.DRESS in region else frozenset())


def order_worn(regions: Iterable[Region]) -> tuple[Region, ...]:
    """Bring the regions of an outfit into the order in which its garments are put on: the innermost first.

    Legwear comes before a bottom, that before a dress or a top, whose hem hangs over it, and outerwear over them.
    Outerwear by itself goes with a garment that covers it too, such as "top" or "dress", for it is worn over that.

    Args:
        regions: A region per garment, in any order.

    Returns:
        The same regions.

    Raises:
        RegionError: If a region is unknown, there is none, or two garments would take each other's place: a dress and a
            bottom, or two tops.

    Example:
        >>> from styletryon.labels import order_worn
        >>> order_worn(["outerwear", "top", "bottom"])
        ('bottom', 'top', 'outerwear')
    """
    known = [(region, resolve_region(region)) for region in regions]
    if not known:
        raise RegionError("expected at least one garment, got none", argument="garment")
    for place, (region, classes) in enumerate(known):
        for other, others in known[:place]:
            both = (classes & replaced_classes(others)) | (others & replaced_classes(classes))
            if both and not (both == {Label.OUTERWEAR} and _over_all(classes) != _over_all(others)):
                shared = " and ".join(sorted(label.name.lower() for label in both))
                raise RegionError(
                    f"expected garments that can be worn together, got {_shown(other)} and {_shown(region)}, which "
                    f"both take the place of {shared}; leave one of them out",
                    argument="garment",
                )
    return tuple(region for region, classes in sorted(known, key=lambda one: min(map(_depth, one[1]))))


def title(region: Region) -> str:
    """Return one text for all that name the same region: "top" for "upper-body", "outerwear" or "legwear+top".

    Args:
        region: As for `resolve_region`.

    Raises:
        RegionError: If it is unknown.
    """
    classes = resolve_region(region)
    names = [name for name, known in REGIONS.items() if known == classes]
    return names[0] if names else "+".join(sorted(label.name.lower() for label in classes))


def _depth(label: Label) -> int:
    return _WORN.index(label) if label in _WORN else len(_WORN) + label


def _over_all(classes: Collection[Label]) -> bool:
    """Say whether a garment with outerwear goes over all else that an outfit has."""
    return Label.OUTERWEAR in classes and not set(classes) & (_ONE_PIECE - {Label.OUTERWEAR})


def _shown(region: Region) -> str:
    return repr(region if isinstance(region, str) else title(region))


def _plain(text: str) -> str:
    return re.sub(r"[\s_-]", "", text).casefold()


_NAMES = {_plain(name): name for name in REGIONS} | {_plain(alias): name for alias, name in ALIASES.items()}
_LABELS = {_plain(label.name): label for label in Label} | {str(label.value): label for label in Label}


def _region_name(text: str) -> str | None:
    return _NAMES.get(_plain(text))


def _label(item: int | str, region: Region) -> Label:
    label = _LABELS.get(_plain(item)) if isinstance(item, str) else None
    if label is not None:
        return label
    try:
        return Label(item)  # type: ignore[arg-type]
    except ValueError as error:
        raise _unknown(region if isinstance(region, str) else item) from error


def _names() -> str:
    return f"one of {', '.join(map(repr, REGIONS))}, one of their aliases {', '.join(ALIASES)}"


def _unknown(got: object) -> RegionError:
    known = ", ".join(f"{label.name.lower()}={label.value}" for label in Label)
    return RegionError(f"expected {_names()}, or label classes among {known}, got {got!r}", argument="region")
