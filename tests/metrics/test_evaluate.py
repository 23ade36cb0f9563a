"""The benchmark as a whole, on a generator too small to be any good."""

from __future__ import annotations

import json
import math
from collections.abc import Collection

import numpy as np
import pytest
import torch

from styletryon.errors import ConfigError, RangeError, RegionError
from styletryon.generator import GeneratorOutput
from styletryon.labels import REGIONS
from styletryon.latent import Latent
from styletryon.metrics import evaluate, measures, sample_pairs
from styletryon.metrics._evaluation import check_methods
from styletryon.metrics.methods import (
    ABLATION_METHODS,
    DEFAULT_METHODS,
    METHODS,
    PHOTO_METHODS,
    Bench,
    ProjectedPairs,
    layer_runs,
)
from styletryon.metrics.report import EvaluationReport
from styletryon.metrics.scoring import (
    MEASURES,
    Picture,
    pictures,
    score_cycle,
    score_keypoints,
    score_labels,
    score_pair,
    score_photographs,
    score_reconstruction,
)
from styletryon.models import PoseStyleGAN2
from styletryon.photo import from_uint8
from styletryon.pose import Pose
from tests._support.tiny import tiny_generator, tiny_latent

SIZE = (32, 24)


@pytest.fixture(scope="module")
def report(model: PoseStyleGAN2) -> EvaluationReport:
    stages: list[tuple[str, int, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("styletryon.metrics.methods.CEILING_STEPS", 2)
        found = evaluate(
            model,
            pairs=3,
            seed=4,
            preset="fast",
            batch_size=2,
            selection_pairs=2,
            progress=lambda *stage: stages.append(stage),
        )
    assert stages[0] == ("selection", 2, 2)
    assert stages[1] == ("projection", 2, 3)
    assert stages[-1] == ("oracle", 3, 3)
    return found


# ------------------------------------------------------------------------------------------------------- scoring
def test_the_truth_scores_best() -> None:
    for pair in sample_pairs(6, 0, (64, 48)):
        truth = Picture(pair.truth.image, pair.truth.labels)
        found = score_pair(truth, pair)
        assert tuple(found) == MEASURES
        assert found["fg_psnr"] == found["garment_psnr"] == found["identity_psnr"] == 60
        assert found["fg_ssim"] == pytest.approx(1)
        assert found["garment_iou"] == 1
        for measure in ("texture_contrast", "texture_correlation", "texture_drawn"):
            assert math.isnan(found[measure]) or found[measure] == pytest.approx(1)
        before = score_pair(Picture(pair.person.image, pair.person.labels), pair)
        assert before["garment_psnr"] < 60
        assert before["identity_psnr"] > before["garment_psnr"]


def test_uncovered_is_measured_where_there_is_enough_of_it() -> None:
    pairs = sample_pairs(10, 0, (64, 48))
    found = [score_pair(Picture(p.person.image, p.person.labels), p)["uncovered_psnr"] for p in pairs]
    classes = [int(c) for c in REGIONS["top"]]
    for pair, value in zip(pairs, found, strict=True):
        old, new = np.isin(pair.person.labels, classes), np.isin(pair.truth.labels, classes)
        count = (old & ~new & (pair.truth.labels != 0)).sum()
        assert math.isnan(value) == (count < 20)
    assert 0 < sum(map(math.isnan, found)) < len(found)


def test_pictures_are_what_would_be_saved() -> None:
    image = torch.tensor([-2.0, -1.0, 0.0, 1.0]).view(1, 1, 2, 2).expand(1, 3, 2, 2)
    (found,) = pictures(GeneratorOutput(image, torch.zeros(1, 12, 2, 2)))
    assert found.image.dtype == np.uint8
    assert found.image[..., 0].tolist() == [[0, 0], [128, 255]]
    assert found.labels.shape == (2, 2)


def test_photographs_are_scored_outside_and_inside_the_region() -> None:
    labels = np.zeros((32, 24), dtype=np.uint8)
    labels[4:12, 6:18] = 2  # face
    labels[12:26, 4:20] = 4  # top
    person = Picture(np.full((32, 24, 3), 100, np.uint8), labels)
    garment = Picture(np.full((32, 24, 3), 200, np.uint8), labels)
    dressed = person.image.copy()
    dressed[labels == 4] = 200
    found = score_photographs(Picture(dressed, labels), person, garment, REGIONS["top"])
    assert found == {"outside_change": 0, "identity_psnr": 60, "garment_colour": 0, "garment_texture": 0}
    changed = dressed.copy()
    changed[0] = 151  # 24 of 544 pixels outside the top
    found = score_photographs(Picture(changed, labels), person, garment, REGIONS["top"])
    assert found["outside_change"] == pytest.approx(51 / 255 * 24 / 544)
    assert found["identity_psnr"] == 60
    found = score_photographs(person, person, garment, REGIONS["top"])
    assert found["garment_colour"] > 20


def test_reconstruction_is_of_the_person_and_of_the_frame() -> None:
    labels = np.zeros((32, 24), np.uint8)
    labels[8:24, 6:18] = 4
    photo = Picture(np.full((32, 24, 3), 100, np.uint8), labels)
    drawn = photo.image.copy()
    drawn[labels == 0] += 51
    found = score_reconstruction(Picture(drawn, labels), photo)
    assert found["fg_psnr"] == 60
    share = (labels == 0).mean()
    assert found["frame_psnr"] == pytest.approx(-10 * math.log10(0.04 * share))
    inside = labels != 0
    assert found["fg_ssim"] == measures.masked_ssim(drawn, photo.image, inside) < 1
    assert found["frame_ssim"] == measures.masked_ssim(drawn, photo.image, inside | True)


def test_the_way_back_is_measured_on_the_person_and_the_region() -> None:
    labels = np.zeros((32, 24), np.uint8)
    labels[2:8, 6:18], labels[8:24, 6:18] = 2, 4
    photo = Picture(np.full((32, 24, 3), 100, np.uint8), labels)
    back = photo.image.copy()
    back[labels == 4] += 51
    back[labels == 0] = 0
    found = score_cycle(Picture(back, labels), photo, REGIONS["top"])
    assert found["cycle_region_psnr"] == pytest.approx(-10 * math.log10(0.04))
    assert found["cycle_psnr"] == pytest.approx(-10 * math.log10(0.04 * 16 / 22))


def test_labels_and_keypoints_have_names() -> None:
    labels = np.full((8, 8), 4, np.uint8)
    found = score_labels(Picture(np.zeros((8, 8, 3), np.uint8), labels), labels)
    assert found["label_iou"] == found["iou_top"] == 1
    assert math.isnan(found["iou_other"])
    assert len(found) == 12
    nowhere = score_keypoints(np.zeros((17, 3)), np.zeros((17, 3)), (8, 8))
    assert set(nowhere) == {"keypoint_error", "pck_10", "pck_20"}
    assert all(map(math.isnan, nowhere.values()))


# ------------------------------------------------------------------------------------------------------- methods
@pytest.fixture
def batch(model: PoseStyleGAN2) -> ProjectedPairs:
    person, garment = tiny_latent(model, 2, 0), tiny_latent(model, 2, 1)
    drawn = tuple(pictures(model.synthesize(person.styles, person.pose)))
    return ProjectedPairs(person, garment, photos=drawn, truth=garment, targets=drawn)


def test_baselines_without_choice(model: PoseStyleGAN2, batch: ProjectedPairs) -> None:
    bench = Bench(model, preset="fast")

    def drawn(name: str) -> list[Picture]:
        return METHODS[name].draw(bench, batch)[name]

    swapped = pictures(model.synthesize(batch.garment.styles, batch.person.pose))
    oracle = pictures(model.synthesize(batch.garment.styles, batch.garment.pose))
    for index in range(2):
        assert np.array_equal(drawn("noop")[index].image, batch.photos[index].image)
        assert drawn("noop_photo")[index] is batch.photos[index]
        assert np.array_equal(drawn("swap")[index].image, swapped[index].image)
        assert np.array_equal(drawn("oracle")[index].image, oracle[index].image)


def test_the_choice_is_the_best_on_the_pairs_it_is_made_on(model: PoseStyleGAN2, batch: ProjectedPairs) -> None:
    bench = Bench(model, preset="fast")
    for name in ("layer_split", "greedy_query"):
        tune = METHODS[name].tune
        assert tune is not None
        tune(bench, [batch])
    layers = len(model.style_channels)
    assert len(layer_runs(layers)) == 2 * layers
    # The targets are the people unchanged, so nothing should come from the garment.
    assert bench.chosen["layer_split"] == (0, 0)
    truth = pictures(model.synthesize(batch.garment.styles, batch.person.pose))
    swapped = ProjectedPairs(batch.person, batch.garment, batch.photos, targets=tuple(truth))
    assert METHODS["layer_split"].tune is not None
    METHODS["layer_split"].tune(bench, [swapped])
    start, end = bench.chosen["layer_split"]
    # The last layer draws labels, of which this choice takes no notice.
    assert start == 0
    assert end >= layers - 1


def test_best_q_comes_closer_to_the_truth_than_ours(model: PoseStyleGAN2, batch: ProjectedPairs) -> None:
    truth = pictures(model.synthesize(batch.garment.styles, batch.person.pose))
    pairs = ProjectedPairs(batch.person, batch.garment, batch.photos, targets=tuple(truth))
    bench = Bench(model, preset="quality", region=tuple(range(1, 12)))
    drawn = METHODS["best_q"].draw(bench, pairs)["best_q"]
    apart = [np.abs(a.image.astype(float) - b.image).mean() for a, b in zip(drawn, truth, strict=True)]
    start = [np.abs(a.image.astype(float) - b.image).mean() for a, b in zip(pairs.photos, truth, strict=True)]
    assert all(after < before for after, before in zip(apart, start, strict=True))
    assert sum(apart) < 0.5 * sum(start)


def test_a_pair_that_the_optimizer_refuses_stays_as_it_is(
    model: PoseStyleGAN2, batch: ProjectedPairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    from styletryon.tryon import TryOnOptimizer

    honest = TryOnOptimizer.optimize
    refused = batch.garment.styles[0][1]

    def optimize(self: TryOnOptimizer, person: Latent, garment: Latent, **options: object) -> object:
        if any(torch.equal(style, refused) for style in garment.styles[0]):
            raise RegionError("region: the garment picture shows no top")
        return honest(self, person, garment, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(TryOnOptimizer, "optimize", optimize)
    bench = Bench(model, preset="quality", region=tuple(range(1, 12)))
    found = METHODS["ours"].draw(bench, batch)
    assert bench.failed == {"ours": 1}
    assert np.array_equal(found["ours"][1].image, batch.photos[1].image)
    assert found["ours_pasted"][1] is batch.photos[1]
    assert not np.array_equal(found["ours"][0].image, batch.photos[0].image)


def test_groups_stand_for_their_methods(model: PoseStyleGAN2) -> None:
    def check(methods: str | list[str], known: Collection[str] = METHODS, drawer: PoseStyleGAN2 = model) -> list[str]:
        return check_methods(methods, known, drawer, REGIONS["top"])

    assert check("all") == list(METHODS)
    assert check(["default", "ours"]) == list(DEFAULT_METHODS)
    assert set(check(["ablations", "oracle"])) == {*ABLATION_METHODS, "oracle"}
    # A group stands for what can be had: neither what needs a truth nor what was not learnt.
    assert check("default", PHOTO_METHODS) == ["noop_photo", "noop", "swap", "channel_masks", "ours", "ours_per_layer"]
    assert check("all", PHOTO_METHODS) == list(PHOTO_METHODS)
    assert "channel_masks" not in check("all", PHOTO_METHODS, tiny_generator(SIZE))
    with pytest.raises(ConfigError, match=r"methods: expected some of noop_photo, .*, got oracle"):
        check(["default", "oracle"], PHOTO_METHODS)
    with pytest.raises(ConfigError, match="got none"):
        check([])


def test_names_of_methods() -> None:
    assert set(DEFAULT_METHODS) | set(ABLATION_METHODS) == set(METHODS)
    assert set(PHOTO_METHODS) < set(METHODS)
    assert {name for name, method in METHODS.items() if method.ceiling} == {"best_q", "best_q_per_layer", "oracle"}


# ------------------------------------------------------------------------------------------------------ evaluate
def test_shares_are_left_out_of_a_group_where_none_are_learnt() -> None:
    plain = tiny_generator(SIZE)
    options = {"pairs": 1, "seed": 4, "preset": "fast", "selection_pairs": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("styletryon.metrics._evaluation.GROUPS", {"some": ("noop", "channel_masks")})
        assert set(evaluate(plain, methods=["some"], **options).methods) == {"noop"}  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="has learnt"):
        evaluate(plain, methods=["channel_masks"], **options)  # type: ignore[arg-type]


def test_every_method_is_measured_on_every_pair(report: EvaluationReport, model: PoseStyleGAN2) -> None:
    assert set(report.methods) == {*DEFAULT_METHODS, "ours_pasted"}
    for method, row in report.methods.items():
        assert {"fg_psnr", "fg_ssim", "garment_psnr", "garment_iou", "identity_psnr", "seconds"} <= set(row), method
        assert row["fg_psnr"].n == 3
        assert row["fg_psnr"].low <= row["fg_psnr"].mean <= row["fg_psnr"].high
    assert report["ours_pasted"]["identity_psnr"].mean > report["ours"]["identity_psnr"].mean
    assert report.settings["model"] == model.fingerprint
    assert report.settings["pairs"] == 3
    assert report.settings["size"] == [32, 24]
    assert set(report.settings["chosen"]) == {"layer_split", "greedy_query"}


def test_noop_photo_is_the_renderer_alone(report: EvaluationReport) -> None:
    expected = [
        score_pair(Picture(pair.person.image, pair.person.labels), pair)["fg_psnr"] for pair in sample_pairs(3, 4, SIZE)
    ]
    assert report.values["noop_photo"]["fg_psnr"] == pytest.approx(expected)


def test_json_and_table_of_a_run(report: EvaluationReport) -> None:
    document = json.loads(report.to_json())
    assert document["methods"]["ours"]["fg_psnr"]["n"] == 3
    assert "oracle - best_q" in document["gaps"]
    assert all(name in report.table() for name in report.methods)


def test_a_part_of_a_run_repeats(model: PoseStyleGAN2, report: EvaluationReport) -> None:
    again = evaluate(model, pairs=2, seed=4, methods=["ours", "noop"], preset="fast", batch_size=2)
    assert set(again.methods) == {"ours", "ours_pasted", "noop"}
    assert again.settings["selection_pairs"] == 0
    for method in again.methods:
        assert again.values[method]["fg_psnr"] == pytest.approx(report.values[method]["fg_psnr"][:2], abs=1e-3)


def test_poses_may_be_estimated(model: PoseStyleGAN2) -> None:
    seen = []

    def estimate(image: object) -> Pose:
        seen.append(image)
        return Pose(torch.rand(1, 17, 3, generator=torch.Generator().manual_seed(0)) * 20, SIZE)

    found = evaluate(model, pairs=1, methods="noop", preset="fast", estimate_pose=estimate)
    assert len(seen) == 2
    assert found.settings["poses"] == "estimated"


def test_wrong_arguments_are_named(model: PoseStyleGAN2) -> None:
    with pytest.raises(ConfigError, match=r"methods: expected some of noop_photo, .*, got magic"):
        evaluate(model, methods=["magic"])
    with pytest.raises(RegionError, match="region: expected one of 'top'"):
        evaluate(model, region="hat")
    with pytest.raises(RangeError, match="pairs: expected at least 1, got 0"):
        evaluate(model, pairs=0)


def test_latents_know_their_photograph(model: PoseStyleGAN2) -> None:
    (pair,) = sample_pairs(1, 0, SIZE)
    pixels = from_uint8(torch.from_numpy(pair.person.image)).permute(2, 0, 1).unsqueeze(0)
    bench = Bench(model, preset="fast")
    latent = bench.project(pixels, Pose(torch.from_numpy(pair.person.keypoints), SIZE))
    photograph = (latent.photograph or (None,))[0]
    assert photograph is not None
    assert np.array_equal(np.asarray(photograph.picture), pair.person.image)
    assert bench.projection_seconds > 0
