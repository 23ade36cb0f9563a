"""Cutting a person out of a photograph, as a data set shows people and a generator learns to draw them."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from styletryon.labels import Label
from styletryon.photo import Colour, Frame, crop, crop_labels, cut_out, matte, to_pil

_FINEST = 4  # How many times finer than the generator's picture a photograph is cut out: enough for the edge.
_BAND = 0.006  # How far labels may miss the true edge, as a share of the frame's height: labels by superpixels do.


def show(
    photo: Image.Image,
    labels: npt.NDArray[np.uint8],
    fine_labels: npt.NDArray[np.uint8],
    frame: Frame,
    background: Colour | None,
) -> tuple[Image.Image, npt.NDArray[np.uint8]]:
    """Cut a frame out of a photograph, on its own background (None) or on a colour, and its labels beside it."""
    if background is None:
        return to_pil(crop(photo, frame, background="edge")[0]), crop_labels(labels, frame)
    fine = finer_frame(frame)
    # Beyond the photograph the edge goes on, so that the matte sees no edge there that is none; the labels end there.
    picture = to_pil(crop(photo, fine, background="edge")[0])
    band = max(1, round(_BAND * fine.size[0]))
    coverage = matte(picture, fine_labels > 0, band=band)
    cut = cut_out(picture, coverage, background, band=band)
    # The labels follow the matte, so that picture and labels agree about where the person ends.
    fitted = follow(fine_labels, coverage)
    whole = Frame((0.0, 0.0, float(fine.size[1]), float(fine.size[0])), fine.size, frame.size)
    return cut.resize(frame.size[::-1], Image.Resampling.LANCZOS), crop_labels(fitted, whole)


def follow(labels: npt.NDArray[np.uint8], coverage: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Let labels end where a matte does: what it adds gets the nearest class, what it takes away is background."""
    from scipy import ndimage

    person = labels > 0
    if person.all() or not person.any():
        return labels
    rows, columns = ndimage.distance_transform_edt(~person, return_distances=False, return_indices=True)
    followed: npt.NDArray[np.uint8] = np.where(coverage >= 0.5, labels[rows, columns], int(Label.BACKGROUND))
    return followed.astype(np.uint8)


def finer_frame(frame: Frame) -> Frame:
    """The same frame in about the photograph's own pixels, but a bounded and whole number of times finer."""
    times = min(_FINEST, max(1, math.ceil(1 / min(frame.scale) - 0.1)))
    return Frame(frame.box, frame.photo_size, (frame.size[0] * times, frame.size[1] * times))
