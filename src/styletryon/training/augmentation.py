"""Augmentation that moves pictures, labels and keypoints together.

A picture moved without its keypoints teaches a generator to ignore the pose, and a mirrored picture whose keypoints
kept their names shows the left arm where the right one is. So one draw of random numbers (`Change`) is applied to all
three.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from styletryon.errors import RangeError, ShapeError
from styletryon.pose import FLIP_ORDER, NUM_KEYPOINTS

_LUMA = (0.299, 0.587, 0.114)
_DRAWS = 10  # Random numbers per picture, whatever is switched on: a setting changes its own effect and no other.


@dataclass(frozen=True)
class Augmentation:
    """The probability and the strength of each change.

    Attributes:
        flip: Probability of mirroring a picture.
        geometry: Probability of turning, scaling and shifting a picture.
        colour: Probability of changing the colours of a picture.
        rotate: Largest turn either way, in degrees.
        scale: Largest relative change of size; 0.1 draws factors from 1/1.1 to 1.1.
        shift: Largest shift as a share of the picture's height (down) and width (across).
        brightness: Largest shift of all values, in units of the range [0, 1].
        contrast: Largest relative change of the distance from the picture's mean.
        saturation: Largest relative change of the distance from grey.

    Raises:
        RangeError: If a probability lies outside [0, 1], or a strength outside its range.
    """

    flip: float = 0.5
    geometry: float = 0.0
    colour: float = 0.0
    rotate: float = 8.0
    scale: float = 0.1
    shift: float = 0.06
    brightness: float = 0.08
    contrast: float = 0.15
    saturation: float = 0.2

    def __post_init__(self) -> None:
        limits = {"rotate": 180.0, "shift": 1.0, "brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "scale": 3.0}
        for name in ("flip", "geometry", "colour", *limits):
            value, limit = getattr(self, name), limits.get(name, 1.0)
            if not 0 <= value <= limit:  # NaN fails as well.
                raise RangeError(f"expected a number in [0, {limit:g}], got {value}", argument=name)


@dataclass(frozen=True, eq=False)
class Change:
    """The changes of each picture of one batch: drawn once, applied to everything that shows the picture.

    Attributes:
        flipped: `(B,)` bool, which pictures are mirrored (before they are moved).
        moved: `(B,)` bool, which pictures are turned, scaled and shifted.
        matrix: `(B, 2, 2)` float32, the turn and scale about the centre, in pixels.
        shift: `(B, 2)` float32, x and y, as shares of width and height.
        recoloured: `(B,)` bool, whose colours change.
        colour: `(B, 3)` float32: brightness to add (units of [0, 1]), factor of contrast, factor of saturation.
    """

    flipped: Tensor
    moved: Tensor
    matrix: Tensor
    shift: Tensor
    recoloured: Tensor
    colour: Tensor

    def of(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> Change:
        """Return what happens to some of the pictures."""
        chosen = torch.as_tensor(rows, dtype=torch.int64)
        return Change(*(getattr(self, item.name)[chosen] for item in fields(self)))

    def images(self, images: Tensor) -> Tensor:
        """Mirror, move and recolour pictures.

        Args:
            images: `(B, 3, H, W)` floating, in [-1, 1].

        Returns:
            The same shape and dtype. Beyond its edge a picture goes on with the pixels of the edge. Pictures that
            nothing changes keep their bits. Differentiable, once.

        Raises:
            ShapeError: If the shape does not fit.
        """
        return self.recolour(self.move(images))

    def move(self, images: Tensor) -> Tensor:
        """Mirror and move pictures or any maps (logits, probabilities) without touching their colours.

        Args:
            images: `(B, C, H, W)` floating.

        Returns:
            The same shape and dtype, bilinear.

        Raises:
            ShapeError: If the shape does not fit.
        """
        self._check("images", images, 4)
        return self._sample(self._mirror(images), "bilinear")

    def labels(self, labels: Tensor) -> Tensor:
        """Mirror and move label maps.

        Args:
            labels: `(B, H, W)` whole numbers below 256, any dtype. No class is left or right, so none is swapped.

        Returns:
            The same shape and dtype, nearest neighbour: no class appears that was not there.

        Raises:
            ShapeError: If the shape does not fit.
        """
        self._check("labels", labels, 3)
        mirrored = self._mirror(labels)
        if not bool(self.moved.any()):
            return mirrored
        return self._sample(mirrored[:, None].float(), "nearest")[:, 0].to(labels.dtype)

    def keypoints(self, keypoints: Tensor, size: tuple[int, int]) -> Tensor:
        """Mirror and move keypoints; mirroring swaps left and right.

        Args:
            keypoints: `(B, 17, 3)` x, y in pixels of a picture of `size`, and a score.
            size: Height and width of the picture.

        Returns:
            The same shape. A keypoint that leaves the picture keeps its place outside and its score.

        Raises:
            ShapeError: If the shape does not fit.
        """
        self._check("keypoints", keypoints, 3)
        if keypoints.shape[1:] != (NUM_KEYPOINTS, 3):
            raise ShapeError(f"expected (B, {NUM_KEYPOINTS}, 3), got {tuple(keypoints.shape)}", argument="keypoints")
        device, dtype = keypoints.device, keypoints.dtype
        extent = keypoints.new_tensor([size[1], size[0]])
        swapped = keypoints[:, list(FLIP_ORDER)]
        swapped = torch.cat([extent[0] - swapped[..., :1], swapped[..., 1:]], dim=-1)
        points = torch.where(self.flipped.to(device)[:, None, None], swapped, keypoints)
        offset = points[..., :2] - extent / 2
        turned = offset @ self.matrix.to(device, dtype).transpose(1, 2)
        placed = turned + extent / 2 + (self.shift.to(device, dtype) * extent)[:, None]
        placed = torch.where(self.moved.to(device)[:, None, None], placed, points[..., :2])
        return torch.cat([placed, points[..., 2:]], dim=-1)

    def recolour(self, images: Tensor) -> Tensor:
        """Change the colours of pictures, and keep the results in [-1, 1].

        Args:
            images: `(B, 3, H, W)` floating, in [-1, 1].

        Returns:
            The same shape and dtype.

        Raises:
            ShapeError: If the shape does not fit.
        """
        self._check("images", images, 4)
        if not bool(self.recoloured.any()):
            return images
        if images.shape[1] != 3:
            raise ShapeError(f"expected (B, 3, H, W), got {tuple(images.shape)}", argument="images")
        colour = self.colour.to(images.device, images.dtype)[:, :, None, None, None]
        grey = (images * images.new_tensor(_LUMA)[:, None, None]).sum(1, keepdim=True)
        changed = grey + colour[:, 2] * (images - grey)
        mean = changed.mean((1, 2, 3), keepdim=True)
        changed = mean + colour[:, 1] * (changed - mean) + 2 * colour[:, 0]
        chosen = self.recoloured.to(images.device)[:, None, None, None]
        return torch.where(chosen, changed.clamp(-1, 1), images)

    def _check(self, name: str, value: Tensor, dims: int) -> None:
        if value.ndim != dims or value.shape[0] != len(self.flipped):
            raise ShapeError(
                f"expected {dims} dimensions with {len(self.flipped)} pictures first, got {tuple(value.shape)}",
                argument=name,
            )

    def _mirror(self, value: Tensor) -> Tensor:
        if not bool(self.flipped.any()):
            return value
        chosen = self.flipped.to(value.device).reshape(-1, *[1] * (value.ndim - 1))
        return torch.where(chosen, value.flip(-1), value)

    def _sample(self, value: Tensor, mode: str) -> Tensor:
        if not bool(self.moved.any()):
            return value
        chosen = torch.nonzero(self.moved)[:, 0]
        grid = self._grid(chosen, value)
        chosen = chosen.to(value.device)
        # float32: half precision cannot tell the pixels of a large picture apart.
        part = grid_sample(value[chosen].float(), grid, mode=mode, padding_mode="border", align_corners=False)
        return value.index_copy(0, chosen, part.to(value.dtype))

    def _grid(self, chosen: Tensor, like: Tensor) -> Tensor:
        """Return where each pixel of the chosen pictures comes from, `(N, H, W, 2)` in grid_sample's [-1, 1]."""
        height, width = like.shape[-2:]
        device = like.device
        extent = torch.tensor([float(width), float(height)], device=device)
        y, x = torch.meshgrid(
            torch.arange(height, device=device) + 0.5, torch.arange(width, device=device) + 0.5, indexing="ij"
        )
        pixels = torch.stack([x, y], dim=-1).reshape(1, -1, 2)  # (1, H * W, 2)
        offset = pixels - extent / 2 - (self.shift[chosen].to(device) * extent)[:, None]  # (N, H * W, 2)
        back = torch.linalg.inv(self.matrix[chosen]).to(device)  # (N, 2, 2)
        grid: Tensor = (offset @ back.transpose(1, 2)) * 2 / extent
        return grid.reshape(-1, height, width, 2)


def draw_change(batch: int, augmentation: Augmentation, *, generator: torch.Generator) -> Change:
    """Draw what augmentation does to the pictures of one batch.

    Args:
        batch: Number of pictures.
        augmentation: Probabilities and strengths.
        generator: Where the random numbers come from; each picture takes the same number of them, whatever is on.

    Returns:
        The change, on the CPU. To give two batches the same colours, use
        ``dataclasses.replace(second, recoloured=first.recoloured, colour=first.colour)``.
    """
    drawn = torch.rand(batch, _DRAWS, generator=generator, device=generator.device).cpu()
    signed = 2 * drawn - 1
    angle = signed[:, 3] * math.radians(augmentation.rotate)
    factor = torch.exp(signed[:, 4] * math.log1p(augmentation.scale))
    cosine, sine = factor * torch.cos(angle), factor * torch.sin(angle)
    matrix = torch.stack([torch.stack([cosine, -sine], -1), torch.stack([sine, cosine], -1)], -2)
    return Change(
        flipped=drawn[:, 0] < augmentation.flip,
        moved=drawn[:, 1] < augmentation.geometry,
        matrix=matrix,
        shift=signed[:, 5:7] * augmentation.shift,
        recoloured=drawn[:, 2] < augmentation.colour,
        colour=torch.stack(
            [
                signed[:, 7] * augmentation.brightness,
                1 + signed[:, 8] * augmentation.contrast,
                1 + signed[:, 9] * augmentation.saturation,
            ],
            dim=-1,
        ),
    )


def augment(
    images: Tensor,
    labels: Tensor,
    keypoints: Tensor,
    augmentation: Augmentation,
    *,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw a change for each picture and apply it to pictures, labels and keypoints.

    Args:
        images: `(B, 3, H, W)` floating, in [-1, 1].
        labels: `(B, H, W)` whole numbers.
        keypoints: `(B, 17, 3)` x, y in pixels of the pictures, and a score.
        augmentation: Probabilities and strengths.
        generator: Where the random numbers come from.

    Returns:
        Pictures, labels and keypoints of the same shapes and dtypes.

    Raises:
        ShapeError: If the shapes do not fit each other.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ShapeError(f"expected (B, 3, H, W), got {tuple(images.shape)}", argument="images")
    if labels.shape != (len(images), *images.shape[2:]):
        raise ShapeError(
            f"expected {(len(images), *images.shape[2:])} like the images, got {tuple(labels.shape)}",
            argument="labels",
        )
    change = draw_change(len(images), augmentation, generator=generator)
    size = (images.shape[2], images.shape[3])
    return change.images(images), change.labels(labels), change.keypoints(keypoints, size)
