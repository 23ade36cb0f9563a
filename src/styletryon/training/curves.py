"""The curves of a training as one picture, drawn from its log by matplotlib: ``pip install styletryon[plots]``."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from styletryon._files import write_atomically
from styletryon.errors import DataError, DependencyError, SaveError
from styletryon.training.callbacks import TrainingCallback
from styletryon.training.logging import LOG_NAME, read_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from styletryon.training.loop import BaseTrainer

_LOGGER = logging.getLogger(__name__)

CURVES_NAME = "curves.png"

Row = Mapping[str, Any]
_Floats = NDArray[np.float64]

# Those who cannot tell red from green tell these apart (Okabe and Ito). White hides their yellow, so it is left out.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#5a5a5a")
_POINTS = 250  # Curves of more rows are drawn as the means of neighbours.
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


def draw_curves(rows: Sequence[Row], *, title: str = "") -> Figure:
    """Draw the log of a training: losses, measures of held-out pictures, speed, and whatever else it holds.

    Long logs are drawn as the mean of neighbouring rows, on a band from the lowest to the highest of them. Where a
    number was not finite the curve has a gap. Dashed lines are the beginnings of stages.

    Args:
        rows: The rows of the log, of `read_log`. Columns that are no numbers are left out.
        title: Stands above everything.

    Returns:
        The figure; ``figure.savefig(path)`` writes it.

    Raises:
        DataError: If there is no row, or none holds a number to draw.
        DependencyError: If the package matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # not pyplot, which keeps figures and opens windows
    except ImportError as error:
        raise DependencyError(
            f"expected the package matplotlib, which is not installed; pip install 'styletryon[plots]' ({error})",
            argument="curves",
        ) from error
    rows = sorted(rows, key=_x)
    panels = _panels(rows)
    if not panels:
        raise DataError("expected a log with numbers in it, got none; it is written every 100 steps", argument="rows")
    wide = len(panels) % 2  # an odd panel is as wide as two, the first because it is looked at most
    lines = (len(panels) + wide) // 2
    figure = Figure(figsize=(12, 2.7 * lines + 0.5), layout="constrained")
    figure.suptitle("   ".join(filter(None, [title, _progress(rows[-1])])))
    grid = figure.add_gridspec(lines, 2)
    for number, panel in enumerate(panels):
        place = number + wide if number else 0
        spot = grid[0, :] if wide and not number else grid[place // 2, place % 2]
        _draw_panel(figure.add_subplot(spot), panel, rows)
    return figure


def save_curves(run: str | os.PathLike[str], path: str | os.PathLike[str] | None = None) -> Path:
    """Draw the curves of a run from its log.

    Args:
        run: The folder of the run, or its ``metrics.jsonl``.
        path: Name of the picture, whose ending says its format: .png, .pdf, .svg, .jpg. Default: ``curves.png`` beside
            the log.

    Returns:
        The name of the picture.

    Raises:
        DataError: If there is no log, or nothing in it to draw.
        DependencyError: If the package matplotlib is not installed.
        SaveError: If the picture cannot be written.
    """
    log = Path(run)
    if log.is_dir():
        log = log / LOG_NAME
    if not log.is_file():
        raise DataError(f"expected the folder of a training with a {LOG_NAME}, got {os.fspath(run)!r}", argument="run")
    figure = draw_curves(read_log(log), title=log.parent.resolve().name)
    target = log.parent / CURVES_NAME if path is None else Path(path)
    kind, known = target.suffix[1:].lower(), figure.canvas.get_supported_filetypes()
    if kind not in known:
        raise SaveError(f"expected a name that ends in one of {sorted(known)}, got {str(target)!r}", argument="path")
    return write_atomically(target, lambda temporary: figure.savefig(temporary, format=kind))


class CurvesCallback(TrainingCallback):
    """Draws ``curves.png`` into the folder of the run whenever samples are drawn, and at its end.

    Without matplotlib it draws nothing, and the log says once how to get it.
    """

    def __init__(self) -> None:
        self._due = False
        self._missing = False

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
        if self._missing:
            return
        try:
            save_curves(trainer.out)
        except (SaveError, DataError, DependencyError) as error:  # A picture is no reason to stop a training.
            _LOGGER.warning("cannot draw the curves: %s", error)
            self._missing = isinstance(error, DependencyError)


def _x(row: Row) -> float:
    return float(row.get("pictures", row["step"]))


def _number(value: object) -> float:
    """Return a value of the log as a number; None stands there for what is not finite."""
    if isinstance(value, (int, float)) and math.isfinite(value):
        return float(value)
    return math.nan


def _progress(row: Row) -> str:
    """Say how far the run is at a row."""
    parts = [f"step {row['step']:,}"]
    if "pictures" in row:
        parts.append(f"{row['pictures']:,} pictures")
    if isinstance(row.get("stage"), int):
        parts.append(f"stage {row['stage'] + 1}")
    return "   ".join(parts)


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
        _Panel("Reconstruction losses", take("pixel", "gradient", "wave", "label", "print"), log=True),
        _Panel("Adversarial losses", take("adversarial", "discriminator", "r1", "path_length"), log=True),
        _Panel("Logits of the discriminator", take("real", "fake")),
        _Panel("Gradient of the discriminator at a drawing: its norm", take("adversarial_gradient"), log=True),
        _Panel("Augmentation before the discriminator", take("augmentation", "real_sign"), from_zero=True),
        _Panel("Held-out pictures, PSNR in dB", take(ending="_psnr")),
        _Panel("Held-out pictures, other measures", take(start="val_")),
        _Panel("Others", take(*list(names)), log=True),
        speed,
    ]
    return [panel for panel in panels if panel.names]


def _beginnings(rows: Sequence[Row]) -> list[float]:
    """Return where the stages after the first row's begin."""
    return [_x(row) for before, row in pairwise(rows) if "stage" in row and row["stage"] != before.get("stage")]


def _draw_panel(axes: Axes, panel: _Panel, rows: Sequence[Row]) -> None:
    """Draw the columns of a panel, each with its last value in the legend."""
    for name, colour in zip(panel.names, _COLOURS * len(panel.names), strict=False):
        # A row without the column (measures come now and then) is no gap; a row with None in it is.
        present = [row for row in rows if name in row]
        x, y = np.array([_x(row) for row in present]), np.array([_number(row[name]) for row in present])
        last = "not finite" if math.isnan(y[-1]) else f"{y[-1]:.4g}"
        if len(x) > _POINTS:
            x, y, lowest, highest = _neighbours(x, y)
            axes.fill_between(x, lowest, highest, color=colour, alpha=0.2, linewidth=0)
        axes.plot(x, y, "o-" if len(x) <= _DOTTED else "-", color=colour, label=f"{name} {last}", markersize=3)
    drawn: _Floats = np.concatenate([line.get_ydata() for line in axes.get_lines()])
    if panel.log and 0 < np.nanmin(drawn) < np.nanmax(drawn) / _STEEP:
        axes.set_yscale("log")
    elif panel.from_zero:
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]) if np.nanmin(drawn) < 0 else 0.0)
    begin = min(_x(row) for row in rows if any(not math.isnan(_number(row.get(name))) for name in panel.names))
    end = _x(rows[-1])
    axes.set_xlim(begin if _LATE * end < begin < end else 0.0, end * 1.01 or 1.0)
    for start in _beginnings(rows):
        axes.axvline(start, color="0.5", linestyle="--", linewidth=0.8)
    axes.set_title(panel.title, loc="left", fontsize="medium")
    axes.set_xlabel("pictures" if "pictures" in rows[0] else "steps", fontsize="small")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.tick_params(labelsize="small")
    axes.grid(color="0.92")
    axes.legend(fontsize="small", ncols=2, edgecolor="none")


def _neighbours(x: _Floats, y: _Floats) -> tuple[_Floats, _Floats, _Floats, _Floats]:
    """Return the means of neighbouring points, and the lowest and highest of each; NaN where all of them are."""
    bins = np.array_split(np.arange(len(x)), _POINTS)
    known = [y[part][~np.isnan(y[part])] for part in bins]
    columns = [
        (values.mean(), values.min(), values.max()) if len(values) else (math.nan,) * 3 for values in known
    ]
    mean, lowest, highest = np.array(columns).T
    return np.array([x[part].mean() for part in bins]), mean, lowest, highest
