"""A segmentation for generators that draw none."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import final

import torch
from torch import Tensor, nn

from styletryon._graphs import is_capturable
from styletryon.errors import ConfigError, ShapeError
from styletryon.generator import Generator, GeneratorOutput, background_of, draw_in
from styletryon.labels import NUM_LABELS
from styletryon.latent import Latent, Styles
from styletryon.photo.pixels import Colour
from styletryon.pose import Pose


@final
class ParsedGenerator(nn.Module):
    """A generator whose segmentation is what a parser sees in its pictures: with it, any generator can try on.

    It fulfils the `Generator` protocol. The losses follow the segmentation back through the parser to the styles, so
    the parser must be differentiable; its weights are not changed.

    Args:
        generator: What draws the picture, such as what `load_stylegan2` returned.
        labels_from: Maps pictures `(B, 3, H, W)`, nominally in [-1, 1] and not clamped, to unnormalised
            log-probabilities `(B, K, H, W)`. A module goes to other devices together with the generator.
        num_labels: K, the number of label classes.

    Raises:
        ConfigError: If the parser is not callable, or `num_labels` is not positive.
    """

    def __init__(
        self,
        generator: Generator,
        labels_from: Callable[[Tensor], Tensor],
        *,
        num_labels: int = NUM_LABELS,
    ) -> None:
        super().__init__()
        if not callable(labels_from):
            raise ConfigError(
                f"expected a callable images -> logits, got {type(labels_from).__name__}", argument="labels_from"
            )
        if num_labels < 1:
            raise ConfigError(f"expected at least 1, got {num_labels}", argument="num_labels")
        self.generator = generator
        self.labels_from = labels_from
        self.num_labels = num_labels

    @property
    def capturable(self) -> bool:
        """True if both say that a CUDA graph may replay them."""
        return is_capturable(self.generator) and is_capturable(self.labels_from)

    @property
    def background(self) -> Colour | None:
        """That of the generator."""
        return background_of(self.generator)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the pictures in pixels."""
        return self.generator.image_size

    @property
    def z_dim(self) -> int:
        """Width of the latent z."""
        return self.generator.z_dim

    @property
    def w_dim(self) -> int:
        """Width of the latent w."""
        return self.generator.w_dim

    @property
    def style_channels(self) -> tuple[int, ...]:
        """C_l of each styled layer."""
        return self.generator.style_channels

    @property
    def style_names(self) -> tuple[str, ...]:
        """A name for each styled layer."""
        return self.generator.style_names

    @property
    def noise_shapes(self) -> tuple[tuple[int, int], ...]:
        """Height and width of each noise map."""
        return self.generator.noise_shapes

    @property
    def fingerprint(self) -> str:
        """That of the generator: latents do not depend on the parser."""
        return self.generator.fingerprint

    @property
    def w_mean(self) -> Tensor:
        """`(w_dim,)` the mean of w."""
        return self.generator.w_mean

    @property
    def encoder(self) -> Callable[[Tensor, Pose], Tensor] | None:
        """That of the generator."""
        return self.generator.encoder

    @property
    def device(self) -> torch.device:
        """The device of the generator."""
        return self.w_mean.device

    def mapping(self, z: Tensor) -> Tensor:
        """Map z `(B, z_dim)` to w `(B, w_dim)`."""
        return self.generator.mapping(z)

    def affine(self, w: Tensor) -> Styles:
        """Map w `(B, w_dim)` or one w per styled layer `(B, L, w_dim)` to style codes."""
        return self.generator.affine(w)

    def truncate(self, w: Tensor, truncation: float) -> Tensor:
        """Move w towards its mean: 1 leaves it, 0 gives the mean (the truncation trick)."""
        return self.w_mean + truncation * (w - self.w_mean)

    def channel_masks(self, classes: Collection[int]) -> Styles | None:
        """Masks of label classes, as the generator has learnt them."""
        return self.generator.channel_masks(classes)

    def synthesize(
        self,
        styles: Styles,
        pose: Pose,
        *,
        noise: tuple[Tensor, ...] | None = None,
        activations: bool = False,
    ) -> GeneratorOutput:
        """Draw styles in a pose, then parse the picture.

        Args:
            styles: One `(B, C_l)` tensor per styled layer.
            pose: B poses; a generator with a constant input ignores them.
            noise: One map per convolution; None for the generator's own fixed maps.
            activations: Whether the inputs of the styled layers are kept.

        Returns:
            The generator's drawing with the parser's logits.

        Raises:
            ShapeError: If the styles or the noise maps do not fit the generator, or the parser returns another shape.
        """
        drawing = draw_in(self.generator, pose)(styles, noise=noise, activations=activations)
        logits = self.labels_from(drawing.image)
        wanted = (len(drawing.image), self.num_labels, *drawing.image.shape[2:])
        if not isinstance(logits, Tensor) or tuple(logits.shape) != wanted:
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ShapeError(f"expected it to return logits of shape {wanted}, got {got}", argument="labels_from")
        return replace(drawing, logits=logits)

    def draw(self, latent: Latent) -> GeneratorOutput:
        """Draw a latent."""
        return self.synthesize(latent.styles, latent.pose, noise=latent.noise)
