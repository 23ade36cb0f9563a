"""Other projects' generators: read, drawn with and tried on by ours, and written in their layout."""

from __future__ import annotations

from styletryon._deprecated import deprecated_names
from styletryon.interop.exporting import export_onnx, export_stylegan2
from styletryon.interop.loading import load_stylegan2
from styletryon.interop.parsed import ParsedGenerator
from styletryon.models.hub import fetch_model

__all__ = ["ParsedGenerator", "export_onnx", "export_stylegan2", "fetch_model", "load_stylegan2"]

__getattr__ = deprecated_names(
    __name__, {"ParsedDrawer": "styletryon.interop.parsed.ParsedGenerator"}, until="0.4"
)
