"""Measures of held-out pictures while a training goes on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from styletryon.generator import GeneratorOutput
from styletryon.training.loading import Dataset, Examples, read

HELD_OUT = 32  # pictures on which a run is validated while it goes on


def held_out_examples(dataset: Dataset, device: torch.device) -> Examples:
    """Return the first pictures of a data set on a device, `HELD_OUT` at most."""
    return read(dataset, np.arange(min(HELD_OUT, len(dataset)))).to(device)


def foreground_psnr(drawing: GeneratorOutput, images: Tensor, labels: Tensor) -> float:
    """Return the mean over pictures of the PSNR in dB where the labels show the person.

    Args:
        drawing: B drawings.
        images: `(B, 3, H, W)` in [-1, 1].
        labels: `(B, H, W)` classes.
    """
    person = (labels != 0)[:, None].float()
    error = ((drawing.image.clamp(-1, 1) - images) / 2).square().mean(dim=1, keepdim=True)
    error = (error * person).sum(dim=(1, 2, 3)) / person.sum(dim=(1, 2, 3)).clamp(min=1)
    return float((-10 * error.clamp(min=1e-8).log10()).mean())


def label_iou(drawn: Tensor, labels: Tensor) -> float:
    """Return the mean intersection over union of the classes that occur in `labels`.

    Args:
        drawn: `(B, H, W)` classes.
        labels: `(B, H, W)` classes.
    """
    overlaps = [
        ((drawn == label) & (labels == label)).sum() / ((drawn == label) | (labels == label)).sum()
        for label in torch.unique(labels)
    ]
    return float(torch.stack(overlaps).mean())
