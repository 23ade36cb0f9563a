"""Garments told from the ground by colours."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from styletryon.compositing.ground import off_ground
from styletryon.compositing.view import Mask
from styletryon.data import paperdoll
from styletryon.labels import Label


def overlap(one: Mask, other: Mask) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize("seed", [3, 8, 11])
def test_labels_that_are_wrong_are_corrected(seed: int) -> None:
    drawn = paperdoll.lay_flat(paperdoll.sample_figure(seed), "top", (320, 320), lie=paperdoll.sample_lie(seed))
    true = drawn.labels == Label.TOP
    wrong = ndimage.binary_dilation(true, iterations=6)
    rows, columns = np.nonzero(true)
    wrong[rows.max() - 10 : rows.max() + 30, columns.min() : columns.max()] = True  # the ground below the hem
    wrong[rows.min() + 40 : rows.min() + 60, columns.min() : columns.min() + 25] = False  # a part of a sleeve
    found = off_ground(Image.fromarray(drawn.image), wrong)
    assert overlap(found, true) > max(0.9, overlap(wrong, true) + 0.05)


def test_where_colours_tell_nothing_labels_stand() -> None:
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(120, 136, (200, 160, 3), np.uint8))
    cloth = np.zeros((200, 160), bool)
    cloth[40:160, 40:120] = True
    assert off_ground(picture, cloth) is cloth
    nothing = np.zeros_like(cloth)
    assert off_ground(picture, nothing) is nothing


def test_a_print_and_the_neck_stay_as_they_are() -> None:
    picture = np.full((240, 200, 3), (240, 235, 225), np.uint8)
    cloth = np.zeros((240, 200), bool)
    cloth[40:200, 40:160] = True
    cloth[40:60, 85:115] = False  # the neck, which a hanger closes
    picture[cloth] = (30, 60, 120)
    picture[36:42, 60:140] = (30, 60, 120)
    picture[100:130, 80:120] = (240, 235, 225)  # a print of the ground's colour
    found = off_ground(Image.fromarray(picture), cloth)
    assert found[100:130, 80:120].mean() > 0.95
    assert found[44:58, 88:112].mean() < 0.1
