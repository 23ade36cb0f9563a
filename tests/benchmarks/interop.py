"""Whether peers' generators draw the same with our layers: `python -m tests.benchmarks.interop --peers DIR`.

DIR holds checkouts of the peers, of which nothing is part of this repository: `nvidia` (stylegan2-ada-pytorch),
`rosinality` and `lucidrains` (their stylegan2-pytorch) and `stylegan-human`. Each builds a generator with random
weights in a process of its own, all parameters are moved away from their starting values, its own code saves it, and
`styletryon.interop.load_stylegan2` reads the file. Printed is the largest difference between the two pictures, in the
peer's own range, and by how much the picture itself varies. All is float32 on the CPU. lucidrains' code needs kornia
and einops.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from styletryon.interop import export_stylegan2, load_stylegan2
from tests.benchmarks.peers import modules_of

LIMIT = 1e-4
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "nvidia 256": ("nvidia", {"size": 256, "channel_base": 16384}),
    "nvidia 256, 2 mapping layers, narrow": ("nvidia", {"size": 256, "channel_base": 4096, "channel_max": 128, "n": 2}),
    "nvidia 512": ("nvidia", {"size": 512, "channel_base": 16384}),
    "nvidia 256, clamp 0.7, filter 1 2 2 1": (
        "nvidia", {"size": 256, "channel_base": 8192, "clamp": 0.7, "taps": [1, 2, 2, 1]}),
    "nvidia 64, filter of 2 taps, no noise": (
        "nvidia", {"size": 64, "channel_base": 4096, "taps": [1, 1], "use_noise": False}),
    "nvidia 64, z 128, w 256, mapping rate 0.1": (
        "nvidia", {"size": 64, "channel_base": 4096, "z": 128, "w": 256, "rate": 0.1}),
    "nvidia 64, torch.save": ("nvidia", {"size": 64, "channel_base": 4096, "saver": "torch"}),
    "stylegan-human 512x256, nvidia's layout": ("human-nvidia", {"size": 512, "channel_base": 16384}),
    "stylegan-human 1024x512, nvidia's layout": ("human-nvidia", {"size": 1024, "channel_base": 16384}),
    "stylegan-human 512x256, rosinality's layout": ("stylegan-human", {"size": 512}),
    "stylegan-human 1024x512, rosinality's layout": ("stylegan-human", {"size": 1024}),
    "rosinality 256": ("rosinality", {"size": 256}),
    "rosinality 256, filter 1 2 2 1, 2 mapping layers": ("rosinality", {"size": 256, "taps": [1, 2, 2, 1], "n": 2}),
    "rosinality 512, legacy file": ("rosinality", {"size": 512, "legacy": True}),
    "lucidrains 256": ("lucidrains", {"size": 256}),
    "lucidrains 64, narrow, legacy file": ("lucidrains", {"size": 64, "capacity": 4, "w": 128, "n": 4, "legacy": True}),
}  # fmt: skip
Pictures = Callable[[Path], tuple[Tensor, Tensor]]


def perturb(network: torch.nn.Module, seed: int) -> None:
    """Move every parameter and noise map, so that none is at a value that would hide a mistake."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in sorted([*network.named_parameters(), *network.named_buffers()]):
            if "filter" in name or "kernel" in name or name.endswith(".f"):
                continue
            scale = 0.1 * float(tensor.std()) if tensor.numel() > 1 and float(tensor.std()) > 0 else 0.2
            tensor.add_(scale * torch.randn(tensor.shape, generator=rng))


def nvidia(folder: Path, numbers: dict[str, Any], *, portrait: bool = False) -> Pictures:
    with modules_of(folder):
        networks = importlib.import_module("training.networks")
    z_dim, w_dim = numbers.get("z", 512), numbers.get("w", 512)
    extra = {"square": False} if portrait else {}
    synthesis = {"channel_base": numbers["channel_base"], "channel_max": numbers.get("channel_max", 512)}
    synthesis |= {"conv_clamp": numbers.get("clamp"), "resample_filter": numbers.get("taps", [1, 3, 3, 1])}
    synthesis |= {"use_noise": numbers.get("use_noise", True)}
    generator = networks.Generator(
        z_dim=z_dim, c_dim=0, w_dim=w_dim, img_resolution=numbers["size"], img_channels=3,
        mapping_kwargs={"num_layers": numbers.get("n", 8), "lr_multiplier": numbers.get("rate", 0.01)},
        synthesis_kwargs=synthesis, **extra,
    ).eval().requires_grad_(False)  # fmt: skip
    perturb(generator, 1)

    def pictures(path: Path) -> tuple[Tensor, Tensor]:
        judge = networks.MappingNetwork(z_dim, 0, w_dim, 1)  # something else beside it, as in the real files
        content = {"G": judge, "G_ema": generator, "augment_pipe": None, "training_set_kwargs": {"max_size": 5}}
        if numbers.get("saver") == "torch":
            torch.save(generator, path)
        else:
            path.write_bytes(pickle.dumps(content))
        z = torch.randn(2, z_dim, generator=torch.Generator().manual_seed(3))
        ours = load_stylegan2(path)
        theirs = generator(z, None, truncation_psi=0.7, noise_mode="const")
        return theirs, ours(z, truncation=0.7).image

    return pictures


def human_nvidia(folder: Path, numbers: dict[str, Any]) -> Pictures:
    """StyleGAN-Human's training networks, laid over NVIDIA's repository as its README says."""
    with tempfile.TemporaryDirectory() as joined:
        shutil.copytree(folder.parent / "nvidia", joined, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".git"))
        shutil.copytree(folder / "training_scripts" / "sg2", joined, dirs_exist_ok=True)
        return nvidia(Path(joined), numbers, portrait=True)


def rosinality(folder: Path, numbers: dict[str, Any], *, module: str = "model") -> Pictures:
    with modules_of(folder):
        model = importlib.import_module(module)
    generator = model.Generator(
        numbers["size"], 512, numbers.get("n", 8), blur_kernel=numbers.get("taps", [1, 3, 3, 1])
    ).eval().requires_grad_(False)  # fmt: skip
    perturb(generator, 1)

    def pictures(path: Path) -> tuple[Tensor, Tensor]:
        mean = torch.randn(512, generator=torch.Generator().manual_seed(4))
        content = {"g_ema": generator.state_dict(), "latent_avg": mean, "args": argparse.Namespace(size=5)}
        torch.save(content, path, _use_new_zipfile_serialization=not numbers.get("legacy", False))
        z = torch.randn(2, 512, generator=torch.Generator().manual_seed(3))
        options = {"truncation": 0.7, "truncation_latent": mean, "randomize_noise": False}
        theirs = generator([z], **options)[0]
        ours = load_stylegan2(path)
        # The way back: the peer reads, strictly, what we write.
        written = torch.load(export_stylegan2(ours, path.with_suffix(".back.pt")), weights_only=True)
        generator.load_state_dict(written["g_ema"])
        again = generator([z], **options)[0]
        print(f"    written by us and drawn by the peer: {float((again - theirs).abs().max()):.1e}")
        return theirs, ours(z, truncation=0.7).image

    return pictures


def lucidrains(folder: Path, numbers: dict[str, Any]) -> Pictures:
    with modules_of(folder), _what_only_training_needs():
        package = importlib.import_module("stylegan2_pytorch.stylegan2_pytorch")
    size, width, depth = numbers["size"], numbers.get("w", 512), numbers.get("n", 8)
    generator = package.Generator(size, width, network_capacity=numbers.get("capacity", 16))
    mapper = package.StyleVectorizer(width, depth, lr_mul=0.1)
    for seed, network in enumerate((generator, mapper)):
        network.eval().requires_grad_(False)
        perturb(network, seed)

    def pictures(path: Path) -> tuple[Tensor, Tensor]:
        state = {f"SE.{name}": tensor for name, tensor in mapper.state_dict().items()}
        state |= {f"GE.{name}": tensor for name, tensor in generator.state_dict().items()}
        torch.save({"GAN": state, "version": "1.9.0"}, path,
                   _use_new_zipfile_serialization=not numbers.get("legacy", False))  # fmt: skip
        rng = torch.Generator().manual_seed(3)
        z, noise = torch.randn(2, width, generator=rng), torch.rand(2, size, size, 1, generator=rng)
        w = mapper(z)
        levels = generator.num_layers if hasattr(generator, "num_layers") else size.bit_length() - 2
        theirs = generator(w[:, None].expand(-1, levels, -1), noise)
        ours = load_stylegan2(path)
        # Its noise is one picture, of which each layer sees a corner, columns for rows.
        maps = tuple(noise[:, :h, :v].permute(0, 3, 2, 1) for h, v in ours.noise_shapes)
        image = ours.synthesize(ours.affine(ours.mapping(z)), noise=maps).image
        return theirs, image / 2 + 0.5  # its pictures are in [0, 1]

    return pictures


@contextlib.contextmanager
def _what_only_training_needs() -> Iterator[None]:
    """Stand in for modules that a peer imports for its training, and for the GPU that it asks for at import."""
    for name, names in {"fire": (), "retry": (), "aim": (), "vector_quantize_pytorch": ("VectorQuantize",)}.items():
        module = types.ModuleType(name)
        for item in names:
            setattr(module, item, None)
        sys.modules.setdefault(name, module)
    available = torch.cuda.is_available
    torch.cuda.is_available = lambda: True
    try:
        yield
    finally:
        torch.cuda.is_available = available


BUILDERS: dict[str, Callable[[Path, dict[str, Any]], Pictures]] = {
    "nvidia": nvidia,
    "human-nvidia": human_nvidia,
    "stylegan-human": lambda folder, numbers: rosinality(folder, numbers, module="torch_utils.models"),
    "rosinality": rosinality,
    "lucidrains": lucidrains,
}


def compare(peers: Path, case: str) -> bool:
    """Run one case, print its line, and say whether the pictures are equal."""
    kind, numbers = CASES[case]
    folder = peers / {"human-nvidia": "stylegan-human"}.get(kind, kind)
    torch.manual_seed(0)
    with torch.no_grad(), tempfile.TemporaryDirectory() as scratch:
        theirs, ours = BUILDERS[kind](folder, numbers)(Path(scratch) / "generator.pt")
    worst = float((theirs - ours).abs().max()) if theirs.shape == ours.shape else float("inf")
    size = "x".join(str(n) for n in theirs.shape[2:])
    print(
        f"{case:52}{size:>10}  max |difference| {worst:.1e}  picture {float(theirs.min()):.2f} to "
        f"{float(theirs.max()):.2f}, deviation {float(theirs.std()):.2f}", flush=True
    )  # fmt: skip
    return worst <= LIMIT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, required=True, help="the folder of the checkouts")
    parser.add_argument("--case", choices=CASES, help="only this one, in this process")
    parser.add_argument("--only", default="", help="only cases whose name begins so")
    arguments = parser.parse_args()
    if arguments.case:
        raise SystemExit(0 if compare(arguments.peers.resolve(), arguments.case) else 1)
    bad = []
    for case in CASES:
        if not case.startswith(arguments.only):
            continue
        command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.interop", "--peers", str(arguments.peers)]
        if subprocess.run([*command, "--case", case], check=False, env={**os.environ}).returncode:
            bad.append(case)
    raise SystemExit(f"not equal to {LIMIT}: {bad}" if bad else 0)


if __name__ == "__main__":
    main()
