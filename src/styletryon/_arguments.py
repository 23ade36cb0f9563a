"""What callers pass: numbers, choices, seeds and devices, each checked in one place, and what errors call it.

NumPy's numbers and tensors of one number are taken as Python's own are. Whatever else comes is refused by an error that
names the argument.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from styletryon.errors import ConfigError, RangeError, StyleTryOnError

if TYPE_CHECKING:
    import torch

_SEEDS = (-(1 << 63), (1 << 64) - 1)
"""The least and the greatest seed that torch takes."""


def whole(
    value: Any,
    argument: str,
    *,
    least: int | None = None,
    most: int | None = None,
    kind: type[StyleTryOnError] = RangeError,
) -> int:
    """Return a whole number as an `int`.

    Args:
        value: What was passed.
        argument: Its name for the error.
        least: The least that it may be.
        most: The greatest that it may be.
        kind: The error.

    Raises:
        StyleTryOnError: Of that kind, if it is no whole number or out of range.
    """
    try:
        number = operator.index(value)
    except TypeError:  # of a tensor too, whether it holds several numbers or a fraction
        number = None
    if number is None or (least is not None and number < least) or (most is not None and number > most):
        raise kind(f"expected a whole number{_range(least, most)}, got {_shown(value)}", argument=argument)
    return number


def number(
    value: Any,
    argument: str,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    kind: type[StyleTryOnError] = RangeError,
) -> float:
    """Return a finite number as a `float`.

    Args:
        value: What was passed.
        argument: Its name for the error.
        least: The least that it may be.
        most: The greatest that it may be.
        above: What it must be greater than.
        kind: The error.

    Raises:
        StyleTryOnError: Of that kind, if it is no finite number or out of range.
    """
    try:
        found = math.nan if isinstance(value, (str, bytes)) else float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        found = math.nan
    if (
        not math.isfinite(found)
        or (least is not None and found < least)
        or (most is not None and found > most)
        or (above is not None and not found > above)
    ):
        allowed = f" above {above:g}" if above is not None else _range(least, most)
        raise kind(f"expected a finite number{allowed}, got {_shown(value)}", argument=argument)
    return found


def choice(value: Any, argument: str, known: Collection[str], *, kind: type[StyleTryOnError] = ConfigError) -> str:
    """Return one of several words.

    Raises:
        StyleTryOnError: Of that kind, if it is none of them.
    """
    if not isinstance(value, str) or value not in known:
        raise kind(f"expected one of {', '.join(map(repr, known))}, got {_shown(value)}", argument=argument)
    return value


def check_seed(value: Any, argument: str = "seed") -> int:
    """Return a seed as an `int`.

    Raises:
        RangeError: If it is no whole number that torch takes.
    """
    return whole(value, argument, least=_SEEDS[0], most=_SEEDS[1])


def seeded(seed: Any, argument: str = "seed") -> torch.Generator:
    """Return a random generator on the CPU, so that a seed means the same on every device.

    Raises:
        RangeError: If the seed is no whole number that torch takes.
    """
    import torch

    return torch.Generator("cpu").manual_seed(check_seed(seed, argument))


def find_device(device: torch.device | str | int | None, argument: str = "device") -> torch.device:
    """Return a device that is there, with its index, so that equal devices compare equal.

    Args:
        device: What was asked for. None for a CUDA device where there is one, else the CPU.
        argument: Its name for the error.

    Raises:
        ConfigError: If there is no such device, or this machine does not have it.
    """
    import torch

    wanted = ("cuda" if torch.cuda.is_available() else "cpu") if device is None else device
    try:
        return torch.zeros(1, dtype=torch.float32, device=wanted).device
    except Exception as error:  # whatever a backend that is not there raises
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]
        raise ConfigError(
            f"expected a device that this machine has, such as 'cpu', got {_shown(device)} ({reason})",
            argument=argument,
        ) from error


@contextmanager
def renamed(names: Mapping[str, str]) -> Iterator[None]:
    """Let errors name the caller's argument instead of that of a function further down.

    Args:
        names: Argument of the function further down -> the caller's. Any other stays as it is.
    """
    try:
        yield
    except StyleTryOnError as error:
        if error.argument is not None:
            error.argument = names.get(error.argument, error.argument)
        raise


def _range(least: float | None, most: float | None) -> str:
    if least is not None and most is not None:
        return f" in [{least}, {most}]"
    if least is not None:
        return f" of at least {least}"
    return "" if most is None else f" of at most {most}"


def _shown(value: Any) -> str:
    text = repr(str(value)) if type(value).__module__ == "torch" and not hasattr(value, "shape") else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
