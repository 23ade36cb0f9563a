"""The bundled estimator: from a photograph to the keypoints of the person in it, and to what its pixels show.

`BodyEstimator` runs the bundled network and needs nothing else. `KeypointRCNNEstimator` runs torchvision's Keypoint
R-CNN, twenty times as large, for those who have its weights; it finds keypoints alone. Both are plain callables that
take a picture and return a `Pose`; so is any other estimator that one wants to use instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Protocol, final

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from styletryon._arguments import number
from styletryon.errors import PersonNotFoundError, PoseError
from styletryon.pose._photo import Box, as_box, as_rgb, cut, within
from styletryon.pose._pose import FLIP_ORDER, Pose
from styletryon.pose._weights import load_body_network
from styletryon.pose.network import BodyNetwork

LEAST_SCORE = 0.4
"""Mean score over the 17 keypoints under which `BodyEstimator` says that there is nobody."""

_FRAME_SHARE = 0.8  # of the height of the second pass's frame is the person; the training centres there
_WINDOW = 3  # heatmap pixels on each side of the peak that say where it is to a fraction of a pixel
_CLEAR = 0.85  # mean share of a heatmap's mass about its peak under which there may be several people
_BLOCK = 4_000_000  # label probabilities that are brought to a photograph's size at a time

Labels = npt.NDArray[np.uint8]


class PoseEstimator(Protocol):
    """Anything that finds the pose of the main person in a picture."""

    def __call__(self, image: Image.Image, /) -> Pose:
        """Find the pose.

        Args:
            image: An RGB picture.

        Returns:
            One pose in the picture's pixels, a score in [0, 1] per keypoint.

        Raises:
            PersonNotFoundError: If nobody is found.
        """
        ...


@final
class BodyEstimator:
    """Finds keypoints and label classes with the bundled network, on whatever device the network is.

    Two passes of the same network: the whole photograph says roughly where the person is, a frame around them says it
    exactly, and says what the pixels show. Where the whole photograph shows nobody, or several people, parts of it are
    looked at too. Of several people the largest counts.

    Args:
        network: The network; it is put into evaluation mode.
        refine: Whether the second pass is made.
        flip: Whether every pass also sees the mirrored picture: the average errs less, at twice the time.
        least_score: Mean score over the keypoints inside the frame under which there is nobody. 0 never raises.

    Raises:
        RangeError: If `least_score` is outside [0, 1].
    """

    def __init__(
        self,
        network: BodyNetwork,
        *,
        refine: bool = True,
        flip: bool = True,
        least_score: float = LEAST_SCORE,
    ) -> None:
        self.network = network.eval()
        self.refine = refine
        self.flip = flip
        self.least_score = number(least_score, "least_score", least=0, most=1)

    @classmethod
    def from_pretrained(cls, folder: str | PathLike[str] | None = None) -> BodyEstimator:
        """Load a network from a folder, on the CPU.

        Args:
            folder: Holds `body.json` and `body.safetensors`. Default: the bundled one.

        Returns:
            An estimator with the default settings.

        Raises:
            CheckpointNotFoundError: If a file is missing.
            CheckpointError: If the files do not fit each other or this version.
        """
        place = Path(folder) if folder is not None else Path(__file__).parent.parent / "weights"
        return cls(load_body_network(place))

    @torch.inference_mode()
    def __call__(self, image: Image.Image, *, box: Sequence[float] | None = None) -> Pose:
        """Find the pose of one person: the largest, or the one in a box.

        Args:
            image: A picture of any mode and size; an RGB one is taken as it is.
            box: Left, top, right and bottom in pixels of what shows the person. None for the whole picture.

        Returns:
            One pose in the picture's pixels; scores say how surely a keypoint is in the picture and not hidden.
            A keypoint outside the picture or the box has score 0.

        Raises:
            ImageError: If `image` is not a picture.
            RangeError: If `box` is empty or beside the picture.
            PersonNotFoundError: If the mean score stays under `least_score`.
        """
        photo = as_rgb(image)
        found = self._person(photo, box, parse=False)
        return Pose(found.keypoints[None], (photo.height, photo.width))

    @torch.inference_mode()
    def parse(self, image: Image.Image, *, box: Sequence[float] | None = None) -> tuple[Pose, Labels]:
        """Find the pose of one person and what the pixels show, by the same passes.

        Args:
            image: A picture of any mode and size; an RGB one is taken as it is.
            box: Left, top, right and bottom in pixels of what shows the person. None for the whole picture.

        Returns:
            The pose, as of a call; and the classes of `styletryon.labels.Label`, `(H, W)` uint8 of the picture's size,
            background beyond a frame around the person.

        Raises:
            ImageError: If `image` is not a picture.
            RangeError: If `box` is empty or beside the picture.
            PersonNotFoundError: If the mean score stays under `least_score`.
        """
        photo = as_rgb(image)
        found = self._person(photo, box, parse=True)
        return Pose(found.keypoints[None], (photo.height, photo.width)), _spread(found, photo)

    @torch.inference_mode()
    def labels(self, image: Image.Image, pose: Pose) -> Labels:
        """Say what the pixels show around a person whose pose is known, in one pass.

        Args:
            image: A picture of any mode and size; an RGB one is taken as it is.
            pose: The person's keypoints in its pixels.

        Returns:
            The classes of `styletryon.labels.Label`, `(H, W)` uint8, background beyond a frame around the person.

        Raises:
            ImageError: If `image` is not a picture.
            PoseError: If the pose is not one person's in a picture of this size, or says of no keypoint where it is.
        """
        photo = as_rgb(image)
        if len(pose) != 1 or pose.size != (photo.height, photo.width) or not bool((pose.keypoints[..., 2] > 0).any()):
            raise PoseError(
                f"expected the keypoints of one person in a picture of {photo.height}x{photo.width} (height x "
                f"width), got {len(pose)} in {pose.size[0]}x{pose.size[1]}, "
                f"{int((pose.keypoints[..., 2] > 0).sum())} of whose keypoints are seen",
                argument="pose",
            )
        return _spread(self._find(photo, self._frame(pose.keypoints[0].cpu().float()), parse=True), photo)

    def _person(self, photo: Image.Image, box: Sequence[float] | None, *, parse: bool) -> _Found:
        """Find the person that counts, first roughly, then exactly."""
        limits = None if box is None else as_box(box, photo)
        if limits == (0, 0, photo.width, photo.height):
            limits = None  # it limits nothing
        found = self._largest(photo) if limits is None else self._find(photo, self._around(_wider(limits)), limits)
        if self.refine and found.mean >= 0.5 * self.least_score:
            closer = self._find(photo, self._frame(found.keypoints), limits, parse=parse)
            # A frame that lost the person is worse than none.
            found = closer if closer.mean >= 0.7 * found.mean else found
        if found.mean < self.least_score:
            raise PersonNotFoundError(
                f"expected a photograph that shows a person, got a mean keypoint score of {found.mean:.2f} "
                f"(at least {self.least_score:.2f} is needed); crop it closer to the person or pass a pose",
                argument="image",
            )
        return self._find(photo, found.frame, limits, parse=True) if parse and found.classes is None else found

    def _largest(self, photo: Image.Image) -> _Found:
        """Look at the whole photograph and, where that is not enough, at parts of it."""
        found = self._find(photo, self._around((0.0, 0.0, photo.width, photo.height)))
        nobody = found.mean < max(self.least_score, 0.5)
        if not nobody and found.clear >= _CLEAR:
            return found
        tries = [found, *(self._find(photo, part) for part in self._parts(photo.width, photo.height))]
        if nobody:
            return max(tries, key=lambda one: one.mean)
        best = max(one.mean for one in tries)
        sure = [one for one in tries if one.mean >= 0.8 * best and one.clear >= _CLEAR]
        return max(sure, key=lambda one: _extent(one.keypoints), default=found)

    def _find(self, photo: Image.Image, frame: Box, limits: Box | None = None, *, parse: bool = False) -> _Found:
        """Run the network on a frame of a photograph; keypoints are looked for within the limits."""
        height, width = self.network.config.size
        device = self.network.position.device
        picture = cut(photo, frame, (height, width)).to(device)
        views = torch.stack([picture, picture.flip(-1)]) if self.flip else picture[None]
        encoded = self.network.encode(views)
        logits, presence = self.network.find(encoded)
        maps = logits.flatten(2).softmax(-1).view_as(logits)  # (V, 17, h, w)
        scores = presence.sigmoid()
        classes = self.network.parse(encoded).softmax(1) if parse else None
        if self.flip:
            maps = (maps[0] + maps[1, list(FLIP_ORDER)].flip(-1)) / 2
            scores = (scores[0] + scores[1, list(FLIP_ORDER)]) / 2
            classes = None if classes is None else (classes[0] + classes[1].flip(-1)) / 2
        else:
            maps, scores = maps[0], scores[0]
            classes = None if classes is None else classes[0]
        left, top, right, bottom = frame
        step_x, step_y = (right - left) / maps.shape[-1], (bottom - top) / maps.shape[-2]
        if limits is not None:
            maps, scores = _limit(maps, scores, frame, limits)
        x, y, mass = _peaks(maps)
        points = torch.stack([left + x * step_x, top + y * step_y, scores], dim=-1).cpu()
        clear = float((mass * scores).sum() / scores.sum().clamp(min=1e-6))
        return _Found(within(points, photo), float(scores.mean()), clear, frame, classes)

    def _around(self, box: Box) -> Box:
        """Return the smallest box of the network's aspect around a box."""
        height, width = self.network.config.size
        left, top, right, bottom = box
        step = max((right - left) / width, (bottom - top) / height, 1e-3)
        x, y = (left + right) / 2, (top + bottom) / 2
        return x - step * width / 2, y - step * height / 2, x + step * width / 2, y + step * height / 2

    def _frame(self, points: Tensor) -> Box:
        """Return the frame of the second pass: the keypoints that are there, and room for head, hands and feet."""
        sure = points[points[:, 2] >= min(0.3, float(points[:, 2].max()))][:, :2]
        low, high = sure.amin(0), sure.amax(0)
        person = max(float(high[1] - low[1]) * 1.15, float(high[0] - low[0]) * 1.3, 16.0)
        x, y = ((low + high) / 2).tolist()
        reach = person / 2 / _FRAME_SHARE
        return self._around((x, y - reach, x, y + reach))

    def _parts(self, width: int, height: int) -> list[Box]:
        """Return frames of the network's aspect that cover the photograph at two finer scales."""
        high, wide = self.network.config.size
        boxes = []
        for share in (1.0, 0.6):
            tall = share * min(float(height), width * high / wide) if width * high >= height * wide else share * height
            across = tall * wide / high
            columns = max(1, math.ceil((width - across) / (across * 0.5)) + 1) if width > across else 1
            rows = max(1, math.ceil((height - tall) / (tall * 0.5)) + 1) if height > tall else 1
            for row in range(min(rows, 5)):
                for column in range(min(columns, 7)):
                    x = (width - across) * (column / (columns - 1) if columns > 1 else 0.5)
                    y = (height - tall) * (row / (rows - 1) if rows > 1 else 0.5)
                    boxes.append((x, y, x + across, y + tall))
        return boxes


@dataclass(frozen=True, eq=False)
class _Found:
    keypoints: Tensor  # (17, 3) in pixels of the photograph
    mean: float  # mean presence over all keypoints
    clear: float  # mean share of a heatmap's mass that is about its peak
    frame: Box  # what the network saw
    classes: Tensor | None  # (12, h, w) probabilities of the label classes in the frame


def _wider(box: Box) -> Box:
    """Return a box with the room around it that the network is used to."""
    left, top, right, bottom = box
    x, y = (right - left) * (1 / _FRAME_SHARE - 1) / 2, (bottom - top) * (1 / _FRAME_SHARE - 1) / 2
    return left - x, top - y, right + x, bottom + y


def _extent(points: Tensor) -> float:
    """The larger side of the box around the keypoints that are there."""
    sure = points[points[:, 2] >= min(0.3, float(points[:, 2].max()))][:, :2]
    return float((sure.amax(0) - sure.amin(0)).max())


def _limit(maps: Tensor, scores: Tensor, frame: Box, limits: Box) -> tuple[Tensor, Tensor]:
    """Clear heatmaps beyond the limits; a keypoint scores the less, the more of its heatmap was there."""
    height, width = maps.shape[1:]
    left, top, right, bottom = frame
    x = left + (torch.arange(width, device=maps.device, dtype=torch.float32) + 0.5) * ((right - left) / width)
    y = top + (torch.arange(height, device=maps.device, dtype=torch.float32) + 0.5) * ((bottom - top) / height)
    inside = ((y >= limits[1]) & (y <= limits[3]))[:, None] & ((x >= limits[0]) & (x <= limits[2]))
    left_over = maps * inside
    return left_over + 1e-12 * inside, scores * left_over.sum((1, 2))


def _spread(found: _Found, photo: Image.Image) -> Labels:
    """Bring the probabilities of the classes from a frame to a photograph's pixels, and take the most probable one."""
    labels = np.zeros((photo.height, photo.width), np.uint8)
    if found.classes is None:
        return labels
    probabilities = found.classes.float()
    left, top, right, bottom = found.frame
    x0, x1 = max(0, math.ceil(left)), min(photo.width, math.floor(right))
    y0, y1 = max(0, math.ceil(top)), min(photo.height, math.floor(bottom))
    if x0 >= x1 or y0 >= y1:
        return labels
    device = probabilities.device
    across = _between(x0, x1, left, right, probabilities.shape[2]).to(device)  # (W, w)
    down = _between(y0, y1, top, bottom, probabilities.shape[1]).to(device)  # (H, h)
    rows = max(1, _BLOCK // (len(probabilities) * (x1 - x0)))
    narrow = probabilities @ across.T  # (12, h, W)
    for start in range(y0, y1, rows):
        block = down[start - y0 : start - y0 + rows] @ narrow  # (12, H', W)
        labels[start : start + block.shape[1], x0:x1] = block.argmax(0).to(torch.uint8).cpu().numpy()
    return labels


def _between(first: int, last: int, low: float, high: float, count: int) -> Tensor:
    """Linear interpolation as a matrix: pixels `first` to `last` out of `count` samples that fill [low, high]."""
    place = (torch.arange(first, last, dtype=torch.float32, device="cpu") + 0.5 - low) * (count / (high - low)) - 0.5
    return (1 - (place[:, None] - torch.arange(count, device="cpu")).abs()).clamp(min=0) + _edge(place, count)


def _edge(place: Tensor, count: int) -> Tensor:
    """What is beyond the centres of the outermost samples takes their value."""
    weights = place.new_zeros(len(place), count)
    weights[:, 0] = (-place).clamp(0, 1)
    weights[:, -1] += (place - (count - 1)).clamp(0, 1)
    return weights


def _peaks(maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Find the peaks of `(P, h, w)` maps to a fraction of a pixel.

    Returns:
        x and y `(P,)`, pixel centres at 0.5, and the share of each map that is about its peak.
    """
    height, width = maps.shape[1:]
    peak = maps.flatten(1).argmax(-1)
    row, column = peak // width, peak % width
    rows = torch.arange(height, device=maps.device, dtype=torch.float32)
    columns = torch.arange(width, device=maps.device, dtype=torch.float32)
    near_row = ((rows - row[:, None]).abs() <= _WINDOW)[:, :, None]
    near_column = ((columns - column[:, None]).abs() <= _WINDOW)[:, None, :]
    near = maps * (near_row & near_column)
    mass = near.sum((1, 2)) / maps.sum((1, 2)).clamp(min=1e-12)
    near = near / near.sum((1, 2), keepdim=True).clamp(min=1e-12)
    x = (near.sum(1) * (columns + 0.5)).sum(-1)
    y = (near.sum(2) * (rows + 0.5)).sum(-1)
    return x, y, mass
