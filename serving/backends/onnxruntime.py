"""ONNX Runtime: runs a graph on the CPU, or on an NVIDIA GPU by its CUDA or TensorRT provider."""

import contextlib
import ctypes
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.backends.cuda_api import CAPTURES, load_cuda
from serving.backends.cuda_batches import CudaSettings, FixedBatches, Tensor
from serving.backends.onnxruntime_library import onnxruntime
from serving.backends.tensorrt_flavours import installed_flavours, load_flavour
from serving.bundle.bundle_files import ENGINES
from serving.bundle.onnx_precision import has_half_weights
from serving.command_line import say
from serving.errors import BackendError, UsageError, one_line

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
MOST_PROVIDER_ROWS = 64  # batch limit of the TensorRT provider's engine; for a larger batch it builds another engine
DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
TENSORRT_10 = "nvinfer_10.dll" if sys.platform == "win32" else "libnvinfer.so.10"


class OnnxRuntime:
    """A callable over one ONNX file with one input and one output, both with a dynamic batch. Thread-safe.

    path       the ONNX file
    content    its bytes, if they have been read and checked already; None: read the file
    threads    CPU threads of one inference
    providers  any of "cpu", "cuda" and "tensorrt", in order of preference; None: cuda if there is a driver, then cpu
    strict     raise an error if a requested provider does not work; otherwise print a warning on stderr and use the
               next provider
    spinning   idle threads keep their core busy for a short time. Faster if the process has the cores to itself, slower
               otherwise
    cuda       how the cuda provider runs it
    cache      folder for the engines that the tensorrt provider builds, which takes minutes; None: engines/onnxruntime
               beside the file
    errors     UsageError: an unknown provider; BackendError: with `strict`, a provider does not work here
    """

    name = "onnxruntime"

    def __init__(
        self,
        path: Path,
        threads: int,
        providers: Sequence[str] | None = None,
        *,
        strict: bool = False,
        spinning: bool = True,
        cuda: CudaSettings = CudaSettings(),  # noqa: B008 (frozen)
        cache: Path | None = None,
        content: bytes | None = None,
    ):
        options = _session_options(threads, spinning)
        if providers is None:
            providers = ["cuda", "cpu"] if missing_for("cuda") is None else ["cpu"]
        reasons = {name: missing_for(name) for name in providers}
        usable = [name for name in providers if reasons[name] is None]
        model = str(path) if content is None else content
        self._session, refused = _open(model, options, usable, cache or path.parent / ENGINES / "onnxruntime", cuda)
        self.threads = threads
        self.version: str = onnxruntime.__version__
        self.providers: list[str] = list(self._session.get_providers())
        absent = {
            name: reasons[name] or refused.get(name, "ONNX Runtime left it out; its own lines say why")
            for name in providers
            if PROVIDERS[name] not in self.providers
        }
        if absent:
            what = "; ".join(f"{name} does not work here: {why}" for name, why in absent.items())
            if strict:
                raise BackendError(f"provider {what}")
            say(f"warning: provider {what}; {path.name} runs on {self.providers[0]}")
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name

        self.batches: FixedBatches | None = None
        """The fixed batches, on the cuda provider."""
        if self.providers[0] == PROVIDERS["cuda"] and cuda.sizes:
            self.batches = self._fixed_batches(model, threads, cuda)

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """[batch, ...] float32 -> [batch, ...] float32; the graph defines the other dimensions."""
        return self._run(batch) if self.batches is None else self.batches(batch)

    @property
    def splits_batches(self) -> bool:
        """Whether a batch of any size is split here into calls of a size that suits the device."""
        return self.batches is not None

    def warm_up(self) -> None:
        """Open now what the first calls would open."""
        if self.batches is not None:
            self.batches.open_all()

    def _run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with CAPTURES.beside():
            return np.asarray(self._session.run([self._output], {self._input: batch})[0])

    def _fixed_batches(self, model: str | bytes, threads: int, settings: CudaSettings) -> FixedBatches | None:
        """None: cuda-python is not installed, or not the batch alone is dynamic."""
        source, target = self._session.get_inputs()[0], self._session.get_outputs()[0]
        others = (*source.shape[1:], *target.shape[1:])
        if not (isinstance(source.shape[0], str) and others and all(isinstance(size, int) for size in others)):
            return None
        try:
            cuda = load_cuda()
        except UsageError:
            return None

        def open_session(rows: int, graphs: bool) -> onnxruntime.InferenceSession:
            options = _session_options(threads, spinning=False)
            options.log_severity_level = 3  # errors: that a graph is captured is said as a warning
            options.add_free_dimension_override_by_name(source.shape[0], rows)
            provider = _cuda_options(model, settings) | ({"enable_cuda_graph": "1"} if graphs else {})
            session = onnxruntime.InferenceSession(
                model, options, providers=[(PROVIDERS["cuda"], provider)], enable_fallback=0
            )
            if session.get_providers()[0] != PROVIDERS["cuda"]:
                raise BackendError("ONNX Runtime left the cuda provider out")
            return session

        inputs, outputs = (Tensor(each.name, tuple(each.shape[1:])) for each in (source, target))
        return FixedBatches(cuda, open_session, self._run, inputs, outputs, settings)


class PickledGraph(OnnxRuntime):
    """A small graph in one thread of the CPU. Its pickle holds the graph: the file may change, or not be there."""

    def __init__(self, path: Path, content: bytes):
        super().__init__(path, 1, ["cpu"], content=content)
        self._opened_with = path, content

    def __reduce__(self) -> tuple[Any, ...]:
        return PickledGraph, self._opened_with


def _session_options(threads: int, spinning: bool) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
    return options


def missing_for(provider: str) -> str | None:
    """What a provider needs that this machine does not have, and how to get it; None if it may work.

    errors   UsageError: an unknown provider
    """
    if provider not in PROVIDERS:
        raise UsageError(f"provider: got {provider}; wanted {', '.join(PROVIDERS)}")
    if PROVIDERS[provider] not in onnxruntime.get_available_providers():
        return f"onnxruntime {onnxruntime.__version__} was built without it; install onnxruntime-gpu in its place"
    if provider == "cpu":
        return None
    if not _loads(DRIVER):
        return f"there is no NVIDIA driver ({DRIVER}); install it, or take cpu"
    if provider == "tensorrt":
        return _missing_tensorrt()
    return None


def _missing_tensorrt() -> str | None:
    # ONNX Runtime links TensorRT 10. The linker does not find it in a Python package; importing the package loads it.
    if "tensorrt" in installed_flavours():
        version = load_flavour("tensorrt").__version__
        if not version.startswith("10."):
            return f'it needs TensorRT 10, and {version} is installed; pip install "tensorrt<11", or take cuda'
    if not _loads(TENSORRT_10):
        return f'it needs TensorRT 10 ({TENSORRT_10}); pip install "tensorrt<11", or take cuda'
    return None


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _open(
    model: str | bytes, options: onnxruntime.SessionOptions, providers: list[str], cache: Path, cuda: CudaSettings
) -> tuple[onnxruntime.InferenceSession, dict[str, str]]:
    """Open a session on a file or its bytes with these providers; the CPU is always one of them.

    returns   the session, and the reason for each provider that could not be used
    """
    if set(providers) - {"cpu"}:
        with contextlib.redirect_stdout(sys.stderr):  # it prints missing libraries to stdout, which is for results
            onnxruntime.preload_dlls()  # CUDA and cuDNN from the NVIDIA packages, for example of PyTorch
    refused: dict[str, str] = {}
    while True:
        left = [name for name in providers if name not in refused]
        try:
            wanted = [(PROVIDERS[name], _provider_options(name, model, options, cache, cuda)) for name in left]
            # ONNX Runtime's own fall-back would silently drop the options of the other providers.
            session = onnxruntime.InferenceSession(
                model, options, providers=wanted or [PROVIDERS["cpu"]], enable_fallback=0
            )
        except Exception as error:
            if not left or left[0] == "cpu":
                raise
            refused[left[0]] = one_line(error)
        else:
            return session, refused


def _provider_options(
    provider: str, model: str | bytes, options: onnxruntime.SessionOptions, cache: Path, cuda: CudaSettings
) -> dict[str, Any]:
    match provider:
        case "cuda":
            return _cuda_options(model, cuda)
        case "tensorrt":
            os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")  # the provider has no option to switch TF32 off
            cache.mkdir(parents=True, exist_ok=True)
            return {
                "trt_engine_cache_enable": "1",
                "trt_engine_cache_path": str(cache),
                "trt_timing_cache_enable": "1",
                "trt_timing_cache_path": str(cache),
                **_profile_shapes(model, options),
            }
        case _:
            return {}


def _cuda_options(model: str | bytes, settings: CudaSettings) -> dict[str, str]:
    """Options of the cuda provider, for FP32 that is FP32 and FP16 that is fast.

    TF32 multiplies FP32 numbers with 10 bits of mantissa. Without `use_tf32` the provider excludes all plans with
    tensor cores for a convolution, also in FP16, where cuDNN often has no other plan: it then prints an error and plans
    again, for each convolution and batch size (onnxruntime/core/providers/cuda/nn/conv.cc). So graphs in FP16 have it.
    There, NVIDIA_TF32_OVERRIDE, which NVIDIA's libraries read, keeps TF32 from what is computed in FP32.
    """
    os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
    return {
        "use_tf32": "1" if has_half_weights(model) else "0",
        "cudnn_conv_algo_search": settings.search,  # the provider's own default tries all kernels at each batch size
        "prefer_nhwc": "1" if settings.nhwc else "0",
        "arena_extend_strategy": "kSameAsRequested",  # there are several sessions, each with its own memory
    }


def _profile_shapes(model: str | bytes, options: onnxruntime.SessionOptions) -> dict[str, str]:
    """One engine for 1 to MOST_PROVIDER_ROWS rows, in place of one for each new batch size."""
    plain = onnxruntime.InferenceSession(model, options, providers=[PROVIDERS["cpu"]])
    entry = plain.get_inputs()[0]
    sizes = "x".join(map(str, entry.shape[1:]))
    rows = {"min": 1, "opt": 8, "max": MOST_PROVIDER_ROWS}
    return {f"trt_profile_{name}_shapes": f"{entry.name}:{count}x{sizes}" for name, count in rows.items()}
