"""Tables of pairs of photographs: who shall wear whose clothes.

.. code-block:: text

    person,garment,region,person_pose,garment_pose
    people/anna.jpg,shop/coat.jpg,top,,
    people/ben.jpg,people/anna.jpg,bottom,poses/ben.json,

Paths are relative to the table. The columns `person_pose` and `garment_pose` may be missing or empty; else they name
JSON files of 17 x [x, y, score] in the photograph's pixels.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from styletryon.errors import DataError, RegionError
from styletryon.labels import region_name, resolve_region

_NEEDED = ("person", "garment")
_POSES = ("person_pose", "garment_pose")
_EXTRA = "\0"  # no heading is called so


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
    """

    line: int
    person: str
    garment: str
    region: str
    person_pose: str = ""
    garment_pose: str = ""
    out: str = ""
    fault: str = ""


def read_pairs(path: str | os.PathLike[str], *, region: str | None = None, out: bool = False) -> list[PairRow]:
    """Read a table of pairs. No photograph is opened.

    Args:
        path: A CSV file in UTF-8 with a heading, see the module's docstring.
        region: The region of rows that name none; None refuses such rows.
        out: Whether there may be a column `out`.

    Returns:
        The rows in their order; those that cannot be used say why.

    Raises:
        DataError: If the file cannot be read, or its heading is not that of a table of pairs.
    """
    path = Path(path)
    needed = _NEEDED if region is not None else (*_NEEDED, "region")
    possible = (*(name for name in ("region",) if name not in needed), *(["out"] if out else []), *_POSES)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restkey=_EXTRA, restval="", skipinitialspace=True, strict=True)
            heading = [name.strip() for name in reader.fieldnames or ()]
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
    row = {name: str(cell).strip() for name, cell in cells.items()}
    faults = [f"{name}: expected a value, got an empty cell" for name in needed if not row[name]]
    if extra:
        faults = [f"expected {len(row)} cells, got {len(row) + len(extra)}; quote cells that hold commas"]
    row["region"] = row.get("region") or region
    try:
        resolve_region(row["region"])
    except RegionError as error:
        faults = faults or [str(error)]
    else:
        row["region"] = _plain_name(row["region"])
    return PairRow(line, **row, fault="; ".join(faults))


def _plain_name(region: str) -> str:
    """Return the name of a region that was given by an alias; label classes stay as they are."""
    try:
        return region_name(region)
    except RegionError:
        return region
