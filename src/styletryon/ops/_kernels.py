"""The kernel that computes a call, its grid and its arguments: pure functions from tensors to a `Launch`.

Nothing here touches a GPU. The kernels are in ``csrc``: one translation unit per op and dtype, so that a program
compiles only what it uses. All of them read and write dense memory in one of two orders: planes (NCHW, the pixels of a
channel side by side) or "last" (channels last, the channels of a pixel side by side), for any number of spatial
dimensions. `arrange` copies what is neither; serving any strides in the kernels would slow the common case for a rare
one, which the copy handles at the speed of memory.
"""

from __future__ import annotations

import ctypes
import math
from functools import cache
from importlib import resources
from typing import NamedTuple

import torch
from torch import Tensor

from styletryon.ops._arguments import Activation
from styletryon.ops._nvrtc import Arg, Source
from styletryon.ops._reference import LRELU_SLOPE

TYPES = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16", torch.float64: "f64"}
"""The dtypes that have kernels, and their names in `csrc`."""

ACTIVATIONS = ("linear", "lrelu", "relu", "tanh", "sigmoid", "softplus", "swish")
"""In the order of their codes in `csrc`."""

SLOPES = {"linear": 1.0, "lrelu": LRELU_SLOPE, "relu": 0.0}
"""What the piecewise linear activations multiply negative numbers with."""

_WIDE_BYTES = 16
_MAX_GRID = (2**31 - 1, 65535, 65535)
_THREADS = 256
_SLIDE_THREADS = 128
_WARP = 32
# A kernel that slides has 32-bit coordinates; products with images and channels are 64-bit all the same.
_MAX_COORDINATE = 2**30
_SLIDE_TAPS = 4
# Up and down; the kernel; the groups of columns per thread in planes and in "last".
_SLIDES = {(1, 1): ("same", 2, 2), (2, 1): ("up", 1, 1), (1, 2): ("down", 1, 1)}
# As many threads as keep a large GPU busy: strips are cut shorter until there are as many.
_BUSY_THREADS = 2**18


class Launch(NamedTuple):
    """A kernel, where to find it, and everything that its launch needs."""

    source: str
    kernel: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared: int
    args: tuple[Arg, ...]


def sources() -> tuple[Source, ...]:
    """Every translation unit, by op and dtype, such as ``"bias_act_f16"``."""
    return tuple(Source(name, source_text(name)) for name in source_names())


def source_names() -> tuple[str, ...]:
    """The names of `sources`."""
    return tuple(f"{op}_{name}" for op in ("bias_act", "upfirdn2d") for name in TYPES.values())


@cache
def source_text(name: str, *, conversions: str | None = None) -> str:
    """The text of one translation unit.

    Args:
        name: One of `source_names`.
        conversions: What stands in for the conversions of 16-bit floats in PTX, where no GPU is to run them.
    """
    op, _, element = name.rpartition("_")
    wide = {"f32": 4, "f16": 8, "bf16": 8}.get(element)
    head = [
        f"#define ELEMENT {element}",
        f"#define REAL {'double' if element == 'f64' else 'float'}",
        f"#define NAME(op, tail) op##_{element}_##tail",
    ]
    if wide:
        head.append(f"#define WIDE {wide}")
    files = [_read("numbers"), _read("ptx") if conversions is None else conversions, _read(op)]
    return "\n".join([*head, *files])


def _read(name: str) -> str:
    return resources.files("styletryon.ops").joinpath("csrc", f"{name}.cuh").read_text(encoding="utf-8")


def kernel_names(source: str) -> tuple[str, ...]:
    """The kernels of one translation unit."""
    op, _, element = source.rpartition("_")
    widths = ("one",) if element == "f64" else ("one", "wide")
    if op == "bias_act":
        kinds = [*(f"{width}_plain" for width in widths), "one_smooth"]
        tails = [f"{order}_{kind}{grad}" for order in ("planes", "last") for kind in kinds for grad in ("", "_grad")]
    else:
        tails = [f"{width}_any" for width in widths]
        if element != "f64":
            tails += [f"{walk}_{kind}" for walk in ("planes", *widths) for kind in ("same", "up", "down")]
    return tuple(f"{source}_{tail}" for tail in tails)


# --- memory -----------------------------------------------------------------------------------------------------------


def is_last(x: Tensor) -> bool | None:
    """Tells the order of an `(B, C, ...)` tensor in memory: False for planes, True for "last", None for neither.

    Only the order inside an image counts: images, and channels of planes or pixels of "last", may lie apart, so a
    slice of the batch or of the channels is as good as the whole.
    """
    if x.is_contiguous():
        return x.numel() == x.shape[0] * x.shape[1]
    if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return True
    pixels = math.prod(x.shape[2:])
    if pixels > 1 and _is_run(x, 1):
        return False
    if x.shape[1] == 1 or x.stride(1) == 1:
        step = next((x.stride(d) for d in reversed(range(2, x.ndim)) if x.shape[d] != 1), 1)
        if _is_run(x, step):
            return True
    return False if pixels <= 1 and x.shape[1] <= 1 else None


def _is_run(x: Tensor, step: int) -> bool:
    """Whether the pixels of a channel lie in order, `step` numbers apart."""
    for dim in reversed(range(2, x.ndim)):
        if x.shape[dim] != 1:
            if x.stride(dim) != step:
                return False
            step *= x.shape[dim]
    return True


def arrange(x: Tensor) -> tuple[Tensor, bool]:
    """`x` itself if a kernel can read it, else a dense copy in the nearest order; and whether that is "last"."""
    last = is_last(x)
    if last is not None:
        return x, last
    last = x.ndim > 2 and x.shape[1] > 1 and x.stride(1) == 1
    x = as_order(x, last=last)
    return x, is_last(x) is True


def as_order(x: Tensor, *, last: bool) -> Tensor:
    """`x` itself if it lies in that order, else a dense copy that does."""
    if is_last(x) == last or (x.shape[1] == 1 and _is_run(x, 1)):
        return x
    return x.movedim(1, -1).contiguous().movedim(-1, 1) if last else x.contiguous()


def empty(shape: tuple[int, ...] | torch.Size, x: Tensor, *, last: bool) -> Tensor:
    """A dense tensor in the given order, of the dtype and on the device of `x`, not filled."""
    if not last:
        return x.new_empty(shape)
    return x.new_empty((shape[0], *shape[2:], shape[1])).movedim(-1, 1)


def is_dense(x: Tensor) -> bool:
    """Whether the images `(B, C, H, W)` lie in one piece, in one of the two orders."""
    return x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)


def real(dtype: torch.dtype) -> torch.dtype:
    """The dtype that a kernel for `dtype` computes in."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _pointer(x: Tensor | None) -> Arg:
    return (0 if x is None else x.data_ptr(), ctypes.c_void_p)


def _long(value: int) -> Arg:
    return (value, ctypes.c_longlong)


def _int(value: int) -> Arg:
    return (int(value), ctypes.c_int)


def _divide_up(a: int, b: int) -> int:
    return -(-a // b)


def _grid(*blocks: int) -> tuple[int, int, int]:
    """As many blocks along x, y and z, as far as a grid may reach; the kernels walk on."""
    x, y, z = (min(max(1, n), most) for n, most in zip(blocks, _MAX_GRID, strict=True))
    return x, y, z


# --- bias_act ---------------------------------------------------------------------------------------------------------


def bias_act(
    out: Tensor,
    x: Tensor,
    bias: Tensor | None,
    noise: Noise | None,
    scale: Tensor | None,
    activation: Activation,
    *,
    last: bool,
    grad: Tensor | None = None,
    order: int = 0,
    from_output: bool = False,
) -> Launch:
    """``out = clamp(gain * act(u))``, or `grad` times its derivative by u, with ``u = scale * x + noise + bias``.

    Args:
        out: Dense, of the shape and in the order of `x`; not empty.
        x: What `arrange` returns; the op's output instead if `from_output`.
        bias: `(C,)`, contiguous, in the dtype `real(x.dtype)`.
        noise: What `arrange_noise` returns.
        scale: `(B, C)`, contiguous, in the dtype `real(x.dtype)`.
        activation: Its name is one of `ACTIVATIONS`.
        last: The order of `x`, as `is_last` says.
        grad: In the order of `x`, with the derivatives.
        order: 0, 1 or 2: how often the activation is derived. Piecewise linear ones have no second derivative.
        from_output: `x` is the op's output: for the first derivative of linear, and of lrelu and relu with a gain > 0.
    """
    images, channels = x.shape[:2]
    pixels = x.numel() // (images * channels)
    outer, inner = (pixels, channels) if last else (channels, pixels)
    x_image, x_row = _steps(x, last)
    grad_image, grad_row = (0, 0) if grad is None else _steps(grad, last)
    values, noise_image, noise_row, noise_along = (None, 0, 0, False) if noise is None else noise
    size = x.element_size()
    lanes = _WIDE_BYTES // size
    smooth = activation.name not in SLOPES
    # One loads 16 bytes at a time if every row of every tensor begins at a multiple of them.
    wide = (
        not smooth
        and size != 8
        and (inner | x_image | x_row | grad_image | grad_row) % lanes == 0
        and x.data_ptr() % _WIDE_BYTES == 0
        and (grad is None or grad.data_ptr() % _WIDE_BYTES == 0)
        and not (
            values is not None
            and noise_along
            and (values.data_ptr() % _WIDE_BYTES or (noise_image | noise_row) % lanes)
        )
    )
    packs = inner // lanes if wide else inner
    # As in the table of kernels at the end of bias_act.cuh; a grid that does not fit is slower, not wrong.
    unroll = 1 if smooth else (2 if wide else 4) // (1 if grad is None else 2)
    block_x = min(packs, _THREADS)
    block_y = min(outer, _THREADS // block_x)
    if last:
        grid = _grid(_divide_up(outer, block_y * unroll), _divide_up(packs, block_x), images)
    else:
        grid = _grid(_divide_up(packs, block_x * unroll), _divide_up(outer, block_y), images)
    source, kernel = _bias_act_name(TYPES[x.dtype], last, wide, smooth, grad is not None)
    number = ctypes.c_double if size == 8 else ctypes.c_float
    args = (
        _pointer(out),
        _pointer(grad),
        _pointer(x),
        _pointer(bias),
        _pointer(values),
        _pointer(scale),
        (images, ctypes.c_longlong),
        (outer, ctypes.c_longlong),
        (inner, ctypes.c_longlong),
        (grad_image, ctypes.c_longlong),
        (grad_row, ctypes.c_longlong),
        (x_image, ctypes.c_longlong),
        (x_row, ctypes.c_longlong),
        (noise_image, ctypes.c_longlong),
        (noise_row, ctypes.c_longlong),
        (int(noise_along), ctypes.c_int),
        (ACTIVATIONS.index(activation.name), ctypes.c_int),
        (float(activation.gain), number),
        (math.inf if activation.clamp is None else float(activation.clamp), number),
        (SLOPES.get(activation.name, 1.0), number),
        (order, ctypes.c_int),
        (int(from_output), ctypes.c_int),
    )
    return Launch(source, kernel, grid, (block_x, block_y, 1), 0, args)


@cache
def _bias_act_name(element: str, last: bool, wide: bool, smooth: bool, grad: bool) -> tuple[str, str]:
    source = f"bias_act_{element}"
    order, width, kind = "last" if last else "planes", "wide" if wide else "one", "smooth" if smooth else "plain"
    return source, f"{source}_{order}_{width}_{kind}{'_grad' if grad else ''}"


class Noise(NamedTuple):
    """Noise as a kernel reads it.

    Attributes:
        values: Where it lies.
        image: How far apart the noises of two images are; 0 for one noise for all.
        row: How far apart those of two rows are: pixels in "last", channels in planes; 0 for one for all.
        along: Whether it changes along a row, in which it is side by side; otherwise a row has one number.
    """

    values: Tensor
    image: int
    row: int
    along: bool


def arrange_noise(noise: Tensor, x: Tensor, *, last: bool) -> Noise:
    """Brings noise of any shape that broadcasts to `x`, and any dtype, into the dtype and the order of `x`."""
    if noise.dtype != x.dtype:
        noise = noise.to(x.dtype)
    shape = noise.shape
    if noise.ndim == x.ndim > 2 and shape[1] == 1 and shape[2:] == x.shape[2:] and noise.is_contiguous():
        # One map per image or for all, as networks have it.
        pixels = noise.numel() // max(1, shape[0])
        image = pixels if shape[0] > 1 else 0
        return Noise(noise, image, int(pixels > 1), False) if last else Noise(noise, image, 0, pixels > 1)
    noise = noise.reshape((1,) * (x.ndim - noise.ndim) + shape)
    if math.prod(noise.shape[2:]) != 1:
        noise = noise.expand(*noise.shape[:2], *x.shape[2:])
    noise = noise.flatten(2) if noise.ndim > 2 else noise[:, :, None]
    across, along = (2, 1) if last else (1, 2)
    if noise.shape[along] != 1 and noise.stride(along) != 1:
        noise = noise.transpose(along, 2).contiguous().transpose(along, 2)
    image = noise.stride(0) if noise.shape[0] > 1 else 0
    return Noise(noise, image, noise.stride(across) if noise.shape[across] > 1 else 0, noise.shape[along] > 1)


def _steps(x: Tensor, last: bool) -> tuple[int, int]:
    """How far apart the images of `x` are, and its rows: pixels in "last", channels in planes."""
    strides = x.stride()
    if not last:
        return strides[0], strides[1]
    for size, step in zip(reversed(x.shape[2:]), reversed(strides[2:]), strict=True):
        if size != 1:
            return strides[0], step
    return strides[0], 0


# --- upfirdn2d --------------------------------------------------------------------------------------------------------


def upfirdn2d(
    out: Tensor,
    x: Tensor,
    taps: Tensor,
    up: int,
    down: int,
    left: int,
    top: int,
    flip_filter: bool,
    gain: float,
) -> Launch:
    """Resamples the dense images `x` into `out`, of the same order, which holds as many pixels as are wanted.

    Args:
        out: `(B, C, H', W')`, dense; not empty.
        x: `(B, C, H, W)`, dense.
        taps: `(kh, kw)`, contiguous, in the dtype `real(x.dtype)`.
        up: Factor of the zero insertion.
        down: Factor of the decimation.
        left: Columns of zeros to the left; negative crops.
        top: Rows of zeros above; negative crops.
        flip_filter: Whether to correlate instead of convolve.
        gain: Factor on the result.
    """
    images, channels, height, width = x.shape
    rows, columns = out.shape[2:]
    last = not x.is_contiguous()
    if not last:
        images, channels = images * channels, 1
    element = TYPES[x.dtype]
    lanes = _WIDE_BYTES // x.element_size()
    aligned = x.data_ptr() % _WIDE_BYTES == 0 and out.data_ptr() % _WIDE_BYTES == 0
    wide = last and element != "f64" and channels % lanes == 0 and aligned
    packs = channels // lanes if wide else channels
    source = f"upfirdn2d_{element}"
    number = ctypes.c_double if element == "f64" else ctypes.c_float
    slide = _SLIDES.get((up, down)) if tuple(taps.shape) == (_SLIDE_TAPS, _SLIDE_TAPS) and element != "f64" else None
    largest = max(height * up, width * up, rows * down, columns * down, abs(left), abs(top)) + 64
    if slide is None or largest >= _MAX_COORDINATE or (columns + 64) * channels >= _MAX_COORDINATE:
        block = _block(columns * packs, rows, images, _THREADS)
        return Launch(
            source,
            f"{source}_{'wide' if wide else 'one'}_any",
            _grid(_divide_up(columns * packs, block[0]), _divide_up(rows, block[1]), _divide_up(images, block[2])),
            block,
            0,
            (
                _pointer(out),
                _pointer(x),
                _pointer(taps),
                *map(_long, (images, height, width, rows, columns, channels)),
                *map(_int, (*taps.shape, up, down)),
                _long(top),
                _long(left),
                _int(flip_filter),
                (gain, number),
            ),
        )
    kind, groups_in_planes, groups_in_last = slide
    per_thread = groups_in_last if last else groups_in_planes
    start_y, skew_y, groups_y = _groups(top, up, rows)
    start_x, skew_x, groups_x = _groups(left, up, columns)
    threads_x = _divide_up(groups_x, per_thread) * packs
    strip = 32
    while strip > 4 and threads_x * _divide_up(groups_y, strip) * images < _BUSY_THREADS:
        strip //= 2
    strips = _divide_up(groups_y, strip)
    block = _block(threads_x, strips, images, _SLIDE_THREADS)
    paired = columns % 2 == 0 and skew_x == 0 and out.data_ptr() % (2 * out.element_size()) == 0
    return Launch(
        source,
        f"{source}_{('wide' if wide else 'one') if last else 'planes'}_{kind}",
        _grid(_divide_up(threads_x, block[0]), _divide_up(strips, block[1]), _divide_up(images, block[2])),
        block,
        0,
        (
            _pointer(out),
            _pointer(x),
            _pointer(taps),
            _long(images),
            *map(_int, (height, width, rows, columns, channels)),
            *map(_int, (groups_y, groups_x, start_y, start_x, skew_y, skew_x, strip, paired, flip_filter)),
            (gain, number),
        ),
    )


def _groups(padding: int, up: int, size: int) -> tuple[int, int, int]:
    """Cuts `size` rows of the result into groups of `up`, which begin where a tap meets no inserted zero.

    Returns:
        The first row of x that the first group needs, the first row of the result in it (0 or -1), how many there are.
    """
    if up == 1:
        return -padding, 0, size
    start = -((padding + 1) // 2)
    skew = padding + 2 * start
    return start, skew, _divide_up(size - skew, 2)


def _block(x: int, y: int, z: int, threads: int) -> tuple[int, int, int]:
    """A block of at most `threads` threads over as many, filled along x first, then y, then z."""
    # Several blocks along x get equal shares, in whole warps: 192 threads make two blocks of 96, not 128 and a half.
    block_x = x if x <= threads else _divide_up(_divide_up(x, _divide_up(x, threads)), _WARP) * _WARP
    block_y = min(y, threads // block_x)
    # A block may have 64 threads along z.
    return block_x, block_y, min(z, threads // (block_x * block_y), 64)
