"""A loss of one's own: the garment shall end higher up. It lives in the caller's file; there is nothing to register.

Run `python examples/custom_loss.py --out out/`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

import styletryon
from styletryon.data import paperdoll
from styletryon.labels import Label
from styletryon.losses import TryOnLoss, TryOnState, TryOnTargets


class Cropped(TryOnLoss):
    """Charges every pixel of the top that is drawn in the lower part of where the garment would be.

    Args:
        share: The share of the garment's height that is not wanted, from below.
    """

    def __init__(self, share: float = 0.3) -> None:
        self.share = share

    def prepare(self, targets: TryOnTargets) -> Tensor:
        """Once a pair: find the rows that shall stay free, `(B, 1, H, 1)` of 0 and 1."""
        rows = targets.redrawn_mask.amax(dim=3, keepdim=True)  # (B, 1, H, 1)
        below = rows.flip(2).cumsum(2).flip(2)  # rows of the garment from here down
        unwanted: Tensor = rows * (below <= self.share * rows.sum(dim=2, keepdim=True))
        return unwanted

    def forward(self, state: TryOnState, prepared: Tensor) -> Tensor:
        """Each step: the mean probability of the top there, `(B,)`."""
        top = state.probabilities[:, [Label.TOP, Label.OUTERWEAR]].sum(dim=1, keepdim=True)  # (B, 1, H, W)
        return (top * prepared).mean(dim=(1, 2, 3))


def warm(state: TryOnState) -> Tensor:
    """A plain callable is a loss as well: more red than blue, `(B,)`."""
    return torch.relu(state.image[:, 2] - state.image[:, 0]).mean(dim=(1, 2))


def main() -> None:
    """Try a garment on with the default losses and two more."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--preset", default="balanced")
    arguments = parser.parse_args()

    person = paperdoll.render(paperdoll.sample_figure(20_000_010), (512, 384))
    garment = paperdoll.render(paperdoll.sample_figure(20_000_008), (512, 384))
    styletryon.losses.check_loss(Cropped())  # says at once if the contract is broken

    losses = {**styletryon.losses.defaults(), "cropped": (5.0, Cropped()), "warm": (0.2, warm)}
    result = styletryon.try_on(person.image, garment.image, losses=losses, preset=arguments.preset)

    result.save(arguments.out / "tryon.png")
    for name, values in result.history.items():
        print(f"{name:>14}: {values[0]:8.4f} -> {values[-1]:8.4f}")


if __name__ == "__main__":
    main()
