"""The network of the body from its two files."""

from __future__ import annotations

import json
from pathlib import Path

from styletryon._weights import load_strictly, read_tensors, unfilled
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
            raise CheckpointNotFoundError(
                f"expected the file {path}, got none; pass the folder that holds it", argument="folder"
            )
    try:
        settings = json.loads(settings_path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CheckpointError(
            f"expected JSON in {settings_path}, got {error}; save it again", argument="folder"
        ) from error
    if not isinstance(settings, dict) or settings.pop("class", None) != "BodyNetwork":
        raise CheckpointError(f"expected the class BodyNetwork in {settings_path}, got another", argument="folder")
    try:
        config = BodyConfig.from_dict(settings)
        with unfilled():
            network = BodyNetwork(config)
    except (ConfigError, TypeError, ValueError) as error:
        raise CheckpointError(f"{settings_path} describes no BodyNetwork: {error}", argument="folder") from error
    load_strictly(network, read_tensors(tensors_path, "folder"), f"folder: {tensors_path}")
    return network.eval().requires_grad_(False)
