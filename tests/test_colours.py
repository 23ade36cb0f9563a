"""Colour spaces: known colours, the way back, and greys."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from styletryon.photo.colours import from_lab, to_lab

KNOWN = [
    ((255, 255, 255), (100.0, 0.0, 0.0)),
    ((0, 0, 0), (0.0, 0.0, 0.0)),
    ((255, 0, 0), (53.24, 80.09, 67.20)),
    ((0, 0, 255), (32.30, 79.19, -107.86)),
    ((119, 119, 119), (50.03, 0.0, 0.0)),
]


@pytest.mark.parametrize(("rgb", "lab"), KNOWN)
def test_known_colours_both_ways(rgb: tuple[int, ...], lab: tuple[float, ...]) -> None:
    assert to_lab(np.array(rgb, dtype=np.uint8)) == pytest.approx(np.array(lab), abs=0.02)
    assert 255 * from_lab(np.array(lab)) == pytest.approx(np.array(rgb), abs=0.3)


@given(arrays.arrays(np.uint8, st.tuples(st.integers(0, 3), st.integers(1, 3), st.just(3))))
def test_the_way_back_gives_the_same_colours(colours: np.ndarray) -> None:
    assert from_lab(to_lab(colours)).shape == colours.shape
    np.testing.assert_array_equal(np.rint(255 * from_lab(to_lab(colours))), colours)
    np.testing.assert_allclose(to_lab((colours / 255).astype(np.float32)), to_lab(colours), atol=1e-4)


@given(st.floats(0, 1))
def test_grey_is_neutral(value: float) -> None:
    np.testing.assert_allclose(to_lab(np.full(3, value))[1:], 0, atol=1e-9)


def test_colours_that_srgb_lacks_are_clipped() -> None:
    found = from_lab(np.array([[50.0, 200.0, 0.0], [120.0, 0.0, 0.0], [-10.0, 0.0, 0.0]]))
    assert found.min() >= 0
    assert found.max() <= 1
