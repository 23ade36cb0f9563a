"""The layout: which part of a photograph is looked at, and what lies where in it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from styletryon.compositing.drawn.layout import Grid, Layout, PersonLayout, covered_share, work_frame
from styletryon.labels import Label
from styletryon.photo import Frame, Photograph
from tests.compositing.drawn.test_composer import BLUE, RED, SIZE, full_labels, photograph, scene

TOP = frozenset({Label.TOP})


def layout_of(hem: int = 40) -> Layout:
    before = scene(44, RED)
    picture, frame = photograph(before, grain=2.0)
    person = Photograph(picture, frame, labels=full_labels(before))
    work = work_frame(frame, torch.ones(SIZE))
    assert work is not None
    return Layout.of(PersonLayout.of(person, before, TOP, work), scene(hem, BLUE), torch.ones(SIZE))


@given(
    rows=st.tuples(st.integers(0, 63), st.integers(1, 64)).filter(lambda r: r[0] < r[1]),
    columns=st.tuples(st.integers(0, 47), st.integers(1, 48)).filter(lambda c: c[0] < c[1]),
    scale=st.floats(0.3, 6),
    corner=st.tuples(st.floats(-40, 40), st.floats(-40, 40)),
)
def test_the_work_frame_is_whole_pixels_of_the_photograph_that_hold_the_change(
    rows: tuple[int, int], columns: tuple[int, int], scale: float, corner: tuple[float, float]
) -> None:
    left, top = corner
    frame = Frame((left, top, left + SIZE[1] * scale, top + SIZE[0] * scale), (200, 150), SIZE)
    support = torch.zeros(SIZE)
    support[rows[0] : rows[1], columns[0] : columns[1]] = 1
    work = work_frame(frame, support)
    inside = (max(0.0, left + columns[0] * scale), max(0.0, top + rows[0] * scale),
              min(150.0, left + columns[1] * scale), min(200.0, top + rows[1] * scale))  # fmt: skip
    if work is None:
        assert min(inside[2] - inside[0], inside[3] - inside[1]) < 2
        return
    assert all(edge == round(edge) for edge in work.box)
    assert 0 <= work.box[0] < work.box[2] <= 150
    assert 0 <= work.box[1] < work.box[3] <= 200
    if inside[0] < inside[2] and inside[1] < inside[3]:
        assert work.box[0] <= inside[0] + 1e-6
        assert work.box[1] <= inside[1] + 1e-6
        assert work.box[2] >= inside[2] - 1e-6
        assert work.box[3] >= inside[3] - 1e-6


def test_a_grid_of_the_drawing_itself_changes_nothing() -> None:
    frame = Frame((0.0, 0.0, 48.0, 64.0), SIZE, SIZE)
    plane = torch.rand(SIZE, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(Grid(frame, frame).enlarge(plane, "bilinear"), plane.numpy(), atol=1e-5)


@given(st.integers(0, 99), st.floats(0.5, 3), st.floats(-9, 9))
def test_covered_shares_keep_the_covered_area(seed: int, scale: float, left: float) -> None:
    frame = Frame((left, 0.0, left + 48 * scale, 64 * scale), (300, 300), SIZE)
    x0, y0 = max(0, int(left) + 3), 5
    work = Frame((float(x0), float(y0), float(x0 + 12), float(y0 + 10)), (300, 300), (10, 12))
    alpha = np.random.default_rng(seed).random((10, 12), dtype=np.float32)
    shares = covered_share(alpha, work, frame)
    assert shares.shape == SIZE
    assert float(shares.sum()) * scale**2 == pytest.approx(alpha.sum(), rel=1e-3)


def test_old_and_new_garment_background_and_face_lie_where_they_do() -> None:
    layout = layout_of(hem=36)
    person = layout.person
    height = person.work.size[0] / SIZE[0]

    def row(plane: np.ndarray, y: int, x: int = 24) -> float:
        left, top = person.work.box[:2]
        return float(plane[int(y * 4 - top), int(x * 4 - left)])

    assert height > 0
    assert [round(row(person.old, y)) for y in (13, 20, 41, 50)] == [0, 1, 1, 0]
    assert [round(row(layout.new, y)) for y in (13, 20, 41, 50)] == [0, 1, 0, 0]
    assert [round(row(person.background, 30, x)) for x in (10, 24)] == [1, 0]
    assert row(person.kept, 13) > 0.9
    assert row(person.identity, 30) < 0.1
    assert (person.cover >= 0).all()
    assert row(person.cover, 30) == pytest.approx(1, abs=1e-3)
