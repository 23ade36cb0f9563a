from __future__ import annotations

import itertools
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from styletryon.data import FolderDataset, batch_indices, endless_batches
from styletryon.errors import DataError, RangeError
from styletryon.pose import Pose

SIZE = (32, 24)


def picture(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


def classes(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 12, size, dtype=np.uint8))


def points(seed: int, size: tuple[int, int] = SIZE) -> list[list[float]]:
    random = np.random.default_rng(seed).random((17, 3)) * [size[1], size[0], 1]
    return [[round(float(number), 3) for number in row] for row in random]


def write(folder: Path, ids: list[str], *, size: tuple[int, int] = SIZE, suffix: str = ".png") -> Path:
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    for seed, name in enumerate(ids):
        picture(seed, size).save(folder / "images" / f"{name}{suffix}")
        classes(seed, size).save(folder / "labels" / f"{name}.png")
    (folder / "keypoints.json").write_text(json.dumps({name: points(seed, size) for seed, name in enumerate(ids)}))
    (folder / "split.json").write_text(json.dumps({"train": ids, "val": ids[:1], "none": []}))
    return folder


def pack(folder: Path, file: Path, *, top: str = "") -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for member in sorted(folder.rglob("*")):
            archive.write(member, top + member.relative_to(folder).as_posix())
    return file


IDS = ["a", "b", "c", "d", "e"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "set", IDS)


def edit(folder: Path, file: str, change: Callable[[Any], Any]) -> None:
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(change(content)))


# ------------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("kind", ["folder", "zip", "zip with a top folder"])
def test_pictures_of_the_right_size_come_unchanged(folder: Path, tmp_path: Path, kind: str, cache: bool) -> None:
    path = folder if kind == "folder" else pack(folder, tmp_path / "set.zip", top="x/set/" if "top" in kind else "")
    dataset = FolderDataset(path, size=SIZE, cache=cache)
    assert len(dataset) == 5
    assert dataset.ids == tuple(IDS)
    order = [3, 0, 3, 4, 1]
    batch = dataset.batch(order)
    assert len(batch) == 5
    assert (batch.images.dtype, batch.labels.dtype) == (torch.uint8, torch.uint8)
    assert batch.indices.tolist() == order
    for row, seed in enumerate(order):
        assert torch.equal(batch.images[row], torch.from_numpy(np.array(picture(seed))).permute(2, 0, 1))
        assert torch.equal(batch.labels[row], torch.from_numpy(np.array(classes(seed))))
        torch.testing.assert_close(batch.keypoints[row], torch.tensor(points(seed)))
    assert batch.pose.size == SIZE
    assert torch.equal(batch.pose.keypoints, batch.keypoints)
    assert batch.to("cpu").images.device.type == "cpu"


def test_item_is_a_batch_of_one_without_its_first_dimension(folder: Path) -> None:
    dataset = FolderDataset(folder, size=SIZE)
    item, batch = dataset.item(2), dataset.batch([2])
    assert item.id == "c"
    assert torch.equal(item.image, batch.images[0])
    assert torch.equal(item.labels, batch.labels[0])
    assert torch.equal(item.keypoints, batch.keypoints[0])


def test_a_batch_is_a_copy(folder: Path) -> None:
    dataset = FolderDataset(folder, size=SIZE)
    dataset.batch([0]).images.zero_()
    assert bool(dataset.batch([0]).images.any())


def test_other_split_and_text(folder: Path) -> None:
    dataset = FolderDataset(folder, size=SIZE, split="val")
    assert dataset.ids == ("a",)
    assert "split='val'): 1 pictures" in repr(dataset)


def test_jpeg_grey_palette_and_exif(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", IDS[:3], suffix=".jpg")
    (folder / "images" / "a.jpg").unlink()
    picture(0).quantize(256).save(folder / "images" / "a.png")
    Image.fromarray(np.full(SIZE, 77, np.uint8)).save(folder / "images" / "b.jpg")
    turned = Image.fromarray(np.full((*SIZE, 3), 9, np.uint8)).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(folder / "images" / "c.jpg", exif=exif)
    palette = classes(0)
    palette.putpalette(list(range(256)) * 3)
    palette.save(folder / "labels" / "a.png")
    batch = FolderDataset(folder, size=SIZE).batch([0, 1, 2])
    assert torch.equal(batch.labels[0], torch.from_numpy(np.array(classes(0))))
    assert batch.images[1].unique().tolist() == [77]
    assert batch.images[2].unique().tolist() == [9]


# ------------------------------------------------------------------------------------------------------- resizing


def test_halving_averages_pictures_takes_the_majority_of_labels_and_halves_keypoints(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", ["a"], size=(64, 48))
    image = np.zeros((64, 48, 3), np.uint8)
    image[::2] = 200  # Stripes of one pixel: without antialiasing they would survive or vanish.
    Image.fromarray(image).save(folder / "images" / "a.png")
    labels = np.full((64, 48), 3, np.uint8)
    labels[1::2, 1::2] = 9  # A quarter of each block of four: the one that a nearest neighbour would take.
    labels[32:] = 11
    labels[33::2, 1::2] = 5
    Image.fromarray(labels).save(folder / "labels" / "a.png")
    item = FolderDataset(folder, size=SIZE).item(0)
    assert item.image[:, 2:-2].float().sub(100).abs().max() <= 1
    assert item.labels[:16].unique().tolist() == [3]
    assert item.labels[16:].unique().tolist() == [11]
    torch.testing.assert_close(item.keypoints, torch.tensor(points(0, (64, 48))) * torch.tensor([0.5, 0.5, 1]))


def test_enlarged_labels_are_the_nearest(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", ["a"])
    item = FolderDataset(folder, size=(96, 72)).item(0)
    nearest = np.array(classes(0)).repeat(3, 0).repeat(3, 1)
    assert torch.equal(item.labels, torch.from_numpy(nearest))


@pytest.mark.parametrize("photo", [(32, 48), (64, 24), (128, 30)])
def test_another_shape_is_shown_whole(tmp_path: Path, photo: tuple[int, int]) -> None:
    """A marked pixel, its label and its keypoint stay together, and the bars continue the edge."""
    folder = write(tmp_path / "set", ["a"], size=photo)
    image, labels = np.full((*photo, 3), 50, np.uint8), np.full(photo, 8, np.uint8)
    top, left = photo[0] // 2 - 4, photo[1] // 2 - 4
    image[top : top + 8, left : left + 8] = 250
    labels[top : top + 8, left : left + 8] = 4
    Image.fromarray(image).save(folder / "images" / "a.png")
    Image.fromarray(labels).save(folder / "labels" / "a.png")
    edit(folder, "keypoints.json", lambda table: {"a": [[left + 4, top + 4, 1.0]] * 17})

    item = FolderDataset(folder, size=SIZE).item(0)
    x, y = item.keypoints[0, :2].tolist()
    marked = (item.labels == 4).nonzero().double().mean(0) + 0.5
    assert marked.tolist() == pytest.approx([y, x], abs=0.51)
    bright = (item.image[0].double() - 50).clamp(min=0)
    rows = (bright.sum(1) * (torch.arange(SIZE[0]) + 0.5)).sum() / bright.sum()
    assert float(rows) == pytest.approx(y, abs=0.1)
    assert 40 <= int(item.image[:, 0, 0].min()) <= 60
    assert item.labels[0, 0] == 0
    shown = (item.labels > 0).double().mean().item()
    assert shown == pytest.approx(min(4 / 3 / (photo[0] / photo[1]), photo[0] / photo[1] / (4 / 3)), abs=0.06)


def test_a_shape_that_differs_by_rounding_gets_no_bars(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", ["a"], size=(67, 50))
    Image.fromarray(np.full((67, 50), 4, np.uint8)).save(folder / "labels" / "a.png")
    assert FolderDataset(folder, size=SIZE).item(0).labels.unique().tolist() == [4]


@dataclass(frozen=True)
class Window:
    box: tuple[float, float, float, float]


def test_a_frame_chooses_the_part(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", ["a"], size=(64, 48))
    asked: list[tuple[Any, ...]] = []

    def frame(pose: Pose, photo_size: tuple[int, int], size: tuple[int, int]) -> Window:
        asked.append((pose.size, photo_size, size))
        return Window((8.0, 10.0, 8.0 + 24, 10.0 + 32))

    item = FolderDataset(folder, size=SIZE, frame=frame).item(0)
    assert asked == [((64, 48), (64, 48), SIZE)]
    assert torch.equal(item.labels, torch.from_numpy(np.array(classes(0, (64, 48)))[10:42, 8:32]))
    whole = torch.tensor(points(0, (64, 48)))
    torch.testing.assert_close(item.keypoints, whole - torch.tensor([8.0, 10.0, 0.0]))


def test_a_frame_outside_the_picture_shows_its_edge(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", ["a"])
    item = FolderDataset(folder, size=SIZE, frame=lambda *_: Window((-24.0, -32.0, 0.0, 0.0))).item(0)
    corner = np.array(picture(0))[0, 0].tolist()
    assert item.image[:, 5, 5].tolist() == corner
    assert item.labels.unique().tolist() == [0]
    with pytest.raises(DataError, match="frame: expected a box with an area"):
        FolderDataset(folder, size=SIZE, frame=lambda *_: Window((3.0, 0.0, 3.0, 9.0)))


# ------------------------------------------------------------------------------------------------------- faults


def drop(file: str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).unlink()


def put(file: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / file).write_bytes(content)


def keypoints(value: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder, "keypoints.json", lambda table: {**table, "b": value})


def labels(array: np.ndarray[Any, Any]) -> Callable[[Path], None]:
    return lambda folder: Image.fromarray(array).save(folder / "labels" / "b.png")


def cut(file: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        content = (folder / file).read_bytes()
        (folder / file).write_bytes(content[: len(content) // 2])

    return change


FAULTS: list[tuple[str, Callable[[Path], object], str]] = [
    ("no picture", drop("images/b.png"), r"ID 'b': expected one picture, .*images/b\.png or \.jpg, but there is none"),
    ("two pictures", put("images/b.jpg", b""), r"ID 'b': .* there are b\.png and b\.jpg"),
    ("no labels", drop("labels/b.png"), r"ID 'b': expected labels in .*labels/b\.png"),
    ("no split", drop("split.json"), r"split\.json: no such file"),
    ("no keypoints", drop("keypoints.json"), r"keypoints\.json: no such file"),
    ("no JSON", put("split.json", b"{"), r"split\.json: expected JSON"),
    ("no text", put("split.json", b"\xff\xfe\xff"), r"split\.json: expected JSON"),
    ("split is a list", put("split.json", b"[]"), r"split\.json: expected an object"),
    ("split holds text", put("split.json", b'{"train": "a"}'), r"split\.json: expected an object"),
    ("ID twice", put("split.json", b'{"train": ["a", "b", "a"]}'), r"split\.json: ID 'a' stands twice"),
    ("keypoints are a list", put("keypoints.json", b"[]"), r"keypoints\.json: expected an object"),
    ("ID without", put("keypoints.json", b"{}"), r"keypoints\.json: ID 'a' of split 'train' has no keypoints"),
    ("null keypoints", keypoints(None), r"keypoints\.json: ID 'b': expected 17 x \[x, y, score\]"),
    ("few keypoints", keypoints(points(0)[:16]), r"ID 'b': expected 17 x .* shape \(16, 3\)"),
    ("ragged keypoints", keypoints([*points(0)[:16], [1]]), r"ID 'b': expected 17 x"),
    ("NaN", keypoints([[float("nan"), 0, 1]] * 17), r"ID 'b': expected finite numbers"),
    ("score", keypoints([[1, 1, 90]] * 17), r"ID 'b': expected scores in \[0, 1\]"),
    ("styles are a list", put("styles.json", b"[]"), r"styles\.json: expected an object"),
    ("no such class", labels(np.full(SIZE, 12, np.uint8)), r"ID 'b': expected classes 0\.\.11 in .*b\.png, got 12"),
    ("colours", labels(np.zeros((*SIZE, 3), np.uint8)), r"ID 'b': .*labels/b\.png: expected labels of 8 bits .* RGB"),
    ("small labels", labels(np.zeros((16, 12), np.uint8)), r"ID 'b': .* 24x32 pixels \(width x height\), got 12x16"),
    ("no image", put("images/b.png", b"hello"), r"ID 'b': .*images/b\.png cannot be read as a picture"),
    ("empty image", put("images/b.png", b""), r"ID 'b': .*images/b\.png cannot be read as a picture"),
    ("half an image", cut("images/b.png"), r"ID 'b': .*images/b\.png cannot be read as a picture"),
    ("half the labels", cut("labels/b.png"), r"ID 'b': .*labels/b\.png cannot be read as a picture"),
]


@pytest.mark.parametrize(("change", "message"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS])
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_every_fault_is_named(
    folder: Path, tmp_path: Path, change: Callable[[Path], object], message: str, packed: bool
) -> None:
    change(folder)
    path = pack(folder, tmp_path / "set.zip") if packed else folder
    with pytest.raises(DataError, match=message):
        FolderDataset(path, size=SIZE)


def test_without_cache_faults_in_pictures_come_to_light_when_read(folder: Path) -> None:
    (folder / "images" / "b.png").write_bytes(b"hello")
    dataset = FolderDataset(folder, size=SIZE, cache=False)
    dataset.item(0)
    with pytest.raises(DataError, match="ID 'b'"):
        dataset.item(1)
    (folder / "images" / "c.png").unlink()
    with pytest.raises(DataError, match=r"c\.png: cannot be read"):
        dataset.batch([0, 3, 4, 2])


def test_splits_and_folders_that_are_not_there(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"split: expected one of 'train', 'val', 'none' .* got 'test'"):
        FolderDataset(folder, split="test")
    with pytest.raises(DataError, match="split: expected a split with pictures, got 'none', which is empty"):
        FolderDataset(folder, split="none")
    with pytest.raises(DataError, match=r"path: expected a folder or a zip file, .* no such file"):
        FolderDataset(tmp_path / "nowhere")
    for file in (folder / "labels").iterdir():
        file.unlink()
    (folder / "labels").rmdir()
    with pytest.raises(DataError, match="labels: expected a folder"):
        FolderDataset(folder)
    with pytest.raises(RangeError, match="size: expected"):
        FolderDataset(folder, size=(0, 4))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_zip_cut_short(folder: Path, tmp_path: Path, share: float) -> None:
    file = pack(folder, tmp_path / "set.zip")
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    with pytest.raises(DataError, match="path: expected a folder or a whole zip file"):
        FolderDataset(file)


def test_a_damaged_member_of_a_zip(folder: Path, tmp_path: Path) -> None:
    file = pack(folder, tmp_path / "set.zip")
    with zipfile.ZipFile(file) as archive:
        offset = archive.getinfo("labels/b.png").header_offset + 60
    content = bytearray(file.read_bytes())
    content[offset] ^= 255
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"labels/b\.png: cannot be read from the zip"):
        FolderDataset(file, size=SIZE)


@pytest.mark.parametrize("index", [5, -1])
def test_numbers_outside(folder: Path, index: int) -> None:
    dataset = FolderDataset(folder, size=SIZE)
    for call in (
        dataset.item,
        lambda i: dataset.batch([0, i]),
        lambda i: dataset.partners([i], np.random.default_rng()),
    ):
        with pytest.raises(RangeError, match=rf"indices: expected numbers from 0 to 4, got \[{index}\]"):
            call(index)


# ------------------------------------------------------------------------------------------------------- partners


def test_partners_share_the_style_and_are_others(folder: Path, rng: np.random.Generator) -> None:
    (folder / "styles.json").write_text(json.dumps({"a": 7, "c": 7, "d": "x", "e": 7}))
    dataset = FolderDataset(folder, size=SIZE)
    assert dataset.has_partners
    drawn = np.stack([dataset.partners(range(5), rng) for _ in range(200)])
    assert drawn.dtype == np.int64
    assert [set(column.tolist()) for column in drawn.T] == [{2, 4}, {1}, {0, 4}, {3}, {0, 2}]
    assert 60 < (drawn[:, 0] == 2).sum() < 140


def test_without_styles_every_picture_is_its_own_partner(folder: Path, rng: np.random.Generator) -> None:
    dataset = FolderDataset(folder, size=SIZE)
    assert not dataset.has_partners
    assert dataset.partners([4, 1, 1], rng).tolist() == [4, 1, 1]
    assert dataset.partners([], rng).tolist() == []


def test_partners_stay_in_the_split(folder: Path, rng: np.random.Generator) -> None:
    (folder / "styles.json").write_text(json.dumps(dict.fromkeys(IDS, 0)))
    assert FolderDataset(folder, size=SIZE, split="val").partners([0, 0], rng).tolist() == [0, 0]


def test_an_unlisted_picture_does_not_fall_in_with_a_style_of_its_name(folder: Path, rng: np.random.Generator) -> None:
    (folder / "styles.json").write_text(json.dumps({"a": "b"}))
    assert FolderDataset(folder, size=SIZE).partners([0, 1], rng).tolist() == [0, 1]


# ------------------------------------------------------------------------------------------------------- order


@settings(deadline=None, max_examples=50)
@given(length=st.integers(1, 20), size=st.integers(1, 7), seed=st.integers(0, 99))
def test_an_epoch_holds_every_picture_once(length: int, size: int, seed: int) -> None:
    stream = np.concatenate([batch_indices(length, size, seed, step) for step in range(length * 3)])
    for epoch in range(len(stream) // length):
        assert sorted(stream[epoch * length : (epoch + 1) * length].tolist()) == list(range(length))


def test_epochs_and_seeds_differ_in_order() -> None:
    one, two = batch_indices(50, 50, 0, 0).tolist(), batch_indices(50, 50, 0, 1).tolist()
    other = batch_indices(50, 50, 1, 0).tolist()
    assert one != two
    assert one != other
    assert sorted(one) == sorted(two) == sorted(other)


def test_processes_share_what_one_would_do_alone() -> None:
    alone = [batch_indices(10, 6, 3, step).tolist() for step in range(7)]
    for step in range(7):
        shared = [batch_indices(10, 3, 3, step, rank=rank, world_size=2).tolist() for rank in range(2)]
        assert [*shared[0], *shared[1]] == alone[step]


def test_resuming_sees_the_same_data(folder: Path) -> None:
    dataset = FolderDataset(folder, size=SIZE)
    whole = list(itertools.islice(endless_batches(dataset, 3, 0), 12))
    resumed = list(itertools.islice(endless_batches(dataset, 3, 0, start=7), 5))
    for one, two in zip(whole[7:], resumed, strict=True):
        assert one.indices.tolist() == two.indices.tolist()
        assert torch.equal(one.images, two.images)


def test_order_arguments(folder: Path) -> None:
    dataset = FolderDataset(folder, size=SIZE)
    with pytest.raises(RangeError, match="batch_size"):
        endless_batches(dataset, 0, 0)
    for wrong in ({"length": 0}, {"seed": -1}, {"step": -1}, {"rank": 1}, {"rank": -1}):
        with pytest.raises(RangeError, match="length, batch_size, seed, step, rank, world_size"):
            batch_indices(**{"length": 3, "batch_size": 2, "seed": 0, "step": 0, **wrong})
