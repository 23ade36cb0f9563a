from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from styletryon.compositing.skeleton import Part
from styletryon.compositing.view import apart, blurred, grown, near, shrunk


@st.composite
def masks(draw: st.DrawFn) -> NDArray[np.bool_]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    noise = rng.random((draw(st.integers(1, 90)), draw(st.integers(1, 70))))
    smooth = ndimage.gaussian_filter(noise, draw(st.floats(0.1, 6)))
    return np.asarray(smooth > np.quantile(smooth, draw(st.sampled_from((0, 0.03, 0.5, 0.97, 1)))))


ROOTS = st.integers(0, 1600).map(lambda square: float(np.float32(square**0.5)))


def distance(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.asarray(ndimage.distance_transform_edt(~mask)) if mask.any() else np.full(mask.shape, np.inf)


@settings(max_examples=100, deadline=None)
@given(mask=masks(), reach=st.one_of(st.integers(0, 60), st.floats(0, 60), ROOTS))
def test_what_is_near_a_mask_is_what_its_distance_transform_says(mask: NDArray[np.bool_], reach: float) -> None:
    within = distance(mask).astype(np.float32) <= reach
    assert np.array_equal(near(mask, reach), within)
    assert np.array_equal(grown(mask, reach), within)
    assert np.array_equal(shrunk(mask, reach), mask & (distance(~mask).astype(np.float32) > reach))
    if mask.any():
        assert np.array_equal(apart(mask), distance(mask).astype(np.float32))


@settings(max_examples=50, deadline=None)
@given(mask=masks(), sigma=st.floats(0.2, 9))
def test_the_blur_of_a_mask_is_that_of_the_whole_plane(mask: NDArray[np.bool_], sigma: float) -> None:
    assert np.array_equal(blurred(mask, sigma), ndimage.gaussian_filter(mask.astype(np.float32), sigma))


def test_a_part_places_what_it_locates(rng: np.random.Generator) -> None:
    start, end = np.array([10.0, 20.0]), np.array([40.0, 60.0])  # 50 long, along (0.6, 0.8)
    part = Part((5, 7), start, end, 4.0)
    along, across = part.locate(np.array([[25.0, 40.0], [10.0 - 0.8 * 7, 20.0 + 0.6 * 7]]))
    assert along == pytest.approx([0.5, 0.0])
    assert across == pytest.approx([0.0, 7.0])
    places = rng.random((5, 4, 2)) * 80
    assert part.place(*part.locate(places)) == pytest.approx(places)
