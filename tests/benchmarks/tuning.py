"""What tuning brings and costs: ``python -m tests.benchmarks.tuning --photos PHOTOS --out FILE`` or ``--figures N``.

With PHOTOS, a folder of `images/`, `labels/` and `split.json`: how nearly photographs of its validation split are drawn
at the encoder's guess, after the optimisation of the latent, and after the tuning; inside the person of `labels/`, as
mean and standard error. FILE gets a line of JSON per photograph; run again, those it holds are left out. Of each:

- `psnr`, in dB;
- `apart`, the distance of `PixelFeatures`: pixels and their gradients at four sizes. The tuning lowers it by design;
- `deep`, the distance in the features of the bundled keypoint network, in the form of LPIPS without its learnt weights.
  No stage sees it. It is not LPIPS, and its numbers are not to be held against those;
- `elsewhere`, how far random latents are drawn from how the plain generator draws them: mean absolute difference of
  values in [-1, 1], which the locality term keeps low;
- seconds, by the clock and of the processor (`cpu_s`), which other programs that run beside change less.

With figures: try-ons of rendered pairs whose truth is known, by the plain generator, by one that was tuned to the
person, and by one that was tuned to both pictures; PSNR over the person of the truth, and over what the garment, worn
or new, leaves of it (`beside`).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

import styletryon
from styletryon.data import paperdoll
from styletryon.errors import StyleTryOnError
from styletryon.features import PixelFeatures
from styletryon.features.base import perceptual_distance
from styletryon.labels import REGIONS
from styletryon.latent import Latent, stack
from styletryon.metrics.networks import SetNetwork, find_set_network
from styletryon.models import PoseStyleGAN2
from styletryon.photo import Frame, crop, read_image, save_image, to_pil, to_tensor
from styletryon.pipeline import TryOnPipeline
from styletryon.projection import LatentProjector
from styletryon.tryon import PRESETS, TryOnOptimizer

STAGES = ("encoder", "optimised", "tuned")
RANDOM = 8
"""How many random latents `elsewhere` looks at."""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--out", type=Path, help="file of a line per photograph, to go on with")
    parser.add_argument("--sheets", type=Path, help="folder for photograph | encoder | optimised | tuned of each")
    parser.add_argument("--count", type=int, help="the first so many photographs (default: all)")
    parser.add_argument("--figures", type=int, default=0, help="rendered pairs")
    parser.add_argument("--model", default="default")
    parser.add_argument("--preset", default="balanced", help="of the projection")
    parser.add_argument("--steps", type=int, default=300, help="steps of the tuning")
    parser.add_argument("--rate", type=float, default=0.03)
    parser.add_argument("--locality", type=float, default=1.0)
    parser.add_argument("--bf16", action="store_true", help="the generator computes in bfloat16")
    arguments = parser.parse_args(argv)
    preset = PRESETS[arguments.preset]
    projector = LatentProjector(
        styletryon.load_model(arguments.model),
        steps=preset.projection_steps,
        learning_rate=preset.projection_rate,
        noise=preset.projection_noise,
        tuning_steps=arguments.steps,
        tuning_rate=arguments.rate,
        locality_weight=arguments.locality,
        autocast=torch.bfloat16 if arguments.bf16 else None,
    )
    if arguments.photos is not None:
        settings = {name: getattr(arguments, name) for name in ("preset", "steps", "rate", "locality", "bf16")}
        settings["model"] = projector.generator.fingerprint
        measure_photographs(projector, arguments.photos, arguments.out, settings, arguments.count, arguments.sheets)
    if arguments.figures:
        measure_figures(projector, arguments.figures)


def psnr(drawn: Tensor, wanted: Tensor, mask: Tensor) -> float:
    """PSNR in dB of pictures `(1, 3, H, W)` in [-1, 1] under a mask `(1, 1, H, W)`."""
    square = ((drawn.clamp(-1, 1) - wanted).square() * mask).sum() / (3 * mask.sum())
    return float(10 * torch.log10(4 / square.clamp_min(1e-10)))


def deep_distance(network: SetNetwork, drawn: Tensor, wanted: Tensor, mask: Tensor) -> float:
    """Distance in the features of a network, at the size of its pictures."""
    if network.size is not None:
        drawn, wanted = (functional.interpolate(x, network.size, mode="bilinear") for x in (drawn, wanted))
        mask = functional.interpolate(mask, network.size, mode="area")
    return float(perceptual_distance(network.network, drawn, wanted, mask))


def measure_photographs(
    projector: LatentProjector,
    folder: Path,
    out: Path | None,
    settings: dict[str, Any],
    count: int | None = None,
    sheets: Path | None = None,
) -> None:
    """Measure what is not in the file yet, and print the table of all of it."""
    names = sorted(json.loads((folder / "split.json").read_text(encoding="utf-8"))["val"])[:count]
    rows = read_rows(out, settings)
    network = find_set_network()
    for name in names:
        if name in rows:
            continue
        row = {"name": name, "settings": settings, **measure_photograph(projector, folder, name, network, sheets)}
        rows[name] = row
        print(name, json.dumps({key: value for key, value in row.items() if key != "settings"}), flush=True)
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
    print(table([rows[name] for name in names]))


def read_rows(out: Path | None, settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the rows of a file by name; a last line that a stop cut short is taken out of it."""
    if out is None or not out.exists():
        return {}
    text = out.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        out.write_text(whole, encoding="utf-8")
    rows = {row["name"]: row for row in map(json.loads, whole.splitlines())}
    if any(row["settings"] != settings for row in rows.values()):
        raise SystemExit(f"--out: expected rows of this model and these settings, got others in {out}; name a new file")
    return rows


def measure_photograph(
    projector: LatentProjector, folder: Path, name: str, network: SetNetwork, sheets: Path | None = None
) -> dict[str, Any]:
    """Measure one photograph after each stage; what cannot be projected has an `error` alone."""
    model = projector.generator
    assert isinstance(model, PoseStyleGAN2)
    pipeline = TryOnPipeline(model)
    pipeline.projector = projector
    try:
        photo = read_image(folder / "images" / f"{name}.jpg")
        photograph = pipeline.read(photo, pose=styletryon.estimate_pose(photo))
        started, began = time.process_time(), time.perf_counter()
        pivot = pipeline.project_photographs([photograph])[0]
        tuned = projector.tune(pivot, photograph.target[None], mask=photograph.inside[None])
        row: dict[str, Any] = {"cpu_s": time.process_time() - started, "seconds": time.perf_counter() - began}
    except StyleTryOnError as error:
        return {"error": str(error)}
    # Held against the photograph itself, whatever background it was laid on.
    picture = photograph.crop
    mask = person_mask(folder / "labels" / f"{name}.png", photograph.frame, photograph.inside[None])
    start = replace(pivot, styles=pivot.anchor or pivot.styles, noise=None)
    images = []
    for stage, latent in zip(STAGES, (start, pivot, tuned), strict=True):
        with torch.no_grad():
            image = model.draw(latent).image.clamp(-1, 1)
            row[f"{stage}_psnr"] = psnr(image, picture[None], mask)
            row[f"{stage}_apart"] = float(perceptual_distance(PixelFeatures(), image, picture[None], mask))
            row[f"{stage}_deep"] = deep_distance(network, image, picture[None], mask)
        images.append(image[0])
    row["elsewhere"] = change_elsewhere(model, tuned)
    row["tuning_seconds"] = tuned.report["tuning_seconds"]
    if sheets is not None:
        save_image(to_pil(torch.cat([picture, *images], dim=2)), sheets / f"{name}.png")
    return {key: round(value, 4) for key, value in row.items()}


def person_mask(labels: Path, frame: Frame, inside: Tensor) -> Tensor:
    """Return which pixels of a frame are of the person and of the photograph, `(1, 1, H, W)`."""
    person = np.asarray(Image.open(labels)) > 0
    covered, _ = crop(Image.fromarray(person.astype(np.uint8) * 255).convert("RGB"), frame)
    return ((covered[:1] > 0) * (inside > 0.99)).float()[None]


@torch.no_grad()
def change_elsewhere(model: PoseStyleGAN2, tuned: Latent) -> float:
    """Say how far a tuned generator draws random latents from how the plain one does."""
    z = torch.randn(RANDOM, model.z_dim, generator=torch.Generator().manual_seed(1))
    pose = stack([replace(tuned, photograph=None)] * RANDOM).pose
    others = Latent(model.affine(model.mapping(z)), pose)
    plain, moved = (model.draw(latent).image for latent in (others, replace(others, tuning=tuned.tuning)))
    return float((plain - moved).abs().mean())


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Say the means of rows, and their standard errors."""
    good = [row for row in rows if "error" not in row]
    lines = [f"{len(good)} photographs, {len(rows) - len(good)} that could not be projected"]
    if not good:
        return lines[0]

    def cell(key: str, digits: int) -> str:
        values = [row[key] for row in good]
        error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
        return f"{statistics.fmean(values):.{digits}f} ± {error:.{digits}f}"

    lines.append(f"{'':10} {'PSNR, dB':>16} {'apart':>18} {'deep':>18}")
    for stage in STAGES:
        cells = cell(f"{stage}_psnr", 2), cell(f"{stage}_apart", 4), cell(f"{stage}_deep", 4)
        lines.append(f"{stage:10} {cells[0]:>16} {cells[1]:>18} {cells[2]:>18}")
    lines.append(f"at least 30 dB when tuned: {sum(row['tuned_psnr'] >= 30 for row in good)}")
    lines.append(f"elsewhere {cell('elsewhere', 4)}")
    lines.append(f"a photograph: {cell('cpu_s', 1)} s of the processor, {cell('seconds', 1)} s by the clock")
    return "\n".join(lines)


def measure_figures(projector: LatentProjector, count: int) -> None:
    """Print the PSNR of try-ons without tuning, tuned to the person, and tuned to both."""
    model = projector.generator
    size = model.image_size
    rows: list[dict[str, float]] = []
    for seed in range(30_000_000, 30_001_000, 2):
        if len(rows) == count:
            break
        person, wearer = (paperdoll.sample_figure(seed + index) for index in range(2))
        if not (paperdoll.wears(person, "top") and paperdoll.wears(wearer, "top")):
            continue
        dressed = paperdoll.render(paperdoll.dress(person, wearer, "top"), size)
        pictures = [paperdoll.render(figure, size) for figure in (person, wearer)]
        images = torch.stack([to_tensor(Image.fromarray(picture.image)) for picture in pictures])
        points = torch.stack([torch.from_numpy(picture.keypoints) for picture in pictures]).float()
        pivots = projector.project_each(images, styletryon.Pose(points, size))
        alone = projector.tune(pivots[0], images[:1])
        both = projector.tune(stack(pivots), images)
        truth = to_tensor(Image.fromarray(dressed.image))[None]
        mask = torch.from_numpy(dressed.labels > 0)
        worn = torch.from_numpy(np.isin([dressed.labels, pictures[0].labels], sorted(REGIONS["top"])).any(axis=0))
        row = {"alone_s": alone.report["tuning_seconds"], "both_s": both.report["tuning_seconds"]}
        for name, latents in (("plain", pivots), ("alone", (alone, pivots[1])), ("both", (both[0], both[1]))):
            tried = TryOnOptimizer(model).optimize(*latents)
            row[name] = psnr(tried.drawing.image, truth, mask.float()[None, None])
            row[f"{name}_beside"] = psnr(tried.drawing.image, truth, (mask & ~worn).float()[None, None])
        rows.append({key: round(value, 2) for key, value in row.items()})
        print(seed, json.dumps(rows[-1]), flush=True)
    print("mean", json.dumps({key: round(statistics.fmean(row[key] for row in rows), 2) for key in rows[0]}))


if __name__ == "__main__":
    main()
