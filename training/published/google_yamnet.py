"""Read Google's own files of YAMNet, with all 14 layers and the classifier.

    .h5      Keras weights: LAYER/LAYER/kernel:0, depthwise_kernel:0; LAYER/bn/LAYER/bn/{beta,moving_mean,...}:0
    .tflite  a model for the interpreter: weights in float32, in float16, or in INT8 with their scales; BatchNorm is
             folded into the convolutions

The tensors get torch_audioset's names and shapes.

A LAYER is layer1/conv, layer{2-14}/depthwise_conv or layer{2-14}/pointwise_conv. Source: yamnet.py and its exporter in
tensorflow/models, research/audioset/yamnet.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.layers import BATCH_NORM_EPS

LAYER = re.compile(r"layer(\d+)/(conv|depthwise_conv|pointwise_conv)(?:/|$)")
CLASSIFIER = re.compile(r"(?:^|/)(?:dense|logits)(?:/|$)")
KERAS_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def read_keras(path: Path) -> dict[str, Tensor]:
    """Tensors of a Keras weights file.

    returns  tensors by torch_audioset's names; Google's BatchNorm has no scale, so `bn.weight` is 1
    errors   OSError, RuntimeError, KeyError or ValueError: not an HDF5 file, or a damaged one
    """
    import h5py

    stored: dict[str, NDArray[Any]] = {}

    def keep(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind == "f":
            stored[name] = np.asarray(item[()], np.float32)

    with h5py.File(path) as file:
        file.visititems(keep)  # does not follow links, so it reads no other file
    tensors: dict[str, Tensor] = {}
    for name, value in stored.items():
        kind = name.rpartition("/")[2].partition(":")[0]
        prefix = _prefix(name)
        if prefix is None:
            if CLASSIFIER.search(name) and kind in ("kernel", "bias"):
                tensors[f"classifier.{'weight' if kind == 'kernel' else 'bias'}"] = torch.from_numpy(value.T.copy())
        elif kind in KERAS_NORM:
            tensors[f"{prefix}.bn.{KERAS_NORM[kind]}"] = torch.from_numpy(value)
            tensors.setdefault(f"{prefix}.bn.weight", torch.ones(len(value)))
        elif kind == "kernel" and value.ndim == 4:  # [height, width, in, out]
            tensors[f"{prefix}.conv.weight"] = torch.from_numpy(value.transpose(3, 2, 0, 1).copy())
        elif kind == "depthwise_kernel" and value.ndim == 4:  # [height, width, channels, 1]
            tensors[f"{prefix}.conv.weight"] = torch.from_numpy(value.transpose(2, 3, 0, 1).copy())
    return tensors


def read_tflite(path: Path) -> dict[str, Tensor]:
    """The weights of a TFLite model in float32. INT8 weights are dequantised.

    returns  tensors by torch_audioset's names. Because BatchNorm is folded into the convolutions, `bn.bias` is the
             convolution's bias, and the other tensors of `bn` make it add that bias and do nothing else
    errors   ValueError: not a TFLite file; LookupError, struct.error, TypeError or ValueError: a damaged one
    """
    import tflite

    content = path.read_bytes()
    if content[4:8] != b"TFL3":
        raise ValueError("it does not begin like a TFLite file")
    kinds = tflite.BuiltinOperator
    model = tflite.Model.GetRootAs(content, 0)
    graph = _present(model.Subgraphs(0))
    operators = [_present(graph.Operators(i)) for i in range(graph.OperatorsLength())]
    # A DEQUANTIZE operator stands between INT8 depthwise weights and their convolution.
    from_int8 = {op.Outputs(0): op.Inputs(0) for op in operators if _code(model, op) == kinds.DEQUANTIZE}
    tensors: dict[str, Tensor] = {}
    for op in operators:
        code = _code(model, op)
        if code not in (kinds.CONV_2D, kinds.DEPTHWISE_CONV_2D, kinds.FULLY_CONNECTED):
            continue
        weight = _present(graph.Tensors(from_int8.get(op.Inputs(1), op.Inputs(1))))
        name = _present(weight.Name()).decode(errors="replace")
        prefix = _prefix(name)
        if prefix is None and not CLASSIFIER.search(name):
            continue  # part of the front end
        if op.InputsLength() < 3 or op.Inputs(2) < 0:
            raise ValueError(f"{name[:60]} has no bias")
        values = torch.from_numpy(_values(model, weight))
        bias = torch.from_numpy(_values(model, _present(graph.Tensors(op.Inputs(2)))))
        if prefix is None:
            tensors |= {"classifier.weight": values, "classifier.bias": bias}
        else:  # depthwise [1, height, width, channels], others [out, height, width, in]
            order = (3, 0, 1, 2) if code == kinds.DEPTHWISE_CONV_2D else (0, 3, 1, 2)
            tensors[f"{prefix}.conv.weight"] = values.permute(order).contiguous()
            tensors |= {f"{prefix}.bn.{part}": value for part, value in bias_batch_norm(bias).items()}
    return tensors


def bias_batch_norm(bias: Tensor, eps: float = BATCH_NORM_EPS) -> dict[str, Tensor]:
    """The tensors of a BatchNorm that in eval mode only adds a bias [channels].

    (x - 0) / sqrt((1 - eps) + eps) * 1 + bias
    """
    ones = torch.ones(len(bias))
    return {"weight": ones, "bias": bias, "running_mean": 0 * ones, "running_var": (1 - eps) * ones}


def _prefix(name: str) -> str | None:
    """torch_audioset's name of a tensor's layer; None for a tensor outside the 14 layers."""
    found = LAYER.search(name)
    if found is None:
        return None
    return f"layer{found[1]}.{'fused' if found[2] == 'conv' else found[2]}"


def _code(model: Any, operator: Any) -> int:
    code = _present(model.OperatorCodes(operator.OpcodeIndex()))
    return max(code.BuiltinCode(), code.DeprecatedBuiltinCode())  # old files set only the second


def _values(model: Any, tensor: Any) -> NDArray[np.float32]:
    """The values of a constant tensor, in its own shape. INT8 values are dequantised."""
    import tflite

    kinds = {
        tflite.TensorType.FLOAT32: np.float32,
        tflite.TensorType.FLOAT16: np.float16,
        tflite.TensorType.INT8: np.int8,
    }
    if tensor.Type() not in kinds:
        raise ValueError(f"weights of TFLite's type {tensor.Type()}; wanted float32, float16 or int8")
    shape = [tensor.Shape(i) for i in range(tensor.ShapeLength())]
    data = np.asarray(_present(model.Buffers(tensor.Buffer())).DataAsNumpy(), np.uint8)
    values = data.view(kinds[tensor.Type()]).reshape(shape).astype(np.float32)
    if tensor.Type() != tflite.TensorType.INT8:
        return values
    quantization = _present(tensor.Quantization())
    scales = [quantization.Scale(i) for i in range(quantization.ScaleLength())]
    zeros = [quantization.ZeroPoint(i) for i in range(quantization.ZeroPointLength())]
    if not scales:
        raise ValueError("weights in INT8 without scales")
    along = [1] * len(shape)
    along[quantization.QuantizedDimension() if len(scales) > 1 else 0] = len(scales)
    zero = np.reshape(np.asarray(zeros or [0] * len(scales), np.float32), along)
    return (values - zero) * np.reshape(np.asarray(scales, np.float32), along)


def _present(part: Any) -> Any:
    """A part of a flatbuffer. ValueError: it is absent."""
    if part is None:
        raise ValueError("a part of the model is missing")
    return part
