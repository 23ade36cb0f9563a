"""The curves of a training as one picture, drawn from its log."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from styletryon.errors import DataError, SaveError
from styletryon.photo import save_image
from styletryon.training.callbacks import TrainingCallback
from styletryon.training.logging import LOG_NAME, read_log

if TYPE_CHECKING:
    from styletryon.training.loop import BaseTrainer

_LOGGER = logging.getLogger(__name__)

CURVES_NAME = "curves.png"

Row = Mapping[str, Any]
Colour = tuple[int, int, int]
_Floats = NDArray[np.float64]

_PAPER, _INK, _FAINT, _GRID = (255, 255, 255), (45, 45, 52), (120, 120, 128), (232, 232, 236)
# Those who cannot tell red from green tell these apart (Okabe and Ito). White hides their yellow, so it is left out.
_COLOURS: tuple[Colour, ...] = (
    (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (90, 90, 90),
)  # fmt: skip
_WIDTH, _HEIGHT = 592, 262  # of a panel
_LEFT, _RIGHT, _BOTTOM = 58, 16, 26  # of its plot, from its edges
_TITLE, _LINE = 26, 18  # heights of a panel's title and of each line of its legend
_MARGIN, _HEAD = 8, 40
_FINE = 3  # Lines are drawn so many times as large and made smaller, which smooths them.
_BIN = 2  # Pixels from one drawn point of a long curve to the next.
_DOTTED = 40  # A curve of no more points than this shows each.
_LATE = 0.5  # A panel whose numbers begin after this share of a run shows that part alone.
_STEEP = 3.0  # A panel of losses whose largest value is so many times the smallest has a logarithmic axis.


@dataclass(frozen=True)
class _Panel:
    """Some columns of the log that share axes."""

    title: str
    names: tuple[str, ...]
    log: bool = False
    from_zero: bool = False


@dataclass(frozen=True, eq=False)
class _Curve:
    """One column: pieces between the places where the log has no number, each `(4, N)`: x, mean, lowest, highest."""

    name: str
    colour: Colour
    pieces: tuple[_Floats, ...]
    last: float


@dataclass(frozen=True)
class _Axis:
    """A range of values and where its ticks are."""

    low: float
    high: float
    log: bool
    ticks: tuple[float, ...]

    def share(self, values: _Floats) -> _Floats:
        """Return how far along the axis values lie, from 0 to 1."""
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            return (np.log(np.maximum(values, 1e-300)) - low) / (high - low)
        return (values - self.low) / (self.high - self.low)


def draw_curves(rows: Sequence[Row], *, title: str = "") -> Image.Image:
    """Draw the log of a training: losses, measures of held-out pictures, speed, and whatever else it holds.

    Long logs are drawn as the mean of neighbouring rows, on a band from the lowest to the highest of them. Where a
    number was not finite the curve has a gap. Dashed lines are the beginnings of stages.

    Args:
        rows: What `read_log` returns. Columns that are no numbers are left out.
        title: Stands above everything.

    Returns:
        A picture of mode "RGB", about 1200 pixels wide.

    Raises:
        DataError: If there is no row, or none holds a number to draw.
    """
    rows = sorted(rows, key=_x)
    panels = _panels(rows)
    if not panels:
        raise DataError("expected a log with numbers in it, got none; it is written every 100 steps", argument="rows")
    wide = len(panels) % 2  # an odd panel is as wide as two, the first because it is looked at most
    height = _HEAD + (len(panels) + wide) // 2 * (_HEIGHT + _MARGIN)
    sheet = Image.new("RGB", (2 * _WIDTH + 3 * _MARGIN, height + _MARGIN), _PAPER)
    _write_head(sheet, rows, title)
    stages = _beginnings(rows)
    for number, panel in enumerate(panels):
        place = number + wide if number else 0
        corner = _MARGIN + place % 2 * (_WIDTH + _MARGIN), _HEAD + place // 2 * (_HEIGHT + _MARGIN)
        width = 2 * _WIDTH + _MARGIN if wide and not number else _WIDTH
        sheet.paste(_draw_panel(panel, rows, stages, width), corner)
    return sheet


def save_curves(run: str | os.PathLike[str], path: str | os.PathLike[str] | None = None) -> Path:
    """Draw the curves of a run from its log.

    Args:
        run: The folder of the run, or its ``metrics.jsonl``.
        path: Name of the picture. Default: ``curves.png`` beside the log.

    Returns:
        The name of the picture.

    Raises:
        DataError: If there is no log, or nothing in it to draw.
        SaveError: If the picture cannot be written.
    """
    log = Path(run)
    if log.is_dir():
        log = log / LOG_NAME
    if not log.is_file():
        raise DataError(f"expected the folder of a training with a {LOG_NAME}, got {os.fspath(run)!r}", argument="run")
    name = log.parent.resolve().name
    picture = draw_curves(read_log(log), title=name)
    target = log.parent / CURVES_NAME if path is None else Path(path)
    save_image(picture, target)
    return target


class CurvesCallback(TrainingCallback):
    """Draws ``curves.png`` into the folder of the run whenever samples are drawn, and at its end."""

    def __init__(self) -> None:
        self._due = False

    def on_sample(self, trainer: BaseTrainer) -> None:
        """Draw at the next row, which holds what was measured."""
        self._due = True

    def on_log(self, trainer: BaseTrainer, row: Mapping[str, float | int | str]) -> None:
        """Draw if samples were."""
        if self._due:
            self._due = False
            self._draw(trainer)

    def on_end(self, trainer: BaseTrainer, complete: bool) -> None:
        """Draw the last rows too."""
        if read_log(trainer.out / LOG_NAME):
            self._draw(trainer)

    def _draw(self, trainer: BaseTrainer) -> None:
        try:
            save_curves(trainer.out)
        except (SaveError, DataError) as error:  # A picture is no reason to stop a training.
            _LOGGER.warning("cannot draw the curves: %s", error)


# ------------------------------------------------------------------ what is drawn


def _x(row: Row) -> float:
    return float(row.get("pictures", row["step"]))


def _number(value: object) -> float:
    """Return a value of the log as a number; None stands there for what is not finite."""
    if isinstance(value, (int, float)) and math.isfinite(value):
        return float(value)
    return math.nan


def _panels(rows: Iterable[Row]) -> list[_Panel]:
    """Sort the columns of a log into panels."""
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(name for name, value in row.items() if not math.isnan(_number(value))))
    for name in ("step", "pictures", "stage"):
        names.pop(name, None)

    def take(*wanted: str, ending: str = "\n", start: str = "\n") -> tuple[str, ...]:
        chosen = [name for name in wanted if name in names]
        chosen += [name for name in names if name.endswith(ending) or name.startswith(start)]
        for name in chosen:
            del names[name]
        return tuple(chosen)

    speed = _Panel("Pictures a second", take("rate"), from_zero=True)
    panels = [
        _Panel("Reconstruction losses", take("pixel", "gradient", "wave", "label"), log=True),
        _Panel("Adversarial losses", take("adversarial", "discriminator", "r1", "path_length"), log=True),
        _Panel("Logits of the discriminator", take("real", "fake")),
        _Panel("What the discriminator teaches: norm of its gradient", take("adversarial_gradient"), log=True),
        _Panel("Augmentation before the discriminator", take("augmentation", "real_sign"), from_zero=True),
        _Panel("Held-out pictures, PSNR in dB", take(ending="_psnr")),
        _Panel("Held-out pictures, other measures", take(start="val_")),
        _Panel("Others", take(*list(names)), log=True),
        speed,
    ]
    return [panel for panel in panels if panel.names]


def _beginnings(rows: Sequence[Row]) -> list[tuple[float, int]]:
    """Return where the stages after the first row's begin, and their numbers, counted from 1."""
    numbers = [row.get("stage") for row in rows]
    return [
        (_x(row), number + 1)
        for row, before, number in zip(rows[1:], numbers[:-1], numbers[1:], strict=True)
        if isinstance(number, int) and number != before
    ]


def _curve(name: str, colour: Colour, rows: Sequence[Row], *, bin_width: float, log: bool) -> _Curve:
    """Cut a column where it holds no number, and take the mean of rows that would fall on the same pixels."""
    # A row without the column (measures come now and then) is no gap; a row with None in it is.
    present = [row for row in rows if name in row]
    x, y = np.array([_x(row) for row in present]), np.array([_number(row[name]) for row in present])
    if log:
        y = np.log(np.where(y > 0, y, np.nan))
    holes = np.flatnonzero(np.isnan(y))
    pieces = []
    for chosen in np.split(np.arange(len(y)), holes):
        chosen = chosen[~np.isnan(y[chosen])]
        if len(chosen):
            places = np.floor(x[chosen] / bin_width)
            _, starts, sizes = np.unique(places, return_index=True, return_counts=True)
            mean_x, mean_y = (np.add.reduceat(values[chosen], starts) / sizes for values in (x, y))
            lowest, highest = (reduce.reduceat(y[chosen], starts) for reduce in (np.minimum, np.maximum))
            values = np.stack([mean_y, lowest, highest])
            pieces.append(np.concatenate([mean_x[None], np.exp(values) if log else values]))
    return _Curve(name, colour, tuple(pieces), float(_number(present[-1][name])))


# ------------------------------------------------------------------ axes


def _steps(span: float, count: int) -> float:
    """Return the round distance of ticks at which about `count` of them fit into a span."""
    rough = span / count
    power = 10.0 ** math.floor(math.log10(rough))
    return next((factor * power for factor in (1, 2, 2.5, 5) if factor * power >= rough * 0.999), 10 * power)


def _linear_axis(low: float, high: float, *, count: int = 4, room: float = 0.05) -> _Axis:
    """Return an axis from `low` to `high`, with some room at either end."""
    flat = high - low <= 1e-9 * max(abs(low), abs(high))
    pad = (0.5 * abs(low) or 1.0) if flat else room * (high - low)
    low, high = low - pad, high + pad
    step = _steps(high - low, count)
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    return _Axis(low, high, False, tuple(number * step for number in range(first, last + 1)))


def _log_axis(low: float, high: float) -> _Axis:
    room = (high / low) ** 0.05
    low, high = low / room, high * room
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    skip = max(1, len(decades) // 6)
    factors = (1.0,) if high / low > 300 else (1.0, 2.0, 5.0)
    ticks = [factor * 10.0**decade for decade in decades[::skip] for factor in factors]
    return _Axis(low, high, True, tuple(tick for tick in ticks if low <= tick <= high))


def _pictures_axis(panel: _Panel, rows: Sequence[Row]) -> _Axis:
    """Return the axis of pictures seen: from nothing, or from where a panel begins that only the end of a run fills."""
    places = [_x(row) for row in rows if any(name in row for name in panel.names)]
    low, high = places[0], _x(rows[-1])
    axis = _linear_axis(low if _LATE * high < low < high else 0.0, high, count=6, room=0.015)
    return axis if axis.low > 0 else _Axis(0.0, axis.high, False, tuple(tick for tick in axis.ticks if tick >= 0))


def _axis(curves: Sequence[_Curve], panel: _Panel) -> _Axis:
    """Return the axis that shows all the means; the band around them may leave it."""
    means = np.concatenate([piece[1] for curve in curves for piece in curve.pieces])
    low, high = float(means.min()), float(means.max())
    if panel.log and low > 0 and high > _STEEP * low:
        return _log_axis(low, high)
    if panel.from_zero:
        axis = _linear_axis(min(low, 0.0), max(high, 0.0))
        return _Axis(min(low, 0.0) and axis.low, axis.high, False, axis.ticks)
    return _linear_axis(low, high)


def _text(value: float) -> str:
    """Write a number of an axis: 25k, 1.2M, 0.02, 1e-5."""
    if abs(value) < 1e-12:
        return "0"
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.4g}{unit}"
    return f"{value:.3g}".replace("e-0", "e-")


# ------------------------------------------------------------------ drawing


def _font(size: int) -> Any:
    return ImageFont.load_default(size=size)


def _write_head(sheet: Image.Image, rows: Sequence[Row], title: str) -> None:
    pen, last = ImageDraw.Draw(sheet), rows[-1]
    pen.text((_MARGIN + 14, _HEAD / 2), title, fill=_INK, font=_font(19), anchor="lm")
    parts = [f"step {last['step']:,}"]
    if "pictures" in last:
        parts.append(f"{last['pictures']:,} pictures")
    if isinstance(last.get("stage"), int):
        parts.append(f"stage {last['stage'] + 1}")
    place = (sheet.width - _MARGIN - _RIGHT, _HEAD / 2)
    pen.text(place, "   ".join(parts), fill=_FAINT, font=_font(14), anchor="rm")


def _draw_panel(
    panel: _Panel, rows: Sequence[Row], stages: Sequence[tuple[float, int]], width: int
) -> Image.Image:
    across = _pictures_axis(panel, rows)
    bin_width = (across.high - across.low) * _BIN / (width - _LEFT - _RIGHT)
    curves = [
        _curve(name, _COLOURS[number % len(_COLOURS)], rows, bin_width=bin_width, log=panel.log)
        for number, name in enumerate(panel.names)
    ]
    curves = [curve for curve in curves if curve.pieces]
    sheet = Image.new("RGB", (width, _HEIGHT), _PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((14, _TITLE / 2 + 2), panel.title, fill=_INK, font=_font(15), anchor="lm")
    if not curves:  # nothing above zero for a logarithm
        return sheet
    top = _TITLE + _write_legend(pen, curves, width) + (_LINE if stages else 6)
    box = (_LEFT, top, width - _RIGHT, _HEIGHT - _BOTTOM)
    down = _axis(curves, panel)
    inside = (box[2] - box[0], box[3] - box[1])
    sheet.paste(_draw_plot(curves, across, down, stages, inside), box[:2])
    small = _font(12)
    for tick, share in zip(down.ticks, down.share(np.array(down.ticks)), strict=True):
        pen.text((box[0] - 6, box[3] - share * inside[1]), _text(tick), fill=_FAINT, font=small, anchor="rm")
    unit = " pictures" if "pictures" in rows[0] else " steps"
    for number, (tick, share) in enumerate(zip(across.ticks, across.share(np.array(across.ticks)), strict=True)):
        text = _text(tick) + (unit if number == len(across.ticks) - 1 else "")
        x = box[0] + share * inside[0]
        half = pen.textlength(text, font=small) / 2
        x = min(x, width - 4 - half) if number else max(x, half)
        pen.text((x, box[3] + 6), text, fill=_FAINT, font=small, anchor="mt")
    for x, stage in stages:
        if x >= across.low:
            left = box[0] + float(across.share(np.array(x))) * inside[0]
            text = f"stage {stage}"
            half = pen.textlength(text, font=small) / 2
            pen.text((min(left, width - 4 - half), box[1] - 3), text, fill=_FAINT, font=small, anchor="mb")
    return sheet


def _write_legend(pen: ImageDraw.ImageDraw, curves: Sequence[_Curve], width: int) -> int:
    """Write names and last values below the title, broken into lines; return how high they are."""
    font, x, y = _font(13), 14.0, float(_TITLE)
    for curve in curves:
        text = f"{curve.name} {'not finite' if math.isnan(curve.last) else _text(curve.last)}"
        taken = 22 + pen.textlength(text, font=font)
        if x > 14 and x + taken > width - _RIGHT:
            x, y = 14.0, y + _LINE
        pen.rounded_rectangle((x, y + 7, x + 14, y + 10), radius=1, fill=curve.colour)
        pen.text((x + 19, y + _LINE / 2), text, fill=_INK, font=font, anchor="lm")
        x += taken + 14
    return int(y) - _TITLE + _LINE


def _crisp(place: float) -> int:
    """Return the middle of the final pixel that a place of the enlarged plot falls into."""
    return int(place) // _FINE * _FINE + _FINE // 2


def _draw_plot(
    curves: Sequence[_Curve], across: _Axis, down: _Axis, stages: Sequence[tuple[float, int]], size: tuple[int, int]
) -> Image.Image:
    """Draw everything between the axes that is not text."""
    width, height = size[0] * _FINE, size[1] * _FINE
    plot = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(plot)
    for left in map(_crisp, across.share(np.array(across.ticks)) * width):
        pen.line([(left, 0), (left, height)], fill=_GRID, width=_FINE)
    for tick, share in zip(down.ticks, down.share(np.array(down.ticks)), strict=True):
        colour, middle = _FAINT if tick == 0 and down.low < 0 else _GRID, _crisp((1 - share) * height)
        pen.line([(0, middle), (width, middle)], fill=colour, width=_FINE)
    for x, _ in stages:
        left = _crisp(float(across.share(np.array(x))) * width)
        for start in range(0, height, 8 * _FINE):
            pen.line([(left, start), (left, start + 4 * _FINE)], fill=_FAINT, width=_FINE)

    def points(x: _Floats, y: _Floats) -> list[tuple[float, float]]:
        # Far outside is as good as very far outside, and Pillow's coordinates are 32-bit.
        shares = np.clip(down.share(y), -2, 3)
        return list(zip((across.share(x) * width).tolist(), ((1 - shares) * height).tolist(), strict=True))

    for curve in curves:
        for x, _, lowest, highest in curve.pieces:
            if len(x) > 1 and (highest > lowest).any():
                band = Image.new("L", plot.size)
                outline = points(x, highest) + points(x, lowest)[::-1]
                ImageDraw.Draw(band).polygon(outline, fill=48)
                plot.paste(curve.colour, mask=band)
    for curve in curves:
        few = sum(piece.shape[1] for piece in curve.pieces) <= _DOTTED
        for x, mean, _, _ in curve.pieces:
            line = points(x, mean)
            pen.line(line, fill=curve.colour, width=2 * _FINE, joint="curve")
            radius = 3 * _FINE if few else _FINE
            for centre_x, centre_y in line if few or len(line) == 1 else ():
                corners = (centre_x - radius, centre_y - radius, centre_x + radius, centre_y + radius)
                pen.ellipse(corners, fill=curve.colour)
    pen.line([(0, 0), (0, height)], fill=_FAINT, width=2 * _FINE)
    pen.line([(0, height - 1), (width, height - 1)], fill=_FAINT, width=2 * _FINE)
    return plot.resize(size, Image.Resampling.BOX)
