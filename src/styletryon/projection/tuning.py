"""Pivotal tuning: a copy of the generator learns to draw one photograph almost exactly.

After Roich, Mokady, Bermano and Cohen-Or, "Pivotal Tuning for Latent-based Editing of Real Images" (arXiv 2106.05744):
the latent that a projection found stays, the pivot, and the weights move; where the latent is another, the generator
shall go on drawing what it drew before, which the paper calls locality regularisation.

Differs from the paper: only the weights that the generator offers move; the distance is that of the projection; the
latents of the locality term lie anywhere between the pivot and random ones, not at one distance from it; and that term
is computed at every third step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from styletryon._arguments import seeded
from styletryon._graphs import Adam
from styletryon.errors import RangeError
from styletryon.features import FeatureNetwork, feature_distance, feature_weights
from styletryon.features.base import is_deep
from styletryon.generator import GeneratorOutput, TunableGenerator, draw_in
from styletryon.labels import Label
from styletryon.latent import Latent, Styles
from styletryon.projection.schedule import rate_factor

_INTERVAL = 3  # Every how many steps the original is compared with elsewhere: a step with it costs thrice one without.
_SQUARES = 12.0  # Weight of the squared difference, which the last decibels are about.
_LABELS = 0.1  # Weight of the segmentation against the picture.
_FEATURES = 0.25  # Weight of the features against that in a projection: the pivot has dealt with the coarse.
_BACKDROP = 0.05  # What a pixel away from the person counts: photographs keep their own background.


@dataclass(frozen=True)
class Tuning:
    """Settings of pivotal tuning.

    Attributes:
        steps: How many steps of Adam.
        rate: Its highest rate.
        locality: Weight of the locality term.
        features: The feature network.
        pixel_weight: Weight of the mean absolute difference of the pixels.
        feature_weight: Weight of the distance of the features.
        seed: Of the random latents.
        autocast: A dtype in which the generator computes; None: its own.
    """

    steps: int
    rate: float
    locality: float
    features: FeatureNetwork
    pixel_weight: float
    feature_weight: float
    seed: int
    autocast: torch.dtype | None = None

    def precision(self, device: str) -> torch.autocast:
        """Return the context in which the generator draws."""
        return torch.autocast(device, dtype=self.autocast or torch.bfloat16, enabled=self.autocast is not None)


def tune_weights(
    generator: TunableGenerator,
    latent: Latent,
    images: Tensor,  # (B, 3, H, W) in [-1, 1]
    known: Tensor,  # (B, 1, H, W) in [0, 1]
    settings: Tuning,
    tell: Callable[[int, float], None],
) -> Mapping[str, Tensor]:
    """Find what to add to a generator's weights so that it draws pictures from their latents.

    Args:
        generator: Left as it is.
        latent: The pivots of `B` pictures, which one set of weights shall draw.
        images: The pictures.
        known: Which pixels count.
        settings: How to go about it.
        tell: Is told of each step: its number from 1, and the loss.

    Returns:
        Name of a weight -> what to add to it.

    Raises:
        RangeError: If the weights cease to be finite.
    """
    copy = generator.tuned({})
    weights = {name: copy.get_parameter(name) for name in generator.tunable}
    start = {name: weight.detach().clone() for name, weight in weights.items()}
    with settings.precision(images.device.type):
        objective = _Objective(generator, copy, latent, images, known, settings)
    adam = Adam([weight.data for weight in weights.values()], betas=(0.9, 0.99))
    for weight in weights.values():
        weight.requires_grad_(True)
    for step in range(settings.steps):
        with torch.enable_grad(), settings.precision(images.device.type):
            loss = objective.at(step)
        adam.set_rate(settings.rate * rate_factor(step, settings.steps, warmup=0.02, decay=0.4))
        adam.step(torch.autograd.grad(loss, list(weights.values()), allow_unused=True))
        tell(step + 1, float(loss.detach()))
    changes = {name: (weight.detach() - start[name]) for name, weight in weights.items()}
    broken = [name for name, change in changes.items() if not bool(torch.isfinite(change).all())]
    if broken:
        raise RangeError(
            f"expected one under which the weights stay finite, got {settings.rate}, under which "
            f"{broken[0]} did not",
            argument="tuning_rate",
        )
    return changes


class _Objective:
    """What tuning lowers: the distance from the pictures at the pivots, and from the original elsewhere."""

    def __init__(
        self,
        original: TunableGenerator,
        copy: TunableGenerator,
        latent: Latent,
        images: Tensor,
        known: Tensor,
        settings: Tuning,
    ) -> None:
        self.latent, self.images, self.settings = latent, images, settings
        self.original = original
        # The encoded pose is the same for both: its weights do not move.
        self.draw_original, self.draw = draw_in(original, latent.pose), draw_in(copy, latent.pose)
        self.random = seeded(settings.seed)
        with torch.no_grad():
            self.pivot = self.draw_original(latent.styles, noise=latent.noise)
            person = 1 - self.pivot.probabilities[:, int(Label.BACKGROUND)][:, None]
            person = functional.max_pool2d(person, 5, 1, 2)
            weight = known * (_BACKDROP + (1 - _BACKDROP) * person)
            self.wanted = settings.features(images)
            self.pixel_weight = feature_weights([images], weight)
            self.feature_weight = feature_weights(self.wanted, weight)

    def at(self, step: int) -> Tensor:
        """The loss at a step."""
        settings = self.settings
        drawing = self.draw(self.latent.styles, noise=self.latent.noise)
        image = drawing.image.float()
        apart = settings.pixel_weight * feature_distance([image], [self.images], self.pixel_weight)
        squares = (image - self.images).square().mean(dim=1, keepdim=True)
        apart = apart + _SQUARES * (squares * self.pixel_weight[0]).sum(dim=(1, 2, 3))
        if settings.feature_weight:
            features, deep = settings.features(image), is_deep(settings.features)
            found = feature_distance(features, self.wanted, self.feature_weight, deep=deep)
            apart = apart + _FEATURES * settings.feature_weight * found
        loss = apart.mean() + _LABELS * (drawing.logits - self.pivot.logits).abs().mean()
        if settings.locality and step % _INTERVAL == 0:
            styles = self._elsewhere()
            with torch.no_grad():
                before = self.draw_original(styles, noise=self.latent.noise)
            loss = loss + settings.locality * _difference(self.draw(styles, noise=self.latent.noise), before)
        return loss

    @torch.no_grad()
    def _elsewhere(self) -> Styles:
        """Draw latents between the pivots and random ones."""
        count, device = len(self.latent), self.latent.device
        z = torch.randn(
            count, self.original.z_dim, generator=self.random, dtype=torch.float32, device="cpu"
        ).to(device)
        share = torch.rand(count, 1, generator=self.random, dtype=torch.float32, device="cpu").to(device)
        others = self.original.affine(self.original.mapping(z))
        return tuple(torch.lerp(own, other, share) for own, other in zip(self.latent.styles, others, strict=True))


def _difference(drawing: GeneratorOutput, before: GeneratorOutput) -> Tensor:
    return (drawing.image - before.image).abs().mean() + _LABELS * (drawing.logits - before.logits).abs().mean()
