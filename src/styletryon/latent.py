"""A picture in a generator's own terms: style codes, pose, noise, and where they came from."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from styletryon._arguments import find_device, whole
from styletryon._deprecated import deprecated_argument, warn_renamed
from styletryon._files import write_atomically
from styletryon.errors import CheckpointError, CheckpointNotFoundError, SaveError, ShapeError, StyleTryOnError
from styletryon.photo import Frame, Photograph, read_image
from styletryon.pose import Pose

_FORMAT = "styletryon.latent/1"

EDITABLE = 0.7
"""How much of a projection is kept in another pose or in other clothes; the rest is the encoder's. Less shows less
of a pattern, more is less right: `python -m tests.benchmarks.editability`."""

Styles = tuple[Tensor, ...]
"""The style codes (S-space, the paper's sigma) of a batch: one `(B, C_l)` tensor per styled layer."""


@deprecated_argument("source", "photograph", until="0.4")
@dataclass(frozen=True, eq=False)
class Latent:
    """A batch of people as a generator sees them: an immutable value.

    A `Latent` stands wherever an image does, so a photograph is projected once and tries on many garments.

    Attributes:
        styles: One `(B, C_l)` float32 tensor per styled layer: the paper's style vectors sigma.
        pose: The poses of the same `B` people, in the pixels of the generator's picture.
        noise: The noise maps, one `(B, 1, H_l, W_l)` tensor per convolution, or None for the generator's own.
        photograph: The photograph of each person, None for whoever has none; None where nobody has.
        report: Plain numbers about how the latent was found, such as the reconstruction error.
        model: The fingerprint of the generator that the styles belong to; empty when unknown.
        anchor: Style codes of the same people, shaped like `styles`, that are less alike but nearer to what the
            generator was trained on: those of the encoder, where the projection began. None where there are none; see
            `editable_styles`.
        tuning: Name of a weight of the generator -> what to add to it before it draws these people: what pivotal tuning
            found (`LatentProjector.tune`). None for the generator as it is. The styles belong to the generator as it
            is in either case, so that clothes go from one latent to another.
    """

    styles: Styles
    pose: Pose
    noise: tuple[Tensor, ...] | None = None
    photograph: tuple[Photograph | None, ...] | None = None
    report: Mapping[str, float] = field(default_factory=dict)
    model: str = ""
    anchor: Styles | None = None
    tuning: Mapping[str, Tensor] | None = None

    def __post_init__(self) -> None:
        count = len(self.pose)
        if not self.styles:
            raise ShapeError("expected a tensor per styled layer, got none", argument="styles")
        for name, group in (("styles", self.styles), ("noise", self.noise or ()), ("anchor", self.anchor or ())):
            for layer, tensor in enumerate(group):
                if tensor.shape[0] != count:
                    raise ShapeError(
                        f"expected a batch of {count}, one per pose, got shape {tuple(tensor.shape)}",
                        argument=f"{name}[{layer}]",
                    )
        if self.photograph is not None and len(self.photograph) != count:
            raise ShapeError(
                f"expected {count} entries, one per pose, got {len(self.photograph)}", argument="photograph"
            )

    def __len__(self) -> int:
        return len(self.pose)

    def __repr__(self) -> str:
        height, width = self.pose.size
        parts = [f"{len(self)} {'person' if len(self) == 1 else 'people'}", f"{width}x{height}"]
        parts.append(f"{len(self.styles)} layers on {self.device}")
        parts += [f"model {self.model}"] if self.model else []
        with_it = {"noise": self.noise, "photograph": self.photograph, "anchor": self.anchor, "tuning": self.tuning}
        parts += [name for name, item in with_it.items() if item is not None]
        if "reconstruction_psnr" in self.report:
            parts.append(f"{self.report['reconstruction_psnr']:.1f} dB")
        return f"Latent({', '.join(parts)})"

    def __getitem__(self, index: int | slice) -> Latent:
        if isinstance(index, slice):
            part = index
        else:
            place = whole(index, "index", kind=ShapeError)
            if not -len(self) <= place < len(self):
                # Iteration ends by this error; an empty batch instead would let it go on for ever.
                raise IndexError(f"index: expected a person among {len(self)}, got {place}")
            part = slice(place, place + 1 or None)
        pose = self.pose[part]
        return replace(
            self,
            styles=tuple(style[part] for style in self.styles),
            pose=pose,
            # What was found out about all of them holds for none of them in particular.
            report=self.report if len(pose) == len(self) else {},
            noise=None if self.noise is None else tuple(noise[part] for noise in self.noise),
            photograph=None if self.photograph is None else self.photograph[part],
            anchor=None if self.anchor is None else tuple(style[part] for style in self.anchor),
        )

    @property
    def source(self) -> tuple[Photograph | None, ...] | None:
        """Old name of `photograph`; it leaves in 0.4."""
        warn_renamed("Latent.source", "photograph", until="0.4")
        return self.photograph

    @property
    def device(self) -> torch.device:
        """The device of the style codes."""
        return self.styles[0].device

    def to(self, device: torch.device | str) -> Latent:
        """Return the latent with its tensors on a device.

        Raises:
            ConfigError: If there is no such device.
        """
        found = find_device(device)
        return self._map(lambda tensor: tensor.to(found))

    def differentiable(self) -> Latent:
        """Return the latent with tensors that can take part in gradients: those of inference mode are copied."""
        tuning = (self.tuning or {}).values()
        tensors = (*self.styles, *(self.noise or ()), *(self.anchor or ()), *tuning, self.pose.keypoints)
        if not any(tensor.is_inference() for tensor in tensors):
            return self
        with torch.inference_mode(False):
            return self._map(lambda tensor: tensor.clone() if tensor.is_inference() else tensor)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Latent:
        return replace(
            self,
            styles=tuple(change(style) for style in self.styles),
            pose=replace(self.pose, keypoints=change(self.pose.keypoints)),
            noise=None if self.noise is None else tuple(change(noise) for noise in self.noise),
            anchor=None if self.anchor is None else tuple(change(style) for style in self.anchor),
            tuning=None if self.tuning is None else {name: change(item) for name, item in self.tuning.items()},
        )

    @property
    def editable_styles(self) -> Styles:
        """The style codes to draw in another pose or in other clothes: `styles`, drawn back towards `anchor`.

        A projection fits one picture, also where the generator never learnt to go: what it wins in likeness it loses in
        editability. Drawn back it is less alike in its own picture and better in any other.
        """
        if self.anchor is None:
            return self.styles
        return tuple(
            torch.lerp(anchor, style, EDITABLE) for style, anchor in zip(self.styles, self.anchor, strict=True)
        )

    @property
    def portable(self) -> Styles:
        """Old name of `editable_styles`; it leaves in 0.4."""
        warn_renamed("Latent.portable", "editable_styles", until="0.4")
        return self.editable_styles

    def with_pose(self, pose: Pose) -> Latent:
        """Return the person in another pose: `editable_styles`, without noise and tuning, which belong to a pose."""
        return replace(
            self,
            styles=self.editable_styles,
            pose=pose.to(self.device),
            noise=None,
            photograph=None,
            anchor=None,
            tuning=None,
        )

    def save(self, path: str | os.PathLike[str], *, photograph: bool = True) -> None:
        """Save the latent as one safetensors file; a reader never meets half of it.

        Args:
            path: Where the file shall stand, such as "person.safetensors". Missing folders are made.
            photograph: Whether the photograph goes along, if there is one: without it a try-on of what is loaded is
                drawn at the generator's size. It is kept without loss, and anybody who has the file can see it.

        Raises:
            SaveError: If the file cannot be written. What stood there before still stands.
        """
        groups = {"styles": self.styles, "noise": self.noise or (), "anchor": self.anchor or ()}
        tensors = {f"{name}.{layer}": item for name, group in groups.items() for layer, item in enumerate(group)}
        tensors["keypoints"] = self.pose.keypoints
        tensors.update({f"tuning.{name}": change for name, change in (self.tuning or {}).items()})
        # Copies, because the format refuses views of one memory, which the parts of a batch are.
        copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        try:
            report = json.dumps(dict(self.report), default=float)
        except (TypeError, ValueError) as error:
            raise SaveError(
                f"expected plain numbers, got {dict(self.report)!r} ({error})", argument="report"
            ) from error
        metadata = {
            "format": _FORMAT,
            "model": self.model,
            "size": json.dumps(self.pose.size),
            "report": report,
        }
        if photograph and any(self.photograph or ()):
            described = []
            for place, one in enumerate(self.photograph or ()):
                described.append(None if one is None else _describe(one))
                copies.update({} if one is None else _pack(one, f"photograph.{place}."))
            metadata["photographs"] = json.dumps(described)

        def write(temporary: Path) -> None:
            try:
                save_file(copies, temporary, metadata)
            except SafetensorError as error:
                raise OSError(str(error)) from error

        write_atomically(path, write)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, device: torch.device | str = "cpu") -> Latent:
        """Load a latent that `save` wrote.

        Args:
            path: The file.
            device: Where its tensors shall be.

        Returns:
            The latent, with its photograph if it was saved with it.

        Raises:
            CheckpointNotFoundError: If there is no such file.
            CheckpointError: If the file is damaged or holds something else.
            ConfigError: If there is no such device.

        Example:
            >>> import tempfile, torch
            >>> from styletryon.latent import Latent
            >>> from styletryon.pose import Pose
            >>> latent = Latent((torch.zeros(1, 8),), Pose(torch.zeros(1, 17, 3), (32, 24)), model="tiny")
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     latent.save(f"{folder}/person.safetensors")
            ...     Latent.load(f"{folder}/person.safetensors").model
            'tiny'
        """
        path, device = Path(path), find_device(device)
        if not path.is_file():
            raise CheckpointNotFoundError(
                f"expected a file that Latent.save wrote, got {str(path)!r}: no such file",
                argument="path",
            )
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                # Copies, because the file may change while it is mapped into memory.
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            if metadata.get("format") != _FORMAT:
                raise CheckpointError(
                    f"expected a latent of format {_FORMAT!r}, got {metadata.get('format')!r} in {str(path)!r}",
                    argument="path",
                )
            height, width = json.loads(metadata["size"])
            pose = Pose(tensors.pop("keypoints"), (height, width))
            layers = sum(name.startswith("styles.") for name in tensors)
            maps = sum(name.startswith("noise.") for name in tensors)
            anchors = sum(name.startswith("anchor.") for name in tensors)
            tuned = [name for name in tensors if name.startswith("tuning.")]
            described = json.loads(metadata.get("photographs", "[]"))
            latent = cls(
                styles=tuple(tensors.pop(f"styles.{layer}") for layer in range(layers)),
                pose=pose,
                noise=tuple(tensors.pop(f"noise.{layer}") for layer in range(maps)) or None,
                report=json.loads(metadata["report"]),
                model=metadata["model"],
                anchor=tuple(tensors.pop(f"anchor.{layer}") for layer in range(anchors)) or None,
                tuning={name.removeprefix("tuning."): tensors.pop(name) for name in tuned} or None,
                photograph=tuple(_unpack(one, tensors, f"photograph.{i}.") for i, one in enumerate(described)) or None,
            )
        except CheckpointError:
            raise
        except (OSError, SafetensorError, StyleTryOnError, KeyError, TypeError, ValueError, IndexError) as error:
            raise CheckpointError(
                f"{str(path)!r} is damaged or no latent ({type(error).__name__}: {error}); save it anew",
                argument="path",
            ) from error
        if tensors:
            raise CheckpointError(f"{str(path)!r} holds unknown tensors: {', '.join(sorted(tensors))}", argument="path")
        return latent.to(device)


def is_latent_file(thing: object) -> TypeGuard[str | os.PathLike[str]]:
    """Say whether something is the path of a file that `Latent.save` may have written, to go by its ending."""
    return isinstance(thing, (str, os.PathLike)) and str(thing).lower().endswith(".safetensors")


def _describe(photograph: Photograph) -> dict[str, Any]:
    """What of a photograph is no tensor, as JSON has it."""
    return {"frame": asdict(photograph.frame), "background": photograph.background, "worn": photograph.worn}


def _pack(photograph: Photograph, prefix: str) -> dict[str, Tensor]:
    """What of a photograph are tensors; pictures as the bytes of PNG files."""
    parts = {"picture": _png(photograph.picture)}
    if photograph.pose is not None:
        parts["keypoints"] = photograph.pose.keypoints.detach().cpu().clone()
    if photograph.labels is not None:
        parts["labels"] = _png(Image.fromarray(photograph.labels))
    return {f"{prefix}{name}": tensor for name, tensor in parts.items()}


def _unpack(described: Any, tensors: dict[str, Tensor], prefix: str) -> Photograph | None:
    if described is None:
        return None
    frame = Frame(**{name: tuple(value) for name, value in described["frame"].items()})
    picture = read_image(tensors.pop(f"{prefix}picture").numpy().tobytes(), max_aspect=math.inf)
    keypoints, labels = tensors.pop(f"{prefix}keypoints", None), tensors.pop(f"{prefix}labels", None)
    background = described["background"]
    return Photograph(
        picture,
        frame,
        None if keypoints is None else Pose(keypoints, frame.photo_size),
        None if labels is None else np.array(Image.open(io.BytesIO(labels.numpy().tobytes())), dtype=np.uint8),
        None if background is None else tuple(background),
        bool(described.get("worn", True)),
    )


def _png(picture: Image.Image) -> Tensor:
    stream = io.BytesIO()
    picture.save(stream, "PNG", compress_level=3)  # more takes many times as long, and saves little
    return torch.frombuffer(bytearray(stream.getvalue()), dtype=torch.uint8)


def stack(latents: Sequence[Latent]) -> Latent:
    """Join latents of one generator into one batch.

    Args:
        latents: At least one latent. Photographs are kept.

    Returns:
        A latent whose batch is the latents' batches one after another.

    Raises:
        ShapeError: If there is none, they belong to different generators or picture sizes, only some have noise
            maps, without which those would be drawn differently, or they are tuned in different ways.
    """
    if not latents:
        raise ShapeError("expected at least one latent, got none", argument="latents")
    first = latents[0]
    channels = [style.shape[1:] for style in first.styles]
    for other in latents[1:]:
        if [style.shape[1:] for style in other.styles] != channels:
            raise ShapeError(
                f"expected styles of one generator, got {len(first.styles)} layers of "
                f"{[shape.numel() for shape in channels]} channels and {len(other.styles)} layers of "
                f"{[style.shape[1:].numel() for style in other.styles]}",
                argument="latents",
            )
        if other.model != first.model or other.pose.size != first.pose.size:
            raise ShapeError(
                f"expected latents of one generator and picture size, got {first.model or 'unknown'} "
                f"{first.pose.size} and {other.model or 'unknown'} {other.pose.size}",
                argument="latents",
            )
    noises = [latent.noise for latent in latents if latent.noise is not None]
    if 0 < len(noises) < len(latents):
        raise ShapeError(
            f"expected noise maps in all or in none, got {len(noises)} of {len(latents)} with some; find them "
            "alike, or drop them with dataclasses.replace(latent, noise=None)",
            argument="latents",
        )
    if any(latent.tuning is not first.tuning for latent in latents):
        raise ShapeError(
            "expected latents of one tuning, for a generator draws with one set of weights; go on with each "
            "alone, or drop it with dataclasses.replace(latent, tuning=None)",
            argument="latents",
        )
    photographs = [one for latent in latents for one in latent.photograph or (None,) * len(latent)]
    anchors = [latent.anchor or latent.styles for latent in latents]
    anchored = any(latent.anchor for latent in latents)
    return Latent(
        styles=tuple(torch.cat(layer) for layer in zip(*(latent.styles for latent in latents), strict=True)),
        pose=Pose(torch.cat([latent.pose.keypoints for latent in latents]), first.pose.size),
        noise=tuple(torch.cat(layer) for layer in zip(*noises, strict=True)) or None,
        photograph=tuple(photographs) if any(photographs) else None,
        model=first.model,
        anchor=tuple(torch.cat(layer) for layer in zip(*anchors, strict=True)) if anchored else None,
        tuning=first.tuning,
    )
