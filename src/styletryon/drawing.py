"""The small interface through which projection and try-on use a generator, whatever generator it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from styletryon.latent import Styles
from styletryon.pose import Pose


@dataclass(frozen=True, eq=False)
class Drawing:
    """What a generator draws: a picture and the segmentation beside it.

    Attributes:
        image: `(B, 3, H, W)` float, nominally in [-1, 1], not clamped.
        logits: `(B, K, H, W)` float, unnormalised log-probabilities of the label classes.
        activations: The input of each styled layer before its style scales it, `(B, C_l, h, w)` in the order of the
            styles; None unless asked for.
    """

    image: Tensor
    logits: Tensor
    activations: tuple[Tensor, ...] | None = None

    @property
    def probabilities(self) -> Tensor:
        """`(B, K, H, W)` float32: the probability of each label class; differentiable."""
        return torch.softmax(self.logits.float(), dim=1)

    @property
    def labels(self) -> Tensor:
        """`(B, H, W)` uint8: the likeliest label class of each pixel."""
        return self.logits.argmax(dim=1).to(torch.uint8)


class Drawer(Protocol):
    """What projection and try-on need of a generator. `PoseStyleGAN2` fulfils it.

    Attributes:
        image_size: Height and width of the pictures in pixels.
        num_labels: K, the number of label classes.
        z_dim: Width of the latent z.
        w_dim: Width of the latent w.
        style_channels: C_l of each styled layer.
        style_names: A name for each styled layer, such as "32.conv0", "32.rgb" or "32.seg".
        noise_shapes: Height and width of each noise map.
        fingerprint: A short text that is equal exactly when the weights are.
        w_mean: `(w_dim,)` the mean of w.
        encoder: Maps pictures `(B, 3, H, W)` in [-1, 1] and their poses to w `(B, w_dim)`; None if there is none.
    """

    @property
    def image_size(self) -> tuple[int, int]: ...

    @property
    def num_labels(self) -> int: ...

    @property
    def z_dim(self) -> int: ...

    @property
    def w_dim(self) -> int: ...

    @property
    def style_channels(self) -> tuple[int, ...]: ...

    @property
    def style_names(self) -> tuple[str, ...]: ...

    @property
    def noise_shapes(self) -> tuple[tuple[int, int], ...]: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def w_mean(self) -> Tensor: ...

    @property
    def encoder(self) -> Callable[[Tensor, Pose], Tensor] | None: ...

    def mapping(self, z: Tensor) -> Tensor:
        """Map z `(B, z_dim)` to w `(B, w_dim)`."""
        ...

    def affine(self, w: Tensor) -> Styles:
        """Map w `(B, w_dim)` or one w per styled layer `(B, L, w_dim)` to style codes."""
        ...

    def synthesize(
        self,
        styles: Styles,
        pose: Pose,
        *,
        noise: tuple[Tensor, ...] | None = None,
        activations: bool = False,
    ) -> Drawing:
        """Draw styles in a pose. `noise` None means the generator's own fixed noise maps."""
        ...
