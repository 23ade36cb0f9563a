"""Tiny networks and poses, so that tests of everything above them take seconds."""

from __future__ import annotations

import torch

from styletryon.latent import Latent
from styletryon.models import EncoderConfig, GeneratorConfig, PoseStyleGAN2
from styletryon.pose import Pose

# A person standing upright, as shares of width and height.
_STANDING = (
    (0.50, 0.14), (0.53, 0.12), (0.47, 0.12), (0.56, 0.13), (0.44, 0.13), (0.64, 0.25), (0.36, 0.25), (0.70, 0.42),
    (0.30, 0.42), (0.72, 0.56), (0.28, 0.56), (0.59, 0.58), (0.41, 0.58), (0.58, 0.90), (0.42, 0.90), (0.58, 1.2),
    (0.42, 1.2),
)  # fmt: skip


def tiny_config(size: tuple[int, int] = (32, 24), **changes: object) -> GeneratorConfig:
    """Numbers of a generator whose draws take milliseconds; `size` is a base grid doubled."""
    levels = (size[0] // 4).bit_length()
    values: dict[str, object] = {
        "image_size": size,
        "channels": (8,) * levels,
        "z_dim": 8,
        "w_dim": 8,
        "mapping_layers": 2,
        "pose_channels": 4,
    }
    return GeneratorConfig(**(values | changes))  # type: ignore[arg-type]


def tiny_generator(
    size: tuple[int, int] = (32, 24),
    seed: int = 0,
    *,
    encoder: bool = True,
    shares: bool = False,
    background: tuple[int, ...] = (),
) -> PoseStyleGAN2:
    """A generator with random weights, always the same for the same seed; with `shares`, those of classes differ."""
    levels = (size[0] // 4).bit_length()
    numbers = EncoderConfig(size, (8,) * levels, w_dim=8, hidden=8, point_channels=2, wave_channels=2)
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        config = tiny_config(size, garment_shares=shares, background=background)
        generator = PoseStyleGAN2(config, numbers if encoder else None)
        if generator.share_logits is not None:
            torch.nn.init.normal_(generator.share_logits, std=0.2)
        for module in generator.modules():
            strength = getattr(module, "strength", None)
            if isinstance(strength, torch.nn.Parameter):
                torch.nn.init.constant_(strength, 0.1)
    return generator.eval().requires_grad_(False)


def tiny_pose(batch: int = 1, size: tuple[int, int] = (32, 24), seed: int = 0) -> Pose:
    """Standing people, each a little different."""
    rng = torch.Generator().manual_seed(seed)
    points = torch.tensor(_STANDING) + 0.03 * torch.randn(batch, 17, 2, generator=rng)
    scores = torch.ones(batch, 17, 1)
    scores[:, 15:] = 0.0
    return Pose(torch.cat([points * torch.tensor([size[1], size[0]]), scores], dim=-1), size)


def tiny_latent(generator: PoseStyleGAN2, batch: int = 1, seed: int = 0) -> Latent:
    """Random styles in random poses."""
    z = torch.randn(batch, generator.z_dim, generator=torch.Generator().manual_seed(seed))
    return Latent(
        generator.affine(generator.mapping(z)),
        tiny_pose(batch, generator.image_size, seed),
        model=generator.fingerprint,
    )
