"""What a share of a batch teaches: the losses, and from them the gradients of both networks."""

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
from styletryon.models import PoseDiscriminator, PoseStyleGAN2
from styletryon.pose import Pose
from styletryon.training import objectives
from styletryon.training.adaptive import NUMBERS, adaptive_change
from styletryon.training.compiling import compiled
from styletryon.training.config import Stage, TrainingConfig
from styletryon.training.distributed import Division
from styletryon.training.feeding import Examples, Exchange, Share
from styletryon.training.precision import Precision
from styletryon.training.randomness import UnitStreams

_PICTURES, _PATHS, _DRAWN, _REAL = 3, 4, 5, 6  # what random numbers are for; see `UnitStreams`


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a share taught; everything is weighted, so that the sum over shares is the mean over the batch.

    Attributes:
        losses: Name -> number.
        code: `(w_dim,)` the mean of the codes of real pictures, or of w where there is no encoder; None if neither was
            made.
    """

    losses: Mapping[str, Tensor]
    code: Tensor | None


class _Drawn(NamedTuple):
    """Reconstructions and imagined people of a share, either of which may be missing."""

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


class Learner:
    """Adds the gradients of shares to those of the weights.

    Losses are means over samples, so those of a share count by its part of the batch. Whatever compares samples (the
    discriminator's mini-batch deviation) or mixes them (style mixing) stays within the units of `Division`.

    Args:
        generator: The generator.
        discriminator: The discriminator.
        config: The settings.
        division: How the batch is shared.
        precision: In which format the networks run.
        compile: Whether drawing and encoding are compiled. The discriminator's graph is walked through twice, and path
            lengths and R1 need second derivatives, which compiled code does not have.
    """

    def __init__(
        self,
        generator: PoseStyleGAN2,
        discriminator: PoseDiscriminator,
        config: TrainingConfig,
        division: Division,
        precision: Precision,
        *,
        compile: bool = False,
    ) -> None:
        self.generator = generator
        self.discriminator = discriminator
        self.config = config
        self.division = division
        self.precision = precision
        self._synthesize = compiled(generator.synthesize, "drawing", enabled=compile)
        self._encode = compiled(encode, "encoding", enabled=compile)
        self._orders: dict[tuple[int, ...], Tensor] = {}

    def learn(
        self, share: Share, stage: Stage, step: int, *, penalise: bool = False, strength: float = 0.0
    ) -> Lesson:
        """Add what a share teaches both networks to their gradients.

        Args:
            share: The share, on the networks' device.
            stage: What is minimised.
            step: Number of the step; random numbers follow from it.
            penalise: Whether the R1 penalty is due.
            strength: Probability of each change of what the discriminator sees; see
                `styletryon.training.adaptive.adaptive_change`.
        """
        drawn = self._draw(share, stage, step)
        weight = self.division.weight
        losses: dict[str, Tensor] = {}
        if drawn.reconstructed:
            drawing = drawn.parts[0][0]
            terms = objectives.reconstruction(drawing, *_at_level(share.target, drawing), share.target.pose)
            if drawn.codes is not None and self.generator.config.body_maps:
                waves = objectives.printed_waves(share.source.images, share.source.labels, share.source.pose)
                terms["print"] = objectives.print_distance(self.generator.wave_styles(drawn.codes), waves)
            losses = {name: stage.reconstruction * weight * term for name, term in terms.items()}
        ends = [self.precision.scaled(term) for term in losses.values() if term.requires_grad]
        gradients: list[Tensor | None] = [None] * len(ends)
        fake: Tensor | None = None
        if stage.adversarial:
            augmentation = _Augmentation(self.config.seed, step, self.division.units(share.part), strength)
            fake, adversarial, at_drawings = self._fool(drawn.parts, share, stage, augmentation)
            losses |= adversarial
            ends += [part for drawing, _ in drawn.parts for part in (drawing.image, drawing.logits)]
            gradients += at_drawings
        torch.autograd.backward(ends, gradients, inputs=_trained(self.generator))
        if fake is not None:
            losses |= self._tell_apart(
                share.target, fake, augmentation, sizes=self.division.sizes(share.part), penalise=penalise
            )
        return Lesson({name: loss.detach() for name, loss in losses.items()}, drawn.code)

    def learn_paths(self, share: Share, step: int, path_mean: Tensor) -> tuple[Tensor, Tensor]:
        """Add the gradient of the path-length penalty to the generator's, for half of a share.

        Args:
            share: The share, on the networks' device.
            step: Number of the step.
            path_mean: What the lengths shall be: their mean over the steps before.

        Returns:
            The penalty and the mean length, weighted.
        """
        sizes = self.division.sizes(share.part)
        counts = [max(size // 2, 1) for size in sizes]
        streams = self._streams(share, step, _PATHS)
        # In full precision: second derivatives of half precision are mostly rounding.
        w = self.generator.mapping(streams.normal(counts, self.generator.z_dim))
        pose = _first_of_units(share.target.pose, sizes, counts)
        noise = self._noise(streams, counts)
        images = self.generator.synthesize(self.generator.affine(w), pose, noise=noise).image
        lengths = objectives.path_lengths(images, w, streams.normal(counts, *images.shape[1:]))
        penalty = (lengths - path_mean).square().mean() * self.division.weight
        strength = self.config.path_length * self.config.path_interval
        torch.autograd.backward([penalty * strength], inputs=_trained(self.generator))
        return penalty.detach(), lengths.detach().mean() * self.division.weight

    # ------------------------------------------------------------------ the generator

    def _draw(self, share: Share, stage: Stage, step: int) -> _Drawn:
        parts: list[tuple[GeneratorOutput, Pose]] = []
        codes = code = None
        reconstructed = self.generator.encoder is not None and bool(stage.reconstruction)
        with self.precision.autocast():
            if reconstructed:
                codes, styles = self._encode(self.generator, share.source, share.exchange)
                drawing = self._synthesize(styles, share.target.pose, num_levels=stage.num_levels or None)
                parts.append((drawing, share.target.pose))
                code = codes.detach().float().mean(dim=0) * self.division.weight
            if stage.adversarial:
                imagined, pose, first = self._imagine(share, codes, step)
                parts.append((imagined, pose))
                if code is None:
                    code = first.detach().float().mean(dim=0) * self.division.weight
        return _Drawn(parts, codes, code, reconstructed)

    def _imagine(self, share: Share, codes: Tensor | None, step: int) -> tuple[GeneratorOutput, Pose, Tensor]:
        """Draw random people, some of whom mix two styles; beside a reconstruction a quarter of each unit will do.

        Returns:
            The drawing, its poses, and the first w of each.
        """
        sizes = self.division.sizes(share.part)
        counts = [size if codes is None else max(size // 4, 1) for size in sizes]
        streams, z_dim = self._streams(share, step, _PICTURES), self.generator.z_dim
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
        pose = _first_of_units(share.target.pose, sizes, counts)
        styles = self.generator.affine(w)
        # With fresh noise maps, so that the generator learns what noise is for.
        return self._synthesize(styles, pose, noise=self._noise(streams, counts)), pose, first

    def _noise(self, streams: UnitStreams, counts: Sequence[int]) -> tuple[Tensor, ...]:
        return tuple(streams.normal(counts, 1, *shape) for shape in self.generator.noise_shapes)

    def _streams(self, share: Share, step: int, purpose: int) -> UnitStreams:
        device = self.generator.device
        return UnitStreams(self.config.seed, step, purpose, self.division.units(share.part), device)

    # ------------------------------------------------------------------ the discriminator

    def _fool(
        self, parts: Sequence[tuple[GeneratorOutput, Pose]], share: Share, stage: Stage, augmentation: _Augmentation
    ) -> tuple[Tensor, dict[str, Tensor], list[Tensor]]:
        """Let the discriminator judge the drawings, once.

        The generator learns from the gradient at the drawings, and the discriminator, which the generator's step leaves
        as it is, from that to its weights.

        Returns:
            The judgements, the losses, and the gradients at the drawings, scaled.
        """
        leaves = [_leaf(drawing) for drawing, _ in parts]
        with self.precision.autocast():
            fake = self._judge(leaves, [pose for _, pose in parts], self.division.sizes(share.part), augmentation)
        loss = stage.adversarial * self.division.weight * objectives.generator_logistic(fake)
        inputs = [part for leaf in leaves for part in (leaf.image, leaf.logits)]
        gradients = list(torch.autograd.grad(self.precision.scaled(loss), inputs, retain_graph=True))
        # The norm at one drawing, of its own loss: what tells whether the discriminator still teaches.
        squares = [gradient.flatten(1).float().square().sum(dim=1) for gradient in gradients]
        norms = torch.cat([image + labels for image, labels in zip(squares[::2], squares[1::2], strict=True)]).sqrt()
        own = self.precision.unscaled(norms.sum()) / stage.adversarial  # the mean norm at drawings of mean loss
        return fake, {"adversarial": loss, "adversarial_gradient": own}, gradients

    def _judge(
        self,
        drawings: Sequence[GeneratorOutput],
        poses: Sequence[Pose],
        sizes: tuple[int, ...],
        augmentation: _Augmentation,
    ) -> Tensor:
        """Judge drawings unit by unit: a reconstruction is compared with the imagined people of its unit."""
        images = torch.cat([drawing.image.float() for drawing in drawings])
        labels = torch.cat([objectives.hard_labels(drawing.logits) for drawing in drawings])
        keypoints = torch.cat([pose.keypoints for pose in poses])
        group, counts = self.discriminator.config.group_size, list(sizes)
        if len(drawings) == 2:
            order = self._order(sizes, images.device)
            images, labels, keypoints = images[order], labels[order], keypoints[order]
            counts = [size + max(size // 4, 1) for size in sizes]
            group = counts[0]
        pose = Pose(keypoints, poses[0].size)
        images, labels, pose = augmentation.apply(images, labels, pose, counts=counts, purpose=_DRAWN)
        judged: Tensor = self.discriminator(images, labels, pose, group_size=group)
        return judged

    def _order(self, sizes: tuple[int, ...], device: torch.device) -> Tensor:
        """Return the order that brings each unit's reconstructions and its imagined people together."""
        if sizes not in self._orders:
            order: list[int] = []
            real, imagined = 0, sum(sizes)
            for size in sizes:
                count = max(size // 4, 1)
                order += [*range(real, real + size), *range(imagined, imagined + count)]
                real, imagined = real + size, imagined + count
            self._orders[sizes] = torch.tensor(order, device=device)
        return self._orders[sizes]

    def _tell_apart(
        self, real: Examples, fake: Tensor, augmentation: _Augmentation, *, sizes: tuple[int, ...], penalise: bool
    ) -> dict[str, Tensor]:
        """Add the gradient of the discriminator's loss to its weights' own."""
        weight = self.division.weight
        labels = objectives.one_hot(real.labels, self.generator.num_labels)
        images, labels, pose = augmentation.apply(real.images, labels, real.pose, counts=sizes, purpose=_REAL)
        with self.precision.autocast():
            logits = self.discriminator(images, labels, pose)
        losses = {"discriminator": weight * objectives.discriminator_logistic(logits, fake)}
        loss = losses["discriminator"]
        if penalise:
            inputs = (images.detach().requires_grad_(), labels.requires_grad_())
            # In full precision: second derivatives of half precision are mostly rounding.
            losses["r1"] = weight * objectives.r1_penalty(self.discriminator(*inputs, pose), inputs)
            loss = loss + 0.5 * self.config.r1 * self.config.r1_interval * losses["r1"]
        torch.autograd.backward([self.precision.scaled(loss)], inputs=_trained(self.discriminator))
        losses |= {"real": weight * logits.mean(), "fake": weight * fake.mean()}
        if self.config.adaptive is not None:
            losses["real_sign"] = weight * logits.sign().mean()
        return losses


def encode(generator: PoseStyleGAN2, source: Examples, exchange: Exchange | None) -> tuple[Tensor, Styles]:
    """Return the codes of people, and their styles, those of some moved towards their new clothes.

    Raises:
        ConfigError: If the generator has no encoder.
    """
    if generator.encoder is None:
        raise ConfigError("the generator has no encoder", argument="encoder")
    if exchange is None:
        codes = generator.encoder(source.images, source.pose)
        return codes, generator.affine(codes)
    count, worn, rows = len(source.pose), exchange.garments, exchange.rows
    both = Pose(torch.cat([source.pose.keypoints, worn.pose.keypoints]), source.pose.size)
    codes = generator.encoder(torch.cat([source.images, worn.images]), both)
    masks = [generator.channel_masks(REGIONS[region]) or () for region in exchange.regions]
    styles = []
    for style, *share in zip(generator.affine(codes), *masks, strict=True):
        own, other = style[:count], style[count:]
        styles.append(own.index_copy(0, rows, torch.lerp(own[rows], other, torch.stack(share))))
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
