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

from styletryon.errors import DataError
from styletryon.pose._pose import FLIP_ORDER, NUM_KEYPOINTS
from styletryon.training.body.examples import IGNORED, Example, Floats

Bytes = npt.NDArray[np.uint8]


class Augmenter:
    """Makes training pictures: draws the frame, the background, the colours and what is hidden.

    Args:
        strips: Scenery without people, for backgrounds and for pictures of nobody.
        seed: Of every random choice.
    """

    def __init__(self, strips: Sequence[Image.Image], seed: int) -> None:
        self.strips = list(strips)
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

    def frame(self, example: Example, size: tuple[int, int]) -> Floats:
        """Draw the affine map from the pixels of the training picture to those of the example, `(2, 3)` float32."""
        rng = self.rng
        height, width = size
        if example.keypoints is None:
            raise DataError("expected keypoints, got None", argument="example")
        shown = example.keypoints[example.keypoints[:, 2] > 0.05, :2]
        low, high = shown.min(0), shown.max(0)
        # Keypoints end at the eyes and the ankles: allow for the head and the feet.
        person = max(float(high[1] - low[1]) * 1.15, float(high[0] - low[0]) * 1.3, 16.0)
        centre = (low + high) / 2
        whole = max(example.image.height / height, example.image.width / width)  # the letterboxed picture
        kind = rng.random()
        if kind < 0.25:
            step = whole * math.exp(rng.uniform(-0.1, 0.2))
            centre = np.array([example.image.width, example.image.height]) / 2
        elif kind < 0.75:
            step = person / height / math.exp(rng.uniform(math.log(0.6), math.log(1.0)))
        elif kind < 0.88:
            step = person / height / math.exp(rng.uniform(math.log(0.3), math.log(0.6)))
        else:  # a close-up: some of the person leaves the frame
            step = person / height / math.exp(rng.uniform(math.log(1.0), math.log(2.0)))
            centre = centre + np.array([0.0, person * rng.uniform(-0.3, 0.2)])
        room = np.abs(np.array([width, height]) * step - np.array([person * 0.5, person])) * 0.4 + 0.06 * person
        centre = centre + rng.uniform(-1, 1, 2) * room * (0.3 if kind < 0.25 else 1.0)
        angle = math.radians(float(np.clip(rng.normal(0, 11), -32, 32))) if rng.random() < 0.7 else 0.0
        stretch = math.exp(rng.uniform(-0.12, 0.12))
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
        rng = self.rng
        height, width = size
        if example.keypoints is None:
            picture = np.array(self.nobody(size))
            labels = np.zeros((height // 2, width // 2), np.uint8)
            self.erase(picture, labels)
            return picture, np.zeros((NUM_KEYPOINTS, 3), np.float32), labels
        matrix = self.frame(example, size)
        step = abs(float(np.linalg.det(matrix[:, :2]))) ** 0.5
        image, mask = example.image, example.mask
        data = matrix
        if step > 1.6:  # the interpolation reads 2x2 pixels: shrink first, or it aliases
            small = (max(1, round(image.width / step * 1.2)), max(1, round(image.height / step * 1.2)))
            ratio = np.array([[small[0] / image.width], [small[1] / image.height]], np.float32)
            image = image.resize(small, Image.Resampling.BILINEAR)
            mask = mask.resize(small, Image.Resampling.BILINEAR) if mask is not None else None
            data = matrix * ratio
        coefficients = tuple(float(v) for v in data.reshape(-1))

        def moved(picture: Image.Image) -> Image.Image:
            return picture.transform(
                (width, height), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR, fillcolor=None
            )

        cut = mask is not None and rng.random() < example.cut
        cover = mask if cut and mask is not None else Image.new("L", image.size, 255)
        fill = rng.random()
        if cut or fill < 0.35:
            ground = self.scenery(size)
        elif fill < 0.8:
            ground = Image.new("RGB", (width, height), (128, 128, 128))  # what the estimator fills with
        else:
            ground = Image.new("RGB", (width, height), tuple(int(v) for v in rng.integers(0, 256, 3)))
        picture = np.array(Image.composite(moved(image), ground, moved(cover)))
        labels = _moved_labels(example, matrix, size)
        self.erase(picture, labels)
        return picture, _moved_keypoints(example.keypoints, matrix, size), labels

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
        if rng.random() >= 0.3:
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


def _moved_keypoints(keypoints: Floats, matrix: Floats, size: tuple[int, int]) -> Floats:
    """Bring keypoints to the pixels of a training picture; outside it they score 0."""
    height, width = size
    points = keypoints.copy()
    inverse = np.linalg.inv(matrix[:, :2].astype(np.float64))
    points[:, :2] = (points[:, :2] - matrix[:, 2]) @ inverse.T
    if np.linalg.det(matrix[:, :2]) < 0:
        points = points[list(FLIP_ORDER)]
    inside = (points[:, 0] >= 0) & (points[:, 0] < width) & (points[:, 1] >= 0) & (points[:, 1] < height)
    points[:, 2] = np.where(inside, points[:, 2], 0)
    return points


def _moved_labels(example: Example, matrix: Floats, size: tuple[int, int]) -> Bytes:
    """Bring labels to a training picture of `size`, at half its size; beyond their edges is background."""
    height, width = size[0] // 2, size[1] // 2
    if example.labels is None:
        return np.full((height, width), IGNORED, np.uint8)
    coefficients = tuple(float(v) for v in (matrix * np.array([2, 2, 1], np.float32)).reshape(-1))
    moved = example.labels.transform(
        (width, height), Image.Transform.AFFINE, coefficients, Image.Resampling.NEAREST, fillcolor=0
    )
    return np.array(moved)
