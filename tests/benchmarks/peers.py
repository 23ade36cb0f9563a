"""Ours and the peers' networks as the benchmarks run them: as black boxes behind one small interface.

A peer is a folder with a checkout of NVlabs/stylegan2-ada-pytorch or rosinality/stylegan2-pytorch, given by ``--peer``.
Nothing of either is part of this repository; on a CPU both run the PyTorch fallbacks of their own ops.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import statistics
import sys
import time
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from styletryon.models import DiscriminatorConfig, GeneratorConfig, PoseDiscriminator, PoseStyleGAN2
from styletryon.pose import Pose
from styletryon.training import objectives

LATENT = 512
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def widths(size: int, channel_base: int, channel_max: int) -> tuple[int, ...]:
    """Channels at each level from 4 pixels upwards, as StyleGAN2 counts them."""
    return tuple(min(channel_base // (4 << level), channel_max) for level in range(int(math.log2(size)) - 1))


@dataclass(frozen=True)
class Contestant:
    """Networks of one party.

    Attributes:
        name: What the tables call it.
        generator: Its generator.
        discriminator: Its discriminator, or None.
        styles: From a batch size to what is optimised: one w per layer, `(B, L, LATENT)`.
        draw: From these to what is drawn, the picture first.
        imagine: From z to a drawing with fresh noise, in which gradients reach every weight.
        judge: From a drawing to logits.
        real: From a batch size to real pictures, as `judge` takes them.
    """

    name: str
    generator: nn.Module
    discriminator: nn.Module | None
    styles: Callable[[int], Tensor]
    draw: Callable[[Tensor], tuple[Tensor, ...]]
    imagine: Callable[[Tensor], tuple[Tensor, ...]]
    judge: Callable[[tuple[Tensor, ...]], Tensor]
    real: Callable[[int], tuple[Tensor, ...]]


def standing(batch: int, size: int, device: torch.device) -> Pose:
    """People who stand in the middle of a square picture."""
    x = [0.5, 0.52, 0.48, 0.54, 0.46, 0.6, 0.4, 0.64, 0.36, 0.66, 0.34, 0.57, 0.43, 0.57, 0.43, 0.57, 0.43]
    y = [0.14, 0.12, 0.12, 0.13, 0.13, 0.25, 0.25, 0.4, 0.4, 0.53, 0.53, 0.55, 0.55, 0.75, 0.75, 0.94, 0.94]
    points = torch.tensor([[x, y, [1.0] * len(x)]]).mT * torch.tensor([size, size, 1.0])
    return Pose(points.expand(batch, -1, -1).to(device), (size, size))


def ours(
    size: int,
    channel_base: int,
    channel_max: int,
    device: torch.device,
    *,
    segmentation: bool = True,
    precision: str = "fp32",
    discriminator: bool = False,
) -> Contestant:
    """Our networks; without `segmentation` they draw one class, and nothing of the pose but the 4-pixel input."""
    channels = widths(size, channel_base, channel_max)
    labels = 12 if segmentation else 1
    config = GeneratorConfig(
        (size, size),
        channels,
        num_labels=labels,
        z_dim=LATENT,
        w_dim=LATENT,
        mapping_layers=8,
        pose_conditioning="concat" if segmentation else "input",
        pose_height=min(size, 64),
        body_maps=segmentation,
    )
    generator = PoseStyleGAN2(config).to(device)
    judge = PoseDiscriminator(DiscriminatorConfig((size, size), channels, labels)).to(device) if discriminator else None
    dtype = PRECISIONS[precision]
    poses: dict[int, tuple[Pose, Any]] = {}

    def pose(batch: int) -> tuple[Pose, Any]:
        if batch not in poses:
            pose = standing(batch, size, device)
            with torch.no_grad(), autocast(device, dtype):
                poses[batch] = pose, pose if segmentation else generator.encode_pose(pose)
        return poses[batch]

    def draw(w: Tensor) -> tuple[Tensor, ...]:
        with autocast(device, dtype):
            drawing = generator.synthesize(generator.affine(w), pose(len(w))[1])
        return (drawing.image, drawing.logits) if segmentation else (drawing.image,)

    def imagine(z: Tensor) -> tuple[Tensor, ...]:
        noise = tuple(torch.randn(len(z), 1, *shape, device=device) for shape in generator.noise_shapes)
        with autocast(device, dtype):
            styles = generator.affine(generator.mapping(z))
            drawing = generator.synthesize(styles, pose(len(z))[0], noise=noise)
        return drawing.image, drawing.logits

    def judged(drawing: tuple[Tensor, ...]) -> Tensor:
        assert judge is not None
        image, logits = drawing
        with autocast(device, dtype):
            result: Tensor = judge(image, objectives.hard_labels(logits), pose(len(image))[0])
        return result

    def styles(batch: int) -> Tensor:
        w = torch.randn(batch, 1, LATENT, device=device)
        return w.repeat(1, len(generator.style_names), 1)

    def real(batch: int) -> tuple[Tensor, ...]:
        return torch.rand(batch, 3, size, size, device=device), torch.randn(batch, labels, size, size, device=device)

    name = f"ours {precision}" + ("" if segmentation else ", picture alone")
    return Contestant(name, generator, judge, styles, draw, imagine, judged, real)


def peer(
    folder: Path,
    size: int,
    channel_base: int,
    channel_max: int,
    device: torch.device,
    *,
    precision: str = "fp32",
    discriminator: bool = False,
) -> Contestant:
    """The networks of a peer, found by what its folder holds."""
    if (folder / "torch_utils").is_dir():
        return _nvidia(folder, size, channel_base, channel_max, device, precision, discriminator)
    if (folder / "model.py").is_file() and (folder / "op").is_dir():
        return _rosinality(folder, size, channel_base, channel_max, device, precision, discriminator)
    raise SystemExit(f"--peer {folder}: expected stylegan2-ada-pytorch or rosinality/stylegan2-pytorch")


@contextlib.contextmanager
def modules_of(folder: Path) -> Iterator[None]:
    """Import from a peer's folder, without what it needs only to download files or to compile for CUDA."""
    from torch.utils import cpp_extension

    load = cpp_extension.load
    if not torch.cuda.is_available():
        cpp_extension.load = lambda *_, **__: None
    with contextlib.suppress(ImportError):
        importlib.import_module("requests")
    sys.modules.setdefault("requests", types.ModuleType("requests"))
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        cpp_extension.load = load


def _nvidia(
    folder: Path,
    size: int,
    channel_base: int,
    channel_max: int,
    device: torch.device,
    precision: str,
    discriminator: bool,
) -> Contestant:
    with modules_of(folder):
        networks = importlib.import_module("training.networks")
    # Its own kind of mixed precision: half precision at the four highest resolutions.
    numbers = {
        "channel_base": channel_base,
        "channel_max": channel_max,
        "num_fp16_res": 0 if precision == "fp32" else 4,
        "conv_clamp": None if precision == "fp32" else 256,
    }
    picture = {"c_dim": 0, "img_resolution": size, "img_channels": 3}
    generator = networks.Generator(
        z_dim=LATENT, w_dim=LATENT, mapping_kwargs={"num_layers": 8}, synthesis_kwargs=numbers, **picture
    ).to(device)
    judge = networks.Discriminator(**picture, **numbers).to(device) if discriminator else None

    def judged(drawing: tuple[Tensor, ...]) -> Tensor:
        assert judge is not None
        return judge(drawing[0], None)

    return Contestant(
        f"nvidia {precision}",
        generator,
        judge,
        styles=lambda batch: torch.randn(batch, 1, LATENT, device=device).repeat(1, generator.num_ws, 1),
        draw=lambda w: (generator.synthesis(w, noise_mode="const"),),
        imagine=lambda z: (generator(z, None),),
        judge=judged,
        real=lambda batch: (torch.rand(batch, 3, size, size, device=device),),
    )


def _rosinality(
    folder: Path,
    size: int,
    channel_base: int,
    channel_max: int,
    device: torch.device,
    precision: str,
    discriminator: bool,
) -> Contestant:
    if channel_max != 512 or channel_base % 16384:
        raise SystemExit("--channel-base: expected a multiple of 16384 beside this peer, whose widths are fixed")
    with modules_of(folder):
        model = importlib.import_module("model")
    multiplier = channel_base // 16384
    generator = model.Generator(size, LATENT, 8, channel_multiplier=multiplier).to(device)
    judge = model.Discriminator(size, channel_multiplier=multiplier).to(device) if discriminator else None

    def judged(drawing: tuple[Tensor, ...]) -> Tensor:
        assert judge is not None
        return judge(drawing[0])[:, 0]

    def draw(w: Tensor) -> tuple[Tensor, ...]:
        return (generator([w], input_is_latent=True, randomize_noise=False)[0],)

    return Contestant(
        "rosinality fp32",
        generator,
        judge,
        styles=lambda batch: torch.randn(batch, 1, LATENT, device=device).repeat(1, generator.n_latent, 1),
        draw=draw,
        imagine=lambda z: (generator([z])[0],),
        judge=judged,
        real=lambda batch: (torch.rand(batch, 3, size, size, device=device),),
    )


def autocast(device: torch.device, dtype: torch.dtype | None) -> torch.autocast:
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


def training_step(contestant: Contestant, batch: int, rate: float = 2e-3) -> Callable[[], None]:
    """A step of generator and discriminator each: logistic losses and Adam, without the lazy penalties."""
    generator, judge = contestant.generator, contestant.discriminator
    if judge is None:
        raise ValueError("discriminator: expected one")
    device = next(generator.parameters()).device
    fused = {"fused": True} if contestant.name.startswith("ours") else {}
    optimizers = [
        torch.optim.Adam(network.parameters(), lr=rate, betas=(0.0, 0.99), **fused) for network in (generator, judge)
    ]
    real = contestant.real(batch)

    own = contestant.name.startswith("ours")

    def step() -> None:
        generator.requires_grad_(True)
        judge.requires_grad_(own)
        drawing = contestant.imagine(torch.randn(batch, LATENT, device=device))
        optimizers[0].zero_grad(set_to_none=True)
        if own:
            # As `Trainer` does: the drawings are judged once, and both networks learn from it.
            leaves = tuple(part.detach().requires_grad_() for part in drawing)
            fake = contestant.judge(leaves)
            gradients = torch.autograd.grad(F.softplus(-fake).mean(), leaves, retain_graph=True)
            torch.autograd.backward(drawing, gradients)
        else:
            F.softplus(-contestant.judge(drawing)).mean().backward()
        optimizers[0].step()
        if not own:
            # As both peers do: other drawings for the discriminator.
            generator.requires_grad_(False)
            judge.requires_grad_(True)
            with torch.no_grad():
                drawing = contestant.imagine(torch.randn(batch, LATENT, device=device))
            fake = contestant.judge(drawing)
        optimizers[1].zero_grad(set_to_none=True)
        loss = F.softplus(fake).mean() + F.softplus(-contestant.judge(real)).mean()
        torch.autograd.backward(loss, inputs=list(judge.parameters()))
        optimizers[1].step()

    return step


def race(calls: Sequence[Callable[[], object]], rounds: int, device: torch.device) -> list[list[float]]:
    """Milliseconds of each call, a list per call, measured in turns so that what disturbs one disturbs all."""
    for call in calls:
        start = time.perf_counter()
        call()
        if time.perf_counter() - start < 2:
            call()
    # Of one thread the processor's time is taken: it hardly depends on what else the machine does.
    clock = time.thread_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    taken: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, times in zip(calls, taken, strict=True):
            _wait(device)
            start = clock()
            call()
            _wait(device)
            times.append(1e3 * (clock() - start))
    return taken


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """How many times ours is as fast: by the best times, and the median over the rounds."""
    median = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    return f"  {min(theirs) / min(ours):5.2f}x {median:5.2f}x"


def report(title: str, names: Sequence[str], taken: Sequence[Sequence[float]], num_ours: int) -> None:
    """Print the best and the median time of each, and how many times as fast ours are as each peer."""
    for index, (name, times) in enumerate(zip(names, taken, strict=True)):
        line = f"{title:40}{name:26}{min(times):10.1f}{statistics.median(times):10.1f}"
        if index < num_ours:
            line += "".join(ratio(times, theirs) for theirs in taken[num_ours:])
        print(line, flush=True)


def header(names: Sequence[str]) -> None:
    print(f"{'':66}{'best ms':>10}{'median':>10}" + "".join(f"{name:>15}" for name in names), flush=True)


def copy_bandwidth(device: torch.device, numel: int = 1 << 28) -> float:
    """Bytes per second that a device copies, read and written."""
    source = torch.zeros(numel, device=device)
    target = torch.empty_like(source)
    best = min(race([lambda: target.copy_(source)], 10, device)[0])
    return 2 * source.numel() * source.element_size() / (best / 1e3)
