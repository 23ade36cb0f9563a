"""Writing our generators for other projects: in their layout, or as ONNX."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import torch
from torch import Tensor, nn

from styletryon import ops
from styletryon._arguments import number, whole
from styletryon._files import find_target, write_atomically
from styletryon.errors import ConfigError, DependencyError
from styletryon.interop._layouts import flip_doubling, rosinality_names
from styletryon.models import PoseStyleGAN2, UnconditionalStyleGAN2
from styletryon.pose import NUM_KEYPOINTS, Pose


def export_stylegan2(model: UnconditionalStyleGAN2, path: str | os.PathLike[str]) -> Path:
    """Write a generator in the layout of rosinality/stylegan2-pytorch, which most tools of the field read.

    The file holds "g_ema", the state dict of that project's `Generator`, and "latent_avg", the mean of w, and nothing
    but tensors: `torch.load(path, weights_only=True)` reads it.

    Args:
        model: The generator.
        path: Where the file shall stand, such as "generator.pt".

    Returns:
        The path.

    Raises:
        ConfigError: If that layout cannot hold the generator: a clamp, another upsampling than "fir", or another rate
            of the mapping than 0.01.
        SaveError: If the file cannot be written. What stood there before still stands.
    """
    config = model.config
    if config.clamp or config.upsampling != "fir" or config.mapping_rate != 0.01:
        raise ConfigError(
            "expected clamp 0.0, upsampling 'fir' and mapping_rate 0.01, which rosinality's layout takes for "
            f"granted, got {config.clamp}, {config.upsampling!r} and {config.mapping_rate}; use save_pretrained",
            argument="model",
        )
    own = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
    flip_doubling(own, config)
    names = rosinality_names(config)
    tensors = {theirs: _shaped(theirs, own[ours]) for ours, theirs in names.items()}
    mean = tensors.pop("latent_avg")
    for level in range(len(config.channels) - 1):
        tensors[f"convs.{2 * level}.conv.blur.kernel"] = 4 * ops.setup_filter(config.filter)
        tensors[f"to_rgbs.{level}.upsample.kernel"] = 4 * ops.setup_filter(config.picture_filter)
    return write_atomically(path, lambda file: torch.save({"g_ema": tensors, "latent_avg": mean}, file))


class _Drawing(nn.Module):
    """The forward pass as a function of tensors alone."""

    def __init__(self, model: PoseStyleGAN2, truncation: float) -> None:
        super().__init__()
        self.model, self.truncation = model, truncation

    def forward(self, z: Tensor, keypoints: Tensor) -> tuple[Tensor, Tensor]:
        drawing = self.model(z, Pose(keypoints, self.model.image_size), truncation=self.truncation)
        return drawing.image, drawing.logits


def export_onnx(
    model: PoseStyleGAN2, path: str | os.PathLike[str], *, batch: int = 1, truncation: float = 1.0
) -> Path:
    """Write the forward pass of a generator as an ONNX file, which other runtimes draw with.

    Its inputs are `z` `(batch, z_dim)` and `keypoints` `(batch, 17, 3)` in the pixels of the generator's picture, its
    outputs `image` `(batch, 3, H, W)` in [-1, 1] and `logits` `(batch, K, H, W)`; all are float32. The fixed noise maps
    are in it. Keypoints are not checked. The image encoder and the optimizer of a try-on, which needs gradients, are
    not part of it.

    Args:
        model: The generator.
        path: Where the file shall stand, such as "generator.onnx".
        batch: How many people one run draws.
        truncation: How far from the mean, in [0, 1]: 1 leaves z as it is.

    Returns:
        The path.

    Raises:
        DependencyError: If `onnx` or `onnxscript` is not installed, or torch is older than 2.6.
        ConfigError: If the model is no `PoseStyleGAN2`.
        RangeError: If a number makes no sense.
        SaveError: If the file cannot be written. What stood there before still stands.
    """
    if not isinstance(model, PoseStyleGAN2):
        raise ConfigError(f"expected a PoseStyleGAN2, got {type(model).__name__}", argument="model")
    batch, truncation = whole(batch, "batch", least=1), number(truncation, "truncation", least=0, most=1)
    find_target(path)  # The export takes long.
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise DependencyError("ONNX needs two more packages; pip install 'styletryon[onnx]'") from error
    with torch.inference_mode(False), torch.no_grad():
        drawing = _Drawing(copy.deepcopy(model).to("cpu", torch.float32), truncation).eval()
        z = torch.zeros(batch, model.z_dim, dtype=torch.float32, device="cpu")
        keypoints = torch.zeros(batch, NUM_KEYPOINTS, 3, dtype=torch.float32, device="cpu")
        try:
            program = torch.onnx.export(
                drawing,
                (z, keypoints),
                dynamo=True,
                input_names=["z", "keypoints"],
                output_names=["image", "logits"],
                external_data=False,
                verbose=False,
            )
        except TypeError as error:
            raise DependencyError(f"ONNX needs torch 2.6 or newer, got {torch.__version__}; upgrade it") from error
    if program is None:
        raise DependencyError(f"ONNX needs torch 2.6 or newer, got {torch.__version__}; upgrade it")
    return write_atomically(path, lambda file: program.save(file, external_data=False))


def _shaped(name: str, tensor: Tensor) -> Tensor:
    """Give a tensor the dimensions of 1 that it has there."""
    if name.endswith(".conv.weight"):
        return tensor[None].contiguous()
    if name.endswith(".noise.weight"):
        return tensor.reshape(1)
    if name.startswith("to_rgb") and name.count(".") == name.startswith("to_rgbs") + 1 and name.endswith(".bias"):
        return tensor.reshape(1, 3, 1, 1)
    return tensor.contiguous()
