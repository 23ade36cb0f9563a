"""Poses: keypoints and heatmaps, and the estimators that find them in a picture."""

from __future__ import annotations

from styletryon.pose._body_maps import NUM_BODY_MAPS, NUM_TORSO_WAVES, body_maps
from styletryon.pose._pose import (
    BONES,
    FLIP_ORDER,
    KEYPOINT_NAMES,
    NUM_KEYPOINTS,
    Pose,
    keypoint_heatmaps,
)
from styletryon.pose.estimator import (
    KeypointEstimator,
    KeypointRCNNEstimator,
    PoseEstimator,
    load_keypoint_network,
)
from styletryon.pose.network import KeypointConfig, KeypointNetwork

__all__ = [
    "BONES",
    "FLIP_ORDER",
    "KEYPOINT_NAMES",
    "NUM_BODY_MAPS",
    "NUM_KEYPOINTS",
    "NUM_TORSO_WAVES",
    "KeypointConfig",
    "KeypointEstimator",
    "KeypointNetwork",
    "KeypointRCNNEstimator",
    "Pose",
    "PoseEstimator",
    "body_maps",
    "keypoint_heatmaps",
    "load_keypoint_network",
]
