"""Targets of a try-on: the person, in the garment as the generator redraws it in the person's pose."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from styletryon._graphs import is_capturable
from styletryon._reprs import one_line
from styletryon.features import FeatureNetwork, PixelFeatures, feature_distance, feature_weights
from styletryon.features.base import is_deep
from styletryon.labels import IDENTITY, Label
from styletryon.losses.contract import TryOnLoss, TryOnTargets, class_mask

_FILLS = {
    Label.SKIN: Label.SKIN,
    Label.FACE: Label.SKIN,
    Label.TOP: Label.TOP,
    Label.OUTERWEAR: Label.OUTERWEAR,
    Label.BOTTOM: Label.BOTTOM,
    Label.DRESS: Label.DRESS,
    Label.LEGWEAR: Label.LEGWEAR,
    Label.SHOES: Label.SHOES,
}
"""What the redrawn wearer shows where the person is uncovered -> the class whose mean colour the person gets there.

Hair, accessories and the background of another body say nothing about this one: they are left free."""

_LEAST = 4.0
"""Pixels of a class that the person must show for its mean colour to be trusted."""


@dataclass(frozen=True, eq=False)
class TargetPicture:
    """A target picture and how much each of its pixels counts.

    Attributes:
        image: `(B, 3, H, W)`.
        labels: `(B, H, W)` int64 label classes.
        weight: `(B, 1, H, W)` >= 0: 1 on the person, less on the background, 0 where nothing is known.
        known: `(B, 1, H, W)` 0 or 1: where the labels are known.
        garment: `(B, 1, H, W)` 0 or 1: the pixels of the new garment. The others are the person's.
    """

    image: Tensor
    labels: Tensor
    weight: Tensor
    known: Tensor
    garment: Tensor

    __repr__ = one_line


def target_picture(
    targets: TryOnTargets,
    *,
    background: float = 0.15,
    fill: bool = True,
    protect: Collection[Label] = IDENTITY,
) -> TargetPicture:
    """Lay the redrawn garment over the person.

    Where the person's old garment is not covered by the new one, the person's mean colour of skin (or of the garment
    that the redrawn wearer shows there) is filled in; where that wearer shows the background, or something that the
    person does not have, the pixel is left free. If the garment is redrawn on the person
    (`TryOnTargets.channel_masks`), the redrawn picture says itself what is uncovered.

    Args:
        targets: The pair's pictures.
        background: How much a pixel of the background counts against one of the person.
        fill: Whether to fill what is uncovered; otherwise all of it is left free.
        protect: Classes of the person that the garment does not cover, such as hair that falls over it.

    Returns:
        The target.
    """
    person, redrawn = targets.person, targets.redrawn
    garment = targets.redrawn_mask * (1 - class_mask(person, protect))
    uncovered = targets.person_mask * (1 - garment)
    image = torch.lerp(person.image.float(), redrawn.image.float(), torch.maximum(garment, uncovered))
    labels = person.logits.argmax(dim=1, keepdim=True)
    worn = redrawn.logits.argmax(dim=1, keepdim=True)
    labels = torch.where(garment > 0, worn, labels)
    known = 1 - uncovered
    if targets.channel_masks is not None and fill:
        labels, known, fill = torch.where(uncovered > 0, worn, labels), torch.ones_like(known), False
    for shown, filled in _FILLS.items():
        if not fill or shown in targets.region or int(shown) >= redrawn.logits.shape[1]:
            continue
        own = class_mask(person, {filled}) * (1 - targets.person_mask)
        count = own.sum(dim=(2, 3), keepdim=True)
        if filled == Label.SKIN:  # somebody in long sleeves shows no skin but the face
            own = torch.where(count >= _LEAST, own, class_mask(person, {Label.FACE}))
            count = own.sum(dim=(2, 3), keepdim=True)
        colour = (person.image * own).sum(dim=(2, 3), keepdim=True) / count.clamp_min(1)  # (B, 3, 1, 1)
        here = uncovered * (worn == int(shown)) * (count >= _LEAST)
        image = torch.where(here > 0, colour, image)
        labels = torch.where(here > 0, int(filled), labels)
        known = torch.maximum(known, here)
    foreground = (labels != int(Label.BACKGROUND)).float()
    weight = known * (background + (1 - background) * foreground)
    return TargetPicture(image, labels.squeeze(1), weight, known, garment)


@dataclass(frozen=True, eq=False)
class TargetPart:
    """What a step is compared with in one part of a target.

    Attributes:
        wanted: Features of the target, `(B, C, h, w)` each.
        weights: How much each pixel of them counts, `(B, 1, h, w)` each; see `feature_weights`.
        labels: `(B, H, W)` the wanted label classes.
        mask: `(B, 1, H, W)` the pixels whose labels count.
        total: `(B, 1, H, W)` the pixels over which the mean is taken.
        deep: Whether the features are normalised before they are compared.
    """

    wanted: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]
    labels: Tensor
    mask: Tensor
    total: Tensor
    deep: bool = False

    __repr__ = one_line


def target_part(
    targets: TryOnTargets,
    network: FeatureNetwork,
    target: TargetPicture,
    part: Tensor,  # (B, 1, H, W)
    *,
    name: str = "target",
) -> TargetPart:
    """Prepare the comparison with a part of a target.

    The mean is taken over the whole target, so that the losses of parts that make up the whole add up to its loss.

    Args:
        targets: The pair's pictures, which keep the features.
        network: The feature network.
        target: The whole of it.
        part: `(B, 1, H, W)` >= 0: the pixels of this part.
        name: Tells targets of one pair apart.
    """
    wanted = targets.features(network, name, target.image)
    return TargetPart(
        wanted=wanted,
        weights=feature_weights(wanted, target.weight * part, target.weight),
        labels=target.labels,
        mask=target.known * part,
        total=target.known,
        deep=is_deep(network),
    )


def target_loss(features: Sequence[Tensor], logits: Tensor, part: TargetPart, *, label_weight: float) -> Tensor:
    """Distance of a drawing from a part of a target.

    Args:
        features: Features of the drawn picture.
        logits: `(B, K, H, W)` the drawn segmentation.
        part: What `target_part` returned.
        label_weight: Weight of the cross-entropy of the labels against the distance of the features.

    Returns:
        `(B,)`.
    """
    loss = feature_distance(features, part.wanted, part.weights, deep=part.deep)
    return loss + label_weight * label_cross_entropy(logits, part.labels, part.mask, part.total)


def label_cross_entropy(logits: Tensor, labels: Tensor, mask: Tensor, total: Tensor | None = None) -> Tensor:
    """Cross-entropy of a drawn segmentation.

    Args:
        logits: `(B, K, H, W)` unnormalised log-probabilities.
        labels: `(B, H, W)` integers: the wanted classes.
        mask: `(B, 1, H, W)` >= 0: how much each pixel counts.
        total: The mask whose sum divides; default `mask`.

    Returns:
        `(B,)` in nats; zero where the mask is empty.
    """
    surprise = functional.cross_entropy(logits.float(), labels.long(), reduction="none")
    whole = (mask if total is None else total).sum(dim=(1, 2, 3)).clamp_min(1e-8)
    return (surprise * mask.squeeze(1)).sum(dim=(1, 2)) / whole


@dataclass(frozen=True)
class TargetLoss(TryOnLoss):
    """A loss that compares with a part of the target in the eyes of a feature network; None: `PixelFeatures()`."""

    features: FeatureNetwork | None = None

    def __post_init__(self) -> None:
        if self.features is None:
            object.__setattr__(self, "features", PixelFeatures())

    @property
    def _network(self) -> FeatureNetwork:
        return self.features if self.features is not None else PixelFeatures()

    @property
    def capturable(self) -> bool:
        """As the feature network is."""
        return is_capturable(self._network)
