"""The network that finds garments that nobody wears: that of the body on the same trunk, with a head of its own.

Its file holds all but the trunk, which is that of the network of the body.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from styletryon._weights import load_strictly, read_tensors, unfilled
from styletryon.errors import CheckpointNotFoundError
from styletryon.pose._weights import load_body_network
from styletryon.pose.network import BodyConfig, BodyNetwork

GARMENT_SIZE = (256, 256)
"""Height and width of what the network looks at: garments lie at any aspect."""

WEIGHTS = Path(__file__).parent.parent / "weights"

_FILE, _TRUNK = "garment.safetensors", "trunk."


def load_garment_network(folder: Path = WEIGHTS, body: BodyNetwork | None = None) -> BodyNetwork:
    """Load the network from `garment.safetensors` in a folder, on the CPU, strictly.

    Args:
        folder: Where the file is.
        body: The network of the body, whose trunk it shares. None for the bundled one.

    Returns:
        The network in float32, in evaluation mode, without gradients.

    Raises:
        CheckpointNotFoundError: If the file is missing.
        CheckpointError: If it does not fit this version.
    """
    path = folder / _FILE
    if not path.is_file():
        raise CheckpointNotFoundError(
            f"expected the file {path}, got none; pass the folder that holds it", argument="folder"
        )
    body = load_body_network(WEIGHTS) if body is None else body
    network = _like(body)
    tensors = {**read_tensors(path, "folder"), **_trunk(body)}
    load_strictly(network, tensors, f"folder: {path}")
    return network.eval().requires_grad_(False)


def from_body(body: BodyNetwork) -> BodyNetwork:
    """Return a network of garments that begins as that of the body."""
    network = _like(body)
    state = dict(body.state_dict())
    grid = [side // 32 for side in GARMENT_SIZE]
    state["position"] = F.interpolate(state["position"].float(), size=grid, mode="bilinear", align_corners=False)
    network.load_state_dict(state)
    return network


def head_of(network: BodyNetwork) -> dict[str, Tensor]:
    """Return what a file of the network holds: all but the trunk, in half precision."""
    state = network.state_dict().items()
    return {name: value.to(torch.float16).contiguous() for name, value in state if not name.startswith(_TRUNK)}


def _like(body: BodyNetwork) -> BodyNetwork:
    with unfilled():
        return BodyNetwork(BodyConfig.from_dict({**body.config.to_dict(), "size": GARMENT_SIZE}))


def _trunk(body: BodyNetwork) -> dict[str, Tensor]:
    return {name: value for name, value in body.state_dict().items() if name.startswith(_TRUNK)}
