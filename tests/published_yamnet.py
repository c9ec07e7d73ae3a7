"""YAMNet with random weights, and the two file formats in which Google publishes it."""

from collections import OrderedDict
from pathlib import Path

import h5py
import tflite
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.tflite_writer import TFLiteWriter

SEPARABLE = ((1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512), *[(1, 512)] * 5, (2, 1024), (1, 1024))


class SameConv(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding: ceil(size / stride) outputs; an odd padding row comes last."""

    def forward(self, input: Tensor) -> Tensor:
        pads: list[int] = []
        for size, kernel, stride in zip(input.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
            pads += [total // 2, total - total // 2]
        return super().forward(functional.pad(input, pads))


class ConvBN(nn.Module):
    def __init__(self, size: int, channels: int, out: int, stride: int, groups: int = 1):
        super().__init__()
        self.conv = SameConv(channels, out, size, stride, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=1e-4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv(x)))


class PublishedYAMNet(nn.Module):
    """YAMNet with the parameter names and the computation of w-hc/torch_audioset."""

    def __init__(self):
        super().__init__()
        self.layer1 = nn.Sequential(OrderedDict[str, nn.Module](fused=ConvBN(3, 1, 32, 2)))
        channels = 32
        for k, (stride, out) in enumerate(SEPARABLE, start=2):
            depthwise, pointwise = ConvBN(3, channels, channels, stride, channels), ConvBN(1, channels, out, 1)
            layer = OrderedDict[str, nn.Module](depthwise_conv=depthwise, pointwise_conv=pointwise)
            self.add_module(f"layer{k}", nn.Sequential(layer))
            channels = out
        self.classifier = nn.Linear(channels, 521)

    def pooled(self, log_mel: Tensor, n_layers: int) -> Tensor:
        """[batch, frames, 64] -> the mean over the map after n_layers: [batch, channels]."""
        x = log_mel[:, None]
        for k in range(1, n_layers + 1):
            x = self.get_submodule(f"layer{k}")(x)
        return x.mean(dim=(2, 3))


def published_yamnet(seed: int, scaled: bool = True) -> PublishedYAMNet:
    """A YAMNet with random weights and matching running statistics, so that no layer's output grows or vanishes.

    scaled  whether BatchNorm scales, as torch can; Google's does not
    """
    torch.manual_seed(seed)
    module = PublishedYAMNet()
    norms = [norm for norm in module.modules() if isinstance(norm, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        if scaled:
            nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.5)
    with torch.no_grad():
        module.train().pooled(torch.randn(4, 480, 64), 14)
    assert all(norm.running_var is not None and (norm.running_var != 1).all() for norm in norms)
    return module.eval()


def layers_of(module: PublishedYAMNet) -> dict[str, ConvBN]:
    """The convolutions by Google's names: layer1/conv, layer2/depthwise_conv, ..."""
    found = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, ConvBN)]
    return {name.replace("fused", "conv").replace(".", "/"): layer for name, layer in found}


def write_keras(module: PublishedYAMNet, path: Path) -> Path:
    """Write the weights as Keras does: one group a layer; the weights' names in it begin with the layer's name."""
    with h5py.File(path, "w") as file:
        for name, layer in layers_of(module).items():
            weight = layer.conv.weight.detach().numpy()
            if name.endswith("depthwise_conv"):
                file[f"{name}/{name}/depthwise_kernel:0"] = weight.transpose(2, 3, 0, 1)
            else:
                file[f"{name}/{name}/kernel:0"] = weight.transpose(2, 3, 1, 0)
            statistics = {"moving_mean": layer.bn.running_mean, "moving_variance": layer.bn.running_var}
            for part, value in ({"beta": layer.bn.bias} | statistics).items():
                assert value is not None
                file[f"{name}/bn/{name}/bn/{part}:0"] = value.detach().numpy()
        file["logits/logits/kernel:0"] = module.classifier.weight.detach().numpy().T
        file["logits/logits/bias:0"] = module.classifier.bias.detach().numpy()
    return path


def folded(layer: ConvBN) -> tuple[Tensor, Tensor]:
    """Fold a layer's BatchNorm into its convolution: weight and bias."""
    bn = layer.bn
    assert bn.running_mean is not None
    assert bn.running_var is not None
    factor = bn.weight / torch.sqrt(bn.running_var + bn.eps)
    return (layer.conv.weight * factor[:, None, None, None]).detach(), (bn.bias - factor * bn.running_mean).detach()


@torch.no_grad()
def write_tflite(module: PublishedYAMNet, path: Path) -> Path:
    """As Google's converter stores it: BatchNorm folded; the first layers in float32, then INT8, a scale for each
    channel of the pointwise convolutions and one for all of the depthwise ones. The module gets the rounded weights.
    """
    writer = TFLiteWriter()
    kinds = tflite.BuiltinOperator
    for name, layer in layers_of(module).items():
        weight, bias = folded(layer)
        if name.endswith("depthwise_conv"):
            label = f"{name}/bn/FusedBatchNormV3;yamnet_frames/{name}/depthwise"
            axis = None if name.startswith("layer2/") else -1
            order, back, kind = (1, 2, 3, 0), (3, 0, 1, 2), kinds.DEPTHWISE_CONV_2D
        else:
            label, axis = f"{name}/Conv2D", None if name == "layer1/conv" else 0
            order, back, kind = (0, 2, 3, 1), (0, 3, 1, 2), kinds.CONV_2D
        kept = writer.layer(kind, label, weight.numpy().transpose(order).copy(), bias.numpy(), axis)
        rounded = torch.from_numpy(kept.transpose(back).copy())
        factor = layer.bn.weight / torch.sqrt(layer.bn.running_var + layer.bn.eps)
        layer.conv.weight.copy_(rounded / factor[:, None, None, None])
    dense = module.classifier
    kept = writer.layer(kinds.FULLY_CONNECTED, "dense/MatMul", dense.weight.numpy(), dense.bias.numpy(), 0)
    dense.weight.copy_(torch.from_numpy(kept))
    return writer.write(path)
