"""TryOnPipeline: the one road from photographs to a try-on, and the parts of it."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Literal, final, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from styletryon._arguments import check_seed, number, renamed, seeded, whole
from styletryon._forks import note_process
from styletryon._loading import ModelLike, load
from styletryon._progress import Stages
from styletryon.errors import ConfigError, PersonNotFoundError, PoseError, ShapeError, TryOnWarning
from styletryon.generator import background_of
from styletryon.labels import NUM_LABELS, Label, Region, order_worn, resolve_region, title
from styletryon.latent import Latent, is_latent_file
from styletryon.losses import TryOnLoss, TryOnState
from styletryon.models import storage
from styletryon.photo import MAX_ASPECT, ImageLike, Photograph, frame_person, read_image
from styletryon.pose import BodyEstimator, GarmentEstimator, Pose
from styletryon.pose._photo import as_box
from styletryon.pose.garment import GARMENT_CLASSES, SeenGarment
from styletryon.pose.presence import check_agreement, check_somebody
from styletryon.projection import LatentProjector, ProjectionProgress
from styletryon.tryon import TryOnBatch, TryOnOptimizer, TryOnProgress, TryOnResult, find_preset
from styletryon.unworn import photograph_of, reduced, worn_as, worn_by_model, worn_label

if TYPE_CHECKING:
    from styletryon.compositing import Composer

__all__ = ["STAGES", "Outfit", "PipelineProgress", "Progress", "Stage", "TryOnPipeline"]

Stage = Literal["read", "pose", "project", "optimize", "compose"]
"""What a pipeline does, in this order: read the pictures; find poses and labels; project; optimise; compose."""

STAGES: tuple[Stage, ...] = get_args(Stage)

_TEXTS = {
    "read": "reading",
    "pose": "pose and labels",
    "project": "projecting",
    "optimize": "dressing",
    "compose": "composing",
}


@dataclass(frozen=True)
class PipelineProgress:
    """What a callback is told as a pipeline goes on.

    Attributes:
        stage: What is being done.
        step: How many of its steps are done.
        steps: How many there are at most.
    """

    stage: Stage
    step: int
    steps: int

    @property
    def text(self) -> str:
        """What is being done, in words."""
        return _TEXTS[self.stage]


Progress = bool | Callable[[PipelineProgress], object]
"""True to show it on stderr, in a terminal as a bar and elsewhere as a line per stage; or what is told of the progress,
which may raise to end the work."""


Outfit = Mapping[Any, ImageLike | Latent | TryOnResult]
"""Several garments: the region of each -> somebody who wears it. The order makes no difference."""


@final
class TryOnPipeline:
    """Dresses people in photographs: photograph -> latent -> dressed -> shown.

    `styletryon.try_on` and its kin make one for each call. Whoever makes many try-ons keeps one: it holds the networks,
    and a picture that it was given before is not projected again.

    Each part can be called by itself: `read` photographs, `project_photographs`, `optimize` a batch of
    pairs, `show` a pair of it.

    A pipeline is used by one thread at a time.

    Args:
        model: The generator: name, folder or object. None for the bundled one.
        preset: "fast", "balanced" or "quality".
        device: Where to compute, the network that finds poses and labels too. None for the model's own device, or for a
            CUDA device where there is one.
        seed: Of what is random: the noise maps of the preset "quality", the directions in which tuning holds the
            generator still, and a projection into Z. The other presets draw nothing at random.
        losses: Name -> (weight, loss), in the place of `styletryon.losses.defaults()`. A loss is a `TryOnLoss` or a
            callable from a `TryOnState` to `(B,)`.
        batch_size: How many pictures are projected, and how many pairs optimised, at once.
        remember: How many projected pictures are kept for the next call, with their photographs.

    Raises:
        CheckpointError: If the model cannot be loaded.
        ConfigError: If the preset is unknown, the device is not there, or the model keeps not the protocol of a
            generator.
        RangeError: If a number makes no sense.

    Attributes:
        model: The generator.
        preset: As given.
        seed: As given.
        losses: As given.
        batch_size: As given.
        remember: As given.

    Example:
        >>> import styletryon
        >>> pipeline = styletryon.TryOnPipeline(preset="fast")
        >>> person, garment = pipeline.generate(seed=1), pipeline.generate(seed=2)
        >>> result = pipeline(person, garment, region="top")
        >>> pipeline(result, person, region="bottom").image.size == result.image.size
        True
    """

    def __init__(
        self,
        model: ModelLike | None = None,
        *,
        preset: str = "balanced",
        device: torch.device | str | None = None,
        seed: int = 0,
        losses: Mapping[str, tuple[float, TryOnLoss | Callable[[TryOnState], Tensor]]] | None = None,
        batch_size: int = 8,
        remember: int = 8,
    ) -> None:
        # First, so that what is misspelt is told before the model is loaded.
        find_preset(preset)
        self.seed = check_seed(seed)
        self.batch_size = whole(batch_size, "batch_size", least=1)
        self.remember = whole(remember, "remember", least=0)
        self.model = load("default" if model is None else model, device)
        self.preset = preset
        self.losses = losses
        self._latents: OrderedDict[str, Latent] = OrderedDict()
        self._worn: dict[str, bool] = {}

    @property
    def device(self) -> torch.device:
        """Where is computed."""
        return self.model.w_mean.device

    @cached_property
    def body(self) -> BodyEstimator:
        """What finds poses and labels: the bundled network, on the pipeline's device."""
        return body_estimator(self.device)

    @cached_property
    def garments(self) -> GarmentEstimator:
        """What finds garments that nobody wears: the bundled network, on the pipeline's device."""
        return garment_estimator(self.device)

    @cached_property
    def projector(self) -> LatentProjector:
        """What finds photographs in the generator's latent space."""
        chosen = find_preset(self.preset)
        return LatentProjector(
            self.model,
            steps=chosen.projection_steps,
            learning_rate=chosen.projection_rate,
            noise=chosen.projection_noise,
            seed=self.seed,
            batch_size=self.batch_size,
        )

    @cached_property
    def optimizer(self) -> TryOnOptimizer:
        """What chooses how much of each style channel comes from the garment."""
        return TryOnOptimizer(
            self.model, losses=self.losses, preset=self.preset, seed=self.seed, batch_size=self.batch_size
        )

    def with_preset(self, preset: str) -> TryOnPipeline:
        """Return a pipeline of another preset that shares the networks and the memory of this one.

        Args:
            preset: "fast", "balanced" or "quality".

        Raises:
            ConfigError: If the preset is unknown.
        """
        find_preset(preset)
        other = copy.copy(self)
        other.preset = preset
        for name in ("projector", "optimizer"):
            other.__dict__.pop(name, None)
        return other

    def __call__(
        self,
        person: ImageLike | Latent | TryOnResult,
        garment: ImageLike | Latent | TryOnResult | Outfit,
        *,
        region: Region = "top",
        person_pose: Pose | None = None,
        garment_pose: Pose | Mapping[Any, Pose] | None = None,
        person_box: Sequence[float] | None = None,
        garment_box: Sequence[float] | Mapping[Any, Sequence[float]] | None = None,
        garment_worn: bool | Mapping[Any, bool] | None = None,
        composite: bool = True,
        detail: bool = True,
        progress: Progress = False,
    ) -> TryOnResult:
        """Dress a person in the garment of another picture; see `styletryon.try_on`.

        Args:
            person: The person: a picture, a `Latent`, or a `TryOnResult`, which keeps what it wears.
            garment: Somebody who wears the garment, likewise, or a picture of the garment by itself; or an outfit,
                region -> such a picture of that garment.
            region: What changes, of one garment.
            person_pose: The person's keypoints in the picture's pixels. None to estimate them. Beside a `Latent`: the
                pose in which to redraw the person.
            garment_pose: The same for the garment's wearer; for those of an outfit, region -> pose.
            person_box: Left, top, right and bottom in the picture's pixels of the person, where it shows several and no
                pose is given. None for the largest.
            garment_box: The same for the garment's wearer; for those of an outfit, region -> box.
            garment_worn: Whether somebody wears the garment in its picture, or it lies or hangs by itself; for those of
                an outfit that differ, region -> whether. None to tell by the picture.
            composite: Whether pixels outside the changed region are the photograph's own.
            detail: Whether cloth is shown as the garment's photograph shows it, where the generator drew it.
            progress: True for a progress bar on stderr, or what is told of the progress.

        Returns:
            The picture, in the size of the person's, and how it came about.

        Raises:
            StyleTryOnError: If an input cannot be used; `styletryon.errors` lists the kinds.
        """
        with _watched(progress) as watch:
            given = _Given(person, person_pose, person_box, "person")
            batch = self._dress(given, _garments(garment, region, garment_pose, garment_box, garment_worn), watch)
            watch.tell("compose", 0, 1)
            result = self.show(batch, composite=composite, detail=detail)
            watch.tell("compose", 1, 1)
            watch.lap("compose")
        if composite:
            _warn_lost(result, detail=detail)
        _warn_unchanged(result)
        _warn_doubtful(result)
        return replace(result, report={**result.report, **watch.report()})

    def dress(
        self,
        person: ImageLike | Latent | TryOnResult,
        garment: ImageLike | Latent | TryOnResult | Outfit,
        *,
        region: Region = "top",
        person_pose: Pose | None = None,
        garment_pose: Pose | Mapping[Any, Pose] | None = None,
        person_box: Sequence[float] | None = None,
        garment_box: Sequence[float] | Mapping[Any, Sequence[float]] | None = None,
        garment_worn: bool | Mapping[Any, bool] | None = None,
        progress: Progress = False,
    ) -> TryOnBatch:
        """Dress a person without showing the result in the photograph, which `show` does.

        Args:
            person: As for a call.
            garment: As for a call.
            region: As for a call.
            person_pose: As for a call.
            garment_pose: As for a call.
            person_box: As for a call.
            garment_box: As for a call.
            garment_worn: As for a call.
            progress: As for a call.

        Returns:
            A batch of the one pair; of an outfit, that of the garment which is worn over the others, with theirs
            `under` it.

        Raises:
            StyleTryOnError: If an input cannot be used; `styletryon.errors` lists the kinds.
        """
        with _watched(progress) as watch:
            given = _Given(person, person_pose, person_box, "person")
            return self._dress(given, _garments(garment, region, garment_pose, garment_box, garment_worn), watch)

    def read(
        self,
        image: ImageLike,
        *,
        pose: Pose | None = None,
        box: Sequence[float] | None = None,
        region: Region | None = None,
        dressed: bool = False,
        worn: bool | None = True,
        name: str = "image",
    ) -> Photograph:
        """Read a photograph, find the person's pose and labels, and frame the person for the generator.

        Args:
            image: The photograph.
            pose: The person's keypoints in its pixels. None to estimate them.
            box: Left, top, right and bottom in its pixels of the person, where no pose is given. None for the largest.
            region: Where the garment that it shows shall be worn: what is in doubt is then taken for a garment of that
                region. None for a person, or for a garment as what it looks like.
            dressed: Whether the person is known to wear a dress, such as one that somebody else shall try on: what the
                labels take for a top and a bottom is then one. The region of a dress says so too.
            worn: Whether somebody wears what it shows; False for a garment by itself, None to tell by the picture.
            name: What errors call the image; the pose and the box are called after it.

        Raises:
            ImageError: If the picture cannot be read.
            PersonNotFoundError: If it shows nobody, or nobody who can be framed.
            PoseError: If the pose does not fit.
            RangeError: If the box is empty or beside the picture.
            ConfigError: If both a pose and a box are given.
            RegionError: If the region is unknown, or a garment by itself belongs elsewhere.
        """
        classes = None if region is None else resolve_region(region)
        dressed = dressed or (classes is not None and wears_dress(classes))
        given = _Given(image, pose, box, name, dressed=dressed, worn=worn, region=classes)
        given.check()
        picture = given.read()
        return self._frame(picture, self._told(picture, given))

    def project_photographs(
        self, photographs: Sequence[Photograph], *, progress: Progress = False
    ) -> tuple[Latent, ...]:
        """Find photographs in the generator's latent space, side by side.

        Args:
            photographs: What `read` returned.
            progress: True for a progress bar on stderr, or what is told of the progress.

        Returns:
            A latent per photograph, with its report and its photograph. A picture that is projected beside others ends
            a little elsewhere than alone: the last bits of a sum differ with the number of its terms, and the steps
            enlarge that. Neither is nearer to the picture.

        Raises:
            PoseError: If the pose of a photograph is unknown.
            RangeError: If a projection starts at a loss that is not finite.
        """
        with _watched(progress) as watch:
            return self._project(photographs, watch)

    def project(
        self,
        image: ImageLike,
        *,
        pose: Pose | None = None,
        box: Sequence[float] | None = None,
        tune: bool = False,
        progress: Progress = False,
    ) -> Latent:
        """Read and project one photograph; see `styletryon.project`.

        Args:
            image: The photograph.
            pose: As for `read`.
            box: As for `read`.
            tune: Whether to tune a copy of the generator to the picture; see `LatentProjector.tune`.
            progress: True for a progress bar on stderr, or what is told of the progress.

        Raises:
            StyleTryOnError: If an input cannot be used; `styletryon.errors` lists the kinds.
        """
        with _watched(progress) as watch:
            (latent,) = self._find((_Given(image, pose, box, "image"),), watch)
            photograph = latent.photograph[0] if latent.photograph else None
            if not tune or photograph is None:
                return latent
            target, inside = photograph.target[None].to(self.device), photograph.inside[None]
            return self.projector.tune(latent, target, mask=inside, callback=watch.callback("project"))

    def optimize(
        self,
        person: Latent,
        garment: Latent | Mapping[Any, Latent],
        *,
        region: Region = "top",
        progress: Progress = False,
    ) -> TryOnBatch:
        """Try garments on: a batch of pairs, each on its own; see `TryOnOptimizer.optimize`.

        Args:
            person: Latents of `B` people, or of one who tries every garment.
            garment: Latents of the `B` wearers of the garments, or of one. Of outfits, region -> such latents.
            region: What changes, of one garment.
            progress: True for a progress bar on stderr, or what is told of the progress.

        Returns:
            The try-on; of outfits, that of the garments which are worn over the others, with theirs `under` it.

        Raises:
            StyleTryOnError: As `TryOnOptimizer.optimize` does, or if garments cannot be worn together.
            RegionError: If a garment that nobody wears belongs elsewhere.
        """
        given = garment if isinstance(garment, Mapping) else {region: garment}
        worn = [(resolve_region(one), given[one]) for one in order_worn(given)]
        for classes, latent in worn:
            _check_alone(latent, classes)
        with _watched(progress) as watch:
            return self._optimize(person, worn, watch)

    def show(
        self,
        batch: TryOnBatch,
        index: int = 0,
        *,
        composite: bool = True,
        detail: bool = True,
        composer: Composer | None = None,
    ) -> TryOnResult:
        """Show one pair of a batch in the person's photograph; see `styletryon.compositing.show`.

        Args:
            batch: What `optimize` returned.
            index: Which pair.
            composite: As for a call.
            detail: As for a call.
            composer: See `styletryon.compositing.make_composer`.
        """
        from styletryon.compositing import show  # here, because it brings scipy, which few calls need at import

        return show(batch, index, composite=composite, detail=detail, composer=composer)

    def generate(self, pose: Pose | None = None, *, seed: int | None = None, truncation: float = 0.7) -> Latent:
        """Draw people who do not exist; see `styletryon.generate`.

        Args:
            pose: B poses, in the pixels of a picture of the model's aspect. None to draw one from a list of usual ones.
            seed: Of the person, and of the pose if none is given. None for the pipeline's.
            truncation: How far from the mean: 0 is the mean, 1 all variety, in [0, 1].

        Raises:
            RangeError: If `truncation` lies outside [0, 1].
            PoseError: If the poses belong to a picture of another aspect.
        """
        truncation = number(truncation, "truncation", least=0, most=1)
        model, rng = self.model, seeded(self.seed if seed is None else seed)
        poses = _usual_poses(model.image_size)
        choice = int(torch.randint(len(poses), (1,), generator=rng, device="cpu"))
        fitted = poses[choice : choice + 1] if pose is None else fit_pose(pose, model.image_size, "pose")
        z = torch.randn(len(fitted), model.z_dim, generator=rng, dtype=torch.float32, device="cpu").to(self.device)
        with torch.no_grad():
            styles = model.affine(model.w_mean + truncation * (model.mapping(z) - model.w_mean))
        return Latent(styles, fitted.to(self.device), model=model.fingerprint)

    def _dress(self, person: _Given, garments: Mapping[frozenset[Label], _Given], watch: _Watch) -> TryOnBatch:
        _ = self.optimizer  # first, so that losses that are none are told before the projections, not after
        wearer, *wanted = self._find((person, *garments.values()), watch)
        for classes, latent in zip(garments, wanted, strict=True):
            _check_alone(latent, classes)
        batch = self._optimize(wearer, list(zip(garments, wanted, strict=True)), watch)
        before = {stage: watch.seconds[stage] for stage in ("read", "pose", "project")}
        watch.lap("optimize")
        return replace(batch, stages=before)

    def _optimize(
        self, person: Latent, worn: Sequence[tuple[frozenset[Label], Latent]], watch: _Watch
    ) -> TryOnBatch:
        """Put garments on one after another, the innermost first: who wears some of them puts on the next."""
        regions = [classes for classes, _ in worn]
        wearer, batches = _undressed(person, regions), list[TryOnBatch]()
        for place, (classes, garment) in enumerate(worn):
            wanted = _worn_under(garment) if _is_covered(classes, regions) else garment
            tell = watch.callback("optimize", place, len(worn))
            with renamed({"region": f"garment[{title(classes)!r}]"} if len(worn) > 1 else {}):
                batch = self.optimizer.optimize(wearer, wanted, region=classes, callback=tell)
            batches.append(replace(batch, under=batches[-1] if batches else None))
            wearer = batch.latent
        return batches[-1]

    def _find(self, given: Sequence[_Given], watch: _Watch) -> tuple[Latent, ...]:
        """Return the latents of what was given; the pictures among it are read, and projected side by side."""
        found: dict[int, Latent] = {}
        pictures: dict[int, Image.Image] = {}
        for index, one in enumerate(given):
            one.check()
            latent = one.latent(self)
            if latent is not None:
                found[index] = latent
        waiting = [index for index in range(len(given)) if index not in found]
        for index in watch.steps("read", waiting):
            pictures[index] = given[index].read()
        given = [self._told(pictures[index], one) if index in pictures else one for index, one in enumerate(given)]
        keys = {index: self._key(picture, given[index]) for index, picture in pictures.items()}
        for index in waiting:
            if keys[index] in self._latents:
                self._latents.move_to_end(keys[index])
                found[index] = self._latents[keys[index]]
        # What is given twice, such as somebody who wears both garments, is projected once.
        first = {keys[index]: index for index in reversed(waiting) if index not in found}
        new = sorted(first.values())
        photographs = [self._frame(pictures[index], given[index]) for index in watch.steps("pose", new)]
        for index, latent in zip(new, self._project(photographs, watch), strict=True):
            self._latents[keys[index]] = latent
        found.update({index: self._latents[keys[index]] for index in waiting if index not in found})
        while len(self._latents) > self.remember:
            self._latents.popitem(last=False)
        return tuple(found[index] for index in range(len(given)))

    def _told(self, picture: Image.Image, given: _Given) -> _Given:
        """Tell by a picture whether somebody wears its garment, where the caller did not say."""
        if given.worn is not None:
            return given
        if given.pose is not None:
            return replace(given, worn=True)
        key = self._key(picture, given)
        if key in self._worn:
            return replace(given, worn=self._worn[key])
        with renamed({"image": given.called, "box": given.argument("box")}):
            seen = self._look(picture, given)
            told = replace(given, worn=seen.is_worn, seen=seen)
            if seen.is_worn and seen.worn <= _SURELY_WORN:  # somebody who wears it can be found
                try:
                    told = replace(told, body=self._find_upright(picture, told))
                except PersonNotFoundError:
                    told = replace(told, worn=False)
        self._worn[key] = bool(told.worn)
        return told

    def _look(self, picture: Image.Image, given: _Given) -> SeenGarment:
        expected = given.region or ((Label.DRESS,) if given.dressed else GARMENT_CLASSES)
        return self.garments(_part(picture, given), expected=expected)

    def is_worn(self, image: ImageLike, *, box: Sequence[float] | None = None) -> bool:
        """Say whether somebody wears the garment in a picture, or it lies or hangs by itself.

        Args:
            image: The picture.
            box: Left, top, right and bottom in its pixels of what is meant. None for all of it.

        Raises:
            ImageError: If the picture cannot be read.
            RangeError: If the box is empty or beside the picture.
        """
        given = _Given(image, None, box, "image", worn=None)
        return self._told(given.read(), given).worn is not False

    def _key(self, picture: Image.Image, given: _Given) -> str:
        """A text that is equal exactly when the projections are."""
        digest = hashlib.blake2b(digest_size=16)
        for top in range(0, picture.height, _ROWS):  # a copy of the whole of a large picture is half as large again
            digest.update(picture.crop((0, top, picture.width, min(top + _ROWS, picture.height))).tobytes())
        box = None if given.box is None else [float(edge) for edge in given.box]
        pose = None if given.pose is None else (given.pose.size, given.pose.keypoints.tolist())
        alone = sorted(map(int, given.region or ())) if given.worn is False else None
        said = [picture.size, box, pose, given.dressed, given.worn, alone, self.preset]
        digest.update(json.dumps(said).encode())
        return digest.hexdigest()

    def _frame(self, picture: Image.Image, given: _Given) -> Photograph:
        size = (picture.height, picture.width)
        pose_name = given.called if given.pose is None else given.argument("pose")
        with renamed({"image": given.called, "box": given.argument("box"), "pose": pose_name}):
            if given.worn is False:
                return self._alone(picture, given)
            if given.pose is None:
                pose, labels = given.body or self._find_upright(picture, given)
            else:
                pose = fit_pose(given.pose, size, "pose")
                labels = find_labels(self.body, picture, pose)
            frame = frame_person(pose, size, self.model.image_size)
        if given.dressed:
            labels = np.where(np.isin(labels, (Label.TOP, Label.BOTTOM)), np.uint8(Label.DRESS), labels)
        return Photograph(picture, frame, pose, labels, background_of(self.model))

    def _find_upright(self, picture: Image.Image, given: _Given) -> tuple[Pose, NDArray[np.uint8]]:
        """Find pose and labels, and refuse what does not show somebody upright."""
        try:
            with _worn(given):
                pose, labels = find_body(self.body, picture, given.box)
                check_somebody(pose, labels)
            check_agreement(pose, labels)
        except PersonNotFoundError:
            check_upright(self.body, picture, given.box)  # says better what is wrong, where it is that
            raise
        if float(pose.keypoints[..., 2].mean()) < _UPRIGHT:
            check_upright(self.body, picture, given.box)
        return pose, labels

    def _alone(self, picture: Image.Image, given: _Given) -> Photograph:
        """Return the photograph of a garment that nobody wears."""
        seen = self._look(picture, given) if given.seen is None else given.seen
        small = _part(picture, given)
        if given.pose is None:
            seen.check()
        label = worn_as(seen.label, given.region or ({Label.DRESS} if given.dressed else {seen.label}))
        pose = None if given.pose is None else fit_pose(given.pose, (picture.height, picture.width), "pose")
        pose = None if pose is None else pose.resized((small.height, small.width))
        return photograph_of(small, seen, self.model, label=label, pose=pose)

    def _helpful_labels(self, photograph: Photograph) -> Tensor | None:
        """Return the labels that help to project a photograph, `(H, W)` int64; None if they are no help.

        Labels are a guess. One that sees nobody in the frame, or in classes that the generator does not draw, is no
        help.

        Args:
            photograph: The photograph.
        """
        labels = photograph.target_labels
        if labels is None or self.model.num_labels != NUM_LABELS or not labels.any():
            return None
        return torch.from_numpy(labels).long()

    def _project(self, given: Sequence[Photograph], watch: _Watch) -> tuple[Latent, ...]:
        # A garment that nobody wears is found on a neutral person.
        photographs = [one if one.worn else worn_by_model(one, self.model) for one in given]
        labels = [self._helpful_labels(photograph) for photograph in photographs]
        found: dict[int, Latent] = {}
        # Those whose labels help, and those whose do not, are projected apart: the distances differ.
        for alike in (
            [index for index, known in enumerate(labels) if known is not None],
            [index for index, known in enumerate(labels) if known is None],
        ):
            if alike:
                part = [photographs[index] for index in alike]
                known = [one for one in (labels[index] for index in alike) if one is not None]
                found.update(zip(alike, self._project_alike(part, known, watch), strict=True))
        watch.lap("project")
        return tuple(replace(found[index], photograph=(one,)) for index, one in enumerate(given))

    def _project_alike(
        self, photographs: Sequence[Photograph], labels: Sequence[Tensor], watch: _Watch
    ) -> Iterator[Latent]:
        poses = [photograph.frame_pose for photograph in photographs]
        keypoints = [pose.keypoints.to(self.device) for pose in poses if pose is not None]
        if len(keypoints) < len(poses):
            raise PoseError("expected photographs whose poses are known, got one without", argument="photographs")
        latents = self.projector.project_each(
            torch.stack([photograph.target for photograph in photographs]).to(self.device),
            Pose(torch.cat(keypoints), self.model.image_size),
            labels=torch.stack(list(labels)).to(self.device) if labels else None,
            mask=torch.stack([photograph.inside for photograph in photographs]),
            callback=watch.callback("project"),
        )
        return (replace(latent, photograph=(one,)) for latent, one in zip(latents, photographs, strict=True))


def body_estimator(device: torch.device) -> BodyEstimator:
    """Return the bundled estimator of poses and labels on a device, loaded once."""
    note_process()
    estimator: BodyEstimator = _load_estimator(BodyEstimator, device)
    return estimator


def garment_estimator(device: torch.device) -> GarmentEstimator:
    """Return the bundled estimator of garments that nobody wears on a device, loaded once."""
    note_process()
    estimator: GarmentEstimator = _load_estimator(GarmentEstimator, device)
    return estimator


@lru_cache(maxsize=8)
def _load_estimator(kind: type[BodyEstimator] | type[GarmentEstimator], device: torch.device) -> Any:
    with torch.inference_mode(False):
        return kind.from_pretrained(device=device)


def _part(picture: Image.Image, given: _Given) -> Image.Image:
    """Return what is looked at of a picture of a garment by itself."""
    if given.box is not None:
        left, top, right, bottom = (round(edge) for edge in as_box(given.box, picture))
        picture = picture.crop((left, top, right, bottom))
    return reduced(picture)


def _check_alone(garment: Latent, classes: frozenset[Label]) -> None:
    """Refuse garments that nobody wears for a region that is not theirs."""
    for photograph in garment.photograph or ():
        if photograph is not None and not photograph.worn:
            worn_as(worn_label(photograph), classes)


_SURELY_WORN = 0.9
"""The chance that somebody wears a garment above which it counts, even where nobody is found."""

_ROWS = 256
"""How many rows of a picture are hashed at a time."""

_LOOKED_AT = 4_000_000
"""The most pixels of a photograph in which the person is looked for; of a larger one they are made smaller."""


def find_body(
    estimator: BodyEstimator, picture: Image.Image, box: Sequence[float] | None
) -> tuple[Pose, NDArray[np.uint8]]:
    """Find pose and labels in a photograph as `BodyEstimator.parse` does, but at a bounded size.

    Args:
        estimator: What finds them.
        picture: The photograph.
        box: Left, top, right and bottom in its pixels of the person. None for the largest.

    Returns:
        The pose in the photograph's pixels, and `(H, W)` uint8 labels of its size.

    Raises:
        RangeError: If `box` is empty or beside the picture.
        PersonNotFoundError: If nobody is found.
    """
    small, factor = _reduced(picture)
    if factor == 1:
        return estimator.parse(picture, box=box)
    edges = (0, 0, picture.width, picture.height) if box is None else as_box(box, picture)
    # The whole of it is no limit; and its last reduced pixels may reach beyond.
    limits = None if edges == (0, 0, picture.width, picture.height) else [edge / factor for edge in edges]
    pose, labels = estimator.parse(small, box=limits)
    points = pose.keypoints * pose.keypoints.new_tensor([factor, factor, 1])
    points = torch.minimum(points, points.new_tensor([picture.width, picture.height, 1]))
    return Pose(points, (picture.height, picture.width)), _enlarged(labels, factor, picture)


def find_labels(estimator: BodyEstimator, picture: Image.Image, pose: Pose) -> NDArray[np.uint8]:
    """Say what a photograph's pixels show as `BodyEstimator.labels` does, but at a bounded size.

    Args:
        estimator: What finds it.
        picture: The photograph.
        pose: The person's, in its pixels.

    Returns:
        `(H, W)` uint8 labels of its size.

    Raises:
        PoseError: If the pose is not one person's in a picture of this size, or says of no keypoint where it is.
    """
    small, factor = _reduced(picture)
    if factor == 1:
        return estimator.labels(picture, pose)
    points = pose.keypoints / pose.keypoints.new_tensor([factor, factor, 1])
    return _enlarged(estimator.labels(small, Pose(points, (small.height, small.width))), factor, picture)


def _reduced(picture: Image.Image) -> tuple[Image.Image, int]:
    """Make a large picture a whole number of times smaller, and say how many."""
    factor = math.ceil(math.sqrt(picture.width * picture.height / _LOOKED_AT))
    return (picture, 1) if factor <= 1 else (picture.reduce(factor), factor)


def _enlarged(labels: NDArray[np.uint8], factor: int, picture: Image.Image) -> NDArray[np.uint8]:
    enlarged = labels.repeat(factor, axis=0).repeat(factor, axis=1)[: picture.height, : picture.width]
    return np.ascontiguousarray(enlarged)


_UPRIGHT = 0.9
"""The mean score of all keypoints from which nobody asks whether the photograph is turned."""


def check_upright(estimator: BodyEstimator, picture: Image.Image, box: Sequence[float] | None) -> None:
    """Refuse a photograph that lies on its side or stands on its head, as those do whose EXIF data were lost.

    Args:
        estimator: What tells.
        picture: The photograph.
        box: Left, top, right and bottom in its pixels of the person. None for all of it.

    Raises:
        PersonNotFoundError: If a person is seen in it who would stand upright if it were turned.
    """
    if box is not None:
        left, top, right, bottom = (round(edge) for edge in as_box(box, picture))
        picture = picture.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
    small, _ = _reduced(picture)
    degrees = estimator.turn(small)
    if degrees:
        how = "stands on its head" if degrees == 180 else "lies on its side"
        raise PersonNotFoundError(
            f"expected a photograph of an upright person, got one that {how}; turn the photograph upright, by "
            f"{degrees} degrees counterclockwise (PIL: image.rotate({degrees}, expand=True)), or pass a pose",
            argument="image",
        )


_LEAST_CHANGED = 0.005
"""The share of the frame of which less is no garment."""


def _warn_unchanged(result: TryOnResult) -> None:
    """Warn where a try-on comes out as its photograph went in: that must not look like a success."""
    for name, one in (result.outfit or {"": result}).items():
        share = float(one.report["changed_share"])
        if share >= _LEAST_CHANGED:
            continue
        where = f" by the {name}" if name else ""
        warnings.warn(
            f"nothing to be seen has changed{where}: {share:.2%} of the pixels around the person. The person may wear "
            "such a garment already, or the pose or the region may not be what the pictures show; look at "
            "result.figure() and at styletryon.estimate_pose, or pass person_pose= and garment_pose=",
            TryOnWarning,
            stacklevel=4,  # the line that called try_on
        )


def _warn_lost(result: TryOnResult, *, detail: bool) -> None:
    """Warn where a projected picture's own pixels are not at hand, so that the result is less than it might be."""
    worn = result.outfit or {"": result}
    person = next(iter(worn.values())).person
    height, width = person.pose.size
    given = [("person", person, f"the result is a drawing of {width}x{height} pixels")]
    for name, one in worn.items() if detail else ():
        given.append((f"garment[{name!r}]" if name else "garment", one.garment, "its cloth is drawn"))
    for called, latent, so in given:
        if latent.anchor is not None and latent.photograph is None and "reconstruction_psnr" in latent.report:
            warnings.warn(
                f"{called}: expected a latent with its photograph, got one without, so {so}; project the photograph "
                "again, and let Latent.save keep it (photograph=True)",
                TryOnWarning,
                stacklevel=4,  # the line that called try_on
            )


def _warn_doubtful(result: TryOnResult) -> None:
    """Warn of what will look wrong in a try-on between two photographs."""
    for name, one in (result.outfit or {"": result}).items():
        layers = one.layers()
        if layers is not None and layers.doubts:
            where = f" of the {name}" if name else ""
            warnings.warn(
                f"the try-on{where} may look wrong (confidence {layers.confidence:.2f}): {'; '.join(layers.doubts)}. "
                "Use photographs that show person and garment from the front, with nothing before the garment",
                TryOnWarning,
                stacklevel=4,  # the line that called try_on
            )


def wears_dress(region: Region) -> bool:
    """Say whether whoever wears a region's garment wears a dress, and no top beside it."""
    classes = resolve_region(region)
    return Label.DRESS in classes and Label.TOP not in classes


def _undressed(person: Latent, regions: Sequence[frozenset[Label]]) -> Latent:
    """Let the dress of somebody who puts on a top and a bottom count as both, so that nothing of it stays."""
    classes = frozenset[Label]().union(*regions)
    if not {Label.TOP, Label.BOTTOM} <= classes or Label.DRESS in classes:
        return person
    return _relabelled(person, _in_two_pieces)


def _in_two_pieces(photograph: Photograph) -> NDArray[np.uint8] | None:
    """The labels of a photograph with a dress as a top above the hips and a bottom below them."""
    labels, pose = photograph.labels, photograph.pose
    if labels is None or pose is None or Label.DRESS not in labels:
        return labels
    hips = float(pose.keypoints[0, 11:13, 1].mean())
    above = np.arange(len(labels))[:, None] + 0.5 < hips
    return np.where(labels == Label.DRESS, np.where(above, np.uint8(Label.TOP), np.uint8(Label.BOTTOM)), labels)


def _is_covered(region: frozenset[Label], regions: Sequence[frozenset[Label]]) -> bool:
    """Say whether a top goes under outerwear that another garment of the outfit is."""
    return {Label.TOP, Label.OUTERWEAR} <= region and sum(Label.OUTERWEAR in other for other in regions) > 1


def _worn_under(garment: Latent) -> Latent:
    """Let all that the wearer of a top has on be top, which a coat does not take off."""
    return _relabelled(garment, _without_outerwear)


def _without_outerwear(photograph: Photograph) -> NDArray[np.uint8] | None:
    labels = photograph.labels
    return None if labels is None else np.where(labels == Label.OUTERWEAR, np.uint8(Label.TOP), labels)


def _relabelled(latent: Latent, labels: Callable[[Photograph], NDArray[np.uint8] | None]) -> Latent:
    """Say anew what the photographs of a latent show."""
    if latent.photograph is None:
        return latent
    known = tuple(None if one is None else replace(one, labels=labels(one)) for one in latent.photograph)
    return replace(latent, photograph=known)


def fit_pose(pose: Pose, size: tuple[int, int], name: str) -> Pose:
    """Bring a pose to the pixels of the same picture at another size.

    Args:
        pose: The pose.
        size: Height and width of the picture.
        name: What errors call the pose.

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

    Args:
        box: The box.
        pose: Whether a pose says who is meant.
        name: What errors call the box.

    Raises:
        ConfigError: If there are both.
    """
    if box is not None and pose:
        raise ConfigError("expected None beside a pose, which says who it is, got both; leave one out", argument=name)


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


@dataclass(frozen=True, eq=False)
class _Given:
    """A picture, a latent or a result, and what its caller said of it; `key` is its region in an outfit."""

    picture: Any
    pose: Pose | None
    box: Sequence[float] | None
    name: str
    dressed: bool = False
    key: str = ""
    worn: bool | None = True
    region: frozenset[Label] | None = None
    seen: SeenGarment | None = None
    body: tuple[Pose, NDArray[np.uint8]] | None = None

    @property
    def called(self) -> str:
        """What the caller calls it."""
        return f"{self.name}[{self.key!r}]" if self.key else self.name

    def argument(self, part: str) -> str:
        """What the caller calls the pose or the box of it."""
        return part if self.name == "image" else f"{self.name}_{part}{f'[{self.key!r}]' if self.key else ''}"

    def read(self) -> Image.Image:
        """Read the picture; a box or a pose says where the person is in one of whatever shape."""
        known = self.box is not None or self.pose is not None
        return read_image(self.picture, name=self.called, max_aspect=math.inf if known else MAX_ASPECT)

    def check(self) -> None:
        """Refuse a box where the pose is known."""
        posed = isinstance(self.picture, Latent | TryOnResult) or is_latent_file(self.picture)
        posed = posed or self.pose is not None
        check_box(self.box, pose=posed, name=self.argument("box"))

    def latent(self, pipeline: TryOnPipeline) -> Latent | None:
        """The latent if one was given, on the pipeline's device and in the given pose; None for a picture."""
        given = self.picture.latent if isinstance(self.picture, TryOnResult) else self.picture
        if is_latent_file(given):
            with renamed({"path": self.called}):
                given = Latent.load(given)
        if not isinstance(given, Latent):
            return None
        if len(given) != 1:
            raise ShapeError(
                f"expected the latent of one person, got {len(given)}; pass {self.called}[i], or hand the "
                f"whole batch to TryOnOptimizer.optimize",
                argument=self.called,
            )
        latent = given.to(pipeline.device)
        if self.pose is None:
            return latent
        return latent.with_pose(fit_pose(self.pose, pipeline.model.image_size, self.argument("pose")))


def _garments(garment: Any, region: Region, pose: Any, box: Any, worn: Any) -> dict[frozenset[Label], _Given]:
    """Return what was said of each garment by its label classes, in the order in which they are worn."""
    for said in worn.values() if isinstance(garment, Mapping) and isinstance(worn, Mapping) else (worn,):
        _check_worn(said)
    if not isinstance(garment, Mapping):
        classes = resolve_region(region)
        dressed = wears_dress(classes)
        return {classes: _Given(garment, pose, box, "garment", dressed=dressed, worn=worn, region=classes)}
    if region != "top":
        raise ConfigError(
            f"expected none beside an outfit, whose keys are regions, got {region!r}; leave it out", argument="region"
        )
    poses, boxes = _of_each(pose, garment, "garment_pose"), _of_each(box, garment, "garment_box")
    told = _of_each(worn, garment, "garment_worn") if isinstance(worn, Mapping) else {}
    given = {}
    for one in order_worn(garment):
        classes, name = resolve_region(one), title(one)
        known = poses.get(classes), boxes.get(classes)
        said = told.get(classes) if isinstance(worn, Mapping) else worn
        dressed = wears_dress(classes)
        given[classes] = _Given(garment[one], *known, "garment", dressed, key=name, worn=said, region=classes)
    return given


def _check_worn(said: Any) -> None:
    if said is not None and not isinstance(said, bool | np.bool_):
        raise ConfigError(
            f"expected True, False, or None to tell by the picture, got {said!r:.40}; region -> True or False "
            "goes with an outfit",
            argument="garment_worn",
        )


def _of_each(known: Any, garments: Mapping[Region, Any], name: str) -> dict[frozenset[Label], Any]:
    """Return what is known of some garments of an outfit by their label classes."""
    if known is None:
        return {}
    if not isinstance(known, Mapping):
        raise ConfigError(
            f"expected a mapping of regions beside an outfit, got {type(known).__name__}; pass {{region: ...}} with "
            "the regions of the garments meant",
            argument=name,
        )
    regions = {resolve_region(one) for one in garments}
    beside = [title(one) for one in known if resolve_region(one) not in regions]
    if beside:
        raise ConfigError(
            f"expected regions of the outfit, {', '.join(map(title, garments))}, got {', '.join(beside)}", argument=name
        )
    return {resolve_region(one): each for one, each in known.items()}


@contextmanager
def _worn(given: _Given) -> Iterator[None]:
    """Say of a garment's picture that shows nobody what is most often wrong with it."""
    try:
        yield
    except PersonNotFoundError as error:
        if given.name != "garment":
            raise
        raise PersonNotFoundError(
            "expected a photograph of somebody who wears the garment, found nobody in it; leave garment_worn out, or "
            "pass False, for a garment by itself; where somebody wears it, crop it closer to them or pass garment_pose",
            argument=error.argument,
        ) from error


class _Watch:
    """Tells of the progress, and keeps the seconds of each stage; their sum is the time since it began.

    Attributes:
        seconds: Stage -> how many seconds it took.
    """

    def __init__(self, tell: Callable[[PipelineProgress], object] | None) -> None:
        self._tell = tell
        self.seconds: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        self._at = time.perf_counter()

    def tell(self, stage: Stage, step: int, steps: int) -> None:
        """Tell how much of a stage is done."""
        if self._tell is not None:
            self._tell(PipelineProgress(stage, step, steps))

    def steps(self, stage: Stage, items: Sequence[int]) -> Iterator[int]:
        """Go through a stage item by item, and tell of each."""
        for done, item in enumerate(items):
            self.tell(stage, done, len(items))
            yield item
            self.tell(stage, done + 1, len(items))
        self.lap(stage)

    def lap(self, stage: Stage) -> None:
        """Count the time since the last lap for a stage, which is done."""
        now = time.perf_counter()
        self.seconds[stage] += now - self._at
        self._at = now

    def callback(
        self, stage: Stage, done: int = 0, of: int = 1
    ) -> Callable[[ProjectionProgress | TryOnProgress], None] | None:
        """Return the callback of an optimisation, of which some `of` many are done; None where nobody is told."""
        tell = self._tell
        if tell is None:
            return None

        def step(progress: ProjectionProgress | TryOnProgress) -> None:
            tell(PipelineProgress(stage, done * progress.steps + progress.step, of * progress.steps))

        return step

    def report(self) -> dict[str, float]:
        """The seconds as a report has them: of each stage, and their sum."""
        return {"seconds": sum(self.seconds.values()), **{f"seconds_{name}": x for name, x in self.seconds.items()}}


@contextmanager
def _watched(progress: Progress) -> Iterator[_Watch]:
    """Give a watch that tells what was asked for: a bar on stderr, a callback, or nobody."""
    if callable(progress):
        yield _Watch(progress)
        return
    if not progress:
        yield _Watch(None)
        return
    with Stages() as stages:
        yield _Watch(lambda now: stages(now.text, now.step, now.steps))
