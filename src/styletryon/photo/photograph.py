"""A photograph and all that is known of it before it is projected."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from styletryon._deprecated import warn_renamed
from styletryon.errors import ShapeError
from styletryon.photo.framing import Frame, check_photo
from styletryon.photo.matting import cut_out, follow, matte
from styletryon.photo.pixels import Colour, to_pil, to_tensor
from styletryon.photo.resampling import crop, crop_labels, finer_frame, resize
from styletryon.pose import Pose

_BAND = 0.006
"""How far labels may miss the true edge, as a share of the frame's height: labels by superpixels do."""


@dataclass(frozen=True, eq=False, repr=False)
class Photograph:
    """A photograph of a person, and what is known of it before it is projected: an immutable value.

    What follows from the fields is computed when it is first asked for, and kept.

    Attributes:
        picture: The photograph, mode "RGB".
        frame: The part of it that a generator draws.
        pose: The person's keypoints in the photograph's pixels, those outside the frame too. None if they are unknown.
        labels: `(H, W)` uint8, the label class of each of the photograph's pixels. None if they are unknown.
        background: The colour that stands behind people in what the generator was trained on. None if photographs keep
            their own background.
        worn: Whether somebody wears what it shows. Of a garment by itself, the pose is that of an invisible wearer, and
            bare skin in the labels is where theirs would be.

    Raises:
        ImageError: If the frame belongs to a photograph of another size.
        ShapeError: If the labels are of another size, or not uint8.

    Example:
        >>> from PIL import Image
        >>> from styletryon.photo import Photograph
        >>> Photograph.whole(Image.new("RGB", (48, 64)))
        Photograph(48x64, frame (0, 0, 48, 64) as 48x64, no pose, no labels)
    """

    picture: Image.Image
    frame: Frame
    pose: Pose | None = None
    labels: NDArray[np.uint8] | None = None
    background: Colour | None = None
    worn: bool = True

    def __post_init__(self) -> None:
        check_photo(self.picture, self.frame)
        labels = self.labels
        if labels is not None and (labels.shape != tuple(self.frame.photo_size) or labels.dtype != np.uint8):
            raise ShapeError(
                f"expected {tuple(self.frame.photo_size)} uint8, got {labels.shape} {labels.dtype}", argument="labels"
            )

    def __repr__(self) -> str:
        box = ", ".join(f"{edge:g}" for edge in (round(edge, 1) for edge in self.frame.box))
        height, width = self.frame.size
        known = ("no pose" if self.pose is None else "pose", "no labels" if self.labels is None else "labels")
        return (
            f"Photograph({self.picture.width}x{self.picture.height}, frame ({box}) as {width}x{height}, "
            f"{', '.join(known)})"
        )

    @classmethod
    def whole(cls, picture: Image.Image) -> Photograph:
        """Return a picture of which the whole is what the generator draws."""
        size = (picture.height, picture.width)
        return cls(picture, Frame((0.0, 0.0, float(picture.width), float(picture.height)), size, size))

    @property
    def photo(self) -> Image.Image:
        """Old name of `picture`; it leaves in 0.4."""
        warn_renamed("Photograph.photo", "picture", until="0.4")
        return self.picture

    @cached_property
    def crop(self) -> Tensor:
        """`(3, H, W)` in [-1, 1]: the frame, on the photograph's own background."""
        return self._cropped[0]

    @cached_property
    def inside(self) -> Tensor:
        """`(H, W)` in [0, 1]: the share of each pixel of the frame that lies in the photograph."""
        return self._cropped[1][0]

    @cached_property
    def frame_pose(self) -> Pose | None:
        """The pose in the pixels of the frame; see `Frame.to_model`."""
        return None if self.pose is None else self.frame.to_model(self.pose)

    @cached_property
    def frame_labels(self) -> NDArray[np.uint8] | None:
        """`(H, W)` uint8: the label classes of the frame, as the photograph's labels have them."""
        return None if self.labels is None else crop_labels(self.labels, self.frame)

    @cached_property
    def fine_labels(self) -> NDArray[np.uint8]:
        """`(h, w)` uint8: the same in about the photograph's own pixels; see `finer_frame`.

        Raises:
            ShapeError: If the labels are unknown.
        """
        return crop_labels(self._known(self.labels), finer_frame(self.frame))

    @property
    def target(self) -> Tensor:
        """`(3, H, W)` in [-1, 1]: what the generator shall draw, on the background that it knows."""
        return self.crop if self._cut is None else self._cut[0]

    @property
    def target_labels(self) -> NDArray[np.uint8] | None:
        """`(H, W)` uint8: the label classes of `target`; they agree with it about where the person ends."""
        return self.frame_labels if self._cut is None else self._cut[1]

    def cut_out(self, background: Colour | None) -> tuple[Image.Image, NDArray[np.uint8]]:
        """Cut the person out of the photograph, as a data set shows people and a generator learns to draw them.

        Args:
            background: What stands behind the person. None for the photograph's own background, whose edge goes on
                where the frame reaches beyond the photograph.

        Returns:
            The picture of the frame, mode "RGB", and its label classes `(H, W)` uint8.

        Raises:
            ShapeError: If the labels are unknown.
        """
        labels, frame = self.fine_labels, finer_frame(self.frame)
        if background is None:
            picture = to_pil(crop(self.picture, self.frame, filter="lanczos", background="edge")[0])
            return picture, self._known(self.frame_labels)
        # Beyond the photograph the edge goes on, so that the matte sees no edge there that is none; the labels end.
        picture = to_pil(crop(self.picture, frame, filter="lanczos", background="edge")[0])
        band = max(1, round(_BAND * frame.size[0]))
        coverage = matte(picture, labels > 0, band=band)
        cut = cut_out(picture, coverage, background, band=band)
        # The labels follow the matte, so that picture and labels agree about where the person ends.
        whole = Frame((0.0, 0.0, float(frame.size[1]), float(frame.size[0])), frame.size, self.frame.size)
        return resize(cut, self.frame.size, filter="lanczos"), crop_labels(follow(labels, coverage), whole)

    @staticmethod
    def _known(labels: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
        if labels is None:
            raise ShapeError("expected a photograph whose labels are known, got one without", argument="labels")
        return labels

    @cached_property
    def _cropped(self) -> tuple[Tensor, Tensor]:
        return crop(self.picture, self.frame, filter="lanczos")

    @cached_property
    def _cut(self) -> tuple[Tensor, NDArray[np.uint8]] | None:
        labels = self.frame_labels
        if self.background is None or labels is None or not labels.any():
            return None
        picture, followed = self.cut_out(self.background)
        return to_tensor(picture), followed
