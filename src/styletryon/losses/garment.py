"""The garment loss: the try-on must show the garment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from styletryon.errors import ConfigError
from styletryon.features.base import feature_weights, is_deep
from styletryon.losses.contract import TryOnState, TryOnTargets
from styletryon.losses.targets import (
    TargetLoss,
    TargetPart,
    label_cross_entropy,
    target_loss,
    target_part,
    target_picture,
)


def region_statistics(features: Sequence[Tensor], mask: Tensor, *, gram: bool = False) -> tuple[Tensor, ...]:
    """Describe a region in a way that does not depend on its shape or place.

    Args:
        features: Feature maps `(B, C, h, w)`.
        mask: `(B, 1, H, W)` >= 0.
        gram: Whether to return Gram matrices (Gatys et al., 2016) too.

    Returns:
        Per map the mean and the deviation of each channel under the mask, `(B, C)`, and if asked for the Gram matrix
        `(B, C * C)`.
    """
    statistics = []
    for feature, weight in zip(features, feature_weights(features, mask), strict=True):
        mean = (feature * weight).sum(dim=(2, 3))
        variance = ((feature - mean[..., None, None]).square() * weight).sum(dim=(2, 3))
        statistics += [mean, (variance + 1e-6).sqrt()]
        if gram:
            flat = feature.flatten(2)
            matrix = torch.einsum("bcn,bdn->bcd", flat * weight.flatten(2), flat) / flat.shape[1]
            statistics.append(matrix.flatten(1))
    return tuple(statistics)


def statistics_distance(ours: Sequence[Tensor], theirs: Sequence[Tensor], *, relative: bool = False) -> Tensor:
    """Mean absolute difference of each statistic, summed, `(B,)`.

    Args:
        ours: `(B, N)` each.
        theirs: `(B, N)` each.
        relative: Whether to divide by the mean size of theirs, for features without a scale of their own.
    """
    terms = []
    for a, b in zip(ours, theirs, strict=True):
        apart = (a - b).abs().mean(dim=1)
        terms.append(apart / b.abs().mean(dim=1).clamp_min(1e-6) if relative else apart)
    return torch.stack(terms).sum(dim=0)


@dataclass(frozen=True, eq=False)
class _Prepared:
    redrawn: TargetPart
    own: tuple[Tensor, ...]


@final
@dataclass(frozen=True)
class GarmentLoss(TargetLoss):
    """Compares the garment's pixels and labels with the garment.

    The two wear it in different poses, and features of pixels depend on where they are. So the default compares with
    the garment *redrawn in the person's pose*; "own" compares with the garment's own picture through statistics that
    do not depend on the pose.

    Differs from the paper, which is said to compare VGG-16 features of masked pictures; its layers are not known. Here
    pixels of a pyramid are the default, since they need no weights; `VGG16Features` may be passed. The masks are hard
    and come from the generator's own segmentation of the targets, not of the try-on: they carry no gradient, and the
    cross-entropy of the labels drives the shape.

    Attributes:
        features: The feature network. None: `PixelFeatures()`.
        target: "redrawn", "own", or "both" (their mean).
        label_weight: Weight of the cross-entropy of the garment's labels.
        background: Must equal that of the identity loss for the two to add up to one objective.

    Raises:
        ConfigError: If the target is unknown.
    """

    target: Literal["redrawn", "own", "both"] = "redrawn"
    label_weight: float = 0.5
    background: float = 0.15

    def __post_init__(self) -> None:
        if self.target not in ("redrawn", "own", "both"):
            raise ConfigError(f"expected 'redrawn', 'own' or 'both', got {self.target!r}", argument="target")
        super().__post_init__()

    def prepare(self, targets: TryOnTargets) -> _Prepared:
        """Compute the features of the redrawn garment and the statistics of the garment's own picture."""
        picture = target_picture(targets, background=self.background)
        own: tuple[Tensor, ...] = ()
        if self.target != "redrawn":
            features = targets.features(self._network, "garment", targets.garment.image)
            own = region_statistics(features, targets.garment_mask, gram=is_deep(self._network))
        return _Prepared(target_part(targets, self._network, picture, picture.garment), own)

    def forward(self, state: TryOnState, prepared: _Prepared) -> Tensor:
        """Compare a step with the garment, `(B,)`."""
        features, part = state.features(self._network), prepared.redrawn
        redrawn = target_loss(features, state.logits, part, label_weight=self.label_weight)
        if self.target == "redrawn":
            return redrawn
        apart = statistics_distance(
            region_statistics(features, part.mask, gram=part.deep), prepared.own, relative=part.deep
        )
        # It counts by the garment's share of the picture, as the comparison of pixels does.
        own = apart * part.mask.sum(dim=(1, 2, 3)) / part.total.sum(dim=(1, 2, 3)).clamp_min(1e-8)
        if self.target == "both":
            return (redrawn + own) / 2
        return own + self.label_weight * label_cross_entropy(state.logits, part.labels, part.mask, part.total)
