"""The pose-conditioned generator: mapping, affine layers and synthesis, and how they are saved and loaded."""

from __future__ import annotations

import copy
import os
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from styletryon._deprecated import warn_renamed
from styletryon._weights import unfilled
from styletryon.errors import ConfigError, ShapeError
from styletryon.generator import GeneratorOutput, adapt
from styletryon.latent import Latent, Styles
from styletryon.models import hub, storage
from styletryon.models.base import StyleGenerator
from styletryon.models.config import EncoderConfig, GeneratorConfig
from styletryon.models.encoder import ImageEncoder
from styletryon.models.pose_encoder import PoseEncoder
from styletryon.models.synthesis import pyramid
from styletryon.models.unconditional import UnconditionalStyleGAN2
from styletryon.models.warm_start import WarmStart, check_source, warm_start
from styletryon.photo.pixels import Colour
from styletryon.pose import NUM_BODY_MAPS, NUM_KEYPOINTS, Pose, body_maps, keypoint_heatmaps

# The body covers a small part of the picture: it brings its coordinates to the strength of the features they join.
_BODY_GAIN = 4.0
# Shares move from none to all while a weight moves by a quarter: one learning rate suits both.
_SHARE_RATE = 20.0
_FIRST_SHARE = -1.0
# The levels below decide where things are, and say the same of every picture.
_TUNED_HEIGHT = 16


class EncodedPose(NamedTuple):
    """A pose as a generator's layers see it, so that many styles can be drawn in it; of use to that generator alone.

    Attributes:
        features: The encoded pose, one `(B, C, h, w)` per level, the base grid first.
        body: The body's coordinates, one `(B, M, h, w)` per level or None, the base grid first.
    """

    features: tuple[Tensor, ...]
    body: tuple[Tensor | None, ...]


class PoseStyleGAN2(StyleGenerator):
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
    config: GeneratorConfig

    def __init__(self, config: GeneratorConfig | None = None, encoder: EncoderConfig | None = None) -> None:
        super().__init__(config if config is not None else GeneratorConfig())
        self._pose_level = sum(size[0] <= self.config.pose_height for size in self.synthesis.sizes) - 1
        if self._pose_level < 1:
            raise ConfigError(f"expected at least 8 pixels, got {self.config.pose_height}", argument="pose_height")
        maps = NUM_KEYPOINTS + (NUM_BODY_MAPS if self.config.body_maps else 0)
        self.pose_encoder = PoseEncoder(
            maps, self.config.pose_channels, self.config.channels[0], num_levels=self._pose_level + 1
        )
        self.share_logits = (
            nn.Parameter(torch.full((self.config.num_labels, sum(self.style_channels)), _FIRST_SHARE / _SHARE_RATE))
            if self.config.garment_shares
            else None
        )
        self.encoder = None if encoder is None else ImageEncoder(encoder)

    @property
    def num_labels(self) -> int:
        """K, the number of label classes."""
        return self.config.num_labels

    @property
    def background(self) -> Colour | None:
        """The colour that stands behind people in the training data; None if they kept their own background."""
        if not self.config.background:
            return None
        red, green, blue = self.config.background
        return red, green, blue

    @property
    def tunable(self) -> tuple[str, ...]:
        """The names of the weights that pivotal tuning may move: those of the levels of 16 pixels and more."""
        levels = [level for level, size in enumerate(self.synthesis.sizes) if size[0] >= _TUNED_HEIGHT]
        starts = tuple(f"synthesis.blocks.{level}." for level in levels)
        return tuple(name for name, _ in self.named_parameters() if name.startswith(starts))

    def tuned(self, changes: Mapping[str, Tensor]) -> PoseStyleGAN2:
        """Return a copy to whose weights something was added, ready to draw; see `Latent.tuning`.

        Args:
            changes: Name of one of the `tunable` weights -> what to add to it.

        Returns:
            A generator of the same latents.

        Raises:
            ShapeError: If there is no such weight, or its shape is another.
        """
        own = {name: self.get_parameter(name) for name in self.tunable}
        wrong = [name for name, change in changes.items() if name not in own or own[name].shape != change.shape]
        if wrong:
            raise ShapeError(
                f"expected tensors of the shapes of the tunable weights, got {wrong[0]!r} of "
                f"{tuple(changes[wrong[0]].shape)}; was the latent tuned with another model?",
                argument="changes",
            )
        with torch.inference_mode(False), torch.no_grad():  # as in from_pretrained
            fresh = copy.deepcopy(self).requires_grad_(False)
            for name, change in changes.items():
                fresh.get_parameter(name).add_(change.to(self.device))
        return fresh

    def channel_masks(self, classes: Collection[int]) -> Styles | None:
        """Return how much of each style channel belongs to some label classes, learnt from try-ons of known truth.

        It is what a try-on of these classes takes from the garment's wearer: clothes and how they fall, but not light
        and body. Not in the paper, which measures such masks picture by picture.

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

    def shares(self, classes: Collection[int]) -> Styles | None:
        """Old name of `channel_masks(classes)`; it leaves in 0.4."""
        warn_renamed("shares", "channel_masks", until="0.4")
        return self.channel_masks(classes)

    def wave_styles(self, w: Tensor) -> Styles:
        """Map w to the styles of those layers alone that see the body's coordinates.

        Args:
            w: `(B, w_dim)`.

        Returns:
            `(B, NUM_BODY_MAPS)` per such layer; none without `body_maps`.
        """
        named = zip(self.style_names, self.affines, strict=True)
        return tuple(affine(w).float() for name, affine in named if name.endswith(".body"))

    def synthesize(
        self,
        styles: Styles,
        pose: Pose | EncodedPose,
        *,
        noise: tuple[Tensor, ...] | None = None,
        activations: bool = False,
        num_levels: int | None = None,
    ) -> GeneratorOutput:
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
        self._check_drawing(styles, noise)
        encoded, body = pose if isinstance(pose, EncodedPose) else self.encode_pose(pose)
        noises: Sequence[Tensor | None] = [None] * len(self.noise_shapes) if noise is None else noise
        drawing: GeneratorOutput = self.synthesis(
            styles, encoded, body, noises, keep=activations, num_levels=num_levels
        )
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

    def forward(self, z: Tensor, pose: Pose, *, truncation: float = 1.0) -> GeneratorOutput:
        """Draw z `(B, z_dim)` in a `pose` of batch B; a `truncation` under 1 moves it towards the mean."""
        return self.synthesize(self.affine(self.truncate(self.mapping(z), truncation)), pose)

    def draw(self, latent: Latent) -> GeneratorOutput:
        """Draw a latent, with the weights that it was tuned to if it was."""
        return adapt(self, latent).synthesize(latent.styles, latent.pose, noise=latent.noise)

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

    def push_to_hub(
        self,
        repository: str,
        *,
        card: str | None = None,
        licence: str | None = None,
        text: str = "",
        private: bool | None = None,
        revision: str | None = None,
        message: str = "Upload a generator of styletryon",
        dtype: torch.dtype | None = None,
        token: str | bool | None = None,
        endpoint: str | None = None,
    ) -> str:
        """Publish the generator on the Hugging Face hub, in one commit; needs `styletryon[hub]`.

        Args:
            repository: "user/name", or "name" for the caller's own. It is made if it is not there.
            card: The model card, in Markdown. None to write one where the repository has none, of what the generator's
                numbers say and what the next two arguments add.
            licence: The hub's name of a licence for the card, such as "apache-2.0".
            text: For the card, in Markdown: what it was trained on, how good it is, what it must not be used for.
            private: Whether a new repository is private. None for what the account has chosen.
            revision: A branch that exists. None for the main one.
            message: Of the commit.
            dtype: As for `save_pretrained`.
            token: An access token. None for the one that `hf auth login` stored.
            endpoint: Address of the hub. None for `HF_ENDPOINT`, or the public one.

        Returns:
            The address of the commit.

        Raises:
            DependencyError: If `huggingface_hub` is not installed.
            SaveError: If it cannot be uploaded.
        """
        return hub.publish(
            partial(self.save_pretrained, dtype=dtype),
            partial(hub.describe, self, licence=licence, text=text) if card is None else card,
            repository,
            private=private,
            revision=revision,
            message=message,
            token=token,
            endpoint=endpoint,
        )

    @classmethod
    def from_pretrained(
        cls,
        folder_or_name: str | os.PathLike[str],
        *,
        token: str | bool | None = None,
        endpoint: str | None = None,
        local_files_only: bool = False,
    ) -> PoseStyleGAN2:
        """Load a generator on the CPU, ready to draw (`eval`, no gradients to the weights).

        Args:
            folder_or_name: A folder that `save_pretrained` wrote; the name of bundled weights ("default", "large"); or
                "user/name" or "user/name@revision" of the Hugging Face hub, from which `config.json` and
                `model.safetensors` are fetched (needs `styletryon[hub]`), where there is no such folder. With "hf://"
                before it the hub alone is meant.
            token: An access token of the hub, or False for none. None for the one that `hf auth login` stored.
            endpoint: Address of the hub. None for `HF_ENDPOINT`, or the public one.
            local_files_only: Whether of the hub only what was fetched before is looked at.

        Raises:
            CheckpointNotFoundError: If there is no such folder or name.
            CheckpointError: If files are missing or damaged, or keys are missing, unknown or of the wrong shape.
            DependencyError: If a model of the hub is asked for without `huggingface_hub`.
            WeightsUnavailableError: If a model of the hub cannot be had.
        """
        if hub.is_hub_name(folder_or_name) or hub.could_be_hub_name(folder_or_name):
            folder = hub.fetch_model(
                str(folder_or_name), token=token, endpoint=endpoint, local_files_only=local_files_only
            )
        else:
            folder = storage.find(folder_or_name)
        configs = storage.load_configs(folder, {"generator": GeneratorConfig, "encoder": EncoderConfig})
        generator, encoder = configs["generator"], configs["encoder"]
        if not isinstance(generator, GeneratorConfig) or not (encoder is None or isinstance(encoder, EncoderConfig)):
            raise ConfigError("expected the numbers of a generator", argument=str(folder / 'config.json'))
        with unfilled():
            model = cls(generator, encoder)
        storage.load_weights(folder, model)
        return model.eval().requires_grad_(False)

    @classmethod
    def from_stylegan2(
        cls,
        source: UnconditionalStyleGAN2,
        *,
        config: GeneratorConfig | None = None,
        encoder: EncoderConfig | None = None,
        seed: int = 0,
    ) -> tuple[PoseStyleGAN2, WarmStart]:
        """Make a pose-conditioned generator that starts with the weights of one with a constant input.

        Taken is what has the same name and fits: convolutions, ToRGB and their affine layers of each level, noise maps,
        and the mapping, if the new one has one layer more, which starts as the identity (behind the last layer of ours
        there is no activation). Filters that see the pose as well see none of it at first. What is left, above all the
        pose encoder and ToSeg, is random. A clamp is not taken over.

        Args:
            source: Another generator, such as what `styletryon.interop.load_stylegan2` returned; it is left as it is.
            config: The new generator's numbers. None for the source's, with poses as in `GeneratorConfig()`.
            encoder: The numbers of an image encoder; None for no encoder.
            seed: Of what is random.

        Returns:
            The generator on the CPU, ready to train, and what was taken, extended and left random.

        Raises:
            ConfigError: If the source upsamples in a way that a pose-conditioned generator cannot.
        """
        check_source(source.config)
        numbers = source.config
        if config is None:
            config = GeneratorConfig(
                numbers.image_size,
                numbers.channels,
                z_dim=numbers.z_dim,
                w_dim=numbers.w_dim,
                mapping_layers=numbers.mapping_layers + 1,
            )
        with torch.inference_mode(False), torch.random.fork_rng(devices=[]):  # the caller's random state stays
            torch.default_generator.manual_seed(seed)
            generator = cls(config, encoder)
            return generator, warm_start(generator, source)
