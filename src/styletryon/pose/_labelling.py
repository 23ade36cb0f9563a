"""From the probabilities of label classes in a frame to the labels of a photograph."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from styletryon.labels import Label
from styletryon.pose._photo import Box

Labels = npt.NDArray[np.uint8]

_GARMENTS = (Label.TOP, Label.OUTERWEAR, Label.BOTTOM, Label.DRESS)
_SLIGHT = 0.02  # a patch of a garment below this share of the person belongs to what is around it
_APART = 0.03  # a patch of this share of the person, and apart from them, is background
_LARGE = 0.15  # and from this share on it belongs to the box around them
_RADIUS = 3  # of the guided filter's windows, in samples of the label maps
_EPSILON = 1e-3  # variance of colour, in [0, 1], below which an edge is none
_FAINT = 0.1  # a class that is nowhere as probable as this is not there
_BLOCK = 1_500_000  # values that are brought to a photograph's size at a time


def person_box(probabilities: Tensor, frame: Box) -> Box | None:
    """Return the box around the person by what the pixels of a frame show; None if they show nobody.

    Args:
        probabilities: `(12, h, w)` of the classes.
        frame: What they show, in pixels of the photograph.
    """
    kept = _person(probabilities, _LARGE)
    rows, columns = np.flatnonzero(kept.any(1)), np.flatnonzero(kept.any(0))
    if not len(rows):
        return None
    left, top, right, bottom = frame
    step_x, step_y = (right - left) / kept.shape[1], (bottom - top) / kept.shape[0]
    return (
        left + float(columns[0]) * step_x,
        top + float(rows[0]) * step_y,
        left + float(columns[-1] + 1) * step_x,
        top + float(rows[-1] + 1) * step_y,
    )


def _person(probabilities: Tensor, least: float) -> npt.NDArray[np.bool_]:
    """Mark what is no background, but for patches below a share of the largest one."""
    from scipy import ndimage  # here, because it takes long to import

    person = (probabilities[Label.BACKGROUND] < 0.5).cpu().numpy()
    parts, count = ndimage.label(person, np.ones((3, 3)))
    sizes = np.bincount(parts.reshape(-1), minlength=count + 1)
    sizes[0] = 0
    kept: npt.NDArray[np.bool_] = (sizes >= max(1.0, least * float(sizes.max())))[parts]
    return kept


def coherent(probabilities: Tensor) -> Tensor:
    """Make the person one thing and each garment one: a dress or a top with a bottom, and no patches of one in another.

    Args:
        probabilities: `(12, h, w)` of the classes.

    Returns:
        `(12, h, w)`, of which what contradicts the choice is taken away.
    """
    result = _without_patches(_dress_or_not(probabilities))
    result = result / result.sum(0, keepdim=True).clamp(min=1e-6)
    apart = torch.from_numpy(~_person(result, _APART)).to(result.device) & (result[Label.BACKGROUND] < 0.5)
    result[:, apart] = 0
    result[Label.BACKGROUND, apart] = 1
    return result


def _dress_or_not(probabilities: Tensor) -> Tensor:
    """Decide as a whole whether somebody wears a dress, where the pixels do not agree."""
    classes = probabilities.argmax(0)
    dress = classes == Label.DRESS
    parts = (classes == Label.TOP) | (classes == Label.BOTTOM)
    place = dress | parts
    if not bool(dress.any()) or not bool(parts.any()):
        return probabilities
    chances = probabilities[:, place].clamp(min=1e-4)
    one = chances[Label.DRESS].log().mean()
    two = torch.maximum(chances[Label.TOP], chances[Label.BOTTOM]).log().mean()
    result = probabilities.clone()
    if one > two:
        moved = result[Label.TOP] + result[Label.BOTTOM]
        result[Label.DRESS] += moved
        result[[Label.TOP, Label.BOTTOM]] = 0
    else:
        share = result[Label.TOP] / (result[Label.TOP] + result[Label.BOTTOM]).clamp(min=1e-6)
        result[Label.TOP] += result[Label.DRESS] * share
        result[Label.BOTTOM] += result[Label.DRESS] * (1 - share)
        result[Label.DRESS] = 0
    return result


def _without_patches(probabilities: Tensor) -> Tensor:
    """Take a garment's class away where it is a small patch apart from its largest one."""
    from scipy import ndimage  # here, because it takes long to import

    classes = probabilities.argmax(0).cpu().numpy()
    least = _SLIGHT * float((classes != Label.BACKGROUND).sum())
    result = probabilities
    for label in _GARMENTS:
        patches, count = ndimage.label(classes == label)
        if count == 0:
            continue
        sizes = np.bincount(patches.reshape(-1), minlength=count + 1)
        sizes[0] = 0
        small = sizes < min(least, sizes.max())
        small[0] = False
        where = small[patches]
        if where.any():
            result = result.clone() if result is probabilities else result
            result[label, torch.from_numpy(where).to(result.device)] = 0
    return result


def spread(probabilities: Tensor, frame: Box, photo: Image.Image, picture: Tensor | None) -> Labels:
    """Bring the probabilities of the classes from a frame to a photograph's pixels, and take the most probable one.

    With a picture, they are brought to its edges by a guided filter (He, Sun and Tang, *Guided Image Filtering*, PAMI
    2013; the coefficients at the size of the maps, as in He and Sun, *Fast Guided Filter*, arXiv 1505.00996): within a
    window a probability is a linear function of the colours, which is then read off the photograph's own pixels.

    Args:
        probabilities: `(12, h, w)`.
        frame: What they show, in pixels of the photograph.
        photo: The photograph.
        picture: `(3, H, W)` in [-1, 1]: the frame as the network saw it, or None.

    Returns:
        `(H, W)` uint8, background beyond the frame.
    """
    labels = np.zeros((photo.height, photo.width), np.uint8)
    box = person_box(probabilities, frame)
    if box is None:
        return labels
    step_x = (frame[2] - frame[0]) / probabilities.shape[2]
    step_y = (frame[3] - frame[1]) / probabilities.shape[1]
    x0 = max(0, math.ceil(max(frame[0], box[0] - 6 * step_x)))
    x1 = min(photo.width, math.floor(min(frame[2], box[2] + 6 * step_x)))
    y0 = max(0, math.ceil(max(frame[1], box[1] - 6 * step_y)))
    y1 = min(photo.height, math.floor(min(frame[3], box[3] + 6 * step_y)))
    if x0 >= x1 or y0 >= y1:
        return labels
    shown = (probabilities.flatten(1).amax(1) >= _FAINT).nonzero()[:, 0]
    maps = probabilities[shown].float()
    if picture is None:
        maps = maps[:, None]
    else:
        guide = F.interpolate(picture[None].float(), size=maps.shape[1:], mode="area")[0] / 2 + 0.5
        maps = guided_coefficients(guide, maps)
    across = between(x0, x1, frame[0], frame[2], maps.shape[-1]).to(maps.device)  # (W, w)
    narrow = maps @ across.T  # (K, 1 or 4, h, W)
    above, share = _rows_between(y0, y1, frame[1], frame[3], maps.shape[-2])
    numbers = shown.to(torch.uint8)
    pixels = torch.from_numpy(np.array(photo.crop((x0, y0, x1, y1)))).to(maps.device).permute(2, 0, 1)
    rows = max(1, _BLOCK // (narrow[:, :, 0].numel()))
    for start in range(0, y1 - y0, rows):
        part = slice(start, start + rows)
        upper = narrow[:, :, above[part]]  # (K, 1 or 4, H', W)
        block = upper.lerp_(narrow[:, :, above[part] + 1], share[part, None].to(maps.device))
        if picture is None:
            found = block[:, 0]
        else:
            colours = pixels[:, part].float() / 255
            found = block[:, 3]
            for channel in range(3):
                found.addcmul_(block[:, channel], colours[channel])
        # On the CPU `max` is five times as fast as `argmax`.
        labels[y0 + start : y0 + start + found.shape[1], x0:x1] = numbers[found.max(0).indices].cpu().numpy()
    return labels


def guided_coefficients(guide: Tensor, values: Tensor) -> Tensor:
    """Fit maps by the colours in windows, and average the fits that meet in a pixel.

    Args:
        guide: `(3, h, w)` colours in [0, 1].
        values: `(K, h, w)` maps.

    Returns:
        `(K, 4, h, w)`: the slope along each colour, and what is added to them.
    """
    count = len(values)
    pairs = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    products = torch.stack([guide[a] * guide[b] for a, b in pairs])
    crossed = (guide[:, None] * values[None]).flatten(0, 1)  # (3 * K, h, w)
    means = _windows(torch.cat([guide, values, products, crossed]))
    centre, level = means[:3], means[3 : 3 + count]
    second, cross = means[3 + count : 9 + count], means[9 + count :].view(3, count, *guide.shape[1:])
    cross = cross - centre[:, None] * level[None]
    rr, rg, rb, gg, gb, bb = (
        value - centre[a] * centre[b] + (_EPSILON if a == b else 0.0)
        for value, (a, b) in zip(second, pairs, strict=True)
    )
    # The covariance of the colours is symmetric, and solved by cofactors for all windows at once.
    minors = torch.stack([gg * bb - gb * gb, rb * gb - rg * bb, rg * gb - rb * gg])
    determinant = rr * minors[0] + rg * minors[1] + rb * minors[2]
    inverse = torch.stack([
        torch.stack([minors[0], minors[1], minors[2]]),
        torch.stack([minors[1], rr * bb - rb * rb, rb * rg - rr * gb]),
        torch.stack([minors[2], rb * rg - rr * gb, rr * gg - rg * rg]),
    ]) / determinant  # fmt: skip
    slopes = torch.einsum("abhw,bkhw->kahw", inverse, cross)
    added = level - (slopes * centre).sum(1)
    return _windows(torch.cat([slopes, added[:, None]], dim=1).flatten(0, 1)).view(count, 4, *guide.shape[1:])


def _windows(maps: Tensor) -> Tensor:
    """Average each map over the window around each pixel, by running sums; beyond the edges it repeats itself."""
    side = 2 * _RADIUS + 1
    maps = F.pad(maps[None], (_RADIUS + 1, _RADIUS, _RADIUS + 1, _RADIUS), mode="replicate")[0]
    down = maps.cumsum(-2)
    down = down[..., side:, :] - down[..., :-side, :]
    across = down.cumsum(-1)
    return (across[..., side:] - across[..., :-side]) / side**2


def _rows_between(first: int, last: int, low: float, high: float, count: int) -> tuple[Tensor, Tensor]:
    """Return between which samples rows lie: the upper one's number, and how near they are to the lower one."""
    rows = torch.arange(first, last, dtype=torch.float32, device="cpu")
    place = ((rows + 0.5 - low) * (count / (high - low)) - 0.5).clamp(0, count - 1)
    above = place.floor().clamp(max=max(0, count - 2)).long()
    return above, place - above


def between(first: int, last: int, low: float, high: float, count: int) -> Tensor:
    """Linear interpolation as a matrix: pixels `first` to `last` out of `count` samples that fill [low, high]."""
    place = (torch.arange(first, last, dtype=torch.float32, device="cpu") + 0.5 - low) * (count / (high - low)) - 0.5
    weights = (1 - (place[:, None] - torch.arange(count, device="cpu")).abs()).clamp(min=0)
    # What is beyond the centres of the outermost samples takes their value.
    weights[:, 0] += (-place).clamp(0, 1)
    weights[:, -1] += (place - (count - 1)).clamp(0, 1)
    return weights
