"""Drawing the factors of a figure at random, each from a stream of its own."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from styletryon.data.paperdoll.factors import (
    Accessory,
    Arm,
    Body,
    Bottom,
    Cloth,
    Colour,
    Dress,
    Face,
    Figure,
    Framing,
    Hair,
    Leg,
    Legwear,
    Light,
    Look,
    Outerwear,
    Outfit,
    Shoes,
    Skin,
    Stance,
    Top,
    Vector,
)

T = TypeVar("T")

SKIN_TONES: tuple[Colour, ...] = (
    (0.98, 0.87, 0.79), (0.96, 0.82, 0.72), (0.94, 0.78, 0.66), (0.90, 0.72, 0.58), (0.86, 0.67, 0.51),
    (0.80, 0.60, 0.44), (0.72, 0.52, 0.37), (0.64, 0.44, 0.31), (0.54, 0.36, 0.25), (0.45, 0.30, 0.21),
    (0.36, 0.24, 0.17),
)  # fmt: skip
HAIR_COLOURS: tuple[Colour, ...] = (
    (0.09, 0.08, 0.08), (0.16, 0.11, 0.08), (0.25, 0.16, 0.10), (0.36, 0.23, 0.14), (0.48, 0.31, 0.18),
    (0.62, 0.44, 0.25), (0.80, 0.64, 0.40), (0.88, 0.77, 0.56), (0.52, 0.22, 0.11), (0.64, 0.31, 0.15),
    (0.58, 0.57, 0.56), (0.80, 0.79, 0.78),
)  # fmt: skip
HAIR_WEIGHTS = (5, 5, 5, 4, 3, 2.5, 2.5, 1.5, 1.5, 1.5, 1.2, 0.8)
IRISES: tuple[Colour, ...] = (
    (0.22, 0.13, 0.08),
    (0.33, 0.21, 0.11),
    (0.25, 0.38, 0.55),
    (0.28, 0.42, 0.28),
    (0.38, 0.42, 0.45),
)
CLOTH_COLOURS: tuple[Colour, ...] = (
    (0.10, 0.10, 0.11), (0.16, 0.17, 0.19), (0.33, 0.34, 0.36), (0.58, 0.59, 0.60), (0.80, 0.80, 0.79),
    (0.96, 0.96, 0.94), (0.95, 0.92, 0.84), (0.86, 0.78, 0.65), (0.72, 0.60, 0.45), (0.45, 0.33, 0.23),
    (0.30, 0.21, 0.15), (0.11, 0.16, 0.30), (0.17, 0.28, 0.52), (0.26, 0.45, 0.72), (0.52, 0.70, 0.87),
    (0.75, 0.85, 0.93), (0.62, 0.10, 0.14), (0.80, 0.18, 0.17), (0.90, 0.42, 0.34), (0.94, 0.70, 0.66),
    (0.97, 0.84, 0.82), (0.13, 0.30, 0.22), (0.25, 0.45, 0.30), (0.45, 0.52, 0.30), (0.62, 0.74, 0.60),
    (0.80, 0.89, 0.78), (0.88, 0.68, 0.20), (0.95, 0.84, 0.45), (0.86, 0.50, 0.18), (0.68, 0.34, 0.18),
    (0.36, 0.16, 0.34), (0.52, 0.34, 0.62), (0.76, 0.68, 0.86), (0.10, 0.42, 0.45), (0.36, 0.66, 0.66),
    (0.84, 0.36, 0.52),
)  # fmt: skip
DENIMS: tuple[Colour, ...] = (
    (0.14, 0.18, 0.29), (0.20, 0.27, 0.42), (0.29, 0.39, 0.56), (0.45, 0.56, 0.70), (0.13, 0.13, 0.15),
    (0.34, 0.35, 0.38),
)  # fmt: skip
TROUSER_COLOURS: tuple[Colour, ...] = (
    (0.10, 0.10, 0.11), (0.17, 0.18, 0.20), (0.35, 0.36, 0.38), (0.12, 0.16, 0.28), (0.78, 0.69, 0.54),
    (0.62, 0.50, 0.36), (0.38, 0.29, 0.21), (0.40, 0.42, 0.28), (0.93, 0.92, 0.88), (0.48, 0.14, 0.17),
    (0.20, 0.33, 0.28), (0.60, 0.61, 0.62),
)  # fmt: skip
BACKDROPS: tuple[Colour, ...] = (
    (0.97, 0.97, 0.97), (0.94, 0.94, 0.95), (0.90, 0.91, 0.92), (0.95, 0.94, 0.91), (0.92, 0.90, 0.87),
    (0.88, 0.89, 0.91),
)  # fmt: skip
CYCLES = (3, 4, 5, 6, 8)

ARM_POSES: dict[str, tuple[Vector, Vector, float]] = {
    "side": ((0.17, 1.0, 0.0), (0.07, 1.0, 0.20), 6.0),
    "relaxed": ((0.34, 1.0, -0.05), (0.12, 1.0, 0.28), 4.0),
    "away": ((0.55, 1.0, 0.0), (0.35, 1.0, 0.20), 1.6),
    "hip": ((0.78, 0.85, -0.20), (-0.68, 0.60, 0.40), 3.0),
    "low": ((0.18, 1.0, 0.20), (-0.60, 0.80, 0.60), 2.0),
    "behind": ((0.24, 1.0, -0.30), (-0.40, 0.85, -0.45), 1.6),
    "folded": ((0.20, 1.0, 0.20), (-0.90, 0.00, 0.42), 1.2),
    "chest": ((0.24, 1.0, 0.10), (-0.50, -0.62, 0.55), 0.9),
    "wave": ((0.72, 0.62, 0.10), (0.10, -1.0, 0.28), 1.1),
    "head": ((0.84, -0.42, -0.05), (-0.62, -0.62, -0.18), 0.7),
    "carry": ((0.14, 1.0, 0.0), (0.14, 0.24, 0.80), 0.9),
    "pocket": ((0.42, 1.0, -0.16), (-0.26, 1.0, 0.24), 2.2),
}


def stream(seed: int, factor: str) -> np.random.Generator:
    """The random stream of one factor of one seed, the same on every machine and in every run."""
    return np.random.default_rng([int(seed), zlib.crc32(factor.encode())])


def luminance(colour: Colour) -> float:
    """Perceived brightness of an sRGB colour, in [0, 1]."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def _pick(rng: np.random.Generator, options: Sequence[T], weights: Sequence[float] | None = None) -> T:
    if weights is None:
        return options[int(rng.integers(len(options)))]
    edges = np.cumsum(np.asarray(weights, dtype=np.float64))
    return options[min(int(np.searchsorted(edges, rng.random() * edges[-1], side="right")), len(options) - 1)]


def _jitter(rng: np.random.Generator, colour: Colour, amount: float = 0.025) -> Colour:
    shifted = np.clip(np.asarray(colour) + rng.normal(0.0, amount, 3) * 0.6 + rng.normal(0.0, amount), 0.03, 0.98)
    return (float(shifted[0]), float(shifted[1]), float(shifted[2]))


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def _build(seed: int) -> float:
    """From 0 (broad-shouldered) to 1 (broad-hipped): a hidden factor that body, hair, face and clothes read."""
    rng = stream(seed, "build")
    centre = 0.82 if rng.random() < 0.56 else 0.16
    return float(np.clip(rng.normal(centre, 0.10), 0.0, 1.0))


def _body(rng: np.random.Generator, build: float) -> Body:
    weight = float(np.clip(1.0 + rng.normal(0.02, 0.10) + 0.12 * max(0.0, rng.normal(0.0, 1.0) - 0.9), 0.84, 1.38))
    height = float(rng.normal(0.0, 1.0))
    return Body(
        torso=0.515 - 0.015 * build + 0.012 * height + 0.006 * float(rng.normal()),
        shoulders=0.166 - 0.022 * build + 0.006 * float(rng.normal()) + 0.02 * (weight - 1.0),
        hips=0.078 + 0.007 * build + 0.003 * float(rng.normal()) + 0.02 * (weight - 1.0),
        waist=(0.138 - 0.022 * build + 0.006 * float(rng.normal())) * (1.0 + 1.15 * (weight - 1.0)),
        hip_width=(0.152 + 0.016 * build + 0.006 * float(rng.normal())) * (1.0 + 0.75 * (weight - 1.0)),
        weight=weight,
        limbs=float(np.clip((0.99 - 0.11 * build + 0.04 * rng.normal()) * (1.0 + 0.75 * (weight - 1.0)), 0.78, 1.30)),
        bust=float(np.clip(0.10 + 0.62 * build + 0.16 * rng.normal() + 0.5 * (weight - 1.0), 0.05, 1.0)),
        arm=1.0 + 0.03 * float(rng.normal()),
        leg=1.0 + 0.012 * height + 0.03 * float(rng.normal()),
        neck=1.0 + 0.06 * float(rng.normal()),
        head=0.246 - 0.006 * build + 0.004 * float(rng.normal()),
    )


def _skin(rng: np.random.Generator, build: float) -> Skin:
    position = _uniform(rng, 0.0, len(SKIN_TONES) - 1.001)
    low = int(position)
    mixed = np.asarray(SKIN_TONES[low]) * (low + 1 - position) + np.asarray(SKIN_TONES[low + 1]) * (position - low)
    tone = _jitter(rng, (float(mixed[0]), float(mixed[1]), float(mixed[2])), 0.012)
    paint = _uniform(rng, 0.0, 1.0) * (0.35 + 0.65 * build)
    natural = np.asarray(tone) * np.asarray((0.86, 0.62, 0.60))
    red = np.asarray((0.70, 0.13, 0.19)) if rng.random() < 0.35 else np.asarray((0.74, 0.32, 0.34))
    lips = natural * (1.0 - 0.65 * paint) + red * np.clip(luminance(tone) + 0.25, 0.5, 1.0) * 0.65 * paint
    return Skin(tone, (float(lips[0]), float(lips[1]), float(lips[2])), _uniform(rng, 0.1, 0.5))


def _hair(rng: np.random.Generator, build: float) -> Hair:
    names = ("bald", "buzz", "short", "side", "fringe", "bob", "straight", "wavy", "ponytail", "bun", "afro", "curly")
    short = np.asarray((1.0, 2.0, 5.0, 4.0, 2.0, 0.1, 0.25, 0.3, 0.2, 0.35, 1.0, 1.2))
    long = np.asarray((0.05, 0.2, 0.7, 0.6, 0.8, 3.0, 4.5, 3.5, 2.0, 1.8, 1.0, 1.2))
    style = _pick(rng, names, (short * (1.0 - build) + long * build).tolist())
    return Hair(
        style=style,  # type: ignore[arg-type]
        colour=_jitter(rng, _pick(rng, HAIR_COLOURS, HAIR_WEIGHTS), 0.012),
        length=_uniform(rng, 0.25, 1.35),
        volume=_uniform(rng, 0.0, 1.0),
        parting=_uniform(rng, -1.0, 1.0),
        front=bool(rng.random() < 0.6),
        seed=_uniform(rng, 0.0, 1.0),
    )


def _face(rng: np.random.Generator, build: float) -> Face:
    beard = float(rng.random() < 0.42) * _uniform(rng, 0.35, 1.0) * float(build < 0.45)
    return Face(
        width=1.0 + 0.035 * float(rng.normal()),
        jaw=1.06 - 0.13 * build + 0.04 * float(rng.normal()),
        eyes=1.0 + 0.08 * build + 0.05 * float(rng.normal()),
        eye_gap=1.0 + 0.04 * float(rng.normal()),
        iris=_pick(rng, IRISES, (5, 4, 2, 1.5, 1)),
        brows=_uniform(rng, 0.75, 1.1) + 0.35 * (1.0 - build),
        nose=1.0 + 0.12 * float(rng.normal()) - 0.08 * build,
        mouth=1.0 + 0.07 * float(rng.normal()),
        smile=_uniform(rng, -0.15, 1.0),
        makeup=_uniform(rng, 0.0, 1.0) * build,
        beard=beard,
        moustache=bool(rng.random() < 0.7),
        glasses=bool(rng.random() < 0.10),
    )


def sample_look(seed: int) -> Look:
    """Draws who a person is."""
    build = _build(seed)
    return Look(
        body=_body(stream(seed, "body"), build),
        skin=_skin(stream(seed, "skin"), build),
        hair=_hair(stream(seed, "hair"), build),
        face=_face(stream(seed, "face"), build),
    )


def _contrasting(rng: np.random.Generator, ground: Colour, gap: float = 0.24) -> Colour:
    options = [colour for colour in CLOTH_COLOURS if abs(luminance(colour) - luminance(ground)) >= gap]
    neutral = [colour for colour in options if max(colour) - min(colour) < 0.16]
    pool = neutral if neutral and max(ground) - min(ground) >= 0.16 and rng.random() < 0.55 else options
    return _pick(rng, pool)


def _cloth(rng: np.random.Generator, palette: Sequence[Colour], patterned: float, prints: bool = True) -> Cloth:
    ground = _jitter(rng, _pick(rng, palette), 0.02)
    figure = _contrasting(rng, ground)
    accent = _contrasting(rng, figure, 0.18)
    names = ("stripes", "columns", "checks", "plaid", "dots", "diagonal", "chevron", "panel", "logo", "block")
    weights = (
        (3.2, 2.0, 1.2, 1.6, 1.8, 0.9, 0.7, 0.6, 0.7, 0.9) if prints else (2.0, 2.5, 1.5, 2.5, 1.0, 0.4, 0.3, 0, 0, 0)
    )
    chosen = _pick(rng, names, weights)
    if rng.random() >= patterned:
        chosen = "plain"
    cycles_u, cycles_v = _pick(rng, CYCLES, (2, 3, 3, 3, 1.5)), _pick(rng, CYCLES, (2, 3, 3, 3, 1.5))
    if chosen in ("checks", "plaid", "dots", "diagonal", "chevron"):
        cycles_v = cycles_u
    return Cloth(
        pattern=chosen,  # type: ignore[arg-type]
        colours=(ground, figure, accent),
        cycles_u=cycles_u,
        cycles_v=cycles_v,
        phase_u=_uniform(rng, 0.0, 1.0),
        phase_v=_uniform(rng, 0.0, 1.0),
        duty=_uniform(rng, 0.36, 0.56),
        gloss=_uniform(rng, 0.0, 1.0) ** 2,
    )


def _top(cut: np.random.Generator, cloth: np.random.Generator, build: float) -> Top:
    sleeves = ("none", "cap", "short", "elbow", "three-quarter", "long")
    necks = ("crew", "v", "scoop", "boat", "turtle", "collar")
    sleeve = _pick(cut, sleeves, (0.5 + 1.6 * build, 0.9 * build, 4.0, 1.2, 1.3, 4.2))
    neckline = _pick(cut, necks, (4.0, 2.2, 0.3 + 1.7 * build, 1.2 * build, 0.9, 2.0))
    if neckline in ("turtle", "collar") and sleeve in ("none", "cap"):
        neckline = "crew"
    cropped = cut.random() < 0.12 * build
    length = _uniform(cut, 0.66, 0.76) if cropped else float(np.clip(cut.normal(1.02, 0.11), 0.84, 1.38))
    fit = float(np.clip(cut.beta(1.6, 2.4) + 0.12 * (1.0 - build), 0.0, 1.0))
    return Top(
        sleeve=sleeve,  # type: ignore[arg-type]
        neckline=neckline,  # type: ignore[arg-type]
        length=length,
        fit=fit,
        folds=_uniform(cut, 0.5, 1.0),
        fold_offset=_uniform(cut, 0.0, 1.0),
        cloth=_cloth(cloth, CLOTH_COLOURS, 0.56),
    )


def _outerwear(cut: np.random.Generator, cloth: np.random.Generator) -> Outerwear:
    kind = _pick(cut, ("blazer", "cardigan", "jacket", "vest"), (3, 3, 3, 1))
    lengths = {"blazer": (1.08, 1.25), "cardigan": (1.0, 1.5), "jacket": (0.82, 1.02), "vest": (0.95, 1.15)}
    return Outerwear(
        kind=kind,  # type: ignore[arg-type]
        gap=_uniform(cut, 0.10, 0.17),
        length=_uniform(cut, *lengths[kind]),
        fit=_uniform(cut, 0.25, 0.8),
        folds=_uniform(cut, 0.5, 1.0),
        fold_offset=_uniform(cut, 0.0, 1.0),
        cloth=_cloth(cloth, CLOTH_COLOURS, 0.18, prints=False),
    )


def _bottom(cut: np.random.Generator, cloth: np.random.Generator, build: float) -> Bottom:
    kind = _pick(cut, ("trousers", "jeans", "shorts", "skirt"), (3.0, 3.4, 1.6, 3.2 * max(0.0, build - 0.25)))
    skirt = _pick(cut, ("pencil", "a-line", "pleated"), (1, 1.4, 0.8))
    length = 2.0
    if kind == "shorts":
        length = _uniform(cut, 0.34 + 0.16 * (1.0 - build), 0.9)
    elif kind == "skirt":
        length = _uniform(cut, 0.42, 1.02)
    palette = {
        "jeans": DENIMS,
        "trousers": TROUSER_COLOURS,
        "shorts": TROUSER_COLOURS + DENIMS,
        "skirt": CLOTH_COLOURS,
    }[kind]
    patterned = {"jeans": 0.0, "trousers": 0.16, "shorts": 0.22, "skirt": 0.36}[kind]
    return Bottom(
        kind=kind,  # type: ignore[arg-type]
        skirt=skirt,  # type: ignore[arg-type]
        length=length,
        rise=_uniform(cut, 0.68, 0.82),
        fit=float(cut.beta(1.4, 1.8)),
        folds=_uniform(cut, 0.5, 1.0),
        fold_offset=_uniform(cut, 0.0, 1.0),
        cloth=_cloth(cloth, palette, patterned, prints=False),
    )


def _dress(cut: np.random.Generator, cloth: np.random.Generator) -> Dress:
    return Dress(
        sleeve=_pick(cut, ("none", "cap", "short", "elbow", "three-quarter", "long"), (3, 1, 2.5, 0.8, 1, 1.6)),
        neckline=_pick(cut, ("crew", "v", "scoop", "boat"), (2, 2, 2, 1)),
        skirt=_pick(cut, ("pencil", "a-line", "pleated"), (1, 1.6, 0.8)),
        length=_uniform(cut, 0.40, 1.12),
        waist=_uniform(cut, 0.56, 0.68),
        fit=_uniform(cut, 0.0, 0.35),
        folds=_uniform(cut, 0.5, 1.0),
        fold_offset=_uniform(cut, 0.0, 1.0),
        cloth=_cloth(cloth, CLOTH_COLOURS, 0.56),
    )


def _legwear(rng: np.random.Generator) -> Legwear | None:
    worn = rng.random() < 0.22
    colour = _pick(
        rng, ((0.09, 0.09, 0.10), (0.16, 0.14, 0.15), (0.13, 0.15, 0.24), (0.42, 0.40, 0.40), (0.34, 0.12, 0.16))
    )
    return Legwear(colour, _uniform(rng, 0.0, 0.35)) if worn else None


def _accessory(rng: np.random.Generator) -> Accessory | None:
    worn = rng.random() < 0.20
    kind = _pick(rng, ("belt", "cap", "beanie", "scarf", "bag"), (2.2, 1, 1, 1.4, 2))
    accessory = Accessory(kind, _jitter(rng, _pick(rng, CLOTH_COLOURS), 0.02), _uniform(rng, 0.0, 1.0))  # type: ignore[arg-type]
    return accessory if worn else None


def sample_outfit(seed: int) -> Outfit:
    """Draws all that a person wears; about one in seven wears a dress."""
    build = _build(seed)
    in_dress = stream(seed, "wears dress").random() < 0.25 * max(0.0, min(1.0, build / 0.8))
    with_outerwear = stream(seed, "wears outerwear").random() < 0.16
    return Outfit(
        top=_top(stream(seed, "top cut"), stream(seed, "top cloth"), build),
        outerwear=_outerwear(stream(seed, "outerwear cut"), stream(seed, "outerwear cloth"))
        if with_outerwear
        else None,
        bottom=_bottom(stream(seed, "bottom cut"), stream(seed, "bottom cloth"), build),
        dress=_dress(stream(seed, "dress cut"), stream(seed, "dress cloth")) if in_dress else None,
        legwear=_legwear(stream(seed, "legwear")),
        shoes=Shoes(_jitter(stream(seed, "shoes"), _pick(stream(seed, "shoe colour"), CLOTH_COLOURS[:11]))),
        accessory=_accessory(stream(seed, "accessory")),
    )


def _unit(vector: Sequence[float]) -> Vector:
    length = float(np.sqrt(sum(value * value for value in vector)))
    return (vector[0] / length, vector[1] / length, vector[2] / length)


def _arm(rng: np.random.Generator, name: str) -> Arm:
    upper, fore, _ = ARM_POSES[name]
    upper_noise, fore_noise = rng.normal(0.0, 0.055, 3), rng.normal(0.0, 0.075, 3)
    upper_noise[0] = abs(upper_noise[0]) * 0.8 if name in ("side", "low", "folded", "carry") else upper_noise[0]
    return Arm(
        pose=name,
        upper=_unit([float(a + b) for a, b in zip(upper, upper_noise, strict=True)]),
        fore=_unit([float(a + b) for a, b in zip(fore, fore_noise, strict=True)]),
    )


def _arms(rng: np.random.Generator) -> tuple[Arm, Arm]:
    names, weights = list(ARM_POSES), [pose[2] for pose in ARM_POSES.values()]
    left, right = _pick(rng, names, weights), _pick(rng, names, weights)
    if rng.random() < 0.42:
        right = left
    if {left, right} & {"folded"} or left == right == "chest":
        left, right = ("folded", "low") if rng.random() < 0.5 else ("low", "folded")
    if left == right and left in ("head", "carry"):
        right = "relaxed"
    return _arm(rng, left), _arm(rng, right)


def _legs(rng: np.random.Generator) -> tuple[Leg, Leg]:
    kind = _pick(rng, ("straight", "apart", "left", "right", "stride"), (4, 2.5, 2, 2, 1.2))
    out = {"straight": 0.045, "apart": 0.15, "left": 0.05, "right": 0.05, "stride": 0.03}[kind] + rng.normal(
        0.0, 0.02, 2
    )
    forward, back = np.zeros(2), np.zeros(2)
    if kind in ("left", "right"):
        index = 0 if kind == "left" else 1
        out[index] += _uniform(rng, 0.08, 0.18)
        forward[index], back[index] = _uniform(rng, 0.15, 0.4), _uniform(rng, 0.05, 0.3)
    if kind == "stride":
        forward[:] = (_uniform(rng, 0.1, 0.3), -_uniform(rng, 0.05, 0.2))
    legs = [
        Leg(_unit((float(out[i]), 1.0, float(forward[i]))), _unit((float(out[i]) * 0.35, 1.0, float(-back[i]))))
        for i in range(2)
    ]
    return legs[0], legs[1]


def sample_stance(seed: int) -> Stance:
    """Draws a pose, the turn towards the camera and the framing."""
    arms, legs = _arms(stream(seed, "arms")), _legs(stream(seed, "legs"))
    turn, spine, head, frame = (stream(seed, name) for name in ("yaw", "spine", "head turn", "framing"))
    yaw = float(np.clip(turn.normal(0.0, 0.28), -0.61, 0.61))
    tilt = float(np.clip(spine.normal(0.0, 0.05), -0.11, 0.11))
    return Stance(
        left_arm=arms[0],
        right_arm=arms[1],
        left_leg=legs[0],
        right_leg=legs[1],
        yaw=yaw,
        twist=float(np.clip(spine.normal(0.0, 0.08), -0.18, 0.18)),
        lean=float(np.clip(spine.normal(0.0, 0.045), -0.10, 0.10)),
        shoulder_tilt=-0.7 * tilt + float(np.clip(spine.normal(0.0, 0.03), -0.06, 0.06)),
        hip_tilt=tilt,
        head_yaw=float(np.clip(head.normal(0.0, 0.24), -0.5, 0.5)),
        head_tilt=float(np.clip(head.normal(0.0, 0.06), -0.15, 0.15)),
        head_nod=float(np.clip(head.normal(0.0, 0.06), -0.13, 0.13)),
        framing=Framing(_uniform(frame, 0.95, 1.05), _uniform(frame, -0.022, 0.022), _uniform(frame, -0.012, 0.012)),
    )


def sample_light(seed: int) -> Light:
    """Draws the light and the backdrop."""
    lamp, wall = stream(seed, "lamp"), stream(seed, "backdrop")
    base = np.asarray(_pick(wall, BACKDROPS))
    fall = _uniform(wall, -0.01, 0.07)
    top, bottom = np.clip(base, 0.0, 1.0), np.clip(base - fall, 0.0, 1.0)
    side = _uniform(lamp, 0.18, 0.75) * (1.0 if lamp.random() < 0.5 else -1.0)
    return Light(
        direction=_unit((side, -_uniform(lamp, 0.45, 0.85), 1.0)),
        key=_uniform(lamp, 0.58, 0.74),
        ambient=_uniform(lamp, 0.44, 0.52),
        warmth=_uniform(lamp, -0.02, 0.035),
        backdrop_top=(float(top[0]), float(top[1]), float(top[2])),
        backdrop_bottom=(float(bottom[0]), float(bottom[1]), float(bottom[2])),
    )


def sample_figure(seed: int) -> Figure:
    """Draws a whole figure: the same number gives the same figure for ever.

    Args:
        seed: Any non-negative whole number.

    Returns:
        A figure each of whose factors comes from a random stream of its own, named after it.
    """
    return Figure(sample_look(seed), sample_outfit(seed), sample_stance(seed), sample_light(seed))
