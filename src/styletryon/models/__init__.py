"""The networks: one box of the paper's figure per file."""

from __future__ import annotations

from styletryon.models.config import (
    DiscriminatorConfig,
    EncoderConfig,
    GeneratorConfig,
    ProjectedDiscriminatorConfig,
    StyleGAN2Config,
)
from styletryon.models.discriminator import PoseDiscriminator
from styletryon.models.encoder import ImageEncoder
from styletryon.models.generator import PoseStyleGAN2
from styletryon.models.pose_encoder import PoseEncoder
from styletryon.models.projected_discriminator import ProjectedDiscriminator
from styletryon.models.unconditional import UnconditionalStyleGAN2
from styletryon.models.warm_start import WarmStart

__all__ = [
    "DiscriminatorConfig",
    "EncoderConfig",
    "GeneratorConfig",
    "ImageEncoder",
    "PoseDiscriminator",
    "PoseEncoder",
    "PoseStyleGAN2",
    "ProjectedDiscriminator",
    "ProjectedDiscriminatorConfig",
    "StyleGAN2Config",
    "UnconditionalStyleGAN2",
    "WarmStart",
]
