"""Ground: a garment that nobody wears told from what it lies or hangs on, by their colours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from styletryon.compositing.view import Mask, apart, blurred, largest, odds, shrunk

_SIDE = 320  # The long side at which colours are compared, in pixels.
_INNER, _OUTER = 0.03, 0.04  # What certainly is cloth, and what certainly is not, so far from an outline.
_REACH = 0.25  # How far beyond the outline cloth may lie that labels missed.
_ROUGH = 0.012  # How much outlines are smoothed. These lengths are in square roots of the garment's area.
_TRUST = 1.5  # How much labels count beside colours: what deep within them is added to the logarithm of the odds.
_ROUNDS, _LEAST = 5, 200  # How often; and pixels of each, without which there is nothing to compare.
_RIGHT = 0.75  # Colours tell the two apart if so much of each is on its own side.
_LONG, _GROUND = 0.3, -1.0  # A hole with less of the square of its length is long; such odds are the ground's.
_SIZES = (0.5, 1.3)  # How large the garment may become, in parts of what labels say.


def off_ground(picture: Image.Image, cloth: Mask) -> Mask:
    """Correct which pixels show a garment by how frequent their colours are in it and beside it.

    As in GrabCut (Rother et al., SIGGRAPH 2004), the colours of the two sides and what belongs to them are found in
    turn; histograms take the place of mixtures, and a blur that of the cut.

    Args:
        picture: The photograph.
        cloth: `(H, W)`: what labels call the garment.

    Returns:
        `(H, W)`; `cloth` as it is where the colours do not tell the two apart.
    """
    factor = max(1, round(max(picture.size) / _SIDE))
    small = picture.convert("RGB").reduce(factor)
    colours = np.asarray(small, dtype=np.float32) / np.float32(255)
    share = Image.fromarray(cloth.astype(np.uint8) * 255).resize(small.size, Image.Resampling.BOX)
    first = found = np.asarray(share) > 127
    unit = float(first.sum()) ** 0.5
    if int(first.sum()) < _LEAST:
        return cloth
    depth = (apart(~first) - apart(first)) / (_REACH * unit)  # 1 deep within, 0 at the outline, -1 far beside
    for _ in range(_ROUNDS):
        inner, outer = shrunk(found, _INNER * unit), apart(found) > _OUTER * unit
        if min(int(inner.sum()), int(outer.sum())) < _LEAST:
            return cloth
        likely = odds(colours, inner, outer)
        there = blurred((likely + _TRUST * depth).astype(np.float32), 1.0) > 0
        found = blurred(there & (depth > -1), _ROUGH * unit) > 0.5
        found = largest(found | _prints(first & ndimage.binary_fill_holes(found) & ~found, likely), 0.2)
    clear = min(float((likely[inner] > 0).mean()), float((likely[outer] < 0).mean())) > _RIGHT
    if not clear or not _SIZES[0] < float(found.sum()) / max(float(first.sum()), 1.0) < _SIZES[1]:
        return cloth
    # Along the outline the labels' own, which are finer.
    share = Image.fromarray((blurred(found, 1.0) * 255).astype(np.uint8)).resize(picture.size)
    certain = np.asarray(share)
    return np.where(certain > 204, True, cloth & (certain > 51))


def _prints(holes: Mask, likely: NDArray[np.float64]) -> Mask:
    """Return the holes that are cloth of another colour; a long one of the ground's colours lies beside a sleeve."""
    pieces, _ = ndimage.label(holes)
    kept = holes.copy()
    for index, window in enumerate(ndimage.find_objects(pieces), start=1):
        hole = pieces[window] == index
        if float(hole.sum()) < _LONG * max(hole.shape) ** 2 and float(likely[window][hole].mean()) < _GROUND:
            kept[window] &= ~hole
    return kept
