"""Each measure against arithmetic that is done another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from styletryon.errors import RangeError, ShapeError, StyleTryOnError
from styletryon.labels import Label
from styletryon.metrics import measures


def _mask(height: int = 12, width: int = 10) -> np.ndarray:
    mask = np.zeros((height, width), dtype=bool)
    mask[2:9, 3:8] = True
    return mask


# ------------------------------------------------------------------------------------------------------- regions
def test_masks_partition_what_the_truth_shows_of_the_person() -> None:
    # columns: background, kept skin, kept garment, new garment, uncovered skin, gone to background
    person = np.array([[0, 3, 4, 3, 4, 4]])
    truth = np.array([[0, 3, 4, 4, 3, 0]])
    assert measures.foreground(truth).tolist() == [[False, True, True, True, True, False]]
    assert measures.class_mask(truth, {4, 5}).tolist() == [[False, False, True, True, False, False]]
    assert measures.identity_mask(truth, person, {4, 5}).tolist() == [[False, True, False, False, False, False]]
    assert measures.uncovered_mask(truth, person, {4, 5}).tolist() == [[False, False, False, False, True, False]]


@pytest.mark.parametrize("radius", [0, 1, 2])
def test_erode_agrees_with_a_loop_over_windows(rng: np.random.Generator, radius: int) -> None:
    mask = rng.random((14, 11)) > 0.1
    expected = np.zeros_like(mask)
    for y in range(14):
        for x in range(11):
            inside = radius <= y < 14 - radius and radius <= x < 11 - radius
            window = mask[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]
            expected[y, x] = inside and window.all()
    assert np.array_equal(measures.erode(mask, radius), expected)


# ------------------------------------------------------------------------------------------------------ fidelity
def test_psnr_of_a_known_error() -> None:
    truth = np.full((12, 10, 3), 0.5)
    image = truth.copy()
    image[~_mask()] = 0.0  # nothing outside the mask counts
    image[_mask()] += 0.1
    assert measures.masked_psnr(image, truth, _mask()) == pytest.approx(20.0)


def test_psnr_averages_the_error_before_the_logarithm() -> None:
    truth = np.zeros((1, 2, 3))
    image = np.zeros((1, 2, 3))
    image[0, 0] = 0.2
    assert measures.masked_psnr(image, truth, np.ones((1, 2), bool)) == pytest.approx(-10 * math.log10(0.04 / 2))


def test_psnr_reads_eight_bits_and_is_finite_for_a_copy() -> None:
    truth = np.zeros((4, 4, 3), dtype=np.uint8)
    image = np.full((4, 4, 3), 51, dtype=np.uint8)
    everywhere = np.ones((4, 4), bool)
    assert measures.masked_psnr(image, truth, everywhere) == pytest.approx(-20 * math.log10(0.2))
    assert measures.masked_psnr(truth, truth, everywhere) == measures.PSNR_CEILING


def test_an_empty_mask_measures_nothing() -> None:
    blank, nowhere = np.zeros((4, 4, 3)), np.zeros((4, 4), bool)
    assert math.isnan(measures.masked_psnr(blank, blank, nowhere))
    assert math.isnan(measures.masked_ssim(blank, blank, nowhere))
    assert math.isnan(measures.label_iou(blank[..., 0], blank[..., 0], {4}))
    assert math.isnan(measures.mean_iou(blank[..., 0], blank[..., 0]))


def test_ssim_agrees_with_a_weighted_sum_at_each_pixel(rng: np.random.Generator) -> None:
    truth = rng.random((12, 10, 3))
    image = np.clip(truth + 0.2 * rng.standard_normal(truth.shape), 0, 1)
    offsets = np.arange(-5, 6)
    weights = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()

    def mirrored(index: int, length: int) -> int:
        index = -1 - index if index < 0 else index
        return 2 * length - 1 - index if index >= length else index

    values = []
    for y, x in np.argwhere(_mask()):
        rows = [mirrored(int(y) + o, 12) for o in offsets]
        columns = [mirrored(int(x) + o, 10) for o in offsets]
        for channel in range(3):
            a, b = (picture[np.ix_(rows, columns)][..., channel] for picture in (image, truth))
            ma, mb = (weights * a).sum(), (weights * b).sum()
            va, vb = (weights * (a - ma) ** 2).sum(), (weights * (b - mb) ** 2).sum()
            cab = (weights * (a - ma) * (b - mb)).sum()
            values.append((2 * ma * mb + 1e-4) * (2 * cab + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4)))
    assert measures.masked_ssim(image, truth, _mask()) == pytest.approx(np.mean(values), abs=1e-10)
    assert measures.masked_ssim(truth, truth, _mask()) == pytest.approx(1.0)


def test_iou_of_counted_pixels() -> None:
    truth = np.zeros((4, 5), dtype=np.uint8)
    truth[:2] = 4  # 10 pixels
    drawn = np.zeros((4, 5), dtype=np.uint8)
    drawn[1, :] = 5  # outerwear: the same region, 5 of those 10
    drawn[2, :2] = 4  # and 2 beyond
    assert measures.label_iou(drawn, truth, {4, 5}) == pytest.approx(5 / 12)
    assert measures.label_iou(drawn, truth, {4}) == pytest.approx(0.0)


def test_mean_iou_counts_shown_foreground_classes_alike() -> None:
    truth = np.zeros((10, 10), dtype=np.uint8)
    truth[:4] = 4  # 40 pixels
    truth[4:8] = 6  # 40 pixels
    truth[8, :5] = 2  # 5 pixels: too few
    drawn = truth.copy()
    drawn[0] = 0  # top: 30 of 40
    assert measures.mean_iou(drawn, truth) == pytest.approx((0.75 + 1.0) / 2)
    assert measures.mean_iou(drawn, truth, min_pixels=1) == pytest.approx((0.75 + 1.0 + 1.0) / 3)


# ------------------------------------------------------------------------------------------------------- texture
def _cloth(period: float = 8.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return a plain shaded cloth, the same with stripes, the stripes alone, and the mask."""
    y, x = np.mgrid[:64, :48]
    light = 0.4 + 0.3 * np.sin(x / 15.0) * np.cos(y / 20.0)
    plain = light[..., None] * np.array([1.0, 0.8, 0.6])
    stripes = 0.15 * np.sign(np.sin(2 * np.pi * (y + 0.5) / period))[..., None] * plain
    mask = np.zeros((64, 48), bool)
    mask[8:56, 8:40] = True
    return plain, plain + stripes, stripes, mask


def test_the_truth_has_all_of_its_texture() -> None:
    plain, truth, _, mask = _cloth()
    found = measures.texture(truth, truth, mask, plain=plain)
    assert found is not None
    assert (found.contrast, found.correlation, found.drawn) == pytest.approx((1.0, 1.0, 1.0))


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.5])
def test_texture_is_the_share_of_the_pattern_that_is_drawn(share: float) -> None:
    plain, truth, stripes, mask = _cloth()
    found = measures.texture(plain + share * stripes, truth, mask, plain=plain)
    assert found is not None
    assert found.drawn == pytest.approx(share, abs=1e-9)
    assert found.contrast == pytest.approx(share, abs=1e-9)
    assert found.correlation == pytest.approx(float(share > 0), abs=1e-9)


def test_a_wrong_mean_colour_and_a_wrong_light_are_not_texture() -> None:
    plain, truth, stripes, mask = _cloth()
    wrong = plain + 0.5 * stripes + np.linspace(0, 0.1, 64)[:, None, None] + np.array([0.2, -0.1, 0.0])
    found = measures.texture(wrong, truth, mask, plain=plain, sigma=6)
    assert found is not None
    assert found.drawn == pytest.approx(0.5, abs=0.03)


def test_noise_has_contrast_but_draws_nothing(rng: np.random.Generator) -> None:
    plain, truth, stripes, mask = _cloth()
    noise = rng.standard_normal(plain.shape) * stripes[mask].std()
    found = measures.texture(plain + noise, truth, mask, plain=plain)
    assert found is not None
    assert found.contrast > 0.8
    assert abs(found.drawn) < 0.06
    assert abs(found.correlation) < 0.06


def test_a_pattern_half_a_period_off_correlates_against() -> None:
    plain, truth, stripes, mask = _cloth()
    found = measures.texture(plain - stripes, truth, mask, plain=plain)
    assert found is not None
    assert found.correlation == pytest.approx(-1.0)
    assert found.drawn == pytest.approx(-1.0)
    assert found.contrast == pytest.approx(1.0)


def test_texture_without_a_plain_rendering_takes_out_slow_changes() -> None:
    _, truth, stripes, mask = _cloth()
    blurred = truth - 0.5 * stripes
    found = measures.texture(blurred, truth, mask)
    assert found is not None
    assert found.drawn == pytest.approx(0.5, abs=0.1)


def test_plain_cloth_and_small_garments_have_no_texture() -> None:
    plain, truth, _, mask = _cloth()
    assert measures.texture(plain, plain, mask, plain=plain) is None
    small = np.zeros_like(mask)
    small[20:25, 20:25] = True
    assert measures.texture(truth, truth, small, plain=plain) is None


@pytest.mark.parametrize(("period", "kept"), [(6.0, 1.0), (12.0, 1.0), (24.0, 0.71)])
def test_detail_keeps_the_contrast_that_its_docstring_says(period: float, kept: float) -> None:
    wave = np.repeat(np.sin(2 * np.pi * np.arange(240) / period)[:, None, None], 3, axis=2).repeat(40, axis=1)
    mask = np.zeros((240, 40), bool)
    mask[48:192] = True
    assert 1 - math.exp(-2 * (math.pi * 6 / period) ** 2) == pytest.approx(kept, abs=0.01)
    # Near the border of a mask the local mean is one-sided; it is read away from there.
    residue = measures.detail(wave, np.ones_like(mask), sigma=6).reshape(240, 40, 3)[mask]
    assert residue.std() / wave[mask].std() == pytest.approx(kept, abs=0.01)


def test_detail_ignores_what_lies_outside_the_mask(rng: np.random.Generator) -> None:
    image = rng.random((32, 24, 3))
    mask = np.zeros((32, 24), bool)
    mask[8:24, 6:18] = True
    other = image.copy()
    other[~mask] = 7.0
    assert np.allclose(measures.detail(image, mask, sigma=3), measures.detail(other, mask, sigma=3))


# ------------------------------------------------------------------------------------------- without a truth
def test_colour_distance_of_flat_garments_of_different_shapes() -> None:
    red = np.zeros((12, 10, 3), dtype=np.uint8)
    red[_mask()] = (255, 0, 0)
    grey = np.full((6, 6, 3), 119, dtype=np.uint8)
    everywhere = np.ones((6, 6), bool)
    expected = math.dist((53.24, 80.09, 67.20), (50.03, 0, 0))
    assert measures.colour_distance(red, _mask(), grey, everywhere) == pytest.approx(expected, abs=0.05)
    assert measures.colour_distance(red, _mask(), red, _mask()) == 0
    assert math.isnan(measures.colour_distance(red, ~np.ones_like(_mask()), grey, everywhere))


def test_texture_distance_sees_strength_and_not_place() -> None:
    plain, striped, _, mask = _cloth()
    shifted = plain + np.roll(striped - plain, 2, axis=0)
    assert measures.texture_distance(striped, mask, striped, mask) == 0
    here = measures.texture_distance(shifted, mask, striped, mask)
    gone = measures.texture_distance(plain, mask, striped, mask)
    assert here < 0.2 * gone
    assert math.isnan(measures.texture_distance(plain, mask & False, striped, mask))


# --------------------------------------------------------------------------------------------------------- poses
def _upright() -> np.ndarray:
    """A person whose torso is 20 pixels long, in a picture of 64x48."""
    points = np.zeros((17, 3))
    points[:, 0], points[:, 1], points[:, 2] = 24, np.linspace(4, 60, 17), 1
    points[[5, 6], 1], points[[11, 12], 1] = 16, 36
    return points


def test_keypoint_errors_are_shares_of_the_torso() -> None:
    asked = _upright()
    assert measures.keypoint_errors(asked, asked, (64, 48)) == measures.PoseErrors(0, 1, 1)
    found = asked.copy()
    found[0, 0] += 1.9  # within 0.1 of the torso
    found[1, 1] -= 3.9  # within 0.2
    found[2, :2] += (6, 8)  # half a torso
    errors = measures.keypoint_errors(found, asked, (64, 48))
    assert errors is not None
    assert errors.error == pytest.approx((1.9 + 3.9 + 10) / 20 / 17)
    assert errors.pck_10 == pytest.approx(15 / 17)
    assert errors.pck_20 == pytest.approx(16 / 17)


def test_keypoint_errors_agree_with_the_measure_of_training(rng: np.random.Generator) -> None:
    from styletryon.training.body.measures import pck

    asked = _upright()
    found = asked + rng.standard_normal(asked.shape) * 3
    asked[13:, 2] = 0.1
    errors = measures.keypoint_errors(found, asked, (64, 48))
    assert errors is not None
    a, b = torch.from_numpy(found[None, :, :2]), torch.from_numpy(asked[None])
    assert (errors.pck_10, errors.pck_20) == pytest.approx((pck(a, b, 0.1), pck(a, b, 0.2)))


def test_keypoints_count_that_were_asked_for_inside_the_picture() -> None:
    asked = _upright()
    found = asked.copy()
    found[[0, 1, 2], 0] += 100
    asked[0, 2] = 0.29
    asked[1, 0] = -1
    asked[2, 1] = 65
    errors = measures.keypoint_errors(found, asked, (64, 48))
    assert errors is not None
    assert errors.error == 0


def test_a_pose_without_a_torso_is_no_measure() -> None:
    lying, hidden, nothing = _upright(), _upright(), _upright()
    lying[[11, 12], 1] = 19
    hidden[5, 2] = 0
    nothing[:, 2] = 0.2
    for asked in (lying, hidden, nothing):
        assert measures.keypoint_errors(_upright(), asked, (64, 48)) is None
    with pytest.raises(ShapeError, match=r"found, asked: expected \(17, 2\) and \(17, 3\)"):
        measures.keypoint_errors(_upright()[:5], _upright(), (64, 48))


def test_classes_are_told_apart() -> None:
    truth = np.zeros((20, 10), int)
    truth[:10], truth[10:14], truth[14, :5] = 4, 6, 1
    drawn = truth.copy()
    drawn[5:10] = 6
    found = measures.class_ious(drawn, truth)
    assert found[Label.TOP] == 0.5
    assert found[Label.BOTTOM] == pytest.approx(40 / 90)
    assert math.isnan(found[Label.HAIR])  # shown with 5 pixels
    assert math.isnan(found[Label.SHOES])
    assert Label.BACKGROUND not in found
    assert measures.mean_iou(drawn, truth) == pytest.approx((0.5 + 40 / 90) / 2)
    assert math.isnan(measures.mean_iou(drawn, truth * 0))


# ---------------------------------------------------------------------------------------------------- statistics
def test_bootstrap_of_a_normal_sample_is_the_textbook_interval(rng: np.random.Generator) -> None:
    values = rng.standard_normal(400) * 3 + 10
    found = measures.bootstrap(values, seed=1)
    half = 1.96 * values.std() / math.sqrt(400)
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.05)
    assert found.high == pytest.approx(values.mean() + half, abs=0.05)
    assert found.n == 400


def test_bootstrap_repeats_and_leaves_nan_out() -> None:
    values = [1.0, 2.0, math.nan, 6.0]
    assert measures.bootstrap(values, seed=3) == measures.bootstrap(values, seed=3)
    assert measures.bootstrap(values).n == 3
    assert measures.bootstrap(values).mean == pytest.approx(3.0)
    assert measures.bootstrap([4.0]) == measures.Statistic(4.0, 4.0, 4.0, 1)
    assert measures.bootstrap([math.nan]).n == 0


# -------------------------------------------------------------------------------------------------------- errors
def test_sizes_that_disagree_are_named() -> None:
    image, truth, mask = np.zeros((4, 5, 3)), np.zeros((4, 4, 3)), np.zeros((4, 4), bool)
    with pytest.raises(ShapeError, match=r"image: expected the size of the truth, \(4, 4, 3\), got \(4, 5, 3\)"):
        measures.masked_psnr(image, truth, mask)
    with pytest.raises(ShapeError, match="mask: expected"):
        measures.masked_ssim(truth, truth, mask[:3])
    with pytest.raises(ShapeError, match=r"truth: expected an \(H, W, 3\)"):
        measures.masked_psnr(mask, mask, mask)
    with pytest.raises(ShapeError, match="labels: expected"):
        measures.label_iou(np.zeros((4, 5)), np.zeros((4, 4)), {4})
    with pytest.raises(RangeError, match="level: expected"):
        measures.bootstrap([1.0], level=1.0)
    assert issubclass(ShapeError, StyleTryOnError)
