"""Virtual try-on by style-interpolation optimisation: VOGUE / TryOnGAN as a library.

`try_on(person, garment)` returns the person wearing the other's garment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from styletryon._lazy import lazy_names
from styletryon._version import __version__

if TYPE_CHECKING:
    from styletryon import errors, features, losses, ops
    from styletryon.api import estimate_labels, estimate_pose, generate, load_model, project, try_on
    from styletryon.errors import TryOnWarning
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
    from styletryon.pipeline import TryOnPipeline
    from styletryon.pose import Pose
    from styletryon.projection import LatentProjector
    from styletryon.tryon import TryOnOptimizer, TryOnResult
else:
    # Type checkers do not see this, so that they tell a misspelt name.
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "api": ("estimate_labels", "estimate_pose", "generate", "load_model", "project", "try_on"),
            "errors": ("TryOnWarning",),
            "features": ("VGG16Features",),
            "latent": ("Latent",),
            "losses": (
                "EditingLocalizationLoss",
                "GarmentLoss",
                "IdentityLoss",
                "TryOnLoss",
                "TryOnState",
                "TryOnTargets",
            ),
            "models": ("PoseEncoder", "PoseStyleGAN2"),
            "pipeline": ("TryOnPipeline",),
            "pose": ("Pose",),
            "projection": ("LatentProjector",),
            "tryon": ("TryOnOptimizer", "TryOnResult"),
        },
        modules=("api", "app", "batch", "compositing", "data", "errors", "features", "generator", "interop", "labels",
                 "latent", "losses", "metrics", "models", "ops", "photo", "pipeline", "pose", "projection", "serve",
                 "training", "tryon"),
    )  # fmt: skip

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
    "TryOnPipeline",
    "TryOnResult",
    "TryOnState",
    "TryOnTargets",
    "TryOnWarning",
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
