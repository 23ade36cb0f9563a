"""Several processes that train one network: the split of a batch among them, and their messages.

The gradients of a step are summed by one message, not by `DistributedDataParallel`. A step takes several backward
passes over parts of graphs (the generator's gradient through the discriminator, R1 and path lengths with second
derivatives), and which weights take part changes from stage to stage and, with try-ons, from micro-batch to
micro-batch. DDP wants one forward and one backward of its own per step, has to be told which weights take part, and
does not support `torch.autograd.grad`, which the generator's gradient, R1 and path lengths are made of. One message
after all backward passes is exact in every case: each process weights its losses by its part of the batch, so that the
sum of the gradients is the gradient of the whole batch. What is lost is that the message does not overlap with the
backward pass.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, distributed

from styletryon.errors import ConfigError, ProcessGroupError

_LOGGER = logging.getLogger(__name__)
_TIMEOUT = timedelta(minutes=10)  # longer than the first process judges, draws samples and saves
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class BatchSplit:
    """The split of a batch into the micro-batches of all processes.

    Some samples belong together: the discriminator compares those of a group. So a micro-batch has whole units,
    and what a step does depends neither on the number of processes nor on that of micro-batches.

    Args:
        batch_size: Samples of the batch.
        unit: Samples that belong together; the last unit may be smaller where there is one micro-batch only.
        parts: Micro-batches of all processes together.

    Raises:
        ConfigError: If the batch cannot be shared equally.
    """

    batch_size: int
    unit: int
    parts: int = 1

    def __post_init__(self) -> None:
        if self.parts > 1 and self.batch_size % (self.unit * self.parts):
            raise ConfigError(
                f"expected a multiple of {self.unit * self.parts}, for {self.parts} equal shares "
                f"(processes times micro-batches) of whole groups of {self.unit} samples (discriminator.group_size), "
                f"got {self.batch_size}; change batch_size, accumulate, the number of processes or the group",
                argument="batch_size",
            )

    @property
    def weight(self) -> float:
        """Weight of the means over a micro-batch in those over the batch."""
        return 1 / self.parts

    def rows(self, part: int) -> range:
        """Return the samples of a micro-batch."""
        size = self.batch_size // self.parts
        return range(part * size, (part + 1) * size)

    def units(self, part: int) -> range:
        """Return the units of a micro-batch."""
        count = -(-self.batch_size // self.unit) // self.parts
        return range(part * count, (part + 1) * count)

    def sizes(self, part: int) -> tuple[int, ...]:
        """Return how many samples each unit of a micro-batch has."""
        return tuple(min(self.unit, self.batch_size - unit * self.unit) for unit in self.units(part))


class ProcessGroup:
    """The processes that train together: one, or those of `torch.distributed`.

    Attributes:
        rank: Number of this process.
        world: Number of processes.
    """

    def __init__(self) -> None:
        self.rank, self.world = 0, 1
        if distributed.is_available() and distributed.is_initialized():
            self.rank, self.world = distributed.get_rank(), distributed.get_world_size()

    @property
    def first(self) -> bool:
        """True in the process that writes files."""
        return self.rank == 0

    def sum_gradients(self, parameters: Sequence[Tensor], extras: Sequence[Tensor] = ()) -> None:
        """Sum the gradients of all processes, and some other tensors, by one message.

        A weight that takes part in one process only has no gradient in the others; it gets the sum in all.

        Args:
            parameters: Weights, the same in all processes; their ``.grad`` is changed in place.
            extras: Tensors of the gradients' device and of equal shapes in all processes; changed in place.

        Raises:
            ProcessGroupError: If another process has died or fallen silent.
        """
        if self.world == 1:
            return
        used = self._any([parameter.grad is not None for parameter in parameters])
        tensors = list(extras)
        for parameter, wanted in zip(parameters, used, strict=True):
            if wanted and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if wanted and parameter.grad is not None:
                tensors.append(parameter.grad)
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        self._guard(lambda: distributed.all_reduce(flat))
        for tensor, part in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view(tensor.shape))

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return for each flag whether any process raised it, so that all do the same after the same step.

        Raises:
            ProcessGroupError: If another process has died or fallen silent.
        """
        return flags if self.world == 1 else tuple(self._any(flags))

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Give all processes the values of the first.

        Args:
            tensors: Of equal shapes in all processes; changed in place, and on the training's device.

        Raises:
            ProcessGroupError: If another process has died or fallen silent.
        """
        if self.world > 1:
            for tensor in tensors:
                value = tensor.detach().contiguous()
                self._guard(lambda value=value: distributed.broadcast(value, 0))  # type: ignore[misc]
                tensor.detach().copy_(value)

    def broadcast_bytes(self, content: bytes) -> bytes:
        """Return the bytes that the first process gave.

        Raises:
            ProcessGroupError: If another process has died or fallen silent.
        """
        if self.world == 1:
            return content
        length = torch.tensor([len(content)])
        self.broadcast([length])
        if self.first:
            buffer = torch.frombuffer(bytearray(content or b"\0"), dtype=torch.uint8)
        else:
            buffer = torch.empty(max(int(length), 1), dtype=torch.uint8)
        self.broadcast([buffer])
        return bytes(buffer.numpy().tobytes()[: int(length)])

    def same(self, content: str) -> bool:
        """Return whether all processes gave the same text.

        Raises:
            ProcessGroupError: If another process has died or fallen silent.
        """
        return not self.any(self.broadcast_bytes(content.encode()) != content.encode())[0]

    def run_on_first(self, work: Callable[[], bytes]) -> bytes:
        """Let the first process alone do some work, and return its result in all.

        Raises:
            ProcessGroupError: In the others, if the work failed; the first raises what the work raised.
        """
        result, error = b"", None
        if self.first:
            try:
                result = work()
            except Exception as caught:  # of any kind: the others wait to hear of it
                error = caught
        (failed,) = self.any(error is not None)
        if error is not None:
            raise error
        if failed:
            raise ProcessGroupError("the first process met an error; see its message", argument="training")
        return self.broadcast_bytes(result)

    def _any(self, flags: Sequence[bool]) -> list[bool]:
        # On the CPU even where the networks are not: asking the device would make the host wait for it.
        votes = torch.tensor(flags, dtype=torch.uint8)
        self._guard(lambda: distributed.all_reduce(votes, distributed.ReduceOp.MAX))
        return [bool(vote) for vote in votes.tolist()]

    def _guard(self, talk: Callable[[], _Result]) -> _Result:
        try:
            return talk()
        except (RuntimeError, ValueError) as error:
            raise ProcessGroupError(
                f"process {self.rank} of {self.world} lost another one, which has died or was silent for "
                "too long; see the messages of the others, and go on from the last checkpoint with resume "
                f"({str(error).splitlines()[0] if str(error) else type(error).__name__})",
                argument="training",
            ) from error


def own_device(device: str | torch.device) -> torch.device:
    """Return the device of this process: of several on one machine each takes the CUDA device of its own number.

    Args:
        device: "cpu", "cuda", or one device such as "cuda:1".

    Raises:
        ConfigError: If there are fewer CUDA devices than processes.
    """
    chosen = torch.device(device)
    local = os.environ.get("LOCAL_RANK")
    if chosen.type != "cuda" or chosen.index is not None or local is None:
        return chosen
    if int(local) >= torch.cuda.device_count():
        raise ConfigError(
            f"expected a CUDA device for each process of this machine, got {torch.cuda.device_count()} for "
            f"process {local}; lower --nproc-per-node",
            argument="device",
        )
    return torch.device("cuda", int(local))


def join(device: torch.device, *, timeout: timedelta = _TIMEOUT) -> bool:
    """Join the process group that torchrun describes in the environment, if there is one.

    Args:
        device: The device of this process, see `own_device`.
        timeout: After so long without an answer the other processes are given up.

    Returns:
        Whether a group was joined; the caller then leaves it with `leave`.

    Raises:
        ProcessGroupError: If the others cannot be reached.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or distributed.is_initialized():
        return False
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        distributed.init_process_group(backend, timeout=timeout)
    except (RuntimeError, ValueError) as error:
        raise ProcessGroupError(
            f"cannot reach the other processes that torchrun started ({error}); are all of them running?",
            argument="training",
        ) from error
    _LOGGER.info("process %d of %d on %s", distributed.get_rank(), distributed.get_world_size(), device)
    return True


def leave() -> None:
    """Leave the process group."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
