"""The features of VGG-16 (Simonyan and Zisserman, 2015) through torchvision."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from styletryon._weights import read_state, unfilled
from styletryon.errors import WeightsUnavailableError
from styletryon.features._networks import bounded, chosen_layers
from styletryon.features._weights import load_state

_BLOCKS = (2, 2, 3, 3, 3)
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)


def _layer_index() -> dict[str, int]:
    """Name -> position among torchvision's `features`: each block is (convolution, relu) times n, then a pooling."""
    index, names = 0, {}
    for block, count in enumerate(_BLOCKS, start=1):
        for layer in range(1, count + 1):
            names[f"relu{block}_{layer}"] = index + 1
            index += 2
        index += 1
    return names


_LAYERS = _layer_index()


@final
class VGG16Features(nn.Module):
    """Activations of VGG-16 for pictures in [-1, 1]: frozen, in evaluation mode, on the device of the picture.

    Pictures larger than 256 pixels are shrunk to that by area before they enter.

    Args:
        layers: Which activations, in the order of the network.
        weights: "imagenet" (torchvision's, downloaded once), the path of a state dict of torchvision's VGG-16
            (`.pth` or `.safetensors`), or None for fixed random weights (for tests: they see little).
        largest: The larger side, in pixels, above which pictures are shrunk.

    Raises:
        ConfigError: If a layer is unknown.
        WeightsUnavailableError: If the weights cannot be downloaded or torchvision is missing.
        CheckpointNotFoundError: If the path leads to no file.
        CheckpointError: If the file is no state dict of VGG-16.
    """

    deep = True
    capturable = True

    def __init__(
        self,
        layers: Sequence[str] = ("relu1_2", "relu2_2", "relu3_3", "relu4_3"),
        weights: str | os.PathLike[str] | None = "imagenet",
        *,
        largest: int = 256,
    ) -> None:
        super().__init__()
        self.layers = chosen_layers(layers, _LAYERS)
        self.largest = largest
        self._taps = frozenset(_LAYERS[layer] for layer in self.layers)
        self.network = _build(_LAYERS[self.layers[-1]] + 1)
        _fill(self.network, weights)
        with unfilled():
            self.register_buffer("_mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
            self.register_buffer("_deviation", torch.tensor(_DEVIATION).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> VGG16Features:
        """Stay in evaluation mode, whatever a parent module does."""
        del mode
        return super().train(False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map `images` `(B, 3, H, W)` in [-1, 1] to one `(B, C, h, w)` float32 per layer."""
        mean, deviation = self.get_buffer("_mean"), self.get_buffer("_deviation")
        if mean.device != images.device:
            mean, deviation = self.to(images.device).get_buffer("_mean"), self.get_buffer("_deviation")
        x = ((bounded(images, self.largest) + 1) / 2 - mean) / deviation
        features = []
        for index, layer in enumerate(self.network):
            x = layer(x)
            if index in self._taps:
                features.append(x)
        return tuple(features)

    def extra_repr(self) -> str:
        """Name the layers."""
        return f"layers={self.layers}, largest={self.largest}"


def _build(depth: int) -> nn.Sequential:
    """Make the first layers of torchvision's VGG-16 with no values yet; the global random state stays as it is."""
    try:
        from torchvision.models import vgg16
    except ImportError as error:
        raise WeightsUnavailableError(
            "torchvision is missing; pip install torchvision", argument="VGG16Features"
        ) from error
    with unfilled(), torch.device("meta"):
        layers = vgg16(weights=None, init_weights=False).features[:depth]
    network = nn.Sequential(*(nn.ReLU() if isinstance(layer, nn.ReLU) else layer for layer in layers))
    with torch.inference_mode(False):
        return network.to_empty(device="cpu")


def _fill(network: nn.Sequential, weights: str | os.PathLike[str] | None) -> None:
    if weights is None:
        rng = torch.Generator().manual_seed(0)
        for layer in network:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu", generator=rng)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        return
    state = _download() if weights == "imagenet" else read_state(Path(weights), "'imagenet', None")
    load_state(network, {key.removeprefix("features."): value for key, value in state.items()}, "vgg16")


def _download() -> Mapping[str, Any]:
    from torchvision.models import VGG16_Weights

    chosen = VGG16_Weights.IMAGENET1K_V1
    try:
        state: Mapping[str, Any] = chosen.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise WeightsUnavailableError(
            f"'imagenet' could not be downloaded ({error}); fetch {chosen.url} by other means and pass "
            "weights=PATH, or use PixelFeatures, which needs none",
            argument="weights",
        ) from error
    return state
