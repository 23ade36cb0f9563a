"""Threads: independent parts of a try-on made side by side; numpy, scipy and torch let each other run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

_Made = TypeVar("_Made")


def side_by_side(tasks: Sequence[Callable[[], _Made]]) -> list[_Made]:
    """Call functions that know nothing of each other, in as many threads as torch may use.

    Args:
        tasks: The functions, the longest first.

    Returns:
        What they return, in their order.

    Raises:
        Exception: What the first of them raises that does.
    """
    count = min(torch.get_num_threads(), len(tasks))
    if count < 2:
        return [task() for task in tasks]
    with ThreadPoolExecutor(count) as pool:
        return [made.result() for made in [pool.submit(task) for task in tasks]]
