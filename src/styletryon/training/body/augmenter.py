"""Training pictures: drawn frames, backgrounds, colours and hidden parts. The data are few, so this does the work."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from styletryon.labels import Label
from styletryon.pose._pose import FLIP_ORDER, NUM_KEYPOINTS
from styletryon.training.body.examples import IGNORED, Cutout, Example, Floats

Bytes = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]

_GARMENTS = (Label.TOP, Label.OUTERWEAR, Label.BOTTOM, Label.DRESS, Label.LEGWEAR, Label.SHOES, Label.ACCESSORY)


class Augmenter:
    """Makes training pictures: draws the frame, the background, the colours and what is hidden.

    Args:
        strips: Scenery without people, for backgrounds and for pictures of nobody.
        seed: Of every random choice.
        cutouts: Bags, hands and the like, to lay before people.
    """

    def __init__(self, strips: Sequence[Image.Image], seed: int, cutouts: Sequence[Cutout] = ()) -> None:
        self.strips = list(strips)
        self.cutouts = list(cutouts)
        self.rng = np.random.default_rng(seed)

    def scenery(self, size: tuple[int, int]) -> Image.Image:
        """Draw a picture of `size` (height, width) with nobody in it."""
        rng = self.rng
        height, width = size
        if self.strips and rng.random() < 0.6:
            strip = self.strips[rng.integers(len(self.strips))]
            # A part of the strip, stretched at will: a wall is a wall at any aspect.
            part_h = max(8, int(strip.height * rng.uniform(0.25, 1.0)))
            part_w = max(8, int(strip.width * rng.uniform(0.6, 1.0)))
            x, y = int(rng.integers(strip.width - part_w + 1)), int(rng.integers(strip.height - part_h + 1))
            image = strip.resize((width, height), Image.Resampling.BILINEAR, box=(x, y, x + part_w, y + part_h))
            return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else image
        kind = rng.random()
        base = rng.uniform(0, 255, 3)
        if kind < 0.3:
            array = np.broadcast_to(base, (height, width, 3))
        elif kind < 0.55:
            ramp = np.linspace(0, 1, height)[:, None, None] * rng.choice([-1, 1])
            across = np.linspace(0, 1, width)[None, :, None] * rng.uniform(-1, 1)
            array = base + (ramp + across) * rng.uniform(-120, 120, 3)
        else:
            array = np.broadcast_to(base, (height, width, 3)).copy()
            for octave in rng.choice([3, 6, 12, 24, 48, 96], size=rng.integers(1, 4), replace=False):
                cells = rng.normal(0, rng.uniform(10, 70), (int(octave), int(octave), rng.choice([1, 3])))
                cells = np.broadcast_to(cells, (int(octave), int(octave), 3))
                grown = np.clip(cells + 128, 0, 255).astype(np.uint8)
                mode = Image.Resampling.NEAREST if rng.random() < 0.3 else Image.Resampling.BILINEAR
                array = array + np.asarray(Image.fromarray(grown).resize((width, height), mode), np.float32) - 128
        if rng.random() < 0.3:
            array = array + rng.normal(0, rng.uniform(2, 40), (height, width, 3))
        return Image.fromarray(np.clip(array, 0, 255).astype(np.uint8))

    def window(self, example: Example) -> Box:
        """Draw the part of a photograph that is the picture: all of it, or a person cut as shops and portraits cut.

        Returns:
            Left, top, right and bottom in pixels of the example.
        """
        rng = self.rng
        width, height = example.image.size
        whole = (0, 0, width, height)
        trunk = example.trunk()
        if trunk is None or rng.random() < 0.42:
            return whole
        nose, shoulders, hips, knees = trunk
        torso = hips - shoulders
        top, bottom = 0.0, float(height)
        kind = rng.random()
        headless = kind < 0.35
        if headless:  # between the eyes and the shoulders
            top = rng.uniform(nose - 0.1 * (shoulders - nose), nose + 0.95 * (shoulders - nose))
        elif kind < 0.55:  # anywhere on the trunk, or at the thighs
            top = rng.uniform(shoulders, hips + 0.2 * torso)
        elif kind < 0.75:  # close above the head
            top = max(0.0, nose - rng.uniform(0.3, 0.6) * torso)
        kind = rng.random() * (0.6 if headless else 1.0)  # shops cut heads and legs off together
        if kind < 0.45:
            bottom = hips + rng.uniform(-0.15, 0.6) * torso
        elif kind < 0.6:
            bottom = shoulders + rng.uniform(0.1, 0.9) * torso
        elif kind < 0.75:
            bottom = knees + rng.uniform(-0.4, 0.8) * torso
        if bottom - top < 0.6 * torso:
            bottom = top + rng.uniform(0.6, 1.2) * torso
        left, right = 0.0, float(width)
        low, high = example.reach()[0::2]
        kind = rng.random()
        if kind < 0.45:
            left, right = low - rng.uniform(0.0, 0.6) * torso, high + rng.uniform(0.0, 0.6) * torso
        elif kind < 0.55:  # an arm, or half of the person, is cut off
            left, right = low + rng.uniform(-0.3, 0.3) * torso, high + rng.uniform(-0.3, 0.3) * torso
        box = (max(0, round(left)), max(0, round(top)), min(width, round(right)), min(height, round(bottom)))
        return box if box[2] - box[0] >= 16 and box[3] - box[1] >= 16 else whole

    def frame(self, example: Example, window: Box, size: tuple[int, int]) -> Floats:
        """Draw the affine map from the pixels of the training picture to those of the example, `(2, 3)` float32."""
        rng = self.rng
        height, width = size
        box = np.array(window, np.float64)
        kind = rng.random()
        shown = np.array(example.reach(), np.float64)
        shown = np.concatenate([np.maximum(shown[:2], box[:2]), np.minimum(shown[2:], box[2:])])
        if kind < 0.35 or (shown[2:] - shown[:2]).min() < 8:  # the letterboxed picture
            wide, high = box[2:] - box[:2]
            step = max(high / height, wide / width) * math.exp(rng.uniform(-0.05, 0.3))
            centre = (box[:2] + box[2:]) / 2
        else:  # what is seen of the person, and room around it
            wide, high = shown[2:] - shown[:2]
            if kind < 0.9:
                share = math.exp(rng.uniform(math.log(0.7), math.log(1.0)))
            else:
                share = math.exp(rng.uniform(math.log(1.0), math.log(1.7)))
            step = max(high / height, wide / width) / share
            centre = (shown[:2] + shown[2:]) / 2
            room = np.abs(np.array([width, height]) * step - np.array([wide, high])) / 2 + 0.03 * high
            centre = centre + rng.uniform(-0.8, 0.8, 2) * room
        angle = math.radians(float(np.clip(rng.normal(0, 10), -25, 25))) if rng.random() < 0.6 else 0.0
        stretch = math.exp(rng.uniform(-0.1, 0.1))
        mirror = -1.0 if rng.random() < 0.5 else 1.0
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        linear = turn @ np.diag([step * stretch * mirror, step])
        shift = centre - linear @ (np.array([width, height]) / 2)
        return np.concatenate([linear, shift[:, None]], axis=1).astype(np.float32)

    def draw(self, example: Example, size: tuple[int, int]) -> tuple[Bytes, Floats, Bytes]:
        """Make one training picture.

        Args:
            example: What it shows.
            size: Its height and width.

        Returns:
            The picture `(H, W, 3)`; its keypoints `(17, 3)`, of score 0 where a keypoint is outside or unknown; and its
            labels `(H/2, W/2)`, `IGNORED` where they are unknown.
        """
        height, width = size
        if example.keypoints is None:
            picture = np.array(self.nobody(size))
            labels = np.zeros((height // 2, width // 2), np.uint8)
            self.erase(picture, labels)
            return picture, np.zeros((NUM_KEYPOINTS, 3), np.float32), labels
        window = self.window(example)
        matrix = self.frame(example, window, size)
        keypoints = _moved_keypoints(example.keypoints, matrix, size, window)
        labels = _moved_labels(example, matrix, size, window)
        picture = np.array(self._photograph(example, window, matrix, size))
        self.dye(picture, labels)
        scale = abs(float(np.linalg.det(matrix[:, :2]))) ** -0.5
        self.occlude(picture, labels, keypoints, example.torso() * scale)
        self.erase(picture, labels)
        return picture, keypoints, labels

    def _photograph(self, example: Example, window: Box, matrix: Floats, size: tuple[int, int]) -> Image.Image:
        """Resample a window of an example, perhaps with another background."""
        rng = self.rng
        image, mask = example.image, example.mask
        if window != (0, 0, *image.size):
            image = image.crop(window)
            mask = mask.crop(window) if mask is not None else None
        if mask is not None and rng.random() < example.cut:
            small = (max(8, image.height // 2), max(8, image.width // 2))
            ground = self.studio(small) if rng.random() < 0.5 else self.scenery(small)
            image = Image.composite(image, ground.resize(image.size, Image.Resampling.BILINEAR), mask)
        data = matrix - np.array([[0, 0, window[0]], [0, 0, window[1]]], np.float32)
        step = abs(float(np.linalg.det(matrix[:, :2]))) ** 0.5
        if step > 1.6:  # the interpolation reads 2x2 pixels: shrink first, or it aliases
            small = (max(1, round(image.width / step * 1.2)), max(1, round(image.height / step * 1.2)))
            data = data * np.array([[small[0] / image.width], [small[1] / image.height]], np.float32)
            image = image.resize(small, Image.Resampling.BILINEAR)
        # What the estimator fills with, and now and then another colour.
        fill = (128, 128, 128) if rng.random() < 0.85 else tuple(int(v) for v in rng.integers(0, 256, 3))
        coefficients = tuple(float(v) for v in data.reshape(-1))
        return image.transform(
            (size[1], size[0]), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR, fillcolor=fill
        )

    def studio(self, size: tuple[int, int]) -> Image.Image:
        """Draw the plain, mostly light ground of a shop's picture."""
        rng = self.rng
        height, width = size
        base = rng.uniform(185, 255) + rng.normal(0, 4, 3)
        down, across = np.linspace(-1, 1, height)[:, None, None], np.linspace(-1, 1, width)[None, :, None]
        array = base + down * rng.uniform(-25, 25) + across * rng.uniform(-12, 12) - (across**2) * rng.uniform(0, 20)
        return Image.fromarray(np.clip(array, 0, 255).astype(np.uint8))

    def dye(self, picture: Bytes, labels: Bytes) -> None:
        """Give one garment, or the skin, of some of the pictures another colour, in place."""
        rng = self.rng
        kind = rng.random()
        if kind >= 0.4:
            return
        if kind < 0.28:
            classes = [int(one) for one in np.unique(labels) if one in _GARMENTS]
            if not classes:
                return
            where = labels == classes[rng.integers(len(classes))]
            mixing = np.eye(3, dtype=np.float32)[rng.permutation(3)]
            mixing = mixing * rng.uniform(0.5, 1.2, 3).astype(np.float32)
            shift = rng.uniform(-30, 50, 3).astype(np.float32)
        else:
            where = np.isin(labels, (Label.FACE, Label.SKIN))
            mixing = np.diag(math.exp(rng.uniform(-1.1, 0.25)) * rng.uniform(0.9, 1.1, 3)).astype(np.float32)
            shift = np.zeros(3, np.float32)
        rows, columns = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
        if not len(rows):
            return
        part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        full = np.s_[2 * rows[0] : 2 * rows[-1] + 2, 2 * columns[0] : 2 * columns[-1] + 2]
        cover = Image.fromarray(where[part].astype(np.uint8) * 255).resize(
            (2 * (columns[-1] - columns[0] + 1), 2 * (rows[-1] - rows[0] + 1)), Image.Resampling.BILINEAR
        )
        share = np.asarray(cover, np.float32)[..., None] / 255
        old = picture[full].astype(np.float32)
        picture[full] = np.clip(old + share * (old @ mixing + shift - old), 0, 255)

    def occlude(self, picture: Bytes, labels: Bytes, keypoints: Floats, torso: float) -> None:
        """Lay bags, hands and phones before some of the people, in place; covered keypoints score little.

        Args:
            picture: `(H, W, 3)`.
            labels: `(H/2, W/2)`.
            keypoints: `(17, 3)` in the picture's pixels.
            torso: Its length in the picture's pixels.
        """
        rng = self.rng
        shown = keypoints[keypoints[:, 2] > 0, :2]
        if rng.random() >= 0.25 or not len(shown):
            return
        for _ in range(rng.integers(1, 3)):
            cutout = self.cutouts[rng.integers(len(self.cutouts))] if self.cutouts and rng.random() < 0.8 else None
            picked = _phone(rng) if cutout is None else cutout
            scale = torso / picked.torso * rng.uniform(0.75, 1.4)
            height, width = (max(3, round(side * scale)) for side in picked.mask.shape)
            if max(height, width) > min(picture.shape[:2]):
                continue
            angle = rng.uniform(-180, 180) if picked.label == Label.SKIN else rng.normal(0, 25)
            image = Image.merge("RGBA", (*Image.fromarray(picked.image).split(), Image.fromarray(picked.mask)))
            image = image.resize((width, height), Image.Resampling.BILINEAR)
            image = image.rotate(angle, Image.Resampling.BILINEAR, expand=True)
            low, high = shown.min(0), shown.max(0)
            x, y = (rng.uniform(low, np.maximum(high, low + 1)) - np.array(image.size) / 2).astype(int) // 2 * 2
            x0, y0 = max(0, x), max(0, y)
            x1, y1 = min(picture.shape[1], x + image.width), min(picture.shape[0], y + image.height)
            if x1 - x0 < 4 or y1 - y0 < 4:
                continue
            patch = np.asarray(image)[y0 - y : y1 - y, x0 - x : x1 - x].astype(np.float32)
            share = patch[..., 3:] / 255
            view = picture[y0:y1, x0:x1]
            view[...] = view + share * (patch[..., :3] - view)
            half = share[::2, ::2, 0] > 0.5
            labels[y0 // 2 : y0 // 2 + half.shape[0], x0 // 2 : x0 // 2 + half.shape[1]][half] = picked.label
            for point in keypoints:
                column, row = int(point[0]) - x0, int(point[1]) - y0
                if 0 <= column < x1 - x0 and 0 <= row < y1 - y0 and share[row, column, 0] > 0.5:
                    point[2] *= 0.1

    def nobody(self, size: tuple[int, int]) -> Image.Image:
        """Draw a picture of `size` (height, width) with nobody in it, often as a smaller picture on a ground.

        The picture on the ground matters: without it whatever stands upright before grey passes for a person.
        """
        rng = self.rng
        height, width = size
        if rng.random() < 0.4:
            return self.scenery(size)
        if self.strips and rng.random() < 0.7:
            inner = self.strips[rng.integers(len(self.strips))]
            if rng.random() < 0.5:
                part = max(8, int(inner.height * rng.uniform(0.3, 1.0)))
                top = int(rng.integers(inner.height - part + 1))
                inner = inner.crop((0, top, inner.width, top + part))
        else:
            inner = self.scenery((64, max(8, int(64 * math.exp(rng.uniform(-1.4, 1.0))))))
        scale = min(height / inner.height, width / inner.width) * (1.0 if rng.random() < 0.5 else rng.uniform(0.4, 1.3))
        inner = inner.resize((max(1, round(inner.width * scale)), max(1, round(inner.height * scale))))
        kind = rng.random()
        fill = (128, 128, 128) if kind < 0.6 else tuple(int(v) for v in rng.integers(0, 256, 3))
        ground = Image.new("RGB", (width, height), fill) if kind < 0.8 else self.scenery(size)
        loose = 0.0 if rng.random() < 0.5 else 0.5
        x = (width - inner.width) * (0.5 + float(rng.uniform(-loose, loose)))
        y = (height - inner.height) * (0.5 + float(rng.uniform(-loose, loose)))
        ground.paste(inner, (round(x), round(y)))
        return ground

    def erase(self, picture: Bytes, labels: Bytes) -> None:
        """Lay patches of colour or noise over some of the pictures, in place; what is under them is `IGNORED`.

        Args:
            picture: `(H, W, 3)`.
            labels: `(H/2, W/2)`.
        """
        rng = self.rng
        height, width = picture.shape[:2]
        if rng.random() >= 0.15:
            return
        for _ in range(rng.integers(1, 3)):
            h, w = int(height * rng.uniform(0.05, 0.3)), int(width * rng.uniform(0.05, 0.35))
            y, x = rng.integers(height - h), rng.integers(width - w)
            flat = rng.random() < 0.5
            picture[y : y + h, x : x + w] = rng.integers(0, 256, 3) if flat else rng.integers(0, 256, (h, w, 3))
            labels[y // 2 : (y + h + 1) // 2, x // 2 : (x + w + 1) // 2] = IGNORED

    def recolour(self, images: Tensor) -> Tensor:
        """Change light, contrast, colour, sharpness and grain of `(B, 3, H, W)` images in [0, 1]; also their range."""
        rng = self.rng
        count = len(images)

        def draw(low: float, high: float, channels: int = 1) -> Tensor:
            return torch.from_numpy(rng.uniform(low, high, (count, channels, 1, 1)).astype(np.float32))

        mean = images.mean((1, 2, 3), keepdim=True)
        images = (images - mean) * draw(0.65, 1.35) + mean * draw(0.65, 1.35)
        images = images * draw(0.85, 1.15, 3)
        grey = images.mean(1, keepdim=True)
        images = grey + (images - grey) * draw(0.3, 1.4) * (draw(0, 1) > 0.06)
        soft = torch.from_numpy(rng.random(count) < 0.15)
        if bool(soft.any()):
            small = F.interpolate(images[soft], scale_factor=float(rng.uniform(0.35, 0.8)), mode="area")
            images[soft] = F.interpolate(small, size=images.shape[-2:], mode="bilinear", align_corners=False)
        noisy = torch.from_numpy(rng.random(count) < 0.2)
        if bool(noisy.any()):
            grain = rng.standard_normal(images[noisy].shape, dtype=np.float32)
            images[noisy] = images[noisy] + torch.from_numpy(grain) * float(rng.uniform(0.01, 0.06))
        return images.clamp(0, 1) * 2 - 1


def _moved_keypoints(keypoints: Floats, matrix: Floats, size: tuple[int, int], window: Box) -> Floats:
    """Bring keypoints to the pixels of a training picture; outside it and its window they score 0."""
    height, width = size
    points = keypoints.copy()
    left, top, right, bottom = window
    kept = (points[:, 0] >= left) & (points[:, 0] < right) & (points[:, 1] >= top) & (points[:, 1] < bottom)
    inverse = np.linalg.inv(matrix[:, :2].astype(np.float64))
    points[:, :2] = (points[:, :2] - matrix[:, 2]) @ inverse.T
    inside = (points[:, 0] >= 0) & (points[:, 0] < width) & (points[:, 1] >= 0) & (points[:, 1] < height)
    points[:, 2] = np.where(inside & kept, points[:, 2], 0)
    return points[list(FLIP_ORDER)] if np.linalg.det(matrix[:, :2]) < 0 else points


def _moved_labels(example: Example, matrix: Floats, size: tuple[int, int], window: Box) -> Bytes:
    """Bring labels to a training picture of `size`, at half its size; beyond the window nothing is known."""
    height, width = size[0] // 2, size[1] // 2
    if example.labels is None:
        return np.full((height, width), IGNORED, np.uint8)
    data = matrix * np.array([2, 2, 1], np.float32) - np.array([[0, 0, window[0]], [0, 0, window[1]]], np.float32)
    coefficients = tuple(float(v) for v in data.reshape(-1))
    moved = example.labels.crop(window).transform(
        (width, height), Image.Transform.AFFINE, coefficients, Image.Resampling.NEAREST, fillcolor=IGNORED
    )
    return np.array(moved)


def _phone(rng: np.random.Generator) -> Cutout:
    """Draw a telephone: an upright plate of one colour, mostly dark, with a lighter edge."""
    height = 60
    width = int(height * rng.uniform(0.45, 0.6))
    colour = rng.uniform(0, 70, 3) if rng.random() < 0.7 else rng.uniform(0, 255, 3)
    image = np.broadcast_to(colour + np.linspace(-15, 15, height)[:, None, None], (height, width, 3)).copy()
    image[:3], image[-3:], image[:, :3], image[:, -3:] = (colour + rng.uniform(-40, 90) for _ in range(4))
    full = np.full((height, width), 255, np.uint8)
    return Cutout(np.clip(image, 0, 255).astype(np.uint8), full, int(Label.ACCESSORY), height / rng.uniform(0.25, 0.4))
