"""The pairs of the benchmark: rendered figures that training never sees, and the truth of each pair, rendered too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from styletryon._reprs import one_line
from styletryon.data.paperdoll import Figure, Rendering, dress, render, sample_figure, wears
from styletryon.data.paperdoll.factors import Cloth
from styletryon.errors import ConfigError, RangeError
from styletryon.labels import REGIONS, Label, region_name
from styletryon.metrics.measures import ERODE_SHARE, Array, Mask, class_mask, erode
from styletryon.photo import to_unit_array

TRAINING_SEEDS = range(0, 10_000_000)
"""Seeds of the figures that training may see."""

FIRST_SELECTION_SEED = 500_000_000
"""Seeds from here up are the figures on which baselines choose their one setting."""

FIRST_EVALUATION_SEED = 1_000_000_000
"""Seeds from here up are the figures of the benchmark. Training and selection never reach them."""

SEEDS_PER_STREAM = 100_000
"""Figures that one benchmark seed may look at."""

MAX_SEED = (FIRST_EVALUATION_SEED - FIRST_SELECTION_SEED) // SEEDS_PER_STREAM - 1
"""The largest benchmark seed: with a larger one selection would reach the evaluation's figures."""


@dataclass(frozen=True, eq=False)
class Pair:
    """A person, a garment, and what the person looks like in it.

    Attributes:
        person_seed: Seed of the figure that puts the garment on.
        garment_seed: Seed of the figure that wears the garment.
        region: Name of the region.
        person: The person's picture, labels and keypoints.
        garment: The garment's wearer, in a pose of their own.
        truth: The person in the garment, in the person's pose and light.
        plain: `(H, W, 3)` float64 in [0, 1]: the truth with the garment in plain cloth of its mean colour; None where
            the garment has no pattern.
        pattern_mask: `(H, W)` bool: where the truth shows patterned cloth of the garment, edges eroded.
    """

    person_seed: int
    garment_seed: int
    region: str
    person: Rendering
    garment: Rendering
    truth: Rendering
    plain: Array | None
    pattern_mask: Mask

    __repr__ = one_line

    @property
    def patterned(self) -> bool:
        """Whether the garment has a pattern."""
        return self.plain is not None


def sample_pairs(
    n: int,
    seed: int,
    size: tuple[int, int],
    region: str = "top",
    *,
    selection: bool = False,
) -> list[Pair]:
    """Draw pairs of figures that training does not see, with the truth of each.

    A pair depends on its number, the seed and the region alone: more pairs begin with the fewer, and every picture size
    shows the same people.

    Args:
        n: How many pairs.
        seed: Which benchmark, from 0 to `MAX_SEED`.
        size: Height and width of the pictures in pixels.
        region: Name of the region; both figures wear it.
        selection: Whether to draw from the figures on which the baselines choose their settings instead.

    Returns:
        The pairs.

    Raises:
        RangeError: If `n` or `seed` lies out of range.
        RegionError: If the region is unknown.
        ConfigError: If figures that wear it are too rare.
    """
    if n < 1:
        raise RangeError(f"expected at least 1, got {n}", argument="pairs")
    return [
        render_pair(person, garment, size, region)
        for person, garment in pair_seeds(n, seed, region, selection=selection)
    ]


def pair_seeds(n: int, seed: int, region: str, *, selection: bool = False) -> list[tuple[int, int]]:
    """List the figure seeds of the person and the garment of each pair; see `sample_pairs`.

    Args:
        n: How many pairs.
        seed: Which benchmark, from 0 to `MAX_SEED`.
        region: Name of the region; both figures wear it.
        selection: Whether to draw from the figures of the selection instead.

    Returns:
        `n` pairs of seeds.

    Raises:
        RangeError: If `seed` lies out of range.
        RegionError: If the region is unknown.
        ConfigError: If figures that wear it are too rare.
    """
    region = region_name(region)
    check_seed(seed)
    wearers = _wearers(seed, region, selection)
    found: list[tuple[int, int]] = []
    for _ in range(n):
        try:
            found.append((next(wearers), next(wearers)))
        except StopIteration:
            raise ConfigError(
                f"among {SEEDS_PER_STREAM} figures only {len(found)} pairs wear the region {region!r}; "
                "ask for fewer",
                argument="pairs",
            ) from None
    return found


def check_seed(seed: int) -> None:
    """Raise a `RangeError` unless a benchmark of this seed keeps to its own figures."""
    if not 0 <= seed <= MAX_SEED:
        raise RangeError(f"expected a number from 0 to {MAX_SEED}, got {seed}", argument="seed")


def render_pair(person_seed: int, garment_seed: int, size: tuple[int, int], region: str) -> Pair:
    """Render one pair and its truth.

    Args:
        person_seed: Seed of the figure that puts the garment on.
        garment_seed: Seed of the figure that wears it.
        size: Height and width in pixels.
        region: Name of the region.

    Returns:
        The pair.
    """
    region = region_name(region)
    person, garment = sample_figure(person_seed), sample_figure(garment_seed)
    wearing = dress(person, garment, region)
    truth = render(wearing, size)
    cloths = patterned_cloths(wearing, region)
    mask = erode(class_mask(truth.labels, cloths), max(1, round(ERODE_SHARE * size[0])))
    return Pair(
        person_seed=person_seed,
        garment_seed=garment_seed,
        region=region,
        person=render(person, size),
        garment=render(garment, size),
        truth=truth,
        plain=_plain(wearing, truth, mask, set(cloths)) if cloths else None,
        pattern_mask=mask,
    )


def worn_cloths(figure: Figure) -> dict[Label, Cloth]:
    """Map each label class of clothing that the figure wears to its cloth."""
    outfit = figure.outfit
    if outfit.dress is not None:
        return {Label.DRESS: outfit.dress.cloth}
    cloths = {Label.TOP: outfit.top.cloth, Label.BOTTOM: outfit.bottom.cloth}
    if outfit.outerwear is not None:
        cloths[Label.OUTERWEAR] = outfit.outerwear.cloth
    return cloths


def patterned_cloths(figure: Figure, region: str) -> dict[Label, Cloth]:
    """Map the label classes of a region whose cloth has a pattern to that cloth."""
    return {
        label: cloth
        for label, cloth in worn_cloths(figure).items()
        if label in REGIONS[region] and cloth.pattern != "plain"
    }


def in_plain_cloth(figure: Figure, labels: set[Label]) -> Figure:
    """Return the figure with the cloth of some label classes made plain, in the mean of its two main colours."""

    def plain(cloth: Cloth) -> Cloth:
        ground, printed = (np.asarray(colour) for colour in cloth.colours[:2])
        mean = ground * (1 - cloth.duty) + printed * cloth.duty
        colour = (float(mean[0]), float(mean[1]), float(mean[2]))
        return replace(cloth, pattern="plain", colours=(colour, colour, colour))

    outfit = figure.outfit
    if Label.TOP in labels:
        outfit = replace(outfit, top=replace(outfit.top, cloth=plain(outfit.top.cloth)))
    if Label.BOTTOM in labels:
        outfit = replace(outfit, bottom=replace(outfit.bottom, cloth=plain(outfit.bottom.cloth)))
    if Label.OUTERWEAR in labels and outfit.outerwear is not None:
        outfit = replace(outfit, outerwear=replace(outfit.outerwear, cloth=plain(outfit.outerwear.cloth)))
    if Label.DRESS in labels and outfit.dress is not None:
        outfit = replace(outfit, dress=replace(outfit.dress, cloth=plain(outfit.dress.cloth)))
    return replace(figure, outfit=outfit)


def _wearers(seed: int, region: str, selection: bool) -> Iterator[int]:
    first = (FIRST_SELECTION_SEED if selection else FIRST_EVALUATION_SEED) + seed * SEEDS_PER_STREAM
    return (s for s in range(first, first + SEEDS_PER_STREAM) if wears(sample_figure(s), region))


def _plain(wearing: Figure, truth: Rendering, mask: Mask, labels: set[Label]) -> Array:
    drawn = to_unit_array(render(in_plain_cloth(wearing, labels), truth.labels.shape).image)
    if not mask.any():
        return drawn
    # The mean of the two colours is a guess at how much of the garment each covers; the truth itself says what its mean
    # colour is, and shading scales with the colour.
    inside, true = drawn[mask], to_unit_array(truth.image[mask])
    return np.asarray(drawn * ((inside * true).sum(axis=0) / np.maximum((inside**2).sum(axis=0), 1e-6)))
