"""The yaw of a torso, its angle about the vertical, from 17 keypoints.

A print sits on the cloth, so it moves sideways when its wearer turns. Keypoints in the picture tell the yaw well: the
head, the shoulders and the hips shift against each other. A network of two hidden layers, trained on rendered skeletons
(`python -m styletryon.training.yaw`), reads it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import _disable_current_modes

from styletryon.pose._pose import FLIP_ORDER, NUM_KEYPOINTS

NUM_READINGS = 3 * NUM_KEYPOINTS
WEIGHTS = Path(__file__).parent.parent / "weights" / "yaw.safetensors"

_LARGEST = 1.2  # radians; beyond, a person is seen from the side


def torso_yaw(places: Tensor, present: Tensor) -> Tensor:
    """Estimate the yaw of torsos.

    Args:
        places: `(B, 17, 2)` how far each keypoint lies across and along the torso from between the shoulders, in
            lengths of the torso.
        present: `(B, 17)` one where a keypoint is known, else zero.

    Returns:
        `(B,)` radians in [-1.2, 1.2], positive where a person turns to their own left; mirrored poses have opposite
        yaws.
    """
    weights = _weights(str(places.device))
    order = torch.tensor(FLIP_ORDER, device=places.device)
    mirrored = places[:, order] * places.new_tensor([-1.0, 1.0])
    both = torch.cat([readings(places, present), readings(mirrored, present[:, order])]).float()
    yaw, opposite = run(weights, both).chunk(2)
    return ((yaw - opposite) / 2).clamp(-_LARGEST, _LARGEST).to(places.dtype)


def readings(places: Tensor, present: Tensor) -> Tensor:
    """Lay out what the network reads, `(B, NUM_READINGS)`: a missing keypoint reads zero."""
    known = present[..., None]
    return torch.cat([places.clamp(-4.0, 4.0) * known, known], dim=-1).flatten(1)


def run(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """Run the network on `(B, NUM_READINGS)`; return `(B,)` radians."""
    for layer in ("0", "1"):
        x = F.silu(F.linear(x, weights[f"{layer}.weight"], weights[f"{layer}.bias"]))
    return F.linear(x, weights["2.weight"], weights["2.bias"])[:, 0]


_KEPT: dict[str, dict[str, Tensor]] = {}  # by device; a compiler looks into a dictionary, not behind `lru_cache`


def _weights(device: str) -> dict[str, Tensor]:
    if device not in _KEPT:
        # Real values, whatever watches the first call: what `torch.export` makes of tensors must not be kept.
        with torch.inference_mode(False), _disable_current_modes():
            _KEPT[device] = {name: tensor.float().to(device) for name, tensor in load_file(WEIGHTS).items()}
    return _KEPT[device]
