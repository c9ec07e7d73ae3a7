"""What a bundle's FP32 graph computes: its multiply-accumulates, counted node by node, and its network alone."""

import math
from dataclasses import dataclass

import onnx
from onnx import ModelProto, NodeProto
from onnx.utils import Extractor

from serving.bundle import Bundle
from serving.errors import BundleError

WEIGHTED = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True)
class Work:
    """Of one window: multiply-accumulates, and the layers that do them."""

    macs: int
    layers: int


def network_graph(bundle: Bundle) -> ModelProto:
    """The FP32 network without its front end: log-mel [batch, frames, 64] -> embedding [batch, 128].

    errors   BundleError: the front end cannot be told from the network
    """
    model = onnx.load(str(bundle.model("fp32")))
    if bundle.manifest.input == "log_mel":
        return model
    logs = [node.output[0] for node in model.graph.node if node.op_type == "Log"]
    if len(logs) != 1:
        raise BundleError(f"{bundle.folder}: its model has {len(logs)} logarithms, wanted the front end's one")
    inferred = onnx.shape_inference.infer_shapes(model)
    return Extractor(inferred).extract_model(logs, [model.graph.output[0].name])


def front_end_graph(bundle: Bundle) -> ModelProto:
    """waveform [batch, samples] -> log-mel [batch, frames, 64]."""
    return onnx.load(str(bundle.path("frontend.onnx")))


def count_work(model: ModelProto) -> Work:
    """Multiply-accumulates of the convolutions and matrix products on a batch of one, and how many of them there are.

    Everything else (padding, ReLU, pooling, the logarithm) is left out, as in torch.utils.flop_counter.
    """
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        # The batch alone is symbolic.
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
