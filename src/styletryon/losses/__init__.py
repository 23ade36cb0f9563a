"""The losses of the try-on, and what a loss of one's own must keep to."""

from __future__ import annotations

from styletryon.losses.base import (
    CallableLoss,
    TryOnLoss,
    TryOnState,
    TryOnTargets,
    as_loss,
    class_mask,
    replaced_classes,
)
from styletryon.losses.check import check_loss
from styletryon.losses.composite import (
    Composite,
    CompositePart,
    composite_loss,
    composite_part,
    composite_target,
    label_cross_entropy,
)
from styletryon.losses.defaults import defaults
from styletryon.losses.garment import GarmentLoss, region_statistics, statistics_distance
from styletryon.losses.identity import IdentityLoss
from styletryon.losses.localization import (
    EditingLocalizationLoss,
    channel_attribution,
    channel_charges,
    localization_loss,
)

__all__ = [
    "CallableLoss",
    "Composite",
    "CompositePart",
    "EditingLocalizationLoss",
    "GarmentLoss",
    "IdentityLoss",
    "TryOnLoss",
    "TryOnState",
    "TryOnTargets",
    "as_loss",
    "channel_attribution",
    "channel_charges",
    "check_loss",
    "class_mask",
    "composite_loss",
    "composite_part",
    "composite_target",
    "defaults",
    "label_cross_entropy",
    "localization_loss",
    "region_statistics",
    "replaced_classes",
    "statistics_distance",
]
