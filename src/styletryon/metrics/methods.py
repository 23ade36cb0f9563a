"""The methods that the benchmark compares: ours, baselines that cost nothing, and ceilings that know the truth."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from styletryon import losses as tryon_losses
from styletryon.compositing import show
from styletryon.errors import ConfigError, RegionError
from styletryon.generator import Generator
from styletryon.labels import Region, resolve_region
from styletryon.latent import Latent, stack
from styletryon.losses import (
    EditingLocalizationLoss,
    TryOnLoss,
    TryOnState,
    TryOnTargets,
    channel_attribution,
)
from styletryon.losses.contract import region_attribution
from styletryon.metrics.measures import foreground, masked_psnr
from styletryon.metrics.scoring import Picture, pictures
from styletryon.photo import Photograph, from_uint8, to_pil
from styletryon.pipeline import TryOnPipeline
from styletryon.pose import Pose
from styletryon.tryon import TryOnOptimizer, blend, find_preset, greedy_query, swap

Losses = Mapping[str, tuple[float, TryOnLoss | Callable[[TryOnState], Tensor]]]

BUDGETS = (0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6)
"""Budgets of the greedy query that are tried on other seeds."""

CEILING_STEPS = 100
"""Steps that fitting coefficients to the truth takes at least: a ceiling must not be low for want of steps."""


@dataclass(frozen=True, eq=False)
class ProjectedPairs:
    """A batch of pairs as every method is given it.

    Attributes:
        person: The people, projected. The photograph of each is the picture itself.
        garment: The wearers of the garments, projected, in their own poses.
        photos: The people's pictures and their true labels.
        truth: The truths, projected, for the oracle alone; None when it is not asked for or not known.
        targets: The truths themselves, for the choices on other seeds and for the ceilings; empty when not known.
    """

    person: Latent
    garment: Latent
    photos: tuple[Picture, ...]
    truth: Latent | None = None
    targets: tuple[Picture, ...] = ()

    def __len__(self) -> int:
        """Return how many pairs there are."""
        return len(self.person)

    def one(self, index: int) -> ProjectedPairs:
        """Return one pair as a batch of its own."""
        return ProjectedPairs(
            person=self.person[index],
            garment=self.garment[index],
            photos=self.photos[index : index + 1],
            truth=None if self.truth is None else self.truth[index],
            targets=self.targets[index : index + 1],
        )


class _Unlearnt:
    """A generator without its learnt channel masks."""

    def __init__(self, model: Generator) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def channel_masks(self, classes: Collection[int]) -> None:
        """Say that there are none."""


class Bench:
    """The ground that the methods share: the generator, the settings, and what was chosen on other seeds.

    Args:
        model: The generator.
        region: The region to try on.
        preset: Preset of the projection and the optimisation.
        losses: The losses of our method; None for the defaults.
        batch_size: How many pictures or pairs are optimised at once.
    """

    def __init__(
        self,
        model: Generator,
        *,
        region: Region = "top",
        preset: str = "balanced",
        losses: Losses | None = None,
        batch_size: int = 16,
    ) -> None:
        chosen = find_preset(preset)
        self.model = model
        self.region = region
        self.classes = resolve_region(region)
        self.preset = preset
        self.losses: Losses = tryon_losses.defaults() if losses is None else losses
        self.batch_size = batch_size
        self.ceiling_steps = max(CEILING_STEPS, chosen.steps)
        self.chosen: dict[str, Any] = {}
        self.failed: dict[str, int] = {}
        self.pipeline = TryOnPipeline(model, preset=preset, batch_size=batch_size, remember=0)
        self._projected = 0
        self._seconds = 0.0

    @property
    def projection_seconds(self) -> float:
        """Mean seconds that projecting one picture took, within its batch."""
        return self._seconds / max(1, self._projected)

    def project(self, images: Tensor, pose: Pose) -> Latent:
        """Project pictures `(B, 3, H, W)` in [-1, 1], each of which is the photograph of its latent."""
        device = self.model.w_mean.device
        started = time.perf_counter()
        latent = self.pipeline.projector.project(images.to(device), pose.to(device))
        return self._projections(latent, images, started)

    def project_photographs(self, photographs: Sequence[Photograph]) -> Latent:
        """Project photographs as `try_on` does; the photograph of each latent is what the generator was shown."""
        started = time.perf_counter()
        latent = stack(self.pipeline.project_photographs(photographs))
        return self._projections(latent, torch.stack([photograph.target for photograph in photographs]), started)

    def _projections(self, latent: Latent, images: Tensor, started: float) -> Latent:
        self._seconds += time.perf_counter() - started
        self._projected += len(latent)
        return replace(latent, photograph=tuple(Photograph.whole(to_pil(image)) for image in images))

    @torch.no_grad()
    def draw(self, latent: Latent) -> list[Picture]:
        """Draw latents as they are."""
        return pictures(self.model.synthesize(latent.styles, latent.pose, noise=latent.noise))

    @torch.no_grad()
    def blend(self, batch: ProjectedPairs, coefficients: Sequence[Tensor]) -> list[Picture]:
        """Draw the people with styles moved towards the garments'; coefficients are `(B or 1, C_l)` per layer."""
        device = batch.person.device
        return pictures(blend(self.model, batch.person, batch.garment, [q.to(device) for q in coefficients]))

    @torch.no_grad()
    def attribution(self, batch: ProjectedPairs) -> list[Tensor]:
        """Say how much of each channel acts inside the region: `(B, C_l)` per layer, the larger share of both."""
        measured = []
        for latent in (batch.person, batch.garment):
            drawing = self.model.synthesize(latent.styles, latent.pose, noise=latent.noise, activations=True)
            hot = functional.one_hot(drawing.labels.long(), drawing.logits.shape[1]).permute(0, 3, 1, 2)
            measured.append(channel_attribution(drawing.activations or (), hot))
        return list(region_attribution(measured[0], measured[1], self.classes))

    def optimize(
        self,
        name: str,
        batch: ProjectedPairs,
        losses: Callable[[ProjectedPairs], Losses],
        *,
        plain: bool = False,
        **options: Any,
    ) -> tuple[list[Picture], list[Picture]]:
        """Run the try-on.

        A generator may draw a garment's wearer without any garment, and the optimizer then refuses the pair. Here such
        a pair counts as a failure and is scored as the person unchanged.

        Args:
            name: The method, for the count of failures.
            batch: The pairs.
            losses: Makes the losses of a batch.
            plain: Whether the generator's channel masks are hidden from it.
            **options: Further arguments of `TryOnOptimizer`.

        Returns:
            What was drawn, and the same with the person's own pixels put back outside the garments.
        """
        model: Generator = _Unlearnt(self.model) if plain else self.model
        try:
            optimizer = TryOnOptimizer(
                model, losses=losses(batch), preset=self.preset, batch_size=len(batch), **options
            )
            found = optimizer.optimize(batch.person, batch.garment, region=self.region)
        except RegionError:
            if len(batch) > 1:
                alone = [
                    self.optimize(name, batch.one(index), losses, plain=plain, **options) for index in range(len(batch))
                ]
                return [drawn[0] for drawn, _ in alone], [pasted[0] for _, pasted in alone]
            self.failed[name] = self.failed.get(name, 0) + 1
            return self.draw(batch.person), list(batch.photos)
        results = [show(found, index) for index in range(len(found))]
        return pictures(found.drawing), [Picture(np.asarray(r.image), r.segmentation) for r in results]


Variants = Mapping[str, list[Picture]]
"""Name of a variant -> a picture per pair. Most methods have one variant, named like themselves."""


@dataclass(frozen=True)
class Method:
    """A way to dress the person.

    Attributes:
        draw: Draws a batch of pairs.
        tune: Chooses the method's one setting on pairs of other seeds; None if there is none to choose.
        ceiling: Whether the method looks at the truth, so that nobody could use it.
    """

    draw: Callable[[Bench, ProjectedPairs], Variants]
    tune: Callable[[Bench, Sequence[ProjectedPairs]], None] | None = None
    ceiling: bool = False


# ----------------------------------------------------------------------------------------------------- baselines
def _noop_photo(bench: Bench, batch: ProjectedPairs) -> Variants:
    del bench
    return {"noop_photo": list(batch.photos)}


def _noop(bench: Bench, batch: ProjectedPairs) -> Variants:
    return {"noop": bench.draw(batch.person)}


def _swap(bench: Bench, batch: ProjectedPairs) -> Variants:
    return {"swap": bench.blend(batch, swap(bench.model.style_channels))}


def layer_runs(layers: int) -> list[tuple[int, int]]:
    """List the runs of layers that a layer split may take from the garment: up to any layer, and from any on.

    Args:
        layers: How many styled layers there are.

    Returns:
        (first, one behind the last) of each run.
    """
    return [*((0, end) for end in range(layers + 1)), *((start, layers) for start in range(1, layers))]


def _split(bench: Bench, batch: ProjectedPairs, run: Sequence[int]) -> list[Picture]:
    channels = bench.model.style_channels
    inside = [torch.full((1, count), float(run[0] <= i < run[1])) for i, count in enumerate(channels)]
    return bench.blend(batch, inside)


def _tune_layer_split(bench: Bench, parts: Sequence[ProjectedPairs]) -> None:
    runs = layer_runs(len(bench.model.style_channels))
    bench.chosen["layer_split"] = _best(runs, parts, lambda batch, run: _split(bench, batch, run))


def _layer_split(bench: Bench, batch: ProjectedPairs) -> Variants:
    return {"layer_split": _split(bench, batch, bench.chosen["layer_split"])}


def _tune_greedy(bench: Bench, parts: Sequence[ProjectedPairs]) -> None:
    inside = {id(part): bench.attribution(part) for part in parts}
    bench.chosen["greedy_query"] = _best(
        BUDGETS, parts, lambda batch, budget: bench.blend(batch, greedy_query(inside[id(batch)], budget))
    )


def _greedy(bench: Bench, batch: ProjectedPairs) -> Variants:
    return {"greedy_query": bench.blend(batch, greedy_query(bench.attribution(batch), bench.chosen["greedy_query"]))}


def _channel_masks(bench: Bench, batch: ProjectedPairs) -> Variants:
    masks = bench.model.channel_masks(bench.classes)
    if masks is None:
        raise ConfigError("'channel_masks' needs a generator that has learnt them; leave it out", argument="methods")
    return {"channel_masks": bench.blend(batch, [mask[None] for mask in masks])}


def _best(
    options: Sequence[Any],
    parts: Sequence[ProjectedPairs],
    draw: Callable[[ProjectedPairs, Any], list[Picture]],
) -> Any:
    """Return the option with the best mean foreground PSNR."""

    def mean(option: Any) -> float:
        found = [
            masked_psnr(drawn.image, target.image, foreground(target.labels))
            for part in parts
            for drawn, target in zip(draw(part, option), part.targets, strict=True)
        ]
        return float(np.mean(found))

    return max(options, key=mean)


# ---------------------------------------------------------------------------------------------------------- ours
def _ours(bench: Bench, batch: ProjectedPairs) -> Variants:
    drawn, pasted = bench.optimize("ours", batch, lambda _: bench.losses)
    return {"ours": drawn, "ours_pasted": pasted}


def _variant(
    name: str,
    *,
    without: str | None = None,
    mode: Literal["outside", "signed", "l1"] | None = None,
    **options: Any,
) -> Method:
    """Make an ablation: our method without a loss, with another localization loss, or with other options."""

    def losses(bench: Bench) -> Losses:
        chosen = {key: entry for key, entry in bench.losses.items() if key != without}
        if without is not None and without not in bench.losses:
            raise ConfigError(
                f"{name!r} leaves the loss {without!r} out, but there is none of this name", argument="methods"
            )
        if mode is not None:
            weight = chosen["localization"][0] if "localization" in chosen else 1.0
            chosen["localization"] = (weight, EditingLocalizationLoss(mode=mode))
        return chosen

    def draw(bench: Bench, batch: ProjectedPairs) -> Variants:
        return {name: bench.optimize(name, batch, lambda _: losses(bench), **options)[0]}

    return Method(draw)


# ------------------------------------------------------------------------------------------------------ ceilings
class TruthLoss(TryOnLoss):
    """The squared distance to the truth, which no real try-on knows: what coefficients can reach at best.

    Args:
        targets: The truths, in the order of the pairs.
        background: How much a pixel of the background counts against one of the person.
    """

    def __init__(self, targets: Sequence[Picture], *, background: float = 0.05) -> None:
        self._images = np.stack([target.image for target in targets])
        inside = np.stack([foreground(target.labels) for target in targets])
        self._weights = np.where(inside, 1.0, background).astype(np.float32)

    def prepare(self, targets: TryOnTargets) -> tuple[Tensor, Tensor]:
        """Bring the truths to the device: `(B, 3, H, W)` in [-1, 1], and weights `(B, 1, H, W)` that sum to 1."""
        device = targets.person.image.device
        images = from_uint8(torch.from_numpy(self._images).permute(0, 3, 1, 2)).to(device)
        weights = torch.from_numpy(self._weights).unsqueeze(1).to(device)
        return images, weights / weights.sum(dim=(1, 2, 3), keepdim=True)

    def forward(self, state: TryOnState, prepared: tuple[Tensor, Tensor]) -> Tensor:
        """Compare a step with the truth, `(B,)`."""
        images, weights = prepared
        return ((state.image.float() - images).square() * weights).sum(dim=(1, 2, 3))


def _fitted(name: str, per: Literal["channel", "layer"]) -> Method:
    def draw(bench: Bench, batch: ProjectedPairs) -> Variants:
        drawn, _ = bench.optimize(
            name,
            batch,
            lambda part: {"truth": (1.0, TruthLoss(part.targets))},
            per=per,
            steps=bench.ceiling_steps,
        )
        return {name: drawn}

    return Method(draw, ceiling=True)


def _oracle(bench: Bench, batch: ProjectedPairs) -> Variants:
    if batch.truth is None:
        raise ConfigError("'oracle' needs the truth, which these pairs do not have; leave it out", argument="methods")
    return {"oracle": bench.draw(batch.truth)}


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "noop_photo": Method(_noop_photo),
        "noop": Method(_noop),
        "swap": Method(_swap),
        "layer_split": Method(_layer_split, tune=_tune_layer_split),
        "greedy_query": Method(_greedy, tune=_tune_greedy),
        "channel_masks": Method(_channel_masks),
        "ours": Method(_ours),
        "ours_per_layer": _variant("ours_per_layer", per="layer"),
        "ours_without_localization": _variant("ours_without_localization", without="localization"),
        "ours_without_garment": _variant("ours_without_garment", without="garment"),
        "ours_without_identity": _variant("ours_without_identity", without="identity"),
        "ours_without_masks": _variant("ours_without_masks", plain=True),
        "ours_localization_signed": _variant("ours_localization_signed", mode="signed"),
        "ours_localization_l1": _variant("ours_localization_l1", mode="l1"),
        "best_q": _fitted("best_q", "channel"),
        "best_q_per_layer": _fitted("best_q_per_layer", "layer"),
        "oracle": Method(_oracle, ceiling=True),
    }
)
"""Name -> method, in the order of the table: baselines, ours, ablations of ours, ceilings."""

DEFAULT_METHODS = (
    "noop_photo",
    "noop",
    "swap",
    "layer_split",
    "greedy_query",
    "channel_masks",
    "ours",
    "ours_per_layer",
    "best_q",
    "oracle",
)
"""The methods that `evaluate` compares unless others are asked for."""

ABLATION_METHODS = (
    "ours",
    "ours_per_layer",
    "ours_without_localization",
    "ours_without_garment",
    "ours_without_identity",
    "ours_without_masks",
    "ours_localization_signed",
    "ours_localization_l1",
    "best_q",
    "best_q_per_layer",
)
"""Our method with a part left out or exchanged: the value of each part."""

GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"default": DEFAULT_METHODS, "ablations": ABLATION_METHODS, "all": tuple(METHODS)}
)
"""Names that stand for several methods."""

PHOTO_METHODS = (
    "noop_photo",
    "noop",
    "swap",
    "channel_masks",
    "ours",
    *(name for name in ABLATION_METHODS if name.startswith("ours_")),
)
"""The methods that need no truth."""
