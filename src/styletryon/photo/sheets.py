"""Contact sheets: pictures side by side, with captions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from styletryon.errors import (
    ImageError,
    RangeError,
    ShapeError,
)
from styletryon.photo.pixels import to_pil
from styletryon.photo.resampling import resize

_INK, _PAPER = (45, 45, 52), (255, 255, 255)


def contact_sheet(
    images: Sequence[Image.Image | Tensor],
    columns: int,
    *,
    captions: Sequence[str] | None = None,
    scale: float | None = None,
) -> Image.Image:
    """Lay pictures out in rows on white, for figures.

    Args:
        images: PIL images, or `(3, H, W)` tensors in [-1, 1]; at least one. Row by row.
        columns: How many stand in a row.
        captions: One per picture, set below it; or, where there are several rows, one per column, set above the column.
        scale: Enlargement of the pictures. Default: so much that the tallest has at least 256 pixels.

    Returns:
        A picture of mode "RGB". Pictures of unequal size are centred in cells of equal size.

    Raises:
        ImageError: If there is no picture or an entry is none.
        ShapeError: If the number of columns or captions does not fit.
        RangeError: If the scale is not positive.
    """
    if not images:
        raise ImageError("expected at least one picture, got none", argument="images")
    if columns < 1:
        raise ShapeError(f"expected at least 1, got {columns}", argument="columns")
    rows = math.ceil(len(images) / columns)
    columns = min(columns, len(images))
    if captions is not None and len(captions) not in (len(images), columns):
        raise ShapeError(
            f"expected {len(images)}, one per picture, or {columns}, one per column, got {len(captions)}",
            argument="captions",
        )
    if scale is not None and not (math.isfinite(scale) and scale > 0):
        raise RangeError(f"expected a positive number, got {scale}", argument="scale")
    pictures = [_as_picture(image) for image in images]
    factor = scale if scale is not None else max(1.0, 256 / max(picture.height for picture in pictures))
    pictures = [_enlarged(picture, factor) for picture in pictures]

    cell_width = max(picture.width for picture in pictures)
    cell_height = max(picture.height for picture in pictures)
    gutter = max(6, round(min(cell_width, cell_height) / 24))
    texts: Sequence[str] = captions or ()
    over_columns = bool(texts) and len(texts) != len(images)
    blocks = _Captions(texts, cell_width)
    head = blocks.height + gutter // 2 if over_columns else 0
    foot = blocks.height + gutter // 2 if texts and not over_columns else 0

    width = columns * cell_width + (columns + 1) * gutter
    sheet = Image.new("RGB", (width, gutter + head + rows * (cell_height + foot + gutter)), _PAPER)
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        x = gutter + column * (cell_width + gutter)
        y = gutter + head + row * (cell_height + foot + gutter)
        sheet.paste(picture, (x + (cell_width - picture.width) // 2, y + (cell_height - picture.height) // 2))
        if foot:
            blocks.draw(sheet, index, x + cell_width / 2, y + cell_height + gutter // 2)
        elif head and row == 0:
            blocks.draw(sheet, column, x + cell_width / 2, gutter)
    return sheet


class _Captions:
    """Texts that are broken into lines no wider than a cell."""

    def __init__(self, texts: Sequence[str], width: int) -> None:
        self.size = min(28, max(12, round(width / 13)))
        self.font = ImageFont.load_default(size=self.size)
        self.lines = [self._broken(text, width) for text in texts]
        self.line_height = round(self.size * 1.3)
        self.height = self.line_height * max((len(lines) for lines in self.lines), default=0)

    def _broken(self, text: str, width: int) -> list[str]:
        lines = [""]
        for number, paragraph in enumerate(text.split("\n")):
            if number:
                lines.append("")
            for word in paragraph.split():
                longer = f"{lines[-1]} {word}".strip()
                if lines[-1] and self.font.getlength(longer) > width:
                    lines.append(word)
                else:
                    lines[-1] = longer
        return lines

    def draw(self, sheet: Image.Image, index: int, centre: float, top: float) -> None:
        pen = ImageDraw.Draw(sheet)
        for number, line in enumerate(self.lines[index]):
            place = (centre, top + (number + 0.5) * self.line_height)
            pen.text(place, line, fill=_INK, font=self.font, anchor="mm")


def _as_picture(image: Image.Image | Tensor) -> Image.Image:
    if isinstance(image, Tensor):
        return to_pil(image)
    if not isinstance(image, Image.Image):
        raise ImageError(f"expected PIL images or (3, H, W) tensors, got {type(image).__name__}", argument="images")
    if image.has_transparency_data:
        paper = Image.new("RGB", image.size, _PAPER)
        rgba = image.convert("RGBA")
        paper.paste(rgba.convert("RGB"), mask=rgba.getchannel("A"))
        return paper
    return image.convert("RGB")


def _enlarged(picture: Image.Image, factor: float) -> Image.Image:
    if factor == 1:
        return picture
    size = max(1, round(picture.height * factor)), max(1, round(picture.width * factor))
    return resize(picture, size, filter="lanczos")
