"""Checkpoints are read as data: nothing that a file names is run, and what it may cost is bounded."""

from __future__ import annotations

import _compat_pickle
import io
import os
import pickle
import re
import struct
import subprocess
import zipfile
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from styletryon.errors import CheckpointError
from styletryon.interop import _pickles, load_stylegan2
from styletryon.interop._checkpoints import StoredTensor, array_of, open_checkpoint
from tests._support.stylegan2_files import (
    Persistent,
    nvidia_generator,
    persistence,
    random_net,
    rosinality_state,
    write_nvidia,
)


class Runs:
    """An object whose pickle calls something when it is loaded."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def attacks(canary: Path) -> list[Runs]:
    """Objects that would write the canary, or could."""
    write = f"open({str(canary)!r}, 'w')"
    return [
        Runs(os.system, f"touch {canary}"),
        Runs(eval, write),
        Runs(exec, write),
        Runs(getattr, "text", "join"),
        Runs(io.open, str(canary), "w"),
        Runs(subprocess.Popen, ["touch", str(canary)]),
        Runs(torch.load, str(canary)),
        Runs(np.load, str(canary)),
        Runs(torch._utils._rebuild_wrapper_subclass),
    ]


def name_in(attack: Runs, protocol: int) -> str:
    """What a pickle calls the function; old protocols have Python 2's names."""
    module, name = attack.call[0].__module__, attack.call[0].__qualname__
    if protocol < 3:
        module, name = _compat_pickle.REVERSE_NAME_MAPPING.get((module, name), (module, name))
        module = _compat_pickle.REVERSE_IMPORT_MAPPING.get(module, module)
    return f"{module}.{name}"


@pytest.mark.parametrize("index", range(len(attacks(Path("x")))), ids=lambda i: attacks(Path("x"))[i].call[0].__name__)
@pytest.mark.parametrize("form", ["pickle", "old pickle", "zip", "legacy", "state", "storage"])
def test_nothing_is_run(index: int, form: str, tmp_path: Path) -> None:
    canary, path = tmp_path / "canary", tmp_path / "bad.pt"
    attack, protocol = attacks(canary)[index], 2
    if form in ("zip", "legacy"):
        torch.save({"g_ema": attack}, path, _use_new_zipfile_serialization=form == "zip")
    elif form == "storage":  # a file within the file
        inner = io.BytesIO()
        torch.save(attack, inner, _use_new_zipfile_serialization=False)
        path.write_bytes(pickle.dumps(Runs(torch.storage._load_from_bytes, inner.getvalue())))
    elif form == "state":
        protocol = 4
        with persistence():
            path.write_bytes(pickle.dumps({"G_ema": Persistent("Generator", {}, evil=attack)}, protocol))
    else:
        protocol = 0 if form == "old pickle" else 4
        path.write_bytes(pickle.dumps({"G_ema": attack}, protocol))
    with pytest.raises(CheckpointError, match=re.escape(f"refused: it asks for '{name_in(attack, protocol)}'")):
        load_stylegan2(path)
    assert not canary.exists()


@pytest.mark.parametrize(
    "program",
    [b"cos\nsystem\n(S'touch %s'\ntR.", b"(S'touch %s'\nios\nsystem\n.", b"(cos\nsystem\nS'touch %s'\no."],
    ids=["reduce", "inst", "obj"],
)
def test_old_opcodes_run_nothing(program: bytes, tmp_path: Path) -> None:
    canary, path = tmp_path / "canary", tmp_path / "bad.pkl"
    path.write_bytes(program % os.fsencode(canary))
    with pytest.raises(CheckpointError, match=r"asks for 'os\.system'"):
        load_stylegan2(path)
    assert not canary.exists()


def test_the_source_in_nvidias_files_stays_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = tmp_path / "canary"
    source = f"import pathlib; pathlib.Path({str(canary)!r}).touch()"
    monkeypatch.setattr(Persistent, "source", source)
    path = write_nvidia(random_net(), tmp_path / "g.pkl")
    load_stylegan2(path)
    with open_checkpoint(path) as value:
        assert value["G_ema"].state["module_src"] == source
    assert not canary.exists()
    exec(source)  # what would have happened
    assert canary.exists()


def test_values_are_what_was_saved(tmp_path: Path) -> None:
    content = {
        "plain": [1, -2.5, "text", b"bytes", None, True, (1, 2), 10**30],
        "ordered": OrderedDict(a=torch.arange(6.0).reshape(2, 3).t()),
        "tensors": {str(dtype): torch.arange(3).to(dtype) for dtype in (torch.int64, torch.uint8, torch.bool)},
        "size": torch.Size([2, 3]),
        "numbers": [np.float64(1.5), np.int32(-7)],
        "array": np.arange(6, dtype=">i4").reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "args": Namespace(size=256),
        "empty": torch.zeros(0, 3),
    }
    for protocol in (2, 4):
        torch.save(content, tmp_path / "x.pt", pickle_protocol=protocol)
        with open_checkpoint(tmp_path / "x.pt") as value:
            assert [x.read() if isinstance(x, _pickles.Span) else x for x in value["plain"]] == content["plain"]
            assert torch.equal(value["ordered"]["a"].load(), content["ordered"]["a"])
            for name, tensor in content["tensors"].items():
                assert torch.equal(value["tensors"][name].load(), tensor)
            assert value["size"] == (2, 3)
            assert value["numbers"] == [1.5, -7]
            np.testing.assert_array_equal(array_of(value["array"]), content["array"])
            np.testing.assert_array_equal(array_of(value["fortran"]), content["fortran"])
            assert value["args"].name == "argparse.Namespace"
            assert value["args"].state == {"size": 256}
            assert value["empty"].load().shape == (0, 3)


def test_tensors_are_read_only_when_they_are_wanted(tmp_path: Path) -> None:
    with persistence():
        judge = Persistent("Discriminator", weight=torch.zeros(1_000_000))
        heavy = {"D": judge, "G_ema": nvidia_generator(random_net())}
        (tmp_path / "g.pkl").write_bytes(pickle.dumps(heavy))
    with open_checkpoint(tmp_path / "g.pkl") as value:
        weight = value["D"].state["state"]["_parameters"]["weight"]
        assert isinstance(weight, StoredTensor)
        assert weight.shape == (1_000_000,)


def test_a_tensor_may_not_show_its_numbers_many_times(tmp_path: Path) -> None:
    torch.save({"g_ema": {"conv1.conv.weight": torch.zeros(1).expand(1 << 40)}}, tmp_path / "bomb.pt")
    with pytest.raises(CheckpointError, match="reaches beyond its storage"):
        load_stylegan2(tmp_path / "bomb.pt")


def test_what_is_allocated_is_bounded_by_the_file(tmp_path: Path) -> None:
    path, shared = tmp_path / "bomb.pt", torch.zeros(7, 7)
    state = rosinality_state(random_net())
    for legacy in (False, True):  # one storage for very many layers
        many = {f"style.{i}.weight": shared for i in range(3, 3000)}
        many |= {f"style.{i}.bias": shared[0] for i in range(3, 3000)}
        torch.save({"g_ema": {**state, **many}}, path, _use_new_zipfile_serialization=not legacy)
        with pytest.raises(CheckpointError, match="needs more than the"):
            load_stylegan2(path)
    wide = {**state, "conv1.conv.weight": torch.zeros(1, 1_000_000, 1, 1, 1)}  # it would need terabytes
    torch.save({"g_ema": wide}, path)
    with pytest.raises(CheckpointError, match="needs more than the"):
        load_stylegan2(path)
    with persistence():
        weight = torch.zeros(7, 7)
        judge = Persistent("FullyConnectedLayer", weight=weight, bias=weight[0], activation="lrelu", bias_gain=0.01)
        root = nvidia_generator(random_net())
        root.state["_modules"]["mapping"].state["_modules"] |= {f"fc{i}": judge for i in range(2, 3000)}
        path.write_bytes(pickle.dumps({"G_ema": root}))
    with pytest.raises(CheckpointError, match="needs more than the"):
        load_stylegan2(path)


def repack(path: Path, compression: int) -> None:
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)


def test_zip_bombs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    torch.save({"g_ema": torch.zeros(1_000_000)}, path)
    repack(path, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10_000
    with pytest.raises(CheckpointError, match="more than the file has; a zip bomb"):
        load_stylegan2(path)
    torch.save({"g_ema": torch.rand(10)}, path)
    repack(path, zipfile.ZIP_BZIP2)
    with pytest.raises(CheckpointError, match=r"is compressed|more than the file has"):
        load_stylegan2(path)


def test_a_storage_of_another_size_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save({"g_ema": torch.rand(10)}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data[:-4] if name.endswith("data/0") else data)
    with pytest.raises(CheckpointError, match="has 36 bytes instead of 10"):
        load_stylegan2(path)


@pytest.mark.parametrize("form", ["pickle", "zip", "legacy"])
def test_a_file_that_ends_early_is_damaged(form: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    if form == "pickle":
        write_nvidia(random_net(), path)
    else:
        state = {"g_ema": {"conv1.conv.weight": torch.rand(100)}}
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    data = path.read_bytes()
    for share in (0.0, 0.3, 0.6, 0.9, 0.999):
        path.write_bytes(data[: int(share * len(data))])
        with pytest.raises(CheckpointError):
            load_stylegan2(path)


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"abc",  # bytes that are not there
        b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62),  # a text that is not there
        b"\x80\x02]" + b"\x82\x01.",  # a name by number
        b"\x80\x05\x97.",  # a buffer beside the file
        b"\x80\x09N.",  # a protocol of the future
        b"not a pickle",
        b"\x80\x04}.",
        b"\x80\x04.",
        b"\x80\x04h\x05.",
        b"\x80\x04K\x01K\x02\x86)R.",  # a call of what cannot be called
        b"\x80\x04]}b.",  # a state for what has none
        b"\x80\x04(K\x01K\x02u.",
        b"\x80\x04K\x01K\x02a.",
        b"\x80\x04}" + b")" + b"\x85" * 3 + b"K\x01s.",  # a nest as a key
        b"\x80\x04K\x01Q.",
        b"ctorch\nFloatStorage\n)R.",
    ],
    ids=repr,
)
def test_programs_that_are_no_checkpoints(program: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(program)
    with pytest.raises(CheckpointError):
        load_stylegan2(path)


@pytest.mark.parametrize("form", ["pickle", "zip", "legacy"])
def test_files_with_wrong_bytes_are_told_or_read(form: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    if form == "pickle":
        write_nvidia(random_net(channels=(2, 2)), path)
    else:
        state = {"g_ema": rosinality_state(random_net(channels=(2, 2)))}
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    data, rng, told = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(150):
        wrong = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            wrong[place] = rng.integers(256)
        path.write_bytes(wrong)
        try:
            load_stylegan2(path)
        except CheckpointError:
            told += 1
    assert told > 20


def test_the_number_of_opcodes_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pickles, "MAX_OPCODES", 1000)
    path = tmp_path / "x.pkl"
    path.write_bytes(b"\x80\x04" + b"]" * 2000 + b".")
    with pytest.raises(CheckpointError, match="more than 1000 opcodes"):
        load_stylegan2(path)


def test_modules_without_end_are_refused(tmp_path: Path) -> None:
    with persistence():
        inner = Persistent("Module")
        for _ in range(40):
            inner = Persistent("Module", {"left": inner, "right": inner})
        (tmp_path / "x.pkl").write_bytes(pickle.dumps({"G_ema": inner}))
    with pytest.raises(CheckpointError, match="modules within modules"):
        load_stylegan2(tmp_path / "x.pkl")
