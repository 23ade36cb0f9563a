"""Which features should the try-on compare pictures in?

    python -m tests.benchmarks.features [--pairs 32] [--vgg FILE]

Runs the benchmark's pairs with the losses in pixels, in the trunk of the network of the body, in the trunk of the image
encoder and, where FILE has its weights, in VGG-16; prints a table. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from torch.nn import functional as F

from styletryon import load_model, losses
from styletryon.errors import ConfigError
from styletryon.features import FeatureNetwork, PixelFeatures, VGG16Features
from styletryon.metrics import evaluate
from styletryon.models import ImageEncoder
from styletryon.pose import BodyEstimator

MEASURES = ("fg_psnr", "fg_ssim", "garment_psnr", "garment_iou", "identity_psnr", "uncovered_psnr", "texture_drawn")


class BodyTrunk:
    """The trunk of the network of the body, which was trained on rendered figures and photographs."""

    deep = True

    def __init__(self) -> None:
        self._network = BodyEstimator.from_pretrained().network

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        return self._network.features(images)[:3]


class EncoderTrunk:
    """The trunk of the image encoder."""

    deep = True

    def __init__(self, encoder: ImageEncoder | None) -> None:
        if encoder is None:
            raise ConfigError("the generator has no encoder")
        self._encoder = encoder

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        x = self._encoder.entry(images)
        features = [x]
        for block in list(self._encoder.blocks)[:3]:
            x = block(F.avg_pool2d(x, 2))
            features.append(x)
        return tuple(features)


class Joined:
    """Pixels and a deep network side by side; the deep features are made comparable by a common scale."""

    def __init__(self, network: FeatureNetwork, weight: float) -> None:
        self._pixels, self._network, self._weight = PixelFeatures(), network, weight

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        deep = [
            feature * feature.square().mean(dim=1, keepdim=True).add(1e-6).rsqrt() for feature in self._network(images)
        ]
        return (*self._pixels(images), *(self._weight / math.sqrt(len(deep)) * feature for feature in deep))


def vgg_row(weights: Path | None) -> dict[str, FeatureNetwork]:
    """The row of VGG-16, or a sentence in its place."""
    if weights is None:
        print("VGG-16 is left out: pass its weights, a state dict of torchvision's vgg16, as --vgg FILE")
        return {}
    return {"VGG-16": VGG16Features(weights=weights)}


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--model", default="default")
    parser.add_argument("--vgg", type=Path, metavar="FILE", help="a state dict of torchvision's vgg16")
    arguments = parser.parse_args(argv)
    model = load_model(arguments.model)
    networks: dict[str, FeatureNetwork] = {
        "pixels": PixelFeatures(),
        "pixels + body trunk": Joined(BodyTrunk(), 0.1),
        "pixels + encoder trunk": Joined(EncoderTrunk(model.encoder), 0.1),
        "encoder trunk": EncoderTrunk(model.encoder),
        **vgg_row(arguments.vgg),
    }
    print(f"{'features':24s}" + "".join(f"{name:>16s}" for name in (*MEASURES, "seconds")))
    for name, network in networks.items():
        report = evaluate(
            model, pairs=arguments.pairs, seed=arguments.seed, methods=("ours",), losses=losses.defaults(network)
        )
        values = [report["ours"][measure].mean for measure in (*MEASURES, "seconds")]
        print(f"{name:24s}" + "".join(f"{value:16.3f}" for value in values), flush=True)


if __name__ == "__main__":
    main()
