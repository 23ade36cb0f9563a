"""Generators by name, folder or object, each loaded once."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import torch

from styletryon._arguments import find_device
from styletryon._forks import note_process
from styletryon.errors import CheckpointNotFoundError
from styletryon.generator import Generator, check_generator, move_to, unwrapped
from styletryon.models import PoseStyleGAN2, storage
from styletryon.models.hub import SCHEME, could_be_hub_name, fetch_model, is_hub_name

ModelLike = str | os.PathLike[str] | Generator
"""What stands for a generator: the name of bundled weights, a folder of `save_pretrained`, "hf://user/name" of the
Hugging Face hub, or any object that keeps the protocol `styletryon.generator.Generator`."""

_MODEL_FILES = (".json", ".safetensors")


def load(source: ModelLike, device: torch.device | str | None) -> Generator:
    """Load a generator; see `styletryon.load_model`."""
    note_process()
    if not isinstance(source, str | os.PathLike):
        generator = check_generator(unwrapped(source), "model")
        return generator if device is None else move_to(generator, find_device(device), "device")
    folder = (fetch_model(str(source)) if is_hub_name(source) else _find(source)).resolve()
    # A folder that was written anew since is another model.
    written = tuple(path.stat().st_mtime_ns for path in sorted(folder.iterdir()) if path.suffix in _MODEL_FILES)
    return _load(folder, written, find_device(device))


def _find(source: str | os.PathLike[str]) -> Path:
    # A folder whose path is misspelt must not lead to the network, where anybody may own the name.
    try:
        return storage.find(source)
    except CheckpointNotFoundError as error:
        if not could_be_hub_name(source):
            raise
        raise CheckpointNotFoundError(
            f"{error.problem}; a model of the Hugging Face hub is {SCHEME + str(source)!r}", argument=error.argument
        ) from None


@lru_cache(maxsize=4)
def _load(folder: Path, written: tuple[int, ...], device: torch.device) -> PoseStyleGAN2:
    del written
    with torch.inference_mode(False):  # it is kept: no later call may meet tensors of this one's mode
        return PoseStyleGAN2.from_pretrained(folder).to(device)
