"""Times the ops, ours, peers' and the obvious way to write them, in one process and in turns.

    python -m tests.benchmarks.ops [--peer PATH ...] [--batch 1 4] [--threads 1 2] [--precision fp32] [--device cuda]

The obvious way: one grouped convolution with a filter per image for the modulated convolution; zero insertion, padding,
convolution and slicing for the resampling; one operation after the other for the end of a layer. "styled layer" is what
a network runs: modulated convolution, noise, bias and activation. With gradients, all inputs have one ("fwd+bwd") or
image and styles alone, as where weights are frozen ("frozen").

Each line gives our best time and how many times as fast ours is as each other: by the best times, and the median over
the rounds. On CUDA the last column is the share of a device copy's bandwidth that ours reaches, counting each tensor
that goes in or out once. With one thread the processor's time is measured, with several the clock: use an idle machine.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from styletryon import ops
from styletryon.ops._layer import styled_layer
from tests.benchmarks import peers

SHAPES = ((512, 16, 16), (256, 64, 64), (64, 256, 256))
"""Channels, height and width of the result."""

Call = Callable[..., Tensor]


def naive_upfirdn2d(x: Tensor, filter: Tensor, up: int, down: int, padding: tuple[int, int], gain: float) -> Tensor:
    batch, channels, height, width = x.shape
    x = functional.pad(x.reshape(batch, channels, height, 1, width, 1), (0, up - 1, 0, 0, 0, up - 1))
    x = functional.pad(x.reshape(batch, channels, height * up, width * up), padding * 2)
    weight = (filter * gain).to(x.dtype).flip(0, 1).expand(channels, 1, 4, 4)
    return functional.conv2d(x, weight, groups=channels)[:, :, ::down, ::down]


def naive_modulated_conv2d(x: Tensor, weight: Tensor, styles: Tensor, filter: Tensor | None) -> Tensor:
    batch, inputs, height, width = x.shape
    outputs, _, size, _ = weight.shape
    filters = weight * styles[:, None, :, None, None]
    filters = filters * (filters.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    x = x.reshape(1, batch * inputs, height, width)
    if filter is None:
        filters = filters.reshape(batch * outputs, inputs, size, size)
        y = functional.conv2d(x, filters, padding=size // 2, groups=batch)
        return y.reshape(batch, outputs, height, width)
    filters = filters.flip(3, 4).transpose(1, 2).reshape(batch * inputs, outputs, size, size)
    y = functional.conv_transpose2d(x, filters, stride=2, groups=batch)
    return naive_upfirdn2d(y.reshape(batch, outputs, *y.shape[2:]), filter, 1, 1, (1, 1), 4.0)


def naive_bias_act(x: Tensor, bias: Tensor, noise: Tensor) -> Tensor:
    return functional.leaky_relu(x + noise + bias[:, None, None], 0.2) * 2**0.5


def cases(device: torch.device, others: Sequence[Mapping[str, Call]]) -> dict[str, list[Call | None]]:
    """Ours, the obvious way, and each peer's, by name."""
    fir = ops.setup_filter([1, 3, 3, 1]).to(device)

    def ours_layer(x: Tensor, w: Tensor, s: Tensor, b: Tensor, n: Tensor) -> Tensor:
        return styled_layer(x, w, s, bias=b, noise=n, activation="lrelu", gain=2**0.5)

    def ours_layer_up(x: Tensor, w: Tensor, s: Tensor, b: Tensor, n: Tensor) -> Tensor:
        return styled_layer(x, w, s, bias=b, noise=n, up=2, filter=fir, activation="lrelu", gain=2**0.5)

    table: dict[str, list[Call | None]] = {
        "styled layer": [ours_layer, lambda x, w, s, b, n: naive_bias_act(naive_modulated_conv2d(x, w, s, None), b, n)],
        "styled layer up=2": [
            ours_layer_up,
            lambda x, w, s, b, n: naive_bias_act(naive_modulated_conv2d(x, w, s, fir), b, n),
        ],
        "upsample2d": [lambda x: ops.upsample2d(x, fir), lambda x: naive_upfirdn2d(x, fir, 2, 1, (2, 1), 4.0)],
        "downsample2d": [lambda x: ops.downsample2d(x, fir), lambda x: naive_upfirdn2d(x, fir, 1, 2, (1, 1), 1.0)],
        "bias_act": [lambda x, b, n: ops.bias_act(x, b, noise=n), naive_bias_act],
    }
    for name, row in table.items():
        row += [other.get(name) for other in others]
    return table


def peer_ops(folder: Path, device: torch.device) -> tuple[str, dict[str, Call]]:
    """The ops of a peer, called as its own networks call them."""
    with peers.modules_of(folder):
        if (folder / "torch_utils").is_dir():
            upfirdn2d = importlib.import_module("torch_utils.ops.upfirdn2d")
            bias_act = importlib.import_module("torch_utils.ops.bias_act").bias_act
            modulated = importlib.import_module("training.networks").modulated_conv2d
            fir = upfirdn2d.setup_filter([1, 3, 3, 1]).to(device)

            def layer(x: Tensor, w: Tensor, s: Tensor, b: Tensor, n: Tensor, up: int = 1) -> Tensor:
                # One fused grouped convolution is what it takes in evaluation, and so when projecting.
                settings = {"up": up, "padding": 1, "resample_filter": fir, "flip_weight": up == 1}
                y = modulated(x=x, weight=w, styles=s, noise=n, **settings)
                return bias_act(y, b.to(y.dtype), act="lrelu")

            return "nvidia", {
                "styled layer": layer,
                "styled layer up=2": lambda *a: layer(*a, up=2),
                "upsample2d": lambda x: upfirdn2d.upsample2d(x, fir),
                "downsample2d": lambda x: upfirdn2d.downsample2d(x, fir),
                "bias_act": lambda x, b, n: bias_act(x + n, b, act="lrelu"),
            }
        theirs = importlib.import_module("op")
    kernel = ops.setup_filter([1, 3, 3, 1]).to(device)
    return "rosinality", {
        "upsample2d": lambda x: theirs.upfirdn2d(x, kernel * 4, up=2, pad=(2, 1)),
        "downsample2d": lambda x: theirs.upfirdn2d(x, kernel, down=2, pad=(1, 1)),
        "bias_act": lambda x, b, n: theirs.fused_leaky_relu(x + n, b),
    }


def step(
    call: Call, inputs: Sequence[Tensor], dtype: torch.dtype | None, wanted: Sequence[int]
) -> Callable[[], object]:
    leaves = [x.detach().clone().requires_grad_(i in wanted) for i, x in enumerate(inputs)]
    device = leaves[0].device

    def run() -> None:
        with torch.set_grad_enabled(bool(wanted)), peers.autocast(device, dtype):
            y = call(*leaves)
        if wanted:
            torch.autograd.grad(y, [leaves[i] for i in wanted], torch.ones_like(y))

    return run


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--peer", type=Path, action="append", default=[], help="a peer's folder; may be repeated")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--precision", choices=peers.PRECISIONS, nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--quick", action="store_true", help="tiny numbers, to see that it runs")
    arguments = parser.parse_args(argv)
    device, rounds = arguments.device, 1 if arguments.quick else arguments.rounds
    shapes = ((8, 8, 6), (4, 16, 12)) if arguments.quick else SHAPES
    generator = torch.Generator().manual_seed(0)
    found = [peer_ops(folder, device) for folder in arguments.peer]
    names = ["the obvious way", *(name for name, _ in found)]
    bandwidth = peers.copy_bandwidth(device) if device.type == "cuda" else None
    print(f"torch {torch.__version__}, {device}: {ops.backend_status().reason}")
    print(f"{'op':19}{'result':>17}{'':13}{'ours ms':>9}" + "".join(f"{name:>17}" for name in names))

    def numbers(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    before = torch.get_num_threads()
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        print(f"{threads} threads")
        for channels, height, width in shapes:
            for batch in arguments.batch:
                image, half = numbers(batch, channels, height, width), numbers(batch, channels, height // 2, width // 2)
                weight, styles = numbers(channels, channels, 3, 3), numbers(batch, channels)
                weight = weight + weight.flip(2, 3)  # so that it does not matter who turns kernels around
                bias, noise = numbers(channels), numbers(batch, 1, height, width)
                inputs = {
                    "styled layer": (image, weight, styles, bias, noise),
                    "styled layer up=2": (half, weight, styles, bias, noise),
                    "upsample2d": (half,),
                    "downsample2d": (numbers(batch, channels, 2 * height, 2 * width),),
                    "bias_act": (image, bias, noise),
                }
                for name, calls in cases(device, [table for _, table in found]).items():
                    given = inputs[name]
                    # As in a network: ours keeps feature maps in channels-last memory, the others do not.
                    dense = [x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x for x in given]
                    expected = calls[0](*dense)
                    for other in calls[1:]:
                        if other is not None:
                            torch.testing.assert_close(other(*given), expected, rtol=1e-3, atol=1e-3)
                    passes = {"fwd": (), "fwd+bwd": tuple(range(len(given)))}
                    if name.startswith("styled"):
                        passes["frozen"] = (0, 2)
                    for precision in arguments.precision:
                        for title, wanted in passes.items():
                            dtype = peers.PRECISIONS[precision]
                            runs = [step(calls[0], dense, dtype, wanted)]
                            runs += [step(call, given, dtype, wanted) for call in calls[1:] if call is not None]
                            taken = peers.race(runs, rounds, device)
                            rest = iter(taken[1:])
                            line = f"{name:19}{f'{batch}x{channels}x{height}x{width}':>17}{precision:>5}{title:>8}"
                            line += f"{min(taken[0]):9.2f}"
                            line += "".join(
                                f"{peers.ratio(taken[0], next(rest)):>17}" if call is not None else f"{'-':>17}"
                                for call in calls[1:]
                            )
                            if bandwidth is not None and title == "fwd":
                                size = 2 if dtype is not None else 4
                                moved = size * (expected.numel() + sum(x.numel() for x in dense))
                                line += f"{moved / (min(taken[0]) / 1e3) / bandwidth:8.0%}"
                            print(line, flush=True)
    torch.set_num_threads(before)


if __name__ == "__main__":
    main()
