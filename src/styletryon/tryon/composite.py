"""Putting a try-on into the photograph: what the garment changes, and nothing else.

Two layers cover the old garment and the new one: the drawn person, in the photograph's light, and the background that
the old garment hid, continued from the photograph around it. The drawn background is never shown.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from styletryon.drawing import Drawing
from styletryon.images import Frame, Source, crop, crop_labels, from_unit, matte, paste_back, to_pil, to_unit
from styletryon.labels import IDENTITY, Label
from styletryon.losses.base import replaced_classes
from styletryon.tryon.cloth import WORK_PIXELS, LaidCloth, Plane

_EDGE = 2.5
"""How much steeper an enlarged edge is made: drawn edges are as soft as a pixel of the drawing is large."""

_NEAR = 0.06
"""How far colours in [0, 1] may lie apart that count as one."""

_FADE = 6.0
"""Over how many pixels of the drawing a change fades that the frame cuts off."""

_LEAST_KNOWN = 50
"""Pixels from which colours are estimated; from fewer, nothing is."""

_TONE = 4.0
"""Over how many pixels of the drawing cloth takes the drawing's light; what is finer is the garment's photograph's."""

_LEGS = (Label.SKIN, Label.LEGWEAR)

_BESIDE, _BESIDE_LEG = 12.0, 4.0
"""Up to how far beside the new garment the old one, and the leg, is taken away below the drawing, in its pixels."""

_BAND = 2.0
"""How far an outline in the garment's photograph may lie from the drawn one, in pixels of the drawing."""

_GAIN = (0.75, 1.35)
"""Bounds of the light's correction: what needs more differs in more than its light."""

_RIDGE = 0.02
"""How strongly the light's correction is held at none, as a variance of colours in [0, 1]."""


@dataclass(frozen=True, eq=False)
class Change:
    """What a try-on changes of one picture, at the drawing's size.

    Attributes:
        before: The person as drawn, batch 1.
        after: The try-on as drawn, batch 1.
        region: The label classes of the new garment.
        support: `(H, W)` float in [0, 1]: nothing changes where it is 0, as in `change_mask`.
    """

    before: Drawing
    after: Drawing
    region: frozenset[Label]
    support: Tensor


def compose(person: Source, change: Change, cloth: LaidCloth | None = None) -> tuple[Image.Image, Tensor]:
    """Show a try-on in the photograph of the person.

    Args:
        person: The photograph, and the part of it that was drawn.
        change: What to show there.
        cloth: The garment's photograph, for what is finer than the drawing, and for what goes on below it.

    Returns:
        A picture of the photograph's size, equal to it bit for bit outside the change; and `(H, W)` float32 in [0, 1]
        of the drawing's size: how much of each of its pixels was changed.
    """
    size = tuple(change.support.shape)
    goes_on = person.labels is not None and _reaches_down(change)
    below = cloth.frame if cloth is not None and goes_on else person.frame
    work = _work_frame(person.frame, change.support, below)
    if work is None:
        return person.photo.copy(), torch.zeros(size)
    picture, _ = crop(person.photo, work)
    layers = _Layers(to_unit(picture).permute(1, 2, 0).numpy().astype(np.float32), work, person, change, cloth)
    if below is not person.frame:
        layers.go_on_below()
    alpha, colours = layers.alpha(), layers.colours()
    drawn = from_unit(torch.from_numpy(np.ascontiguousarray(colours.transpose(2, 0, 1))))
    image = paste_back(person.photo, drawn, torch.from_numpy(alpha), work, feather=0)
    return image, _reduced(alpha, work, person.frame)


def _reaches_down(change: Change) -> bool:
    """Say whether the new garment is drawn down to the lower edge."""
    return bool((_chance(change.after, change.region)[-2:] > 0.5).any())


def _work_frame(frame: Frame, support: Tensor, below: Frame) -> Frame | None:
    """Find the part of the photograph that the layers cover, on whole pixels.

    That is the change, what surrounds it, and what `below` has below the frame.
    """
    rows, columns = (torch.nonzero(support.amax(dim=axis) > 0).flatten().tolist() for axis in (1, 0))
    if not rows:
        return None
    down, across = frame.scale
    around = support.shape[0] // 8
    left, top = frame.box[:2]
    height, width = frame.photo_size
    x0 = max(0, int(np.floor(left + max(0, columns[0] - around) / across)))
    y0 = max(0, int(np.floor(top + max(0, rows[0] - around) / down)))
    x1 = min(width, int(np.ceil(left + min(support.shape[1], columns[-1] + 1 + around) / across)))
    last = below.size[0] if below.size != frame.size else min(support.shape[0], rows[-1] + 1 + around)
    y1 = min(height, int(np.ceil(top + last / down)))
    if x1 - x0 < 2 or y1 - y0 < 2:
        return None
    factor = min(1.0, (WORK_PIXELS / ((x1 - x0) * (y1 - y0))) ** 0.5)
    size = max(2, round(factor * (y1 - y0))), max(2, round(factor * (x1 - x0)))
    return Frame((float(x0), float(y0), float(x1), float(y1)), frame.photo_size, size)


class _Layers:
    """The layers of one try-on over a part of the photograph."""

    def __init__(
        self, photo: NDArray[np.float32], work: Frame, person: Source, change: Change, cloth: LaidCloth | None
    ) -> None:
        self.photo = photo  # (h, w, 3) in [0, 1]
        self.work, self.person, self.change = work, person, change
        frame = person.frame
        self.enlarge = _enlarger(work, frame)
        self.unit = max(1.0, work.scale[0] / frame.scale[0])  # a drawing's pixel in pixels of the layers
        self.support = self.enlarge(change.support, "bilinear")
        # Interpolation spreads the support by half a pixel of the drawing.
        self.support = self.support * (self.enlarge((change.support > 0).float(), "nearest") > 0)
        self.fade = _faded(work, frame)
        worn = replaced_classes(change.region)
        self.old = self._matte(_chance(change.before, worn))
        self.new = self._edge(_chance(change.after, change.region))
        self.found = None if cloth is None else self._found(cloth)
        self.vacant = self._edge(_chance(change.after, {Label.BACKGROUND}))
        self.open = self._edge(_chance(change.before, {Label.BACKGROUND}))
        self.own = self._edge(_chance(self.change.before, IDENTITY))
        self.kept = self._kept()

    @cached_property
    def backdrop(self) -> NDArray[np.float32] | None:
        """The background behind the person, `(h, w, 3)`; None where none is needed or known."""
        return self._backdrop() if bool((self.vacant * self.support > 0).any()) else None

    def go_on_below(self) -> None:
        """Let a garment that the drawing's lower edge cuts go on, as the two photographs show it.

        Nothing is drawn there: the old garment is where the labels of the photograph see it, the new one where its own
        photograph says. Where the old one is longer, it stays: nobody knows what is under it.
        """
        frame, labels, found = self.person.frame, self.person.labels, self.found
        if labels is None or found is None:
            return
        below = ~self._inside()
        shown = crop_labels(labels, self.work)
        seen = ndimage.grey_closing(found[1], (2 * round(self.unit) + 1,) * 2)
        new = _steeper(seen) * (shown != Label.SHOES)
        worn = np.isin(shown, [int(label) for label in replaced_classes(self.change.region)])
        legs = np.isin(shown, [int(label) for label in _LEGS])
        gone = (worn & self._beside(new, _BESIDE)) | (legs & self._beside(new, _BESIDE_LEG))
        old = ndimage.gaussian_filter(gone.astype(np.float32), 0.2 * self.unit)
        for plane, value in (
            (self.new, new),
            (self.old, old),
            (self.support, np.ones_like(new)),
            (self.vacant, 1 - new),
            (self.open, (shown == Label.BACKGROUND).astype(np.float32)),
            (self.own, np.zeros_like(new)),
        ):
            plane[below] = value[below]
        self.fade = _faded(self.work, frame, bottom=False)

    def _kept(self) -> Plane:
        """Say where the labels of the photograph see face and hair, which lie before any garment."""
        if self.person.labels is None:
            return np.zeros_like(self.new)
        kept = np.isin(crop_labels(self.person.labels, self.work), [int(label) for label in IDENTITY])
        return np.asarray(ndimage.gaussian_filter(kept.astype(np.float32), 0.2 * self.unit), dtype=np.float32)

    def _beside(self, plane: Plane, reach: float) -> NDArray[np.bool_]:
        """Say which pixels lie beside what a plane shows, up to so many pixels of the drawing."""
        return np.asarray(ndimage.maximum_filter1d(plane, 2 * round(reach * self.unit) + 1, axis=1) > 0.5)

    def alpha(self) -> Plane:
        """Return how much of the layers to show."""
        # What is half the old garment is not the background yet: the cover reaches a little beyond it.
        reach = 2 * round(0.4 * self.unit) + 1
        cover = ndimage.maximum_filter(np.clip(2 * self.old, 0, 1), reach)
        cover = ndimage.gaussian_filter(cover, 0.3 * self.unit)
        alpha = np.maximum(cover, self.new) * (1 - self.own * (1 - self.new))
        if self.backdrop is not None:
            alpha = alpha * (1 - self.vacant * self._alike(self.backdrop))
        alpha = alpha * np.clip(2 * self.support, 0, 1) * self.fade * (1 - np.clip(2 * self.kept, 0, 1))
        return np.asarray(alpha, dtype=np.float32).clip(0, 1)

    def colours(self) -> NDArray[np.float32]:
        """Return what to show, `(h, w, 3)` in [0, 1]."""
        person = self._person()
        if self.backdrop is None:
            return person
        vacant = self.vacant[..., None]
        return np.asarray(vacant * self.backdrop + (1 - vacant) * person, dtype=np.float32)

    def _edge(self, chance: Tensor) -> Plane:
        """Enlarge a chance, `(H, W)`, to an edge as sharp as a photograph's."""
        # The blur keeps the pixels of the drawing from showing as steps.
        soft = functional.avg_pool2d(chance[None, None], 3, 1, 1, count_include_pad=False)[0, 0]
        return _steeper(self.enlarge((soft + chance) / 2, "bicubic"))

    def _matte(self, chance: Tensor) -> Plane:
        """Lay the edge of what was drawn along the photograph's own edges."""
        drawn = self._edge(chance)
        near = self.enlarge(functional.max_pool2d(chance[None, None], 5, 1, 2)[0, 0], "bilinear")
        picture = to_pil(from_unit(torch.from_numpy(self.photo.transpose(2, 0, 1))))
        along = matte(picture, drawn > 0.5, band=max(1, round(2.5 * self.unit)))
        along = _steeper(along) * (near > 0.5)
        grain = (max(1, round(0.8 * self.unit)),) * 2  # Specks and holes of a texture, which no garment has.
        along = ndimage.grey_closing(ndimage.grey_opening(along, grain), grain)
        return np.asarray(np.maximum(drawn, along), dtype=np.float32)

    def _found(self, cloth: LaidCloth) -> tuple[NDArray[np.float32], Plane]:
        """Look the new garment up in its photograph: its colours `(h, w, 3)`, and where they are known.

        The outline of what is drawn then follows that of the garment, where the two are close.
        """
        enlarge = _enlarger(self.work, cloth.frame)
        x, y = (enlarge(plane, "bicubic") for plane in cloth.places)
        colours, seen = cloth.look_up(x, y)
        reach = 2 * round(_BAND * self.unit) + 1
        least, most = ndimage.minimum_filter(self.new, reach), ndimage.maximum_filter(self.new, reach)
        self.new = np.clip(_steeper(seen), least, most)
        return colours, seen

    def _person(self) -> NDArray[np.float32]:
        """Draw the person, and the garment as its photograph shows it, as far as it does."""
        drawn = self._drawn()
        if self.found is None:
            return drawn
        colours, seen = self.found
        known = seen > 0.9
        if int(known.sum()) < _LEAST_KNOWN:
            return drawn
        filled = _diffused(colours, known)
        filled = np.where(known[..., None], colours, filled)
        sure = ndimage.gaussian_filter(known.astype(np.float32), 0.3 * self.unit)
        drawn_in = self.new * self._inside()[:, None]
        tone = _blurred(drawn, drawn_in, _TONE * self.unit) - _blurred(filled, drawn_in, _TONE * self.unit)
        tone = tone.mean(axis=-1, keepdims=True)  # light, not colour: cloth keeps its own
        near = np.exp(-ndimage.distance_transform_edt(~known) / (4 * self.unit))
        share = (np.maximum(sure, near) * self.new)[..., None]
        return np.asarray(share * (filled + tone) + (1 - share) * drawn, dtype=np.float32).clip(0, 1)

    def _inside(self) -> NDArray[np.bool_]:
        """Say which rows were drawn, `(h,)`."""
        rows = (np.arange(self.new.shape[0]) + 0.5) / self.work.scale[0] + self.work.box[1]
        return np.asarray(rows <= self.person.frame.box[3])

    def _drawn(self) -> NDArray[np.float32]:
        """Draw the person in the photograph's light, without the drawn background that edges are mixed with."""
        change = self.change
        sure = (1 - _chance(change.after, {Label.BACKGROUND}) > 0.9).float()[None, None]
        drawn = to_unit(change.after.image.detach().float().cpu())
        colours, known = drawn * sure, sure
        for _ in range(4):  # A ring of pixels each: what is not sure takes its neighbours' colour.
            around, count = (functional.avg_pool2d(plane, 3, 1, 1) for plane in (colours, known))
            fresh = (known == 0) & (count > 0)
            colours = torch.where(fresh, around / count.clamp_min(1e-6), colours)
            known = torch.where(fresh, torch.ones_like(known), known)
        colours = torch.where(known > 0, colours, drawn)[0]
        enlarged = np.stack([self.enlarge(plane, "bicubic") for plane in colours], axis=-1)
        gain, offset = self._light()
        return np.asarray(enlarged * gain + offset, dtype=np.float32).clip(0, 1)

    def _light(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Compare photograph and drawing where they should agree: gain and offset per colour channel."""
        before = to_unit(self.change.before.image[0].detach().float().cpu())
        drawn = np.stack([self.enlarge(plane, "bilinear") for plane in before], axis=-1)
        person = (self.open < 0.05) & (self.old < 0.05) & (self.new < 0.05)
        apart = np.abs(drawn - self.photo).max(axis=-1)
        same = person & (apart < 0.25)  # elsewhere the drawing shows something else, whatever the light
        if int(same.sum()) < _LEAST_KNOWN * self.unit**2:
            return np.ones(3), np.zeros(3)
        x, y = drawn[same].astype(np.float64), self.photo[same].astype(np.float64)
        # A gain about black with a ridge, for a drawn colour says more of the light than a difference of two does.
        gain = ((x * y).mean(axis=0) + _RIDGE) / ((x * x).mean(axis=0) + _RIDGE)
        return gain.clip(*_GAIN), np.zeros(3)

    def _alike(self, backdrop: NDArray[np.float32]) -> Plane:
        """Say where the photograph shows the background already, though the drawing shows the old garment there."""
        apart = ndimage.gaussian_filter(np.abs(self.photo - backdrop).max(axis=-1), 0.7 * self.unit)
        alike = (2 - apart / _NEAR).clip(0, 1)
        garment, around = (self.old > 0.9) & (self.new > 0.9), (self.open > 0.95) & (self.old < 0.05)
        if min(int(garment.sum()), int(around.sum())) >= _LEAST_KNOWN * self.unit**2:
            theirs, ours = _frequencies(self.photo, around), _frequencies(self.photo, garment)
            odds = ndimage.gaussian_filter(theirs / (theirs + ours), self.unit)
            alike = np.maximum(alike, ((odds - 0.5) * 4 + 0.5).clip(0, 1))
        # The blur carries it across the old garment's outline, which would stay as a thin line.
        alike = ndimage.minimum_filter(alike, 2 * round(1.2 * self.unit) + 1)
        return np.asarray(ndimage.gaussian_filter(alike, 0.4 * self.unit), dtype=np.float32)

    def _backdrop(self) -> NDArray[np.float32] | None:
        """Continue the photograph's background behind the person; None where there is too little of it."""
        person = (self.open < 0.95) | (self.old > 0.02)
        known = ~ndimage.binary_dilation(person, iterations=max(1, round(self.unit)))
        if int(known.sum()) < _LEAST_KNOWN * self.unit:
            return None
        smooth = _diffused(self.photo, known)
        # The fine grain is that of the background's mirror image at its border.
        detail = self.photo - _diffused(self.photo, known, keep=False)
        away, nearest = ndimage.distance_transform_edt(~known, return_indices=True)
        rows, columns = np.indices(known.shape)
        down = (2 * nearest[0] - rows).clip(0, known.shape[0] - 1)
        across = (2 * nearest[1] - columns).clip(0, known.shape[1] - 1)
        seen = known[down, across]
        down, across = np.where(seen, down, nearest[0]), np.where(seen, across, nearest[1])
        # Far from the border it would be a pattern that nothing around explains.
        strength = np.exp(-away / (2 * self.unit))[..., None]
        filled = smooth + strength * detail[down, across]
        return np.where(known[..., None], self.photo, filled).astype(np.float32).clip(0, 1)


def _steeper(edge: Plane) -> Plane:
    """Make an edge as sharp as a photograph's."""
    return np.asarray((edge - 0.5) * _EDGE + 0.5, dtype=np.float32).clip(0, 1)


def _chance(drawing: Drawing, classes: Collection[int]) -> Tensor:
    """The probability of some classes, `(H, W)` on the CPU."""
    known = sorted(int(label) for label in classes if int(label) < drawing.logits.shape[1])
    return drawing.probabilities[0, known].sum(dim=0).detach().cpu()


def _enlarger(work: Frame, frame: Frame) -> Callable[[Tensor, str], Plane]:
    """Return what takes a plane `(H, W)` of the drawing to the layers' size."""
    height, width = work.size
    down, across = frame.scale
    x = work.box[0] + (torch.arange(width, dtype=torch.float64) + 0.5) / work.scale[1]
    y = work.box[1] + (torch.arange(height, dtype=torch.float64) + 0.5) / work.scale[0]
    u = (x - frame.box[0]) * across * 2 / frame.size[1] - 1
    v = (y - frame.box[1]) * down * 2 / frame.size[0] - 1
    grid = torch.stack([u.expand(height, width), v[:, None].expand(height, width)], dim=-1).float()[None]

    def enlarge(plane: Tensor, mode: str) -> Plane:
        source = plane.detach().float().cpu()[None, None]
        found = functional.grid_sample(source, grid, mode=mode, padding_mode="border", align_corners=False)
        return np.asarray(found[0, 0].numpy(), dtype=np.float32)

    return enlarge


def _faded(work: Frame, frame: Frame, *, bottom: bool = True) -> Plane:
    """Fade towards the edges of the frame beyond which the photograph goes on, `(h, w)` in [0, 1].

    Args:
        work: The part of the photograph that the layers cover.
        frame: The part that was drawn.
        bottom: Whether to fade towards the lower edge too.
    """
    sides = []
    for axis, length in ((1, work.size[0]), (0, work.size[1])):
        scale = frame.scale[1 - axis]
        place = work.box[axis] + (np.arange(length) + 0.5) * (work.box[axis + 2] - work.box[axis]) / length
        side = np.ones(length)
        half = 0.5  # A frame that ends within half a pixel of the photograph's edge ends there.
        if frame.box[axis] > half:
            side = np.minimum(side, (place - frame.box[axis]) * scale / _FADE)
        if frame.box[axis + 2] < frame.photo_size[1 - axis] - half and (axis == 0 or bottom):
            side = np.minimum(side, (frame.box[axis + 2] - place) * scale / _FADE)
        sides.append(side.clip(0, 1))
    return np.asarray(np.outer(*sides), dtype=np.float32)


def _frequencies(picture: NDArray[np.float32], chosen: NDArray[np.bool_], bins: int = 16) -> NDArray[np.float64]:
    """Say how frequent the colour of each pixel of `(h, w, 3)` is among the chosen ones, `(h, w)`, above 0."""
    cells = np.ravel_multi_index(tuple((picture * bins).astype(int).clip(0, bins - 1).transpose(2, 0, 1)), (bins,) * 3)
    counts = np.bincount(cells[chosen], minlength=bins**3).reshape((bins,) * 3)
    smooth = ndimage.gaussian_filter(counts / max(1, int(chosen.sum())), 1.0)
    return np.asarray(smooth.ravel()[cells] + 1e-6)


def _diffused(picture: NDArray[np.float32], known: NDArray[np.bool_], *, keep: bool = True) -> NDArray[np.float32]:
    """Spread the colours of the known pixels over all: a pyramid of means, coarse where nothing is near.

    Args:
        picture: `(h, w, 3)`.
        known: `(h, w)`.
        keep: Whether known pixels keep their colour; otherwise they get the mean around them.
    """
    colours = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None].float()
    weight = torch.from_numpy(known)[None, None].float()
    levels = [(colours * weight, weight)]
    while min(levels[-1][1].shape[2:]) > 1:
        sums, share = (functional.avg_pool2d(p, 2, ceil_mode=True, count_include_pad=False) for p in levels[-1])
        levels.append((sums, share))
    found = levels[-1][0] / levels[-1][1].clamp_min(1e-6)
    for number, (sums, share) in reversed(list(enumerate(levels[:-1]))):
        coarse = functional.interpolate(found, share.shape[2:], mode="bilinear", align_corners=False)
        # Of a cell that is known in part, its own mean counts by that part.
        own = sums / share.clamp_min(1e-6)
        trust = share.clamp(0, 1) if keep or number >= 3 else torch.zeros_like(share)
        found = trust * own + (1 - trust) * coarse
    return np.asarray(found[0].permute(1, 2, 0).numpy(), dtype=np.float32)


def _blurred(picture: NDArray[np.float32], weight: Plane, sigma: float) -> NDArray[np.float32]:
    """Blur a picture `(h, w, 3)` within a weight `(h, w)`, at a size that makes it fast."""
    step = max(1, int(sigma / 4))
    height, width = weight.shape
    shares = functional.avg_pool2d(torch.from_numpy(np.asarray(weight))[None, None].float(), step, ceil_mode=True)
    planes = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1) * weight))[:, None].float()
    small = functional.avg_pool2d(planes, step, ceil_mode=True)[:, 0].numpy()
    share = ndimage.gaussian_filter(shares[0, 0].numpy(), sigma / step)
    blurred = np.stack([ndimage.gaussian_filter(plane, sigma / step) for plane in small]) / np.maximum(share, 1e-4)
    found = functional.interpolate(torch.from_numpy(blurred)[None], (height, width), mode="bilinear")
    return np.asarray(found[0].permute(1, 2, 0).numpy(), dtype=np.float32)


def _reduced(alpha: Plane, work: Frame, frame: Frame) -> Tensor:
    """Say how much of each pixel of the drawing a mask over the layers covers, `(H, W)`; above 0 wherever it is."""
    height, width = frame.size
    left, top, right, bottom = frame.box
    shares = []
    for start, stop, count, first, last, length in (
        (top, bottom, height, work.box[1], work.box[3], work.size[0]),
        (left, right, width, work.box[0], work.box[2], work.size[1]),
    ):
        edges, cells = np.linspace(start, stop, count + 1), np.linspace(first, last, length + 1)
        low = np.maximum(edges[:-1, None], cells[None, :-1])
        high = np.minimum(edges[1:, None], cells[None, 1:])
        shares.append((high - low).clip(0) / (edges[1] - edges[0]))
    covered = shares[0] @ alpha.astype(np.float64) @ shares[1].T
    return torch.from_numpy(covered.clip(0, 1).astype(np.float32))
