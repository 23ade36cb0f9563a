"""The sheets of samples: what stands where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from styletryon.data.folder import Batch
from styletryon.errors import SaveError
from styletryon.photo import from_uint8, labels_to_image, to_pil
from styletryon.training import sheets
from tests._support.tiny import tiny_generator, tiny_pose

SIZE = (32, 24)
CELL = (96, 72)  # three times as large
NARROW, WIDE = 2, 12


def batch(count: int = 8) -> Batch:
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, *SIZE), generator=rng, dtype=torch.uint8)
    labels = torch.randint(0, 12, (count, *SIZE), generator=rng, dtype=torch.uint8)
    return Batch(images, labels, tiny_pose(count).keypoints, np.arange(count))


def cell(sheet: Image.Image, row: int, column: int, *, blocks: tuple[int, ...], head: bool) -> Image.Image:
    """A cell of a sheet whose blocks have so many rows, made as small as it was drawn."""
    apart = sum(1 for last in np.cumsum(blocks)[:-1] if row >= last)
    top = WIDE + row * (CELL[0] + NARROW) + apart * (WIDE - NARROW)
    left = WIDE + column * (CELL[1] + NARROW) + (head and column > 0) * (WIDE - NARROW)
    return sheet.crop((left, top, left + CELL[1], top + CELL[0])).reduce(3)


def same(first: Image.Image, second: Image.Image) -> bool:
    return np.array_equal(np.asarray(first), np.asarray(second))


def test_held_out_pictures_stand_beside_their_reconstructions() -> None:
    generator, given = tiny_generator(), batch()
    sheet = sheets.draw_sheets(generator, given)["held-out"]
    assert generator.encoder is not None
    with torch.no_grad():
        codes = generator.encoder(from_uint8(given.images), given.pose)
        drawing = generator.synthesize(generator.affine(codes), given.pose)
    for column in range(8):
        place = {"column": column, "blocks": (4,), "head": False}
        assert same(cell(sheet, 0, **place), to_pil(from_uint8(given.images[column])))  # type: ignore[arg-type]
        assert same(cell(sheet, 1, **place), to_pil(drawing.image[column]))  # type: ignore[arg-type]
        assert same(cell(sheet, 2, **place), labels_to_image(given.labels[column]))  # type: ignore[arg-type]
        assert same(cell(sheet, 3, **place), labels_to_image(drawing.labels[column]))  # type: ignore[arg-type]
    assert sheet.size == (2 * WIDE + 8 * CELL[1] + 7 * NARROW, 2 * WIDE + 4 * CELL[0] + 3 * NARROW)


@pytest.mark.parametrize("kind", ["poses", "styles"])
def test_a_block_is_one_style_or_one_pose(kind: str) -> None:
    generator, given = tiny_generator(), batch()
    sheet = sheets.draw_sheets(generator, given)[kind]
    images = from_uint8(given.images)
    assert generator.encoder is not None
    for block, fixed in enumerate((5, 6, 7)):
        for column in (0, 3, 7):
            style, pose = (fixed, column) if kind == "poses" else (column, fixed)
            with torch.no_grad():
                codes = generator.encoder(images[style : style + 1], given.pose[style : style + 1])
                drawing = generator.synthesize(generator.affine(codes), given.pose[pose : pose + 1])
            blocks = (1, 2, 2, 2)
            assert same(cell(sheet, 0, column + 1, blocks=blocks, head=True), to_pil(images[column]))
            drawn = cell(sheet, 1 + 2 * block, column + 1, blocks=blocks, head=True)
            difference = np.abs(np.asarray(drawn, np.int16) - np.asarray(to_pil(drawing.image[0]), np.int16))
            assert difference.max() <= 1  # a batch of another size rounds otherwise
            classes = np.asarray(cell(sheet, 2 + 2 * block, column + 1, blocks=blocks, head=True))
            assert (classes == np.asarray(labels_to_image(drawing.labels[0]))).mean() > 0.99
        assert same(cell(sheet, 1 + 2 * block, 0, blocks=blocks, head=True), to_pil(images[fixed]))


def test_without_an_encoder_styles_are_random() -> None:
    drawn = sheets.draw_sheets(tiny_generator(encoder=False), batch())
    assert list(drawn) == ["poses", "styles", "random"]
    poses, styles = drawn["poses"], drawn["styles"]
    assert poses.size[0] == 2 * WIDE + 8 * CELL[1] + 7 * NARROW  # no column of pictures that styles come from
    assert styles.size[0] > poses.size[0]
    assert styles.size[1] == WIDE + 3 * (2 * CELL[0] + NARROW + WIDE)  # and no row of them
    assert same(cell(styles, 0, 0, blocks=(2, 2, 2), head=True), to_pil(from_uint8(batch().images[5])))


@pytest.mark.parametrize("count", [1, 2, 5, 32])
def test_few_and_many_pictures(count: int) -> None:
    drawn = sheets.draw_sheets(tiny_generator(), batch(count))
    columns = min(count, 8)
    assert drawn["held-out"].size[0] == 2 * WIDE + columns * CELL[1] + (columns - 1) * NARROW
    if count == 32:  # from all over the batch
        last = cell(drawn["held-out"], 0, 7, blocks=(4,), head=False)
        assert same(last, to_pil(from_uint8(batch(32).images[31])))


def test_large_pictures_are_made_smaller_and_small_ones_larger() -> None:
    assert sheets._picture(torch.zeros(3, 512, 384)).size == (192, 256)
    assert sheets._picture(torch.zeros(512, 384, dtype=torch.uint8)).size == (192, 256)
    assert sheets._picture(torch.zeros(3, 128, 96)).size == (96, 128)
    assert sheets._picture(torch.zeros(3, 4, 3)).size == (72, 96)


def test_a_generator_that_has_diverged_is_drawn_black(tmp_path: Path) -> None:
    generator = tiny_generator()
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.fill_(float("nan"))
    files = sheets.save_sheets(generator, batch(), tmp_path, 20)
    assert [file.name for file in files] == [
        "step-0000020-held-out.png", "step-0000020-poses.png", "step-0000020-styles.png", "step-0000020-random.png",
    ]  # fmt: skip
    assert set(files) == set(sheets.sheet_files(tmp_path, 20).values())
    with Image.open(files[0]) as sheet:
        assert np.asarray(cell(sheet.convert("RGB"), 1, 0, blocks=(4,), head=False)).max() == 0


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "samples").write_text("in the way")
    with pytest.raises(SaveError, match="path: cannot write"):
        sheets.save_sheets(tiny_generator(), batch(1), tmp_path, 1)
