"""Blending: how much of its sources a try-on shows over the photograph, and in which order.

Two layers cover the old garment and the new one: the person, and the background that the old garment hid. The drawn
background is never shown, and where the photograph shows its own already, it stays.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from styletryon.compositing.drawn.layout import Layout
from styletryon.compositing.drawn.planes import LEAST_KNOWN, Plane, apart, frequencies
from styletryon.compositing.drawn.sources import Background

_NEAR = 0.06
"""How far colours in [0, 1] may lie apart that count as one."""


def opacity(layout: Layout, background: Background | None) -> Plane:
    """Say how much of a try-on to show over the photograph, `(h, w)` in [0, 1].

    Args:
        layout: What lies where.
        background: The background that is shown where it is vacant; None where none is shown.
    """
    person = layout.person
    alpha = np.maximum(person.cover, layout.new) * (1 - person.identity * (1 - layout.new))
    if background is not None:
        alpha = alpha * (1 - layout.vacant * _alike(layout, background))
    alpha = alpha * np.clip(2 * layout.support, 0, 1) * person.fade * (1 - np.clip(2 * person.kept, 0, 1))
    return np.asarray(alpha, dtype=np.float32).clip(0, 1)


def blend(person: NDArray[np.float32], layout: Layout, background: Background | None) -> NDArray[np.float32]:
    """Put a person `(h, w, 3)` in [0, 1] before the background, where that is vacant."""
    if background is None:
        return person
    vacant = layout.vacant[..., None]
    return np.asarray(vacant * background.colours + (1 - vacant) * person, dtype=np.float32)


def _alike(layout: Layout, background: Background) -> Plane:
    """Say where the photograph shows the background already, though the drawing shows the old garment there."""
    person, unit = layout.person, layout.unit
    distance = ndimage.gaussian_filter(apart(person.photo, background.colours), 0.7 * unit)
    alike = (2 - distance / _NEAR).clip(0, 1)
    garment, theirs = (person.old > 0.9) & (layout.new > 0.9), background.frequency
    if theirs is not None and int(garment.sum()) >= LEAST_KNOWN * unit**2:
        ours = frequencies(person.photo, garment)
        odds = ndimage.gaussian_filter(theirs / (theirs + ours), unit)
        alike = np.maximum(alike, ((odds - 0.5) * 4 + 0.5).clip(0, 1))
    # The blur carries it across the old garment's outline, which would stay as a thin line.
    alike = ndimage.minimum_filter(alike, 2 * round(1.2 * unit) + 1)
    return np.asarray(ndimage.gaussian_filter(alike, 0.4 * unit), dtype=np.float32)
