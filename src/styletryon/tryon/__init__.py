"""Try-on: optimising how much of each style channel comes from the garment's picture."""

from __future__ import annotations

from styletryon.tryon.baselines import blend, blend_styles, greedy_query, layer_split, swap
from styletryon.tryon.optimizer import TryOnBatch, TryOnOptimizer, TryOnProgress, TryOnStatus
from styletryon.tryon.presets import PRESETS, Preset, find_preset
from styletryon.tryon.result import TryOnResult, change_mask
from styletryon.tryon.targets import make_targets, match_pairs

__all__ = [
    "PRESETS",
    "Preset",
    "TryOnBatch",
    "TryOnOptimizer",
    "TryOnProgress",
    "TryOnResult",
    "TryOnStatus",
    "blend",
    "blend_styles",
    "change_mask",
    "find_preset",
    "greedy_query",
    "layer_split",
    "make_targets",
    "match_pairs",
    "swap",
]
