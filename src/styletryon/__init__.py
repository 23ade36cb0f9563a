"""Virtual try-on by style-interpolation optimisation: VOGUE / TryOnGAN as a library.

`try_on(person, garment)` returns the person wearing the other's garment.
"""

from __future__ import annotations

from styletryon import errors, features, losses, ops
from styletryon._version import __version__
from styletryon.api import estimate_labels, estimate_pose, generate, load_model, project, try_on
from styletryon.features import VGG16Features
from styletryon.latent import Latent
from styletryon.losses import (
    EditingLocalizationLoss,
    GarmentLoss,
    IdentityLoss,
    TryOnLoss,
    TryOnState,
    TryOnTargets,
)
from styletryon.models import PoseEncoder, PoseStyleGAN2
from styletryon.pose import Pose
from styletryon.projection import LatentProjector
from styletryon.tryon import TryOnOptimizer, TryOnResult

__all__ = [
    "EditingLocalizationLoss",
    "GarmentLoss",
    "IdentityLoss",
    "Latent",
    "LatentProjector",
    "Pose",
    "PoseEncoder",
    "PoseStyleGAN2",
    "TryOnLoss",
    "TryOnOptimizer",
    "TryOnResult",
    "TryOnState",
    "TryOnTargets",
    "VGG16Features",
    "__version__",
    "errors",
    "estimate_labels",
    "estimate_pose",
    "features",
    "generate",
    "load_model",
    "losses",
    "ops",
    "project",
    "try_on",
]
