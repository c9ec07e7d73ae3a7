"""Peers in PyTorch: Unheard's networks without export, and two packages with Google's networks.

All weights are untrained: a bundle holds none for PyTorch, and the packages download theirs.
"""

from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.peers.onnx_peers import OUR_RESAMPLER
from benchmarks.peers.peer import Computation, Peer, PeerSetting, two_part_peer
from serving.audio import Recording, cut_windows
from serving.bundle.bundle import Bundle
from serving.log_mel import LogMelConfig
from training.log_mel_module import LogMel
from training.networks import Network, NetworkConfig, build_network

TORCHAUDIO_RESAMPLER, TORCHAUDIO_FRONT_END = "torchaudio sinc", "torchaudio MelSpectrogram"


def count_torch_macs(run: Callable[[Tensor], object], batch: Tensor) -> int:
    """Multiply-accumulates of a forward pass: half of the FLOP that PyTorch counts."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        run(batch)
    return counter.get_total_flops() // 2


def count_torch_layers(*modules: nn.Module) -> int:
    """Convolutions and linear layers."""
    return sum(isinstance(each, nn.Conv2d | nn.Linear) for module in modules for each in module.modules())


def on_arrays(run: Callable[[Tensor], Tensor]) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """A network as a function of arrays, in inference mode."""

    def run_arrays(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return run(torch.from_numpy(batch)).numpy()

    return run_arrays


def read_tensor(path: Path) -> tuple[Tensor, int]:
    """Read a file: wave [n_channels, n_samples] float32 and its rate. By soundfile: torchaudio has no decoder."""
    wave, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    return torch.from_numpy(np.ascontiguousarray(wave.T)), rate_hz


def eager_peers(setting: PeerSetting) -> Iterator[Peer]:
    """For each bundle its network, after Unheard's front end and after torchaudio's."""
    torch.set_num_threads(setting.threads)
    for bundle in setting.bundles:
        config = LogMelConfig(**bundle.manifest.front_end)
        torch.manual_seed(0)
        network = build_network(NetworkConfig(bundle.manifest.network, 2, 0.0)).eval()
        yield _with_our_front_end(bundle, config, network, setting)
        yield _with_torchaudio(bundle, config, network, setting)


def _with_our_front_end(bundle: Bundle, config: LogMelConfig, network: Network, setting: PeerSetting) -> Peer:
    window = bundle.manifest.window
    log_mel = LogMel(config).eval()

    def decode(path: Path) -> NDArray[np.float32]:
        return Recording.from_file(path, window.rate_hz).windows(window)

    waves = torch.from_numpy(decode(setting.sample))
    macs = count_torch_macs(log_mel, waves)
    computation = _count_network(bundle, config, network, len(waves), OUR_RESAMPLER, "LogMel", macs)
    run = on_arrays(lambda batch: network.embed(log_mel(batch)))
    name = f"eager PyTorch, {bundle.manifest.network}"
    return two_part_peer(name, bundle.manifest.network, computation, decode, run, setting.threads)


def _with_torchaudio(bundle: Bundle, config: LogMelConfig, network: Network, setting: PeerSetting) -> Peer:
    window = bundle.manifest.window
    mel = torchaudio.transforms.MelSpectrogram(
        config.rate_hz, config.fft_bins, config.window_samples, config.hop_samples, config.low_hz, config.high_hz,
        n_mels=config.mel_bands, power=1.0, center=False,
    )  # fmt: skip
    excess = config.fft_bins - config.window_samples  # the FFT is longer than the window

    def decode(path: Path) -> NDArray[np.float32]:
        wave, rate_hz = read_tensor(path)
        with torch.inference_mode():
            mono = torchaudio.functional.resample(wave.mean(0), rate_hz, config.rate_hz).numpy()
            windows = torch.from_numpy(cut_windows(mono, window))
            padded = nn.functional.pad(windows, (excess // 2, excess - excess // 2))
            return torch.log(mel(padded) + config.log_offset).transpose(1, 2).contiguous().numpy()

    windows = len(decode(setting.sample))
    computation = _count_network(bundle, config, network, windows, TORCHAUDIO_RESAMPLER, TORCHAUDIO_FRONT_END, None)
    name = f"torchaudio + PyTorch, {bundle.manifest.network}"
    run = on_arrays(network.embed)
    return two_part_peer(name, bundle.manifest.network, computation, decode, run, setting.threads)


def _count_network(
    bundle: Bundle,
    config: LogMelConfig,
    network: Network,
    windows: int,
    resampler: str,
    front_end: str,
    front_end_macs: int | None,
) -> Computation:
    window = bundle.manifest.window
    log_mel = torch.zeros(windows, config.frames(window.samples), config.mel_bands)
    return Computation(
        layers=count_torch_layers(network.features, network.embedding),
        windows=windows,
        window_s=window.samples / window.rate_hz,
        network_macs=count_torch_macs(network.embed, log_mel),
        front_end_macs=front_end_macs,
        resampler=resampler,
        front_end=front_end,
        runtime=f"PyTorch {torch.__version__}",
        weights="untrained",
    )


def vggish_yamnet_peers(setting: PeerSetting) -> Iterator[Peer]:
    """torch-vggish-yamnet (PyPI) as its documentation shows: its YAMNet, 1024 numbers a window, and its VGGish, 128."""
    from torch_vggish_yamnet import vggish, yamnet

    torch.set_num_threads(setting.threads)
    torch.manual_seed(0)
    model = yamnet.yamnet(pretrained=False).eval()

    def embed(patches: Tensor) -> Tensor:
        return model(patches)[0].flatten(1)  # the embedding; the model also computes its 521 class scores

    yield _vggish_yamnet_peer(setting, "yamnet", embed, model)
    model_vggish = vggish.get_vggish(with_classifier=False, pretrained=False).eval()
    yield _vggish_yamnet_peer(setting, "vggish", model_vggish, model_vggish)


def _vggish_yamnet_peer(
    setting: PeerSetting, network: str, embed: Callable[[Tensor], Tensor], model: nn.Module
) -> Peer:
    from torch_vggish_yamnet.input_proc import CommonParams, WaveformToInput

    converter = WaveformToInput()

    def decode(path: Path) -> NDArray[np.float32]:
        with torch.inference_mode():
            return converter(*read_tensor(path)).numpy()  # [n_windows, 1, 96, 64]

    example = torch.from_numpy(decode(setting.sample))
    computation = Computation(
        layers=count_torch_layers(model),
        windows=len(example),
        window_s=CommonParams.PATCH_WINDOW_IN_SECONDS,
        network_macs=count_torch_macs(embed, example),
        front_end_macs=None,
        resampler=TORCHAUDIO_RESAMPLER,
        front_end=TORCHAUDIO_FRONT_END,
        runtime=f"torch-vggish-yamnet {version('torch-vggish-yamnet')}, PyTorch {torch.__version__}",
        weights="untrained",
    )
    name = f"torch-vggish-yamnet, {network}"
    return two_part_peer(name, network, computation, decode, on_arrays(embed), setting.threads)


def torchvggish_peers(setting: PeerSetting) -> Iterator[Peer]:
    """torchvggish (PyPI): Google's NumPy front end after resampy, then VGGish without its postprocessing."""
    from torchvggish import vggish_params
    from torchvggish.torchvggish import VGG, make_layers
    from torchvggish.vggish_input import wavfile_to_examples

    def decode(path: Path) -> NDArray[np.float32]:
        examples = wavfile_to_examples(str(path))  # [n_windows, 1, 96, 64]
        assert isinstance(examples, Tensor)
        return examples.detach().numpy()

    torch.set_num_threads(setting.threads)
    torch.manual_seed(0)
    model = VGG(make_layers(), postprocess=False).eval()
    example = torch.from_numpy(decode(setting.sample))
    computation = Computation(
        layers=count_torch_layers(model),
        windows=len(example),
        window_s=vggish_params.EXAMPLE_WINDOW_SECONDS,
        network_macs=count_torch_macs(model, example),
        front_end_macs=None,
        resampler="resampy kaiser_best",
        front_end="NumPy FFT",
        runtime=f"torchvggish {version('torchvggish')}, PyTorch {torch.__version__}",
        weights="untrained",
    )
    yield two_part_peer("torchvggish", "vggish", computation, decode, on_arrays(model), setting.threads)


FAMILIES = {
    "eager PyTorch": eager_peers,
    "torch-vggish-yamnet": vggish_yamnet_peers,
    "torchvggish": torchvggish_peers,
}
