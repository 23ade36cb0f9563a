"""Other projects' generators: read, drawn with and tried on by ours, and written in their layout."""

from __future__ import annotations

from styletryon.interop.exporting import export_stylegan2
from styletryon.interop.hub import fetch_model
from styletryon.interop.loading import load_stylegan2
from styletryon.interop.parsed import ParsedDrawer

__all__ = ["ParsedDrawer", "export_stylegan2", "fetch_model", "load_stylegan2"]
