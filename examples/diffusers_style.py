"""A try-on that is called as a pipeline of diffusers is: `pipe(image=..., garment=...).images[0]`.

Run `python examples/diffusers_style.py --out out/`. Code that was written for an inpainting or a try-on pipeline of
diffusers needs to change the names of the pictures alone. The pictures are rendered here, so nothing is downloaded.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import styletryon
from styletryon.data import paperdoll


@dataclass
class TryOnOutput:
    """What a call returns.

    Attributes:
        images: The try-ons: PIL images, `(B, H, W, 3)` floats in [0, 1], or a `(B, 3, H, W)` tensor of those.
    """

    images: Any


class StyleTryOnPipeline:
    """A try-on pipeline that looks like one of diffusers.

    Args:
        pipeline: What it calls.
    """

    def __init__(self, pipeline: styletryon.TryOnPipeline) -> None:
        self.pipeline = pipeline

    @classmethod
    def from_pretrained(cls, name: str = "default", **options: Any) -> StyleTryOnPipeline:
        """Load a generator by name or folder; options are those of `styletryon.TryOnPipeline`."""
        return cls(styletryon.TryOnPipeline(name, **options))

    def to(self, device: str) -> StyleTryOnPipeline:
        """Return the pipeline on another device."""
        old = self.pipeline
        moved = styletryon.TryOnPipeline(old.model, device=device, preset=old.preset, seed=old.seed, losses=old.losses)
        return type(self)(moved)

    def __call__(
        self,
        image: Any,
        garment: Any,
        *,
        region: str = "top",
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[[Any, int, str, dict[str, Any]], Any] | None = None,
    ) -> TryOnOutput | tuple[Any]:
        """Dress people.

        Args:
            image: The person, or a list of people.
            garment: Who wears the garment, or a list of as many.
            region: What changes.
            output_type: "pil", "np" or "pt".
            return_dict: Whether to return a `TryOnOutput`; otherwise a tuple of the images.
            callback_on_step_end: Is told pipeline, step, stage and an empty dictionary. It may raise to end the work.
        """

        def tell(now: Any) -> None:
            if callback_on_step_end is not None:
                callback_on_step_end(self, now.step, now.stage, {})

        pairs = zip(_listed(image), _listed(garment), strict=True)
        pictures = [self.pipeline(one, other, region=region, progress=tell).image for one, other in pairs]
        images = _as(pictures, output_type)
        return TryOnOutput(images) if return_dict else (images,)


def _listed(pictures: Any) -> Sequence[Any]:
    return pictures if isinstance(pictures, list) else [pictures]


def _as(pictures: list[Image.Image], output_type: str) -> Any:
    if output_type == "pil":
        return pictures
    arrays = np.stack([np.asarray(picture, np.float32) / 255 for picture in pictures])
    if output_type == "np":
        return arrays
    if output_type == "pt":
        return torch.from_numpy(arrays).movedim(-1, 1)
    raise ValueError(f"output_type: expected 'pil', 'np' or 'pt', got {output_type!r}")


def main() -> None:
    """Render a person and a garment, and call the pipeline as those of diffusers are called."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--preset", default="balanced")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    person = paperdoll.render(paperdoll.sample_figure(20_000_010), (512, 384))
    garment = paperdoll.render(paperdoll.sample_figure(20_000_008), (512, 384))

    pipe = StyleTryOnPipeline.from_pretrained("default", preset=arguments.preset).to("cpu")
    pipe(image=Image.fromarray(person.image), garment=Image.fromarray(garment.image)).images[0].save(
        arguments.out / "tryon.png"
    )


if __name__ == "__main__":
    main()
