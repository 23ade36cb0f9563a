"""paperdoll: determinism, independent factors, exact labels and keypoints, the ground truth, the data set's files."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from styletryon.data import FolderDataset
from styletryon.data.paperdoll import (
    Figure,
    dress,
    render,
    restyle,
    sample_figure,
    sample_light,
    sample_look,
    sample_outfit,
    sample_stance,
    wears,
    write_dataset,
)
from styletryon.data.paperdoll.dataset import figure_of
from styletryon.errors import RangeError, RegionError, ShapeError
from styletryon.labels import Label

SIZE = (128, 96)
TOPS = (Label.TOP, Label.OUTERWEAR)


def figures_wearing(region: str, count: int) -> list[Figure]:
    """The first figures that wear a garment of the region."""
    found = (figure for figure in map(sample_figure, range(1000)) if wears(figure, region))
    return [next(found) for _ in range(count)]


def test_same_seed_gives_the_same_bits() -> None:
    first, second = render(sample_figure(5), SIZE), render(sample_figure(5), SIZE)
    assert sample_figure(5) == sample_figure(5)
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.labels, second.labels)
    np.testing.assert_array_equal(first.keypoints, second.keypoints)


def test_figures_differ_by_seed() -> None:
    assert len({sample_figure(seed) for seed in range(40)}) == 40


def test_each_factor_has_a_stream_of_its_own() -> None:
    figure = sample_figure(7)
    assert figure.look == sample_look(7)
    assert figure.outfit == sample_outfit(7)
    assert figure.stance == sample_stance(7)
    assert figure.light == sample_light(7)
    moved = restyle(figure, stance=sample_stance(8))
    assert (moved.look, moved.outfit, moved.light) == (figure.look, figure.outfit, figure.light)
    assert moved.stance != figure.stance


@settings(max_examples=12, deadline=None)
@given(height=st.integers(8, 160), width=st.integers(8, 160), supersample=st.integers(1, 3), seed=st.integers(0, 10**9))
def test_any_size_has_matching_shapes_and_known_classes(height: int, width: int, supersample: int, seed: int) -> None:
    rendering = render(sample_figure(seed), (height, width), supersample=supersample)
    assert rendering.image.shape == (height, width, 3)
    assert rendering.image.dtype == np.uint8
    assert rendering.labels.shape == (height, width)
    assert rendering.labels.dtype == np.uint8
    assert rendering.labels.max() <= max(Label)
    assert rendering.keypoints.shape == (17, 3)
    assert rendering.keypoints.dtype == np.float32
    assert np.isfinite(rendering.keypoints).all()
    assert set(np.unique(rendering.keypoints[:, 2])) <= {0.0, 0.5, 1.0}


@pytest.mark.parametrize(("size", "supersample"), [((4, 96), 2), ((128, 96), 0), ((128,), 2), ("ab", 2)])
def test_a_wrong_size_is_refused(size: object, supersample: int) -> None:
    with pytest.raises(ShapeError):
        render(sample_figure(0), size, supersample=supersample)  # type: ignore[arg-type]


def test_keypoints_lie_on_the_body() -> None:
    seen, hits, arms, on_arm = 0, 0, 0, 0
    limbs = {Label.SKIN, Label.TOP, Label.OUTERWEAR, Label.DRESS}
    for seed in range(30):
        rendering = render(sample_figure(seed), SIZE)
        for number, (x, y, score) in enumerate(rendering.keypoints):
            if score == 0.0:
                assert not (0 <= x < SIZE[1] and 0 <= y < SIZE[0])
                continue
            label = rendering.labels[int(y), int(x)]
            seen, hits = seen + 1, hits + int(label != Label.BACKGROUND)
            if number in (7, 8, 9, 10) and score == 1.0:
                arms, on_arm = arms + 1, on_arm + int(Label(label) in limbs)
    assert hits / seen > 0.99
    assert on_arm / arms > 0.97


def test_left_is_the_persons_own_left() -> None:
    for seed in range(10):
        keypoints = render(sample_figure(seed), SIZE).keypoints
        assert keypoints[5, 0] > keypoints[6, 0]
        assert keypoints[11, 0] > keypoints[12, 0]


def test_keypoints_scale_with_the_picture() -> None:
    figure = sample_figure(11)
    small, large = render(figure, (128, 96)).keypoints, render(figure, (256, 192)).keypoints
    np.testing.assert_allclose(small[:, :2] * 2, large[:, :2], atol=1e-3)


def test_the_person_fills_the_frame_from_head_to_knee() -> None:
    knees = 0
    for seed in range(30):
        rendering = render(sample_figure(seed), SIZE)
        rows = np.flatnonzero((rendering.labels != Label.BACKGROUND).any(axis=1))
        assert rows[0] < 0.13 * SIZE[0]
        assert rows[-1] == SIZE[0] - 1
        knees += int((rendering.keypoints[13:15, 2] > 0).sum())
        assert (rendering.keypoints[15:, 2] == 0).all()
    assert knees >= 0.8 * 60


@pytest.mark.parametrize("region", ["top", "bottom", "dress", "full"])
def test_ones_own_clothes_change_nothing(region: str) -> None:
    figure = figures_wearing(region, 1)[0]
    assert dress(figure, figure, region) == figure


def test_another_top_leaves_the_rest_alone() -> None:
    people = [figure for figure in figures_wearing("top", 16) if figure.look.hair.length < 0.8]
    for person, garment in pairwise(people[:7]):
        truth = dress(person, garment, "top")
        before, after = render(person, SIZE), render(truth, SIZE)
        np.testing.assert_array_equal(before.keypoints[:, :2], after.keypoints[:, :2])
        face = (before.labels == Label.FACE) & (after.labels == Label.FACE)
        face[int(before.keypoints[0, 1]) + 3 :] = False
        np.testing.assert_array_equal(before.image[face], after.image[face])
        clothes = np.isin(before.labels, TOPS) | np.isin(after.labels, TOPS)
        grown = clothes.copy()
        for shift in range(1, 9):
            for axis in (0, 1):
                grown |= np.roll(clothes, shift, axis) | np.roll(clothes, -shift, axis)
        change = np.abs(before.image.astype(int) - after.image.astype(int)).max(axis=2)
        assert change[~grown].mean() < 0.5
        assert truth.outfit.top == garment.outfit.top
        assert (truth.look, truth.outfit.bottom) == (person.look, person.outfit.bottom)


def test_dress_knows_who_wears_what() -> None:
    in_dress, in_top = figures_wearing("dress", 1)[0], figures_wearing("top", 1)[0]
    for person, garment in ((in_dress, in_top), (in_top, in_dress)):
        with pytest.raises(RegionError):
            dress(person, garment, "top")
        with pytest.raises(RegionError):
            dress(person, garment, "dress")
        assert dress(person, garment, "full").outfit.dress == garment.outfit.dress
    with pytest.raises(RegionError):
        wears(in_top, "hat")


def test_about_one_in_seven_wears_a_dress() -> None:
    share = np.mean([wears(sample_figure(seed), "dress") for seed in range(600)])
    assert 0.09 < share < 0.19


def test_labels_show_what_is_worn() -> None:
    for region, label in (("top", Label.TOP), ("bottom", Label.BOTTOM), ("dress", Label.DRESS)):
        for figure in figures_wearing(region, 5):
            labels = render(figure, SIZE).labels
            assert (labels == label).sum() > 60
            assert (labels == Label.FACE).sum() > 60


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_data_set_is_the_same_for_any_number_of_workers(tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []
    for workers in (1, 2):
        write_dataset(
            tmp_path / str(workers), 9, seed=3, size=(32, 24), stances=2, val_fraction=0.4, workers=workers,
            progress=lambda now, total: done.append((now, total)),
        )  # fmt: skip
    assert done[-1] == (9, 9)
    first = _contents(tmp_path / "1")
    assert first == _contents(tmp_path / "2")
    assert len([name for name in first if name.startswith("images/")]) == 9
    keypoints, split, styles = (json.loads(first[f"{name}.json"]) for name in ("keypoints", "split", "styles"))
    assert set(keypoints) == set(styles) == set(split["train"]) | set(split["val"])
    assert not {styles[name] for name in split["train"]} & {styles[name] for name in split["val"]}
    assert np.asarray(keypoints["000004_0"]).shape == (17, 3)
    assert len(set(styles.values())) == 5


def test_try_ons_show_a_person_in_the_clothes_of_another(tmp_path: Path) -> None:
    for workers in (1, 2):
        write_dataset(tmp_path / str(workers), 60, seed=5, size=(32, 24), tryons=24, val_fraction=0.3, workers=workers)
    assert _contents(tmp_path / "1") == _contents(tmp_path / "2")
    folder = tmp_path / "1"
    tryons, split, styles = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("tryons", "split", "styles")
    )
    assert len(tryons) == 24
    assert len(set(styles.values())) == 30 + 24
    side = {styles[name]: part for part in split for name in split[part]}
    regions = set()
    for name, parts in tryons.items():
        person, garment, region = parts["person"], parts["garment"], parts["region"]
        assert person != garment
        assert side[person] == side[garment] == side[styles[name]]
        stance = int(name.split("_")[1])
        wearing = dress(figure_of(5, person, stance), figure_of(5, garment, 0), region)
        shown = np.asarray(Image.open(folder / "images" / f"{name}.png"))
        assert np.array_equal(shown, render(wearing, (32, 24)).image)
        regions.add(region)
    assert {"top", "bottom", "full"} <= regions

    data = FolderDataset(folder, size=(32, 24))
    drawn = data.tryons(64, np.random.default_rng(0))
    for truth, person, garment, region in zip(drawn.truths, drawn.people, drawn.garments, drawn.regions, strict=True):
        parts = tryons[data.ids[truth]]
        assert styles[data.ids[person]] == parts["person"]
        assert styles[data.ids[garment]] == parts["garment"]
        assert region == parts["region"]
    assert len(set(drawn.people.tolist())) > len({tryons[data.ids[i]]["person"] for i in drawn.truths})


def test_a_data_set_refuses_wrong_numbers(tmp_path: Path) -> None:
    with pytest.raises(RangeError):
        write_dataset(tmp_path, 0)
    with pytest.raises(RangeError):
        write_dataset(tmp_path, 1, val_fraction=1.0)
    with pytest.raises(RangeError):
        write_dataset(tmp_path, 1, tryons=-1)
