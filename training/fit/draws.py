"""What is drawn at random for a batch, and the frames that it is cut from: on the CPU, or kept on a GPU."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.clip_frames import ClipFrames

ROWS_A_COPY = 2**15  # frames that are copied to a GPU at a time: 8 MB
Draws = dict[str, NDArray[Any]]  # small arrays, each with the batch as its first dimension
TensorDraws = Mapping[str, Tensor]  # the same as tensors: float32, and int64 for indices


class Cutter(Protocol):
    """Cuts windows out of frames: [batch, length, 64] on the device of `first` [batch], each window's first frame."""

    def __call__(self, frames: ClipFrames, first: Tensor, length: int) -> Tensor: ...


def as_tensors(draws: Draws) -> dict[str, Tensor]:
    """Draws as tensors on the CPU."""
    return {name: _tensor(values) for name, values in draws.items()}


def stack(draws: Iterable[Draws], device: torch.device) -> dict[str, Tensor]:
    """The draws of several batches of one size, as tensors with the batches as their first dimension."""
    batches = list(draws)
    return {name: _tensor(np.stack([each[name] for each in batches])).to(device) for name in batches[0]}


def _tensor(values: NDArray[Any]) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    return tensor.float() if tensor.is_floating_point() else tensor


def cut_on_cpu(frames: ClipFrames, first: Tensor, length: int) -> Tensor:
    """Cut by NumPy from the array, which may be a file in memory."""
    return torch.from_numpy(frames.values[first.numpy()[:, None] + np.arange(length)])


class DeviceFrames:
    """A `Cutter` on a GPU, to which each array of frames is copied once."""

    def __init__(self, device: torch.device):
        self._device = device
        self._values: dict[int, tuple[ClipFrames, Tensor]] = {}  # by identity; the frames are kept, so it stays theirs

    def __call__(self, frames: ClipFrames, first: Tensor, length: int) -> Tensor:
        values = self._of(frames)
        return values[first[:, None] + torch.arange(length, device=self._device)]

    def _of(self, frames: ClipFrames) -> Tensor:
        if id(frames) not in self._values:
            values = torch.empty(frames.values.shape, device=self._device)
            for first in range(0, len(values), ROWS_A_COPY):  # the array may be a file that is larger than the memory
                part = np.array(frames.values[first : first + ROWS_A_COPY])  # a copy: the array may be read-only
                values[first : first + ROWS_A_COPY] = torch.from_numpy(part)
            self._values[id(frames)] = frames, values
        return self._values[id(frames)][1]
