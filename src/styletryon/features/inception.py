"""The features of Inception v3 (Szegedy et al., 2016) through torchvision."""

from __future__ import annotations

import os
from pathlib import Path
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from styletryon._weights import read_state, unfilled
from styletryon.errors import WeightsUnavailableError
from styletryon.features._weights import find_cached, load_state

_LAYERS = (
    "Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "maxpool2",
    "Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e", "Mixed_7a",
    "Mixed_7b", "Mixed_7c",
)  # fmt: skip


@final
class InceptionV3Features(nn.Module):
    """The last maps of Inception v3: frozen, in evaluation mode, on the device of the picture. Downloads nothing.

    Averaged over the picture they are the 2048 numbers in which sets of pictures are usually compared. The weights are
    those of torchvision, which are not the ones that published Frechet distances were computed with.

    Args:
        weights: "cached" for what torchvision once downloaded to torch's cache, the path of a state dict of
            torchvision's `inception_v3` (`.pth` or `.safetensors`), or None for fixed random weights (for tests: they
            see little).

    Raises:
        WeightsUnavailableError: If torch's cache does not hold the weights, or torchvision is missing.
        CheckpointNotFoundError: If the path leads to no file.
        CheckpointError: If the file is no state dict of Inception v3, or is damaged.
    """

    deep = True
    size = (299, 299)

    def __init__(self, weights: str | os.PathLike[str] | None = "cached") -> None:
        super().__init__()
        self.network = _build()
        if weights is None:
            _fill(self.network)
        else:
            path = find_cached(_url()) if weights == "cached" else Path(weights)
            load_state(self.network, read_state(path, "'cached', None"), "inception_v3")
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> InceptionV3Features:
        """Stay in evaluation mode, whatever a parent module does."""
        del mode
        return super().train(False)

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """Map `images` `(B, 3, H, W)` in [-1, 1], brought to 299x299 if they are not, to `(B, 2048, 8, 8)` float32."""
        x = images.float()
        if x.device != next(self.network.parameters()).device:
            self.to(x.device)
        if x.shape[2:] != self.size:
            x = functional.interpolate(x, self.size, mode="bilinear", align_corners=False, antialias=True)
        maps: Tensor = self.network(x)
        return (maps,)


def _build() -> nn.Sequential:
    """Make the layers up to the last pooling with no values yet; the global random state stays as it is."""
    try:
        from torchvision.models import inception_v3
    except ImportError as error:
        raise WeightsUnavailableError(
            "torchvision is missing; pip install torchvision", argument="InceptionV3Features"
        ) from error
    with unfilled(), torch.device("meta"):
        whole = inception_v3(weights=None, init_weights=False, aux_logits=False, transform_input=False)
    layers = nn.Sequential()
    for name in _LAYERS:
        layers.add_module(name, getattr(whole, name))
    with torch.inference_mode(False):
        return layers.to_empty(device="cpu")


def _fill(network: nn.Module) -> None:
    rng = torch.Generator().manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", generator=rng)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()


def _url() -> str:
    from torchvision.models import Inception_V3_Weights

    return str(Inception_V3_Weights.IMAGENET1K_V1.url)
