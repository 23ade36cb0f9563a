"""What is known of a picture in a generator's own terms: style codes, pose, noise, and where they came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from styletryon.errors import ShapeError
from styletryon.pose import Pose

Styles = tuple[Tensor, ...]
"""The style codes (S-space, the paper's sigma) of a batch: one `(B, C_l)` tensor per styled layer."""


@dataclass(frozen=True, eq=False)
class Latent:
    """A batch of people as a generator sees them: an immutable value.

    A `Latent` stands wherever an image does, so a photograph is projected once and tries on many garments.

    Attributes:
        styles: One `(B, C_l)` float32 tensor per styled layer: the paper's style vectors sigma.
        pose: The poses of the same `B` people, in the pixels of the generator's picture.
        noise: The noise maps, one `(B, 1, H_l, W_l)` tensor per convolution, or None for the generator's own.
        source: One object per person that says where the picture came from (see `styletryon.images.Source`), or None.
        report: Plain numbers about how the latent was found, such as the reconstruction error.
        model: The fingerprint of the generator that the styles belong to; empty when unknown.
    """

    styles: Styles
    pose: Pose
    noise: tuple[Tensor, ...] | None = None
    source: tuple[Any, ...] | None = None
    report: Mapping[str, float] = field(default_factory=dict)
    model: str = ""

    def __post_init__(self) -> None:
        count = len(self.pose)
        for name, group in (("styles", self.styles), ("noise", self.noise or ())):
            for layer, tensor in enumerate(group):
                if tensor.shape[0] != count:
                    raise ShapeError(
                        f"{name}[{layer}]: expected a batch of {count}, one per pose, got shape {tuple(tensor.shape)}"
                    )
        if self.source is not None and len(self.source) != count:
            raise ShapeError(f"source: expected {count} entries, one per pose, got {len(self.source)}")

    def __len__(self) -> int:
        return len(self.pose)

    def __getitem__(self, index: int | slice) -> Latent:
        part = slice(index, index + 1 or None) if isinstance(index, int) else index
        return replace(
            self,
            styles=tuple(style[part] for style in self.styles),
            pose=self.pose[part],
            noise=None if self.noise is None else tuple(noise[part] for noise in self.noise),
            source=None if self.source is None else self.source[part],
        )

    @property
    def device(self) -> torch.device:
        """The device of the style codes."""
        return self.styles[0].device

    def to(self, device: torch.device | str) -> Latent:
        """Return the latent with its tensors on a device."""
        return replace(
            self,
            styles=tuple(style.to(device) for style in self.styles),
            pose=self.pose.to(device),
            noise=None if self.noise is None else tuple(noise.to(device) for noise in self.noise),
        )

    def with_pose(self, pose: Pose) -> Latent:
        """Return the same style in another pose. Noise maps belong to a pose, so they are dropped."""
        return replace(self, pose=pose.to(self.device), noise=None, source=None)


def stack(latents: Sequence[Latent]) -> Latent:
    """Join latents of one generator into one batch.

    Args:
        latents: At least one latent. Noise and sources are kept when all of them have some.

    Returns:
        A latent whose batch is the latents' batches one after another.

    Raises:
        ShapeError: If there is none, or they belong to different generators or picture sizes.
    """
    if not latents:
        raise ShapeError("latents: expected at least one latent, got none")
    first = latents[0]
    for other in latents[1:]:
        if other.model != first.model or other.pose.size != first.pose.size:
            raise ShapeError(
                f"latents: expected latents of one generator and picture size, got {first.model or 'unknown'} "
                f"{first.pose.size} and {other.model or 'unknown'} {other.pose.size}"
            )
    noises = [latent.noise for latent in latents if latent.noise is not None]
    sources = [latent.source for latent in latents if latent.source is not None]
    return Latent(
        styles=tuple(torch.cat(layer) for layer in zip(*(latent.styles for latent in latents), strict=True)),
        pose=Pose(torch.cat([latent.pose.keypoints for latent in latents]), first.pose.size),
        noise=tuple(torch.cat(layer) for layer in zip(*noises, strict=True)) if len(noises) == len(latents) else None,
        source=tuple(item for source in sources for item in source) if len(sources) == len(latents) else None,
        model=first.model,
    )
