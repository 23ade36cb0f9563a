"""Training data: labelled photographs in a folder or a zip, and how they are prepared."""

from __future__ import annotations

from styletryon.data.folder import Batch, FolderDataset, Item, batch_indices, endless_batches
from styletryon.data.joined import JoinedDataset
from styletryon.data.preparation import Outcome, Preparation, prepare

__all__ = [
    "Batch",
    "FolderDataset",
    "Item",
    "JoinedDataset",
    "Outcome",
    "Preparation",
    "batch_indices",
    "endless_batches",
    "prepare",
]
