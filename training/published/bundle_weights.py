"""Read YAMNet's convolutions from the model of a bundle whose network is `yamnet-audioset`.

The export folds BatchNorm into the convolutions and keeps the names of our tensors, features.0.1.weight and so on.
So a bundle can be the start of another training where Google's own files are not at hand.
"""

import re
from pathlib import Path

import torch
from torch import Tensor

from training.published.google_yamnet import bias_batch_norm

CONVOLUTION = re.compile(r"features\.(\d+)\.[01]\.(weight|bias)")
N_CONVOLUTIONS = 27  # YAMNet's first layer, and two in each of its 13 separable layers


def read_bundle_model(path: Path) -> dict[str, Tensor]:
    """Tensors of an embedder.onnx by torch_audioset's names, in float32.

    errors   ValueError: not an ONNX file, or not the FP32 or FP16 model of a `yamnet-audioset` bundle
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load_model_from_string(path.read_bytes()).graph
    except DecodeError as error:
        raise ValueError("it is no ONNX file") from error
    tensors: dict[str, Tensor] = {}
    for stored in graph.initializer:
        found = CONVOLUTION.fullmatch(stored.name)
        if found is None or stored.data_location == onnx.TensorProto.EXTERNAL:
            continue
        values = torch.from_numpy(onnx.numpy_helper.to_array(stored).copy())
        layer = _layer(int(found[1]))
        if found[2] == "weight":
            tensors[f"{layer}.conv.weight"] = values
        else:
            tensors |= {f"{layer}.bn.{part}": value for part, value in bias_batch_norm(values.float()).items()}
    if sum(name.endswith("conv.weight") for name in tensors) != N_CONVOLUTIONS:
        raise ValueError("it is not the FP32 or FP16 model of a bundle whose network is yamnet-audioset")
    return tensors


def _layer(index: int) -> str:
    """torch_audioset's name of our convolution features.{index}."""
    if index == 0:
        return "layer1.fused"
    return f"layer{(index + 3) // 2}.depthwise_conv" if index % 2 else f"layer{(index + 2) // 2}.pointwise_conv"
