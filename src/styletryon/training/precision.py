"""The floating-point format of the networks, and the loss scale that float16 needs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from styletryon.errors import ConfigError

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """A floating-point format of the networks; weights, optimisers and second derivatives stay in float32.

    In float16 gradients below 6e-8 vanish. So losses are multiplied by a large number, gradients are divided by it
    before the step, and a step whose gradients overflow is left out and halves the number (Micikevicius et al. 2018,
    arXiv 1710.03740).

    Args:
        name: "fp32", "bf16" or "fp16".
        device: Where the networks run.

    Raises:
        ConfigError: If the name is unknown.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        if name not in _DTYPES:
            raise ConfigError(f"expected one of {PRECISIONS}, got {name!r}", argument="precision")
        self.name = name
        self.device = device
        self.scaler = torch.amp.GradScaler(device.type) if name == "fp16" else None

    def __repr__(self) -> str:
        return f"Precision({self.name!r}, {str(self.device)!r})"

    def autocast(self) -> torch.autocast:
        """Return the context in which networks run in this format where it is safe."""
        dtype = torch.bfloat16 if self.name == "fp32" else _DTYPES[self.name]
        return torch.autocast(self.device.type, dtype=dtype, enabled=self.name != "fp32")

    def scaled(self, loss: Tensor) -> Tensor:
        """Return a loss whose gradients float16 can hold."""
        return loss if self.scaler is None else self.scaler.scale(loss)

    def unscaled(self, gradient: Tensor) -> Tensor:
        """Return a gradient of a scaled loss as it is."""
        return gradient if self.scaler is None else gradient / self.scaler.scale(gradient.new_ones(()))

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Take the step of an optimiser whose gradients are those of scaled losses; leave it out if they overflow."""
        if self.scaler is None:
            optimizer.step()
        else:
            self.scaler.step(optimizer)

    def update(self) -> None:
        """Adapt the scale, after the steps of all optimisers."""
        if self.scaler is not None:
            self.scaler.update()

    @property
    def exhausted(self) -> bool:
        """True once the scale has fallen so low that it no longer helps; asks the device."""
        return self.scaler is not None and self.scaler.get_scale() < 1.0

    def state(self) -> dict[str, Any]:
        """Return what the next step depends on."""
        return {"name": self.name, "scaler": None if self.scaler is None else self.scaler.state_dict()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over the scale of a state that `state` returned; of another format it is left."""
        if self.scaler is not None and state.get("scaler"):
            self.scaler.load_state_dict(dict(state["scaler"]))


def resolve_precision(name: str, device: torch.device) -> str:
    """Return the format that a name means here: "auto" is bfloat16 where that is faster, else float32.

    Raises:
        ConfigError: If the name is unknown.
    """
    if name not in PRECISIONS:
        raise ConfigError(f"expected one of {PRECISIONS}, got {name!r}", argument="precision")
    if name != "auto":
        return name
    return "bf16" if prefers_bf16(device) else "fp32"


def prefers_bf16(device: str | torch.device) -> bool:
    """Measure whether a convolution is faster in bfloat16 than in float32 on a device."""
    device = torch.device(device)
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    x = torch.zeros(4, 64, 48, 36).to(memory_format=torch.channels_last)
    weight = torch.zeros(64, 64, 3, 3).to(memory_format=torch.channels_last)
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = x.to(dtype), weight.to(dtype)
        best = float("inf")
        for _ in range(4):
            start = time.perf_counter()
            F.conv2d(a, b, padding=1)
            best = min(best, time.perf_counter() - start)
        seconds[dtype] = best
    return seconds[torch.bfloat16] < seconds[torch.float32]
