"""From a figure to its picture, labels and keypoints."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from styletryon._reprs import one_line
from styletryon.data.paperdoll import body, garments
from styletryon.data.paperdoll.canvas import Canvas, Cone
from styletryon.data.paperdoll.factors import Figure
from styletryon.data.paperdoll.shading import LABEL_COUNT, shade
from styletryon.data.paperdoll.skeleton import Camera, Skeleton, frame_figure, joint_points
from styletryon.errors import RegionError, ShapeError
from styletryon.labels import region_name

HIDDEN_SCORE = 0.5
_TOLERANCE = (0.03, 0.03, 0.03, 0.05, 0.05, 0.12, 0.12, 0.085, 0.085, 0.065, 0.065, 0.19, 0.19, 0.12, 0.12, 0.09, 0.09)


@dataclass(frozen=True)
class Rendering:
    """A drawn figure.

    Attributes:
        image: sRGB picture, (H, W, 3) uint8.
        labels: Class of every pixel (:class:`styletryon.labels.Label`), (H, W) uint8.
        keypoints: COCO joints, (17, 3) float32 of x, y in pixels (the middle of the first pixel is (0.5, 0.5)) and
            score: 1 in sight, 0.5 inside the picture but hidden behind the body or another limb, 0 outside the picture,
            where x and y still say where the joint is.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    keypoints: NDArray[np.float32]

    __repr__ = one_line


def restyle(figure: Figure, **factors: Any) -> Figure:
    """The figure with some factors replaced: ``restyle(figure, stance=sample_stance(9))``."""
    return replace(figure, **factors)


def wears(figure: Figure, region: str) -> bool:
    """Tells whether a figure has a garment of its own in a region ("top", "bottom", "dress" or "full")."""
    region = region_name(region)
    return region == "full" or (figure.outfit.dress is not None) == (region == "dress")


def dress(person: Figure, garment: Figure, region: str = "top") -> Figure:
    """The ground truth of a try-on: ``person`` in the clothes that ``garment`` wears in ``region``.

    Args:
        person: Who is dressed; look, pose, light and all other clothes stay.
        garment: Whose clothes are taken.
        region: "top" (top and outerwear), "bottom" (legwear stays the person's), "dress", or "full" (everything but the
            accessory).

    Returns:
        The dressed figure.

    Raises:
        RegionError: The region is unknown, or one of the two does not wear such a garment; see :func:`wears`.
    """
    region = region_name(region)
    for name, figure in (("person", person), ("garment", garment)):
        if not wears(figure, region):
            worn = "a dress" if figure.outfit.dress is not None else "a separate top and bottom"
            raise RegionError(
                f"expected a figure with a garment for region {region!r}, got one in {worn}; try 'full'",
                argument=name,
            )
    mine, theirs = person.outfit, garment.outfit
    if region == "top":
        outfit = replace(mine, top=theirs.top, outerwear=theirs.outerwear)
    elif region == "bottom":
        outfit = replace(mine, bottom=theirs.bottom)
    elif region == "dress":
        outfit = replace(mine, dress=theirs.dress)
    else:
        outfit = replace(theirs, accessory=mine.accessory)
    return replace(person, outfit=outfit)


def _leg_cover(figure: Figure) -> float:
    """Place on the legs (0 hip, 1 knee, 2 ankle) above which no skin or tights can show."""
    outfit = figure.outfit
    worn = outfit.dress if outfit.dress is not None else outfit.bottom
    return (
        2.0
        if worn.length >= 2.0
        else max(worn.length - (0.03 if worn is outfit.dress or outfit.bottom.kind == "skirt" else 0.25), 0.0)
    )


def _arm_cover(figure: Figure) -> float:
    outfit = figure.outfit
    if outfit.dress is not None:
        return garments.SLEEVES[outfit.dress.sleeve]
    if outfit.outerwear is not None and outfit.outerwear.kind != "vest":
        return 1.97 if outfit.outerwear.kind != "cardigan" or outfit.outerwear.fit < 0.6 else 1.7
    return garments.SLEEVES[outfit.top.sleeve]


def build_cones(mannequin: body.Mannequin) -> list[Cone]:
    """Every surface of a figure, the outer ones first, so that what they hide is found out early."""
    figure, skeleton, torso = mannequin
    outfit, look, stance = figure.outfit, figure.look, figure.stance
    if outfit.dress is not None:
        clothes = garments.dress_cones(mannequin, outfit.dress)
        front = garments.dress_ease(torso, outfit.dress)
    else:
        clothes = []
        front = garments.top_ease(figure, torso, outfit.top)
        if outfit.outerwear is not None:
            clothes += garments.outer_cones(mannequin, outfit.outerwear, outfit.top)
            front = garments.outer_ease(figure, torso, outfit.outerwear, outfit.top)
        layered = outfit.outerwear is not None and outfit.outerwear.kind != "vest"
        clothes += garments.top_cones(mannequin, outfit.top, not layered)
        clothes += garments.bottom_cones(mannequin, outfit.bottom)
    accessories = garments.accessory_cones(mannequin, front)
    bare = [*body.head(figure, skeleton), body.neck(mannequin)]
    covered = _arm_cover(figure)
    for limb, side, arm in ((skeleton.left_arm, 1.0, stance.left_arm), (skeleton.right_arm, -1.0, stance.right_arm)):
        thumb = skeleton.chest @ body.thumb_way(limb, side, arm.pose)
        bare += body.bare_arm(look.body, limb, covered, thumb, body.shoulder_joint(limb, torso, side))
    cropped = outfit.dress is None and outfit.top.length < outfit.bottom.rise + 0.06
    bare += body.bare_torso(torso, 0.98 if cropped else 0.45)
    leg_cover = _leg_cover(figure)
    if leg_cover < 2.0 and outfit.legwear is None:
        for limb in (skeleton.left_leg, skeleton.right_leg):
            bare += body.leg_cones(look.body, limb, leg_cover, body.SKIN)
    elif leg_cover < 2.0:
        clothes += garments.legwear_cones(figure, skeleton, leg_cover)
    return [*accessories, *clothes, *body.hair(mannequin), *bare, *garments.shoe_cones(skeleton)]


def _check(size: tuple[int, int], supersample: int) -> tuple[int, int]:
    try:
        height, width = (int(value) for value in size)
    except (TypeError, ValueError):
        raise ShapeError(f"expected two whole numbers (height, width), got {size!r}", argument="size") from None
    if height < 8 or width < 8:
        raise ShapeError(f"expected at least 8 x 8 pixels, got {height} x {width}", argument="size")
    if int(supersample) < 1:
        raise ShapeError(f"expected at least 1, got {supersample!r}", argument="supersample")
    return height, width


def _reduce_labels(labels: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Most frequent class of every ``factor`` x ``factor`` cell."""
    if factor == 1:
        return labels
    if factor == 2:
        a, b, c, d = labels[::2, ::2], labels[::2, 1::2], labels[1::2, ::2], labels[1::2, 1::2]
        second = np.where((b == c) | (b == d), b, np.where(c == d, c, a))
        return np.where((a == b) | (a == c) | (a == d), a, second)
    rows, columns = labels.shape[0] // factor, labels.shape[1] // factor
    cells = labels.reshape(rows, factor, columns, factor)
    counts = np.stack([(cells == number).sum(axis=(1, 3)) for number in range(LABEL_COUNT)])
    return np.asarray(counts.argmax(axis=0), dtype=np.uint8)


def _reduce_picture(picture: NDArray[np.float32], factor: int) -> NDArray[np.uint8]:
    total = picture[:, ::factor, ::factor].copy()
    for row in range(factor):
        for column in range(factor):
            if row or column:
                total += picture[:, row::factor, column::factor]
    total *= np.float32(255.0 / factor**2)
    total += np.float32(0.5)
    return np.ascontiguousarray(total.astype(np.uint8).transpose(1, 2, 0))


def _keypoints(
    figure: Figure, skeleton: Skeleton, camera: Camera, canvas: Canvas, size: tuple[int, int], factor: int
) -> NDArray[np.float32]:
    points = joint_points(figure, skeleton)
    result = np.zeros((17, 3), dtype=np.float32)
    for number, point in enumerate(points):
        x, y = camera.project(point)
        result[number, :2] = x + 0.5, y + 0.5  # the middle of the first pixel is (0.5, 0.5), as in `Pose`
        if not (-0.5 <= x < size[1] - 0.5 and -0.5 <= y < size[0] - 0.5):
            continue
        column = min(int((x + 0.5) * factor), canvas.width - 1)
        row = min(int((y + 0.5) * factor), canvas.height - 1)
        surface = float(canvas.z[row * canvas.width + column])
        result[number, 2] = HIDDEN_SCORE if surface > float(point[2]) + _TOLERANCE[number] else 1.0
    return result


@np.errstate(under="ignore")  # what is far away counts for nothing, also where the caller raises such things
def render(figure: Figure, size: tuple[int, int] = (128, 96), *, supersample: int = 2) -> Rendering:
    """Draws a figure.

    Args:
        figure: What to draw.
        size: Height and width of the picture in pixels. The person is framed from head to knee in portrait formats of
            4:3 and wider, further down in narrower ones.
        supersample: Samples per pixel along each axis.

    Returns:
        Picture, labels and keypoints. The same arguments give the same bits.

    Raises:
        ShapeError: The size or the supersampling cannot be used.
    """
    height, width = _check(size, supersample)
    factor = int(supersample)
    mannequin = body.stand(figure)
    skeleton, torso = mannequin.skeleton, mannequin.torso
    camera = frame_figure(figure, skeleton, height, width)
    shift = 0.5 * factor - 0.5
    canvas = Canvas(
        height * factor,
        width * factor,
        camera.scale * factor,
        camera.offset_x * factor + shift,
        camera.offset_y * factor + shift,
    )
    for cone in build_cones(mannequin):
        canvas.draw(cone)
    picture = shade(figure, canvas, torso, factor)
    labels = _reduce_labels(canvas.label.reshape(canvas.height, canvas.width), factor)
    keypoints = _keypoints(figure, skeleton, camera, canvas, (height, width), factor)
    return Rendering(_reduce_picture(picture, factor), labels, keypoints)
