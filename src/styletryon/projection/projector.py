"""LatentProjector: optimises latent codes until the generator draws a photograph."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, final

import torch
from torch import Tensor

from styletryon.drawing import Drawer, Drawing, PosedDrawer, draw_in
from styletryon.errors import ConfigError, RangeError, ShapeError
from styletryon.features import FeatureNetwork, PixelFeatures, feature_distance, feature_weights, frozen
from styletryon.features.base import is_deep
from styletryon.labels import Label
from styletryon.latent import Latent, Styles, stack
from styletryon.losses.composite import label_cross_entropy
from styletryon.pose import Pose
from styletryon.projection.noise import noise_correlation, renormalise
from styletryon.projection.schedule import rate_factor

Space = Literal["z", "z+", "w", "w+", "s"]

_CANDIDATES = 256
"""How many random z are tried for the one whose w is nearest to the start."""


@dataclass(frozen=True)
class ProjectionProgress:
    """What a callback is told after each step.

    Attributes:
        step: Counts from 1.
        steps: How many there will be at most.
        loss: The mean over the pictures of the best loss so far.
        first: Index of the first picture of the present chunk.
        count: How many pictures the chunk holds.
    """

    step: int
    steps: int
    loss: float
    first: int
    count: int


@dataclass
class _Best:
    """The best iterate of each picture, so that none need be drawn again."""

    loss: Tensor  # (b,)
    code: list[Tensor]
    noise: list[Tensor]
    squares: Tensor  # (b,)
    absolutes: Tensor  # (b,)

    def keep(self, loss: Tensor, code: list[Tensor], noise: list[Tensor], squares: Tensor, absolutes: Tensor) -> None:
        better = loss < self.loss
        self.loss = torch.where(better, loss, self.loss)
        self.squares = torch.where(better, squares, self.squares)
        self.absolutes = torch.where(better, absolutes, self.absolutes)
        for kept, new in zip(self.code + self.noise, code + noise, strict=True):
            kept.copy_(torch.where(better.view(-1, *[1] * (new.ndim - 1)), new.detach(), kept))


@final
class LatentProjector:
    """Finds pictures in the latent space of a generator.

    The distance is that of pixels and features, plus, where labels are given, the cross-entropy of the drawn
    segmentation. The best step of each picture is kept. Pictures are optimised side by side, each on its own.

    Works under the caller's `torch.no_grad()` and `torch.inference_mode()` too.

    Differs from the paper: it projects to Z+; its loss and steps are not known. The default here is W+, from the guess
    of the generator's encoder where it has one.

    Args:
        generator: What draws. Its weights are left as they are.
        space: "z" or "w" one code per picture; "z+" or "w+" one per styled layer; "s" the style codes themselves.
        steps: How many steps of Adam.
        learning_rate: Its highest rate.
        features: The feature network. Default: `PixelFeatures()`.
        noise: Whether to optimise noise maps too. Otherwise the generator's own are used.
        start: "encoder", "mean" (the mean of w), or None: the encoder if the generator has one.
        seed: Of the noise maps and of the start in z.
        pixel_weight: Weight of the mean absolute difference of the pixels.
        feature_weight: Weight of the distance of the features.
        label_weight: Weight of the cross-entropy of the labels.
        noise_weight: Weight of `noise_correlation`.
        prior_weight: Weight of the mean squared distance from the start, which keeps codes where the generator was
            trained at the cost of the likeness.
        background: How much a pixel of the background counts against one of the person where labels are given.
        batch_size: How many pictures are optimised at once.
        autocast: A dtype such as `torch.bfloat16` in which the generator computes; None: its own.

    Raises:
        ConfigError: If a setting is unknown or out of range, or there is no encoder to start from.
    """

    def __init__(
        self,
        generator: Drawer,
        *,
        space: Space = "w+",
        steps: int = 100,
        learning_rate: float = 0.05,
        features: FeatureNetwork | None = None,
        noise: bool = True,
        start: Literal["encoder", "mean"] | None = None,
        seed: int = 0,
        pixel_weight: float = 1.0,
        feature_weight: float = 1.0,
        label_weight: float = 0.4,
        noise_weight: float = 1.0,
        prior_weight: float = 0.0,
        background: float = 0.3,
        batch_size: int = 8,
        autocast: torch.dtype | None = None,
    ) -> None:
        if space not in ("z", "z+", "w", "w+", "s"):
            raise ConfigError(f"space: expected 'z', 'z+', 'w', 'w+' or 's', got {space!r}")
        if start not in (None, "encoder", "mean"):
            raise ConfigError(f"start: expected 'encoder', 'mean' or None, got {start!r}")
        if start == "encoder" and generator.encoder is None:
            raise ConfigError("start: 'encoder' was asked for, but the generator has none; use start='mean'")
        if steps < 0 or learning_rate <= 0 or batch_size < 1:
            raise ConfigError(
                f"LatentProjector: expected steps >= 0, learning_rate > 0 and batch_size >= 1, got {steps}, "
                f"{learning_rate} and {batch_size}"
            )
        self.generator = generator
        self.space: Space = space
        self.steps = steps
        self.learning_rate = learning_rate
        self.features: FeatureNetwork = features if features is not None else PixelFeatures()
        self.noise = noise
        self.start = start if start is not None else ("encoder" if generator.encoder is not None else "mean")
        self.seed = seed
        self.pixel_weight = pixel_weight
        self.feature_weight = feature_weight
        self.label_weight = label_weight
        self.noise_weight = noise_weight
        self.prior_weight = prior_weight
        self.background = background
        self.batch_size = batch_size
        self.autocast = autocast

    def project(
        self,
        images: Tensor,
        pose: Pose,
        *,
        labels: Tensor | None = None,
        mask: Tensor | None = None,
        seed: int | None = None,
        callback: Callable[[ProjectionProgress], object] | None = None,
    ) -> Latent:
        """Project pictures.

        Args:
            images: `(B, 3, H, W)` float in [-1, 1], of the generator's size.
            pose: The `B` poses, in the pixels of the pictures.
            labels: `(B, H, W)` integers: the label class of each pixel, if known.
            mask: `(B, H, W)` float in [0, 1]: which pixels count, such as those inside the photograph.
            seed: Instead of the projector's.
            callback: Is told of the progress after each step. What it returns does not matter; it may raise.

        Returns:
            A latent of batch `B`, on the device of the pictures. Its report holds the means over the pictures of
            `reconstruction_psnr` (dB), `reconstruction_l1` (of values in [-1, 1]) and `projection_loss`, and
            `projection_seconds` and `projection_steps`.

        Raises:
            ShapeError: If a shape is wrong.
            RangeError: If a picture is not finite or outside [-1, 1].
        """
        latents = self.project_each(images, pose, labels=labels, mask=mask, seed=seed, callback=callback)
        names = latents[0].report
        report = {name: sum(latent.report[name] for latent in latents) / len(latents) for name in names}
        report["projection_seconds"] *= len(latents)
        return replace(stack(latents), report=report)

    def project_each(
        self,
        images: Tensor,
        pose: Pose,
        *,
        labels: Tensor | None = None,
        mask: Tensor | None = None,
        seed: int | None = None,
        callback: Callable[[ProjectionProgress], object] | None = None,
    ) -> tuple[Latent, ...]:
        """Project pictures as `project` does, but return one latent per picture, each with its own report.

        Args:
            images: As for `project`.
            pose: As for `project`.
            labels: As for `project`.
            mask: As for `project`.
            seed: As for `project`.
            callback: As for `project`.

        Returns:
            `B` latents of batch 1. `projection_seconds` is a picture's share of its chunk's time.

        Raises:
            ShapeError: If a shape is wrong.
            RangeError: If a picture is not finite or outside [-1, 1].
        """
        self._check(images, pose, labels, mask)
        seed = self.seed if seed is None else seed
        latents: list[Latent] = []
        fingerprint = self.generator.fingerprint
        # The caller may have switched gradients off; tensors of inference mode could not take part in them.
        with torch.inference_mode(False), frozen(self.generator, self.generator.encoder, self.features):
            for first in range(0, len(images), self.batch_size):
                part = slice(first, first + self.batch_size)
                latents += self._project_chunk(
                    images[part].detach().float().clone(),
                    pose[part].to(images.device),
                    None if labels is None else labels[part].to(images.device).long(),
                    None if mask is None else mask[part].to(images.device).float()[:, None],
                    seed,
                    first,
                    callback,
                )
        return tuple(replace(latent, model=fingerprint) for latent in latents)

    def _check(self, images: Tensor, pose: Pose, labels: Tensor | None, mask: Tensor | None) -> None:
        size = tuple(self.generator.image_size)
        if images.ndim != 4 or images.shape[1] != 3 or tuple(images.shape[2:]) != size or len(images) == 0:
            raise ShapeError(f"images: expected (B, 3, {size[0]}, {size[1]}), got {tuple(images.shape)}")
        if len(pose) != len(images):
            raise ShapeError(f"pose: expected {len(images)} poses, one per picture, got {len(pose)}")
        for name, tensor in (("labels", labels), ("mask", mask)):
            if tensor is not None and tensor.shape != (len(images), *size):
                raise ShapeError(f"{name}: expected {(len(images), *size)}, got {tuple(tensor.shape)}")
        if labels is not None and (int(labels.max()) >= self.generator.num_labels or int(labels.min()) < 0):
            raise RangeError(
                f"labels: expected classes 0..{self.generator.num_labels - 1}, got {int(labels.min())} to "
                f"{int(labels.max())}"
            )
        if not bool(torch.isfinite(images).all()) or float(images.abs().max()) > 1.001:
            raise RangeError("images: expected finite values in [-1, 1]; styletryon.images.to_tensor makes such")

    def _project_chunk(
        self,
        images: Tensor,
        pose: Pose,
        labels: Tensor | None,
        mask: Tensor | None,
        seed: int,
        first: int,
        callback: Callable[[ProjectionProgress], object] | None,
    ) -> list[Latent]:
        began = time.perf_counter()
        count = len(images)
        weight = torch.ones_like(images[:, :1]) if mask is None else mask
        known = weight
        counted = (known > 0).float()
        pixels = 3 * counted.sum(dim=(1, 2, 3)).clamp_min(1)
        if labels is not None:
            person = (labels[:, None] != int(Label.BACKGROUND)).float()
            weight = weight * (self.background + (1 - self.background) * person)
        with torch.no_grad():
            wanted = tuple(feature.detach() for feature in self.features(images))
        feature_weight = feature_weights(wanted, weight)
        pixel_weight = feature_weights([images], weight)

        with self._precision(images.device):
            draw = draw_in(self.generator, pose)
        code = self._start(images, pose, seed)
        noise = self._first_noise(count, images.device, seed)
        origin = [tensor.detach().clone() for tensor in code]
        variables = [*code, *noise]
        for variable in variables:
            variable.requires_grad_()
        adam = torch.optim.Adam(variables, lr=self.learning_rate, betas=(0.9, 0.999))
        nothing = images.new_full((count,), torch.inf)
        best = _Best(nothing, [c.detach().clone() for c in code], [n.detach().clone() for n in noise], nothing, nothing)

        for step in range(self.steps + 1):
            last = step == self.steps
            with torch.no_grad() if last else torch.enable_grad():
                drawing = self._draw(draw, code, noise)
                image = drawing.image.float()
                loss = self.pixel_weight * feature_distance([image], [images], pixel_weight)
                if self.feature_weight:
                    apart = feature_distance(self.features(image), wanted, feature_weight, deep=is_deep(self.features))
                    loss = loss + self.feature_weight * apart
                if labels is not None and self.label_weight:
                    loss = loss + self.label_weight * label_cross_entropy(drawing.logits, labels, known)
                if self.prior_weight:
                    away = [(a - b).square().flatten(1) for a, b in zip(code, origin, strict=True)]
                    loss = loss + self.prior_weight * torch.cat(away, dim=1).mean(dim=1)
                full = loss
                if noise and self.noise_weight:
                    full = loss + self.noise_weight * noise_correlation(noise)
                objective = full.sum()
            with torch.no_grad():
                apart = (image.detach().clamp(-1, 1) - images) * counted
                squares = apart.square().sum(dim=(1, 2, 3)) / pixels
                absolutes = apart.abs().sum(dim=(1, 2, 3)) / pixels
                best.keep(full.detach(), code, noise, squares, absolutes)
            if last:
                break
            adam.param_groups[0]["lr"] = self.learning_rate * rate_factor(step, self.steps)
            gradients = torch.autograd.grad(objective, variables, allow_unused=True)
            for variable, gradient in zip(variables, gradients, strict=True):
                # A picture that diverges must not take its moments, and with them its best step, along.
                variable.grad = None if gradient is None else torch.nan_to_num(gradient, 0.0, 0.0, 0.0)
            adam.step()
            renormalise(noise)
            if callback is not None:
                callback(ProjectionProgress(step + 1, self.steps, float(best.loss.mean()), first, count))
        with torch.no_grad():
            styles = tuple(style.detach().float().clone() for style in self._styles(best.code))
        seconds = (time.perf_counter() - began) / count
        latents = []
        for index in range(count):
            part = slice(index, index + 1)
            square = max(float(best.squares[index]), 1e-10)
            latents.append(
                Latent(
                    styles=tuple(style[part].clone() for style in styles),
                    pose=pose[part],
                    noise=tuple(layer[part].clone() for layer in best.noise) if self.noise else None,
                    report={
                        "reconstruction_psnr": 10 * float(torch.log10(torch.tensor(4 / square))),
                        "reconstruction_l1": float(best.absolutes[index]),
                        "projection_loss": float(best.loss[index]),
                        "projection_seconds": seconds,
                        "projection_steps": float(self.steps),
                    },
                )
            )
        return latents

    def _precision(self, device: torch.device) -> torch.autocast:
        dtype = self.autocast
        return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)

    def _draw(self, draw: PosedDrawer, code: list[Tensor], noise: list[Tensor]) -> Drawing:
        with self._precision(code[0].device):
            return draw(self._styles(code), noise=tuple(noise) if self.noise else None)

    def _styles(self, code: list[Tensor]) -> Styles:
        if self.space == "s":
            return tuple(code)
        latent = code[0]
        if self.space == "z":
            latent = self.generator.mapping(latent)
        elif self.space == "z+":
            latent = self.generator.mapping(latent.flatten(0, 1)).view(*latent.shape[:2], -1)
        return self.generator.affine(latent)

    @torch.no_grad()
    def _start(self, images: Tensor, pose: Pose, seed: int) -> list[Tensor]:
        layers = len(self.generator.style_channels)
        if self.start == "encoder" and self.generator.encoder is not None:
            w = self.generator.encoder(images, pose).float()
        else:
            w = self.generator.w_mean.to(images.device).float().expand(len(images), -1)
        if self.space == "s":
            return [style.detach().float().clone() for style in self.generator.affine(w)]
        if self.space in ("z", "z+"):
            rng = torch.Generator().manual_seed(seed)
            z = torch.randn(_CANDIDATES, self.generator.z_dim, generator=rng).to(images.device)
            w = z[torch.cdist(w, self.generator.mapping(z).float()).argmin(dim=1)]
        if self.space.endswith("+"):
            w = w[:, None].expand(-1, layers, -1)
        return [w.clone()]

    def _first_noise(self, count: int, device: torch.device, seed: int) -> list[Tensor]:
        if not self.noise:
            return []
        rng = torch.Generator().manual_seed(seed)
        # The same for each picture, so that none depends on its place in the batch.
        noise = [
            torch.randn(1, 1, *shape, generator=rng).to(device).repeat(count, 1, 1, 1)
            for shape in self.generator.noise_shapes
        ]
        renormalise(noise)
        return noise


