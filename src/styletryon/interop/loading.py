"""Reading other projects' generators."""

from __future__ import annotations

import os

from styletryon.interop import _layouts
from styletryon.interop._checkpoints import open_checkpoint
from styletryon.models import UnconditionalStyleGAN2


def load_stylegan2(path: str | os.PathLike[str]) -> UnconditionalStyleGAN2:
    """Read another project's StyleGAN2 as ours, without running anything that its file holds or names.

    What is read: NVIDIA's pickles of `stylegan2-ada-pytorch`, rosinality's and lucidrains' `stylegan2-pytorch`, and
    StyleGAN-Human's files in NVIDIA's and in rosinality's layout. The moving average of the weights is taken where
    there is one. The drawing is the other project's own: the same z, w, noise maps and weights give the same picture,
    nominally in [-1, 1].

    A checkpoint is a pickle, which is a program. Here it is interpreted as data: tensors, arrays and plain containers
    are rebuilt, the source text in NVIDIA's files stays text, and every other name is refused. Tensors other than the
    generator's are never read.

    Args:
        path: The file, such as "stylegan_human_v2_512.pkl" or "550000.pt".

    Returns:
        The generator on the CPU, ready to draw (`eval`, no gradients to the weights).

    Raises:
        CheckpointNotFoundError: If there is no such file.
        CheckpointError: If the file asks for anything but data (the message names it), is damaged, or holds no
            generator that our layers can draw.
    """
    with open_checkpoint(path) as value:
        return _layouts.build(_layouts.find(value))
