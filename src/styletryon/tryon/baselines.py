"""Mixing two people's styles, and the ways to choose the mixture without optimising it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from styletryon.errors import RangeError, ShapeError
from styletryon.generator import Generator, GeneratorOutput, adapt
from styletryon.latent import Latent, Styles

Coefficients = float | Sequence[Tensor]
"""How much comes from the garment: one number in [0, 1], or per styled layer a tensor that broadcasts to `(B, C_l)`."""


def blend_styles(person: Styles, garment: Styles, coefficients: Coefficients) -> Styles:
    """Mix style codes: the person's plus the coefficients times the difference.

    Where a coefficient is exactly 0 or 1 the result is the person's or the garment's code, bit for bit.

    Args:
        person: One `(B, C_l)` per styled layer.
        garment: The same.
        coefficients: A number, or one tensor per layer that broadcasts to `(B, C_l)`, in [0, 1].

    Returns:
        One `(B, C_l)` per styled layer.

    Raises:
        ShapeError: If the numbers of layers differ.
    """
    if isinstance(coefficients, float | int):
        coefficients = [person[0].new_tensor(float(coefficients))] * len(person)
    if not len(person) == len(garment) == len(coefficients):
        raise ShapeError(
            f"expected {len(person)} layers like the person, got {len(coefficients)}, and {len(garment)} "
            "layers of the garment",
            argument="coefficients",
        )
    return tuple(_lerp(*layer) for layer in zip(person, garment, coefficients, strict=True))


def blend(generator: Generator, person: Latent, garment: Latent, coefficients: Coefficients) -> GeneratorOutput:
    """Draw the person with styles mixed from both, in the person's pose and with the person's noise.

    Args:
        generator: What draws.
        person: The latent of `B` people.
        garment: The latent of the `B` wearers of the garments.
        coefficients: See `blend_styles`. At 0 the person is drawn bit for bit, at 1 the garment's whole style.

    Returns:
        The drawing, `B` pictures.
    """
    styles = blend_styles(person.styles, garment.styles, coefficients)
    return adapt(generator, person).synthesize(styles, person.pose, noise=person.noise)


def swap(channels: Sequence[int]) -> tuple[Tensor, ...]:
    """Take everything from the garment's picture but the pose.

    Args:
        channels: C_l of each styled layer (`generator.style_channels`).

    Returns:
        One `(1, C_l)` of ones per layer.
    """
    return tuple(torch.ones(1, count, dtype=torch.float32, device="cpu") for count in channels)


def layer_split(channels: Sequence[int], layer: int) -> tuple[Tensor, ...]:
    """Take the first layers from the garment's picture and the rest from the person.

    Args:
        channels: C_l of each styled layer.
        layer: How many layers come from the garment, 0 to L.

    Returns:
        One `(1, C_l)` of zeros or ones per layer.

    Raises:
        RangeError: If `layer` is out of range.
    """
    if not 0 <= layer <= len(channels):
        raise RangeError(f"expected 0 to {len(channels)}, got {layer}", argument="layer")
    return tuple(share * float(index < layer) for index, share in enumerate(swap(channels)))


def greedy_query(attribution: Sequence[Tensor], budget: float = 0.1, rho: float = 0.0) -> tuple[Tensor, ...]:
    """Open the channels that act most inside the region until the budget for acting outside is spent.

    This is the query of Editing in Style (Collins et al., 2020), with all layers ranked together.

    Args:
        attribution: M of the region, `(B, C_l)` in [0, 1] per layer (`TryOnTargets.region_attribution`).
        budget: Which share of the sum of `1 - M` over all channels may be spent, in [0, 1].
        rho: Channels of a smaller M are never opened.

    Returns:
        One `(B, C_l)` of zeros or ones per layer.

    Raises:
        RangeError: If the budget is out of range.
    """
    if not 0 <= budget <= 1:
        raise RangeError(f"expected a share in [0, 1], got {budget}", argument="budget")
    inside = torch.cat(tuple(attribution), dim=1)  # (B, C)
    ranked, order = inside.sort(dim=1, descending=True, stable=True)
    cost = (1 - ranked).cumsum(dim=1)
    chosen = (cost <= budget * cost[:, -1:] + 1e-9) & (ranked > rho)
    opened = torch.zeros_like(inside).scatter(1, order, chosen.to(inside.dtype))
    return torch.split(opened, [layer.shape[1] for layer in attribution], dim=1)


def _lerp(person: Tensor, garment: Tensor, coefficient: Tensor) -> Tensor:
    coefficient = coefficient.to(person)
    # Each form is exact at one end only: the nearer end is the one to start from.
    difference = garment - person
    near = person + coefficient * difference
    far = garment - (1 - coefficient) * difference
    return torch.where(coefficient < 0.5, near, far)
