"""Confidence: how far a try-on between two photographs can be trusted, and what will look wrong in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from styletryon.compositing.view import View

_SEEN = (0.4, 0.95)
"""The share of the cloth that its photograph shows, at which nothing is left of the confidence, and all of it."""

_WIDE = (0.35, 0.6)
"""The same of how wide the shoulders are seen, in lengths of the trunk: of somebody who stands frontally about 0.7."""

_UNCOVERED = (0.7, 0.1)
"""The same of the share of the change that shows no cloth, but what the old garment hid."""

_UNLIKE = (0.35, 0.1)
"""The same of the difference of the two widths."""

_DOUBTFUL = 0.5
"""A part of the confidence below this is a reason to warn."""


@dataclass(frozen=True)
class Confidence:
    """How far a try-on can be trusted: the product of its parts, each in [0, 1].

    Attributes:
        seen: Is the cloth seen in its photograph, or hidden by arms, hair and bags, or cut off?
        person: Does the person stand frontally?
        wearer: Does the garment's wearer?
        alike: Are both turned alike?
        covered: Does the new garment cover what the old one covered, or must much be filled in?
    """

    seen: float
    person: float
    wearer: float
    alike: float
    covered: float

    @property
    def value(self) -> float:
        """The product."""
        return self.seen * self.person * self.wearer * self.alike * self.covered

    @property
    def doubts(self) -> tuple[str, ...]:
        """What will look wrong, in words; none where each part is high."""
        said = {
            "seen": "much of the garment is hidden or cut off in its photograph and is made up from the rest",
            "person": "the person is turned to the side",
            "wearer": "the garment's wearer is turned to the side",
            "alike": "the person and the garment's wearer are turned differently",
            "covered": "the old garment is much larger than the new one, and what it hid is made up",
        }
        return tuple(words for name, words in said.items() if getattr(self, name) < _DOUBTFUL)


def confidence_in(person: View, garment: View, *, seen: float, uncovered: float) -> Confidence:
    """Say how far a try-on can be trusted.

    Args:
        person: The person.
        garment: The garment's wearer.
        seen: The share of the cloth that its photograph shows.
        uncovered: The share of the change that shows no cloth.
    """
    ours, theirs = _width(person), _width(garment)
    return Confidence(
        seen=_between(seen, *_SEEN),
        person=_between(ours, *_WIDE),
        wearer=_between(theirs, *_WIDE),
        alike=_between(abs(ours - theirs), *_UNLIKE),
        covered=_between(uncovered, *_UNCOVERED),
    )


def _width(view: View) -> float:
    return float(np.linalg.norm(view.points[5, :2] - view.points[6, :2])) / view.unit


def _between(value: float, none: float, all_: float) -> float:
    return float(np.clip((value - none) / (all_ - none), 0, 1))
