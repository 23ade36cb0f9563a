"""The composer: a try-on shown in the photograph, which changes where the garment does and nowhere else.

It finds the part of the photograph that may change (`layout.work_frame`), lays out what lies where in it (`layout`),
asks the photograph and the drawing what to show (`sources`), and blends that over the photograph (`blending`).
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from styletryon.compositing.drawn.blending import blend, opacity
from styletryon.compositing.drawn.layout import Layout, PersonLayout, covered_share, work_frame
from styletryon.compositing.drawn.sources import PersonSources, drawn_person
from styletryon.generator import GeneratorOutput
from styletryon.labels import Label
from styletryon.photo import Frame, Photograph, from_unit, paste_back


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
        self._sources: PersonSources | None = None

    def compose(self, after: GeneratorOutput, support: Tensor) -> tuple[Image.Image, Tensor]:
        """Show a try-on in the photograph.

        Args:
            after: The try-on as drawn, batch 1.
            support: `(H, W)` float in [0, 1] of the drawing's size: nothing changes where it is 0, as in `change_mask`.

        Returns:
            A picture of the photograph's size, equal to it bit for bit outside the change; and `(H, W)` float32 in
            [0, 1] of the drawing's size: how much of each of its pixels was changed.
        """
        person = self.person
        seen = support if self.expected is None else torch.maximum(support, self.expected)
        work = work_frame(person.frame, seen) if bool((support > 0).any()) else None
        if work is None:
            return person.picture.copy(), torch.zeros_like(support)
        sources = self._sources_in(work)
        layout = Layout.of(sources.layout, after, support)
        is_vacant = bool((layout.vacant * layout.support > 0).any())
        background = sources.background if is_vacant else None
        alpha = opacity(layout, background)
        shown = drawn_person(after, layout, sources)
        colours = blend(shown, layout, background)
        drawn = from_unit(torch.from_numpy(np.ascontiguousarray(colours.transpose(2, 0, 1))))
        image = paste_back(person.picture, drawn, torch.from_numpy(alpha), work, feather=0)
        return image, covered_share(alpha, work, person.frame)

    def _sources_in(self, work: Frame) -> PersonSources:
        sources = self._sources
        if sources is None or sources.layout.work != work:
            sources = self._sources = PersonSources(PersonLayout.of(self.person, self.before, self.region, work))
        return sources
