"""Reconstruction judged by pretrained features: the fine things by what a network sees in them, not pixel by pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from styletryon.errors import ConfigError, RangeError
from styletryon.features import EfficientNetFeatures, feature_distance, feature_weights
from styletryon.training import objectives

_LAYERS = ("stride4", "stride8", "stride16")


@dataclass(frozen=True)
class PerceptualReconstruction:
    """How pretrained features take part in the reconstruction.

    Attributes:
        weight: Of the distance in features; 0.2 is as strong as pixels are at the start of a run.
        finest: The finest scale at which pixels are still compared, in halvings: 0 for all scales, 2 for pictures of a
            quarter of the height and less. A texture that is a pixel off costs pixels more than none.
        weights: Where the weights of EfficientNet-Lite0 come from: "bundled", the path of the published file (see
            `styletryon.features.EfficientNetFeatures`), or "random" for random ones, which are of use to tests alone.
    """

    weight: float = 0.2
    finest: int = 2
    weights: str = "bundled"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise RangeError(f"expected a number above 0, got {self.weight}", argument="perceptual.weight")
        if not 0 <= self.finest < objectives.SCALES:
            raise RangeError(
                f"expected 0 to {objectives.SCALES - 1} halvings, got {self.finest}", argument="perceptual.finest"
            )
        if not self.weights:
            raise ConfigError(
                'expected "bundled", "random" or a path, got an empty name', argument="perceptual.weights"
            )


class PerceptualTerm:
    """The distance of drawings from pictures in the features of a frozen network.

    Args:
        settings: How features take part.
        device: Where the network runs.

    Raises:
        CheckpointNotFoundError: If there is no file of the name.
        CheckpointError: If the file holds no such weights.
    """

    def __init__(self, settings: PerceptualReconstruction, device: torch.device) -> None:
        weights = None if settings.weights == "random" else settings.weights
        self.network = EfficientNetFeatures(_LAYERS, weights).to(device).to(memory_format=torch.channels_last)
        self.weight = settings.weight

    def __call__(self, drawn: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """Return the weighted distance, the person counting as in `objectives.pixel_weights`.

        Args:
            drawn: `(B, 3, H, W)` drawings.
            images: `(B, 3, H, W)` pictures in [-1, 1].
            labels: `(B, H, W)` classes.
        """
        with torch.no_grad():
            theirs = self.network(images)
        ours = self.network(drawn)
        weights = feature_weights(theirs, objectives.pixel_weights(labels))
        ours, theirs = tuple(map_.float() for map_ in ours), tuple(map_.float() for map_ in theirs)
        return self.weight * feature_distance(ours, theirs, weights, deep=True).mean()
