"""Generators of the Hugging Face hub."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from styletryon.errors import DependencyError, WeightsUnavailableError

FILES = ("config.json", "model.safetensors")
"""All that is ever fetched: numbers and tensors, no pickles and no code."""

_NAME = re.compile(r"(?P<repository>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w.-][\w./-]*))?")


def is_hub_name(source: object) -> bool:
    """Tell whether a text is a name of the hub, "user/name" or "user/name@revision", and no path to anything here."""
    return isinstance(source, str) and _NAME.fullmatch(source) is not None and not Path(source).exists()


def fetch_model(name: str) -> Path:
    """Fetch a saved generator from the Hugging Face hub into its cache.

    Args:
        name: "user/name" for its newest state, or "user/name@revision" for a branch, a tag or, so that it can never
            change, a commit.

    Returns:
        The folder, which holds `config.json` and `model.safetensors` and nothing else of the repository.

    Raises:
        DependencyError: If `huggingface_hub` is not installed.
        WeightsUnavailableError: If the files cannot be had, or that is no name.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise WeightsUnavailableError(f"expected 'user/name' or 'user/name@revision', got {name!r}", argument="name")
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise DependencyError(
            f"{name!r} is no folder here and no bundled name; to fetch it from the Hugging Face hub install "
            "huggingface_hub: pip install 'styletryon[hub]'",
            argument="model",
        ) from error
    try:
        folder = hub.snapshot_download(
            match["repository"], revision=match["revision"], allow_patterns=list(FILES), repo_type="model"
        )
    except Exception as error:  # The hub's own, those of its transport, and OSError have no root in common.
        raise WeightsUnavailableError(
            f"{name!r} cannot be had from the Hugging Face hub ({type(error).__name__}: {error}); check the "
            "name, the revision and the network",
            argument="model",
        ) from error
    return Path(folder)
