"""The body: bare torso, neck, arms, hands, legs, head and hair as cones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from styletryon.data.paperdoll.canvas import F32, Cone, Cover, Folds, Frame, Points, Profile, Relief, Surface
from styletryon.data.paperdoll.factors import Body, Figure, Hair
from styletryon.data.paperdoll.skeleton import Array, Limb, Skeleton, build_skeleton, face_points
from styletryon.labels import Label

SKIN, FACE, HAIR = Surface(Label.SKIN, 1), Surface(Label.FACE, 1), Surface(Label.HAIR, 2)
PART_TORSO, PART_ARM, PART_LEG, PART_HEAD, PART_DETAIL = 0, 1, 2, 3, 4

TORSO_TOP, TORSO_END = -0.24, 1.26
TORSO_PLACES = (-0.24, -0.205, -0.165, -0.125, -0.08, 0.0, 0.10, 0.22, 0.40, 0.60, 0.80, 1.0, 1.12, 1.26)
ARM_PLACES = (0.0, 0.15, 0.4, 0.75, 1.0)
UPPER_RADII, FORE_RADII = (0.051, 0.052, 0.047, 0.041, 0.039), (0.039, 0.0415, 0.038, 0.029, 0.0255)
THIGH_RADII, SHIN_RADII = (0.089, 0.091, 0.080, 0.062, 0.054), (0.053, 0.050, 0.052, 0.041, 0.034)


@dataclass(frozen=True)
class Torso:
    """The torso's axis, frame and outline: what the body and all clothes on it are built from.

    ``places`` are heights in torso lengths below the shoulders; ``half_width``, ``half_depth`` and ``forward`` are
    metres.
    """

    start: Array
    down: Array
    frame: Frame
    yaw: float
    length: float
    shear: tuple[float, float]
    places: tuple[float, ...]
    half_width: tuple[float, ...]
    half_depth: tuple[float, ...]
    forward: tuple[float, ...]
    bust: float

    def at(self, u: float) -> Array:
        """The point (3,) of the axis ``u`` torso lengths below the shoulders."""
        return np.asarray(self.start + self.down * (u * self.length))

    def width_at(self, u: float) -> float:
        """Half width of the bare body at ``u``."""
        return float(np.interp(u, self.places, self.half_width))

    def depth_at(self, u: float) -> float:
        """Half depth of the bare body at ``u``."""
        return float(np.interp(u, self.places, self.half_depth))

    def relief(self, softness: float) -> Relief:
        """The shape of the chest as slopes to add; ``softness`` in (0, 1] flattens it under cloth."""
        unit, height, spread = self.length, 0.036 * self.bust * softness, 0.058 + 0.012 * self.bust
        centre = 0.46 * self.width_at(0.22)
        middle = 0.33 * unit

        def slopes(points: Points) -> tuple[F32, F32]:
            x, y = points.v * np.float32(unit), points.u * np.float32(unit) - np.float32(middle)
            side = np.abs(x) - np.float32(centre)
            bump = np.exp(
                (side * side + y * y * np.where(y > 0, np.float32(1.7), np.float32(0.6))) * np.float32(-0.5 / spread**2)
            )
            bump *= np.float32(height / spread**2)
            bump *= points.w > 0
            return y * bump, side * x / np.sqrt(x * x + np.float32(0.0006)) * bump

        return slopes


class Mannequin(NamedTuple):
    """A figure that stands in its pose, for clothes and hair to be put on.

    Attributes:
        figure: The figure.
        skeleton: Its bones.
        torso: The outline of its bare torso.
    """

    figure: Figure
    skeleton: Skeleton
    torso: Torso


def stand(figure: Figure) -> Mannequin:
    """Pose a figure."""
    skeleton = build_skeleton(figure)
    return Mannequin(figure, skeleton, torso_of(figure, skeleton))


def torso_of(figure: Figure, skeleton: Skeleton) -> Torso:
    """Outline of a figure's bare torso."""
    body, stance = figure.look.body, figure.stance
    length = skeleton.torso
    down = (skeleton.mid_hip - skeleton.mid_shoulder) / length
    yaw = stance.yaw + 0.5 * stance.twist
    across = np.array([np.cos(yaw), 0.0, -np.sin(yaw)])
    across = across - down * float(across @ down)
    across /= np.linalg.norm(across)
    sh, waist, hip, weight = body.shoulders, body.waist, body.hip_width, body.weight
    width = (
        0.046 * body.neck,
        0.056,
        0.60 * sh,
        0.90 * sh,
        1.05 * sh,
        1.10 * sh,
        1.0 * sh,
        0.93 * sh,
        0.42 * sh + 0.53 * waist,
        waist,
        0.42 * waist + 0.57 * hip,
        hip,
        1.01 * hip,
        0.88 * hip,
    )
    depth = tuple(
        value * (1.0 + 0.7 * (weight - 1.0))
        for value in (0.045, 0.05, 0.058, 0.066, 0.073, 0.085, 0.098, 0.108, 0.104, 0.096, 0.106, 0.116, 0.094, 0.040)
    )
    belly = 0.16 * max(weight - 1.0, 0.0)
    forward = (
        -0.008,
        -0.008,
        -0.007,
        -0.005,
        -0.002,
        0.002,
        0.005 + 0.006 * body.bust,
        0.006 + 0.024 * body.bust,
        0.004 + 0.014 * body.bust + 0.4 * belly,
        0.004 + belly,
        0.004 + belly,
        -0.008,
        -0.014,
        -0.008,
    )
    return Torso(
        start=skeleton.mid_shoulder,
        down=down,
        frame=Frame(skeleton.mid_shoulder, down, across, np.cross(across, down), length),
        yaw=yaw,
        length=length,
        shear=(float(np.tan(stance.shoulder_tilt)), float(np.tan(stance.hip_tilt - stance.lean))),
        places=TORSO_PLACES,
        half_width=width,
        half_depth=depth,
        forward=forward,
        bust=body.bust,
    )


def torso_cone(
    torso: Torso, ease: tuple[float, ...], until: float, surface: Surface, hangs: bool = False
) -> Cone:
    """A cone about the torso, larger than the body by ``ease`` metres at each of its places, down to ``until``.

    One that ``hangs`` falls straight from the hips instead of following them between the legs.
    """
    span = until - TORSO_TOP
    inside = [i for i, place in enumerate(torso.places) if place < until - 0.02]
    places = [*(torso.places[i] for i in inside), until]
    edge = min(until, TORSO_END - 0.1)

    def profile(values: tuple[float, ...], extra: tuple[float, ...]) -> Profile:
        summed = [values[i] + extra[i] for i in inside]
        summed.append(float(np.interp(edge, torso.places, values)) + float(np.interp(edge, torso.places, extra)))
        return Profile(tuple((place - TORSO_TOP) / span for place in places), tuple(summed))

    none = (0.0,) * len(torso.places)
    half_depth, forward = torso.half_depth, torso.forward
    if hangs:
        half_depth = (*half_depth[:-2], half_depth[-3], half_depth[-3])
        forward = (*forward[:-2], forward[-3] + 0.004, forward[-3] + 0.006)
    return Cone(
        start=torso.at(TORSO_TOP),
        stop=torso.at(until),
        width=profile(torso.half_width, ease),
        depth=profile(half_depth, tuple(0.8 * value for value in ease)),
        forward=profile(forward, none),
        yaw=torso.yaw,
        caps=(False, False),
        shear=torso.shear,
        frame=torso.frame,
        surface=surface,
        part=PART_TORSO,
    )


def bare_torso(torso: Torso, until: float) -> list[Cone]:
    """The skin of neck base, chest and belly."""
    cone = torso_cone(torso, (0.0,) * len(torso.places), until, SKIN)
    return [replace(cone, relief=torso.relief(1.0), blend=0.02)]


def limb_profile(radii: tuple[float, ...], scale: float, ease: float = 0.0) -> Profile:
    """Radii along a limb at the usual five places."""
    return Profile(ARM_PLACES, tuple(radius * scale + ease for radius in radii))


def shoulder_joint(limb: Limb, torso: Torso, side: float) -> Array:
    """Start of the drawn upper arm: a little inside the joint, so that the shoulder slopes."""
    return np.asarray(limb.root - torso.frame.across * side * 0.010 + torso.down * 0.010)


def bare_arm(body: Body, limb: Limb, covered: float, facing: Array, start: Array) -> list[Cone]:
    """Skin of an arm whose first ``covered`` (0 to 2: shoulder, elbow, wrist) is under a sleeve, with its hand."""
    cones = []
    if covered < 0.97:
        upper = _bare(start, limb.middle, limb_profile(UPPER_RADII, body.limbs), 0.024)
        flat = float(np.hypot(*(limb.middle - start)[:2]))
        cones.append(replace(upper, cover=_from((covered - 0.25) * flat)) if covered > 0.25 else upper)
    if covered < 1.95:
        cones.append(_bare(limb.middle, limb.end, limb_profile(FORE_RADII, 0.4 + 0.6 * body.limbs), 0.012))
    return cones + hand(body, limb, facing)


def _bare(start: Array, stop: Array, width: Profile, blend: float, part: int = PART_ARM) -> Cone:
    return Cone(start=start, stop=stop, width=width, blend=blend, surface=SKIN, part=part)


def hand(body: Body, limb: Limb, facing: Array) -> list[Cone]:
    """A palm, four fingers and a thumb. ``facing`` (3,) is the way the thumb points."""
    size = float(np.linalg.norm(limb.tip - limb.end)) / 0.185 * (0.55 + 0.45 * body.limbs)
    along = (limb.tip - limb.end) / np.linalg.norm(limb.tip - limb.end)
    across = facing - along * float(facing @ along)
    across /= max(float(np.linalg.norm(across)), 1e-6)
    palm_normal = np.cross(across, along)
    seen = float(np.hypot(across[0], across[1]))
    half = 0.037 * size * seen + 0.017 * (1.0 - seen)
    palm_end = limb.end + along * 0.092 * size
    palm = Profile((0.0, 0.3, 0.7, 1.0), (0.024 * size, 0.5 * (half + 0.028 * size), half, half * 0.93))
    thick = Profile((0.0, 0.5, 1.0), (0.021 * size, 0.018 * size, 0.013 * size))
    cones = [
        Cone(start=limb.end, stop=palm_end, width=palm, depth=thick, surface=SKIN, part=PART_ARM)
    ]
    taper = Profile((0.0, 1.0), (0.0098 * size, 0.0080 * size))
    for place, reach in ((-1.5, 0.066), (-0.5, 0.078), (0.5, 0.075), (1.5, 0.058)):
        root = palm_end + across * (-place * 0.0185 * size)
        way = along + palm_normal * 0.10 + across * (-place * 0.05)
        cones.append(_bare(root, root + way / np.linalg.norm(way) * reach * size, taper, 0.002))
    root = limb.end + along * 0.030 * size + across * 0.024 * size
    way = along * 0.80 + across * 0.62
    cones.append(_bare(root, root + way * 0.062 * size, taper.scaled(1.15), 0.006))
    return cones


def _from(start: float) -> Cover:
    """Covers everything beyond ``start`` metres along the axis."""

    def cover(points: Points) -> F32:
        return (points.t - np.float32(start)).astype(np.float32)

    return cover


def leg_cones(body: Body, limb: Limb, covered: float, surface: Surface, extra: float = 0.0) -> list[Cone]:
    """A leg, its first ``covered`` (0 to 2: hip, knee, ankle) left out because it is under cloth."""
    cones = []
    for number, (start, stop, radii, scale) in enumerate(
        (
            (limb.root, limb.middle, THIGH_RADII, body.limbs),
            (limb.middle, limb.end, SHIN_RADII, 0.3 + 0.7 * body.limbs),
        )
    ):
        hidden = covered - number
        if hidden < 0.97:
            flat = float(np.hypot(*(stop - start)[:2]))
            cover = _from(hidden * flat) if hidden > 0.0 else None
            width = limb_profile(radii, scale, extra)
            cones.append(
                Cone(
                    start=start,
                    stop=stop,
                    width=width,
                    cover=cover,
                    blend=0.02,
                    surface=surface,
                    part=PART_LEG,
                )
            )
    return cones


HEAD_PLACES = (0.0, 0.006, 0.025, 0.06, 0.14, 0.26, 0.42, 0.58, 0.70, 0.80, 0.89, 0.95, 0.985, 1.0)
HEAD_WIDTH = (0.0, 0.066, 0.128, 0.190, 0.258, 0.308, 0.325, 0.318, 0.300, 0.266, 0.210, 0.156, 0.095, 0.0)
HEAD_DEPTH = (0.0, 0.085, 0.155, 0.225, 0.305, 0.365, 0.390, 0.375, 0.345, 0.300, 0.240, 0.180, 0.110, 0.0)
HEAD_FORWARD = (-0.02, -0.02, -0.02, -0.02, -0.02, -0.015, -0.005, 0.0, 0.01, 0.03, 0.06, 0.085, 0.095, 0.095)


def head_frame(figure: Figure, skeleton: Skeleton) -> Frame:
    """Frame of the head: u runs down from -0.5 (crown) to 0.5 (chin), v across, in head heights."""
    head = skeleton.head
    return Frame(skeleton.head_centre, head[:, 1], head[:, 0], head[:, 2], figure.look.body.head)


def _head_yaw(skeleton: Skeleton) -> float:
    return float(np.arctan2(skeleton.head[0, 2], skeleton.head[2, 2]))


def skull(figure: Figure, skeleton: Skeleton, grow: float = 0.0, low: float = 1.0) -> Cone:
    """The head from crown to chin, grown by ``grow`` head heights, from the eyes down by only ``low`` of that."""
    size, face = figure.look.body.head, figure.look.face
    down = skeleton.head[:, 1] * size
    jaw = np.interp(HEAD_PLACES, (0.0, 0.55, 0.9, 1.0), (1.0, 1.0, face.jaw, face.jaw)) * face.width
    swell = 1.0 + grow / 0.32 * np.interp(HEAD_PLACES, (0.0, 0.14, 0.42, 1.0), (1.0, 1.0, low, low))
    width = tuple(float(w * j * g * size) for w, j, g in zip(HEAD_WIDTH, jaw, swell, strict=True))
    depth = tuple(float(d * g * size) for d, g in zip(HEAD_DEPTH, swell, strict=True))
    forward = tuple(f * size for f in HEAD_FORWARD)
    return Cone(
        start=skeleton.head_centre - down * (0.5 + grow),
        stop=skeleton.head_centre + down * (0.5 + grow * 0.3),
        width=Profile(HEAD_PLACES, width),
        depth=Profile(HEAD_PLACES, depth),
        forward=Profile(HEAD_PLACES, forward),
        yaw=_head_yaw(skeleton),
        caps=(False, False),
        frame=head_frame(figure, skeleton),
        surface=FACE,
        part=PART_HEAD,
        blend=0.006,
    )


def neck(mannequin: Mannequin) -> Cone:
    """The neck."""
    figure, skeleton, torso = mannequin
    size = figure.look.body.head
    radius = (0.046 + 0.008 * (figure.look.body.limbs - 0.9) / 0.15) * (0.5 + 0.5 * figure.look.body.weight)
    top = skeleton.head_centre + skeleton.head @ np.array([0.0, 0.22, -0.10]) * size
    base = torso.at(-0.10) + torso.frame.front * -0.012
    width = Profile((0.0, 0.3, 0.7, 1.0), (radius * 1.22, radius * 1.06, radius, radius))
    return _bare(base, top, width, 0.03, PART_DETAIL)


def head(figure: Figure, skeleton: Skeleton) -> list[Cone]:
    """Skull, nose and ears."""
    size, face, frame = figure.look.body.head, figure.look.face, head_frame(figure, skeleton)
    points = face_points(figure, skeleton)

    def place(x: float, y: float, z: float) -> Array:
        return np.asarray(skeleton.head_centre + skeleton.head @ (np.array([x, y, z]) * size))

    def feature(start: Array, stop: Array, radii: tuple[float, ...], blend: float) -> Cone:
        places = tuple(float(value) for value in np.linspace(0.0, 1.0, len(radii)))
        width = Profile(places, tuple(radius * size for radius in radii))
        return Cone(
            start=start,
            stop=stop,
            width=width,
            frame=frame,
            surface=FACE,
            part=PART_HEAD,
            blend=blend * size,
        )

    nose = 0.040 * face.nose
    cones = [
        skull(figure, skeleton),
        feature(place(0.0, 0.02, 0.335), place(0.0, 0.165, 0.405), (0.018, 0.028, nose), 0.03),
        feature(
            place(-0.030 * face.nose, 0.178, 0.375), place(0.030 * face.nose, 0.178, 0.375), (nose * 0.72,) * 2, 0.02
        ),
    ]
    for side, ear in ((1.0, points["left_ear"]), (-1.0, points["right_ear"])):
        top = ear + skeleton.head @ np.array([0.014 * side, -0.055, -0.01]) * size
        cones.append(
            feature(
                top, ear + skeleton.head @ np.array([-0.006 * side, 0.075, 0.0]) * size, (0.034, 0.036, 0.024), 0.01
            )
        )
    return cones


def hairline(hair: Hair) -> tuple[float, float, float]:
    """Height of the hairline in the middle, depth of the parting's sweep, height where sideburns end."""
    front = {
        "fringe": -0.13,
        "bob": -0.17 if hair.seed < 0.5 else -0.35,
        "side": -0.26,
        "buzz": -0.30,
        "straight": -0.35,
        "wavy": -0.35,
    }.get(hair.style, -0.285)
    sweep = {"side": 0.10, "bob": 0.05, "straight": 0.0, "wavy": 0.0, "short": 0.035}.get(hair.style, 0.02)
    ends = {"bob": 0.5, "straight": 0.5, "wavy": 0.5, "buzz": 0.04, "afro": 0.12, "curly": 0.22}.get(hair.style, 0.09)
    return front, sweep, ends


def _hair_cover(hair: Hair, size: float) -> Cover:
    front, sweep, ends = hairline(hair)
    lean = hair.parting if hair.style in ("side", "straight", "wavy", "bob", "short") else 0.0
    curtain = hair.style in ("straight", "wavy") or (hair.style == "bob" and hair.seed >= 0.5)
    tooth = {"fringe": 0.018, "short": 0.022, "curly": 0.03, "afro": 0.02, "wavy": 0.01}.get(hair.style, 0.006)

    def margin(points: Points) -> F32:
        x = points.v
        reach = np.abs(x) * np.float32(1.0 / 0.30)
        line = np.float32(front) + np.float32(sweep * lean) * x * np.float32(4.0)
        line = line + np.float32(0.05) * reach * reach
        if curtain:
            line += np.float32(0.80) * np.abs(x - np.float32(0.11 * hair.parting)) ** np.float32(1.25)
        drop = np.clip((reach - np.float32(0.80)) * np.float32(5.0), 0.0, 1.0)
        teeth = np.sin(x * np.float32(88.0) + np.float32(hair.seed * 6.0)) + np.sin(x * np.float32(143.0))
        line += np.float32(0.6 * tooth) * teeth * (1 - drop)
        line = line + (np.float32(ends) - line) * drop * drop
        back = ((points.w < np.float32(-0.06)) & (points.u < np.float32(ends))) | (
            (points.w < np.float32(-0.22)) & (points.u < np.float32(0.27))
        )
        shown = np.where(back, np.float32(0.05), line - points.u)
        return (shown * np.float32(size)).astype(np.float32)

    return margin


def wears_hat(figure: Figure) -> bool:
    """True if something sits on the hair."""
    accessory = figure.outfit.accessory
    return accessory is not None and accessory.kind in ("cap", "beanie")


def hair(mannequin: Mannequin) -> list[Cone]:
    """Hair on the head and falling from it."""
    figure, skeleton, _ = mannequin
    style = figure.look.hair
    if style.style == "bald":
        return []
    size, frame = figure.look.body.head, head_frame(figure, skeleton)
    thick = {"buzz": 0.012, "short": 0.040, "side": 0.045, "fringe": 0.05, "afro": 0.08, "curly": 0.08}.get(
        style.style, 0.042
    )
    thick += 0.018 * style.volume * float(style.style != "buzz")
    thick = min(thick, 0.05) if wears_hat(figure) else thick
    cap = replace(
        skull(figure, skeleton, thick, 0.22),
        surface=HAIR,
        cover=_hair_cover(style, size),
        hem=0.012,
        folds=None,
        blend=0.01,
    )
    return [cap, *_falling_hair(mannequin, frame)]


def _falling_hair(mannequin: Mannequin, frame: Frame) -> list[Cone]:
    figure, skeleton, _ = mannequin
    style = figure.look.hair
    locks = _Locks(style, figure.look.body.head, skeleton, frame)
    if style.style == "bob":
        return _bob(locks)
    if style.style in ("straight", "wavy"):
        return _long_hair(locks, mannequin.torso)
    if style.style == "ponytail":
        side = 1.0 if style.parting > 0 else -1.0
        knot = locks.place(0.10 * side, -0.20, -0.42)
        tail = locks.place(0.34 * side, 0.35, -0.36) + locks.down * 0.5 * style.length
        return [locks.lock(knot, tail, (0.09, 0.13, 0.13, 0.11, 0.05), 0.9, 0.02)]
    if style.style == "bun" and not wears_hat(figure):
        high = locks.place(0.0, -0.56 + 0.12 * style.length, -0.16)
        return [locks.lock(high - locks.down * 0.02, high + locks.down * 0.05, (0.165, 0.17, 0.16), 0.95)]
    if style.style in ("afro", "curly"):
        return [_halo(figure, skeleton, frame)]
    return []


@dataclass(frozen=True, eq=False)
class _Locks:
    """Makes locks of hair that hang from a head; lengths are in heights of the head."""

    style: Hair
    size: float
    skeleton: Skeleton
    frame: Frame

    @property
    def down(self) -> Array:
        """A head's height down."""
        return np.array([0.0, self.size, 0.0])

    @property
    def volume(self) -> float:
        """By how much full hair is thicker."""
        return 0.03 * self.style.volume

    def place(self, x: float, y: float, z: float) -> Array:
        """A place that goes with the head, from its centre."""
        return np.asarray(self.skeleton.head_centre + self.skeleton.head @ (np.array([x, y, z]) * self.size))

    def lock(
        self,
        start: Array,
        stop: Array,
        radii: tuple[float, ...],
        flat: float = 0.6,
        wave: float = 0.0,
        turn: float = 0.0,
    ) -> Cone:
        """A lock from one place to another."""
        places = tuple(float(value) for value in np.linspace(0.0, 1.0, len(radii)))
        count = 9
        bends = tuple(float(wave * self.size * np.sin(turn + 2.6 * i)) for i in range(count))
        steps = tuple(float(value) for value in np.linspace(0.0, 1.0, count))
        return Cone(
            start=start,
            stop=stop,
            width=Profile(places, tuple(radius * self.size for radius in radii)),
            depth=Profile(places, tuple(radius * self.size * flat for radius in radii)),
            sideways=Profile(steps, bends) if wave else None,
            yaw=_head_yaw(self.skeleton),
            frame=self.frame,
            surface=HAIR,
            part=PART_DETAIL,
            blend=0.02,
        )


def _bob(locks: _Locks) -> list[Cone]:
    """Hair to the chin."""
    place, lock, volume = locks.place, locks.lock, locks.volume
    low = 0.52 + 0.1 * locks.style.volume
    thick = (0.33 + volume, 0.38 + volume, 0.40 + volume, 0.34)
    cones = [lock(place(0, -0.15, -0.12), place(0, low - 0.10, -0.14), thick, 0.6)]
    for side in (-1.0, 1.0):
        start, stop = place(0.315 * side, -0.10, 0.0), place(0.325 * side, low - 0.1, 0.06)
        cones.append(lock(start, stop, (0.05, 0.085, 0.095 + volume, 0.07), 1.4))
    return cones


def _long_hair(locks: _Locks, torso: Torso) -> list[Cone]:
    """Straight or wavy hair, down the back or over the chest."""
    style, place, lock, volume = locks.style, locks.place, locks.lock, locks.volume
    wave = 0.030 if style.style == "wavy" else 0.0
    drop = 0.35 + style.length
    low = place(0, 0.30, -0.22) + locks.down * drop
    cones = [lock(place(0, -0.1, -0.14), low, (0.34 + volume, 0.40 + volume, 0.42 + volume, 0.38), 0.42, wave)]
    for side in (-1.0, 1.0):
        start, bend = place(0.305 * side, -0.16, 0.0), place(0.35 * side, 0.42, 0.30 if style.front else 0.0)
        cones.append(lock(start, bend, (0.05, 0.080, 0.10 + volume, 0.095 + volume), 1.3, wave, side))
        if style.front:
            chest = torso.at(0.02 + 0.22 * drop) + torso.frame.across * side * 0.62 * torso.width_at(0.1)
            chest = chest + torso.frame.front * (torso.depth_at(0.18) * 0.82 + 0.048 + 0.02 * torso.bust)
            cones.append(lock(bend, chest, (0.095 + volume, 0.13 + volume, 0.12, 0.05), 0.45, wave * 1.3, side))
    return cones


def _halo(figure: Figure, skeleton: Skeleton, frame: Frame) -> Cone:
    """The round volume of an afro or of curls, with an uneven outline, drawn behind the face's plane."""
    style, size = figure.look.hair, figure.look.body.head
    afro = style.style == "afro"
    radius = (0.43 + 0.10 * style.volume if afro else 0.37 + 0.05 * style.volume) * size
    middle = skeleton.head_centre + skeleton.head @ (np.array([0.0, -0.14 if afro else -0.02, -0.10]) * size)
    stretch = np.array([0.0, size * (0.04 if afro else 0.16 + 0.12 * style.length), 0.0])
    turn, hat = style.seed * 6.28, wears_hat(figure)

    def ragged(points: Points) -> F32:
        angle = np.arctan2(points.v, points.u + np.float32(0.1))
        rough = np.sin(angle * 17 + np.float32(turn)) + np.sin(angle * 29 + np.float32(2 * turn)) + np.sin(angle * 43)
        margin = points.facing - np.float32(0.13) - rough * np.float32(0.075)
        return np.asarray(np.minimum(margin, points.u + np.float32(0.17)) if hat else margin, dtype=np.float32)

    return Cone(
        start=middle - stretch * 0.5,
        stop=middle + stretch,
        width=Profile((0.0, 1.0), (radius, radius * 0.96)),
        depth=Profile((0.0, 1.0), (radius * 0.45, radius * 0.45)),
        frame=frame,
        surface=HAIR,
        part=PART_DETAIL,
        blend=0.02,
        cover=ragged,
        folds=Folds((0.5, 0.5), 12.0, 12.0, style.seed),
    )


def thumb_way(limb: Limb, side: float, pose: str) -> NDArray[np.float64]:
    """Direction (3,) of the thumb of an arm: to the front and inwards, upwards where the forearm lies across."""
    ways = {"hip": (0.25, -0.9, 0.35), "folded": (0.0, -1.0, 0.2), "low": (0.5, -0.4, 0.7), "head": (0.2, 0.9, 0.2)}
    ways |= {"wave": (-1.0, 0.0, 0.35), "chest": (-0.4, -0.7, 0.3), "carry": (-0.9, -0.3, 0.3)}
    x, y, z = ways.get(pose, (-0.62, 0.0, 0.78))
    return np.array([x * side, y, z])
