"""The calls that most people need. Each builds an object and calls it."""

from __future__ import annotations

import copy
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from styletryon._arguments import find_device, number, seeded
from styletryon._photographs import (
    body_estimator,
    check_box,
    fit_pose,
    is_dress,
    make_projector,
    prepare,
    project_prepared,
)
from styletryon.errors import ShapeError
from styletryon.interop import ParsedGenerator, fetch_model
from styletryon.interop.hub import is_hub_name
from styletryon.labels import Region, resolve_region
from styletryon.latent import Latent
from styletryon.losses import TryOnLoss, TryOnState
from styletryon.models import PoseStyleGAN2, UnconditionalStyleGAN2, storage
from styletryon.photo import ImageLike, read_image
from styletryon.pose import Pose
from styletryon.projection import LatentProjector, ProjectionProgress
from styletryon.tryon import TryOnOptimizer, TryOnProgress, TryOnResult

KnownGenerator = PoseStyleGAN2 | UnconditionalStyleGAN2 | ParsedGenerator
"""What draws: our own, or another project's that `styletryon.interop` made ours."""

ModelLike = str | os.PathLike[str] | KnownGenerator
"""What stands for a generator: the name of bundled weights, a folder of `save_pretrained`, "user/name" of the Hugging
Face hub, or the generator itself."""

_Given = TypeVar("_Given", bound=KnownGenerator)


def try_on(
    person: ImageLike | Latent,
    garment: ImageLike | Latent,
    *,
    region: Region = "top",
    model: ModelLike | None = None,
    person_pose: Pose | None = None,
    garment_pose: Pose | None = None,
    losses: Mapping[str, tuple[float, TryOnLoss | Callable[[TryOnState], Tensor]]] | None = None,
    preset: str = "balanced",
    seed: int = 0,
    device: torch.device | str | None = None,
    progress: bool = False,
    composite: bool = True,
    detail: bool = True,
    person_box: Sequence[float] | None = None,
    garment_box: Sequence[float] | None = None,
) -> TryOnResult:
    """Dress a person in the garment that somebody else wears.

    Args:
        person: The person: a path, a PIL image, an `(H, W, 3)` uint8 array, a `(3, H, W)` tensor in [0, 1], or a
            `Latent` of `project` or `generate`.
        garment: Somebody who wears the garment, likewise.
        region: What changes: "top", "bottom", "dress", "full", or a set of label classes.
        model: The generator: name, folder or object. None for the bundled one.
        person_pose: The person's keypoints in the picture's pixels. None to estimate them. Beside a `Latent`: the pose
            in which to redraw the person.
        garment_pose: The same for the garment's wearer.
        losses: Name -> (weight, loss), in the place of `styletryon.losses.defaults()`. A loss is a `TryOnLoss` or a
            callable from a `TryOnState` to `(B,)`.
        preset: "fast", "balanced" or "quality".
        seed: Of everything random.
        device: Where to compute. None for the model's own device, or for a CUDA device where there is one.
        progress: Whether to show a progress bar on stderr.
        composite: Whether pixels outside the changed region are the photograph's own, bit for bit. Otherwise the whole
            frame around the person is the generator's drawing.
        detail: Whether cloth is shown as the garment's photograph shows it, where the generator drew it. Otherwise it
            is as coarse as the generator's pixels. Needs two pictures, not latents, and `composite`.
        person_box: Left, top, right and bottom in the picture's pixels of the person, where it shows several and no
            pose is given. None for the largest.
        garment_box: The same for the garment's wearer.

    Returns:
        The picture, in the size of the person's, and how it came about.

    Raises:
        StyleTryOnError: If an input cannot be used; `styletryon.errors` lists the kinds.

    Example:
        >>> import styletryon
        >>> person, garment = styletryon.generate(seed=1), styletryon.generate(seed=2)
        >>> styletryon.try_on(person, garment, preset="fast").segmentation.dtype
        dtype('uint8')
    """
    resolve_region(region)  # so that a misspelt region is told before the projections, not after
    generator = load_model("default" if model is None else model, device=device)
    optimizer = TryOnOptimizer(generator, losses=losses, preset=preset, seed=seed)
    projector = make_projector(generator, preset, seed)
    with _Progress(progress) as bar:
        wearer = _as_latent(person, person_pose, person_box, "person", projector, bar)
        dressed = is_dress(region)
        wanted = _as_latent(garment, garment_pose, garment_box, "garment", projector, bar, dressed=dressed)
        batch = optimizer.optimize(wearer, wanted, region=region, callback=bar.stage("try-on"))
    return TryOnResult.from_batch(batch, composite=composite, detail=detail)


def project(
    image: ImageLike,
    *,
    pose: Pose | None = None,
    box: Sequence[float] | None = None,
    model: ModelLike | None = None,
    preset: str = "balanced",
    seed: int = 0,
    device: torch.device | str | None = None,
    progress: bool = False,
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
        seed: Of everything random.
        device: Where to compute. None for the model's own device, or for a CUDA device where there is one.
        progress: Whether to show a progress bar on stderr.
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
    generator = load_model("default" if model is None else model, device=device)
    with _Progress(progress) as bar:
        projector = make_projector(generator, preset, seed)
        prepared = prepare(image, generator, pose=pose, box=box)
        latent = project_prepared([prepared], projector, bar.stage("image"))[0]
        if not tune:
            return latent
        picture = prepared.target[None].to(generator.w_mean.device)
        return projector.tune(latent, picture, mask=prepared.inside[None], callback=bar.stage("image, tuning"))


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
    truncation = number(truncation, "truncation", least=0, most=1)
    generator = load_model("default" if model is None else model, device=device)
    rng = seeded(seed)
    poses = _usual_poses(generator.image_size)
    choice = int(torch.randint(len(poses), (1,), generator=rng, device="cpu"))
    fitted = poses[choice : choice + 1] if pose is None else fit_pose(pose, generator.image_size, "pose")
    z = torch.randn(len(fitted), generator.z_dim, generator=rng, dtype=torch.float32, device="cpu")
    z = z.to(generator.device)
    with torch.no_grad():
        styles = generator.affine(generator.truncate(generator.mapping(z), truncation))
    return Latent(styles, fitted.to(generator.device), model=generator.fingerprint)


def estimate_pose(image: ImageLike, *, box: Sequence[float] | None = None) -> Pose:
    """Find the keypoints of the person in a picture: of several, the largest or the one in a box.

    Args:
        image: A path, a PIL image, an `(H, W, 3)` uint8 array or a `(3, H, W)` tensor in [0, 1].
        box: Left, top, right and bottom in pixels of what shows the person. None for the whole picture.

    Returns:
        17 COCO keypoints in the picture's pixels (after its EXIF orientation is applied).

    Raises:
        ImageError: If the picture cannot be read.
        RangeError: If `box` is empty or beside the picture.
        PersonNotFoundError: If the picture or the box shows nobody.
    """
    return body_estimator()(read_image(image), box=box)


def estimate_labels(
    image: ImageLike, *, pose: Pose | None = None, box: Sequence[float] | None = None
) -> NDArray[np.uint8]:
    """Say what each pixel of a person's picture shows.

    Args:
        image: A path, a PIL image, an `(H, W, 3)` uint8 array or a `(3, H, W)` tensor in [0, 1].
        pose: The person's keypoints in the picture's pixels, which says where to look. None to estimate them.
        box: Left, top, right and bottom in pixels of what shows the person, where no pose is given. None for the whole
            picture.

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
    photo = read_image(image)
    if pose is None:
        return body_estimator().parse(photo, box=box)[1]
    check_box(box, pose=True, name="box")
    return body_estimator().labels(photo, fit_pose(pose, (photo.height, photo.width), "pose"))


@overload
def load_model(source: _Given, *, device: torch.device | str | None = None) -> _Given: ...


@overload
def load_model(
    source: str | os.PathLike[str] = "default", *, device: torch.device | str | None = None
) -> PoseStyleGAN2: ...


def load_model(source: ModelLike = "default", *, device: torch.device | str | None = None) -> KnownGenerator:
    """Load a generator, once per process and device.

    Args:
        source: The name of bundled weights, a folder that `save_pretrained` wrote, "user/name" or
            "user/name@revision" of the Hugging Face hub (which needs `styletryon[hub]`; only `config.json` and
            `model.safetensors` are fetched), or a generator, also one of `styletryon.interop`.
        device: Where it shall be. None for a generator's own device, else for a CUDA device where there is one.

    Returns:
        The generator, ready to draw. Of a name or folder, later calls return the same object: copy it before changing
        its weights. A generator is returned as it is, or as a copy if it has to go to another device.

    Raises:
        CheckpointNotFoundError: If there is no such folder or name.
        CheckpointError: If files are missing, damaged, or do not fit each other.
        ConfigError: If the device is unknown or not there.
        DependencyError: If a model of the hub is asked for without `huggingface_hub`.
        WeightsUnavailableError: If a model of the hub cannot be had.
    """
    if isinstance(source, (PoseStyleGAN2, UnconditionalStyleGAN2, ParsedGenerator)):
        target = source.device if device is None else find_device(device)
        with torch.inference_mode(False):
            return source if source.device == target else copy.deepcopy(source).to(target)
    folder = (fetch_model(str(source)) if is_hub_name(source) else storage.find(source)).resolve()
    # A folder that was written anew since is another model.
    written = tuple(path.stat().st_mtime_ns for path in sorted(folder.iterdir()) if path.suffix in _MODEL_FILES)
    return _load(folder, written, find_device(device))


_MODEL_FILES = (".json", ".safetensors")


@lru_cache(maxsize=4)
def _load(folder: Path, written: tuple[int, ...], device: torch.device) -> PoseStyleGAN2:
    del written
    with torch.inference_mode(False):
        return PoseStyleGAN2.from_pretrained(folder).to(device)


@lru_cache(maxsize=4)
def _usual_poses(size: tuple[int, int]) -> Pose:
    """The bundled poses in the pixels of a picture of `size`: as high, and centred across."""
    data = json.loads((storage.BUNDLED / "poses.json").read_text(encoding="utf-8"))
    with torch.inference_mode(False):  # it is kept: no later call may meet tensors of this one's mode
        points = torch.tensor(data["poses"], dtype=torch.float32, device="cpu")
        height, width = data["size"]
        points[..., :2] *= size[0] / height
        points[..., 0] += (size[1] - width * size[0] / height) / 2
        return Pose(points, size)


def _as_latent(
    picture: ImageLike | Latent,
    pose: Pose | None,
    box: Sequence[float] | None,
    name: str,
    projector: LatentProjector,
    bar: _Progress,
    *,
    dressed: bool = False,
) -> Latent:
    if not isinstance(picture, Latent):
        prepared = prepare(picture, projector.generator, pose=pose, box=box, name=name, dressed=dressed)
        return project_prepared([prepared], projector, bar.stage(name))[0]
    check_box(box, pose=True, name=f"{name}_box")
    if len(picture) != 1:
        raise ShapeError(
            f"expected the latent of one person, got {len(picture)}; pass {name}[i], or hand the "
            f"whole batch to TryOnOptimizer.optimize",
            argument=name,
        )
    latent = picture.to(projector.generator.w_mean.device)
    return latent if pose is None else latent.with_pose(fit_pose(pose, projector.generator.image_size, f"{name}_pose"))


class _Progress:
    """One progress bar for the stages of a call, or none."""

    def __init__(self, shown: bool) -> None:
        self.shown = shown and sys.stderr is not None  # a service has no console
        self._bar: Any = None

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            with suppress(OSError, ValueError):
                self._bar.close()

    def stage(self, name: str) -> Callable[[ProjectionProgress | TryOnProgress], None] | None:
        """Begin a stage; what is returned is the callback that it is told by."""
        if not self.shown:
            return None
        if self._bar is None:
            from tqdm import tqdm

            with suppress(OSError, ValueError):  # a console that has gone costs no result
                self._bar = tqdm(unit="step", leave=False)
        if self._bar is None:
            return None
        with suppress(OSError, ValueError):
            self._bar.reset()
            self._bar.set_description(name)

        def tell(progress: ProjectionProgress | TryOnProgress) -> None:
            with suppress(OSError, ValueError):
                self._bar.total = progress.steps
                self._bar.update(progress.step - self._bar.n)

        return tell
