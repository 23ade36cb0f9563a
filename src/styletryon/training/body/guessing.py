"""Labels of photographs that nobody labelled: those of a trained network, where it is sure of them.

This is self-training (Lee, *Pseudo-Label*, 2013), with the average over a picture and its mirror image as the teacher.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch.nn import functional as F

from styletryon.labels import Label
from styletryon.pose._photo import cut
from styletryon.pose.network import BodyNetwork
from styletryon.training.body.examples import IGNORED, Example

_VAGUE = 0.2
"""A person's outline counts as known if fewer pixels than this share of its own are in doubt."""


@torch.inference_mode()
def guess_labels(network: BodyNetwork, examples: Sequence[Example], *, least: float = 0.8) -> list[Example]:
    """Label photographs by a trained network.

    Args:
        network: The teacher.
        examples: Photographs whose labels are not known.
        least: Probability in [0, 1] under which a pixel stays `IGNORED`.

    Returns:
        The examples with labels, and with the person's mask where nearly all pixels are sure.
    """
    return [_guess(network, example, least) for example in examples]


def _guess(network: BodyNetwork, example: Example, least: float) -> Example:
    image = example.image
    height, width = network.config.size
    left, top, right, bottom = example.reach()
    step = max((right - left) / width, (bottom - top) / height, image.width / width / 2, image.height / height / 2)
    x, y = (left + right - step * width) / 2, (top + bottom - step * height) / 2
    picture = cut(image, (x, y, x + step * width, y + step * height), (height, width))[None]
    logits = [network(picture)[2].softmax(1), network(picture.flip(-1))[2].softmax(1).flip(-1)]
    shares = (logits[0] + logits[1]) / 2  # (1, 12, H/2, W/2)
    # From the network's frame to the photograph's pixels; beyond the frame the ground goes on.
    rows = ((torch.arange(image.height) + 0.5 - y) / (step * height)) * 2 - 1
    columns = ((torch.arange(image.width) + 0.5 - x) / (step * width)) * 2 - 1
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)[None]
    shares = F.grid_sample(shares, grid, padding_mode="border", align_corners=False)[0]
    sure, classes = (part.numpy() for part in shares.max(0))
    labels = np.where(sure >= least, classes, IGNORED).astype(np.uint8)
    person = 1 - shares[Label.BACKGROUND].numpy()
    mask = None
    if float(((person > 0.2) & (person < 0.8)).mean()) < _VAGUE * float((person > 0.5).mean()):
        mask = Image.fromarray((person * 255).round().astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.7))
    return replace(example, labels=Image.fromarray(labels), mask=mask)
