"""The losses that are used when the caller names none."""

from __future__ import annotations

from styletryon.features import FeatureNetwork
from styletryon.losses.contract import TryOnLoss
from styletryon.losses.garment import GarmentLoss
from styletryon.losses.identity import IdentityLoss
from styletryon.losses.localization import EditingLocalizationLoss


def defaults(features: FeatureNetwork | None = None) -> dict[str, tuple[float, TryOnLoss]]:
    """Return the three losses with their weights, to be extended or changed by the caller.

    With equal weights, the garment and identity losses add up to one objective: the distance to the person in the
    redrawn garment, pixel by pixel.

    Args:
        features: The feature network in which pictures are compared. Default: `PixelFeatures()`.

    Returns:
        Name -> (weight, loss): "localization", "garment" and "identity".

    Example:
        >>> from styletryon import losses
        >>> sorted({**losses.defaults(), "plain": (0.1, lambda state: state.image.square().mean(dim=(1, 2, 3)))})
        ['garment', 'identity', 'localization', 'plain']
    """
    return {
        "localization": (1.0, EditingLocalizationLoss()),
        "garment": (3.0, GarmentLoss(features)),
        "identity": (3.0, IdentityLoss(features)),
    }
