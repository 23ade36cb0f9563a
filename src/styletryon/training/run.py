"""A whole training run from a folder of pictures, in one process or one of several."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch

from styletryon.errors import ConfigError, DataError
from styletryon.models import PoseStyleGAN2
from styletryon.training import distributed
from styletryon.training.callbacks import TrainingCallback
from styletryon.training.config import TrainingConfig
from styletryon.training.curves import CurvesCallback
from styletryon.training.loading import read_splits
from styletryon.training.precision import resolve_precision
from styletryon.training.trainer import Trainer


def train(
    data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    config: TrainingConfig,
    shares: Sequence[float] | None = None,
    start: str | os.PathLike[str] | PoseStyleGAN2 | None = None,
    resume: bool = False,
    minutes: float | None = None,
    save_minutes: float = 5.0,
    keep: int = 2,
    device: str | torch.device = "cpu",
    precision: str = "auto",
    accumulate: int = 1,
    compile: bool = False,
    workers: int | None = None,
    cache: bool = True,
    progress: bool = True,
    callbacks: Iterable[TrainingCallback] = (),
    log_every: int = 100,
    sample_every: int = 2000,
) -> bool:
    """Train a generator on a folder or zip of pictures.

    Under ``torchrun --nproc-per-node N -m styletryon train ...`` N processes share each batch.

    Args:
        data: Folder or zip, or several that are trained on together; see `styletryon.data.FolderDataset`.
        out: Folder for checkpoints, log, samples and the finished model.
        config: The settings; see `styletryon.training.preset`.
        shares: How often each of several data sets is drawn from; see `styletryon.data.JoinedDataset`. A resumed run
            needs the same.
        start: What a new run starts its generator and encoder from, wherever names and shapes fit: a folder of
            `PoseStyleGAN2.save_pretrained`, the name of bundled weights ("default"), or a generator. None starts at
            random. A resumed run has its weights already.
        resume: Go on from the newest checkpoint in `out`.
        minutes: Stop after this long, with a checkpoint.
        save_minutes: Minutes from one checkpoint to the next.
        keep: Checkpoints to keep, at least 1. With 2, a damaged one costs what came after the one before it.
        device: "cpu", or "cuda" for the device of this process's number.
        precision: "fp32", "bf16", "fp16", or "auto" for bfloat16 where that is faster, and after `resume` for what the
            run had.
        accumulate: Micro-batches whose gradients make one step: less memory for the same result.
        compile: Whether drawing and encoding are compiled; where that fails, the log says why.
        workers: Threads that read the next batches meanwhile. None for 2 on a CUDA device, else none.
        cache: Whether all pictures are kept in memory, at the generator's size; else they are read when needed.
        progress: Whether a progress bar is shown on standard error.
        callbacks: What else is told how it goes; see `TrainingCallback`. The curves are drawn in any case.
        log_every: Steps from one line of the log to the next, at least 1.
        sample_every: Steps from one measurement with sample sheets to the next, at least 1.

    Returns:
        Whether the run is complete; the finished model then stands in `out/model`.

    Raises:
        DataError: If the data set is incomplete.
        ConfigError: If `out` holds a run already and `resume` is false, nothing of `start` fits, the batch cannot be
            shared equally, or a setting has no meaning.
        RangeError: If `keep` is below 1 or `workers` below 0.
        CheckpointError: If no checkpoint can be resumed, or `start` cannot be loaded.
        TrainingDivergedError: If a loss is not finite or the discriminator has collapsed; see `Trainer.train`.
        ProcessGroupError: If another process has died, fallen silent, or has other settings or data.
        SaveError: If a file cannot be written.
        KeyboardInterrupt: After an interrupt; a checkpoint stands.
    """
    if log_every < 1 or sample_every < 1:
        raise ConfigError(
            f"expected at least 1, got {log_every} and {sample_every}", argument="log_every, sample_every"
        )
    resolve_precision(precision, torch.device("cpu"))  # complains before the data are read
    size = config.generator.image_size
    dataset, held_out = read_splits(data, size=size, batch_size=config.batch_size, shares=shares, cache=cache)
    if config.tryons and not dataset.has_tryons:
        raise DataError(
            "the settings train on try-ons of known truth, but there is no tryons.json; render some with "
            "styletryon paperdoll --tryons, or choose the preset 'pictures'",
            argument="data",
        )
    if dataset.background and not config.generator.background:
        # Photographs will be cut out for this generator as its training pictures were.
        config = replace(config, generator=replace(config.generator, background=dataset.background))
    own = distributed.own_device(device)
    joined = distributed.join(own)
    try:
        trainer = Trainer(
            config, dataset, out, held_out=held_out, device=own, precision=precision, accumulate=accumulate,
            compile=compile, keep=keep, workers=workers,
        )  # fmt: skip
        trainer.begin(resume=resume)
        if start is not None and not resume:  # A resumed run has its weights already.
            trainer.start_from(start)
        return trainer.train(
            minutes=minutes, save_minutes=save_minutes, progress=progress, callbacks=(CurvesCallback(), *callbacks),
            log_every=log_every, sample_every=sample_every,
        )  # fmt: skip
    finally:
        if joined:
            distributed.leave()
