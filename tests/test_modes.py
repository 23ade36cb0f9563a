"""What the host program has set or does: the same picture comes out, and the process is left as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import styletryon
from styletryon import _loading, pipeline
from styletryon.data import paperdoll
from styletryon.features import VGG16Features
from styletryon.latent import Latent
from styletryon.models import PoseStyleGAN2
from styletryon.projection import LatentProjector
from tests._support.process import run_python
from tests._support.tiny import tiny_generator, tiny_latent, tiny_pose

ANYTHING = set(range(1, 12))


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


MODES: dict[str, Callable[[], contextlib.AbstractContextManager[object]]] = {
    "inference": torch.inference_mode,
    "no_grad": torch.no_grad,
    "float64": lambda: default_dtype(torch.float64),
    "float16": lambda: default_dtype(torch.float16),
    "device": lambda: torch.device("meta"),  # nothing can be computed there: whatever is made there is found
    "numpy": lambda: np.errstate(all="raise"),
    "anomaly": torch.autograd.detect_anomaly,
}


def forget() -> None:
    """Forget what earlier calls have kept, so that the next one makes it."""
    for kept in (_loading._load, pipeline._usual_poses, pipeline._load_estimator):
        kept.cache_clear()


def people() -> list[np.ndarray]:
    return [paperdoll.render(paperdoll.sample_figure(n), (96, 72)).image for n in (40, 41)]


def tried_on(folder: Path) -> bytes:
    person, garment = people()
    return styletryon.try_on(person, garment, model=folder, preset="fast", region=ANYTHING).image.tobytes()


def found(folder: Path) -> list[object]:
    """What the other public functions return for a model on disk, as bytes."""
    person = people()[0]
    known = styletryon.project(person, model=folder, preset="fast")
    drawn = styletryon.generate(seed=5, model=folder)
    return [
        *(style.numpy().tobytes() for style in (*known.styles, *drawn.styles)),
        styletryon.estimate_pose(person).keypoints.numpy().tobytes(),
        styletryon.estimate_labels(person).tobytes(),
        styletryon.load_model(folder).draw(drawn).image.numpy().tobytes(),
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_generator().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def plain(folder: Path) -> tuple[bytes, list[object]]:
    """The results without any mode."""
    return tried_on(folder), found(folder)


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("mode", MODES)
def test_a_callers_mode_changes_no_picture_and_nothing_that_is_kept(
    mode: str, folder: Path, plain: tuple[bytes, list[object]]
) -> None:
    forget()
    with MODES[mode]():
        assert (tried_on(folder), found(folder)) == plain
    assert found(folder) == plain[1]  # of what the calls under the mode have kept


def test_latents_and_pictures_of_inference_mode_are_projected_tuned_and_tried_on() -> None:
    generator = tiny_generator()

    def run() -> list[torch.Tensor]:
        latent = tiny_latent(generator, 2)
        mask, labels = torch.ones(1, 32, 24), torch.ones(1, 32, 24, dtype=torch.int64)
        projector = LatentProjector(generator, steps=2, tuning_steps=2)
        found = projector.project(torch.zeros(1, 3, 32, 24), tiny_pose(), mask=mask, labels=labels)
        tuned = projector.tune(latent[0], torch.zeros(1, 3, 32, 24), mask=mask)
        tried = styletryon.TryOnOptimizer(generator, preset="fast").optimize(tuned, latent[1], region=ANYTHING)
        return [*found.styles, *(tuned.tuning or {}).values(), tried.drawing.image]

    with torch.inference_mode():
        inside = run()
    for ours, theirs in zip(inside, run(), strict=True):
        assert torch.equal(ours, theirs)


def test_features_that_were_made_in_inference_mode_have_gradients() -> None:
    with torch.inference_mode():
        network = VGG16Features(("relu1_2",), weights=None)
    image = torch.zeros(1, 3, 16, 16, requires_grad=True)
    network(image)[0].sum().backward()
    assert image.grad is not None


def test_nothing_is_copied_that_can_take_part_in_gradients() -> None:
    latent = tiny_latent(tiny_generator())
    assert latent.differentiable() is latent
    with torch.inference_mode():
        made = Latent(tuple(style.clone() for style in latent.styles), latent.pose)
    assert not any(style.is_inference() for style in made.differentiable().styles)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_a_model_is_loaded_in_float32_and_built_in_the_default_dtype(dtype: torch.dtype, folder: Path) -> None:
    with default_dtype(dtype), torch.device("meta"):
        loaded = PoseStyleGAN2.from_pretrained(folder)
    assert {item.dtype for item in (*loaded.parameters(), *loaded.buffers())} == {torch.float32}
    assert {item.device.type for item in (*loaded.parameters(), *loaded.buffers())} == {"cpu"}
    assert loaded.fingerprint == tiny_generator().fingerprint
    with default_dtype(torch.float64):  # as every module of torch
        assert next(tiny_generator().parameters()).dtype == torch.float64


RANDOMNESS = """
import random, sys
import numpy as np, torch

def state():
    return random.getstate(), [str(part) for part in np.random.get_state()], torch.get_rng_state().tolist()

before = state()
import styletryon
from styletryon.data import paperdoll
from styletryon.features import InceptionV3Features

def check(step):
    if state() != before:
        sys.exit(f"the global random state moved: {step}")

model = styletryon.load_model()
check("load_model")
person, garment = (paperdoll.render(paperdoll.sample_figure(n), (64, 48)).image for n in (3, 4))
check("paperdoll")
styletryon.estimate_pose(person)
check("estimate_pose")
styletryon.estimate_labels(person)
check("estimate_labels")
a, b = styletryon.generate(seed=1), styletryon.generate(seed=2)
check("generate")
styletryon.TryOnOptimizer(model, steps=1).optimize(a, b)
check("optimize")
styletryon.LatentProjector(model, steps=1, tuning_steps=1).tune(a, model.draw(a).image.clamp(-1, 1))
check("tune")
model.save_pretrained(sys.argv[1])
styletryon.load_model(sys.argv[1])
check("load_model of a folder")
styletryon.VGG16Features(weights=None), InceptionV3Features(weights=None)
check("features")
"""


def test_the_global_random_state_stays_in_a_fresh_process(tmp_path: Path) -> None:
    """In this one, what draws when it is made may have been made already."""
    ended = run_python("-c", RANDOMNESS, tmp_path / "model")
    assert ended.returncode == 0, ended.stderr


def test_networks_that_wait_for_their_weights_draw_nothing(global_randomness_stays: None) -> None:
    from styletryon._weights import unfilled

    with unfilled():
        network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 4))
        drawn = torch.randn(3), torch.nn.init.trunc_normal_(torch.zeros(3))
        seeded = torch.randn(3, generator=torch.Generator().manual_seed(1))
    assert [tuple(tensor.shape) for tensor in drawn] == [(3,), (3,)]
    assert torch.equal(network[1].weight, torch.ones(4))  # what is not random is as always
    assert torch.equal(seeded, torch.randn(3, generator=torch.Generator().manual_seed(1)))


