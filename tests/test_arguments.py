"""Numbers, choices, seeds and devices, of every kind that callers have."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import styletryon
from styletryon._arguments import check_seed, choice, find_device, number, seeded, whole
from styletryon.errors import ConfigError, RangeError, ShapeError, StyleTryOnError
from styletryon.latent import Latent
from styletryon.models import PoseStyleGAN2
from styletryon.pose import BodyEstimator
from tests._support.tiny import tiny_generator, tiny_latent, tiny_pose

INTEGERS = (int, np.int64, np.uint8, np.int16, torch.tensor)
NUMBERS = (float, np.float32, np.float16, np.float64, torch.tensor)


@pytest.fixture(scope="module")
def generator() -> PoseStyleGAN2:
    return tiny_generator()


@pytest.mark.parametrize("kind", INTEGERS)
def test_whole_numbers_of_every_kind_become_ints(kind: Callable[[int], Any]) -> None:
    assert type(whole(kind(3), "count", least=0, most=5)) is int
    assert whole(kind(3), "count") == 3


@pytest.mark.parametrize("thing", [3.0, np.float64(3), "3", None, [3], torch.ones(2), torch.tensor(3.0), 1j, b"3"])
def test_what_is_no_whole_number_is_refused_by_name(thing: object) -> None:
    with pytest.raises(RangeError, match=r"^count: expected a whole number of at least 1, got "):
        whole(thing, "count", least=1)
    with pytest.raises(ConfigError):
        whole(thing, "count", kind=ConfigError)


@given(value=st.integers(), least=st.integers(-9, 9), most=st.integers(-9, 9))
def test_whole_numbers_keep_to_their_range(value: int, least: int, most: int) -> None:
    if least <= value <= most:
        assert whole(value, "count", least=least, most=most) == value
    else:
        with pytest.raises(RangeError, match="count: expected a whole number in"):
            whole(value, "count", least=least, most=most)


@pytest.mark.parametrize("kind", [*NUMBERS, int, np.int64])
def test_numbers_of_every_kind_become_floats(kind: Callable[[float], Any]) -> None:
    assert type(number(kind(1), "rate", least=0, most=1)) is float


@pytest.mark.parametrize("thing", ["1", None, [1.0], torch.ones(2), float("nan"), float("inf"), 1j, b"1", -1, 10**400])
def test_what_is_no_finite_number_is_refused_by_name(thing: object) -> None:
    with pytest.raises(RangeError, match=r"^rate: expected a finite number of at least 0, got "):
        number(thing, "rate", least=0)
    with pytest.raises(RangeError, match=r"^rate: expected a finite number above 0, got "):
        number(0 if isinstance(thing, int) and thing < 0 else thing, "rate", above=0)


@pytest.mark.parametrize("thing", ["c", "", None, 3, ["a"], {"a": 1}, np.zeros(3)])
def test_choices(thing: object) -> None:
    assert choice("a", "word", ("a", "b")) == "a"
    with pytest.raises(ConfigError, match=r"^word: expected one of 'a', 'b', got "):
        choice(thing, "word", ("a", "b"))


def test_seeds_are_those_of_torch() -> None:
    for seed in (0, -1, 2**64 - 1, -(2**63), np.uint64(2**64 - 1), torch.tensor(7)):
        ours, theirs = seeded(seed), torch.Generator().manual_seed(int(seed))
        assert torch.equal(torch.rand(3, generator=ours), torch.rand(3, generator=theirs))
    for seed in (2**64, -(2**63) - 1, 1.0, "0", None):
        with pytest.raises(RangeError, match=r"^seed: expected a whole number in "):
            check_seed(seed)


# ------------------------------------------------------------------------------------------------- the public functions

CALLS: dict[str, Callable[[PoseStyleGAN2, Any], object]] = {
    "seed of generate": lambda model, value: styletryon.generate(seed=value, model=model),
    "seed of LatentProjector": lambda model, value: styletryon.LatentProjector(model, seed=value),
    "seed of TryOnOptimizer": lambda model, value: styletryon.TryOnOptimizer(model, seed=value),
    "steps of LatentProjector": lambda model, value: styletryon.LatentProjector(model, steps=value),
    "tuning_steps of LatentProjector": lambda model, value: styletryon.LatentProjector(model, tuning_steps=value),
    "batch_size of LatentProjector": lambda model, value: styletryon.LatentProjector(model, batch_size=value),
    "steps of TryOnOptimizer": lambda model, value: styletryon.TryOnOptimizer(model, steps=value),
    "patience of TryOnOptimizer": lambda model, value: styletryon.TryOnOptimizer(model, patience=value),
    "batch_size of TryOnOptimizer": lambda model, value: styletryon.TryOnOptimizer(model, batch_size=value),
    "index of Latent": lambda model, value: tiny_latent(model, 4)[value],
    "index of Pose": lambda model, value: tiny_pose(4)[value],
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", INTEGERS)
def test_public_arguments_take_whole_numbers_of_every_kind(
    generator: PoseStyleGAN2, call: str, kind: Callable[[int], Any]
) -> None:
    CALLS[call](generator, kind(3))


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("thing", [1.5, "1", [1, 2], np.float64(1)])
def test_public_arguments_name_themselves_when_they_refuse(generator: PoseStyleGAN2, call: str, thing: object) -> None:
    with pytest.raises(StyleTryOnError, match=f"^{call.split()[0]}: expected a whole number") as caught:
        CALLS[call](generator, thing)
    assert caught.value.argument == call.split()[0]


def test_a_seed_is_the_same_person_whatever_its_kind(generator: PoseStyleGAN2) -> None:
    people = [styletryon.generate(seed=kind(3), model=generator) for kind in INTEGERS]
    assert all(torch.equal(people[0].styles[0], other.styles[0]) for other in people)
    with pytest.raises(RangeError, match=r"^seed: "):
        styletryon.generate(seed=2**64, model=generator)


def test_latents_and_poses_are_sequences(generator: PoseStyleGAN2) -> None:
    for people in (tiny_latent(generator, 3), tiny_pose(3)):
        assert len(list(people)) == 3
        assert len(people[np.int64(-1)]) == 1
        assert len(people[np.int64(1) :]) == 2
        for index in (3, np.int64(-4)):
            with pytest.raises(IndexError, match="expected a person among 3"):
                people[index]
    with pytest.raises(ShapeError, match=r"^index: expected a whole number, got \[0, 1\]"):
        tiny_latent(generator, 3)[[0, 1]]  # type: ignore[index]


NUMERIC: dict[str, Callable[[PoseStyleGAN2, Any], object]] = {
    "truncation": lambda model, value: styletryon.generate(truncation=value, model=model),
    "learning_rate": lambda model, value: styletryon.LatentProjector(model, learning_rate=value),
    "tuning_rate": lambda model, value: styletryon.LatentProjector(model, tuning_rate=value),
    "pixel_weight": lambda model, value: styletryon.LatentProjector(model, pixel_weight=value),
    "initial": lambda model, value: styletryon.TryOnOptimizer(model, initial=value),
    "time_limit": lambda model, value: styletryon.TryOnOptimizer(model, time_limit=value),
    "tolerance": lambda model, value: styletryon.TryOnOptimizer(model, tolerance=value),
    "least_score": lambda model, value: BodyEstimator(torch.nn.Identity(), least_score=value),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", NUMERIC)
def test_public_arguments_take_numbers_of_every_kind(generator: PoseStyleGAN2, name: str) -> None:
    for kind in NUMBERS:
        NUMERIC[name](generator, kind(0.5))
    for thing in (np.nan, [0.5], b"0.5", torch.zeros(2)):
        with pytest.raises(StyleTryOnError, match=f"^{name}: expected a finite number"):
            NUMERIC[name](generator, thing)


@pytest.mark.parametrize("thing", [["fast"], 3, None, "slow"])
def test_presets_and_regions_name_themselves_when_they_refuse(generator: PoseStyleGAN2, thing: Any) -> None:
    with pytest.raises(ConfigError, match=r"^preset: expected one of 'fast', 'balanced', 'quality', got"):
        styletryon.TryOnOptimizer(generator, preset=thing)
    if thing is not None:
        latent = tiny_latent(generator)
        with pytest.raises(StyleTryOnError, match=r"^region: expected"):
            styletryon.TryOnOptimizer(generator).optimize(latent, latent, region=thing)


# ------------------------------------------------------------------------------------------------------------- devices

NOWHERE = ["nonsense", "cuda:99", "xpu", "mps", 3.5, object(), io.BytesIO(), "cuda:x", ""]
if not torch.cuda.is_available():
    NOWHERE.append("cuda")

MOVES: dict[str, Callable[[PoseStyleGAN2, Any], object]] = {
    "load_model": lambda model, device: styletryon.load_model(model, device=device),
    "load_model by name": lambda model, device: styletryon.load_model("default", device=device),
    "generate": lambda model, device: styletryon.generate(model=model, device=device),
    "project": lambda model, device: styletryon.project("nowhere.png", model=model, device=device),
    "try_on": lambda model, device: styletryon.try_on("nowhere.png", "nowhere.png", model=model, device=device),
    "Latent.to": lambda model, device: tiny_latent(model).to(device),
    "Latent.load": lambda model, device: Latent.load("nowhere.safetensors", device=device),
    "Pose.to": lambda model, device: tiny_pose().to(device),
}


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("device", NOWHERE, ids=lambda value: value if isinstance(value, str) else type(value).__name__)
def test_a_device_that_is_not_there_is_told_alike_everywhere(generator: PoseStyleGAN2, move: str, device: Any) -> None:
    if torch.backends.mps.is_available() and device == "mps":
        pytest.skip("this machine has one")
    with pytest.raises(ConfigError, match=r"^device: expected a device that this machine has, such as 'cpu'") as told:
        MOVES[move](generator, device)
    assert "\n" not in str(told.value)


def test_devices_have_an_index_where_there_may_be_several() -> None:
    assert find_device("cpu") == torch.device("cpu") == find_device(torch.device("cpu"))
    expected = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    assert find_device(None) == expected
    with pytest.raises(ConfigError, match=r"^--device: "):
        find_device("nonsense", "--device")


# -------------------------------------------------------------------------------------------------------------- models


def test_wrapped_models_are_unwrapped(generator: PoseStyleGAN2) -> None:
    compiled = torch.compile(generator)
    wrapped = (
        compiled,
        torch.nn.DataParallel(generator),
        torch.nn.DataParallel(compiled),  # type: ignore[arg-type]
        torch.optim.swa_utils.AveragedModel(generator),
    )
    for model in wrapped[:3]:
        assert styletryon.load_model(model) is generator  # type: ignore[call-overload]
    assert isinstance(styletryon.load_model(wrapped[3]), PoseStyleGAN2)  # type: ignore[call-overload]
    assert len(styletryon.generate(model=compiled)) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize("thing", [3, b"default", ["default"], torch.nn.Linear(1, 1), PoseStyleGAN2], ids=str)
def test_what_is_no_model_is_told_what_one_may_be(thing: Any) -> None:
    known = "(a name, a folder or an object that keeps the protocol .*Generator|a generator)"
    for call in (styletryon.load_model, lambda model: styletryon.generate(model=model)):
        with pytest.raises(ConfigError, match=f"^model: expected {known}, got "):
            call(thing)
