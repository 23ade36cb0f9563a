"""The losses of a micro-batch, and from them the gradients of both networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from styletryon.errors import ConfigError
from styletryon.generator import GeneratorOutput
from styletryon.labels import REGIONS
from styletryon.latent import Styles
from styletryon.models import PoseDiscriminator, PoseStyleGAN2, ProjectedDiscriminator
from styletryon.pose import Pose
from styletryon.training import objectives
from styletryon.training.adaptive import NUMBERS, adaptive_change
from styletryon.training.compiling import compiled
from styletryon.training.config import Stage, TrainingConfig
from styletryon.training.distributed import BatchSplit
from styletryon.training.loading import Examples, GarmentSwap, MicroBatch
from styletryon.training.perceptual import PerceptualTerm
from styletryon.training.precision import Precision
from styletryon.training.randomness import UnitStreams

_PICTURES, _PATHS, _DRAWN, _REAL = 3, 4, 5, 6  # what random numbers are for; see `UnitStreams`


@dataclass(frozen=True, eq=False)
class MicroBatchLosses:
    """The losses of a micro-batch, weighted so that their sum over micro-batches is the mean over the batch.

    Attributes:
        losses: Name -> number.
        code: `(w_dim,)` the mean of the codes of real pictures, or of w where there is no encoder; None if neither was
            made.
    """

    losses: Mapping[str, Tensor]
    code: Tensor | None


class _Drawings(NamedTuple):
    """Reconstructions and random people of a micro-batch, either of which may be missing."""

    parts: list[tuple[GeneratorOutput, Pose]]
    codes: Tensor | None
    code: Tensor | None
    reconstructed: bool


class _Augmentation(NamedTuple):
    """The random changes of one step to what the discriminator is about to see."""

    seed: int
    step: int
    units: range
    strength: float

    def apply(
        self, images: Tensor, labels: Tensor, pose: Pose, *, counts: Sequence[int], purpose: int
    ) -> tuple[Tensor, Tensor, Pose]:
        """Change pictures, labels and poses, of which each unit has so many."""
        if not self.strength:
            return images, labels, pose
        # On the CPU: the host asks which pictures are moved.
        numbers = UnitStreams(self.seed, self.step, purpose, self.units).normal(counts, NUMBERS)
        return adaptive_change(numbers, self.strength).apply(images, labels, pose)


class GradientAccumulator:
    """Adds the gradients of micro-batches to those that the weights have.

    Losses are means over samples, so those of a micro-batch count by its part of the batch. Whatever compares samples
    (the discriminator's mini-batch deviation) or mixes them (style mixing) stays within the units of `BatchSplit`.

    Args:
        generator: The generator.
        discriminator: The discriminator.
        config: The settings.
        split: The split of the batch.
        precision: The format of the networks.
        compile: Whether drawing and encoding are compiled. The discriminator's graph is walked through twice, and path
            lengths and R1 need second derivatives, which compiled code does not have.
    """

    def __init__(
        self,
        generator: PoseStyleGAN2,
        discriminator: PoseDiscriminator | ProjectedDiscriminator,
        config: TrainingConfig,
        split: BatchSplit,
        precision: Precision,
        *,
        compile: bool = False,
    ) -> None:
        self.generator = generator
        self.discriminator = discriminator
        self.config = config
        self.split = split
        self.precision = precision
        self._synthesize = compiled(generator.synthesize, "drawing", enabled=compile)
        self._encode = compiled(encode, "encoding", enabled=compile)
        self._perceptual = None if config.perceptual is None else PerceptualTerm(config.perceptual, generator.device)
        hinge = config.projected is not None
        self._fooled = objectives.generator_hinge if hinge else objectives.generator_logistic
        self._told_apart = objectives.discriminator_hinge if hinge else objectives.discriminator_logistic
        self._orders: dict[tuple[int, ...], Tensor] = {}

    def accumulate(
        self, batch: MicroBatch, stage: Stage, step: int, *, penalise: bool = False, strength: float = 0.0
    ) -> MicroBatchLosses:
        """Add the gradients of a micro-batch to those of both networks.

        Args:
            batch: The micro-batch, on the networks' device.
            stage: What is minimised.
            step: Number of the step; random numbers follow from it.
            penalise: Whether the R1 penalty is due; a projected discriminator has none.
            strength: Probability of each change of what the discriminator sees; see
                `styletryon.training.adaptive.adaptive_change`.
        """
        drawn = self._draw(batch, stage, step)
        weight = self.split.weight
        losses: dict[str, Tensor] = {}
        if drawn.reconstructed:
            drawing = drawn.parts[0][0]
            terms = self._compare(drawing, batch.target)
            if drawn.codes is not None and self.generator.config.body_maps:
                waves = objectives.printed_waves(batch.source.images, batch.source.labels, batch.source.pose)
                terms["print"] = objectives.print_distance(self.generator.wave_styles(drawn.codes), waves)
            losses = {name: stage.reconstruction * weight * term for name, term in terms.items()}
        ends = [self.precision.scaled(term) for term in losses.values() if term.requires_grad]
        gradients: list[Tensor | None] = [None] * len(ends)
        fake: Tensor | None = None
        if stage.adversarial:
            augmentation = _Augmentation(self.config.seed, step, self.split.units(batch.part), strength)
            fake, adversarial, at_drawings = self._adversarial_gradients(drawn.parts, batch, stage, augmentation)
            losses |= adversarial
            ends += [part for drawing, _ in drawn.parts for part in (drawing.image, drawing.logits)]
            gradients += at_drawings
        torch.autograd.backward(ends, gradients, inputs=_trained(self.generator))
        if fake is not None:
            losses |= self._discriminator_gradients(
                batch.target, fake, augmentation, sizes=self.split.sizes(batch.part), penalise=penalise
            )
        return MicroBatchLosses({name: loss.detach() for name, loss in losses.items()}, drawn.code)

    def accumulate_path_lengths(self, batch: MicroBatch, step: int, path_mean: Tensor) -> tuple[Tensor, Tensor]:
        """Add the gradient of the path-length penalty to the generator's, for half of a batch.

        Args:
            batch: The micro-batch, on the networks' device.
            step: Number of the step.
            path_mean: What the lengths shall be: their mean over the steps before.

        Returns:
            The penalty and the mean length, weighted.
        """
        sizes = self.split.sizes(batch.part)
        counts = [max(size // 2, 1) for size in sizes]
        streams = self._streams(batch, step, _PATHS)
        # In full precision: second derivatives of half precision are mostly rounding.
        w = self.generator.mapping(streams.normal(counts, self.generator.z_dim))
        pose = _first_of_units(batch.target.pose, sizes, counts)
        noise = self._noise(streams, counts)
        images = self.generator.synthesize(self.generator.affine(w), pose, noise=noise).image
        lengths = objectives.path_lengths(images, w, streams.normal(counts, *images.shape[1:]))
        penalty = (lengths - path_mean).square().mean() * self.split.weight
        strength = self.config.path_length * self.config.path_interval
        torch.autograd.backward([penalty * strength], inputs=_trained(self.generator))
        return penalty.detach(), lengths.detach().mean() * self.split.weight

    # ------------------------------------------------------------------ the generator

    def _compare(self, drawing: GeneratorOutput, target: Examples) -> dict[str, Tensor]:
        images, labels = _at_level(target, drawing)
        settings = self.config.perceptual
        terms = objectives.reconstruction(
            drawing, images, labels, target.pose, finest=0 if settings is None else settings.finest
        )
        if self._perceptual is not None:
            with self.precision.autocast():
                terms["perceptual"] = self._perceptual(drawing.image, images, labels)
        return terms

    def _draw(self, batch: MicroBatch, stage: Stage, step: int) -> _Drawings:
        parts: list[tuple[GeneratorOutput, Pose]] = []
        codes = code = None
        reconstructed = self.generator.encoder is not None and bool(stage.reconstruction)
        with self.precision.autocast():
            if reconstructed:
                codes, styles = self._encode(self.generator, batch.source, batch.swap)
                drawing = self._synthesize(styles, batch.target.pose, num_levels=stage.num_levels or None)
                parts.append((drawing, batch.target.pose))
                code = codes.detach().float().mean(dim=0) * self.split.weight
            if stage.adversarial:
                sampled, pose, first = self._sample(batch, codes, step)
                parts.append((sampled, pose))
                if code is None:
                    code = first.detach().float().mean(dim=0) * self.split.weight
        return _Drawings(parts, codes, code, reconstructed)

    def _sample(self, batch: MicroBatch, codes: Tensor | None, step: int) -> tuple[GeneratorOutput, Pose, Tensor]:
        """Draw random people, some of whom mix two styles; beside a reconstruction a quarter of each unit will do.

        Returns:
            The drawing, its poses, and the first w of each.
        """
        sizes = self.split.sizes(batch.part)
        counts = [size if codes is None else max(size // 4, 1) for size in sizes]
        streams, z_dim = self._streams(batch, step, _PICTURES), self.generator.z_dim
        first = self.generator.mapping(streams.normal(counts, z_dim))
        layers = len(self.generator.style_names)
        crossover = 1 + (streams.uniform(counts) * (layers - 1)).long()
        mixed = streams.uniform(counts) < self.config.style_mixing
        place = streams.uniform(counts)
        if codes is None:
            second = self.generator.mapping(streams.normal(counts, z_dim))
        else:
            extent = place.new_tensor([size for size, count in zip(sizes, counts, strict=True) for _ in range(count)])
            start = place.new_tensor([sum(sizes[:u]) for u, count in enumerate(counts) for _ in range(count)])
            second = codes.detach()[(start + (place * extent).floor()).long()]  # of somebody of the same unit
        take_second = (torch.arange(layers, device=mixed.device) >= crossover[:, None]) & mixed[:, None]
        w = torch.where(take_second[..., None], second[:, None].float(), first[:, None].float())
        pose = _first_of_units(batch.target.pose, sizes, counts)
        styles = self.generator.affine(w)
        # With fresh noise maps, so that the generator learns what noise is for.
        return self._synthesize(styles, pose, noise=self._noise(streams, counts)), pose, first

    def _noise(self, streams: UnitStreams, counts: Sequence[int]) -> tuple[Tensor, ...]:
        return tuple(streams.normal(counts, 1, *shape) for shape in self.generator.noise_shapes)

    def _streams(self, batch: MicroBatch, step: int, purpose: int) -> UnitStreams:
        device = self.generator.device
        return UnitStreams(self.config.seed, step, purpose, self.split.units(batch.part), device)

    # ------------------------------------------------------------------ the discriminator

    def _adversarial_gradients(
        self,
        parts: Sequence[tuple[GeneratorOutput, Pose]],
        batch: MicroBatch,
        stage: Stage,
        augmentation: _Augmentation,
    ) -> tuple[Tensor, dict[str, Tensor], list[Tensor]]:
        """Show the drawings to the discriminator, once.

        The generator learns from the gradient at the drawings, and the discriminator, which the generator's step leaves
        as it is, from that to its weights.

        Returns:
            The logits, the losses, and the gradients at the drawings, scaled.
        """
        leaves = [_leaf(drawing) for drawing, _ in parts]
        with self.precision.autocast():
            fake = self._discriminate(leaves, [pose for _, pose in parts], self.split.sizes(batch.part), augmentation)
        loss = stage.adversarial * self.split.weight * self._fooled(fake)
        inputs = [part for leaf in leaves for part in (leaf.image, leaf.logits)]
        gradients = list(torch.autograd.grad(self.precision.scaled(loss), inputs, retain_graph=True))
        # The norm at one drawing, of its own loss: what tells whether the discriminator still teaches.
        squares = [gradient.flatten(1).float().square().sum(dim=1) for gradient in gradients]
        norms = torch.cat([image + labels for image, labels in zip(squares[::2], squares[1::2], strict=True)]).sqrt()
        own = self.precision.unscaled(norms.sum()) / stage.adversarial  # the mean norm at drawings of mean loss
        return fake, {"adversarial": loss, "adversarial_gradient": own}, gradients

    def _discriminate(
        self,
        drawings: Sequence[GeneratorOutput],
        poses: Sequence[Pose],
        sizes: tuple[int, ...],
        augmentation: _Augmentation,
    ) -> Tensor:
        """Return the logits of drawings, unit by unit: a reconstruction is compared with random people of its unit."""
        images = torch.cat([drawing.image.float() for drawing in drawings])
        labels = torch.cat([objectives.hard_labels(drawing.logits) for drawing in drawings])
        keypoints = torch.cat([pose.keypoints for pose in poses])
        group, counts = self.config.discriminator.group_size, list(sizes)
        if len(drawings) == 2:
            order = self._order(sizes, images.device)
            images, labels, keypoints = images[order], labels[order], keypoints[order]
            counts = [size + max(size // 4, 1) for size in sizes]
            group = counts[0]
        pose = Pose(keypoints, poses[0].size)
        images, labels, pose = augmentation.apply(images, labels, pose, counts=counts, purpose=_DRAWN)
        logits: Tensor = self.discriminator(images, labels, pose, group_size=group)
        return logits

    def _order(self, sizes: tuple[int, ...], device: torch.device) -> Tensor:
        """Return the order that brings each unit's reconstructions and its random people together."""
        if sizes not in self._orders:
            order: list[int] = []
            real, random = 0, sum(sizes)
            for size in sizes:
                count = max(size // 4, 1)
                order += [*range(real, real + size), *range(random, random + count)]
                real, random = real + size, random + count
            self._orders[sizes] = torch.tensor(order, device=device)
        return self._orders[sizes]

    def _discriminator_gradients(
        self, real: Examples, fake: Tensor, augmentation: _Augmentation, *, sizes: tuple[int, ...], penalise: bool
    ) -> dict[str, Tensor]:
        """Add the gradient of the discriminator's loss to its weights' own."""
        weight = self.split.weight
        labels = objectives.one_hot(real.labels, self.generator.num_labels)
        images, labels, pose = augmentation.apply(real.images, labels, real.pose, counts=sizes, purpose=_REAL)
        with self.precision.autocast():
            logits = self.discriminator(images, labels, pose)
        losses = {"discriminator": weight * self._told_apart(logits, fake)}
        loss = losses["discriminator"]
        if penalise and self.config.projected is None:
            inputs = (images.detach().requires_grad_(), labels.requires_grad_())
            # In full precision: second derivatives of half precision are mostly rounding.
            losses["r1"] = weight * objectives.r1_penalty(self.discriminator(*inputs, pose), inputs)
            loss = loss + 0.5 * self.config.r1 * self.config.r1_interval * losses["r1"]
        torch.autograd.backward([self.precision.scaled(loss)], inputs=_trained(self.discriminator))
        losses |= {"real": weight * logits.mean(), "fake": weight * fake.mean()}
        if self.config.adaptive is not None:
            losses["real_sign"] = weight * logits.sign().mean()
        return losses


def encode(generator: PoseStyleGAN2, source: Examples, swap: GarmentSwap | None) -> tuple[Tensor, Styles]:
    """Return the codes of people, and their styles, those of some moved towards their new clothes.

    Raises:
        ConfigError: If the generator has no encoder.
    """
    if generator.encoder is None:
        raise ConfigError("the generator has no encoder", argument="encoder")
    if swap is None:
        codes = generator.encoder(source.images, source.pose)
        return codes, generator.affine(codes)
    count, worn, rows = len(source.pose), swap.garments, swap.rows
    both = Pose(torch.cat([source.pose.keypoints, worn.pose.keypoints]), source.pose.size)
    codes = generator.encoder(torch.cat([source.images, worn.images]), both)
    masks = [generator.channel_masks(REGIONS[region]) or () for region in swap.regions]
    styles = []
    for style, *weights in zip(generator.affine(codes), *masks, strict=True):
        own, other = style[:count], style[count:]
        styles.append(own.index_copy(0, rows, torch.lerp(own[rows], other, torch.stack(weights))))
    return codes[:count], tuple(styles)


def _trained(network: torch.nn.Module) -> list[Tensor]:
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def _leaf(drawing: GeneratorOutput) -> GeneratorOutput:
    """Return the same drawing, where gradients end."""
    return GeneratorOutput(drawing.image.detach().requires_grad_(), drawing.logits.detach().requires_grad_())


def _at_level(target: Examples, drawing: GeneratorOutput) -> tuple[Tensor, Tensor]:
    """Return pictures and labels at the size of a drawing."""
    factor = target.images.shape[-1] // drawing.image.shape[-1]
    if factor == 1:
        return target.images, target.labels
    return F.avg_pool2d(target.images, factor), target.labels[:, factor // 2 :: factor, factor // 2 :: factor]


def _first_of_units(pose: Pose, sizes: Sequence[int], counts: Sequence[int]) -> Pose:
    """Return the poses of the first samples of each unit."""
    if list(counts) == list(sizes):
        return pose
    units = torch.split(pose.keypoints, list(sizes))
    return Pose(torch.cat([unit[:count] for unit, count in zip(units, counts, strict=True)]), pose.size)
