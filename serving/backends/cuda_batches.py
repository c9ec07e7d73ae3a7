"""ONNX Runtime's CUDA provider with batches of a few fixed sizes, whose kernels are captured as CUDA graphs.

For each new batch size the provider asks cuDNN for a plan of every convolution, and it keeps only those of the last
size. So each size has a session of its own. Its input and output are page-locked memory, from which the GPU copies at
full speed, and its kernels are one launch (`enable_cuda_graph`). Of the largest size there are several slots: some copy
while others compute.

ONNX Runtime keeps a captured graph with the thread that captured it: each slot has a thread.
"""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.backends.cuda_api import CAPTURES, CudaStream, DeviceMemory, HostMemory, call_cuda
from serving.backends.onnxruntime_library import onnxruntime
from serving.errors import BackendError, one_line

DEVICE = 0
WARM_UP = 3  # two runs allocate memory, the third one is captured
MOST_DIFFERENCE = 0.02  # of a row's length: cuDNN may compute a row of another batch size in another order, in FP16 too

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CudaSettings:
    """How the CUDA provider runs a network. The defaults are what `make gpu` compares the others with.

    sizes    rows of the fixed batches, rising; (): each batch as it comes, from pageable memory
    slots    sessions of the largest size
    graphs   capture the kernels of each size as a CUDA graph
    nhwc     prefer_nhwc: convolutions with the channels last
    search   cudnn_conv_algo_search: HEURISTIC, EXHAUSTIVE or DEFAULT
    """

    sizes: tuple[int, ...] = (1, 4, 16, 32)
    slots: int = 4
    graphs: bool = True
    nhwc: bool = False
    search: str = "HEURISTIC"


@dataclass(frozen=True)
class FixedPart:
    """Rows [start, stop) of a batch, in a fixed batch of `size` rows."""

    start: int
    stop: int
    size: int


def plan_parts(sizes: Sequence[int], rows: int) -> list[FixedPart]:
    """Split a batch: as many of the largest size as it fills, and the smallest size that takes the rest."""
    most = sizes[-1]
    full = rows - rows % most
    parts = [FixedPart(start, start + most, most) for start in range(0, full, most)]
    if full < rows:
        parts.append(FixedPart(full, rows, min(size for size in sizes if size >= rows - full)))
    return parts


@dataclass(frozen=True)
class Tensor:
    """An input or output of the graph. shape: of one row."""

    name: str
    shape: tuple[int, ...]


# rows of a fixed batch, capture -> a session for it
OpenSession = Callable[[int, bool], onnxruntime.InferenceSession]
Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class FixedBatches:
    """inputs [n, ...] float32 -> rows [n, ...] float32 on a GPU, for any n. Thread-safe.

    cuda            the CUDA runtime API, see `load_cuda`
    open_session    see OpenSession
    plain           the network without fixed batches: what a size computes is compared with it, and a size that cannot
                    be opened is left to it
    """

    def __init__(
        self,
        cuda: Any,
        open_session: OpenSession,
        plain: Network,
        source: Tensor,
        target: Tensor,
        settings: CudaSettings,
    ):
        self._cuda, self._open_session, self._plain = cuda, open_session, plain
        self._source, self._target, self._settings = source, target, settings
        self._opening = Lock()
        self._slots: dict[int, SimpleQueue[_Slot]] = {size: SimpleQueue() for size in settings.sizes}
        self._opened = dict.fromkeys(settings.sizes, 0)
        self.refused: dict[int, str] = {}
        """The sizes that run without a CUDA graph or without a session of their own, and why."""

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run a batch; errors as ONNX Runtime and CUDA raise them."""
        rows = np.empty((len(batch), *self._target.shape), np.float32)
        parts = plan_parts(self._settings.sizes, len(batch))
        running: list[Future[None]] = []
        try:
            for part in parts:
                source, target = batch[part.start : part.stop], rows[part.start : part.stop]
                if self._has_slot(part.size, sum(each.size == part.size for each in parts)):
                    slots = self._slots[part.size]
                    running.append(slots.get().start(source, target, slots))  # waits for a free slot
                else:
                    target[:] = self._plain(source)
        finally:
            wait(running)  # they write into `rows`
        for each in running:
            each.result()
        return rows

    def open_all(self) -> None:
        """Open all sizes now, so that no later call waits for it."""
        for size in self._settings.sizes:
            self._has_slot(size, self._settings.slots)

    def _has_slot(self, size: int, wanted: int) -> bool:
        """Open slots of a size until there are as many as can work at the same time. False: it cannot be opened."""
        wanted = min(wanted, self._settings.slots) if size == self._settings.sizes[-1] else 1
        with self._opening:
            while self._opened[size] < wanted and not (size in self.refused and not self._opened[size]):
                slot = self._open(size)
                if slot is None:
                    break
                self._slots[size].put(slot)
                self._opened[size] += 1
        return self._opened[size] > 0

    def _open(self, size: int) -> "_Slot | None":
        """A slot whose rows equal those of the plain network: with a CUDA graph, without one, or None."""
        rng = np.random.default_rng(size)
        batch = (0.1 * rng.standard_normal((size, *self._source.shape))).astype(np.float32)
        expected = self._plain(batch)
        for graphs in (True, False) if self._settings.graphs and size not in self.refused else (False,):
            try:
                with CAPTURES.alone():  # other CUDA calls of this process would end the capture
                    slot = _Slot(self._cuda, self._open_session, size, graphs, self._source, self._target)
                rows = np.empty_like(expected)
                for _ in range(2):
                    slot.start(batch, rows).result()
                    _check_rows(rows, expected)
            except Exception as error:  # ONNX Runtime raises many types
                self.refused[size] = one_line(error, 300)
                logger.info("fixed batch of %d, CUDA graph %s: %s", size, graphs, error)
            else:
                return slot
        return None


def _check_rows(rows: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    """Raise BackendError if a row is not what it should be."""
    axes = tuple(range(1, rows.ndim))
    lengths = np.sqrt(np.square(expected).sum(axes)) + 1e-6
    worst = float((np.sqrt(np.square(rows - expected).sum(axes)) / lengths).max())
    if not worst <= MOST_DIFFERENCE:
        raise BackendError(f"a row is off by {worst:.2g} of its length; wanted at most {MOST_DIFFERENCE}")


class _Slot:
    """One fixed batch: its memory, its session and its thread."""

    def __init__(self, cuda: Any, open_session: OpenSession, size: int, graphs: bool, source: Tensor, target: Tensor):
        self._cuda = cuda
        self._thread = ThreadPoolExecutor(1, f"cuda-batch-{size}")
        self._thread.submit(self._open, open_session, size, graphs, source, target).result()

    def _open(self, open_session: OpenSession, size: int, graphs: bool, source: Tensor, target: Tensor) -> None:
        cuda = self._cuda
        call_cuda(cuda.cudaSetDevice, DEVICE)
        self._stream = CudaStream(cuda)
        self._host_input = HostMemory(cuda, (size, *source.shape))
        self._host_output = HostMemory(cuda, (size, *target.shape))
        self._input = DeviceMemory(cuda, self._host_input.size)
        self._output = DeviceMemory(cuda, self._host_output.size)
        self._host_input.array[:] = 0.0
        self._stream.upload(self._host_input, self._input, self._host_input.size)
        self._stream.wait()
        self._session = open_session(size, graphs)
        self._binding = self._session.io_binding()
        for bind, tensor, memory in (
            (self._binding.bind_input, source, self._input),
            (self._binding.bind_output, target, self._output),
        ):
            bind(tensor.name, "cuda", DEVICE, np.float32, [size, *tensor.shape], memory.address)
        for _ in range(WARM_UP):
            self._session.run_with_iobinding(self._binding)

    def start(
        self, batch: NDArray[np.float32], rows: NDArray[np.float32], slots: "SimpleQueue[_Slot] | None" = None
    ) -> Future[None]:
        """Begin to run a batch [n, ...], n at most the slot's size, and to write `rows` [n, ...]; then join `slots`."""
        return self._thread.submit(self._run, batch, rows, slots)

    def _run(self, batch: NDArray[np.float32], rows: NDArray[np.float32], slots: "SimpleQueue[_Slot] | None") -> None:
        try:
            source, target = self._host_input.array[: len(batch)], self._host_output.array[: len(batch)]
            source[:] = batch  # what follows it is left over from before, and changes no other row
            with CAPTURES.beside():
                self._stream.upload(self._host_input, self._input, source.nbytes)
                self._stream.wait()
                self._session.run_with_iobinding(self._binding)
                self._stream.download(self._output, self._host_output, target.nbytes)
                self._stream.wait()
            rows[:] = target
        finally:
            if slots is not None:
                slots.put(self)
