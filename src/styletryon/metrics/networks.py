"""The networks in whose features sets of pictures are compared, each with what must be known to repeat a number.

A distance of sets means nothing without its network: the same two sets are far apart for one and close for another.
So a network is never chosen silently, never downloaded, and stands in the report with the fingerprint of its weights,
the size that pictures are brought to, and the filter that does it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from styletryon.errors import ConfigError, ShapeError
from styletryon.features import EfficientNetFeatures, FeatureNetwork, InceptionV3Features, VGG16Features
from styletryon.features._weights import find_cached
from styletryon.features.base import is_deep
from styletryon.metrics.distances import Array
from styletryon.pose import BodyEstimator, BodyNetwork

RESIZE = "bilinear, antialiased, stretched to the size (torch.nn.functional.interpolate)"
"""The resampling that brings pictures to the size of a network."""


@dataclass(frozen=True, eq=False)
class SetNetwork:
    """A feature network and its account.

    Attributes:
        name: What it is: "efficientnet", "keypoints", "vgg16", "inception", or what a network of the caller's calls
            itself.
        layer: Which of its features are compared, and how they are pooled.
        weights: Where its weights came from.
        fingerprint: A short text that is equal exactly when its weights are; empty for a network without any.
        size: Height and width that pictures are brought to; None if they enter as they are.
        network: The network itself.
    """

    name: str
    layer: str
    weights: str
    fingerprint: str
    size: tuple[int, int] | None
    network: FeatureNetwork

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Array:
        """Summarise pictures.

        Args:
            images: `(B, 3, H, W)` in [-1, 1].

        Returns:
            `(B, D)` float64.

        Raises:
            ShapeError: If the pictures are not `(B, 3, H, W)`.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ShapeError(f"expected (B, 3, H, W), got {tuple(images.shape)}", argument="images")
        return _pooled(self.network, images if self.size is None else _resized(images, self.size))

    def describe(self) -> dict[str, Any]:
        """Return what a reader must know to repeat a number, as plain values for a report."""
        return {
            "name": self.name,
            "layer": self.layer,
            "weights": self.weights,
            "fingerprint": self.fingerprint,
            "size": None if self.size is None else list(self.size),
            "resize": None if self.size is None else RESIZE,
        }


def find_set_network(
    features: str | FeatureNetwork | SetNetwork = "efficientnet",
    *,
    weights: str | os.PathLike[str] | None = None,
) -> SetNetwork:
    """Choose the network in whose features sets are compared.

    Args:
        features: "efficientnet", whose ImageNet weights are bundled; "keypoints", the trunk of the bundled network of
            the body, which was trained on people; "vgg16" or "inception", torchvision's networks; or a network of one's
            own.
        weights: The file of the weights of "vgg16" or "inception". None: what torchvision once downloaded to torch's
            cache. Nothing is downloaded here.

    Returns:
        The network with its account.

    Raises:
        ConfigError: If the name is unknown, or weights are given for a network that takes none.
        WeightsUnavailableError: If the weights are not at hand.
        CheckpointNotFoundError: If `weights` leads to no file.
        CheckpointError: If the file is damaged or belongs to another network.
    """
    if isinstance(features, str):
        if features not in _MAKERS:
            raise ConfigError(
                f"expected one of {', '.join(_MAKERS)}, or a network, got {features!r}", argument="features"
            )
        return _MAKERS[features](weights)
    if weights is not None:
        raise ConfigError(
            f"expected None beside a network of one's own, got {os.fspath(weights)!r}", argument="weights"
        )
    if isinstance(features, SetNetwork):
        return features
    mark = fingerprint(features) if isinstance(features, nn.Module) else ""
    layer = "last map, averaged" if is_deep(features) else "all maps, averaged over 4x3 cells"
    return SetNetwork(repr(features), layer, "the caller's", mark, None, features)


def fingerprint(network: nn.Module) -> str:
    """Return a short text that is equal exactly when the names and values of a network's weights are."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _keypoints(weights: str | os.PathLike[str] | None) -> SetNetwork:
    if weights is not None:
        raise ConfigError(
            f"expected None for 'keypoints', which is bundled, got {os.fspath(weights)!r}", argument="weights"
        )
    network = BodyEstimator.from_pretrained().network
    size = network.config.size
    return SetNetwork(
        "keypoints", "trunk at stride 16, averaged", "bundled", fingerprint(network), size, _Trunk(network)
    )


def _efficientnet(weights: str | os.PathLike[str] | None) -> SetNetwork:
    network = EfficientNetFeatures(("stride32",), "bundled" if weights is None else weights)
    source = "bundled" if weights is None else f"file: {Path(weights).name}"
    return SetNetwork("efficientnet", "stride 32, averaged", source, fingerprint(network), (256, 256), network)


def _vgg(weights: str | os.PathLike[str] | None) -> SetNetwork:
    if weights is None:
        from torchvision.models import VGG16_Weights

        path, source = find_cached(VGG16_Weights.IMAGENET1K_V1.url), "torch's cache: "
    else:
        path, source = Path(weights), "file: "
    network = VGG16Features(layers=("relu5_3",), weights=path)
    return SetNetwork("vgg16", "relu5_3, averaged", source + path.name, fingerprint(network), (224, 224), network)


def _inception(weights: str | os.PathLike[str] | None) -> SetNetwork:
    network = InceptionV3Features("cached" if weights is None else weights)
    source = "torch's cache" if weights is None else f"file: {Path(weights).name}"
    return SetNetwork("inception", "Mixed_7c, averaged", source, fingerprint(network), network.size, network)


_MAKERS: dict[str, Callable[[str | os.PathLike[str] | None], SetNetwork]] = {
    "efficientnet": _efficientnet,
    "keypoints": _keypoints,
    "vgg16": _vgg,
    "inception": _inception,
}

SET_NETWORKS = tuple(_MAKERS)
"""The names that `find_set_network` knows."""


class _Trunk:
    """The trunk of the keypoint network."""

    deep = True

    def __init__(self, network: BodyNetwork) -> None:
        self._network = network

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self._network.to(images.device).trunk(images)[:4])


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    if images.shape[2:] == size:
        return images
    return functional.interpolate(images.float(), size, mode="bilinear", align_corners=False, antialias=True)


def _pooled(network: FeatureNetwork, images: Tensor) -> Array:
    """Average the last map of a deep network over the picture, or all maps of another over 4x3 cells: `(B, D)`."""
    features = network(images)
    if is_deep(network):
        return np.asarray(features[-1].double().mean(dim=(2, 3)).cpu().numpy())
    cells = [functional.adaptive_avg_pool2d(f.double(), (4, 3)).flatten(1) for f in features]
    return np.asarray(torch.cat(cells, dim=1).cpu().numpy())
