"""When a run is given up, and that the checkpoint before it stands."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from styletryon.errors import TrainingDivergedError
from styletryon.training import Trainer
from styletryon.training import loop as module
from styletryon.training.divergence import DivergenceDetector, LossBuffer, means
from tests.training.test_trainer import data, trainer  # noqa: F401


def test_losses_keep_their_steps_and_names() -> None:
    losses = LossBuffer()
    losses.add(1, {"pixel": torch.tensor(1.0)})
    losses.add(2, {"pixel": torch.tensor(3.0), "r1": torch.tensor(5.0)})
    assert losses.rows() == [(1, {"pixel": 1.0}), (2, {"pixel": 3.0, "r1": 5.0})]
    assert means(losses.rows()) == {"pixel": 2.0, "r1": 5.0}
    losses.clear()
    assert losses.rows() == []
    assert math.isnan(means([(1, {"pixel": math.inf})])["pixel"])


def test_a_loss_that_is_not_finite_is_named_with_its_step_and_the_values() -> None:
    detector = DivergenceDetector()
    assert detector.check([(1, {"pixel": 0.5}), (2, {"pixel": 0.25, "label": 1.0})]) is None
    found = detector.check([(3, {"pixel": math.nan, "label": 2.0}), (4, {"pixel": math.nan, "label": math.nan})])
    assert found == (
        "the loss pixel is not finite at step 3 (pixel nan, label 2); "
        "the last finite ones seen were those of step 2 (pixel 0.25, label 1)"
    )


def test_float16_may_skip_steps_but_not_all() -> None:
    detector = DivergenceDetector(skips=True)
    rows = [(1, {"pixel": math.inf}), (2, {"pixel": 1.0})]
    assert detector.check(rows) is None
    assert means(rows) == {"pixel": 1.0}
    assert "step 3" in str(detector.check([(3, {"pixel": math.inf}), (4, {"pixel": math.nan})]))


GOOD = {"discriminator": 1.2, "adversarial_gradient": 0.1}
SATURATED = {"discriminator": 1e-4, "adversarial_gradient": 0.1}
SILENT = {"discriminator": 1.386, "adversarial_gradient": 1e-9}


@pytest.mark.parametrize(("losses", "word"), [(SATURATED, "certainty"), (SILENT, "no gradient")])
def test_a_discriminator_that_has_collapsed_for_long(losses: dict[str, float], word: str) -> None:
    detector = DivergenceDetector(patience=20)
    assert detector.check([(step, losses) for step in range(1, 20)]) is None
    assert detector.suspicious
    assert detector.check([(step, losses) for step in range(1, 20)]) is None  # seen before: they do not count twice
    assert detector.check([(20, GOOD)]) is None
    assert not detector.suspicious
    assert detector.check([(step, losses) for step in range(21, 40)]) is None
    found = detector.check([(40, losses)])
    assert found is not None
    assert word in found
    assert "20 steps, up to step 40" in found
    assert "discriminator" in found


def test_stages_without_a_discriminator_cannot_collapse() -> None:
    detector = DivergenceDetector(patience=2)
    assert detector.check([(step, {"pixel": 0.0}) for step in range(9)]) is None


def collapsed(run: Trainer) -> Callable[[], dict[str, torch.Tensor]]:
    """A step of a run whose discriminator collapses after step 8."""
    step = run.train_step

    def collapsing() -> dict[str, torch.Tensor]:
        losses = step()
        return losses | {"discriminator": torch.tensor(0.0)} if run.step > 8 else losses

    return collapsing


def test_the_checkpoint_before_a_collapse_stands(
    data: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "DivergenceDetector", lambda **_: DivergenceDetector(patience=6))
    run = trainer(data, tmp_path)
    run.train_step = collapsed(run)  # type: ignore[method-assign]
    with pytest.raises(TrainingDivergedError, match=r"that of step 8 in .* a lower discriminator_rate .* a higher r1"):
        run.train(log_every=1, save_minutes=0.0)
    assert run.step == 14
    assert run.checkpoints.steps()[-1] == 8
    assert "not saved: the discriminator may have collapsed" in caplog.text
    run = trainer(data, tmp_path)
    run.resume()
    run.train_step = collapsed(run)  # type: ignore[method-assign]
    run.checkpoints.keep = 1
    run.train(steps=3, log_every=1)  # a stop that is asked for: the state is kept, and so are those from before
    assert run.checkpoints.steps()[-2:] == [8, 11]


def test_weights_that_are_not_finite_are_never_saved(data: Path, tmp_path: Path) -> None:  # noqa: F811
    run = trainer(data, tmp_path)
    run.train(steps=1)
    step = run.train_step

    def poison() -> dict[str, torch.Tensor]:
        losses = step()
        with torch.no_grad():
            next(run.discriminator.parameters()).fill_(float("nan"))
        return losses

    run.train_step = poison  # type: ignore[method-assign]
    with pytest.raises(TrainingDivergedError, match="a weight of the discriminator is not finite at step 2"):
        run.train(steps=1)
    assert run.checkpoints.steps() == [1]
