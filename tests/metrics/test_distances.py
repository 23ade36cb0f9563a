"""Frechet and kernel distance of sets of features, against closed forms and sums written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg

from styletryon.errors import RangeError, ShapeError
from styletryon.metrics import distances
from styletryon.metrics.distances import frechet_distance, kernel_distance, subset_kernel_distance


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def whitened(rng: np.random.Generator, count: int, width: int) -> np.ndarray:
    """Features whose sample mean is 0 and whose unbiased sample covariance is exactly the identity."""
    q, _ = np.linalg.qr(np.column_stack([np.ones(count), rng.standard_normal((count, width))]))
    return q[:, 1:] * math.sqrt(count - 1)


def kid_written_out(x: np.ndarray, y: np.ndarray) -> float:
    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / len(a) + 1) ** 3)

    own_x = np.mean([kernel(p, q) for i, p in enumerate(x) for j, q in enumerate(x) if i != j])
    own_y = np.mean([kernel(p, q) for i, p in enumerate(y) for j, q in enumerate(y) if i != j])
    return float(own_x + own_y - 2 * np.mean([kernel(p, q) for p in x for q in y]))


# ------------------------------------------------------------------------------------------------------- Frechet
def test_frechet_of_gaussians_is_the_closed_form(rng: np.random.Generator) -> None:
    # Of commuting covariances: the sum over the axes of the squared differences of means and standard deviations.
    base, other = whitened(rng, 40, 5), whitened(rng, 60, 5)
    turn, _ = np.linalg.qr(rng.standard_normal((5, 5)))
    widths_a, widths_b = np.array([1, 2, 3, 0.1, 0]), np.array([2, 2, 1, 0.4, 5])
    shift = np.array([0.5, -1, 0, 2, 0.25])
    found = frechet_distance((base * widths_a) @ turn, (other * widths_b + shift) @ turn)
    assert found == pytest.approx((shift**2).sum() + ((widths_a - widths_b) ** 2).sum(), rel=1e-10)


@pytest.mark.parametrize(("n", "m", "width"), [(50, 70, 6), (9, 12, 20), (5, 60, 20)])
def test_frechet_is_what_a_matrix_square_root_gives(rng: np.random.Generator, n: int, m: int, width: int) -> None:
    x = rng.standard_normal((n, width)) @ rng.standard_normal((width, width))
    y = rng.standard_normal((m, width)) @ rng.standard_normal((width, width)) + 1
    c1, c2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    # The root of the symmetric product has the same trace, and exists where covariances are singular.
    values, vectors = linalg.eigh(c1)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    trace = np.sqrt(linalg.eigvalsh(root @ c2 @ root).clip(0)).sum()
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(c1 + c2) - 2 * trace
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-5)
    if min(n, m) > width:
        by_root = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(c1 + c2 - 2 * linalg.sqrtm(c1 @ c2).real)
        assert frechet_distance(x, y) == pytest.approx(by_root, rel=1e-8)


@settings(deadline=None, max_examples=30)
@given(count=st.integers(2, 40), width=st.integers(1, 30), seed=st.integers(0, 99))
def test_identical_sets_are_nowhere_apart_whatever_their_order(count: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = 100 * rng.standard_normal((count, width))
    assert frechet_distance(x, rng.permutation(x)) == pytest.approx(0, abs=1e-8 * (x**2).sum())
    y = rng.standard_normal((count + 1, width))
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(rng.permutation(y), rng.permutation(x)), rel=1e-9)


def test_frechet_keeps_its_digits_beside_large_numbers(rng: np.random.Generator) -> None:
    x = whitened(rng, 30, 4)
    assert frechet_distance(x + 1e6, x + 1e6 + 0.01) == pytest.approx(4e-4, rel=1e-4)
    assert frechet_distance(x.astype(np.float32), x.astype(np.float32)) < 1e-12


def test_frechet_of_few_pictures_is_too_large(rng: np.random.Generator) -> None:
    few, many = (
        np.mean([frechet_distance(*rng.standard_normal((2, count, 8))) for _ in range(20)]) for count in (20, 200)
    )
    assert few > 5 * many > 0


# -------------------------------------------------------------------------------------------------------- kernel
def test_kernel_distance_agrees_with_sums_over_pairs(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "_BLOCK", 4)
    x, y = rng.standard_normal((6, 4)), rng.standard_normal((7, 4)) + 0.5
    value, error = kernel_distance(x, y)
    assert value == pytest.approx(kid_written_out(x, y))
    without_x = np.array([kid_written_out(np.delete(x, i, 0), y) for i in range(6)])
    without_y = np.array([kid_written_out(x, np.delete(y, i, 0)) for i in range(7)])
    expected = 5 / 6 * ((without_x - without_x.mean()) ** 2).sum() + 6 / 7 * ((without_y - without_y.mean()) ** 2).sum()
    assert error == pytest.approx(math.sqrt(expected))


def test_kernel_distance_is_near_zero_for_one_distribution(rng: np.random.Generator) -> None:
    value, error = kernel_distance(rng.standard_normal((200, 8)), rng.standard_normal((200, 8)))
    assert abs(value) < 4 * error


def test_kernel_distance_is_unbiased(rng: np.random.Generator) -> None:
    found = [kernel_distance(rng.standard_normal((5, 3)), rng.standard_normal((6, 3)))[0] for _ in range(4000)]
    assert abs(np.mean(found)) < 4 * np.std(found) / math.sqrt(len(found))


def test_kernel_distance_takes_no_notice_of_the_order(rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((12, 5)), rng.standard_normal((9, 5)) + 1
    assert kernel_distance(rng.permutation(x), rng.permutation(y)) == pytest.approx(kernel_distance(x, y))
    assert kernel_distance(y, x) == pytest.approx(kernel_distance(x, y))


def test_subsets_of_everything_are_the_whole(rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((8, 4)), rng.standard_normal((8, 4)) + 0.5
    found = subset_kernel_distance(x, y, subsets=3)
    assert found.mean == pytest.approx(kid_written_out(x, y))
    assert found.std == pytest.approx(0, abs=1e-12)
    assert (found.subsets, found.size) == (3, 8)


def test_subsets_are_drawn_without_replacement_and_by_seed(rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((40, 4)), rng.standard_normal((30, 4)) + 1
    found = subset_kernel_distance(x, y, subsets=5, size=10, seed=3)
    again = np.random.default_rng(3)
    expected = []
    for _ in range(5):
        one, other = again.choice(40, 10, replace=False), again.choice(30, 10, replace=False)
        expected.append(kid_written_out(x[one], y[other]))
    assert found.mean == pytest.approx(np.mean(expected))
    assert found.std == pytest.approx(np.std(expected))
    many = subset_kernel_distance(x, y, subsets=300, size=10)
    assert many.mean == pytest.approx(kernel_distance(x, y)[0], rel=0.1)


# -------------------------------------------------------------------------------------------------------- errors
def test_sets_that_cannot_be_compared_are_named() -> None:
    with pytest.raises(ShapeError, match=r"N, M >= 3, got \(2, 4\) and \(5, 4\); ask for more pictures"):
        kernel_distance(np.zeros((2, 4)), np.zeros((5, 4)))
    with pytest.raises(ShapeError, match="N, M >= 2"):
        frechet_distance(np.zeros((2, 4)), np.zeros((5, 3)))
    with pytest.raises(ShapeError, match="N, M >= 3"):
        subset_kernel_distance(np.zeros((2, 4)), np.zeros((5, 4)))
    for distance in (frechet_distance, kernel_distance, subset_kernel_distance):
        with pytest.raises(RangeError, match="expected finite features"):
            distance(np.full((4, 2), math.nan), np.zeros((4, 2)))
    with pytest.raises(RangeError, match="subsets, size: expected at least 1 and 3, got 0 and 1000"):
        subset_kernel_distance(np.zeros((4, 2)), np.zeros((4, 2)), subsets=0)
