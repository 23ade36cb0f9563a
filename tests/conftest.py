"""Options, markers and fixtures of the whole suite."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from styletryon import Latent, LatentProjector


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("styletryon")
    group.addoption("--require-gpu", action="store_true", help="fail, rather than skip, GPU tests without a GPU")
    group.addoption("--runslow", action="store_true", help="run the tests marked slow too, as CI does")
    group.addoption("--device", default="cpu", help="the device of the `device` fixture (default: cpu)")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("slow") and not item.config.getoption("--runslow"):
        pytest.skip("slow: runs with --runslow")
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        if item.config.getoption("--require-gpu"):
            pytest.fail("needs a CUDA device, and --require-gpu forbids to skip", pytrace=False)
        pytest.skip("needs a CUDA device")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    # A GPU test that skips itself for another reason (no driver, no compiler) must not pass for green either.
    strict = item.config.getoption("--require-gpu")
    if strict and report.skipped and item.get_closest_marker("gpu"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: skipped under --require-gpu: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    """The device named by --device."""
    return torch.device(request.config.getoption("--device"))


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded source of randomness for torch; the global one is never seeded."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded source of randomness for NumPy."""
    return np.random.default_rng(0)


@pytest.fixture
def global_randomness_stays() -> Iterator[None]:
    """Fail the test if torch's global generator was seeded or drawn from."""
    before = torch.random.get_rng_state()
    yield
    if not torch.equal(before, torch.random.get_rng_state()):
        torch.random.set_rng_state(before)
        pytest.fail("the global random state changed; pass a torch.Generator instead")


@pytest.fixture
def projected(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures each projection holds."""
    seen: list[int] = []
    plain = LatentProjector.project_each

    def spy(projector: LatentProjector, images: torch.Tensor, *given: Any, **how: Any) -> tuple[Latent, ...]:
        seen.append(len(images))
        return plain(projector, images, *given, **how)

    monkeypatch.setattr(LatentProjector, "project_each", spy)
    return seen


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Tensors as small as a test's gain nothing from threads, and lose much where the processor is shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
