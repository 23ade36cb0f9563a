"""`styletryon export-onnx`: a generator for other runtimes."""

from __future__ import annotations

import argparse
from pathlib import Path

import styletryon
from styletryon.cli._common import Commands, add_command


def add_commands(commands: Commands) -> None:
    """Add the commands of this module."""
    parser = add_command(commands, "export-onnx", _export_onnx, "write a generator's forward pass as an ONNX file")
    parser.add_argument("out", type=Path, metavar="OUT", help="file to write, such as generator.onnx")
    parser.add_argument("--model", default="default", help="name of bundled weights or folder (default: %(default)s)")
    parser.add_argument("--batch", default=1, type=int, help="people that one run draws (default: %(default)s)")
    parser.add_argument("--truncation", default=1.0, type=float, help="0 mean, 1 all variety (default: %(default)s)")


def _export_onnx(arguments: argparse.Namespace) -> None:
    from styletryon.interop import export_onnx

    model = styletryon.load_model(arguments.model, device="cpu")
    print(export_onnx(model, arguments.out, batch=arguments.batch, truncation=arguments.truncation))
