"""Projections of photographs, each made once and kept in a folder."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np
from PIL import Image

from styletryon._arguments import renamed
from styletryon._files import write_text
from styletryon.batch.storage import Folder, Place, fetched
from styletryon.batch.table import reason_of
from styletryon.errors import DataError, StyleTryOnError
from styletryon.labels import title
from styletryon.latent import Latent
from styletryon.photo import Frame, Photograph, read_image, save_image
from styletryon.pipeline import TryOnPipeline, wears_dress
from styletryon.pose import Pose, read_pose

_HELD_PIXELS = 100_000_000  # of photographs that are kept in memory


class Shot(NamedTuple):
    """A photograph, and as what it is read.

    Attributes:
        photo: Its file.
        pose: That of the keypoints in it, or None to find them.
        region: Where the garment that it shows shall be worn; None for a person.
        worn: Whether somebody wears the garment in it; None to tell by the picture.
    """

    photo: Place
    pose: Place | None = None
    region: str | None = None
    worn: bool | None = None

    @property
    def role(self) -> str:
        """What `try_on` calls it."""
        return "person" if self.region is None else "garment"


class Wardrobe:
    """Projections of photographs: each is made once, and kept on disk."""

    def __init__(self, folder: Folder, pipeline: TryOnPipeline) -> None:
        self.folder = folder
        self.pipeline = pipeline
        self.settings = f"{pipeline.model.fingerprint} {pipeline.preset} {pipeline.seed}"
        self._held: OrderedDict[str, Latent] = OrderedDict()
        self._refused: dict[Shot, StyleTryOnError] = {}
        self._keys: dict[Shot, str] = {}  # so that a file, which may be far away, is read for it once

    def fetch(self, wanted: Iterable[Shot]) -> None:
        """Project photographs that are not known yet side by side, which takes less time than one by one."""
        waiting: dict[str, Photograph] = {}
        for shot in dict.fromkeys(wanted):
            try:
                key = self._key(shot)
                if key not in self._held and key not in waiting and not self._is_kept(key):
                    waiting[key] = self._prepare(shot)
            except Exception:  # `get` says why, to each row that asks
                continue
            if len(waiting) == self.pipeline.batch_size or sum(map(_pixels, waiting.values())) > _HELD_PIXELS:
                self._try_project(waiting)
                waiting = {}
        self._try_project(waiting)

    def keep(self, wanted: Sequence[Shot]) -> list[str]:
        """Project photographs that are not known yet; return why that failed, or an empty text, for each."""
        self.fetch(wanted)
        return [self._fault(shot) for shot in wanted]

    def _fault(self, shot: Shot) -> str:
        try:
            with _called_by_file(shot):
                if not self._is_kept(self._key(shot)):
                    self.get(shot)
        except Exception as error:
            return reason_of(error)
        return ""

    def get(self, shot: Shot) -> Latent:
        """Return the latent of a photograph, with its source.

        Raises:
            StyleTryOnError: If it cannot be projected; what failed once fails again at once.
        """
        if shot not in self._refused:
            try:
                return self._found(shot)
            except StyleTryOnError as error:
                self._refused[shot] = copy.copy(error)  # its traceback would keep pictures in memory
        with _called_by_file(shot):
            raise copy.copy(self._refused[shot])

    def _found(self, shot: Shot) -> Latent:
        key = self._key(shot)
        if key not in self._held:
            known = self._load(key, shot.photo)
            if known is None:
                self._project({key: self._prepare(shot)})
            else:
                self._hold(key, known)
        self._held.move_to_end(key)
        return self._held[key]

    def _hold(self, key: str, latent: Latent) -> None:
        self._held[key] = latent
        while len(self._held) > 1 and sum(map(_pixels, self._held.values())) > _HELD_PIXELS:
            self._held.popitem(last=False)

    def _key(self, shot: Shot) -> str:
        if shot not in self._keys:
            self._keys[shot] = self._digest(shot)
        return self._keys[shot]

    def _digest(self, shot: Shot) -> str:
        """A text that is equal exactly when the projections are."""
        try:
            with fetched(shot.photo) as file:
                contents, said = [file.read_bytes()], self._said(shot, file)
            contents.append(b"" if shot.pose is None else _read(shot.pose))
        except StyleTryOnError:
            raise
        except (OSError, ValueError) as error:
            name = getattr(error, "filename", None) or shot.photo
            raise DataError(f"{getattr(error, 'strerror', None) or error}", argument=os.fspath(name)) from error
        digest = hashlib.blake2b(f"{self.settings}{said}".encode(), digest_size=16)
        for content in contents:
            digest.update(hashlib.blake2b(content).digest())
        return digest.hexdigest()

    def _said(self, shot: Shot, file: Path) -> str:
        """Say as what a photograph is read: a garment by itself is another one in each region."""
        if shot.region is None:
            return ""
        worn = True if shot.worn is None and shot.pose is not None else shot.worn
        if not (self.pipeline.is_worn(file) if worn is None else worn):
            return f" alone in {title(shot.region)}"
        return " dress" if wears_dress(shot.region) else ""

    def _is_kept(self, key: str) -> bool:
        return self.folder.has(f"{key}.json")

    def _load(self, key: str, photo: Place) -> Latent | None:
        try:
            known = json.loads(self.folder.read(f"{key}.json"))
            frame = Frame(**{name: tuple(value) for name, value in known["frame"].items()})
            pose = Pose(known["keypoints"], frame.photo_size)
            with self.folder.fetched(f"{key}.safetensors") as file:
                latent = Latent.load(file, device=self.pipeline.device)
            with Image.open(io.BytesIO(self.folder.read(f"{key}.png"))) as picture:
                labels = np.array(picture, dtype=np.uint8)
        except (OSError, ValueError, TypeError, KeyError):  # not there, or half of it: it is made anew
            return None
        if latent.photograph is not None:  # a garment by itself, on a larger ground than in its file
            return latent
        with fetched(photo) as file:
            return replace(latent, photograph=(Photograph(read_image(file), frame, pose, labels),))

    def _prepare(self, shot: Shot) -> Photograph:
        with fetched(shot.photo) as file:
            known = None
            if shot.pose is not None:
                with fetched(shot.pose) as points:
                    known = read_pose(points, read_image(file).size[::-1])
            worn = True if shot.region is None else shot.worn
            return self.pipeline.read(file, pose=known, region=shot.region, worn=worn, name=shot.role)

    def _try_project(self, photographs: Mapping[str, Photograph]) -> None:
        # One of them may spoil it, or they may be too many at once: `get` then projects each alone.
        with contextlib.suppress(Exception):
            self._project(photographs)

    def _project(self, photographs: Mapping[str, Photograph]) -> None:
        latents = self.pipeline.project_photographs(list(photographs.values()))
        for (key, one), latent in zip(photographs.items(), latents, strict=True):
            self.folder.write(f"{key}.safetensors", partial(latent.save, photograph=not one.worn))
            if one.pose is None or one.labels is None:
                raise DataError("expected a photograph with pose and labels, got one without", argument=key)
            self.folder.write(f"{key}.png", partial(save_image, Image.fromarray(one.labels)))
            keypoints = one.pose.keypoints[0].tolist()
            known = json.dumps({"frame": asdict(one.frame), "keypoints": keypoints})
            # Last: it says that the others are whole.
            self.folder.write(f"{key}.json", partial(write_text, text=known))
            self._hold(key, latent)


def _called_by_file(shot: Shot) -> AbstractContextManager[None]:
    """Let errors name the file of a photograph."""
    photo, pose = PurePath(shot.photo).name, PurePath(shot.pose or shot.photo).name
    return renamed({"image": photo, shot.role: photo, "pose": pose, f"{shot.role}_pose": pose})


def _read(place: Place) -> bytes:
    with fetched(place) as file:
        return file.read_bytes()


def _pixels(held: Latent | Photograph) -> int:
    photograph = held.photograph[0] if isinstance(held, Latent) and held.photograph else held
    return photograph.picture.width * photograph.picture.height if isinstance(photograph, Photograph) else 1
