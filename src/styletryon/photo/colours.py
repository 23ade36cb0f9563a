"""Colour spaces: sRGB and CIELAB, where distances are roughly those that people see (IEC 61966-2-1, CIE 15:2018)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from styletryon.photo.pixels import to_unit_array

_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_TO_XYZ /= _TO_XYZ.sum(axis=1, keepdims=True)
"""Linear sRGB to XYZ in parts of the white of D65, so that every grey is neutral."""

_BEND = 6 / 29
"""The cube root of the lightness below which CIELAB is linear."""


def to_lab(colours: NDArray[Any]) -> NDArray[np.float64]:
    """Convert sRGB colours to CIELAB (D65).

    Args:
        colours: `(..., 3)` sRGB, uint8 or [0, 1].

    Returns:
        `(..., 3)` float64: lightness in [0, 100], and two opponent colours.
    """
    rgb = to_unit_array(colours) if colours.dtype == np.uint8 else np.asarray(colours, dtype=np.float64)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T
    bent = np.where(xyz > _BEND**3, np.cbrt(xyz), xyz / (3 * _BEND**2) + 4 / 29)
    x, y, z = np.moveaxis(bent, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def from_lab(lab: NDArray[np.floating]) -> NDArray[np.float64]:
    """Convert CIELAB (D65) to sRGB; colours that sRGB does not have are clipped.

    Args:
        lab: `(..., 3)`: lightness in [0, 100], and two opponent colours.

    Returns:
        `(..., 3)` float64 sRGB in [0, 1].
    """
    light, red, blue = np.moveaxis(lab, -1, 0)
    y = (light + 16) / 116
    bent = np.stack([y + red / 500, y, y - blue / 200], axis=-1)
    xyz = np.where(bent > _BEND, bent**3, 3 * _BEND**2 * (bent - 4 / 29))
    linear = (xyz @ np.linalg.inv(_TO_XYZ).T).clip(0, 1)
    return np.asarray(np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))
