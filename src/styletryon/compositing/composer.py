"""Putting a try-on into the photograph: what the garment changes, and nothing else.

Two layers cover the old garment and the new one: the drawn person, in the photograph's light, and the background that
the old garment hid, continued from the photograph around it. The drawn background is never shown.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from styletryon.compositing.warping import WORK_PIXELS, Plane, WarpedGarment
from styletryon.generator import GeneratorOutput
from styletryon.labels import IDENTITY, Label, replaced_classes
from styletryon.photo import Frame, Photograph, crop, crop_labels, from_unit, matte, paste_back, to_pil, to_unit

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

_SURE = 0.9
"""From which chance on a drawn pixel shows nothing but what it is taken for."""

_RIM = 2.0
"""How many pixels of the drawing the labels of face and hair may reach into the old garment."""

_CLOTH_ODDS = 8.0
"""How much more frequent a colour must be in the old garment than in face and hair, to be taken for cloth."""

_BARE = (Label.FACE, Label.SKIN)
"""What shows skin."""

_LEAST_BARED = 12
"""From how many pixels of the drawing on skin is bared, and gets the person's own colours."""

_LIT = 0.8
"""Which share of the skin is darker than what counts as well lit."""

_STRANGE = 0.08
"""How far a colour may lie from that of skin in the same light, in [0, 1]."""

_CLOTH = 0.05
"""How far drawn skin may lie from the colour of most of it, in the same light, before it fades into cloth."""

_CONTRAST = 0.6
"""How much lighter or darker than the rest skin may be, as a share."""

_RIDGE = 0.02
"""How strongly the light's correction is held at none, as a variance of colours in [0, 1]."""


class Composer:
    """Shows try-ons of one person, one after another. What they have in common is computed once.

    Args:
        person: The photograph, and the part of it that was drawn.
        before: The person as drawn, batch 1.
        region: The label classes of the new garments.
        expected: `(H, W)` float in [0, 1] of the drawing's size: where changes are expected, so that the same part of
            the photograph is looked at for all of them. None: nothing is.
    """

    def __init__(
        self, person: Photograph, before: GeneratorOutput, region: frozenset[Label], expected: Tensor | None = None
    ) -> None:
        self.person, self.before, self.region, self.expected = person, before, region, expected
        self._wearer: _Wearer | None = None

    def compose(
        self, after: GeneratorOutput, support: Tensor, cloth: WarpedGarment | None = None
    ) -> tuple[Image.Image, Tensor]:
        """Show a try-on in the photograph.

        Args:
            after: The try-on as drawn, batch 1.
            support: `(H, W)` float in [0, 1] of the drawing's size: nothing changes where it is 0, as in `change_mask`.
            cloth: The garment's photograph, for what is finer than the drawing, and for what goes on below it.

        Returns:
            A picture of the photograph's size, equal to it bit for bit outside the change; and `(H, W)` float32 in
            [0, 1] of the drawing's size: how much of each of its pixels was changed.
        """
        person = self.person
        goes_on = person.labels is not None and self._reaches_down(after)
        below = cloth.frame if cloth is not None and goes_on else person.frame
        seen = support if self.expected is None else torch.maximum(support, self.expected)
        work = _work_frame(person.frame, seen, below) if bool((support > 0).any()) else None
        if work is None:
            return person.picture.copy(), torch.zeros_like(support)
        layers = _Layers(self._wearer_in(work), after, support, cloth)
        if below is not person.frame:
            layers.go_on_below()
        alpha, colours = layers.alpha(), layers.colours()
        drawn = from_unit(torch.from_numpy(np.ascontiguousarray(colours.transpose(2, 0, 1))))
        image = paste_back(person.picture, drawn, torch.from_numpy(alpha), work, feather=0)
        return image, _reduced(alpha, work, person.frame)

    def _reaches_down(self, after: GeneratorOutput) -> bool:
        """Say whether the new garment is drawn down to the lower edge."""
        return bool((_chance(after, self.region)[-2:] > 0.5).any())

    def _wearer_in(self, work: Frame) -> _Wearer:
        wearer = self._wearer
        if wearer is None or wearer.work != work:
            wearer = self._wearer = _Wearer.look_at(self.person, self.before, self.region, work)
        return wearer


def _work_frame(frame: Frame, support: Tensor, below: Frame) -> Frame | None:
    """Find the part of the photograph that the layers cover, on whole pixels; None where it is none of it.

    That is the change, what surrounds it, and what `below` has below the frame. It grows in steps, so that try-ons that
    differ a little cover the same part.
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
    end = below.size[0] if below.size != frame.size else min(support.shape[0], last)
    y1 = min(height, int(np.ceil(top + end / down)))
    if x1 - x0 < 2 or y1 - y0 < 2:
        return None
    factor = min(1.0, (WORK_PIXELS / ((x1 - x0) * (y1 - y0))) ** 0.5)
    size = max(2, round(factor * (y1 - y0))), max(2, round(factor * (x1 - x0)))
    return Frame((float(x0), float(y0), float(x1), float(y1)), frame.photo_size, size)


def _around(seen: list[int], step: int) -> tuple[int, int]:
    """Say from where to where the surroundings of some rows or columns reach: two steps and more, in whole steps."""
    return (seen[0] // step - 2) * step, (-(-(seen[-1] + 1) // step) + 2) * step


@dataclass(frozen=True, eq=False)
class _Wearer:
    """What the layers of any try-on need of the person, over a part of the photograph; planes are `(h, w)` in [0, 1].

    Attributes:
        source: The photograph, and the part of it that was drawn.
        before: The person as drawn.
        region: The label classes of the new garment.
        work: The part of the photograph that the layers cover.
        photo: That part, `(h, w, 3)` in [0, 1].
        old: Where the old garment is.
        open: Where the background is.
        own: Where face and hair were drawn.
        kept: Where the photograph's labels see face and hair, which lie before any garment.
        fade: 0 at the edges of the drawing beyond which the photograph goes on.
        grid: How drawings are enlarged.
    """

    source: Photograph
    before: GeneratorOutput
    region: frozenset[Label]
    work: Frame
    photo: NDArray[np.float32]
    old: Plane
    open: Plane
    own: Plane
    kept: Plane
    fade: Plane
    grid: _Grid

    @classmethod
    def look_at(cls, source: Photograph, before: GeneratorOutput, region: frozenset[Label], work: Frame) -> _Wearer:
        """Look at a part of the photograph."""
        picture, _ = crop(source.picture, work)
        grid = _Grid(work, source.frame)
        photo = to_unit(picture).permute(1, 2, 0).numpy().astype(np.float32)
        old = _matte(_chance(before, replaced_classes(region)), picture, grid)
        return cls(
            source=source,
            before=before,
            region=region,
            work=work,
            photo=photo,
            old=old,
            open=grid.edge(_chance(before, {Label.BACKGROUND})),
            own=grid.edge(_chance(before, IDENTITY)),
            kept=_kept(source, work, photo, old, grid.unit),
            fade=_faded(work, source.frame),
            grid=grid,
        )

    @cached_property
    def drawn(self) -> NDArray[np.float32]:
        """The person as drawn, enlarged, `(h, w, 3)` in [0, 1]."""
        return self.grid.enlarge_all(to_unit(self.before.image[0].detach().float().cpu()), "bilinear")

    @cached_property
    def cover(self) -> Plane:
        """What must be covered for the old garment to be gone."""
        # What is half the old garment is not the background yet: the cover reaches a little beyond it.
        wide = ndimage.maximum_filter(np.clip(2 * self.old, 0, 1), 2 * round(0.4 * self.grid.unit) + 1)
        return np.asarray(ndimage.gaussian_filter(wide, 0.3 * self.grid.unit))

    @cached_property
    def around(self) -> NDArray[np.float64] | None:
        """How frequent the colour of each pixel is in the background, `(h, w)`; None where too little of it is seen."""
        free = (self.open > 0.95) & (self.old < 0.05)
        return None if int(free.sum()) < _LEAST_KNOWN * self.grid.unit**2 else _frequencies(self.photo, free)

    @cached_property
    def skin(self) -> _Skin | None:
        """The person's skin as the photograph shows it; None where it shows too little."""
        photo = to_unit(self.source.crop)
        shown = _chance(self.before, _BARE) > _SURE
        if self.source.frame_labels is not None:
            shown = torch.from_numpy(np.isin(self.source.frame_labels, [int(label) for label in _BARE]))
        return _Skin.look_at(photo, shown)

    @cached_property
    def backdrop(self) -> NDArray[np.float32] | None:
        """The photograph's background, continued behind the person, `(h, w, 3)`; None where there is too little."""
        unit = self.grid.unit
        person = (self.open < 0.95) | (self.old > 0.02)
        known = ~ndimage.binary_dilation(person, iterations=max(1, round(unit)))
        if int(known.sum()) < _LEAST_KNOWN * unit:
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
        strength = np.exp(-away / (2 * unit))[..., None]
        filled = smooth + strength * detail[down, across]
        return np.where(known[..., None], self.photo, filled).astype(np.float32).clip(0, 1)

    def inside(self) -> NDArray[np.bool_]:
        """Say which rows were drawn, `(h,)`."""
        rows = (np.arange(self.work.size[0]) + 0.5) / self.work.scale[0] + self.work.box[1]
        return np.asarray(rows <= self.source.frame.box[3])


@dataclass(frozen=True, eq=False)
class _Skin:
    """How somebody's skin looks in a photograph, in light and in shade.

    Attributes:
        colour: `(3, 1, 1)`, what its colour would be without any light; it may lie outside [0, 1].
        slope: `(3, 1, 1)`, how much each channel grows with the light, the mean of the channels.
        least: The light in the shade.
        lit: That of well-lit skin.
        most: That of the lightest.
    """

    colour: Tensor
    slope: Tensor
    least: float
    lit: float
    most: float

    @classmethod
    def look_at(cls, photo: Tensor, shown: Tensor) -> _Skin | None:
        """Look at the skin in a photograph `(3, H, W)` where it is shown `(H, W)`; None if that is too little."""
        # Labels are never exact at their edges.
        inner = torch.from_numpy(ndimage.binary_erosion(shown.numpy()))
        colours = photo[:, inner if int(inner.sum()) >= _LEAST_KNOWN else shown]
        if colours.shape[1] < _LEAST_KNOWN:
            return None
        common = colours.median(dim=1, keepdim=True).values
        light = colours.mean(dim=0)
        usual = common.mean().clamp_min(1e-3)
        # Glasses, a beard, jewellery, and what is labelled as skin by mistake.
        strange = (colours - common * (light / usual)).abs().amax(dim=0) > _STRANGE
        strange |= (light / usual - 1).abs() > _CONTRAST
        colours, light = colours[:, ~strange], light[~strange]
        if colours.shape[1] < _LEAST_KNOWN:
            return None
        mean, middle = colours.mean(dim=1, keepdim=True), light.mean()
        spread, ridge = light - middle, _RIDGE**2
        slope = ((colours - mean) * spread).mean(dim=1, keepdim=True) + ridge * mean / middle
        slope = slope / (spread.square().mean() + ridge)
        least, lit, most = (float(light.quantile(share)) for share in (0.05, _LIT, 0.98))
        return cls((mean - slope * middle)[..., None], slope[..., None], least, lit, most)

    def shaded(self, light: Tensor) -> Tensor:
        """Colour skin `(H, W)` whose light is given, 1 for well-lit skin; `(3, H, W)` in [0, 1]."""
        light = (light * self.lit).clamp(self.least, self.most)
        return (self.colour + self.slope * light).clamp(0, 1)


class _Layers:
    """The layers of one try-on over a part of the photograph."""

    def __init__(self, wearer: _Wearer, after: GeneratorOutput, support: Tensor, cloth: WarpedGarment | None) -> None:
        self.wearer, self.after, self.grid = wearer, after, wearer.grid
        self.unit = self.grid.unit
        # Interpolation spreads the support by half a pixel of the drawing.
        inside = self.grid.enlarge((support > 0).float(), "nearest") > 0
        self.support = self.grid.enlarge(support, "bilinear") * inside
        self.new = self.grid.edge(_chance(after, wearer.region))
        self.found = None if cloth is None else self._found(cloth)
        self.vacant = self.grid.edge(_chance(after, {Label.BACKGROUND}))

    @cached_property
    def backdrop(self) -> NDArray[np.float32] | None:
        """The background behind the person, `(h, w, 3)`; None where none is needed or known."""
        return self.wearer.backdrop if bool((self.vacant * self.support > 0).any()) else None

    def go_on_below(self) -> None:
        """Let a garment that the drawing's lower edge cuts go on, as the two photographs show it.

        Nothing is drawn there: the old garment is where the labels of the photograph see it, the new one where its own
        photograph says. Where the old one is longer, it stays: nobody knows what is under it.
        """
        wearer, labels, found = self.wearer, self.wearer.source.labels, self.found
        if labels is None or found is None:
            return
        drawn = wearer.inside()[:, None]
        shown = crop_labels(labels, wearer.work)
        seen = ndimage.grey_closing(found[1], (2 * round(self.unit) + 1,) * 2)
        new = _steeper(seen) * (shown != Label.SHOES)
        worn = np.isin(shown, [int(label) for label in replaced_classes(wearer.region)])
        legs = np.isin(shown, [int(label) for label in _LEGS])
        gone = (worn & self._beside(new, _BESIDE)) | (legs & self._beside(new, _BESIDE_LEG))
        old = ndimage.gaussian_filter(gone.astype(np.float32), 0.2 * self.unit)
        self.new = np.where(drawn, self.new, new)
        self.support = np.where(drawn, self.support, 1)
        self.vacant = np.where(drawn, self.vacant, 1 - new)
        self.wearer = replace(
            wearer,
            old=np.where(drawn, wearer.old, old),
            open=np.where(drawn, wearer.open, (shown == Label.BACKGROUND).astype(np.float32)),
            own=np.where(drawn, wearer.own, 0),
            fade=_faded(wearer.work, wearer.source.frame, bottom=False),
        )

    def _beside(self, plane: Plane, reach: float) -> NDArray[np.bool_]:
        """Say which pixels lie beside what a plane shows, up to so many pixels of the drawing."""
        return np.asarray(ndimage.maximum_filter1d(plane, 2 * round(reach * self.unit) + 1, axis=1) > 0.5)

    def alpha(self) -> Plane:
        """Return how much of the layers to show."""
        wearer = self.wearer
        alpha = np.maximum(wearer.cover, self.new) * (1 - wearer.own * (1 - self.new))
        if self.backdrop is not None:
            alpha = alpha * (1 - self.vacant * self._alike(self.backdrop))
        alpha = alpha * np.clip(2 * self.support, 0, 1) * wearer.fade * (1 - np.clip(2 * wearer.kept, 0, 1))
        return np.asarray(alpha, dtype=np.float32).clip(0, 1)

    def colours(self) -> NDArray[np.float32]:
        """Return what to show, `(h, w, 3)` in [0, 1]."""
        person = self._person()
        if self.backdrop is None:
            return person
        vacant = self.vacant[..., None]
        return np.asarray(vacant * self.backdrop + (1 - vacant) * person, dtype=np.float32)

    def _found(self, cloth: WarpedGarment) -> tuple[NDArray[np.float32], Plane]:
        """Look the new garment up in its photograph: its colours `(h, w, 3)`, and where they are known.

        The outline of what is drawn then follows that of the garment, where the two are close.
        """
        grid = _Grid(self.wearer.work, cloth.frame)
        x, y = (grid.enlarge(plane, "bicubic") for plane in cloth.places)
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
        drawn_in = self.new * self.wearer.inside()[:, None]
        tone = _blurred(drawn, drawn_in, _TONE * self.unit) - _blurred(filled, drawn_in, _TONE * self.unit)
        tone = tone.mean(axis=-1, keepdims=True)  # light, not colour: cloth keeps its own
        near = np.exp(-ndimage.distance_transform_edt(~known) / (4 * self.unit))
        share = (np.maximum(sure, near) * self.new)[..., None]
        return np.asarray(share * (filled + tone) + (1 - share) * drawn, dtype=np.float32).clip(0, 1)

    def _drawn(self) -> NDArray[np.float32]:
        """Draw the person in the photograph's light, without the drawn background that edges are mixed with."""
        sure = (1 - _chance(self.after, {Label.BACKGROUND}) > _SURE)[None, None]
        colours = _spread(to_unit(self.after.image.detach().float().cpu()), sure)[0]
        gain = torch.from_numpy(self._light()).float()[:, None, None]
        enlarged = self.grid.enlarge_all(self._with_skin(colours * gain), "bicubic")
        return enlarged.clip(0, 1)

    def _with_skin(self, colours: Tensor) -> Tensor:
        """Give drawn skin, of `(3, H, W)`, the colours of the person's own, and leave it its light and shade."""
        chance = _chance(self.after, {Label.SKIN})
        bared = (chance > _SURE) & (_chance(self.wearer.before, {Label.SKIN}) < 0.5)
        own = self.wearer.skin if int(bared.sum()) >= _LEAST_BARED else None
        if own is None:
            return colours
        drawn = to_unit(self.after.image[0].detach().float().cpu())
        light = _spread(drawn.mean(dim=0)[None, None], (chance > _SURE)[None, None])[0, 0]
        skin = own.shaded(light / light[bared].quantile(_LIT).clamp_min(1e-3))
        share = (2 * chance).clamp(max=1)  # what is half of skin is drawn in a mixture of colours
        # What is drawn in another colour than most of the skin is cloth, whatever the drawing's labels say.
        usual = drawn[:, bared].median(dim=1).values[:, None, None]
        apart = (drawn - usual * (drawn.mean(dim=0) / usual.mean().clamp_min(1e-3))).abs().amax(dim=0)
        share = share * (2 - apart / _CLOTH).clamp(0, 1)
        return share * skin + (1 - share) * colours

    def _light(self) -> NDArray[np.float64]:
        """Compare photograph and drawing where they should agree: a gain per colour channel."""
        wearer, drawn = self.wearer, self.wearer.drawn
        person = (wearer.open < 0.05) & (wearer.old < 0.05) & (self.new < 0.05)
        apart = _apart(drawn, wearer.photo)
        same = person & (apart < 0.25)  # elsewhere the drawing shows something else, whatever the light
        if int(same.sum()) < _LEAST_KNOWN * self.unit**2:
            return np.ones(3)
        x, y = drawn[same].astype(np.float64), wearer.photo[same].astype(np.float64)
        # A gain about black with a ridge, for a drawn colour says more of the light than a difference of two does.
        gain = ((x * y).mean(axis=0) + _RIDGE) / ((x * x).mean(axis=0) + _RIDGE)
        return np.asarray(gain.clip(*_GAIN))

    def _alike(self, backdrop: NDArray[np.float32]) -> Plane:
        """Say where the photograph shows the background already, though the drawing shows the old garment there."""
        wearer = self.wearer
        apart = ndimage.gaussian_filter(_apart(wearer.photo, backdrop), 0.7 * self.unit)
        alike = (2 - apart / _NEAR).clip(0, 1)
        garment, theirs = (wearer.old > 0.9) & (self.new > 0.9), wearer.around
        if theirs is not None and int(garment.sum()) >= _LEAST_KNOWN * self.unit**2:
            ours = _frequencies(wearer.photo, garment)
            odds = ndimage.gaussian_filter(theirs / (theirs + ours), self.unit)
            alike = np.maximum(alike, ((odds - 0.5) * 4 + 0.5).clip(0, 1))
        # The blur carries it across the old garment's outline, which would stay as a thin line.
        alike = ndimage.minimum_filter(alike, 2 * round(1.2 * self.unit) + 1)
        return np.asarray(ndimage.gaussian_filter(alike, 0.4 * self.unit), dtype=np.float32)


def _spread(drawn: Tensor, sure: Tensor) -> Tensor:
    """Let what is not sure take its neighbours' colour, up to four pixels away; `(1, C, H, W)` and `(1, 1, H, W)`."""
    known = sure.float()
    colours = drawn * known
    for _ in range(4):  # a ring of pixels each
        around, count = (functional.avg_pool2d(plane, 3, 1, 1) for plane in (colours, known))
        fresh = (known == 0) & (count > 0)
        colours = torch.where(fresh, around / count.clamp_min(1e-6), colours)
        known = torch.where(fresh, torch.ones_like(known), known)
    return torch.where(known > 0, colours, drawn)


def _apart(one: NDArray[np.float32], other: NDArray[np.float32]) -> Plane:
    """Say how far the colours of two pictures `(h, w, 3)` lie apart, in the channel where they do most."""
    red, green, blue = np.abs(one - other).transpose(2, 0, 1)
    return np.asarray(np.maximum(np.maximum(red, green), blue))


def _steeper(edge: Plane) -> Plane:
    """Make an edge as sharp as a photograph's."""
    return np.asarray((edge - 0.5) * _EDGE + 0.5, dtype=np.float32).clip(0, 1)


def _chance(drawing: GeneratorOutput, classes: Collection[int]) -> Tensor:
    """The probability of some classes, `(H, W)` on the CPU."""
    known = sorted(int(label) for label in classes if int(label) < drawing.logits.shape[1])
    return drawing.probabilities[0, known].sum(dim=0).detach().cpu()


class _Grid:
    """Takes planes of a drawing to the size of the layers.

    Args:
        work: The part of the photograph that the layers cover.
        frame: The part that was drawn.
    """

    def __init__(self, work: Frame, frame: Frame) -> None:
        height, width = work.size
        down, across = frame.scale
        x = work.box[0] + (torch.arange(width, dtype=torch.float64) + 0.5) / work.scale[1]
        y = work.box[1] + (torch.arange(height, dtype=torch.float64) + 0.5) / work.scale[0]
        u = (x - frame.box[0]) * across * 2 / frame.size[1] - 1
        v = (y - frame.box[1]) * down * 2 / frame.size[0] - 1
        self.places = torch.stack([u.expand(height, width), v[:, None].expand(height, width)], dim=-1).float()[None]
        self.unit = max(1.0, work.scale[0] / frame.scale[0])
        """A pixel of the drawing in pixels of the layers."""

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
        return _steeper(self.enlarge((soft + chance) / 2, "bicubic"))


def _matte(chance: Tensor, photo: Tensor, grid: _Grid) -> Plane:
    """Lay the edge of what was drawn, `(H, W)`, along the photograph's own edges, `(3, h, w)` in [-1, 1]."""
    drawn = grid.edge(chance)
    near = grid.enlarge(functional.max_pool2d(chance[None, None], 5, 1, 2)[0, 0], "bilinear")
    along = matte(to_pil(photo), drawn > 0.5, band=max(1, round(2.5 * grid.unit)))
    along = _steeper(along) * (near > 0.5)
    grain = (max(1, round(0.8 * grid.unit)),) * 2  # Specks and holes of a texture, which no garment has.
    along = ndimage.grey_closing(ndimage.grey_opening(along, grain), grain)
    return np.asarray(np.maximum(drawn, along), dtype=np.float32)


def _kept(source: Photograph, work: Frame, photo: NDArray[np.float32], old: Plane, unit: float) -> Plane:
    """Say where the labels of the photograph see face and hair, and are not mistaken; nowhere if there are none."""
    if source.labels is None:
        return np.zeros(work.size, dtype=np.float32)
    kept = np.isin(crop_labels(source.labels, work), [int(label) for label in IDENTITY])
    kept &= ~_mistaken(kept, (old > 0.9) & ~kept, photo, unit)
    return np.asarray(ndimage.gaussian_filter(kept.astype(np.float32), 0.2 * unit), dtype=np.float32)


def _mistaken(
    kept: NDArray[np.bool_], garment: NDArray[np.bool_], photo: NDArray[np.float32], unit: float
) -> NDArray[np.bool_]:
    """Say where, at the rim of what is labelled face and hair, the colours are those of the garment beside it."""
    reach = round(_RIM * unit)
    inner = ndimage.minimum_filter(kept, 2 * reach + 1)
    if min(int(kept.sum()), int(garment.sum())) < _LEAST_KNOWN * unit**2:
        return np.zeros_like(kept)
    cloth = _frequencies(photo, garment) > _CLOTH_ODDS * _frequencies(photo, kept)
    cloth &= ndimage.maximum_filter(garment, 4 * reach + 1)
    # Single hairs are no cloth; and where it ends it is mixed with hair.
    cloth = ndimage.binary_opening(cloth, iterations=max(1, round(0.2 * unit)))
    cloth = ndimage.maximum_filter(cloth, 2 * max(1, round(0.4 * unit)) + 1)
    return np.asarray(cloth & ~inner)


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
    covered = shares[0].astype(np.float32) @ alpha @ shares[1].T.astype(np.float32)
    return torch.from_numpy(covered.clip(0, 1))
