"""What the loop tells its callbacks, and what one that fails does to a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from styletryon.training import Trainer, TrainingCallback
from styletryon.training.checkpoints import load_state
from tests.training.test_trainer import data, trainer  # noqa: F401


class Recorder(TrainingCallback):
    def __init__(self, fail: str = "") -> None:
        self.heard: list[tuple[str, int]] = []
        self.rows: list[Mapping[str, float | int | str]] = []
        self.complete: bool | None = None
        self.fail = fail

    def _hear(self, name: str, trainer: Trainer) -> None:
        self.heard.append((name, trainer.step))
        if name == self.fail:
            raise ValueError(f"{name} fails")

    def on_start(self, trainer: Trainer) -> None:
        self._hear("start", trainer)

    def on_log(self, trainer: Trainer, row: Mapping[str, float | int | str]) -> None:
        self.rows.append(row)
        self._hear("log", trainer)

    def on_sample(self, trainer: Trainer) -> None:
        self._hear("sample", trainer)

    def on_checkpoint(self, trainer: Trainer, path: Path) -> None:
        assert load_state(path)["step"] == trainer.step
        self._hear("checkpoint", trainer)

    def on_end(self, trainer: Trainer, complete: bool) -> None:
        self.complete = complete
        self._hear("end", trainer)


def test_a_callback_hears_everything(data: Path, tmp_path: Path) -> None:  # noqa: F811
    heard = Recorder()
    run = trainer(data, tmp_path)
    assert not run.train(steps=5, log_every=2, sample_every=4, callbacks=[TrainingCallback(), heard])
    assert heard.heard == [
        ("start", 0), ("log", 2), ("sample", 4), ("log", 4), ("checkpoint", 5), ("end", 5),
    ]  # fmt: skip
    assert heard.complete is False
    assert heard.rows[0].keys() >= {"step", "pictures", "stage", "rate", "pixel"}
    assert (heard.rows[1]["step"], heard.rows[1]["pictures"], heard.rows[1]["stage"]) == (4, 16, 1)
    assert run.train(callbacks=[heard])
    assert heard.complete is True


@pytest.mark.parametrize(("hook", "step"), [("start", 0), ("log", 2), ("sample", 4), ("checkpoint", 6), ("end", 6)])
def test_a_callback_that_fails_stops_the_run_with_a_checkpoint(
    data: Path,  # noqa: F811
    tmp_path: Path,
    hook: str,
    step: int,
) -> None:
    run, other = trainer(data, tmp_path), Recorder()
    with pytest.raises(ValueError, match=f"{hook} fails"):
        run.train(steps=6, log_every=2, sample_every=4, callbacks=[Recorder(fail=hook), other])
    assert run.checkpoints.steps() == [step]
    assert other.heard[-1] == ("end", step)
    assert other.complete is False
