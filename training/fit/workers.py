"""One process, or several that share each batch: the same global batch and the same loss, however many there are.

Under torchrun each process embeds its part of the batch; the embeddings are gathered, so that every process computes
the loss over the whole batch, and BatchNorm uses the whole batch's statistics.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from serving.errors import UsageError


@dataclass(frozen=True)
class Workers:
    """The processes that train together; rank 0 writes files and speaks."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def part(self, rows: Tensor) -> Tensor:
        """This process's rows of a batch."""
        return rows.tensor_split(self.count)[self.rank]

    def gather(self, part: Tensor, n_rows: int) -> Tensor:
        """All processes' parts of a batch of n_rows, in order."""
        return part if self.count == 1 else _Gather.apply(part, n_rows, self)  # pyright: ignore[reportReturnType]

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            dist.barrier()

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """Let rank 0 do the block alone, then the others: what it leaves on disk is there for them."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    @contextmanager
    def led(self, held: AbstractContextManager[object]) -> Iterator[None]:
        """A block for all processes, in which rank 0 holds something, like a lock, for all of them."""
        with held if self.first else nullcontext():
            self.wait()
            yield


@contextmanager
def join_workers(device: torch.device) -> Iterator[Workers]:
    """The workers that torchrun started, or this process alone.

    errors   UsageError: more processes than GPUs
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Workers()
        return
    if device.type == "cuda":
        local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= gpus:
            raise UsageError(f"torchrun: process {local + 1} on a machine with {gpus} GPUs; lower --nproc-per-node")
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(minutes=30))
    try:
        yield Workers(dist.get_rank(), count)
    finally:
        dist.destroy_process_group()


def share_statistics(network: nn.Module) -> None:
    """Let every BatchNorm in front of the gathering use the statistics of all processes' rows.

    torch.nn.SyncBatchNorm does so on GPUs only.
    """
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.__class__ = type(f"Shared{type(module).__name__}", (_Shared, type(module)), {})


class _Shared(_BatchNorm):
    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        axes = [axis for axis in range(input.dim()) if axis != 1]
        shape = [1, -1] + [1] * (input.dim() - 2)
        rows = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
        count = torch.full_like(rows[:1].mean(axes), rows.numel() / rows.shape[1])
        total, count = _Sum.apply(torch.stack([rows.sum(axes), count]))  # pyright: ignore[reportGeneralTypeIssues]
        mean = total / count
        centred = rows - mean.view(shape)  # squares of the rows themselves would cancel
        variance = _Sum.apply(centred.square().sum(axes)) / count  # pyright: ignore[reportOperatorIssue]
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


class _Sum(torch.autograd.Function):
    """The sum over all processes; each one's gradients count for all of them."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        total = part.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        total = grad_outputs[0].clone()
        dist.all_reduce(total)
        return total


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor, n_rows: int, workers: Workers) -> Tensor:
        sizes = [len(rows) for rows in torch.empty(n_rows).tensor_split(workers.count)]
        ctx.start, ctx.end, ctx.count = sum(sizes[: workers.rank]), sum(sizes[: workers.rank + 1]), workers.count
        padded = part.new_zeros(max(sizes), *part.shape[1:])
        padded[: len(part)] = part
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([rows[:size] for rows, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        # Every process has the whole loss; DistributedDataParallel divides by their number, so multiply by it.
        return grad_outputs[0][ctx.start : ctx.end] * ctx.count, None, None
