"""The measures and the benchmark: how good a try-on is, against a truth that was rendered."""

from __future__ import annotations

from styletryon.metrics.evaluate import evaluate, evaluate_folder, pose_following
from styletryon.metrics.measures import Statistic
from styletryon.metrics.methods import ABLATION_METHODS, DEFAULT_METHODS, METHODS, PHOTO_METHODS
from styletryon.metrics.pairs import Pair, sample_pairs
from styletryon.metrics.report import EvaluationReport

__all__ = [
    "ABLATION_METHODS",
    "DEFAULT_METHODS",
    "METHODS",
    "PHOTO_METHODS",
    "EvaluationReport",
    "Pair",
    "Statistic",
    "evaluate",
    "evaluate_folder",
    "pose_following",
    "sample_pairs",
]
