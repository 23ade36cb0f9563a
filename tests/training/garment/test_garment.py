"""The training of the network of garments that nobody wears: examples, both rounds, measures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from styletryon.data import paperdoll
from styletryon.labels import Label
from styletryon.training.body.examples import Example, render_examples
from styletryon.training.garment.__main__ import main
from styletryon.training.garment.evaluation import drawn_truths, labelled_by_hand, labelled_truths, measure
from styletryon.training.garment.examples import cut_garments, drawn_garments, flat_names, folded_and_shoes, shown_by


def people(folder: Path, count: int) -> Path:
    """A folder of rendered people as `read_split` reads it."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    known = {}
    for seed in range(count):
        figure = paperdoll.render(paperdoll.sample_figure(seed), (256, 192))
        Image.fromarray(figure.image).save(folder / "images" / f"{seed}.jpg")
        Image.fromarray(figure.labels).save(folder / "labels" / f"{seed}.png")
        known[str(seed)] = figure.keypoints.tolist()
    (folder / "keypoints.json").write_text(json.dumps(known))
    (folder / "split.json").write_text(json.dumps({"train": list(known), "val": []}))
    return folder


def garments(folder: Path, count: int) -> Path:
    """A folder of drawn garments as the command reads photographs of garments."""
    folder.mkdir()
    index = []
    for number, (image, label, _, _) in enumerate(drawn_truths(count)):
        image.save(folder / f"{number}.jpg")
        kind = {Label.TOP: "T-Shirt", Label.OUTERWEAR: "Blazer", Label.BOTTOM: "Pants", Label.DRESS: "Dress"}[label]
        index.append({"file": f"{number}.jpg", "class": kind})
    (folder / "index.json").write_text(json.dumps(index))
    return folder


def test_drawn_garments_have_their_keypoints_on_cloth_and_no_head() -> None:
    for example in drawn_garments(range(6)):
        assert example.keypoints is not None
        assert (example.keypoints[:5, 2] == 0).all()
        assert np.asarray(example.labels).any()


def test_garments_are_cut_out_with_what_hides_them_filled() -> None:
    figures = render_examples(range(4))
    cut = cut_garments(figures)
    assert len(cut) >= 4
    for example in cut:
        labels = np.asarray(example.labels)
        assert len(np.unique(labels)) == 2
        assert not np.isin(labels, (Label.SKIN, Label.HAIR, Label.FACE)).any()
        assert example.image.size == labels.shape[::-1]


def test_limbs_are_shown_as_far_as_the_garment_goes() -> None:
    mask = np.zeros((100, 100), dtype=bool)
    mask[10:60, 20:80] = True
    points = np.zeros((17, 3), dtype=np.float32)
    places = {5: (75, 15), 6: (25, 15), 11: (65, 55), 12: (35, 55), 7: (78, 40), 9: (90, 90), 8: (95, 95), 10: (22, 50)}
    for number, place in places.items():
        points[number] = (*place, 1)
    scores = shown_by(mask, points, Label.TOP)
    assert (scores[[5, 6, 11, 12]] == 1).all()
    assert scores[7] > 0
    assert (scores[[8, 9, 10]] == 0).all()  # A wrist without its elbow is not shown either.


def test_what_cannot_be_worn_has_no_keypoints() -> None:
    useless = folded_and_shoes(drawn_garments(range(3)), render_examples(range(2)), 9, seed=0)
    assert useless
    for example in useless:
        assert isinstance(example, Example)
        assert example.keypoints is not None
        assert not example.keypoints.any()


def test_drawn_truths_have_outlines_and_keypoints() -> None:
    for picture, label, points, mask in drawn_truths(3):
        assert label in {Label.TOP, Label.OUTERWEAR, Label.BOTTOM, Label.DRESS}
        assert mask.shape == (picture.height, picture.width)
        assert mask.any()
        assert (points[:, 2] > 0).any()


def test_photographs_labelled_by_hand_are_within_their_pictures(tmp_path: Path) -> None:
    known = labelled_by_hand()
    assert len(known) == 60
    for one in known.values():
        assert one["label"] in {"top", "outerwear", "bottom", "dress"}
        places = np.array([*one["keypoints"].values(), *one["outline"]])
        assert ((places >= 0) & (places <= 1)).all()
    for name in known:
        Image.new("RGB", (30, 40)).save(tmp_path / name)
    for picture, _, points, mask in labelled_truths(tmp_path):
        assert mask.shape == (40, 30)
        assert 0.05 < mask.mean() < 1
        assert (points[:, 0] <= picture.width).all()


@pytest.mark.slow
def test_the_command_trains_both_rounds_and_goes_on_after_the_first(tmp_path: Path) -> None:
    ccp, flat, out = people(tmp_path / "ccp", 6), garments(tmp_path / "flat", 6), tmp_path / "out"
    assert len(flat_names(flat, held=["0.jpg"])) == 5
    command = ["--ccp", str(ccp), "--flat", str(flat), "--out", str(out), "--drawn", "8", "--steps", "2", "2"]
    command += ["--batch", "4", "--side", "64"]
    assert main(command) == 0
    first, last = load_file(out / "first" / "garment.safetensors"), load_file(out / "garment.safetensors")
    assert first.keys() == last.keys()
    assert any(not first[name].equal(last[name]) for name in first)
    (out / "garment.safetensors").unlink()
    before = (out / "first" / "garment.safetensors").read_bytes()
    assert main(command) == 0
    assert (out / "first" / "garment.safetensors").read_bytes() == before
    assert load_file(out / "garment.safetensors").keys() == last.keys()


def test_the_bundled_network_finds_drawn_garments() -> None:
    from styletryon.pose import GarmentEstimator

    found = measure(GarmentEstimator.from_pretrained(), drawn_truths(6))
    assert found["pck@0.1"] > 0.6
    assert found["iou"] > 0.75
