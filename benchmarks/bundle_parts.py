"""The parts of a bundle that can be measured: its model, front end and network on each backend, and their work.

A backend has one name here; ONNX Runtime has one for each of its execution providers.
"""

import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import ModelProto, NodeProto
from onnx.utils import Extractor

from serving.backends.bundle_runtime import open_openvino, with_front_end
from serving.backends.onnxruntime import OnnxRuntime, missing_for
from serving.backends.runtime import Graph, Runtime, Stage
from serving.bundle.bundle import Bundle
from serving.errors import BundleError
from serving.extras import pip_install

PROVIDERS = {"onnxruntime": "cpu", "onnxruntime-cuda": "cuda", "onnxruntime-tensorrt": "tensorrt"}
CPU_BACKENDS = ("onnxruntime", "openvino")
GPU_BACKENDS = ("onnxruntime-cuda", "onnxruntime-tensorrt", "tensorrt")
MEASURED_BACKENDS = CPU_BACKENDS + GPU_BACKENDS
REFERENCE_BACKEND = "onnxruntime"  # its FP32 embeddings are what the others are compared with

WEIGHTED = ("Conv", "Gemm", "MatMul")


def why_missing(backend: str, gpus: list[str]) -> str | None:
    """Why a backend cannot be measured on a machine with these GPUs; None where it may work."""
    if backend in GPU_BACKENDS and not gpus:
        return "no GPU"
    if backend in PROVIDERS:
        return missing_for(PROVIDERS[backend])
    if backend == "openvino" and importlib.util.find_spec("openvino") is None:
        return f"openvino is not installed: {pip_install('openvino')}"
    return None


def open_graph(path: Path, backend: str, threads: int, cache: Path) -> Graph:
    """Open an ONNX file with one input and one output.

    cache    a folder for the engines that a provider builds
    errors   BackendError, UsageError: the backend does not work here
    """
    if backend == "openvino":
        from serving.backends.openvino import OpenVino

        return OpenVino(path, threads)
    return OnnxRuntime(path, threads, [PROVIDERS[backend]], strict=True, cache=cache)


def open_model(bundle: Bundle, backend: str, precision: str, threads: int, cache: Path) -> Runtime:
    """Open a bundle's model, waveforms -> embeddings. Errors as `open_graph`, and EngineError: no engine fits."""
    if backend == "tensorrt":
        from serving.backends.tensorrt import TensorRT, find_engine

        return with_front_end(bundle, TensorRT(find_engine(bundle, precision), bundle))
    if backend == "openvino":
        return open_openvino(bundle, precision, threads)
    return with_front_end(bundle, open_graph(bundle.model(precision), backend, threads, cache))


def front_end_of(bundle: Bundle, runtime: Runtime, backend: str, threads: int, cache: Path) -> Stage | None:
    """The front end alone, as this backend computes it for the model; None: an engine cannot be split."""
    if not runtime.is_one_graph:
        return runtime.front_end
    return None if backend == "tensorrt" else open_graph(bundle.path("frontend.onnx"), backend, threads, cache)


@dataclass(frozen=True)
class Work:
    """Multiply-accumulates for one window, and the number of layers that do them."""

    macs: int
    layers: int


def front_end_graph(bundle: Bundle) -> ModelProto:
    """waveform [batch, samples] -> log-mel [batch, frames, 64]."""
    return onnx.load(str(bundle.path("frontend.onnx")))


def network_graph(bundle: Bundle) -> ModelProto:
    """The FP32 network without its front end: log-mel [batch, frames, 64] -> embedding [batch, 128].

    errors   BundleError: the front end cannot be separated from the network
    """
    model = onnx.load(str(bundle.model("fp32")))
    if bundle.manifest.input == "log_mel":
        return model
    logs = [node.output[0] for node in model.graph.node if node.op_type == "Log"]
    if len(logs) != 1:
        raise BundleError(f"{bundle.folder}: its model has {len(logs)} logarithms; wanted one, the front end's")
    inferred = onnx.shape_inference.infer_shapes(model)
    return Extractor(inferred).extract_model(logs, [model.graph.output[0].name])


def count_work(model: ModelProto) -> Work:
    """Count the convolutions and matrix products of a graph, and their multiply-accumulates on a batch of one.

    Padding, ReLU, pooling and the logarithm do not count, as in torch.utils.flop_counter.
    """
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        # Only the batch is symbolic.
        shapes[value.name] = [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
    nodes = [node for node in model.graph.node if node.op_type in WEIGHTED]
    return Work(sum(_macs(node, shapes) for node in nodes), len(nodes))


def _macs(node: NodeProto, shapes: dict[str, list[int]]) -> int:
    outputs = math.prod(shapes[node.output[0]])
    if node.op_type == "Conv":
        return outputs * math.prod(shapes[node.input[1]][1:])  # [out, in / groups, kernel...]
    inner = shapes[node.input[0]]
    transposed = node.op_type == "Gemm" and any(each.name == "transA" and each.i for each in node.attribute)
    return outputs * inner[0 if transposed else -1]
