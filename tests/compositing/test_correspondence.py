"""Laying a photograph's cloth on a drawing: on drawn scenes of which everything is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from styletryon.compositing.composer import Composer
from styletryon.compositing.correspondence import WarpedGarment, find_worn, warp_garment
from styletryon.compositing.planes import WORK_PIXELS
from styletryon.generator import GeneratorOutput
from styletryon.labels import Label
from styletryon.photo import Frame, Photograph
from styletryon.pose import Pose

SIZE = (64, 48)
SCALE = 4
TALL = 24
"""Rows of the drawing's size that the photograph goes on below the frame."""


def body(shift: float = 0.0, scale: float = 1.0) -> NDArray[np.float32]:
    """Somebody who stands straight: 17 keypoints in pixels of the drawing, moved and enlarged about the middle."""
    x = {0: 24, 1: 25, 2: 23, 3: 27, 4: 21, 5: 31, 6: 17, 7: 33, 8: 15, 9: 34, 10: 14}
    x |= {11: 28, 12: 20, 13: 28, 14: 20, 15: 28, 16: 20}
    y = {0: 8, 1: 7, 2: 7, 3: 8, 4: 8, 5: 16, 6: 16, 7: 26, 8: 26, 9: 36, 10: 36}
    y |= {11: 40, 12: 40, 13: 60, 14: 60, 15: 80, 16: 80}
    points = np.array([[x[k], y[k], 1.0] for k in range(17)], dtype=np.float32)
    points[:, 0] = (points[:, 0] - 24) * scale + 24 + shift
    return points


def source(points: NDArray[np.float32], pixels: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Photograph:
    """A photograph whose frame is its upper part."""
    height, width = labels.shape
    frame = Frame((0.0, 0.0, float(width), float(SIZE[0] * SCALE)), (height, width), SIZE)
    pose = Pose(torch.from_numpy(points * [SCALE, SCALE, 1]).float(), (height, width))
    return Photograph(Image.fromarray(pixels), frame, pose, labels)


def top(shift: int = 0, *, last: int = 42) -> NDArray[np.bool_]:
    """Where a top is, at the drawing's size and below."""
    shown = np.zeros((SIZE[0] + TALL, SIZE[1]), dtype=bool)
    shown[16:last, 16 + shift : 32 + shift] = True
    return shown


def enlarged(plane: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return plane.repeat(SCALE, 0).repeat(SCALE, 1)


def striped(worn: NDArray[np.bool_], period: int = 8) -> NDArray[np.uint8]:
    """A grey photograph with cloth whose fine stripes no drawing shows."""
    worn = enlarged(worn)
    pixels = np.full((*worn.shape, 3), 120, dtype=np.uint8)
    stripes = (np.arange(worn.shape[0]) // (period // 2) % 2)[:, None] * 80 + 100
    pixels[worn] = np.broadcast_to(stripes, worn.shape)[worn][:, None]
    return pixels


def drawn(worn: NDArray[np.bool_], level: float, label: Label = Label.TOP) -> GeneratorOutput:
    """What a generator makes of it: one colour, at its own size."""
    worn = worn[: SIZE[0]]
    labels = np.where(worn, int(label), 0)
    image = np.where(worn, level, -0.06)[None].repeat(3, 0)
    logits = 20.0 * torch.nn.functional.one_hot(torch.from_numpy(labels), 12).permute(2, 0, 1)[None].float()
    return GeneratorOutput(torch.from_numpy(image).float()[None], logits)


def labelled(worn: NDArray[np.bool_], label: Label = Label.TOP) -> NDArray[np.uint8]:
    return np.where(enlarged(worn), np.uint8(label), np.uint8(0))


@pytest.mark.parametrize("shift", [0, 6, -6])
def test_bones_say_where_the_cloth_is(shift: int) -> None:
    person = source(body(), striped(top()), labelled(top()))
    garment = source(body(shift), striped(top(shift)), labelled(top(shift)))
    drawing = drawn(top(), 0.1)
    shown = torch.from_numpy(top()[: SIZE[0]]).float()
    cloth = warp_garment(person, garment, drawing.image[0], shown, enlarged(top(shift)))
    assert cloth is not None
    assert cloth.frame.size == (SIZE[0] + TALL, SIZE[1])
    inside = shown.numpy() > 0
    rows, columns = np.nonzero(inside)
    found = cloth.places[:, : SIZE[0]].numpy()[:, inside]
    assert np.abs(found[0] - (columns + 0.5 + shift) * SCALE).max() < 1.5 * SCALE
    assert np.abs(found[1] - (rows + 0.5) * SCALE).max() < 1.5 * SCALE


def test_outlines_are_brought_to_agree() -> None:
    """The photograph's wearer is broader than the bones say; the drawn outline is found nevertheless."""
    broad = top()
    broad[16:42, 12:36] = True
    person = source(body(), striped(top()), labelled(top()))
    garment = source(body(), striped(broad), labelled(broad))
    shown = torch.from_numpy(top()[: SIZE[0]]).float()
    cloth = warp_garment(person, garment, drawn(top(), 0.1).image[0], shown, enlarged(broad))
    assert cloth is not None
    row = cloth.places[0, 30].numpy() / SCALE
    assert row[16] < 14.5
    assert row[31] > 33.5


def test_nothing_is_laid_without_poses_or_where_the_garment_is_not_found() -> None:
    person, garment = (source(body(), striped(top()), labelled(top())) for _ in range(2))
    image, shown = drawn(top(), 0.1).image[0], torch.from_numpy(top()[: SIZE[0]]).float()
    worn = enlarged(top())
    assert warp_garment(person, garment, image, shown, worn) is not None
    assert warp_garment(replace(person, pose=None), garment, image, shown, worn) is None
    assert warp_garment(person, replace(garment, pose=None), image, shown, worn) is None
    assert warp_garment(person, garment, image, shown, np.zeros_like(worn)) is None
    unseen = body()
    unseen[5:7, 2] = 0  # no shoulders, no trunk
    assert warp_garment(source(unseen, striped(top()), labelled(top())), garment, image, shown, worn) is None


def test_a_large_photograph_is_looked_at_in_fewer_pixels() -> None:
    person = source(body(), striped(top()), labelled(top()))
    times = 8
    small = (striped(top()), labelled(top()), enlarged(top()))
    pixels, labels, worn = (plane.repeat(times, 0).repeat(times, 1) for plane in small)
    garment = Photograph(
        Image.fromarray(pixels),
        Frame((0.0, 0.0, float(labels.shape[1]), float(SIZE[0] * SCALE * times)), labels.shape, SIZE),
        Pose(torch.from_numpy(body() * [SCALE * times, SCALE * times, 1]).float(), labels.shape),
        labels,
    )
    shown = torch.from_numpy(top()[: SIZE[0]]).float()
    cloth = warp_garment(person, garment, drawn(top(), 0.1).image[0], shown, worn)
    assert cloth is not None
    assert worn.size > 4 * WORK_PIXELS
    height, width = cloth.planes.shape[1:]
    assert height * width <= 1.01 * WORK_PIXELS
    # The middle of the drawn top shows the middle of the top, wherever that lies in pixels.
    middle = cloth.places[:, 29, 24].numpy() / [width, height]
    assert np.abs(middle - [24.5 / SIZE[1], 29.5 / (SIZE[0] + TALL)]).max() < 0.04


def test_it_is_the_same_every_time() -> None:
    person, garment = (source(body(), striped(top()), labelled(top())) for _ in range(2))
    image, shown = drawn(top(), 0.1).image[0], torch.from_numpy(top()[: SIZE[0]]).float()
    first, second = (warp_garment(person, garment, image, shown, enlarged(top())) for _ in range(2))
    assert first is not None
    assert second is not None
    assert torch.equal(first.places, second.places)
    with torch.no_grad():
        third = warp_garment(person, garment, image, shown, enlarged(top()))
    assert third is not None
    assert torch.equal(first.places, third.places)


def test_what_is_looked_up_beside_the_photograph_is_not_the_garment() -> None:
    cloth = WarpedGarment(torch.ones(4, 8, 6), Frame((0, 0, 6, 8), (8, 6), (8, 6)), torch.zeros(2, 8, 6))
    x, y = np.array([[3.0, -1.0, 7.0, 3.0]], np.float32), np.array([[4.0, 4.0, 4.0, 9.0]], np.float32)
    assert cloth.look_up(x, y)[1].tolist() == [[1.0, 0.0, 0.0, 0.0]]


def test_labels_count_as_the_drawing_and_the_region_say() -> None:
    labels = np.array([[Label.TOP, Label.BOTTOM, Label.DRESS, Label.SKIN, Label.SHOES, Label.BACKGROUND]], np.uint8)
    nowhere, everywhere = np.zeros_like(labels, bool), np.ones_like(labels, bool)
    assert find_worn(labels, nowhere, {Label.TOP}).tolist() == [[True] + [False] * 5]
    assert find_worn(labels, everywhere, {Label.TOP}).tolist() == [[True, True, True, False, False, False]]
    assert find_worn(labels, nowhere, {Label.DRESS}).tolist() == [[True, True, True, False, False, False]]


def composed(label: Label, last: int, region: frozenset[Label]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Dress somebody in plain grey in the same garment with stripes; return the photograph and the result."""
    worn = top(last=last)
    plain = np.full((*enlarged(worn).shape, 3), 120, dtype=np.uint8)
    plain[enlarged(worn)] = (60, 60, 60)
    person = source(body(), plain, labelled(worn, label))
    garment = source(body(), striped(worn), labelled(worn, label))
    after = drawn(worn, 0.1, label)
    shown = torch.from_numpy(worn[: SIZE[0]]).float()
    cloth = warp_garment(person, garment, after.image[0], shown, enlarged(worn))
    assert cloth is not None
    image, _ = Composer(person, drawn(worn, -0.5, label), region).compose(after, torch.ones(SIZE), cloth)
    return plain.astype(int), np.asarray(image).astype(int)


def test_detail_finer_than_the_drawing_is_shown() -> None:
    _, image = composed(Label.TOP, 42, frozenset({Label.TOP}))
    rows = slice(24 * SCALE, 36 * SCALE)
    column = image[rows, 24 * SCALE, 0]
    assert np.ptp(column) > 50  # stripes of 80, of which the drawing has none
    # A drawing without stripes cannot say to the pixel where they are: up to half a pixel of it they may be off.
    truth = striped(top())[:, 24 * SCALE, 0].astype(float)
    shifted = [np.roll(truth, shift)[rows] for shift in range(-SCALE // 2, SCALE // 2 + 1)]
    assert max(np.corrcoef(column, one)[0, 1] for one in shifted) > 0.8


def test_a_garment_that_ends_in_the_frame_changes_nothing_below_it() -> None:
    plain, image = composed(Label.TOP, 42, frozenset({Label.TOP}))
    assert np.array_equal(image[48 * SCALE :], plain[48 * SCALE :])


def test_a_garment_that_the_frame_cuts_goes_on_below_it() -> None:
    plain, image = composed(Label.BOTTOM, 80, frozenset({Label.BOTTOM}))
    below = image[(SIZE[0] + 4) * SCALE : 74 * SCALE, 20 * SCALE : 28 * SCALE]
    assert np.abs(below - plain[(SIZE[0] + 4) * SCALE : 74 * SCALE, 20 * SCALE : 28 * SCALE]).mean() > 30
    assert np.ptp(below[:, 16, 0]) > 50
    # The floor below, and what stands far beside, are the photograph's.
    assert np.array_equal(image[84 * SCALE :], plain[84 * SCALE :])
    assert np.array_equal(image[:, : 2 * SCALE], plain[:, : 2 * SCALE])


def test_face_and_hair_of_a_photograph_are_never_covered() -> None:
    worn = top()
    labels = labelled(worn)
    labels[20 * SCALE : 26 * SCALE, 20 * SCALE : 26 * SCALE] = int(Label.HAIR)  # long hair over the top
    person = source(body(), striped(worn), labels)
    composer = Composer(person, drawn(worn, -0.5), frozenset({Label.TOP}))
    image, _ = composer.compose(drawn(worn, 0.8), torch.ones(SIZE))
    changed = (np.asarray(image) != striped(worn)).any(axis=-1)
    assert not changed[21 * SCALE : 25 * SCALE, 21 * SCALE : 25 * SCALE].any()
    assert changed[28 * SCALE : 38 * SCALE, 20 * SCALE : 28 * SCALE].mean() > 0.9
