"""Sheets of samples: what a generator draws while it is trained, laid out so that one sees what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from styletryon.data.folder import Batch
from styletryon.generator import GeneratorOutput
from styletryon.latent import Styles
from styletryon.models import PoseStyleGAN2
from styletryon.photo import from_uint8, labels_to_image, resize, save_image, to_pil
from styletryon.pose import Pose

KINDS = ("held-out", "poses", "styles", "random")

_COLUMNS, _BLOCKS = 8, 3  # pictures side by side, and how many styles or poses one below the other
_LOWEST, _HIGHEST = 96, 256  # Smaller pictures are enlarged, larger ones made smaller, by whole factors.
_NARROW, _WIDE = 2, 12  # white between what belongs together, and what does not
_TRUNCATION = 0.7

Row = Sequence["Tensor | None"]  # pictures (3, H, W) in [-1, 1], label maps (H, W), or nothing


def sheet_files(out: str | os.PathLike[str], step: int) -> dict[str, Path]:
    """Return where the sheets of a step lie, whether or not they are there.

    Args:
        out: The folder of the run.
        step: Steps done.
    """
    return {kind: Path(out) / "samples" / f"step-{step:07d}-{kind}.png" for kind in KINDS}


def save_sheets(generator: PoseStyleGAN2, batch: Batch, out: str | os.PathLike[str], step: int) -> list[Path]:
    """Draw the sheets of a step and save them.

    Args:
        generator: Draws them.
        batch: Held-out pictures, one or more.
        out: The folder of the run.
        step: Steps done.

    Returns:
        The names of the files.

    Raises:
        SaveError: If a file cannot be written.
    """
    files = sheet_files(out, step)
    sheets = draw_sheets(generator, batch)
    for kind, sheet in sheets.items():
        save_image(sheet, files[kind])
    return [files[kind] for kind in sheets]


@torch.no_grad()
def draw_sheets(generator: PoseStyleGAN2, batch: Batch) -> dict[str, Image.Image]:
    """Draw what there is to see.

    Every drawing has its segmentation below it. "held-out" (with an encoder): pictures, their reconstructions, their
    labels, the drawn labels. "poses": one style a block, in the pose of each picture at the top; at the left the
    picture that the style comes from. "styles": one pose a block, in the style of each picture at the top. "random":
    people of random latents. Without an encoder all styles are random.

    Args:
        generator: Draws them.
        batch: Held-out pictures, one or more.

    Returns:
        Kind -> sheet, of mode "RGB".
    """
    batch = _spread(batch, _COLUMNS)
    images = from_uint8(batch.images)
    count, few = len(batch), min(_BLOCKS, len(batch))
    sources: Row = [None] * count
    styles = _random_styles(generator, count, seed=1)
    sheets = {}
    if generator.encoder is not None:
        sources = list(images)
        styles = generator.affine(generator.encoder(images.to(generator.device), batch.pose))
        sheets["held-out"] = held_out_sheet(batch, generator.synthesize(styles, batch.pose.to(generator.device)))
    chosen = range(count - few, count)
    poses: list[list[Row]] = []
    people: list[list[Row]] = []
    for index in chosen:
        one_style = tuple(style[index : index + 1].expand(count, -1) for style in styles)
        drawn, classes = _draw(generator, one_style, batch.pose)
        poses.append([[sources[index], *drawn], [None, *classes]])
        one_pose = Pose(batch.keypoints[index : index + 1].expand(count, -1, -1), batch.pose.size)
        drawn, classes = _draw(generator, styles, one_pose)
        people.append([[images[index], *drawn], [None, *classes]])
    sheets["poses"] = _lay_out([[[None, *images]], *poses], head=True)
    top: list[Row] = [] if generator.encoder is None else [[None, *sources]]
    sheets["styles"] = _lay_out([top, *people], head=True)
    random = [_draw(generator, _random_styles(generator, count, seed=seed), batch.pose) for seed in (2, 3)]
    sheets["random"] = _lay_out([[list(images)], *(list(pair) for pair in random)])
    return sheets


def held_out_sheet(batch: Batch, drawing: GeneratorOutput) -> Image.Image:
    """Lay pictures over their reconstructions, and their labels over the drawn ones.

    Args:
        batch: B pictures.
        drawing: What was drawn of them.

    Returns:
        The sheet, of mode "RGB".
    """
    drawn, classes = _cells(drawing)
    return _lay_out([[list(from_uint8(batch.images)), drawn, list(batch.labels), classes]])


def _spread(batch: Batch, count: int) -> Batch:
    """Return some pictures from all over a batch: neighbours often show the same person."""
    chosen = np.unique(np.linspace(0, len(batch) - 1, min(count, len(batch))).round().astype(np.int64))
    rows = torch.from_numpy(chosen)
    return Batch(batch.images[rows], batch.labels[rows], batch.keypoints[rows], batch.indices[chosen])


def _random_styles(generator: PoseStyleGAN2, count: int, *, seed: int) -> Styles:
    z = torch.randn(count, generator.z_dim, generator=torch.Generator().manual_seed(seed))
    return generator.affine(generator.truncate(generator.mapping(z.to(generator.device)), _TRUNCATION))


def _draw(generator: PoseStyleGAN2, styles: Styles, pose: Pose) -> tuple[list[Tensor], list[Tensor]]:
    return _cells(generator.synthesize(styles, pose.to(generator.device)))


def _cells(drawing: GeneratorOutput) -> tuple[list[Tensor], list[Tensor]]:
    # A generator that has diverged is drawn black.
    return list(drawing.image.float().nan_to_num(-1.0).cpu()), list(drawing.labels.cpu())


def _lay_out(blocks: Sequence[Sequence[Row]], *, head: bool = False) -> Image.Image:
    """Lay rows of cells out on white: blocks of rows apart from each other and, with `head`, the first column too."""
    rows = [row for block in blocks for row in block]
    columns = max(len(row) for row in rows)
    pictures = [[None if cell is None else _picture(cell) for cell in row] for row in rows]
    if all(row[0] is None for row in pictures):  # No style comes from a picture.
        columns, pictures, head = columns - 1, [row[1:] for row in pictures], False
    shown = [cell for row in pictures for cell in row if cell is not None]
    width, height = shown[0].size
    full_width = columns * (width + _NARROW) - _NARROW + head * (_WIDE - _NARROW) + 2 * _WIDE
    tops, top = [], _WIDE
    for block in blocks:
        tops += [top + number * (height + _NARROW) for number in range(len(block))]
        top = tops[-1] + height + _WIDE if tops else top
    sheet = Image.new("RGB", (full_width, top), (255, 255, 255))
    for row, place in zip(pictures, tops, strict=True):
        for number, cell in enumerate(row):
            if cell is not None:
                left = _WIDE + number * (width + _NARROW) + (head and number > 0) * (_WIDE - _NARROW)
                sheet.paste(cell, (left, place))
    return sheet


def _picture(cell: Tensor) -> Image.Image:
    picture = labels_to_image(cell) if cell.ndim == 2 else to_pil(cell)
    if picture.height < _LOWEST:
        factor = -(-_LOWEST // picture.height)
        return resize(picture, (picture.height * factor, picture.width * factor), filter="nearest")
    factor = -(-picture.height // _HIGHEST)
    return picture.reduce(factor) if factor > 1 else picture
