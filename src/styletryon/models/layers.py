"""The layers that all networks share: equalised learning rates, and modulated convolutions with their styles."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from styletryon import ops


class EqualLinear(nn.Module):
    """A fully connected layer with an equalised learning rate (Karras et al. 2018, arXiv 1710.10196).

    Args:
        in_features: Width of the input.
        out_features: Width of the output.
        bias: The bias at the start; None for no bias.
        activation: "linear" or "lrelu".
        rate: Factor on the learning rate of the layer.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: float | None = 0.0,
        activation: str = "linear",
        rate: float = 1.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = None if bias is None else nn.Parameter(torch.full((out_features,), bias / rate))
        self.gain = rate / math.sqrt(in_features)
        self.rate = rate
        self.activation = activation
        nn.init.normal_(self.weight, std=1.0 / rate)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(..., in_features)` to `(..., out_features)`."""
        x = F.linear(x, self.weight * self.gain)
        bias = None if self.bias is None else self.bias * self.rate
        if self.activation == "linear":
            return x if bias is None else x + bias.to(x.dtype)
        if bias is not None:
            x = x + bias.to(x.dtype)
        return F.leaky_relu(x, 0.2) * math.sqrt(2)

    def extra_repr(self) -> str:
        """Describe the layer."""
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}, activation={self.activation!r}"


class EqualConv2d(nn.Module):
    """A convolution with an equalised learning rate, the same size out, followed by bias and activation.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Odd.
        activation: "linear" or "lrelu".
        bias: Whether there is one.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        activation: str = "lrelu",
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.gain = 1.0 / math.sqrt(in_channels * kernel_size**2)
        self.activation = activation
        nn.init.normal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, in_channels, H, W)` to `(B, out_channels, H, W)`."""
        weight = (self.weight * self.gain).to(memory_format=torch.channels_last)
        x = F.conv2d(x, weight, padding=self.weight.shape[-1] // 2)
        return ops.bias_act(x, self.bias, activation=self.activation)

    def extra_repr(self) -> str:
        """Describe the layer."""
        out_channels, in_channels, size, _ = self.weight.shape
        return f"{in_channels}, {out_channels}, kernel_size={size}, activation={self.activation!r}"


class StyledConv(nn.Module):
    """A modulated convolution: one styled layer (Karras et al. 2020, arXiv 1912.04958).

    The style that scales the input channels is given to `forward`: the affine layers that make styles from w belong to
    the generator, because the try-on interpolates what they put out.

    Args:
        in_channels: Channels of the input, C_l: the width of the style.
        out_channels: Channels of the output.
        kernel_size: Odd.
        up: 1, or 2 to double the size.
        demodulate: Whether the output channels are brought back to unit variance.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        up: int = 1,
        demodulate: bool = True,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        self.gain = 1.0 / math.sqrt(in_channels * kernel_size**2)
        self.up = up
        self.demodulate = demodulate
        self.register_buffer("filter", ops.setup_filter([1, 3, 3, 1]), persistent=False)
        self.filter: Tensor
        nn.init.normal_(self.weight)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Map `(B, in_channels, H, W)` and styles `(B, in_channels)` to `(B, out_channels, H * up, W * up)`."""
        weight = self.weight * self.gain
        fir = self.filter if self.up == 2 else None
        return ops.modulated_conv2d(x, weight, style, up=self.up, filter=fir, demodulate=self.demodulate)

    def extra_repr(self) -> str:
        """Describe the layer."""
        out_channels, in_channels, size, _ = self.weight.shape
        return f"{in_channels}, {out_channels}, kernel_size={size}, up={self.up}, demodulate={self.demodulate}"
