"""Training of the small network that estimates a torso's yaw (`styletryon.pose._yaw`), on rendered skeletons.

``python -m styletryon.training.yaw [OUT]`` takes about five minutes of one core and writes `yaw.safetensors`.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save as to_bytes
from torch import Tensor

from styletryon._files import write_bytes
from styletryon.data.paperdoll import sample_figure
from styletryon.data.paperdoll.skeleton import build_skeleton, joint_points
from styletryon.pose import NUM_KEYPOINTS
from styletryon.pose._yaw import NUM_READINGS, WEIGHTS, readings, run

_WIDTH = 384
_HELD_SEED = 1_900_000_000
# How often each keypoint is missing: head-to-knee pictures end above the ankles.
_MISSING = (0.02,) * 5 + (0.0,) * 2 + (0.04,) * 4 + (0.02,) * 2 + (0.1,) * 2 + (0.95,) * 2
# In lengths of the torso. The renderer's keypoints are exact, an estimator's ten times as far off; the more jitter, the
# less of the yaw can be told of either.
_JITTER = 0.0015


def skeletons(count: int, first_seed: int) -> tuple[Tensor, Tensor]:
    """Pose figures; return `(count, 17, 2)` places in the torso's frame and `(count,)` yaws in radians."""
    places = np.empty((count, NUM_KEYPOINTS, 2), np.float32)
    yaws = np.empty(count, np.float32)
    for number in range(count):
        figure = sample_figure(first_seed + number)
        places[number] = joint_points(figure, build_skeleton(figure))[:, :2]
        yaws[number] = figure.stance.yaw + 0.5 * figure.stance.twist  # as the torso of the renderer
    return in_torso_frame(torch.from_numpy(places)), torch.from_numpy(yaws)


def in_torso_frame(points: Tensor) -> Tensor:
    """Turn `(B, 17, 2)` places in a picture into places across and along the torso, in its lengths."""
    shoulders, hips = points[:, 5:7].mean(dim=1), points[:, 11:13].mean(dim=1)
    axis = hips - shoulders
    length = axis.norm(dim=-1, keepdim=True)
    axis = axis / length
    offset = (points - shoulders[:, None]) / length[:, None]
    across = offset[..., 0] * axis[:, None, 1] - offset[..., 1] * axis[:, None, 0]
    along = (offset * axis[:, None]).sum(dim=-1)
    return torch.stack([across, along], dim=-1)


def train(count: int = 60_000, steps: int = 30_000, seed: int = 0) -> dict[str, Tensor]:
    """Train the network; return its weights.

    Args:
        count: Skeletons to train on.
        steps: Steps of 256 skeletons.
        seed: Of weights, order, jitter and which keypoints are missing.
    """
    places, yaws = skeletons(count, seed)
    rng = torch.Generator().manual_seed(seed)
    shapes = {"0": (_WIDTH, NUM_READINGS), "1": (_WIDTH, _WIDTH), "2": (1, _WIDTH)}
    weights = {f"{layer}.weight": torch.randn(s, generator=rng) / math.sqrt(s[1]) for layer, s in shapes.items()}
    weights |= {f"{layer}.bias": torch.zeros(s[0]) for layer, s in shapes.items()}
    for tensor in weights.values():
        tensor.requires_grad_()
    optimizer = torch.optim.AdamW(list(weights.values()), lr=3e-3, weight_decay=1e-3)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * 0.5 * (1 + math.cos(math.pi * step / steps))
        chosen = torch.randint(0, count, (256,), generator=rng)
        loss = (run(weights, _spoil(places[chosen], rng)) - yaws[chosen]).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return {name: tensor.detach() for name, tensor in weights.items()}


def error(weights: dict[str, Tensor], count: int = 2_000) -> tuple[float, float]:
    """Return the root mean square error in radians on unseen skeletons, and that of a yaw of zero."""
    places, yaws = skeletons(count, _HELD_SEED)
    with torch.no_grad():
        estimated = run(weights, _spoil(places, torch.Generator().manual_seed(1)))
    return float((estimated - yaws).square().mean().sqrt()), float(yaws.square().mean().sqrt())


def _spoil(places: Tensor, rng: torch.Generator) -> Tensor:
    """Read keypoints as an estimator finds them: not quite where they are, and some not at all."""
    present = (torch.rand(places.shape[:2], generator=rng) >= torch.tensor(_MISSING)).float()
    return readings(places + _JITTER * torch.randn(places.shape, generator=rng), present)


def main() -> None:
    """Train, measure and write."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else WEIGHTS
    weights = {name: tensor.half().float() for name, tensor in train().items()}
    write_bytes(out, to_bytes({name: tensor.half() for name, tensor in weights.items()}, {"format": "pt"}))
    found, blind = error(weights)
    sys.stdout.write(f"{out}: error {found:.3f} rad; always 0 would be off by {blind:.3f} rad\n")


if __name__ == "__main__":
    main()
