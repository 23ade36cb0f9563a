from __future__ import annotations

import errno
import logging
import math
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from styletryon.errors import CheckpointError, CheckpointNotFoundError, RangeError, SaveError
from styletryon.training.checkpoints import CheckpointFolder, load_state, save_state

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool,
]  # fmt: skip


def same(one: Any, two: Any) -> bool:
    """Equality that tells 1 from True and 1.0, a list from a tuple, and knows tensors, NaN and -0.0."""
    if isinstance(one, torch.Tensor):
        return (
            isinstance(two, torch.Tensor)
            and one.dtype == two.dtype
            and one.shape == two.shape
            and torch.equal(one.reshape(-1).view(torch.uint8), two.reshape(-1).view(torch.uint8))
        )
    if type(one) is not type(two):
        return False
    if isinstance(one, dict):
        return len(one) == len(two) and all(same(k, m) and same(one[k], two[m]) for k, m in zip(one, two, strict=True))
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(same(a, b) for a, b in zip(one, two, strict=True))
    if isinstance(one, float):
        return repr(one) == repr(two)
    return bool(one == two)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec="utf-8"))
KEYS = st.integers() | st.text(st.characters(codec="utf-8")) | st.booleans() | st.none()
TENSORS = st.builds(
    lambda shape, dtype, seed: torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype),
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from(DTYPES),
    st.integers(0, 9),
)
STATES = st.dictionaries(
    KEYS,
    st.recursive(
        SCALARS | TENSORS,
        lambda part: st.lists(part, max_size=3) | st.tuples(part, part) | st.dictionaries(KEYS, part, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(state=STATES)
def test_round_trip_is_exact(tmp_path: Path, state: dict[Any, Any]) -> None:
    save_state(tmp_path / "state.safetensors", state)
    assert same(load_state(tmp_path / "state.safetensors"), state)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, -0.0, 0.1, 5e-324, 1.7976931348623157e308])
def test_floats_keep_their_bits(tmp_path: Path, value: float) -> None:
    save_state(tmp_path / "state.safetensors", {"x": value, "t": torch.tensor(value, dtype=torch.float64)})
    loaded = load_state(tmp_path / "state.safetensors")
    assert repr(loaded["x"]) == repr(value)
    assert repr(loaded["t"].item()) == repr(value)


def train(module: torch.nn.Module, optimizer: torch.optim.Optimizer, random: torch.Generator, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        module(torch.randn(4, 3, generator=random)).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, torch.optim.RMSprop])
def test_a_training_goes_on_bit_for_bit(tmp_path: Path, kind: type[torch.optim.Optimizer]) -> None:
    def fresh(seed: int) -> tuple[torch.nn.Module, torch.optim.Optimizer, torch.Generator]:
        random = torch.Generator().manual_seed(seed)
        module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=random))
        return module, kind(module.parameters(), lr=0.01), random

    module, optimizer, random = fresh(0)
    train(module, optimizer, random, 3)
    save_state(
        tmp_path / "state.safetensors",
        {"module": module.state_dict(), "optimizer": optimizer.state_dict(), "random": random.get_state()},
    )
    train(module, optimizer, random, 3)

    other, other_optimizer, other_random = fresh(1)
    state = load_state(tmp_path / "state.safetensors")
    other.load_state_dict(state["module"])
    other_optimizer.load_state_dict(state["optimizer"])
    other_random.set_state(state["random"])
    train(other, other_optimizer, other_random, 3)
    assert same(dict(other.state_dict()), dict(module.state_dict()))


def test_numpy_generators_and_scalars(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    save_state(tmp_path / "s", {"random": random.bit_generator.state, "n": np.int64(3), "x": np.float32(0.5)})
    state = load_state(tmp_path / "s")
    again = np.random.default_rng()
    again.bit_generator.state = state["random"]
    assert again.random(5).tolist() == random.random(5).tolist()
    assert same([state["n"], state["x"]], [3, 0.5])


def test_shared_and_strided_tensors_are_written_each_on_its_own(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    state = {
        "a": base,
        "b": base,
        "t": base.T,
        "row": base[1],
        "wide": base[:1].expand(5, 4),
        "p": base.requires_grad_(),
    }
    save_state(tmp_path / "s", state)
    loaded = load_state(tmp_path / "s")
    for name, value in state.items():
        assert torch.equal(loaded[name], value)
        assert loaded[name].is_contiguous()
    loaded["a"].zero_()
    assert bool(loaded["b"].any())


def test_the_file_has_no_pickle_and_opens_as_safetensors(tmp_path: Path) -> None:
    save_state(tmp_path / "s.safetensors", {"w": torch.ones(2), "n": OrderedDict(x=1)})
    assert [value.tolist() for value in safetensors.torch.load_file(tmp_path / "s.safetensors").values()] == [[1, 1]]
    assert (tmp_path / "s.safetensors").read_bytes()[8:9] == b"{"


@pytest.mark.parametrize(
    ("state", "where"),
    [
        ({"a": {"b": [1, object()]}}, r"state\['a'\]\['b'\]\[1\]: expected .* got object"),
        ({(1, 2): 3}, "state: expected keys .* got tuple"),
        ({"s": torch.eye(2).to_sparse()}, r"state\['s'\]: expected a dense tensor"),
        ({"m": torch.empty(2, device="meta")}, r"state\['m'\]: expected a dense tensor"),
        ({"f": np.ones(3)}, r"state\['f'\]: expected tensors, .* got ndarray"),
    ],
)
def test_what_cannot_be_saved_is_named(tmp_path: Path, state: dict[Any, Any], where: str) -> None:
    with pytest.raises(CheckpointError, match=where):
        save_state(tmp_path / "s", state)
    assert not list(tmp_path.iterdir())


def fill_the_disk(patch: pytest.MonkeyPatch) -> None:
    def fsync(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    patch.setattr(os, "fsync", fsync)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state(tmp_path / "s", {"n": 1})
    with monkeypatch.context() as patch:
        fill_the_disk(patch)
        with pytest.raises(SaveError, match=r"path: cannot write .*No space left"):
            save_state(tmp_path / "s", {"n": 2})
    assert load_state(tmp_path / "s") == {"n": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["s"]


def test_a_path_that_cannot_be_is_a_save_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(SaveError, match="path: "):
        save_state(tmp_path / "file" / "s", {"n": 1})
    with pytest.raises(SaveError, match="path: "):
        save_state(tmp_path, {"n": 1})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match="no such file"):
        load_state(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError):
        load_state(tmp_path / "nothing")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.99])
def test_a_file_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    file = tmp_path / "s"
    save_state(file, {"w": torch.ones(1000), "n": 1})
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match="damaged"):
        load_state(file)


def test_zeros_where_data_was_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "s"
    save_state(file, {"w": torch.ones(1000), "n": 1})
    content = file.read_bytes()
    file.write_bytes(content[:-512] + bytes(512))
    with pytest.raises(CheckpointError, match="checksum"):
        load_state(file)


def test_a_changed_skeleton_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "s"
    save_state(file, {"count": 12345})
    file.write_bytes(file.read_bytes().replace(b"12345", b"54321"))
    with pytest.raises(CheckpointError, match="checksum"):
        load_state(file)


def test_other_files_are_told_apart(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    safetensors.torch.save_file({"w": torch.ones(2)}, file)
    with pytest.raises(CheckpointError, match="something else"):
        load_state(file)
    file.write_bytes(b"not at all")
    with pytest.raises(CheckpointError, match="damaged"):
        load_state(file)
    safetensors.torch.save_file({}, file, {"format": "styletryon-training-state", "version": "99"})
    with pytest.raises(CheckpointError, match="version"):
        load_state(file)


def test_folder_keeps_the_newest(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "states", keep=2)
    assert folder.latest() is None
    for step in (0, 5, 100, 20):
        assert folder.save(step, {"step": step}) == folder.file(step)
    assert folder.steps() == [5, 20, 100]  # 100 is later than 20 and so is never in the way of it.
    assert folder.latest() == (100, {"step": 100})
    assert "keep=2" in repr(folder)
    folder.save(101, {"step": 101}, replace=False)
    assert folder.steps() == [5, 20, 100, 101]


def test_folder_passes_over_a_damaged_newest(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = CheckpointFolder(tmp_path, keep=3)
    for step in (1, 2):
        folder.save(step, {"step": step, "w": torch.ones(100)})
    folder.file(2).write_bytes(folder.file(2).read_bytes()[:-10])
    with caplog.at_level(logging.WARNING, logger="styletryon"):
        found = folder.latest()
    assert found is not None
    assert found[0] == 1
    assert "passing over the training state of step 2" in caplog.text


def test_folder_of_damaged_states_does_not_pass_for_an_empty_one(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(1, {"n": 1})
    folder.file(1).write_bytes(b"")
    with pytest.raises(CheckpointError, match="got only damaged ones"):
        folder.latest()


def test_folder_on_a_full_disk_keeps_every_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = CheckpointFolder(tmp_path, keep=1)
    folder.save(1, {"n": 1})
    with monkeypatch.context() as patch:
        fill_the_disk(patch)
        with pytest.raises(SaveError):
            folder.save(2, {"n": 2})
    assert folder.latest() == (1, {"n": 1})


def test_folder_clears_away_what_a_killed_process_left(tmp_path: Path) -> None:
    left = tmp_path / ".step-00000001.safetensors.abc.part"
    left.write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine")
    CheckpointFolder(tmp_path).save(2, {"n": 2})
    assert sorted(file.name for file in tmp_path.iterdir()) == ["notes.txt", "step-00000002.safetensors"]


def test_folder_survives_what_it_cannot_delete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = CheckpointFolder(tmp_path, keep=1)
    folder.save(1, {"n": 1})

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "in use")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, logger="styletryon"):
        patch.setattr(Path, "unlink", refuse)
        folder.save(2, {"n": 2})
    assert folder.steps() == [1, 2]
    assert "cannot delete" in caplog.text


def test_folder_arguments(tmp_path: Path) -> None:
    with pytest.raises(RangeError, match="keep: expected at least 1"):
        CheckpointFolder(tmp_path, keep=0)
    with pytest.raises(RangeError, match="step: expected at least 0"):
        CheckpointFolder(tmp_path).save(-1, {})
