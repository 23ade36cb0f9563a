"""The contract of a try-on loss: the targets and states that it is given, and what it must return."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, final

import torch
from torch import Tensor

from styletryon._deprecated import deprecated_argument, warn_renamed
from styletryon._graphs import is_capturable
from styletryon._reprs import one_line
from styletryon.errors import LossError
from styletryon.features import FeatureNetwork
from styletryon.generator import GeneratorOutput
from styletryon.labels import Label, replaced_classes
from styletryon.latent import Styles


def class_mask(drawing: GeneratorOutput, classes: Collection[int], *, soft: bool = False) -> Tensor:
    """Find the pixels of some label classes in the generator's own segmentation.

    Args:
        drawing: What the generator drew.
        classes: The label classes; those that the generator does not know are passed over.
        soft: Whether to return the probability, which passes gradients on, rather than 0 or 1, which passes none.

    Returns:
        `(B, 1, H, W)` float32 in [0, 1].
    """
    known = sorted(int(label) for label in classes if int(label) < drawing.logits.shape[1])
    if soft:
        return drawing.probabilities[:, known].sum(dim=1, keepdim=True)
    labels = drawing.logits.detach().argmax(dim=1, keepdim=True)
    return torch.isin(labels, torch.tensor(known, device=labels.device, dtype=labels.dtype)).float()


def region_attribution(
    person: Sequence[Tensor],  # (B, K, C_l) each
    garment: Sequence[Tensor],  # (B, K, C_l) each
    region: Collection[int],
) -> tuple[Tensor, ...]:
    """Say how much of each channel acts inside a region: the larger share of the two pictures.

    Args:
        person: M of the person's picture, per layer; see `channel_attribution`.
        garment: M of the garment's picture.
        region: The label classes; those that the generator does not know are passed over.

    Returns:
        One `(B, C_l)` in [0, 1] per layer.
    """
    found = []
    for ours, theirs in zip(person, garment, strict=True):
        classes = sorted(int(label) for label in region if int(label) < ours.shape[1])
        found.append(torch.maximum(ours[:, classes].sum(dim=1), theirs[:, classes].sum(dim=1)))
    return tuple(found)


@deprecated_argument("shares", "channel_masks", until="0.4")
@dataclass(frozen=True, eq=False)
class TryOnTargets:
    """All that a loss may measure a try-on against: one batch of pairs, without gradients.

    Attributes:
        person: The person as the generator draws them (q = 0).
        garment: The wearer of the garment, in their own pose.
        redrawn: The garment in the person's pose: on its wearer (q = 1) or, if the generator has learnt which channels
            belong to the region, on the person (q = `channel_masks`, between the `editable_styles` of both latents).
        person_styles: One `(B, C_l)` per styled layer.
        garment_styles: The same.
        person_attribution: Which channel acts on which class in the person's picture: one `(B, K, C_l)` per styled
            layer, summing to 1 over the classes; see `channel_attribution`.
        garment_attribution: The same for the garment's picture in its own pose.
        region: The label classes of the garment.
        channel_masks: How much of each channel belongs to the region, as the generator has learnt it: one `(C_l,)` per
            styled layer; None if it has learnt nothing of the kind.
    """

    person: GeneratorOutput
    garment: GeneratorOutput
    redrawn: GeneratorOutput
    person_styles: Styles
    garment_styles: Styles
    person_attribution: tuple[Tensor, ...]
    garment_attribution: tuple[Tensor, ...]
    region: frozenset[Label]
    channel_masks: Styles | None = None
    _features: dict[object, tuple[Tensor, ...]] = field(default_factory=dict, repr=False)

    __repr__ = one_line

    def __len__(self) -> int:
        return len(self.person.image)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures."""
        return self.person.image.shape[2], self.person.image.shape[3]

    @property
    def shares(self) -> Styles | None:
        """Old name of `channel_masks`; it leaves in 0.4."""
        warn_renamed("TryOnTargets.shares", "channel_masks", until="0.4")
        return self.channel_masks

    @cached_property
    def person_mask(self) -> Tensor:
        """`(B, 1, H, W)` 0 or 1: what the person takes off."""
        return class_mask(self.person, replaced_classes(self.region))

    @cached_property
    def garment_mask(self) -> Tensor:
        """`(B, 1, H, W)` 0 or 1: the garment in the garment's own picture."""
        return class_mask(self.garment, self.region)

    @cached_property
    def redrawn_mask(self) -> Tensor:
        """`(B, 1, H, W)` 0 or 1: the garment in the person's pose."""
        return class_mask(self.redrawn, self.region)

    @cached_property
    def redrawn_probability(self) -> Tensor:
        """`(B, 1, H, W)` in [0, 1]: the same, soft."""
        return class_mask(self.redrawn, self.region, soft=True)

    @cached_property
    def uncovered(self) -> Tensor:
        """`(B, 1, H, W)` 0 or 1: what the person takes off and the new garment does not cover."""
        return self.person_mask * (1 - self.redrawn_mask)

    @cached_property
    def region_attribution(self) -> tuple[Tensor, ...]:
        """One `(B, C_l)` in [0, 1] per layer: the larger share of the region in either picture."""
        return region_attribution(self.person_attribution, self.garment_attribution, self.region)

    def features(self, network: FeatureNetwork, name: str, images: Tensor) -> tuple[Tensor, ...]:
        """Features of target `images`, computed once for all losses that use an equal network, name and picture."""
        key = (network, name)
        known = self._features.get(key)
        # Two losses may give one name to different pictures; neither must be handed the other's features.
        if known is None or not torch.equal(known[0], images):
            with torch.no_grad():
                known = (images, *(feature.detach() for feature in network(images)))
            self._features[key] = known
        return known[1:]


@dataclass(frozen=True, eq=False)
class TryOnState:
    """The try-on as it stands at a step, differentiable with respect to the coefficients.

    Attributes:
        step: Counts from 0.
        coefficients: The paper's q: one `(B, C_l)` in [0, 1] per styled layer.
        styles: The mixed style codes, one `(B, C_l)` per styled layer.
        drawing: What the generator draws from them.
    """

    step: int
    coefficients: tuple[Tensor, ...]
    styles: Styles
    drawing: GeneratorOutput
    _features: dict[object, tuple[Tensor, ...]] = field(default_factory=dict, repr=False)

    __repr__ = one_line

    @property
    def image(self) -> Tensor:
        """`(B, 3, H, W)`, nominally in [-1, 1]."""
        return self.drawing.image

    @property
    def logits(self) -> Tensor:
        """`(B, K, H, W)`."""
        return self.drawing.logits

    @cached_property
    def probabilities(self) -> Tensor:
        """`(B, K, H, W)` float32: the probability of each label class."""
        return self.drawing.probabilities

    def features(self, network: FeatureNetwork) -> tuple[Tensor, ...]:
        """Features of the picture, computed once a step for all losses that use an equal network."""
        if network not in self._features:
            self._features[network] = network(self.image)
        return self._features[network]


class TryOnLoss(ABC):
    """A loss of the try-on. Write one by deriving from it; there is nothing to register.

    One object may serve many pairs: what `prepare` returns is kept by the optimizer, not here.
    """

    @property
    def capturable(self) -> bool:
        """Whether a CUDA graph may replay `forward`: it runs the same kernels at each step, whatever the step's number.

        And it lets the host wait for none of them, as `float(x)`, `if x > 0:` and `x[mask]` do. Nobody can check this
        for you, so it is False unless a loss says otherwise; then its steps run one by one. A plain class attribute
        `capturable = True` says it.
        """
        return False

    def prepare(self, targets: TryOnTargets) -> Any:
        """Measure, once a batch of pairs and without gradients, what `forward` will compare with.

        Args:
            targets: The pictures, masks and attributions of the pairs.

        Returns:
            Whatever `forward` wants to be handed.
        """
        del targets
        return None

    @abstractmethod
    def forward(self, state: TryOnState, prepared: Any) -> Tensor:
        """Judge a step.

        Args:
            state: The try-on as it stands.
            prepared: What `prepare` returned.

        Returns:
            `(B,)` finite, differentiable with respect to the state, each value from its own pair alone.
        """


@final
class CallableLoss(TryOnLoss):
    """A plain callable `state -> (B,)` as a loss.

    Args:
        function: The callable.
    """

    def __init__(self, function: Callable[[TryOnState], Tensor]) -> None:
        self.function = function

    @property
    def capturable(self) -> bool:
        """Whether the function has a true attribute of that name."""
        return is_capturable(self.function)

    def forward(self, state: TryOnState, prepared: Any) -> Tensor:
        """Call the function."""
        del prepared
        return self.function(state)


def as_loss(loss: TryOnLoss | Callable[[TryOnState], Tensor]) -> TryOnLoss:
    """Return a loss as it is, or wrap a plain callable.

    Args:
        loss: A `TryOnLoss` or a callable `state -> (B,)`.

    Raises:
        LossError: If it is neither.
    """
    if isinstance(loss, TryOnLoss):
        return loss
    if callable(loss) and not isinstance(loss, type):
        return CallableLoss(loss)
    raise LossError(
        f"expected a TryOnLoss or a callable state -> (B,), got {loss!r}; pass an instance", argument="loss"
    )
