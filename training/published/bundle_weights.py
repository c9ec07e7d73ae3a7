"""Read YAMNet's convolutions from the model of a bundle whose network is `yamnet-audioset`.

The export folds BatchNorm into the convolutions and keeps the names of our tensors, features.0.1.weight and so on.
So a bundle can be the start of another training where Google's own files are not at hand.

The bundle's model has no classifier. Where its last layer is that of Google's YAMNet, yamnet_classifier.safetensors has
it, in FP16 (tensorflow/models, research/audioset/yamnet, Apache 2.0).
"""

import re
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from training.published.google_yamnet import bias_batch_norm

CONVOLUTION = re.compile(r"features\.(\d+)\.[01]\.(weight|bias)")
CLASSIFIER_FILE = Path(__file__).with_name("yamnet_classifier.safetensors")
CLASSIFIER = "classifier.weight"
LAST_BIAS = "layer14.pointwise_conv.bn.bias"  # tells Google's weights from others
N_CONVOLUTIONS = 27  # YAMNet's first layer, and two in each of its 13 separable layers


def read_bundle_model(path: Path) -> dict[str, Tensor]:
    """Tensors of an embedder.onnx by torch_audioset's names, in float32; with the classifier if they are Google's.

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
    published = load_file(CLASSIFIER_FILE)
    if torch.allclose(tensors[LAST_BIAS], published[LAST_BIAS], rtol=1e-3, atol=1e-3):  # an FP16 model rounds by 5e-4
        tensors[CLASSIFIER] = published[CLASSIFIER].float()
    return tensors


def _layer(index: int) -> str:
    """torch_audioset's name of our convolution features.{index}."""
    if index == 0:
        return "layer1.fused"
    return f"layer{(index + 3) // 2}.depthwise_conv" if index % 2 else f"layer{(index + 2) // 2}.pointwise_conv"
