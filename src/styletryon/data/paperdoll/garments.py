"""The clothes: each garment as cones a little larger than the body beneath, cut by necklines, hems and armholes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from styletryon.data.paperdoll.body import (
    ARM_PLACES,
    FORE_RADII,
    PART_ARM,
    PART_DETAIL,
    PART_LEG,
    PART_TORSO,
    SHIN_RADII,
    THIGH_RADII,
    TORSO_PLACES,
    UPPER_RADII,
    Mannequin,
    Torso,
    head_frame,
    leg_cones,
    shoulder_joint,
    skull,
    torso_cone,
)
from styletryon.data.paperdoll.canvas import F32, Cone, Cover, Folds, Points, Profile, Relief, Surface
from styletryon.data.paperdoll.factors import Body, Bottom, Dress, Figure, Outerwear, SkirtCut, Top
from styletryon.data.paperdoll.skeleton import Array, Limb, Skeleton
from styletryon.labels import Label

TOP, OUTERWEAR, BOTTOM = Surface(Label.TOP, 3), Surface(Label.OUTERWEAR, 4), Surface(Label.BOTTOM, 5)
DRESS, LEGWEAR = Surface(Label.DRESS, 6), Surface(Label.LEGWEAR, 7)
SHOES, ACCESSORY = Surface(Label.SHOES, 8), Surface(Label.ACCESSORY, 9)
SLEEVES = {"none": 0.0, "cap": 0.30, "short": 0.62, "elbow": 1.0, "three-quarter": 1.55, "long": 1.97}
NECK_RX = {"crew": 0.078, "scoop": 0.094, "boat": 0.130}
NECK_BOTTOM = {"crew": -0.020, "scoop": 0.085, "boat": -0.030, "v": 0.125, "collar": 0.035, "turtle": -0.2}
NECK_TOP = -0.112


@dataclass(frozen=True)
class Sleeves:
    """Sleeves of some length (0 none, 1 elbow, 2 wrist) and fit in [0, 1] with an extra ``layer`` in metres."""

    length: float
    fit: float
    layer: float
    folds: float
    offset: float


def neck_margin(name: str, x: F32, y: F32) -> F32:
    """Distance in metres from the neckline, positive on cloth; ``x`` across and ``y`` below the shoulders in metres."""
    bottom = np.float32(NECK_BOTTOM[name])
    if name == "turtle":
        return np.full_like(x, 1.0)
    if name in ("v", "collar"):
        slope = np.float32(0.074 / (float(bottom) - NECK_TOP))
        return np.asarray((np.abs(x) - slope * (bottom - y)) * np.float32(0.92))
    rx, ry = np.float32(NECK_RX[name]), bottom - np.float32(NECK_TOP)
    ring = np.sqrt((x / rx) ** 2 + ((y - np.float32(NECK_TOP)) / ry) ** 2)
    return np.asarray((ring - 1.0) * min(rx, ry), dtype=np.float32)


def _armhole(x: F32, y: F32, shoulder: float) -> F32:
    drop = np.clip((y - np.float32(0.035)) * np.float32(1.0 / 0.11), 0.0, 1.0)
    limit = np.float32(shoulder) * (np.float32(0.80) + np.float32(0.45) * drop * drop)
    return np.asarray(limit - np.abs(x), dtype=np.float32)


def under_ease(figure: Figure, torso: Torso) -> tuple[float, ...]:
    """Distance of what is worn below the waist from the bare torso, at each of its places."""
    bottom, body = figure.outfit.bottom, figure.look.body
    out = max(figure.stance.left_leg.thigh[0], figure.stance.right_leg.thigh[0], 0.0)
    eases = []
    for place, width in zip(TORSO_PLACES, torso.half_width, strict=True):
        if place < bottom.rise - 0.12:
            eases.append(0.0)
        elif bottom.kind == "skirt":
            flare = {"pencil": 0.0, "a-line": 0.16, "pleated": 0.19}[bottom.skirt]
            eases.append(0.016 + max(place - 0.95, 0.0) * torso.length * flare)
        else:
            legs = (
                body.hips
                + THIGH_RADII[1] * body.limbs
                + 0.010
                + 0.018 * bottom.fit
                + out * (place - 0.9) * torso.length
            )
            legs = legs if place >= 1.0 else 0.0
            eases.append(max(0.008 + 0.012 * bottom.fit, legs - width))
    return tuple(eases)


def _over(ease: tuple[float, ...], under: tuple[float, ...], gap: float) -> tuple[float, ...]:
    return tuple(max(mine, below + gap) if below > 0.0 else mine for mine, below in zip(ease, under, strict=True))


def _ease(fit: float, torso: Torso, layer: float) -> tuple[float, ...]:
    """Ease over the body at each place of the torso: a loose garment hangs straight from the chest."""
    hang = max(torso.width_at(0.22) + 0.012, torso.width_at(1.0) + 0.004)
    eases = []
    for place, width in zip(TORSO_PLACES, torso.half_width, strict=True):
        close = 0.006 + layer + 0.012 * fit * float(np.clip((place + 0.05) / 0.3, 0.0, 1.0))
        straight = max(hang - width, 0.0) * float(np.clip((place - 0.2) / 0.25, 0.0, 1.0))
        eases.append(close + straight * min(1.0, 0.10 + 1.05 * fit) * (0.9 if place > 0.3 else 1.0))
    return tuple(eases)


def bodice(
    torso: Torso,
    neckline: str,
    sleeveless: bool,
    hem: float,
    ease: tuple[float, ...],
    surface: Surface,
    offset: float,
    folds: float,
) -> Cone:  # fmt: skip
    """The part of a top or dress on the torso."""
    unit, shoulder = torso.length, torso.half_width[4]
    cone = torso_cone(torso, ease, hem + 0.03, surface, hangs=True)

    def cover(points: Points) -> F32:
        x, y = points.v * np.float32(unit), points.u * np.float32(unit)
        margin = np.minimum(
            neck_margin(neckline, x, y), np.float32((hem - 0.012) * unit) - y + np.float32(0.012) * points.facing
        )
        if sleeveless:
            margin = np.minimum(margin, _armhole(x, y, shoulder))
        return margin

    creases = Folds((0.02, 0.05, 0.10, 0.08, 0.18, 0.24, 0.17, 0.11), 1.9, 1.4, offset)
    return replace(
        cone,
        cover=cover,
        hem=0.014,
        relief=torso.relief(0.85),
        blend=0.03,
        folds=replace(creases, strength=tuple(value * folds for value in creases.strength)),
    )


def _cut(stop: float) -> Cover:
    """Covers everything up to ``stop`` metres along the axis."""

    def cover(points: Points) -> F32:
        return (np.float32(stop) + np.float32(0.008) * points.facing - points.t).astype(np.float32)

    return cover


def sleeve(mannequin: Mannequin, limb: Limb, sleeves: Sleeves, surface: Surface, side: float) -> list[Cone]:
    """One sleeve."""
    body, torso = mannequin.figure.look.body, mannequin.torso
    fit, layer, unit = sleeves.fit, sleeves.layer, torso.length
    cones = []
    share = min(sleeves.length, 1.0)
    flare = 0.014 * fit * float(sleeves.length < 1.5)
    roomy = (0.15, 0.4, 1.0, 1.0, 1.0)
    upper = tuple(
        r * body.limbs + 0.006 + (layer + 0.010 * fit) * w + flare * p
        for r, w, p in zip(UPPER_RADII, roomy, (0, 0.3, 1, 1.4, 1.4), strict=True)
    )
    flat = float(np.hypot(*(limb.middle - limb.root)[:2]))
    anchor = (float((limb.root - torso.start) @ torso.down) / unit, side * torso.half_width[4] / unit)
    length = float(np.linalg.norm(limb.middle - limb.root))
    strength = tuple(sleeves.folds * value for value in (0.03, 0.06, 0.14, 0.30, 0.34))
    base = Cone(
        start=shoulder_joint(limb, torso, side),
        stop=limb.middle,
        width=Profile((0.0, 0.15, 0.4, 0.75, 1.0), upper),
        surface=surface,
        part=PART_ARM,
        unit=unit,
        texture=anchor,
        yaw=torso.yaw,
        blend=0.034,
        hem=0.012,
        cover=_cut(share * flat) if share < 1.0 else None,
        folds=Folds(strength, 3.6, 3.0, sleeves.offset),
    )
    cones.append(base)
    if sleeves.length >= 1.0:
        share = sleeves.length - 1.0
        flat = float(np.hypot(*(limb.end - limb.middle)[:2]))
        fore = tuple(
            r * (0.4 + 0.6 * body.limbs) + 0.006 + layer + 0.012 * fit * w
            for r, w in zip(FORE_RADII, (1, 1, 1, 1, 0.7), strict=True)
        )
        end = limb.middle + (limb.end - limb.middle) * max(share, 0.04)
        places = tuple(float(value) for value in np.linspace(0.0, 1.0, 5))
        radii = tuple(float(np.interp(place * max(share, 0.04), (0, 0.15, 0.4, 0.75, 1.0), fore)) for place in places)
        cones.append(
            replace(
                base,
                start=limb.middle,
                stop=end,
                width=Profile(places, radii),
                texture=(anchor[0] + length / unit, anchor[1]),
                blend=0.012,
                caps=(True, False),
                cover=_cut(max(share, 0.04) * flat - 0.008),
                hem=0.012,
                folds=Folds(
                    tuple(sleeves.folds * value for value in (0.34, 0.22, 0.12, 0.10, 0.16)),
                    3.6,
                    3.0,
                    sleeves.offset + 0.31,
                ),
            )
        )
    return cones


def _both_sleeves(mannequin: Mannequin, sleeves: Sleeves, surface: Surface) -> list[Cone]:
    limbs = ((mannequin.skeleton.left_arm, 1.0), (mannequin.skeleton.right_arm, -1.0))
    return [cone for limb, side in limbs for cone in sleeve(mannequin, limb, sleeves, surface, side)]


def _neck_band(
    mannequin: Mannequin, radius: float, low: float, high: float, surface: Surface, cover: Cover | None
) -> Cone:
    """A band round the neck between two heights in metres above the shoulders."""
    _, skeleton, torso = mannequin
    base = torso.start - torso.down * low + torso.frame.front * -0.010
    way = skeleton.head_centre - base
    top = base + way / np.linalg.norm(way) * (high - low) + torso.frame.front * 0.004
    return Cone(
        start=base,
        stop=top,
        width=Profile((0.0, 1.0), (radius * 1.15, radius)),
        surface=surface,
        part=PART_DETAIL,
        caps=(False, False),
        cover=cover,
        hem=0.008,
        blend=0.012,
        frame=torso.frame,
    )


def neck_radius(body: Body) -> float:
    """Radius of the neck in metres."""
    return (0.046 + 0.008 * (body.limbs - 0.9) / 0.15) * (0.5 + 0.5 * body.weight)


def _collar_cover(unit: float) -> Cover:
    def cover(points: Points) -> F32:
        x, y = points.v * np.float32(unit), points.u * np.float32(unit)
        gap = np.abs(x) - np.float32(0.50) * np.clip(np.float32(0.02) - y, 0.0, 1.0) * np.float32(0.45)
        return np.where(points.w > 0, gap, np.float32(0.05)).astype(np.float32)

    return cover


def top_ease(figure: Figure, torso: Torso, top: Top) -> tuple[float, ...]:
    """Ease of a top that hangs over what is worn below it."""
    return _over(_ease(top.fit, torso, 0.0), under_ease(figure, torso), 0.007)


def outer_ease(figure: Figure, torso: Torso, outer: Outerwear, top: Top) -> tuple[float, ...]:
    """Ease of an open layer over a top."""
    return tuple(
        max(a, b + 0.007)
        for a, b in zip(_ease(outer.fit * 0.7, torso, 0.011), top_ease(figure, torso, top), strict=True)
    )


def top_cones(mannequin: Mannequin, top: Top, sleeves: bool) -> list[Cone]:
    """A top, with its sleeves unless a layer hides them."""
    figure, _, torso = mannequin
    length = SLEEVES[top.sleeve]
    ease = top_ease(figure, torso, top)
    cones = [
        bodice(
            torso, top.neckline, length == 0.0, top.length, ease, TOP, top.fold_offset, 0.5 + 0.6 * top.folds
        )
    ]
    if sleeves and length > 0.0:
        cut = Sleeves(length, top.fit, 0.0, 0.5 + 0.6 * top.folds, top.fold_offset)
        cones += _both_sleeves(mannequin, cut, TOP)
    radius = neck_radius(figure.look.body)
    if top.neckline == "turtle":
        cones.append(_neck_band(mannequin, radius + 0.011, 0.035, 0.135, TOP, None))
    elif top.neckline == "collar":
        cones.append(
            _neck_band(mannequin, radius + 0.009, 0.050, 0.108, TOP, _collar_cover(torso.length))
        )
    return cones


def outer_gap(outer: Outerwear, y: F32, unit: float) -> F32:
    """Half width in metres of the opening of an open layer, ``y`` metres below the shoulders."""
    gap = np.float32(outer.gap * unit)
    if outer.kind == "blazer":
        taper = np.clip((y - np.float32(0.30)) * np.float32(5.0), 0.0, 1.0)
        low = np.clip((y - np.float32(0.40)) * np.float32(2.0), 0.0, 1.0)
        opened = np.clip((y + np.float32(0.1)) * 6, 0.0, 1.0) * (1 - taper * np.float32(0.6))
        return np.asarray(np.float32(0.064) + (gap - np.float32(0.06)) * opened + low * gap)
    return np.asarray(np.float32(0.060) + (gap - np.float32(0.055)) * np.clip((y + np.float32(0.1)) * 5, 0.0, 1.0))


def outer_cones(mannequin: Mannequin, outer: Outerwear, top: Top) -> list[Cone]:
    """An open layer over the top."""
    figure, _, torso = mannequin
    unit, layer = torso.length, 0.011
    ease = outer_ease(figure, torso, outer, top)
    hem = max(outer.length, 0.2)
    cone = torso_cone(torso, ease, hem + 0.03, OUTERWEAR, hangs=True)
    shoulder = torso.half_width[4] + 0.01
    sleeveless = outer.kind == "vest"

    def cover(points: Points) -> F32:
        x, y = points.v * np.float32(unit), points.u * np.float32(unit)
        front = np.where(points.w > 0, np.abs(x) - outer_gap(outer, y, unit), np.float32(0.05))
        margin = np.minimum(front, np.float32((hem - 0.012) * unit) - y + np.float32(0.012) * points.facing)
        if sleeveless:
            margin = np.minimum(margin, _armhole(x, y, shoulder))
        return margin.astype(np.float32)

    strength = tuple(value * (0.5 + 0.6 * outer.folds) for value in (0.02, 0.05, 0.10, 0.10, 0.18, 0.22, 0.15, 0.1))
    body = replace(
        cone,
        cover=cover,
        hem=0.014,
        relief=torso.relief(0.55),
        blend=0.03,
        folds=Folds(strength, 1.8, 1.4, outer.fold_offset),
    )
    cones = [body]
    if not sleeveless:
        length = 1.97 if outer.kind != "cardigan" or outer.fit < 0.6 else 1.7
        cut = Sleeves(length, outer.fit, layer, 0.5 + 0.6 * outer.folds, outer.fold_offset)
        cones += _both_sleeves(mannequin, cut, OUTERWEAR)
    if outer.kind in ("blazer", "jacket"):
        radius = neck_radius(figure.look.body) + 0.019

        def back_only(points: Points) -> F32:
            x, y = points.v * np.float32(unit), points.u * np.float32(unit)
            return np.where(points.w > 0, np.abs(x) - np.float32(0.035) + y * np.float32(0.2), np.float32(0.05)).astype(
                np.float32
            )

        cones.append(_neck_band(mannequin, radius, 0.055, 0.105, OUTERWEAR, back_only))
    return cones


def _legs(skeleton: Skeleton) -> tuple[tuple[Limb, float], tuple[Limb, float]]:
    return (skeleton.left_leg, 1.0), (skeleton.right_leg, -1.0)


def trouser_cones(mannequin: Mannequin, bottom: Bottom) -> list[Cone]:
    """Trousers, jeans or shorts."""
    figure, skeleton, torso = mannequin
    body, unit = figure.look.body, torso.length
    hip_ease = tuple(0.006 + 0.010 * bottom.fit * float(np.clip((p - 0.8) / 0.3, 0.0, 1.0)) for p in TORSO_PLACES)
    seat = torso_cone(torso, hip_ease, 1.26, BOTTOM)

    def cover(points: Points) -> F32:
        return ((points.u - np.float32(bottom.rise)) * np.float32(unit)).astype(np.float32)

    folds = 0.5 + 0.7 * bottom.folds
    cones = [
        replace(
            seat, cover=cover, blend=0.035, hem=0.010,
            folds=Folds(
                tuple(value * folds for value in (0.0, 0.0, 0.02, 0.06, 0.16, 0.24)), 1.7, 1.6, bottom.fold_offset
            ),
        )
    ]  # fmt: skip
    wide = 0.004 + 0.016 * bottom.fit
    for limb, side in _legs(skeleton):
        share = min(bottom.length, 1.0)
        flat = float(np.hypot(*(limb.middle - limb.root)[:2]))
        flare = 0.030 * bottom.fit
        thigh = tuple(
            r * body.limbs + wide + flare * p for r, p in zip(THIGH_RADII, (0.0, 0.0, 0.25, 0.7, 1.0), strict=True)
        )
        anchor = (float((limb.root - torso.start) @ torso.down) / unit, side * body.hips / unit)
        base = Cone(
            start=limb.root,
            stop=limb.middle,
            width=Profile((0.0, 0.15, 0.4, 0.75, 1.0), thigh),
            surface=BOTTOM,
            part=PART_LEG,
            unit=unit,
            texture=anchor,
            blend=0.03,
            hem=0.012,
            cover=_cut(share * flat) if share < 1.0 else None,
            yaw=torso.yaw,
            folds=Folds(
                tuple(value * folds for value in (0.20, 0.11, 0.05, 0.09, 0.18)),
                1.7,
                1.7,
                bottom.fold_offset + 0.2 * side,
            ),
        )
        cones.append(base)
        if bottom.length > 1.0:
            drape = tuple(
                r * (0.3 + 0.7 * body.limbs) + wide + flare + (0.012 * bottom.fit + 0.010) * p
                for r, p in zip(SHIN_RADII[1:], (0.3, 0.8, 1.4, 1.8), strict=True)
            )
            cones.append(_below_knee(base, limb, (thigh[-1], *drape), folds, bottom.fold_offset))
    return cones


def _below_knee(thigh: Cone, limb: Limb, radii: tuple[float, ...], folds: float, offset: float) -> Cone:
    """The leg of trousers from the knee down, which goes on where its upper part ends."""
    down, across = thigh.texture
    return replace(
        thigh,
        start=limb.middle,
        stop=limb.end,
        width=Profile((0.0, 0.15, 0.4, 0.75, 1.0), radii),
        cover=None,
        texture=(down + float(np.linalg.norm(limb.middle - limb.root)) / thigh.unit, across),
        caps=(True, False),
        blend=0.02,
        folds=Folds(tuple(value * folds for value in (0.18, 0.12, 0.06, 0.08, 0.18)), 1.7, 1.7, offset),
    )


def _pleats(cut: SkirtCut, waist: float, depth: float) -> Relief:
    count, strength = {"pencil": (3, 0.10), "a-line": (5, 0.30), "pleated": (12, 0.50)}[cut]

    def slopes(points: Points) -> tuple[F32, F32]:
        angle = np.arctan2(points.v, points.w + np.float32(0.02)) * np.float32(count)
        ramp = (
            np.clip(points.t * np.float32(1.0 / depth), 0.0, 1.0)
            * np.float32(strength)
            * (points.facing + np.float32(0.1))
        )
        wave = np.sin(angle * 2 + np.float32(waist)) if cut != "pleated" else np.mod(angle, 1.0) * 2 - 1
        return np.zeros_like(wave), (wave * ramp).astype(np.float32)

    return slopes


def skirt_cone(
    mannequin: Mannequin, cut: SkirtCut, start: float, length: float, ease: float, surface: Surface, phase: float
) -> Cone:
    """A skirt from ``start`` on the torso to ``length`` along the thighs (1: the knee)."""
    figure, skeleton, torso = mannequin
    body = figure.look.body

    def along(limb: Limb) -> Array:
        if length <= 1.0:
            return np.asarray(limb.root + (limb.middle - limb.root) * length)
        return np.asarray(limb.middle + (limb.end - limb.middle) * (length - 1.0))

    left, right = along(skeleton.left_leg), along(skeleton.right_leg)
    top = torso.at(start)
    hem = 0.5 * (left + right)
    hem = hem + torso.frame.front * -0.004
    drop = float(np.linalg.norm(hem - top))
    hips_at = min((1.02 - start) * torso.length / drop, 0.85)
    reach = (
        0.5 * float(np.linalg.norm((left - right)[:2])) + float(np.interp(length, ARM_PLACES, THIGH_RADII)) * body.limbs
    )
    waist = torso.width_at(start) + 0.008 + ease
    hip = max(torso.width_at(1.02), body.hips + 0.087 * body.limbs) + 0.010
    flare = {"pencil": -0.05, "a-line": 0.22, "pleated": 0.26}[cut] * drop * (1.0 - hips_at)
    lunge = abs(float(left[2] - right[2]))
    bottom = max(hip + flare, reach * (1.0 + 0.6 * lunge) + 0.018)
    middle = hip + (bottom - hip) * 0.42
    places = (0.0, 0.5 * hips_at, hips_at, hips_at + 0.5 * (1.0 - hips_at), 1.0)
    widths = (waist, 0.46 * waist + 0.545 * hip, hip + 0.006, middle, bottom)
    seat = torso.depth_at(1.0)
    depths = (
        torso.depth_at(start) + 0.006 + ease,
        0.5 * (torso.depth_at(start) + seat) + 0.010,
        seat + 0.012,
        0.74 * middle,
        0.74 * bottom,
    )
    stride = 0.62 * lunge + float(np.interp(length, ARM_PLACES, THIGH_RADII)) * body.limbs + 0.012
    back = tuple(float(np.interp(start + p * drop / torso.length, TORSO_PLACES, torso.forward)) for p in places)

    def cover(points: Points) -> F32:
        return (np.float32(drop * 0.985) + np.float32(0.018) * points.facing - points.t).astype(np.float32)

    return Cone(
        start=top,
        stop=hem + (hem - top) * 0.03,
        width=Profile(places, widths),
        depth=Profile(
            places,
            (*depths[:3], max(depths[3], seat + 0.012, 0.5 * (seat + stride)), max(depths[4], seat + 0.012, stride)),
        ),
        forward=Profile(places, back),
        yaw=torso.yaw,
        caps=(False, False),
        shear=(torso.shear[1], torso.shear[1] * 0.5),
        frame=torso.frame,
        surface=surface,
        part=PART_TORSO,
        blend=0.012,
        cover=cover,
        hem=0.014,
        relief=_pleats(cut, phase * 6.28, 0.7 * drop),
        folds=Folds((0.03, 0.06, 0.10, 0.08), 1.1, 1.8, phase),
    )


def bottom_cones(mannequin: Mannequin, bottom: Bottom) -> list[Cone]:
    """Whatever is worn from the waist down."""
    if bottom.kind != "skirt":
        return trouser_cones(mannequin, bottom)
    return [skirt_cone(mannequin, bottom.skirt, bottom.rise, bottom.length, 0.0, BOTTOM, bottom.fold_offset)]


def dress_ease(torso: Torso, dress: Dress) -> tuple[float, ...]:
    """Ease of a dress' bodice."""
    return _ease(dress.fit, torso, 0.002)


def dress_cones(mannequin: Mannequin, dress: Dress) -> list[Cone]:
    """A dress: bodice, sleeves and skirt of one cloth."""
    length, folds = SLEEVES[dress.sleeve], 0.4 + 0.5 * dress.folds
    ease = dress_ease(mannequin.torso, dress)
    upper = bodice(
        mannequin.torso, dress.neckline, length == 0.0, dress.waist + 0.05, ease, DRESS, dress.fold_offset, folds
    )
    loose = float(np.interp(dress.waist, TORSO_PLACES, ease)) - 0.006
    skirt = skirt_cone(mannequin, dress.skirt, dress.waist, dress.length, loose, DRESS, dress.fold_offset)
    cones = [upper, replace(skirt, blend=0.02)]
    if length > 0.0:
        cut = Sleeves(length, dress.fit, 0.0, 0.5 + 0.6 * dress.folds, dress.fold_offset)
        cones += _both_sleeves(mannequin, cut, DRESS)
    return cones


def legwear_cones(figure: Figure, skeleton: Skeleton, covered: float) -> list[Cone]:
    """Tights on both legs, below what the clothes cover."""
    body = figure.look.body
    return [
        cone
        for limb, _ in _legs(skeleton)
        for cone in leg_cones(body, limb, covered, LEGWEAR, 0.001)
    ]


def shoe_cones(skeleton: Skeleton) -> list[Cone]:
    """Simple shoes."""
    cones = []
    for limb, _ in _legs(skeleton):
        heel = limb.end + np.array([0.0, 0.035, -0.01])
        width = Profile((0.0, 0.5, 1.0), (0.042, 0.045, 0.032))
        cones.append(
            Cone(
                start=heel,
                stop=limb.tip,
                width=width,
                surface=SHOES,
                part=PART_DETAIL,
                blend=0.01,
            )
        )
    return cones


def accessory_cones(mannequin: Mannequin, front: tuple[float, ...]) -> list[Cone]:
    """Hats, scarves, bags and belts. ``front`` is the outermost layer's ease at each place of the torso."""
    figure = mannequin.figure
    accessory = figure.outfit.accessory
    if accessory is None:
        return []
    makers: dict[str, Callable[[Mannequin, tuple[float, ...]], list[Cone]]]
    makers = {"cap": _hat, "beanie": _hat, "scarf": _scarf, "bag": _bag, "belt": _belt}
    return makers[accessory.kind](mannequin, front)


def _band_profile(torso: Torso, low: float, high: float, ease: float) -> Cone:
    """A slice of the torso's outline between two heights, larger by ``ease``."""
    places = tuple(float(value) for value in np.linspace(0.0, 1.0, 5))
    heights = [low + (high - low) * place for place in places]
    return Cone(
        start=torso.at(low),
        stop=torso.at(high),
        width=Profile(places, tuple(torso.width_at(u) + ease for u in heights)),
        depth=Profile(places, tuple(torso.depth_at(u) + ease for u in heights)),
        forward=Profile(places, tuple(float(np.interp(u, TORSO_PLACES, torso.forward)) for u in heights)),
        yaw=torso.yaw,
        caps=(False, False),
        shear=(torso.shear[1], torso.shear[1]),
        frame=torso.frame,
        surface=ACCESSORY,
        part=PART_DETAIL,
        blend=0.004,
    )


def _belt(mannequin: Mannequin, front: tuple[float, ...]) -> list[Cone]:
    figure, _, torso = mannequin
    outfit = figure.outfit
    if outfit.dress is not None:
        at = outfit.dress.waist
    else:
        at = 0.64 if outfit.top.length > 0.8 else outfit.bottom.rise + 0.03
    if outfit.dress is None and outfit.outerwear is not None:
        front = top_ease(figure, torso, outfit.top)
    ease = float(np.interp(at, TORSO_PLACES, front)) + 0.008
    return [replace(_band_profile(torso, at - 0.032, at + 0.032, ease), hem=0.006)]


def _scarf(mannequin: Mannequin, front: tuple[float, ...]) -> list[Cone]:
    figure, _, torso = mannequin
    radius = neck_radius(figure.look.body)
    base = torso.start - torso.down * 0.035 + torso.frame.front * 0.004
    ring = Cone(
        start=base,
        stop=base - torso.down * 0.075,
        width=Profile((0.0, 0.5, 1.0), (radius + 0.040, radius + 0.046, radius + 0.022)),
        surface=ACCESSORY,
        part=PART_DETAIL,
        unit=torso.length,
        blend=0.012,
        caps=(True, False),
        folds=Folds((0.35, 0.35), 4.0, 2.0, 0.3),
    )
    variant = figure.outfit.accessory.variant if figure.outfit.accessory is not None else 0.0
    side = 1.0 if variant > 0.5 else -1.0
    start = base + torso.frame.across * side * 0.035 + torso.frame.front * 0.078
    low = 0.35 + 0.3 * (variant * 2 % 1)
    depth = (
        max(torso.depth_at(u) + float(np.interp(u, TORSO_PLACES, torso.forward)) for u in (0.25, low))
        + 0.8 * front[8]
        + 0.012
    )
    stop = torso.at(low) + torso.frame.across * side * 0.055 + torso.frame.front * depth
    tail = replace(
        ring,
        start=start,
        stop=stop,
        width=Profile((0.0, 0.4, 1.0), (0.030, 0.040, 0.046)),
        depth=Profile((0.0, 1.0), (0.022, 0.016)),
        caps=(True, False),
        yaw=torso.yaw,
        blend=0.01,
    )
    return [ring, tail]


def _bag(mannequin: Mannequin, front: tuple[float, ...]) -> list[Cone]:
    figure, _, torso = mannequin
    accessory = figure.outfit.accessory
    variant = accessory.variant if accessory is not None else 0.0
    side = 1.0 if variant > 0.5 else -1.0
    unit, shoulder, hip = torso.length, torso.half_width[4], torso.width_at(1.0)
    low, high = (side * (hip + 0.01), 1.0 * unit), (-side * shoulder * 0.62, -0.10 * unit)
    dx, dy = high[0] - low[0], high[1] - low[1]
    norm = float(np.hypot(dx, dy))

    def strap(points: Points) -> F32:
        x, y = points.v * np.float32(unit), points.u * np.float32(unit)
        off = np.abs(
            (x - np.float32(low[0])) * np.float32(dy / norm) - (y - np.float32(low[1])) * np.float32(dx / norm)
        )
        return np.where(points.w > -0.02, np.float32(0.0125) - off, np.float32(-1.0)).astype(np.float32)

    ease = tuple(value + 0.008 for value in front)
    band = replace(
        torso_cone(torso, ease, 1.1, ACCESSORY),
        cover=strap,
        hem=0.004,
        part=PART_DETAIL,
        relief=torso.relief(0.7),
    )
    centre = torso.at(1.02) + torso.frame.across * side * (hip + 0.035) + torso.frame.front * 0.07
    body = Cone(
        start=centre,
        stop=centre + np.array([0.0, 0.15, 0.0]),
        width=Profile((0.0, 0.1, 0.9, 1.0), (0.082, 0.092, 0.098, 0.09)),
        depth=Profile((0.0, 1.0), (0.040, 0.046)),
        yaw=torso.yaw,
        caps=(False, False),
        surface=ACCESSORY,
        part=PART_DETAIL,
        unit=unit,
        blend=0.004,
        hem=0.008,
        cover=_box(0.15),
    )
    return [band, body]


def _box(height: float) -> Cover:
    def cover(points: Points) -> F32:
        edge = np.minimum(points.t, np.float32(height) - points.t)
        return np.asarray(np.minimum(edge, (points.facing - np.float32(0.15)) * np.float32(0.05)), dtype=np.float32)

    return cover


def _hat(mannequin: Mannequin, front: tuple[float, ...]) -> list[Cone]:
    figure, skeleton, _ = mannequin
    size, frame = figure.look.body.head, head_frame(figure, skeleton)
    accessory = figure.outfit.accessory
    beanie = accessory is not None and accessory.kind == "beanie"
    line = -0.20 if beanie else -0.235

    def crown(points: Points) -> F32:
        return ((np.float32(line) + np.float32(0.06) * np.abs(points.v) - points.u) * np.float32(size)).astype(
            np.float32
        )

    dome = replace(
        skull(figure, skeleton, 0.088),
        surface=ACCESSORY,
        part=PART_DETAIL,
        cover=crown,
        hem=0.016,
        folds=Folds((0.25, 0.2), 5.0, 3.0, 0.4) if beanie else None,
        blend=0.004,
    )
    if beanie:
        return [dome]
    head = skeleton.head
    base = skeleton.head_centre + head @ np.array([0.0, line - 0.005, 0.25]) * size
    peak = skeleton.head_centre + head @ np.array([0.0, line + 0.075, 0.66]) * size
    brim = Cone(
        start=base,
        stop=peak,
        width=Profile((0.0, 0.6, 1.0), (0.30 * size, 0.29 * size, 0.20 * size)),
        depth=Profile((0.0, 1.0), (0.03 * size, 0.02 * size)),
        caps=(True, True),
        frame=frame,
        surface=ACCESSORY,
        part=PART_DETAIL,
        blend=0.003,
        cover=lambda p: (np.float32(0.085) - np.abs(p.u - np.float32(line + 0.05)) + np.float32(0.0) * p.t).astype(
            np.float32
        ),
    )
    return [dome, brim]
