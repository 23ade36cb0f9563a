"""Starting from the weights of a trained generator instead of random ones (transfer learning)."""

from __future__ import annotations

import logging
import os
import re

import torch
from torch import Tensor

from styletryon.errors import ConfigError
from styletryon.models import PoseStyleGAN2
from styletryon.models.config import level_sizes

_LOGGER = logging.getLogger(__name__)


def transfer_weights(generator: PoseStyleGAN2, source: str | os.PathLike[str] | PoseStyleGAN2) -> list[str]:
    """Give a generator, and its encoder, the weights of another wherever names and shapes fit.

    Layers are matched by what they do, not by their number: an affine layer by the styled layer it serves, a block of
    the encoder by the height of its output, and learnt channel masks by their styled layers. So a generator of larger
    pictures starts from one of smaller pictures, and its new levels alone start at random, their heads at zero: the
    first drawings are those of the smaller generator, doubled.

    Args:
        generator: What is about to be trained; changed in place.
        source: A folder of `PoseStyleGAN2.save_pretrained`, the name of bundled weights, or the other generator.

    Returns:
        Names of the tensors that were left as they are, none if everything fits; they are logged as well.

    Raises:
        ConfigError: If no convolution of the synthesis network fits.
        CheckpointError: If the source cannot be loaded.
    """
    name = "the given generator" if isinstance(source, PoseStyleGAN2) else repr(os.fspath(source))
    trained = source if isinstance(source, PoseStyleGAN2) else PoseStyleGAN2.from_pretrained(source)
    own, other = _by_meaning(generator), _by_meaning(trained)
    fitting = [key for key, (_, tensor) in own.items() if key in other and other[key][1].shape == tensor.shape]
    # Biases, heads and strengths of noise fit almost anything; what draws are the convolutions.
    if not any(key.endswith("conv.weight") for key in fitting):
        raise ConfigError(
            f"expected weights that fit the settings of this run, got {name}, none of whose convolutions does: "
            f"its numbers are {trained.config} and {None if trained.encoder is None else trained.encoder.config}; "
            "choose settings with these widths, or start at random",
            argument="start",
        )
    for key in fitting:
        own[key][1].copy_(other[key][1])
    for level in range(len(trained.synthesis.sizes), len(generator.synthesis.sizes)):
        for head in ("to_rgb", "to_seg"):
            own[f"synthesis.blocks.{level}.{head}.weight"][1].zero_()
    left = [full for key, (full, _) in own.items() if key not in set(fitting)]
    total = sum(tensor.numel() for _, tensor in own.values())
    taken = sum(own[key][1].numel() for key in fitting)
    _LOGGER.info("start: %.1f %% of the weights come from %s", 100 * taken / total, name)
    if left:
        _LOGGER.warning("start: %d of %d tensors have no match in %s and start at random: %s",
                        len(left), len(own), name, ", ".join(left))  # fmt: skip
    return left


def _by_meaning(generator: PoseStyleGAN2) -> dict[str, tuple[str, Tensor]]:
    """Return what each tensor is for -> its name and the tensor."""
    heights = [] if generator.encoder is None else [
        size[0] for size in reversed(level_sizes(generator.encoder.config.image_size))
    ]  # fmt: skip

    def meaning(name: str) -> str:
        name = re.sub(r"^affines\.(\d+)", lambda found: f"affines[{generator.style_names[int(found[1])]}]", name)
        return re.sub(r"^encoder\.blocks\.(\d+)", lambda found: f"encoder[{heights[int(found[1]) + 1]}]", name)

    found = {meaning(name): (name, tensor) for name, tensor in generator.state_dict().items()}
    if "share_logits" in found:  # one column for each channel of each styled layer
        name, shares = found.pop("share_logits")
        columns = torch.split(shares, list(generator.style_channels), dim=1)
        for layer, own in zip(generator.style_names, columns, strict=True):
            found[f"{name}[{layer}]"] = (f"{name} of {layer}", own)
    return found
