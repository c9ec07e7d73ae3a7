"""The backends that a benchmark can ask for, each by one name: of ONNX Runtime one for each provider."""

import importlib.util
from pathlib import Path

from serving.backends.choose import for_waveforms, open_openvino
from serving.backends.onnxruntime import OnnxRuntime, missing_for
from serving.backends.runtime import FrontEnd, Runtime, WithFrontEnd
from serving.bundle import Bundle

PROVIDERS = {"onnxruntime": "cpu", "onnxruntime-cuda": "cuda", "onnxruntime-tensorrt": "tensorrt"}
CPU_RUNTIMES = ("onnxruntime", "openvino")
GPU_RUNTIMES = ("onnxruntime-cuda", "onnxruntime-tensorrt", "tensorrt")
RUNTIMES = CPU_RUNTIMES + GPU_RUNTIMES
REFERENCE = "onnxruntime"  # in FP32, on a CPU: what the others' embeddings are compared with


def missing(name: str, gpus: list[str]) -> str | None:
    """Why a backend cannot be measured on this machine, None where it may. gpus: of the machine."""
    if name in GPU_RUNTIMES and not gpus:
        return "no GPU"
    if name in PROVIDERS:
        return missing_for(PROVIDERS[name])
    if name == "openvino" and importlib.util.find_spec("openvino") is None:
        return "openvino is not installed: pip install .[openvino]"
    return None


def open_graph(path: Path, name: str, threads: int, cache: Path) -> Runtime:
    """Any ONNX file with one input and one output. cache: folder for engines that are built on the way.

    errors   BackendError, UsageError: the backend does not work here
    """
    if name == "openvino":
        from serving.backends.openvino import OpenVino

        return OpenVino(path, threads)
    return OnnxRuntime(path, threads, [PROVIDERS[name]], strict=True, cache=cache)


def open_model(bundle: Bundle, name: str, precision: str, threads: int, cache: Path) -> Runtime:
    """A bundle's model, waveforms -> embeddings; errors as `open_graph`, and EngineError: no engine of it fits."""
    if name == "tensorrt":
        from serving.backends.tensorrt import TensorRT, find_engine

        return TensorRT(find_engine(bundle, precision), bundle)
    if name == "openvino":
        return open_openvino(bundle, precision, threads)
    return for_waveforms(bundle, open_graph(bundle.model(precision), name, threads, cache))


def front_end_of(bundle: Bundle, runtime: Runtime, name: str, threads: int, cache: Path) -> FrontEnd | None:
    """The front end alone, as it runs in this backend's runtime of the model; None: an engine cannot be split."""
    if isinstance(runtime, WithFrontEnd):
        return runtime.front_end
    return None if name == "tensorrt" else open_graph(bundle.path("frontend.onnx"), name, threads, cache)
