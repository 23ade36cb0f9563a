"""The forward pass for other runtimes: traced, exported, and as ONNX."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from styletryon.errors import ConfigError, DependencyError, RangeError, SaveError
from styletryon.interop import export_onnx
from styletryon.models import PoseStyleGAN2
from styletryon.pose import Pose
from tests._support.process import run_python
from tests._support.tiny import tiny_generator, tiny_pose

SIZE = (32, 24)


class Drawing(nn.Module):
    """What a user wraps the generator in, because a pose is no tensor."""

    def __init__(self, generator: PoseStyleGAN2) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, z: Tensor, keypoints: Tensor) -> tuple[Tensor, Tensor]:
        drawing = self.generator(z, Pose(keypoints, SIZE))
        return drawing.image, drawing.logits


def inputs(seed: int) -> tuple[Tensor, Tensor]:
    return torch.randn(1, 8, generator=torch.Generator().manual_seed(seed)), tiny_pose(seed=seed).keypoints


def agree(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
@pytest.mark.parametrize("capture", ["trace", "export"])
def test_the_forward_pass_is_captured_and_draws_what_it_did_not_see(capture: str) -> None:
    drawing = Drawing(tiny_generator(encoder=False)).eval()
    captured: Callable[..., Any]
    if capture == "trace":
        captured = torch.jit.trace(drawing, inputs(0))
    else:
        captured = torch.export.export(drawing, inputs(0)).module()
    for seed in (0, 1):
        agree(captured(*inputs(seed)), drawing(*inputs(seed)))


FIRST = """
import torch
from tests.interop.test_onnx import Drawing, agree, inputs
from tests._support.tiny import tiny_generator
drawing = Drawing(tiny_generator(encoder=False)).eval()
exported = torch.export.export(drawing, inputs(0)).module()
agree(exported(*inputs(1)), drawing(*inputs(1)))
"""


def test_an_export_before_anything_was_drawn_leaves_nothing_behind() -> None:
    """What is read from files at the first drawing must not be kept as the tracer sees it."""
    ended = run_python("-c", FIRST)
    assert ended.returncode == 0, ended.stderr[-2000:]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_onnx_draws_the_same(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    generator = tiny_generator(encoder=False)
    path = export_onnx(generator, tmp_path / "generator.onnx", truncation=0.5)
    assert [file.name for file in tmp_path.iterdir()] == ["generator.onnx"]
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [item.name for item in session.get_inputs()] == ["z", "keypoints"]
    for seed in (1, 2):
        z, keypoints = inputs(seed)
        found = session.run(["image", "logits"], {"z": z.numpy(), "keypoints": keypoints.numpy()})
        drawn = generator(z, Pose(keypoints, SIZE), truncation=0.5)
        agree(tuple(torch.from_numpy(np.asarray(item)) for item in found), (drawn.image, drawn.logits))


def test_what_cannot_be_exported_is_told_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = tiny_generator(encoder=False)
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: pytest.fail("it began"))
    with pytest.raises(ConfigError, match=r"^model: expected a PoseStyleGAN2, got Linear"):
        export_onnx(nn.Linear(1, 1), tmp_path / "a.onnx")  # type: ignore[arg-type]
    with pytest.raises(RangeError, match=r"^batch: "):
        export_onnx(generator, tmp_path / "a.onnx", batch=0)
    with pytest.raises(SaveError, match="got the folder"):
        export_onnx(generator, tmp_path)
    original = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name.split(".")[0] == "onnxscript":
            raise ImportError(name)
        return original(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DependencyError, match=r"pip install 'styletryon\[onnx\]'"):
        export_onnx(generator, tmp_path / "a.onnx")
