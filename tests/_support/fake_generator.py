"""A generator of a few hundred weights for the tests of projection and try-on: quick, smooth, and it draws a figure."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn
from torch.nn import functional

from styletryon.generator import GeneratorOutput
from styletryon.labels import NUM_LABELS, Label
from styletryon.latent import Latent, Styles
from styletryon.pose import NUM_KEYPOINTS, Pose


class FakeGenerator(nn.Module):
    """Two styled convolutions over pose features, then a styled picture and a styled segmentation head.

    The figure is a fixed layout of head, torso and legs; the styles move its colours and the hem of the top.
    """

    def __init__(self, size: tuple[int, int] = (32, 24), seed: int = 0) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        self.image_size = size
        self.num_labels = NUM_LABELS
        self.z_dim, self.w_dim = 6, 8
        self.style_channels = (6, 5, 5, 4)
        self.style_names = ("16.conv0", "32.conv1", "32.rgb", "32.seg")
        self.noise_shapes = ((size[0] // 2, size[1] // 2), size)
        self.fingerprint = f"fake-{seed}"
        self.encoder: Callable[[Tensor, Pose], Tensor] | None = None

        def weight(*shape: int, scale: float = 1.0) -> nn.Parameter:
            return nn.Parameter(scale * torch.randn(*shape, generator=rng))

        self.map = weight(self.z_dim, self.w_dim, scale=self.z_dim**-0.5)
        self.styler = weight(self.w_dim, sum(self.style_channels), scale=self.w_dim**-0.5)
        self.first = weight(6, NUM_KEYPOINTS, scale=0.5)
        self.kernels = nn.ParameterList([weight(5, 6, 3, 3, scale=0.3), weight(5, 5, 3, 3, scale=0.3)])
        self.rgb = weight(3, 5, NUM_LABELS, scale=0.7)
        self.seg = weight(NUM_LABELS, 5, scale=0.2)
        self.register_buffer("own_noise", torch.randn(1, 1, *size, generator=rng))
        self.register_buffer("w_mean", torch.zeros(self.w_dim))

    def mapping(self, z: Tensor) -> Tensor:
        return z @ self.map

    def affine(self, w: Tensor) -> Styles:
        if w.ndim == 2:
            w = w[:, None].expand(-1, len(self.style_channels), -1)
        parts = torch.split(self.styler, list(self.style_channels), dim=1)
        return tuple(1 + w[:, layer] @ part for layer, part in enumerate(parts))

    def channel_masks(self, classes: Collection[int]) -> Styles | None:
        del classes
        return None

    def _layout(self, hem: Tensor) -> Tensor:
        height, width = self.image_size
        down = torch.linspace(-1, 1, height, device=hem.device)[:, None].expand(height, width)
        across = torch.linspace(-1, 1, width, device=hem.device)[None, :].expand(height, width).abs()
        hem = hem[:, None, None]
        body = 6 * (0.7 - across) + 0 * hem
        layout = {
            Label.BACKGROUND: -0.5 * body,
            Label.HAIR: body + 10 * (-0.75 - down),
            Label.FACE: body + 8 * (-0.5 - down),
            Label.SKIN: 8 * (across - 0.45) * (0.75 - across) * 6 + 0 * hem,
            Label.TOP: body + 2 - 6 * (down - hem + 0.35).abs(),
            Label.BOTTOM: body + 8 * (down - hem),
        }
        blank = torch.full_like(body, -9.0)
        return torch.stack([layout.get(Label(k), blank) for k in range(NUM_LABELS)], dim=1)

    def synthesize(
        self, styles: Styles, pose: Pose, *, noise: tuple[Tensor, ...] | None = None, activations: bool = False
    ) -> GeneratorOutput:
        height, width = self.image_size
        kept = []
        x = torch.einsum("cp,bphw->bchw", self.first, pose.heatmaps((height // 2, width // 2)))
        maps = noise or (self.own_noise[:, :, ::2, ::2], self.own_noise)
        for layer, kernel in enumerate(self.kernels):
            kept.append(x)
            x = torch.tanh(functional.conv2d(x * styles[layer][..., None, None], kernel, padding=1))
            if layer == 0:
                x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = x + 0.05 * functional.interpolate(maps[layer], self.image_size, mode="nearest")
        kept += [x, x[:, :4]]
        logits = self._layout(0.1 + 0.3 * torch.tanh(styles[3][:, 0]))
        logits = logits + torch.einsum("kc,bchw->bkhw", self.seg[:, :4], x[:, :4] * styles[3][..., None, None])
        colour = torch.einsum("dck,bc->bdk", self.rgb, styles[2])
        image = torch.tanh(torch.einsum("bdk,bkhw->bdhw", colour, torch.softmax(logits, dim=1)) + 0.2 * x[:, :3])
        return GeneratorOutput(image, logits, tuple(kept) if activations else None)


def fake_pose(batch: int = 2, size: tuple[int, int] = (32, 24), seed: int = 0) -> Pose:
    rng = torch.Generator().manual_seed(seed)
    points = torch.rand(batch, NUM_KEYPOINTS, 3, generator=rng) * torch.tensor([size[1], size[0], 1.0])
    points[..., 2] = 1.0
    return Pose(points, size)


def fake_latent(generator: FakeGenerator, batch: int = 2, seed: int = 0) -> Latent:
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        styles = generator.affine(generator.mapping(torch.randn(batch, generator.z_dim, generator=rng)))
    return Latent(styles, fake_pose(batch, generator.image_size, seed), model=generator.fingerprint)
