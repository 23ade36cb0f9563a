"""What a report and a warning say of a try-on that changed nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import styletryon
from styletryon.compositing import Composer
from styletryon.compositing.showing import changed_share
from styletryon.photo import Frame, Photograph
from tests._support.tiny import tiny_generator, tiny_latent


@given(
    columns=st.integers(0, 40), rows=st.integers(0, 40), amount=st.sampled_from([0, 8, 9, 60]), factor=st.integers(1, 2)
)
def test_changed_pixels_of_the_frame_are_counted(columns: int, rows: int, amount: int, factor: int) -> None:
    before = np.full((60 * factor, 50 * factor, 3), 100, np.uint8)
    after = before.copy()
    after[: rows * factor, : columns * factor, 1] += np.uint8(amount)
    frame = Frame((10.0 * factor, -5.0, 60.0 * factor, 30.0 * factor), (60 * factor, 50 * factor), (64, 48))
    share = changed_share(Photograph(Image.fromarray(before), frame), Image.fromarray(after))
    seen = max(0, columns - 10) * min(rows, 30) if amount > 8 else 0
    assert share == pytest.approx(seen / (40 * 30))


def test_of_a_large_photograph_small_pixels_are_compared() -> None:
    before = Image.new("RGB", (3000, 2000))
    after = before.copy()
    after.paste((255, 255, 255), (0, 0, 1500, 2000))
    assert changed_share(Photograph.whole(before), after) == pytest.approx(0.5, abs=0.01)


def test_a_try_on_that_changes_nothing_warns_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = tiny_generator()
    latent = tiny_latent(generator)
    monkeypatch.setattr(Composer, "compose", lambda self, *_: (self.person.picture.copy(), torch.zeros(32, 24)))
    with pytest.warns(styletryon.TryOnWarning, match=r"nothing to be seen has changed: 0\.00% .*person_pose") as told:
        result = styletryon.try_on(latent, latent, model=generator, preset="fast", region=range(1, 12))
    assert result.report["changed_share"] == 0
    assert told[0].filename == __file__


def test_a_try_on_that_changes_something_does_not() -> None:
    generator = tiny_generator()
    person, garment = tiny_latent(generator), tiny_latent(generator, seed=1)
    result = styletryon.try_on(person, garment, model=generator, preset="fast", region=range(1, 12))
    assert 0.01 < float(result.report["changed_share"]) <= 1
