"""The losses of the try-on, and what a loss of one's own must keep to."""

from __future__ import annotations

from styletryon._deprecated import deprecated_names
from styletryon.losses.check import check_loss
from styletryon.losses.contract import (
    CallableLoss,
    TryOnLoss,
    TryOnState,
    TryOnTargets,
    as_loss,
    class_mask,
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
from styletryon.losses.targets import (
    TargetPart,
    TargetPicture,
    label_cross_entropy,
    target_loss,
    target_part,
    target_picture,
)

__all__ = [
    "CallableLoss",
    "EditingLocalizationLoss",
    "GarmentLoss",
    "IdentityLoss",
    "TargetPart",
    "TargetPicture",
    "TryOnLoss",
    "TryOnState",
    "TryOnTargets",
    "as_loss",
    "channel_attribution",
    "channel_charges",
    "check_loss",
    "class_mask",
    "defaults",
    "label_cross_entropy",
    "localization_loss",
    "region_statistics",
    "statistics_distance",
    "target_loss",
    "target_part",
    "target_picture",
]

_OLD = {
    "Composite": "styletryon.losses.TargetPicture",
    "CompositePart": "styletryon.losses.TargetPart",
    "composite_loss": "styletryon.losses.target_loss",
    "composite_part": "styletryon.losses.target_part",
    "composite_target": "styletryon.losses.target_picture",
    "replaced_classes": "styletryon.labels.replaced_classes",
}

__getattr__ = deprecated_names(__name__, _OLD, until="0.4")
