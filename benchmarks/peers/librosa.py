"""librosa's resampling and mel spectrogram, then our network in ONNX Runtime: what many write by hand.

The network's graph is the bundle's, without its front end, so that the embeddings can be compared with ours. librosa's
filters are linear in Hz, not in mel, so they are close and not equal.
"""

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import librosa
import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.graphs import network_graph
from benchmarks.peers.peer import Peer, Setting, make_peer
from benchmarks.peers.unheard import computes_of
from serving.audio import cut_windows
from serving.backends.onnxruntime import OnnxRuntime
from serving.bundle import Bundle


def peers(setting: Setting) -> Iterator[Peer]:
    """For each bundle its network."""
    for bundle in setting.bundles:
        yield _peer(bundle, setting)


def _peer(bundle: Bundle, setting: Setting) -> Peer:
    window, front_end = bundle.manifest.window, bundle.manifest.front_end
    rate_hz, fft_bins = front_end["rate_hz"], front_end["fft_bins"]
    size, hop = round(front_end["window_s"] * rate_hz), round(front_end["hop_s"] * rate_hz)
    reach = fft_bins - size  # an FFT longer than its window reaches beyond the last frame's end

    def decode(path: Path) -> NDArray[np.float32]:
        wave, _ = librosa.load(path, sr=rate_hz)
        windows = np.pad(cut_windows(wave, window), ((0, 0), (reach // 2, reach - reach // 2)))
        mel = librosa.feature.melspectrogram(
            y=windows, sr=rate_hz, n_fft=fft_bins, win_length=size, hop_length=hop, center=False, power=1.0,
            n_mels=front_end["mel_bands"], fmin=front_end["low_hz"], fmax=front_end["high_hz"], htk=True, norm=None,
        )  # fmt: skip
        log_mel = np.log(mel + front_end["log_offset"]).swapaxes(1, 2)  # [n_windows, frames, 64]
        return np.ascontiguousarray(log_mel, np.float32)

    with TemporaryDirectory(prefix="unheard-librosa-") as folder:
        path = Path(folder, "network.onnx")
        onnx.save(network_graph(bundle), str(path))
        network = OnnxRuntime(path, setting.threads, ["cpu"])
    computes = computes_of(
        bundle,
        len(decode(setting.sample)),
        f"librosa {version('librosa')}, onnxruntime {network.version}",
        "librosa melspectrogram",
        "soxr HQ",
    )
    name = f"librosa + ORT, {bundle.manifest.network}"
    return make_peer(name, bundle.manifest.network, computes, decode, network, setting.threads, bundle)
