"""The sources: skin in light and shade, the background behind the person, the drawing in the photograph's light."""

from __future__ import annotations

import numpy as np
import torch

from styletryon.compositing.drawn.blending import blend, opacity
from styletryon.compositing.drawn.sources import Background, PersonSources, Skin, drawn_person
from tests.compositing.drawn.test_composer import BLUE, scene
from tests.compositing.drawn.test_layout import layout_of


def test_skin_in_light_and_shade_is_the_photographs() -> None:
    """A patch of one skin whose light grows to the right, with a dark mark that is none of it."""
    light = torch.linspace(0.4, 0.8, 40)
    tint = torch.tensor([1.2, 1.0, 0.8])[:, None, None]
    photo = tint * light.expand(30, 40)
    photo[:, 10:13, 10:13] = torch.tensor([0.1, 0.1, 0.6])[:, None, None]
    skin = Skin.of(photo, torch.ones(30, 40, dtype=torch.bool))
    assert skin is not None
    for level in (0.5, 0.6, 0.7):
        shaded = skin.shaded(torch.full((1, 1), level / skin.lit))[:, 0, 0]
        torch.testing.assert_close(shaded, tint[:, 0, 0] * level, atol=0.02, rtol=0)
    # No light is invented beyond what the photograph shows.
    assert float(skin.shaded(torch.full((1, 1), 9.0)).mean()) <= 0.8 + 1e-3
    assert Skin.of(photo, torch.zeros(30, 40, dtype=torch.bool)) is None


def test_the_background_goes_on_behind_the_person_and_stays_where_it_is_seen() -> None:
    layout = layout_of().person
    background = Background.of(layout)
    assert background is not None
    seen = (layout.background > 0.99) & (layout.old < 0.01)
    seen[:, 40:-40] = False
    np.testing.assert_array_equal(background.colours[seen], layout.photo[seen])
    behind = layout.old > 0.99
    wall = 0.7  # 0.4 in [-1, 1]
    assert np.abs(background.colours[behind] - wall).mean() < 0.02
    assert background.frequency is not None
    assert background.frequency[seen].min() > background.frequency[behind].max()


def test_a_person_before_a_background_only_where_it_is_vacant() -> None:
    layout = layout_of()
    sources = PersonSources(layout.person)
    person = drawn_person(scene(40, BLUE), layout, sources)
    assert person.shape == layout.person.photo.shape
    shown = blend(person, layout, sources.background)
    vacant = layout.vacant
    np.testing.assert_allclose(shown[vacant == 0], person[vacant == 0], atol=1e-6)
    assert sources.background is not None
    np.testing.assert_allclose(shown[vacant == 1], sources.background.colours[vacant == 1], atol=1e-6)
    assert blend(person, layout, None) is person


def test_nothing_is_shown_where_nothing_may_change_and_the_old_garment_is_gone() -> None:
    layout = layout_of()
    alpha = opacity(layout, None)
    assert (alpha[layout.person.kept > 0.5] == 0).all()
    covered = (layout.person.old > 0.99) & (layout.person.fade == 1) & (layout.person.kept == 0)
    assert alpha[covered].min() > 0.95
    assert 0 <= alpha.min() <= alpha.max() <= 1
