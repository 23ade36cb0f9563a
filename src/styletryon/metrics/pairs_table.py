"""The photographs of a table of pairs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from styletryon.data.pairs import PairRow
from styletryon.errors import StyleTryOnError
from styletryon.labels import resolve_region, title
from styletryon.photo import Photograph, read_image
from styletryon.pipeline import TryOnPipeline, wears_dress
from styletryon.pose import Pose, PoseEstimator, read_pose
from styletryon.unworn import worn_as, worn_by_model, worn_label


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
    """Reads photographs of a table as `try_on` reads them, each once.

    Args:
        folder: The folder that paths are relative to.
        pipeline: Reads the photographs.
        estimate_pose: Finds the pose in a picture of somebody. None for the pipeline's own network.
        garment_worn: Of rows that do not say: whether somebody wears the garment in its picture. None to tell by the
            picture.
    """

    def __init__(
        self,
        folder: Path,
        pipeline: TryOnPipeline,
        estimate_pose: PoseEstimator | None = None,
        garment_worn: bool | None = None,
    ) -> None:
        self._folder = folder
        self._pipeline = pipeline
        self._estimate = estimate_pose
        self._garment_worn = garment_worn
        self._known: dict[tuple[str, str, str, bool | None], Photograph] = {}

    def pair(self, row: PairRow) -> tuple[Photograph, Photograph] | RowFault:
        """Read the person and the garment of a row, or say why not.

        A garment that nobody wears is put on a neutral person, as it is for its projection.
        """
        if row.fault:
            return RowFault(row.line, row.fault)
        worn = self._garment_worn if row.garment_worn is None else row.garment_worn
        found = []
        for role, photo, pose, region, somebody in (
            ("person", row.person, row.person_pose, None, True),
            ("garment", row.garment, row.garment_pose, row.region, worn),
        ):
            try:
                photograph = self._read(photo, pose, region, somebody)
                if not photograph.worn:
                    worn_as(worn_label(photograph), resolve_region(row.region))
                    photograph = worn_by_model(photograph, self._pipeline.model)
                found.append(photograph)
            except (StyleTryOnError, OSError) as error:
                return RowFault(row.line, f"{role} {photo}: {error}")
        return found[0], found[1]

    def _read(self, photo: str, pose: str, region: str | None, worn: bool | None) -> Photograph:
        if worn is None and pose:
            worn = True
        elif worn is None and self._estimate is not None:
            worn = self._pipeline.is_worn(self._folder / photo)
        dressed = "dress" if region is not None and wears_dress(region) else ""
        asked = (photo, pose, dressed if worn or region is None else title(region), worn)
        if asked not in self._known:
            image = read_image(self._folder / photo)
            known: Pose | None = None
            if pose:
                known = read_pose(self._folder / pose, (image.height, image.width))
            elif self._estimate is not None and worn:
                known = self._estimate(image)
            found = self._pipeline.read(image, pose=known, region=region, worn=worn)
            if found.worn:  # whoever is a person in one row and wears the garment of another counts as one photograph
                found = self._known.setdefault((photo, pose, dressed, True), found)
            self._known[asked] = found
        return self._known[asked]
