"""The layout of a try-on in the photograph: where the old garment is, where the new one, the background, face and hair.

The generator's drawing says what lies where, at its own size; the photograph's edges and labels say it to the pixel. A
`PersonLayout` is about the person as photographed and serves every try-on of them; a `Layout` adds one try-on. Nothing
here has a colour that is shown: see `sources`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from styletryon.compositing.drawn.planes import LEAST_KNOWN, WORK_PIXELS, Plane, chance_of, frequencies, steeper
from styletryon.generator import GeneratorOutput
from styletryon.labels import IDENTITY, Label, replaced_classes
from styletryon.photo import Frame, Photograph, crop, crop_labels, matte, to_pil, to_unit

_FADE = 6.0
"""Over how many pixels of the drawing a change fades that the frame cuts off."""

_RIM = 2.0
"""How many pixels of the drawing the labels of face and hair may reach into the old garment."""

_CLOTH_ODDS = 8.0
"""How much more frequent a colour must be in the old garment than in face and hair, to be taken for cloth."""


def work_frame(frame: Frame, support: Tensor) -> Frame | None:
    """Find the part of the photograph that a try-on may change, on whole pixels; None where it is none of it.

    That is the change and what surrounds it. It grows in steps, so that try-ons that differ a little cover the same
    part.
    """
    rows, columns = (torch.nonzero(support.amax(dim=axis) > 0).flatten().tolist() for axis in (1, 0))
    down, across = frame.scale
    left, top = frame.box[:2]
    height, width = frame.photo_size
    step = max(1, support.shape[0] // 16)
    (first, last), (start, stop) = (_around(seen, step) for seen in (rows, columns))
    x0 = max(0, int(np.floor(left + max(0, start) / across)))
    y0 = max(0, int(np.floor(top + max(0, first) / down)))
    x1 = min(width, int(np.ceil(left + min(support.shape[1], stop) / across)))
    y1 = min(height, int(np.ceil(top + min(support.shape[0], last) / down)))
    if x1 - x0 < 2 or y1 - y0 < 2:
        return None
    factor = min(1.0, (WORK_PIXELS / ((x1 - x0) * (y1 - y0))) ** 0.5)
    size = max(2, round(factor * (y1 - y0))), max(2, round(factor * (x1 - x0)))
    return Frame((float(x0), float(y0), float(x1), float(y1)), frame.photo_size, size)


def _around(seen: list[int], step: int) -> tuple[int, int]:
    """Say from where to where the surroundings of some rows or columns reach: two steps and more, in whole steps."""
    return (seen[0] // step - 2) * step, (-(-(seen[-1] + 1) // step) + 2) * step


class Grid:
    """Takes planes of a drawing to the pixels of a part of the photograph.

    Args:
        work: The part of the photograph.
        frame: The part that was drawn.
    """

    def __init__(self, work: Frame, frame: Frame) -> None:
        height, width = work.size
        down, across = frame.scale
        x = work.box[0] + (torch.arange(width, dtype=torch.float64, device="cpu") + 0.5) / work.scale[1]
        y = work.box[1] + (torch.arange(height, dtype=torch.float64, device="cpu") + 0.5) / work.scale[0]
        u = (x - frame.box[0]) * across * 2 / frame.size[1] - 1
        v = (y - frame.box[1]) * down * 2 / frame.size[0] - 1
        self.places = torch.stack([u.expand(height, width), v[:, None].expand(height, width)], dim=-1).float()[None]
        self.unit = max(1.0, work.scale[0] / frame.scale[0])
        """A pixel of the drawing in pixels of `work`."""

    def enlarge_all(self, planes: Tensor, mode: str) -> NDArray[np.float32]:
        """Enlarge `(C, H, W)` to `(h, w, C)`."""
        source = planes.detach().float().cpu()[None]
        found = functional.grid_sample(source, self.places, mode=mode, padding_mode="border", align_corners=False)
        return np.ascontiguousarray(found[0].permute(1, 2, 0).numpy())

    def enlarge(self, plane: Tensor, mode: str) -> Plane:
        """Enlarge `(H, W)` to `(h, w)`."""
        return self.enlarge_all(plane[None], mode)[..., 0]

    def edge(self, chance: Tensor) -> Plane:
        """Enlarge a chance, `(H, W)`, to an edge as sharp as a photograph's."""
        # The blur keeps the pixels of the drawing from showing as steps.
        soft = functional.avg_pool2d(chance[None, None], 3, 1, 1, count_include_pad=False)[0, 0]
        return steeper(self.enlarge((soft + chance) / 2, "bicubic"))


@dataclass(frozen=True, eq=False)
class PersonLayout:
    """What lies where in a part of a person's photograph, before anything is tried on; planes are `(h, w)` in [0, 1].

    Attributes:
        person: The photograph, and the part of it that was drawn.
        before: The person as drawn.
        region: The label classes of the new garment.
        work: The part of the photograph that is looked at.
        photo: That part, `(h, w, 3)` in [0, 1].
        old: Where the old garment is.
        background: Where the background is.
        identity: Where face and hair were drawn.
        kept: Where the photograph's labels see face and hair, which lie before any garment.
        fade: 0 at the edges of the drawing beyond which the photograph goes on.
        grid: How drawings are enlarged.
    """

    person: Photograph
    before: GeneratorOutput
    region: frozenset[Label]
    work: Frame
    photo: NDArray[np.float32]
    old: Plane
    background: Plane
    identity: Plane
    kept: Plane
    fade: Plane
    grid: Grid

    @classmethod
    def of(cls, person: Photograph, before: GeneratorOutput, region: frozenset[Label], work: Frame) -> PersonLayout:
        """Look at a part of the photograph."""
        picture, _ = crop(person.picture, work)
        grid = Grid(work, person.frame)
        photo = to_unit(picture).permute(1, 2, 0).numpy().astype(np.float32)
        old = _matte(chance_of(before, replaced_classes(region)), picture, grid)
        return cls(
            person=person,
            before=before,
            region=region,
            work=work,
            photo=photo,
            old=old,
            background=grid.edge(chance_of(before, {Label.BACKGROUND})),
            identity=grid.edge(chance_of(before, IDENTITY)),
            kept=_kept(person, work, photo, old, grid.unit),
            fade=_faded(work, person.frame),
            grid=grid,
        )

    @cached_property
    def cover(self) -> Plane:
        """What must be covered for the old garment to be gone."""
        # What is half the old garment is not the background yet: the cover reaches a little beyond it.
        wide = ndimage.maximum_filter(np.clip(2 * self.old, 0, 1), 2 * round(0.4 * self.grid.unit) + 1)
        return np.asarray(ndimage.gaussian_filter(wide, 0.3 * self.grid.unit))


@dataclass(frozen=True, eq=False)
class Layout:
    """What lies where in one try-on; planes are `(h, w)` in [0, 1].

    Attributes:
        person: What lay where before.
        new: Where the new garment is.
        vacant: Where the background is.
        support: Where anything may change.
    """

    person: PersonLayout
    new: Plane
    vacant: Plane
    support: Plane

    @classmethod
    def of(cls, person: PersonLayout, after: GeneratorOutput, support: Tensor) -> Layout:
        """Lay out what was drawn, batch 1; `support` is `(H, W)` of the drawing's size."""
        grid = person.grid
        # Interpolation spreads the support by half a pixel of the drawing.
        inside = grid.enlarge((support > 0).float(), "nearest") > 0
        return cls(
            person=person,
            new=grid.edge(chance_of(after, person.region)),
            vacant=grid.edge(chance_of(after, {Label.BACKGROUND})),
            support=grid.enlarge(support, "bilinear") * inside,
        )

    @property
    def unit(self) -> float:
        """A pixel of the drawing in pixels of the planes."""
        return self.person.grid.unit


def _matte(chance: Tensor, photo: Tensor, grid: Grid) -> Plane:
    """Lay the edge of what was drawn, `(H, W)`, along the photograph's own edges, `(3, h, w)` in [-1, 1]."""
    drawn = grid.edge(chance)
    near = grid.enlarge(functional.max_pool2d(chance[None, None], 5, 1, 2)[0, 0], "bilinear")
    along = matte(to_pil(photo), drawn > 0.5, band=max(1, round(2.5 * grid.unit)))
    along = steeper(along) * (near > 0.5)
    grain = (max(1, round(0.8 * grid.unit)),) * 2  # Specks and holes of a texture, which no garment has.
    along = ndimage.grey_closing(ndimage.grey_opening(along, grain), grain)
    return np.asarray(np.maximum(drawn, along), dtype=np.float32)


def _kept(person: Photograph, work: Frame, photo: NDArray[np.float32], old: Plane, unit: float) -> Plane:
    """Say where the labels of the photograph see face and hair, and are not mistaken; nowhere if there are none."""
    if person.labels is None:
        return np.zeros(work.size, dtype=np.float32)
    kept = np.isin(crop_labels(person.labels, work), [int(label) for label in IDENTITY])
    kept &= ~_mistaken(kept, (old > 0.9) & ~kept, photo, unit)
    return np.asarray(ndimage.gaussian_filter(kept.astype(np.float32), 0.2 * unit), dtype=np.float32)


def _mistaken(
    kept: NDArray[np.bool_], garment: NDArray[np.bool_], photo: NDArray[np.float32], unit: float
) -> NDArray[np.bool_]:
    """Say where, at the rim of what is labelled face and hair, the colours are those of the garment beside it."""
    reach = round(_RIM * unit)
    inner = ndimage.minimum_filter(kept, 2 * reach + 1)
    if min(int(kept.sum()), int(garment.sum())) < LEAST_KNOWN * unit**2:
        return np.zeros_like(kept)
    cloth = frequencies(photo, garment) > _CLOTH_ODDS * frequencies(photo, kept)
    cloth &= ndimage.maximum_filter(garment, 4 * reach + 1)
    # Single hairs are no cloth; and where it ends it is mixed with hair.
    cloth = ndimage.binary_opening(cloth, iterations=max(1, round(0.2 * unit)))
    cloth = ndimage.maximum_filter(cloth, 2 * max(1, round(0.4 * unit)) + 1)
    return np.asarray(cloth & ~inner)


def _faded(work: Frame, frame: Frame) -> Plane:
    """Fade towards the edges of the frame beyond which the photograph goes on, `(h, w)` in [0, 1].

    Args:
        work: The part of the photograph that is looked at.
        frame: The part that was drawn.
    """
    sides = []
    for axis, length in ((1, work.size[0]), (0, work.size[1])):
        scale = frame.scale[1 - axis]
        place = work.box[axis] + (np.arange(length) + 0.5) * (work.box[axis + 2] - work.box[axis]) / length
        side = np.ones(length)
        half = 0.5  # A frame that ends within half a pixel of the photograph's edge ends there.
        if frame.box[axis] > half:
            side = np.minimum(side, (place - frame.box[axis]) * scale / _FADE)
        if frame.box[axis + 2] < frame.photo_size[1 - axis] - half:
            side = np.minimum(side, (frame.box[axis + 2] - place) * scale / _FADE)
        sides.append(side.clip(0, 1))
    return np.asarray(np.outer(*sides), dtype=np.float32)


def covered_share(alpha: Plane, work: Frame, frame: Frame) -> Tensor:
    """Say how much of each pixel of the drawing a mask over `work` covers, `(H, W)`; above 0 wherever it is."""
    height, width = frame.size
    left, top, right, bottom = frame.box
    along = []
    for start, stop, count, first, last, length in (
        (top, bottom, height, work.box[1], work.box[3], work.size[0]),
        (left, right, width, work.box[0], work.box[2], work.size[1]),
    ):
        edges, cells = np.linspace(start, stop, count + 1), np.linspace(first, last, length + 1)
        low = np.maximum(edges[:-1, None], cells[None, :-1])
        high = np.minimum(edges[1:, None], cells[None, 1:])
        along.append((high - low).clip(0) / (edges[1] - edges[0]))
    covered = along[0].astype(np.float32) @ alpha @ along[1].T.astype(np.float32)
    return torch.from_numpy(covered.clip(0, 1))
