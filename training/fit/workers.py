"""Training in one process, or in several that share each batch. Their number changes the losses by dropout alone.

Under torchrun each process embeds its part of the batch. The embeddings are gathered, so that every process computes
the loss over the whole batch, and BatchNorm uses the statistics of the whole batch.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed._functional_collectives import all_reduce  # what torch 2.14 recommends; it has gradients
from torch.nn.modules.batchnorm import _BatchNorm

from serving.errors import UsageError


@dataclass(frozen=True)
class Workers:
    """The processes that train together. Only rank 0 writes files and prints."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def part(self, rows: Tensor) -> Tensor:
        """This process's rows of a batch."""
        return rows.tensor_split(self.count)[self.rank]

    def gather(self, part: Tensor, n_rows: int) -> Tensor:
        """All processes' parts of a batch of n_rows rows, in the order of the ranks.

        Each process puts its part into zeros, and all are summed. The gradient is summed over the processes too, each
        of which has the whole loss; DistributedDataParallel divides it by their number again.
        """
        if self.count == 1:
            return part
        sizes = [len(rows) for rows in torch.empty(n_rows).tensor_split(self.count)]
        before, after = sum(sizes[: self.rank]), sum(sizes[self.rank + 1 :])
        columns = [0, 0] * (part.dim() - 1)
        return sum_over_processes(nn.functional.pad(part, [*columns, before, after]))

    def wait(self) -> None:
        """Wait until all processes call this."""
        if self.count > 1:
            dist.barrier()

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """Run the block in rank 0 first, then in the others, which find the files that rank 0 wrote."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    @contextmanager
    def held_by_first(self, lock: AbstractContextManager[object]) -> Iterator[None]:
        """Run the block in all processes while rank 0 holds a lock for all of them."""
        with lock if self.first else nullcontext():
            self.wait()
            yield


def torchrun_processes() -> tuple[int, int]:
    """How many processes torchrun started, and the number of this one on its machine; without torchrun (1, 0).

    errors   UsageError: the environment speaks of several processes, but not as torchrun does
    """
    names = ("WORLD_SIZE", "RANK", "LOCAL_RANK")
    given = {name: os.environ.get(name, "") for name in names}
    if given["WORLD_SIZE"] in ("", "1"):
        return 1, 0
    if not all(value.isdecimal() for value in given.values()):
        got = ", ".join(f"{name}={value}" if value else f"no {name}" for name, value in given.items())
        raise UsageError(f"environment: got {got}; start the processes with torchrun, or unset WORLD_SIZE")
    return int(given["WORLD_SIZE"]), int(given["LOCAL_RANK"])


@contextmanager
def join_workers(device: torch.device) -> Iterator[Workers]:
    """The processes that torchrun started, or this process alone. device: from `choose_device`."""
    count, _ = torchrun_processes()
    if count == 1:
        yield Workers()
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(minutes=30))
    try:
        yield Workers(dist.get_rank(), count)
    finally:
        dist.destroy_process_group()


def share_statistics(network: nn.Module) -> None:
    """Make every BatchNorm of the network use the statistics of all processes' rows.

    torch.nn.SyncBatchNorm does this on GPUs only.
    """
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.__class__ = type(f"Shared{type(module).__name__}", (_SharedBatchNorm, type(module)), {})


def sum_over_processes(part: Tensor) -> Tensor:
    """The sum of all processes' tensors of this shape. Gradients are summed over the processes as well."""
    assert dist.group.WORLD is not None
    return all_reduce(part.contiguous(), "sum", dist.group.WORLD)


class _SharedBatchNorm(_BatchNorm):
    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        axes = [axis for axis in range(input.dim()) if axis != 1]
        shape = [1, -1] + [1] * (input.dim() - 2)
        rows = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
        count = torch.full_like(rows[:1].mean(axes), rows.numel() / rows.shape[1])
        total, count = sum_over_processes(torch.stack([rows.sum(axes), count]))
        mean = total / count
        centred = rows - mean.view(shape)  # the mean of squares less the squared mean would lose precision
        variance = sum_over_processes(centred.square().sum(axes)) / count
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale.view(shape) + self.bias.view(shape)).to(input.dtype)
