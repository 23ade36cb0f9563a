"""The losses of the network of the body: of keypoints and of labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from styletryon.labels import NUM_LABELS
from styletryon.training.body.examples import IGNORED, Example


def keypoint_loss(
    logits: Tensor,  # (B, 17, h, w)
    presence: Tensor,  # (B, 17)
    keypoints: Tensor,  # (B, 17, 3)
    size: tuple[int, int],
    *,
    sigma: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Compare heatmaps and presence with the truth.

    Args:
        logits: `(B, 17, h, w)` heatmap logits.
        presence: `(B, 17)` presence logits.
        keypoints: `(B, 17, 3)` x, y in pixels of a picture of `size`, and a score in [0, 1]; 0 where it is not there.
        size: Height and width of that picture.
        sigma: Standard deviation of the target in pixels of the heatmap.

    Returns:
        Cross-entropy to a Gaussian around the truth over the keypoints that are there, less the Gaussian's own
        entropy; and the binary cross-entropy of the presence. Scalars.
    """
    h, w = logits.shape[-2:]
    x = keypoints[..., 0:1] * (w / size[1])
    y = keypoints[..., 1:2] * (h / size[0])
    columns = torch.arange(w, dtype=torch.float32) + 0.5
    rows = torch.arange(h, dtype=torch.float32) + 0.5
    across = torch.softmax(-((columns - x) ** 2) / (2 * sigma**2), -1)  # (B, 17, w)
    down = torch.softmax(-((rows - y) ** 2) / (2 * sigma**2), -1)  # (B, 17, h)
    target = (down[..., :, None] * across[..., None, :]).flatten(2)  # (B, 17, h*w)
    divergence = F.kl_div(logits.flatten(2).log_softmax(-1), target, reduction="none").sum(-1)  # (B, 17)
    # A keypoint that is in the picture but hidden still has a place, known less well.
    there = (keypoints[..., 2] > 0).to(torch.float32) * (0.3 + 0.7 * keypoints[..., 2].clamp(0, 1))
    where = (divergence * there).sum() / there.sum().clamp(min=1.0)
    whether = F.binary_cross_entropy_with_logits(presence, keypoints[..., 2].clamp(0, 1))
    return where, whether


def class_weights(examples: Sequence[Example], *, power: float = 0.4) -> Tensor:
    """Weigh the label classes against each other: rare ones count more, but by far less than they are rare.

    Args:
        examples: Those with labels are counted.
        power: 0 weighs all pixels alike, 1 all classes.

    Returns:
        `(12,)` weights, 1 for a class of the middle frequency among those that occur, between 1/4 and 3.
    """
    counts = np.zeros(256)
    for example in examples:
        if example.labels is not None:
            counts += np.bincount(np.asarray(example.labels).reshape(-1), minlength=256)
    counts = counts[:NUM_LABELS]
    if not counts.any():
        return torch.ones(NUM_LABELS)
    middle = float(np.median(counts[counts > 0]))
    weights = np.where(counts > 0, (middle / np.maximum(counts, 1)) ** power, 1.0)
    return torch.from_numpy(np.clip(weights, 0.25, 3.0).astype(np.float32))


def label_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Compare label logits with the truth.

    Args:
        logits: `(B, 12, h, w)`.
        labels: `(B, h, w)` int64 classes, `IGNORED` where they do not count.
        weights: `(12,)` of the classes, for the first loss.

    Returns:
        The weighted cross-entropy; and the soft Dice loss: 1 less the mean overlap, over the batch and the classes that
        occur in it. Scalars.
    """
    known = labels != IGNORED
    if not bool(known.any()):
        nothing = (logits * 0).sum()
        return nothing, nothing
    cross = F.cross_entropy(logits, labels, weights, ignore_index=IGNORED)
    shares = logits.softmax(1) * known[:, None]
    truth = F.one_hot(torch.where(known, labels, 0), NUM_LABELS).permute(0, 3, 1, 2) * known[:, None]
    both = (shares * truth).sum((0, 2, 3))
    total = shares.sum((0, 2, 3)) + truth.sum((0, 2, 3))
    occurs = truth.sum((0, 2, 3)) > 0
    return cross, 1 - (2 * both / total.clamp(min=1e-6))[occurs].mean()
