"""Several data sets as one: every picture is its part's, and each part is drawn from as often as asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from styletryon.data import FolderDataset, JoinedDataset
from styletryon.data.paperdoll import write_dataset
from styletryon.errors import DataError, RangeError
from styletryon.training import Trainer, TrainingCallback, train
from tests.training.test_processes import tryons  # noqa: F401
from tests.training.test_trainer import config, data  # noqa: F401

SIZE = (32, 24)


@pytest.fixture(scope="module")
def parts(data: Path, tryons: Path) -> tuple[FolderDataset, FolderDataset]:  # noqa: F811
    return FolderDataset(data, size=SIZE), FolderDataset(tryons, size=SIZE)


def test_each_picture_is_that_of_its_part(parts: tuple[FolderDataset, FolderDataset]) -> None:
    joined = JoinedDataset(parts)
    assert len(joined) == len(parts[0]) + len(parts[1]) == len(set(joined.ids))
    rows = np.random.default_rng(0).permutation(len(joined))
    batch = joined.batch(rows)
    for place, row in enumerate(rows):
        number, _, name = joined.ids[row].partition("/")
        own = parts[int(number)].item(parts[int(number)].ids.index(name))
        assert torch.equal(batch.images[place], own.image)
        assert torch.equal(batch.labels[place], own.labels)
        assert torch.equal(batch.keypoints[place], own.keypoints)
    first = [name.partition("/")[0] for name in joined.ids[: len(joined) // 2]]  # they stand for all
    assert abs(first.count("0") - len(parts[0]) / 2) <= 1


def test_partners_and_try_ons_stay_in_their_part(parts: tuple[FolderDataset, FolderDataset]) -> None:
    joined, rng = JoinedDataset(parts), np.random.default_rng(0)
    rows = np.arange(len(joined))
    of = [name.partition("/")[0] for name in joined.ids]
    partners = joined.partners(rows, rng)
    assert joined.has_partners
    assert [of[row] for row in partners] == of
    names = [joined.ids[row].partition("/")[2] for row in partners]
    styled = {name: index // 2 for index, name in enumerate(parts[0].ids)}  # two poses of each style
    for row, name in enumerate(names):
        if of[row] == "0":
            own = joined.ids[row].partition("/")[2]
            assert name != own
            assert styled[name] == styled[own]
    found = joined.tryons(9, rng)
    assert {of[row] for row in [*found.truths, *found.people, *found.garments]} == {"1"}
    with pytest.raises(DataError, match="try-ons"):
        JoinedDataset(parts[:1]).tryons(1, rng)


@settings(max_examples=20, deadline=None)
@given(share=st.floats(0.05, 0.95), size=st.integers(1, 9), seed=st.integers(0, 9))
def test_shares_are_kept(parts: tuple[FolderDataset, FolderDataset], share: float, size: int, seed: int) -> None:
    joined = JoinedDataset(parts, shares=(share * 7, (1 - share) * 7))
    steps = -(-480 // size)
    drawn = np.concatenate([joined.drawn(size, seed, step) for step in range(steps)])[:480]
    assert drawn.tolist() == [row for step in range(steps) for row in joined.drawn(size, seed, step)][:480]
    names = [joined.ids[row] for row in drawn]
    for number, part in enumerate(parts):
        own = [name for name in names if name.startswith(f"{number}/")]
        assert abs(len(own) - 480 * (share, 1 - share)[number]) <= 1
        for first in range(0, len(own) - len(part) + 1, len(part)):  # no picture twice before all were seen
            assert len(set(own[first : first + len(part)])) == len(part)


def test_refuses_what_cannot_be_joined(parts: tuple[FolderDataset, FolderDataset], data: Path) -> None:  # noqa: F811
    with pytest.raises(DataError, match="one size"):
        JoinedDataset((parts[0], FolderDataset(data, size=(16, 12))))
    with pytest.raises(DataError, match="none"):
        JoinedDataset(())
    for shares in ((1.0,), (1.0, 0.0), (1.0, float("nan")), (1.0, 1e6)):
        with pytest.raises(RangeError, match="shares"):
            JoinedDataset(parts, shares=shares)


def test_the_colour_of_those_that_were_cut_out(data: Path, tmp_path: Path) -> None:  # noqa: F811
    write_dataset(tmp_path, 2, size=SIZE, stances=1)
    (tmp_path / "prepared.json").write_text('{"settings": {"background": [255, 255, 255]}}')
    plain, cut = FolderDataset(data, size=SIZE), FolderDataset(tmp_path, size=SIZE)
    assert JoinedDataset((plain, cut)).background == (255, 255, 255)
    assert JoinedDataset((plain,)).background == ()


class Stop(TrainingCallback):
    """Stops a run after five steps."""

    def on_log(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        if trainer.step == 5:
            raise RuntimeError("enough")


def test_training_on_several_resumes_exactly(data: Path, tryons: Path, tmp_path: Path) -> None:  # noqa: F811
    numbers = config()
    common = {"config": numbers, "shares": (1, 2), "precision": "fp32", "progress": False, "save_minutes": 0}
    assert train([data, tryons], tmp_path / "whole", **common)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="enough"):
        train([data, tryons], tmp_path / "halves", callbacks=[Stop()], log_every=1, **common)  # type: ignore[arg-type]
    assert train([data, tryons], tmp_path / "halves", resume=True, **common)  # type: ignore[arg-type]
    whole, halves = ((tmp_path / run / "model" / "model.safetensors").read_bytes() for run in ("whole", "halves"))
    assert whole == halves
    with pytest.raises(DataError, match="several"):
        train(data, tmp_path / "one", **common)  # type: ignore[arg-type]
