"""Networks from files, strictly: what does not fit is refused with a message that says why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from styletryon.errors import CheckpointError, CheckpointNotFoundError, ConfigError
from styletryon.pose.network import BodyConfig, BodyNetwork


def load_body_network(folder: Path) -> BodyNetwork:
    """Load a network from `body.json` and `body.safetensors` in a folder, on the CPU, strictly.

    Args:
        folder: Where the two files are.

    Returns:
        The network in float32, in evaluation mode, without gradients.

    Raises:
        CheckpointNotFoundError: If a file is missing.
        CheckpointError: If the files do not fit each other or this version.
    """
    settings_path, tensors_path = folder / "body.json", folder / "body.safetensors"
    for path in (settings_path, tensors_path):
        if not path.is_file():
            raise CheckpointNotFoundError(f"folder: expected the file {path}, got none; pass the folder that holds it")
    try:
        settings = json.loads(settings_path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CheckpointError(f"folder: expected JSON in {settings_path}, got {error}; save it again") from error
    if not isinstance(settings, dict) or settings.pop("class", None) != "BodyNetwork":
        raise CheckpointError(f"folder: expected the class BodyNetwork in {settings_path}, got another")
    try:
        network = BodyNetwork(BodyConfig.from_dict(settings))
    except (ConfigError, TypeError, ValueError) as error:
        raise CheckpointError(f"folder: {settings_path} describes no BodyNetwork: {error}") from error
    try:
        tensors = load_file(tensors_path, device="cpu")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"folder: expected safetensors in {tensors_path}, got {error}; fetch it again") from error
    load_strictly(network, tensors, "folder")
    return network.eval().requires_grad_(False)


def load_strictly(network: nn.Module, tensors: Mapping[str, Tensor], argument: str) -> None:
    """Load tensors strictly; a mismatch names the argument that they came from."""
    own = network.state_dict()
    missing = sorted(set(own) - set(tensors))
    unexpected = sorted(set(tensors) - set(own))
    misshaped = [
        f"{key} {tuple(tensors[key].shape)} for {tuple(own[key].shape)}"
        for key in sorted(set(own) & set(tensors))
        if tensors[key].shape != own[key].shape
    ]
    if missing or unexpected or misshaped:
        raise CheckpointError(
            f"{argument}: expected the tensors of a {type(network).__name__}, got missing {missing[:4]}, "
            f"unexpected {unexpected[:4]}, of another shape {misshaped[:4]}; the file belongs to another network"
        )
    network.load_state_dict(tensors)  # copies into the network's own dtype
