"""Reading poses from files."""

from __future__ import annotations

import json
import os
from pathlib import Path

from styletryon.errors import PoseError
from styletryon.pose._pose import Pose


def read_pose(
    file: str | os.PathLike[str], size: tuple[int, int], *, entry: str | None = None, argument: str = "pose"
) -> Pose:
    """Read the pose of one person from a JSON file.

    Args:
        file: 17 x [x, y, score] in pixels of the picture; or an object of name -> such keypoints, as in the
            ``keypoints.json`` of a data set.
        size: Height and width of the picture in pixels.
        entry: Name to look up where the file holds an object. None refuses objects.
        argument: What errors name.

    Returns:
        The pose.

    Raises:
        PoseError: If the file cannot be read, has no such entry, or the keypoints cannot be used.
    """
    try:
        points = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PoseError(
            f"expected a JSON file of 17 x [x, y, score], got {str(file)!r} ({error})", argument=argument
        ) from error
    if isinstance(points, dict) and entry is not None:
        if entry not in points:
            raise PoseError(f"expected an entry {entry!r} in {str(file)!r}, got none; add it", argument=argument)
        points = points[entry]
    try:
        pose = Pose(points, size)
    except PoseError as error:
        raise PoseError(f"{error.problem} (in {str(file)!r})", argument=argument) from error
    if len(pose) != 1:
        raise PoseError(f"expected the keypoints of one person in {str(file)!r}, got {len(pose)}", argument=argument)
    return pose
