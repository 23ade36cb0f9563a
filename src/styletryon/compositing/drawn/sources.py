"""The sources of what a drawn try-on shows: the drawing, the person's skin, and the background.

A drawing has nobody's own colours. So it is shown in the photograph's light, bared skin has the person's colours, and
the background is the photograph's. `layout` says where each of them belongs, and `blending` puts them together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from styletryon.compositing.drawn.layout import Layout, PersonLayout
from styletryon.compositing.drawn.planes import (
    LEAST_KNOWN,
    apart,
    chance_of,
    diffused,
    frequencies,
    spread,
)
from styletryon.generator import GeneratorOutput
from styletryon.labels import Label
from styletryon.photo import to_unit

_SURE = 0.9
"""From which chance on a drawn pixel shows nothing but what it is taken for."""

_GAIN = (0.75, 1.35)
"""Bounds of the light's correction: what needs more differs in more than its light."""

_RIDGE = 0.02
"""How strongly the light's correction is held at none, as a variance of colours in [0, 1]."""

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


@dataclass(frozen=True, eq=False)
class Skin:
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
    def of(cls, photo: Tensor, shown: Tensor) -> Skin | None:
        """Look at the skin in a photograph `(3, H, W)` where it is shown `(H, W)`; None if that is too little."""
        # Labels are never exact at their edges.
        inner = torch.from_numpy(ndimage.binary_erosion(shown.numpy()))
        colours = photo[:, inner if int(inner.sum()) >= LEAST_KNOWN else shown]
        if colours.shape[1] < LEAST_KNOWN:
            return None
        common = colours.median(dim=1, keepdim=True).values
        light = colours.mean(dim=0)
        usual = common.mean().clamp_min(1e-3)
        # Glasses, a beard, jewellery, and what is labelled as skin by mistake.
        strange = (colours - common * (light / usual)).abs().amax(dim=0) > _STRANGE
        strange |= (light / usual - 1).abs() > _CONTRAST
        colours, light = colours[:, ~strange], light[~strange]
        if colours.shape[1] < LEAST_KNOWN:
            return None
        mean, middle = colours.mean(dim=1, keepdim=True), light.mean()
        deviation, ridge = light - middle, _RIDGE**2
        slope = ((colours - mean) * deviation).mean(dim=1, keepdim=True) + ridge * mean / middle
        slope = slope / (deviation.square().mean() + ridge)
        least, lit, most = (float(light.quantile(share)) for share in (0.05, _LIT, 0.98))
        return cls((mean - slope * middle)[..., None], slope[..., None], least, lit, most)

    def shaded(self, light: Tensor) -> Tensor:
        """Colour skin `(H, W)` whose light is given, 1 for well-lit skin; `(3, H, W)` in [0, 1]."""
        light = (light * self.lit).clamp(self.least, self.most)
        return (self.colour + self.slope * light).clamp(0, 1)

    def replaced_in(self, colours: Tensor, after: GeneratorOutput, before: GeneratorOutput) -> Tensor:
        """Give skin that a try-on bares the person's own colours, and leave it its light and shade.

        Args:
            colours: `(3, H, W)` in [0, 1]: the drawing, its colours corrected.
            after: The try-on as drawn, batch 1.
            before: The person as drawn, batch 1.

        Returns:
            `(3, H, W)` in [0, 1]: `colours` where no skin is drawn.
        """
        chance, bared = chance_of(after, {Label.SKIN}), bared_skin(after, before)
        drawn = to_unit(after.image[0].detach().float().cpu())
        light = spread(drawn.mean(dim=0)[None, None], (chance > _SURE)[None, None])[0, 0]
        skin = self.shaded(light / light[bared].quantile(_LIT).clamp_min(1e-3))
        share = (2 * chance).clamp(max=1)  # what is half of skin is drawn in a mixture of colours
        # What is drawn in another colour than most of the skin is cloth, whatever the drawing's labels say.
        usual = drawn[:, bared].median(dim=1).values[:, None, None]
        strange = (drawn - usual * (drawn.mean(dim=0) / usual.mean().clamp_min(1e-3))).abs().amax(dim=0)
        share = share * (2 - strange / _CLOTH).clamp(0, 1)
        return share * skin + (1 - share) * colours


def bared_skin(after: GeneratorOutput, before: GeneratorOutput) -> Tensor:
    """Say where a try-on shows skin that was covered, `(H, W)` bool."""
    return (chance_of(after, {Label.SKIN}) > _SURE) & (chance_of(before, {Label.SKIN}) < 0.5)


@dataclass(frozen=True, eq=False)
class Background:
    """The background of a photograph, continued behind the person.

    Attributes:
        colours: `(h, w, 3)` in [0, 1].
        frequency: `(h, w)`: how frequent the photograph's colour at each pixel is in the background; None where too
            little of it is seen.
    """

    colours: NDArray[np.float32]
    frequency: NDArray[np.float64] | None

    @classmethod
    def of(cls, layout: PersonLayout) -> Background | None:
        """Continue the background of a photograph; None where it shows too little of one."""
        colours = _continued(layout)
        if colours is None:
            return None
        free = (layout.background > 0.95) & (layout.old < 0.05)
        enough = int(free.sum()) >= LEAST_KNOWN * layout.grid.unit**2
        return cls(colours, frequencies(layout.photo, free) if enough else None)


def _continued(layout: PersonLayout) -> NDArray[np.float32] | None:
    """The colours of the background, smooth ones from all around and grain from its border, `(h, w, 3)`."""
    unit = layout.grid.unit
    person = (layout.background < 0.95) | (layout.old > 0.02)
    known = ~ndimage.binary_dilation(person, iterations=max(1, round(unit)))
    if int(known.sum()) < LEAST_KNOWN * unit:
        return None
    smooth = diffused(layout.photo, known)
    # The fine grain is that of the background's mirror image at its border.
    detail = layout.photo - diffused(layout.photo, known, keep=False)
    away, nearest = ndimage.distance_transform_edt(~known, return_indices=True)
    rows, columns = np.indices(known.shape)
    down = (2 * nearest[0] - rows).clip(0, known.shape[0] - 1)
    across = (2 * nearest[1] - columns).clip(0, known.shape[1] - 1)
    seen = known[down, across]
    down, across = np.where(seen, down, nearest[0]), np.where(seen, across, nearest[1])
    # Far from the border it would be a pattern that nothing around explains.
    strength = np.exp(-away / (2 * unit))[..., None]
    filled = smooth + strength * detail[down, across]
    return np.where(known[..., None], layout.photo, filled).astype(np.float32).clip(0, 1)


class PersonSources:
    """All that the photograph of a person gives to any try-on of them, each computed when it is first asked for.

    Args:
        layout: What lies where in the photograph.
    """

    def __init__(self, layout: PersonLayout) -> None:
        self.layout = layout

    @cached_property
    def drawn(self) -> NDArray[np.float32]:
        """The person as drawn, enlarged, `(h, w, 3)` in [0, 1]."""
        layout = self.layout
        return layout.grid.enlarge_all(to_unit(layout.before.image[0].detach().float().cpu()), "bilinear")

    @cached_property
    def skin(self) -> Skin | None:
        """The person's skin as the photograph shows it; None where it shows too little."""
        person = self.layout.person
        shown = chance_of(self.layout.before, _BARE) > _SURE
        if person.frame_labels is not None:
            shown = torch.from_numpy(np.isin(person.frame_labels, [int(label) for label in _BARE]))
        return Skin.of(to_unit(person.crop), shown)

    @cached_property
    def background(self) -> Background | None:
        """The photograph's background, continued behind the person; None where there is too little."""
        return Background.of(self.layout)


def drawn_person(after: GeneratorOutput, layout: Layout, sources: PersonSources) -> NDArray[np.float32]:
    """Draw the person in the photograph's light, without the drawn background that edges are mixed with.

    Args:
        after: The try-on as drawn, batch 1.
        layout: What lies where in it.
        sources: What the person's photograph gives.

    Returns:
        `(h, w, 3)` in [0, 1]; what is skin has the person's own colours.
    """
    sure = (1 - chance_of(after, {Label.BACKGROUND}) > _SURE)[None, None]
    colours = spread(to_unit(after.image.detach().float().cpu()), sure)[0]
    colours = colours * torch.from_numpy(_light(layout, sources.drawn)).float()[:, None, None]
    before = layout.person.before
    if int(bared_skin(after, before).sum()) >= _LEAST_BARED and sources.skin is not None:
        colours = sources.skin.replaced_in(colours, after, before)
    return layout.person.grid.enlarge_all(colours, "bicubic").clip(0, 1)


def _light(layout: Layout, drawn: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compare photograph and drawing where they should agree: a gain per colour channel."""
    person = layout.person
    unchanged = (person.background < 0.05) & (person.old < 0.05) & (layout.new < 0.05)
    # Elsewhere the drawing shows something else, whatever the light.
    same = unchanged & (apart(drawn, person.photo) < 0.25)
    if int(same.sum()) < LEAST_KNOWN * layout.unit**2:
        return np.ones(3)
    x, y = drawn[same].astype(np.float64), person.photo[same].astype(np.float64)
    # A gain about black with a ridge, for a drawn colour says more of the light than a difference of two does.
    gain = ((x * y).mean(axis=0) + _RIDGE) / ((x * x).mean(axis=0) + _RIDGE)
    return np.asarray(gain.clip(*_GAIN))
