"""The picture of a training's curves: everything is in it, whatever the log holds."""

from __future__ import annotations

import builtins
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from styletryon.errors import DataError, DependencyError, SaveError
from styletryon.training import CurvesCallback, save_curves
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


def curve(axes: Axes, number: int = 0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The points of a curve."""
    line = axes.get_lines()[number]
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata())


def pixels(figure: Figure) -> np.ndarray[Any, Any]:
    """The picture, as it is saved."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def places(figure: Figure, axes: Axes, x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Row and column of the pixels where values of an axis lie."""
    height = pixels(figure).shape[0]
    at = axes.transData.transform(np.stack([x, y], axis=1))
    return np.stack([height - 1 - at[:, 1], at[:, 0]], axis=1).round().astype(int)


@pytest.mark.parametrize("count", [1, 2, 3, 40, 3000])
def test_any_length_is_drawn(count: int) -> None:
    rows = log(count, pixel=lambda n: 1 / n, rate=30.0, val_fg_psnr=lambda n: 10 + n / count)
    figure = draw_curves(rows, title="run")
    assert len(figure.axes) == 3
    assert figure.get_suptitle() == f"run   step {100 * count:,}   {800 * count:,} pictures   stage 1"
    picture = pixels(figure)
    assert (picture == BLUE).all(axis=-1).any()


def test_the_curve_is_painted_where_its_numbers_are() -> None:
    rows = log(30, pixel=lambda n: 10.0 ** (-n / 10))
    figure = draw_curves(rows)
    (axes,) = figure.axes
    x, y = np.array([row["pictures"] for row in rows]), np.array([row["pixel"] for row in rows])
    picture = pixels(figure)

    def painted(y: np.ndarray[Any, Any]) -> list[bool]:
        spots = [picture[r - 2 : r + 3, c - 2 : c + 3] for r, c in places(figure, axes, x, y)]
        return [bool((spot == BLUE).all(axis=-1).any()) for spot in spots]

    assert all(painted(y))
    assert not any(painted(y * 3)[5:])  # away from the curve, and inside the plot
    assert axes.get_yscale() == "log"
    assert axes.get_xlim()[0] == 0


def test_short_logs_are_drawn_as_they_are_and_long_ones_as_means_of_neighbours() -> None:
    rows = log(250, pixel=lambda n: float(n % 7))
    x, y = curve(draw_curves(rows).axes[0])
    assert x.tolist() == [row["pictures"] for row in rows]
    assert y.tolist() == [row["pixel"] for row in rows]
    axes = draw_curves(log(1000, pixel=lambda n: float(n))).axes[0]
    x, y = curve(axes)
    assert y.tolist() == [4 * k + 2.5 for k in range(250)]
    assert x.tolist() == [800 * (4 * k + 2.5) for k in range(250)]
    (band,) = axes.collections
    corners = band.get_paths()[0].vertices
    assert {(800 * 2.5, 1.0), (800 * 2.5, 4.0)} <= {(float(a), float(b)) for a, b in corners}  # lowest and highest


def test_numbers_that_are_not_finite_leave_a_gap() -> None:
    rows = [*log(60, pixel=lambda n: None if 20 < n <= 40 else 1.0), {"step": 7000, "pictures": 99_999, "pixel": None}]
    figure = draw_curves(rows)
    _, y = curve(figure.axes[0])
    assert np.isnan(y).tolist() == [False] * 20 + [True] * 20 + [False] * 20 + [True]
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["pixel not finite"]
    _, y = curve(draw_curves(log(3000, pixel=lambda n: None if n > 1500 else 1.0)).axes[0])
    assert np.isnan(y).tolist() == [False] * 125 + [True] * 125


def test_a_measure_that_comes_now_and_then_has_no_gaps() -> None:
    rows = [row if row["step"] % 1000 == 0 else {"step": row["step"], "pictures": row["pictures"]}
            for row in log(60, val_fg_psnr=lambda n: float(n))]  # fmt: skip
    x, y = curve(draw_curves(rows).axes[0])
    assert x.tolist() == [8000 * k for k in range(1, 7)]
    assert y.tolist() == [10.0 * k for k in range(1, 7)]


def test_every_column_has_a_place_and_its_last_value_in_the_legend() -> None:
    known = {"pixel": 1.0, "adversarial": 1.0, "real": -1.0, "augmentation": 0.1, "val_fg_psnr": 9.0, "val_iou": 0.5,
             "rate": 3.0, "mystery": 2.0}  # fmt: skip
    axes = draw_curves(log(2, **known, note="text", flag=None)).axes
    texts = [[text.get_text() for text in panel.get_legend().get_texts()] for panel in axes]  # type: ignore[union-attr]
    assert texts == [["pixel 1"], ["adversarial 1"], ["real -1"], ["augmentation 0.1"], ["val_fg_psnr 9"],
                     ["val_iou 0.5"], ["mystery 2"], ["rate 3"]]  # fmt: skip


def test_beginnings_of_stages_are_marked() -> None:
    rows = log(30, pixel=lambda n: 1.0)
    for row in rows[10:]:
        row["stage"] = 1
    for shown, marked in (rows, [8800.0]), ([{**row, "stage": 0} for row in rows], []):
        lines = draw_curves(shown).axes[0].get_lines()
        dashed = [np.asarray(line.get_xdata())[0] for line in lines if line.get_linestyle() == "--"]
        assert dashed == marked


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ((0.0, 0.0, 0.0), "linear"),
        ((-2.0, 0.0, 9.0), "linear"),
        ((1.0, 2.0, 2.9), "linear"),
        ((1.0, 2.0, 3.1), "log"),
        ((1e-9, 1.0, 1e9), "log"),
    ],
)
def test_losses_of_any_size_are_inside_their_axes(values: tuple[float, ...], scale: str) -> None:
    (axes,) = draw_curves(log(3, pixel=lambda n: values[n - 1])).axes
    assert axes.get_yscale() == scale
    low, high = axes.get_ylim()
    assert low <= min(values) <= max(values) <= high
    assert curve(axes)[1].tolist() == list(values)


def test_speed_is_shown_from_zero_and_late_losses_from_where_they_begin() -> None:
    rows = log(100, rate=lambda n: 30.0 + n % 2)
    for row in rows[80:]:
        row["adversarial"] = 1.0
    late, speed = draw_curves(rows).axes
    assert speed.get_ylim()[0] == 0
    assert speed.get_xlim()[0] == 0
    assert late.get_xlim()[0] == rows[80]["pictures"]


def test_rows_out_of_order_and_without_pictures() -> None:
    (axes,) = draw_curves([{"step": step, "pixel": 0.1 * step} for step in (3, 1, 2)]).axes
    assert curve(axes)[0].tolist() == [1, 2, 3]
    assert axes.get_xlabel() == "steps"


def write_log(folder: Path) -> None:
    written = MetricsLog(folder / "metrics.jsonl")
    for row in log(3, pixel=0.5):
        written.append(row.pop("step"), row)


def test_saving_beside_the_log_or_elsewhere(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_log(run)
    assert save_curves(run) == run / "curves.png"
    other = save_curves(run / "metrics.jsonl", tmp_path / "new" / "c.png")
    with Image.open(other) as one, Image.open(run / "curves.png") as two:
        assert np.array_equal(np.asarray(one), np.asarray(two))
    assert save_curves(run, tmp_path / "c.svg").read_text().startswith("<?xml")
    with pytest.raises(SaveError, match="path: expected a name that ends in"):
        save_curves(run, tmp_path / "c.xyz")
    with pytest.raises(DataError, match="run: expected the folder"):
        save_curves(tmp_path)
    with pytest.raises(DataError, match="rows: expected a log with numbers"):
        draw_curves([])
    with pytest.raises(DataError, match="rows: expected a log with numbers"):
        draw_curves([{"step": 1, "pictures": 8, "stage": 0, "note": "x", "pixel": math.nan}])


def test_the_callback_draws_with_the_samples_and_at_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer: Any = SimpleNamespace(out=tmp_path)
    callback, picture = CurvesCallback(), tmp_path / "curves.png"
    callback.on_end(trainer, False)  # nothing was logged
    assert not list(tmp_path.iterdir())
    write_log(tmp_path)
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


def test_without_matplotlib_the_log_says_once_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = builtins.__import__

    def missing(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *arguments, **options)

    write_log(tmp_path)
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(DependencyError, match=r"pip install 'styletryon\[plots\]'"):
        save_curves(tmp_path)
    trainer: Any = SimpleNamespace(out=tmp_path)
    callback = CurvesCallback()
    for _ in range(2):
        callback.on_sample(trainer)
        callback.on_log(trainer, {})
    callback.on_end(trainer, True)
    told = [record.message for record in caplog.records]
    assert len(told) == 1
    assert "pip install 'styletryon[plots]'" in told[0]
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.csv", "metrics.jsonl"}
