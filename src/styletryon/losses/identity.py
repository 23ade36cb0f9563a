"""The identity loss: whatever is not the garment stays the person's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from styletryon.labels import IDENTITY
from styletryon.losses.contract import TryOnState, TryOnTargets, class_mask
from styletryon.losses.targets import TargetLoss, TargetPart, target_loss, target_part, target_picture


@final
@dataclass(frozen=True)
class IdentityLoss(TargetLoss):
    """Compares everything but the new garment with the person: face, hair, other clothes, limbs, background.

    Where the old garment is uncovered there is nothing of the person to compare with; the mean colour of their skin, or
    of what the redrawn wearer shows there, stands in. See `target_picture`.

    Differs from the paper, which is said to compare face and hair only. Here the rest of the person counts too, or
    other clothes and limbs would be free to change, and the background counts less than the person.

    Attributes:
        features: The feature network. None: `PixelFeatures()`.
        label_weight: Weight of the cross-entropy of the labels.
        background: How much a pixel of the background counts.
        fill: Whether to fill what is uncovered rather than to leave it free.
        face: How much a pixel of face and hair counts; 1: as much as the rest of the person.
    """

    label_weight: float = 0.5
    background: float = 0.15
    fill: bool = True
    face: float = 1.0

    def prepare(self, targets: TryOnTargets) -> TargetPart:
        """Compute the features of the person with the uncovered parts filled in."""
        picture = target_picture(targets, background=self.background, fill=self.fill)
        part = (1 - picture.garment) * (1 + (self.face - 1) * class_mask(targets.person, IDENTITY))
        name = "target" if self.fill else "target, free"
        return target_part(targets, self._network, picture, part, name=name)

    def forward(self, state: TryOnState, prepared: TargetPart) -> Tensor:
        """Compare a step with the person, `(B,)`."""
        features = state.features(self._network)
        return target_loss(features, state.logits, prepared, label_weight=self.label_weight)
