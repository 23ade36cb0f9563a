"""What perceptual networks of named layers share: the choice of layers, and the size at which they look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor
from torch.nn import functional

from styletryon.errors import ConfigError


def chosen_layers(layers: Sequence[str], known: Mapping[str, int]) -> tuple[str, ...]:
    """Bring the names of layers into the network's order.

    Args:
        layers: The names, in any order.
        known: The network's layers: name -> place.

    Raises:
        ConfigError: If a layer is unknown, or there is none.
    """
    unknown = [layer for layer in layers if layer not in known]
    if unknown or not layers:
        raise ConfigError(f"expected some of {', '.join(known)}, got {unknown or 'none'}", argument="layers")
    return tuple(sorted(layers, key=known.__getitem__))


def bounded(images: Tensor, largest: int) -> Tensor:
    """Shrink pictures `(B, 3, H, W)` by area until no side is above `largest` pixels; float32."""
    images = images.float()
    scale = largest / max(images.shape[2:])
    if scale >= 1:
        return images
    height, width = (max(1, round(side * scale)) for side in images.shape[2:])
    return functional.interpolate(images, (height, width), mode="area")
