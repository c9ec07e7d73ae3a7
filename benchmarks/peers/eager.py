"""Networks in eager PyTorch: what they compute, and ours with our front end or torchaudio's before them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.peers.peer import Computes, Peer, Setting, make_peer
from benchmarks.peers.unheard import RESAMPLER
from serving.audio import cut_windows, read_audio, to_mono
from serving.bundle import Bundle
from serving.frontend import LogMelConfig
from training.frontend import LogMel
from training.networks import Network, NetworkConfig, build_network


def count_macs(run: Callable[[Tensor], object], batch: Tensor) -> int:
    """Multiply-accumulates of a forward pass, counted by PyTorch: a FLOP is half of one."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        run(batch)
    return counter.get_total_flops() // 2


def count_layers(*modules: nn.Module) -> int:
    """Convolutions and linear layers."""
    return sum(isinstance(each, nn.Conv2d | nn.Linear) for module in modules for each in module.modules())


def runner(run: Callable[[Tensor], Tensor]) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """A network for arrays, without what only training needs."""

    def on_arrays(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return run(torch.from_numpy(batch)).numpy()

    return on_arrays


def read_tensor(path: Path) -> tuple[Tensor, int]:
    """A file -> wave [n_channels, n_samples] float32 and its rate, by soundfile as torchaudio's load has no decoder."""
    wave, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    return torch.from_numpy(np.ascontiguousarray(wave.T)), rate_hz


def peers(setting: Setting) -> Iterator[Peer]:
    """For each bundle its network, after our front end and after torchaudio's."""
    for bundle in setting.bundles:
        config = LogMelConfig(**bundle.manifest.front_end)
        # Fresh weights: a bundle holds none for PyTorch.
        torch.manual_seed(0)
        network = build_network(NetworkConfig(bundle.manifest.network, 2, 0.0)).eval()
        yield _with_our_front_end(bundle, config, network, setting)
        yield _with_torchaudio(bundle, config, network, setting)


def _with_our_front_end(bundle: Bundle, config: LogMelConfig, network: Network, setting: Setting) -> Peer:
    window = bundle.manifest.window
    log_mel = LogMel(config).eval()

    def decode(path: Path) -> NDArray[np.float32]:
        return cut_windows(to_mono(*read_audio(path), window.rate_hz), window)

    waves = torch.from_numpy(decode(setting.sample))
    computes = _computes(bundle, config, network, len(waves), RESAMPLER, "LogMel", count_macs(log_mel, waves))
    run = runner(lambda batch: network.embed(log_mel(batch)))
    name = f"eager PyTorch, {bundle.manifest.network}"
    return make_peer(name, bundle.manifest.network, computes, decode, run, setting.threads)


def _with_torchaudio(bundle: Bundle, config: LogMelConfig, network: Network, setting: Setting) -> Peer:
    window = bundle.manifest.window
    mel = torchaudio.transforms.MelSpectrogram(
        config.rate_hz, config.fft_bins, config.window_samples, config.hop_samples, config.low_hz, config.high_hz,
        n_mels=config.mel_bands, power=1.0, center=False,
    )  # fmt: skip
    # An FFT longer than its window reaches beyond the last frame's end.
    reach = config.fft_bins - config.window_samples

    def decode(path: Path) -> NDArray[np.float32]:
        wave, rate_hz = read_tensor(path)
        with torch.inference_mode():
            mono = torchaudio.functional.resample(wave.mean(0), rate_hz, config.rate_hz).numpy()
            windows = torch.from_numpy(cut_windows(mono, window))
            padded = nn.functional.pad(windows, (reach // 2, reach - reach // 2))
            return torch.log(mel(padded) + config.log_offset).transpose(1, 2).contiguous().numpy()

    computes = _computes(
        bundle, config, network, len(decode(setting.sample)), "torchaudio sinc", "torchaudio MelSpectrogram", None
    )
    name = f"torchaudio + PyTorch, {bundle.manifest.network}"
    return make_peer(name, bundle.manifest.network, computes, decode, runner(network.embed), setting.threads)


def _computes(
    bundle: Bundle,
    config: LogMelConfig,
    network: Network,
    windows: int,
    resampler: str,
    front_end: str,
    front_end_macs: int | None,
) -> Computes:
    window = bundle.manifest.window
    log_mel = torch.zeros(windows, config.frames(window.samples), config.mel_bands)
    return Computes(
        layers=count_layers(network.features, network.embedding),
        windows=windows,
        window_s=window.samples / window.rate_hz,
        network_macs=count_macs(network.embed, log_mel),
        front_end_macs=front_end_macs,
        resampler=resampler,
        front_end=front_end,
        runtime=f"PyTorch {torch.__version__}",
        weights="untrained",
    )
