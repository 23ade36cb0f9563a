"""A table of pairs of photographs: who shall wear whose clothes.

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

from torch import Tensor

from styletryon.errors import DataError, RegionError, StyleTryOnError
from styletryon.labels import region_name
from styletryon.metrics._shared import PoseEstimator
from styletryon.photo import crop, frame_person, read_image
from styletryon.pose import Pose, read_pose

REQUIRED = ("person", "garment", "region")
OPTIONAL = ("person_pose", "garment_pose")

_EXTRA = "\0"  # no heading is called so


@dataclass(frozen=True)
class TableRow:
    """A row of the table.

    Attributes:
        line: Its line in the file, from 1; the heading is a line too.
        person: The person's photograph, as the table names it.
        garment: The photograph of the garment's wearer.
        region: Name of the region.
        person_pose: File of the person's keypoints; empty to estimate them.
        garment_pose: The same for the garment's wearer.
    """

    line: int
    person: str
    garment: str
    region: str
    person_pose: str = ""
    garment_pose: str = ""


@dataclass(frozen=True)
class RowFault:
    """A row that cannot be evaluated.

    Attributes:
        line: Its line in the file.
        reason: Why.
    """

    line: int
    reason: str


@dataclass(frozen=True, eq=False)
class Photograph:
    """A photograph as a generator is given it.

    Attributes:
        image: `(3, H, W)` in [-1, 1], of the generator's size.
        mask: `(H, W)` in [0, 1]: the share of each pixel inside the photograph.
        pose: The pose of one person, in pixels of `image`.
    """

    image: Tensor
    mask: Tensor
    pose: Pose


def read_table(path: str | os.PathLike[str]) -> tuple[list[TableRow], list[RowFault]]:
    """Read a table of pairs.

    Args:
        path: A CSV file in UTF-8 with a heading, see the module's docstring.

    Returns:
        The rows that can be read, and what is wrong with the others. No photograph is opened.

    Raises:
        DataError: If the file cannot be read, or its heading is not that of a table of pairs.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restkey=_EXTRA, restval="", strict=True)
            _check_heading(path, reader.fieldnames)
            read = [_read_row(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"expected a CSV file in UTF-8, got {path}: {error}", argument="table") from error
    rows = [row for row in read if isinstance(row, TableRow)]
    return rows, [fault for fault in read if isinstance(fault, RowFault)]


def _check_heading(path: Path, names: object) -> None:
    heading = [str(name).strip() for name in names] if isinstance(names, list) else []
    missing = [name for name in REQUIRED if name not in heading]
    unknown = [name for name in heading if name not in (*REQUIRED, *OPTIONAL)]
    if missing or unknown or len(set(heading)) < len(heading):
        raise DataError(
            f"expected the columns {', '.join(REQUIRED)}, and perhaps {', '.join(OPTIONAL)}, in the first line "
            f"of {path}, got {', '.join(heading) or 'nothing'}",
            argument="table",
        )


def _read_row(line: int, cells: dict[str, Any]) -> TableRow | RowFault:
    extra = cells.pop(_EXTRA, [])
    row = {name.strip(): str(cell).strip() for name, cell in cells.items()}
    if extra:
        return RowFault(line, f"expected {len(row)} cells, got {len(row) + len(extra)}; quote cells that hold commas")
    empty = [name for name in REQUIRED if not row[name]]
    if empty:
        return RowFault(line, f"{empty[0]}: expected a value, got an empty cell")
    try:
        row["region"] = region_name(row["region"])
    except RegionError as error:
        return RowFault(line, str(error))
    return TableRow(line, **row)


class PhotographReader:
    """Reads photographs of a table and finds the people in them, each once.

    Args:
        folder: What the paths are relative to.
        size: Height and width of the generator's pictures.
        estimate_pose: Finds the pose in a picture.
    """

    def __init__(self, folder: Path, size: tuple[int, int], estimate_pose: PoseEstimator) -> None:
        self._folder = folder
        self._size = size
        self._estimate = estimate_pose
        self._known: dict[tuple[str, str], Photograph] = {}

    def pair(self, row: TableRow) -> tuple[Photograph, Photograph] | RowFault:
        """Read the person and the garment of a row, or say why not."""
        found = []
        for role, photo, pose in (("person", row.person, row.person_pose), ("garment", row.garment, row.garment_pose)):
            try:
                found.append(self._read(photo, pose))
            except (StyleTryOnError, OSError) as error:
                return RowFault(row.line, f"{role} {photo}: {error}")
        return found[0], found[1]

    def _read(self, photo: str, pose: str) -> Photograph:
        if (photo, pose) not in self._known:
            image = read_image(self._folder / photo)
            size = (image.height, image.width)
            found = read_pose(self._folder / pose, size) if pose else self._estimate(image)
            frame = frame_person(found, size, self._size)
            picture, inside = crop(image, frame)
            self._known[photo, pose] = Photograph(picture, inside[0], frame.to_model(found))
        return self._known[photo, pose]
