from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from styletryon.training.schedule import Schedule


@given(
    step=st.integers(0, 100),
    batch_size=st.integers(1, 9),
    warmup=st.integers(0, 20),
    decay=st.floats(0, 1),
    final_rate=st.floats(0, 1),
)
def test_a_linear_fall_over_the_last_share(
    step: int, batch_size: int, warmup: int, decay: float, final_rate: float
) -> None:
    schedule = Schedule(100 * batch_size, batch_size, warmup, decay=decay, final_rate=final_rate)
    expected = 0.5 * (min(1, (step + 1) / warmup) if warmup else 1)
    if (100 - step) / 100 < decay:
        expected *= final_rate + (1 - final_rate) * (100 - step) / (100 * decay)
    assert schedule.rate(0.5, step * batch_size) == pytest.approx(expected, abs=1e-9)


@given(step=st.integers(0, 130), warmup=st.integers(0, 20), final_rate=st.floats(0, 1))
def test_half_a_cosine(step: int, warmup: int, final_rate: float) -> None:
    schedule = Schedule(400, 4, warmup, "cosine", final_rate=final_rate)
    expected = 2.0 * (min(1, (step + 1) / warmup) if warmup else 1)
    expected *= final_rate + (1 - final_rate) * (1 + math.cos(math.pi * min(step, 100) / 100)) / 2
    assert schedule.rate(2.0, step * 4) == pytest.approx(expected)


def test_after_the_end_the_final_rate_stays() -> None:
    schedule = Schedule(80, 8, 1, decay=0.5, final_rate=0.1)
    assert [schedule.rate(1.0, seen) for seen in (0, 40, 80, 160)] == pytest.approx([1.0, 1.0, 0.1, 0.1])
