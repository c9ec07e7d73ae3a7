"""An ONNX graph without its weights, to infer shapes with: weights are inputs, and every tensor is an output.

Field numbers: onnx.proto of ONNX 1.18.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

import numpy as np

from serving.bundle.protobuf_fields import Value, fields, message, read_numbers, write_field, write_number

MAX_INLINE_BYTES = 4096  # a constant up to this size stays in the graph: it may be a shape
MAX_RANK = 8
MAX_FOLDED = 64  # numbers of a shape that is computed here

GRAPH = 7  # of ModelProto
NODE, INITIALIZER, INPUT, OUTPUT, VALUE_INFO = 1, 5, 11, 12, 13  # of GraphProto
NODE_INPUT, NODE_OUTPUT, OPERATOR, ATTRIBUTE = 1, 2, 4, 5  # of NodeProto
ATTRIBUTE_NAME, INTS = 1, 8  # of AttributeProto
DIMS, DATA_TYPE, INT64_DATA, TENSOR_NAME, RAW_DATA = 1, 2, 7, 8, 9  # of TensorProto
NARROW_TYPES, INT64 = (2, 3, 10, 16), 7  # of TensorProto.DataType: UINT8, INT8, FLOAT16, BFLOAT16
VALUE_NAME, VALUE_TYPE, TENSOR_TYPE, ELEMENT_TYPE, SHAPE, DIM, DIM_VALUE, DIM_PARAM = 1, 2, 1, 1, 2, 1, 1, 2

Shape = list[int]
Parts = dict[int, list[Value]]


@dataclass(frozen=True)
class Node:
    """An operator, with the names of its tensors. kernel: the number of places that a pooling operator looks at."""

    operator: str
    inputs: list[str]
    outputs: list[str]
    kernel: int


@dataclass
class Skeleton:
    """What is left of a graph.

    model           an ONNX file
    shapes          of the weights and inputs
    narrow_weights  the number of weights of 8 or 16 bits, which a graph converts once
    """

    model: bytes = b""
    nodes: list[Node] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    narrow_weights: int = 0
    _inputs: dict[str, bytes] = field(default_factory=dict)
    _folded: dict[str, list[int]] = field(default_factory=dict)  # shapes that the graph computes, by their tensors

    def add_input(self, name: str, kind: int, shape: Shape) -> None:
        """Let a tensor be an input of the graph."""
        self.shapes[name], self._inputs[name] = shape, _write_value(name, kind, shape)

    def add_weight(self, tensor: memoryview) -> bool:
        """Add a weight. Returns whether it stays in the graph as it is, because it is small."""
        parts = _parts(tensor)
        name, kind = _text(parts, TENSOR_NAME), _number(parts, DATA_TYPE)
        shape = _checked(read_numbers(parts.get(DIMS, []), MAX_RANK + 1))
        if prod(shape) > 2 * len(tensor):  # the smallest numbers are two a byte
            raise ValueError(f"its tensor {name[:40]!r} has fewer numbers than its shape says")
        self.narrow_weights += prod(shape) if kind in NARROW_TYPES else 0
        self.shapes[name] = shape
        if len(tensor) > MAX_INLINE_BYTES:
            self.add_input(name, kind, shape)
            return False
        if kind == INT64 and len(shape) <= 1 and prod(shape) <= MAX_FOLDED:
            raw = b"".join(bytes(message(data)) for data in parts.get(RAW_DATA, []))
            packed = read_numbers(parts.get(INT64_DATA, []), MAX_FOLDED)
            self._folded[name] = np.frombuffer(raw[: len(raw) // 8 * 8], "<i8").tolist() or packed
        return True

    def add_node(self, content: memoryview) -> bytes:
        """Add an operator. Returns what takes its place: a constant if it computes a shape that is known already."""
        node = _read_node(content)
        self.nodes.append(node)
        values = self._fold(node)
        if values is None or len(values) > MAX_FOLDED:
            return write_field(NODE, content)
        output = node.outputs[0]
        self._folded[output], self.shapes[output] = values, [len(values)]
        tensor = write_number(DIMS, len(values)) + write_number(DATA_TYPE, INT64) + write_field(TENSOR_NAME, output)
        return write_field(INITIALIZER, tensor + write_field(RAW_DATA, np.array(values, "<i8").tobytes()))

    def _fold(self, node: Node) -> list[int] | None:
        """The whole numbers that an operator makes of shapes; None: it is another operator, or they are not known."""
        if node.operator == "Shape" and node.inputs[:1] and node.inputs[0] in self._inputs:
            return self.shapes[node.inputs[0]]
        known = [self._folded.get(name) for name in node.inputs]
        if not known or len(node.outputs) != 1 or None in known:
            return None
        values = [each for each in known if each is not None]
        match node.operator:
            case "Concat":
                return [number for each in values for number in each]
            case "Gather" if len(values) == 2 and all(-len(values[0]) <= i < len(values[0]) for i in values[1]):
                return [values[0][i] for i in values[1]]
        return None

    def ends(self) -> bytes:
        """The inputs and outputs of the graph."""
        made = dict.fromkeys(name for node in self.nodes for name in node.outputs if name and name not in self._folded)
        outputs = (write_field(OUTPUT, write_field(VALUE_NAME, name)) for name in made)
        return b"".join((*self._inputs.values(), *outputs))


def read_skeleton(model: memoryview, sizes: Mapping[str, int]) -> Skeleton:
    """The skeleton of a model.

    sizes    of the dimensions that have a name instead of a size; those that are not here count as 1
    errors   ValueError: a tensor has fewer numbers than its shape says, or more than MAX_RANK dimensions
    """
    skeleton, kept = Skeleton(), []
    for number, value in fields(model):
        kept.append(_read_graph(message(value), sizes, skeleton) if number == GRAPH else _write(number, value))
    skeleton.model = b"".join(kept)
    return skeleton


def _read_graph(graph: memoryview, sizes: Mapping[str, int], skeleton: Skeleton) -> bytes:
    parts, kept = _parts(graph), []
    for value in parts.get(INPUT, []):
        skeleton.add_input(*_read_input(message(value), sizes))
    kept += [write_field(INITIALIZER, t) for t in map(message, parts.get(INITIALIZER, [])) if skeleton.add_weight(t)]
    kept += [skeleton.add_node(message(node)) for node in parts.get(NODE, [])]
    # What the file says of the shapes of tensors is left out: they are inferred.
    done = (INPUT, INITIALIZER, NODE, OUTPUT, VALUE_INFO)
    kept += [_write(number, value) for number, values in parts.items() if number not in done for value in values]
    return write_field(GRAPH, b"".join(kept) + skeleton.ends())


def _write(number: int, value: Value) -> bytes:
    return write_number(number, value) if isinstance(value, int) else write_field(number, value)


def _parts(content: memoryview) -> Parts:
    parts: Parts = {}
    for number, value in fields(content):
        parts.setdefault(number, []).append(value)
    return parts


def _texts(parts: Parts, number: int) -> list[str]:
    return [bytes(message(value)).decode() for value in parts.get(number, [])]


def _text(parts: Parts, number: int) -> str:
    return (_texts(parts, number) or [""])[-1]


def _number(parts: Parts, number: int) -> int:
    return (read_numbers(parts.get(number, [])[-1:], 1) or [0])[0]


def _checked(shape: Shape) -> Shape:
    if len(shape) > MAX_RANK or min(shape, default=0) < 0:
        raise ValueError(f"has a tensor of shape {shape}, wanted at most {MAX_RANK} dimensions")
    return shape


def _read_node(content: memoryview) -> Node:
    parts, kernel = _parts(content), 1
    for attribute in parts.get(ATTRIBUTE, []):
        inner = _parts(message(attribute))
        if _text(inner, ATTRIBUTE_NAME) == "kernel_shape":
            kernel = prod(read_numbers(inner.get(INTS, []), MAX_RANK))
    return Node(_text(parts, OPERATOR), _texts(parts, NODE_INPUT), _texts(parts, NODE_OUTPUT), kernel)


def _read_input(content: memoryview, sizes: Mapping[str, int]) -> tuple[str, int, Shape]:
    """The name, the element type and the shape of an input of the graph."""
    parts = _parts(content)
    kind, shape = 0, []
    for tensor in (t for v in parts.get(VALUE_TYPE, []) for t in _parts(message(v)).get(TENSOR_TYPE, [])):
        inner = _parts(message(tensor))
        kind = _number(inner, ELEMENT_TYPE)
        for dim in (d for s in inner.get(SHAPE, []) for d in _parts(message(s)).get(DIM, [])):
            size = _parts(message(dim))
            shape.append(_number(size, DIM_VALUE) if DIM_VALUE in size else sizes.get(_text(size, DIM_PARAM), 1))
    return _text(parts, VALUE_NAME), kind, _checked(shape)


def _write_value(name: str, kind: int, shape: Shape) -> bytes:
    """An input of the graph: a ValueInfoProto."""
    dims = b"".join(write_field(DIM, write_number(DIM_VALUE, size)) for size in shape)
    tensor = write_number(ELEMENT_TYPE, kind) + write_field(SHAPE, dims)
    return write_field(INPUT, write_field(VALUE_NAME, name) + write_field(VALUE_TYPE, write_field(TENSOR_TYPE, tensor)))
