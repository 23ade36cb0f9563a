"""The measures of the benchmark: small pure functions of pictures, masks and labels.

Pictures are `(H, W, 3)` arrays: uint8, or floats in [0, 1]. Masks are `(H, W)` bool. Labels are `(H, W)` integers.
Every function computes in float64 and none of them knows a generator, so that each can be checked by hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from styletryon.errors import RangeError, ShapeError
from styletryon.labels import Label
from styletryon.photo import to_unit_array
from styletryon.photo.colours import to_lab

Array = NDArray[Any]
Mask = NDArray[np.bool_]

PSNR_CEILING = 60.0
"""Decibels of a perfect copy. 8-bit pictures have no finite PSNR when they agree, and a mean needs one."""

MIN_UNCOVERED = 20
"""Fewer uncovered foreground pixels than this say nothing about the pair's uncovered area."""

MIN_CLASS_PIXELS = 30
"""A class that the truth shows with fewer pixels than this is left out of `mean_iou`."""

MIN_KEYPOINT_SCORE = 0.3
"""A keypoint that was asked for with a lower score is not compared."""

MIN_TORSO_SHARE = 1 / 16
"""A torso shorter than this share of the picture's height is no measure of distances."""

MIN_TEXTURE_PIXELS = 50
"""An eroded garment smaller than this has no texture to speak of."""

MIN_TEXTURE_CONTRAST = 0.02
"""A pattern whose root mean square is below this (in [0, 1]) is not visible, so it cannot be missed."""

ERODE_SHARE = 1 / 64
"""Radius of the erosion of a garment before its texture is read, as a share of the picture's height."""

DETAIL_SHARE = 6 / 128
"""Standard deviation of the blur that is subtracted to leave the detail, as a share of the picture's height."""


# ------------------------------------------------------------------------------------------------------- regions
def foreground(truth: Array) -> Mask:
    """Find the pixels of the person: every class but the background.

    Args:
        truth: `(H, W)` label classes of the truth.

    Returns:
        `(H, W)` bool.
    """
    return np.asarray(np.asarray(truth) != 0)


def class_mask(labels: Array, classes: Iterable[int]) -> Mask:
    """Find the pixels of some classes.

    Args:
        labels: `(H, W)` label classes.
        classes: The classes that are wanted.

    Returns:
        `(H, W)` bool.
    """
    return np.isin(labels, [int(c) for c in classes])


def identity_mask(truth: Array, person: Array, classes: Iterable[int]) -> Mask:
    """Find what a try-on should leave as it was: foreground outside the old and the new garment.

    Args:
        truth: `(H, W)` label classes of the truth.
        person: `(H, W)` label classes of the person before the try-on, in the same pose.
        classes: The classes of the region.

    Returns:
        `(H, W)` bool.
    """
    wanted = list(classes)
    return foreground(truth) & ~class_mask(truth, wanted) & ~class_mask(person, wanted)


def uncovered_mask(truth: Array, person: Array, classes: Iterable[int]) -> Mask:
    """Find what appears from under the old garment: foreground that it covered and the new one does not.

    Args:
        truth: `(H, W)` label classes of the truth.
        person: `(H, W)` label classes of the person before the try-on, in the same pose.
        classes: The classes of the region.

    Returns:
        `(H, W)` bool.
    """
    wanted = list(classes)
    return foreground(truth) & ~class_mask(truth, wanted) & class_mask(person, wanted)


def erode(mask: Array, radius: int) -> Mask:
    """Shrink a mask: a pixel stays when the square of `2 * radius + 1` pixels round it lies inside.

    Outside the picture counts as outside the mask.

    Args:
        mask: `(H, W)` bool.
        radius: Pixels to take off; 0 leaves the mask as it is.

    Returns:
        `(H, W)` bool.
    """
    inside = np.asarray(mask, dtype=bool)
    return np.asarray(ndimage.minimum_filter(inside, size=2 * radius + 1, mode="constant", cval=0))


# ------------------------------------------------------------------------------------------------------ fidelity
def masked_psnr(image: Array, truth: Array, mask: Array) -> float:
    """Compute the peak signal-to-noise ratio over the pixels of a mask.

    `-10 log10(mean squared error)` with the mean over the mask's pixels and the three colours, pictures in [0, 1].

    Args:
        image: `(H, W, 3)` picture to judge, uint8 or [0, 1].
        truth: `(H, W, 3)` what it should show.
        mask: `(H, W)` bool: the pixels that count.

    Returns:
        Decibels, at most `PSNR_CEILING`; NaN where the mask is empty.

    Raises:
        ShapeError: If the pictures and the mask disagree in size.
    """
    image, truth, mask = _prepare(image, truth, mask)
    if not mask.any():
        return math.nan
    error = float(np.mean((image[mask] - truth[mask]) ** 2))
    return min(PSNR_CEILING, -10 * math.log10(max(error, 1e-12)))


def masked_ssim(image: Array, truth: Array, mask: Array, *, window: int = 11, sigma: float = 1.5) -> float:
    """Compute the structural similarity averaged over the pixels of a mask.

    The map of Wang et al. 2004 (Gaussian window of 11 pixels and sigma 1.5, K1 = 0.01, K2 = 0.03, population variances,
    pictures mirrored at their edges), per colour. The windows of pixels near the mask's edge look beyond it.

    Args:
        image: `(H, W, 3)` picture to judge, uint8 or [0, 1].
        truth: `(H, W, 3)` what it should show.
        mask: `(H, W)` bool: the pixels whose similarity is averaged.
        window: Odd width of the window in pixels.
        sigma: Standard deviation of the window in pixels.

    Returns:
        A number in [-1, 1]; NaN where the mask is empty.

    Raises:
        ShapeError: If the pictures and the mask disagree in size.
    """
    image, truth, mask = _prepare(image, truth, mask)
    if not mask.any():
        return math.nan
    offsets = np.arange(window) - (window - 1) / 2
    kernel = np.exp(-(offsets**2) / (2 * sigma**2))
    kernel /= kernel.sum()

    def blur(values: Array) -> Array:
        return _convolve(values, kernel, mode="symmetric")

    mean_a, mean_b = blur(image), blur(truth)
    variance_a = blur(image**2) - mean_a**2
    variance_b = blur(truth**2) - mean_b**2
    covariance = blur(image * truth) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    similarity = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    )
    return float(similarity[mask].mean())


def label_iou(labels: Array, truth: Array, classes: Iterable[int]) -> float:
    """Compute the intersection over union of a region that is drawn and the region of the truth.

    Args:
        labels: `(H, W)` drawn label classes.
        truth: `(H, W)` label classes of the truth.
        classes: The classes of the region, taken together.

    Returns:
        A share in [0, 1]; NaN where neither shows the region.

    Raises:
        ShapeError: If the labels disagree in size.
    """
    _same_size("labels", np.shape(labels), np.shape(truth))
    wanted = list(classes)
    drawn, true = class_mask(labels, wanted), class_mask(truth, wanted)
    union = int((drawn | true).sum())
    return math.nan if union == 0 else int((drawn & true).sum()) / union


def class_ious(labels: Array, truth: Array, *, min_pixels: int = MIN_CLASS_PIXELS) -> dict[Label, float]:
    """Compute the intersection over union of each foreground class.

    Args:
        labels: `(H, W)` drawn label classes.
        truth: `(H, W)` label classes of the truth.
        min_pixels: A class with fewer pixels in the truth is not measured.

    Returns:
        Class -> a share in [0, 1], NaN where the class is not measured; every class but the background.

    Raises:
        ShapeError: If the labels disagree in size.
    """
    _same_size("labels", np.shape(labels), np.shape(truth))
    true = np.asarray(truth)
    return {
        label: label_iou(labels, truth, {label}) if (true == label).sum() >= min_pixels else math.nan
        for label in Label
        if label != Label.BACKGROUND
    }


def mean_iou(labels: Array, truth: Array, *, min_pixels: int = MIN_CLASS_PIXELS) -> float:
    """Average the intersection over union of each foreground class that the truth shows.

    Every class counts alike, whatever its area. The background is left out: it is large, easy, and lifts every score.

    Args:
        labels: `(H, W)` drawn label classes.
        truth: `(H, W)` label classes of the truth.
        min_pixels: A class with fewer pixels in the truth is left out.

    Returns:
        A share in [0, 1]; NaN where no class is large enough.

    Raises:
        ShapeError: If the labels disagree in size.
    """
    found = [iou for iou in class_ious(labels, truth, min_pixels=min_pixels).values() if not math.isnan(iou)]
    return math.nan if not found else float(np.mean(found))


# --------------------------------------------------------------------------------------------------------- poses
@dataclass(frozen=True)
class PoseErrors:
    """Distances of the keypoints in a picture from those that were asked for.

    Attributes:
        error: Mean distance as a share of the torso's length.
        pck_10: The share of keypoints within 0.1 of the torso's length.
        pck_20: The share within 0.2.
    """

    error: float
    pck_10: float
    pck_20: float


def keypoint_errors(found: Array, asked: Array, size: tuple[int, int]) -> PoseErrors | None:
    """Compare the keypoints that were found in a picture with those that it was drawn for.

    Keypoints count that were asked for with a score of at least `MIN_KEYPOINT_SCORE` and inside the picture. The torso
    reaches from the middle of the shoulders to the middle of the hips of the asked pose.

    Args:
        found: `(17, 2)` or `(17, 3)` x and y in pixels of the picture.
        asked: `(17, 3)` x, y and score in the same pixels.
        size: Height and width of the picture.

    Returns:
        The errors; None where no keypoint counts, or the asked torso is not there or under `MIN_TORSO_SHARE` of the
        picture's height.

    Raises:
        ShapeError: If the keypoints are not 17.
    """
    there, want = np.asarray(found, dtype=np.float64), np.asarray(asked, dtype=np.float64)
    if there.shape[:1] != (17,) or want.shape != (17, 3):
        raise ShapeError(
            f"expected (17, 2) and (17, 3) keypoints, got {there.shape} and {want.shape}", argument="found, asked"
        )
    x, y, score = want.T
    counts = (score >= MIN_KEYPOINT_SCORE) & (x >= 0) & (y >= 0) & (x <= size[1]) & (y <= size[0])
    torso = float(np.linalg.norm(want[5:7, :2].mean(axis=0) - want[11:13, :2].mean(axis=0)))
    if not counts.any() or (score[[5, 6, 11, 12]] <= 0).any() or torso < MIN_TORSO_SHARE * size[0]:
        return None
    apart = np.linalg.norm(there[:, :2] - want[:, :2], axis=1)[counts] / torso
    return PoseErrors(float(apart.mean()), float((apart <= 0.1).mean()), float((apart <= 0.2).mean()))


# ------------------------------------------------------------------------------------------------------- texture
@dataclass(frozen=True)
class Texture:
    """The share of the truth's pattern that is drawn; all three are 1 for the truth itself.

    Attributes:
        contrast: Standard deviation of the drawn detail over that of the truth's detail. Noise and folds raise it too.
        correlation: Pearson correlation of the two, in [-1, 1]. A pattern in the wrong place lowers it.
        drawn: The slope of the drawn detail regressed on the truth's, `contrast * correlation`: the share of the
            pattern that is drawn where it belongs. Blur brings it to 0, and so does noise, which no truth explains.
    """

    contrast: float
    correlation: float
    drawn: float


def detail(image: Array, mask: Array, *, sigma: float) -> Array:
    """Take the slow changes of colour out of the masked part of a picture.

    What remains is `image - blur(image * mask) / blur(mask)`: the mean is local and over the mask alone, so that the
    colours beyond the garment's edge leave no trace inside it.

    Args:
        image: `(H, W, 3)` floats.
        mask: `(H, W)` bool.
        sigma: Standard deviation of the Gaussian blur in pixels. A stripe of period p keeps
            `1 - exp(-2 (pi sigma / p)**2)` of its contrast.

    Returns:
        `(N, 3)` float64: the detail at the N pixels of the mask.
    """
    weight = np.asarray(mask, dtype=np.float64)[..., None]
    reach = max(1, math.ceil(3 * sigma))
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    mean = _convolve(image * weight, kernel, mode="constant") / np.maximum(
        _convolve(weight, kernel, mode="constant"), 1e-12
    )
    inside = (image - mean)[np.asarray(mask, dtype=bool)]
    return np.asarray(inside - inside.mean(axis=0, keepdims=True))


def texture(
    image: Array,
    truth: Array,
    mask: Array,
    *,
    plain: Array | None = None,
    sigma: float | None = None,
) -> Texture | None:
    """Compare the pattern inside a garment with the truth's.

    The detail of a picture is its difference from the same figure in plain cloth (which takes folds and shading out),
    less the masked local mean (which takes a wrong colour or a wrong light out). Both pictures go through the same
    steps, and the three colours are read together, so stripes of equal lightness count too.

    Args:
        image: `(H, W, 3)` picture to judge, uint8 or [0, 1].
        truth: `(H, W, 3)` what it should show.
        mask: `(H, W)` bool: the garment in the truth, eroded, so that edges do not pass for pattern.
        plain: `(H, W, 3)` the truth with the garment in plain cloth, or None, when the local mean alone is taken out.
        sigma: Standard deviation of the local mean in pixels. Default: `DETAIL_SHARE` of the height.

    Returns:
        The comparison; None where the mask holds under `MIN_TEXTURE_PIXELS` or the truth's detail is fainter than
        `MIN_TEXTURE_CONTRAST`.

    Raises:
        ShapeError: If the pictures and the mask disagree in size.
    """
    image, truth, mask = _prepare(image, truth, mask)
    if int(mask.sum()) < MIN_TEXTURE_PIXELS:
        return None
    base = np.zeros_like(truth) if plain is None else _prepare(plain, truth, mask)[0]
    width = DETAIL_SHARE * truth.shape[0] if sigma is None else sigma
    drawn, true = (detail(picture - base, mask, sigma=width) for picture in (image, truth))
    energy, power = float((drawn**2).mean()), float((true**2).mean())
    if math.sqrt(power) < MIN_TEXTURE_CONTRAST:
        return None
    shared = float((drawn * true).mean())
    return Texture(
        contrast=math.sqrt(energy / power),
        correlation=shared / math.sqrt(energy * power) if energy > 1e-12 else 0.0,
        drawn=shared / power,
    )


# ------------------------------------------------------------------------------------------- without a truth
def colour_distance(image: Array, mask: Array, other: Array, other_mask: Array) -> float:
    """Compute the CIELAB distance (delta E 1976) of the mean colours of two garments.

    Args:
        image: `(H, W, 3)` first picture, uint8 or [0, 1].
        mask: `(H, W)` bool: its garment.
        other: `(H, W, 3)` second picture; its size may differ.
        other_mask: `(H, W)` bool: its garment.

    Returns:
        A distance >= 0, where 2 is barely visible; NaN where a mask is empty.

    Raises:
        ShapeError: If a picture and its mask disagree in size.
    """
    image, _, mask = _prepare(image, image, mask)
    other, _, other_mask = _prepare(other, other, other_mask)
    if not mask.any() or not other_mask.any():
        return math.nan
    return float(np.linalg.norm(to_lab(image[mask]).mean(axis=0) - to_lab(other[other_mask]).mean(axis=0)))


def texture_distance(image: Array, mask: Array, other: Array, other_mask: Array) -> float:
    """Compare the strength of detail inside two garments, wherever it lies.

    The lightness inside each mask is split into octaves by differences of masked Gaussian blurs (sigma 0.5, 1, 2, 4
    and 8 pixels at a height of 128); the distance is the mean over the octaves of the difference of their standard
    deviations. Places are not compared, so the two garments may hang in different poses.

    Args:
        image: `(H, W, 3)` first picture, uint8 or [0, 1].
        mask: `(H, W)` bool: its garment.
        other: `(H, W, 3)` second picture.
        other_mask: `(H, W)` bool: its garment.

    Returns:
        A distance >= 0 in units of CIELAB lightness; NaN where a mask holds under `MIN_TEXTURE_PIXELS`.

    Raises:
        ShapeError: If a picture and its mask disagree in size.
    """
    bands: list[Array] = []
    for picture, region in ((image, mask), (other, other_mask)):
        colours, _, inside = _prepare(picture, picture, region)
        if int(inside.sum()) < MIN_TEXTURE_PIXELS:
            return math.nan
        light = to_lab(colours)[..., :1]
        levels = [detail(light, inside, sigma=s * light.shape[0] / 128) for s in (0.5, 1, 2, 4, 8)]
        # detail = light - blur, so neighbouring details differ by the band between the two blurs.
        spreads = [levels[0].std(), *((b - a).std() for a, b in pairwise(levels))]
        bands.append(np.asarray(spreads))
    return float(np.abs(bands[0] - bands[1]).mean())


# ---------------------------------------------------------------------------------------------------- statistics
@dataclass(frozen=True)
class Statistic:
    """A mean over pairs and the interval that it is known to.

    Attributes:
        mean: The mean; NaN when nothing was measured.
        low: Lower end of the 95 % interval.
        high: Upper end of the 95 % interval.
        n: How many pairs it is the mean of.
    """

    mean: float
    low: float
    high: float
    n: int


def bootstrap(
    values: Sequence[float] | Array,
    *,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> Statistic:
    """Compute a mean and its percentile bootstrap interval. Values that are NaN are left out.

    Args:
        values: One number per pair.
        seed: Seed of the resampling.
        resamples: How many resamples to draw.
        level: Share of the resampled means that the interval holds.

    Returns:
        The statistic; one value gives an interval of no width.

    Raises:
        RangeError: If `level` lies outside (0, 1).
    """
    if not 0 < level < 1:
        raise RangeError(f"expected a share between 0 and 1, got {level}", argument="level")
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    if known.size == 0:
        return Statistic(math.nan, math.nan, math.nan, 0)
    rng = np.random.default_rng(seed)
    means = known[rng.integers(known.size, size=(resamples, known.size))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Statistic(float(known.mean()), float(low), float(high), int(known.size))


# ------------------------------------------------------------------------------------------------------- helpers
def _unit(image: Array) -> Array:
    array = np.asarray(image)
    return to_unit_array(array) if array.dtype == np.uint8 else array.astype(np.float64)


def _same_size(name: str, got: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if got != expected:
        raise ShapeError(f"expected the size of the truth, {expected}, got {got}; resize one of them", argument=name)


def _prepare(image: Array, truth: Array, mask: Array) -> tuple[Array, Array, Mask]:
    first, second, inside = _unit(image), _unit(truth), np.asarray(mask, dtype=bool)
    if second.ndim != 3 or second.shape[2] != 3:
        raise ShapeError(f"expected an (H, W, 3) picture, got shape {second.shape}", argument="truth")
    _same_size("image", first.shape, second.shape)
    _same_size("mask", inside.shape, second.shape[:2])
    return first, second, inside


def _convolve(values: Array, kernel: Array, *, mode: str) -> Array:
    pad: Callable[..., Array] = np.pad
    reach = len(kernel) // 2
    result = np.asarray(values, dtype=np.float64)
    for axis in (0, 1):
        widths = [(reach, reach) if a == axis else (0, 0) for a in range(result.ndim)]
        # numpy mirrors again and again where the reach is wider than the picture.
        padded = pad(result, widths, mode=mode)
        length = result.shape[axis]
        total = np.zeros_like(result)
        for shift, weight in enumerate(kernel):
            window = [slice(None)] * result.ndim
            window[axis] = slice(shift, shift + length)
            total += weight * padded[tuple(window)]
        result = total
    return result
