"""Tables of pairs of photographs: who shall wear whose clothes.

.. code-block:: text

    person,garment,region,person_pose,garment_pose
    people/anna.jpg,shop/coat.jpg,top,,
    people/ben.jpg,people/anna.jpg,bottom,poses/ben.json,

In tables of outfits a column per garment, called as its region is, stands in the place of garment and region:

.. code-block:: text

    person,top,bottom,outerwear
    people/anna.jpg,shop/shirt.jpg,shop/jeans.jpg,
    people/ben.jpg,shop/shirt.jpg,,shop/jacket.jpg

Paths are relative to the table. The columns `person_pose` and `garment_pose` may be missing or empty; else they name
JSON files of 17 x [x, y, score] in the photograph's pixels. A column `garment_worn` may say whether somebody wears the
row's garments in their pictures: yes, no, or empty to tell by the picture.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from styletryon.errors import DataError, RegionError
from styletryon.labels import order_worn, region_name, resolve_region

_NEEDED = ("person", "garment")
_POSES = ("person_pose", "garment_pose")
_WORN = {"": None, "yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
_EXTRA = "\0"  # no heading is called so

OUTFIT = ("top", "bottom", "outerwear", "dress")
"""The columns of an outfit: the regions of its garments."""


@dataclass(frozen=True)
class PairRow:
    """A row of a table of pairs.

    Attributes:
        line: Its line in the file, from 1; the heading is a line too.
        person: The person's photograph, as the table names it.
        garment: The photograph of the garment's wearer.
        region: Name of the region, or label classes as `resolve_region` reads them.
        person_pose: File of the person's keypoints; empty to estimate them.
        garment_pose: The same for the garment's wearer.
        out: Name of the picture to write; empty where the table has no such column.
        fault: Why the row cannot be used; empty if it can.
        outfit: Of a row that names several garments in columns of their own: region -> the photograph of that one's
            wearer. `garment` and `region` are empty then.
        garment_worn: Whether somebody wears the row's garments in their pictures; None where the table does not say.
    """

    line: int
    person: str
    garment: str
    region: str
    person_pose: str = ""
    garment_pose: str = ""
    out: str = ""
    fault: str = ""
    outfit: Mapping[str, str] = field(default_factory=dict)
    garment_worn: bool | None = None


def read_pairs(
    path: str | os.PathLike[str],
    *,
    region: str | None = None,
    out: bool = False,
    outfits: bool = False,
) -> list[PairRow]:
    """Read a table of pairs. No photograph is opened.

    Args:
        path: A CSV file in UTF-8 with a heading, see the module's docstring.
        region: The region of rows that name none; None refuses such rows.
        out: Whether there may be a column `out`.
        outfits: Whether there may be columns of outfits, `OUTFIT`.

    Returns:
        The rows in their order; those that cannot be used say why.

    Raises:
        DataError: If the file cannot be read, or its heading is not that of a table of pairs.
    """
    path = Path(path)
    needed: tuple[str, ...] = _NEEDED if region is not None else (*_NEEDED, "region")
    extra = (*(["out"] if out else []), *_POSES, "garment_worn", *(OUTFIT if outfits else ()))
    possible = (*(name for name in ("region",) if name not in needed), *extra)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restkey=_EXTRA, restval="", skipinitialspace=True, strict=True)
            heading = [name.strip() for name in reader.fieldnames or ()]
            if outfits and set(heading) & set(OUTFIT):
                needed = ("person",)
                possible = (*(name for name in (*_NEEDED, "region") if name not in needed), *extra)
            if not set(needed) <= set(heading) <= {*needed, *possible} or len(set(heading)) < len(heading):
                raise DataError(
                    f"expected the columns {', '.join(needed)}, and perhaps {', '.join(possible)}, in the first line "
                    f"of {str(path)!r}, got {', '.join(heading) or 'nothing'}",
                    argument="table",
                )
            reader.fieldnames = heading
            return [_read_row(reader.line_num, cells, needed, region or "") for cells in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"expected a CSV file in UTF-8, got {str(path)!r} ({error})", argument="table") from error


def _read_row(line: int, cells: dict[str, Any], needed: tuple[str, ...], region: str) -> PairRow:
    extra = cells.pop(_EXTRA, ())
    told = f"expected {len(cells)} cells, got {len(cells) + len(extra)}; quote cells that hold commas"
    too_many = [told] if extra else []
    row: dict[str, Any] = {name: str(cell).strip() for name, cell in cells.items()}
    said = row.pop("garment_worn", "")
    row["garment_worn"] = _WORN.get(said.lower())
    unclear = [] if said.lower() in _WORN else [f"garment_worn: expected yes, no or an empty cell, got {said!r}"]
    outfit = {name: row.pop(name) for name in OUTFIT if name in row}
    outfit = {name: cell for name, cell in outfit.items() if cell}
    if outfit:
        return _read_outfit(line, row, outfit, too_many or unclear)
    row.setdefault("garment", "")
    needed = (*needed, "garment") if "garment" not in needed else needed
    faults = [f"{name}: expected a value, got an empty cell" for name in needed if not row[name]]
    faults = too_many or [*faults, *unclear]
    row["region"] = row.get("region") or region
    try:
        resolve_region(row["region"])
    except RegionError as error:
        faults = faults or [str(error)]
    else:
        row["region"] = _plain_name(row["region"])
    return PairRow(line, **row, fault="; ".join(faults))


def _read_outfit(line: int, row: dict[str, Any], outfit: dict[str, str], found: list[str]) -> PairRow:
    faults = [] if row["person"] else ["person: expected a value, got an empty cell"]
    beside = [name for name in ("garment", "region", "garment_pose") if row.pop(name, "")]
    if beside:
        faults.append(f"{', '.join(beside)}: expected empty cells beside {', '.join(outfit)}")
    try:
        outfit = {str(name): outfit[str(name)] for name in order_worn(outfit)}
    except RegionError as error:
        faults.append(str(error))
    return PairRow(line, garment="", region="", **row, outfit=outfit, fault="; ".join(found or faults))


def _plain_name(region: str) -> str:
    """Return the name of a region that was given by an alias; label classes stay as they are."""
    try:
        return region_name(region)
    except RegionError:
        return region
