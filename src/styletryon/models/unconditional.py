"""StyleGAN2 as other projects train it: a learned constant instead of a pose, and no segmentation."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from styletryon._weights import unfilled
from styletryon.errors import CheckpointError
from styletryon.generator import GeneratorOutput
from styletryon.latent import Latent, Styles
from styletryon.models import storage
from styletryon.models.base import StyleGenerator
from styletryon.models.config import StyleGAN2Config
from styletryon.pose import Pose


class UnconditionalStyleGAN2(StyleGenerator):
    """A StyleGAN2 whose input is a learned constant (Karras et al. 2020, arXiv 1912.04958), made of our own layers.

    It fulfils the `Generator` protocol: pictures are projected into it as into any other. It ignores the pose and draws
    no segmentation (`num_labels` is 0); `styletryon.interop.ParsedGenerator` adds one, which a try-on needs.

    Args:
        config: The generator's numbers; `StyleGAN2Config()` if None.

    Attributes:
        capturable: A CUDA graph may replay its draws.
        config: The generator's numbers.
        encoder: None: projections start from the mean of w.
    """

    capturable = True
    config: StyleGAN2Config
    encoder: Callable[[Tensor, Pose], Tensor] | None = None

    def __init__(self, config: StyleGAN2Config | None = None) -> None:
        config = config if config is not None else StyleGAN2Config()
        super().__init__(config, mapping_rate=config.mapping_rate, mapping_last="lrelu")
        self.constant = nn.Parameter(torch.randn(1, config.channels[0], *self.synthesis.sizes[0]))

    @property
    def num_labels(self) -> int:
        """0: it draws no segmentation."""
        return 0

    def channel_masks(self, classes: Collection[int]) -> Styles | None:
        """None: such a generator has learnt nothing of label classes."""
        del classes
        return None

    def synthesize(
        self,
        styles: Styles,
        pose: Pose | None = None,
        *,
        noise: tuple[Tensor, ...] | None = None,
        activations: bool = False,
    ) -> GeneratorOutput:
        """Draw styles.

        Args:
            styles: One `(B, C_l)` tensor per styled layer.
            pose: Ignored.
            noise: One `(B or 1, 1, H_l, W_l)` map per convolution; None for the generator's own fixed maps.
            activations: Whether the inputs of the styled layers are kept.

        Returns:
            Picture, logits of no class `(B, 0, H, W)` and, if asked for, activations.

        Raises:
            ShapeError: If the styles or the noise maps do not fit the generator.
        """
        del pose
        self._check_drawing(styles, noise)
        noises: Sequence[Tensor | None] = [None] * len(self.noise_shapes) if noise is None else noise
        start = self.constant.expand(len(styles[0]), -1, -1, -1).to(memory_format=torch.channels_last)
        drawing: GeneratorOutput = self.synthesis(styles, [start], [], noises, keep=activations)
        return drawing

    def forward(self, z: Tensor, *, truncation: float = 1.0) -> GeneratorOutput:
        """Draw z `(B, z_dim)`; a `truncation` under 1 moves it towards the mean."""
        return self.synthesize(self.affine(self.truncate(self.mapping(z), truncation)))

    def draw(self, latent: Latent) -> GeneratorOutput:
        """Draw a latent."""
        return self.synthesize(latent.styles, noise=latent.noise)

    def save_pretrained(self, folder: str | os.PathLike[str], *, dtype: torch.dtype | None = None) -> None:
        """Write `config.json` and `model.safetensors` into a folder, each atomically.

        Args:
            folder: Made if it is not there.
            dtype: `torch.float16` halves the file; None keeps the weights as they are.

        Raises:
            SaveError: If a file cannot be written; what stood there before still stands.
        """
        storage.save_network(Path(folder), self, {"stylegan2": self.config}, dtype=dtype)

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> UnconditionalStyleGAN2:
        """Load a generator on the CPU, ready to draw (`eval`, no gradients to the weights).

        Args:
            folder: A folder that `save_pretrained` wrote.

        Raises:
            CheckpointNotFoundError: If there is no such folder.
            CheckpointError: If files are missing or damaged, or belong to another kind of generator.
        """
        path = storage.find(folder)
        config = storage.load_configs(path, {"stylegan2": StyleGAN2Config})["stylegan2"]
        if not isinstance(config, StyleGAN2Config):
            raise CheckpointError(
                "expected the numbers of an UnconditionalStyleGAN2", argument=str(path / "config.json")
            )
        with unfilled():
            model = cls(config)
        storage.load_weights(path, model)
        return model.eval().requires_grad_(False)
