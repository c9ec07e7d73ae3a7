"""Start a network from published weights: YAMNet's (AudioSet) for the yamnets, VGGish's for vggish.

The file is one of Google's YAMNet files, yamnet.h5 (Keras) or yamnet.tflite (see training.published.google_yamnet), the
embedder.onnx of a bundle that has them (training.published.bundle_weights), or a state_dict with the names of one of
these modules, as .safetensors, .pt or .pth:

    YAMNet  w-hc/torch_audioset, torch_audioset/yamnet/model.py
            layer1.fused.{conv,bn}; layer{2-14}.{depthwise_conv,pointwise_conv}.{conv,bn}; classifier
            Convolutions without bias. Google's BatchNorm has no scale (center=True, scale=False, epsilon 1e-4); the
            converter leaves bn.weight at 1, PyTorch's default. It is read like the other tensors.
    VGGish  harritaylor/torchvggish, torchvggish/vggish.py
            features.{0,3,6,8,11,13} and embeddings.{0,2,4}, each with a weight and a bias, no BatchNorm

Layers and classifiers that our networks do not have are skipped. Tensors that the file does not have keep their values.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from serving.errors import UsageError
from serving.files.file_record import record_of
from serving.log_mel import LogMelConfig
from training.networks import AUDIOSET_LAYERS, Network
from training.published.google_yamnet import bias_batch_norm
from training.published.weight_files import list_names, read_weights

YAMNET_LOG_OFFSET = 0.001  # params.py in tensorflow/models, research/audioset/yamnet; VGGish's is 0.01

WARNING = (
    "warning: these weights were trained on labelled YouTube sound (YAMNet's on AudioSet, whose classes include most "
    "of ESC-50's and FSC22's, also the unseen ones): zero-shot scores of a network that starts from them are not "
    "zero-shot in the strict sense"
)
YAMNET_WARNING = (
    "warning: YAMNet was trained on windows of 0.96 s, but this network sees windows of 4.8 s: train it further, do "
    "not use its features unchanged"
)

YAMNET = "torch_audioset's YAMNet"
VGGISH = "torchvggish's VGGish"
GOOGLE = {".h5": "Google's yamnet.h5", ".tflite": "Google's yamnet.tflite", ".onnx": "a yamnet-audioset bundle"}
EMBEDDING = "embedding.0.weight"  # a layer of our networks, and of no published one
FOLDED = (".tflite", ".onnx")  # files whose BatchNorm is folded into the convolutions
BATCH_NORM = ("weight", "bias", "running_mean", "running_var")
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

VGGISH_LAYERS = (  # torchvggish's layer, our layer, our BatchNorm after it
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
    """Which tensors were loaded from a file of published weights. BatchNorm's step counters are in none of the lists.

    source      what the file is
    loaded      names of the tensors that were loaded; tensors of Google's files have torch_audioset's names
    skipped     names of the file's tensors that our network does not have: further layers, a classifier
    fresh       names of our network's tensors that kept their values: the head, yamnet's guide, and for yamnet and
                yamnet-compact the embedding
    statistics  whether the file has BatchNorm statistics. VGGish has no BatchNorm, and a TFLite or ONNX file has it
                folded into the convolutions: the network then equals the published one only in eval mode, see
                training.published.batchnorm_statistics
    warnings    lines to print; WARNING is the first
    """

    source: str
    loaded: tuple[str, ...]
    skipped: tuple[str, ...]
    fresh: tuple[str, ...]
    statistics: bool
    warnings: tuple[str, ...]

    def line(self) -> str:
        """The numbers of loaded, skipped and fresh tensors in one line."""
        parts = [f"{len(self.loaded)} tensors of {self.source} loaded"]
        for what, names in (("skipped", self.skipped), ("left fresh", self.fresh)):
            if names:
                parts.append(f"{len(names)} {what} ({list_names(dict.fromkeys(name.split('.')[0] for name in names))})")
        return "; ".join(parts)


def front_end_of(network: str, published: bool) -> LogMelConfig:
    """The front end of a run: the one that its published weights were trained with, otherwise the study's.

    network    one of NETWORKS
    published  whether the run starts from published weights
    """
    if published and network != "vggish":
        return LogMelConfig(log_offset=YAMNET_LOG_OFFSET)
    return LogMelConfig()


def identify(path: Path) -> str:
    """The name of a weights file and the beginning of its SHA-256, for a run's configuration.

    errors   UsageError: there is no such file
    """
    if path.is_dir():
        raise UsageError(f"--init: {path}: is a folder; give a file of weights: of a bundle, {path / 'embedder.onnx'}")
    if not path.is_file():
        raise UsageError(f"--init: {path}: no such file; give published weights, or leave it out")
    return f"{path.name}, sha256 {record_of(path).sha256[:12]}"


def published_weights(given: Path | None, wanted: str | None) -> Path | None:
    """The published weights to repeat a run with. UsageError: they are not those that the run started from.

    given    the file of --init;  wanted: the run's `RunConfig.init`
    """
    if given is None and wanted is not None:
        raise UsageError(f"--init: got none, but the run started from {wanted}; give that file")
    found = identify(given) if given else None
    if found != wanted:
        raise UsageError(f"--init: got {found}, but the run started from {wanted or 'random weights'}; use the same")
    return given


def load_pretrained(network: Network, path: Path) -> PretrainedReport:
    """Copy published weights into the layers that a network shares with the published one, in place.

    network   yamnet, yamnet-compact and yamnet-audioset take the convolutions and BatchNorms of their 12, 7 and 14
              layers from YAMNet; vggish takes its convolutions and three embedding layers from VGGish
    path      a file that training.published.weight_files can read
    errors    UsageError: the file cannot be read, or a tensor is missing or has another shape; the network is then
              unchanged
    """
    stored = read_weights(path)
    if EMBEDDING in stored:
        raise UsageError(
            f"{path}: got the weights of a run; wanted published ones. A yamnet-audioset run passes Google's on: "
            "export it with python -m export.onnx, and give its bundle's embedder.onnx"
        )
    own = network.state_dict()
    mobilenet = "features.0.1.weight" in own
    source = GOOGLE.get(path.suffix.lower(), YAMNET) if mobilenet else VGGISH
    n_norms = sum(name.startswith("features.") and name.endswith(".running_var") for name in own)
    n_layers = (n_norms + 1) // 2
    names = yamnet_names(n_layers) if mobilenet else vggish_names()
    values = {ours: _take(stored, theirs, own[ours].shape, source, path) for ours, theirs in names.items()}
    if not mobilenet:
        values["embedding.0.weight"] = _channels_first(values["embedding.0.weight"])
        values |= _bias_batch_norms(network)
    unexpected = network.load_state_dict(values, strict=False).unexpected_keys
    assert not unexpected, unexpected
    return PretrainedReport(
        source=source,
        loaded=tuple(names.values()),
        skipped=tuple(name for name in stored if name not in set(names.values()) and not _is_counter(name)),
        fresh=tuple(name for name in own if name not in values and not _is_counter(name)),
        statistics=mobilenet and path.suffix.lower() not in FOLDED,
        warnings=(WARNING, YAMNET_WARNING) if mobilenet and n_layers < len(AUDIOSET_LAYERS) else (WARNING,),
    )


def yamnet_names(n_layers: int) -> dict[str, str]:
    """Our tensor's name -> YAMNet's, for YAMNet's first n_layers: a convolution, then separable layers."""
    layers = [("features.0.1", "features.0.2", "layer1.fused")]  # our convolution, our BatchNorm, YAMNet's layer
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
    """Our tensor's name -> VGGish's.

    VGGish's biases become those of our BatchNorms: a bias before a BatchNorm has no effect in training.
    """
    names: dict[str, str] = {}
    for theirs, layer, norm in VGGISH_LAYERS:
        names[f"{layer}.weight"] = f"{theirs}.weight"
        names[f"{norm}.bias"] = f"{theirs}.bias"
    return names


def _bias_batch_norms(network: Network) -> dict[str, Tensor]:
    """Tensors that make vggish's BatchNorms only add their bias in eval mode. The biases themselves are in the file.

    The biases of the fully connected layers become 0.
    """
    values: dict[str, Tensor] = {}
    for _, layer, norm in VGGISH_LAYERS:
        module = network.get_submodule(norm)
        assert isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
        parts = bias_batch_norm(torch.zeros(module.num_features), module.eps)
        values |= {f"{norm}.{part}": value for part, value in parts.items() if part != "bias"}
        if layer.startswith("embedding"):
            values[f"{layer}.bias"] = torch.zeros(module.num_features)
    return values


def _channels_first(weight: Tensor) -> Tensor:
    """Reorder the inputs of VGGish's first fully connected layer, [4096, 12288].

    VGGish flattens its last map in the order frames, bands, channels; ours is channels, frames, bands.
    """
    maps = weight.unflatten(1, (6, 4, 512))  # [4096, frames, bands, channels]
    return maps.permute(0, 3, 1, 2).flatten(1)


def _take(stored: dict[str, Tensor], name: str, shape: torch.Size, source: str, path: Path) -> Tensor:
    """A tensor of the file as float32. UsageError: it is missing, of another shape or dtype, or not finite."""
    if name not in stored:
        got = f"{len(stored)} others ({list_names(stored)})"
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


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")
