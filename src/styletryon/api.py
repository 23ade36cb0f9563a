"""The calls that most people need. Each makes a `TryOnPipeline` and calls it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from styletryon._arguments import find_device
from styletryon._loading import ModelLike, load
from styletryon.generator import Generator
from styletryon.labels import Region
from styletryon.latent import Latent
from styletryon.losses import TryOnLoss, TryOnState
from styletryon.models import PoseStyleGAN2
from styletryon.photo import MAX_ASPECT, ImageLike, read_image
from styletryon.pipeline import (
    Outfit,
    Progress,
    TryOnPipeline,
    body_estimator,
    check_box,
    find_body,
    find_labels,
    fit_pose,
)
from styletryon.pose import Pose
from styletryon.tryon import TryOnResult

_Given = TypeVar("_Given", bound=Generator)


def try_on(
    person: ImageLike | Latent | TryOnResult,
    garment: ImageLike | Latent | TryOnResult | Outfit,
    *,
    region: Region = "top",
    model: ModelLike | None = None,
    person_pose: Pose | None = None,
    garment_pose: Pose | Mapping[Any, Pose] | None = None,
    losses: Mapping[str, tuple[float, TryOnLoss | Callable[[TryOnState], Tensor]]] | None = None,
    preset: str = "balanced",
    seed: int = 0,
    device: torch.device | str | None = None,
    progress: Progress = False,
    composite: bool = True,
    detail: bool = True,
    person_box: Sequence[float] | None = None,
    garment_box: Sequence[float] | Mapping[Any, Sequence[float]] | None = None,
    garment_worn: bool | Mapping[Any, bool] | None = None,
) -> TryOnResult:
    """Dress a person in a garment that somebody else wears, or that lies or hangs by itself, or in several.

    Args:
        person: The person: a path, a PIL image, an `(H, W, 3)` uint8 array, a `(3, H, W)` tensor in [0, 1], or a
            `Latent` of `project` or `generate`, also as the file that `Latent.save` wrote; or a `TryOnResult`, or its
            `latent`, which keeps what it wears.
        garment: Somebody who wears the garment, likewise, or a picture of the garment by itself, spread out; or an
            outfit, a mapping of regions, such as `{"top": a, "bottom": b, "outerwear": c}`: the person and each wearer
            are projected once, and the garments are put on in the order in which they are worn, whatever the order of
            the keys. What takes the place of another, such as a dress that of a bottom, is refused beside it.
        region: What changes, of one garment: "top", "bottom", "dress", "full", or a set of label classes.
        model: The generator: name, folder, or any object that keeps the protocol `styletryon.generator.Generator`. None
            for the bundled one.
        person_pose: The person's keypoints in the picture's pixels. None to estimate them. Beside a `Latent`: the pose
            in which to redraw the person.
        garment_pose: The same for the garment's wearer; for those of an outfit, region -> pose.
        losses: Name -> (weight, loss), in the place of `styletryon.losses.defaults()`. A loss is a `TryOnLoss` or a
            callable from a `TryOnState` to `(B,)`.
        preset: "fast", "balanced" or "quality".
        seed: Of what is random: the noise maps of the preset "quality", and of a projection into Z. The other presets
            draw nothing at random, so any seed gives the same picture. Between two photographs noise maps are not seen
            either, so no number of variants can be asked for.
        device: Where to compute. None for the model's own device, or for a CUDA device where there is one.
        progress: True for a progress bar on stderr, or what is told of the progress; see
            `styletryon.pipeline.PipelineProgress`.
        composite: Whether pixels outside the changed region are the photograph's own, bit for bit. Otherwise the whole
            frame around the person is the generator's drawing.
        detail: Whether cloth is shown as the garment's photograph shows it, where the generator drew it. Otherwise it
            is as coarse as the generator's pixels. Needs the photographs of both, and `composite`.
        person_box: Left, top, right and bottom in the picture's pixels of the person, where it shows several and no
            pose is given. None for the largest.
        garment_box: The same for the garment's wearer; for those of an outfit, region -> box.
        garment_worn: Whether somebody wears the garment in its picture, or it lies or hangs by itself; for those of an
            outfit that differ, region -> whether. None to tell by the picture.

    Returns:
        The picture, in the size of the person's, and how it came about; for an outfit, `outfit` has the try-on of each
        garment.

    Raises:
        StyleTryOnError: If an input cannot be used; `styletryon.errors` lists the kinds.

    Example:
        >>> import styletryon
        >>> person, garment = styletryon.generate(seed=1), styletryon.generate(seed=2)
        >>> styletryon.try_on(person, garment, preset="fast").segmentation.dtype
        dtype('uint8')
    """
    pipeline = TryOnPipeline(model, preset=preset, device=device, seed=seed, losses=losses, remember=0)
    return pipeline(
        person,
        garment,
        region=region,
        person_pose=person_pose,
        garment_pose=garment_pose,
        person_box=person_box,
        garment_box=garment_box,
        garment_worn=garment_worn,
        composite=composite,
        detail=detail,
        progress=progress,
    )


def project(
    image: ImageLike,
    *,
    pose: Pose | None = None,
    box: Sequence[float] | None = None,
    model: ModelLike | None = None,
    preset: str = "balanced",
    seed: int = 0,
    device: torch.device | str | None = None,
    progress: Progress = False,
    tune: bool = False,
) -> Latent:
    """Find a person's picture in a generator's latent space.

    Args:
        image: A path, a PIL image, an `(H, W, 3)` uint8 array or a `(3, H, W)` tensor in [0, 1].
        pose: The person's keypoints in the picture's pixels. None to estimate them.
        box: Left, top, right and bottom in the picture's pixels of the person, where it shows several and no pose is
            given. None for the largest.
        model: The generator: name, folder or object. None for the bundled one.
        preset: "fast", "balanced" or "quality".
        seed: Of what is random: the noise maps of the preset "quality", and the directions in which `tune` holds the
            generator still. Otherwise any seed gives the same latent.
        device: Where to compute. None for the model's own device, or for a CUDA device where there is one.
        progress: True for a progress bar on stderr, or what is told of the progress; see
            `styletryon.pipeline.PipelineProgress`.
        tune: Whether to tune a copy of the generator to the picture, which is then drawn almost exactly; what the
            weights change by goes with the latent, and the model stays as it is. Takes several times as long as the
            projection, and helps likeness, not try-ons.

    Returns:
        A latent that stands wherever a picture of this person is asked for. Its `report` says how good the likeness is.

    Raises:
        ImageError: If the picture cannot be read.
        PersonNotFoundError: If the picture shows nobody.
        PoseError: If the given pose does not fit the picture.
        CheckpointError: If the model cannot be loaded.
        ConfigError: If the preset is unknown.
    """
    pipeline = TryOnPipeline(model, preset=preset, device=device, seed=seed, remember=0)
    return pipeline.project(image, pose=pose, box=box, tune=tune, progress=progress)


def generate(
    pose: Pose | None = None,
    *,
    seed: int = 0,
    model: ModelLike | None = None,
    truncation: float = 0.7,
    device: torch.device | str | None = None,
) -> Latent:
    """Draw a person who does not exist.

    Args:
        pose: B poses, in the pixels of a picture of the model's aspect. None to draw one from a list of usual poses.
        seed: Of the person, and of the pose if none is given.
        model: The generator: name, folder or object. None for the bundled one.
        truncation: How far from the mean: 0 is the mean, 1 all variety, in [0, 1].
        device: Where to compute. None for the model's own device, or for a CUDA device where there is one.

    Returns:
        A latent of B people. `model.draw(latent)` draws it.

    Raises:
        RangeError: If `truncation` lies outside [0, 1].
        PoseError: If the poses belong to a picture of another aspect.
        CheckpointError: If the model cannot be loaded.

    Example:
        >>> import styletryon
        >>> len(styletryon.generate(seed=3))
        1
    """
    return TryOnPipeline(model, device=device).generate(pose, seed=seed, truncation=truncation)


def estimate_pose(
    image: ImageLike, *, box: Sequence[float] | None = None, device: torch.device | str | None = None
) -> Pose:
    """Find the keypoints of the person in a picture: of several, the largest or the one in a box.

    Args:
        image: A path, a PIL image, an `(H, W, 3)` uint8 array or a `(3, H, W)` tensor in [0, 1].
        box: Left, top, right and bottom in pixels of what shows the person. None for the whole picture.
        device: Where to compute. None for a CUDA device where there is one.

    Returns:
        17 COCO keypoints in the picture's pixels (after its EXIF orientation is applied).

    Raises:
        ImageError: If the picture cannot be read.
        RangeError: If `box` is empty or beside the picture.
        PersonNotFoundError: If the picture or the box shows nobody.
    """
    photo = read_image(image, max_aspect=MAX_ASPECT if box is None else math.inf)
    return body_estimator(find_device(device))(photo, box=box)


def estimate_labels(
    image: ImageLike,
    *,
    pose: Pose | None = None,
    box: Sequence[float] | None = None,
    device: torch.device | str | None = None,
) -> NDArray[np.uint8]:
    """Say what each pixel of a person's picture shows.

    Args:
        image: A path, a PIL image, an `(H, W, 3)` uint8 array or a `(3, H, W)` tensor in [0, 1].
        pose: The person's keypoints in the picture's pixels, which says where to look. None to estimate them.
        box: Left, top, right and bottom in pixels of what shows the person, where no pose is given. None for the whole
            picture.
        device: Where to compute. None for a CUDA device where there is one.

    Returns:
        `(H, W)` uint8 classes of `styletryon.labels.Label`, of the picture's size (after its EXIF orientation is
        applied). Whatever is not this person is background.

    Raises:
        ImageError: If the picture cannot be read.
        PersonNotFoundError: If the picture or the box shows nobody.
        PoseError: If the given pose does not fit the picture.
        RangeError: If `box` is empty or beside the picture.
        ConfigError: If both a pose and a box are given.

    Example:
        >>> import styletryon
        >>> from styletryon.data import paperdoll
        >>> figure = paperdoll.render(paperdoll.sample_figure(3), (256, 192))
        >>> styletryon.estimate_labels(figure.image).shape
        (256, 192)
    """
    photo = read_image(image, max_aspect=MAX_ASPECT if box is None and pose is None else math.inf)
    estimator = body_estimator(find_device(device))
    if pose is None:
        return find_body(estimator, photo, box)[1]
    check_box(box, pose=True, name="box")
    return find_labels(estimator, photo, fit_pose(pose, (photo.height, photo.width), "pose"))


@overload
def load_model(source: _Given, *, device: torch.device | str | None = None) -> _Given: ...


@overload
def load_model(
    source: str | os.PathLike[str] = "default", *, device: torch.device | str | None = None
) -> PoseStyleGAN2: ...


def load_model(source: ModelLike = "default", *, device: torch.device | str | None = None) -> Generator:
    """Load a generator, once per process and device.

    Args:
        source: The name of bundled weights, a folder that `save_pretrained` wrote, "hf://user/name" or
            "hf://user/name@revision" of the Hugging Face hub (which needs `styletryon[hub]`; only `config.json` and
            `model.safetensors` are fetched), or any object that keeps the protocol `styletryon.generator.Generator`.
        device: Where it shall be. None for a generator's own device, else for a CUDA device where there is one.

    Returns:
        The generator, ready to draw. Of a name or folder, later calls return the same object: copy it before changing
        its weights. A generator is returned as it is, or as a copy if it has to go to another device.

    Raises:
        CheckpointNotFoundError: If there is no such folder or name.
        CheckpointError: If files are missing, damaged, or do not fit each other.
        ConfigError: If the device is unknown or not there, or an object keeps not the protocol of a generator.
        DependencyError: If a model of the hub is asked for without `huggingface_hub`.
        WeightsUnavailableError: If a model of the hub cannot be had.
    """
    return load(source, device)
