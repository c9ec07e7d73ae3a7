"""A TensorRT engine loaded on the GPU, and the workers that run it, each with its own stream, memory and contexts."""

import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from serving.backends.cuda_api import CudaGraph, CudaStream, DeviceMemory, HostMemory
from serving.backends.engine_profiles import EngineCall
from serving.backends.engine_sidecar import Sidecar
from serving.backends.tensorrt_flavours import load_flavour, make_log, shape_of
from serving.errors import CudaError, EngineError

if TYPE_CHECKING:
    import tensorrt

TIMED_RUNS = 10  # calls with and without a CUDA graph, to decide whether to keep the graph
GRAPH_PAYS = 0.95  # largest share of the time without a graph at which a graph is kept

Size = tuple[int, int]  # index of the profile, rows


@dataclass(frozen=True)
class LoadedEngine:
    """An engine on the GPU.

    new_context   returns an execution context without scratch memory; None: TensorRT refused
    log, errors   TensorRT's logger and its last errors. They must live as long as the engine
    """

    engine: "tensorrt.ICudaEngine"
    sidecar: Sidecar
    new_context: "Callable[[], tensorrt.IExecutionContext | None]"
    log: "tensorrt.ILogger"
    errors: deque[str]

    def refused(self, what: str) -> EngineError:
        """The error to raise if TensorRT refuses a call, with TensorRT's reason."""
        reason = self.errors[-1] if self.errors else "it gives no reason"
        return EngineError(f"TensorRT refused to {what} ({reason}); build the engine again")


def load_engine(path: Path, content: bytes, sidecar: Sidecar, graphs: bool) -> LoadedEngine:
    """Load an engine that was checked. path: for messages.

    errors   EngineError: it cannot be opened, or contradicts its side-car
    """
    trt = load_flavour(sidecar.flavour)
    log, errors = make_log(sidecar.flavour)
    engine = trt.Runtime(log).deserialize_cuda_engine(content)
    if engine is None:
        raise EngineError(f"{path}: TensorRT cannot open it ({'; '.join(errors)}); build it again")
    for tensor in (sidecar.input, sidecar.output):
        shape = shape_of(engine.get_tensor_shape(tensor.name))
        if shape != tensor.shape:
            raise EngineError(f"{path}: {tensor.name} is {shape}, its side-car says {tensor.shape}; build it again")
    user_managed = trt.ExecutionContextAllocationStrategy.USER_MANAGED

    def new_context() -> "tensorrt.IExecutionContext | None":
        return engine.create_execution_context(user_managed)

    def new_rtx_context() -> "tensorrt.IExecutionContext | None":
        config = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(user_managed)
        if graphs:  # only TensorRT-RTX has it, so the type stubs of TensorRT lack it
            cast(Any, config).cuda_graph_strategy = cast(Any, trt).CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        return engine.create_execution_context(config)

    return LoadedEngine(
        engine, sidecar, new_rtx_context if sidecar.flavour == "tensorrt-rtx" else new_context, log, errors
    )


class EngineWorker:
    """A stream, its memory, and an execution context for each profile. For one thread at a time.

    Only one context runs at a time, so all contexts share the scratch memory.
    """

    def __init__(self, loaded: LoadedEngine, cuda: Any):
        self._loaded = loaded
        sidecar = loaded.sidecar
        most = max(profile.most for profile in sidecar.profiles)
        self._stream = CudaStream(cuda)
        self._host_input = HostMemory(cuda, (most, *sidecar.input.shape[1:]))
        self._host_output = HostMemory(cuda, (most, *sidecar.output.shape[1:]))
        self._input = DeviceMemory(cuda, self._host_input.size)
        self._output = DeviceMemory(cuda, self._host_output.size)
        self._scratch = DeviceMemory(cuda, loaded.engine.device_memory_size_v2)
        self._contexts = [self._context(i) for i in range(len(sidecar.profiles))]
        # A graph refers to its context's state at the capture, so each graph has its own context.
        self._graphs: dict[Size, tuple[CudaGraph, tensorrt.IExecutionContext]] = {}

    def _context(self, profile: int) -> "tensorrt.IExecutionContext":
        context = self._loaded.new_context()
        if context is None:
            raise self._loaded.refused("make an execution context")
        sidecar = self._loaded.sidecar
        context.set_device_memory(self._scratch.address, self._scratch.size)
        done = (
            context.set_optimization_profile_async(profile, int(self._stream.handle))
            and context.set_tensor_address(sidecar.input.name, self._input.address)
            and context.set_tensor_address(sidecar.output.name, self._output.address)
        )
        self._stream.wait()
        if not done:
            raise self._loaded.refused(f"take profile {profile}")
        return context

    def run(self, part: EngineCall, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one call: rows [n, ...] float32 -> a view [n, ...] float32 of memory that the next call overwrites."""
        self._host_input.array[: len(rows)] = rows
        self._host_input.array[len(rows) : part.rows] = 0.0
        captured = self._graphs.get((part.profile, part.rows))
        if captured is None:
            self._enqueue(self._contexts[part.profile], part.rows)
        else:
            captured[0].launch(self._stream)
        self._stream.wait()
        return self._host_output.array[: len(rows)]

    def _enqueue(self, context: "tensorrt.IExecutionContext", rows: int) -> None:
        """Add the upload, the inference and the download of the first rows to the stream."""
        sidecar = self._loaded.sidecar
        if not context.set_input_shape(sidecar.input.name, (rows, *sidecar.input.shape[1:])):
            raise self._loaded.refused(f"take {rows} rows")
        self._stream.upload(self._host_input, self._input, self._host_input.array[:rows].nbytes)
        if not context.execute_async_v3(int(self._stream.handle)):
            self._stream.wait()  # raises a CudaError if CUDA is the reason
            raise self._loaded.refused(f"run {rows} rows")
        self._stream.download(self._output, self._host_output, self._host_output.array[:rows].nbytes)

    def try_graphs(self) -> list[Size]:
        """Capture CUDA graphs for the sizes of each profile, and keep those that are faster. Returns their sizes."""
        for index, profile in enumerate(self._loaded.sidecar.profiles):
            for rows in sorted({profile.least, profile.best, profile.most}):
                self._try_graph((index, rows))
        return list(self._graphs)

    def _try_graph(self, size: Size) -> None:
        without = self._seconds(size)
        try:
            self.capture(size)
        except (CudaError, EngineError):  # some engines cannot be captured; they run without a graph
            return
        if self._seconds(size) > GRAPH_PAYS * without:
            del self._graphs[size]

    def capture(self, size: Size) -> None:
        """Capture the CUDA graph of a size. From now on `run` uses it."""
        profile, rows = size
        context = self._context(profile)
        self._enqueue(context, rows)  # the first call with a shape initialises it, which cannot be captured
        self._stream.wait()
        self._graphs[size] = self._stream.capture(lambda: self._enqueue(context, rows)), context

    def _seconds(self, size: Size) -> float:
        """Median duration of one call."""
        profile, rows = size
        silence = np.zeros((rows, *self._loaded.sidecar.input.shape[1:]), np.float32)
        times = []
        for _ in range(TIMED_RUNS + 2):
            start = time.perf_counter()
            self.run(EngineCall(profile, 0, rows, rows), silence)
            times.append(time.perf_counter() - start)
        return statistics.median(times[2:])
