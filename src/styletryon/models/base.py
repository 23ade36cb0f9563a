"""The common part of our generators: the way from z over w to style codes, and their account of themselves."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from styletryon.errors import ShapeError
from styletryon.latent import Styles
from styletryon.models.config import GeneratorConfig, StyleGAN2Config
from styletryon.models.layers import EqualLinear
from styletryon.models.mapping import MappingNetwork
from styletryon.models.synthesis import SynthesisNetwork

# Few pictures show a given wave: what they say about its style must count.
_WAVE_RATE = 3.0


class StyleGenerator(nn.Module):
    """Mapping, affine layers and synthesis of a style-based generator; not of use by itself.

    Args:
        config: The generator's numbers.
        mapping_rate: Factor on the learning rate of the mapping.
        mapping_last: Activation of the mapping's last layer: "linear" or "lrelu".
    """

    config: GeneratorConfig | StyleGAN2Config

    def __init__(
        self, config: GeneratorConfig | StyleGAN2Config, *, mapping_rate: float = 0.01, mapping_last: str = "linear"
    ) -> None:
        super().__init__()
        self.config = config
        self.synthesis = SynthesisNetwork(config)
        self._layers = self.synthesis.styled_layers()
        self.mapper = MappingNetwork(
            config.z_dim, config.w_dim, config.mapping_layers, rate=mapping_rate, last=mapping_last
        )
        # The style of a coordinate is the signed strength of a wave: most clothes show none, so it starts around 0.
        self.affines = nn.ModuleList(
            EqualLinear(config.w_dim, layer.weight.shape[1], bias=0.0, rate=_WAVE_RATE)
            if name.endswith(".body")
            else EqualLinear(config.w_dim, layer.weight.shape[1], bias=1.0)
            for name, layer in self._layers.items()
        )
        self.register_buffer("w_mean", torch.zeros(config.w_dim))
        self.w_mean: Tensor

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the pictures in pixels."""
        return self.config.image_size

    @property
    def z_dim(self) -> int:
        """Width of the latent z."""
        return self.config.z_dim

    @property
    def w_dim(self) -> int:
        """Width of the latent w."""
        return self.config.w_dim

    @property
    def style_names(self) -> tuple[str, ...]:
        """A name for each styled layer: its height and what it is, such as "32.conv"."""
        return tuple(self._layers)

    @property
    def style_channels(self) -> tuple[int, ...]:
        """C_l, the channels of each styled layer."""
        return tuple(layer.weight.shape[1] for layer in self._layers.values())

    @property
    def noise_shapes(self) -> tuple[tuple[int, int], ...]:
        """Height and width of each noise map."""
        return self.synthesis.noise_shapes()

    @property
    def fingerprint(self) -> str:
        """A short text that is equal exactly when the generator's numbers and weights are."""
        digest = hashlib.blake2b(repr(self.config).encode(), digest_size=8)
        for name, tensor in self.state_dict().items():
            if not name.startswith("encoder."):
                digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.w_mean.device

    def mapping(self, z: Tensor) -> Tensor:
        """Map z `(B, z_dim)` to w `(B, w_dim)`."""
        if z.ndim != 2 or z.shape[1] != self.z_dim:
            raise ShapeError(f"expected (B, {self.z_dim}), got {tuple(z.shape)}", argument="z")
        out: Tensor = self.mapper(z)
        return out

    def affine(self, w: Tensor) -> Styles:
        """Map w to style codes.

        Args:
            w: `(B, w_dim)`, or one w per styled layer `(B, L, w_dim)` (W+).

        Returns:
            One `(B, C_l)` tensor per styled layer: the paper's sigma.

        Raises:
            ShapeError: If w has another shape.
        """
        count = len(self.affines)
        if w.shape[-1] != self.w_dim or w.ndim not in (2, 3) or (w.ndim == 3 and w.shape[1] != count):
            raise ShapeError(
                f"expected (B, {self.w_dim}) or (B, {count}, {self.w_dim}), got {tuple(w.shape)}", argument="w"
            )
        layers = [w] * count if w.ndim == 2 else list(w.unbind(dim=1))
        return tuple(affine(part).float() for affine, part in zip(self.affines, layers, strict=True))

    def truncate(self, w: Tensor, truncation: float) -> Tensor:
        """Move w towards its mean: 1 leaves it, 0 gives the mean (the truncation trick)."""
        return self.w_mean + truncation * (w - self.w_mean)

    def _check_drawing(self, styles: Styles, noise: tuple[Tensor, ...] | None) -> None:
        """Raise unless styles and noise maps are of this generator's sizes.

        Raises:
            ShapeError: If they are not.
        """
        if tuple(style.shape[-1] for style in styles) != self.style_channels:
            raise ShapeError(
                f"expected {len(self._layers)} tensors of widths {self.style_channels}, "
                f"got {tuple(style.shape[-1] for style in styles)}; were they made by another model?",
                argument="styles",
            )
        shapes = self.noise_shapes
        if noise is not None and tuple(tuple(item.shape[-2:]) for item in noise) != shapes:
            raise ShapeError(
                f"expected maps of sizes {shapes}, got {[tuple(i.shape[-2:]) for i in noise]}", argument="noise"
            )
