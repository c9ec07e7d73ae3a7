"""Choose the backend for a bundle's model: the requested one, or the fastest that works on this machine.

A backend is used only if its embeddings of the probes equal those that PyTorch computed at the export.
"""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

from serving.backends.bundle_runtime import open_openvino, with_front_end
from serving.backends.probe_check import TOLERANCES, probe_difference
from serving.backends.runtime import Runtime
from serving.bundle.bundle import Bundle
from serving.bundle.bundle_files import BF16, ENGINES, PROBES
from serving.command_line import say
from serving.errors import BackendError, UnheardError, UsageError, one_line

BACKENDS = ("auto", "onnxruntime", "openvino", "tensorrt")


def open_backend(bundle: Bundle, backend: str, precision: str, threads: int, strict: bool = False) -> Runtime:
    """Open a bundle's model.

    backend    one of BACKENDS. auto: the first that is installed and passes the probe check, of TensorRT with an
               engine for this GPU, ONNX Runtime on a GPU, OpenVINO, ONNX Runtime on the CPU. A backend that is
               installed but fails is skipped with a warning on stderr
    precision  fp32, fp16 or int8; bf16: the FP32 model with its network in bfloat16, OpenVINO only
    threads    CPU threads of one inference
    strict     raise an error instead of skipping a backend or a provider with a warning
    errors     UsageError: an unknown backend, or one that is not installed; BundleError: no model of that precision;
               EngineError: no suitable TensorRT engine; BackendError: it does not work here, or its embeddings differ
    """
    if backend not in BACKENDS:
        raise UsageError(f"backend: got {backend}; wanted one of {', '.join(BACKENDS)}")
    bundle.model(precision)  # a file that the bundle lacks must not be reported as a fault of a backend
    bundle.path(PROBES)
    if backend != "auto":
        return _open(bundle, backend, precision, threads, strict)
    refused: UnheardError | None = None
    for name, providers in _candidates(bundle, precision):
        try:
            return _open(bundle, name, precision, threads, strict=True, providers=providers)
        except UnheardError as error:
            if strict:
                raise
            say(f"warning: {error}; trying the next backend")
            refused = error
    raise BackendError(f"no backend works here; the last that was tried: {refused}")


def _candidates(bundle: Bundle, precision: str) -> Iterator[tuple[str, list[str] | None]]:
    """Installed backends that may work, each with ONNX Runtime's providers, fastest first."""
    if precision == BF16:
        yield "openvino", None
        return
    if _sees_gpu():
        if any((bundle.folder / ENGINES).glob(f"*-{precision}.engine")):
            yield "tensorrt", None
        from serving.backends.onnxruntime import missing_for

        if missing_for("cuda") is None:
            yield "onnxruntime", ["cuda"]
    if importlib.util.find_spec("openvino"):
        yield "openvino", None
    yield "onnxruntime", ["cpu"]


def _sees_gpu() -> bool:
    """False if there is certainly no NVIDIA GPU. Asked first, because the GPU libraries are large."""
    return sys.platform != "linux" or any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/dxg"))


def _open(
    bundle: Bundle, backend: str, precision: str, threads: int, strict: bool, providers: list[str] | None = None
) -> Runtime:
    """Open one backend and compare it with PyTorch on the probes."""
    try:
        runtime = _make(bundle, backend, precision, threads, strict, providers)
        distance, probe = probe_difference(bundle, runtime)
    except UnheardError:
        raise
    except Exception as error:  # a library may raise any type
        reason = one_line(error)
        raise BackendError(f"backend {backend} does not work here ({type(error).__name__}: {reason})") from error
    if not distance <= TOLERANCES[precision]:
        raise BackendError(
            f"backend {backend} {runtime.version} gives other numbers than PyTorch: the {precision} embedding of "
            f'"{probe}" is off by {distance:.2g} of its length, wanted at most {TOLERANCES[precision]:.2g}'
        )
    return runtime


def _make(
    bundle: Bundle, backend: str, precision: str, threads: int, strict: bool, providers: list[str] | None
) -> Runtime:
    if precision == BF16 and backend != "openvino":
        raise UsageError(f"precision: got bf16, which {backend} does not compute; take the backend openvino, or fp32")
    # Each library is imported only when it is used: it takes memory, and may not be installed.
    match backend:
        case "tensorrt":
            from serving.backends.tensorrt import TensorRT, find_engine

            return with_front_end(bundle, TensorRT(find_engine(bundle, precision), bundle))
        case "openvino":
            return open_openvino(bundle, precision, threads)
        case _:
            from serving.backends.onnxruntime import OnnxRuntime

            path = bundle.model(precision)
            network = OnnxRuntime(path, threads, providers, strict=strict, content=bundle.read_graph(path.name))
            return with_front_end(bundle, network)


def runs_on_gpu(runtime: Runtime) -> bool:
    """Whether the network runs on a GPU, where large batches are faster."""
    return runtime.name == "tensorrt" or any(name.startswith(("CUDA", "Tensorrt")) for name in runtime.providers)
