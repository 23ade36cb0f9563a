"""The three operations under a style-based generator, differentiable to any order, on every device.

`bias_act` ends a layer, `upfirdn2d` resamples, `modulated_conv2d` convolves with filters scaled by a style. They are
those of StyleGAN2 (Karras et al. 2020, arXiv:1912.04958), written here from its formulas. `use_backend` chooses how
they are computed and `backend_status` says how, and why.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from styletryon.errors import ConfigError, RangeError, ShapeError
from styletryon.ops._arguments import (
    Activation,
    LayerInputs,
    LayerSettings,
    Resampling,
    check_factor,
    check_filter,
    check_float,
    check_gain,
    check_images,
    check_same_device,
    describe,
    parse_padding,
)
from styletryon.ops._dispatch import (
    Backend,
    BackendStatus,
    FusedOpsWarning,
    backend_status,
    choose,
    use_backend,
    warm_up,
)

__all__ = [
    "Backend",
    "BackendStatus",
    "FusedOpsWarning",
    "backend_status",
    "bias_act",
    "downsample2d",
    "modulated_conv2d",
    "setup_filter",
    "upfirdn2d",
    "upsample2d",
    "use_backend",
    "warm_up",
]

_DEFAULT_GAINS = {
    "linear": 1.0,
    "lrelu": math.sqrt(2),
    "relu": math.sqrt(2),
    "sigmoid": 1.0,
    "softplus": 1.0,
    "swish": math.sqrt(2),
    "tanh": 1.0,
}


def bias_act(
    x: Tensor,
    bias: Tensor | None = None,
    *,
    noise: Tensor | None = None,
    activation: str = "lrelu",
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:
    """Adds noise and bias, applies an activation, scales and clamps: ``clamp(gain * act(x + noise + bias))``.

    Differentiable to any order with respect to `x`, `bias` and `noise`. From StyleGAN2 (Karras et al. 2020,
    arXiv:1912.04958).

    Args:
        x: Features `(B, C, ...)`, any floating point dtype, contiguous or channels-last; `B` may be 0.
        bias: One number per channel, `(C,)`, cast to the dtype of `x`.
        noise: Anything that broadcasts to the shape of `x`, such as `(B, 1, H, W)` or `(1, 1, H, W)`; cast to the
            dtype of `x`.
        activation: ``"linear"``, ``"lrelu"`` (slope 0.2), ``"relu"``, ``"sigmoid"``, ``"softplus"``, ``"swish"`` or
            ``"tanh"``.
        gain: Factor on the activation. None takes that of the activation, which keeps the variance: sqrt(2) for
            lrelu, relu and swish, 1 for the others.
        clamp: Limits the result to `[-clamp, clamp]`; None does not.

    Returns:
        A tensor of the shape and dtype of `x`.

    Raises:
        ShapeError: `x`, `bias` or `noise` is no floating point tensor or does not fit.
        ConfigError: the activation is unknown, or the tensors live on several devices.
        RangeError: `gain` is not finite, or `clamp` is not a finite number >= 0.
        BackendUnavailableError: the fused path was asked for and cannot run.

    Example:
        >>> import torch
        >>> bias_act(torch.tensor([[-1.0, 1.0]]), torch.tensor([0.0, 1.0]), gain=1.0)
        tensor([[-0.2000,  2.0000]])
    """
    check_float("x", x)
    if x.ndim < 2:
        raise ShapeError(
            f"expected features of shape (B, C, ...), got {describe(x)}; add the batch with x[None]", argument="x"
        )
    if bias is not None:
        check_float("bias", bias)
        check_same_device("bias", bias, "x", x)
        if bias.shape != x.shape[1:2]:
            raise ShapeError(
                f"expected one number per channel of x, shape ({x.shape[1]},), got {describe(bias)}; "
                "pass one number per channel as a 1-D tensor",
                argument="bias",
            )
    if noise is not None:
        check_float("noise", noise)
        check_same_device("noise", noise, "x", x)
        if noise.ndim > x.ndim or any(
            n not in (1, m) for n, m in zip(reversed(noise.shape), reversed(x.shape), strict=False)
        ):
            raise ShapeError(
                f"expected a shape that broadcasts to that of x, {tuple(x.shape)}, got {describe(noise)}; "
                "noise of one image size fits only features of that size",
                argument="noise",
            )
    if activation not in _DEFAULT_GAINS:
        raise ConfigError(
            f"expected one of {', '.join(map(repr, _DEFAULT_GAINS))}, got {activation!r}; "
            "use 'linear' and apply another function to the result",
            argument="activation",
        )
    if gain is None:
        gain = _DEFAULT_GAINS[activation]
    check_gain("gain", gain)
    if clamp is not None:
        check_gain("clamp", clamp)
        if clamp < 0:
            raise RangeError(
                f"expected a number >= 0, got {clamp}; pass None to leave the result unlimited", argument="clamp"
            )
    return choose(x).bias_act(x, bias, noise, Activation(activation, float(gain), clamp))


def upfirdn2d(
    x: Tensor,
    filter: Tensor,
    *,
    up: int = 1,
    down: int = 1,
    padding: int | Sequence[int] = 0,
    flip_filter: bool = False,
    gain: float = 1.0,
) -> Tensor:
    """Upsamples by zero insertion, pads, applies a FIR filter and keeps every `down`-th pixel, channel by channel.

    Every pixel is followed by `up - 1` zeros in each direction; the zeros after the last row and column count. The
    result has `(H * up + top + bottom - kh) // down + 1` rows, and columns alike. Differentiable to any order with
    respect to `x`; the gradient is another `upfirdn2d`. From StyleGAN2 (Karras et al. 2020, arXiv:1912.04958).

    Args:
        x: Feature maps `(B, C, H, W)`, any floating point dtype, contiguous or channels-last; `B` may be 0.
        filter: The taps, `(kh, kw)`, or `(n,)` for the product of that filter with itself; constant, cast to the
            dtype of `x`.
        up: How many times the size grows before the filter.
        down: How many times the size shrinks after the filter.
        padding: Zeros around the upsampled image, one number or `(left, right, top, bottom)`; negative crops.
        flip_filter: False convolves (the filter is turned around, as in `scipy.signal.convolve2d`); True correlates.
        gain: Factor on the result; `up**2` keeps the brightness of an upsampled image.

    Returns:
        A tensor `(B, C, H', W')` of the dtype of `x`, under autocast too.

    Raises:
        ShapeError: `x`, `filter` or `padding` has the wrong shape, or nothing would be left of the image.
        RangeError: `up` or `down` is not a whole number >= 1, or `gain` is not finite.
        ConfigError: the filter requires a gradient or lives on another device.
        BackendUnavailableError: the fused path was asked for and cannot run.

    Example:
        >>> import torch
        >>> upfirdn2d(torch.ones(1, 1, 2, 2), setup_filter([1, 1]), up=2, padding=(1, 0, 1, 0), gain=4.0)[0, 0]
        tensor([[1., 1., 1., 1.],
                [1., 1., 1., 1.],
                [1., 1., 1., 1.],
                [1., 1., 1., 1.]])
    """
    check_images("x", x)
    taps = check_filter(filter, x, "x")
    check_factor("up", up)
    check_factor("down", down)
    check_gain("gain", gain)
    sides = parse_padding(padding)
    rows = x.shape[2] * up + sides.top + sides.bottom
    columns = x.shape[3] * up + sides.left + sides.right
    if rows < taps.shape[0] or columns < taps.shape[1]:
        raise ShapeError(
            f"expected the padded image to cover the filter, {taps.shape[0]} x {taps.shape[1]}, got "
            f"{rows} x {columns} (rows x columns); pad more or take a shorter filter",
            argument="padding",
        )
    return choose(x).upfirdn2d(x, Resampling(taps, sides, up, down, flip_filter, float(gain)))


def upsample2d(x: Tensor, filter: Tensor) -> Tensor:
    """Doubles the height and the width of feature maps exactly, and keeps their brightness.

    Differentiable to any order with respect to `x`. From StyleGAN2 (Karras et al. 2020, arXiv:1912.04958).

    Args:
        x: Feature maps `(B, C, H, W)`, any floating point dtype.
        filter: The low-pass filter, from `setup_filter`; an even number of taps keeps the image centred.

    Returns:
        A tensor `(B, C, 2 * H, 2 * W)` of the dtype of `x`.

    Raises:
        ShapeError: `x` or `filter` has the wrong shape.
        ConfigError: the filter requires a gradient or lives on another device.
        BackendUnavailableError: the fused path was asked for and cannot run.
    """
    check_images("x", x)
    kh, kw = check_filter(filter, x, "x").shape
    return upfirdn2d(x, filter, up=2, padding=((kw + 1) // 2, kw // 2 - 1, (kh + 1) // 2, kh // 2 - 1), gain=4.0)


def downsample2d(x: Tensor, filter: Tensor) -> Tensor:
    """Halves the height and the width of feature maps exactly, and keeps their brightness.

    Differentiable to any order with respect to `x`. From StyleGAN2 (Karras et al. 2020, arXiv:1912.04958).

    Args:
        x: Feature maps `(B, C, H, W)`, `H` and `W` even, any floating point dtype.
        filter: The low-pass filter, from `setup_filter`; an even number of taps keeps the image centred.

    Returns:
        A tensor `(B, C, H / 2, W / 2)` of the dtype of `x`.

    Raises:
        ShapeError: `x` or `filter` has the wrong shape, or `x` an odd height or width.
        ConfigError: the filter requires a gradient or lives on another device.
        BackendUnavailableError: the fused path was asked for and cannot run.
    """
    check_images("x", x)
    if x.shape[2] % 2 or x.shape[3] % 2:
        raise ShapeError(
            f"expected an even height and width, got {describe(x)}; pad or crop by one pixel, or use upfirdn2d",
            argument="x",
        )
    kh, kw = check_filter(filter, x, "x").shape
    return upfirdn2d(x, filter, down=2, padding=((kw - 1) // 2, kw // 2 - 1, (kh - 1) // 2, kh // 2 - 1))


def modulated_conv2d(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    *,
    up: int = 1,
    filter: Tensor | None = None,
    demodulate: bool = True,
) -> Tensor:
    """Convolves each image with its own filters: the input channels scaled by its style, then brought to unit length.

    The filter from input channel i to output channel o of image b is ``w[o, i] * s[b, i] * d[b, o]``, where
    ``d[b, o] = (sum over i and the kernel of (w[o, i] * s[b, i])**2 + 1e-8)**-0.5``, or 1 without demodulation. It is
    correlated with the image (as `torch.nn.functional.conv2d` does), zeros outside. With ``up=2``, zero insertion
    comes first, then `filter` (turned around, times 4), then the correlation; the image between the last two is
    unbounded, so nothing is cut off before the end, where pixel (2y, 2x) of the result lies as in
    ``upsample2d(x, filter)``. In the interior the result is the same-padded correlation of that.

    Differentiable to any order with respect to `x`, `weight` and `styles`. From StyleGAN2 (Karras et al. 2020,
    arXiv:1912.04958).

    Args:
        x: Feature maps `(B, Cin, H, W)`, any floating point dtype, contiguous or channels-last; `B` may be 0.
        weight: Filters `(Cout, Cin, k, k)`, `k` odd.
        styles: One factor per image and input channel, `(B, Cin)`.
        up: 1 keeps the size, 2 doubles it.
        filter: The low-pass filter for ``up=2``, from `setup_filter`; not used with ``up=1``.
        demodulate: False leaves the scaled filters as they are, as for a layer that ends in colours.

    Returns:
        A tensor `(B, Cout, H * up, W * up)` of the dtype of `x`, or of autocast where that is on. `weight` and
        `styles` are cast to it; the unit length is computed in float32 at least.

    Raises:
        ShapeError: `x`, `weight`, `styles` or `filter` has the wrong shape.
        ConfigError: `up` is neither 1 nor 2, `filter` is missing or requires a gradient, or the tensors live on
            several devices.
        BackendUnavailableError: the fused path was asked for and cannot run.

    Example:
        >>> import torch
        >>> x, weight, styles = torch.ones(1, 4, 3, 2), torch.ones(8, 4, 3, 3), torch.ones(1, 4)
        >>> modulated_conv2d(x, weight, styles, up=2, filter=setup_filter([1, 3, 3, 1])).shape
        torch.Size([1, 8, 6, 4])
    """
    check_images("x", x)
    check_images("weight", weight)
    check_float("styles", styles)
    check_same_device("weight", weight, "x", x)
    check_same_device("styles", styles, "x", x)
    channels = x.shape[1]
    if weight.shape[0] == 0 or weight.shape[1] != channels:
        raise ShapeError(
            f"expected filters of shape (Cout, {channels}, k, k), Cin being the channels of x, got "
            f"{describe(weight)}; the order of the dimensions is that of torch.nn.Conv2d",
            argument="weight",
        )
    if weight.shape[2] != weight.shape[3] or weight.shape[2] % 2 == 0:
        raise ShapeError(
            f"expected a square kernel of odd size, got {describe(weight)}; pad it with zeros", argument="weight"
        )
    if styles.shape != x.shape[:2]:
        raise ShapeError(
            f"expected one factor per image and input channel, shape {tuple(x.shape[:2])}, got "
            f"{describe(styles)}; repeat a single style with styles.expand(len(x), -1)",
            argument="styles",
        )
    if isinstance(up, bool) or up not in (1, 2):
        raise ConfigError(f"expected 1 or 2, got {up!r}; for other factors use up=1 after upfirdn2d", argument="up")
    taps = None
    if up == 2:
        if filter is None:
            raise ConfigError(
                "expected a low-pass filter with up=2, got None; pass styletryon.ops.setup_filter([1, 3, 3, 1])",
                argument="filter",
            )
        taps = check_filter(filter, x, "x")
    return choose(x).styled_layer(LayerInputs(x, weight, styles), LayerSettings(up, taps, demodulate))


def setup_filter(taps: Sequence[float] | Sequence[Sequence[float]] | Tensor) -> Tensor:
    """Builds a low-pass filter whose taps sum to one.

    Args:
        taps: A list or tensor of numbers, `(n,)` for the product of that filter with itself or `(kh, kw)`, with a
            finite sum other than 0. ``[1, 3, 3, 1]`` is StyleGAN2's.

    Returns:
        The filter, `(n, n)` or `(kh, kw)`, float32 on the CPU: to be kept as a buffer of the module that uses it.

    Raises:
        ShapeError: `taps` is not a list or table of numbers, or is empty.
        RangeError: the sum is 0 or not finite.

    Example:
        >>> setup_filter([1, 1])
        tensor([[0.2500, 0.2500],
                [0.2500, 0.2500]])
    """
    try:
        values = torch.as_tensor(taps, dtype=torch.float64, device="cpu").detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ShapeError(
            f"expected numbers, (n,) or (kh, kw), got {taps!r}; write [1, 3, 3, 1]", argument="taps"
        ) from error
    if values.ndim not in (1, 2) or values.numel() == 0:
        raise ShapeError(
            f"expected numbers, (n,) or (kh, kw), got {describe(values)}; write [1, 3, 3, 1]", argument="taps"
        )
    total = values.sum().item()
    if not math.isfinite(total) or total == 0:
        raise RangeError(
            f"expected a finite sum other than 0, got {total}; a low-pass filter has a positive sum", argument="taps"
        )
    values = values / total
    return (values if values.ndim == 2 else torch.outer(values, values)).float()
