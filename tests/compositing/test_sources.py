"""What is taken from photographs for a try-on."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from styletryon.compositing.drawn.planes import diffused
from styletryon.compositing.sources import _slid, continued


@settings(deadline=None)  # the first transform of a process takes long
@given(
    planes=st.integers(1, 5), height=st.integers(1, 40), width=st.integers(1, 40),
    high=st.integers(1, 40), wide=st.integers(1, 40),
)  # fmt: skip
def test_sums_by_fourier_transforms_are_sums_of_products(
    planes: int, height: int, width: int, high: int, wide: int
) -> None:
    random = torch.Generator().manual_seed(height * width + high)
    whole = torch.rand(1, planes, height, width, generator=random)
    kernel = torch.rand(1, planes, min(high, height), min(wide, width), generator=random)
    expected = functional.conv2d(whole.double(), kernel.double()).float()
    torch.testing.assert_close(_slid(whole, kernel), expected, rtol=1e-5, atol=1e-3)


@given(height=st.integers(8, 90), width=st.integers(8, 90), row=st.floats(0, 0.99), column=st.floats(0, 0.99))
def test_what_is_known_at_one_place_is_known_everywhere(height: int, width: int, row: float, column: float) -> None:
    known = np.zeros((height, width), dtype=bool)
    known[int(row * height), int(column * width)] = True
    picture = np.where(known[..., None], np.array([0.7, 0.5, 0.4]), 0).astype(np.float32)
    np.testing.assert_allclose(diffused(picture, known), np.full_like(picture, [0.7, 0.5, 0.4]), atol=1e-4)


def test_copies_beside_each_other_show_no_seam() -> None:
    rows, columns = np.mgrid[:120, :160]
    picture = np.repeat((0.5 + 0.2 * np.sin(columns / 9) * np.cos(rows / 7))[..., None], 3, axis=-1).astype(np.float32)
    known = rows > 60
    found = continued(picture, known, ~known, 80.0)
    step = np.abs(np.diff(found, axis=1))[:55].max()
    assert step < 2.5 * np.abs(np.diff(picture, axis=1)).max()
