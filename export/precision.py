"""Convert the embedder to FP16 and to INT8. The front end with its log, and the output, stay in FP32 in both.

FP16: a PyTorch module with FP16 weights and explicit casts, so the exported graph is strongly typed.
INT8: QuantizeLinear and DequantizeLinear around the layers of the FP32 graph. Weights have a scale for each output
channel, activations one scale each, measured on training windows. Zero points are 0 and biases stay in FP32, because
TensorRT accepts nothing else.

INT8 weights have 7 bits: whole numbers from -64 to 64. An x86-64 CPU without VNNI multiplies unsigned 8-bit activations
by signed weights and adds the products in pairs into signed 16 bits (instruction vpmaddubsw), which saturates. With 8
bits a pair can reach 2 * 255 * 127 = 64770, twice what 16 bits hold. With 7 bits it cannot exceed 2 * 255 * 64 = 32640,
and 16 bits hold -32768 to 32767. This also holds for signed activations: a runtime first adds 128 to make them
unsigned (0 to 255), and afterwards subtracts 128 times the sum of the weights in 32 bits.
"""

import copy
import tempfile
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.utils
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from torch import Tensor, nn

from export.equalise import BATCH, Limits, Ranges, equalise, measure_ranges
from export.graph import FRONT_END, Embedder
from export.parity.comparison import BOUNDS
from export.parity.judge import run_in_batches
from serving.backends.onnxruntime import OnnxRuntime
from serving.cores import usable_cores
from serving.cosine import row_cosines
from serving.progress import track
from serving.zeroshot import ZeroShot

LAYERS = ("Conv", "Gemm", "MatMul")  # operators that are quantised
# Factor on the activations' ranges. Sounds outside the calibration set can be louder, and saturation does more harm
# than a coarser step. In a trained yamnet-compact the worst probe has a cosine of 0.987 with the ranges of recordings,
# and 0.994 with 1.25 times these ranges.
HEADROOM = 1.25
# The limits here are stricter than the parity bounds, because windows that are not measured here can be worse. The
# ranking's limit is only half as far from 1 as its bound: clips between two classes change their rank with any
# quantised layer, and a stricter limit would put every layer back to FP32.
LEAST_COSINE = 1 - (1 - BOUNDS["int8"].cosine) / 3
LEAST_RANKING = 1 - (1 - BOUNDS["int8"].ranking) / 2


class Cast(nn.Module):
    """Cast the input to `dtype`."""

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.dtype = dtype

    def forward(self, values: Tensor) -> Tensor:
        return values.to(self.dtype)


def half_precision(embedder: Embedder) -> Embedder:
    """A copy whose network computes in FP16. Global average pooling stays in FP32 because it sums many numbers."""
    half = copy.deepcopy(embedder)
    features = OrderedDict(half.features.half().named_children())
    for name, layer in features.items():
        if isinstance(layer, nn.AdaptiveAvgPool2d):
            features[name] = nn.Sequential(Cast(torch.float32), layer, Cast(torch.float16))
    half.features = nn.Sequential(OrderedDict(to_fp16=Cast(torch.float16)) | features)
    embedding = OrderedDict(half.embedding.half().named_children())
    half.embedding = nn.Sequential(embedding | OrderedDict(to_fp32=Cast(torch.float32)))
    return half


@dataclass(frozen=True)
class Quantised:
    """An INT8 graph and its mixed precision.

    fp32_layers  layers that stayed in FP32
    effects      layer -> lowest cosine of a row when only this layer is INT8; empty if all layers are INT8
    """

    model: onnx.ModelProto
    fp32_layers: list[str]
    effects: dict[str, float]


def quantise(
    path: Path,
    calibration: NDArray[np.float32],
    judged: NDArray[np.float32],
    probes: NDArray[np.float32],
    zeroshot: ZeroShot,
) -> Quantised:
    """Quantise an exported FP32 embedder. Layers that lose too much accuracy stay in FP32.

    path         the FP32 file
    calibration  [n, ...] inputs that determine the ranges of the activations
    judged       [n, ...] inputs from other recordings, on which the result is measured
    probes       [n, ...] inputs from synthetic sounds, on which it is measured too; they have no class
    zeroshot     ranks classes: the first-ranked class of the `judged` inputs is compared as well

    The range of an activation is that of `calibration` times HEADROOM. If the network with all layers in INT8 is below
    LEAST_COSINE or LEAST_RANKING, each layer is measured with only that layer in INT8, and keeps the best of three
    ranges: that of `calibration`, the same times HEADROOM, and that of `calibration` and `probes`. Then layers are put
    back to FP32 one by one until the limits hold; the first is the layer that loses most for each byte that it saves.
    """
    model = onnx.load(path)
    nodes = {_layer_name(node): node for node in model.graph.node if _is_layer(node, model)}
    layers = list(nodes.values())
    # What precedes the first layer stays in FP32, so it runs only once, and the trials are of the rest of the graph.
    before, after = _split(model, layers[0].input[0])
    calibration, judged, probes = (_run_model(before, inputs) for inputs in (calibration, judged, probes))
    calibrated, of_probes = measure_ranges(after, layers, calibration, probes)
    with_probes = {name: _union(limits, of_probes[name]) for name, limits in calibrated.items()}
    reference = _Reference(after, judged, probes, zeroshot)
    calibrated, with_probes = equalise(model, layers, calibrated, with_probes)
    _, after = _split(model, layers[0].input[0])  # with the equalised weights
    with_headroom = {name: (HEADROOM * least, HEADROOM * largest) for name, (least, largest) in calibrated.items()}
    ranges = dict(with_headroom)

    def build(graph: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
        return _insert(graph, ranges, [nodes[name].name for name in names])

    effects: dict[str, float] = {}
    kept: list[str] = []
    if not reference.accepts(build(after, nodes)):
        # Layers before the one that is measured are in FP32, so each runs only once: the trials are of the rest.
        rest, inputs = after, reference.inputs
        for name in track(nodes, "each layer alone in INT8"):
            tensor = nodes[name].input[0]
            if tensor != rest.graph.input[0].name:
                before, rest = _split(rest, tensor)
                inputs = _run_model(before, inputs)
            tried: list[tuple[float, Ranges]] = []
            for candidate in (with_headroom, calibrated, with_probes):
                ranges[tensor] = candidate[tensor]
                tried.append((reference.worst_cosine(build(rest, [name]), inputs), candidate))
            effects[name], best = max(tried, key=lambda pair: pair[0])
            ranges[tensor] = best[tensor]
        sizes = {tensor.name: numpy_helper.to_array(tensor).nbytes for tensor in model.graph.initializer}
        order = sorted(nodes, key=lambda name: (effects[name] - 1) / sizes[nodes[name].input[1]])
        for name in track(order, "worst layers back to FP32"):
            if reference.accepts(build(after, [name for name in nodes if name not in kept])):
                break
            kept.append(name)
    return Quantised(build(model, [name for name in nodes if name not in kept]), kept, effects)


class _Reference:
    """The FP32 graph's results on recordings [n, ...] and probes [n, ...], with which a quantised one is compared."""

    def __init__(
        self, model: onnx.ModelProto, recordings: NDArray[np.float32], probes: NDArray[np.float32], zeroshot: ZeroShot
    ):
        self.inputs = np.concatenate([recordings, probes])
        self._reference = _run_model(model, self.inputs)
        self._classify = lambda rows: zeroshot.scores(rows[: len(recordings)]).argmax(axis=1)

    def accepts(self, model: onnx.ModelProto) -> bool:
        """Whether the worst row reaches LEAST_COSINE and the ranking LEAST_RANKING."""
        rows = _run_model(model, self.inputs)
        ranking = np.mean(self._classify(rows) == self._classify(self._reference))
        return bool(row_cosines(self._reference, rows).min() >= LEAST_COSINE and ranking >= LEAST_RANKING)

    def worst_cosine(self, model: onnx.ModelProto, inputs: NDArray[np.float32]) -> float:
        """The lowest cosine of a row that the model computes from its `inputs`; -1 if a row has a NaN."""
        rows = _run_model(model, inputs)
        return float(np.nan_to_num(row_cosines(self._reference, rows), nan=-1.0).min())


def _is_layer(node: onnx.NodeProto, model: onnx.ModelProto) -> bool:
    weights = {tensor.name for tensor in model.graph.initializer if not tensor.name.startswith(FRONT_END)}
    return node.op_type in LAYERS and node.input[1] in weights


def _layer_name(node: onnx.NodeProto) -> str:
    """The name of the layer's module in the network, like "features.3.1"."""
    return node.input[1].removesuffix(".weight")


def _split(model: onnx.ModelProto, tensor: str) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The part of a graph that computes this tensor from the inputs, and the part that computes the outputs from it."""
    whole = onnx.utils.Extractor(model)
    inputs, outputs = ([entry.name for entry in ends] for ends in (model.graph.input, model.graph.output))
    return whole.extract_model(inputs, [tensor]), whole.extract_model([tensor], outputs)


def _union(limits: Limits, others: Limits) -> Limits:
    return np.minimum(limits[0], others[0]), np.maximum(limits[1], others[1])


def _run_model(model: onnx.ModelProto, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    with tempfile.TemporaryDirectory() as folder:
        onnx.save_model(model, Path(folder) / "trial.onnx")
        return run_in_batches(OnnxRuntime(Path(folder) / "trial.onnx", usable_cores(), ["cpu"]), inputs, BATCH)


def _insert(model: onnx.ModelProto, ranges: Ranges, nodes: list[str]) -> onnx.ModelProto:
    """A copy of the model with Q/DQ pairs at the inputs and the weights of these nodes."""
    if not nodes:
        return copy.deepcopy(model)  # the quantiser would read an empty list of nodes as all nodes
    tensor_ranges: dict[str, TensorData | tuple[Any, ...]]
    tensor_ranges = {name: (least.min(), largest.max()) for name, (least, largest) in ranges.items()}
    quantiser = QDQQuantizer(
        copy.deepcopy(model),
        per_channel=True,
        reduce_range=True,  # weights of 7 bits, see the module's docstring
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, tensor_ranges),
        nodes_to_quantize=nodes,
        nodes_to_exclude=[],
        op_types_to_quantize=list(LAYERS),
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            # The ReLU after a layer then takes the layer's unquantised output, and TensorRT fuses the two.
            "OpTypesToExcludeOutputQuantization": list(LAYERS),
        },
    )
    quantiser.quantize_model()
    quantiser.model.topological_sort()
    return quantiser.model.model
