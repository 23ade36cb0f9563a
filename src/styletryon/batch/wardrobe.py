"""Projections of photographs, each made once and kept in a folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from PIL import Image

from styletryon._arguments import renamed
from styletryon._files import write_text
from styletryon.errors import DataError, StyleTryOnError
from styletryon.latent import Latent
from styletryon.photo import Frame, Photograph, read_image, save_image
from styletryon.pipeline import TryOnPipeline
from styletryon.pose import Pose, read_pose

_HELD_PIXELS = 100_000_000  # of photographs that are kept in memory

Shot = tuple[str | os.PathLike[str], str | os.PathLike[str] | None, bool]
"""A picture's file, its pose's, and whether who is in it is known to wear a dress."""


class Wardrobe:
    """Projections of photographs: each is made once, and kept on disk."""

    def __init__(self, folder: Path, pipeline: TryOnPipeline) -> None:
        self.folder = folder
        self.pipeline = pipeline
        self.settings = f"{pipeline.model.fingerprint} {pipeline.preset} {pipeline.seed}"
        self._held: OrderedDict[str, Latent | StyleTryOnError] = OrderedDict()

    def fetch(self, wanted: Iterable[Shot]) -> None:
        """Project photographs that are not known yet side by side, which takes less time than one by one."""
        waiting: dict[str, Photograph] = {}
        for photo, pose, dressed in dict.fromkeys(wanted):
            try:
                key = self._key(photo, pose, dressed)
                if key not in self._held and key not in waiting and not self._is_kept(key):
                    waiting[key] = self._prepare(photo, pose, dressed)
            except Exception:  # `get` says why, to each row that asks
                continue
            if len(waiting) == self.pipeline.batch_size or sum(map(_pixels, waiting.values())) > _HELD_PIXELS:
                self._try_project(waiting)
                waiting = {}
        self._try_project(waiting)

    def get(
        self, photo: str | os.PathLike[str], pose: str | os.PathLike[str] | None, dressed: bool = False
    ) -> Latent:
        """Return the latent of a photograph, with its source; `dressed` as in `prepare`.

        Raises:
            StyleTryOnError: If it cannot be projected; what failed once fails again at once.
        """
        key = self._key(photo, pose, dressed)
        if key not in self._held:
            try:
                known = self._load(key, Path(photo))
                if known is None:
                    self._project({key: self._prepare(photo, pose, dressed)})
                else:
                    self._hold(key, known)
            except StyleTryOnError as error:
                self._hold(key, error)
        self._held.move_to_end(key)
        held = self._held[key]
        if isinstance(held, StyleTryOnError):
            with renamed({"image": Path(photo).name, "pose": Path(pose or photo).name}):
                raise held
        return held

    def _hold(self, key: str, latent: Latent | StyleTryOnError) -> None:
        self._held[key] = latent
        while len(self._held) > 1 and sum(map(_pixels, self._held.values())) > _HELD_PIXELS:
            self._held.popitem(last=False)

    def _key(self, photo: str | os.PathLike[str], pose: str | os.PathLike[str] | None, dressed: bool) -> str:
        try:
            contents = [Path(photo).read_bytes(), b"" if pose is None else Path(pose).read_bytes()]
        except (OSError, ValueError) as error:
            name = getattr(error, "filename", None) or photo
            raise DataError(f"{getattr(error, 'strerror', None) or error}", argument=os.fspath(name)) from error
        digest = hashlib.blake2b(f"{self.settings}{' dress' if dressed else ''}".encode(), digest_size=16)
        for content in contents:
            digest.update(hashlib.blake2b(content).digest())
        return digest.hexdigest()

    def _is_kept(self, key: str) -> bool:
        return (self.folder / f"{key}.json").is_file()

    def _load(self, key: str, photo: Path) -> Latent | None:
        file = self.folder / f"{key}.safetensors"
        try:
            known = json.loads((self.folder / f"{key}.json").read_text(encoding="utf-8"))
            frame = Frame(**{name: tuple(value) for name, value in known["frame"].items()})
            pose = Pose(known["keypoints"], frame.photo_size)
            latent = Latent.load(file, device=self.pipeline.device)
            with Image.open(self.folder / f"{key}.png") as picture:
                labels = np.array(picture, dtype=np.uint8)
        except (OSError, ValueError, TypeError, KeyError):  # not there, or half of it: it is made anew
            return None
        return replace(latent, photograph=(Photograph(read_image(photo), frame, pose, labels),))

    def _prepare(
        self, photo: str | os.PathLike[str], pose: str | os.PathLike[str] | None, dressed: bool
    ) -> Photograph:
        known = None if pose is None else read_pose(pose, read_image(photo).size[::-1])
        return self.pipeline.read(photo, pose=known, dressed=dressed)

    def _try_project(self, photographs: Mapping[str, Photograph]) -> None:
        # One of them may spoil it, or they may be too many at once: `get` then projects each alone.
        with contextlib.suppress(Exception):
            self._project(photographs)

    def _project(self, photographs: Mapping[str, Photograph]) -> None:
        latents = self.pipeline.project_photographs(list(photographs.values()))
        for (key, one), latent in zip(photographs.items(), latents, strict=True):
            latent.save(self.folder / f"{key}.safetensors", photograph=False)
            if one.pose is None or one.labels is None:
                raise DataError("expected a photograph with pose and labels, got one without", argument=key)
            save_image(Image.fromarray(one.labels), self.folder / f"{key}.png")
            keypoints = one.pose.keypoints[0].tolist()
            known = json.dumps({"frame": asdict(one.frame), "keypoints": keypoints})
            write_text(self.folder / f"{key}.json", known)  # last: it says that the others are whole
            self._hold(key, latent)


def _pixels(held: Latent | Photograph | StyleTryOnError) -> int:
    photograph = held.photograph[0] if isinstance(held, Latent) and held.photograph else held
    return photograph.picture.width * photograph.picture.height if isinstance(photograph, Photograph) else 1
