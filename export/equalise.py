"""Measure the ranges of activations, and equalise the ranges of an activation's channels by rescaling weights.

In INT8 all channels of an activation share one scale. In the first separable layers, some channels are a hundred times
smaller than others, so they get only one or two steps. ReLU and pooling commute with a positive factor. The weights of
a layer's output channel can therefore be divided by a factor, and the next layer's weights for this channel be
multiplied by it, without a change of the FP32 result.
Source: Nagel 2019 (arXiv:1906.04721), with the activations' ranges as in Xiao 2022 (arXiv:2211.10438).
"""

import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader
from onnxruntime.quantization.calibrate import create_calibrator

BATCH = 8
STRENGTH = 0.5  # exponent of the factors: 0 leaves the ranges unchanged, 1 makes them equal
SMALLEST = 0.02  # least range of a channel, as a share of the largest: other sounds may excite a channel more
BETWEEN = ("Relu", "ReduceMean", "MaxPool", "Reshape", "Identity")  # operators that may be between two layers

Limits = tuple[NDArray[np.float32], NDArray[np.float32]]  # minimum and maximum of each channel
Ranges = dict[str, Limits]  # of each tensor


class _Batches(CalibrationDataReader):
    """Gives ONNX Runtime's calibration the inputs in batches."""

    def __init__(self, name: str, inputs: NDArray[np.float32]):
        self._batches = iter({name: inputs[i : i + BATCH]} for i in range(0, len(inputs), BATCH))

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        return next(self._batches, None)


def measure_ranges(
    model: onnx.ModelProto, layers: list[onnx.NodeProto], *sets: NDArray[np.float32]
) -> tuple[Ranges, ...]:
    """The minimum and maximum of each channel of the layers' inputs, for each set of inputs [n, ...] of the model."""
    (entry,) = model.graph.input
    names = [node.input[0] for node in layers]
    measured: list[Ranges] = []
    with tempfile.TemporaryDirectory() as folder:
        onnx.save_model(model, Path(folder) / "model.onnx")
        calibrator = create_calibrator(
            Path(folder) / "model.onnx",
            sorted({node.op_type for node in layers}),
            str(Path(folder) / "augmented.onnx"),
            extra_options={"per_channel": True},
        )
        for inputs in sets:
            calibrator.calibrate_tensors_range = None  # it would add to the ranges of the set before
            calibrator.collect_data(_Batches(entry.name, inputs))
            found = calibrator.compute_data()
            measured.append({name: (found[name].lowest.ravel(), found[name].highest.ravel()) for name in names})
    return tuple(measured)


def equalise(
    model: onnx.ModelProto, layers: list[onnx.NodeProto], ranges: Ranges, others: Ranges
) -> tuple[Ranges, Ranges]:
    """Rescale the weights of consecutive layers, in place, by factors that `ranges` determine.

    returns  `ranges` and `others` of the rescaled model
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    producers = {name: node for node in model.graph.node for name in node.output}
    both = dict(ranges), dict(others)
    for first, second in pairwise(layers):
        name = second.input[0]
        peak = np.maximum(*map(np.abs, ranges[name]))  # [n_channels]
        if not _follows(second, first, producers) or len(peak) != tensors[first.input[1]].dims[0] or not peak.any():
            continue
        factor = np.maximum(peak / peak.max(), SMALLEST) ** STRENGTH
        for weights in first.input[1:]:
            _scale(tensors[weights], 1 / factor, axis=0)
        # The weights of a depthwise convolution are [channels, 1, 3, 3], those of other layers [out, channels, ...].
        weights = tensors[second.input[1]]
        _scale(weights, factor, axis=0 if weights.dims[1] < len(factor) else 1)
        for scaled in both:
            least, largest = scaled[name]
            scaled[name] = least / factor, largest / factor
    return both


def _follows(second: onnx.NodeProto, first: onnx.NodeProto, producers: dict[str, onnx.NodeProto]) -> bool:
    """Whether the second layer's input is the first one's output, with only BETWEEN operators in between."""
    node = producers.get(second.input[0])
    while node is not None and node.op_type in BETWEEN:
        node = producers.get(node.input[0])
    return node is not None and node.output[0] == first.output[0]


def _scale(tensor: onnx.TensorProto, factor: NDArray[np.float32], axis: int) -> None:
    values = numpy_helper.to_array(tensor)
    shape = [1] * values.ndim
    shape[axis] = -1
    scaled = np.asarray(values * factor.reshape(shape), dtype=np.float32)
    tensor.CopyFrom(numpy_helper.from_array(scaled, tensor.name))
