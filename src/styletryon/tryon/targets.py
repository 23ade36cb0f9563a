"""What the losses compare with, drawn and measured once a batch of pairs, and what a try-on may change."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from styletryon.errors import ConfigError, RegionError, ShapeError
from styletryon.generator import Generator, GeneratorOutput, adapt, check_aspect
from styletryon.labels import IDENTITY, Label, Region, resolve_region
from styletryon.latent import Latent, stack
from styletryon.losses import TryOnTargets, channel_attribution, class_mask
from styletryon.tryon.baselines import blend_styles

_LEAST_SHARE = 0.003
"""The share of a picture that a garment must cover to be tried on."""


def match_pairs(generator: Generator, person: Latent, garment: Latent) -> tuple[Latent, Latent]:
    """Check that two latents belong to the generator and to each other; one alone is paired with each of the other.

    Args:
        generator: What draws.
        person: Latents of `B` people, or of one.
        garment: Latents of `B` wearers of garments, or of one.

    Returns:
        Both with batch `B`.

    Raises:
        ShapeError: If the batches cannot be paired, or styles or poses are not the generator's in shape or aspect.
        ConfigError: If a latent belongs to another generator, or lies on another device.
    """
    # Computed once: a fingerprint reads all weights.
    fingerprint = generator.fingerprint if person.model or garment.model else ""
    for name, latent in (("person", person), ("garment", garment)):
        if len(latent) == 0:
            raise ShapeError("expected at least one latent, got an empty batch", argument=name)
        if latent.model and fingerprint and latent.model != fingerprint:
            raise ConfigError(
                f"expected a latent of this generator ({fingerprint}), got one of {latent.model}; "
                "project the picture with this generator",
                argument=name,
            )
        check_aspect(f"{name}.pose", latent.pose, generator.image_size)
        found = tuple(style.shape[-1] for style in latent.styles)
        if found != tuple(generator.style_channels):
            raise ShapeError(
                f"expected style codes of {tuple(generator.style_channels)} channels, got {found}; project the "
                "picture with this generator",
                argument=name,
            )
        device = generator.w_mean.device
        if latent.device != device:
            raise ConfigError(
                f"expected a latent on {device}, like the generator, got one on {latent.device}; "
                f"pass {name}.to({str(device)!r})",
                argument=name,
            )
    person, garment = person.differentiable(), garment.differentiable()
    if len(person) == len(garment):
        return person, garment
    if len(person) == 1:
        return replace(stack([person] * len(garment)), report=person.report), garment
    if len(garment) == 1:
        return person, replace(stack([garment] * len(person)), report=garment.report)
    raise ShapeError(
        f"expected equal batches, or one of 1, got {len(person)} and {len(garment)}", argument="person, garment"
    )


def make_targets(generator: Generator, person: Latent, garment: Latent, region: Region = "top") -> TryOnTargets:
    """Draw person and garment, redraw the garment in the person's pose, and measure what acts where.

    Args:
        generator: What draws.
        person: Latents of `B` people.
        garment: Latents of the `B` wearers of the garments.
        region: What is tried on; see `resolve_region`.

    Returns:
        The targets, without gradients.

    Raises:
        RegionError: If the region is unknown, or a garment's picture does not show it.
        ShapeError: If the latents do not fit.
        ConfigError: If a latent belongs to another generator, or lies on another device.
    """
    person, garment = match_pairs(generator, person, garment)
    return draw_targets(adapt(generator, person), person, garment, region)


@torch.no_grad()
def draw_targets(
    generator: Generator, person: Latent, garment: Latent, region: Region, *, first: int = 0
) -> TryOnTargets:
    """Make targets of latents that `match_pairs` has returned; `first` is what errors call the first pair."""
    classes = resolve_region(region)
    worn, worn_attribution = _draw(generator, person)
    wanted, wanted_attribution = _draw(generator, garment)
    masks = generator.channel_masks(classes)
    dressed = garment.editable_styles
    if masks is not None:
        dressed = blend_styles(person.editable_styles, dressed, masks)
    redrawn = generator.synthesize(dressed, person.pose, noise=person.noise)
    targets = TryOnTargets(
        person=worn,
        garment=wanted,
        redrawn=redrawn,
        person_styles=person.styles,
        garment_styles=garment.styles,
        person_attribution=worn_attribution,
        garment_attribution=wanted_attribution,
        region=classes,
        channel_masks=masks,
    )
    _check_shown(targets, first)
    return targets


def change_mask(
    targets: TryOnTargets,
    drawing: GeneratorOutput,
    *,
    dilate: float = 0.02,
    feather: float = 0.02,
) -> Tensor:
    """Say which pixels a try-on may change: the old garment, the new one, and a margin.

    Face and hair stay out of it unless the new garment covers them; only the soft edge reaches into them.

    Args:
        targets: What the try-on was compared with.
        drawing: The try-on.
        dilate: The margin, as a share of the picture's height.
        feather: Width of the blur that softens its edge, as a share of the height. Up to `dilate`, the garments
            themselves stay at 1 but beside face and hair.

    Returns:
        `(B, H, W)` float32 in [0, 1]: 1 where the picture is the try-on's, 0 where it stays the photograph's.
    """
    height = drawing.image.shape[2]
    new = class_mask(drawing, targets.region)
    mask = torch.maximum(targets.person_mask, new)
    radius, soft = max(1, round(dilate * height)), max(1, round(feather * height))
    mask = functional.max_pool2d(mask, 2 * radius + 1, 1, radius)
    # Hair that the try-on drew over the old garment is new; the person's own face and hair are not.
    mask = mask * (1 - class_mask(targets.person, IDENTITY) * (1 - new))
    return functional.avg_pool2d(mask, 2 * soft + 1, 1, soft, count_include_pad=False).squeeze(1)


def _draw(generator: Generator, latent: Latent) -> tuple[GeneratorOutput, tuple[Tensor, ...]]:
    drawing = generator.synthesize(latent.styles, latent.pose, noise=latent.noise, activations=True)
    if drawing.activations is None:
        raise ConfigError(
            "synthesize(activations=True) returned none; the localization loss needs them", argument="generator"
        )
    onehot = functional.one_hot(drawing.logits.argmax(dim=1), drawing.logits.shape[1]).permute(0, 3, 1, 2)
    attribution = tuple(channel_attribution(drawing.activations, onehot))
    return GeneratorOutput(drawing.image, drawing.logits), attribution


def _check_shown(targets: TryOnTargets, first: int) -> None:
    share = targets.garment_mask.mean(dim=(1, 2, 3))
    missing = [index for index, value in enumerate(share.tolist()) if value < _LEAST_SHARE]
    if not missing:
        return
    labels = targets.garment.labels[missing[0]].long().flatten()
    counts = torch.bincount(labels, minlength=len(Label)).tolist()
    shown = [
        label.name.lower()
        for label in Label
        if label != Label.BACKGROUND and counts[label] >= _LEAST_SHARE * len(labels)
    ]
    wanted = ", ".join(sorted(label.name.lower() for label in targets.region))
    where = "" if len(share) == 1 and first == 0 else f" of pair {', '.join(str(first + index) for index in missing)}"
    raise RegionError(
        f"the garment picture{where} shows no {wanted}; it shows {', '.join(shown) or 'nobody'}; choose a "
        "region that it shows, or another picture",
        argument="region",
    )
