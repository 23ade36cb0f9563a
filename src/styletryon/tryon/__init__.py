"""Try-on: optimising how much of each style channel comes from the garment's picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from styletryon._lazy import lazy_names

if TYPE_CHECKING:
    from styletryon.tryon.baselines import blend, blend_styles, greedy_query, layer_split, swap
    from styletryon.tryon.optimizer import TryOnBatch, TryOnOptimizer, TryOnProgress, TryOnStatus
    from styletryon.tryon.presets import PRESETS, Preset, find_preset
    from styletryon.tryon.result import TryOnResult
    from styletryon.tryon.targets import change_mask, make_targets, match_pairs
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "baselines": ("blend", "blend_styles", "greedy_query", "layer_split", "swap"),
            "optimizer": ("TryOnBatch", "TryOnOptimizer", "TryOnProgress", "TryOnStatus"),
            "presets": ("PRESETS", "Preset", "find_preset"),
            "result": ("TryOnResult",),
            "targets": ("change_mask", "make_targets", "match_pairs"),
        },
    )

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
