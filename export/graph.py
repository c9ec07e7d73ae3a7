"""The PyTorch modules that are exported, and their ONNX files."""

import copy
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from serving.audio import Window
from training.frontend import LogMel
from training.networks import Network

OPSET = 20  # ONNX Runtime 1.17+ and TensorRT 10+ read it; nothing newer is needed


class WaveformEmbedder(nn.Module):
    """waveform [batch, samples] float32 -> embedding [batch, 128] float32: front end and network in one graph."""

    def __init__(self, log_mel: LogMel, network: Network):
        super().__init__()
        self.log_mel = log_mel
        self.features = network.features
        self.embedding = network.embedding

    def forward(self, waveform: Tensor) -> Tensor:
        return self.embedding(self.features(self.log_mel(waveform).unsqueeze(1)))


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """A copy in eval mode with each BatchNorm folded into the convolution or linear layer before it."""
    folded = copy.deepcopy(module).eval()
    for parent in list(folded.modules()):
        if isinstance(parent, nn.Sequential):
            _fold_pairs(parent)
    return folded


def _fold_pairs(layers: nn.Sequential) -> None:
    for i in range(len(layers) - 1):
        before, after = layers[i], layers[i + 1]
        if isinstance(before, nn.Conv2d) and isinstance(after, nn.BatchNorm2d):
            layers[i], layers[i + 1] = fuse_conv_bn_eval(before, after), nn.Identity()
        elif isinstance(before, nn.Linear) and isinstance(after, nn.BatchNorm1d):
            layers[i], layers[i + 1] = fuse_linear_bn_eval(before, after), nn.Identity()


def export_graph(module: nn.Module, window: Window, output: str, path: Path, facts: dict[str, str]) -> onnx.ModelProto:
    """Write module as ONNX: input "waveform" [batch, samples] with only the batch dynamic.

    facts    written into the file's metadata
    returns  the model, checked and with its shapes inferred
    """
    program = torch.onnx.export(
        module.eval(),
        # Two rows: the exporter takes a size of one for a constant.
        (torch.zeros(2, window.samples),),
        input_names=["waveform"],
        output_names=[output],
        dynamic_shapes={"waveform": {0: torch.export.Dim("batch", min=1)}},
        opset_version=OPSET,
        dynamo=True,
        optimize=True,
        verbose=False,
    )
    assert program is not None
    model = onnx.shape_inference.infer_shapes(program.model_proto, strict_mode=True, data_prop=True)
    for key, value in facts.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return model
