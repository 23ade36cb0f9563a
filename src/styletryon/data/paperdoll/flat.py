"""Garments that nobody wears: the cloth of a figure alone, laid flat or hung, with the pose of its invisible wearer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from styletryon.data.paperdoll import body, garments
from styletryon.data.paperdoll.canvas import F32, Canvas, Cone, Points, Profile, Surface
from styletryon.data.paperdoll.factors import Arm, Figure, Framing, Leg, Light, Stance
from styletryon.data.paperdoll.render import HIDDEN_SCORE, Rendering, _check, _reduce_labels, _reduce_picture
from styletryon.data.paperdoll.sampling import stream
from styletryon.data.paperdoll.shading import shade
from styletryon.data.paperdoll.skeleton import Array, joint_points
from styletryon.errors import RegionError
from styletryon.labels import Label

Ground = Literal["white", "plain", "planks", "tiles", "carpet", "bed", "wall"]
GROUNDS: tuple[Ground, ...] = ("white", "plain", "planks", "tiles", "carpet", "bed", "wall")

_KINDS = {"top": Label.TOP, "outerwear": Label.OUTERWEAR, "bottom": Label.BOTTOM, "dress": Label.DRESS}
_BEHIND = 0.2  # metres between the front of a garment and its back, which is seen at the neck
_INSIDE = 0.30  # down to here, in lengths of the torso, what is seen of the back is where a wearer's skin would be
_SHOWN = {7: 0.85, 8: 0.85, 9: 1.5, 10: 1.5, 13: 0.9, 14: 0.9, 15: 1.75, 16: 1.75}
"""How long sleeves or legs must be for them to show elbow, wrist, knee or ankle."""


@dataclass(frozen=True)
class Lie:
    """How a garment lies or hangs, and on what: angles in radians, shares in [0, 1].

    Attributes:
        left: Between the left sleeve and the vertical.
        right: The same for the right one.
        folded: Whether the forearms of the sleeves lie over the front.
        legs: Between each leg and the vertical.
        flat: 0 as round as when worn, 1 as wide as two layers of its cloth.
        turn: Clockwise in the picture.
        fills: The share of the picture's tighter side that it takes.
        shift_x: Where the rest of the room is, in [-1, 1].
        shift_y: The same downwards.
        inside: Whether the inner back is seen at the neck.
        hanger: Whether it hangs on one.
        ground: On what it lies, or before what it hangs.
        seed: Of the ground.
        light: The direction of the light.
    """

    left: float
    right: float
    folded: bool
    legs: float
    flat: float
    turn: float
    fills: float
    shift_x: float
    shift_y: float
    inside: bool
    hanger: bool
    ground: Ground
    seed: int
    light: Light


def sample_lie(seed: int) -> Lie:
    """Draw how a garment lies.

    Args:
        seed: Any non-negative whole number.
    """
    rng = stream(seed, "lie")
    kind = rng.random()
    spread = rng.uniform(0.08, 0.3) if kind < 0.4 else rng.uniform(0.3, 0.8) if kind < 0.8 else rng.uniform(0.8, 1.4)
    apart = rng.normal(0, 0.06, 2)
    hanger = bool(rng.random() < 0.25)
    spread = min(spread, 0.35) if hanger else spread
    side = rng.uniform(-0.6, 0.6)
    light = np.array([side, -rng.uniform(0.0, 0.7), 1.0])
    light /= np.linalg.norm(light)
    turned = rng.random() < 0.3 and not hanger
    return Lie(
        left=max(0.03, float(spread + apart[0])),
        right=max(0.03, float(spread + apart[1])),
        folded=bool(rng.random() < 0.12 and spread < 0.6 and not hanger),
        legs=float(rng.uniform(0.0, 0.14)),
        flat=float(rng.uniform(0.2, 0.6) if hanger else rng.uniform(0.5, 1.0)),
        turn=float(rng.uniform(-0.52, 0.52) if turned else rng.normal(0, 0.05)),
        fills=float(rng.uniform(0.6, 0.96)),
        shift_x=float(rng.uniform(-0.8, 0.8)),
        shift_y=float(rng.uniform(-0.8, 0.8)),
        inside=bool(rng.random() < 0.8),
        hanger=hanger,
        ground=GROUNDS[int(rng.integers(len(GROUNDS)))],
        seed=int(rng.integers(2**31)),
        light=Light(
            direction=(float(light[0]), float(light[1]), float(light[2])),
            key=float(rng.uniform(0.4, 0.66)),
            ambient=float(rng.uniform(0.42, 0.6)),
            warmth=float(rng.uniform(-0.05, 0.08)),
            backdrop_top=(1.0, 1.0, 1.0),
            backdrop_bottom=(1.0, 1.0, 1.0),
        ),
    )


def lay_flat(
    figure: Figure, garment: str = "top", size: tuple[int, int] = (256, 256), *, lie: Lie | None = None
) -> Rendering:
    """Draw one garment of a figure by itself, as shops and sellers photograph it.

    Args:
        figure: Who owns it.
        garment: "top", "outerwear", "bottom" or "dress".
        size: Height and width of the picture in pixels.
        lie: How it lies; None for one drawn from seed 0.

    Returns:
        The picture; its labels: the garment's class, `Label.SKIN` where one looks through the neck at the inner back,
        which a wearer would hide, and background; and the keypoints of the invisible wearer: shoulders and hips, those
        of arms and legs that sleeves and legs show, of score 0.5 where they are beyond the cloth, and no others.

    Raises:
        RegionError: If the figure has no such garment.
        ShapeError: If the size cannot be used.
    """
    height, width = _check(size, 2)
    lie = sample_lie(0) if lie is None else lie
    if garment == "bottom":
        lie = replace(lie, hanger=False)  # it has no shoulders to hang from
    outfit = figure.outfit
    has = {"top": outfit.dress is None, "bottom": outfit.dress is None, "dress": outfit.dress is not None,
           "outerwear": outfit.dress is None and outfit.outerwear is not None}  # fmt: skip
    if not has.get(garment, False):
        raise RegionError(
            f"expected a garment that the figure has, of {sorted(_KINDS)}, got {garment!r}", argument="garment"
        )
    mannequin = body.stand(_spread_out(figure, garment, lie))
    cones = _cones(mannequin, garment, lie)
    sheet = _sheet(cones, lie, height, width)
    canvas = sheet.canvas
    for cone in cones:
        canvas.draw(cone)
    square = (canvas.height, canvas.width)
    labels = canvas.label.reshape(square)
    # What is seen of the back farther down is lining, and part of the garment.
    labels = np.where((labels == Label.SKIN) & (canvas.u.reshape(square) > _INSIDE), np.uint8(_KINDS[garment]), labels)
    cloth = _reduce_picture(shade(mannequin.figure, canvas, mannequin.torso, 2), 1)
    alpha = (canvas.group.reshape(square) > 0).astype(np.uint8) * 255
    picture, labels = _on_ground(cloth, alpha, labels, sheet, lie, (height, width))
    points = sheet.place(joint_points(mannequin.figure, mannequin.skeleton)[:, :2])
    inside = ((points >= 0) & (points < [width, height])).all(axis=1)
    keypoints = np.concatenate([points, (_scores(figure, garment) * inside)[:, None]], axis=1)
    return Rendering(picture, labels, keypoints.astype(np.float32))


def _spread_out(figure: Figure, garment: str, lie: Lie) -> Figure:
    """Let a figure stand as its garment lies: frontal, sleeves and legs straight."""

    def arm(angle: float) -> Arm:
        upper = (float(np.sin(angle)), float(np.cos(angle)), 0.0)
        fore = (-0.80, 0.45, 0.4) if lie.folded else upper
        return Arm("relaxed", upper, fore)

    out = (float(np.sin(lie.legs)), float(np.cos(lie.legs)), 0.0)
    leg = Leg(out, out)
    stance = Stance(arm(lie.left), arm(lie.right), leg, leg, 0, 0, 0, 0, 0, 0, 0, 0, Framing(1.0, 0.0, 0.0))
    look = figure.look
    if garment == "bottom" and figure.outfit.bottom.kind != "skirt":
        wide = 1 + 0.42 * lie.flat  # legs that lie flat are wider, and beside each other
        shape = replace(look.body, hips=look.body.hips * wide, hip_width=look.body.hip_width * (1 + 0.12 * lie.flat))
        look = replace(look, body=shape)
    outfit = replace(figure.outfit, accessory=None)
    return replace(figure, look=look, outfit=outfit, stance=stance, light=lie.light)


def _cones(mannequin: body.Mannequin, garment: str, lie: Lie) -> list[Cone]:
    figure, _, torso = mannequin
    outfit = figure.outfit
    hem, ease, sleeveless = 0.0, (0.0,) * len(body.TORSO_PLACES), False
    if garment == "dress" and outfit.dress is not None:
        cones = garments.dress_cones(mannequin, outfit.dress)
        ease, hem = garments.dress_ease(torso, outfit.dress), outfit.dress.waist
        sleeveless = outfit.dress.sleeve == "none"
    elif garment == "outerwear" and outfit.outerwear is not None:
        cones = garments.outer_cones(mannequin, outfit.outerwear, outfit.top)
        ease, hem = garments.outer_ease(figure, torso, outfit.outerwear, outfit.top), max(outfit.outerwear.length, 0.2)
        sleeveless = outfit.outerwear.kind == "vest"
    elif garment == "top":
        cones = garments.top_cones(mannequin, outfit.top, True)
        ease, hem = garments.top_ease(figure, torso, outfit.top), outfit.top.length
        sleeveless = outfit.top.sleeve == "none"
    else:
        cones = garments.bottom_cones(mannequin, outfit.bottom)
    if hem and (lie.inside or garment == "outerwear"):
        surface = Surface(Label.SKIN, cones[0].surface.group)
        back = garments.bodice(torso, "turtle", sleeveless, hem, ease, surface, 0.37, 0.3)
        cones = [*cones, _behind(back, torso)]
    return [_flattened(cone, torso, lie.flat) for cone in cones]


def _behind(cone: Cone, torso: body.Torso) -> Cone:
    """Return the back of a garment, whose inside one sees through the neck."""
    front = cone.cover
    unit = torso.length

    def cover(points: Points) -> F32:
        x, y = points.v * np.float32(unit), points.u * np.float32(unit)
        ring = np.sqrt((x / np.float32(0.085)) ** 2 + ((y + np.float32(0.112)) / np.float32(0.035)) ** 2) - 1
        margin = np.minimum(ring * np.float32(0.035), np.float32(0.1))
        return np.minimum(margin, front(points)) if front is not None else margin

    away = np.array([0.0, 0.0, -_BEHIND])
    return replace(cone, start=cone.start + away, stop=cone.stop + away, cover=cover, hem=1.2, folds=None)


def _flattened(cone: Cone, torso: body.Torso, flat: float) -> Cone:
    """Return a cone as wide as half the cloth around it, where it lies flat."""
    width = np.array(cone.width.values)
    if cone.depth is None:
        if cone.part == body.PART_DETAIL:
            return replace(cone, depth=cone.width.scaled(1 - 0.6 * flat))
        share = np.clip(np.array(cone.width.places) / 0.3 + (0.6 if cone.part == body.PART_ARM else 1.0), 0, 1)
        wide = width * (1 + (np.pi / 2 - 1) * flat * 0.9 * share)
        return replace(cone, width=Profile(cone.width.places, tuple(wide)), depth=cone.width.scaled(1 - 0.8 * flat))
    depth = np.interp(cone.width.places, cone.depth.places, cone.depth.values)
    way = (cone.stop - cone.start)[None] * np.array(cone.width.places)[:, None] + cone.start - torso.start
    share = np.clip((way @ torso.down) / torso.length / 0.22, 0, 1)
    a, b = np.maximum(width, depth), np.minimum(width, depth)
    quarter = np.pi * (3 * (a + b) - np.sqrt((3 * a + b) * (a + 3 * b))) / 4
    wide = width + (quarter - width).clip(0) * flat * share
    forward = None if cone.forward is None else cone.forward.scaled(1 - flat)
    low = tuple(np.asarray(cone.depth.values) * (1 - 0.75 * flat))
    return replace(
        cone, width=Profile(cone.width.places, tuple(wide)), depth=Profile(cone.depth.places, low), forward=forward
    )


@dataclass(frozen=True, eq=False)
class _Sheet:
    """A square on which a garment is drawn upright, before it is turned and moved into the picture.

    Attributes:
        canvas: Two samples per pixel along each axis.
        side: Of the square, in pixels.
        scale: Pixels per metre.
        centre: Its middle in metres.
        corner: Where its upper left corner comes to lie in the picture, whole pixels.
        turn: Clockwise, in radians.
    """

    canvas: Canvas
    side: int
    scale: float
    centre: Array
    corner: tuple[int, int]
    turn: float

    def place(self, points: Array) -> Array:
        """Bring places `(n, 2)` in metres to the picture's pixels."""
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        turn = np.array([[cos, -sin], [sin, cos]])
        return np.asarray((points - self.centre) * self.scale @ turn.T + self.side / 2 + np.array(self.corner))


def _sheet(cones: list[Cone], lie: Lie, height: int, width: int) -> _Sheet:
    """Make a sheet such that the cones fill the picture as it is asked for."""
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    for cone in cones:
        way = np.abs((cone.stop - cone.start)[:2])
        room = max(cone.width.values) * way[::-1] / max(float(np.linalg.norm(way)), 1e-6)
        for end in (cone.start, cone.stop):
            low, high = np.minimum(low, end[:2] - room), np.maximum(high, end[:2] + room)
    cos, sin = abs(np.cos(lie.turn)), abs(np.sin(lie.turn))
    wide, tall = high - low
    extent = np.array([wide * cos + tall * sin, wide * sin + tall * cos])
    scale = float(lie.fills * min(width / extent[0], height / extent[1]))
    room = np.array([width, height]) - extent * scale
    middle = np.array([width, height]) / 2 + 0.5 * room * [lie.shift_x, lie.shift_y]
    side = int(np.ceil(np.hypot(wide, tall) * scale)) + 4
    centre = (low + high) / 2
    offset = side - 0.5 - centre * scale * 2
    canvas = Canvas(2 * side, 2 * side, 2 * scale, float(offset[0]), float(offset[1]))
    x, y = np.round(middle - side / 2).astype(int).tolist()
    return _Sheet(canvas, side, scale, centre, (x, y), lie.turn)


def _scores(figure: Figure, garment: str) -> NDArray[np.float32]:
    """Say of which keypoints a garment shows where they are."""
    outfit = figure.outfit
    scores = np.zeros(17, dtype=np.float32)
    legs = outfit.dress.length if outfit.dress is not None else outfit.bottom.length
    if garment == "bottom":
        scores[[11, 12]] = 1
    else:
        sleeve = outfit.dress.sleeve if outfit.dress is not None else outfit.top.sleeve
        arms = garments.SLEEVES[sleeve]
        if garment == "outerwear" and outfit.outerwear is not None:
            arms = 0.0 if outfit.outerwear.kind == "vest" else 1.97
        hem = {"top": outfit.top.length, "outerwear": outfit.outerwear.length if outfit.outerwear else 1.0}
        scores[[5, 6]], scores[[11, 12]] = 1, 1 if hem.get(garment, 2.0) > 0.9 else HIDDEN_SCORE
        for number in (7, 8, 9, 10):
            scores[number] = arms > _SHOWN[number]
    if garment in ("bottom", "dress"):
        for number in (13, 14, 15, 16):
            scores[number] = legs > _SHOWN[number]
    return scores


def _on_ground(
    cloth: NDArray[np.uint8],
    alpha: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    sheet: _Sheet,
    lie: Lie,
    size: tuple[int, int],
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Turn a drawn garment and lay it on its ground; return the picture and its labels."""
    height, width = size
    rng = np.random.default_rng(lie.seed)
    degrees = -float(np.degrees(lie.turn))
    layer = Image.merge("RGBA", (*Image.fromarray(cloth).split(), Image.fromarray(alpha)))
    layer = layer.rotate(degrees, Image.Resampling.BILINEAR).resize((sheet.side, sheet.side), Image.Resampling.BOX)
    classes = np.array(Image.fromarray(labels).rotate(degrees, Image.Resampling.NEAREST))
    classes = _reduce_labels(classes, 2)
    picture = Image.fromarray(draw_ground(lie.ground, rng, size))
    whole = Image.new("L", (width, height))
    whole.paste(layer.getchannel("A"), sheet.corner)
    away = max(1, round(0.012 * max(size)))
    shadow = Image.new("L", (width, height))
    side = -int(np.sign(lie.light.direction[0])) or 1
    shadow.paste(layer.getchannel("A"), (sheet.corner[0] + side * away, sheet.corner[1] + away))
    strength = rng.uniform(0.15, 0.55)
    shadow = shadow.filter(ImageFilter.GaussianBlur(away)).point([round(value * strength) for value in range(256)])
    picture.paste(Image.new("RGB", picture.size, (10, 10, 14)), (0, 0), shadow)
    if lie.hanger:
        _draw_hanger(picture, sheet, rng)
    picture.paste(layer.convert("RGB"), sheet.corner, layer.getchannel("A"))
    found = Image.new("L", (width, height))
    found.paste(Image.fromarray(classes), sheet.corner)
    return np.asarray(picture).copy(), np.where(np.asarray(whole) > 127, np.asarray(found), np.uint8(0))


def _draw_hanger(picture: Image.Image, sheet: _Sheet, rng: np.random.Generator) -> None:
    """Draw a hanger behind a garment: a bar along the shoulders, and a hook."""
    reach = float(rng.uniform(0.17, 0.21))
    low = -0.52
    bar = sheet.place(np.array([[-reach, low + 0.02], [0, low - 0.055], [reach, low + 0.02]]))
    hook = sheet.place(np.array([[0, low - 0.055], [0, -0.63], [0.03, -0.66], [0, -0.69], [-0.03, -0.66]]))
    colour = tuple(int(v) for v in rng.choice([[25, 25, 28], [150, 105, 60], [190, 190, 195], [235, 235, 235]]))
    draw = ImageDraw.Draw(picture)
    wide = max(1, round(sheet.scale * 0.018))
    draw.line([tuple(p) for p in bar], fill=colour, width=wide, joint="curve")
    draw.line([tuple(p) for p in hook], fill=colour, width=max(1, wide // 2), joint="curve")


@lru_cache(maxsize=8)
def _waves(seed: int, cells: int) -> F32:
    """Smooth noise of 96x96 in about [-1, 1]."""
    noise = np.random.default_rng(seed).normal(0, 70, (cells, cells)).clip(-128, 127) + 128
    soft = Image.fromarray(noise.astype(np.uint8)).resize((96, 96), Image.Resampling.BICUBIC)
    return np.asarray(soft, dtype=np.float32) / 128 - 1


def draw_ground(kind: Ground, rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Draw a floor, a bed or a wall on which garments are photographed.

    Args:
        kind: Which.
        rng: Draws its colours.
        size: Height and width in pixels.
    """
    height, width = size

    def waves(cells: int) -> F32:
        noise = _waves(int(rng.integers(8)), cells)
        return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))[..., None]

    y, x = np.mgrid[:height, :width].astype(np.float32) / max(size)
    if kind == "white":
        base = np.full((height, width, 3), rng.uniform(225, 255), dtype=np.float32) + rng.uniform(0, 4) * waves(3)
    elif kind in ("plain", "wall"):
        base = np.broadcast_to(rng.uniform(60, 235) + rng.normal(0, 22, 3), (height, width, 3))
        base = base + rng.uniform(-40, 40) * (y - 0.5)[..., None] + rng.uniform(0, 14) * waves(4)
    elif kind == "planks":
        if rng.random() < 0.5:
            x, y = y, x
        wide = rng.uniform(0.08, 0.22)
        row = np.floor((x + rng.random()) / wide).astype(int)
        tone = rng.normal(0, 14, 64)[row % 64] + 9 * np.sin(x * 190 + 3 * np.sin(y * 9) + row)
        seam = np.abs((x + 0.5 * wide) % wide - 0.5 * wide) < 0.003
        base = np.array([1, 0.8, 0.58]) * rng.uniform(90, 225) + rng.normal(0, 14, 3)
        base = base + (tone - 45 * seam)[..., None] + 8 * waves(12)
    elif kind == "tiles":
        wide = rng.uniform(0.2, 0.5)
        turn = rng.uniform(-0.8, 0.8)
        u, v = x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)
        seam = np.minimum(np.abs(u % wide), np.abs(v % wide)) < 0.005
        base = rng.uniform(140, 235) + rng.normal(0, 10, 3) - rng.uniform(20, 80) * seam[..., None] + 6 * waves(8)
    elif kind == "carpet":
        grain = rng.normal(0, rng.uniform(8, 34), (height, width, 1))
        base = rng.uniform(60, 225) + rng.normal(0, 25, 3) + grain
        base = base + rng.uniform(0, 45) * waves(int(rng.integers(4, 24)))
    else:
        colour = rng.uniform(60, 240) + rng.normal(0, 35, 3)
        base = colour + rng.uniform(6, 30) * waves(6) + rng.uniform(4, 20) * waves(20)
        if rng.random() < 0.4:
            checks = np.sin(x * rng.uniform(15, 60)) * np.sin(y * rng.uniform(15, 60)) > 0
            base = base + rng.uniform(-60, 60, 3) * checks[..., None]
    return np.asarray(base + rng.normal(0, 3, (height, width, 1))).clip(0, 255).astype(np.uint8)
