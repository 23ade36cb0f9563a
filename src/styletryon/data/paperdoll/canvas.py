"""The depth buffer and its one primitive, a generalised cone whose surface has a closed form under such a camera."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

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
    """How a surface is creased: strength by place along the axis, texture scale along and around, offset."""

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


@dataclass
class Cone:
    """One generalised cone.

    Attributes:
        start: Where the axis begins, (3,) metres.
        stop: Where it ends.
        width: Half width across, along the axis.
        depth: Half depth to the front (None: round).
        label: Class written to the label buffer.
        group: Surfaces of one group are joined smoothly.
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
    label: int
    group: int
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

    def _span(self, low: float, high: float, offset: float, limit: int) -> tuple[int, int]:
        return max(int(np.ceil(low * self.scale + offset)), 0), min(
            int(np.floor(high * self.scale + offset)) + 1, limit
        )

    def draw(self, cone: Cone) -> None:
        """Draws one cone into the buffers."""
        ax, ay, az = (float(value) for value in cone.start)
        dx, dy, dz = (float(value) for value in cone.stop - cone.start)
        flat = max(float(np.hypot(dx, dy)), 1e-3)
        ex, ey = dx / flat, dy / flat
        count = 48 if flat * self.scale < 40 else 96 if flat * self.scale < 110 else 384
        width = np.maximum(cone.width.table(count), 1e-4)
        reach = float(width.max())
        round_section = cone.depth is None
        sin, cos = float(np.sin(cone.yaw)), float(np.cos(cone.yaw))
        tilt: F32 | None = None
        depth = width
        if cone.depth is not None:
            half_depth = np.maximum(cone.depth.table(count), 1e-4)
            spread = np.sqrt((width * cos) ** 2 + (half_depth * sin) ** 2)
            depth = width * half_depth / spread
            if sin != 0.0:
                facing = (sin / width) ** 2 + (cos / half_depth) ** 2
                tilt = (-cos * sin * (half_depth**-2 - width**-2) / facing).astype(np.float32)
            width = spread.astype(np.float32)
            reach = float(width.max())
        side = cone.sideways.table(count) if cone.sideways is not None else None
        bulge = None
        if cone.forward is not None:
            push = cone.forward.table(count)
            bulge = push * np.float32(cos)
            if sin != 0.0:
                side = push * np.float32(sin) if side is None else side + push * np.float32(sin)
        if side is not None:
            reach += float(np.abs(side).max())
        overhang = reach if (cone.caps[0] or cone.caps[1] or ex * ex > 0.0025) else abs(ex) * reach
        sheared = abs(cone.shear[0]) + abs(cone.shear[1]) > 0.0
        if sheared:
            overhang += reach * max(abs(cone.shear[0]), abs(cone.shear[1]))
        x0, x1 = self._span(min(ax, ax + dx) - reach, max(ax, ax + dx) + reach, self.offset_x, self.width)
        y0, y1 = self._span(min(ay, ay + dy) - overhang, max(ay, ay + dy) + overhang, self.offset_y, self.height)
        if x0 >= x1 or y0 >= y1:
            return
        xs, ys = self.xs[x0:x1] - np.float32(ax), self.ys[y0:y1] - np.float32(ay)
        t = (ys * np.float32(ey))[:, None] + (xs * np.float32(ex))[None, :]
        s = (ys * np.float32(-ex))[:, None] + (xs * np.float32(ey))[None, :]
        if sheared:
            ramp = np.clip(t * np.float32(1.0 / flat), 0.0, 1.0)
            t -= s * (np.float32(cone.shear[0]) * (1 - ramp) + np.float32(cone.shear[1]) * ramp)
        limit = np.float32(flat)
        along = np.clip(t, 0.0, limit)
        cell = (along * np.float32((count - 1) / flat)).astype(np.intp)
        if side is not None:
            s -= side[cell]
        inverse = (1.0 / (width * width)).astype(np.float32)
        over = t - along
        q2 = 1.0 - (s * s + over * over) * inverse[cell]
        keep = q2 > 0.0
        if not cone.caps[0]:
            keep &= t >= 0.0
        if not cone.caps[1]:
            keep &= t <= limit
        hits = np.flatnonzero(keep)
        if hits.size == 0:
            return
        rows, columns = np.divmod(hits, x1 - x0)
        at = (rows + y0) * self.width + (columns + x0)
        s, t, along, cell, over, q2 = (a.ravel()[hits] for a in (s, t, along, cell, over, q2))
        q = np.sqrt(q2)
        swell = depth[cell] * q
        if tilt is not None:
            swell += tilt[cell] * s
        if bulge is not None:
            swell += bulge[cell]
        z = np.float32(az) + along * np.float32(dz / flat) + swell
        old = self.z[at]
        same = self.group[at] == cone.group
        blend = np.float32(cone.blend)
        visible = np.flatnonzero(z > np.where(same, old - blend, old))
        if visible.size == 0:
            return
        at, s, t, along, cell, over, q, z, old, same = (
            a[visible] for a in (at, s, t, along, cell, over, q, z, old, same)
        )
        x, y = self.xs[at % self.width], self.ys[at // self.width]
        if cone.frame is not None:
            frame = cone.frame
            rx, ry, rz = (
                x - np.float32(frame.origin[0]),
                y - np.float32(frame.origin[1]),
                z - np.float32(frame.origin[2]),
            )
            scale = np.float32(1.0 / frame.unit)
            down, across, front = (
                np.asarray(axis, dtype=np.float32) * scale for axis in (frame.down, frame.across, frame.front)
            )
            u = rx * down[0] + ry * down[1] + rz * down[2]
            v = rx * across[0] + ry * across[1] + rz * across[2]
            w = rx * front[0] + ry * front[1] + rz * front[2]
        else:
            length = float(np.sqrt(flat * flat + dz * dz))
            u = t * np.float32(length / flat / cone.unit) + np.float32(cone.texture[0])
            sigma = s * np.sqrt(inverse[cell])
            v = np.arcsin(np.clip(sigma, -1.0, 1.0)) * (width[cell] * np.float32(1.0 / cone.unit))
            v += np.float32(cone.texture[1] - cone.yaw * float(width[count // 3]) / cone.unit)
            w = q
        hem: F32 | None = None
        if cone.cover is not None:
            margin = cone.cover(Points(t, s, u, v, w, q))
            inside = np.flatnonzero(margin > 0.0)
            if inside.size == 0:
                return
            if cone.hem > 0.0:
                hem = np.minimum(margin[inside] * np.float32(0.34 / cone.hem) + np.float32(0.66), 1.0)
            if inside.size < at.size:
                at, s, t, along, cell, over, q, z, old, same, u, v, w = (
                    a[inside] for a in (at, s, t, along, cell, over, q, z, old, same, u, v, w)
                )
        per_metre = np.float32((count - 1) / flat)
        ring = inverse[cell] * depth[cell]
        slope_s = s * ring
        if tilt is not None:
            slope_s -= tilt[cell] * q
        growth = np.gradient(depth) * per_metre
        if not round_section:
            growth = 0.5 * (growth + np.gradient(width) * per_metre * depth / width)
        if cone.caps[0]:
            growth[: count // 10] *= np.linspace(0.0, 1.0, count // 10, dtype=np.float32)
        if cone.caps[1]:
            growth[-(count // 10) :] *= np.linspace(1.0, 0.0, count // 10, dtype=np.float32)
        axis_z = np.full(count, dz / flat, dtype=np.float32)
        if bulge is not None:
            axis_z += np.gradient(bulge) * per_metre
        slope_t = over * ring - q * axis_z[cell]
        slope_t -= np.where(over == 0.0, growth[cell], np.float32(0.0))
        if side is not None:
            slope_t -= slope_s * (np.gradient(side) * per_metre)[cell]
        if cone.relief is not None:
            add_t, add_s = cone.relief(Points(t, s, u, v, w, q))
            slope_t += add_t
            slope_s += add_s
        if cone.folds is not None:
            self._crease(cone.folds, cell, count, flat, along, s, q, slope_t, slope_s)
        norm = 1.0 / np.sqrt(slope_s * slope_s + slope_t * slope_t + q * q + np.float32(1e-8))
        nx = (slope_s * np.float32(ey) + slope_t * np.float32(ex)) * norm
        ny = (slope_t * np.float32(ey) - slope_s * np.float32(ex)) * norm
        nz = q * norm
        share = np.clip(0.5 + (0.5 / blend) * (z - old), 0.0, 1.0)
        share[~same] = 1.0
        rest = 1.0 - share
        self.z[at] = z * share + np.where(same, old, 0.0) * rest + blend * share * rest
        self.nx[at] = nx * share + self.nx[at] * rest
        self.ny[at] = ny * share + self.ny[at] * rest
        self.nz[at] = nz * share + self.nz[at] * rest
        mine = np.flatnonzero(share > 0.5)
        if mine.size < at.size:
            at, u, v = at[mine], u[mine], v[mine]
            hem = hem[mine] if hem is not None else None
        self.u[at], self.v[at] = u, v
        self.label[at], self.group[at], self.part[at] = cone.label, cone.group, cone.part
        self.hem[at] = 1.0 if hem is None else hem

    @staticmethod
    def _crease(
        folds: Folds, cell: I64, count: int, flat: float, along: F32, s: F32, q: F32, slope_t: F32, slope_s: F32
    ) -> None:
        """Adds the slopes of the fold texture, in place."""
        texture_u, texture_v = fold_texture()
        row = (along * np.float32(folds.along * 128) + np.float32(folds.offset * 128)).astype(np.intp) & 127
        column = (s * np.float32(folds.around * 128) + np.float32((folds.offset * 7.3 % 1.0) * 128 + 1280)).astype(
            np.intp
        ) & 127
        place = row * 128 + column
        places = np.linspace(0.0, 1.0, len(folds.strength))
        strength = np.interp(np.linspace(0.0, 1.0, count), places, folds.strength).astype(np.float32)[cell] * (
            q + np.float32(0.15)
        )
        slope_t += texture_u[place] * strength
        slope_s += texture_v[place] * strength
