"""The embedder in FP16 and in INT8. The front end, the log and the output stay in FP32 in both.

FP16: a PyTorch module with casts in it and half the weights' bits, so that the exported graph is strongly typed.
INT8: QuantizeLinear and DequantizeLinear around the layers of the FP32 graph, with one scale for each output channel
of the weights and one for each activation, measured on training windows. Zero points are 0 and biases stay in FP32,
because TensorRT accepts nothing else.

INT8 weights have 7 bits: whole numbers from -64 to 64. An x86-64 CPU without VNNI multiplies unsigned 8-bit activations
by signed weights and adds the products in pairs into signed 16 bits (instruction vpmaddubsw), which saturates. With 8
bits a pair can reach 2 * 255 * 127 = 64770, twice what 16 bits hold. With 7 bits it cannot exceed 2 * 255 * 64 = 32640,
and 16 bits hold -32768 to 32767. That is true of signed activations too: a runtime adds 128 to them first, which makes
them unsigned (0 to 255), and subtracts 128 times the sum of the weights afterwards, in 32 bits.
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
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from rich.progress import track
from torch import Tensor, nn

from export.equalise import BATCH, Ranges, equalise, measure_ranges
from export.graph import FRONT_END, Embedder, save_graph
from export.parity.comparison import BOUNDS
from export.parity.judge import run_in_batches
from serving.backends.onnxruntime import OnnxRuntime
from serving.command_line import progress_console
from serving.cores import usable_cores
from serving.cosine import row_cosines
from serving.zeroshot import ZeroShot

LAYERS = ("Conv", "Gemm", "MatMul")  # what is quantised
# Sounds that no calibration heard can be louder, and what saturates hurts more than a coarser step: with the ranges of
# recordings the worst probe falls to a cosine of 0.987 in a trained yamnet-compact, with 1.25 times these to 0.994.
HEADROOM = 1.25
# Windows that are not measured here can be worse: what is must keep a part of the bounds' distance from 1. A ranking
# turns on clips between two classes, which any layer tips over: asking more of it puts every layer back to FP32.
LEAST_COSINE = 1 - (1 - BOUNDS["int8"].cosine) / 3
LEAST_RANKING = 1 - (1 - BOUNDS["int8"].ranking) / 2


class Cast(nn.Module):
    """Numbers of another type, whatever came."""

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.dtype = dtype

    def forward(self, values: Tensor) -> Tensor:
        return values.to(self.dtype)


def half_precision(embedder: Embedder) -> Embedder:
    """A copy whose network computes in FP16; global average pooling, which sums many numbers, stays in FP32."""
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
    """An INT8 graph and how it came to be.

    fp32_layers  layers that stayed in FP32
    effects      layer -> least cosine of any row when it alone is INT8; empty where nothing had to stay in FP32
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
    """Quantise an exported FP32 embedder, except the layers that hurt most.

    path         of the FP32 file
    calibration  [n, ...] inputs of the file that give the activations' ranges
    judged       [n, ...] other recordings, on which the result is judged
    probes       [n, ...] likewise, without a class
    zeroshot     whose best-ranked class for `judged` must hold its bound as well

    Activations get HEADROOM over the range of recordings. Where the whole network in INT8 then misses LEAST_COSINE or
    LEAST_RANKING, each layer is measured alone in INT8 and keeps the best of three ranges: this, that of recordings,
    and that of recordings and probes. The layers that lose most for the bytes they save are then put back to FP32, one
    after the other, until the rest holds.
    """
    model = onnx.load(path)
    nodes = {_layer_name(node): node for node in model.graph.node if _is_layer(node, model)}
    layers = list(nodes.values())
    heard = measure_ranges(path, layers, calibration)
    with_probes = measure_ranges(path, layers, np.concatenate([calibration, probes]))
    heard, with_probes = equalise(model, layers, heard, with_probes)
    with_headroom = {name: (HEADROOM * least, HEADROOM * largest) for name, (least, largest) in heard.items()}
    ranges = dict(with_headroom)
    trial = _Trial(path, judged, probes, zeroshot)

    def build(names: Iterable[str]) -> onnx.ModelProto:
        return _insert(model, ranges, [nodes[name].name for name in names])

    effects: dict[str, float] = {}
    kept: list[str] = []
    if not trial.holds(build(nodes)):
        for name in track(nodes, "each layer alone in INT8", console=progress_console, transient=True):
            tensor = nodes[name].input[0]
            found: list[tuple[float, Ranges]] = []
            for candidate in (with_headroom, heard, with_probes):
                ranges[tensor] = candidate[tensor]
                found.append((trial.worst_cosine(build([name])), candidate))
            effects[name], best = max(found, key=lambda pair: pair[0])
            ranges[tensor] = best[tensor]
        sizes = {tensor.name: numpy_helper.to_array(tensor).nbytes for tensor in model.graph.initializer}
        order = sorted(nodes, key=lambda name: (effects[name] - 1) / sizes[nodes[name].input[1]])
        for name in track(order, "worst layers back to FP32", console=progress_console, transient=True):
            if trial.holds(build([name for name in nodes if name not in kept])):
                break
            kept.append(name)
    return Quantised(build([name for name in nodes if name not in kept]), kept, effects)


class _Trial:
    """What a graph must still do: recordings [n, ...] and probes [n, ...] are its inputs."""

    def __init__(self, path: Path, recordings: NDArray[np.float32], probes: NDArray[np.float32], zeroshot: ZeroShot):
        self._inputs = np.concatenate([recordings, probes])
        self._reference = _run(path, self._inputs)
        self._classify = lambda rows: zeroshot.scores(rows[: len(recordings)]).argmax(axis=1)

    def holds(self, model: onnx.ModelProto) -> bool:
        """Whether every row and the ranking are as near as is wanted here."""
        rows = _run_model(model, self._inputs)
        ranking = np.mean(self._classify(rows) == self._classify(self._reference))
        return bool(row_cosines(self._reference, rows).min() >= LEAST_COSINE and ranking >= LEAST_RANKING)

    def worst_cosine(self, model: onnx.ModelProto) -> float:
        """The least of any row; -1 where a row is no number."""
        rows = _run_model(model, self._inputs)
        return float(np.nan_to_num(row_cosines(self._reference, rows), nan=-1.0).min())


def _is_layer(node: onnx.NodeProto, model: onnx.ModelProto) -> bool:
    weights = {tensor.name for tensor in model.graph.initializer if not tensor.name.startswith(FRONT_END)}
    return node.op_type in LAYERS and node.input[1] in weights


def _layer_name(node: onnx.NodeProto) -> str:
    """The layer's place in the network, like "features.3.1"."""
    return node.input[1].removesuffix(".weight")


def _run_model(model: onnx.ModelProto, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    with tempfile.TemporaryDirectory() as folder:
        save_graph(model, Path(folder) / "trial.onnx")
        return _run(Path(folder) / "trial.onnx", inputs)


def _run(path: Path, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    return run_in_batches(OnnxRuntime(path, usable_cores(), ["cpu"]), inputs, BATCH)


def _insert(model: onnx.ModelProto, ranges: Ranges, nodes: list[str]) -> onnx.ModelProto:
    """A copy with Q/DQ at the inputs and the weights of these nodes."""
    if not nodes:
        return copy.deepcopy(model)  # the quantiser takes no names for all of them
    whole: dict[str, TensorData | tuple[Any, ...]]
    whole = {name: (least.min(), largest.max()) for name, (least, largest) in ranges.items()}  # of all channels
    quantiser = QDQQuantizer(
        copy.deepcopy(model),
        per_channel=True,
        reduce_range=True,  # 7 bits, see above
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, whole),
        nodes_to_quantize=nodes,
        nodes_to_exclude=[],
        op_types_to_quantize=list(LAYERS),
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            # What follows a layer, a ReLU, then works on its full result, and TensorRT fuses the two.
            "OpTypesToExcludeOutputQuantization": list(LAYERS),
        },
    )
    quantiser.quantize_model()
    quantiser.model.topological_sort()
    return quantiser.model.model
