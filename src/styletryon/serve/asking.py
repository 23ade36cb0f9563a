"""What a request asks for: JSON or a form, checked. Needs pydantic, which FastAPI brings."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from styletryon.errors import ConfigError, ImageError, PoseError, StyleTryOnError
from styletryon.photo import decode_image
from styletryon.pose import Pose

MAX_GARMENTS = 6
"""The most garments of an outfit."""

FORMATS = ("JPEG", "PNG", "WEBP")
"""The formats of photographs that are read: few decoders are there to be attacked."""

_DATA_URL = re.compile(r"data:image/[a-z+.-]{1,20};base64,", re.IGNORECASE)

Finite = Annotated[float, Field(allow_inf_nan=False)]
Box = Annotated[list[Finite], Field(min_length=4, max_length=4)]
Keypoint = Annotated[list[Finite], Field(min_length=3, max_length=3)]
Keypoints = Annotated[list[Keypoint], Field(min_length=17, max_length=17)]


class Asked(BaseModel):
    """What a request asks for, but for the photographs. The names are those of `styletryon.try_on`."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="Options")

    region: str = Field(
        "top", max_length=200, description='What changes: "top", "bottom", "dress", "full", or label classes.'
    )
    preset: Literal["fast", "balanced", "quality"] = Field("balanced", description="How carefully.")
    seed: int = Field(0, ge=-(2**63), le=2**64 - 1, description="Of what is random.")
    composite: bool = Field(True, description="Whether pixels outside the region stay the photograph's own.")
    detail: bool = Field(True, description="Whether cloth is shown as the garment's photograph shows it.")
    person_box: Box | None = Field(None, description="Left, top, right and bottom in pixels of the person.")
    garment_box: Box | dict[str, Box] | None = Field(
        None, description="The same for the garment's wearer; of an outfit, region -> box."
    )
    person_pose: Keypoints | None = Field(None, description="17 COCO keypoints [x, y, score] in pixels.")
    garment_pose: Keypoints | dict[str, Keypoints] | None = Field(
        None, description="The same for the garment's wearer; of an outfit, region -> keypoints."
    )
    garment_worn: bool | dict[str, bool] | None = Field(
        None,
        description="Whether somebody wears the garment in its picture, or it lies or hangs by itself; of an outfit, "
        "region -> whether. Nothing to tell by the picture.",
    )


_STRUCTURED = {"person_box", "garment_box", "person_pose", "garment_pose", "garment_worn"}
"""Fields that a form holds as JSON."""


def check_options(values: Mapping[str, Any], *, form: bool) -> Asked:
    """Check what a request asks for.

    Args:
        values: Name -> value.
        form: Whether the values are the texts of a form. Those of JSON keep their types.

    Raises:
        ConfigError: If a name is unknown or a value cannot be used. It names the argument.
    """
    given = {name: _structure(name, value) if form else value for name, value in values.items()}
    try:
        return Asked.model_validate(given, strict=not form)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = first["loc"]
        argument = str(place[0])[:60] if place else "body"
        raise ConfigError(_sentence(first), argument=argument) from error


def _sentence(problem: Mapping[str, Any]) -> str:
    if problem["type"] == "extra_forbidden":
        return f"expected one of person, garment, {', '.join(Asked.model_fields)}, got another name; check the spelling"
    inside = "".join(f"[{place}]" for place in problem["loc"][1:])
    return f"{problem['msg'][:1].lower()}{problem['msg'][1:]}{f', at {inside}' if inside else ''}"


def _structure(name: str, text: str) -> Any:
    if name not in _STRUCTURED:
        return text
    return parse_json(text, name)


def parse_json(text: str | bytes, argument: str) -> Any:
    """Parse JSON.

    Raises:
        ConfigError: If it is none, or nested too deeply.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # of a number of ten thousand digits too
        raise ConfigError(f"expected JSON, got something else ({str(error)[:100]})", argument=argument) from error


def decode_base64(value: object, argument: str) -> bytes:
    """Return the bytes of a picture's file that JSON holds.

    Args:
        value: The file in base64, with or without `data:image/png;base64,` before it.
        argument: What errors call it.

    Raises:
        ImageError: If it is anything else, such as a path or an address.
    """
    if not isinstance(value, str):
        kind = "nothing" if value is None else type(value).__name__
        raise ImageError(f"expected a picture's file in base64, got {kind}", argument=argument)
    head = _DATA_URL.match(value, 0, 60)
    try:
        return base64.b64decode(value[head.end() :] if head else value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError(
            "expected a picture's file in base64, got something else; paths are not opened and addresses are not "
            "fetched: send the file's own bytes",
            argument=argument,
        ) from error


def read_picture(content: bytes, argument: str, pixels: int) -> Image.Image:
    """Decode a photograph of a request.

    Args:
        content: The file.
        argument: What errors call it.
        pixels: The most pixels that it may have.

    Raises:
        ImageError: If it is no JPEG, PNG or WebP picture, damaged, or of a size that cannot be used.
    """
    return decode_image(content, name=argument, max_pixels=pixels, formats=FORMATS)


def read_keypoints(points: Any, picture: Image.Image, argument: str) -> Pose | None:
    """Return the pose that a request gives for a photograph.

    Args:
        points: The keypoints; None for none.
        picture: The photograph.
        argument: What errors call it.

    Raises:
        PoseError: If the keypoints cannot be used.
    """
    if points is None:
        return None
    try:
        return Pose(torch.tensor(points), (picture.height, picture.width))
    except StyleTryOnError as error:
        raise PoseError(error.problem, argument=argument) from error
