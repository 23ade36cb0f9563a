"""The depth buffer and its one primitive, a generalised cone whose surface has a closed form under such a camera."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

F32: TypeAlias = NDArray[Any]
"""A float32 array; numpy's own stubs cannot follow float32 arithmetic."""
I64 = NDArray[np.intp]
FAR = -100.0


@dataclass(frozen=True)
class Frame:
    """A body frame that gives surface points their texture coordinates.

    ``u`` runs along ``down`` and ``v`` along ``across``, ``w`` along ``front``, all measured from ``origin`` in units
    of ``unit`` metres; the axes are (3,) unit vectors in camera space.
    """

    origin: NDArray[np.float64]
    down: NDArray[np.float64]
    across: NDArray[np.float64]
    front: NDArray[np.float64]
    unit: float


@dataclass
class Points:
    """Candidate surface points of one primitive, arrays (n,) float32: what a cover or a relief function may look at."""

    t: F32
    s: F32
    u: F32
    v: F32
    w: F32
    facing: F32


Cover = Callable[[Points], F32]
Relief = Callable[[Points], tuple[F32, F32]]


@dataclass(frozen=True)
class Folds:
    """The creases of a surface: strength by place along the axis, texture scale along and around, offset."""

    strength: Sequence[float]
    along: float
    around: float
    offset: float


@lru_cache(maxsize=4)
def fold_texture(size: int = 128) -> tuple[F32, F32]:
    """Slopes (along, around), each (size * size,) float32, of a seamless field of soft creases."""
    rng = np.random.default_rng(20)
    frequency = np.fft.fftfreq(size) * size
    fy, fx = frequency[:, None], frequency[None, :]
    height = np.zeros((size, size))
    for angle, weight in ((0.15, 1.0), (0.75, 0.8), (-0.6, 0.8), (1.4, 0.45)):
        along = fx * np.cos(angle) + fy * np.sin(angle)
        across = -fx * np.sin(angle) + fy * np.cos(angle)
        band = np.exp(-((np.abs(across) - 5.0) ** 2) / 9.0 - along**2 / 3.0)
        noise = np.fft.ifft2(np.fft.fft2(rng.normal(size=(size, size))) * band).real
        height += weight * (1.0 - np.abs(noise / noise.std())) ** 3 / 3.0
    smooth = np.exp(-(fx**2 + fy**2) / 2.0 / 13.0**2)
    height = np.fft.ifft2(np.fft.fft2(height) * smooth).real
    padded = np.pad(height, 1, mode="wrap")
    slope_u = 0.5 * (padded[2:, 1:-1] - padded[:-2, 1:-1])
    slope_v = 0.5 * (padded[1:-1, 2:] - padded[1:-1, :-2])
    scale = max(float(slope_u.std()), float(slope_v.std()))
    return (slope_u / scale).astype(np.float32).ravel(), (slope_v / scale).astype(np.float32).ravel()


@lru_cache(maxsize=256)
def _spline(knots: tuple[float, ...], count: int) -> F32:
    """Matrix (count, knots) of a Catmull-Rom spline: value at ``count`` even places from the values at the knots."""
    places, size = np.asarray(knots), len(knots)
    at = np.linspace(places[0], places[-1], count)
    cell = np.clip(np.searchsorted(places, at, side="right") - 1, 0, size - 2)
    step = places[cell + 1] - places[cell]
    x = (at - places[cell]) / step
    slopes = np.zeros((size, size))
    for i in range(size):
        low, high = max(i - 1, 0), min(i + 1, size - 1)
        slopes[i, high] += 1.0 / (places[high] - places[low])
        slopes[i, low] -= 1.0 / (places[high] - places[low])
    unit = np.eye(size)
    h00, h10 = (1 + 2 * x) * (1 - x) ** 2, x * (1 - x) ** 2
    h01, h11 = x * x * (3 - 2 * x), x * x * (x - 1)
    matrix = h00[:, None] * unit[cell] + (h10 * step)[:, None] * slopes[cell]
    matrix += h01[:, None] * unit[cell + 1] + (h11 * step)[:, None] * slopes[cell + 1]
    return np.asarray(matrix, dtype=np.float32)


@dataclass(frozen=True)
class Profile:
    """Values at places in [0, 1] along an axis, joined by a smooth curve."""

    places: tuple[float, ...]
    values: tuple[float, ...]

    def table(self, count: int) -> F32:
        """The curve at ``count`` even places, float32."""
        return _spline(self.places, count) @ np.asarray(self.values, dtype=np.float32)

    def scaled(self, factor: float, extra: float = 0.0) -> Profile:
        """The profile times ``factor`` plus ``extra``."""
        return Profile(self.places, tuple(value * factor + extra for value in self.values))


class Surface(NamedTuple):
    """A kind of surface of the figure.

    Attributes:
        label: Class written to the label buffer.
        group: Surfaces of one group are joined smoothly.
    """

    label: int
    group: int


@dataclass
class Cone:
    """One generalised cone.

    Attributes:
        start: Where the axis begins, (3,) metres.
        stop: Where it ends.
        width: Half width across, along the axis.
        depth: Half depth to the front (None: round).
        surface: Its label and its group.
        part: Number of the body part that the texture belongs to.
        forward: Shift of the axis towards the body's front.
        sideways: Shift of the axis across.
        yaw: Turn of the cross-section about the axis.
        caps: Whether the two ends are rounded.
        shear: Tilt of the rings at start and stop (rise per metre across).
        frame: Texture frame; without one the coordinates run along and around the axis.
        texture: (u at start, v at the middle) in units of ``unit``, where there is no frame.
        unit: Length in metres of one unit of u and v.
        blend: Depth in metres over which it melts into its group.
        cover: Margin in metres by which a point is covered; negative where it is not.
        hem: Width in metres of the darker line along the covered region's edge.
        relief: Slopes to add, along and across.
        folds: Creases to add.
    """

    start: NDArray[np.float64]
    stop: NDArray[np.float64]
    width: Profile
    surface: Surface
    part: int = 0
    depth: Profile | None = None
    forward: Profile | None = None
    sideways: Profile | None = None
    yaw: float = 0.0
    caps: tuple[bool, bool] = (True, True)
    shear: tuple[float, float] = (0.0, 0.0)
    frame: Frame | None = None
    texture: tuple[float, float] = (0.0, 0.0)
    unit: float = 1.0
    blend: float = 0.012
    cover: Cover | None = None
    hem: float = 0.0
    relief: Relief | None = None
    folds: Folds | None = None


class _Axis(NamedTuple):
    """A cone's axis: where it starts, how far it goes, and length and direction of its image, all in metres."""

    x: float
    y: float
    z: float
    dx: float
    dy: float
    dz: float
    flat: float
    ex: float
    ey: float

    @classmethod
    def of(cls, cone: Cone) -> _Axis:
        x, y, z = cone.start.tolist()
        dx, dy, dz = (cone.stop - cone.start).tolist()
        flat = max(float(np.hypot(dx, dy)), 1e-3)
        return cls(x, y, z, dx, dy, dz, flat, dx / flat, dy / flat)

    def cells(self, scale: float) -> int:
        """In how many cells its tables are drawn at ``scale`` pixels per metre."""
        return 48 if self.flat * scale < 40 else 96 if self.flat * scale < 110 else 384


class _Sections(NamedTuple):
    """A cone's cross-sections as the camera sees them, tables (cells,) float32 along the axis.

    Half width in the picture, its inverse square, how far the surface stands out above the axis, its tilt across (depth
    per metre), and the shifts of the axis across and to the camera; what is None is 0.
    """

    width: F32
    inverse: F32
    depth: F32
    tilt: F32 | None
    side: F32 | None
    bulge: F32 | None

    @classmethod
    def of(cls, cone: Cone, cells: int) -> _Sections:
        sin, cos = float(np.sin(cone.yaw)), float(np.cos(cone.yaw))
        width, depth, tilt = _turned_ellipse(cone, cells, sin, cos)
        side, bulge = _turned_shift(cone, cells, sin, cos)
        return cls(width, (1.0 / (width * width)).astype(np.float32), depth, tilt, side, bulge)

    @property
    def reach(self) -> float:
        """Largest distance of the surface from the axis in the picture."""
        reach = float(self.width.max())
        return reach if self.side is None else reach + float(np.abs(self.side).max())


def _turned_ellipse(cone: Cone, cells: int, sin: float, cos: float) -> tuple[F32, F32, F32 | None]:
    """Half width, depth and tilt of a cone's elliptic cross-sections, turned by its yaw."""
    width = np.maximum(cone.width.table(cells), 1e-4)
    if cone.depth is None:
        return width, width, None
    half_depth = np.maximum(cone.depth.table(cells), 1e-4)
    spread = np.sqrt((width * cos) ** 2 + (half_depth * sin) ** 2)
    tilt: F32 | None = None
    if sin != 0.0:
        facing = (sin / width) ** 2 + (cos / half_depth) ** 2
        tilt = (-cos * sin * (half_depth**-2 - width**-2) / facing).astype(np.float32)
    return spread.astype(np.float32), width * half_depth / spread, tilt


def _turned_shift(cone: Cone, cells: int, sin: float, cos: float) -> tuple[F32 | None, F32 | None]:
    """The shifts of a cone's axis across and to the camera: that to the body's front turns with the yaw."""
    side = cone.sideways.table(cells) if cone.sideways is not None else None
    if cone.forward is None:
        return side, None
    push = cone.forward.table(cells)
    if sin != 0.0:
        side = push * np.float32(sin) if side is None else side + push * np.float32(sin)
    return side, push * np.float32(cos)


class _Spots(NamedTuple):
    """Points of one cone's surface, one a pixel, arrays (n,): all float32 but the first two.

    Place in the buffers, cell of the tables; distance along the axis and across, the former also kept between the ends
    and what is left over of it; the share of the normal that faces the camera, and the depth.
    """

    at: I64
    cell: I64
    t: F32
    s: F32
    along: F32
    over: F32
    q: F32
    z: F32

    def take(self, chosen: I64) -> _Spots:
        return _Spots(*(values[chosen] for values in self))


def _depth(axis: _Axis, sections: _Sections, cell: I64, s: F32, along: F32, q: F32) -> F32:
    """Depth of a cone's surface at points (n,)."""
    swell = sections.depth[cell] * q
    if sections.tilt is not None:
        swell += sections.tilt[cell] * s
    if sections.bulge is not None:
        swell += sections.bulge[cell]
    depth: F32 = np.float32(axis.z) + along * np.float32(axis.dz / axis.flat) + swell
    return depth


class _Texture(NamedTuple):
    """Texture coordinates of spots, arrays (n,) float32."""

    u: F32
    v: F32
    w: F32

    def take(self, chosen: I64) -> _Texture:
        return _Texture(*(values[chosen] for values in self))


def _points(spots: _Spots, texture: _Texture) -> Points:
    return Points(spots.t, spots.s, texture.u, texture.v, texture.w, spots.q)


def _texture_in_frame(frame: Frame, x: F32, y: F32, z: F32) -> _Texture:
    """Texture coordinates of points of camera space in a body frame."""
    rx, ry, rz = (
        x - np.float32(frame.origin[0]),
        y - np.float32(frame.origin[1]),
        z - np.float32(frame.origin[2]),
    )
    scale = np.float32(1.0 / frame.unit)
    axes = (np.asarray(axis, dtype=np.float32) * scale for axis in (frame.down, frame.across, frame.front))
    return _Texture(*(rx * axis[0] + ry * axis[1] + rz * axis[2] for axis in axes))


def _texture_along(cone: Cone, axis: _Axis, sections: _Sections, spots: _Spots) -> _Texture:
    """Texture coordinates along a cone and around it."""
    cell, width = spots.cell, sections.width
    length = math.sqrt(axis.flat * axis.flat + axis.dz * axis.dz)
    u = spots.t * np.float32(length / axis.flat / cone.unit) + np.float32(cone.texture[0])
    sigma = spots.s * np.sqrt(sections.inverse[cell])
    v = np.arcsin(np.clip(sigma, -1.0, 1.0)) * (width[cell] * np.float32(1.0 / cone.unit))
    v += np.float32(cone.texture[1] - cone.yaw * float(width[len(width) // 3]) / cone.unit)
    return _Texture(u, v, spots.q)


@lru_cache(maxsize=16)
def _ramp(start: float, stop: float, count: int) -> F32:
    return np.linspace(start, stop, count, dtype=np.float32)


def _growth(cone: Cone, sections: _Sections, per_metre: np.float32) -> F32:
    """Slope of a cone's surface along its axis, a table; rounded ends begin and stop flat."""
    width, depth = sections.width, sections.depth
    growth = np.gradient(depth) * per_metre
    if cone.depth is not None:
        growth = 0.5 * (growth + np.gradient(width) * per_metre * depth / width)
    end = len(width) // 10
    if cone.caps[0]:
        growth[:end] *= _ramp(0.0, 1.0, end)
    if cone.caps[1]:
        growth[-end:] *= _ramp(1.0, 0.0, end)
    return growth


def _slopes(
    cone: Cone, axis: _Axis, sections: _Sections, spots: _Spots, texture: _Texture
) -> tuple[F32, F32]:
    """Slopes of a cone's surface along the axis and across, times the share of the normal that faces the camera."""
    cell, cells = spots.cell, len(sections.width)
    per_metre = np.float32((cells - 1) / axis.flat)
    ring = sections.inverse[cell] * sections.depth[cell]
    slope_s = spots.s * ring
    if sections.tilt is not None:
        slope_s -= sections.tilt[cell] * spots.q
    axis_z = np.full(cells, axis.dz / axis.flat, dtype=np.float32)
    if sections.bulge is not None:
        axis_z += np.gradient(sections.bulge) * per_metre
    slope_t = spots.over * ring - spots.q * axis_z[cell]
    slope_t -= np.where(spots.over == 0.0, _growth(cone, sections, per_metre)[cell], np.float32(0.0))
    if sections.side is not None:
        slope_t -= slope_s * (np.gradient(sections.side) * per_metre)[cell]
    if cone.relief is not None:
        add_t, add_s = cone.relief(_points(spots, texture))
        slope_t += add_t
        slope_s += add_s
    if cone.folds is not None:
        _crease(cone.folds, cells, spots, slope_t, slope_s)
    return slope_t, slope_s


def _crease(folds: Folds, cells: int, spots: _Spots, slope_t: F32, slope_s: F32) -> None:
    """Adds the slopes of the fold texture, in place."""
    texture_u, texture_v = fold_texture()
    row = (spots.along * np.float32(folds.along * 128) + np.float32(folds.offset * 128)).astype(np.intp) & 127
    column = (spots.s * np.float32(folds.around * 128) + np.float32((folds.offset * 7.3 % 1.0) * 128 + 1280)).astype(
        np.intp
    ) & 127
    place = row * 128 + column
    places = np.linspace(0.0, 1.0, len(folds.strength))
    strength = np.interp(np.linspace(0.0, 1.0, cells), places, folds.strength).astype(np.float32)[spots.cell] * (
        spots.q + np.float32(0.15)
    )
    slope_t += texture_u[place] * strength
    slope_s += texture_v[place] * strength


class Canvas:
    """Depth buffer with what deferred shading needs: label, group, part, normal, texture coordinates, hem shade.

    Args:
        height: Rows of the (supersampled) buffer.
        width: Columns.
        scale: Pixels per metre.
        offset_x: Column of the point x = 0.
        offset_y: Row of the point y = 0.
    """

    def __init__(self, height: int, width: int, scale: float, offset_x: float, offset_y: float) -> None:
        self.height, self.width, self.scale = height, width, scale
        self.offset_x, self.offset_y = offset_x, offset_y
        count = height * width
        self.xs = ((np.arange(width) - offset_x) / scale).astype(np.float32)
        self.ys = ((np.arange(height) - offset_y) / scale).astype(np.float32)
        self.z = np.full(count, FAR, dtype=np.float32)
        self.label = np.zeros(count, dtype=np.uint8)
        self.group = np.zeros(count, dtype=np.uint8)
        self.part = np.zeros(count, dtype=np.uint8)
        self.nx, self.ny, self.nz, self.u, self.v = (np.zeros(count, dtype=np.float32) for _ in range(5))
        self.hem = np.ones(count, dtype=np.float32)

    def draw(self, cone: Cone) -> None:
        """Draws one cone into the buffers."""
        axis = _Axis.of(cone)
        sections = _Sections.of(cone, axis.cells(self.scale))
        spots = self._in_sight(cone, self._hits(cone, axis, sections))
        if spots.at.size == 0:
            return
        texture = self._texture(cone, axis, sections, spots)
        hem: F32 | None = None
        if cone.cover is not None:
            margin = cone.cover(_points(spots, texture))
            inside = np.flatnonzero(margin > 0.0)
            if inside.size == 0:
                return
            if cone.hem > 0.0:
                hem = np.minimum(margin[inside] * np.float32(0.34 / cone.hem) + np.float32(0.66), 1.0)
            if inside.size < margin.size:
                spots, texture = spots.take(inside), texture.take(inside)
        slope_t, slope_s = _slopes(cone, axis, sections, spots, texture)
        norm = 1.0 / np.sqrt(slope_s * slope_s + slope_t * slope_t + spots.q * spots.q + np.float32(1e-8))
        nx = (slope_s * np.float32(axis.ey) + slope_t * np.float32(axis.ex)) * norm
        ny = (slope_t * np.float32(axis.ey) - slope_s * np.float32(axis.ex)) * norm
        share = self._melt_in(cone, spots, nx, ny, spots.q * norm)
        self._paint(cone, spots, texture, hem, np.flatnonzero(share > 0.5))

    def _window(self, cone: Cone, axis: _Axis, sections: _Sections) -> tuple[slice, slice]:
        """Rows and columns that the cone can lie in."""
        reach, lean = sections.reach, max(abs(cone.shear[0]), abs(cone.shear[1]))
        overhang = reach if (cone.caps[0] or cone.caps[1] or axis.ex * axis.ex > 0.0025) else abs(axis.ex) * reach
        overhang += reach * lean
        x0, x1 = min(axis.x, axis.x + axis.dx) - reach, max(axis.x, axis.x + axis.dx) + reach
        y0, y1 = min(axis.y, axis.y + axis.dy) - overhang, max(axis.y, axis.y + axis.dy) + overhang
        return self._span(y0, y1, self.offset_y, self.height), self._span(x0, x1, self.offset_x, self.width)

    def _span(self, low: float, high: float, offset: float, limit: int) -> slice:
        start = max(int(np.ceil(low * self.scale + offset)), 0)
        return slice(start, max(min(int(np.floor(high * self.scale + offset)) + 1, limit), start))

    def _along_and_across(self, cone: Cone, axis: _Axis, window: tuple[slice, slice]) -> tuple[F32, F32]:
        """Coordinates along the cone's axis and across of the pixels in a window, (rows, columns) each."""
        ys, xs = self.ys[window[0]] - np.float32(axis.y), self.xs[window[1]] - np.float32(axis.x)
        t = (ys * np.float32(axis.ey))[:, None] + (xs * np.float32(axis.ex))[None, :]
        s = (ys * np.float32(-axis.ex))[:, None] + (xs * np.float32(axis.ey))[None, :]
        if any(cone.shear):
            ramp = np.clip(t * np.float32(1.0 / axis.flat), 0.0, 1.0)
            t -= s * (np.float32(cone.shear[0]) * (1 - ramp) + np.float32(cone.shear[1]) * ramp)
        return t, s

    def _hits(self, cone: Cone, axis: _Axis, sections: _Sections) -> _Spots:
        """Points where the lines of sight of the pixels meet the cone."""
        rows, columns = window = self._window(cone, axis, sections)
        t, s = self._along_and_across(cone, axis, window)
        end = np.float32(axis.flat)
        along = np.clip(t, 0.0, end)
        cell = (along * np.float32((len(sections.width) - 1) / axis.flat)).astype(np.intp)
        if sections.side is not None:
            s -= sections.side[cell]
        over = t - along
        q2 = 1.0 - (s * s + over * over) * sections.inverse[cell]
        keep = q2 > 0.0
        if not cone.caps[0]:
            keep &= t >= 0.0
        if not cone.caps[1]:
            keep &= t <= end
        hits = np.flatnonzero(keep)
        row, column = np.divmod(hits, max(columns.stop - columns.start, 1))
        at = (row + rows.start) * self.width + (column + columns.start)
        cell, t, s, along, over, q2 = (a.ravel()[hits] for a in (cell, t, s, along, over, q2))
        q = np.sqrt(q2)
        return _Spots(at, cell, t, s, along, over, q, _depth(axis, sections, cell, s, along, q))

    def _in_sight(self, cone: Cone, spots: _Spots) -> _Spots:
        """Those spots that nothing hides; a surface of the cone's own group may lie a little in front."""
        old = self.z[spots.at]
        same = self.group[spots.at] == cone.surface.group
        return spots.take(np.flatnonzero(spots.z > np.where(same, old - np.float32(cone.blend), old)))

    def _texture(self, cone: Cone, axis: _Axis, sections: _Sections, spots: _Spots) -> _Texture:
        if cone.frame is None:
            return _texture_along(cone, axis, sections, spots)
        return _texture_in_frame(cone.frame, self.xs[spots.at % self.width], self.ys[spots.at // self.width], spots.z)

    def _melt_in(self, cone: Cone, spots: _Spots, nx: F32, ny: F32, nz: F32) -> F32:
        """Writes depth and normal, mixed with what is there of the cone's group; returns the cone's share, (n,)."""
        at, z, blend = spots.at, spots.z, np.float32(cone.blend)
        old, same = self.z[at], self.group[at] == cone.surface.group
        share: F32 = np.clip(0.5 + (0.5 / blend) * (z - old), 0.0, 1.0)
        share[~same] = 1.0
        rest = 1.0 - share
        self.z[at] = z * share + np.where(same, old, 0.0) * rest + blend * share * rest
        self.nx[at] = nx * share + self.nx[at] * rest
        self.ny[at] = ny * share + self.ny[at] * rest
        self.nz[at] = nz * share + self.nz[at] * rest
        return share

    def _paint(self, cone: Cone, spots: _Spots, texture: _Texture, hem: F32 | None, mine: I64) -> None:
        """Writes what cannot be mixed where the cone has the larger share."""
        at, u, v = spots.at, texture.u, texture.v
        if mine.size < at.size:
            at, u, v = at[mine], u[mine], v[mine]
            hem = hem[mine] if hem is not None else None
        self.u[at], self.v[at] = u, v
        self.label[at], self.group[at], self.part[at] = cone.surface.label, cone.surface.group, cone.part
        self.hem[at] = 1.0 if hem is None else hem
