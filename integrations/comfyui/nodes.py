"""The nodes. IMAGE is `(B, H, W, C)` float32 in [0, 1], MASK is `(B, H, W)`, as ComfyUI has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from styletryon import TryOnPipeline, TryOnResult
from styletryon.labels import REGIONS
from styletryon.pipeline import STAGES, PipelineProgress
from styletryon.tryon import PRESETS

GARMENTS = ("top", "bottom", "dress", "outerwear")
"""The garments that an outfit may have."""

WORN = {"auto": None, "yes": True, "no": False}
"""Whether somebody wears a garment in its picture, or it lies or hangs by itself; `auto` tells by the picture."""

Definition = dict[str, dict[str, tuple[Any, ...]]]


class LoadGenerator:
    """Loads a generator, which stays loaded for every node that it is handed to."""

    RETURN_TYPES = ("STYLETRYON",)
    RETURN_NAMES = ("generator",)
    FUNCTION = "load"
    CATEGORY = "styletryon"
    DESCRIPTION = "Loads a try-on generator by name or folder."

    @classmethod
    def INPUT_TYPES(cls) -> Definition:
        """The node's inputs."""
        return {
            "required": {
                "model": ("STRING", {"default": "default", "tooltip": "name of bundled weights, or folder"}),
                "device": (["auto", "cpu", "cuda"], {"default": "auto"}),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**63 - 1, "tooltip": "of the preset quality"}),
            }
        }

    def load(self, model: str, device: str, seed: int) -> tuple[TryOnPipeline]:
        """Return the pipeline that the other nodes call."""
        with torch.inference_mode(False):  # ComfyUI is in it, and the pipeline outlives this call
            return (TryOnPipeline(model, device=None if device == "auto" else device, seed=seed),)


class _Dressing:
    """What both kinds of try-on share."""

    RETURN_TYPES = ("IMAGE", "MASK")
    RETURN_NAMES = ("image", "changed")
    FUNCTION = "dress"
    CATEGORY = "styletryon"

    SETTINGS: ClassVar[dict[str, tuple[Any, ...]]] = {
        "preset": (list(PRESETS), {"default": "balanced"}),
        "detail": ("BOOLEAN", {"default": True, "tooltip": "cloth as the garment's photograph shows it"}),
    }

    WORN_BY: ClassVar[tuple[Any, ...]] = (
        list(WORN),
        {"default": "auto", "tooltip": "whether somebody wears the garment, or it lies or hangs by itself"},
    )

    def _dress_each(
        self,
        generator: TryOnPipeline,
        person: Tensor,
        garments: Mapping[str, Tensor],
        preset: str,
        make: Callable[[TryOnPipeline, Tensor, dict[str, Tensor], Any], TryOnResult],
    ) -> tuple[Tensor, Tensor]:
        count = _length({"person": person, **garments})
        pipeline = generator.with_preset(preset)
        tell = _progress(count)
        with torch.inference_mode(False), torch.enable_grad():
            results = []
            for index in range(count):
                worn = {name: _picture(image, index) for name, image in garments.items()}
                results.append(make(pipeline, _picture(person, index), worn, tell(index)))
        images = [torch.from_numpy(np.asarray(result.image, np.float32) / 255) for result in results]
        return torch.stack(images), torch.stack([_changed(result) for result in results])


class TryOnGarment(_Dressing):
    """Dresses a person in the garment of another picture."""

    DESCRIPTION = "Dresses a person in a garment that somebody else wears, or that lies or hangs by itself."

    @classmethod
    def INPUT_TYPES(cls) -> Definition:
        """The node's inputs."""
        return {
            "required": {
                "generator": ("STYLETRYON",),
                "person": ("IMAGE",),
                "garment": ("IMAGE",),
                "region": (list(REGIONS), {"default": "top"}),
                **cls.SETTINGS,
                "garment_worn": cls.WORN_BY,
            }
        }

    def dress(
        self,
        generator: TryOnPipeline,
        person: Tensor,
        garment: Tensor,
        region: str,
        preset: str,
        detail: bool,
        garment_worn: str,
    ) -> tuple[Tensor, Tensor]:
        """Return the try-ons, and where they have changed."""
        return self._dress_each(
            generator, person, {"garment": garment}, preset,
            lambda pipeline, one, worn, tell: pipeline(
                one, worn["garment"], region=region, detail=detail, garment_worn=WORN[garment_worn], progress=tell
            ),
        )  # fmt: skip


class TryOnOutfit(_Dressing):
    """Dresses a person in several garments at once."""

    DESCRIPTION = "Dresses a person in several garments, each worn by somebody else or by itself."

    @classmethod
    def INPUT_TYPES(cls) -> Definition:
        """The node's inputs."""
        return {
            "required": {
                "generator": ("STYLETRYON",),
                "person": ("IMAGE",),
                **cls.SETTINGS,
                **{f"{name}_worn": cls.WORN_BY for name in GARMENTS},
            },
            "optional": dict.fromkeys(GARMENTS, ("IMAGE",)),
        }

    def dress(
        self,
        generator: TryOnPipeline,
        person: Tensor,
        preset: str,
        detail: bool,
        top_worn: str,
        bottom_worn: str,
        dress_worn: str,
        outerwear_worn: str,
        top: Tensor | None = None,
        bottom: Tensor | None = None,
        dress: Tensor | None = None,
        outerwear: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the try-ons, and where they have changed."""
        given = dict(zip(GARMENTS, (top, bottom, dress, outerwear), strict=True))
        outfit = {name: image for name, image in given.items() if image is not None}
        answers = dict(zip(GARMENTS, (top_worn, bottom_worn, dress_worn, outerwear_worn), strict=True))
        said = {name: WORN[answers[name]] for name in outfit}
        return self._dress_each(
            generator, person, outfit, preset,
            lambda pipeline, one, worn, tell: pipeline(one, worn, detail=detail, garment_worn=said, progress=tell),
        )  # fmt: skip


def _picture(image: Tensor, index: int) -> Tensor:
    """One picture of a batch as `(3, H, W)`; the only one of a batch of one."""
    one = image[index if len(image) > 1 else 0, ..., :3]
    return one.movedim(-1, 0).detach().cpu().float().clamp(0, 1).clone()


def _length(images: Mapping[str, Tensor]) -> int:
    """How many try-ons batches of one or of one length make."""
    lengths = {name: len(image) for name, image in images.items()}
    count = max(lengths.values())
    if any(length not in (1, count) for length in lengths.values()):
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"expected batches of one picture or of equally many, got {told}")
    return count


def _changed(result: TryOnResult) -> Tensor:
    """Where a try-on shows something else than the photograph, `(H, W)` in [0, 1]."""
    before, after = (np.asarray(picture, np.int16) for picture in (result.person_image, result.image))
    return torch.from_numpy((before != after).any(-1).astype(np.float32))


def _progress(count: int) -> Callable[[int], Any]:
    """What tells ComfyUI of the progress and lets it end a try-on; nothing outside of it."""
    try:
        from comfy.model_management import throw_exception_if_processing_interrupted
        from comfy.utils import ProgressBar
    except ImportError:
        return lambda index: False
    whole = 100 * len(STAGES)
    bar = ProgressBar(whole * count)

    def of(index: int) -> Callable[[PipelineProgress], None]:
        def tell(now: PipelineProgress) -> None:
            throw_exception_if_processing_interrupted()
            done = 100 * (STAGES.index(now.stage) + now.step / max(1, now.steps))
            bar.update_absolute(whole * index + int(done))

        return tell

    return of


NODE_CLASS_MAPPINGS = {
    "StyleTryOnLoad": LoadGenerator,
    "StyleTryOnGarment": TryOnGarment,
    "StyleTryOnOutfit": TryOnOutfit,
}

NODE_DISPLAY_NAME_MAPPINGS = {
    "StyleTryOnLoad": "Load Try-On Generator",
    "StyleTryOnGarment": "Try On Garment",
    "StyleTryOnOutfit": "Try On Outfit",
}
