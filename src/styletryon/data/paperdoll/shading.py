"""Deferred shading: colour of cloth, skin, hair and face, light, occlusion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from styletryon.data.paperdoll import body, garments
from styletryon.data.paperdoll.canvas import F32, FAR, Canvas, fold_texture
from styletryon.data.paperdoll.factors import Cloth, Face, Figure, Light
from styletryon.labels import Label

f32 = np.float32


def _wave(value: F32, duty: float) -> NDArray[np.bool_]:
    return np.asarray((value - np.floor(value)) < f32(duty))


def pattern_weights(cloth: Cloth, u: F32, v: F32, part: NDArray[np.uint8]) -> tuple[F32, F32 | None]:
    """Weights (n,) of the figure and the accent colour at texture coordinates ``u`` and ``v``, in torso lengths."""
    along = u * f32(cloth.cycles_u) + f32(cloth.phase_u)
    flat = part == body.PART_TORSO
    across = np.where(flat, v * (1 + f32(1.2) * v * v), v) * f32(cloth.cycles_v) + f32(cloth.phase_v)
    accent: F32 | None = None
    name = cloth.pattern
    if name == "stripes":
        weight = _wave(along, cloth.duty).astype(f32)
    elif name == "columns":
        weight = _wave(across, cloth.duty).astype(f32)
    elif name == "checks":
        weight = _wave(along, 0.5).astype(f32) * f32(0.5) + _wave(across, 0.5).astype(f32) * f32(0.5)
    elif name == "plaid":
        weight = _wave(along, 0.45).astype(f32) * f32(0.5) + _wave(across, 0.45).astype(f32) * f32(0.5)
        accent = np.maximum(_wave(along + f32(0.32), 0.14), _wave(across + f32(0.32), 0.14)).astype(f32) * f32(0.7)
    elif name == "dots":
        row = np.floor(along)
        x = across + f32(0.5) * np.mod(row, 2)
        x, y = x - np.floor(x) - f32(0.5), along - row - f32(0.5)
        weight = ((x * x + y * y) < f32(0.30 * 0.30 + 0.06 * (cloth.duty - 0.36))).astype(f32)
    elif name == "diagonal":
        weight = _wave(along + across, cloth.duty).astype(f32)
    elif name == "chevron":
        zigzag = np.abs(across - np.floor(across) - f32(0.5))
        weight = _wave(along + zigzag * f32(1.6), cloth.duty).astype(f32)
    elif name == "panel":
        half = 0.09 + 0.12 * cloth.phase_v
        weight = ((np.abs(v) < f32(half)) == (cloth.phase_u < 0.6)).astype(f32) * flat
    elif name == "logo":
        x, y = v / f32(0.15), (u - f32(0.30)) / f32(0.10 + 0.05 * cloth.phase_v)
        kind = int(cloth.phase_u * 3)
        shape = x * x + y * y if kind == 0 else np.maximum(np.abs(x), np.abs(y)) if kind == 1 else np.abs(x) + np.abs(y)
        weight = ((shape < 1.0) & flat).astype(f32)
        accent = ((shape < f32(0.45)) & flat).astype(f32)
    elif name == "block":
        level = 0.25 + 0.3 * cloth.phase_u
        weight = np.where(flat, u < f32(level), cloth.phase_v < 0.5).astype(f32)
    else:
        weight = np.zeros_like(u)
    return weight, accent


def _mix(colour: F32, target: Sequence[float] | F32, weight: F32) -> None:
    """Moves ``colour`` (3, n) towards ``target`` by ``weight`` (n,), in place."""
    for channel in range(3):
        colour[channel] += (target[channel] - colour[channel]) * weight


def cloth_colour(cloth: Cloth, u: F32, v: F32, part: NDArray[np.uint8]) -> F32:
    """Albedo (3, n) of a cloth."""
    ground, figure, accent = (np.asarray(colour, dtype=f32) for colour in cloth.colours)
    if cloth.pattern == "plain":
        return np.repeat(ground[:, None], u.size, axis=1)
    weight, second = pattern_weights(cloth, u, v, part)
    colour = ground[:, None] + (figure - ground)[:, None] * weight
    if second is not None:
        _mix(colour, accent, second)
    return colour.astype(f32)


def _inside(distance: F32, soft: float) -> F32:
    """Coverage of a shape from its signed distance (negative inside)."""
    return np.asarray(np.clip(f32(0.5) - distance * f32(1.0 / soft), 0.0, 1.0))


def _ellipse(x: F32, y: F32, rx: float, ry: float) -> F32:
    """About the signed distance from an ellipse."""
    return np.asarray((np.sqrt((x * f32(1 / rx)) ** 2 + (y * f32(1 / ry)) ** 2) - 1) * f32(min(rx, ry)))


def paint_face(figure: Figure, colour: F32, u: F32, v: F32, soft: float) -> F32:
    """Paints eyes, brows, mouth, cheeks, beard and spectacles on the albedo (3, n), in place; returns a shade (n,).

    ``u`` and ``v`` are head coordinates in head heights; ``soft`` is the size of a pixel in them.
    """
    face, skin, hair = figure.look.face, figure.look.skin, figure.look.hair
    tone, dark = skin.tone, np.asarray(skin.tone, dtype=f32) * f32(0.45)
    x = np.abs(v) * f32(1.0 / face.width)
    ex, ey = x - f32(0.142 * face.eye_gap), u - f32(0.03)
    shade = np.ones_like(u)
    shade -= f32(0.13) * np.exp(-(ex * ex * 90 + (ey + f32(0.02)) ** 2 * 190))
    blush = np.exp(-((x - f32(0.2)) ** 2 * 90 + (u - f32(0.15)) ** 2 * 110)) * f32(0.55 * skin.blush)
    _mix(colour, (min(tone[0] * 1.02, 1.0), tone[1] * 0.72, tone[2] * 0.70), blush)
    _beard(figure, colour, u, x)
    _mouth(face, figure, colour, u, v, soft)
    shade -= f32(0.30) * _inside(_ellipse(x - f32(0.030 * face.nose), u - f32(0.202), 0.017, 0.010), soft)
    shade -= f32(0.16) * _inside(_ellipse(x, u - f32(0.216), 0.055 * face.nose, 0.016), 0.03)
    shade -= f32(0.12) * np.exp(-((x - f32(0.052 * face.nose)) ** 2 * 4000 + (u - f32(0.175)) ** 2 * 900))
    rx, ry = 0.066 * face.eyes, 0.033 * face.eyes
    arch = ey + f32(0.35) * ex * ex * f32(8.0)
    lid = _ellipse(ex, arch, rx, ry)
    _mix(colour, dark, _inside(lid - f32(0.010), soft) * f32(0.50 + 0.4 * face.makeup))
    white = _inside(lid, soft)
    _mix(colour, (0.95, 0.95, 0.94), white)
    round_eye = np.sqrt(ex * ex + (ey + f32(0.002)) ** 2)
    _mix(colour, face.iris, white * _inside(round_eye - f32(0.0325 * face.eyes), soft))
    _mix(colour, (0.03, 0.03, 0.03), white * _inside(round_eye - f32(0.0155 * face.eyes), soft))
    lash = np.abs(arch + f32(ry) * np.sqrt(np.maximum(1 - (ex * f32(1 / rx)) ** 2, 0))) - f32(
        0.006 + 0.006 * face.makeup
    )
    _mix(colour, (0.08, 0.06, 0.06), _inside(lash, soft) * (np.abs(ex) < f32(rx * 1.02)))
    brow_y = u + f32(0.052) + f32(0.030) * np.sin(np.clip((x - f32(0.05)) * f32(15.0), 0.0, 3.0))
    thick = f32(0.0125 * face.brows) * np.clip(f32(1.35) - x * f32(2.8), 0.3, 1.0)
    brow = np.maximum(np.abs(brow_y) - thick, np.maximum(f32(0.062) - x, x - f32(0.232)))
    brow_colour = np.asarray(hair.colour, dtype=f32) * f32(0.62)
    if hair.colour[0] > 0.7:
        brow_colour = np.asarray(hair.colour, dtype=f32) * f32(0.35) + dark * f32(0.5)
    _mix(colour, brow_colour, _inside(brow, max(soft, 0.010)) * f32(0.88))
    if face.glasses:
        rim = np.abs(_ellipse(ex, ey - f32(0.004), 0.098, 0.078)) - f32(0.0085)
        bridge = np.maximum(np.abs(ey + f32(0.015)) - f32(0.008), x - f32(0.05))
        _mix(colour, (0.10, 0.09, 0.09), np.maximum(_inside(rim, soft), _inside(bridge, soft)))
    return shade


def _mouth(face: Face, figure: Figure, colour: F32, u: F32, v: F32, soft: float) -> None:
    lips = figure.look.skin.lips
    half = 0.092 * face.mouth * (1.0 + 0.12 * face.smile)
    line = u - f32(0.303) + f32(0.020 * face.smile) * (v * f32(1 / half)) ** 2
    taper = np.clip(1 - (v * f32(1 / half)) ** 2, 0.0, 1.0)
    bow = f32(0.030) * (1 - f32(0.28) * np.exp(-v * v * f32(3500.0))) * np.sqrt(taper)
    low = f32(0.042) * taper
    upper = np.maximum(-line - bow, line)
    lower = np.maximum(line - low, -line)
    _mix(colour, tuple(value * 0.86 for value in lips), _inside(upper, soft) * (taper > 0))
    _mix(colour, lips, _inside(lower, soft) * (taper > 0))
    _mix(
        colour,
        tuple(value * 1.18 + 0.03 for value in lips),
        np.exp(-(((line - f32(0.017)) / f32(0.009)) ** 2) - v * v * 700) * f32(0.5),
    )
    seam = np.abs(line) - f32(0.0050) * taper
    _mix(colour, tuple(value * 0.42 for value in lips), _inside(seam, soft) * (np.abs(v) < f32(half)))


def _beard(figure: Figure, colour: F32, u: F32, x: F32) -> None:
    face = figure.look.face
    if face.beard <= 0.0:
        return
    cheek = f32(0.235) - f32(0.75) * np.clip(x - f32(0.17), 0.0, 1.0) - u
    cover = np.clip(-cheek * f32(16.0), 0.0, 1.0)
    upper_lip = _ellipse(x, u - f32(0.262) - f32(2.6) * x * x, 0.135, 0.030)
    if not face.moustache:
        cover *= np.clip((u - f32(0.34)) * 14 + np.clip((x - f32(0.12)) * 14, 0.0, 2.0), 0.0, 1.0)
    else:
        cover = np.maximum(cover, np.clip(f32(0.5) - upper_lip * f32(36.0), 0.0, 1.0))
    target = tuple(value * 0.72 for value in figure.look.hair.colour)
    _mix(colour, target, cover * f32(0.45 + 0.47 * face.beard))


def hair_colour(figure: Figure, canvas: Canvas, at: NDArray[np.intp]) -> F32:
    """Albedo (3, n) of hair, with strands."""
    hair = figure.look.hair
    u, v = canvas.u[at], canvas.v[at]
    texture, _ = fold_texture()
    curly = hair.style in ("afro", "curly")
    across, along = (5.0, 5.0) if curly else (3.6, 0.55)
    bend = f32(0.03) * np.sin(u * 9 + f32(hair.seed * 6)) if hair.style == "wavy" else f32(0.0)
    row = ((v + bend) * f32(across * 128) + f32(hair.seed * 128 + 1280)).astype(np.intp) & 127
    column = (u * f32(along * 128) + f32(1280)).astype(np.intp) & 127
    strand = texture[row * 128 + column]
    strand *= f32(0.13 if curly else 0.11)
    if hair.style == "buzz":
        strand *= f32(0.4)
    base = np.asarray(hair.colour, dtype=f32)
    if hair.style == "buzz":
        base = base * f32(0.72) + np.asarray(figure.look.skin.tone, dtype=f32) * f32(0.28)
    shine = np.exp(-(((canvas.ny[at] + f32(0.42)) * f32(1 / 0.17)) ** 2)) * f32(
        0.0 if curly or hair.style == "buzz" else 0.10
    )
    return np.asarray(base[:, None] * (1 + strand) + shine * (f32(0.35) + base[:, None] * f32(1.2)), dtype=f32)


def _trim(figure: Figure, canvas: Canvas, at: NDArray[np.intp], group: int, colour: F32, torso: body.Torso) -> None:
    """Draws plackets, buttons, collars, lapels, waistbands and pockets on cloth albedo (3, n), in place."""
    outfit, unit, soft = figure.outfit, torso.length, 1.0 / canvas.scale
    on_torso = canvas.part[at] == body.PART_TORSO
    local = np.flatnonzero(on_torso)
    x, y = canvas.v[at[local]] * f32(unit), canvas.u[at[local]] * f32(unit)
    shade = np.ones_like(x)
    if group == garments.TOP.group and outfit.top.neckline == "collar":
        margin = garments.neck_margin("collar", x, y)
        flap = np.maximum(margin - f32(0.040), y - f32(0.046) + np.abs(x) * f32(0.25))
        shade += f32(0.07) * _inside(flap, soft)
        shade -= f32(0.34) * _inside(np.abs(flap - f32(0.002)) - f32(0.0030), soft)
        placket = np.abs(np.abs(x) - f32(0.0165)) - f32(0.0016)
        below = y > f32(0.048)
        shade -= f32(0.22) * _inside(placket, soft) * below
        step = y - f32(0.105)
        step = step - np.round(step * f32(1 / 0.082)) * f32(0.082)
        button = _inside(np.sqrt(x * x + step * step) - f32(0.0062), soft) * below
        piece = colour[:, local]
        _mix(
            piece,
            (0.90, 0.89, 0.86) if sum(outfit.top.cloth.colours[0]) < 2.1 else (0.40, 0.38, 0.36),
            button * f32(0.85),
        )
        colour[:, local] = piece
    elif group == garments.OUTERWEAR.group and outfit.outerwear is not None:
        outer = outfit.outerwear
        edge = np.abs(x) - garments.outer_gap(outer, y, unit)
        if outer.kind == "blazer":
            wide = f32(0.058) * np.clip((f32(0.29) - y) * f32(4.0), 0.0, 1.0) + f32(0.004)
            notch = np.where(np.abs(y - f32(0.035) + (edge * f32(0.5))) < f32(0.004), f32(0.22), f32(0.0)) * (
                edge < wide
            )
            shade += f32(0.06) * _inside(edge - wide, soft) - notch
            shade -= f32(0.32) * _inside(np.abs(edge - wide) - f32(0.0028), soft) * (y < f32(0.30))
        else:
            band = 0.022 if outer.kind == "cardigan" else 0.012
            shade -= f32(0.20) * _inside(np.abs(edge - f32(band)) - f32(0.002), soft)
    elif group == garments.BOTTOM.group and outfit.bottom.kind != "skirt":
        top = outfit.bottom.rise * unit
        shade -= f32(0.22) * _inside(np.abs(y - f32(top + 0.036)) - f32(0.0024), soft)
        shade -= f32(0.20) * _inside(
            np.maximum(np.abs(x) - f32(0.0024), np.abs(y - f32(top + 0.11)) - f32(0.075)), soft
        )
        hip = torso.width_at(1.0)
        pocket = np.abs(_ellipse(np.abs(x) - f32(hip + 0.01), y - f32(top + 0.030), 0.085, 0.085)) - f32(0.0026)
        shade -= f32(0.22) * _inside(pocket, soft) * (y > f32(top + 0.036))
    elif group == garments.BOTTOM.group:
        shade -= f32(0.18) * _inside(np.abs(y - f32(outfit.bottom.rise * unit + 0.034)) - f32(0.0022), soft)
    elif group == garments.DRESS.group and outfit.dress is not None:
        shade -= f32(0.12) * _inside(np.abs(y - f32((outfit.dress.waist + 0.015) * unit)) - f32(0.0022), soft)
    colour[:, local] *= shade


def _leg_light(figure: Figure, colour: F32, u: F32, v: F32, part: NDArray[np.uint8]) -> None:
    """The worn, paler front of jeans' thighs, in place."""
    fade = np.exp(-(v * v) * f32(60.0) - ((u - f32(1.45)) * f32(2.6)) ** 2) * f32(0.16) * (part == body.PART_LEG)
    colour += (1 - colour) * fade


def albedo(
    figure: Figure, canvas: Canvas, torso: body.Torso, at: NDArray[np.intp], group: NDArray[np.uint8]
) -> tuple[F32, F32]:
    """Albedo (3, n) and gloss (n,) of the foreground pixels ``at``."""
    colour, gloss = np.empty((3, at.size), dtype=f32), np.zeros(at.size, dtype=f32)
    outfit, tone = figure.outfit, np.asarray(figure.look.skin.tone, dtype=f32)
    cloths = {garments.TOP.group: outfit.top.cloth, garments.BOTTOM.group: outfit.bottom.cloth}
    if outfit.outerwear is not None:
        cloths[garments.OUTERWEAR.group] = outfit.outerwear.cloth
    if outfit.dress is not None:
        cloths[garments.DRESS.group] = outfit.dress.cloth
    present = np.flatnonzero(np.bincount(group, minlength=16))
    for number in present:
        chosen = np.flatnonzero(group == number)
        places = at[chosen]
        if number in cloths:
            cloth = cloths[int(number)]
            u, v, part = canvas.u[places], canvas.v[places], canvas.part[places]
            piece = cloth_colour(cloth, u, v, part)
            if number == garments.BOTTOM.group and outfit.bottom.kind == "jeans":
                _leg_light(figure, piece, u, v, part)
            _trim(figure, canvas, places, int(number), piece, torso)
            gloss[chosen] = f32(0.02 + 0.12 * cloth.gloss)
        elif number == body.HAIR.group:
            piece = hair_colour(figure, canvas, places)
        elif number == body.SKIN.group:
            piece = np.repeat(tone[:, None], places.size, axis=1)
            gloss[chosen] = f32(0.07)
            head = np.flatnonzero(canvas.part[places] == body.PART_HEAD)
            painted = np.ascontiguousarray(piece[:, head])
            soft = 1.0 / (canvas.scale * figure.look.body.head)
            shade = paint_face(figure, painted, canvas.u[places[head]], canvas.v[places[head]], soft)
            piece[:, head] = painted * shade
        else:
            piece = np.repeat(_plain_colour(figure, int(number))[:, None], places.size, axis=1)
            gloss[chosen] = f32(0.06)
        colour[:, chosen] = piece
    return colour, gloss


def _plain_colour(figure: Figure, group: int) -> F32:
    outfit = figure.outfit
    if group == garments.LEGWEAR.group and outfit.legwear is not None:
        sheer = outfit.legwear.sheer
        mixed = np.asarray(outfit.legwear.colour) * (1 - sheer) + np.asarray(figure.look.skin.tone) * sheer
        return np.asarray(mixed, dtype=f32)
    if group == garments.ACCESSORY.group and outfit.accessory is not None:
        return np.asarray(outfit.accessory.colour, dtype=f32)
    return np.asarray(outfit.shoes.colour, dtype=f32)


def occlusion(canvas: Canvas, light: Light, step: int) -> F32:
    """Soft contact shadow and ambient occlusion in [0, 1], of every ``step``-th pixel, (rows, columns)."""
    depth = canvas.z.reshape(canvas.height, canvas.width)[::step, ::step]
    depth = np.where(depth <= FAR * 0.5, f32(FAR), depth)
    lx, ly, _ = light.direction
    angle = float(np.arctan2(ly, lx))
    total = np.zeros_like(depth)
    rows, columns = depth.shape
    unit = canvas.scale / step
    taps = [(0.018, 0.0, 0.85), (0.04, 0.45, 0.60), (0.04, -0.45, 0.60), (0.075, 0.15, 0.60), (0.12, -0.2, 0.35)]
    taps += [(0.022, 1.6, 0.45), (0.022, -1.6, 0.45), (0.022, 3.14, 0.35), (0.05, 1.1, 0.35), (0.05, -1.1, 0.35)]
    for distance, turn, weight in taps:
        dx = round(float(np.cos(angle + turn) * distance * unit))
        dy = round(float(np.sin(angle + turn) * distance * unit))
        if dx == 0 and dy == 0:
            continue
        here = (slice(max(-dy, 0), rows - max(dy, 0)), slice(max(-dx, 0), columns - max(dx, 0)))
        there = (slice(max(dy, 0), rows - max(-dy, 0)), slice(max(dx, 0), columns - max(-dx, 0)))
        rise = depth[there] - depth[here]
        rise -= f32(0.007 + 0.30 * distance)
        np.clip(rise, 0.0, 0.028 + 0.3 * distance, out=rise)
        rise *= f32(weight / (0.028 + 0.3 * distance) / 3.0)
        total[here] += rise
    return np.minimum(total, 1.0)


def shade(figure: Figure, canvas: Canvas, torso: body.Torso, step: int) -> F32:
    """Lit picture (3, height, width) float32 in [0, 1] at the canvas' resolution."""
    light = figure.light
    top, bottom = (np.asarray(colour, dtype=f32) for colour in (light.backdrop_top, light.backdrop_bottom))
    ramp = np.linspace(0.0, 1.0, canvas.height, dtype=f32)
    ramp = ramp * ramp * (3 - 2 * ramp)
    picture = np.empty((3, canvas.height, canvas.width), dtype=f32)
    picture[:] = (top[:, None] + (bottom - top)[:, None] * ramp)[:, :, None]
    at = np.flatnonzero(canvas.group)
    group = canvas.group[at]
    colour, gloss = albedo(figure, canvas, torso, at, group)
    nx, ny, nz = canvas.nx[at], canvas.ny[at], canvas.nz[at]
    lx, ly, lz = light.direction
    facing = nx * f32(lx) + ny * f32(ly) + nz * f32(lz)
    diffuse = np.clip(facing * f32(0.88) + f32(0.12), 0.0, 1.0)
    rows, columns = np.divmod(at, canvas.width)
    dark = occlusion(canvas, light, step)[rows // step, columns // step]
    level = f32(light.ambient) * (1 - f32(0.13) * ny) * (1 - f32(0.42) * dark) + f32(light.key) * diffuse * (
        1 - f32(0.60) * dark
    )
    level *= canvas.hem[at]
    half = np.array([lx, ly, lz + 1.0])
    half /= np.linalg.norm(half)
    sheen = np.maximum(nx * f32(half[0]) + ny * f32(half[1]) + nz * f32(half[2]), 0.0)
    sheen *= sheen
    sheen *= sheen
    sheen *= sheen
    sheen = sheen * sheen * gloss * (1 - dark)
    rim = (1 - nz) ** 3 * np.clip(f32(0.3) - nx * f32(np.sign(lx)), 0.0, 1.0) * f32(0.10) * (1 - dark)
    warm = group == body.SKIN.group
    glow = np.where(warm, (1 - diffuse) * f32(0.055), f32(0.0))
    for channel, tint in enumerate((1.0 + light.warmth, 1.0, 1.0 - light.warmth)):
        lit = level * f32(tint) + glow * f32((1.0, 0.0, -0.35)[channel])
        value = colour[channel] * lit + sheen + rim
        picture[channel].reshape(-1)[at] = value
    return np.clip(picture, 0.0, 1.0, out=picture)


LABEL_COUNT = len(Label)
