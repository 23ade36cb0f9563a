"""Training data: labelled photographs in a folder or a zip."""

from __future__ import annotations

from styletryon.data.folder import Batch, FolderDataset, Item, batch_indices, endless_batches

__all__ = ["Batch", "FolderDataset", "Item", "batch_indices", "endless_batches"]
