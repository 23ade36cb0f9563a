"""How a batch is shared, and what one process alone makes of the talk."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from styletryon.errors import ConfigError, ProcessGroupError
from styletryon.training import distributed
from styletryon.training.distributed import BatchSplit, ProcessGroup


@given(unit=st.integers(1, 5), each=st.integers(1, 4), parts=st.integers(1, 6))
def test_shares_cover_the_batch_in_whole_units(unit: int, each: int, parts: int) -> None:
    division = BatchSplit(unit * each * parts, unit, parts)
    rows = [row for part in range(parts) for row in division.rows(part)]
    units = [number for part in range(parts) for number in division.units(part)]
    assert rows == list(range(division.batch_size))
    assert units == list(range(each * parts))
    assert [size for part in range(parts) for size in division.sizes(part)] == [unit] * len(units)
    assert division.weight * parts == pytest.approx(1)


def test_one_share_may_end_with_a_smaller_unit() -> None:
    division = BatchSplit(10, 4)
    assert division.sizes(0) == (4, 4, 2)
    assert list(division.units(0)) == [0, 1, 2]


def test_shares_that_would_split_a_group_are_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size: expected a multiple of 16, for 4 equal shares"):
        BatchSplit(8, 4, 4)


def test_one_process_talks_to_itself() -> None:
    group = ProcessGroup()
    assert (group.rank, group.world, group.first) == (0, 1, True)
    assert group.any(True, False) == (True, False)
    weight = torch.ones(2, requires_grad=True)
    group.sum_gradients([weight])
    assert weight.grad is None
    assert group.run_on_first(lambda: b"all") == b"all"
    assert group.same("settings")
    with pytest.raises(ZeroDivisionError):
        group.run_on_first(lambda: bytes(1 // 0))


def test_each_process_takes_its_own_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert distributed.own_device("cuda") == torch.device("cuda", 1)
    assert distributed.own_device("cuda:0") == torch.device("cuda", 0)
    assert distributed.own_device("cpu") == torch.device("cpu")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ConfigError, match="nproc-per-node"):
        distributed.own_device("cuda")
    monkeypatch.delenv("LOCAL_RANK")
    assert distributed.own_device("cuda") == torch.device("cuda")


def test_what_cannot_be_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert not distributed.join(torch.device("cpu"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(ProcessGroupError, match="cannot reach the other processes"):
        distributed.join(torch.device("cpu"))
