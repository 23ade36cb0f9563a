"""Values that hold arrays print as one line, and a result shows itself in a notebook."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

import styletryon
from styletryon._reprs import one_line
from styletryon.generator import GeneratorOutput
from styletryon.latent import Latent
from styletryon.pose import Pose
from styletryon.tryon import TryOnProgress, TryOnResult
from tests.make_reference import SECTIONS, names

ARRAYS = re.compile(r"\b(Tensor|NDArray|ndarray|Styles|Image\.Image)\b")


def holders() -> list[type]:
    """The public dataclasses with a field that is an array, a tensor or a picture."""
    found: set[type] = {GeneratorOutput, TryOnProgress}
    for section in SECTIONS:
        module = importlib.import_module(section)
        found |= {getattr(module, name) for name in names(module) if inspect.isclass(getattr(module, name))}
    return sorted(
        (
            value
            for value in found
            if dataclasses.is_dataclass(value)
            and any(ARRAYS.search(str(field.type)) for field in dataclasses.fields(value) if field.repr)
        ),
        key=lambda value: value.__qualname__,
    )


def test_there_are_some() -> None:
    assert {Latent, Pose, TryOnResult, styletryon.TryOnState} <= set(holders())


@pytest.mark.parametrize("value", holders(), ids=lambda value: value.__name__)
def test_none_prints_as_dataclasses_do(value: type) -> None:
    written = inspect.unwrap(value.__repr__).__code__.co_filename
    assert written.endswith(".py"), "assign styletryon._reprs.one_line to its __repr__"


def latent(count: int = 1) -> Latent:
    keypoints = torch.ones(count, 17, 3)
    keypoints[:, :4, 2] = 0
    return Latent((torch.zeros(count, 8), torch.zeros(count, 4)), Pose(keypoints, (32, 24)), model="tiny")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (latent().pose, "Pose(1 person, 24x32, 13 of 17 keypoints)"),
        (latent(3).pose, "Pose(3 people, 24x32, 39 of 51 keypoints)"),
        (latent(), "Latent(1 person, 24x32, 2 layers on cpu, model tiny)"),
        (
            dataclasses.replace(latent(2), report={"reconstruction_psnr": 21.04}, noise=(torch.zeros(2, 1, 4, 4),)),
            "Latent(2 people, 24x32, 2 layers on cpu, model tiny, noise, 21.0 dB)",
        ),
        (
            GeneratorOutput(torch.zeros(1, 3, 8, 6), torch.zeros(1, 12, 8, 6)),
            "GeneratorOutput(image=float32(1, 3, 8, 6), logits=float32(1, 12, 8, 6))",
        ),
    ],
)
def test_one_line_says_what_it_is(value: object, text: str) -> None:
    assert repr(value) == text


@dataclasses.dataclass
class Value:
    """A value with a field of every kind."""

    array: np.ndarray
    picture: Image.Image
    many: list[int]
    tensors: tuple[torch.Tensor, ...]
    table: dict[str, list[float]]
    text: str
    nothing: None = None

    __repr__ = one_line


def test_every_kind_of_field_is_brief() -> None:
    value = Value(
        array=np.zeros((900, 700), np.uint8),
        picture=Image.new("L", (7, 9)),
        many=list(range(1000)),
        tensors=(torch.zeros(1, 5), torch.zeros(1, 3)),
        table={f"loss{number}": [0.0] * 100 for number in range(100)},
        text="two\nlines " * 100,
    )
    shown = repr(value)
    assert "\n" not in shown
    assert len(shown) < 300
    assert "array=uint8(900, 700), picture=L 7x9, many=[1000 x 0], tensors=[2 x float32(1, 5)]" in shown
    assert "nothing" not in shown


def test_a_result_prints_as_one_line_and_shows_itself() -> None:
    tall, wide = 160, 120
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (tall, wide, 3), dtype=np.uint8))
    result = TryOnResult(
        image=picture,
        segmentation=np.zeros((tall, wide), np.uint8),
        coefficients={f"layer{number}": torch.zeros(512) for number in range(14)},
        history={"total": [0.0] * 1000},
        person=latent(),
        garment=latent(),
        report={"seconds": 3.14159, "status": "converged", "outside_change": 0.00123, "steps": 50.0},
        latent=latent(),
        drawn=torch.zeros(3, 32, 24),
        mask=torch.zeros(32, 24),
        person_image=picture,
        garment_image=picture,
    )
    assert repr(result) == "TryOnResult(120x160, converged, 3.1 s, 0.0012 changed outside)"
    with Image.open(io.BytesIO(result._repr_png_())) as shown:
        assert shown.format == "PNG"
        assert np.array_equal(np.asarray(shown), np.asarray(picture))
