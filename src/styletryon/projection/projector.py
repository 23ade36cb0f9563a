"""LatentProjector: optimises latent codes until the generator draws a photograph."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, final

import torch
from torch import Tensor

from styletryon._arguments import check_seed, number, seeded, whole
from styletryon._forks import note_process
from styletryon._graphs import SHORT_BETAS, Adam, Repeated, replace_rows
from styletryon.errors import ConfigError, RangeError, ShapeError
from styletryon.features import FeatureNetwork, PixelFeatures, feature_distance, feature_weights, frozen
from styletryon.features.base import is_deep
from styletryon.generator import Generator, GeneratorOutput, adapt, check_aspect, draw_in, is_tunable
from styletryon.labels import Label
from styletryon.latent import Latent, Styles, stack
from styletryon.losses.targets import label_cross_entropy
from styletryon.pose import Pose
from styletryon.projection.noise import noise_correlation, renormalise
from styletryon.projection.schedule import rate_factor
from styletryon.projection.tuning import Tuning, tune_weights

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
        """Keep the pictures whose loss is lower, in place."""
        better = loss < self.loss
        kept = [self.loss, *self.code, *self.noise, self.squares, self.absolutes]
        for old, new in zip(kept, [loss, *code, *noise, squares, absolutes], strict=True):
            replace_rows(old, better, new.detach())


@dataclass(frozen=True, eq=False)
class _Pictures:
    """Pictures that shall be found, and what is known of them.

    Attributes:
        images: `(B, 3, H, W)` float in [-1, 1].
        pose: The `B` poses.
        labels: `(B, H, W)` integers, or None.
        mask: `(B, H, W)` float in [0, 1]: which pixels count; None for all.
    """

    images: Tensor
    pose: Pose
    labels: Tensor | None = None
    mask: Tensor | None = None

    def check(self, generator: Generator) -> None:
        """Raise unless a generator can draw such pictures; see `LatentProjector.project`."""
        images, labels, size = self.images, self.labels, tuple(generator.image_size)
        if images.ndim != 4 or images.shape[1] != 3 or tuple(images.shape[2:]) != size or len(images) == 0:
            raise ShapeError(f"expected (B, 3, {size[0]}, {size[1]}), got {tuple(images.shape)}", argument="images")
        if len(self.pose) != len(images):
            raise ShapeError(f"expected {len(images)} poses, one per picture, got {len(self.pose)}", argument="pose")
        check_aspect("pose", self.pose, generator.image_size)
        for name, tensor in (("labels", labels), ("mask", self.mask)):
            if tensor is not None and tensor.shape != (len(images), *size):
                raise ShapeError(f"expected {(len(images), *size)}, got {tuple(tensor.shape)}", argument=name)
        if labels is not None and (int(labels.max()) >= generator.num_labels or int(labels.min()) < 0):
            raise RangeError(
                f"expected classes 0..{generator.num_labels - 1}, got {int(labels.min())} to {int(labels.max())}",
                argument="labels",
            )
        if not bool(torch.isfinite(images).all()) or float(images.abs().max()) > 1.001:
            raise RangeError(
                "expected finite values in [-1, 1]; styletryon.photo.to_tensor makes such", argument="images"
            )

    def part(self, rows: slice) -> _Pictures:
        """Return some of them on the device of the pictures, as copies.

        What the caller made in inference mode could not take part in gradients.
        """
        device = self.images.device
        return _Pictures(
            self.images[rows].detach().float().clone(),
            replace(self.pose[rows], keypoints=self.pose.keypoints[rows].detach().to(device).clone()),
            None if self.labels is None else self.labels[rows].to(device).long().clone(),
            None if self.mask is None else self.mask[rows].to(device).float().clone(),
        )

    @property
    def known(self) -> Tensor:
        """`(B, 1, H, W)` float: which pixels count."""
        return torch.ones_like(self.images[:, :1]) if self.mask is None else self.mask[:, None]


@final
class LatentProjector:
    """Finds pictures in the latent space of a generator.

    The distance is that of pixels and features, plus, where labels are given, the cross-entropy of the drawn
    segmentation. The best step of each picture is kept. Pictures are optimised side by side, each on its own.

    Works under the caller's `torch.no_grad()` and `torch.inference_mode()` too.

    On CUDA the steps are replayed as a CUDA graph, which gives the same result sooner, if the generator and the feature
    network say by an attribute `capturable` that they can be: that they run the same kernels at each step and let the
    host wait for none. Otherwise they run one by one; the log says why.

    Differs from the paper: it projects to Z+; its loss and steps are not known. The default here are the style codes
    themselves, from the guess of the generator's encoder, which come nearer than W+ in as many steps; where there is no
    encoder, W+ from the mean.

    Args:
        generator: What draws. Its weights are left as they are.
        space: "z" or "w" one code per picture; "z+" or "w+" one per styled layer; "s" the style codes themselves.
            None: "s" where the generator has an encoder, else "w+".
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
        graph: Whether steps may be replayed as a CUDA graph.
        tune: Whether each picture is tuned to after its projection; see `tune`.
        tuning_steps: How many steps of Adam that takes.
        tuning_rate: Its highest rate.
        locality_weight: How strongly the tuned weights are held to draw other people as before.

    Raises:
        ConfigError: If a setting is unknown or out of range, there is no encoder to start from, or the generator cannot
            be tuned.
    """

    def __init__(
        self,
        generator: Generator,
        *,
        space: Space | None = None,
        steps: int = 100,
        learning_rate: float = 0.1,
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
        graph: bool = True,
        tune: bool = False,
        tuning_steps: int = 300,
        tuning_rate: float = 0.03,
        locality_weight: float = 1.0,
    ) -> None:
        if space is None:
            space = "w+" if generator.encoder is None else "s"
        if space not in ("z", "z+", "w", "w+", "s"):
            raise ConfigError(f"expected 'z', 'z+', 'w', 'w+' or 's', got {space!r}", argument="space")
        if start not in (None, "encoder", "mean"):
            raise ConfigError(f"expected 'encoder', 'mean' or None, got {start!r}", argument="start")
        if start == "encoder" and generator.encoder is None:
            raise ConfigError("'encoder' was asked for, but the generator has none; use start='mean'", argument="start")
        if tune and not is_tunable(generator):
            raise ConfigError(
                f"{type(generator).__name__} cannot be tuned; it needs what styletryon.generator.TunableGenerator says",
                argument="tune",
            )
        self.generator = generator
        self.space: Space = space
        self.steps = whole(steps, "steps", least=0, kind=ConfigError)
        self.learning_rate = number(learning_rate, "learning_rate", above=0, kind=ConfigError)
        self.features: FeatureNetwork = features if features is not None else PixelFeatures()
        self.noise = noise
        self.start = start if start is not None else ("encoder" if generator.encoder is not None else "mean")
        self.seed = check_seed(seed)
        self.pixel_weight = number(pixel_weight, "pixel_weight", kind=ConfigError)
        self.feature_weight = number(feature_weight, "feature_weight", kind=ConfigError)
        self.label_weight = number(label_weight, "label_weight", kind=ConfigError)
        self.noise_weight = number(noise_weight, "noise_weight", kind=ConfigError)
        self.prior_weight = number(prior_weight, "prior_weight", kind=ConfigError)
        self.background = number(background, "background", kind=ConfigError)
        self.batch_size = whole(batch_size, "batch_size", least=1, kind=ConfigError)
        self.autocast = autocast
        self.graph = graph
        self.tunes = tune
        self.tuning_steps = whole(tuning_steps, "tuning_steps", least=0, kind=ConfigError)
        self.tuning_rate = number(tuning_rate, "tuning_rate", above=0, kind=ConfigError)
        self.locality_weight = number(locality_weight, "locality_weight", least=0, kind=ConfigError)

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
            ShapeError: If a shape is wrong, the poses are in pictures of another aspect, or several pictures shall be
                tuned to, which have no weights in common; `project_each` tunes to each.
            RangeError: If a picture is not finite or outside [-1, 1], a label is unknown, or a projection starts at a
                loss that is not finite.
        """
        if self.tunes and len(images) > 1:
            raise ShapeError(
                f"expected one picture to tune to, got {len(images)}; project_each tunes to each on its own, "
                "and tune to several at once",
                argument="images",
            )
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
            ShapeError: If a shape is wrong, or the poses are in pictures of another aspect.
            RangeError: If a picture is not finite or outside [-1, 1], a label is unknown, or a projection starts at a
                loss that is not finite.
        """
        note_process()
        wanted = _Pictures(images, pose, labels, mask)
        wanted.check(self.generator)
        seed = self.seed if seed is None else check_seed(seed)
        latents: list[Latent] = []
        fingerprint = self.generator.fingerprint
        # The caller may have switched gradients off; tensors of inference mode could not take part in them.
        with torch.inference_mode(False), frozen(self.generator, self.generator.encoder, self.features):
            for first in range(0, len(images), self.batch_size):
                chunk = _Chunk(self, wanted.part(slice(first, first + self.batch_size)), seed, first)
                latents += chunk.run(callback)
        latents = [replace(latent, model=fingerprint) for latent in latents]
        if self.tunes:
            latents = [
                self.tune(
                    latent,
                    images[index : index + 1],
                    mask=None if mask is None else mask[index : index + 1],
                    seed=seed,
                    callback=callback,
                )
                for index, latent in enumerate(latents)
            ]
        return tuple(latents)

    def tune(
        self,
        latent: Latent,
        images: Tensor,
        *,
        mask: Tensor | None = None,
        seed: int | None = None,
        callback: Callable[[ProjectionProgress], object] | None = None,
    ) -> Latent:
        """Tune weights to pictures, so that the latents draw them almost exactly (pivotal tuning).

        The generator itself stays as it is: what its weights must change by goes with the latent, as `Latent.tuning`,
        and whatever draws the latent heeds it.

        Args:
            latent: Where the pictures were found. One set of weights serves the whole batch.
            images: `(B, 3, H, W)` float in [-1, 1], on the generator's device.
            mask: `(B, H, W)` float in [0, 1]: which pixels count, such as those inside the photograph.
            seed: Instead of the projector's.
            callback: Is told of the progress after each step.

        Returns:
            The latent with its tuning. The report's `reconstruction_psnr` and `reconstruction_l1` are those of the
            tuned drawing; `pivot_psnr` is that before, and `tuning_seconds` and `tuning_steps` say what it took.

        Raises:
            ShapeError: If a shape is wrong.
            ConfigError: If the generator cannot be tuned.
            RangeError: If a picture is not finite or outside [-1, 1], or the weights cease to be finite.
        """
        began = time.perf_counter()
        wanted = _Pictures(images, latent.pose, mask=mask)
        wanted.check(self.generator)
        generator = self.generator
        if not is_tunable(generator):
            raise ConfigError(
                f"{type(generator).__name__} cannot be tuned; see styletryon.generator.TunableGenerator",
                argument="tune",
            )
        settings = Tuning(
            self.tuning_steps,
            self.tuning_rate,
            self.locality_weight,
            self.features,
            self.pixel_weight,
            self.feature_weight,
            self.seed if seed is None else seed,
            self.autocast,
        )

        def tell(step: int, loss: float) -> None:
            if callback is not None:
                callback(ProjectionProgress(step, self.tuning_steps, loss, 0, len(latent)))

        # As in project_each; a latent of inference mode could not take part in gradients either.
        with torch.inference_mode(False), frozen(self.generator, self.features):
            wanted = wanted.part(slice(None))
            images, known = wanted.images, wanted.known
            latent = latent.differentiable()
            plain = replace(latent, tuning=None, styles=tuple(style.clone() for style in latent.styles))
            tuned = replace(latent, tuning=tune_weights(generator, plain, images, known, settings, tell))
            report = {**latent.report, **_likeness(adapt(self.generator, tuned), tuned, images, known)}
            report["pivot_psnr"] = _likeness(self.generator, plain, images, known)["reconstruction_psnr"]
        report["tuning_seconds"] = time.perf_counter() - began
        report["tuning_steps"] = float(self.tuning_steps)
        return replace(tuned, report=report)


@torch.no_grad()
def _likeness(generator: Generator, latent: Latent, images: Tensor, known: Tensor) -> dict[str, float]:
    """Say how near to pictures a generator draws latents: means over the pictures."""
    drawn = generator.synthesize(latent.styles, latent.pose, noise=latent.noise).image.float().clamp(-1, 1)
    counted = (known > 0).float()
    pixels = 3 * counted.sum(dim=(1, 2, 3)).clamp_min(1)
    squares = ((drawn - images).square() * counted).sum(dim=(1, 2, 3)) / pixels
    absolutes = ((drawn - images).abs() * counted).sum(dim=(1, 2, 3)) / pixels
    psnr = 10 * torch.log10(4 / squares.clamp_min(1e-10))
    return {"reconstruction_psnr": float(psnr.mean()), "reconstruction_l1": float(absolutes.mean())}


class _Chunk:
    """One batch of pictures under optimisation."""

    def __init__(
        self,
        settings: LatentProjector,
        pictures: _Pictures,
        seed: int,
        first: int,
    ) -> None:
        images, pose = pictures.images, pictures.pose
        self.began = time.perf_counter()
        self.settings, self.generator = settings, settings.generator
        self.images, self.pose, self.labels = images, pose, pictures.labels
        self.seed, self.first = seed, first
        self._weigh(pictures.known)
        with self._precision():
            self.draw = draw_in(self.generator, pose)
        # What a step writes stays where it is, so that a graph can write it too.
        self.code, self.noise = self._first_code(), self._first_noise()
        self.origin = [tensor.clone() for tensor in self.code]
        self.adam = Adam([*self.code, *self.noise], betas=SHORT_BETAS)
        worst = images.new_full((3, len(images)), torch.inf)
        code, noise = ([tensor.clone() for tensor in group] for group in (self.code, self.noise))
        self.best = _Best(worst[0], code, noise, worst[1], worst[2])

    def run(self, callback: Callable[[ProjectionProgress], object] | None) -> list[Latent]:
        """Optimise, and return one latent per picture."""
        settings, count = self.settings, len(self.images)
        parts = {"the generator": self.generator, "the feature network": settings.features}
        advance = Repeated(self._advance, self.images.device, parts, count=settings.steps, wanted=settings.graph)
        for step in range(settings.steps):
            self.adam.set_rate(settings.learning_rate * rate_factor(step, settings.steps))
            advance()
            if step == 0:
                self._check_start()
            if callback is not None:
                loss = float(self.best.loss.mean())
                callback(ProjectionProgress(step + 1, settings.steps, loss, self.first, count))
        with torch.no_grad():
            self._evaluate(self.code, self.noise)
            styles = tuple(style.float().clone() for style in self._styles(self.best.code))
        self._check_start()  # for the case of no steps
        seconds = (time.perf_counter() - self.began) / count
        anchor = self._anchor()
        return [self._latent(index, styles, anchor, seconds) for index in range(count)]

    def _weigh(self, known: Tensor) -> None:
        """Say how much each pixel counts, and compute what the steps compare with."""
        settings, weight = self.settings, known
        self.known = known
        self.counted = (known > 0).float()
        self.pixels = 3 * self.counted.sum(dim=(1, 2, 3)).clamp_min(1)
        if self.labels is not None:
            person = (self.labels[:, None] != int(Label.BACKGROUND)).float()
            weight = weight * (settings.background + (1 - settings.background) * person)
        with torch.no_grad():
            self.wanted = tuple(feature.detach() for feature in settings.features(self.images))
        self.feature_weight = feature_weights(self.wanted, weight)
        self.pixel_weight = feature_weights([self.images], weight)

    def _advance(self) -> None:
        """Evaluate code and noise and move on from them. Looks at no value."""
        # New leaves each time: what autograd keeps of a leaf belongs to the stream that first used it.
        code, noise = ([tensor.detach().requires_grad_() for tensor in group] for group in (self.code, self.noise))
        with torch.enable_grad():
            objective = self._evaluate(code, noise).sum()
        self.adam.step(torch.autograd.grad(objective, [*code, *noise], allow_unused=True))
        renormalise(self.noise)

    def _evaluate(self, code: list[Tensor], noise: list[Tensor]) -> Tensor:
        """Draw code and noise, and keep the pictures that are better; return their losses, `(b,)`."""
        with self._precision():
            drawing = self.draw(self._styles(code), noise=tuple(noise) if noise else None)
        image = drawing.image.float()
        loss = self._judge(image, drawing, code)
        if noise and self.settings.noise_weight:
            loss = loss + self.settings.noise_weight * noise_correlation(noise)
        with torch.no_grad():
            apart = (image.detach().clamp(-1, 1) - self.images) * self.counted
            squares = apart.square().sum(dim=(1, 2, 3)) / self.pixels
            absolutes = apart.abs().sum(dim=(1, 2, 3)) / self.pixels
            self.best.keep(loss, code, noise, squares, absolutes)
        return loss

    def _judge(self, image: Tensor, drawing: GeneratorOutput, code: list[Tensor]) -> Tensor:
        """Measure the distance from the pictures, and of the code from its start, `(b,)`."""
        settings = self.settings
        loss = settings.pixel_weight * feature_distance([image], [self.images], self.pixel_weight)
        if settings.feature_weight:
            features, deep = settings.features(image), is_deep(settings.features)
            apart = feature_distance(features, self.wanted, self.feature_weight, deep=deep)
            loss = loss + settings.feature_weight * apart
        if self.labels is not None and settings.label_weight:
            loss = loss + settings.label_weight * label_cross_entropy(drawing.logits, self.labels, self.known)
        if settings.prior_weight:
            away = [(a - b).square().flatten(1) for a, b in zip(code, self.origin, strict=True)]
            loss = loss + settings.prior_weight * torch.cat(away, dim=1).mean(dim=1)
        return loss

    def _check_start(self) -> None:
        """Raise unless every picture has had a finite loss, without which there is nothing to go by."""
        missing = [self.first + i for i, loss in enumerate(self.best.loss.tolist()) if not math.isfinite(loss)]
        if missing:
            raise RangeError(
                "expected projections that start at a finite loss, got another for picture "
                f"{', '.join(map(str, missing))}; look for weights of the generator or the feature network that are "
                "not finite, or try another autocast",
                argument="images",
            )

    @torch.no_grad()
    def _anchor(self) -> Styles | None:
        """Return the encoder's style codes; a z near them means somebody else."""
        if self.settings.start != "encoder" or self.settings.space in ("z", "z+"):
            return None
        return tuple(style.detach().float() for style in self._styles(self.origin))

    def _latent(self, index: int, styles: Styles, anchor: Styles | None, seconds: float) -> Latent:
        part = slice(index, index + 1)
        square = max(float(self.best.squares[index]), 1e-10)
        return Latent(
            styles=tuple(style[part].clone() for style in styles),
            pose=self.pose[part],
            noise=tuple(layer[part].clone() for layer in self.best.noise) if self.settings.noise else None,
            anchor=None if anchor is None else tuple(style[part].clone() for style in anchor),
            report={
                "reconstruction_psnr": 10 * math.log10(4 / square),
                "reconstruction_l1": float(self.best.absolutes[index]),
                "projection_loss": float(self.best.loss[index]),
                "projection_seconds": seconds,
                "projection_steps": float(self.settings.steps),
            },
        )

    def _precision(self) -> torch.autocast:
        dtype = self.settings.autocast
        return torch.autocast(self.images.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)

    def _styles(self, code: list[Tensor]) -> Styles:
        space = self.settings.space
        if space == "s":
            return tuple(code)
        latent = code[0]
        if space == "z":
            latent = self.generator.mapping(latent)
        elif space == "z+":
            latent = self.generator.mapping(latent.flatten(0, 1)).view(*latent.shape[:2], -1)
        return self.generator.affine(latent)

    @torch.no_grad()
    def _first_code(self) -> list[Tensor]:
        images, space, device = self.images, self.settings.space, self.images.device
        if self.settings.start == "encoder" and self.generator.encoder is not None:
            w = self.generator.encoder(images, self.pose).float()
        else:
            w = self.generator.w_mean.to(device).float().expand(len(images), -1)
        if space == "s":
            return [style.detach().float().clone() for style in self.generator.affine(w)]
        if space in ("z", "z+"):
            rng = seeded(self.seed)
            z = torch.randn(
                _CANDIDATES, self.generator.z_dim, generator=rng, dtype=torch.float32, device="cpu"
            ).to(device)
            w = z[torch.cdist(w, self.generator.mapping(z).float()).argmin(dim=1)]
        if space.endswith("+"):
            w = w[:, None].expand(-1, len(self.generator.style_channels), -1)
        return [w.clone()]

    def _first_noise(self) -> list[Tensor]:
        if not self.settings.noise:
            return []
        rng = seeded(self.seed)
        # The same for each picture, so that none depends on its place in the batch.
        noise = [
            torch.randn(1, 1, *shape, generator=rng, dtype=torch.float32, device="cpu")
            .to(self.images.device)
            .repeat(len(self.images), 1, 1, 1)
            for shape in self.generator.noise_shapes
        ]
        renormalise(noise)
        return noise
