"""The layers that the networks are made of: convolutions that are those of TensorFlow, and fully connected layers."""

from itertools import pairwise

import torch
from torch import Tensor, nn

MEL_BANDS = 64
BATCH_NORM_EPS = 1e-4  # YAMNet's


class StridedDepthwise(nn.Conv2d):
    """A depthwise convolution with a stride. On a CPU it computes in FP32 in mixed precision too.

    PyTorch's backward pass in BF16 takes eight times as long as in FP32: docs/results/training.md.
    """

    def forward(self, input: Tensor) -> Tensor:
        """[batch, channels, height, width] -> the same at the lower resolution."""
        if input.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float())


def _same_pad(size: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME padding for a kernel of width 3: (before, after)."""
    total = max(0, (-(-size // stride) - 1) * stride + 3 - size)
    return total // 2, total - total // 2


def _convolution(channels: int, out: int, stride: int, size: tuple[int, int], groups: int = 1) -> nn.Sequential:
    """3x3 SAME convolution, BatchNorm, ReLU on a map of the given size."""
    (top, bottom), (left, right) = _same_pad(size[0], stride), _same_pad(size[1], stride)
    symmetric = top == bottom and left == right
    kind = StridedDepthwise if groups > 1 and stride > 1 else nn.Conv2d
    return nn.Sequential(
        nn.Identity() if symmetric else nn.ZeroPad2d((left, right, top, bottom)),
        kind(channels, out, 3, stride, (top, left) if symmetric else 0, groups=groups, bias=False),
        nn.BatchNorm2d(out, BATCH_NORM_EPS),
        nn.ReLU(inplace=True),
    )


def mobilenet(rows: tuple[tuple[int, int], ...], frames: int, repeats: int = 0) -> nn.Sequential:
    """[batch, 1, frames, 64] -> [batch, channels of the last row].

    rows     (stride, channels) of each layer: the first one is a full convolution, the others are separable
    repeats  number of last layers that start as the identity
    """
    (stride, channels), *separable = rows
    layers: list[nn.Module] = [_convolution(1, channels, stride, (frames, MEL_BANDS))]
    size = (-(-frames // stride), -(-MEL_BANDS // stride))
    for stride, out in separable:
        layers += [
            _convolution(channels, channels, stride, size, groups=channels),
            nn.Sequential(
                nn.Conv2d(channels, out, 1, bias=False),
                nn.BatchNorm2d(out, BATCH_NORM_EPS),
                nn.ReLU(inplace=True),
            ),
        ]
        channels, size = out, (-(-size[0] // stride), -(-size[1] // stride))
    for layer in layers[len(layers) - 2 * repeats :]:
        _start_as_identity(layer)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


@torch.no_grad()
def _start_as_identity(layer: nn.Module) -> None:
    """Initialise a convolution with equal input and output channels, its BatchNorm and ReLU to nearly the identity.

    The input comes from a ReLU: a standard normal variable has mean 0.4 and standard deviation 0.58 after it, and
    BatchNorm restores these. A tenth of the usual random weights is kept. Source: Chen 2016 (Net2Net,
    arXiv:1511.05641).
    """
    kernel = next(module for module in layer.modules() if isinstance(module, nn.Conv2d))
    norm = next(module for module in layer.modules() if isinstance(module, nn.BatchNorm2d))
    kernel.weight.mul_(0.1)
    kernel.weight += nn.init.dirac_(torch.empty_like(kernel.weight), kernel.groups)
    norm.weight.fill_(0.58)
    norm.bias.fill_(0.4)


def vgg(groups: tuple[tuple[int, ...], ...]) -> nn.Sequential:
    """[batch, 1, frames, 64] -> [batch, n]. groups: the channels of the convolutions between two max pools of 2x2."""
    layers: list[nn.Module] = []
    channels = 1
    for group in groups:
        for out in group:
            layers += [
                nn.Conv2d(channels, out, 3, padding=1, bias=False),
                nn.BatchNorm2d(out, BATCH_NORM_EPS),
                nn.ReLU(inplace=True),
            ]
            channels = out
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten())


def fully_connected(sizes: tuple[int, ...], dropout: float) -> list[nn.Module]:
    """Linear, BatchNorm, ReLU, dropout for each pair of sizes. Without BatchNorm these layers hardly train."""
    layers: list[nn.Module] = []
    for size, out in pairwise(sizes):
        layers += [nn.Linear(size, out), nn.BatchNorm1d(out), nn.ReLU(), nn.Dropout(dropout)]
    return layers
