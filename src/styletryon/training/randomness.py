"""Random numbers that belong to a step and a sample, whoever computes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor


def stream(seed: int, *purpose: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a source of random numbers that follows from some whole numbers, at least 0, alone."""
    state = np.random.SeedSequence([seed, *purpose]).generate_state(2)
    return torch.Generator(device).manual_seed(int(state[0]) << 31 ^ int(state[1]))


class UnitStreams:
    """A source of random numbers for each of some units of a batch (see `BatchSplit`).

    The numbers of a unit follow from the settings' seed, the step and the unit's number. So one process draws for the
    whole batch what many draw for their micro-batches.

    Args:
        seed: Of the run.
        step: Number of the step.
        purpose: Keeps apart what is drawn for different ends.
        units: Numbers of the units.
        device: Where the numbers are drawn; CPU and CUDA draw different ones.
    """

    def __init__(
        self, seed: int, step: int, purpose: int, units: Iterable[int], device: torch.device | str = "cpu"
    ) -> None:
        self._streams = [stream(seed, step, purpose, unit, device=device) for unit in units]

    def normal(self, counts: Sequence[int], *shape: int) -> Tensor:
        """Return standard normal numbers `(sum of counts, *shape)`, where a unit takes as many rows as it counts."""
        return torch.cat(
            [
                torch.randn(count, *shape, generator=source, device=source.device)
                for count, source in zip(counts, self._streams, strict=True)
            ]
        )

    def uniform(self, counts: Sequence[int]) -> Tensor:
        """Return numbers of [0, 1), `(sum of counts,)`."""
        return torch.cat(
            [
                torch.rand(count, generator=source, device=source.device)
                for count, source in zip(counts, self._streams, strict=True)
            ]
        )
