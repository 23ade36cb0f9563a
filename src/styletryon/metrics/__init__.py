"""The measures and the benchmark: how good a try-on is, against a truth that was rendered, and without one."""

from __future__ import annotations

from styletryon._deprecated import deprecated_names
from styletryon.metrics.distances import (
    SubsetDistance,
    frechet_distance,
    kernel_distance,
    subset_kernel_distance,
)
from styletryon.metrics.evaluate import evaluate
from styletryon.metrics.generator import GENERATOR_METRICS, evaluate_generator
from styletryon.metrics.measures import Statistic
from styletryon.metrics.methods import ABLATION_METHODS, DEFAULT_METHODS, METHODS, PHOTO_METHODS
from styletryon.metrics.networks import SET_NETWORKS, SetNetwork, find_set_network
from styletryon.metrics.photo_pairs import evaluate_folder, evaluate_table
from styletryon.metrics.pose_transfer import pose_transfer
from styletryon.metrics.rendered_pairs import Pair, sample_pairs
from styletryon.metrics.report import EvaluationReport

__all__ = [
    "ABLATION_METHODS",
    "DEFAULT_METHODS",
    "GENERATOR_METRICS",
    "METHODS",
    "PHOTO_METHODS",
    "SET_NETWORKS",
    "EvaluationReport",
    "Pair",
    "SetNetwork",
    "Statistic",
    "SubsetDistance",
    "evaluate",
    "evaluate_folder",
    "evaluate_generator",
    "evaluate_table",
    "find_set_network",
    "frechet_distance",
    "kernel_distance",
    "pose_transfer",
    "sample_pairs",
    "subset_kernel_distance",
]

__getattr__ = deprecated_names(__name__, {"pose_following": "styletryon.metrics.pose_transfer"}, until="0.4")
