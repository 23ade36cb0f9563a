"""Label classes and regions."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from styletryon.errors import RegionError
from styletryon.labels import (
    ALIASES,
    GARMENTS,
    IDENTITY,
    NUM_LABELS,
    PALETTE,
    REGIONS,
    Label,
    region_name,
    replaced_classes,
    resolve_region,
)


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
    assert region_name(name) == name


# What DressCode and IDM-VTON, CatVTON, FASHN and OOTDiffusion call them.
ELSEWHERE = {
    "top": ("tops", "upper_body", "upper", "upperbody"),
    "bottom": ("bottoms", "lower_body", "lower", "lowerbody"),
    "dress": ("dresses", "one-pieces", "overall"),
}


@pytest.mark.parametrize(("name", "alias"), [(name, alias) for name, found in ELSEWHERE.items() for alias in found])
def test_names_of_other_libraries(name: str, alias: str) -> None:
    assert region_name(alias) == name
    assert resolve_region(alias) == REGIONS[name]


@given(
    name=st.sampled_from([*REGIONS, *ALIASES]),
    upper=st.lists(st.booleans(), min_size=12, max_size=12),
    separator=st.sampled_from(["_", "-", " ", ""]),
    around=st.sampled_from(["", " ", "\t"]),
)
def test_spelling_makes_no_difference(name: str, upper: list[bool], separator: str, around: str) -> None:
    letters = (letter.upper() if up else letter for letter, up in zip(name, upper, strict=False))
    written = around + "".join(letters).replace("_", separator) + around
    assert region_name(written) == ALIASES.get(name, name)
    assert resolve_region(written) == REGIONS[ALIASES.get(name, name)]


@given(st.sets(st.sampled_from(list(Label)[1:]), min_size=1), st.sampled_from([",", "+", " , "]), st.booleans())
def test_classes_in_one_string(classes: set[Label], separator: str, numbers: bool) -> None:
    text = separator.join(str(label.value) if numbers else label.name.title() for label in classes)
    known = region_name(text) if text.lower() in REGIONS else None
    assert resolve_region(text) == (REGIONS[known] if known else classes)
    assert resolve_region(label.name.lower() for label in classes) == classes


@given(st.text())
def test_any_text_is_a_region_or_a_region_error(text: str) -> None:
    try:
        classes = resolve_region(text)
    except RegionError as error:
        argument, said = error.argument, str(error)
    else:
        assert classes <= set(Label)
        return
    assert argument == "region"
    assert repr(text) in said or "background" in said


def test_an_unknown_region_is_told_the_regions_first() -> None:
    with pytest.raises(RegionError) as caught:
        resolve_region("hat")
    said = str(caught.value)
    places = [said.index(word) for word in ("'top', 'bottom', 'dress', 'full'", "upper_body", "legwear=8", "got 'hat'")]
    assert places == sorted(places)


def test_under_a_dress_top_and_bottom_come_off() -> None:
    assert replaced_classes(REGIONS["bottom"]) == {Label.BOTTOM}
    assert replaced_classes(REGIONS["dress"]) == {Label.TOP, Label.OUTERWEAR, Label.BOTTOM, Label.DRESS}
    assert replaced_classes(REGIONS["full"]) == GARMENTS


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
        ("shirt", "expected one of 'top', 'bottom', 'dress', 'full', .*got 'shirt'"),
        ("", "expected one of"),
        ("top,", "expected one of .*got 'top,'"),
        ("tops,legwear", "expected one of"),
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
