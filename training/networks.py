"""The networks, each a table of layers (training.layers): log-mel windows -> embedding [128] -> class scores.

    yamnet           YAMNet's MobileNet-v1 stack without its last two separable layers, FC 4096-4096-128
    yamnet-compact   the first seven of those layers, FC 128
    vggish           VGG-A's first four groups, FC 4096-4096-128
    yamnet-audioset  all layers of YAMNet with Google's weights, which stay as they are, FC 128 in closed form

Sources: Howard 2017 (arXiv:1704.04861), Hershey 2017 (arXiv:1609.09430), YAMNet in tensorflow/models,
research/audioset. Heads as in the study's README (yamnet, vggish) and its published code (yamnet-compact).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.layers import fully_connected, mobilenet, vgg

EMBEDDING_SIZE = 128
FRESH_WEIGHTS = 2  # raised when the same seed gives other random weights


@dataclass(frozen=True)
class NetworkConfig:
    """All that is needed to build a network. Stored in the run folder.

    name       one of NETWORKS
    n_classes  outputs of the training head
    dropout    probability in the fully connected layers
    text_size  size of a class vector for a TextHead; 0 for a head with one output per class
    guided     whether yamnet has its guide beside a TextHead too; beside another head it always has
    """

    name: str
    n_classes: int
    dropout: float
    text_size: int = 0
    guided: bool = False


# stride, channels -> map, for a window of 480 x 64. The first row is a full 3x3 convolution, the rest separable.
YAMNET_LAYERS = (
    (2, 32),  #  240 x 32
    (1, 64),  #  240 x 32
    (2, 128),  # 120 x 16
    (1, 128),  # 120 x 16
    (2, 256),  # 60 x 8
    (1, 256),  # 60 x 8
    (2, 512),  # 30 x 4
    (1, 512),  # 30 x 4
    (1, 512),
    (1, 512),
    (1, 512),
    (1, 512),
)
COMPACT_LAYERS = YAMNET_LAYERS[:7]
AUDIOSET_LAYERS = (*YAMNET_LAYERS, (2, 1024), (1, 1024))

# Channels of VGG-A's first four groups, each ended by a 2x2 max pool -> map, for a window of 96 x 64.
VGGISH_GROUPS = (
    (64,),  #      48 x 32
    (128,),  #     24 x 16
    (256, 256),  # 12 x 8
    (512, 512),  # 6 x 4
)
VGGISH_FLAT = 512 * 6 * 4


class TextHead(nn.Module):
    """Class scores as cosines: a linear projection of the embedding against the classes' text vectors.

    projection     [128] -> [text_size]
    log_scale      natural log of the learned factor of the cosines
    class_vectors  [n_classes, text_size] unit rows, not learned
    Source: Frome 2013 (DeViSE), but with the loss over all seen classes.
    """

    class_vectors: Tensor

    def __init__(self, n_classes: int, text_size: int):
        super().__init__()
        self.projection = nn.Linear(EMBEDDING_SIZE, text_size, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(10.0).log())
        self.register_buffer("class_vectors", torch.zeros(n_classes, text_size))

    @property
    def scale(self) -> Tensor:
        """Factor of the cosines before the softmax."""
        return self.log_scale.exp()

    @property
    def weights(self) -> NDArray[np.float32]:
        """The projection as it is used without PyTorch: [text_size, 128]."""
        return self.projection.weight.detach().cpu().numpy()

    def project(self, embedding: Tensor) -> Tensor:
        """[batch, 128] -> unit rows [batch, text_size]."""
        return nn.functional.normalize(self.projection(embedding), dim=1)

    def forward(self, embedding: Tensor) -> Tensor:
        """[batch, 128] -> [batch, n_classes]."""
        return self.project(embedding) @ self.class_vectors.T * self.scale


class Network(nn.Module):
    """Log-mel windows -> embedding -> class scores.

    features   [batch, 1, frames, 64] -> [batch, n]
    embedding  [batch, n] -> [batch, 128]
    head       [batch, 128] -> [batch, n_classes]
    guide      [batch, n] -> [batch, n_classes] in training only: class scores straight from the features; or None
    """

    def __init__(
        self,
        features: nn.Module,
        embedding: nn.Sequential,
        head: nn.Module,
        config: NetworkConfig,
        guide: nn.Module | None = None,
    ):
        super().__init__()
        self.features = features
        self.embedding = embedding
        self.head = TextHead(config.n_classes, config.text_size) if config.text_size else head
        self.guide = guide if config.guided or not config.text_size else None
        self.n_classes = config.n_classes

    def embed(self, log_mel: Tensor) -> Tensor:
        """[batch, frames, 64] -> [batch, 128]."""
        return self.embedding(self.features(log_mel.unsqueeze(1)))

    def embed_guided(self, log_mel: Tensor) -> Tensor:
        """[batch, frames, 64] -> the embedding [batch, 128]; with a guide [batch, 128 + n_classes]: its scores too."""
        features = self.features(log_mel.unsqueeze(1))
        embedding = self.embedding(features)
        return embedding if self.guide is None else torch.cat([embedding, self.guide(features)], dim=1)

    def classify(self, embedding: Tensor) -> Tensor:
        """[batch, 128] -> class scores before the softmax, [batch, n_classes]."""
        return self.head(embedding)

    def forward(self, log_mel: Tensor) -> Tensor:
        """[batch, frames, 64] -> [batch, n_classes]."""
        return self.classify(self.embed(log_mel))

    @torch.no_grad()
    def scale_embedding(self, factor: float) -> None:
        """Multiply every embedding by a positive factor without changing the class scores.

        This works because the embedding ends in BatchNorm, with or without ReLU, and the head's first layer with
        weights is linear: the factor goes into the BatchNorm, its inverse into the linear layer.
        """
        norm = [module for module in self.embedding if isinstance(module, nn.BatchNorm1d)][-1]
        first = next(module for module in self.head.modules() if isinstance(module, nn.Linear))
        norm.weight.mul_(factor)
        norm.bias.mul_(factor)
        first.weight.div_(factor)


def _wide_head(features: nn.Module, flat: int, config: NetworkConfig, guide: nn.Module | None = None) -> Network:
    """The head of the study's README: FC 4096, FC 4096, FC 128 = the embedding; FC 100 -> classes."""
    embedding = nn.Sequential(
        *fully_connected((flat, 4096, 4096), config.dropout),
        nn.Linear(4096, EMBEDDING_SIZE),
        nn.BatchNorm1d(EMBEDDING_SIZE),
    )
    head = nn.Sequential(
        nn.ReLU(), *fully_connected((EMBEDDING_SIZE, 100), config.dropout), nn.Linear(100, config.n_classes)
    )
    return Network(features, embedding, head, config, guide)


def _yamnet(config: NetworkConfig) -> Network:
    """yamnet with a guide: its many layers learn slowly from gradients that pass three fully connected layers.

    The guide is a single layer from the features to the classes: deep supervision (Lee 2015, arXiv:1409.5185).
    """
    guide = nn.Sequential(nn.Dropout(0.5), nn.Linear(512, config.n_classes))
    features = mobilenet(YAMNET_LAYERS, 480, repeats=len(YAMNET_LAYERS) - len(COMPACT_LAYERS))
    return _wide_head(features, 512, config, guide)


def _yamnet_compact(config: NetworkConfig) -> Network:
    embedding = nn.Sequential(nn.Linear(512, EMBEDDING_SIZE), nn.BatchNorm1d(EMBEDDING_SIZE), nn.ReLU())
    head = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(EMBEDDING_SIZE, config.n_classes))
    return Network(mobilenet(COMPACT_LAYERS, 480), embedding, head, config)


def _vggish(config: NetworkConfig) -> Network:
    return _wide_head(vgg(VGGISH_GROUPS), VGGISH_FLAT, config)


def _yamnet_audioset(config: NetworkConfig) -> Network:
    """Its features come from published weights; training.fit.whitening fits the linear layers."""
    embedding = nn.Sequential(nn.Linear(1024, EMBEDDING_SIZE), nn.BatchNorm1d(EMBEDDING_SIZE))
    return Network(mobilenet(AUDIOSET_LAYERS, 96), embedding, nn.Linear(EMBEDDING_SIZE, config.n_classes), config)


NETWORKS: dict[str, Callable[[NetworkConfig], Network]] = {
    "yamnet": _yamnet,
    "yamnet-compact": _yamnet_compact,
    "vggish": _vggish,
    "yamnet-audioset": _yamnet_audioset,
}
# YAMNet was trained on windows of 96 frames. Its pooled features of 480 frames rank unseen classes worse:
# docs/results/zero-shot.md.
WINDOW_FRAMES = {"yamnet": 480, "yamnet-compact": 480, "vggish": 96, "yamnet-audioset": 96}


def build_network(config: NetworkConfig) -> Network:
    """The network of config.name, with random weights from torch's generator."""
    return NETWORKS[config.name](config)
