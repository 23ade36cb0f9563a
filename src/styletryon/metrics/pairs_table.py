"""The photographs of a table of pairs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from styletryon.data.pairs import PairRow
from styletryon.errors import StyleTryOnError
from styletryon.photo import Photograph, frame_person, read_image
from styletryon.pose import PoseEstimator, read_pose


@dataclass(frozen=True)
class RowFault:
    """A row that cannot be evaluated.

    Attributes:
        line: Its line in the file.
        reason: Why.
    """

    line: int
    reason: str


class PhotographReader:
    """Reads photographs of a table and finds the people in them, each once.

    Args:
        folder: The folder that paths are relative to.
        size: Height and width of the generator's pictures.
        estimate_pose: Finds the pose in a picture.
    """

    def __init__(self, folder: Path, size: tuple[int, int], estimate_pose: PoseEstimator) -> None:
        self._folder = folder
        self._size = size
        self._estimate = estimate_pose
        self._known: dict[tuple[str, str], Photograph] = {}

    def pair(self, row: PairRow) -> tuple[Photograph, Photograph] | RowFault:
        """Read the person and the garment of a row, or say why not."""
        if row.fault:
            return RowFault(row.line, row.fault)
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
            self._known[photo, pose] = Photograph(image, frame_person(found, size, self._size), found)
        return self._known[photo, pose]
