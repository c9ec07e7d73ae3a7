"""TensorRT: runs an engine of a bundle with cuda-python, without torch.

run = TensorRT(find_engine(bundle, "fp16"), bundle)
embeddings = run(windows)    # [n, samples] float32 -> [n, 128] float32, for any n
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import LifoQueue

import numpy as np
from numpy.typing import NDArray

from serving.backends.cuda_api import CAPTURES, Gpu, call_cuda, find_gpu, load_cuda
from serving.backends.engine_profiles import plan_calls
from serving.backends.engine_sidecar import Sidecar, check_sidecar, read_sidecar, rebuild_command
from serving.backends.tensorrt_flavours import load_flavour
from serving.backends.tensorrt_worker import EngineWorker, Size, load_engine
from serving.bundle.bundle import Bundle
from serving.bundle.bundle_files import ENGINES
from serving.errors import EngineError, UnheardError
from serving.files.file_record import open_regular, record_of_bytes

WORKERS = 2  # one copies data while the other computes


def find_engine(bundle: Bundle, precision: str, device: int = 0) -> Path:
    """The bundle's engine in a precision that was built for this machine.

    errors   EngineError: there is none; gives the reason for each existing engine. CudaError: no driver or no GPU
    """
    engines = sorted((bundle.folder / ENGINES).glob(f"*-{precision}.engine"))
    if not engines:
        raise EngineError(
            f"{bundle.folder / ENGINES}: holds no {precision} engine; build one with: "
            f"python -m export.tensorrt {bundle.folder} --precision {precision}"
        )
    gpu = find_gpu(device)
    reasons = []
    for engine in engines:
        try:
            _check(engine, read_sidecar(engine), bundle, gpu)
        except UnheardError as error:
            reasons.append(str(error))
        else:
            return engine
    raise EngineError("; ".join(reasons))


def _check(engine: Path, sidecar: Sidecar, bundle: Bundle, gpu: Gpu) -> None:
    version = load_flavour(sidecar.flavour).__version__
    check_sidecar(engine, sidecar, bundle, version, gpu.compute_capability)
    if bundle.manifest.files.get(f"{ENGINES}/{engine.name}") != sidecar.engine:
        raise EngineError(
            f"{engine}: is not the one that the bundle's manifest lists, or an older program built it; build it again "
            f"with: {rebuild_command(bundle, sidecar)}"
        )


def _read(engine: Path, sidecar: Sidecar) -> bytes:
    """The engine's bytes, for which its side-car and the manifest stand. EngineError: it has changed meanwhile."""
    with open_regular(engine) as file:
        content = file.read(sidecar.engine.size + 1)
    if record_of_bytes(content) != sidecar.engine:
        raise EngineError(f"{engine}: has changed while it was opened; open the bundle again")
    return content


class TensorRT:
    """A callable over one engine. Can be called from several threads; `workers` calls run at once.

    engine    path of the .engine file; its side-car is beside it
    bundle    the bundle that the engine was built from
    workers   number of workers; each needs its own memory on the GPU
    graphs    replay a CUDA graph for the batch sizes where that is measured to be faster
    device    index of the GPU
    errors    EngineError: the engine is missing, or was built for something else; UsageError: a package is not
              installed; CudaError: no driver, no GPU, or not enough memory
    """

    name = "tensorrt"
    splits_batches = True

    def __init__(self, engine: Path, bundle: Bundle, workers: int = WORKERS, graphs: bool = True, device: int = 0):
        self.sidecar = read_sidecar(engine)
        load_flavour(self.sidecar.flavour)
        gpu = find_gpu(device)
        _check(engine, self.sidecar, bundle, gpu)
        self._device = device
        self._cuda = load_cuda()
        content = _read(engine, self.sidecar)
        self._workers: LifoQueue[EngineWorker] = LifoQueue()  # the worker used last has its memory in the caches
        with CAPTURES.alone():
            call_cuda(self._cuda.cudaSetDevice, device)
            loaded = load_engine(engine, content, self.sidecar, graphs)
            first, *others = [EngineWorker(loaded, self._cuda) for _ in range(workers)]
            # TensorRT-RTX captures graphs itself, after it has compiled the kernels for a shape in the background.
            self.graphs: list[Size] = first.try_graphs() if graphs and self.sidecar.flavour == "tensorrt" else []
            for worker in others:
                for size in self.graphs:
                    worker.capture(size)
                self._workers.put(worker)
        self._workers.put(first)
        self.version: str = f"{self.sidecar.flavour} {self.sidecar.version}"
        self.providers: list[str] = [f"{gpu.name}, compute capability {gpu.compute_capability}"]

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """[n, samples] float32 -> [n, 128] float32. A batch larger than every profile takes several calls."""
        source, target = self.sidecar.input, self.sidecar.output
        assert batch.shape[1:] == source.shape[1:], f"{source.name}: got {batch.shape}, wanted {source.shape}"
        rows = np.empty((len(batch), *target.shape[1:]), np.float32)
        with self._worker() as worker:
            for part in plan_calls(self.sidecar.profiles, len(batch)):
                rows[part.start : part.stop] = worker.run(part, batch[part.start : part.stop])
        return rows

    @contextmanager
    def _worker(self) -> Iterator[EngineWorker]:
        worker = self._workers.get()  # waits for a free worker
        try:
            with CAPTURES.beside():
                call_cuda(self._cuda.cudaSetDevice, self._device)  # the current device belongs to the calling thread
                yield worker
        finally:
            self._workers.put(worker)
