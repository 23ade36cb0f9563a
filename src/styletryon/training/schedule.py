"""The learning rate over a training, or over a stage of one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Shape = Literal["linear", "cosine"]


@dataclass(frozen=True)
class Schedule:
    """A linear rise of the learning rate at the start, and a fall towards the end.

    Attributes:
        pictures: Pictures that are seen.
        batch_size: Pictures a step.
        warmup: Steps over which the rate rises.
        shape: "linear" falls over the last `decay` of the pictures, "cosine" over all of them.
        decay: The last share of the pictures over which a linear fall takes place; 0 for no fall.
        final_rate: Share of the rate that is left at the end.
    """

    pictures: int
    batch_size: int
    warmup: int
    shape: Shape = "linear"
    decay: float = 1.0
    final_rate: float = 0.0

    def rate(self, highest: float, seen: int) -> float:
        """Return the learning rate of the step after so many pictures.

        Args:
            highest: The rate between rise and fall.
            seen: Pictures seen before the step.
        """
        rise = min(1.0, (seen / self.batch_size + 1) / max(self.warmup, 1))
        if self.shape == "cosine":
            left, decay = 0.5 + 0.5 * math.cos(math.pi * min(seen / self.pictures, 1.0)), 1.0
        else:
            left, decay = max(self.pictures - seen, 0) / self.pictures, self.decay
        fall = self.final_rate + (1 - self.final_rate) * left / decay if left < decay else 1.0
        return highest * rise * fall
