"""Networks on disk: `config.json` and `model.safetensors` in one folder. Never pickles."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from styletryon._files import write_bytes, write_text
from styletryon._weights import load_strictly, read_tensors
from styletryon.errors import CheckpointError, CheckpointNotFoundError, ConfigError
from styletryon.models.config import AnyConfig, from_dict, to_dict

FORMAT = 2
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
        f"expected a folder with config.json and model.safetensors or one of the bundled {bundled}, "
        f"got {os.fspath(folder_or_name)!r}, {what}",
        argument="model",
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
    write_bytes(folder / "model.safetensors", weights)
    text = json.dumps({**header, **numbers}, indent=2) + "\n"
    write_text(folder / "config.json", text)


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
        raise CheckpointError(f"expected the JSON that save_pretrained writes: {error}", argument=str(path)) from error
    if data.get("format") == 1:
        raise CheckpointError(
            f"expected format {FORMAT}, got 1, whose networks see other body coordinates; "
            "train it again, or draw it with styletryon 0.1",
            argument=str(path),
        )
    if data.get("format") != FORMAT:
        raise CheckpointError(
            f"expected format {FORMAT}, got {data.get('format')!r}; upgrade styletryon?", argument=str(path)
        )
    unknown = sorted(set(data) - {"format", "class", *kinds})
    if unknown:
        raise CheckpointError(
            f"expected keys among {sorted(kinds)}, got unknown {unknown} of a {data.get('class')}; load it by "
            "the class that wrote it",
            argument=str(path),
        )
    try:
        return {
            name: None if data.get(name) is None else from_dict(kind, data[name]) for name, kind in kinds.items()
        }
    except (ConfigError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{error}", argument=str(path)) from error


def load_weights(folder: Path, network: nn.Module) -> None:
    """Load a network's weights on the CPU, strictly; half precision on disk becomes the network's own dtype.

    Raises:
        CheckpointError: If the file is missing or damaged, or keys are missing, unknown or of the wrong shape.
    """
    path = folder / "model.safetensors"
    load_strictly(network, read_tensors(path, "model"), f"model: {path}")
