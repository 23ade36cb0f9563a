"""Perceptual feature networks, and how far apart two pictures are in their eyes."""

from __future__ import annotations

from styletryon.features.base import (
    FeatureNetwork,
    feature_distance,
    feature_weights,
    frozen,
    perceptual_distance,
)
from styletryon.features.efficientnet import EfficientNetFeatures
from styletryon.features.inception import InceptionV3Features
from styletryon.features.pixels import PixelFeatures
from styletryon.features.vgg import VGG16Features

__all__ = [
    "EfficientNetFeatures",
    "FeatureNetwork",
    "InceptionV3Features",
    "PixelFeatures",
    "VGG16Features",
    "feature_distance",
    "feature_weights",
    "frozen",
    "perceptual_distance",
]
