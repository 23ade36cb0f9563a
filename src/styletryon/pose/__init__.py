"""Poses: keypoints and heatmaps, and the estimators that find them in a picture."""

from __future__ import annotations

import warnings
from typing import Any

from styletryon.pose._body_maps import NUM_BODY_MAPS, NUM_TORSO_WAVES, body_maps
from styletryon.pose._pose import (
    BONES,
    FLIP_ORDER,
    KEYPOINT_NAMES,
    NUM_KEYPOINTS,
    Pose,
    keypoint_heatmaps,
)
from styletryon.pose._weights import load_body_network
from styletryon.pose.estimator import BodyEstimator, PoseEstimator
from styletryon.pose.garment import GarmentEstimator, SeenGarment
from styletryon.pose.network import BodyConfig, BodyMaps, BodyNetwork
from styletryon.pose.rcnn import KeypointRCNNEstimator
from styletryon.pose.reading import read_pose

__all__ = [
    "BONES",
    "FLIP_ORDER",
    "KEYPOINT_NAMES",
    "NUM_BODY_MAPS",
    "NUM_KEYPOINTS",
    "NUM_TORSO_WAVES",
    "BodyConfig",
    "BodyEstimator",
    "BodyMaps",
    "BodyNetwork",
    "GarmentEstimator",
    "KeypointRCNNEstimator",
    "Pose",
    "PoseEstimator",
    "SeenGarment",
    "body_maps",
    "keypoint_heatmaps",
    "load_body_network",
    "read_pose",
]

_RENAMED = {
    "KeypointConfig": "BodyConfig",
    "KeypointEstimator": "BodyEstimator",
    "KeypointNetwork": "BodyNetwork",
    "load_keypoint_network": "load_body_network",
}


def __getattr__(name: str) -> Any:
    """Return what a name of 0.1 is called now, with a warning."""
    if name not in _RENAMED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    now = _RENAMED[name]
    warnings.warn(
        f"styletryon.pose.{name} is called {now} since 0.2; the old name goes in 0.3", DeprecationWarning, stacklevel=2
    )
    return globals()[now]
