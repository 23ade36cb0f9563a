"""Tables of pairs: what is read, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from styletryon.data.pairs import PairRow, read_pairs
from styletryon.errors import DataError

HEADING = "person,garment,region,person_pose,garment_pose\n"


def written(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "pairs.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_rows_are_read_with_their_lines(tmp_path: Path) -> None:
    text = 'garment,person,region\nb.jpg, a.jpg ,top\n\n"c,\nd.jpg", "b.jpg",One-Pieces\ne.jpg,f.jpg,top+legwear\n'
    assert read_pairs(written(tmp_path, text, "utf-8-sig")) == [
        PairRow(2, "a.jpg", "b.jpg", "top"),
        PairRow(5, "b.jpg", "c,\nd.jpg", "dress"),
        PairRow(6, "f.jpg", "e.jpg", "top+legwear"),
    ]


def test_bad_rows_have_reasons(tmp_path: Path) -> None:
    text = HEADING + "a,b,top,p,g\na,,top,,\na,b\na,b,sleeve,,\na,b,top,p,g,more,cells\n"
    rows = read_pairs(written(tmp_path, text))
    assert rows[0] == PairRow(2, "a", "b", "top", "p", "g")
    assert [(row.line, row.fault) for row in rows[1:] if row.line != 5] == [
        (3, "garment: expected a value, got an empty cell"),
        (4, "region: expected a value, got an empty cell"),
        (6, "expected 5 cells, got 7; quote cells that hold commas"),
    ]
    assert rows[3].fault.startswith("region: ")
    assert rows[3].fault.endswith("got 'sleeve'")


def test_a_region_for_rows_that_name_none(tmp_path: Path) -> None:
    table = written(tmp_path, "person,garment,region,out\na,b,,x.png\nc,d,bottom,\n")
    rows = read_pairs(table, region="tops", out=True)
    assert rows == [PairRow(2, "a", "b", "top", out="x.png"), PairRow(3, "c", "d", "bottom")]
    assert read_pairs(written(tmp_path, "person,garment\na,b\n"), region="full") == [PairRow(2, "a", "b", "full")]


def test_a_row_says_whether_its_garment_is_worn(tmp_path: Path) -> None:
    text = "person,garment,region,garment_worn\na,b,top,yes\na,b,top,No\na,b,top,\na,b,top,x\n"
    rows = read_pairs(written(tmp_path, text))
    assert [row.garment_worn for row in rows] == [True, False, None, None]
    assert [row.fault for row in rows] == ["", "", "", "garment_worn: expected yes, no or an empty cell, got 'x'"]


def test_outfits_have_a_column_per_garment(tmp_path: Path) -> None:
    text = (
        "person,outerwear,top,bottom,dress,garment,region,out\na,c,t,b,,,,x.png\na,,t,,,,,\na,,,,,g,bottom,\n"
        "a,,,b,d,,,\na,,t,,,g,top,\n,,t,,,,,\na,,,,,,,\na,,t,b,,,,,more\n"
    )
    rows = read_pairs(written(tmp_path, text), region="top", out=True, outfits=True)
    assert rows[0] == PairRow(2, "a", "", "", out="x.png", outfit={"bottom": "b", "top": "t", "outerwear": "c"})
    assert list(rows[0].outfit) == ["bottom", "top", "outerwear"]
    assert rows[1] == PairRow(3, "a", "", "", outfit={"top": "t"})
    assert rows[2] == PairRow(4, "a", "g", "bottom")
    assert rows[3].fault.startswith("garment: expected garments that can be worn together, got 'bottom' and 'dress'")
    assert [row.fault for row in rows[4:]] == [
        "garment, region: expected empty cells beside top",
        "person: expected a value, got an empty cell",
        "garment: expected a value, got an empty cell",
        "expected 8 cells, got 9; quote cells that hold commas",
    ]
    short = read_pairs(written(tmp_path, "person,top\na,t\na,\n"), region="top", outfits=True)
    assert short[0] == PairRow(2, "a", "", "", outfit={"top": "t"})
    assert short[1].fault == "garment: expected a value, got an empty cell"
    with pytest.raises(DataError, match="expected the columns person, and perhaps garment, region, person_pose, garm"):
        read_pairs(written(tmp_path, "top\nt\n"), region="top", outfits=True)
    with pytest.raises(DataError, match="got person, garment, region, top"):
        read_pairs(written(tmp_path, "person,garment,region,top\na,g,top,t\n"))


@pytest.mark.parametrize(
    "text",
    ["", "person,garment\na,b\n", "person,garment,region,pose\na,b,top,p\n", "person,person,garment,region\na,a,b,top",
     "person,garment,region,out\na,b,top,c.png\n"],
)
def test_headings_are_checked(text: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="table: expected the columns person, garment, region, and perhaps person_pose"):
        read_pairs(written(tmp_path, text))


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"table: expected a CSV file in UTF-8, got .*none\.csv"):
        read_pairs(tmp_path / "none.csv")
    with pytest.raises(DataError, match="table: expected a CSV file in UTF-8"):
        read_pairs(written(tmp_path, HEADING + "ä,b,top,,\n", "latin-1"))
    with pytest.raises(DataError, match="table: expected a CSV file in UTF-8"):
        read_pairs(written(tmp_path, HEADING + '"a,b,top,,\n'))
