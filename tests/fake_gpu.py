"""A GPU of host memory: the CUDA runtime and TensorRT as the native runtime calls them, for machines without either.

Streams do nothing before they are waited for, memory is checked at every access, and every call to CUDA goes through
NVIDIA's own library first, which without a driver refuses it, but only after it has checked the arguments.
"""

import contextlib
import ctypes
import threading
import time
from importlib.machinery import ModuleSpec
from types import SimpleNamespace

import numpy as np
from cuda.bindings import runtime as cudart

CAPABILITY = (8, 9)
NO_DRIVER = "cudaErrorInsufficientDriver"


class FakeCuda:
    """The functions of cuda.bindings.runtime that the native runtime calls."""

    cudaHostAllocDefault = cudart.cudaHostAllocDefault
    cudaStreamNonBlocking = cudart.cudaStreamNonBlocking
    cudaMemcpyKind = cudart.cudaMemcpyKind
    cudaStreamCaptureMode = cudart.cudaStreamCaptureMode

    def __init__(self):
        self.memory = {}  # address -> bytes: an array of uint8
        self.streams = {}  # handle -> work that waits
        self.captures = {}  # handle -> recorded work
        self.graphs = {}  # handle of a graph or of its executable -> recorded work
        self.calls = []  # names, in order
        self.fail = {}  # name -> status to answer with
        self._next = 1

    def __getattribute__(self, name):
        value = object.__getattribute__(self, name)
        if not name.startswith("cuda") or not callable(value) or not name[4:5].isupper() or isinstance(value, type):
            return value

        def checked(*arguments):
            status = getattr(cudart, name)(*arguments)[0]  # raises TypeError where NVIDIA's function does
            assert status.name == NO_DRIVER, f"{name} answered {status.name}"
            self.calls.append(name)
            if name in self.fail:
                if name == "cudaStreamEndCapture":  # it ends the capture even if it fails
                    del self.captures[int(arguments[0])]
                return (getattr(cudart.cudaError_t, self.fail[name]), None)
            result = value(*arguments)
            return (cudart.cudaError_t.cudaSuccess,) if result is None else (cudart.cudaError_t.cudaSuccess, result)

        checked.__name__ = name
        return checked

    def cudaGetDeviceCount(self):
        return 1

    def cudaGetDeviceProperties(self, device):
        return SimpleNamespace(name=b"Fake GPU", major=CAPABILITY[0], minor=CAPABILITY[1])

    def cudaSetDevice(self, device):
        assert device == 0

    def cudaMalloc(self, size):
        return self.allocate(size)

    def cudaHostAlloc(self, size, flags):
        return self.allocate(size)

    def allocate(self, size):
        block = np.full(size + 256, 0xFF, np.uint8)  # NaN until something is written
        address = -(-block.ctypes.data // 256) * 256  # aligned as CUDA aligns it
        self.memory[address] = (block, size)
        return address

    def cudaFree(self, address):
        del self.memory[address]

    cudaFreeHost = cudaFree

    def cudaStreamCreateWithFlags(self, flags):
        handle = self._handle(cudart.cudaStream_t)
        self.streams[int(handle)] = []
        return handle

    def cudaStreamDestroy(self, stream):
        del self.streams[int(stream)]

    def cudaMemcpyAsync(self, target, source, size, kind, stream):
        self.inside(target, size)
        self.inside(source, size)
        self.give(int(stream), lambda: ctypes.memmove(target, source, size))

    def cudaStreamSynchronize(self, stream):
        assert int(stream) not in self.captures, "a stream in capture cannot be waited for"
        work, self.streams[int(stream)] = self.streams[int(stream)], []
        for step in work:
            step()

    def cudaStreamBeginCapture(self, stream, mode):
        assert not self.streams[int(stream)], "work from before would not be captured"
        self.captures[int(stream)] = []

    def cudaStreamEndCapture(self, stream):
        graph = self._handle(cudart.cudaGraph_t)
        self.graphs[int(graph)] = self.captures.pop(int(stream))
        return graph

    def cudaGraphInstantiate(self, graph, flags):
        executable = self._handle(cudart.cudaGraphExec_t)
        self.graphs[int(executable)] = self.graphs[int(graph)]
        return executable

    def cudaGraphLaunch(self, executable, stream):
        for step in self.graphs[int(executable)]:
            self.give(int(stream), step)

    def cudaGraphDestroy(self, graph):
        del self.graphs[int(graph)]

    cudaGraphExecDestroy = cudaGraphDestroy

    def _handle(self, kind):
        self._next += 1
        return kind(init_value=self._next)

    def give(self, stream, step):
        """Add work to a stream, or to its capture."""
        self.captures.get(stream, self.streams[stream]).append(step)

    def inside(self, address, size):
        """Assert that the bytes [address, address + size) belong to one allocation."""
        assert any(start <= address and address + size <= start + full for start, (_, full) in self.memory.items())

    def floats(self, address, shape):
        """Memory as a float32 array."""
        count = int(np.prod(shape))
        self.inside(address, 4 * count)
        return np.ctypeslib.as_array((ctypes.c_float * count).from_address(address)).reshape(shape)


class FakeTensorRT:
    """The module `tensorrt` with one engine: waveform [n, SAMPLES] -> embedding [n, SIZE], which is `embed`."""

    SAMPLES, SIZE = 16, 4
    SCRATCH = 64  # bytes
    __version__ = "10.13.0"
    __spec__ = ModuleSpec("tensorrt", None, origin="fake")

    class ILogger:
        Severity = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2, INFO=3)

        def __init__(self):
            pass

    ExecutionContextAllocationStrategy = SimpleNamespace(STATIC=0, USER_MANAGED=2)

    def __init__(self, cuda, profiles, seconds=0.0):
        self.cuda, self.profiles, self.seconds = cuda, profiles, seconds
        self.ran = []  # rows of each execution
        self.most_at_once = self.running = 0
        self._lock = threading.Lock()

    def Runtime(self, log):
        def deserialize_cuda_engine(data):
            if data != b"engine":
                log.log(self.ILogger.Severity.ERROR, "no magic tag")
                return None
            return FakeEngine(self)

        return SimpleNamespace(deserialize_cuda_engine=deserialize_cuda_engine)

    @staticmethod
    def embed(waveforms):
        return np.cumsum(waveforms, axis=1)[:, :: FakeTensorRT.SAMPLES // FakeTensorRT.SIZE]

    @contextlib.contextmanager
    def counted(self):
        with self._lock:
            self.running += 1
            self.most_at_once = max(self.most_at_once, self.running)
        yield
        with self._lock:
            self.running -= 1


class FakeEngine:
    """ICudaEngine."""

    def __init__(self, trt):
        self._trt = trt
        self.device_memory_size_v2 = trt.SCRATCH

    def get_tensor_shape(self, name):
        return {"waveform": (-1, self._trt.SAMPLES), "embedding": (-1, self._trt.SIZE)}[name]

    def create_execution_context(self, strategy):
        assert strategy == self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        return FakeContext(self._trt)


class FakeContext:
    """IExecutionContext."""

    def __init__(self, trt):
        self._trt, self._cuda = trt, trt.cuda
        self._addresses, self._rows, self._scratch, self._profile = {}, None, None, None

    def set_device_memory(self, memory, size):
        assert memory % 256 == 0
        assert size >= self._trt.SCRATCH
        self._cuda.inside(memory, size)
        self._scratch = self._cuda.floats(memory, (size // 4,))

    def set_optimization_profile_async(self, profile_index, stream_handle):
        self._profile = self._trt.profiles[profile_index]
        return stream_handle in self._cuda.streams

    def set_tensor_address(self, name, memory):
        self._addresses[name] = memory
        return name in ("waveform", "embedding")

    def set_input_shape(self, name, shape):
        self._rows = shape[0]
        fits = self._profile.least <= shape[0] <= self._profile.most and shape[1:] == (self._trt.SAMPLES,)
        return name == "waveform" and fits

    def execute_async_v3(self, stream_handle):
        rows, addresses = self._rows, dict(self._addresses)

        def work():
            token = np.float32(np.random.default_rng().random())
            with self._trt.counted():
                self._scratch[:] = token
                source = self._cuda.floats(addresses["waveform"], (rows, self._trt.SAMPLES))
                result = self._trt.embed(source)
                time.sleep(self._trt.seconds)
                assert (self._scratch == token).all(), "another context wrote to this one's scratch memory"
                self._cuda.floats(addresses["embedding"], (rows, self._trt.SIZE))[:] = result
                self._trt.ran.append(rows)

        self._cuda.give(stream_handle, work)
        return True
