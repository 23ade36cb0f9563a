"""The pairs of the benchmark: unseen, repeatable, and what their truth is."""

from __future__ import annotations

import numpy as np
import pytest

from styletryon.data.paperdoll import render, sample_figure, wears
from styletryon.errors import RangeError, RegionError
from styletryon.labels import REGIONS, Label
from styletryon.metrics import measures
from styletryon.metrics.rendered_pairs import (
    FIRST_EVALUATION_SEED,
    FIRST_SELECTION_SEED,
    MAX_SEED,
    SEEDS_PER_STREAM,
    TRAINING_SEEDS,
    in_plain_cloth,
    pair_seeds,
    patterned_cloths,
    sample_pairs,
    worn_cloths,
)

SIZE = (64, 48)


@pytest.mark.parametrize("seed", [0, 7, MAX_SEED])
def test_no_pair_meets_training_or_selection(seed: int) -> None:
    evaluation = {number for pair in pair_seeds(4, seed, "top") for number in pair}
    selection = {number for pair in pair_seeds(4, seed, "top", selection=True) for number in pair}
    assert len(evaluation) == len(selection) == 8
    assert min(evaluation) >= FIRST_EVALUATION_SEED > max(selection)
    assert min(selection) >= FIRST_SELECTION_SEED > TRAINING_SEEDS.stop
    first = FIRST_EVALUATION_SEED + seed * SEEDS_PER_STREAM
    assert max(evaluation) < first + SEEDS_PER_STREAM


def test_fewer_pairs_are_the_first_of_more() -> None:
    assert pair_seeds(3, 1, "top") == pair_seeds(6, 1, "top")[:3]
    assert pair_seeds(3, 1, "top") != pair_seeds(3, 2, "top")


@pytest.mark.parametrize("region", ["top", "bottom", "dress"])
def test_both_wear_the_region(region: str) -> None:
    for person, garment in pair_seeds(4, 0, region):
        assert person != garment
        assert wears(sample_figure(person), region)
        assert wears(sample_figure(garment), region)


def test_truth_is_the_person_in_the_garment() -> None:
    for pair in sample_pairs(4, 3, SIZE):
        assert pair.truth.image.shape == (*SIZE, 3)
        assert pair.truth.image.dtype == np.uint8
        assert np.allclose(pair.truth.keypoints[:, :2], pair.person.keypoints[:, :2])
        kept = measures.identity_mask(pair.truth.labels, pair.person.labels, REGIONS["top"])
        assert kept.sum() > 100
        # Light that a garment throws back and shadows change the rest a little; nothing else does.
        assert measures.masked_psnr(pair.person.image, pair.truth.image, kept) > 24
        face = kept & (pair.truth.labels == Label.FACE)
        assert measures.masked_psnr(pair.person.image, pair.truth.image, face) > 24


def test_pairs_repeat() -> None:
    first, again = sample_pairs(2, 0, SIZE), sample_pairs(2, 0, SIZE)
    assert all(np.array_equal(a.truth.image, b.truth.image) for a, b in zip(first, again, strict=True))


def test_plain_cloth_takes_the_pattern_and_nothing_else_away() -> None:
    seeds = range(FIRST_EVALUATION_SEED, FIRST_EVALUATION_SEED + 40)
    figures = [f for f in map(sample_figure, seeds) if wears(f, "top") and patterned_cloths(f, "top")][:3]
    assert figures
    for figure in figures:
        labels = set(patterned_cloths(figure, "top"))
        assert labels <= REGIONS["top"] & set(worn_cloths(figure))
        plain = in_plain_cloth(figure, labels)
        assert not patterned_cloths(plain, "top")
        before, after = render(figure, SIZE), render(plain, SIZE)
        assert np.array_equal(before.labels, after.labels)
        outside = ~measures.class_mask(before.labels, labels)
        # Pixels at the garment's edge mix both, and cloth throws a little of its colour on what is near.
        change = np.abs(before.image.astype(int) - after.image)[measures.erode(outside, 2)]
        assert change.mean() < 0.5


def test_patterned_pairs_know_their_plain_rendering() -> None:
    pairs = sample_pairs(12, 0, (128, 96))
    patterned = [pair for pair in pairs if pair.patterned]
    assert patterned
    assert len(patterned) < len(pairs)
    found = [measures.texture(p.truth.image, p.truth.image, p.pattern_mask, plain=p.plain) for p in patterned]
    assert any(f is not None for f in found)
    for pair, texture in zip(patterned, found, strict=True):
        assert pair.plain is not None
        inside = measures.class_mask(pair.truth.labels, REGIONS["top"])
        assert not (pair.pattern_mask & ~inside).any()
        if texture is not None:
            assert texture.drawn == pytest.approx(1.0)
            flat = measures.texture(pair.plain, pair.truth.image, pair.pattern_mask, plain=pair.plain)
            assert flat is not None
            assert flat.drawn == pytest.approx(0.0, abs=1e-9)
            # A figure in plain cloth of a wrong colour draws no pattern either.
            tinted = measures.texture(0.5 * pair.plain + 0.2, pair.truth.image, pair.pattern_mask, plain=pair.plain)
            assert tinted is not None
            assert abs(tinted.drawn) < 0.15


def test_what_cannot_be_sampled_is_said() -> None:
    with pytest.raises(RegionError, match="region: expected one of 'top'"):
        pair_seeds(1, 0, "hat")
    with pytest.raises(RangeError, match=f"seed: expected a number from 0 to {MAX_SEED}, got -1"):
        pair_seeds(1, -1, "top")
    with pytest.raises(RangeError, match="pairs: expected at least 1, got 0"):
        sample_pairs(0, 0, SIZE)
