"""The editing-localization loss: which channels act inside the region, and the charge for those that do not."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor
from torch.nn import functional

from styletryon.errors import ConfigError, ShapeError
from styletryon.losses.contract import TryOnLoss, TryOnState, TryOnTargets, region_attribution

LocalizationMode = Literal["outside", "signed", "l1"]


def channel_attribution(activations: Sequence[Tensor], labels: Tensor) -> list[Tensor]:
    """Measure which channel acts on which label class (Collins et al., Editing in Style, 2020).

    `M_{k,c} = mean over the pixels of A^2 * U_k`, with A the activations normalised per channel and picture to mean 0
    and variance 1, and U the segmentation brought to the layer's size by area. Over the classes M sums to 1. A channel
    that is constant acts nowhere in particular: it is spread by the area of the classes.

    Args:
        activations: The input of each styled layer before its style scales it, `(B, C_l, h, w)`.
        labels: `(B, K, H, W)` one-hot segmentation, or any partition of unity.

    Returns:
        One `(B, K, C_l)` float32 in [0, 1] per layer, without gradient.

    Raises:
        ShapeError: If the batches differ.
    """
    labels = labels.detach().float()
    found = []
    resized: dict[tuple[int, int], Tensor] = {}
    for layer, activation in enumerate(activations):
        if activation.ndim != 4 or len(activation) != len(labels):
            raise ShapeError(
                f"expected ({len(labels)}, C, h, w) like labels, got {tuple(activation.shape)}",
                argument=f"activations[{layer}]",
            )
        size = (activation.shape[2], activation.shape[3])
        if size not in resized:
            resized[size] = functional.interpolate(labels, size, mode="area").flatten(2)
        masks = resized[size]  # (B, K, N)
        values = activation.detach().float().flatten(2)  # (B, C, N)
        mean = values.mean(dim=2, keepdim=True)
        energy = (values - mean).square()
        variance = energy.mean(dim=2)  # (B, C)
        share = torch.einsum("bkn,bcn->bkc", masks, energy) / masks.shape[2]
        # Rounding leaves a constant channel a variance of about (value * epsilon)^2.
        constant = variance <= 1e-10 * mean.squeeze(2).square() + 1e-30
        share = share / variance.masked_fill(constant, 1.0)[:, None]
        found.append(torch.where(constant[:, None], masks.mean(dim=2)[..., None], share))
    return found


def channel_charges(
    person: Sequence[Tensor],  # (B, K, C_l) each
    garment: Sequence[Tensor],  # (B, K, C_l) each
    region: Collection[int],
    mode: LocalizationMode = "outside",
) -> tuple[Tensor, ...]:
    """Say what opening each channel fully costs.

    Args:
        person: M of the person's picture, per layer; see `channel_attribution`.
        garment: M of the garment's picture.
        region: The label classes of the garment.
        mode: "outside": `1 - M_region`. "signed": the strongest class outside the region minus `M_region`, so that
            channels of the region are rewarded. "l1": 1. M is the larger of the two pictures' throughout.

    Returns:
        One `(B, C_l)` per layer.

    Raises:
        ConfigError: If the mode is unknown.
    """
    if mode not in ("outside", "signed", "l1"):
        raise ConfigError(f"expected 'outside', 'signed' or 'l1', got {mode!r}", argument="mode")
    inside = {int(label) for label in region}
    charges = []
    for ours, theirs, share in zip(person, garment, region_attribution(person, garment, inside), strict=True):
        outside = [label for label in range(ours.shape[1]) if label not in inside]
        if mode == "outside":
            charges.append(1 - share)
        elif mode == "signed":
            charges.append(torch.maximum(ours[:, outside], theirs[:, outside]).amax(dim=1) - share)
        else:
            charges.append(torch.ones_like(share))
    return tuple(charges)


def localization_loss(
    coefficients: Sequence[Tensor],  # (B, C_l) each
    charges: Sequence[Tensor],  # (B, C_l) each
) -> Tensor:
    """Charge coefficients: the mean over all channels of coefficient times charge, `(B,)`; linear in the coefficients.

    Args:
        coefficients: One `(B, C_l)` in [0, 1] per layer.
        charges: What `channel_charges` returned.
    """
    return (torch.cat(tuple(coefficients), dim=1) * torch.cat(tuple(charges), dim=1)).mean(dim=1)


@final
@dataclass(frozen=True)
class EditingLocalizationLoss(TryOnLoss):
    """Keeps the coefficients of channels that act outside the region small.

    Differs from the paper: its formula could not be had. The default charges `1 - M_region`, which follows from the
    greedy query of Editing in Style, the work that it builds on; the readings as a signed difference and as a plain L1
    norm are offered beside it. `styletryon evaluate --methods ablations` compares the three, see docs/evaluation.md.

    Attributes:
        mode: "outside", "signed" or "l1"; see `channel_charges`.

    Raises:
        ConfigError: If the mode is unknown.
    """

    mode: LocalizationMode = "outside"

    def __post_init__(self) -> None:
        channel_charges((), (), (), self.mode)

    @property
    def capturable(self) -> bool:
        """It is."""
        return True

    def prepare(self, targets: TryOnTargets) -> tuple[Tensor, ...]:
        """Compute what each channel costs."""
        return channel_charges(targets.person_attribution, targets.garment_attribution, targets.region, self.mode)

    def forward(self, state: TryOnState, prepared: tuple[Tensor, ...]) -> Tensor:
        """Charge the coefficients, `(B,)`."""
        return localization_loss(state.coefficients, prepared)
