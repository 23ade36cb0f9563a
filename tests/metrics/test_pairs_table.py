"""Tables of pairs: what is read, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from styletryon.errors import DataError
from styletryon.metrics.pairs_table import PhotographReader, RowFault, TableRow, read_table
from styletryon.photo import crop, frame_person, read_image

HEADING = "person,garment,region,person_pose,garment_pose\n"


def written(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "pairs.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_rows_are_read_with_their_lines(tmp_path: Path) -> None:
    text = 'garment,person,region\nb.jpg, a.jpg ,Upper-Body\n\n"c,\nd.jpg",b.jpg,dress\ne.jpg,f.jpg,full\n'
    rows, faults = read_table(written(tmp_path, text, "utf-8-sig"))
    assert rows == [
        TableRow(2, "a.jpg", "b.jpg", "top"),
        TableRow(5, "b.jpg", "c,\nd.jpg", "dress"),
        TableRow(6, "f.jpg", "e.jpg", "full"),
    ]
    assert faults == []


def test_bad_rows_have_reasons(tmp_path: Path) -> None:
    text = HEADING + "a,b,top,p,g\na,,top,,\na,b\na,b,sleeve,,\na,b,top,p,g,more,cells\n"
    rows, faults = read_table(written(tmp_path, text))
    assert rows == [TableRow(2, "a", "b", "top", "p", "g")]
    unknown = faults.pop(2)
    assert unknown.line == 5
    assert unknown.reason.startswith("region: expected one of 'top', 'bottom', 'dress', 'full'")
    assert unknown.reason.endswith("got 'sleeve'")
    assert faults == [
        RowFault(3, "garment: expected a value, got an empty cell"),
        RowFault(4, "region: expected a value, got an empty cell"),
        RowFault(6, "expected 5 cells, got 7; quote cells that hold commas"),
    ]


@pytest.mark.parametrize(
    "text",
    ["", "person,garment\na,b\n", "person,garment,region,pose\na,b,top,p\n", "person,person,garment,region\na,a,b,top"],
)
def test_headings_are_checked(text: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="table: expected the columns person, garment, region, and perhaps person_pose"):
        read_table(written(tmp_path, text))


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"table: expected a CSV file in UTF-8, got .*none\.csv"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(DataError, match="table: expected a CSV file in UTF-8"):
        read_table(written(tmp_path, HEADING + "ä,b,top,,\n", "latin-1"))
    with pytest.raises(DataError, match="table: expected a CSV file in UTF-8"):
        read_table(written(tmp_path, HEADING + '"a,b,top,,\n'))


def test_photographs_are_framed_as_try_on_frames_them(folder: Path, known_pose) -> None:
    reader = PhotographReader(folder, (32, 24), known_pose)
    row = TableRow(2, "images/0.png", "images/1.png", "top")
    pair = reader.pair(row)
    assert not isinstance(pair, RowFault)
    photo = read_image(folder / "images/0.png")
    pose = known_pose(photo)
    frame = frame_person(pose, (64, 48), (32, 24))
    image, inside = crop(photo, frame)
    assert torch.equal(pair[0].image, image)
    assert torch.equal(pair[0].mask, inside[0])
    assert torch.equal(pair[0].pose.keypoints, frame.to_model(pose).keypoints)
    again = reader.pair(row)
    assert not isinstance(again, RowFault)
    assert again[0] is pair[0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"person": "images/none.png"}, "person images/none.png: image: "),
        ({"garment": "keypoints.json"}, "garment keypoints.json: image: "),
        ({"person_pose": "none.json"}, "person images/0.png: pose: expected a JSON file of 17 x"),
        ({"garment_pose": "split.json"}, "garment images/1.png: pose: expected"),
        ({"garment_pose": "images/0.png"}, "garment images/1.png: pose: expected a JSON file of 17 x"),
    ],
)
def test_what_cannot_be_read_is_said(change: dict[str, str], reason: str, folder: Path, known_pose) -> None:
    row = TableRow(7, **{"person": "images/0.png", "garment": "images/1.png", "region": "top", **change})
    found = PhotographReader(folder, (32, 24), known_pose).pair(row)
    assert isinstance(found, RowFault)
    assert found.line == 7
    assert found.reason.startswith(reason)


def test_nobody_in_a_photograph_is_said(folder: Path) -> None:
    from PIL import Image

    from styletryon.pose import BodyEstimator

    Image.new("RGB", (48, 64), "grey").save(folder / "empty.png")
    reader = PhotographReader(folder, (32, 24), BodyEstimator.from_pretrained())
    found = reader.pair(TableRow(3, "empty.png", "images/1.png", "top"))
    assert isinstance(found, RowFault)
    assert found.reason.startswith("person empty.png: image: expected a photograph that shows a person")
