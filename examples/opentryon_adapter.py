"""An adapter with the interface that opentryon's clients of try-on services share, for a try-on on one's own machine.

Run `python examples/opentryon_adapter.py --out out/`. Those clients are objects whose `generate_and_decode` takes the
person as `source_image` and the garment as `reference_image` and returns a list of PIL images; code that calls one of
them can call this one. opentryon itself is not needed. The pictures are rendered here, so nothing is downloaded.
"""

from __future__ import annotations

import argparse
import base64
import io
from pathlib import Path
from typing import Any

from PIL import Image

import styletryon
from styletryon.data import paperdoll

REGIONS = {"UPPER_BODY": "top", "LOWER_BODY": "bottom", "FULL_BODY": "full", "DRESS": "dress"}
"""What the services call the parts of the body -> region."""


class StyleTryOnAdapter:
    """A client of no service: the try-on is made here.

    Args:
        model: Name or folder of a generator.
        preset: "fast", "balanced" or "quality".
        device: Where to compute.
    """

    def __init__(self, model: str = "default", preset: str = "balanced", device: str | None = None) -> None:
        self.pipeline = styletryon.TryOnPipeline(model, preset=preset, device=device)

    def generate(self, source_image: Any, reference_image: Any, garment_class: str = "UPPER_BODY") -> list[str]:
        """Dress a person.

        Args:
            source_image: The person: a path, a PIL image, bytes, or the text of a file in base64.
            reference_image: Who wears the garment, likewise.
            garment_class: One of `REGIONS`, or a region of styletryon.

        Returns:
            One PNG file in base64.
        """
        region = REGIONS.get(garment_class.upper(), garment_class)
        result = self.pipeline(_decoded(source_image), _decoded(reference_image), region=region)
        file = io.BytesIO()
        result.save(file)
        return [base64.b64encode(file.getvalue()).decode("ascii")]

    def generate_and_decode(
        self, source_image: Any, reference_image: Any, garment_class: str = "UPPER_BODY"
    ) -> list[Image.Image]:
        """Dress a person, and return PIL images; the arguments are those of `generate`."""
        texts = self.generate(source_image, reference_image, garment_class)
        return [Image.open(io.BytesIO(base64.b64decode(text))) for text in texts]


def _decoded(picture: Any) -> Any:
    """The bytes of a picture that is given in base64; any other as it is."""
    if isinstance(picture, str) and len(picture) > 1000:  # longer than a path
        return base64.b64decode(picture.rpartition(",")[2], validate=True)
    return picture


def main() -> None:
    """Render a person and a garment, and call the adapter as those of opentryon are called."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--preset", default="balanced")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, seed in (("person", 20_000_010), ("garment", 20_000_008)):
        figure = paperdoll.render(paperdoll.sample_figure(seed), (512, 384))
        Image.fromarray(figure.image).save(arguments.out / f"{name}.png")

    adapter = StyleTryOnAdapter(preset=arguments.preset)
    images = adapter.generate_and_decode(
        source_image=str(arguments.out / "person.png"), reference_image=str(arguments.out / "garment.png")
    )
    images[0].save(arguments.out / "tryon.png")


if __name__ == "__main__":
    main()
