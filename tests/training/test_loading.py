"""What steps are fed follows from their number, whoever reads it and when."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from styletryon.data.folder import FolderDataset
from styletryon.errors import DataError, RangeError
from styletryon.training import Trainer
from styletryon.training.distributed import BatchSplit
from styletryon.training.loading import BatchLoader, MicroBatch, _spread
from styletryon.training.randomness import UnitStreams
from tests.training.test_processes import config, tryons  # noqa: F401
from tests.training.test_trainer import assert_same

SIZE = (32, 24)


def tensors(micro_batch: MicroBatch) -> dict[str, torch.Tensor]:
    found = {}
    for name in ("target", "source"):
        part = getattr(micro_batch, name)
        found |= {f"{name}.images": part.images, f"{name}.labels": part.labels, f"{name}.pose": part.pose.keypoints}
    if micro_batch.swap is not None:
        found["garments"] = micro_batch.swap.garments.images
    return found


@pytest.mark.parametrize("cache", [True, False])
def test_threads_change_nothing(tryons: Path, cache: bool) -> None:  # noqa: F811
    dataset, split = FolderDataset(tryons, size=SIZE, cache=cache), BatchSplit(4, 2)
    plain, threaded = (BatchLoader(dataset, config(), split, [0], workers=workers) for workers in (0, 2))
    for step in (0, 1, 2, 7, 8, 3):  # a run may be moved to another step
        assert_same(tensors(plain.load(step)[0]), tensors(threaded.load(step)[0]))
    threaded.close()
    assert_same(tensors(plain.load(4)[0]), tensors(threaded.load(4)[0]))
    threaded.close()
    with pytest.raises(RangeError, match="workers"):
        BatchLoader(dataset, config(), split, [0], workers=-1)


def test_shares_make_the_batch(tryons: Path) -> None:  # noqa: F811
    dataset = FolderDataset(tryons, size=SIZE)
    (whole,) = BatchLoader(dataset, config(), BatchSplit(4, 2), [0]).load(3)
    parts = BatchLoader(dataset, config(), BatchSplit(4, 2, 2), [0, 1]).load(3)
    joined = {name: torch.cat([tensors(part)[name] for part in parts]) for name in tensors(whole)}
    assert_same(tensors(whole), joined)
    assert whole.swap is not None
    assert whole.swap.rows.tolist() == [1, 2, 3]
    assert [part.swap.rows.tolist() for part in parts if part.swap is not None] == [[1], [0, 1]]
    regions = [region for part in parts if part.swap is not None for region in part.swap.regions]
    assert regions == list(whole.swap.regions)


def test_try_ons_are_spread_evenly() -> None:
    assert _spread(0, 8).tolist() == []
    assert _spread(4, 8).tolist() == [1, 3, 5, 7]
    assert _spread(8, 8).tolist() == list(range(8))
    assert len(_spread(3, 8)) == 3


def test_a_unit_draws_the_same_for_whoever_computes_it() -> None:
    together = UnitStreams(1, 5, 3, range(4))
    alone = [UnitStreams(1, 5, 3, [unit]) for unit in range(4)]
    normal = together.normal([2] * 4, 3)
    assert torch.equal(normal, torch.cat([stream.normal([2], 3) for stream in alone]))
    assert torch.equal(together.uniform([1] * 4), torch.cat([stream.uniform([1]) for stream in alone]))
    assert not torch.equal(normal, UnitStreams(1, 6, 3, range(4)).normal([2] * 4, 3))
    assert not torch.equal(normal, UnitStreams(1, 5, 4, range(4)).normal([2] * 4, 3))


def test_a_fault_in_a_picture_reaches_the_run(tryons: Path, tmp_path: Path) -> None:  # noqa: F811
    import shutil

    shutil.copytree(tryons, tmp_path / "data")
    dataset = FolderDataset(tmp_path / "data", size=SIZE, cache=False)
    for file in (tmp_path / "data" / "images").iterdir():
        file.write_bytes(b"")
    run = Trainer(config(), dataset, tmp_path / "run", precision="fp32", workers=1)
    with pytest.raises(DataError, match="cannot be read"):
        run.train()
