"""Whether an ONNX file computes in FP16."""

from pathlib import Path

from serving.bundle.onnx_skeleton import DATA_TYPE, GRAPH, INITIALIZER
from serving.bundle.protobuf_fields import NotProtobufError, fields, message

FLOAT16 = 10  # of TensorProto.DataType


def has_half_weights(model: str | bytes) -> bool:
    """Whether a graph has weights in FP16; not if the file is no graph.

    model   the path of an ONNX file, or its bytes
    """
    content = memoryview(Path(model).read_bytes() if isinstance(model, str) else model)
    try:
        graphs = [message(value) for number, value in fields(content) if number == GRAPH]
        tensors = [message(value) for graph in graphs for number, value in fields(graph) if number == INITIALIZER]
        return any((DATA_TYPE, FLOAT16) in fields(tensor) for tensor in tensors)
    except NotProtobufError:
        return False
