"""The learning rate over the steps of an optimisation."""

from __future__ import annotations

import math


def rate_factor(step: int, steps: int, *, warmup: float = 0.05, decay: float = 0.25) -> float:
    """Say by what to multiply the learning rate at a step: a linear warm-up, a plateau, half a cosine down.

    Args:
        step: Counts from 0.
        steps: How many there are.
        warmup: The share of the steps over which the rate rises.
        decay: The share over which it falls.

    Returns:
        A number in (0, 1].
    """
    done = (step + 0.5) / max(1, steps)
    up = min(1.0, (step + 1) / max(1.0, warmup * steps))
    down = min(1.0, (1 - done) / decay) if decay > 0 else 1.0
    return up * (0.5 - 0.5 * math.cos(math.pi * down))
