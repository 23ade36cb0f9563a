"""The picture of a training's curves: everything is in it, whatever the log holds."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from styletryon.errors import DataError, SaveError
from styletryon.training import CurvesCallback, save_curves
from styletryon.training import curves as module
from styletryon.training.curves import draw_curves
from styletryon.training.logging import MetricsLog

BLUE = (0, 114, 178)


def log(count: int, **columns: Any) -> list[dict[str, Any]]:
    """Rows of a run; a column is a number or a function of the row's number."""
    return [
        {"step": 100 * n, "pictures": 800 * n, "stage": 0}
        | {name: value(n) if callable(value) else value for name, value in columns.items()}
        for n in range(1, count + 1)
    ]


def plotted(sheet: Image.Image, colour: tuple[int, int, int] = BLUE) -> np.ndarray[Any, Any]:
    """Where the first panel's plot, without its legend, holds a colour: rows and columns."""
    top = module._HEAD + module._TITLE + module._LINE
    pixels = np.asarray(sheet)[top : module._HEAD + module._HEIGHT]
    return np.argwhere((pixels == colour).all(axis=-1))


@pytest.mark.parametrize("count", [1, 2, 3, 40, 3000])
def test_any_length_is_drawn(count: int) -> None:
    sheet = draw_curves(log(count, pixel=lambda n: 1 / n, rate=30.0, val_fg_psnr=lambda n: 10 + n / count), title="run")
    assert sheet.mode == "RGB"
    assert len(plotted(sheet)) > 0
    assert sheet.size == (1208, 40 + 2 * 270 + 8)  # three panels, of which the first is wide


def test_a_curve_goes_where_its_numbers_are() -> None:
    places = plotted(draw_curves(log(100, pixel=lambda n: 10.0**-n if n < 5 else 1e-5)))
    rows, columns = places[:, 0], places[:, 1]
    left, right = rows[columns < columns.min() + 20], rows[columns > columns.max() - 20]
    assert left.mean() < right.mean() - 100  # it falls from the top to the bottom


def test_equal_distances_on_a_logarithmic_axis() -> None:
    axis = module._log_axis(1e-3, 1.0)
    assert axis.ticks == (1e-3, 1e-2, 1e-1, 1.0)
    shares = axis.share(np.array(axis.ticks))
    assert np.diff(shares) == pytest.approx(np.diff(shares)[0])


@settings(deadline=None, max_examples=200)
@given(low=st.floats(-1e6, 1e6), span=st.floats(1e-3, 1e6), count=st.integers(3, 8))
def test_ticks_are_round_few_and_inside(low: float, span: float, count: int) -> None:
    axis = module._linear_axis(low, low + span, count=count)
    assert 1 <= len(axis.ticks) <= count + 2
    assert all(axis.low - 1e-6 * span <= tick <= axis.high + 1e-6 * span for tick in axis.ticks)
    if len(axis.ticks) > 1:
        step = axis.ticks[1] - axis.ticks[0]
        mantissa = step / 10 ** math.floor(math.log10(step) + 1e-6)
        assert min(abs(mantissa - nice) for nice in (1, 2, 2.5, 5, 10)) < 1e-3


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (25_000, "25k"), (1_250_000, "1.25M"), (2e9, "2G"), (0.02, "0.02"), (1e-5, "1e-5"), (-0.5, "-0.5"),
     (1e-17, "0")],
)  # fmt: skip
def test_numbers_of_an_axis_are_short(value: float, text: str) -> None:
    assert module._text(value) == text


def test_numbers_that_are_not_finite_leave_a_gap() -> None:
    rows = log(60, pixel=lambda n: None if 20 < n <= 40 else 1.0 + n / 1000)
    columns = set(plotted(draw_curves(rows))[:, 1])
    gap = [column for column in range(min(columns), max(columns)) if column not in columns]
    assert len(gap) > 0.25 * (max(columns) - min(columns))
    assert len(plotted(draw_curves([*rows, {"step": 1e4, "pictures": 99_999, "pixel": math.nan}]))) > 0


def test_a_measure_that_comes_now_and_then_has_no_gaps() -> None:
    rows = [row if row["step"] % 1000 == 0 else {"step": row["step"], "pictures": row["pictures"]}
            for row in log(60, val_fg_psnr=lambda n: float(n))]  # fmt: skip
    columns = sorted(set(plotted(draw_curves(rows))[:, 1]))
    assert np.diff(columns).max() <= 2


def test_every_column_has_a_place() -> None:
    known = {"pixel": 1.0, "adversarial": 1.0, "real": -1.0, "augmentation": 0.1, "val_fg_psnr": 9.0, "val_iou": 0.5,
             "rate": 3.0, "mystery": 2.0}  # fmt: skip
    panels = module._panels(log(2, **known, note="text", flag=None))
    assert [panel.names for panel in panels] == [(name,) for name in
        ("pixel", "adversarial", "real", "augmentation", "val_fg_psnr", "val_iou", "mystery", "rate")]  # fmt: skip


def test_beginnings_of_stages_are_marked() -> None:
    rows = log(30, pixel=lambda n: 1.0)
    for row in rows[10:]:
        row["stage"] = 1
    assert module._beginnings(rows) == [(8800.0, 2)]
    height = module._HEIGHT - module._TITLE - 2 * module._LINE - module._BOTTOM
    for sheet, lines in (draw_curves(rows), 1), (draw_curves([{**row, "stage": 0} for row in rows]), 0):
        drawn = np.bincount(plotted(sheet, module._FAINT)[:, 1])
        assert ((drawn > 0.45 * height) & (drawn < 0.6 * height)).sum() == lines  # half of a dashed line is white


def test_losses_at_zero_and_below_are_drawn() -> None:
    draw_curves(log(5, pixel=0.0, gradient=lambda n: n - 3.0, rate=0.0))


def test_rows_out_of_order_and_without_pictures() -> None:
    rows = [{"step": step, "pixel": 0.1 * step} for step in (3, 1, 2)]
    assert np.array_equal(np.asarray(draw_curves(rows)), np.asarray(draw_curves(sorted(rows, key=lambda r: r["step"]))))


def test_saving_beside_the_log_or_elsewhere(tmp_path: Path) -> None:
    written = MetricsLog(tmp_path / "run" / "metrics.jsonl")
    for row in log(3, pixel=0.5):
        written.append(row.pop("step"), row)
    assert save_curves(tmp_path / "run") == tmp_path / "run" / "curves.png"
    other = save_curves(tmp_path / "run" / "metrics.jsonl", tmp_path / "new" / "c.png")
    with Image.open(other) as one, Image.open(tmp_path / "run" / "curves.png") as two:
        assert np.array_equal(np.asarray(one), np.asarray(two))
    with pytest.raises(SaveError, match="path"):
        save_curves(tmp_path / "run", tmp_path / "c.xyz")
    with pytest.raises(DataError, match="run: expected the folder"):
        save_curves(tmp_path)
    with pytest.raises(DataError, match="rows: expected a log with numbers"):
        draw_curves([])
    with pytest.raises(DataError, match="rows: expected a log with numbers"):
        draw_curves([{"step": 1, "pictures": 8, "stage": 0, "note": "x"}])


def test_the_callback_draws_with_the_samples_and_at_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer: Any = SimpleNamespace(out=tmp_path)
    callback, picture = CurvesCallback(), tmp_path / "curves.png"
    callback.on_end(trainer, False)  # nothing was logged
    assert not list(tmp_path.iterdir())
    written = MetricsLog(tmp_path / "metrics.jsonl")
    written.append(1, {"pixel": 1.0})
    callback.on_log(trainer, {})
    assert not picture.exists()
    callback.on_sample(trainer)
    callback.on_log(trainer, {})
    assert picture.exists()
    picture.unlink()
    callback.on_log(trainer, {})
    assert not picture.exists()
    callback.on_end(trainer, True)
    assert picture.exists()
    picture.unlink()
    picture.mkdir()
    callback.on_end(trainer, True)  # a picture is no reason to stop a training
    assert "cannot draw the curves" in caplog.text
