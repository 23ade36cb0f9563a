"""One photograph: read it, find its pose, frame it, cut it out, write it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from styletryon.data.folder import read_labels
from styletryon.data.preparation.gates import (
    FAILURES,
    Reason,
    cut_edges,
    refuse_frame,
    refuse_labels,
    refuse_pose,
)
from styletryon.data.preparation.photographs import Given, Photographs, main_person
from styletryon.errors import PersonNotFoundError, StyleTryOnError
from styletryon.labels import NUM_LABELS
from styletryon.photo import (
    Colour,
    Frame,
    Photograph,
    decode_image,
    save_image,
)
from styletryon.pose import Pose, PoseEstimator

Parser = Callable[[Image.Image, Pose], Any]
"""Finds label classes: takes an RGB picture and its pose, returns `(H, W)` integers 0..11 of the picture's size."""

FrameChooser = Callable[[Pose, tuple[int, int], tuple[int, int]], Frame]
"""Chooses the part of a photograph to show from its pose, its size and the model's; `photo.frame_person` is one."""


T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """The outcome for one photograph.

    Attributes:
        source: Its name in the folder or zip.
        id: Its name in the data set.
        reason: Why it was left out, "" if it was prepared.
        detail: The numbers or the message behind the reason; for a duplicate, the photograph that it repeats.
        box: Left, top, right and bottom of the part shown, in the photograph's pixels; None if it did not come to that.
        pose: Where the pose came from: "given", "estimated" (the bundled estimator), "callable", or "".
        labels: Where the labels came from: "given", "parser" or "".
        cut: The edges of the photograph that cut the person within the part shown.
        keypoints: 17 x [x, y, score] in the prepared picture's pixels, or None.
    """

    source: str
    id: str
    reason: str = ""
    detail: str = ""
    box: tuple[float, float, float, float] | None = None
    pose: str = ""
    labels: str = ""
    cut: tuple[str, ...] = ()
    keypoints: list[list[float]] | None = None

    @property
    def failed(self) -> bool:
        """True if the next run tries this photograph again."""
        return self.reason in {reason.value for reason in FAILURES}


@dataclass(frozen=True)
class Settings:
    """Settings of the preparation; everything in them changes what is written."""

    size: tuple[int, int]
    background: Colour | None
    strict: bool
    keep_side: bool
    frame: FrameChooser
    pose: PoseEstimator
    pose_source: str
    parser: Parser | None


class _LeftOut(Exception):
    """Ends the work on a photograph."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


class PhotographPreparer:
    """The work on one photograph, step by step.

    Args:
        photographs: Where it lies.
        given: Which one it is.
        settings: How it is prepared.
    """

    def __init__(self, photographs: Photographs, given: Given, settings: Settings) -> None:
        self._photographs, self._given, self._settings = photographs, given, settings
        self._known: dict[str, Any] = {}

    def prepare(self, out: Path) -> Outcome:
        """Write the picture and its labels into the folders of a data set, or say why not."""
        try:
            self._prepare(out)
        except _LeftOut as left_out:
            self._known |= {"reason": left_out.reason.value, "detail": left_out.detail}
        return Outcome(self._given.source, self._given.id, **self._known)

    def _prepare(self, out: Path) -> None:
        settings = self._settings
        given = self._given
        photo = _or(Reason.UNREADABLE, lambda: decode_image(self._photographs.read(given), name=given.source))
        if given.labels is None and settings.parser is None:
            raise _LeftOut(Reason.NO_LABELS, "no file of labels and no parser")
        pose = self._find_pose(photo)
        _check(refuse_pose(pose, keep_side=settings.keep_side))
        frame = _or(Reason.NO_PERSON, lambda: settings.frame(pose, pose.size, settings.size))
        frame = _to_the_pixel(frame)
        self._known["box"] = frame.box
        _check(refuse_frame(frame, pose, strict=settings.strict))
        labels = self._find_labels(photo, pose)
        shown = Photograph(photo, frame, pose, labels)
        classes = shown.fine_labels
        _check(refuse_labels(classes, frame, pose, strict=settings.strict))
        self._known["cut"] = tuple(cut_edges(classes > 0, frame))
        picture, fitted = shown.cut_out(settings.background)
        points = frame.to_model(pose).keypoints[0].double().numpy()
        self._known["keypoints"] = [[round(float(value), 3) for value in point] for point in points]
        save_image(picture, out / "images" / f"{self._given.id}.png")
        save_image(Image.fromarray(fitted), out / "labels" / f"{self._given.id}.png")

    def _find_pose(self, photo: Image.Image) -> Pose:
        size = (photo.height, photo.width)
        if self._given.keypoints is not None:
            points = _or(Reason.BAD_KEYPOINTS, lambda: main_person(self._given.keypoints))
            self._known["pose"] = "given"
            return Pose(torch.from_numpy(points), size)
        try:
            pose = self._settings.pose(photo)
        except PersonNotFoundError as error:
            raise _LeftOut(Reason.NO_PERSON, str(error)) from error
        except Exception as error:  # Whatever goes wrong inside a callable must not stop the other photographs.
            raise _LeftOut(Reason.ESTIMATE_FAILED, f"{type(error).__name__}: {error}") from error
        if not isinstance(pose, Pose) or len(pose) != 1 or pose.size != size:
            raise _LeftOut(Reason.ESTIMATE_FAILED, f"expected one pose of a picture of {size}, got {pose!r}"[:300])
        self._known["pose"] = self._settings.pose_source
        return Pose(pose.keypoints.detach().cpu(), size)

    def _find_labels(self, photo: Image.Image, pose: Pose) -> npt.NDArray[np.uint8]:
        files, file, parser = self._photographs.label_files, self._given.labels, self._settings.parser
        if file is not None and files is not None:
            labels = _or(Reason.BAD_LABELS, lambda: np.asarray(read_labels(files, file, self._given.id)))
            self._known["labels"] = "given"
        else:
            try:
                found: Any = parser(photo.copy(), pose) if parser is not None else None
                labels = np.asarray(found.detach().cpu() if isinstance(found, torch.Tensor) else found)
            except Exception as error:  # As above.
                raise _LeftOut(Reason.ESTIMATE_FAILED, f"{type(error).__name__}: {error}") from error
            self._known["labels"] = "parser"
        if labels.shape != (photo.height, photo.width) or not np.issubdtype(labels.dtype, np.integer):
            raise _LeftOut(
                Reason.BAD_LABELS,
                f"expected {photo.height}x{photo.width} integers as the upright photograph, "
                f"got {'x'.join(map(str, labels.shape))} {labels.dtype}",
            )
        if labels.min() < 0 or labels.max() >= NUM_LABELS:
            raise _LeftOut(Reason.BAD_LABELS, f"expected classes 0..{NUM_LABELS - 1}, got {labels.max()}")
        return labels.astype(np.uint8)


def _to_the_pixel(frame: Frame) -> Frame:
    """Round the box to hundredths of a pixel, so that the report holds exactly what was done."""
    left, top, right, bottom = (round(edge, 2) for edge in frame.box)
    return Frame((left, top, right, bottom), frame.photo_size, frame.size)


def _or(reason: Reason, step: Callable[[], T]) -> T:
    try:
        return step()
    except StyleTryOnError as error:
        raise _LeftOut(reason, str(error)) from error


def _check(refusal: tuple[Reason, str] | None) -> None:
    if refusal is not None:
        raise _LeftOut(*refusal)


__all__ = ["FrameChooser", "Outcome", "Parser", "PhotographPreparer", "Settings"]
