"""all-MiniLM-L6-v2 (Reimers 2019, arXiv:1908.10084) as an ONNX graph, made from its weights without PyTorch.

The original in FP32 runs from the safetensors file of its package; export.text_model_writer stores a smaller one in a
bundle.
`onnx` is imported when a graph is built: a server whose bundle has its own text model runs without it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

LAYERS, HEADS, SIZE = 6, 12, 384
EPSILON = 1e-12  # of the layer norms
OPSET, IR_VERSION = 20, 9  # ONNX Runtime 1.17 and later read them
WORDS = "embeddings.word_embeddings.weight"
SCALES = "embeddings.word_embeddings.scales"  # [words, 1] float32, beside a word table in INT8
FLOAT, INT64 = 1, 7  # of ONNX's TensorProto.DataType
DTYPES = {"F32": FLOAT, "I64": INT64}  # safetensors' names of them


def build_graph(weights: Mapping[str, "TensorProto"]) -> "ModelProto":
    """BERT of six layers with a mean over the tokens: tokens [batch, length] int64 -> embedding [batch, 384] float32.

    All texts of a batch have the same length, so there is no padding and no mask. Rows of the result have unit length.

    weights  under BERT's names; matrices in FP32 or FP16, the word table also in INT8 with SCALES. The arithmetic is
             always FP32
    """
    graph = _Graph(weights)
    hidden = _embed_tokens(graph)  # [batch * length, 384]
    for i in range(LAYERS):
        layer = f"encoder.layer.{i}"
        attended = graph.linear(_attend(graph, hidden, layer), f"{layer}.attention.output.dense")
        hidden = graph.norm(graph.add("Add", hidden, attended), f"{layer}.attention.output")
        inner = graph.add("Gelu", graph.linear(hidden, f"{layer}.intermediate.dense"))  # [batch * length, 1536]
        outer = graph.linear(inner, f"{layer}.output.dense")
        hidden = graph.norm(graph.add("Add", hidden, outer), f"{layer}.output")
    by_text = graph.add("Reshape", hidden, graph.add("Concat", "shape", graph.ints(SIZE), axis=0))
    mean = graph.add("ReduceMean", by_text, graph.ints(1), keepdims=0)
    graph.add("LpNormalization", mean, output="embedding", axis=1, p=2)
    return graph.model()


def _embed_tokens(graph: "_Graph") -> str:
    """The sum of each token's word, position and type vectors, normalised: [batch * length, 384]."""
    words = graph.rows(WORDS, "tokens")  # [batch, length, 384]
    if SCALES in graph.weights:
        words = graph.add("Mul", words, graph.rows(SCALES, "tokens"))
    graph.add("Shape", "tokens", output="shape")
    length = graph.add("Gather", "shape", graph.ints(1))
    table = graph.weight("embeddings.position_embeddings.weight")
    positions = graph.add("Slice", table, graph.ints(0), length, graph.ints(0))  # [length, 384]
    kind = graph.rows("embeddings.token_type_embeddings.weight", graph.ints(0))  # every text is of the first type
    summed = graph.add("Add", graph.add("Add", words, positions), kind)
    return graph.add("Reshape", graph.norm(summed, "embeddings"), graph.ints(-1, SIZE))


def _attend(graph: "_Graph", hidden: str, layer: str) -> str:
    """Multi-head self-attention within each text: [batch * length, 384] -> the same shape."""
    by_head = graph.add("Concat", "shape", graph.ints(HEADS, SIZE // HEADS), axis=0)
    query, key, value = (
        graph.add("Reshape", graph.linear(hidden, f"{layer}.attention.self.{part}"), by_head)
        for part in ("query", "key", "value")
    )  # each [batch, length, heads, 32]
    query = graph.add("Transpose", query, perm=[0, 2, 1, 3])
    key = graph.add("Transpose", key, perm=[0, 2, 3, 1])
    value = graph.add("Transpose", value, perm=[0, 2, 1, 3])
    scale = graph.constant("attention_scale", np.array((SIZE // HEADS) ** -0.5, np.float32))
    scores = graph.add("Mul", graph.add("MatMul", query, key), scale)  # [batch, heads, length, length]
    attended = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), value)
    return graph.add("Reshape", graph.add("Transpose", attended, perm=[0, 2, 1, 3]), graph.ints(-1, SIZE))


class _Graph:
    """Nodes and initializers while a graph is built. Methods return the name of their output."""

    def __init__(self, weights: Mapping[str, "TensorProto"]):
        self.weights = weights
        self._nodes: list[NodeProto] = []
        self._initializers: dict[str, TensorProto] = {}

    def add(self, op: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        from onnx import helper

        output = output or f"{op}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: np.ndarray) -> str:
        from onnx import numpy_helper

        self._initializers[name] = numpy_helper.from_array(value, name)
        return name

    def ints(self, *values: int) -> str:
        return self.constant(f"ints_{'_'.join(map(str, values))}", np.array(values, np.int64))

    def weight(self, name: str) -> str:
        """A stored tensor, cast to FP32 where it is FP16."""
        stored = self._initializers[name] = self.weights[name]
        return name if stored.data_type == FLOAT else self.add("Cast", name, to=FLOAT)

    def rows(self, name: str, index: str) -> str:
        """Rows of a table in FP32. They are gathered first and cast after, so that no table is cast whole."""
        stored = self._initializers[name] = self.weights[name]
        rows = self.add("Gather", name, index)
        return rows if stored.data_type == FLOAT else self.add("Cast", rows, to=FLOAT)

    def linear(self, hidden: str, name: str) -> str:
        return self.add("Gemm", hidden, self.weight(f"{name}.weight"), self.weight(f"{name}.bias"), transB=1)

    def norm(self, hidden: str, name: str) -> str:
        scale, bias = (self.weight(f"{name}.LayerNorm.{part}") for part in ("weight", "bias"))
        return self.add("LayerNormalization", hidden, scale, bias, axis=-1, epsilon=EPSILON)

    def model(self) -> "ModelProto":
        from onnx import helper

        tokens = helper.make_tensor_value_info("tokens", INT64, ["batch", "length"])
        embedding = helper.make_tensor_value_info("embedding", FLOAT, ["batch", SIZE])
        graph = helper.make_graph(self._nodes, "minilm", [tokens], [embedding], list(self._initializers.values()))
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def external_weights(path: Path) -> "dict[str, TensorProto]":
    """The tensors of a safetensors file as ONNX external data: they stay in that file, and ONNX Runtime maps it.

    errors   OSError, ValueError, KeyError: the file cannot be read, or is no such file
    """
    from onnx import StringStringEntryProto, TensorProto

    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        if header_bytes > path.stat().st_size:
            raise ValueError("its header is longer than the file")
        header = json.loads(file.read(header_bytes))
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        tensor = TensorProto(
            name=name, dims=entry["shape"], data_type=DTYPES[entry["dtype"]], data_location=TensorProto.EXTERNAL
        )
        facts = {"location": path.name, "offset": 8 + header_bytes + start, "length": end - start}
        tensor.external_data.extend(StringStringEntryProto(key=key, value=str(value)) for key, value in facts.items())
        tensors[name] = tensor
    return tensors
