"""Label classes and regions."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from styletryon.errors import RegionError
from styletryon.labels import GARMENTS, IDENTITY, NUM_LABELS, PALETTE, REGIONS, Label, resolve_region


def test_classes_are_numbered_as_stored() -> None:
    names = "background hair face skin top outerwear bottom dress legwear shoes accessory other"
    assert [label.name.lower() for label in Label] == names.split()
    assert [int(label) for label in Label] == list(range(NUM_LABELS))
    assert NUM_LABELS == 12


def test_palette_tells_the_classes_apart() -> None:
    assert len(set(PALETTE)) == len(PALETTE) == NUM_LABELS
    assert all(0 <= value <= 255 for colour in PALETTE for value in colour)


def test_regions() -> None:
    assert set(REGIONS) == {"top", "bottom", "dress", "full"}
    assert REGIONS["top"] == {Label.TOP, Label.OUTERWEAR}
    assert REGIONS["full"] == GARMENTS
    for classes in REGIONS.values():
        assert classes <= GARMENTS
        assert Label.BACKGROUND not in classes
        assert not classes & IDENTITY
    with pytest.raises(TypeError):
        REGIONS["new"] = frozenset()


@pytest.mark.parametrize("name", ["top", "bottom", "dress", "full"])
def test_a_name_is_its_region(name: str) -> None:
    assert resolve_region(name) == REGIONS[name]


@pytest.mark.parametrize(
    "region",
    [
        {4, 5},
        [Label.TOP, "outerwear"],
        ("Top", "OUTERWEAR"),
        (number for number in (4, 5, 4)),
        np.array([4, 5]),
        frozenset({np.int64(4), 5}),
        REGIONS["top"],
    ],
)
def test_sets_of_classes(region: Iterable[int | str]) -> None:
    classes = resolve_region(region)
    assert classes == REGIONS["top"]
    assert all(isinstance(label, Label) for label in classes)


@pytest.mark.parametrize(
    ("region", "said"),
    [
        ("shirt", "expected one of 'top', 'bottom', 'dress', 'full' or a set of label classes, got 'shirt'"),
        ("", "expected one of"),
        ("TOP", "expected one of"),
        ([], "at least one label class, got an empty set"),
        ([0, 4], "background cannot be tried on"),
        (["background"], "background cannot be tried on"),
        ([12], "got 12"),
        ([-1], "got -1"),
        ([4.5], "got 4.5"),
        (["shirt"], "top=4, .*got 'shirt'"),
        ([None], "got None"),
        ([[4]], r"got \[4\]"),
        (4, "a set of label classes, got int"),
        (None, "got NoneType"),
    ],
)
def test_what_is_no_region(region: object, said: str) -> None:
    with pytest.raises(RegionError, match=f"^region: .*{said}") as caught:
        resolve_region(region)
    assert isinstance(caught.value, ValueError)
