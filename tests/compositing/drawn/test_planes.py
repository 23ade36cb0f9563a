"""Arithmetic of planes: against definitions, and against what must stay."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from styletryon.compositing.drawn.planes import apart, chance_of, diffused, frequencies, spread, steeper
from styletryon.generator import GeneratorOutput

SIDES = st.tuples(st.integers(2, 20), st.integers(2, 20))


def picture(seed: int, size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(seed).random((*size, 3), dtype=np.float32)


@given(st.integers(0, 999), SIDES)
def test_known_colours_stay_and_the_others_lie_between_them(seed: int, size: tuple[int, int]) -> None:
    pixels = picture(seed, size)
    known = np.random.default_rng(seed).random(size) < 0.3
    known[0, 0] = True
    found = diffused(pixels, known)
    np.testing.assert_allclose(found[known], pixels[known], atol=1e-6)
    least, most = pixels[known].min(axis=0), pixels[known].max(axis=0)
    assert (found >= least - 1e-5).all()
    assert (found <= most + 1e-5).all()


@given(st.integers(0, 999), SIDES)
def test_the_mean_around_known_pixels_is_not_their_own_colour(seed: int, size: tuple[int, int]) -> None:
    plain = np.full((*size, 3), 0.25, dtype=np.float32)
    plain[size[0] // 2, size[1] // 2] = 1  # a single grain
    found = diffused(plain, np.ones(size, dtype=bool), keep=False)
    assert found[size[0] // 2, size[1] // 2].max() < 0.7


@given(st.integers(0, 999), SIDES, st.integers(2, 16))
def test_frequencies_are_those_of_the_chosen_pixels(seed: int, size: tuple[int, int], bins: int) -> None:
    pixels = np.where(np.arange(size[1]) < size[1] // 2, 0.1, 0.95)[None, :, None].repeat(size[0], 0).repeat(3, 2)
    left = np.zeros(size, dtype=bool)
    left[:, : max(1, size[1] // 2)] = pixels[0, 0, 0] == 0.1
    found = frequencies(pixels.astype(np.float32), left, bins)
    assert (found > 0).all()
    if left.any() and not left.all() and bins >= 8:
        assert found[left].min() > 10 * found[~left].max()


def test_what_is_not_sure_takes_the_colour_beside_it_up_to_four_pixels_away() -> None:
    drawn = torch.arange(12.0).reshape(1, 1, 1, 12)
    sure = torch.zeros(1, 1, 1, 12, dtype=torch.bool)
    sure[..., 3] = True
    found = spread(drawn, sure)[0, 0, 0]
    assert found[:8].tolist() == [3.0] * 8
    assert found[8:].tolist() == [8.0, 9.0, 10.0, 11.0]


def test_distances_edges_and_chances() -> None:
    one, other = np.zeros((1, 1, 3), np.float32), np.array([[[0.1, 0.4, 0.2]]], np.float32)
    assert apart(one, other).tolist() == [[np.float32(0.4)]]
    assert steeper(np.array([[0.0, 0.4, 0.5, 0.6, 1.0]], np.float32)).round(4).tolist() == [[0, 0.25, 0.5, 0.75, 1]]
    logits = torch.zeros(1, 4, 2, 2)
    drawing = GeneratorOutput(torch.zeros(1, 3, 2, 2), logits)
    assert chance_of(drawing, {1, 3, 11}).tolist() == [[0.5, 0.5], [0.5, 0.5]]
