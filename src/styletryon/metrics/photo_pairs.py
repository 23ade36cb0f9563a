"""Try-on of photographs, whose truth nobody knows: what can be measured all the same."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from styletryon.data.folder import Batch, FolderDataset
from styletryon.data.pairs import PairRow, read_pairs
from styletryon.errors import DataError
from styletryon.features import FeatureNetwork
from styletryon.generator import Generator
from styletryon.labels import REGIONS, region_name, resolve_region
from styletryon.latent import Latent
from styletryon.metrics import measures
from styletryon.metrics._evaluation import (
    Evaluation,
    Progress,
    batches,
    check_counts,
    check_methods,
    describe_data,
    draw_couples,
    stack_images,
)
from styletryon.metrics.distances import Array, kernel_distance
from styletryon.metrics.measures import Statistic
from styletryon.metrics.methods import METHODS, PHOTO_METHODS, Bench, Losses, ProjectedPairs, Variants
from styletryon.metrics.networks import SetNetwork, find_set_network
from styletryon.metrics.pairs_table import PhotographReader, RowFault
from styletryon.metrics.report import EvaluationReport
from styletryon.metrics.scoring import Picture, score_cycle, score_photographs
from styletryon.photo import Photograph, frame_person, from_uint8, to_uint8
from styletryon.pipeline import TryOnPipeline
from styletryon.pose import Pose, PoseEstimator

COMPARISONS = (("ours", "noop_photo"), ("ours", "noop"), ("ours", "swap"))

MIN_REGION_SHARE = 0.02
"""A photograph shows a region when this share of its pixels does."""

BASIC_METHODS = ("noop_photo", "noop", "swap", "ours")
"""The methods for photographs unless others are asked for."""


@dataclass(frozen=True, eq=False)
class _Side:
    """The people, or the garments' wearers, of a batch of pairs.

    Attributes:
        images: `(B, 3, H, W)` in [-1, 1].
        pose: Their poses.
        labels: `(B, H, W)` label classes; None to take those that the generator draws.
        photographs: What `images` were made from; empty where they come from a data set.
    """

    images: Tensor
    pose: Pose
    labels: Array | None = None
    photographs: tuple[Photograph, ...] = ()


class _Run:
    """An evaluation of pairs of photographs, batch by batch.

    Args:
        evaluation: Takes the numbers.
        methods: The methods to compare.
        network: The network of the kernel distance.
        cycle: Whether each method also has to put the person's own garment on again.
    """

    def __init__(self, evaluation: Evaluation, methods: Sequence[str], network: SetNetwork, *, cycle: bool) -> None:
        self.evaluation = evaluation
        self.methods = methods
        self.network = network
        self.cycle = cycle
        self._drawn: dict[str, list[Array]] = {}

    def add(self, bench: Bench, person: _Side, garment: _Side) -> None:
        """Try the garments on and measure."""
        people, rebuilt_people, worn = _project(bench, person)
        wearers, rebuilt_wearers, shown = _project(bench, garment)
        pairs = ProjectedPairs(person=people, garment=wearers, photos=worn)
        for name in self.methods:
            before = time.perf_counter()
            variants = METHODS[name].draw(bench, pairs)
            seconds = (time.perf_counter() - before) / len(pairs)
            back = _cycle(bench, name, variants, pairs) if self.cycle else {}
            for variant, row in variants.items():
                self._drawn.setdefault(variant, []).append(self.network(stack_images(row).to(people.device)))
                for i, picture in enumerate(row):
                    found = score_photographs(picture, worn[i], shown[i], bench.classes)
                    found["reconstruction_psnr"] = (rebuilt_people[i] + rebuilt_wearers[i]) / 2
                    if self.cycle:
                        found |= score_cycle(back[variant][i], worn[i], bench.classes)
                    self.evaluation.add(variant, {**found, "seconds": seconds})

    def report(self, what: str, real: Array, **account: Any) -> EvaluationReport:
        """Put the report together; `real` are the features of the photographs."""
        table = self.evaluation.table()
        for variant, parts in self._drawn.items():
            drawn = np.concatenate(parts)
            if min(len(drawn), len(real)) >= 3:
                value, error = kernel_distance(drawn, real)
                table[variant]["kid"] = Statistic(value, value - 1.96 * error, value + 1.96 * error, len(drawn))
        features = {**self.network.describe(), "real": len(real)}
        return self.evaluation.report(
            what, COMPARISONS, methods=table, **account, cycle=self.cycle, features=features
        )


def evaluate_folder(
    model: Generator,
    data: str | PathLike[str],
    *,
    pairs: int = 64,
    seed: int = 0,
    region: str = "top",
    split: str = "val",
    methods: Collection[str] = BASIC_METHODS,
    preset: str = "balanced",
    losses: Losses | None = None,
    batch_size: int = 16,
    features: str | FeatureNetwork | SetNetwork = "efficientnet",
    cycle: bool = False,
    progress: Progress | None = None,
) -> EvaluationReport:
    """Try garments on people of a folder of photographs and measure what needs no truth.

    Args:
        model: The generator.
        data: A data set: folder or zip, see `styletryon.data.FolderDataset`.
        pairs: How many pairs.
        seed: Which pairs. Also the seed of the bootstrap.
        region: Name of the region; only photographs whose labels show it are used.
        split: Which split of the data set: one that the model did not train on.
        methods: Names out of `PHOTO_METHODS`, or of groups, of which the methods that need a truth are left out.
        preset: Preset of the projection and the optimisation.
        losses: The losses of our method, name -> (weight, loss); None for `losses.defaults()`.
        batch_size: Pairs that are worked on at once.
        features: The network whose features the kernel distance compares, see `find_set_network`; the report says
            which.
        cycle: Whether to measure the way back too; see `evaluate_table`.
        progress: Called after each batch.

    Returns:
        The report: for each method the measures of `score_photographs`, `reconstruction_psnr` (both photographs,
        foreground, each against its projection) and `kid` (its interval is that of the jackknife).

    Raises:
        ConfigError: If a method, the network or the preset is unknown.
        RegionError: If the region is unknown.
        RangeError: If a number is out of range.
        DataError: If the folder cannot be read, or fewer than two of its photographs show the region.
        WeightsUnavailableError: If the weights of the network are not at hand.
    """
    check_counts(pairs=pairs, batch_size=batch_size)
    region = region_name(region)
    chosen = check_methods(methods, PHOTO_METHODS, model, REGIONS[region])
    evaluation = Evaluation(
        model, seed=seed, progress=progress, pairs=pairs, region=region, preset=preset, batch_size=batch_size
    )
    run = _Run(evaluation, chosen, find_set_network(features), cycle=cycle)
    dataset = FolderDataset(data, size=model.image_size, split=split, frame=frame_person)
    usable = _showing(dataset, region)
    bench = Bench(model, region=region, preset=preset, losses=losses, batch_size=batch_size)
    couples = draw_couples(pairs, usable, seed)
    done = 0
    for part in batches(couples, batch_size):
        people, garments = (_side(dataset.batch([couple[side] for couple in part])) for side in (0, 1))
        run.add(bench, people, garments)
        done += len(part)
        evaluation.progress("pairs", done, pairs)
    pixels = (from_uint8(dataset.batch(part).images) for part in batches(usable, batch_size))
    real = np.concatenate([run.network(images.to(model.w_mean.device)) for images in pixels])
    return run.report(
        "folder",
        real,
        data=describe_data(dataset),
        **_account([bench]),
        showing=len(usable),
        ids=[[dataset.ids[i] for i in couple] for couple in couples],
    )


def evaluate_table(
    model: Generator,
    table: str | PathLike[str],
    *,
    seed: int = 0,
    methods: Collection[str] = BASIC_METHODS,
    preset: str = "balanced",
    losses: Losses | None = None,
    batch_size: int = 16,
    features: str | FeatureNetwork | SetNetwork = "efficientnet",
    cycle: bool = True,
    estimate_pose: PoseEstimator | None = None,
    garment_worn: bool | None = None,
    progress: Progress | None = None,
) -> EvaluationReport:
    """Try garments on people as a table of pairs says, and measure what needs no truth; also the way back.

    The way back: the person puts the other's garment on, and what was drawn is projected anew as a photograph would be.
    Then the person puts their own garment on again, out of the latent of the first photograph, and is compared with
    that photograph. A method that changes nothing comes back unharmed, so the measure is worth reading only beside
    `garment_colour` and `garment_texture`, which say whether the garment was worn in between.

    Photographs are read and projected as `styletryon.try_on` does it. No labels need be given: what helps to project is
    estimated, and the regions that are measured are those that the generator draws in the projections.

    Args:
        model: The generator.
        table: A CSV file with the columns person, garment, region, and perhaps person_pose, garment_pose and
            garment_worn; see `styletryon.data.pairs`. Rows that cannot be used are counted in the report, with the
            reason.
        seed: Of the bootstrap.
        methods: Names out of `PHOTO_METHODS`, or of groups, of which the methods that need a truth are left out.
        preset: Preset of the projection and the optimisation.
        losses: The losses of our method, name -> (weight, loss); None for `losses.defaults()`.
        batch_size: Pairs that are worked on at once.
        features: The network whose features the kernel distance compares, see `find_set_network`.
        cycle: Whether to measure the way back. It costs a projection and a try-on more for each method.
        estimate_pose: Finds the poses that the table does not give, of people; None for the bundled network.
        garment_worn: Of rows that do not say: whether somebody wears the garment in its picture, or it lies or hangs by
            itself. None to tell by the picture. One that nobody wears is measured on the neutral person on whom it is
            projected.
        progress: Called after each batch.

    Returns:
        The report: the measures of `evaluate_folder`, and `cycle_psnr` (over the person) and `cycle_region_psnr`.
        `settings["faults"]` lists the rows that were left out.

    Raises:
        ConfigError: If a method, the network or the preset is unknown.
        RangeError: If a number is out of range.
        DataError: If the table cannot be read, or none of its rows can be used.
        WeightsUnavailableError: If the weights of the network are not at hand.
    """
    check_counts(batch_size=batch_size)
    rows = read_pairs(table)
    every = frozenset(label for row in rows if not row.fault for label in resolve_region(row.region))
    chosen = check_methods(methods, PHOTO_METHODS, model, every or REGIONS["top"])
    evaluation = Evaluation(model, seed=seed, progress=progress, preset=preset, batch_size=batch_size)
    run = _Run(evaluation, chosen, find_set_network(features), cycle=cycle)
    pipeline = TryOnPipeline(model, preset=preset, remember=0)
    reader = PhotographReader(Path(table).parent, pipeline, estimate_pose, garment_worn)
    usable, faults = _usable(rows, reader, table)
    benches = []
    done: list[PairRow] = []
    for region in dict.fromkeys(row.region for row, _ in usable):
        benches.append(Bench(model, region=region, preset=preset, losses=losses, batch_size=batch_size))
        for part in batches([entry for entry in usable if entry[0].region == region], batch_size):
            run.add(benches[-1], *(_join([pair[side] for _, pair in part]) for side in (0, 1)))
            done += [row for row, _ in part]
            evaluation.progress("pairs", len(done), len(usable))
    distinct = list({id(photo): photo.target for _, pair in usable for photo in pair}.values())
    real = [run.network(torch.stack(part).to(model.w_mean.device)) for part in batches(distinct, batch_size)]
    return run.report(
        "table",
        np.concatenate(real),
        pairs=len(done),
        **_account(benches),
        table=Path(table).name,
        poses="given, or estimated by " + ("the bundled network" if estimate_pose is None else repr(estimate_pose)),
        rows=[{name: getattr(row, name) for name in ("line", "person", "garment", "region")} for row in done],
        faults=[asdict(fault) for fault in faults],
    )


# ------------------------------------------------------------------------------------------------------- helpers
def _project(bench: Bench, side: _Side) -> tuple[Latent, list[float], tuple[Picture, ...]]:
    """Return the latents of photographs, how well each is drawn again (dB over the person), and the photographs."""
    photographs = side.photographs
    latent = bench.project_photographs(photographs) if photographs else bench.project(side.images, side.pose)
    drawn = bench.draw(latent)
    pixels = to_uint8(side.images).permute(0, 2, 3, 1).cpu().numpy()
    labels = [picture.labels for picture in drawn] if side.labels is None else side.labels
    shown = tuple(Picture(image, classes) for image, classes in zip(pixels, labels, strict=True))
    rebuilt = [
        measures.masked_psnr(picture.image, photo.image, measures.foreground(photo.labels))
        for picture, photo in zip(drawn, shown, strict=True)
    ]
    return latent, rebuilt, shown


def _cycle(bench: Bench, name: str, variants: Variants, pairs: ProjectedPairs) -> dict[str, list[Picture]]:
    """Project what each variant drew and let it put the person's own garment on again."""
    back = {}
    for variant, drawn in variants.items():
        again = bench.project(stack_images(drawn), pairs.person.pose)
        way_back = ProjectedPairs(person=again, garment=pairs.person, photos=tuple(drawn))
        back[variant] = METHODS[name].draw(bench, way_back)[variant]
    return back


def _showing(dataset: FolderDataset, region: str) -> Array:
    """Return the numbers of the photographs whose labels show a region."""
    labels = dataset.batch(range(len(dataset))).labels.numpy()
    shares = [measures.class_mask(each, REGIONS[region]).mean() for each in labels]
    usable = np.flatnonzero(np.asarray(shares) >= MIN_REGION_SHARE)
    if len(usable) < 2:
        raise DataError(
            f"expected at least two photographs of split {dataset.split!r} that show the region {region!r}, got "
            f"{len(usable)}; choose another region or split",
            argument="data",
        )
    return usable


def _side(batch: Batch) -> _Side:
    return _Side(from_uint8(batch.images), batch.pose, batch.labels.numpy())


def _join(photographs: Sequence[Photograph]) -> _Side:
    keypoints = [photo.frame_pose.keypoints for photo in photographs if photo.frame_pose is not None]
    return _Side(
        torch.stack([photo.target for photo in photographs]),
        Pose(torch.cat(keypoints), photographs[0].frame.size),
        photographs=tuple(photographs),
    )


def _usable(
    rows: Sequence[PairRow], reader: PhotographReader, table: str | PathLike[str]
) -> tuple[list[tuple[PairRow, tuple[Photograph, Photograph]]], list[RowFault]]:
    """Read the photographs of the rows; return those that can be used, and the faults of the others."""
    usable, faults = [], []
    for row in rows:
        pair = reader.pair(row)
        if isinstance(pair, RowFault):
            faults.append(pair)
        else:
            usable.append((row, pair))
    if not usable:
        told = "; ".join(f"line {fault.line}: {fault.reason}" for fault in faults[:3]) or "it has none"
        raise DataError(f"expected a row that can be used in {table}, got {told}", argument="table")
    return usable, faults


def _account(benches: Sequence[Bench]) -> dict[str, Any]:
    """Say what the benches have done; they differ in their region alone."""
    failed: dict[str, int] = {}
    for bench in benches:
        for name, count in bench.failed.items():
            failed[name] = failed.get(name, 0) + count
    return {
        "losses": {name: float(entry[0]) for name, entry in benches[0].losses.items()},
        "failed": failed,
        "projection_seconds": float(np.mean([bench.projection_seconds for bench in benches])),
    }
