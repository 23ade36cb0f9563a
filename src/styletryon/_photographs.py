"""From photographs to latents: what `api`, `batch` and `app` share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from styletryon._cutting import finer_frame, show
from styletryon.errors import ConfigError, PoseError, StyleTryOnError
from styletryon.generator import Generator
from styletryon.labels import NUM_LABELS, Label, Region, resolve_region
from styletryon.latent import Latent
from styletryon.models import PoseStyleGAN2
from styletryon.photo import ImageLike, Source, crop, crop_labels, frame_person, read_image, to_tensor
from styletryon.pose import Pose
from styletryon.pose.estimator import BodyEstimator
from styletryon.projection import LatentProjector, ProjectionProgress
from styletryon.tryon import find_preset


@dataclass(frozen=True, eq=False)
class Prepared:
    """A photograph as a projector wants it.

    Attributes:
        source: The photograph and the part of it that shows the person.
        picture: `(1, 3, H, W)` in [-1, 1], of the generator's size.
        pose: The person's, in the picture's pixels.
        labels: `(1, H, W)` int64 classes, or None if they are no help.
        inside: `(1, H, W)` in [0, 1]: the share of each pixel that lies in the photograph.
    """

    source: Source
    picture: Tensor
    pose: Pose
    labels: Tensor | None
    inside: Tensor


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
) -> Prepared:
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
    picture, inside = crop(photo, frame)
    fitted = crop_labels(labels, frame)
    background = generator.config.background if isinstance(generator, PoseStyleGAN2) else ()
    if background and fitted.any():
        red, green, blue = background
        cut, fitted = show(photo, labels, crop_labels(labels, finer_frame(frame)), frame, (red, green, blue))
        picture = to_tensor(cut)
    classes = torch.from_numpy(fitted).long()[None]
    # Labels are a guess. One that sees nobody in the frame, or in classes that the generator does not draw, is no help.
    helpful = generator.num_labels == NUM_LABELS and bool(classes.any())
    source = Source(photo, frame, found, labels)
    return Prepared(source, picture[None], frame.to_model(found), classes if helpful else None, inside)


def project_prepared(
    prepared: Sequence[Prepared],
    projector: LatentProjector,
    callback: Callable[[ProjectionProgress], object] | None = None,
) -> tuple[Latent, ...]:
    """Project photographs side by side; either all have labels, or none."""
    device = projector.generator.w_mean.device
    labels = [one.labels for one in prepared if one.labels is not None]
    latents = projector.project_each(
        torch.cat([one.picture for one in prepared]).to(device),
        Pose(torch.cat([one.pose.keypoints.to(device) for one in prepared]), prepared[0].pose.size),
        labels=torch.cat(labels).to(device) if labels else None,
        mask=torch.cat([one.inside for one in prepared]),
        callback=callback,
    )
    return tuple(replace(latent, source=(one.source,)) for latent, one in zip(latents, prepared, strict=True))


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
