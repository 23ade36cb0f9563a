"""From photographs to latents: what `api`, `batch` and `app` share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from styletryon.errors import ConfigError, PoseError, StyleTryOnError
from styletryon.generator import Generator
from styletryon.labels import NUM_LABELS, Label, Region, resolve_region
from styletryon.latent import Latent
from styletryon.models import PoseStyleGAN2
from styletryon.photo import ImageLike, Photograph, frame_person, read_image
from styletryon.pose import Pose
from styletryon.pose.estimator import BodyEstimator
from styletryon.projection import LatentProjector, ProjectionProgress
from styletryon.tryon import find_preset


def make_projector(generator: Generator, preset: str, seed: int) -> LatentProjector:
    """Make the projector of a preset.

    Raises:
        ConfigError: If the preset is unknown.
    """
    chosen = find_preset(preset)
    return LatentProjector(
        generator,
        steps=chosen.projection_steps,
        learning_rate=chosen.projection_rate,
        noise=chosen.projection_noise,
        seed=seed,
    )


@lru_cache(maxsize=1)
def body_estimator() -> BodyEstimator:
    """Return the bundled estimator, loaded once."""
    return BodyEstimator.from_pretrained()


def prepare(
    image: ImageLike,
    generator: Generator,
    *,
    pose: Pose | None = None,
    box: Sequence[float] | None = None,
    name: str = "image",
    dressed: bool = False,
) -> Photograph:
    """Read a photograph, find the person, and cut them out as the generator's training data show people.

    Args:
        image: The photograph.
        generator: What will draw it.
        pose: The person's keypoints. None to estimate them.
        box: Of the person, where no pose is given.
        name: What errors call the image; the pose and the box are called after it.
        dressed: Whether the person is known to wear a dress, such as one that somebody else shall try on: what the
            labels take for a top and a bottom is then one.

    Raises:
        ImageError: If the picture cannot be read.
        PersonNotFoundError: If it shows nobody, or nobody who can be framed.
        PoseError: If the pose does not fit.
        RangeError: If the box is empty or beside the picture.
        ConfigError: If both a pose and a box are given.
    """
    prefix = "" if name == "image" else f"{name}_"
    check_box(box, pose=pose is not None, name=f"{prefix}box")
    photo = read_image(image, name=name)
    size = (photo.height, photo.width)
    with called({"image": name, "box": f"{prefix}box", "pose": name if pose is None else f"{prefix}pose"}):
        if pose is None:
            found, labels = body_estimator().parse(photo, box=box)
        else:
            found = fit_pose(pose, size, "pose")
            labels = body_estimator().labels(photo, found)
        frame = frame_person(found, size, generator.image_size)
    if dressed:
        labels = np.where(np.isin(labels, (Label.TOP, Label.BOTTOM)), np.uint8(Label.DRESS), labels)
    background = generator.config.background if isinstance(generator, PoseStyleGAN2) else ()
    red, green, blue = background or (0, 0, 0)
    return Photograph(photo, frame, found, labels, (red, green, blue) if background else None)


def helpful_labels(photograph: Photograph, generator: Generator) -> Tensor | None:
    """Return the labels that help to project a photograph, `(H, W)` int64; None if they are no help.

    Labels are a guess. One that sees nobody in the frame, or in classes that the generator does not draw, is no help.
    """
    labels = photograph.target_labels
    if labels is None or generator.num_labels != NUM_LABELS or not labels.any():
        return None
    return torch.from_numpy(labels).long()


def project_prepared(
    photographs: Sequence[Photograph],
    projector: LatentProjector,
    callback: Callable[[ProjectionProgress], object] | None = None,
) -> tuple[Latent, ...]:
    """Project photographs with known poses side by side; either all have helpful labels, or none."""
    device = projector.generator.w_mean.device
    labels = [found for one in photographs if (found := helpful_labels(one, projector.generator)) is not None]
    poses = [one.frame_pose for one in photographs if one.frame_pose is not None]
    latents = projector.project_each(
        torch.stack([one.target for one in photographs]).to(device),
        Pose(torch.cat([pose.keypoints.to(device) for pose in poses]), poses[0].size),
        labels=torch.stack(labels).to(device) if labels else None,
        mask=torch.stack([one.inside for one in photographs]),
        callback=callback,
    )
    return tuple(replace(latent, photograph=(one,)) for latent, one in zip(latents, photographs, strict=True))


def is_dress(region: Region) -> bool:
    """Say whether whoever wears a region's garment wears a dress, and no top beside it."""
    classes = resolve_region(region)
    return Label.DRESS in classes and Label.TOP not in classes


def fit_pose(pose: Pose, size: tuple[int, int], name: str) -> Pose:
    """Bring a pose to the pixels of the same picture at another size.

    Raises:
        PoseError: If it is no `Pose`, or the picture has another aspect.
    """
    if not isinstance(pose, Pose):
        raise PoseError(f"expected a styletryon.Pose of 17 keypoints, got {type(pose).__name__}", argument=name)
    if pose.size == size:
        return pose
    if abs(pose.size[0] * size[1] - pose.size[1] * size[0]) > max(*pose.size, *size):  # about a pixel
        raise PoseError(
            f"expected keypoints in a picture of {size[0]}x{size[1]} (height x width) or its aspect, got "
            f"{pose.size[0]}x{pose.size[1]}",
            argument=name,
        )
    return pose.resized(size)


def check_box(box: Sequence[float] | None, *, pose: bool, name: str) -> None:
    """Refuse a box beside what says already who is meant.

    Raises:
        ConfigError: If there are both.
    """
    if box is not None and pose:
        raise ConfigError("expected None beside a pose, which says who it is, got both; leave one out", argument=name)


@contextmanager
def called(names: Mapping[str, str]) -> Iterator[None]:
    """Let errors name the caller's argument instead of one of a function further down."""
    try:
        yield
    except StyleTryOnError as error:
        if error.argument is not None:
            error.argument = names.get(error.argument, error.argument)
        raise
