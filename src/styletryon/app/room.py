"""The computing of the fitting room. It knows nothing of browsers and visitors."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import torch
from PIL import Image
from torch import Tensor

from styletryon._loading import ModelLike
from styletryon.app.wardrobe import Choice
from styletryon.compositing import Composer, make_composer, show
from styletryon.errors import RegionError, ShapeError
from styletryon.generator import PosedGenerator, draw_in
from styletryon.labels import order_worn
from styletryon.latent import stack
from styletryon.photo import to_pil
from styletryon.pipeline import PipelineProgress, Stage, TryOnPipeline
from styletryon.pose import Pose
from styletryon.tryon import TryOnBatch, TryOnResult, blend_styles
from styletryon.tryon.layers import TryOnLayers

Tell = Callable[[float, str], object]
"""Is told the share of the work that is done, in [0, 1], and what is being done."""

MAX_LATENTS = 24
"""How many projected pictures are kept for the next try-on."""

MAX_COMPOSERS = 2
"""For how many try-ons what redraws share is kept, which takes most of the memory."""

PIXELS_A_THREAD = 128 * 96
"""How many pixels of a drawing keep a thread busy when it is redrawn."""

POSES = 6

SHARES: dict[Stage, tuple[float, float]] = {
    "read": (0.0, 0.02),
    "pose": (0.02, 0.1),
    "project": (0.1, 0.7),
    "optimize": (0.7, 0.9),
    "compose": (0.9, 1.0),
}
"""From where to where in the whole work each stage reaches, of two photographs."""

TEXTS: dict[Stage, str] = {
    "read": "Reading the pictures",
    "pose": "Looking at the people",
    "project": "Looking at the people",
    "optimize": "Dressing",
    "compose": "Finishing the picture",
}


@final
@dataclass(frozen=True, eq=False)
class Fitting:
    """A try-on that can be changed by hand.

    Attributes:
        batch: The try-on as it was optimised; of an outfit, that of the garment worn over the others, by the person in
            those.
        found: What is shown of it.
        draw: The generator in the person's pose.
        result: What is shown: `found`, or what became of it when its coefficients had been scaled.
        scales: Group of layers -> what their coefficients are multiplied with.
        settings: What the visitor chose, for the report.
        person: Who was dressed.
        garments: Region -> who wears that garment, of all that the person wears now, in the order in which it is worn.
        as_drawn: Whether `result` shows what the generator drew, in the place of what the photographs show.
    """

    batch: TryOnBatch
    found: TryOnResult
    draw: PosedGenerator
    result: TryOnResult
    scales: dict[str, float]
    settings: dict[str, str]
    person: Choice
    garments: dict[str, Choice]
    as_drawn: bool = False

    @property
    def layers(self) -> dict[str, TryOnLayers | None]:
        """Region -> the parts that its garment's picture is made of, in the order of `garments`.

        None where a garment is shown as drawn; see `TryOnResult.layers`.
        """
        *below, _ = self.found.outfit.values() or [self.found]
        return dict(zip(self.garments, [one.layers() for one in (*below, self.result)], strict=True))

    @property
    def layer_means(self) -> dict[str, float]:
        """Layer -> the mean over its channels of the coefficients, in [0, 1]."""
        return {name: float(layer.mean()) for name, layer in self.result.coefficients.items()}

    @property
    def report(self) -> dict[str, Any]:
        """Plain numbers about what is shown."""
        changed = any(scale != 1 for scale in self.scales.values())
        # The losses are those of the optimised picture.
        numbers = {k: v for k, v in self.result.report.items() if not (changed and k.startswith("loss_"))}
        return {
            **self.settings,
            **numbers,
            "changed_by_hand": changed,
            "as_drawn": self.as_drawn,
            "scales": self.scales,
            "coefficients": self.layer_means,
        }


@final
class FittingRoom:
    """Dresses people, one after another, and redraws what was found.

    Args:
        model: The generator: name, folder or object.
        device: Where to compute. None for a CUDA device where there is one.
        seed: As for `styletryon.try_on`.

    Raises:
        CheckpointError: If the model cannot be loaded.
        ConfigError: If the device is not there.
    """

    def __init__(
        self, model: ModelLike = "default", *, device: torch.device | str | None = None, seed: int = 0
    ) -> None:
        self.pipeline = TryOnPipeline(model, device=device, seed=seed, remember=MAX_LATENTS)
        self.model, self.seed = self.pipeline.model, seed
        self._composers: deque[tuple[TryOnBatch, Composer]] = deque(maxlen=MAX_COMPOSERS)
        self._busy, self._drawing, self._looking = threading.Lock(), threading.Lock(), threading.Lock()

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups of layers that one slider scales: the resolutions in pixels, coarsest first."""
        return tuple(dict.fromkeys(group_of(name) for name in self.model.style_names))

    def dress(
        self,
        person: Choice,
        garment: Choice,
        *,
        region: str = "top",
        preset: str = "balanced",
        worn: Fitting | None = None,
        tell: Tell,
    ) -> Fitting:
        """Try a garment on.

        Args:
            person: Who is dressed.
            garment: Who wears the garment, or the garment by itself.
            region: What changes.
            preset: "fast", "balanced" or "quality".
            worn: A try-on of the same person, who keeps what can be worn beside the new garment. Of somebody else it
                makes no difference. None to try the one garment on.
            tell: Is told of the progress. It may raise, which ends the work.

        Returns:
            The try-on.

        Raises:
            StyleTryOnError: If an input cannot be used.
        """
        pipeline = self.pipeline.with_preset(preset)
        kept = {} if worn is None or worn.person.key != person.key else worn.garments
        outfit = {**{name: one for name, one in kept.items() if _together(name, region)}, region: garment}
        outfit = {str(name): outfit[str(name)] for name in order_worn(outfit)}

        def step(progress: PipelineProgress) -> None:
            start, stop = SHARES[progress.stage]
            tell(start + (stop - start) * progress.step / max(1, progress.steps), TEXTS[progress.stage])

        with self._busy:
            batch = pipeline.dress(
                person.picture,
                {name: one.picture for name, one in outfit.items()},
                person_pose=person.pose,
                garment_pose={name: one.pose for name, one in outfit.items() if one.pose is not None},
                garment_worn={name: one.worn for name, one in outfit.items() if one.worn is not None},
                progress=step,
            )
        settings = {"region": region, "preset": preset, "outfit": ", ".join(outfit)}
        step(PipelineProgress("compose", 0, 1))
        if batch.under is None:
            found = pipeline.show(batch, composer=self._composer(batch))
        else:
            found = pipeline.show(batch)
            # What is changed by hand is the outermost garment, over the picture of the others.
            *_, below, _ = found.outfit.values()
            dressed = replace(batch.person, photograph=below.latent.photograph)
            batch = replace(batch, person=dressed, under=None)
        step(PipelineProgress("compose", 1, 1))
        scales, draw = dict.fromkeys(self.groups, 1.0), draw_in(self.model, batch.person.pose)
        return Fitting(batch, found, draw, found, scales, settings, person, outfit)

    @torch.no_grad()
    def redraw(self, fitting: Fitting, scales: Sequence[float], *, as_drawn: bool = False) -> Fitting:
        """Scale the optimised coefficients by hand.

        Args:
            fitting: The try-on.
            scales: A number per group: 0 leaves the person's, 1 is as optimised; coefficients end at 1.
            as_drawn: Whether to show the generator's drawing, which shows at once what a coefficient does. Between two
                photographs the garment is shown as its photograph shows it otherwise, and coefficients only decide how
                much of it: none where the drawing does not leave the person.

        Returns:
            The try-on with the coefficients scaled; those that were optimised are kept beside.

        Raises:
            ShapeError: If there are not as many scales as groups.
        """
        if len(scales) != len(self.groups):
            raise ShapeError(
                f"expected {len(self.groups)} numbers, one per group, got {len(scales)}", argument="scales"
            )
        chosen = dict(zip(self.groups, map(float, scales), strict=True))
        found, batch, changed = fitting.found, fitting.batch, any(scale != 1 for scale in chosen.values())
        layers = None if as_drawn else found.layers()
        if not changed and (layers is not None or found.layers() is None):
            return replace(fitting, result=found, scales=chosen, as_drawn=as_drawn)
        if changed:
            batch = self._drawn(fitting, chosen)
        composer = self._composer(fitting.batch) if layers is None else None
        shown = show(batch, detail=layers is not None, composer=composer, layers=layers)
        shown = replace(shown, person_image=found.person_image)
        return replace(fitting, result=shown, scales=chosen, as_drawn=as_drawn)

    def _drawn(self, fitting: Fitting, chosen: Mapping[str, float]) -> TryOnBatch:
        """Draw a try-on with its coefficients scaled."""
        batch = fitting.batch
        coefficients = tuple(
            (layer * chosen[group_of(name)]).clamp(0, 1)
            for name, layer in zip(batch.layer_names, batch.coefficients, strict=True)
        )
        styles = blend_styles(batch.person.styles, batch.garment.styles, coefficients)
        with self._drawing, _threads_for(self.model.image_size):
            drawing = fitting.draw(styles, noise=batch.person.noise)
        return replace(batch, coefficients=coefficients, styles=styles, drawing=drawing)

    @torch.no_grad()
    def in_poses(self, fitting: Fitting) -> list[Image.Image]:
        """Draw the dressed person in a row of usual poses."""
        latent = replace(fitting.result.latent, report={}, photograph=None)
        people = stack([latent.with_pose(pose) for pose in self.poses])
        return [to_pil(picture) for picture in self.model.synthesize(people.styles, people.pose).image]

    @cached_property
    def poses(self) -> list[Pose]:
        """Usual poses, each different."""
        found: list[Pose] = []
        for seed in range(8 * POSES):
            pose = self.pipeline.generate(seed=seed).pose
            if not any(_same(pose, other) for other in found):
                found.append(pose)
            if len(found) == POSES:
                break
        return found

    def _composer(self, batch: TryOnBatch) -> Composer:
        with self._looking:
            for known in self._composers:
                if known[0] is batch:
                    return known[1]
            composer = make_composer(batch)
            self._composers.append((batch, composer))
            return composer


def _together(region: str, other: str) -> bool:
    """Say whether two garments can be worn together."""
    with contextlib.suppress(RegionError):
        return bool(order_worn((region, other)))
    return False


def group_of(layer: str) -> str:
    """The group of a layer: "32.conv0" belongs to "32"."""
    return layer.split(".")[0]


@contextlib.contextmanager
def _threads_for(size: tuple[int, int]) -> Iterator[None]:
    """Let one drawing have no more threads than pay: small ones wait for each other longer than they save."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(before, size[0] * size[1] // PIXELS_A_THREAD)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _same(pose: Pose, other: Pose) -> bool:
    points: Tensor = pose.keypoints
    return bool(torch.equal(points, other.keypoints))
