"""The nodes keep the contract of ComfyUI's nodes, without ComfyUI."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from styletryon import TryOnPipeline, TryOnResult
from styletryon.pipeline import PipelineProgress
from tests._support.process import ROOT
from tests._support.tiny import tiny_generator, tiny_latent

FOLDER = ROOT / "integrations" / "comfyui"


def load() -> ModuleType:
    """The folder as ComfyUI imports it: a package by its path, under a name of its own."""
    spec = importlib.util.spec_from_file_location("custom_nodes_styletryon", FOLDER / "__init__.py",
                                                  submodule_search_locations=[str(FOLDER)])  # fmt: skip
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


pack = load()
NODES = list(pack.NODE_CLASS_MAPPINGS.items())


@pytest.mark.parametrize(("name", "node"), NODES)
def test_a_node_keeps_the_contract(name: str, node: Any) -> None:
    assert name in pack.NODE_DISPLAY_NAME_MAPPINGS
    assert isinstance(node.CATEGORY, str)
    inputs = node.INPUT_TYPES()
    assert set(inputs) <= {"required", "optional", "hidden"}
    for definition in (one for part in inputs.values() for one in part.values()):
        assert isinstance(definition, tuple)
        kind, *options = definition
        assert isinstance(kind, str) or (isinstance(kind, list) and all(isinstance(choice, str) for choice in kind))
        if options and isinstance(kind, list):
            assert options[0]["default"] in kind
    assert isinstance(node.RETURN_TYPES, tuple)
    assert len(node.RETURN_NAMES) == len(node.RETURN_TYPES)
    parameters = inspect.signature(getattr(node, node.FUNCTION)).parameters
    assert set(parameters) - {"self"} == {name for part in inputs.values() for name in part}
    for optional in inputs.get("optional", {}):
        assert parameters[optional].default is None


def test_every_link_fits_some_other_node() -> None:
    kinds = {"IMAGE", "MASK", "STRING", "INT", "BOOLEAN"}
    given = {kind for _, node in NODES for kind in node.RETURN_TYPES}
    for _, node in NODES:
        for definition in (one for part in node.INPUT_TYPES().values() for one in part.values()):
            assert isinstance(definition[0], list) or definition[0] in kinds | given


class Recorder:
    """A pipeline that dresses latents, whatever pictures it is given: those are looked at here."""

    def __init__(self) -> None:
        self.generator = tiny_generator()
        self.pipeline = TryOnPipeline(self.generator, preset="fast")
        self.seen: list[tuple[Tensor, Any, dict[str, Any]]] = []

    def with_preset(self, preset: str) -> Recorder:
        self.preset = preset
        return self

    def __call__(self, person: Tensor, garment: Any, **options: Any) -> TryOnResult:
        self.seen.append((person, garment, options))
        if options["progress"]:
            options["progress"](PipelineProgress("project", 1, 2))
        people = tiny_latent(self.generator, 2)
        return self.pipeline(people[0], people[1], region="full")


def image(count: int, seed: int = 0, channels: int = 3) -> Tensor:
    return torch.rand(count, 48, 36, channels, generator=torch.Generator().manual_seed(seed))


@pytest.mark.filterwarnings("ignore::styletryon.TryOnWarning")
def test_a_person_tries_on_every_garment_of_a_batch() -> None:
    recorder, node = Recorder(), pack.NODE_CLASS_MAPPINGS["StyleTryOnGarment"]()
    with torch.inference_mode():  # which ComfyUI runs its nodes in
        person, garment = image(1), image(2, 1, channels=4)
        shown, changed = getattr(node, node.FUNCTION)(recorder, person, garment, "full", "fast", True, "no")
    assert (shown.shape, shown.dtype) == ((2, 32, 24, 3), torch.float32)
    assert 0 <= float(shown.min()) <= float(shown.max()) <= 1
    assert changed.shape == (2, 32, 24)
    assert set(np.unique(changed)) <= {0.0, 1.0}
    assert recorder.preset == "fast"
    for index, (seen_person, seen_garment, options) in enumerate(recorder.seen):
        assert torch.equal(seen_person, person[0].movedim(-1, 0))
        assert torch.equal(seen_garment, garment[index, ..., :3].movedim(-1, 0))
        assert not seen_person.is_inference()
        assert options == {"region": "full", "detail": True, "garment_worn": False, "progress": False}


@pytest.mark.filterwarnings("ignore::styletryon.TryOnWarning")
def test_an_outfit_is_handed_over_as_one() -> None:
    recorder, node = Recorder(), pack.NODE_CLASS_MAPPINGS["StyleTryOnOutfit"]()
    said = {"top_worn": "no", "bottom_worn": "yes", "dress_worn": "auto", "outerwear_worn": "auto"}
    node.dress(recorder, image(1), "balanced", False, **said, top=image(1, 1), outerwear=image(1, 2))
    (_, outfit, options) = recorder.seen[0]
    assert list(outfit) == ["top", "outerwear"]
    assert options == {"detail": False, "garment_worn": {"top": False, "outerwear": None}, "progress": False}


def test_batches_that_do_not_fit_are_refused() -> None:
    node = pack.NODE_CLASS_MAPPINGS["StyleTryOnGarment"]()
    with pytest.raises(ValueError, match="person 2, garment 3"):
        node.dress(Recorder(), image(2), image(3), "top", "fast", True, "auto")


def test_the_queue_hears_of_progress_and_may_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[float] = []

    class Bar:
        def __init__(self, total: int) -> None:
            self.total = total

        def update_absolute(self, value: int) -> None:
            told.append(value / self.total)

    def interrupted() -> None:
        if told:
            raise InterruptedError

    management, utils = ModuleType("comfy.model_management"), ModuleType("comfy.utils")
    management.throw_exception_if_processing_interrupted = interrupted  # type: ignore[attr-defined]
    utils.ProgressBar = Bar  # type: ignore[attr-defined]
    for module in (ModuleType("comfy"), utils, management):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    node = pack.NODE_CLASS_MAPPINGS["StyleTryOnGarment"]()
    with pytest.raises(InterruptedError):
        node.dress(Recorder(), image(2), image(1), "top", "fast", True, "auto")
    assert told == [0.25]


def test_the_generator_is_loaded_once_and_works_outside_of_inference_mode() -> None:
    node = pack.NODE_CLASS_MAPPINGS["StyleTryOnLoad"]()
    with torch.inference_mode():
        (pipeline,) = node.load("default", "cpu", 3)
    assert isinstance(pipeline, TryOnPipeline)
    assert (pipeline.seed, pipeline.device.type) == (3, "cpu")
    assert not pipeline.model.w_mean.is_inference()
