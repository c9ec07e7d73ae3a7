"""What the native runtime needs of CUDA, through cuda-python and without torch: memory, a stream, graphs.

Every call that CUDA refuses raises CudaError with CUDA's own name of the reason.
"""

import ctypes
import importlib
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.errors import CudaError, UsageError

WAYS_OUT = {
    "cudaErrorInsufficientDriver": "install or update the NVIDIA driver, or take another backend",
    "cudaErrorNoDevice": "give this process a GPU, or take another backend",
    "cudaErrorMemoryAllocation": "take fewer workers, an engine with a smaller batch, or a larger GPU",
}
OTHERWISE = "see CUDA's documentation of that name; start the program again"


def load_cuda() -> Any:
    """The CUDA runtime API of cuda-python, which imports without a driver; UsageError where it is not installed."""
    try:
        return importlib.import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise UsageError(
            'cuda-python is not installed; get it with: pip install "unheard[tensorrt]" or "unheard[tensorrt-rtx]"'
        ) from error


def call(function: Callable[..., tuple[Any, ...]], *arguments: Any) -> Any:
    """Call a function of the CUDA runtime: its result without the status. CudaError where the status is not success."""
    status, *results = function(*arguments)
    if int(status) != 0:
        raise CudaError(f"{status.name} in {function.__name__}; {WAYS_OUT.get(status.name, OTHERWISE)}")
    return results[0] if results else None


@dataclass(frozen=True)
class Gpu:
    """One GPU: NVIDIA's name of it, and its compute capability, like "8.9"."""

    name: str
    compute_capability: str


def find_gpu(device: int = 0) -> Gpu:
    """A GPU of this machine by its number.

    errors   CudaError: no driver, no GPU, or none of that number; UsageError: cuda-python is not installed
    """
    cuda = load_cuda()
    call(cuda.cudaGetDeviceCount)
    properties = call(cuda.cudaGetDeviceProperties, device)
    return Gpu(properties.name.decode(), f"{properties.major}.{properties.minor}")


class DeviceMemory:
    """Bytes on the GPU, freed with this object. `address` is an int."""

    def __init__(self, cuda: Any, size: int):
        self.size = size
        self.address = int(call(cuda.cudaMalloc, max(1, size)))
        weakref.finalize(self, cuda.cudaFree, self.address)


class HostMemory:
    """A float32 array in page-locked memory, which the GPU copies from and to by itself. Freed with this object."""

    def __init__(self, cuda: Any, shape: tuple[int, ...]):
        count = int(np.prod(shape))
        self.size = 4 * count
        self.address = int(call(cuda.cudaHostAlloc, self.size, cuda.cudaHostAllocDefault))
        numbers = (ctypes.c_float * count).from_address(self.address)
        self.array: NDArray[np.float32] = np.ctypeslib.as_array(numbers).reshape(shape)
        weakref.finalize(self, cuda.cudaFreeHost, self.address)


class Stream:
    """A CUDA stream: copies and kernels run in the order in which they were given."""

    def __init__(self, cuda: Any):
        self._cuda = cuda
        self.handle = call(cuda.cudaStreamCreateWithFlags, cuda.cudaStreamNonBlocking)
        weakref.finalize(self, cuda.cudaStreamDestroy, self.handle)

    def upload(self, source: HostMemory, target: DeviceMemory, size: int) -> None:
        """Begin to copy the first `size` bytes to the GPU."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        call(self._cuda.cudaMemcpyAsync, target.address, source.address, size, kind, self.handle)

    def download(self, source: DeviceMemory, target: HostMemory, size: int) -> None:
        """Begin to copy the first `size` bytes from the GPU."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        call(self._cuda.cudaMemcpyAsync, target.address, source.address, size, kind, self.handle)

    def wait(self) -> None:
        """Return when all that was given is done."""
        call(self._cuda.cudaStreamSynchronize, self.handle)

    def capture(self, work: Callable[[], None]) -> "Graph":
        """Record what `work` gives to this stream, without running it."""
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        call(self._cuda.cudaStreamBeginCapture, self.handle, mode)
        try:
            work()
        except BaseException:
            self._cuda.cudaStreamEndCapture(self.handle)  # or the stream stays in capture; its status says no more
            raise
        return Graph(self._cuda, call(self._cuda.cudaStreamEndCapture, self.handle))


class Graph:
    """Work recorded on a stream: one launch in place of one for each kernel."""

    def __init__(self, cuda: Any, recorded: Any):
        self._cuda = cuda
        try:
            self._executable = call(cuda.cudaGraphInstantiate, recorded, 0)
        finally:
            cuda.cudaGraphDestroy(recorded)
        weakref.finalize(self, cuda.cudaGraphExecDestroy, self._executable)

    def launch(self, stream: Stream) -> None:
        """Begin to run it."""
        call(self._cuda.cudaGraphLaunch, self._executable, stream.handle)
