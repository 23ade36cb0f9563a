"""Training of the bundled keypoint network on photographs with keypoints and on rendered figures.

``python -m styletryon.training.keypoints --ccp DIR --out DIR --minutes M [--resume]``

The data are few, so the augmentation does the work: each picture is scaled, turned, mirrored, cropped, laid on other
backgrounds and recoloured, and pictures without anybody teach the network to say so. Most of the time is spent on small
pictures, which train two to three times as fast; the last part on the size that is used.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageFilter
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.nn import functional as F

from styletryon._files import write_atomically
from styletryon.errors import CheckpointNotFoundError, ConfigError, DataError, RangeError, TrainingDivergedError
from styletryon.pose._pose import FLIP_ORDER, NUM_KEYPOINTS
from styletryon.pose.network import KeypointConfig, KeypointNetwork

log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]

_HELD_FIGURES = 70_000
"""The seeds of the rendered figures that are measured start here."""

_LONG_SIDE = 288
"""Pictures are held in memory with their long side at this many pixels."""


@dataclass(frozen=True)
class KeypointTraining:
    """The settings of a training.

    Attributes:
        minutes: Length in minutes of a processor's time; the schedule is a function of the time spent.
        batch: Pictures in a step at the full size.
        learning_rate: The highest.
        weight_decay: Of AdamW.
        small_share: Share of the time that is spent on small pictures.
        small_size: Their height and width.
        ema: Decay of the average of the weights, which is what is kept.
        rendered: Number of rendered figures; 0 for none.
        rendered_share: Share of the pictures of a batch that are rendered.
        empty_share: Share of the pictures of a batch that show nobody.
        seed: Of every random choice.
    """

    minutes: float = 30.0
    batch: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 0.03
    small_share: float = 0.5
    small_size: tuple[int, int] = (128, 96)
    ema: float = 0.998
    rendered: int = 1500
    rendered_share: float = 0.3
    empty_share: float = 0.12
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.minutes > 0:
            raise RangeError(f"minutes: expected a positive number, got {self.minutes}")
        if self.batch < 2:
            raise RangeError(f"batch: expected at least 2, for batch normalisation, got {self.batch}")
        for name in ("small_share", "rendered_share", "empty_share", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise RangeError(f"{name}: expected a number in [0, 1), got {getattr(self, name)}")


@dataclass(frozen=True, eq=False)
class Example:
    """A picture with the keypoints of its one person.

    Attributes:
        image: RGB, small.
        keypoints: `(17, 3)` x, y in its pixels and a score; None if the picture shows nobody.
        mask: The person as an 8-bit picture of the same size, if it is known: such a person can change background.
        cut: How often they do, if the mask is known.
    """

    image: Image.Image
    keypoints: Floats | None
    mask: Image.Image | None = None
    cut: float = 0.35


def read_examples(
    images: Path, keypoints: Mapping[str, Sequence[Sequence[float]]], labels: Path | None = None
) -> list[Example]:
    """Read photographs with keypoints into memory, reduced to a long side of 288 pixels.

    Args:
        images: Folder of `ID.jpg` or `ID.png`.
        keypoints: ID -> 17 x [x, y, score] in that picture's pixels; exactly these pictures are read.
        labels: Folder of `ID.png`, 8-bit classes of which 0 is the background.

    Returns:
        The examples in the order of `keypoints`.

    Raises:
        DataError: If a picture is missing.
    """
    examples = []
    for name, points in keypoints.items():
        paths = [path for path in (images / f"{name}.jpg", images / f"{name}.png") if path.is_file()]
        if not paths:
            raise DataError(f"keypoints: expected a picture {name}.jpg or .png in {images}, got none")
        with Image.open(paths[0]) as file:
            full = file.size
            file.draft("RGB", (_LONG_SIDE, _LONG_SIDE))
            image = file.convert("RGB")
        scale = _LONG_SIDE / max(full)
        size = (max(1, round(full[0] * scale)), max(1, round(full[1] * scale)))
        array = np.asarray(points, dtype=np.float32).reshape(NUM_KEYPOINTS, 3).copy()
        array[:, 0] *= size[0] / full[0]
        array[:, 1] *= size[1] / full[1]
        mask = None
        if labels is not None:
            with Image.open(labels / f"{name}.png") as file:
                person = Image.fromarray(np.where(np.asarray(file) > 0, 255, 0).astype(np.uint8))
            mask = person.resize(size, Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(0.7))
        examples.append(Example(image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0), array, mask))
    return examples


def render_examples(seeds: Sequence[int], size: tuple[int, int] = (256, 192)) -> list[Example]:
    """Render paperdoll figures as examples with masks.

    Args:
        seeds: One figure each.
        size: Height and width of the pictures.

    Returns:
        The examples in the order of the seeds.
    """
    from styletryon.data.paperdoll import render, sample_figure

    examples = []
    for seed in seeds:
        picture = render(sample_figure(seed), size)
        points = np.asarray(picture.keypoints, dtype=np.float32).reshape(NUM_KEYPOINTS, 3)
        mask = Image.fromarray(np.where(np.asarray(picture.labels) > 0, 255, 0).astype(np.uint8))
        image = Image.fromarray(np.asarray(picture.image))
        examples.append(Example(image, points, mask.filter(ImageFilter.GaussianBlur(0.7)), cut=0.75))
    return examples


def background_strips(examples: Sequence[Example], least: int = 36) -> list[Image.Image]:
    """Cut what lies left and right of the people out of their photographs: real scenery with nobody in it.

    Args:
        examples: Those with a mask are used.
        least: Width in pixels under which a strip is not worth keeping.

    Returns:
        The strips, RGB.
    """
    strips = []
    for example in examples:
        if example.mask is None:
            continue
        columns = np.flatnonzero((np.asarray(example.mask) > 40).any(0))
        if not len(columns):
            continue
        width, height = example.image.size
        left, right = int(columns[0]) - 4, int(columns[-1]) + 5
        if left >= least:
            strips.append(example.image.crop((0, 0, left, height)))
        if width - right >= least:
            strips.append(example.image.crop((right, 0, width, height)))
    return strips


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
            raise DataError("example: expected keypoints, got None")
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

    def draw(self, example: Example, size: tuple[int, int]) -> tuple[npt.NDArray[np.uint8], Floats]:
        """Make one training picture.

        Args:
            example: What it shows.
            size: Its height and width.

        Returns:
            The picture `(H, W, 3)` and its keypoints `(17, 3)`: score 0 where a keypoint is outside or unknown.
        """
        rng = self.rng
        height, width = size
        if example.keypoints is None:
            return self.erase(self.nobody(size)), np.zeros((NUM_KEYPOINTS, 3), np.float32)
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
        picture = Image.composite(moved(image), ground, moved(cover))

        points = example.keypoints.copy()
        inverse = np.linalg.inv(matrix[:, :2].astype(np.float64))
        points[:, :2] = (points[:, :2] - matrix[:, 2]) @ inverse.T
        if np.linalg.det(matrix[:, :2]) < 0:
            points = points[list(FLIP_ORDER)]
        inside = (points[:, 0] >= 0) & (points[:, 0] < width) & (points[:, 1] >= 0) & (points[:, 1] < height)
        points[:, 2] = np.where(inside, points[:, 2], 0)

        return self.erase(picture), points

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

    def erase(self, picture: Image.Image) -> npt.NDArray[np.uint8]:
        """Lay patches of colour or noise over some of the pictures."""
        rng = self.rng
        array = np.array(picture)
        height, width = array.shape[:2]
        if rng.random() < 0.3:
            for _ in range(rng.integers(1, 3)):
                h, w = int(height * rng.uniform(0.05, 0.3)), int(width * rng.uniform(0.05, 0.35))
                y, x = rng.integers(height - h), rng.integers(width - w)
                if rng.random() < 0.5:
                    array[y : y + h, x : x + w] = rng.integers(0, 256, 3)
                else:
                    array[y : y + h, x : x + w] = rng.integers(0, 256, (h, w, 3))
        return array

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


def keypoint_loss(
    logits: Tensor,  # (B, 17, h, w)
    presence: Tensor,  # (B, 17)
    keypoints: Tensor,  # (B, 17, 3)
    size: tuple[int, int],
    *,
    sigma: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Compare heatmaps and presence with the truth.

    Args:
        logits: `(B, 17, h, w)` heatmap logits.
        presence: `(B, 17)` presence logits.
        keypoints: `(B, 17, 3)` x, y in pixels of a picture of `size`, and a score in [0, 1]; 0 where it is not there.
        size: Height and width of that picture.
        sigma: Standard deviation of the target in pixels of the heatmap.

    Returns:
        Cross-entropy to a Gaussian around the truth over the keypoints that are there, less the Gaussian's own
        entropy; and the binary cross-entropy of the presence. Scalars.
    """
    h, w = logits.shape[-2:]
    x = keypoints[..., 0:1] * (w / size[1])
    y = keypoints[..., 1:2] * (h / size[0])
    columns = torch.arange(w, dtype=torch.float32) + 0.5
    rows = torch.arange(h, dtype=torch.float32) + 0.5
    across = torch.softmax(-((columns - x) ** 2) / (2 * sigma**2), -1)  # (B, 17, w)
    down = torch.softmax(-((rows - y) ** 2) / (2 * sigma**2), -1)  # (B, 17, h)
    target = (down[..., :, None] * across[..., None, :]).flatten(2)  # (B, 17, h*w)
    divergence = F.kl_div(logits.flatten(2).log_softmax(-1), target, reduction="none").sum(-1)  # (B, 17)
    # A keypoint that is in the picture but hidden still has a place, known less well.
    there = (keypoints[..., 2] > 0).to(torch.float32) * (0.3 + 0.7 * keypoints[..., 2].clamp(0, 1))
    where = (divergence * there).sum() / there.sum().clamp(min=1.0)
    whether = F.binary_cross_entropy_with_logits(presence, keypoints[..., 2].clamp(0, 1))
    return where, whether


def pck(
    found: Tensor,  # (N, 17, 2)
    truth: Tensor,  # (N, 17, 3)
    threshold: float,
    *,
    by: str = "torso",
    least_score: float = 0.3,
) -> float:
    """Measure the percentage of correct keypoints: how many lie within a share of the person's size of the truth.

    Args:
        found: `(N, 17, 2)` estimates in pixels.
        truth: `(N, 17, 3)` the truth and its score.
        threshold: Share of the person's size.
        by: The size: "torso" is the distance from the middle of the shoulders to the middle of the hips, "box" the
            height of the box around the keypoints that count.
        least_score: Keypoints whose score in the truth is lower do not count.

    Returns:
        A share in [0, 1] over all keypoints of all people; NaN if none counts.

    Raises:
        ConfigError: If `by` is neither.
    """
    counts = truth[..., 2] >= least_score
    if by == "torso":
        scale = (truth[:, 5:7, :2].mean(1) - truth[:, 11:13, :2].mean(1)).norm(dim=-1)
    elif by == "box":
        y = truth[..., 1]
        high = torch.where(counts, y, y.new_full((), -math.inf)).amax(1)
        scale = high - torch.where(counts, y, y.new_full((), math.inf)).amin(1)
    else:
        raise ConfigError(f"by: expected 'torso' or 'box', got {by!r}")
    near = (found - truth[..., :2]).norm(dim=-1) <= threshold * scale[:, None]
    return float(near[counts].float().mean())


class KeypointTrainer:
    """Trains a `KeypointNetwork` and keeps the average of its weights.

    Args:
        settings: How.
        config: The shape of the network.
        folder: Where checkpoints and the log go.
    """

    def __init__(self, settings: KeypointTraining, config: KeypointConfig, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        network = KeypointNetwork(config)
        _initialise(network, torch.Generator().manual_seed(settings.seed))
        self.network = network.to(memory_format=torch.channels_last)
        self.average = deepcopy(self.network).eval()
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        others = [p for p in self.network.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=settings.learning_rate,
            betas=(0.9, 0.99),
        )
        self.step = 0
        self.seconds = 0.0

    @property
    def progress(self) -> float:
        """The share of the time that is spent, in [0, 1]."""
        return min(1.0, self.seconds / (60 * self.settings.minutes))

    def learning_rate(self) -> float:
        """The learning rate now: a warm-up of 2 % of the time, then half a cosine."""
        warm = min(1.0, (self.step + 1) / 100)
        return self.settings.learning_rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * self.progress)))

    def size(self) -> tuple[int, int]:
        """Height and width of the pictures now."""
        small = self.progress < self.settings.small_share
        return self.settings.small_size if small else self.network.config.size

    def train_step(self, images: Tensor, keypoints: Tensor) -> tuple[float, float]:
        """Take one step on `(B, 3, H, W)` images in [-1, 1] and `(B, 17, 3)` keypoints; return the two losses.

        Raises:
            TrainingDivergedError: If the loss is not finite.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.network.train()
        with torch.autocast("cpu", torch.bfloat16):
            logits, presence = self.network(images.contiguous(memory_format=torch.channels_last))
        where, whether = keypoint_loss(logits, presence.float(), keypoints, (images.shape[-2], images.shape[-1]))
        loss = where + 0.5 * whether
        if not bool(torch.isfinite(loss)):
            raise TrainingDivergedError(f"loss: expected a finite number, got {float(loss)} at step {self.step}")
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimizer.step()
        self.step += 1
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for old, new in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
                if old.is_floating_point():
                    old.lerp_(new, 1 - decay)
                else:
                    old.copy_(new)
        return float(where.detach()), float(whether.detach())

    def save(self) -> None:
        """Write a checkpoint, and the folded average in half precision as it is shipped."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors: dict[str, Tensor] = {}
        for name, module in (("network", self.network), ("average", self.average)):
            tensors |= {f"{name}.{key}": value.contiguous() for key, value in module.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value.contiguous() for key, value in state.items()}
        state = {"step": self.step, "seconds": self.seconds, "config": self.network.config.to_dict()}
        text = {"state": json.dumps(state)}
        _write(self.folder / "checkpoint.safetensors", to_bytes(tensors, metadata=text))
        export(self.average, self.folder)

    def resume(self) -> None:
        """Go on from the checkpoint in the folder.

        Raises:
            CheckpointNotFoundError: If there is none.
        """
        path = self.folder / "checkpoint.safetensors"
        if not path.is_file():
            raise CheckpointNotFoundError(f"out: expected {path}, got no such file; start without --resume")
        from safetensors import safe_open

        tensors = load_file(path)
        with safe_open(path, framework="pt") as file:
            state = json.loads(file.metadata()["state"])
        for name, module in (("network", self.network), ("average", self.average)):
            start = f"{name}."
            module.load_state_dict({k[len(start) :]: v for k, v in tensors.items() if k.startswith(start)})
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, index, field = key.split(".")
                moments.setdefault(int(index), {})[field] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.step, self.seconds = int(state["step"]), float(state["seconds"])


def export(network: KeypointNetwork, folder: Path) -> None:
    """Write a network as it is shipped: `keypoints.safetensors`, folded and in half precision, and `keypoints.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    folded = deepcopy(network).fold()
    tensors = {key: value.to(torch.float16).contiguous() for key, value in folded.state_dict().items()}
    _write(folder / "keypoints.safetensors", to_bytes(tensors))
    text = json.dumps({"class": "KeypointNetwork", **folded.config.to_dict()}, indent=2) + "\n"
    _write(folder / "keypoints.json", text.encode())


def batches(
    pools: Sequence[tuple[float, Sequence[Example]]], augmenter: Augmenter, trainer: KeypointTrainer
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches without end.

    Args:
        pools: Shares and examples; the shares sum to 1.
        augmenter: Makes the pictures.
        trainer: Says how many and how large.

    Yields:
        Images `(B, 3, H, W)` in [-1, 1] and keypoints `(B, 17, 3)`.
    """
    shares = np.array([share for share, _ in pools])
    decks: list[list[int]] = [[] for _ in pools]
    while True:
        size = trainer.size()
        drawn = []
        for pool in augmenter.rng.choice(len(pools), size=trainer.settings.batch, p=shares / shares.sum()):
            if not decks[pool]:  # each example once before any comes again
                decks[pool] = augmenter.rng.permutation(len(pools[pool][1])).tolist()
            drawn.append(augmenter.draw(pools[pool][1][decks[pool].pop()], size))
        images = torch.from_numpy(np.stack([image for image, _ in drawn])).permute(0, 3, 1, 2).float() / 255
        yield augmenter.recolour(images), torch.from_numpy(np.stack([points for _, points in drawn]))


@torch.inference_mode()
def evaluate(network: KeypointNetwork, examples: Sequence[Example]) -> dict[str, float]:
    """Measure a network on whole pictures, one pass each, as the estimator starts.

    Returns:
        `pck@0.1 torso`, `pck@0.2 torso`, `pck@0.05 box`, shares in [0, 1].
    """
    from styletryon.pose.estimator import KeypointEstimator

    estimator = KeypointEstimator(network, refine=False, flip=False, least_score=0.0)
    found, truth = [], []
    for example in examples:
        found.append(estimator(example.image).keypoints[0, :, :2])
        truth.append(torch.from_numpy(np.array(example.keypoints)))
    a, b = torch.stack(found), torch.stack(truth)
    return {
        "pck@0.1 torso": pck(a, b, 0.1),
        "pck@0.2 torso": pck(a, b, 0.2),
        "pck@0.05 box": pck(a, b, 0.05, by="box"),
    }


def train(
    trainer: KeypointTrainer,
    pools: Sequence[tuple[float, Sequence[Example]]],
    held: Mapping[str, Sequence[Example]],
) -> None:
    """Train until the time is spent; a checkpoint every minute, a measurement every three.

    Args:
        trainer: What is trained.
        pools: Shares of the batches and their examples.
        held: Name -> examples that are measured, not trained on.
    """
    strips = background_strips([example for _, pool in pools for example in pool])
    augmenter = Augmenter(strips, trainer.settings.seed + trainer.step)
    log.info("%s examples, %d strips of scenery", [len(pool) for _, pool in pools], len(strips))
    sums, count, last_save, last_measure = np.zeros(2), 0, trainer.seconds, trainer.seconds
    clock = _clock()
    for images, keypoints in batches(pools, augmenter, trainer):
        sums += trainer.train_step(images, keypoints)
        count += 1
        now = _clock()
        trainer.seconds += now - clock
        clock = now
        done = trainer.progress >= 1
        if trainer.seconds - last_save >= 60 or done:
            trainer.save()
            row = f"step {trainer.step} time {trainer.seconds / 60:.1f} min size {trainer.size()} "
            row += f"where {sums[0] / count:.3f} whether {sums[1] / count:.3f}"
            if trainer.seconds - last_measure >= 180 or done:
                for name, examples in held.items():
                    measures = evaluate(trainer.average, examples)
                    row += f" | {name}" + "".join(f" {key} {value:.3f}" for key, value in measures.items())
                last_measure = trainer.seconds
            log.info(row)
            sums, count, last_save, clock = np.zeros(2), 0, trainer.seconds, _clock()
        if done:
            return


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see the top of the module."""
    parser = argparse.ArgumentParser(prog="python -m styletryon.training.keypoints", description=__doc__)
    parser.add_argument("--ccp", type=Path, required=True, help="folder of photographs with keypoints and labels")
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoints")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.add_argument("--threads", type=int, default=1)
    for field in fields(KeypointTraining):
        if field.name not in ("small_size",):
            kind = int if isinstance(field.default, int) else float
            parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)
    options = vars(parser.parse_args(arguments))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    ccp, out, resume = options.pop("ccp"), options.pop("out"), options.pop("resume")
    torch.set_num_threads(options.pop("threads"))
    settings = replace(KeypointTraining(), **options)

    known = json.loads((ccp / "keypoints.json").read_text())
    split = json.loads((ccp / "split.json").read_text())
    photographs = read_examples(ccp / "images", {name: known[name] for name in split["train"]}, ccp / "labels")
    held = {"photographs": read_examples(ccp / "images", {name: known[name] for name in split["val"]})}
    more = ccp / "unlabelled"
    if more.is_dir():
        photographs += read_examples(more / "images", json.loads((more / "keypoints.json").read_text()))
    log.info("read %d photographs", len(photographs))
    rest = 1 - settings.empty_share
    nobody = Example(Image.new("RGB", (8, 8)), None)
    pools: list[tuple[float, Sequence[Example]]] = [(settings.empty_share, [nobody])]
    if settings.rendered:
        figures = render_examples(range(settings.rendered))
        held["figures"] = render_examples(range(_HELD_FIGURES, _HELD_FIGURES + 60))
        log.info("rendered %d figures", len(figures))
        pools += [(rest * settings.rendered_share, figures), (rest * (1 - settings.rendered_share), photographs)]
    else:
        pools.append((rest, photographs))
    trainer = KeypointTrainer(settings, KeypointConfig(), out)
    if resume:
        trainer.resume()
    out.mkdir(parents=True, exist_ok=True)
    (out / "settings.json").write_text(json.dumps(asdict(settings), indent=2) + "\n")
    train(trainer, pools, held)
    return 0


def _write(path: Path, data: bytes) -> None:
    def write(place: Path) -> None:
        place.write_bytes(data)

    write_atomically(path, write)


def _clock() -> float:
    """Seconds that each thread has computed: what else the machine does must not eat the schedule."""
    return time.process_time() / torch.get_num_threads()


def _initialise(network: KeypointNetwork, generator: torch.Generator) -> None:
    """Draw the first weights from a generator, so that a seed says what they are."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            spread = 0.01 if name == "heatmap" else math.sqrt(2 / (module.out_channels * math.prod(module.kernel_size)))
            nn.init.normal_(module.weight, 0.0, spread, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, 1 / math.sqrt(module.in_features), generator=generator)
            nn.init.zeros_(module.bias)
        elif name.endswith("second.norm"):
            nn.init.zeros_(module.weight)  # a residual block starts as the identity
    nn.init.normal_(network.position, 0.0, 0.1, generator=generator)


if __name__ == "__main__":
    sys.exit(main())
