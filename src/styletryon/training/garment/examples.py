"""What the network of garments learns from: garments drawn, cut out of photographs, and photographed by themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageFilter, ImageOps
from scipy import ndimage

from styletryon.compositing.ground import off_ground
from styletryon.data import paperdoll
from styletryon.labels import Label
from styletryon.pose._labelling import spread
from styletryon.pose.garment import GARMENT_CLASSES, run_on
from styletryon.pose.network import BodyNetwork
from styletryon.training.body.examples import Example

KINDS = {
    **dict.fromkeys(("T-Shirt", "Longsleeve", "Shirt", "Polo", "Undershirt", "Hoodie"), Label.TOP),
    **dict.fromkeys(("Blazer", "Outwear"), Label.OUTERWEAR),
    **dict.fromkeys(("Pants", "Shorts", "Skirt"), Label.BOTTOM),
    "Dress": Label.DRESS,
}
"""What the photographs' own classes are called here."""

_LIMBS = {7: 5, 8: 6, 9: 7, 10: 8, 13: 11, 14: 12, 15: 13, 16: 14}
"""Keypoint of a limb -> the one before it, without which it is not shown either."""


def drawn_garments(seeds: Sequence[int], size: tuple[int, int] = (256, 256)) -> list[Example]:
    """Draw a garment that nobody wears for each seed."""
    found = []
    for seed in seeds:
        figure = paperdoll.sample_figure(seed)
        kinds = ["dress"] if figure.outfit.dress is not None else ["top", "bottom", "top"]
        if figure.outfit.outerwear is not None and figure.outfit.dress is None:
            kinds = ["outerwear", "bottom", "outerwear"]
        lie = paperdoll.sample_lie(seed)
        drawing = paperdoll.lay_flat(figure, kinds[seed % len(kinds)], size, lie=lie)
        found.append(_example(Image.fromarray(drawing.image), drawing.keypoints, drawing.labels, cut=0.5))
    return found


def cut_garments(examples: Sequence[Example]) -> list[Example]:
    """Cut garments out of photographs of people who wear them; what hides them is filled with their own cloth.

    Args:
        examples: Labelled photographs with keypoints.
    """
    from styletryon.compositing.sources import continued

    found = []
    for example in examples:
        if example.labels is None or example.keypoints is None or example.trunk() is None:
            continue
        labels, unit = np.asarray(example.labels), example.torso()
        for label in (Label.TOP, Label.OUTERWEAR, Label.BOTTOM, Label.DRESS):
            seen = labels == label
            hidden = label == Label.TOP and (labels == Label.OUTERWEAR).sum() > 0.3 * seen.sum()
            if seen.mean() < 0.015 or hidden:
                continue
            reach = max(1, round(0.12 * unit))
            hides = np.isin(labels, (Label.HAIR, Label.ACCESSORY, Label.SKIN))
            closed = ndimage.binary_closing(np.pad(seen, reach), iterations=reach)[reach:-reach, reach:-reach]
            whole = seen | (hides & (closed | ndimage.binary_fill_holes(seen)))
            picture = np.asarray(example.image, dtype=np.float32) / 255
            inner = ndimage.binary_erosion(seen, iterations=2)
            if not inner.any():
                continue
            box = ndimage.find_objects(whole.astype(int))[0]
            room = max(4, round(0.15 * unit))
            part = tuple(slice(max(0, s.start - room), s.stop + room) for s in box)
            cloth = np.asarray(picture[part], dtype=np.float32)
            cloth = continued(cloth, inner[part], whole[part], unit)
            points = example.keypoints.copy()
            points[:, :2] -= [part[1].start, part[0].start]
            points[:, 2] = shown_by(whole[part], points, label)
            classes = np.where(whole[part], np.uint8(label), np.uint8(0)).astype(np.uint8)
            image = Image.fromarray((np.where(whole[part][..., None], cloth, 0.8) * 255).astype(np.uint8))
            # Its ground is always another: the street would tell that somebody wore it.
            found.append(_example(image, points, classes, cut=1.0))
    return found


def shown_by(
    mask: npt.NDArray[np.bool_], points: npt.NDArray[np.float32], label: int
) -> npt.NDArray[np.float32]:
    """Say which keypoints of its wearer a garment shows: those of trunk and hips, and of limbs as far as it goes."""
    height, width = mask.shape
    scores = np.zeros(17, dtype=np.float32)
    near = ndimage.binary_dilation(mask, iterations=max(1, round(0.02 * height)))
    trunk = [11, 12] if label == Label.BOTTOM else [5, 6, 11, 12]
    arms, legs = (7, 8, 9, 10), (13, 14, 15, 16)
    limbs = {Label.BOTTOM: legs, Label.DRESS: arms + legs}.get(Label(label), arms)
    for number in (*trunk, *limbs):
        x, y, score = points[number]
        inside = 0 <= x < width and 0 <= y < height
        if score <= 0 or not inside:
            continue
        if number in trunk:
            scores[number] = 1.0 if near[int(y), int(x)] else 0.5
        elif near[int(y), int(x)] and scores[_LIMBS[number]] > 0:
            scores[number] = min(1.0, float(score) + 0.2)
    return scores


def folded_and_shoes(drawn: Sequence[Example], worn: Sequence[Example], count: int, seed: int) -> list[Example]:
    """Make pictures of what cannot be worn as it lies: folded clothes, and shoes; no keypoint is in them."""
    rng = np.random.default_rng(seed)
    shoes = [one for one in worn if one.labels is not None and (np.asarray(one.labels) == Label.SHOES).mean() > 0.004]
    found = []
    for number in range(count):
        if number % 3 == 0 and shoes:
            source = shoes[int(rng.integers(len(shoes)))]
            seen = np.asarray(source.labels) == Label.SHOES
            box = ndimage.find_objects(seen.astype(int))[0]
            mask, picture = seen[box], np.asarray(source.image)[box]
            label = Label.SHOES
        else:
            source = drawn[int(rng.integers(len(drawn)))]
            labels = np.asarray(source.labels)
            if not (labels > Label.SKIN).any():
                continue
            label = Label(int(np.bincount(labels[labels > Label.SKIN]).argmax()))
            box = ndimage.find_objects((labels == label).astype(int))[0]
            y, x = (s.start + (s.stop - s.start) // 4 for s in box)
            high, wide = (max(8, (s.stop - s.start) // 2) for s in box)
            picture = np.asarray(source.image)[y : y + high, x : x + wide]
            inner = labels[y : y + high, x : x + wide] == label
            if inner.mean() < 0.8:
                continue
            mask = np.ones(picture.shape[:2], dtype=bool)
        size = int(rng.integers(96, 220))
        scale = size / max(picture.shape[:2])
        shape = (max(8, round(picture.shape[1] * scale)), max(8, round(picture.shape[0] * scale)))
        patch = Image.fromarray(picture).resize(shape, Image.Resampling.BICUBIC)
        cover = Image.fromarray(mask.astype(np.uint8) * 255).resize(shape)
        canvas, classes = Image.new("RGB", (256, 256), (200, 200, 200)), Image.new("L", (256, 256))
        corner = (int(rng.integers(0, 257 - shape[0])), int(rng.integers(0, 257 - shape[1])))
        canvas.paste(patch, corner)
        classes.paste(Image.new("L", shape, int(label)), corner, cover)
        found.append(_example(canvas, np.zeros((17, 3), np.float32), np.asarray(classes), cut=1.0))
    return found


def ground_patches(folder: Path, names: Sequence[str]) -> list[Image.Image]:
    """Cut the corners out of photographs of garments: mostly the floor, bed or wall on which they lie."""
    patches = []
    for name in names:
        image = read_photograph(folder / name)
        wide, high = round(0.22 * image.width), round(0.2 * image.height)
        corners = [(x, y) for x in (0, image.width - wide) for y in (0, image.height - high)]
        patches += [image.crop((x, y, x + wide, y + high)) for x, y in corners]
    return patches


def read_photograph(path: Path, side: int = 400) -> Image.Image:
    """Read a photograph upright, with its long side at `side` pixels."""
    with Image.open(path) as file:
        return ImageOps.contain(ImageOps.exif_transpose(file).convert("RGB"), (side, side))


def flat_names(folder: Path, held: Sequence[str] = ()) -> dict[str, Label]:
    """Return the photographs of a folder with an `index.json` and what each shows, without those that are held back."""
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    return {one["file"]: KINDS[one["class"]] for one in index if one["file"] not in held}


def taught(folder: Path, names: Mapping[str, Label], network: BodyNetwork) -> list[Example]:
    """Let a network label photographs of garments for its own training; what each shows is known.

    Their outlines are brought to where colours tell the garment from the ground.

    Args:
        folder: Of the photographs.
        names: File name -> the class of the garment.
        network: The network of garments.

    Returns:
        Those of which it is sure: keypoints of a score under 0.5 are left out, and so are photographs of which it does
        not tell the garment from the ground, or does not see where the trunk is.
    """
    found = []
    for name, label in names.items():
        image = read_photograph(folder / name)
        chances, points, box, seen = run_on(network, image, flip=False)
        cloth = chances[list(GARMENT_CLASSES)].sum(0)
        few = torch.zeros_like(chances)
        few[label], few[Label.SKIN] = cloth, chances[Label.SKIN]
        few[Label.BACKGROUND] = 1 - few.sum(0)
        choice = spread(few, box, image, seen)
        shown = off_ground(image, choice == label)
        choice[(choice == label) & ~shown] = Label.BACKGROUND
        choice[shown] = label
        sure = float(torch.maximum(cloth, 1 - cloth).mean())
        share = float((choice == label).mean())
        trunk = [11, 12] if label == Label.BOTTOM else [5, 6, 11, 12]
        if sure < 0.85 or not 0.06 < share < 0.9 or float(points[trunk, 2].mean()) < 0.4:
            continue
        keypoints = points.numpy().copy()
        kept = keypoints[:, 2] >= 0.5
        kept[trunk] = True
        wrong = [number for number in range(17) if number not in _POSSIBLE[label]]
        kept[wrong] = False
        keypoints[:, 2] = np.where(kept, np.maximum(keypoints[:, 2], 0.7), 0)
        found.append(_example(image, keypoints, choice, cut=0.25))
    return found


_POSSIBLE = {
    Label.TOP: range(5, 13),
    Label.OUTERWEAR: range(5, 13),
    Label.BOTTOM: range(11, 17),
    Label.DRESS: range(5, 17),
}
"""Which keypoints a garment can show."""


def _example(
    image: Image.Image, keypoints: npt.NDArray[np.float32], labels: npt.NDArray[np.uint8], cut: float
) -> Example:
    mask = Image.fromarray((labels > 0).astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(0.7))
    return Example(image, keypoints.astype(np.float32), Image.fromarray(labels), mask, cut=cut)
