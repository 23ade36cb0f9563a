"""The photographs of a table of pairs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from styletryon.data.pairs import PairRow
from styletryon.errors import StyleTryOnError
from styletryon.photo import Photograph, read_image
from styletryon.pipeline import TryOnPipeline, wears_dress
from styletryon.pose import Pose, PoseEstimator, read_pose


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
        estimate_pose: Finds the pose in a picture. None for the pipeline's own network.
    """

    def __init__(self, folder: Path, pipeline: TryOnPipeline, estimate_pose: PoseEstimator | None = None) -> None:
        self._folder = folder
        self._pipeline = pipeline
        self._estimate = estimate_pose
        self._known: dict[tuple[str, str, bool], Photograph] = {}

    def pair(self, row: PairRow) -> tuple[Photograph, Photograph] | RowFault:
        """Read the person and the garment of a row, or say why not."""
        if row.fault:
            return RowFault(row.line, row.fault)
        found = []
        for role, photo, pose, dressed in (
            ("person", row.person, row.person_pose, False),
            ("garment", row.garment, row.garment_pose, wears_dress(row.region)),
        ):
            try:
                found.append(self._read(photo, pose, dressed))
            except (StyleTryOnError, OSError) as error:
                return RowFault(row.line, f"{role} {photo}: {error}")
        return found[0], found[1]

    def _read(self, photo: str, pose: str, dressed: bool) -> Photograph:
        if (photo, pose, dressed) not in self._known:
            image = read_image(self._folder / photo)
            known: Pose | None = None
            if pose:
                known = read_pose(self._folder / pose, (image.height, image.width))
            elif self._estimate is not None:
                known = self._estimate(image)
            self._known[photo, pose, dressed] = self._pipeline.read(image, pose=known, dressed=dressed)
        return self._known[photo, pose, dressed]
