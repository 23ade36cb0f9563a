"""`styletryon info`: what is installed, on what it runs, and why."""

from __future__ import annotations

import argparse
import platform
from importlib import metadata
from pathlib import Path

import styletryon
from styletryon._version import __version__
from styletryon.cli._common import Commands, add_command
from styletryon.errors import StyleTryOnError


def add_commands(commands: Commands) -> None:
    """Add the commands of this module."""
    _add_info(commands)


def _add_info(commands: Commands) -> None:
    add_command(commands, "info", _info, "say what is installed, on what it runs, and why; paste it into a report")


def _info(arguments: argparse.Namespace) -> None:
    import torch

    from styletryon.models.storage import BUNDLED

    del arguments
    rows = [
        ("styletryon", f"{__version__} ({Path(styletryon.__file__).parent})"),
        ("python", f"{platform.python_version()} on {platform.platform()}"),
    ]
    packages = ("torch", "torchvision", "numpy", "scipy", "pillow", "safetensors")
    rows += [(name, metadata.version(name)) for name in packages]
    rows.append(("cpu threads", str(torch.get_num_threads())))
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        rows.append(("cuda", f"{torch.version.cuda}: {', '.join(names)}"))
    else:
        rows.append(("cuda", f"none (torch was built for {torch.version.cuda or 'the CPU alone'})"))
    rows += _describe_ops()
    for name in sorted(path.parent.name for path in BUNDLED.glob("*/config.json")):
        rows.append((f"weights {name!r}", _describe_weights(name)))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:{width}}  {value}")


def _describe_ops() -> list[tuple[str, str]]:
    status = styletryon.ops.backend_status()
    rows = [("ops", f"{status.active or 'none'} (asked for: {status.requested}, by {status.requested_by})")]
    rows.append(("  because", status.reason))
    rows += [("  but", note) for note in status.notes]
    rows.append(("  device", f"{status.device or 'none'}{f', {status.arch}' if status.arch else ''}"))
    rows.append(("  nvrtc", status.nvrtc))
    rows.append(("  cache", f"{status.cache_folder} ({status.cache_files} compiled, {status.cache_bytes} bytes)"))
    rows.append(("  to force", "STYLETRYON_OPS=reference or fused; in Python styletryon.ops.use_backend"))
    return rows


def _describe_weights(name: str) -> str:
    try:
        model = styletryon.load_model(name, device="cpu")
    except StyleTryOnError as error:
        return f"cannot be loaded: {error}"
    height, width = model.image_size
    count = sum(parameter.numel() for parameter in model.parameters())
    return f"{height}x{width}, {count / 1e6:.1f} M parameters, {model.fingerprint}"
