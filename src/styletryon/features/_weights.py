"""Weights of torchvision's networks: loaded, and found where torchvision keeps what it once downloaded."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from styletryon.errors import CheckpointError, WeightsUnavailableError


def load_state(network: nn.Module, state: Mapping[str, Any], kind: str) -> None:
    """Load what a network needs out of a state dict that may hold more."""
    needed = network.state_dict()
    broken = [key for key, value in needed.items() if getattr(state.get(key), "shape", None) != value.shape]
    if broken:
        raise CheckpointError(
            f"expected a state dict of torchvision's {kind}; missing or misshaped: {', '.join(broken[:4])}",
            argument="weights",
        )
    network.load_state_dict({key: state[key] for key in needed})


def find_cached(url: str) -> Path:
    """Find the file that torchvision made of a URL, and download nothing.

    Args:
        url: Where torchvision gets it; the name of the file ends with the beginning of its SHA-256.

    Returns:
        The file in torch's cache.

    Raises:
        WeightsUnavailableError: If it is not there.
        CheckpointError: If its checksum is another than its name says.
    """
    name = url.rsplit("/", 1)[-1]
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.is_file():
        raise WeightsUnavailableError(
            f"expected {name} in torch's cache, got no file {path}; fetch {url} yourself and put it there or "
            "pass its path",
            argument="weights",
        )
    said = re.search(r"-([0-9a-f]{8,})\.", name)
    if said is not None and not _sha256(path).startswith(said.group(1)):
        raise CheckpointError(
            f"expected a SHA-256 of {path} that begins with {said.group(1)}; fetch it again", argument="weights"
        )
    return path


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
