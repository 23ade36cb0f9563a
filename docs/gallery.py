"""Makes the gallery's pictures: ``python -m docs.gallery OUT [NAME ...] [--model NAME] [--preset NAME]``.

Rendered people only, none of whom training has seen; they are the first of their seeds, not the ones that came out
best. With the preset "balanced" and the bundled weights it takes some minutes on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

import styletryon
from styletryon.compositing import show
from styletryon.data.paperdoll import Figure, Rendering, dress, render, sample_figure, wears
from styletryon.metrics.methods import METHODS, Bench, ProjectedPairs
from styletryon.metrics.scoring import Picture
from styletryon.models import PoseStyleGAN2
from styletryon.photo import contact_sheet, from_uint8, save_image
from styletryon.pose import Pose
from styletryon.tryon import TryOnOptimizer, TryOnResult

FIRST_SEED = 2_100_000_000
"""Neither training nor the benchmark nor the other figures draw people from here up."""

Shown = Image.Image | torch.Tensor


def figures(wanted: Callable[[Figure], bool], first: int = 0) -> Iterator[Figure]:
    """Figures that wear what is wanted, in the order of their seeds."""
    seed = FIRST_SEED + 10_000 * first
    while True:
        figure = sample_figure(seed)
        if wanted(figure):
            yield figure
        seed += 1


class Studio:
    """Renders, projects and dresses figures with one generator.

    Args:
        model: The generator.
        preset: Of projections and try-ons.
        pairs: How many pairs a picture of pairs shows.
    """

    def __init__(self, model: PoseStyleGAN2, preset: str = "balanced", pairs: int = 4) -> None:
        self.model, self.preset, self.pairs = model, preset, pairs

    def render(self, people: Sequence[Figure]) -> list[Rendering]:
        """Pictures of the generator's size."""
        return [render(figure, self.model.image_size) for figure in people]

    def project(self, pictures: Sequence[Rendering], region: str = "top") -> styletryon.Latent:
        """Latents of pictures, in their true poses."""
        return Bench(self.model, region=region, preset=self.preset).project(_stack(pictures), self.poses(pictures))

    def poses(self, pictures: Sequence[Rendering]) -> Pose:
        """The true poses of pictures."""
        return Pose(torch.stack([torch.from_numpy(one.keypoints) for one in pictures]), self.model.image_size)

    def dress(self, person: styletryon.Latent, garment: styletryon.Latent, region: str) -> list[TryOnResult]:
        """Try-ons of a batch of pairs, as `try_on` returns them."""
        batch = TryOnOptimizer(self.model, preset=self.preset).optimize(person, garment, region=region)
        return [show(batch, index) for index in range(len(batch))]

    def draw(self, latent: styletryon.Latent) -> list[torch.Tensor]:
        """What the generator draws."""
        return [image.clamp(-1, 1) for image in self.model.draw(latent).image]


def _stack(pictures: Sequence[Rendering]) -> torch.Tensor:
    return torch.stack([from_uint8(torch.from_numpy(one.image).permute(2, 0, 1)) for one in pictures])


def _shown(picture: Rendering) -> torch.Tensor:
    return _stack([picture])[0]


# --------------------------------------------------------------------------------------------------- person x garment
def _pairs(studio: Studio, region: str, wanted: Callable[[Figure], bool], first: int) -> Image.Image:
    people = list(islice(figures(wanted, first), 2 * studio.pairs))
    person, garment = people[: studio.pairs], people[studio.pairs :]
    pictures, wearers = studio.render(person), studio.render(garment)
    truths = studio.render([dress(*pair, region) for pair in zip(person, garment, strict=True)])
    results = studio.dress(studio.project(pictures, region), studio.project(wearers, region), region)
    shown: list[Shown] = []
    for before, worn, result, truth in zip(pictures, wearers, results, truths, strict=True):
        shown += [_shown(before), _shown(worn), result.image, _shown(truth)]
    columns = 8 if studio.pairs % 2 == 0 else 4
    captions = ["person", "garment", "try-on", "rendered truth"] * (columns // 4)
    return contact_sheet(shown, columns, captions=captions)


def tops(studio: Studio) -> Image.Image:
    """Tops and jackets."""
    return _pairs(studio, "top", lambda figure: wears(figure, "top"), 0)


def trousers(studio: Studio) -> Image.Image:
    """Trousers, jeans and shorts."""
    return _pairs(studio, "bottom", lambda f: wears(f, "bottom") and f.outfit.bottom.kind != "skirt", 1)


def skirts(studio: Studio) -> Image.Image:
    """Skirts."""
    return _pairs(studio, "bottom", lambda f: wears(f, "bottom") and f.outfit.bottom.kind == "skirt", 2)


def dresses(studio: Studio) -> Image.Image:
    """Dresses."""
    return _pairs(studio, "dress", lambda figure: wears(figure, "dress"), 3)


def many_people(studio: Studio) -> Image.Image:
    """One garment on many people."""
    garment, *people = studio.render(list(islice(figures(lambda f: wears(f, "top"), 4), 6)))
    results = studio.dress(studio.project(people), studio.project([garment]), "top")
    shown: list[Shown] = [_shown(garment), *map(_shown, people), _shown(garment), *(one.image for one in results)]
    return contact_sheet(shown, 6, captions=["garment", *["person, and in the garment"] * 5])


def many_garments(studio: Studio) -> Image.Image:
    """Many garments on one person."""
    person, *garments = studio.render(list(islice(figures(lambda f: wears(f, "top"), 5), 6)))
    results = studio.dress(studio.project([person]), studio.project(garments), "top")
    shown: list[Shown] = [_shown(person), *map(_shown, garments), _shown(person), *(one.image for one in results)]
    return contact_sheet(shown, 6, captions=["person", *["garment, and on the person"] * 5])


def poses(studio: Studio) -> Image.Image:
    """The same style in the poses of other people, whose bodies differ too."""
    people = studio.render(list(islice(figures(lambda _: True, 6), 3)))
    others = studio.render(list(islice(figures(lambda _: True, 7), 5)))
    latents, asked = studio.project(people), studio.poses(others)
    shown: list[Shown] = [torch.ones(3, *studio.model.image_size), *map(_shown, others)]
    for index, person in enumerate(people):
        shown.append(_shown(person))
        for number in range(len(others)):
            shown += studio.draw(latents[index].with_pose(asked[number : number + 1]))
    return contact_sheet(shown, 6, captions=["style", *["pose above, style of the row"] * 5])


# ---------------------------------------------------------------------------------------------------- method x method
ABLATION = {
    "ours": "all three losses",
    "ours_without_garment": "without the garment loss",
    "ours_without_identity": "without the identity loss",
    "ours_without_localization": "without the localization loss",
}
BASELINES = {
    "swap": "swap (q = 1)",
    "layer_split": "layer split",
    "greedy_query": "greedy query",
    "channel_masks": "learnt shares alone",
    "ours": "ours",
}


def _methods(studio: Studio, names: dict[str, str], first: int) -> Image.Image:
    learnt = studio.model.channel_masks({4}) is not None
    known = {name: text for name, text in names.items() if name != "channel_masks" or learnt}
    bench = Bench(studio.model, preset=studio.preset)
    pairs = _project(studio, bench, first)
    tuned = [method for name in known if (method := METHODS[name]).tune is not None]
    if tuned:  # on other people
        others = _project(studio, bench, first + 50)
        for method in tuned:
            assert method.tune is not None
            method.tune(bench, [others[1]])
    drawn = {name: METHODS[name].draw(bench, pairs[1])[name] for name in known}
    shown: list[Shown] = []
    for index, (person, garment) in enumerate(pairs[0]):
        shown += [_shown(person), _shown(garment)]
        shown += [_as_pil(drawn[name][index]) for name in known]
        shown.append(_as_pil(pairs[1].targets[index]))
    return contact_sheet(shown, len(known) + 3, captions=["person", "garment", *known.values(), "rendered truth"])


def _project(studio: Studio, bench: Bench, first: int) -> tuple[list[tuple[Rendering, Rendering]], ProjectedPairs]:
    people = list(islice(figures(lambda f: wears(f, "top"), first), 2 * studio.pairs))
    person, garment = people[: studio.pairs], people[studio.pairs :]
    pictures, wearers = studio.render(person), studio.render(garment)
    truths = studio.render([dress(*pair, "top") for pair in zip(person, garment, strict=True)])
    projected = ProjectedPairs(
        person=bench.project(_stack(pictures), studio.poses(pictures)),
        garment=bench.project(_stack(wearers), studio.poses(wearers)),
        photos=tuple(Picture(one.image, one.labels) for one in pictures),
        targets=tuple(Picture(one.image, one.labels) for one in truths),
    )
    return list(zip(pictures, wearers, strict=True)), projected


def _as_pil(picture: Picture) -> Image.Image:
    return Image.fromarray(picture.image)


def ablation(studio: Studio) -> Image.Image:
    """Each loss left out."""
    return _methods(studio, ABLATION, 8)


def baselines(studio: Studio) -> Image.Image:
    """Ours beside what needs no optimisation, on the same pairs."""
    return _methods(studio, BASELINES, 9)


# -------------------------------------------------------------------------------------------------------- coefficients
def coefficients(studio: Studio) -> Image.Image:
    """The coefficients of two try-ons, a bar per layer: its channels in order of q, white 0 and dark 1."""
    people = studio.render(list(islice(figures(lambda f: wears(f, "top"), 10), 4)))
    results = studio.dress(studio.project(people[:2]), studio.project(people[2:]), "top")
    halves = []
    for result in results:
        strip = contact_sheet([result.person_image, result.garment_image, result.image], 3)
        half = Image.new("RGB", (strip.width, strip.height + _BAR * len(result.coefficients) + 8), "white")
        half.paste(strip)
        half.paste(bars(result, strip.width), (0, strip.height))
        halves.append(half)
    return contact_sheet(halves, len(halves), scale=1.0)


_BAR = 22


def bars(result: TryOnResult, width: int, height: int = _BAR) -> Image.Image:
    """Draw the coefficients of a try-on, one bar per styled layer, coarse layers first."""
    font = ImageFont.load_default(size=13)
    sheet = Image.new("RGB", (width, height * len(result.coefficients)), "white")
    pen = ImageDraw.Draw(sheet)
    margin = 8 + max(int(font.getlength(name)) for name in result.coefficients)
    for row, (name, values) in enumerate(result.coefficients.items()):
        ordered = np.sort(values.cpu().numpy())[::-1]
        stretched = ordered[np.linspace(0, len(ordered) - 1, width - margin - 8).round().astype(int)]
        shade = np.round(np.outer(np.ones(height - 4), 1 - stretched)[..., None] * (225, 205, 160) + (30, 50, 95))
        sheet.paste(Image.fromarray(shade.astype(np.uint8)), (margin, row * height + 2))
        pen.text((4, row * height + height / 2), name, fill=(45, 45, 52), font=font, anchor="lm")
    return sheet


FIGURES: dict[str, Callable[[Studio], Image.Image]] = {
    make.__name__: make
    for make in (tops, trousers, skirts, dresses, many_people, many_garments, poses, ablation, baselines, coefficients)
}


def write(studio: Studio, out: Path, names: Sequence[str] = ()) -> list[Path]:
    """Make the pictures that are named, or all. 256 colours are enough for what is soft, and a third of the size.

    Args:
        studio: What makes them.
        out: The folder.
        names: Some of `FIGURES`.
    """
    paths = []
    for name in names or FIGURES:
        picture = FIGURES[name](studio)
        if picture.width > 1400:
            picture = picture.resize((1400, round(picture.height * 1400 / picture.width)), Image.Resampling.LANCZOS)
        paths.append(out / f"{name}.png")
        save_image(picture.quantize(256, dither=Image.Dither.NONE), paths[-1])
    return paths


def main() -> None:
    """Make the gallery."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", help=f"which of {', '.join(FIGURES)} (default: all)")
    parser.add_argument("--model", default="default")
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--pairs", type=int, default=4, help="pairs in each picture of pairs (default: %(default)s)")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.names) - set(FIGURES)):
        parser.error(f"unknown: {', '.join(unknown)}; choose from {', '.join(FIGURES)}")
    studio = Studio(styletryon.load_model(arguments.model), arguments.preset, arguments.pairs)
    write(studio, arguments.out, arguments.names)


if __name__ == "__main__":
    main()
