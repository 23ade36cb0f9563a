"""The tree of exceptions: as drawn, each also the builtin that one would catch."""

from __future__ import annotations

import builtins
import copy
import pickle
import re

import pytest

from styletryon import errors
from styletryon.errors import StyleTryOnError

CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, StyleTryOnError)]
BUILTINS = {
    "ImageError": ValueError,
    "ImageNotFoundError": FileNotFoundError,
    "ShapeError": ValueError,
    "RangeError": ValueError,
    "RegionError": ValueError,
    "PoseError": ValueError,
    "PersonNotFoundError": ValueError,
    "ConfigError": ValueError,
    "LossError": ValueError,
    "CheckpointError": ValueError,
    "CheckpointNotFoundError": FileNotFoundError,
    "DataError": ValueError,
    "SaveError": OSError,
    "WeightsUnavailableError": RuntimeError,
    "DependencyError": ImportError,
    "BackendUnavailableError": RuntimeError,
    "ProcessGroupError": RuntimeError,
    "TrainingDivergedError": RuntimeError,
}


def test_every_class_is_listed() -> None:
    assert {error.__name__ for error in CLASSES} == {*BUILTINS, "StyleTryOnError"}


@pytest.mark.parametrize("name", BUILTINS)
def test_each_is_the_builtin_that_one_would_catch(name: str) -> None:
    error = getattr(errors, name)
    assert issubclass(error, BUILTINS[name])
    assert issubclass(error, StyleTryOnError)


def test_the_drawing_in_the_docstring_is_true() -> None:
    """Each line of the tree names a class, its builtin in brackets, and stands under its parent."""
    parents: dict[int, type] = {}
    drawn = set()
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^(\s+[│├└─ ]*)(\w+Error)\b(?: \((\w+)\))?", line)
        if not found:
            continue
        error = getattr(errors, found[2])
        depth = len(found[1])
        above = [parents[other] for other in sorted(parents) if other < depth]
        parents = {other: parent for other, parent in parents.items() if other < depth} | {depth: error}
        if above:
            assert error.__bases__[0] is above[-1], f"{error.__name__} stands under {above[-1].__name__}"
        if found[3]:
            assert issubclass(error, getattr(builtins, found[3]))
        drawn.add(error)
    assert drawn == set(CLASSES)


@pytest.mark.parametrize("error", CLASSES)
def test_messages_survive_printing_and_copying(error: type[StyleTryOnError]) -> None:
    message = "argument: expected this, got that; do so"
    raised = error(message)
    assert str(raised) == message
    assert str(copy.copy(raised)) == message
    again = pickle.loads(pickle.dumps(raised))  # Worker processes send them so.
    assert type(again) is error
    assert str(again) == message
    assert error.__doc__
