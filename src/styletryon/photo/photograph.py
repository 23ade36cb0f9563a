"""What is known of a photograph before it is projected."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from styletryon.photo.framing import Frame
from styletryon.pose import Pose


@dataclass(frozen=True, eq=False)
class Source:
    """Where a latent's picture came from.

    Attributes:
        photo: The photograph, mode "RGB".
        frame: The part of it that was projected.
        pose: The person's keypoints in the photograph's pixels, those outside the frame too, if they are known.
        labels: `(H, W)` uint8: what the photograph's pixels show, if it is known.
    """

    photo: Image.Image
    frame: Frame
    pose: Pose | None = None
    labels: NDArray[np.uint8] | None = None
