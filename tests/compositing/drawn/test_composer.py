"""Pasting a try-on: on a drawn scene of which everything is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from styletryon.compositing.drawn.composer import Composer
from styletryon.generator import GeneratorOutput
from styletryon.labels import Label
from styletryon.photo import Frame, Photograph

SIZE = (64, 48)
SCALE = 4
RED, BLUE, SKIN, HAIR = (0.8, -0.6, -0.6), (-0.6, -0.6, 0.8), (0.5, 0.2, 0.0), (-0.8, -0.8, -0.8)


def scene(hem: int, colour: tuple[float, float, float], backdrop: float = 0.4) -> GeneratorOutput:
    """A figure: hair, face, a top down to a hem, and trousers."""
    labels = torch.zeros(SIZE, dtype=torch.long)
    labels[6:10, 20:28] = int(Label.HAIR)
    labels[10:16, 20:28] = int(Label.FACE)
    labels[16:60, 16:32] = int(Label.BOTTOM)
    labels[16:hem, 14:34] = int(Label.TOP)
    image = torch.full((1, 3, *SIZE), backdrop)
    for label, paint in ((Label.HAIR, HAIR), (Label.FACE, SKIN), (Label.BOTTOM, (0.1, 0.1, 0.1)), (Label.TOP, colour)):
        image[0, :, labels == int(label)] = torch.tensor(paint)[:, None]
    logits = 20.0 * torch.nn.functional.one_hot(labels, 12).permute(2, 0, 1)[None]
    return GeneratorOutput(image, logits)


def armed(sleeve: Label, cloth: tuple[float, float, float], skin: tuple[float, float, float]) -> GeneratorOutput:
    """The scene with a face and hands of some skin, and arms that are sleeves or bare; bare ones darker inside."""
    drawing = scene(40, cloth)
    labels, image = drawing.logits.argmax(dim=1)[0], drawing.image.clone()
    for inner, outer in ((slice(11, 14), slice(8, 11)), (slice(34, 37), slice(37, 40))):
        for columns, shade in ((inner, 0.75), (outer, 1.0)):
            for rows, label in ((slice(16, 36), sleeve), (slice(36, 44), Label.SKIN)):
                labels[rows, columns] = int(label)
                paint = shade * (torch.tensor(skin) + 1) - 1 if label == Label.SKIN else torch.tensor(cloth)
                image[0, :, rows, columns] = paint[:, None, None]
    image[0, :, labels == int(Label.FACE)] = torch.tensor(skin)[:, None]
    return GeneratorOutput(image, 20.0 * torch.nn.functional.one_hot(labels, 12).permute(2, 0, 1)[None])


def full_labels(drawing: GeneratorOutput) -> NDArray[np.uint8]:
    """The labels of a scene at the photograph's size."""
    return drawing.logits.argmax(dim=1)[0].numpy().astype(np.uint8).repeat(SCALE, 0).repeat(SCALE, 1)


def photograph(drawing: GeneratorOutput, *, grain: float = 0.0, pad: int = 0) -> tuple[Image.Image, Frame]:
    """The scene at four times the size, with grain, and more of the same around it."""
    pixels = ((drawing.image[0].permute(1, 2, 0).numpy() + 1) * 127.5).repeat(SCALE, 0).repeat(SCALE, 1)
    pixels = np.pad(pixels, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
    noise = np.random.default_rng(0).normal(0, grain, pixels.shape)
    height, width = pixels.shape[:2]
    box = (float(pad), float(pad), float(width - pad), float(height - pad))
    return Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8)), Frame(box, (height, width), SIZE)


def compose(
    person: Photograph, before: GeneratorOutput, after: GeneratorOutput, support: Tensor | None = None
) -> tuple[Image.Image, Tensor]:
    composer = Composer(person, before, frozenset({Label.TOP}))
    return composer.compose(after, torch.ones(SIZE) if support is None else support)


def pasted(
    before: GeneratorOutput, after: GeneratorOutput, photo: Image.Image, frame: Frame
) -> tuple[NDArray[np.int64], Tensor]:
    image, mask = compose(Photograph(photo, frame), before, after)
    return np.asarray(image).astype(int), mask


def block(
    pixels: NDArray[np.int64], rows: tuple[int, int], columns: tuple[int, int], pad: int = 0
) -> NDArray[np.int64]:
    """The pixels of some rows and columns of the drawing."""
    return pixels[pad + rows[0] * SCALE : pad + rows[1] * SCALE, pad + columns[0] * SCALE : pad + columns[1] * SCALE]


def test_a_drawn_backdrop_is_never_shown() -> None:
    before, after = scene(40, RED), scene(40, BLUE, backdrop=-0.9)
    photo, frame = photograph(before, grain=3.0, pad=24)
    image, _ = pasted(before, after, photo, frame)
    original = np.asarray(photo).astype(int)
    # The backdrop stays as light as it is, up to the garment's own edge.
    for columns in ((0, 13), (35, 48)):
        assert np.abs(block(image, (18, 38), columns, 24) - block(original, (18, 38), columns, 24)).max() <= 1
    inside = block(image, (20, 36), (17, 31), 24).reshape(-1, 3)
    assert np.abs(inside - (np.array(BLUE) + 1) * 127.5).max() < 12


def test_pixels_outside_the_change_stay_bit_for_bit() -> None:
    before, after = scene(44, RED), scene(36, BLUE)
    photo, frame = photograph(before, grain=20.0, pad=16)
    image, mask = compose(Photograph(photo, frame), before, after)
    changed = (np.asarray(image) != np.asarray(photo)).any(axis=-1)
    assert changed.any()
    within = mask.numpy().repeat(SCALE, 0).repeat(SCALE, 1) > 0
    assert not changed[np.pad(~within, 16, constant_values=True)].any()
    assert float(mask[:14].max()) == 0  # face and hair
    assert float(mask[48:].max()) == 0  # trousers below
    assert 0 <= float(mask.min()) <= float(mask.max()) <= 1
    assert float(mask[20:34, 17:31].min()) == 1


def test_what_the_old_garment_hid_is_continued_from_around_it() -> None:
    """A wide old top on a backdrop that grows lighter to the right, under a narrow new one."""
    before, after = scene(40, RED), scene(40, BLUE)
    wide = before.logits.argmax(dim=1)[0]
    wide[16:40, 8:40] = int(Label.TOP)
    before.image[0, :, 16:40, 8:40] = torch.tensor(RED)[:, None, None]
    before = GeneratorOutput(before.image, 20.0 * torch.nn.functional.one_hot(wide, 12).permute(2, 0, 1)[None])
    ramp = torch.linspace(-0.6, 0.6, SIZE[1]).expand(3, *SIZE)
    real = torch.where(wide == 0, ramp, before.image[0])
    photo, frame = photograph(GeneratorOutput(real[None], before.logits))
    image, _ = pasted(before, after, photo, frame)
    for columns in ((9, 13), (35, 39)):
        shown = block(image, (20, 36), columns).mean(axis=-1)
        wanted = (np.linspace(-0.6, 0.6, SIZE[1])[columns[0] : columns[1]].mean() + 1) * 127.5
        assert abs(shown.mean() - wanted) < 25
        assert block(image, (20, 36), columns)[..., 0].max() < 190  # none of the red is left


def test_a_backdrop_that_is_there_already_is_kept() -> None:
    """The drawing holds a stretch of the wall for the old garment."""
    before, after = scene(40, RED), scene(40, BLUE)
    photo, frame = photograph(before, grain=8.0)
    labels = before.logits.argmax(dim=1)[0]
    labels[20:36, 34:42] = int(Label.TOP)
    mistaken = GeneratorOutput(before.image, 20.0 * torch.nn.functional.one_hot(labels, 12).permute(2, 0, 1)[None])
    image, _ = pasted(mistaken, after, photo, frame)
    original = np.asarray(photo).astype(int)
    assert np.array_equal(block(image, (20, 36), (37, 42)), block(original, (20, 36), (37, 42)))


def test_the_drawing_takes_on_the_photographs_light() -> None:
    before, after = scene(40, RED), scene(40, (0.2, 0.2, 0.2))
    warm = torch.tensor([1.0, 0.9, 0.8])[None, :, None, None]
    photo, frame = photograph(GeneratorOutput((before.image + 1) * warm - 1, before.logits))
    image, _ = pasted(before, after, photo, frame)
    red, green, blue = block(image, (20, 36), (17, 31)).reshape(-1, 3).mean(axis=0)
    assert red == pytest.approx(153, abs=4)
    assert 0.85 < green / red < 0.97
    assert 0.75 < blue / red < 0.93


def test_a_change_fades_where_the_frame_cuts_it_off() -> None:
    before, after = scene(64, RED), scene(64, BLUE)
    photo, frame = photograph(before, pad=16)
    image, _ = pasted(before, after, photo, frame)
    column = image[:, 16 + 24 * SCALE, 2]
    steps = np.abs(np.diff(column[40 * SCALE :]))
    assert steps.max() < 30
    # Where the photograph ends too there is nothing to fade into.
    photo, frame = photograph(before)
    image, _ = pasted(before, after, photo, frame)
    assert abs(int(image[-1, 24 * SCALE, 2]) - 229) < 12


def test_large_photographs_get_layers_enlarged(monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = scene(44, RED), scene(36, BLUE)
    photo, frame = photograph(before, grain=4.0)
    whole, _ = compose(Photograph(photo, frame), before, after)
    monkeypatch.setattr("styletryon.compositing.drawn.layout.WORK_PIXELS", 6000)
    coarse, mask = compose(Photograph(photo, frame), before, after)
    assert coarse.size == photo.size
    apart = np.abs(np.asarray(whole).astype(int) - np.asarray(coarse).astype(int))
    assert apart.mean() < 3
    assert np.array_equal(np.asarray(coarse)[: 14 * SCALE], np.asarray(photo)[: 14 * SCALE])
    assert float(mask[20:34, 17:31].min()) > 0.99


def test_nothing_to_change_and_nothing_to_see() -> None:
    before, after = scene(40, RED), scene(40, BLUE)
    photo, frame = photograph(before)
    image, mask = compose(Photograph(photo, frame), before, after, torch.zeros(SIZE))
    assert np.array_equal(np.asarray(image), np.asarray(photo))
    assert not mask.any()
    away = Frame((5000.0, 0.0, 5048.0, 64.0), frame.photo_size, SIZE)
    image, mask = compose(Photograph(photo, away), before, after)
    assert np.array_equal(np.asarray(image), np.asarray(photo))
    assert not mask.any()


@pytest.mark.parametrize("extent", [(16, 16), (17, 40), (64, 48), (300, 90)])
def test_photographs_of_any_size_and_frames_that_reach_out(extent: tuple[int, int]) -> None:
    """The garment appears where the frame says, in its own colour, and far from it no pixel changes."""
    height, width = extent
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8))
    across, down = (1.3 * 0.75 * height, 1.3 * height)
    # The sides of the frame reach beyond the photograph: the figure's middle is the photograph's.
    frame = Frame(((width - across) / 2, -0.1 * height, (width + across) / 2, down - 0.1 * height), extent, SIZE)
    image, mask = compose(Photograph(photo, frame), scene(40, RED), scene(36, BLUE))
    assert image.size == photo.size
    assert mask.shape == SIZE
    assert 0 <= float(mask.min()) <= float(mask.max()) <= 1
    rows = (np.arange(height) + 0.5 - frame.box[1]) / down * SIZE[0]
    columns = (np.arange(width) + 0.5 - frame.box[0]) / across * SIZE[1]

    def within(top: int, bottom: int, left: int, right: int) -> NDArray[np.bool_]:
        return np.outer((rows > top) & (rows < bottom), (columns > left) & (columns < right))

    before, after = np.asarray(photo).astype(int), np.asarray(image).astype(int)
    garment, beyond = within(22, 34, 17, 31), ~within(6, 52, 6, 42)
    assert garment.any()
    assert beyond.any()
    assert np.abs(after[garment] - (np.array(BLUE) + 1) * 127.5).max() < 12
    assert np.array_equal(after[beyond], before[beyond])


def test_a_figure_that_fills_the_picture_has_no_backdrop() -> None:
    before, after = scene(40, RED), scene(40, BLUE)
    full = 20.0 * torch.nn.functional.one_hot(torch.full(SIZE, int(Label.TOP)), 12).permute(2, 0, 1)[None]
    photo, frame = photograph(before)
    earlier, later = GeneratorOutput(before.image, full), GeneratorOutput(after.image, after.logits)
    image, mask = compose(Photograph(photo, frame), earlier, later)
    assert image.size == photo.size
    assert float(mask.mean()) > 0.3


def test_a_composer_shows_the_same_whatever_it_has_shown_before() -> None:
    before = scene(40, RED)
    photo, frame = photograph(before, grain=3)
    worked = Composer(Photograph(photo, frame), before, frozenset({Label.TOP}))
    for hem in (40, 24, 56, 36):
        after = scene(hem, BLUE)
        rows = (torch.arange(SIZE[0]) < hem + 4).float()[:, None].expand(SIZE)
        image, mask = worked.compose(after, rows)
        alone, expected = compose(Photograph(photo, frame), before, after, rows)
        assert np.array_equal(np.asarray(image), np.asarray(alone))
        assert torch.equal(mask, expected)


@pytest.mark.parametrize("skin", [(0.6, 0.2, 0.0), (-0.1, -0.4, -0.55)])
def test_bared_arms_have_the_colours_of_face_and_hands(skin: tuple[float, float, float]) -> None:
    """The drawing's skin is pale and yellowish, whoever is dressed; its light and shade are right."""
    pale = (0.9, 0.7, 0.3)
    real, before, after = armed(Label.TOP, RED, skin), armed(Label.TOP, RED, pale), armed(Label.SKIN, BLUE, pale)
    photo, frame = photograph(real, grain=3.0)
    image, _ = compose(Photograph(photo, frame, labels=full_labels(real)), before, after)
    for columns, shade in (((9, 10), 1.0), ((12, 13), 0.75), ((35, 36), 0.75), ((38, 39), 1.0)):
        arm = block(np.asarray(image).astype(int), (20, 34), columns).reshape(-1, 3).mean(axis=0)
        assert np.abs(arm - shade * (np.array(skin) + 1) * 127.5).max() < 14


def test_nothing_is_known_of_skin_that_the_photograph_does_not_show() -> None:
    before, after = armed(Label.TOP, RED, SKIN), armed(Label.SKIN, BLUE, SKIN)
    photo, frame = photograph(before)
    labels = full_labels(before)
    labels[np.isin(labels, [int(Label.FACE), int(Label.SKIN)])] = int(Label.ACCESSORY)
    image, _ = compose(Photograph(photo, frame, labels=labels), before, after)
    drawn = block(np.asarray(image).astype(int), (20, 34), (9, 10)).reshape(-1, 3).mean(axis=0)
    assert np.abs(drawn - (np.array(SKIN) + 1) * 127.5).max() < 14


@pytest.mark.parametrize("hair", [HAIR, (-0.2, -0.6, -0.6)])
def test_labels_of_hair_keep_no_rest_of_the_old_garment(hair: tuple[float, float, float]) -> None:
    """Hair hangs beside the face down to row 20; the labels take two more rows of the garment for it."""
    before, after = scene(40, RED), scene(40, BLUE)
    strands = (slice(12, 20), slice(17, 23))
    for drawing in (before, after):
        drawing.image[0][:, strands[0], strands[1]] = torch.tensor(hair)[:, None, None]
        drawing.logits[0][:, strands[0], strands[1]] = 0
        drawing.logits[0, int(Label.HAIR), strands[0], strands[1]] = 20
    photo, frame = photograph(before, grain=3.0)
    labels = full_labels(before)
    labels[20 * SCALE : 22 * SCALE, 17 * SCALE : 23 * SCALE] = int(Label.HAIR)
    image = np.asarray(compose(Photograph(photo, frame, labels=labels), before, after)[0]).astype(int)
    shown, original = block(image, (21, 22), (18, 22)), block(np.asarray(photo).astype(int), (13, 18), (18, 22))
    assert np.abs(shown.reshape(-1, 3).mean(axis=0) - (np.array(BLUE) + 1) * 127.5).max() < 20
    assert np.array_equal(block(image, (13, 18), (18, 22)), original)
