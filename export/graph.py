"""The PyTorch modules to export, and the functions that convert them to ONNX files."""

import copy
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from serving.errors import UsageError
from training.log_mel_module import LogMel
from training.networks import Network

OPSET = 20  # supported by ONNX Runtime 1.17+ and TensorRT 10+; no newer operator is used
# A Protobuf message is limited to 2 GiB, and a bundle's files keep their weights inside (serving.bundle.onnx_check).
MOST_BYTES = 2**31 - 2**24
FRONT_END = "log_mel."  # name prefix of the front end's constants in the graph of a WaveformEmbedder


class LogMelEmbedder(nn.Module):
    """log_mel [batch, frames, 64] float32 -> embedding [batch, 128] float32: the network without its front end."""

    def __init__(self, network: Network):
        super().__init__()
        self.features = network.features
        self.embedding = network.embedding

    def forward(self, log_mel: Tensor) -> Tensor:
        return self.embedding(self.features(log_mel.unsqueeze(1)))


class WaveformEmbedder(nn.Module):
    """waveform [batch, samples] float32 -> embedding [batch, 128] float32: front end and network in one graph."""

    def __init__(self, log_mel: LogMel, network: Network):
        super().__init__()
        self.log_mel = log_mel
        self.features = network.features
        self.embedding = network.embedding

    def forward(self, waveform: Tensor) -> Tensor:
        return self.embedding(self.features(self.log_mel(waveform).unsqueeze(1)))


Embedder = LogMelEmbedder | WaveformEmbedder


def fold_batch_norm(module: Embedder) -> Embedder:
    """Copy a module in eval mode, with each BatchNorm folded into the convolution or linear layer before it."""
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


def export_graph(module: nn.Module, source: tuple[str, tuple[int, ...]], output: str) -> onnx.ModelProto:
    """Trace a module with one input and one output. Only the batch size is dynamic.

    source   name and shape of the input without the batch, e.g. ("waveform", (77040,))
    output   name of the output
    """
    name, shape = source
    program = torch.onnx.export(
        module.eval(),
        # Two rows: the exporter treats a size of one as a constant.
        (torch.zeros(2, *shape),),
        input_names=[name],
        output_names=[output],
        dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
        opset_version=OPSET,
        dynamo=True,
        optimize=True,
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    graph = model.graph
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]  # stack traces with paths of this machine
    return model


def write_graph(model: onnx.ModelProto, path: Path, facts: dict[str, str]) -> int:
    """Write a model with inferred shapes, and check the file.

    facts    the model's metadata
    returns  number of nodes
    errors   UsageError: its weights are too large for a file
    """
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, facts)
    size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    if size > MOST_BYTES:
        raise UsageError(
            f"{path.name}: has {size} bytes of weights; wanted at most {MOST_BYTES}: export a smaller network"
        )
    onnx.save_model(model, path)
    # By path: onnx would serialise a model in memory a second time.
    onnx.shape_inference.infer_shapes_path(path, check_type=True, strict_mode=True, data_prop=True)
    onnx.checker.check_model(path, full_check=True)
    return len(model.graph.node)
