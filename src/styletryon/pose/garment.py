"""Garments that nobody wears: what they are, their outline, and the pose of somebody invisible who wears them.

`GarmentEstimator` runs a network that shares its trunk with that of the body. It also tells whether a picture shows
somebody who wears a garment or a garment by itself.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from styletryon._reprs import one_line
from styletryon.errors import ImageError, PersonNotFoundError
from styletryon.labels import Label
from styletryon.pose._garment_network import WEIGHTS, load_garment_network
from styletryon.pose._labelling import spread
from styletryon.pose._photo import Box, as_rgb, cut, within
from styletryon.pose._pose import FLIP_ORDER, Pose
from styletryon.pose.estimator import peaks
from styletryon.pose.network import BodyNetwork

GARMENT_CLASSES = (Label.TOP, Label.OUTERWEAR, Label.BOTTOM, Label.DRESS)
"""What a garment that nobody wears can be."""

SHOWN = {5: 0.2, 11: 0.2, 7: 0.4, 9: 0.15, 13: 0.45, 15: 0.22}
"""Keypoint of the left side -> the mean score of both sides from which a garment shows where they are.

By photographs: of 18 short sleeves 2 had wrists above that, of 21 long ones 13; of 12 trousers 10 had ankles.
"""

_WORN = 0.5  # From this chance on somebody wears it.
_BARE = 0.10  # This share of hair, face and skin among all that is no background is somebody for certain.
_LEAST, _LEAST_SURE = 0.015, 0.15  # Of the picture that is a garment; the mean score of its trunk's keypoints.
_DOUBT = 0.15  # What is not expected is as likely as its pixels say times this.
_SECOND = 0.3  # A second garment is as large as this share of the first.
_TRUNK = {Label.BOTTOM: (11, 12)}
_UPPER = (5, 6, 11, 12)


@dataclass(frozen=True, eq=False)
class SeenGarment:
    """What a picture shows of garments, seen as if nobody wore them.

    Attributes:
        label: What the garment is: `Label.TOP`, `OUTERWEAR`, `BOTTOM` or `DRESS`.
        labels: `(H, W)` uint8: that class where its cloth is, `Label.SKIN` where one looks through the neck at the
            inner back, which a wearer would hide, and background elsewhere.
        pose: The keypoints of its invisible wearer in the picture's pixels; those that it does not show score little.
        worn: The chance that somebody wears it, in [0, 1].
        shoes: Which share of what is no background is shoes.
        pieces: How large its second piece is beside its first: 0 where it is one.
    """

    label: Label
    labels: NDArray[np.uint8]
    pose: Pose
    worn: float
    shoes: float
    pieces: float

    __repr__ = one_line

    @property
    def is_worn(self) -> bool:
        """Whether somebody wears it."""
        return self.worn >= _WORN

    def check(self) -> None:
        """Refuse what cannot be tried on, with the reason.

        Raises:
            PersonNotFoundError: If there is nothing to wear.
            ImageError: If there are several garments, shoes, or clothes that are folded.
        """
        share = float((self.labels == self.label).mean())
        if self.shoes > 0.5:
            raise ImageError(
                "expected a top, a jacket, trousers, a skirt or a dress, got shoes, which cannot be tried on; use a "
                "photograph of one garment",
                argument="image",
            )
        if share < _LEAST:
            raise PersonNotFoundError(
                "expected a garment, worn by somebody or by itself, got a picture that shows neither; use a photograph "
                "in which the garment fills most of the picture",
                argument="image",
            )
        if self.pieces > _SECOND:
            raise ImageError(
                "expected one garment, got several side by side; crop the picture to one of them, or pass a box around "
                "it",
                argument="image",
            )
        scores = self.pose.keypoints[0, list(_TRUNK.get(self.label, _UPPER)), 2]
        if float(scores.mean()) < _LEAST_SURE:
            raise ImageError(
                "expected a garment that lies or hangs spread out, got one of which shoulders and hips are not seen, "
                "such as folded clothes or a detail; spread it out, sleeves beside it, and show all of it",
                argument="image",
            )


@final
class GarmentEstimator:
    """Finds a garment that nobody wears, and the pose of an invisible wearer.

    Args:
        network: The network; it is put into evaluation mode.
    """

    def __init__(self, network: BodyNetwork) -> None:
        self.network = network.eval().to(memory_format=torch.channels_last)

    @classmethod
    def from_pretrained(cls, folder: Path | None = None, *, device: torch.device | str = "cpu") -> GarmentEstimator:
        """Load the bundled network, or that of a folder.

        Args:
            folder: Holds `garment.safetensors`. None for the bundled one.
            device: Where the network runs.

        Raises:
            CheckpointNotFoundError: If the file is missing.
            CheckpointError: If it does not fit this version.
        """
        return cls(load_garment_network(WEIGHTS if folder is None else folder).to(device))

    @torch.inference_mode()
    def __call__(self, image: Image.Image, *, expected: Collection[int] = GARMENT_CLASSES) -> SeenGarment:
        """Look at a picture.

        Args:
            image: A picture of any mode and size.
            expected: The label classes among which the garment is expected: one of them where it is in doubt.

        Raises:
            ImageError: If `image` is not a picture.
        """
        photo = as_rgb(image)
        chances, points, box, seen = run_on(self.network, photo)
        person = 1 - chances[Label.BACKGROUND]
        foreground = person.sum().clamp(min=1e-6)
        cloth = chances[list(GARMENT_CLASSES)]
        sizes = dict(zip(GARMENT_CLASSES, cloth.sum((1, 2)).tolist(), strict=True))
        label = max(sizes, key=lambda one: sizes[one] * (1.0 if one in expected else _DOUBT))
        few = torch.zeros_like(chances)
        few[label] = cloth.sum(0)
        few[Label.SKIN] = chances[Label.SKIN]
        few[Label.BACKGROUND] = 1 - few.sum(0)
        labels = spread(few, box, photo, seen)
        shoes = float(chances[Label.SHOES].sum() / foreground)
        pose = Pose(within(points, photo)[None], (photo.height, photo.width))
        return SeenGarment(label, labels, pose, _worn(chances, points), shoes, _second_piece(labels == label))


def _worn(chances: Tensor, points: Tensor) -> float:
    """Return the chance that somebody is in the picture: a head, or bare skin and hair."""
    person = (1 - chances[Label.BACKGROUND]).sum().clamp(min=1e-6)
    bare = float(chances[[Label.HAIR, Label.FACE, Label.SKIN]].sum() / person)
    head = float(points[:5, 2].topk(2).values.mean())
    return max(head, min(1.0, 0.5 * bare / _BARE))


def _second_piece(mask: NDArray[np.bool_]) -> float:
    from scipy import ndimage  # here, because it takes long to import

    pieces, count = ndimage.label(mask)
    if count < 2:
        return 0.0
    sizes = np.sort(np.bincount(pieces.ravel())[1:])
    return float(sizes[-2] / sizes[-1])


@torch.inference_mode()
def run_on(network: BodyNetwork, picture: Image.Image, *, flip: bool = True) -> tuple[Tensor, Tensor, Box, Tensor]:
    """Run the network on the whole of a picture and, if asked, on its mirror image.

    Returns:
        Probabilities of the classes `(12, h, w)` in a square around the picture, keypoints `(17, 3)` in the picture's
        pixels, that square, and what the network saw of it, `(3, H, W)`.
    """
    side = float(max(picture.size))
    left, top = (picture.width - side) / 2, (picture.height - side) / 2
    box = (left, top, left + side, top + side)
    seen = cut(picture, box, network.config.size).to(network.position.device)
    views = torch.stack([seen, seen.flip(-1)]) if flip else seen[None]
    views = views.contiguous(memory_format=torch.channels_last)
    encoded = network.encode(views)
    logits, presence = network.find(encoded)
    maps = logits.flatten(2).softmax(-1).view_as(logits)
    scores, classes = presence.sigmoid(), network.parse(encoded).softmax(1)
    if flip:
        order = list(FLIP_ORDER)
        maps, scores = (maps[:1] + maps[1:, order].flip(-1)) / 2, (scores[:1] + scores[1:, order]) / 2
        classes = (classes[:1] + classes[1:].flip(-1)) / 2
    maps, scores, classes = maps[0], scores[0], classes[0]
    x, y, _ = peaks(maps)
    step = side / maps.shape[-1]
    points = torch.stack([left + x * step, top + y * step, scores], dim=-1).cpu()
    return classes, points, box, seen
