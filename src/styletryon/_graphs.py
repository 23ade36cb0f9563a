"""Parts of the optimisation loops: steps that can be replayed as a CUDA graph, and an Adam that lets them.

A step that can be replayed is a function of nothing that returns nothing. All that it reads and writes lies in tensors
that stay where they are, and it never looks at their values: a replay repeats its kernels on the same memory and runs
none of its Python. So a small batch no longer waits for Python, which launches its kernels one by one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import final

import torch
from torch import Tensor

_logger = logging.getLogger(__name__)

_DEVICE = "cuda"

_WARM_UP = 3
"""How many steps run before the capture: in them libraries load, choose their algorithms and take their workspaces."""

_FEWEST = 16
"""With fewer steps than this a capture, which takes the time of a few of them, does not pay."""

_EPSILON = 1e-8

_capturing = threading.Lock()  # torch captures one graph at a time
_told: set[str] = set()


SHORT_BETAS = (0.7, 0.99)
"""Adam's decay of the mean and of the square where steps are few: little memory wins."""


@final
class Adam:
    """Adam (Kingma and Ba, 2015), split in what the host knows, `set_rate`, and what can be replayed, `step`.

    On the CPU it computes what `torch.optim.Adam` does, bit for bit.

    Args:
        variables: Floats, changed in place.
        betas: The decay of the mean and of the square.
    """

    def __init__(self, variables: Sequence[Tensor], betas: tuple[float, float]) -> None:
        self._variables = tuple(variables)
        self._means = [torch.zeros_like(variable) for variable in self._variables]
        self._squares = [torch.zeros_like(variable) for variable in self._variables]
        self._betas = betas
        self._count = 0
        self._factor, self._root = (self._variables[0].new_zeros(()) for _ in range(2))

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the next step. To be called before each, because the correction changes too."""
        self._count += 1
        first, second = (1 - beta**self._count for beta in self._betas)
        # Filling passes the number along with the kernel; copying it would make the host wait.
        self._factor.fill_(-rate / first)
        self._root.fill_(second**0.5)

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor | None]) -> None:
        """Move the variables.

        Args:
            gradients: One per variable; one without any stays. What is not finite counts as 0, so that a sample that
                diverges does not take its moments along.
        """
        for variable, gradient, mean, square in zip(
            self._variables, gradients, self._means, self._squares, strict=True
        ):
            if gradient is None:
                continue
            finite = torch.nan_to_num(gradient, 0.0, 0.0, 0.0)
            mean.lerp_(finite, 1 - self._betas[0])
            square.mul_(self._betas[1]).addcmul_(finite, finite, value=1 - self._betas[1])
            variable.add_(self._factor * mean / (square.sqrt() / self._root).add_(_EPSILON))


def replace_rows(kept: Tensor, better: Tensor, new: Tensor) -> None:
    """Put the rows of `new` that are `better`, `(B,)`, in the place of those of `kept`; both `(B, ...)`."""
    kept.copy_(torch.where(better.view(-1, *[1] * (kept.ndim - 1)), new, kept))


@final
class Repeated:
    """A step that is called again and again: as it is at first, then replayed as a CUDA graph if nothing forbids it.

    The result is that of calling the step each time. Whatever forbids the replay is logged once a process.

    Args:
        step: The step.
        device: Where its tensors lie.
        parts: Name -> what the step calls that is not this library's own. All must say that they are `capturable`.
        count: How often it will be called at most.
        wanted: Whether the caller wants a graph.

    Attributes:
        obstacle: Why the step is not replayed; None if it is, or will be.
    """

    def __init__(
        self,
        step: Callable[[], None],
        device: torch.device,
        parts: Mapping[str, object],
        *,
        count: int,
        wanted: bool = True,
    ) -> None:
        self._step = step
        self._calls = 0
        self._replay: Callable[[], None] | None = None
        self.obstacle = "graph=False was asked for" if not wanted else _find_obstacle(device, parts, count)
        self._recorder = Recorder(device) if self.obstacle is None else None
        if self.obstacle is not None:
            _tell(logging.INFO, self.obstacle)

    def __call__(self) -> None:
        """Take the step."""
        if self._recorder is not None and self._calls < _WARM_UP:
            self._calls += 1
            self._recorder.run(self._step)
            return
        if self._recorder is not None and self._replay is None:
            self._try_to_capture(self._recorder)
        (self._replay or self._step)()

    def _try_to_capture(self, recorder: Recorder) -> None:
        try:
            self._replay = recorder.capture(self._step)
        # Whatever it was, nothing has been computed yet. If the fault is the step's own, running it will tell.
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            self.obstacle, self._recorder = f"the capture failed ({reason})", None
            _tell(logging.WARNING, self.obstacle)


@final
class Recorder:
    """Runs and captures steps on a CUDA stream of its own, between what comes before and after them.

    Args:
        device: A CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def run(self, step: Callable[[], None]) -> None:
        """Run a step as it will be captured."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            step()
        current.wait_stream(self._stream)

    def capture(self, step: Callable[[], None]) -> Callable[[], None]:
        """Capture a step, which computes nothing yet.

        Args:
            step: The step. It must have run here before.

        Returns:
            What replays it, on the stream that is then current.

        Raises:
            Exception: Whatever the step or the capture raises, such as a `RuntimeError` where the host would wait.
        """
        with _capturing:
            try:
                return self._capture(step)
            except Exception:
                # The random generators of older torches believe in a failed capture until another one ends well.
                with suppress(Exception):
                    self._capture(torch.zeros((), device=self._device).zero_)
                raise

    def _capture(self, step: Callable[[], object]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        # The outer block restores the stream, which torch does not where a capture fails. What other threads do
        # meanwhile, on their streams, is theirs: it is neither captured nor forbidden.
        with (
            torch.cuda.stream(self._stream),
            torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"),
        ):
            step()
        return graph.replay


def is_capturable(part: object) -> bool:
    """Whether a generator, a network or a loss says that a CUDA graph may replay it; what says nothing does not."""
    return bool(getattr(part, "capturable", False))


def is_traced() -> bool:
    """Say whether a tracer watches (`torch.compile`, `torch.export`, `torch.jit.trace`): values are not known then."""
    return torch.compiler.is_compiling() or bool(torch.jit.is_tracing())  # type: ignore[attr-defined,no-untyped-call]


def _find_obstacle(device: torch.device, parts: Mapping[str, object], count: int) -> str | None:
    """Say why steps on a device cannot be replayed; None if they can."""
    unfit = [name for name, part in parts.items() if not is_capturable(part)]
    if device.type != _DEVICE:
        return f"the tensors are on {device.type}, not on CUDA"
    if count < _FEWEST:
        return f"there are fewer than {_FEWEST} steps"
    if unfit:
        return f"{unfit[0]} does not say that it is capturable"
    if torch.is_anomaly_enabled():
        return "the detection of anomalies looks at every value"
    if torch._C._are_functorch_transforms_active():
        return "a transform of torch.func is active"
    return None


def _tell(level: int, obstacle: str) -> None:
    if obstacle not in _told:
        _told.add(obstacle)
        _logger.log(level, "Optimisation steps are not replayed as a CUDA graph, because %s.", obstacle)
