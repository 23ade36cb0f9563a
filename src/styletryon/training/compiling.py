"""`torch.compile` where it works, and what was there before where it does not."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

_LOGGER = logging.getLogger(__name__)
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def compiled(
    function: Callable[_Arguments, _Result], name: str, *, enabled: bool = True
) -> Callable[_Arguments, _Result]:
    """Return a function compiled at its first call, or as it is from the moment that compiling it fails.

    Args:
        function: What is called often; its gradient is taken once.
        name: What the log calls it.
        enabled: False returns the function itself.
    """
    if not enabled:
        return function
    quick: list[Callable[_Arguments, _Result]] = []
    try:
        quick.append(torch.compile(function))
    except Exception as error:  # of any kind: another Python, no compiler, an operation that it does not know
        _give_up(name, error)

    def call(*arguments: _Arguments.args, **options: _Arguments.kwargs) -> _Result:
        if quick:
            try:
                return quick[0](*arguments, **options)
            except Exception as error:  # if the cause is another, the plain function meets it again
                _give_up(name, error)
                quick.clear()
        return function(*arguments, **options)

    return call


def _give_up(name: str, error: Exception) -> None:
    reason = (str(error).strip().splitlines() or ["no reason given"])[0][:200]
    _LOGGER.warning("compile: %s runs without it: %s: %s", name, type(error).__name__, reason)
