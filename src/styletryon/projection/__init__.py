"""Projection: finding a photograph in a generator's latent space."""

from __future__ import annotations

from styletryon.projection.noise import noise_correlation, renormalise
from styletryon.projection.projector import LatentProjector, ProjectionProgress
from styletryon.projection.schedule import rate_factor

__all__ = ["LatentProjector", "ProjectionProgress", "noise_correlation", "rate_factor", "renormalise"]
