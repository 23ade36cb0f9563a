"""The bundled estimator: from a photograph to the keypoints of the person in it, and to what its pixels show.

`BodyEstimator` runs the bundled network and needs nothing else. `KeypointRCNNEstimator` runs torchvision's Keypoint
R-CNN, twenty times as large, for those who have its weights; it finds keypoints alone. Both are plain callables that
take a picture and return a `Pose`; so is any other estimator that one wants to use instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Protocol, final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from styletryon._arguments import find_device, number
from styletryon.errors import PersonNotFoundError, PoseError
from styletryon.pose._labelling import Labels, coherent, person_box, spread
from styletryon.pose._photo import Box, as_box, as_rgb, cut, within
from styletryon.pose._pose import FLIP_ORDER, Pose
from styletryon.pose._weights import load_body_network
from styletryon.pose.network import BodyNetwork

LEAST_SCORE = 0.5
"""Mean of the `_SHOWN` highest keypoint scores under which `BodyEstimator` says that there is nobody."""

_SHOWN = 5  # keypoints: as many as the half of a person that a shop's picture may show surely has
_FRAME_SHARE = 0.78  # of the frame of the second pass is the person, along the side that fits tightly
_WINDOW = 3  # heatmap pixels on each side of the peak that say where it is to a fraction of a pixel
_WHOLE, _BETTER = 0.78, 0.06  # mean score of all keypoints of a whole person, and how much more of it is no chance
_CLEAR = 0.85  # mean share of a heatmap's mass about its peak under which there may be several people


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

    Two passes of the same network: the whole photograph, small, says roughly where the person is, or as much of them as
    it shows; a frame around that says it exactly, and says what the pixels show. Where the whole photograph shows
    nobody, or several people, parts of it are looked at too. Of several people the largest counts.

    Args:
        network: The network; it is put into evaluation mode.
        refine: Whether the second pass is made.
        flip: Whether the second pass also sees the mirrored picture: the average errs less, at twice the time.
        edges: Whether labels are brought to the photograph's own edges, and each garment made one thing.
        least_score: Mean of the five highest keypoint scores under which there is nobody. 0 never raises.

    Raises:
        RangeError: If `least_score` is outside [0, 1].
    """

    def __init__(
        self,
        network: BodyNetwork,
        *,
        refine: bool = True,
        flip: bool = True,
        edges: bool = True,
        least_score: float = LEAST_SCORE,
    ) -> None:
        # A CPU takes two thirds of the time where the channels of a pixel lie side by side.
        self.network = network.eval().to(memory_format=torch.channels_last)
        self.refine = refine
        self.flip = flip
        self.edges = edges
        self.least_score = number(least_score, "least_score", least=0, most=1)

    @classmethod
    def from_pretrained(
        cls, folder: str | PathLike[str] | None = None, *, device: torch.device | str | None = None
    ) -> BodyEstimator:
        """Load a network from a folder.

        Args:
            folder: Holds `body.json` and `body.safetensors`. Default: the bundled one.
            device: Where the network runs. Default: the CPU.

        Returns:
            An estimator with the default settings.

        Raises:
            CheckpointNotFoundError: If a file is missing.
            CheckpointError: If the files do not fit each other or this version.
            ConfigError: If there is no such device.
        """
        place = Path(folder) if folder is not None else Path(__file__).parent.parent / "weights"
        return cls(load_body_network(place).to(find_device(device) if device is not None else "cpu"))

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
            PersonNotFoundError: If the keypoints that show best score less than `least_score`.
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
            PersonNotFoundError: If the keypoints that show best score less than `least_score`.
        """
        photo = as_rgb(image)
        found = self._person(photo, box, parse=True)
        return Pose(found.keypoints[None], (photo.height, photo.width)), self._labels(found, photo)

    @torch.inference_mode()
    def labels(self, image: Image.Image, pose: Pose) -> Labels:
        """Say what the pixels show around a person whose pose is known.

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
        rough = self._find(photo, self._around(_wider(_keypoint_box(pose.keypoints[0].cpu().float()))), rough=True)
        given = replace(rough, keypoints=pose.keypoints[0].cpu().float())
        return self._labels(self._find(photo, self._frame(given, photo), parse=True), photo)

    @torch.inference_mode()
    def turn(self, image: Image.Image) -> int:
        """Say by how much a photograph must be turned for its person to stand upright.

        A whole person is seen far better upright than in any other turn. Of half a person nothing is said.

        Args:
            image: A picture of any mode and size that shows one person.

        Returns:
            Degrees counterclockwise, as `PIL.Image.Image.rotate` takes them: 0, 90, 180 or 270; 0 also where no turn
            shows a whole person.

        Raises:
            ImageError: If `image` is not a picture.
        """
        photo, scores = as_rgb(image), []
        for degrees in (0, 90, 180, 270):
            turned = photo.rotate(degrees, expand=True)
            found = self._find(turned, self._around((0.0, 0.0, turned.width, turned.height)), rough=True)
            scores.append(float(found.keypoints[:, 2].mean()))
        best = max(scores)
        return 90 * scores.index(best) if best >= _WHOLE and best >= scores[0] + _BETTER else 0

    def _labels(self, found: _Found, photo: Image.Image) -> Labels:
        if found.classes is None:
            return np.zeros((photo.height, photo.width), np.uint8)
        if self.edges:
            return spread(coherent(found.classes), found.frame, photo, found.picture)
        return spread(found.classes, found.frame, photo, None)

    def _person(self, photo: Image.Image, box: Sequence[float] | None, *, parse: bool) -> _Found:
        """Find the person that counts, first roughly, then exactly."""
        limits = None if box is None else as_box(box, photo)
        if limits == (0, 0, photo.width, photo.height):
            limits = None  # it limits nothing
        if limits is None:
            found = self._largest(photo)
        else:
            found = self._find(photo, self._around(_wider(limits)), limits, rough=True)
        if self.refine and found.sure >= 0.5 * self.least_score:
            closer = self._find(photo, self._frame(found, photo, limits), limits, parse=parse)
            # A frame that lost the person is worse than none.
            found = closer if closer.sure >= 0.7 * found.sure else found
        if found.sure < self.least_score:
            raise PersonNotFoundError(
                f"expected a photograph that shows a person, got a mean score of {found.sure:.2f} of the keypoints "
                f"that show best (at least {self.least_score:.2f} is needed); crop it closer to the person or pass a "
                "pose",
                argument="image",
            )
        if parse and found.rough:
            seen = self._find(photo, found.frame, limits, parse=True)
            return replace(found, classes=seen.classes, picture=seen.picture)
        return found

    def _largest(self, photo: Image.Image) -> _Found:
        """Look at the whole photograph and, where that is not enough, at parts of it."""
        found = self._find(photo, self._around((0.0, 0.0, photo.width, photo.height)), rough=True)
        nobody = found.sure < max(self.least_score, 0.5)
        if not nobody and found.clear >= _CLEAR:
            return found
        parts = self._parts(photo.width, photo.height)
        tries = [found, *(self._find(photo, part, rough=True) for part in parts)]
        if nobody:
            return max(tries, key=lambda one: one.sure)
        best = max(one.sure for one in tries)
        sure = [one for one in tries if one.sure >= 0.8 * best and one.clear >= _CLEAR]
        return max(sure, key=lambda one: _extent(one.keypoints), default=found)

    def _find(
        self, photo: Image.Image, frame: Box, limits: Box | None = None, *, parse: bool = False, rough: bool = False
    ) -> _Found:
        """Run the network on a frame of a photograph; keypoints are looked for within the limits.

        Args:
            photo: The photograph.
            frame: What the network sees, in its pixels.
            limits: Where keypoints can be.
            parse: Whether labels are wanted.
            rough: Whether it is the first pass: small, unmirrored, with labels.
        """
        height, width = self.network.config.size
        if rough:  # multiples of 32, at about half the size
            height, width = (max(32, round(side / 64) * 32) for side in (height, width))
        picture = cut(photo, frame, (height, width)).to(self.network.position.device)
        flip = self.flip and not rough
        views = torch.stack([picture, picture.flip(-1)]) if flip else picture[None]
        encoded = self.network.encode(views.contiguous(memory_format=torch.channels_last))
        logits, presence = self.network.find(encoded)
        maps = logits.flatten(2).softmax(-1).view_as(logits)  # (V, 17, h, w)
        scores = presence.sigmoid()
        classes = self.network.parse(encoded).softmax(1) if parse or rough else None
        if flip:
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
        x, y, mass = peaks(maps)
        points = torch.stack([left + x * step_x, top + y * step_y, scores], dim=-1).cpu()
        clear = float((mass * scores).sum() / scores.sum().clamp(min=1e-6))
        sure = float(scores.topk(_SHOWN).values.mean())
        return _Found(within(points, photo), sure, clear, frame, rough, classes, picture)

    def _around(self, box: Box) -> Box:
        """Return the smallest box of the network's aspect around a box."""
        height, width = self.network.config.size
        left, top, right, bottom = box
        step = max((right - left) / width, (bottom - top) / height, 1e-3)
        x, y = (left + right) / 2, (top + bottom) / 2
        return x - step * width / 2, y - step * height / 2, x + step * width / 2, y + step * height / 2

    def _frame(self, found: _Found, photo: Image.Image, limits: Box | None = None) -> Box:
        """Return the frame of the second pass: what is seen of the person, within the photograph, and some room."""
        box = _keypoint_box(found.keypoints)
        shown = None if found.classes is None else person_box(found.classes, found.frame)
        if shown is not None:
            box = min(box[0], shown[0]), min(box[1], shown[1]), max(box[2], shown[2]), max(box[3], shown[3])
        edges = (0.0, 0.0, float(photo.width), float(photo.height)) if limits is None else _wider(limits)
        box = max(box[0], edges[0]), max(box[1], edges[1]), min(box[2], edges[2]), min(box[3], edges[3])
        return self._around(_wider(box))

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
    sure: float  # mean presence of the keypoints that are most surely there
    clear: float  # mean share of a heatmap's mass that is about its peak
    frame: Box  # what the network saw
    rough: bool  # whether it saw it small
    classes: Tensor | None  # (12, h, w) probabilities of the label classes in the frame
    picture: Tensor  # (3, H, W) the frame as the network saw it


def _wider(box: Box) -> Box:
    """Return a box with the room around it that the network is used to."""
    left, top, right, bottom = box
    x, y = (right - left) * (1 / _FRAME_SHARE - 1) / 2, (bottom - top) * (1 / _FRAME_SHARE - 1) / 2
    return left - x, top - y, right + x, bottom + y


def _keypoint_box(points: Tensor) -> Box:
    """Return the box around the keypoints that are there, with room for a head, hands and feet."""
    sure = points[points[:, 2] >= min(0.3, float(points[:, 2].max()))][:, :2]
    low, high = sure.amin(0), sure.amax(0)
    room = 0.06 * max(float((high - low).max()), 8.0)
    left, top, right, bottom = *(low - room).tolist(), *(high + room).tolist()
    return left, top, right, bottom


def _extent(points: Tensor) -> float:
    """The larger side of the box around the keypoints that are there."""
    left, top, right, bottom = _keypoint_box(points)
    return max(right - left, bottom - top)


def _limit(maps: Tensor, scores: Tensor, frame: Box, limits: Box) -> tuple[Tensor, Tensor]:
    """Clear heatmaps beyond the limits; a keypoint scores the less, the more of its heatmap was there."""
    height, width = maps.shape[1:]
    left, top, right, bottom = frame
    x = left + (torch.arange(width, device=maps.device, dtype=torch.float32) + 0.5) * ((right - left) / width)
    y = top + (torch.arange(height, device=maps.device, dtype=torch.float32) + 0.5) * ((bottom - top) / height)
    inside = ((y >= limits[1]) & (y <= limits[3]))[:, None] & ((x >= limits[0]) & (x <= limits[2]))
    left_over = maps * inside
    return left_over + 1e-12 * inside, scores * left_over.sum((1, 2))


def peaks(maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
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
