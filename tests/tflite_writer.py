"""Write TFLite models that contain weights and operators and nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import tflite


class TFLiteWriter:
    """A TFLite model: a chain of operators with weights. `values`: the weights as the file stores them."""

    def __init__(self):
        self.builder = flatbuffers.Builder(1 << 20)
        self.buffers = [self._buffer(b"")]
        self.tensors: list[int] = []
        self.operators: list[int] = []
        self.codes: list[int] = []

    def layer(
        self, kind: int, name: str, weight: np.ndarray, bias: np.ndarray, channels: int | None = None
    ) -> np.ndarray:
        """Add an operator, with weights in INT8, or in float32 if `channels` is None. Return its weights.

        channels  the axis that has a scale for each place; -1: one scale for all, and a DEQUANTIZE before the operator
        """
        stored, scales = weight.astype(np.float32), np.zeros(0, np.float32)
        if channels is not None:
            others = tuple(axis for axis in range(weight.ndim) if axis != channels)
            largest = np.abs(weight).max(axis=others if channels >= 0 else None, keepdims=True)
            stored, scales = np.round(weight / largest * 127).astype(np.int8), (largest / 127).astype(np.float32)
        place = self._tensor(f"yamnet_frames/{name}", stored, scales.ravel(), max(channels or 0, 0))
        if channels == -1:
            place, int8 = self._tensor(f"yamnet_frames/{name}", np.zeros(0, np.float32)), place
            self._operator(tflite.BuiltinOperator.DEQUANTIZE, [int8], place)
        inputs = [self._tensor("in", np.zeros(0, np.float32)), place, self._tensor("bias", bias.astype(np.float32))]
        self._operator(kind, inputs, self._tensor("out", np.zeros(0, np.float32)))
        return stored * scales if channels is not None else stored

    def write(self, path: Path) -> Path:
        """Finish the file."""
        b = self.builder
        parts = [self._offsets(tflite.SubGraphStartTensorsVector, self.tensors)]
        parts.append(self._offsets(tflite.SubGraphStartOperatorsVector, self.operators))
        tflite.SubGraphStart(b)
        tflite.SubGraphAddTensors(b, parts[0])
        tflite.SubGraphAddOperators(b, parts[1])
        graphs = self._offsets(tflite.ModelStartSubgraphsVector, [tflite.SubGraphEnd(b)])
        codes = []
        for code in self.codes:
            tflite.OperatorCodeStart(b)
            tflite.OperatorCodeAddDeprecatedBuiltinCode(b, code)
            tflite.OperatorCodeAddBuiltinCode(b, code)
            codes.append(tflite.OperatorCodeEnd(b))
        operator_codes = self._offsets(tflite.ModelStartOperatorCodesVector, codes)
        buffers = self._offsets(tflite.ModelStartBuffersVector, self.buffers)
        tflite.ModelStart(b)
        tflite.ModelAddVersion(b, 3)
        tflite.ModelAddOperatorCodes(b, operator_codes)
        tflite.ModelAddSubgraphs(b, graphs)
        tflite.ModelAddBuffers(b, buffers)
        b.Finish(tflite.ModelEnd(b), b"TFL3")
        path.write_bytes(bytes(b.Output()))
        return path

    def _buffer(self, content: bytes) -> int:
        data = self.builder.CreateByteVector(content)
        tflite.BufferStart(self.builder)
        tflite.BufferAddData(self.builder, data)
        return tflite.BufferEnd(self.builder)

    def _tensor(self, name: str, values: np.ndarray, scales: np.ndarray | None = None, axis: int = 0) -> int:
        b = self.builder
        place = 0
        if values.size:
            self.buffers.append(self._buffer(values.tobytes()))
            place = len(self.buffers) - 1
        text, shape = b.CreateString(name), b.CreateNumpyVector(np.array(values.shape, np.int32))
        quantization = 0
        if scales is not None and scales.size:
            numbers = b.CreateNumpyVector(scales), b.CreateNumpyVector(np.zeros(scales.size, np.int64))
            tflite.QuantizationParametersStart(b)
            tflite.QuantizationParametersAddScale(b, numbers[0])
            tflite.QuantizationParametersAddZeroPoint(b, numbers[1])
            tflite.QuantizationParametersAddQuantizedDimension(b, axis)
            quantization = tflite.QuantizationParametersEnd(b)
        tflite.TensorStart(b)
        tflite.TensorAddShape(b, shape)
        tflite.TensorAddType(b, tflite.TensorType.INT8 if values.dtype == np.int8 else tflite.TensorType.FLOAT32)
        tflite.TensorAddBuffer(b, place)
        tflite.TensorAddName(b, text)
        if quantization:
            tflite.TensorAddQuantization(b, quantization)
        self.tensors.append(tflite.TensorEnd(b))
        return len(self.tensors) - 1

    def _operator(self, kind: int, inputs: list[int], output: int) -> None:
        b = self.builder
        if kind not in self.codes:
            self.codes.append(kind)
        places = b.CreateNumpyVector(np.array(inputs, np.int32)), b.CreateNumpyVector(np.array([output], np.int32))
        tflite.OperatorStart(b)
        tflite.OperatorAddOpcodeIndex(b, self.codes.index(kind))
        tflite.OperatorAddInputs(b, places[0])
        tflite.OperatorAddOutputs(b, places[1])
        self.operators.append(tflite.OperatorEnd(b))

    def _offsets(self, start: Callable[[Any, int], Any], offsets: list[int]) -> int:
        start(self.builder, len(offsets))
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return self.builder.EndVector()
