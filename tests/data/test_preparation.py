"""prepare: photographs in, a data set out; what is left out and why; runs that are stopped and go on."""

from __future__ import annotations

import io
import json
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from styletryon import data as styletryon_data
from styletryon.data import FolderDataset, Outcome, Preparation
from styletryon.data.paperdoll import render, sample_figure
from styletryon.data.preparation.gates import cut_edges, find_twins, refuse_frame, refuse_labels, refuse_pose
from styletryon.data.preparation.run import parse_background
from styletryon.errors import ConfigError, DataError, PersonNotFoundError, RangeError
from styletryon.labels import Label
from styletryon.photo import Frame, follow, frame_person
from styletryon.pose import KEYPOINT_NAMES, Pose

PHOTO, SIZE = (128, 96), (64, 48)
SEEDS = (0, 1, 2, 3, 5)


@pytest.fixture(scope="module")
def figures() -> list[Any]:
    return [render(sample_figure(seed), PHOTO) for seed in SEEDS]


@pytest.fixture
def data(figures: list[Any], tmp_path: Path) -> Path:
    """A data set of rendered figures without a split."""
    folder = tmp_path / "photos"
    keypoints = {}
    for seed, figure in zip(SEEDS, figures, strict=True):
        for part, array in (("images", figure.image), ("labels", figure.labels)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / part / f"p{seed}.png")
        keypoints[f"p{seed}"] = figure.keypoints.tolist()
    (folder / "keypoints.json").write_text(json.dumps(keypoints))
    return folder


def prepare(*arguments: Any, **options: Any) -> Preparation:
    """`prepare` with the photographs' own background, which takes the least time."""
    return styletryon_data.prepare(*arguments, **({"background": "keep"} | options))


def tree(folder: Path) -> dict[str, bytes]:
    """Every file but the journal, which tells of the runs."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "prepare.jsonl")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def reasons(result: Preparation) -> dict[str, str]:
    return {outcome.source: outcome.reason for outcome in result.outcomes}


def by_source(result: Preparation, source: str) -> Outcome:
    return next(outcome for outcome in result.outcomes if outcome.source == source)


class TestDataSet:
    def test_training_reads_it(self, data: Path, tmp_path: Path) -> None:
        result = styletryon_data.prepare(data, tmp_path / "out", size=SIZE, val=0.4)
        assert result.counts() == {"prepared": 5}
        assert {name: len(ids) for name, ids in result.split.items()} == {"train": 3, "val": 2}
        for split in ("train", "val"):
            pictures = FolderDataset(tmp_path / "out", size=SIZE, split=split)
            assert pictures.ids == result.split[split]
        report = json.loads((tmp_path / "out" / "prepared.json").read_text())
        assert report["counts"] == {"prepared": 5}
        assert report["settings"]["size"] == [64, 48]
        first = report["photographs"][0]
        assert (first["source"], first["pose"], first["labels"], first["reason"]) == ("p0.png", "given", "given", "")
        assert len(first["box"]) == 4
        assert "train 3, val 2" in result.table()

    def test_keypoints_follow_the_box(self, data: Path, figures: list[Any], tmp_path: Path) -> None:
        result = prepare(data, tmp_path / "out", size=SIZE)
        for outcome, figure in zip(result.outcomes, figures, strict=True):
            assert outcome.box is not None
            left, top, right, bottom = outcome.box
            expected = (figure.keypoints[:, :2] - [left, top]) * [48 / (right - left), 64 / (bottom - top)]
            np.testing.assert_allclose(np.array(outcome.keypoints)[:, :2], expected, atol=2e-3)

    def test_the_frame_is_that_of_a_try_on(self, data: Path, figures: list[Any], tmp_path: Path) -> None:
        result = prepare(data, tmp_path / "out", size=SIZE)
        frame = frame_person(Pose(figures[0].keypoints, PHOTO), PHOTO, SIZE)
        assert result.outcomes[0].box == pytest.approx(frame.box, abs=0.006)

    @pytest.mark.parametrize("background", ["white", "keep", "204060"])
    def test_labels_are_never_blended(
        self, background: str, data: Path, figures: list[Any], tmp_path: Path
    ) -> None:
        result = prepare(data, tmp_path / "out", size=SIZE, background=background)
        for outcome, figure in zip(result.outcomes, figures, strict=True):
            labels = np.asarray(Image.open(tmp_path / "out" / "labels" / f"{outcome.id}.png"))
            assert labels.shape == SIZE
            assert set(np.unique(labels)) <= set(np.unique(figure.labels)) | {0}

    def test_the_background_is_replaced(self, data: Path, tmp_path: Path) -> None:
        result = prepare(data, tmp_path / "out", size=SIZE, background="204060")
        for outcome in result.outcomes:
            picture = np.asarray(Image.open(tmp_path / "out" / "images" / f"{outcome.id}.png"))
            labels = np.asarray(Image.open(tmp_path / "out" / "labels" / f"{outcome.id}.png"))
            away = ndimage.distance_transform_edt(labels == 0) > 2
            assert away.mean() > 0.2
            assert np.abs(picture[away].astype(int) - [0x20, 0x40, 0x60]).max() <= 6
            assert np.abs(picture[labels > 0].astype(int) - [0x20, 0x40, 0x60]).max() > 60

    def test_the_own_background_stays(self, data: Path, figures: list[Any], tmp_path: Path) -> None:
        result = prepare(
            data, tmp_path / "out", size=PHOTO, background="keep",
            frame=lambda pose, photo, size: Frame((0.0, 0.0, 96.0, 128.0), photo, size),
        )  # fmt: skip
        for outcome, figure in zip(result.outcomes, figures, strict=True):
            picture = np.asarray(Image.open(tmp_path / "out" / "images" / f"{outcome.id}.png"))
            np.testing.assert_array_equal(picture, figure.image)
            labels = np.asarray(Image.open(tmp_path / "out" / "labels" / f"{outcome.id}.png"))
            np.testing.assert_array_equal(labels, figure.labels)

    def test_files_turned_by_exif_are_turned_back(self, data: Path, tmp_path: Path) -> None:
        straight = prepare(data, tmp_path / "a", size=SIZE)
        for path in (data / "images").iterdir():
            with Image.open(path) as picture:
                exif = Image.Exif()
                exif[0x0112] = 6
                picture.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
        turned = prepare(data, tmp_path / "b", size=SIZE)
        assert turned.outcomes == straight.outcomes
        assert tree(tmp_path / "a") == tree(tmp_path / "b")


class TestNames:
    def test_folders_within_folders_and_equal_names(self, data: Path, figures: list[Any], tmp_path: Path) -> None:
        photos, labels = tmp_path / "mine", tmp_path / "classes"
        keypoints = {}
        names = ["a.png", "a.jpg", "one/a.png", "one/Ünï cöde.PNG", "b"]
        for name, figure in zip(names, figures, strict=True):
            path = photos / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(figure.image).save(path, format="JPEG" if name.endswith("jpg") else "PNG")
            stem = name.rpartition(".")[0] or name
            keypoints[stem] = figure.keypoints.tolist()
            (labels / stem).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(figure.labels).save(labels / f"{stem}.png")
        keypoints["a"] = figures[0].keypoints.tolist()
        result = prepare(photos, tmp_path / "out", size=SIZE, labels=labels, keypoints=keypoints)
        found = {outcome.source: outcome.id for outcome in result.outcomes}
        assert set(found) == set(names)
        assert len(set(found.values())) == 5
        assert found["a.jpg"] == "a"
        assert found["a.png"].startswith("a-")
        assert all(name.isascii() and "/" not in name and " " not in name for name in found.values())
        for split in ("train", "val"):
            FolderDataset(tmp_path / "out", size=SIZE, split=split)

    def test_the_bare_name_does_where_it_is_the_only_one(
        self, data: Path, figures: list[Any], tmp_path: Path
    ) -> None:
        photos = tmp_path / "mine"
        for name, figure in zip(["one/p0.png", "one/p1.png", "two/p1.png"], figures, strict=False):
            (photos / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(figure.image).save(photos / name)
        table = json.loads((data / "keypoints.json").read_text())
        found = reasons(prepare(photos, tmp_path / "out", size=SIZE, labels=data / "labels", keypoints=table))
        assert found == {"one/p0.png": "", "one/p1.png": "no labels", "two/p1.png": "no labels"}

    def test_a_zip_is_as_good_as_a_folder(self, data: Path, tmp_path: Path) -> None:
        archive = shutil.make_archive(str(tmp_path / "photos"), "zip", data.parent, data.name)
        prepare(data, tmp_path / "a", size=SIZE)
        prepare(archive, tmp_path / "b", size=SIZE)
        assert tree(tmp_path / "a") == tree(tmp_path / "b")

    def test_ids_stay_when_photographs_come(self, data: Path, tmp_path: Path) -> None:
        before = {o.source: o.id for o in prepare(data, tmp_path / "out", size=SIZE).outcomes}
        Image.open(data / "images" / "p0.png").save(data / "images" / "p0.gif")
        after = {o.source: o.id for o in prepare(data, tmp_path / "out", size=SIZE).outcomes}
        assert before.items() <= after.items()
        assert after["p0.gif"] not in before.values()


def write_bomb(path: Path) -> None:
    """A PNG that claims to have 60000 x 60000 pixels."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    parts = [struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


class TestFaults:
    @pytest.mark.parametrize("workers", [1, 3])
    def test_bad_files_are_told_and_stop_nothing(self, workers: int, data: Path, tmp_path: Path) -> None:
        images = data / "images"
        (images / "text.jpg").write_text("not a picture")
        (images / "empty.png").write_bytes(b"")
        (images / "half.png").write_bytes((images / "p1.png").read_bytes()[:-3000])
        write_bomb(images / "bomb.png")
        result = prepare(data, tmp_path / "out", size=SIZE, workers=workers)
        assert result.counts() == {"prepared": 5, "unreadable": 4}
        bomb = by_source(result, "bomb.png")
        assert "too large" in bomb.detail
        assert bomb.failed
        assert "unreadable" in result.table()

    def test_labels_of_another_size(self, data: Path, tmp_path: Path) -> None:
        Image.new("L", (50, 50)).save(data / "labels" / "p0.png")
        Image.new("RGB", PHOTO[::-1]).save(data / "labels" / "p1.png")
        Image.new("L", PHOTO[::-1], 12).save(data / "labels" / "p2.png")
        (data / "labels" / "p3.png").unlink()
        found = reasons(prepare(data, tmp_path / "out", size=SIZE))
        assert [found[f"p{seed}.png"] for seed in (0, 1, 2)] == ["unusable labels"] * 3
        assert found["p3.png"] == "no labels"
        assert found["p5.png"] == ""

    def test_keypoints_that_are_none(self, data: Path, tmp_path: Path) -> None:
        table = json.loads((data / "keypoints.json").read_text())
        table["p0"] = [[1, 2, 3]]
        table["p1"] = [[1, 2, 2]] * 17
        table["p2"] = "nobody"
        table["p3"] = [[0, 0, 0]] * 17
        (data / "keypoints.json").write_text(json.dumps(table))
        found = reasons(prepare(data, tmp_path / "out", size=SIZE))
        assert [found[f"p{seed}.png"] for seed in (0, 1, 2)] == ["unusable keypoints"] * 3
        assert found["p3.png"] == "no person"

    def test_what_a_callable_raises(self, data: Path, tmp_path: Path) -> None:
        (data / "keypoints.json").write_text("{}")
        calls = iter([PersonNotFoundError("nobody"), RuntimeError("out of paper"), "no pose", ValueError(), KeyError()])

        def pose(image: Image.Image) -> Any:
            answer = next(calls)
            if isinstance(answer, Exception):
                raise answer
            return answer

        with pytest.raises(DataError, match="photos: expected at least one photograph that can be used") as caught:
            prepare(data, tmp_path / "out", size=SIZE, pose=pose)
        assert "1  no person" in str(caught.value)
        assert "4  estimate failed" in str(caught.value)
        assert "out of paper" in str(caught.value)

    @pytest.mark.parametrize(
        ("found", "reason"),
        [
            (np.zeros((3, 3), np.uint8), "unusable labels"),
            (np.zeros(PHOTO, np.float32), "unusable labels"),
            (np.full(PHOTO, -1), "unusable labels"),
            (np.zeros(PHOTO, np.uint8), "labels beside the pose"),
            (np.full(PHOTO, int(Label.SKIN)), "no clothes"),
        ],
    )
    def test_what_a_parser_returns(self, found: Any, reason: str, data: Path, tmp_path: Path) -> None:
        (data / "labels" / "p0.png").unlink()
        result = prepare(data, tmp_path / "out", size=SIZE, parser=lambda image, pose: found)
        assert by_source(result, "p0.png").reason == reason

    def test_wrong_calls(self, data: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        with pytest.raises(RangeError, match="size: expected a height and width of at least 16"):
            prepare(data, out, size=(8, 6))
        with pytest.raises(RangeError, match="val: expected a share"):
            prepare(data, out, val=1.0)
        with pytest.raises(RangeError, match="workers: expected at least 1"):
            prepare(data, out, workers=0)
        with pytest.raises(ConfigError, match="background: expected"):
            prepare(data, out, background="pale")
        with pytest.raises(ConfigError, match="out: expected a folder outside"):
            prepare(data, data / "out")
        with pytest.raises(DataError, match="no such file or folder"):
            prepare(tmp_path / "nowhere", out)
        assert not out.exists()

    def test_labels_are_needed(self, data: Path, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="labels: expected label pictures or a parser, got neither"):
            prepare(data / "images", tmp_path / "out", size=SIZE)

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        (tmp_path / "photos").mkdir()
        with pytest.raises(DataError, match="photos: expected photographs"):
            prepare(tmp_path / "photos", tmp_path / "out", size=SIZE)


class TestGoingOn:
    def test_stopped_anywhere_it_ends_as_if_it_had_not_been(self, data: Path, tmp_path: Path) -> None:
        seen: list[str] = []
        names = {Image.open(data / "images" / f"p{seed}.png").tobytes(): f"p{seed}" for seed in SEEDS}
        classes = {name: np.asarray(Image.open(data / "labels" / f"{name}.png")) for name in names.values()}
        shutil.rmtree(data / "labels")

        def parser(image: Image.Image, pose: Pose) -> Any:
            seen.append(names[image.tobytes()])
            return classes[seen[-1]]

        def stop_at(number: int) -> Callable[[str, int, int], None]:
            def progress(stage: str, done: int, total: int) -> None:
                if done == number:
                    raise KeyboardInterrupt

            return progress

        prepare(data, tmp_path / "whole", size=SIZE, parser=parser)
        assert sorted(seen) == sorted(names.values())
        seen.clear()
        for number in (1, 2, 4):
            with pytest.raises(KeyboardInterrupt):
                prepare(data, tmp_path / "out", size=SIZE, parser=parser, progress=stop_at(number))
            assert not (tmp_path / "out" / "split.json").exists()
        prepare(data, tmp_path / "out", size=SIZE, parser=parser)
        assert tree(tmp_path / "out") == tree(tmp_path / "whole")
        assert sorted(seen) == sorted(names.values())
        prepare(data, tmp_path / "out", size=SIZE, parser=parser)
        assert len(seen) == 5

    def test_a_line_that_was_cut_short(self, data: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        prepare(data, out, size=SIZE)
        whole, journal = tree(out), out / "prepare.jsonl"
        journal.write_bytes(journal.read_bytes()[:-20])
        prepare(data, out, size=SIZE)
        assert tree(out) == whole
        assert prepare(data, out, size=SIZE).counts() == {"prepared": 5}

    def test_what_failed_is_tried_again(self, data: Path, tmp_path: Path) -> None:
        labels = (data / "labels" / "p0.png").read_bytes()
        (data / "labels" / "p0.png").unlink()
        assert prepare(data, tmp_path / "out", size=SIZE).counts() == {"prepared": 4, "no labels": 1}
        found = np.asarray(Image.open(io.BytesIO(labels)))
        again = prepare(data, tmp_path / "out", size=SIZE, parser=lambda image, pose: torch.from_numpy(found.copy()))
        assert again.counts() == {"prepared": 5}
        assert by_source(again, "p0.png").labels == "parser"

    def test_a_lost_file_is_written_again(self, data: Path, tmp_path: Path) -> None:
        prepare(data, tmp_path / "out", size=SIZE)
        whole = tree(tmp_path / "out")
        (tmp_path / "out" / "labels" / "p1.png").unlink()
        prepare(data, tmp_path / "out", size=SIZE)
        assert tree(tmp_path / "out") == whole

    def test_a_changed_photograph_is_done_again(self, data: Path, figures: list[Any], tmp_path: Path) -> None:
        prepare(data, tmp_path / "out", size=SIZE)
        before = tree(tmp_path / "out")
        Image.fromarray(255 - figures[0].image).save(data / "images" / "p0.png")
        prepare(data, tmp_path / "out", size=SIZE)
        after = tree(tmp_path / "out")
        assert {name for name in before if before[name] != after[name]} >= {"images/p0.png"}
        assert before["images/p1.png"] == after["images/p1.png"]

    def test_other_settings_are_refused(self, data: Path, tmp_path: Path) -> None:
        prepare(data, tmp_path / "out", size=SIZE)
        whole = tree(tmp_path / "out")
        with pytest.raises(DataError, match=r"out: .* was begun with .*'size': \[64, 48\].*choose another folder"):
            prepare(data, tmp_path / "out", size=(32, 24))
        assert tree(tmp_path / "out") == whole

    def test_a_folder_of_something_else_is_refused(self, data: Path, tmp_path: Path) -> None:
        (tmp_path / "out" / "images").mkdir(parents=True)
        (tmp_path / "out" / "images" / "mine.png").write_bytes(b"")
        with pytest.raises(DataError, match=r"pictures but no prepare\.jsonl"):
            prepare(data, tmp_path / "out", size=SIZE)

    def test_the_number_of_workers_changes_nothing(self, data: Path, tmp_path: Path) -> None:
        one = prepare(data, tmp_path / "one", size=SIZE, workers=1)
        many = prepare(data, tmp_path / "many", size=SIZE, workers=4)
        assert one == many
        assert tree(tmp_path / "one") == tree(tmp_path / "many")


class TestSplit:
    def test_the_given_one_is_kept(self, data: Path, tmp_path: Path) -> None:
        (data / "split.json").write_text(json.dumps({"train": ["p0", "p3"], "val": ["p1"], "test": ["p5"]}))
        result = prepare(data, tmp_path / "out", size=SIZE)
        assert result.split == {"test": ("p5",), "train": ("p0", "p3"), "val": ("p1",)}
        assert by_source(result, "p2.png").reason == "in no split"

    def test_a_share_draws_another(self, data: Path, tmp_path: Path) -> None:
        (data / "split.json").write_text(json.dumps({"train": ["p0", "p3"], "val": ["p1"]}))
        result = prepare(data, tmp_path / "out", size=SIZE, val=0.2)
        assert {name: len(ids) for name, ids in result.split.items()} == {"train": 4, "val": 1}

    def test_the_seed_chooses(self, data: Path, tmp_path: Path) -> None:
        drawn = {prepare(data, tmp_path / "out", size=SIZE, val=0.2, seed=seed).split["val"] for seed in range(12)}
        assert len(drawn) > 2
        same = {prepare(data, tmp_path / "out", size=SIZE, val=0.2, seed=3).split["val"] for _ in range(2)}
        assert len(same) == 1

    def test_a_style_stands_on_one_side(self, data: Path, tmp_path: Path) -> None:
        (data / "styles.json").write_text(json.dumps({"p0": 1, "p1": 1, "p2": 1, "p3": 2, "p5": 2}))
        result = prepare(data, tmp_path / "out", size=SIZE, val=0.5)
        assert {frozenset(ids) for ids in result.split.values()} == {
            frozenset({"p0", "p1", "p2"}),
            frozenset({"p3", "p5"}),
        }
        assert json.loads((tmp_path / "out" / "styles.json").read_text())["p5"] == "2"
        assert FolderDataset(tmp_path / "out", size=SIZE).has_partners

    def test_no_validation(self, data: Path, tmp_path: Path) -> None:
        result = prepare(data, tmp_path / "out", size=SIZE, val=0)
        assert result.split["val"] == ()
        assert len(result.split["train"]) == 5


class TestTwins:
    def test_one_of_them_stays(self, data: Path, tmp_path: Path) -> None:
        keypoints = json.loads((data / "keypoints.json").read_text())
        photo, labels = Image.open(data / "images" / "p2.png"), Image.open(data / "labels" / "p2.png")
        pose = Pose(keypoints["p2"], PHOTO)
        photo.save(data / "images" / "again.jpg", quality=60)
        labels.save(data / "labels" / "again.png")
        keypoints["again"] = keypoints["p2"]
        flip = Image.Transpose.FLIP_LEFT_RIGHT
        photo.transpose(flip).save(data / "images" / "mirrored.png")
        labels.transpose(flip).save(data / "labels" / "mirrored.png")
        keypoints["mirrored"] = pose.flipped().keypoints[0].tolist()
        photo.resize((192, 256)).save(data / "images" / "larger.png")
        labels.resize((192, 256), Image.Resampling.NEAREST).save(data / "labels" / "larger.png")
        keypoints["larger"] = pose.resized((256, 192)).keypoints[0].tolist()
        (data / "keypoints.json").write_text(json.dumps(keypoints))
        result = prepare(data, tmp_path / "out", size=SIZE)
        assert result.counts() == {"prepared": 5, "duplicate": 3}
        assert by_source(result, "p2.png").detail == "of again.jpg"
        assert by_source(result, "again.jpg").reason == ""

    @settings(max_examples=40, deadline=None)
    @given(seed=st.integers(0, 10**6), count=st.integers(0, 12), block=st.integers(1, 5))
    def test_against_all_pairs(self, seed: int, count: int, block: int) -> None:
        rng = np.random.default_rng(seed)
        bases = rng.integers(0, 256, (3, 16, 16, 3))
        pictures = []
        for _ in range(count):
            picture = bases[rng.integers(3)] + rng.normal(0, rng.choice([2.0, 13.0]), (16, 16, 3))
            picture = picture[:, ::-1] if rng.random() < 0.5 else picture
            pictures.append(np.clip(picture, 0, 255).astype(np.uint8))
        expected: dict[int, int] = {}
        for one in range(count):
            for other in range(one):
                a, b = pictures[one].astype(float), pictures[other].astype(float)
                near = min(np.sqrt(((a - b) ** 2).mean()), np.sqrt(((a[:, ::-1] - b) ** 2).mean())) < 16
                if near and other not in expected and one not in expected:
                    expected[one] = other
        assert find_twins([picture.tobytes() for picture in pictures], block=block) == expected


class TestPose:
    def test_a_callable(self, data: Path, tmp_path: Path) -> None:
        table = json.loads((data / "keypoints.json").read_text())
        poses = {Image.open(data / "images" / f"{name}.png").tobytes(): points for name, points in table.items()}
        given_result = prepare(data, tmp_path / "a", size=SIZE)
        (data / "keypoints.json").unlink()
        called = prepare(data, tmp_path / "b", size=SIZE, pose=lambda image: Pose(poses[image.tobytes()], PHOTO))
        assert {outcome.pose for outcome in called.outcomes} == {"callable"}
        assert [outcome.keypoints for outcome in called.outcomes] == [o.keypoints for o in given_result.outcomes]

    def test_the_bundled_estimator(self, data: Path, figures: list[Any], tmp_path: Path) -> None:
        (data / "keypoints.json").unlink()
        result = prepare(data, tmp_path / "out", size=SIZE, workers=2)
        assert {outcome.pose for outcome in result.prepared} == {"estimated"}
        assert len(result.prepared) == 5
        frame = frame_person(Pose(figures[0].keypoints, PHOTO), PHOTO, SIZE)
        assert result.outcomes[0].box == pytest.approx(frame.box, abs=6)

    def test_of_several_people_the_largest(self, data: Path, figures: list[Any], tmp_path: Path) -> None:
        expected = prepare(data, tmp_path / "a", size=SIZE)
        table = json.loads((data / "keypoints.json").read_text())
        small = (np.array(table["p0"]) * [0.5, 0.5, 1]).tolist()
        table["p0"] = [small, table["p0"]]
        (data / "keypoints.json").write_text(json.dumps(table))
        assert prepare(data, tmp_path / "b", size=SIZE).outcomes == expected.outcomes


def person(**changes: tuple[float, float, float]) -> Pose:
    """Someone who faces the camera in a photograph of 400x300, with some keypoints changed."""
    points = {
        "nose": (150, 60), "left_eye": (156, 54), "right_eye": (144, 54), "left_ear": (162, 56),
        "right_ear": (138, 56), "left_shoulder": (182, 100), "right_shoulder": (118, 100), "left_elbow": (195, 150),
        "right_elbow": (105, 150), "left_wrist": (198, 195), "right_wrist": (102, 195), "left_hip": (168, 210),
        "right_hip": (132, 210), "left_knee": (166, 300), "right_knee": (134, 300), "left_ankle": (164, 380),
        "right_ankle": (136, 380),
    }  # fmt: skip
    return Pose([changes.get(name, (*points[name], 1.0)) for name in KEYPOINT_NAMES], (400, 300))


class TestGates:
    def test_facing_the_camera(self) -> None:
        assert refuse_pose(person(), keep_side=False) is None

    def test_from_behind(self) -> None:
        turned = person().flipped().keypoints[:, [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]]
        pose = Pose(turned, (400, 300))
        refusal = refuse_pose(pose, keep_side=False)
        assert refusal is not None
        assert refusal[0].value == "back view"
        assert refuse_pose(pose, keep_side=True) is None
        faceless = person(nose=(0, 0, 0), left_eye=(0, 0, 0), right_eye=(0, 0, 0))
        refusal = refuse_pose(faceless, keep_side=False)
        assert refusal is not None
        assert refusal[0].value == "back view"

    def test_from_the_side(self) -> None:
        pose = person(left_shoulder=(155, 100, 1), right_shoulder=(145, 100, 1))
        refusal = refuse_pose(pose, keep_side=False)
        assert refusal is not None
        assert refusal[0].value == "side view"
        assert refuse_pose(pose, keep_side=True) is None

    @pytest.mark.parametrize("missing", [KEYPOINT_NAMES[5:7], KEYPOINT_NAMES[11:13], KEYPOINT_NAMES[:8]])
    def test_too_few_keypoints(self, missing: tuple[str, ...]) -> None:
        pose = person(**dict.fromkeys(missing, (10.0, 10.0, 0.1)))
        refusal = refuse_pose(pose, keep_side=True)
        assert refusal is not None
        assert refusal[0].value == "too few keypoints"

    def test_too_small(self) -> None:
        pose = person()
        frame = frame_person(pose, (400, 300), (600, 450))
        assert refuse_frame(frame, pose, strict=False) is None
        refusal = refuse_frame(frame_person(pose, (400, 300), (800, 600)), pose, strict=False)
        assert refusal is not None
        assert refusal[0].value == "too small"

    def test_strict_wants_the_elbows(self) -> None:
        pose = person(left_elbow=(290, 150, 1))
        frame = Frame((60, 40, 240, 280), (400, 300), (64, 48))
        assert refuse_frame(frame, pose, strict=False) is None
        refusal = refuse_frame(frame, pose, strict=True)
        assert refusal is not None
        assert "elbow" in refusal[1]

    def test_edges_that_cut(self) -> None:
        whole = np.ones((64, 48), np.bool_)
        inside = Frame((0, 0, 300, 400), (400, 300), (64, 48))
        assert cut_edges(whole, inside) == {}
        frame = Frame((-30, -40, 270, 480), (400, 300), (64, 48))
        assert cut_edges(whole, frame) == pytest.approx({"left": 0.1, "top": 40 / 520, "bottom": 80 / 520})
        middle = np.zeros((64, 48), np.bool_)
        middle[20:40, 20:30] = True
        assert cut_edges(middle, frame) == {}

    @pytest.mark.parametrize(("beyond", "lenient", "strict"), [(0, True, True), (60, True, False), (200, False, False)])
    def test_cut_off(self, beyond: int, lenient: bool, strict: bool) -> None:
        pose = person()
        frame = Frame((75, 300 + beyond - 320, 225, 300 + beyond), (300, 300), (64, 48))
        pose = Pose(pose.keypoints, (300, 300))
        labels = np.zeros((64, 48), np.uint8)
        labels[8:, 8:40] = int(Label.TOP)
        labels[np.linspace(frame.box[1], frame.box[3], 64) > 300] = 0
        assert (refuse_labels(labels, frame, pose, strict=False) is None) == lenient
        assert (refuse_labels(labels, frame, pose, strict=True) is None) == strict

    def test_strict_wants_the_hair(self) -> None:
        pose, frame = person(), Frame((50, 30, 250, 350), (400, 300), (64, 48))
        labels = np.full((64, 48), int(Label.DRESS), np.uint8)
        labels[:3, 20:28] = int(Label.HAIR)
        assert refuse_labels(labels, frame, pose, strict=False) is None
        refusal = refuse_labels(labels, frame, pose, strict=True)
        assert refusal is not None
        assert "head" in refusal[1]


@pytest.mark.parametrize(
    ("given_background", "expected"),
    [("keep", None), ("white", (255, 255, 255)), ("black", (0, 0, 0)), ("#0a0B0c", (10, 11, 12)), ((1, 2, 3),) * 2],
)
def test_backgrounds(given_background: Any, expected: Any) -> None:
    assert parse_background(given_background) == expected


@pytest.mark.parametrize("wrong", ["", "pink", "12345", "12345g", (1, 2), (0, 0, 256), (0.5, 0, 0)])
def test_wrong_backgrounds(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="background: expected"):
        parse_background(wrong)


def test_labels_follow_the_matte() -> None:
    labels = np.zeros((6, 6), np.uint8)
    labels[:, 2] = 4
    labels[:, 3] = 6
    coverage = np.zeros((6, 6), np.float32)
    coverage[:, 1:3] = 1
    np.testing.assert_array_equal(follow(labels, coverage)[0], [0, 4, 4, 0, 0, 0])


def test_a_zip_bomb(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("styletryon.data.files._LARGEST", 100_000)
    archive = tmp_path / "photos.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bundle:
        for path in sorted(data.rglob("*")):
            if path.is_file():
                bundle.write(path, path.relative_to(data))
        bundle.writestr("images/bomb.jpg", b"\0" * 10_000_000)
    result = prepare(archive, tmp_path / "out", size=SIZE)
    assert result.counts() == {"prepared": 5, "unreadable": 1}
    assert "is it a bomb" in by_source(result, "bomb.jpg").detail
