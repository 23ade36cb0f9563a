"""Try-on of photographs: a folder, a table of pairs, and the way back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import styletryon
from styletryon.data import FolderDataset, paperdoll
from styletryon.data.pairs import PairRow
from styletryon.errors import ConfigError, DataError, RangeError, RegionError
from styletryon.features import PixelFeatures
from styletryon.labels import REGIONS, Label
from styletryon.metrics import METHODS, EvaluationReport, evaluate_folder, evaluate_table
from styletryon.metrics.methods import Bench, ProjectedPairs
from styletryon.metrics.pairs_table import PhotographReader, RowFault
from styletryon.metrics.photo_pairs import _cycle
from styletryon.models import PoseStyleGAN2
from styletryon.photo import from_uint8, read_image
from styletryon.pipeline import TryOnPipeline
from styletryon.unworn import worn_by_model
from tests._support.tiny import tiny_generator


@pytest.fixture(scope="module")
def report(model: PoseStyleGAN2, folder: Path) -> EvaluationReport:
    return evaluate_folder(
        model, folder, pairs=4, preset="fast", methods=["noop_photo", "ours"], features=PixelFeatures(), batch_size=3
    )


@pytest.fixture(scope="module")
def of_table(model: PoseStyleGAN2, table: Path) -> EvaluationReport:
    return evaluate_table(model, table, preset="fast", batch_size=2)


# -------------------------------------------------------------------------------------------------------- folder
def test_photographs_without_truth(report: EvaluationReport) -> None:
    assert set(report.methods) == {"noop_photo", "ours", "ours_pasted"}
    photo = report["noop_photo"]
    assert photo["outside_change"].mean == 0
    assert photo["identity_psnr"].mean == 60
    assert photo["garment_colour"].mean > 0
    for row in report.methods.values():
        assert row["reconstruction_psnr"].n == 4
        assert row["kid"].low < row["kid"].mean < row["kid"].high
        assert "cycle_psnr" not in row
    assert photo["kid"].mean < report["ours"]["kid"].mean
    assert report.settings["features"]["name"] == "PixelFeatures(levels=4, gradient=0.5, fine=0)"
    assert set(report.settings["losses"]) >= {"garment", "identity"}
    json.loads(report.to_json())


def test_groups_leave_out_what_needs_a_truth(model: PoseStyleGAN2, folder: Path) -> None:
    found = evaluate_folder(model, folder, pairs=2, preset="fast", methods=["default"])
    expected = {"noop_photo", "noop", "swap", "channel_masks", "ours", "ours_pasted", "ours_per_layer"}
    assert set(found.methods) == expected
    assert "kid" not in found["ours"]  # of two pictures
    assert found.settings["features"]["name"] == "efficientnet"


def test_a_folder_without_the_region_is_said(model: PoseStyleGAN2, folder: Path) -> None:
    with pytest.raises(DataError, match="at least two photographs of split 'one' that show the region 'top', got 0"):
        evaluate_folder(model, folder, split="one")
    with pytest.raises(RegionError, match="region: expected one of 'top'"):
        evaluate_folder(model, folder, region="hat")
    with pytest.raises(ConfigError, match="methods: expected some of noop_photo"):
        evaluate_folder(model, folder, methods=["oracle"])
    with pytest.raises(ConfigError, match="features: expected one of efficientnet"):
        evaluate_folder(model, folder, features="eyes")
    with pytest.raises(RangeError, match="pairs: expected at least 1, got 0"):
        evaluate_folder(model, folder, pairs=0)


# ------------------------------------------------------------------------------------------------------ way back
def test_who_changes_nothing_comes_back_unharmed(of_table: EvaluationReport) -> None:
    assert of_table["noop_photo"]["cycle_psnr"].mean == 60
    assert of_table["ours"]["cycle_psnr"].n == of_table["ours_pasted"]["cycle_region_psnr"].n == 3
    assert "cycle_psnr" in of_table.gaps["ours - noop"]


def test_the_way_back_of_a_swap_says_nothing(model: PoseStyleGAN2, folder: Path) -> None:
    # All of the style there and all of it back: what was worn in between leaves no trace. The guide warns of it.
    dataset = FolderDataset(folder, size=model.image_size, split="val")
    bench = Bench(model, preset="fast")
    latents = [bench.project(from_uint8(dataset.batch([i]).images), dataset.batch([i]).pose) for i in range(3)]
    backs = []
    for garment in latents[1:]:
        pairs = ProjectedPairs(latents[0], garment, photos=tuple(bench.draw(latents[0])))
        worn = METHODS["swap"].draw(bench, pairs)
        backs.append((worn["swap"][0].image, _cycle(bench, "swap", worn, pairs)["swap"][0].image))
    assert np.abs(backs[0][0].astype(float) - backs[1][0]).mean() > 1
    assert np.array_equal(backs[0][1], backs[1][1])


def test_the_way_back_is_asked_for_of_a_folder(model: PoseStyleGAN2, folder: Path) -> None:
    found = evaluate_folder(model, folder, pairs=1, preset="fast", methods=["ours"], cycle=True)
    assert {"cycle_psnr", "cycle_region_psnr"} <= set(found["ours_pasted"])
    assert found.settings["cycle"] is True


# --------------------------------------------------------------------------------------------------------- table
def test_good_rows_are_evaluated_and_bad_ones_reported(of_table: EvaluationReport) -> None:
    assert of_table.what == "table"
    assert [row["line"] for row in of_table.settings["rows"]] == [2, 6, 4]  # by region
    assert of_table.settings["rows"][2]["region"] == "bottom"
    faults = of_table.settings["faults"]
    assert [fault["line"] for fault in faults] == [3, 5]
    assert faults[0]["reason"].startswith("garment images/none.png: image: ")
    assert faults[1]["reason"].startswith("region: ")
    assert faults[1]["reason"].endswith("got 'hat'")
    table = of_table.table()
    assert "rows left out: 2" in table
    assert "line 5: region: " in table
    assert of_table["ours"]["reconstruction_psnr"].n == 3
    assert of_table["ours"]["kid"].n == 3
    assert of_table.settings["features"]["real"] == 4  # distinct photographs


def test_poses_that_are_not_given_are_estimated(model: PoseStyleGAN2, folder: Path, known_pose) -> None:
    path = folder / "two.csv"
    path.write_text("person,garment,region\nimages/0.png,images/1.png,top\nimages/1.png,images/0.png,top\n")
    found = evaluate_table(model, path, preset="fast", methods="noop", cycle=False, estimate_pose=known_pose)
    assert known_pose.seen == [(64, 48), (64, 48)]  # each photograph once
    assert found.settings["poses"] == "given, or estimated by KnownPose()"
    assert "cycle_psnr" not in found["noop"]


def test_a_table_of_bad_rows_alone_is_an_error(model: PoseStyleGAN2, folder: Path) -> None:
    path = folder / "bad.csv"
    path.write_text("person,garment,region\na.png,b.png,top\na.png,b.png,hat\n")
    with pytest.raises(DataError, match=r"expected a row that can be used in .*bad.csv, got line .*; line "):
        evaluate_table(model, path)
    path.write_text("person,garment,region\n")
    with pytest.raises(DataError, match="got it has none"):
        evaluate_table(model, path)
    with pytest.raises(RangeError, match="batch_size: expected at least 1, got 0"):
        evaluate_table(model, path, batch_size=0)
    with pytest.raises(ConfigError, match="methods: expected some of"):
        evaluate_table(model, path, methods="oracle")


def test_photographs_are_read_as_try_on_reads_them(model: PoseStyleGAN2, folder: Path, known_pose) -> None:
    reader = PhotographReader(folder, TryOnPipeline(model), known_pose)
    row = PairRow(2, "images/0.png", "images/1.png", "top")
    pair = reader.pair(row)
    assert not isinstance(pair, RowFault)
    person = pair[0]
    photo = read_image(folder / "images/0.png")
    latent = styletryon.project(photo, pose=known_pose(photo), model=model, preset="fast")
    (known,) = latent.photograph or (None,)
    assert known is not None
    assert person.frame == known.frame
    assert torch.equal(person.target, known.target)
    assert torch.equal(person.inside, known.inside)
    assert person.target_labels is not None
    assert np.array_equal(person.target_labels, known.target_labels)
    again = reader.pair(row)
    assert not isinstance(again, RowFault)
    assert again[0] is person


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"person": "images/none.png"}, "person images/none.png: image: "),
        ({"garment": "keypoints.json"}, "garment keypoints.json: image: "),
        ({"person_pose": "none.json"}, "person images/0.png: pose: expected a JSON file of 17 x"),
        ({"garment_pose": "split.json"}, "garment images/1.png: pose: expected"),
        ({"garment_pose": "images/0.png"}, "garment images/1.png: pose: expected a JSON file of 17 x"),
        ({"fault": "a reason"}, "a reason"),
    ],
)
def test_what_cannot_be_read_is_said(
    change: dict[str, str], reason: str, model: PoseStyleGAN2, folder: Path, known_pose
) -> None:
    row = PairRow(7, **{"person": "images/0.png", "garment": "images/1.png", "region": "top", **change})
    found = PhotographReader(folder, TryOnPipeline(model), known_pose).pair(row)
    assert isinstance(found, RowFault)
    assert found.line == 7
    assert found.reason.startswith(reason)


@pytest.fixture(scope="module")
def shirt(folder: Path) -> str:
    """A shirt by itself, in a file beside the people."""
    picture = paperdoll.lay_flat(paperdoll.sample_figure(20_000_008), "top").image
    Image.fromarray(picture).save(folder / "shirt.png")
    return "shirt.png"


def test_a_garment_by_itself_is_put_on_a_neutral_person(
    model: PoseStyleGAN2, folder: Path, known_pose, shirt: str
) -> None:
    pipeline = TryOnPipeline(model)
    row = PairRow(2, "images/0.png", shirt, "top")
    found = {}
    for default, said in ((None, None), (False, None), (True, False)):
        pair = PhotographReader(folder, pipeline, known_pose, default).pair(replace(row, garment_worn=said))
        assert not isinstance(pair, RowFault)
        found[default, said] = pair[1]
    alone = worn_by_model(pipeline.read(folder / shirt, worn=False), model)
    for garment in found.values():
        assert torch.equal(garment.target, alone.target)
        assert garment.labels is not None
        assert np.isin(garment.labels, list(REGIONS["top"])).any()
    assert set(known_pose.seen) == {(64, 48)}  # of the person alone
    worn = PhotographReader(folder, pipeline, known_pose, False).pair(replace(row, garment_worn=True))
    assert not isinstance(worn, RowFault)
    assert worn[1].worn
    assert worn[1].picture.size == read_image(folder / shirt).size


def test_a_garment_by_itself_is_what_its_row_asks_for(
    model: PoseStyleGAN2, folder: Path, known_pose, shirt: str
) -> None:
    reader, shown = PhotographReader(folder, TryOnPipeline(model), known_pose), {}
    for region in ("top", "outerwear"):
        pair = reader.pair(PairRow(2, "images/0.png", shirt, region))
        assert not isinstance(pair, RowFault)
        assert pair[1].labels is not None
        shown[region] = int((pair[1].labels == Label.OUTERWEAR).sum())
    # The neutral person of an untrained generator shows any class.
    assert shown["outerwear"] > shown["top"] + 50


def test_a_garment_by_itself_is_refused_for_a_region_that_is_not_its_own(
    model: PoseStyleGAN2, folder: Path, known_pose, shirt: str
) -> None:
    row = PairRow(4, "images/0.png", shirt, "bottom", garment_worn=False)
    found = PhotographReader(folder, TryOnPipeline(model), known_pose).pair(row)
    assert isinstance(found, RowFault)
    assert found.reason.startswith(f"garment {shirt}: region: expected a garment for bottom, got a picture of a top")


def test_a_table_with_a_garment_by_itself_is_evaluated(
    model: PoseStyleGAN2, folder: Path, known_pose, shirt: str
) -> None:
    path = folder / "alone.csv"
    path.write_text(f"person,garment,region,garment_worn\nimages/0.png,{shirt},top,no\nimages/1.png,{shirt},top,\n")
    found = evaluate_table(
        model, path, preset="fast", methods="ours", cycle=False, estimate_pose=known_pose, garment_worn=False
    )
    assert found.settings["faults"] == []
    assert found["ours_pasted"]["garment_colour"].n == 2


def test_people_are_cut_out_for_a_generator_that_knows_one_background(folder: Path, known_pose) -> None:
    red = tiny_generator(background=(255, 0, 0))
    row = PairRow(2, "images/0.png", "images/1.png", "top")
    pair = PhotographReader(folder, TryOnPipeline(red), known_pose).pair(row)
    assert not isinstance(pair, RowFault)
    assert torch.allclose(pair[0].target[:, 0, 0], torch.tensor([1.0, -1.0, -1.0]), atol=0.05)


def test_nobody_in_a_photograph_is_said(model: PoseStyleGAN2, folder: Path) -> None:
    Image.new("RGB", (48, 64), "grey").save(folder / "empty.png")
    reader = PhotographReader(folder, TryOnPipeline(model))
    found = reader.pair(PairRow(3, "empty.png", "images/1.png", "top"))
    assert isinstance(found, RowFault)
    assert found.reason.startswith("person empty.png: image: expected a photograph that shows a person")
