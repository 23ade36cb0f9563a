"""Pose transfer: people drawn in poses that they were not seen in, and the poses that were drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from typing import Any

from torch import Tensor

from styletryon.data.folder import FolderDataset
from styletryon.data.paperdoll import render, restyle, sample_figure, sample_stance
from styletryon.errors import DataError, RangeError
from styletryon.generator import Generator
from styletryon.metrics import measures
from styletryon.metrics._evaluation import (
    Evaluation,
    PoseScorer,
    Progress,
    batches,
    check_counts,
    describe_data,
    draw_couples,
    photos,
    stack_images,
    stack_poses,
)
from styletryon.metrics.methods import Bench
from styletryon.metrics.rendered_pairs import FIRST_EVALUATION_SEED, SEEDS_PER_STREAM, check_seed
from styletryon.metrics.report import EvaluationReport
from styletryon.metrics.scoring import Picture, score_labels
from styletryon.photo import frame_person, from_uint8
from styletryon.pose import Pose, PoseEstimator

COMPARISONS = (("own_pose", "new_pose"), ("new_pose", "photo"), ("new_pose", "truth"))


@dataclass(frozen=True, eq=False)
class _Moves:
    """A batch of people, and pictures in the poses that they are to be drawn in.

    Attributes:
        images: `(B, 3, H, W)` in [-1, 1]: the people.
        pose: Their poses.
        own: The same pictures, with labels.
        asked: The poses to draw them in.
        new: Pictures in those poses: of the same people if they are rendered, of others if they are photographs.
        same: Whether they are of the same people.
    """

    images: Tensor
    pose: Pose
    own: tuple[Picture, ...]
    asked: Pose
    new: tuple[Picture, ...]
    same: bool


def pose_transfer(
    model: Generator,
    *,
    data: str | PathLike[str] | None = None,
    split: str = "val",
    pairs: int = 64,
    seed: int = 0,
    preset: str = "balanced",
    batch_size: int = 16,
    estimate_pose: PoseEstimator | None = None,
    progress: Progress | None = None,
) -> EvaluationReport:
    """Draw people in poses that they were not seen in, and find out which pose they were drawn in.

    A person is projected from one picture and drawn in the pose of another. Rendered figures are rendered in that pose
    for comparison; of photographs, the other picture shows somebody else, and only poses can be compared. Four rows
    tell apart what is lost where: `own_pose` (the projection itself, in its own pose), `new_pose` (the question),
    `photo` (the first picture held against the second: what a generator that ignores the pose would get at best) and
    `truth` (the second picture itself: how far the estimator of poses errs on a perfect drawing).

    Args:
        model: The generator.
        data: A data set of photographs, see `styletryon.data.FolderDataset`; None for rendered figures.
        split: Which split of the data set.
        pairs: How many people, each with one new pose.
        seed: Which people. Also the seed of the bootstrap.
        preset: Preset of the projection.
        batch_size: People that are worked on at once.
        estimate_pose: Finds the poses in what was drawn; None for the bundled network.
        progress: Called after each batch.

    Returns:
        The report: `keypoint_error` (mean distance as a share of the torso's length), `pck_10`, `pck_20` (shares of
        keypoints within 0.1 and 0.2 of it); where labels can be compared, `label_iou` (mean over the foreground classes
        that the truth shows) and `iou_CLASS`, `fg_psnr` and `fg_ssim`.

    Raises:
        ConfigError: If the preset is unknown.
        RangeError: If a number is out of range.
        DataError: If the data set cannot be read, or holds fewer than two photographs.
    """
    check_counts(pairs=pairs, batch_size=batch_size)
    run = Evaluation(model, seed=seed, progress=progress, pairs=pairs, preset=preset, batch_size=batch_size)
    bench = Bench(model, preset=preset, batch_size=batch_size)
    scorer = PoseScorer(estimate_pose)
    account: dict[str, Any] = {}
    if data is None:
        moves = _rendered(bench, pairs, seed)
    else:
        dataset = FolderDataset(data, size=model.image_size, split=split, frame=frame_person)
        if len(dataset) < 2:
            raise DataError(
                f"expected at least two photographs in split {split!r}, got {len(dataset)}", argument="data"
            )
        couples = draw_couples(pairs, range(len(dataset)), seed)
        account = {
            "data": describe_data(dataset),
            "ids": [[dataset.ids[i] for i in couple] for couple in couples],
        }
        moves = _photographed(bench, dataset, couples)
    done = 0
    for batch in moves:
        _measure(run, bench, scorer, batch)
        done += len(batch.own)
        run.progress("pose", done, pairs)
    return run.report(
        "pose" if data is None else "pose_folder",
        COMPARISONS,
        **account,
        pose_estimator=scorer.account,
        projection_seconds=bench.projection_seconds,
    )


def _rendered(bench: Bench, pairs: int, seed: int) -> Iterator[_Moves]:
    check_seed(seed)
    if pairs > SEEDS_PER_STREAM // 2:
        raise RangeError(f"expected at most {SEEDS_PER_STREAM // 2}, got {pairs}", argument="pairs")
    first = FIRST_EVALUATION_SEED + seed * SEEDS_PER_STREAM
    return (_render(bench, part) for part in batches(range(first, first + pairs), bench.batch_size))


def _render(bench: Bench, seeds: range) -> _Moves:
    figures = [sample_figure(number) for number in seeds]
    # The stance of another figure, from the far half of the same stream of seeds.
    stances = [sample_stance(number + SEEDS_PER_STREAM // 2) for number in seeds]
    moved = [restyle(figure, stance=stance) for figure, stance in zip(figures, stances, strict=True)]
    own, new = ([render(figure, bench.model.image_size) for figure in group] for group in (figures, moved))
    return _Moves(
        images=stack_images(own),
        pose=stack_poses(own),
        own=tuple(Picture(rendering.image, rendering.labels) for rendering in own),
        asked=stack_poses(new),
        new=tuple(Picture(rendering.image, rendering.labels) for rendering in new),
        same=True,
    )


def _photographed(bench: Bench, dataset: FolderDataset, couples: list[tuple[int, int]]) -> Iterator[_Moves]:
    for part in batches(couples, bench.batch_size):
        people, others = (dataset.batch([couple[side] for couple in part]) for side in (0, 1))
        yield _Moves(from_uint8(people.images), people.pose, photos(people), others.pose, photos(others), same=False)


def _measure(run: Evaluation, bench: Bench, scorer: PoseScorer, moves: _Moves) -> None:
    latent = bench.project(moves.images, moves.pose)
    here, there = bench.draw(latent), bench.draw(latent.with_pose(moves.asked))
    rows = (
        ("own_pose", here, moves.pose, moves.own),
        ("new_pose", there, moves.asked, moves.new if moves.same else None),
        ("photo", moves.own, moves.asked, moves.new if moves.same else None),
        ("truth", moves.new, moves.asked, None),
    )
    for row, drawn, pose, truths in rows:
        asked = pose.keypoints.cpu().numpy()
        for index, picture in enumerate(drawn):
            found = scorer.score(picture, asked[index])
            if truths is not None:
                found |= _against(picture, truths[index])
            run.add(row, found)


def _against(picture: Picture, truth: Picture) -> dict[str, float]:
    inside = measures.foreground(truth.labels)
    return {
        **score_labels(picture, truth.labels),
        "fg_psnr": measures.masked_psnr(picture.image, truth.image, inside),
        "fg_ssim": measures.masked_ssim(picture.image, truth.image, inside),
    }
