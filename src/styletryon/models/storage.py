"""Networks on disk: `config.json` and `model.safetensors` in one folder. Never pickles."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from styletryon._files import write_atomically
from styletryon.errors import CheckpointError, CheckpointNotFoundError, ConfigError
from styletryon.models.config import AnyConfig, from_dict, to_dict

FORMAT = 1
BUNDLED = Path(__file__).parent.parent / "weights"


def find(folder_or_name: str | os.PathLike[str]) -> Path:
    """Return the folder of a saved network: a folder as it is, or the name of bundled weights.

    Raises:
        CheckpointNotFoundError: If there is neither.
    """
    folder = Path(folder_or_name)
    if (folder / "config.json").is_file():
        return folder
    bundled = sorted(path.parent.name for path in BUNDLED.glob("*/config.json"))
    if str(folder_or_name) in bundled:
        return BUNDLED / str(folder_or_name)
    what = "a folder without config.json" if folder.is_dir() else "no such folder"
    raise CheckpointNotFoundError(
        f"model: expected a folder with config.json and model.safetensors or one of the bundled {bundled}, "
        f"got {os.fspath(folder_or_name)!r}, {what}"
    )


def save_network(
    folder: Path,
    network: nn.Module,
    configs: Mapping[str, AnyConfig | None],
    *,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a network and its numbers; `dtype` None keeps the weights as they are.

    Raises:
        SaveError: If a file cannot be written.
    """
    header = {"format": FORMAT, "class": type(network).__name__}
    numbers = {name: None if config is None else to_dict(config) for name, config in configs.items()}
    tensors = {
        name: (tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in network.state_dict().items()
    }
    # Weights first: a folder counts as a model from the moment that it holds config.json.
    weights = save(tensors, metadata={"format": "pt"})
    write_atomically(folder / "model.safetensors", lambda path: _write(path, weights))
    text = json.dumps({**header, **numbers}, indent=2) + "\n"
    write_atomically(folder / "config.json", lambda path: _write(path, text.encode()))


def load_configs(
    folder: Path,
    kinds: Mapping[str, type[AnyConfig]],
) -> dict[str, AnyConfig | None]:
    """Read the numbers of a network.

    Raises:
        CheckpointError: If the file is damaged, of another format, or holds unknown keys.
    """
    path = folder / "config.json"
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise TypeError(f"a JSON object, got {type(data).__name__}")
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: expected the JSON that save_pretrained writes: {error}") from error
    if data.get("format") != FORMAT:
        raise CheckpointError(f"{path}: expected format {FORMAT}, got {data.get('format')!r}; upgrade styletryon?")
    unknown = sorted(set(data) - {"format", "class", *kinds})
    if unknown:
        raise CheckpointError(
            f"{path}: expected keys among {sorted(kinds)}, got unknown {unknown} of a {data.get('class')}; load it by "
            "the class that wrote it"
        )
    try:
        return {
            name: None if data.get(name) is None else from_dict(kind, data[name]) for name, kind in kinds.items()
        }
    except (ConfigError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def load_weights(folder: Path, network: nn.Module) -> None:
    """Load a network's weights on the CPU, strictly; half precision on disk becomes the network's own dtype.

    Raises:
        CheckpointError: If the file is missing or damaged, or keys are missing, unknown or of the wrong shape.
    """
    path = folder / "model.safetensors"
    try:
        tensors = load_file(path, device="cpu")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: expected a safetensors file: {error}; download or train it again") from error
    own = network.state_dict()
    missing, unknown = sorted(set(own) - set(tensors)), sorted(set(tensors) - set(own))
    misshaped = [
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(own[name].shape)}"
        for name in sorted(set(own) & set(tensors))
        if own[name].shape != tensors[name].shape
    ]
    if missing or unknown or misshaped:
        raise CheckpointError(
            f"{path}: expected the tensors that config.json describes; missing {missing[:8]}, unknown {unknown[:8]}, "
            f"of the wrong shape {misshaped[:8]}; the two files belong to different models"
        )
    network.load_state_dict({name: tensor.to(own[name].dtype) for name, tensor in tensors.items()})


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
