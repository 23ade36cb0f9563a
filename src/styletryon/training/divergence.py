"""The losses of each step, and the rules by which a run that has diverged is given up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Row = tuple[int, dict[str, float]]
"""Number of a step and its losses."""

_CERTAIN = 1e-3
_SILENT = 1e-6


class LossBuffer:
    """The losses of the last steps, kept on their device until somebody looks: looking makes the host wait."""

    def __init__(self) -> None:
        self._kept: list[tuple[int, tuple[str, ...], Tensor]] = []

    def add(self, step: int, losses: Mapping[str, Tensor]) -> None:
        """Keep the losses of a step."""
        if losses:
            self._kept.append((step, tuple(losses), torch.stack([loss.detach().float() for loss in losses.values()])))

    def rows(self) -> list[Row]:
        """Return the steps since `clear` and their losses."""
        if not self._kept:
            return []
        values = torch.cat([losses for _, _, losses in self._kept]).tolist()  # one copy from the device
        rows = []
        for step, names, _ in self._kept:
            rows.append((step, dict(zip(names, values[: len(names)], strict=True))))
            del values[: len(names)]
        return rows

    def clear(self) -> None:
        """Forget all steps."""
        self._kept.clear()


def means(rows: Sequence[Row]) -> dict[str, float]:
    """Return the mean of each loss over the steps that had it as a finite number; NaN if none had."""
    found: dict[str, list[float]] = {}
    for _, losses in rows:
        for name, value in losses.items():
            found.setdefault(name, []).append(value)
    finite = {name: [value for value in values if math.isfinite(value)] for name, values in found.items()}
    return {name: sum(values) / len(values) if values else math.nan for name, values in finite.items()}


class DivergenceDetector:
    """Decides when a run is given up.

    A run has diverged when a loss is not finite. In float16 single steps may overflow and are left out; there it has
    diverged when no step between two looks was finite.

    The discriminator has collapsed when over `patience` steps without a break, of stages that have one, either

    - it tells real from drawn with near certainty: its loss, ``softplus(-real) + softplus(fake)``, is below 0.001 (it
      is 1.386 when it cannot tell them apart), or
    - it no longer cares what it sees: the gradient of the generator's adversarial loss at a drawing has a norm below
      1e-6, over all pixels of a picture in [-1, 1] (about 0.01 to 1 in a run that goes well).

    The first look is blind to which of both networks won: with saturated logits the generator has nothing to follow.

    Args:
        patience: Steps.
        skips: Whether single steps may be not finite.

    Attributes:
        suspicious: Whether a tenth of the patience is used up: the weights may be bad already.
    """

    def __init__(self, *, patience: int = 500, skips: bool = False) -> None:
        self.patience = patience
        self.skips = skips
        self._seen = -1
        self._collapsed = {"saturated": 0, "silent": 0}
        self._good: Row | None = None

    @property
    def suspicious(self) -> bool:
        """True once a tenth of the patience is used up."""
        return max(self._collapsed.values()) * 10 >= self.patience

    def check(self, rows: Sequence[Row]) -> str | None:
        """Look at some steps; those seen before may be among them.

        Returns:
            What is wrong, with the step and the values; None if all is well.
        """
        bad = next((row for row in rows if not _finite(row)), None)
        if bad is not None and (not self.skips or not any(_finite(row) for row in rows)):
            names = ", ".join(name for name, value in bad[1].items() if not math.isfinite(value))
            return f"the loss {names} is not finite at step {bad[0]} ({_text(bad)}){self._before()}"
        for row in rows:
            if row[0] > self._seen and _finite(row):
                self._seen, self._good = row[0], row
                self._count(row[1])
                for name, count in self._collapsed.items():
                    if count >= self.patience:
                        return (
                            f"the discriminator has collapsed: {_COLLAPSES[name]} for {count} steps, up to step "
                            f"{row[0]} ({_text(row)})"
                        )
        return None

    def _count(self, losses: Mapping[str, float]) -> None:
        saturated = losses.get("discriminator", math.inf) < _CERTAIN
        silent = losses.get("adversarial_gradient", math.inf) < _SILENT
        self._collapsed["saturated"] = self._collapsed["saturated"] + 1 if saturated else 0
        self._collapsed["silent"] = self._collapsed["silent"] + 1 if silent else 0

    def _before(self) -> str:
        return "" if self._good is None else f"; the last finite ones seen were those of step {self._good[0]} " \
            f"({_text(self._good)})"  # fmt: skip


_COLLAPSES = {
    "saturated": f"it told real from drawn with certainty (loss below {_CERTAIN})",
    "silent": f"it gave the generator no gradient (norm below {_SILENT})",
}


def _finite(row: Row) -> bool:
    return all(math.isfinite(value) for value in row[1].values())


def _text(row: Row) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in row[1].items())
