"""The networks: one box of the paper's figure per file."""

from __future__ import annotations

from styletryon.models.config import DiscriminatorConfig, EncoderConfig, GeneratorConfig
from styletryon.models.discriminator import PoseDiscriminator
from styletryon.models.encoder import ImageEncoder
from styletryon.models.generator import PoseStyleGAN2
from styletryon.models.pose_encoder import PoseEncoder

__all__ = [
    "DiscriminatorConfig",
    "EncoderConfig",
    "GeneratorConfig",
    "ImageEncoder",
    "PoseDiscriminator",
    "PoseEncoder",
    "PoseStyleGAN2",
]
