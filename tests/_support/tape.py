"""A stand-in for CUDA graphs on the CPU: it replays a step's operations on the same memory and runs none of its Python.

It is as strict as a graph where that can be: a look at a value is refused, and a number that Python put into an
operation stays what it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from styletryon import _graphs

_LOOKS = {"aten::_local_scalar_dense", "aten::is_nonzero", "aten::nonzero", "aten::equal"}


class Tape(TorchDispatchMode):
    """Records operations and, as a capture does, leaves no trace of having run them."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[tuple[Any, Any, Any, Any, bool]] = []
        self._own: set[int] = set()
        self._before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name in _LOOKS:
            raise RuntimeError("operation not permitted when stream is capturing")
        args, kwargs = tree_map(_bare, (args, kwargs or {}))
        given = {item.untyped_storage().data_ptr() for item in _tensors((args, kwargs))}
        if func._schema.is_mutable:
            for tensor in _tensors((args, kwargs)):
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in self._own and storage.data_ptr() not in self._before:
                    self._before[storage.data_ptr()] = (storage, storage.clone())
        out = func(*args, **kwargs)
        made = [item for item in _tensors(out) if item.untyped_storage().data_ptr() not in given]
        self._own |= {item.untyped_storage().data_ptr() for item in made}
        self._calls.append((func, args, kwargs, tree_map(_bare, out), func._schema.is_mutable or bool(made)))
        return out

    def rewind(self) -> None:
        """Undo what the operations wrote into tensors that were there before."""
        for storage, before in self._before.values():
            storage.copy_(before)

    @torch.no_grad()
    def replay(self) -> None:
        """Run the operations again, into the same memory."""
        for func, args, kwargs, out, works in self._calls:
            if not works:  # a view of what is there
                continue
            again = func(*args, **kwargs)
            if not func._schema.is_mutable:
                for old, new in zip(_tensors(out), _tensors(again), strict=True):
                    old.copy_(new)


def _bare(item: Any) -> Any:
    return item.detach() if isinstance(item, Tensor) else item


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


class TapeRecorder:
    """Stands for `_graphs.Recorder`, and counts."""

    captures = 0
    replays = 0

    def __init__(self, device: torch.device) -> None:
        del device

    def run(self, step: Callable[[], None]) -> None:
        step()

    def capture(self, step: Callable[[], None]) -> Callable[[], None]:
        tape = Tape()
        try:
            with tape:
                step()
        finally:
            tape.rewind()
        type(self).captures += 1

        def replay() -> None:
            type(self).replays += 1
            tape.replay()

        return replay


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> type[TapeRecorder]:
    """Replays the steps of this test by tapes, on the CPU."""

    class Counting(TapeRecorder):
        pass

    monkeypatch.setattr(_graphs, "_DEVICE", "cpu")
    monkeypatch.setattr(_graphs, "Recorder", Counting)
    monkeypatch.setattr(_graphs, "_told", set())
    return Counting
