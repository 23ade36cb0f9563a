"""Adaptive augmentation of what a discriminator sees, for small sets (Karras et al. 2020, arXiv 2006.06676).

A discriminator that sees a thousand pictures again and again learns them by heart, and a generator then learns nothing
from it any more. So it is shown all pictures, real and drawn, changed at random: turned, scaled, shifted, recoloured.
As long as most pictures stay as they are, a generator can only please it by drawing unchanged ones. How likely a change
is follows from how sure the discriminator is of real pictures.

Of the paper's changes those are here that it found to help: moves and colours. Mirroring is left to
`TrainingConfig.flip`; turns by any angle contain the quarter turns, and shifts those by whole pixels. Beyond its edge a
picture goes on with the pixels of the edge instead of its mirror image, which would show limbs without keypoints.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from styletryon.errors import CheckpointError, RangeError, ShapeError
from styletryon.pose import Pose
from styletryon.training.augmentation import Change

# Strengths of the paper's appendix B; values of pictures run from -1 to 1.
_SCALE = 0.2 * math.log(2)  # standard deviation of the logarithm of a scale, for all and for either side
_SHIFT = 0.125  # of a shift, as a share of width and height
_BRIGHTNESS = 0.2
_CONTRAST = 0.5 * math.log(2)  # of the logarithm
_SATURATION = 1.0 * math.log(2)  # of the logarithm

_MOVES, _COLOURS = 5, 5  # changes that may happen to a picture, each or not
_NORMAL, _UNIFORM = 7, 4  # random numbers that say how strong they are

NUMBERS = _MOVES + _COLOURS + _NORMAL + _UNIFORM
"""Random numbers that `adaptive_change` takes for each picture."""


@dataclass(frozen=True)
class AdaptiveAugmentation:
    """The rule by which the probability of changes is adjusted.

    Attributes:
        target: Mean sign of the discriminator's logits of real pictures that is aimed at. 1 is a discriminator that
            knows every real picture, 0 one that guesses; above the target changes become likelier, below rarer.
        interval: Steps from one measurement to the next.
        pictures: After how many pictures the probability can have risen from 0 to 1.
        limit: The highest probability. From about 0.8 on generators begin to draw changed pictures, the paper says.

    Raises:
        RangeError: If a number lies outside its range.
    """

    target: float = 0.6
    interval: int = 4
    pictures: int = 500_000
    limit: float = 0.8

    def __post_init__(self) -> None:
        if not -1 <= self.target <= 1:
            raise RangeError(f"expected a mean of signs in [-1, 1], got {self.target}", argument="target")
        if not 0 <= self.limit <= 1:
            raise RangeError(f"expected a probability in [0, 1], got {self.limit}", argument="limit")
        if self.interval < 1 or self.pictures < 1:
            raise RangeError(
                f"expected at least 1, got {self.interval} and {self.pictures}", argument="interval, pictures"
            )


class AugmentationController:
    """Adjusts the probability of changes to the discriminator (Karras et al. 2020, arXiv 2006.06676).

    Args:
        settings: How it is adjusted.
        device: Where the logits are.

    Attributes:
        strength: The probability, from 0.
    """

    def __init__(self, settings: AdaptiveAugmentation, device: torch.device | str = "cpu") -> None:
        self.settings = settings
        self.strength = 0.0
        self._steps = 0
        self._signs = torch.zeros((), device=device)  # sum since the last adjustment

    def update(self, sign: Tensor, *, batch_size: int) -> None:
        """Take notice of a step, and adjust the strength if it is time.

        Args:
            sign: The mean sign of the discriminator's logits of real pictures, changed as they were, over the batch of
                all processes, so that all go on with one strength.
            batch_size: Pictures of that batch.
        """
        self._signs += sign.detach().float().nan_to_num(0.0)  # in float16 a step may overflow
        self._steps += 1
        if self._steps < self.settings.interval:
            return
        excess = float(self._signs) / self._steps - self.settings.target
        # The same step up or down however large the excess is, as in the paper.
        change = math.copysign(batch_size * self._steps / self.settings.pictures, excess) if excess else 0.0
        self.strength = min(max(self.strength + change, 0.0), self.settings.limit)
        self._signs.zero_()
        self._steps = 0

    def state(self) -> dict[str, Any]:
        """Return everything that the next adjustment depends on."""
        return {"strength": self.strength, "steps": self._steps, "signs": self._signs.clone()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over a state that `state` returned.

        Args:
            state: The state.

        Raises:
            CheckpointError: If it is none.
        """
        try:
            strength, steps, signs = float(state["strength"]), int(state["steps"]), state["signs"]
            self._signs.copy_(signs)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"expected what AugmentationController.state returns: {error}", argument="state"
            ) from error
        self.strength, self._steps = strength, steps


@dataclass(frozen=True, eq=False)
class AdaptiveChange:
    """The changes of each picture of a batch before the discriminator sees it.

    Attributes:
        move: Turns, scales and shifts.
        recoloured: `(B,)` bool, whose colours change.
        colour: `(B, 3, 4)` float32: colours are multiplied by its first three columns, and the last is added.
    """

    move: Change
    recoloured: Tensor
    colour: Tensor

    def apply(self, images: Tensor, labels: Tensor, pose: Pose) -> tuple[Tensor, Tensor, Pose]:
        """Change pictures, what they show, and where.

        Args:
            images: `(B, 3, H, W)` floating, in [-1, 1].
            labels: `(B, K, H, W)` probabilities of classes, or one-hot.
            pose: B poses.

        Returns:
            Pictures, no longer clamped to [-1, 1], and labels, float32; both differentiable, once. The poses.

        Raises:
            ShapeError: If the shapes do not fit.
        """
        if images.ndim != 4 or labels.ndim != 4 or images.shape[1] != 3 or images.shape[2:] != labels.shape[2:]:
            raise ShapeError(
                f"expected (B, 3, H, W) and (B, K, H, W), got {tuple(images.shape)} and "
                f"{tuple(labels.shape)}",
                argument="images, labels",
            )
        # bfloat16 cannot tell the pixels of a row apart, and would turn by other angles.
        with torch.autocast(images.device.type, enabled=False):
            both = self.move.move(torch.cat([images.float(), labels.float()], dim=1))
            keypoints = self.move.keypoints(pose.keypoints, pose.size)
            return self._recolour(both[:, :3]), both[:, 3:], Pose(keypoints, pose.size)

    def _recolour(self, images: Tensor) -> Tensor:
        if not bool(self.recoloured.any()):
            return images
        colour = self.colour.to(images.device)[..., None, None]
        changed = (colour[:, :, :3] * images[:, None]).sum(dim=2) + colour[:, :, 3]
        return torch.where(self.recoloured.to(images.device)[:, None, None, None], changed, images)


def adaptive_change(numbers: Tensor, strength: float) -> AdaptiveChange:
    """Turn random numbers into what happens to the pictures of one batch.

    Args:
        numbers: `(B, NUMBERS)` standard normal, on the CPU.
        strength: Probability of each change, in [0, 1].

    Raises:
        RangeError: If the strength is no probability.
        ShapeError: If there are more or fewer numbers.
    """
    if not 0 <= strength <= 1:
        raise RangeError(f"expected a probability in [0, 1], got {strength}", argument="strength")
    if numbers.ndim != 2 or numbers.shape[1] != NUMBERS:
        raise ShapeError(f"expected (B, {NUMBERS}), got {tuple(numbers.shape)}", argument="numbers")
    # bfloat16 would turn by other angles.
    with torch.autocast("cpu", enabled=False):
        return _change(numbers, strength)


def _change(numbers: Tensor, strength: float) -> AdaptiveChange:
    normal, rest = numbers[:, :_NORMAL], torch.special.ndtr(numbers[:, _NORMAL:])  # the rest uniform in [0, 1]
    chance, uniform = rest[:, : _MOVES + _COLOURS], 2 * rest[:, _MOVES + _COLOURS :] - 1
    limits = torch.full((_MOVES + _COLOURS,), strength)
    # Two turns, one before and one after the sides are scaled: either happens with the probability of one of the rest.
    limits[1] = limits[3] = 1 - math.sqrt(1 - strength)
    happens = chance < limits
    matrix, shift = _moves(happens[:, :_MOVES], normal, uniform)
    move = Change(
        flipped=torch.zeros(len(numbers), dtype=torch.bool),
        moved=happens[:, :_MOVES].any(dim=1),
        matrix=matrix,
        shift=shift,
        recoloured=torch.zeros(len(numbers), dtype=torch.bool),
        colour=torch.tensor([0.0, 1.0, 1.0]).expand(len(numbers), 3),
    )
    recoloured = happens[:, _MOVES:]
    return AdaptiveChange(move, recoloured.any(dim=1), _colours(recoloured, normal[:, 4:], uniform[:, 2:]))


def _moves(happens: Tensor, normal: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Return matrices `(B, 2, 2)` that turn and scale, and shifts `(B, 2)`."""
    angles = torch.where(happens[:, [1, 3]], math.pi * uniform[:, :2], 0.0)
    scale = torch.where(happens[:, 0], torch.exp(_SCALE * normal[:, 0]), 1.0)
    stretch = torch.where(happens[:, 2], torch.exp(_SCALE * normal[:, 1]), 1.0)
    sides = scale[:, None] * torch.stack([stretch, 1 / stretch], dim=-1)
    matrix = _turn(angles[:, 1]) @ torch.diag_embed(sides) @ _turn(angles[:, 0])
    return matrix, torch.where(happens[:, 4:5], _SHIFT * normal[:, 2:4], 0.0)


def _turn(angle: Tensor) -> Tensor:
    cosine, sine = torch.cos(angle), torch.sin(angle)
    return torch.stack([torch.stack([cosine, -sine], dim=-1), torch.stack([sine, cosine], dim=-1)], dim=-2)


def _colours(happens: Tensor, normal: Tensor, uniform: Tensor) -> Tensor:
    """Return colour changes `(B, 3, 4)`: brightness, contrast, light to dark, hue and saturation, in this order."""
    brightness = torch.where(happens[:, 0], _BRIGHTNESS * normal[:, 0], 0.0)
    contrast = torch.where(happens[:, 1], torch.exp(_CONTRAST * normal[:, 1]), 1.0)
    # Of the pictures that may turn from light to dark half do.
    sign = torch.where(happens[:, 2] & (uniform[:, 1] > 0), -1.0, 1.0)[:, None, None]
    angle = torch.where(happens[:, 3], math.pi * uniform[:, 0], 0.0)[:, None, None]
    saturation = torch.where(happens[:, 4], torch.exp(_SATURATION * normal[:, 2]), 1.0)[:, None, None]
    grey = torch.full((3, 3), 1 / 3)  # what is alike in all three colours
    rest = torch.eye(3) - grey
    third = math.sqrt(1 / 3)
    across = torch.tensor([[0.0, -third, third], [third, 0.0, -third], [-third, third, 0.0]])
    linear = sign * grey + saturation * (torch.cos(angle) * rest + torch.sin(angle) * across)
    linear = linear * contrast[:, None, None]
    return torch.cat([linear, (linear.sum(dim=2) * brightness[:, None])[..., None]], dim=2)
