"""Check an ONNX file before a runtime opens it: which operators it has, and that it reads no other file.

A file from a stranger may have loops of 2^62 rounds, or weights "in" any file of the machine. So a bundle's files may
have only what the export writes. The protobuf messages are walked without copies and without the onnx package, which
takes memory for a second copy of the weights. Field numbers: onnx.proto of ONNX 1.18.
"""

from serving.bundle.protobuf_fields import NotProtobufError, fields, message
from serving.errors import BundleError

# What the export writes: none has a body that is repeated, or makes a large tensor of a size that is a value.
_NAMES = """
    Add AveragePool BatchNormalization Cast Clip Concat Constant Conv DequantizeLinear Div Dropout Erf Flatten
    Gather Gelu Gemm GlobalAveragePool HardSigmoid HardSwish Identity LayerNormalization Log LpNormalization
    MatMul Max MaxPool Min Mul Neg Pow QuantizeLinear ReduceMax ReduceMean ReduceSum Relu Reshape Shape Sigmoid
    Slice Softmax Sqrt Squeeze Sub Tanh Transpose Unsqueeze
"""
OPERATORS = frozenset(_NAMES.split())
MAX_NODES = 2_000  # ours have at most 200; to open 10 000 takes OpenVINO 9 s
EXTERNAL = 1  # TensorProto.DataLocation
FUNCTIONS, TRAINING = 25, 20  # of ModelProto
GRAPH = 7
NODE, INITIALIZER, SPARSE_INITIALIZER = 1, 5, 15  # of GraphProto
OPERATOR, ATTRIBUTE, DOMAIN = 4, 5, 7  # of NodeProto
TENSOR, SUBGRAPH, TENSORS, SUBGRAPHS, SPARSE_TENSOR, SPARSE_TENSORS = 5, 6, 10, 11, 22, 23  # of AttributeProto
EXTERNAL_DATA, DATA_LOCATION = 13, 14  # of TensorProto


def check_onnx(content: bytes, name: str) -> None:
    """Refuse an ONNX file with anything else than the export writes.

    name    of the file, for messages
    errors  BundleError: it is no ONNX file, or has another operator, a function, a graph inside a node, or weights in
            another file
    """
    try:
        _check_model(memoryview(content))
    except NotProtobufError as error:
        raise BundleError(f"{name}: is not an ONNX file, or is cut off; export the bundle again") from error
    except ValueError as error:
        raise BundleError(f"{name}: {error}; export the bundle again") from error


def _check_model(model: memoryview) -> None:
    graphs = 0
    for number, value in fields(model):
        if number in (FUNCTIONS, TRAINING):
            raise ValueError("has functions or training steps, wanted one graph of operators")
        if number == GRAPH:
            graphs += 1
            _check_graph(message(value))
    if graphs != 1:
        raise ValueError("is not an ONNX file with one graph")


def _check_graph(graph: memoryview) -> None:
    nodes = 0
    for number, value in fields(graph):
        if number == NODE:
            nodes += 1
            _check_node(message(value))
        elif number == INITIALIZER:
            _check_tensor(message(value))
        elif number == SPARSE_INITIALIZER:
            raise ValueError("has sparse weights, which the export does not write")
    if nodes > MAX_NODES:
        raise ValueError(f"has {nodes} operators, wanted at most {MAX_NODES}")


def _check_node(node: memoryview) -> None:
    domain, operator = b"", b""
    for number, value in fields(node):
        if number == OPERATOR:
            operator = bytes(message(value))
        elif number == DOMAIN:
            domain = bytes(message(value))
        elif number == ATTRIBUTE:
            _check_attribute(message(value))
    text = operator[:40].decode("ascii", "backslashreplace")
    if domain not in (b"", b"ai.onnx") or text not in OPERATORS:
        of = f" of {domain[:40].decode('ascii', 'backslashreplace')}" if domain else ""
        raise ValueError(f"has the operator {text!r}{of}, which the export does not write ({__name__})")


def _check_attribute(attribute: memoryview) -> None:
    for number, value in fields(attribute):
        if number in (SUBGRAPH, SUBGRAPHS, SPARSE_TENSOR, SPARSE_TENSORS):
            raise ValueError("has a graph or a sparse tensor inside an operator, which the export does not write")
        if number in (TENSOR, TENSORS):
            _check_tensor(message(value))


def _check_tensor(tensor: memoryview) -> None:
    for number, value in fields(tensor):
        if number == EXTERNAL_DATA or (number == DATA_LOCATION and value == EXTERNAL):
            raise ValueError("has weights in another file, wanted all in this one")
