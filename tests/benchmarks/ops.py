"""Times the ops against the obvious way to write them, in one process and in turns: `python -m tests.benchmarks.ops`.

The obvious way: one grouped convolution with a filter per image for the modulated convolution; zero insertion, padding,
convolution and slicing for the resampling; one operation after the other for the end of a layer. Each line gives the
best time of either side and their ratio. One thread by default, where the processor's time is measured: it hardly
depends on what else the machine does. Several threads are measured by the clock and need an idle machine.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.nn import functional

from styletryon import ops

SHAPES = ((160, 8, 6), (96, 32, 24), (48, 64, 48), (32, 128, 96))
"""Channels, height and width of the result."""

FILTER = ops.setup_filter([1, 3, 3, 1])


def naive_upfirdn2d(x: Tensor, up: int, down: int, padding: int, gain: float) -> Tensor:
    batch, channels, height, width = x.shape
    x = functional.pad(x.reshape(batch, channels, height, 1, width, 1), (0, up - 1, 0, 0, 0, up - 1))
    x = functional.pad(x.reshape(batch, channels, height * up, width * up), (padding,) * 4)
    weight = (FILTER * gain).to(x.dtype).flip(0, 1).expand(channels, 1, 4, 4)
    return functional.conv2d(x, weight, groups=channels)[:, :, ::down, ::down]


def naive_modulated_conv2d(x: Tensor, weight: Tensor, styles: Tensor, up: int) -> Tensor:
    batch, inputs, height, width = x.shape
    outputs, _, size, _ = weight.shape
    filters = weight * styles[:, None, :, None, None]
    filters = filters * (filters.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    x = x.reshape(1, batch * inputs, height, width)
    if up == 1:
        filters = filters.reshape(batch * outputs, inputs, size, size)
        y = functional.conv2d(x, filters, padding=size // 2, groups=batch)
        return y.reshape(batch, outputs, height, width)
    filters = filters.flip(3, 4).transpose(1, 2).reshape(batch * inputs, outputs, size, size)
    y = functional.conv_transpose2d(x, filters, stride=2, groups=batch)
    return naive_upfirdn2d(y.reshape(batch, outputs, *y.shape[2:]), 1, 1, 1, 4.0)


def naive_bias_act(x: Tensor, bias: Tensor, noise: Tensor) -> Tensor:
    return functional.leaky_relu(x + noise + bias[:, None, None], 0.2) * 2**0.5


def race(ours: Callable[[], object], naive: Callable[[], object], seconds: float) -> tuple[float, float]:
    """The best time of each in milliseconds, measured in turns."""
    best = [float("inf"), float("inf")]
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    ours(), naive()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for i, call in enumerate((ours, naive)):
            start = clock()
            call()
            best[i] = min(best[i], 1e3 * (clock() - start))
    return best[0], best[1]


def step(call: Callable[..., Tensor], inputs: Iterable[Tensor], bfloat16: bool, backward: bool) -> Callable[[], object]:
    leaves = [x.clone().requires_grad_() for x in inputs]

    def run() -> None:
        with torch.set_grad_enabled(backward), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            y = call(*leaves)
        if backward:
            torch.autograd.grad(y, leaves, torch.ones_like(y))

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.5, help="time for each line (default: 0.5)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    generator = torch.Generator().manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {ops.backend_status().reason}")
    print(f"{'op':22}{'result':>20}{'':6}{'pass':>10}{'ours ms':>10}{'naive ms':>10}{'ratio':>7}")

    def numbers(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    for channels, height, width in SHAPES:
        for batch in arguments.batch:
            image, half = numbers(batch, channels, height, width), numbers(batch, channels, height // 2, width // 2)
            weight, colours = numbers(channels, channels, 3, 3), numbers(3, channels, 1, 1)
            styles, bias, noise = numbers(batch, channels), numbers(channels), numbers(batch, 1, height, width)

            def modulated(x: Tensor, w: Tensor, s: Tensor) -> Tensor:
                return ops.modulated_conv2d(x, w, s)

            def modulated_up(x: Tensor, w: Tensor, s: Tensor) -> Tensor:
                return ops.modulated_conv2d(x, w, s, up=2, filter=FILTER)

            cases: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor], tuple[Tensor, ...]]] = {
                "modulated_conv2d": (modulated, lambda *a: naive_modulated_conv2d(*a, up=1), (image, weight, styles)),
                "modulated_conv2d up=2": (
                    modulated_up,
                    lambda *a: naive_modulated_conv2d(*a, up=2),
                    (half, weight, styles),
                ),
                "modulated_conv2d 1x1": (
                    modulated,
                    lambda *a: naive_modulated_conv2d(*a, up=1),
                    (image, colours, styles),
                ),
                "downsample2d": (
                    lambda x: ops.downsample2d(x, FILTER),
                    lambda x: naive_upfirdn2d(x, 1, 2, 1, 1.0),
                    (image,),
                ),
                "bias_act": (lambda x, b, n: ops.bias_act(x, b, noise=n), naive_bias_act, (image, bias, noise)),
            }
            for name, (ours, naive, inputs) in cases.items():
                # As in a network: ours keeps feature maps in channels-last memory, the obvious way does not.
                dense = [x.contiguous(memory_format=torch.channels_last) if x is inputs[0] else x for x in inputs]
                torch.testing.assert_close(ours(*dense), naive(*inputs), rtol=1e-3, atol=1e-3)
                for bfloat16 in (False, True):
                    for backward in (False, True):
                        ms = race(
                            step(ours, dense, bfloat16, backward),
                            step(naive, inputs, bfloat16, backward),
                            arguments.seconds,
                        )
                        print(
                            f"{name:22}{f'{batch}x{channels}x{height}x{width}':>20}"
                            f"{'bf16' if bfloat16 else 'fp32':>6}{'fwd+bwd' if backward else 'fwd':>10}"
                            f"{ms[0]:10.2f}{ms[1]:10.2f}{ms[1] / ms[0]:6.1f}x",
                            flush=True,
                        )


if __name__ == "__main__":
    main()
