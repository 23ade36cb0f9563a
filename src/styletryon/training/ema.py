"""The exponential moving average of a network's weights: what a training leaves as its model."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar, final

import torch
from torch import nn

_Network = TypeVar("_Network", bound=nn.Module)


@final
class WeightAverage(Generic[_Network]):
    """The exponential moving average (EMA) of a network's weights.

    Args:
        network: The network that is trained.
        average_buffers: Whether buffers that are floating-point numbers, such as the statistics of a batch
            normalisation, are averaged as well; otherwise they are copied.

    Attributes:
        model: A network with the averaged weights, in evaluation mode and without gradients.
    """

    def __init__(self, network: _Network, *, average_buffers: bool = False) -> None:
        self.model = copy.deepcopy(network).eval().requires_grad_(False)
        self._average_buffers = average_buffers

    @torch.no_grad()
    def update(self, network: _Network, decay: float) -> None:
        """Move the average towards the weights of the network.

        Args:
            network: The network that is trained.
            decay: Share of the average that stays, in [0, 1].
        """
        weights = [weight.detach() for weight in network.parameters()]
        torch._foreach_lerp_(list(self.model.parameters()), weights, 1 - decay)
        for average, value in zip(self.model.buffers(), network.buffers(), strict=True):
            if self._average_buffers and average.is_floating_point():
                average.lerp_(value, 1 - decay)
            else:
                average.copy_(value)


def decay_of_half_life(half_life: float, *, seen: int, batch_size: int) -> float:
    """Return the decay of a step at which the average forgets half in so many pictures.

    At the start it forgets faster, half of a twentieth of what was seen, so that random weights do not hold it back.

    Args:
        half_life: Pictures after which half is forgotten.
        seen: Pictures seen so far.
        batch_size: Pictures of the step.
    """
    pictures = min(half_life, 0.05 * seen)
    return float(0.5 ** (batch_size / max(pictures, 1e-6)))
