"""Ranges of activations, and weights rescaled so that the channels of an activation have ranges of one size.

INT8 has one scale for all channels of an activation, and in the first separable layers some channels are a hundred
times smaller than others: they fall into a step or two. ReLU and pooling pass a positive factor on, so that
dividing what a layer gives for a channel, and multiplying what the next one does with it, changes nothing in FP32.
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
STRENGTH = 0.5  # share, as an exponent, of the difference between channels that goes over to the weights
SMALLEST = 0.02  # of the largest channel: a smaller one counts as this, for other sounds may bring it to life
BETWEEN = ("Relu", "ReduceMean", "MaxPool", "Reshape", "Identity")  # what may stand between two layers

Ranges = dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]  # tensor -> least and largest of each channel


class _Batches(CalibrationDataReader):
    """Batches of inputs, one at a time, as ONNX Runtime's calibration asks for them."""

    def __init__(self, name: str, inputs: NDArray[np.float32]):
        self._batches = iter({name: inputs[i : i + BATCH]} for i in range(0, len(inputs), BATCH))

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        return next(self._batches, None)


def measure_ranges(path: Path, layers: list[onnx.NodeProto], inputs: NDArray[np.float32]) -> Ranges:
    """The least and the largest number in each channel of what comes into the layers. inputs [n, ...] of the file."""
    (entry,) = onnx.load(path, load_external_data=False).graph.input
    with tempfile.TemporaryDirectory() as folder:
        calibrator = create_calibrator(
            path,
            sorted({node.op_type for node in layers}),
            str(Path(folder) / "augmented.onnx"),
            extra_options={"per_channel": True},
        )
        calibrator.collect_data(_Batches(entry.name, inputs))
        found = calibrator.compute_data()
    names = [node.input[0] for node in layers]
    return {name: (found[name].lowest.ravel(), found[name].highest.ravel()) for name in names}


def equalise(
    model: onnx.ModelProto, layers: list[onnx.NodeProto], ranges: Ranges, others: Ranges
) -> tuple[Ranges, Ranges]:
    """Rescale the weights of consecutive layers, in place, by `ranges`. Returns what becomes of both."""
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
        # A depthwise convolution's weights are [channels, 1, 3, 3], all others' [out, channels, ...].
        weights = tensors[second.input[1]]
        _scale(weights, factor, axis=0 if weights.dims[1] < len(factor) else 1)
        for scaled in both:
            least, largest = scaled[name]
            scaled[name] = least / factor, largest / factor
    return both


def _follows(second: onnx.NodeProto, first: onnx.NodeProto, producers: dict[str, onnx.NodeProto]) -> bool:
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
