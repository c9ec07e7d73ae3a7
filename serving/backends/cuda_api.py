"""The part of CUDA that the backends use, by cuda-python: memory, streams and graphs.

A call that fails raises CudaError with CUDA's name of the error.
"""

import ctypes
import importlib
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.backends.tensorrt_flavours import FLAVOURS
from serving.errors import CudaError, UsageError
from serving.extras import pip_install

WAYS_OUT = {
    "cudaErrorInsufficientDriver": "install or update the NVIDIA driver, or take another backend",
    "cudaErrorNoDevice": "give this process a GPU, or take another backend",
    "cudaErrorMemoryAllocation": "take fewer workers, an engine with a smaller batch, or a larger GPU",
}
DEFAULT_WAY_OUT = "see CUDA's documentation of that error, and start the program again"


def load_cuda() -> Any:
    """Import the CUDA runtime API of cuda-python; this works without a driver. UsageError: it is not installed."""
    try:
        return importlib.import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise UsageError(f"cuda-python is not installed; get it with: {pip_install(*FLAVOURS)}") from error


def call_cuda(function: Callable[..., tuple[Any, ...]], *arguments: Any) -> Any:
    """Call a function of the CUDA runtime and return its result. CudaError: its status is not success."""
    status, *results = function(*arguments)
    if int(status) != 0:
        raise CudaError(f"{status.name} in {function.__name__}; {WAYS_OUT.get(status.name, DEFAULT_WAY_OUT)}")
    return results[0] if results else None


@dataclass(frozen=True)
class Gpu:
    """A GPU: its name by NVIDIA, and its compute capability, like "8.9"."""

    name: str
    compute_capability: str


def find_gpu(device: int = 0) -> Gpu:
    """The GPU with an index.

    errors   CudaError: no driver, no GPU, or no GPU with that index; UsageError: cuda-python is not installed
    """
    cuda = load_cuda()
    call_cuda(cuda.cudaGetDeviceCount)
    properties = call_cuda(cuda.cudaGetDeviceProperties, device)
    return Gpu(properties.name.decode(), f"{properties.major}.{properties.minor}")


class CaptureGate:
    """Keeps captures of CUDA graphs apart from all other work on the GPU.

    ONNX Runtime captures in CUDA's global mode: while it does, calls of any other thread may fail, and end the capture.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._working = self._waiting = 0
        self._captures = False

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Work on the GPU beside other work, but not beside a capture."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._captures or self._waiting))
            self._working += 1
        try:
            yield
        finally:
            with self._changed:
                self._working -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Capture, beside nothing else."""
        with self._changed:
            self._waiting += 1
            self._changed.wait_for(lambda: not (self._captures or self._working))
            self._waiting -= 1
            self._captures = True
        try:
            yield
        finally:
            with self._changed:
                self._captures = False
                self._changed.notify_all()


CAPTURES = CaptureGate()  # of this process


class DeviceMemory:
    """`size` bytes on the GPU at `address`, freed with this object."""

    def __init__(self, cuda: Any, size: int):
        self.size = size
        self.address = int(call_cuda(cuda.cudaMalloc, max(1, size)))
        weakref.finalize(self, cuda.cudaFree, self.address)


class HostMemory:
    """A float32 array in page-locked host memory, which the GPU accesses directly. Freed with this object."""

    def __init__(self, cuda: Any, shape: tuple[int, ...]):
        count = int(np.prod(shape))
        self.size = 4 * count
        self.address = int(call_cuda(cuda.cudaHostAlloc, self.size, cuda.cudaHostAllocDefault))
        numbers = (ctypes.c_float * count).from_address(self.address)
        self.array: NDArray[np.float32] = np.ctypeslib.as_array(numbers).reshape(shape)
        weakref.finalize(self, cuda.cudaFreeHost, self.address)


class CudaStream:
    """A CUDA stream: copies and kernels run in the order in which they were added."""

    def __init__(self, cuda: Any):
        self._cuda = cuda
        self.handle = call_cuda(cuda.cudaStreamCreateWithFlags, cuda.cudaStreamNonBlocking)
        weakref.finalize(self, cuda.cudaStreamDestroy, self.handle)

    def upload(self, source: HostMemory, target: DeviceMemory, size: int) -> None:
        """Start to copy the first `size` bytes to the GPU."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        call_cuda(self._cuda.cudaMemcpyAsync, target.address, source.address, size, kind, self.handle)

    def download(self, source: DeviceMemory, target: HostMemory, size: int) -> None:
        """Start to copy the first `size` bytes from the GPU."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        call_cuda(self._cuda.cudaMemcpyAsync, target.address, source.address, size, kind, self.handle)

    def wait(self) -> None:
        """Wait until everything in the stream is done."""
        call_cuda(self._cuda.cudaStreamSynchronize, self.handle)

    def capture(self, work: Callable[[], None]) -> "CudaGraph":
        """Record what `work` adds to this stream, without running it."""
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        call_cuda(self._cuda.cudaStreamBeginCapture, self.handle, mode)
        try:
            work()
        except BaseException:
            self._cuda.cudaStreamEndCapture(self.handle)  # otherwise the stream stays in capture mode
            raise
        return CudaGraph(self._cuda, call_cuda(self._cuda.cudaStreamEndCapture, self.handle))


class CudaGraph:
    """Work recorded from a stream, which one launch runs instead of one launch for each kernel."""

    def __init__(self, cuda: Any, recorded: Any):
        self._cuda = cuda
        try:
            self._executable = call_cuda(cuda.cudaGraphInstantiate, recorded, 0)
        finally:
            cuda.cudaGraphDestroy(recorded)
        weakref.finalize(self, cuda.cudaGraphExecDestroy, self._executable)

    def launch(self, stream: CudaStream) -> None:
        """Start to run it on a stream."""
        call_cuda(self._cuda.cudaGraphLaunch, self._executable, stream.handle)
