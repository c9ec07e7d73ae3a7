"""Start a network from published weights: YAMNet's (AudioSet) for yamnet and yamnet-compact, VGGish's for vggish.

The file is one of Google's own of YAMNet, yamnet.h5 (Keras) or yamnet.tflite (see training.google_yamnet), or a
state_dict in one of these modules' names, as .safetensors, .pt or .pth:

    YAMNet  w-hc/torch_audioset, torch_audioset/yamnet/model.py
            layer1.fused.{conv,bn}; layer{2-14}.{depthwise_conv,pointwise_conv}.{conv,bn}; classifier
            Convolutions without bias. Google's BatchNorm has no scale (center=True, scale=False, epsilon 1e-4), and
            the converter leaves bn.weight at torch's one; it is read like the rest.
    VGGish  harritaylor/torchvggish, torchvggish/vggish.py
            features.{0,3,6,8,11,13} and embeddings.{0,2,4}, each a weight and a bias, no BatchNorm

Layers and classifiers that our networks do not have are skipped; what the file does not have stays as it was.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from serving.bundle import record_of
from serving.errors import UsageError
from serving.log_mel import LogMelConfig
from training.google_yamnet import adding
from training.networks import Network
from training.weight_files import read_weights, shown

YAMNET_LOG_OFFSET = 0.001  # params.py in tensorflow/models, research/audioset/yamnet; VGGish's is 0.01

WARNING = (
    "warning: these weights learned from labelled YouTube sound (YAMNet's from AudioSet, whose classes name most of "
    "ESC-50's and FSC22's, the unseen ones included): zero-shot scores from this start are not zero-shot in the "
    "strict sense"
)
YAMNET_WARNING = (
    "warning: YAMNet was trained on windows of 0.96 s, and this network sees 4.8 s: train on, do not use the features "
    "as they are"
)

YAMNET = "torch_audioset's YAMNet"
VGGISH = "torchvggish's VGGish"
GOOGLE = {".h5": "Google's yamnet.h5", ".tflite": "Google's yamnet.tflite"}
BATCH_NORM = ("weight", "bias", "running_mean", "running_var")
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

VGGISH_LAYERS = (  # their layer, our layer, our BatchNorm after it
    ("features.0", "features.0", "features.1"),
    ("features.3", "features.4", "features.5"),
    ("features.6", "features.8", "features.9"),
    ("features.8", "features.11", "features.12"),
    ("features.11", "features.15", "features.16"),
    ("features.13", "features.18", "features.19"),
    ("embeddings.0", "embedding.0", "embedding.1"),
    ("embeddings.2", "embedding.4", "embedding.5"),
    ("embeddings.4", "embedding.8", "embedding.9"),
)


@dataclass(frozen=True)
class PretrainedReport:
    """What was taken from a file of published weights. BatchNorm's step counters are in none of the lists.

    source    what the file is
    loaded    names of the tensors that were used; Google's files are read under torch_audioset's names
    skipped   names of the tensors that our network has no place for: further layers, a classifier
    fresh     names in our network that stay as they were: the head, yamnet's guide, and for yamnet* the embedding
    statistics  whether its BatchNorms have some: VGGish has no BatchNorm, and a TFLite file has it folded into the
                convolutions, so that the start equals them in eval mode alone: see training.norms
    warnings  one line each, to be printed: WARNING first
    """

    source: str
    loaded: tuple[str, ...]
    skipped: tuple[str, ...]
    fresh: tuple[str, ...]
    statistics: bool
    warnings: tuple[str, ...]

    def line(self) -> str:
        """One line for people."""
        parts = [f"{len(self.loaded)} tensors of {self.source} loaded"]
        for what, names in (("skipped", self.skipped), ("left fresh", self.fresh)):
            if names:
                parts.append(f"{len(names)} {what} ({shown(dict.fromkeys(name.split('.')[0] for name in names))})")
        return "; ".join(parts)


def front_end_of(network: str, published: bool) -> LogMelConfig:
    """The front end of a run: what the published weights that it starts from heard, or the study's.

    network    one of NETWORKS
    published  whether it starts from published weights: YAMNet's for yamnet and yamnet-compact
    """
    if published and network != "vggish":
        return LogMelConfig(log_offset=YAMNET_LOG_OFFSET)
    return LogMelConfig()


def identify(path: Path) -> str:
    """What a run says of the weights that it starts from: the file's name and the beginning of its SHA-256."""
    if not path.is_file():
        raise UsageError(f"--init: {path}: no such file; give published weights, or leave it out")
    return f"{path.name}, sha256 {record_of(path).sha256[:12]}"


def load_pretrained(network: Network, path: Path) -> PretrainedReport:
    """Set the layers that a network shares with a published one to the published weights, in place.

    network   yamnet and yamnet-compact take the convolutions and BatchNorms of their 12 and 7 layers from YAMNet;
              vggish takes its convolutions and three embedding layers from VGGish
    path      .safetensors, .pt, .pth, .h5 or .tflite, see training.weight_files: no code is run
    errors    UsageError: no such file, another kind of file, one that needs code to open, or a tensor that is missing
              or has another shape; the network is then untouched
    """
    stored = read_weights(path)
    own = network.state_dict()
    mobilenet = "features.0.1.weight" in own
    source = GOOGLE.get(path.suffix.lower(), YAMNET) if mobilenet else VGGISH
    n_norms = sum(name.startswith("features.") and name.endswith(".running_var") for name in own)
    names = yamnet_names(n_layers=(n_norms + 1) // 2) if mobilenet else vggish_names()
    values = {ours: _take(stored, theirs, own[ours].shape, source, path) for ours, theirs in names.items()}
    if not mobilenet:
        values["embedding.0.weight"] = _channels_first(values["embedding.0.weight"])
        values |= _pass_through(network)
    unexpected = network.load_state_dict(values, strict=False).unexpected_keys
    assert not unexpected, unexpected
    return PretrainedReport(
        source=source,
        loaded=tuple(names.values()),
        skipped=tuple(name for name in stored if name not in set(names.values()) and not _counts(name)),
        fresh=tuple(name for name in own if name not in values and not _counts(name)),
        statistics=mobilenet and path.suffix.lower() != ".tflite",
        warnings=(WARNING, YAMNET_WARNING) if mobilenet else (WARNING,),
    )


def yamnet_names(n_layers: int) -> dict[str, str]:
    """Our parameter -> YAMNet's, for its first layers: one convolution, the others separable."""
    layers = [("features.0.1", "features.0.2", "layer1.fused")]  # our convolution, our BatchNorm, their layer
    for k in range(2, n_layers + 1):
        depthwise, pointwise = f"features.{2 * k - 3}", f"features.{2 * k - 2}"
        layers += [
            (f"{depthwise}.1", f"{depthwise}.2", f"layer{k}.depthwise_conv"),
            (f"{pointwise}.0", f"{pointwise}.1", f"layer{k}.pointwise_conv"),
        ]
    names: dict[str, str] = {}
    for convolution, norm, theirs in layers:
        names[f"{convolution}.weight"] = f"{theirs}.conv.weight"
        names |= {f"{norm}.{part}": f"{theirs}.bn.{part}" for part in BATCH_NORM}
    return names


def vggish_names() -> dict[str, str]:
    """Our parameter -> VGGish's. Their biases become our BatchNorms', where training does not cancel them."""
    names: dict[str, str] = {}
    for theirs, layer, norm in VGGISH_LAYERS:
        names[f"{layer}.weight"] = f"{theirs}.weight"
        names[f"{norm}.bias"] = f"{theirs}.bias"
    return names


def _pass_through(network: Network) -> dict[str, Tensor]:
    """What makes vggish's BatchNorms add their bias, which the file has, and nothing else in eval mode.

    The fully connected layers' own biases are zero.
    """
    values: dict[str, Tensor] = {}
    for _, layer, norm in VGGISH_LAYERS:
        module = network.get_submodule(norm)
        assert isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
        parts = adding(torch.zeros(module.num_features), module.eps)
        values |= {f"{norm}.{part}": value for part, value in parts.items() if part != "bias"}
        if layer.startswith("embedding"):
            values[f"{layer}.bias"] = torch.zeros(module.num_features)
    return values


def _channels_first(weight: Tensor) -> Tensor:
    """VGGish flattens its last map as frames, bands, channels, ours as channels, frames, bands: [4096, 12288]."""
    maps = weight.unflatten(1, (6, 4, 512))  # [4096, frames, bands, channels]
    return maps.permute(0, 3, 1, 2).flatten(1)


def _take(stored: dict[str, Tensor], name: str, shape: torch.Size, source: str, path: Path) -> Tensor:
    """A tensor of the file as float32, or a UsageError that names it."""
    if name not in stored:
        got = f"{len(stored)} others ({shown(stored)})"
        raise UsageError(f"{path}: {name}: got none, but {got}; wanted {list(shape)}: give the weights of {source}")
    tensor = stored[name]
    if tensor.shape != shape:
        got = list(tensor.shape)
        raise UsageError(f"{path}: {name}: got {got}; wanted {list(shape)}: give the weights of {source}")
    if tensor.dtype not in FLOATS or tensor.layout != torch.strided or tensor.device.type != "cpu":
        got = f"{tensor.dtype} on {tensor.device}"
        raise UsageError(f"{path}: {name}: got {got}; wanted plain floating-point numbers: save the weights again")
    value = tensor.detach().float()
    if not value.isfinite().all():
        raise UsageError(f"{path}: {name}: got infinities or NaN; wanted numbers: give other weights")
    return value


def _counts(name: str) -> bool:
    return name.endswith("num_batches_tracked")
