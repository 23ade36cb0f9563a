"""The parts of a try-on, laid over large photographs in strips."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from styletryon.tryon import layers as module
from styletryon.tryon.layers import TryOnLayers


def some_layers(box: tuple[int, int, int, int], rows: int, columns: int) -> TryOnLayers:
    rng = np.random.default_rng(rows)
    cloth = rng.random((rows, columns, 3), dtype=np.float32)
    alpha = (rng.random((rows, columns)) * 1.4 - 0.2).clip(0, 1).astype(np.float32)
    kinds = rng.integers(0, 6, (rows, columns), np.uint8)
    return TryOnLayers(box, kinds, cloth, cloth, cloth, cloth, cloth, alpha, 2 * kinds, 1.0, 1.0, ())


@given(
    left=st.integers(0, 20), top=st.integers(0, 20), width=st.integers(8, 60), height=st.integers(8, 60),
    rows=st.integers(8, 40), columns=st.integers(8, 40), strip=st.integers(1, 2000),
)  # fmt: skip
def test_strips_change_nothing(
    left: int, top: int, width: int, height: int, rows: int, columns: int, strip: int
) -> None:
    layers = some_layers((left, top, left + width, top + height), rows, columns)
    rng = np.random.default_rng(0)
    photograph = Image.fromarray(rng.integers(0, 256, (90, 85, 3), np.uint8))
    labels = rng.integers(0, 12, (90, 85), np.uint8)
    kept = photograph.tobytes(), labels.tobytes()
    whole, over = layers.laid_over(photograph), layers.labels_over(labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_STRIP", strip)
        assert layers.laid_over(photograph) == whole
        assert np.array_equal(layers.labels_over(labels), over)
    nearest = [[math.floor(Fraction(2 * n + 1, 2) * parts / size) for n in range(size)]
               for size, parts in ((height, rows), (width, columns))]  # fmt: skip
    kinds, alpha = (plane[nearest[0]][:, nearest[1]] for plane in (layers.labels, layers.alpha))
    laid = np.where(alpha > 0.5, kinds, labels[top : top + height, left : left + width])
    assert np.array_equal(over[top : top + height, left : left + width], laid)
    assert kept == (photograph.tobytes(), labels.tobytes())
    outside = np.ones((90, 85), bool)
    outside[top : top + height, left : left + width] = False
    assert np.array_equal(np.asarray(whole)[outside], np.asarray(photograph)[outside])
    assert np.array_equal(over[outside], labels[outside])


@given(rows=st.integers(8, 40), height=st.integers(40, 90))
def test_rows_are_interpolated_as_pillow_does(rows: int, height: int) -> None:
    picture = np.random.default_rng(rows).integers(0, 256, (rows, 12, 3), np.uint8)
    middles = (np.arange(height) + 0.5) * (rows / height)
    for weigh, by in ((module._linear, Image.Resampling.BILINEAR), (module._cubic, Image.Resampling.BICUBIC)):
        expected = np.asarray(Image.fromarray(picture).resize((12, height), by), int)
        found = module._resampled(picture, middles, weigh)
        # At the edges Pillow leaves out the rows beyond the picture; here the last row goes on.
        inside = slice(math.ceil(1.5 * height / rows), -math.ceil(1.5 * height / rows))
        assert np.abs(found - expected)[inside].max() <= 1
