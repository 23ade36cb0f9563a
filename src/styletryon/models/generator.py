"""The pose-conditioned generator: mapping, affine layers and synthesis, and how they are saved and loaded."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from styletryon.drawing import Drawing
from styletryon.errors import ConfigError, ShapeError
from styletryon.latent import Latent, Styles
from styletryon.models import storage
from styletryon.models.config import EncoderConfig, GeneratorConfig
from styletryon.models.encoder import ImageEncoder
from styletryon.models.layers import EqualLinear
from styletryon.models.mapping import MappingNetwork
from styletryon.models.pose_encoder import PoseEncoder
from styletryon.models.synthesis import SynthesisNetwork, pyramid
from styletryon.pose import NUM_BODY_MAPS, NUM_KEYPOINTS, Pose, body_maps, keypoint_heatmaps

# The body covers a small part of the picture: it brings its coordinates to the strength of the features they join.
_BODY_GAIN = 4.0
# Few pictures show a given wave: what they say about its style must count.
_WAVE_RATE = 3.0
# Shares move from none to all while a weight moves by a quarter: one learning rate suits both.
_SHARE_RATE = 20.0
_FIRST_SHARE = -1.0


class EncodedPose(NamedTuple):
    """A pose as a generator's layers see it, so that many styles can be drawn in it; of use to that generator alone.

    Attributes:
        features: The encoded pose, one `(B, C, h, w)` per level, the base grid first.
        body: The body's coordinates, one `(B, M, h, w)` per level or None, the base grid first.
    """

    features: tuple[Tensor, ...]
    body: tuple[Tensor | None, ...]


class PoseStyleGAN2(nn.Module):
    """A StyleGAN2 whose input is a pose and that draws a segmentation beside the picture at every resolution.

    VOGUE / TryOnGAN (arXiv 2101.02285, figure 3). Differs from the paper: the pose encoder and the widths are ours
    (they are not published), and with `body_maps` the style blocks see the body's coordinates.

    Args:
        config: The generator's numbers; `GeneratorConfig()` if None.
        encoder: The numbers of an image encoder that starts projections; None for no encoder.

    Attributes:
        capturable: A CUDA graph may replay its draws.
        config: The generator's numbers.
        encoder: Maps pictures `(B, 3, H, W)` in [-1, 1] and poses to w `(B, w_dim)`, or None.
    """

    capturable = True

    def __init__(self, config: GeneratorConfig | None = None, encoder: EncoderConfig | None = None) -> None:
        super().__init__()
        self.config = config if config is not None else GeneratorConfig()
        self.synthesis = SynthesisNetwork(self.config)
        self._layers = self.synthesis.styled_layers()
        self.mapper = MappingNetwork(self.config.z_dim, self.config.w_dim, self.config.mapping_layers)
        # The style of a coordinate is the signed strength of a wave: most clothes show none, so it starts around 0.
        self.affines = nn.ModuleList(
            EqualLinear(self.config.w_dim, layer.weight.shape[1], bias=0.0, rate=_WAVE_RATE)
            if name.endswith(".body")
            else EqualLinear(self.config.w_dim, layer.weight.shape[1], bias=1.0)
            for name, layer in self._layers.items()
        )
        self._pose_level = sum(size[0] <= self.config.pose_height for size in self.synthesis.sizes) - 1
        if self._pose_level < 1:
            raise ConfigError(f"pose_height: expected at least 8 pixels, got {self.config.pose_height}")
        maps = NUM_KEYPOINTS + (NUM_BODY_MAPS if self.config.body_maps else 0)
        self.pose_encoder = PoseEncoder(
            maps, self.config.pose_channels, self.config.channels[0], num_levels=self._pose_level + 1
        )
        self.register_buffer("w_mean", torch.zeros(self.config.w_dim))
        self.w_mean: Tensor
        self.share_logits = (
            nn.Parameter(torch.full((self.config.num_labels, sum(self.style_channels)), _FIRST_SHARE / _SHARE_RATE))
            if self.config.garment_shares
            else None
        )
        self.encoder = None if encoder is None else ImageEncoder(encoder)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the pictures in pixels."""
        return self.config.image_size

    @property
    def num_labels(self) -> int:
        """K, the number of label classes."""
        return self.config.num_labels

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
            raise ShapeError(f"z: expected (B, {self.z_dim}), got {tuple(z.shape)}")
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
            raise ShapeError(f"w: expected (B, {self.w_dim}) or (B, {count}, {self.w_dim}), got {tuple(w.shape)}")
        layers = [w] * count if w.ndim == 2 else list(w.unbind(dim=1))
        return tuple(affine(part).float() for affine, part in zip(self.affines, layers, strict=True))

    def shares(self, classes: Collection[int]) -> Styles | None:
        """Return how much of each style channel belongs to some label classes, learnt from try-ons of known truth.

        It is what a try-on of these classes takes from the garment's wearer: clothes and how they fall, but not light
        and body. Not in the paper, which measures such shares picture by picture.

        Args:
            classes: Label classes.

        Returns:
            One `(C_l,)` in [0, 1] per styled layer; None if the generator has learnt none (`garment_shares`).
        """
        if self.share_logits is None:
            return None
        chosen = self.share_logits[sorted(int(label) for label in classes)] * _SHARE_RATE
        share = 1 - torch.sigmoid(-chosen).prod(dim=0)
        return tuple(torch.split(share, list(self.style_channels)))

    def truncate(self, w: Tensor, truncation: float) -> Tensor:
        """Move w towards its mean: 1 leaves it, 0 gives the mean (the truncation trick)."""
        return self.w_mean + truncation * (w - self.w_mean)

    def synthesize(
        self,
        styles: Styles,
        pose: Pose | EncodedPose,
        *,
        noise: tuple[Tensor, ...] | None = None,
        activations: bool = False,
        num_levels: int | None = None,
    ) -> Drawing:
        """Draw styles in a pose.

        Args:
            styles: One `(B, C_l)` tensor per styled layer.
            pose: B poses, in the pixels of a picture of any size that has the generator's aspect, or what `encode_pose`
                made of them.
            noise: One `(B or 1, 1, H_l, W_l)` map per convolution; None for the generator's own fixed maps.
            activations: Whether the inputs of the styled layers are kept.
            num_levels: Stop at this many levels, with a smaller drawing; None for all.

        Returns:
            Picture, logits and, if asked for, activations.

        Raises:
            ShapeError: If the styles or the noise maps do not fit the generator.
        """
        if tuple(style.shape[-1] for style in styles) != self.style_channels:
            raise ShapeError(
                f"styles: expected {len(self._layers)} tensors of widths {self.style_channels}, "
                f"got {tuple(style.shape[-1] for style in styles)}; were they made by another model?"
            )
        shapes = self.noise_shapes
        if noise is not None and tuple(tuple(item.shape[-2:]) for item in noise) != shapes:
            raise ShapeError(f"noise: expected maps of sizes {shapes}, got {[tuple(i.shape[-2:]) for i in noise]}")
        encoded, body = pose if isinstance(pose, EncodedPose) else self.encode_pose(pose)
        noises: Sequence[Tensor | None] = [None] * len(shapes) if noise is None else noise
        drawing: Drawing = self.synthesis(styles, encoded, body, noises, keep=activations, num_levels=num_levels)
        return drawing

    def encode_pose(self, pose: Pose) -> EncodedPose:
        """Encode a pose, for `synthesize` to draw in it many times."""
        size = self.synthesis.sizes[self._pose_level]
        keypoints = pose.keypoints.to(self.device)
        maps = keypoint_heatmaps(keypoints, pose.size, size)
        body: tuple[Tensor | None, ...] = (None,) * (self._pose_level + 1)
        if self.config.body_maps:
            coordinates = body_maps(keypoints, pose.size, size)
            maps = torch.cat([maps, coordinates], dim=1)
            body = pyramid((_BODY_GAIN * coordinates).to(memory_format=torch.channels_last), self._pose_level + 1)
        return EncodedPose(self.pose_encoder(maps.to(memory_format=torch.channels_last)), body)

    def forward(self, z: Tensor, pose: Pose, *, truncation: float = 1.0) -> Drawing:
        """Draw z `(B, z_dim)` in a `pose` of batch B; a `truncation` under 1 moves it towards the mean."""
        return self.synthesize(self.affine(self.truncate(self.mapping(z), truncation)), pose)

    def draw(self, latent: Latent) -> Drawing:
        """Draw a latent."""
        return self.synthesize(latent.styles, latent.pose, noise=latent.noise)

    def save_pretrained(self, folder: str | os.PathLike[str], *, dtype: torch.dtype | None = None) -> None:
        """Write `config.json` and `model.safetensors` into a folder, each atomically.

        Args:
            folder: Made if it is not there.
            dtype: `torch.float16` halves the file; None keeps the weights as they are.

        Raises:
            SaveError: If a file cannot be written; what stood there before still stands.
        """
        encoder = None if self.encoder is None else self.encoder.config
        storage.save_network(Path(folder), self, {"generator": self.config, "encoder": encoder}, dtype=dtype)

    @classmethod
    def from_pretrained(cls, folder_or_name: str | os.PathLike[str]) -> PoseStyleGAN2:
        """Load a generator on the CPU, ready to draw (`eval`, no gradients to the weights).

        Args:
            folder_or_name: A folder that `save_pretrained` wrote, or the name of bundled weights ("default").

        Raises:
            CheckpointNotFoundError: If there is no such folder or name.
            CheckpointError: If files are missing or damaged, or keys are missing, unknown or of the wrong shape.
        """
        folder = storage.find(folder_or_name)
        configs = storage.load_configs(folder, {"generator": GeneratorConfig, "encoder": EncoderConfig})
        generator, encoder = configs["generator"], configs["encoder"]
        if not isinstance(generator, GeneratorConfig) or isinstance(encoder, GeneratorConfig):
            raise ConfigError(f"{folder / 'config.json'}: expected the numbers of a generator")
        with torch.inference_mode(False):  # weights made inside it could never be differentiated through
            model = cls(generator, encoder)
            storage.load_weights(folder, model)
        return model.eval().requires_grad_(False)
