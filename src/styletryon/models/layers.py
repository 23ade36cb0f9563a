"""The layers that all networks share: equalised learning rates, and modulated convolutions with their styles."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from styletryon import ops
from styletryon._graphs import is_traced
from styletryon.ops._cpu import Filters
from styletryon.ops._layer import equal_conv, styled_layer


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
        bias = None if self.bias is None else self.bias * self.rate if self.rate != 1.0 else self.bias
        # The learning rate's factor goes on the input, which is smaller than the weight. On a CPU a cast of the
        # weight costs more than half precision saves with the few rows there are.
        with torch.autocast("cpu", enabled=torch.is_autocast_enabled("cpu") and x.device.type != "cpu"):
            x = F.linear(x.to(self.weight.dtype) * self.gain, self.weight, bias)
        return x if self.activation == "linear" else F.leaky_relu(x, 0.2) * math.sqrt(2)

    def extra_repr(self) -> str:
        """Describe the layer."""
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}, activation={self.activation!r}"


def _filters(out_channels: int, in_channels: int, size: int) -> Tensor:
    """Draw filters from a standard normal; they lie in channels-last memory, as feature maps do."""
    return nn.init.normal_(torch.empty(out_channels, in_channels, size, size)).to(memory_format=torch.channels_last)


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
        self.weight = nn.Parameter(_filters(out_channels, in_channels, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.gain = 1.0 / math.sqrt(in_channels * kernel_size**2)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, in_channels, H, W)` to `(B, out_channels, H, W)`."""
        return equal_conv(x, self.weight, self.bias, self.gain, self.activation)

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
        taps: Of the low-pass filter behind the doubling.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        up: int = 1,
        demodulate: bool = True,
        taps: Sequence[float] = (1, 3, 3, 1),
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(_filters(out_channels, in_channels, kernel_size))
        self.gain = 1.0 / math.sqrt(in_channels * kernel_size**2)
        self.up = up
        self.demodulate = demodulate
        self.register_buffer("filter", ops.setup_filter(taps), persistent=False)
        self.filter: Tensor
        self._kept: tuple[Tensor, int, int, Filters] | None = None

    def forward(
        self,
        x: Tensor,
        style: Tensor,
        *,
        bias: Tensor | None = None,
        noise: Tensor | None = None,
        residual: Tensor | None = None,
        activation: str = "linear",
        gain: float = 1.0,
    ) -> Tensor:
        """Map `(B, in_channels, H, W)` and styles `(B, in_channels)` to `(B, out_channels, H * up, W * up)`.

        Args:
            x: The layer's input.
            style: One factor per image and input channel.
            bias: Added behind the convolution, `(out_channels,)`.
            noise: Added behind the convolution, `(B or 1, 1, H * up, W * up)`.
            residual: Added behind the gain, in front of the activation.
            activation: "linear" or "lrelu".
            gain: Factor on the convolution, noise and bias.
        """
        return styled_layer(
            x,
            self.weight,
            # The equalised learning rate scales the style, which is small, instead of the weight.
            style * self.gain,
            bias=bias,
            noise=noise,
            residual=residual,
            up=self.up,
            filter=self.filter if self.up == 2 else None,
            demodulate=self.demodulate,
            activation=activation,
            gain=gain,
            prepared=self._prepared(),
        )

    def _prepared(self) -> Filters | None:
        """Return what was derived from a frozen weight, as long as that is what it was."""
        weight = self.weight
        if is_traced() or weight.device.type != "cpu":
            return None
        if weight.requires_grad or weight.is_inference():
            return None
        kept = self._kept
        if kept is None or kept[0] is not weight or kept[1:3] != (weight._version, weight.data_ptr()):
            kept = self._kept = weight, weight._version, weight.data_ptr(), Filters(weight, self.up)
        return kept[3]

    def __getstate__(self) -> dict[str, Any]:
        """Leave what can be derived again out of copies."""
        return {**self.__dict__, "_kept": None}

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> StyledConv:
        self._kept = None  # the weight goes elsewhere
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def pointwise_filters(self, style: Tensor) -> Tensor:
        """Return what a layer of one pixel multiplies with, `(B, out_channels, in_channels)`, for styles."""
        return self.weight[:, :, 0, 0] * (style * self.gain)[:, None, :]

    def extra_repr(self) -> str:
        """Describe the layer."""
        out_channels, in_channels, size, _ = self.weight.shape
        return f"{in_channels}, {out_channels}, kernel_size={size}, up={self.up}, demodulate={self.demodulate}"
