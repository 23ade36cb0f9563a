"""The report of an evaluation: a table to read and a JSON document to keep."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import Any

import numpy as np
import torch

from styletryon._files import write_text
from styletryon._version import __version__
from styletryon.metrics.measures import Statistic, bootstrap

FORMAT_VERSION = 2
"""Version of the JSON document. It grows when a field changes its meaning."""


@dataclass(frozen=True)
class EvaluationReport:
    """The result of an evaluation.

    Attributes:
        what: What was evaluated: "pairs", "pose", "pose_folder", "folder", "table" or "generator".
        settings: How: sizes, seeds, counts, versions, the model's fingerprint, the device, the seconds.
        methods: Method -> measure -> mean over pairs with a 95 % bootstrap interval.
        gaps: Name of a comparison -> measure -> mean of the difference on the same pairs, with its interval.
        values: Method -> measure -> the number of each pair, NaN where the pair has none.
    """

    what: str
    settings: Mapping[str, Any]
    methods: Mapping[str, Mapping[str, Statistic]]
    gaps: Mapping[str, Mapping[str, Statistic]] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)

    def __getitem__(self, method: str) -> Mapping[str, Statistic]:
        """Return the measures of a method."""
        return self.methods[method]

    def table(self) -> str:
        """Lay the means out as plain text: a line per method, `mean ±half` of the 95 % interval.

        The overlap of single label classes, if there is any, has a table of its own.
        """
        lines = [self._heading(), "", *_grid(_columns(self.methods, classes=False), "method")]
        by_class = _columns(self.methods, classes=True)
        if by_class:
            lines += ["", *_grid(by_class, "label classes")]
        gaps = _columns(self.gaps, classes=False)
        if gaps:
            lines += ["", *_grid(gaps, "difference on the same pairs")]
        faults = self.settings.get("faults", ())
        if faults:
            lines += ["", f"rows left out: {len(faults)}"]
            lines += [f"line {fault['line']}: {fault['reason']}" for fault in faults]
        return "\n".join(lines)

    def to_json(self) -> str:
        """Return the whole report as a JSON document; a number that does not exist is null."""
        document = {
            "format_version": FORMAT_VERSION,
            "what": self.what,
            "settings": dict(self.settings),
            "methods": {name: _statistics(row) for name, row in self.methods.items()},
            "gaps": {name: _statistics(row) for name, row in self.gaps.items()},
            "values": {name: {k: list(v) for k, v in row.items()} for name, row in self.values.items()},
        }
        return json.dumps(_finite(document), indent=1, allow_nan=False) + "\n"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the JSON document. The file appears whole or not at all; its folder is made.

        Args:
            path: Where to write.

        Raises:
            SaveError: If the file cannot be written.
        """
        write_text(path, self.to_json())

    def _heading(self) -> str:
        words = [f"{key} {self.settings[key]}" for key in ("pairs", "region", "seed", "model") if key in self.settings]
        size = self.settings.get("size")
        if size:
            words.append(f"{size[0]}x{size[1]} pixels")
        return f"{self.what}: " + ", ".join(words)


def summarise(
    values: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    seed: int = 0,
) -> dict[str, dict[str, Statistic]]:
    """Turn the numbers of each pair into means and intervals; measures that no pair has are left out.

    Args:
        values: Method -> measure -> one number per pair.
        seed: Seed of the bootstrap.

    Returns:
        Method -> measure -> statistic.
    """
    table: dict[str, dict[str, Statistic]] = {}
    for method, row in values.items():
        found = {measure: bootstrap(numbers, seed=seed) for measure, numbers in row.items()}
        table[method] = {measure: statistic for measure, statistic in found.items() if statistic.n}
    return table


def compare(
    values: Mapping[str, Mapping[str, Sequence[float]]],
    comparisons: Sequence[tuple[str, str]],
    *,
    seed: int = 0,
) -> dict[str, dict[str, Statistic]]:
    """Compute paired differences of methods: much narrower intervals than those of the means, which share their pairs.

    Args:
        values: Method -> measure -> one number per pair.
        comparisons: Pairs of methods, the better one first; those of which one was not run are left out.
        seed: Seed of the bootstrap.

    Returns:
        "first - second" -> measure -> statistic of the difference.
    """
    differences = {}
    for first, second in comparisons:
        if first in values and second in values:
            shared = [measure for measure in values[first] if measure in values[second] and measure != "seconds"]
            differences[f"{first} - {second}"] = {
                measure: list(np.subtract(values[first][measure], values[second][measure])) for measure in shared
            }
    return summarise(differences, seed=seed)


def versions() -> dict[str, str]:
    """Name the software and the machine that numbers depend on; "none" for what is not installed."""
    return {
        "styletryon": __version__,
        "torch": torch.__version__,
        "torchvision": _installed("torchvision"),
        "numpy": np.__version__,
        "pillow": _installed("pillow"),
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "machine": platform.machine(),
        "threads": str(torch.get_num_threads()),
    }


def _installed(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "none"


def _statistics(row: Mapping[str, Statistic]) -> dict[str, dict[str, float]]:
    return {measure: asdict(statistic) for measure, statistic in row.items()}


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _grid(rows: Mapping[str, Mapping[str, Statistic]], title: str) -> list[str]:
    measures = list(dict.fromkeys(measure for row in rows.values() for measure in row))
    # Names stand on two lines, or a line of nine measures would not fit a screen.
    split = [("", *measure.rsplit("_", 1))[-2:] for measure in measures]
    lines = [["", *(upper for upper, _ in split)], [title, *(lower for _, lower in split)]]
    lines += [[name, *(_cell(measure, row.get(measure)) for measure in measures)] for name, row in rows.items()]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join([first.ljust(widths[0]), *map(str.rjust, rest, widths[1:])]).rstrip() for first, *rest in lines]


def _columns(rows: Mapping[str, Mapping[str, Statistic]], *, classes: bool) -> dict[str, dict[str, Statistic]]:
    """Keep the measures of single label classes, or all others; rows that are left with none go if classes are kept."""
    kept = {
        name: {measure: found for measure, found in row.items() if measure.startswith("iou_") == classes}
        for name, row in rows.items()
    }
    return {name: row for name, row in kept.items() if row or not classes}


def _cell(measure: str, statistic: Statistic | None) -> str:
    if statistic is None:
        return "-"
    digits = 2 if measure.endswith("_psnr") or measure in ("seconds", "fid") else 3
    if not math.isfinite(statistic.high - statistic.low):
        return f"{statistic.mean:.{digits}f}"
    return f"{statistic.mean:.{digits}f} ±{(statistic.high - statistic.low) / 2:.{digits}f}"
