"""The contract of a feature network, and the distance between two pictures that it sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from styletryon.errors import ShapeError


class FeatureNetwork(Protocol):
    """Turns pictures into features: any callable with this signature.

    The features of a network whose attribute `deep` is true are normalised per pixel before they are compared, as LPIPS
    does: their lengths carry no meaning. One whose attribute `capturable` is true runs the same kernels each time and
    lets the host wait for none, so that a CUDA graph may replay it.
    """

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map pictures `(B, 3, H, W)` in [-1, 1] to one or more feature maps `(B, C, h, w)`."""
        ...


@contextmanager
def frozen(*networks: object) -> Iterator[None]:
    """Hold the parameters of networks still: no gradient is computed for them, and their flags are restored after.

    Args:
        networks: Modules; anything else is passed over.
    """
    parameters = [
        parameter for network in networks if isinstance(network, nn.Module) for parameter in network.parameters()
    ]
    flags = [parameter.requires_grad for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter, flag in zip(parameters, flags, strict=True):
            parameter.requires_grad_(flag)


def feature_weights(
    features: Sequence[Tensor],  # (B, C, h, w) each
    mask: Tensor | None = None,  # (B, 1, H, W)
    total: Tensor | None = None,  # (B, 1, H, W)
) -> tuple[Tensor, ...]:
    """Bring a mask to the sizes of feature maps and divide it by its sum.

    Args:
        features: The feature maps whose sizes count.
        mask: `(B, 1, H, W)` float >= 0: how much each pixel counts. Default: all alike.
        total: `(B, 1, H, W)` the mask whose sum divides; default `mask` itself. With one `total`, the distances under
            several masks add up to the distance under their sum.

    Returns:
        One `(B, 1, h, w)` per feature map. Where `total` is zero everywhere, so are the weights.
    """
    if mask is None:
        return tuple(feature.new_full((len(feature), 1, *feature.shape[2:]), 1 / feature[0, 0].numel())
                     for feature in features)  # fmt: skip
    weights = []
    known: dict[tuple[int, int], Tensor] = {}
    for feature in features:
        size = (feature.shape[2], feature.shape[3])
        if size not in known:
            part = functional.interpolate(mask.float(), size, mode="area")
            whole = part if total is None else functional.interpolate(total.float(), size, mode="area")
            known[size] = part / whole.sum(dim=(1, 2, 3), keepdim=True).clamp_min(1e-8)
        weights.append(known[size])
    return tuple(weights)


def feature_distance(
    ours: Sequence[Tensor],  # (B, C, h, w) each
    theirs: Sequence[Tensor],  # (B, C, h, w) each
    weights: Sequence[Tensor],  # (B, 1, h, w) each
    *,
    deep: bool = False,
) -> Tensor:
    """Compare feature maps pixel by pixel.

    Args:
        ours: One `(B, C, h, w)` per layer.
        theirs: The same of the other pictures.
        weights: What `feature_weights` returned.
        deep: Whether to normalise the channels of each pixel to length 1 and compare by squares (LPIPS without its
            learnt weights); otherwise mean absolute differences.

    Returns:
        `(B,)` the weighted mean over the pixels, summed over the layers.
    """
    terms = []
    for a, b, weight in zip(ours, theirs, weights, strict=True):
        if deep:
            apart = (_unit(a) - _unit(b)).square().sum(dim=1, keepdim=True)
        else:
            apart = (a - b).abs().mean(dim=1, keepdim=True)
        terms.append((apart * weight).sum(dim=(1, 2, 3)))
    return torch.stack(terms).sum(dim=0)


def perceptual_distance(
    network: FeatureNetwork,
    a: Tensor,  # (B, 3, H, W)
    b: Tensor,  # (B, 3, H, W)
    mask: Tensor | None = None,  # (B, 1, H, W) or (B, H, W)
    *,
    total: Tensor | None = None,
) -> Tensor:
    """Say how far apart two batches of pictures are.

    Args:
        network: The feature network.
        a: `(B, 3, H, W)` float in [-1, 1].
        b: The same.
        mask: `(B, 1, H, W)` or `(B, H, W)` float >= 0: how much each pixel counts; default all alike.
        total: The mask whose sum divides; default `mask`. See `feature_weights`.

    Returns:
        `(B,)` >= 0; zero for equal pictures and for a mask that is empty.

    Raises:
        ShapeError: If the shapes do not fit each other.
    """
    if a.shape != b.shape or a.ndim != 4:
        raise ShapeError(
            f"expected two equal shapes (B, 3, H, W), got {tuple(a.shape)} and {tuple(b.shape)}", argument="a, b"
        )
    if mask is not None and mask.ndim == 3:
        mask = mask.unsqueeze(1)
    if mask is not None and (len(mask) != len(a) or mask.shape[1:] != (1, *a.shape[2:])):
        raise ShapeError(f"expected {(len(a), 1, *a.shape[2:])}, got {tuple(mask.shape)}", argument="mask")
    ours, theirs = network(a), network(b)
    return feature_distance(ours, theirs, feature_weights(ours, mask, total), deep=is_deep(network))


def is_deep(network: FeatureNetwork) -> bool:
    """Say whether the features of a network are to be normalised per pixel."""
    return bool(getattr(network, "deep", False))


def _unit(features: Tensor) -> Tensor:
    return features * torch.rsqrt(features.square().sum(dim=1, keepdim=True) + 1e-8)
